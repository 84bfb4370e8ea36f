//! `nethost ps`.

use super::{
    At, answered, block_on, print_json,
    table::{self, Align, age, count, nanoseconds, plain, size},
};
use crate::admin::api::{Service, Services, State};

/// List the services of a host that runs
///
/// What is counted is since the service was started; a swap and a restart by SIGHUP take no count back. P50 and P99 are times of calls into the plugin.
/// MEM is the linear memory of all instances. A version with a star is not the one in the service's file: it was swapped in, or the file's broke on probation. Bytes are in
/// K, M and G of 1024. A plugin that is not named as its service is named last.
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
    let mut more = Vec::new();
    if service.plugin != service.name {
        more.push(format!("plugin {}", plain(&service.plugin)));
    }
    match &service.detail {
        Some(detail) => more.push(plain(detail)),
        None => more.extend(service.listeners.iter().cloned()),
    }
    vec![
        plain(&service.name),
        state(service.state).to_owned(),
        version(service),
        service.instances.to_string(),
        service.connections.to_string(),
        size(service.received),
        size(service.sent),
        count(service.calls),
        nanoseconds(service.p50_ns),
        nanoseconds(service.p99_ns),
        size(u64::try_from(service.memory).unwrap_or(u64::MAX)),
        service.traps.to_string(),
        more.join(" "),
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

/// Returns a plugin's version, with a star if it is not the one in the service's file.
pub(super) fn version(service: &Service) -> String {
    let version = service.version.as_deref().unwrap_or("-");
    let star = if service.swapped { "*" } else { "" };
    plain(&format!("{version}{star}"))
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
