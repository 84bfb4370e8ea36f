//! The log: what goes into it, and how it is written.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::writer::BoxMakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::admin::logs::{Keep, Ring};

/// How the log is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: one line per event
    #[default]
    Text,
    /// For machines: one JSON object per line
    Json,
}

/// Whether the last lines of the log can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// The process serves, and can be asked.
    LastLines,
    /// Nobody asks.
    Nothing,
}

/// Begins to log, to `writer`.
pub(crate) fn start(
    asked: Option<&str>,
    format: LogFormat,
    writer: BoxMakeWriter,
    keeping: Keeping,
) -> Result<(), InvalidFilter> {
    let written = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let written = match format {
        LogFormat::Text => written.boxed(),
        LogFormat::Json => written.json().boxed(),
    };
    let keep = (keeping == Keeping::LastLines).then(|| Keep(Ring::of_process().clone()));
    tracing_subscriber::registry()
        .with(filter(asked)?)
        .with(written)
        .with(keep)
        .init();
    Ok(())
}

/// What was asked for is not a filter.
#[derive(Debug, thiserror::Error)]
#[error("invalid log filter `{filter}`: {reason}")]
pub(crate) struct InvalidFilter {
    filter: String,
    /// Its causes are in its own text already.
    reason: String,
}

/// A level alone is for this program and its plugins; its libraries stay at `warn`, or at that level if it is sterner. The resolver's say nothing: whoever
/// answers a plugin's look-up could fill the log.
pub(crate) fn filter(asked: Option<&str>) -> Result<EnvFilter, InvalidFilter> {
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty());
    let directives = match asked.map(str::to_ascii_lowercase).as_deref() {
        None => format!("warn,{QUIET},nethost=info"),
        Some("off") => "off".to_owned(),
        Some(level @ ("error" | "warn")) => format!("{level},{QUIET}"),
        Some(level @ ("info" | "debug" | "trace")) => format!("warn,{QUIET},nethost={level}"),
        Some(_) => asked.unwrap_or_default().to_owned(),
    };
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| InvalidFilter {
            filter: directives.clone(),
            reason: error.to_string(),
        })
}

/// The libraries that log what comes from the network.
pub(crate) const QUIET: &str = "hickory_net=off,hickory_resolver=off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_this_program() {
        for (asked, expected) in [
            (
                None,
                "hickory_resolver=off,hickory_net=off,nethost=info,warn",
            ),
            (
                Some(""),
                "hickory_resolver=off,hickory_net=off,nethost=info,warn",
            ),
            (
                Some("DEBUG"),
                "hickory_resolver=off,hickory_net=off,nethost=debug,warn",
            ),
            (Some("error"), "hickory_resolver=off,hickory_net=off,error"),
            (Some("off"), "off"),
            (
                Some("info,nethost::reactor=trace"),
                "nethost::reactor=trace,info",
            ),
        ] {
            assert_eq!(filter(asked).unwrap().to_string(), expected, "{asked:?}");
        }
        let error = filter(Some("nethost=loud")).unwrap_err();
        assert!(error.to_string().contains("`nethost=loud`"), "{error}");
    }
}
