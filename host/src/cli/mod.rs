//! The command line: one file per subcommand.

use std::{error::Error, fmt, io, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::{
    config::Problems,
    inspect::Unfit,
    logging::{self, Keeping, LogFormat, QUIET},
    manifest::{InvalidConfig, InvalidManifest},
    transport::stdio,
};

mod admin;
mod build;
mod cert;
mod check;
mod completions;
mod exec;
mod inspect;
mod limit;
mod outward;
mod run;
mod serve;
mod user;

/// Network protocol servers as WebAssembly components
///
/// A native program owns the sockets; every protocol is a sandboxed plugin that sees bytes and nothing else. What a plugin may do beyond its
/// connections is granted on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "nethost",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  nethost build plugins/irc            source folder to component
  nethost inspect plugins/irc.wasm     what it needs, what can be set
  nethost run plugins/irc.wasm         serve on the listeners that it names
  nethost serve nethost.toml           serve what a config file describes
  nethost check nethost.toml           say what is wrong with it
  nethost exec plugins/echo.wasm 127.0.0.1:7007 hello   a plugin's client side
  nethost cert self-signed certs localhost   a certificate for TLS listeners
  nethost user add ann                 a user, in users.toml
  nethost ps                           the services of a host that runs; also top, logs, connections
  nethost swap irc plugins/irc-2.wasm  a new version, under open connections

Exit codes: 0 all went well, 1 it failed while running, 2 it was called wrongly or given something unfit."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log: trace, debug, info, warn, error, off, or a filter such as `warn,nethost::reactor=debug` [default: RUST_LOG, else info; with check and exec warn]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL|FILTER",
        help_heading = "Logging"
    )]
    log: Option<String>,

    /// How to write the log [default: text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Logging")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Serve(Box<serve::Serve>),
    Check(check::Check),
    Exec(Box<exec::Exec>),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Cert(cert::Cert),
    User(user::User),
    Ps(admin::Ps),
    Top(admin::Top),
    Swap(admin::Swap),
    Drain(admin::Drain),
    Stop(admin::Stop),
    Start(admin::Start),
    Reload(admin::Reload),
    Logs(admin::Logs),
    Connections(admin::Connections),
    Kick(admin::Kick),
    Completions(completions::Completions),
}

impl Cli {
    /// Sets up the log, then does what the command line says.
    pub fn execute(mut self) -> anyhow::Result<ExitCode> {
        let mut asked = self.log.or_else(|| std::env::var("RUST_LOG").ok());
        let mut format = self.log_format;
        match &mut self.command {
            Command::Serve(serve) => {
                // What the file says comes last.
                let host = serve.load()?;
                asked = asked.or_else(|| host.log.clone());
                format = format.or(host.log_format);
            }
            // What it has to say is no log.
            Command::Check(_) => asked = asked.or_else(|| Some("warn".to_owned())),
            // What a command says is its own, and why it broke is told at the end; the log is for who looks for it.
            Command::Exec(_) => {
                asked = asked.or_else(|| Some(format!("warn,{QUIET},nethost::instance=off")));
            }
            _ => {}
        }
        let writer = match &self.command {
            Command::Run(run) if run.is_on_stdio() && stdio::is_error_the_peers() => {
                BoxMakeWriter::new(io::sink)
            }
            _ => BoxMakeWriter::new(io::stderr),
        };
        let keeping = match &self.command {
            Command::Run(_) | Command::Serve(_) => Keeping::LastLines,
            _ => Keeping::Nothing,
        };
        let format = format.unwrap_or_default();
        logging::start(asked.as_deref(), format, writer, keeping).or_mistake()?;
        let result = match self.command {
            Command::Exec(exec) => return exec.execute(),
            Command::Run(run) => run.execute(),
            Command::Serve(serve) => serve.execute(),
            Command::Check(check) => check.execute(),
            Command::Build(build) => build.execute(),
            Command::Inspect(inspect) => inspect.execute(),
            Command::Cert(cert) => cert.execute(),
            Command::User(user) => user.execute(),
            Command::Ps(ps) => ps.execute(),
            Command::Top(top) => top.execute(),
            Command::Swap(swap) => swap.execute(),
            Command::Drain(drain) => drain.execute(),
            Command::Stop(stop) => stop.execute(),
            Command::Start(start) => start.execute(),
            Command::Reload(reload) => reload.execute(),
            Command::Logs(logs) => logs.execute(),
            Command::Connections(connections) => connections.execute(),
            Command::Kick(kick) => kick.execute(),
            Command::Completions(completions) => completions.execute(),
        };
        // Whoever closed our output (`| head`) has seen enough.
        match result {
            Err(error) if !is_closed_pipe(&error) => Err(error),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// The process's exit code for an error: 2 if the operator made a mistake, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let is_mistake = |cause: &(dyn Error + 'static)| {
        cause.is::<Mistake>()
            || cause.is::<Unfit>()
            || cause.is::<InvalidManifest>()
            || cause.is::<InvalidConfig>()
            || cause.is::<Problems>()
    };
    if error.chain().any(is_mistake) { 2 } else { 1 }
}

/// Marks an error as the operator's to mend. It shows as the error that it wraps.
#[derive(Debug)]
pub(crate) struct Mistake(anyhow::Error);

impl Mistake {
    /// Makes a mistake of a message.
    pub(crate) fn new(message: String) -> Self {
        Self(anyhow::Error::msg(message))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl Error for Mistake {}

/// Says of a result's error that the operator made it.
pub(crate) trait OrMistake<T> {
    /// Wraps the error in a [`Mistake`], so that the process exits with 2.
    fn or_mistake(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrMistake<T> for Result<T, E> {
    fn or_mistake(self) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Mistake(error.into())))
    }
}

/// A size in bytes for people: `123 kB`.
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_found_wherever_it_is_in_the_chain() {
        let plain = || anyhow::anyhow!("out of disk");
        let unfit = || anyhow::Error::new(Unfit::Missing);
        for (error, code, shown) in [
            (plain(), 1, "out of disk"),
            (plain().context("writing x"), 1, "writing x: out of disk"),
            (
                Err::<(), _>(plain()).or_mistake().unwrap_err(),
                2,
                "out of disk",
            ),
            (
                Err::<(), _>(plain().context("writing x"))
                    .or_mistake()
                    .unwrap_err()
                    .context("y"),
                2,
                "y: writing x: out of disk",
            ),
            (unfit(), 2, "no such file"),
            (unfit().context("irc.wasm"), 2, "irc.wasm: no such file"),
        ] {
            assert_eq!(exit_code(&error), code, "{error:#}");
            assert_eq!(format!("{error:#}"), shown);
        }
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (123_456, "123 kB"),
            (18_345_678, "18.3 MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
