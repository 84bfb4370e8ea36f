//! `nethost ps`.

use super::{
    At, answered, block_on, print_json,
    table::{self, Align, age, bytes, count, nanoseconds, plain},
};
use crate::admin::api::{Service, Services, State};

/// List the services of a host that runs
///
/// What is counted is since the service was started; a swap and a restart by SIGHUP take no count back. P50 and P99 are times of calls into the plugin.
/// MEM is the linear memory of all instances. A version with a star is not the one in the service's file: it was swapped in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost ps
  nethost ps --json | jq '.services[].connections'")]
pub(crate) struct Ps {
    #[command(flatten)]
    at: At,

    /// Print one JSON object, with more than the table has
    #[arg(long)]
    json: bool,
}

impl Ps {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let services: Services = block_on(&self.at, async |client| {
            answered(client.get("/v1/services")).await
        })?;
        if self.json {
            return print_json(&services);
        }
        let rows: Vec<_> = services.services.iter().map(row).collect();
        table::print(COLUMNS, &rows)?;
        if table::is_for_people() {
            super::say(&format!("up {}", age(services.uptime)))?;
        }
        Ok(())
    }
}

fn row(service: &Service) -> Vec<String> {
    let detail = service.detail.as_deref().map(plain);
    let listeners = service.listeners.join(" ");
    vec![
        service.name.clone(),
        state(service.state).to_owned(),
        version(service),
        service.instances.to_string(),
        service.connections.to_string(),
        bytes(service.received),
        bytes(service.sent),
        count(service.calls),
        nanoseconds(service.p50_ns),
        nanoseconds(service.p99_ns),
        bytes(u64::try_from(service.memory).unwrap_or(u64::MAX)),
        service.traps.to_string(),
        detail.unwrap_or(listeners),
    ]
}

/// Returns the word for a state.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::Degraded => "degraded",
        State::Swapping => "swapping",
        State::Draining => "draining",
        State::Stopped => "stopped",
    }
}

/// Returns a plugin's name, if it is not the service's, and its version.
pub(super) fn version(service: &Service) -> String {
    let version = service.version.as_deref().unwrap_or("-");
    let star = if service.swapped { "*" } else { "" };
    if service.plugin == service.name {
        format!("{version}{star}")
    } else {
        format!("{} {version}{star}", service.plugin)
    }
}

const COLUMNS: &[(&str, Align)] = &[
    ("SERVICE", Align::Left),
    ("STATE", Align::Left),
    ("VERSION", Align::Left),
    ("INST", Align::Right),
    ("CONN", Align::Right),
    ("IN", Align::Right),
    ("OUT", Align::Right),
    ("CALLS", Align::Right),
    ("P50", Align::Right),
    ("P99", Align::Right),
    ("MEM", Align::Right),
    ("TRAPS", Align::Right),
    ("", Align::Left),
];
