//! `nethost run`: serves one plugin.

use std::{
    io::{self, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    cli::{Mistake, OrMistake as _},
    endpoint::{Direction, Endpoint, EndpointError},
    engine::Engine,
    grants::{ConnectGrant, Grants},
    limits::Limits,
    manifest::{Isolation, Manifest, is_service_name_char, parse_duration},
    plugin::Plugin,
    reactor::Program,
    service::{Host, Protocol, Service, ServiceSpec},
};

/// Serve a plugin
///
/// Without options it listens where the plugin's manifest says (on loopback). One line per listener is printed once it is ready, with its real
/// port: `listening irc tcp://127.0.0.1:6667`. SIGINT and SIGTERM stop accepting, let the plugin say goodbye and its connections end; a
/// second signal stops at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost run plugins/irc.wasm
  nethost run plugins/irc.wasm --listen tcp://[::]:6667 --set network=ExampleNet
  nethost run plugins/echo.wasm --listen unix:///tmp/echo.sock?mode=660
  nethost run my-proxy.wasm --listen tcp://127.0.0.1:0 --allow-connect 10.0.0.0/8:*")]
pub(crate) struct Run {
    /// The plugin, a component such as plugins/irc.wasm
    plugin: PathBuf,

    /// Where to listen, in place of the manifest's listeners: tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH, with options as ?name=value
    #[arg(long, value_name = "URL", value_parser = listener)]
    listen: Vec<Endpoint>,

    /// Set a key of the plugin's config; `nethost inspect` lists them
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,

    /// Let the plugin connect to HOST:PORT; HOST is a name, an address, a network or *, PORT a number or *
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectGrant>,

    /// How many instances there are: one per worker thread, or one per service [default: the manifest's first]
    #[arg(long, value_name = "KIND")]
    isolation: Option<Isolation>,

    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// The service's name in the output and the log: letters, digits, `-`, `_` and `.` [default: the plugin's name]
    #[arg(long, value_parser = service_name)]
    name: Option<String>,

    /// How long open connections may go on after SIGINT or SIGTERM, as 500ms, 30s, 5m
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    drain_timeout: Duration,
}

impl Run {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        raise_file_limit();
        let workers = self
            .workers
            .or_else(|| thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN);
        let drain_timeout = self.drain_timeout;
        let engine = Engine::new()
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .context("setting up wasmtime")?;
        let spec = self.spec(&engine)?;
        let host = Host::start(workers)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the main thread's runtime")?;
        runtime.block_on(async {
            // Before anybody is told that it is ready: who is told may send a signal at once.
            let signals = Signals::new().context("listening for signals")?;
            let service = match host.serve(spec).await {
                Ok(service) => service,
                Err(error) if error.is_mistake() => return Err(error).or_mistake(),
                Err(error) => return Err(error.into()),
            };
            announce(&service)?;
            stop(service, drain_timeout, signals).await
        })
    }

    /// Checks everything the command line says against the plugin's manifest.
    fn spec(self, engine: &Engine) -> anyhow::Result<ServiceSpec> {
        let plugin = Plugin::load(engine, &self.plugin).or_mistake()?;
        let manifest = &plugin.manifest;
        let service = self.name.unwrap_or_else(|| manifest.name.clone());
        let isolation = self
            .isolation
            .unwrap_or_else(|| manifest.default_isolation());
        if !manifest.isolation.contains(&isolation) {
            let permitted: Vec<_> = manifest.isolation.iter().map(ToString::to_string).collect();
            bail!(Mistake::new(format!(
                "{} does not permit isolation `{isolation}`, only {}",
                manifest.name,
                permitted.join(", ")
            )));
        }
        let listen = if self.listen.is_empty() {
            listeners(manifest)?
        } else {
            self.listen
        };
        let config = manifest.config(&self.set)?;
        let grants = Grants {
            connect: self.allow_connect,
        };
        ask(manifest, &service, &grants);
        Ok(ServiceSpec {
            program: Program {
                service,
                limits: Limits::default(),
                grants,
            },
            protocol: Protocol::Plugin {
                plugin: Arc::new(plugin),
                config: serde_json::Value::Object(config).to_string().into(),
            },
            listen,
            isolation,
        })
    }
}

fn listeners(manifest: &Manifest) -> anyhow::Result<Vec<Endpoint>> {
    if manifest.listen.is_empty() {
        bail!(Mistake::new(format!(
            "{} names no listener of its own: say where with --listen, for example --listen tcp://127.0.0.1:0",
            manifest.name
        )));
    }
    manifest
        .listen
        .iter()
        .map(|url| listener(url))
        .collect::<Result<_, _>>()
        .with_context(|| format!("the manifest of {}", manifest.name))
        .or_mistake()
}

/// Says what the plugin asks for and was not granted.
fn ask(manifest: &Manifest, service: &str, grants: &Grants) {
    for (grant, why) in &manifest.grants {
        match grant.as_str() {
            "connect" if grants.connect.is_empty() => {
                tracing::warn!(
                    service,
                    "not granted: connect ({why}); --allow-connect HOST:PORT grants it"
                );
            }
            "connect" => {}
            other => tracing::warn!(
                service,
                "not granted: {other} ({why}); this version of nethost cannot grant it"
            ),
        }
    }
}

/// Prints the ready lines. Nobody has to read them.
fn announce(service: &Service) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    let mut print = || {
        for url in service.listening() {
            writeln!(output, "listening {} {url}", service.name())?;
        }
        output.flush()
    };
    match print() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("standard output is closed; the ready lines are lost");
            Ok(())
        }
        result => result.context("writing the ready lines"),
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits for a signal, then drains.
async fn stop(service: Service, timeout: Duration, mut signals: Signals) -> anyhow::Result<()> {
    let first = signals.next().await;
    let name = service.name().to_owned();
    let drain = async {
        let open = service.connection_count().await;
        tracing::info!(
            signal = first,
            connections = open,
            "draining for at most {timeout:?}; a second signal stops at once"
        );
        service.drain(timeout).await
    };
    tokio::select! {
        left = drain => {
            if left > 0 {
                tracing::warn!(service = name, connections = left, "closed at the deadline");
            }
            tracing::info!(service = name, "stopped");
            Ok(())
        }
        second = signals.next() => bail!("stopped at once by a second signal ({second})"),
    }
}

/// Every connection is a file descriptor; the soft limit is often 1024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "raising the limit of open files");
    }
}

fn listener(text: &str) -> Result<Endpoint, EndpointError> {
    let endpoint: Endpoint = text.parse()?;
    endpoint.check(Direction::Listening)?;
    Ok(endpoint)
}

fn service_name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.chars().all(is_service_name_char) {
        return Err("a name has letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .map(Duration::from_nanos)
        .map_err(|error| error.to_string())
}
