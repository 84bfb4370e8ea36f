//! `nethost drain`, `stop`, `start` and `reload`.

use std::time::Duration;

use hyper::Method;

use super::{At, answered, block_on, counted, print_json, say};
use crate::{
    admin::{
        api::{Ended, Reloaded, Started},
        client::of_service,
    },
    cli::run::duration,
};

/// Stop a service gently: it takes no more connections, and those that are open may end
///
/// The plugin says goodbye; what is open at the deadline is closed. Returns when that is done. The host goes on, even without a service; `nethost start` brings the
/// service back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  nethost drain irc --deadline 5m")]
pub(crate) struct Drain {
    /// The service, as `nethost ps` lists it
    service: String,

    /// How long open connections may go on [default: what the host takes when it is stopped itself]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Stop a service at once: its listeners and its connections are closed
///
/// The host goes on, even without a service; `nethost start` brings the service back.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// The service, as `nethost ps` lists it
    service: String,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Start a service that was stopped or drained
///
/// It is what it was before, with the plugin that was swapped in, unless its file has changed since. Sockets that the service manager or a parent had passed are gone with
/// the stop, and take a new start of the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The service, as `nethost ps` lists it
    service: String,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Have a host read its config file, certificates and users again: what SIGHUP does
///
/// If the file is wrong, nothing changes, and this says what. A service whose plugin was swapped keeps it, unless the file of the plugin has changed. One that was stopped
/// stays so.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Drain {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let deadline = self.deadline.map_or_else(String::new, |deadline| {
            format!("?deadline={}ms", deadline.as_millis())
        });
        let ended: Ended = post(
            &self.at,
            &of_service(&self.service, &format!("/drain{deadline}")),
        )?;
        tell_end(&ended, "drained", self.json)
    }
}

impl Stop {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let ended: Ended = post(&self.at, &of_service(&self.service, "/stop"))?;
        tell_end(&ended, "stopped", self.json)
    }
}

impl Start {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let started: Started = post(&self.at, &of_service(&self.service, "/start"))?;
        if self.json {
            return print_json(&started);
        }
        let Started { service, listeners } = started;
        say(&format!("started {service} {}", listeners.join(" ")))
    }
}

impl Reload {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let reloaded: Reloaded = post(&self.at, "/v1/reload")?;
        if self.json {
            return print_json(&reloaded);
        }
        let Reloaded { started, stopped } = reloaded;
        let mut line = "reloaded".to_owned();
        for (what, services) in [("started", started), ("stopped", stopped)] {
            if !services.is_empty() {
                line += &format!("; {what}: {}", services.join(", "));
            }
        }
        say(&line)
    }
}

fn post<T: serde::de::DeserializeOwned>(at: &At, path: &str) -> anyhow::Result<T> {
    block_on(at, async |client| {
        answered(client.ask(Method::POST, path, Vec::new())).await
    })
}

fn tell_end(ended: &Ended, what: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(ended);
    }
    let closed = counted(ended.closed, "connection");
    say(&format!("{what} {}, {closed} closed", ended.service))
}
