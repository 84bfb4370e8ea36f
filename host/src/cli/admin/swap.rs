//! `nethost swap`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use hyper::Method;

use super::{At, answered, block_on, counted, print_json, say, table};
use crate::{
    admin::{
        api,
        client::{encoded, of_service, shown},
    },
    cli::run::duration,
    inspect,
    service::{Policy, Swapped},
};

/// Swap a service's plugin for another version, under its open connections
///
/// The new version is compiled and configured beside the old one, with the same config, and takes the sessions' state over; clients notice nothing. If anything
/// goes wrong, the old version goes on as if nothing had been tried, and this says why. Only if the old version itself traps or takes too long while it saves, that instance ends with its
/// connections, as with any trap, for their state was in it; a fresh one of the old version takes new connections, and `--policy drain` and `close` ask for no state. If the new version traps soon after, the host goes back to the old one with
/// the state taken at the swap: sessions without an event since then go on, the others are closed.
///
/// A version that exports no `swap-handler` has no state to give: its connections finish on it, as with `--policy drain`, and a warning says so. Two versions that have one, and no state format in
/// common, are not swapped unless the policy is drain or close.
///
/// The file is sent to the host, which needs no access to it. What was swapped in stays until the host is started again, or the file that the service was started from
/// changes and is taken up (SIGHUP, `nethost reload`, --watch).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost swap irc plugins/irc-2.wasm
  nethost swap irc plugins/irc-3.wasm --policy drain --deadline 5m    # no state in common")]
pub(crate) struct Swap {
    /// The service, as `nethost ps` lists it
    service: String,

    /// The new version's component
    plugin: PathBuf,

    /// What becomes of open connections: they move to the new version, finish on the old one, or are closed
    #[arg(long, value_name = "POLICY", default_value = "migrate")]
    policy: Policy,

    /// How long a version that is busy is waited for, and with `drain` how long connections may finish on the old one
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    deadline: Duration,

    #[command(flatten)]
    at: At,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Swap {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let context = || shown(&self.plugin);
        let component = inspect::read(&self.plugin).with_context(context)?;
        // What is unfit is told here, before anything is sent.
        inspect::describe(&component).with_context(context)?;
        let policy = clap::ValueEnum::to_possible_value(&self.policy);
        let policy = policy.map_or_else(String::new, |policy| policy.get_name().to_owned());
        let path = of_service(
            &self.service,
            &format!(
                "/swap?policy={policy}&deadline={}ms&file={}",
                self.deadline.as_millis(),
                encoded(&shown(&self.plugin))
            ),
        );
        let swapped: api::Swapped = block_on(&self.at, async |client| {
            answered(client.ask(Method::POST, &path, component)).await
        })
        .with_context(|| format!("{} is not swapped", self.service))?;
        if let Some(warning) = self.warning(&swapped.swapped) {
            // Standard output has one line, or one JSON object. There is nobody to tell if standard error is gone.
            let _told = writeln!(io::stderr(), "nethost: warning: {warning}");
        }
        if self.json {
            return print_json(&swapped);
        }
        say(&told(&swapped.service, &swapped.swapped))
    }

    /// Says that it was not done as asked, if so.
    fn warning(&self, swapped: &Swapped) -> Option<String> {
        (self.policy == Policy::Migrate && swapped.policy != Policy::Migrate).then(|| {
            format!(
                "nothing could move, for version {} exports no `swap-handler`: it was drained, as with --policy drain",
                swapped.from
            )
        })
    }
}

fn told(service: &str, swapped: &Swapped) -> String {
    let Swapped {
        from,
        to,
        policy,
        sessions,
        refused,
        left_behind,
        state_bytes,
        pause,
    } = swapped;
    let mut line = format!("swapped {service}");
    if !from.is_empty() || !to.is_empty() {
        line += &format!(" from {from} to {to}");
    }
    line += ": ";
    let pause = format!("{:.1} ms of pause", pause.as_secs_f64() * 1e3);
    match policy {
        Policy::Migrate => {
            line += &format!("{} moved", counted(*sessions, "session"));
            if *refused > 0 {
                line += &format!(", {refused} refused to and end");
            }
            if *left_behind > 0 {
                line += &format!(", {left_behind} busy and to follow");
            }
            let state = table::bytes(*state_bytes);
            format!("{line}, {state} of state, {pause}")
        }
        Policy::Drain => {
            let left = counted(*left_behind, "connection");
            format!(
                "{line}{left} left on the old version until they end or the deadline comes, {pause}"
            )
        }
        Policy::Close => format!("{line}{} closed, {pause}", counted(*refused, "connection")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_swap_did_is_one_line() {
        let mut swapped = Swapped {
            from: "1.0.0".to_owned(),
            to: "2.0.0".to_owned(),
            policy: Policy::Migrate,
            sessions: 1,
            refused: 0,
            left_behind: 0,
            state_bytes: 2048,
            pause: Duration::from_micros(1_250),
        };
        assert_eq!(
            told("irc", &swapped),
            "swapped irc from 1.0.0 to 2.0.0: 1 session moved, 2.0 KiB of state, 1.2 ms of pause"
        );
        (swapped.sessions, swapped.refused, swapped.left_behind) = (0, 2, 3);
        assert!(
            told("irc", &swapped)
                .contains("0 sessions moved, 2 refused to and end, 3 busy and to follow, ")
        );
        swapped.policy = Policy::Drain;
        assert!(
            told("irc", &swapped)
                .contains(": 3 connections left on the old version until they end")
        );
        swapped.policy = Policy::Close;
        assert!(told("irc", &swapped).contains(": 2 connections closed, "));
    }
}
