//! `nethost run`: serves one plugin.

use std::{
    collections::BTreeMap,
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
    accounts::Accounts,
    cli::{Mistake, OrMistake as _, outward::Outward},
    endpoint::{Direction, Endpoint, EndpointError},
    engine::Engine,
    files::{FileGrant, FileMode, HostFile},
    grants::{ConnectGrant, Grants},
    limits::Limits,
    manifest::{DirectoryRequest, Isolation, Manifest, is_service_name_char, parse_duration},
    plugin::Plugin,
    reactor::Program,
    service::{Host, Protocol, Service, ServiceSpec},
    storage::{Directory, DirectoryGrant, Quota, QuotaGrant},
    transport::stdio,
};

/// Serve a plugin
///
/// Without options it listens where the plugin's manifest says (on loopback). One line per listener is printed once it is ready, with its real
/// port: `listening irc tcp://127.0.0.1:6667`; to standard error if standard output is a connection. SIGINT and SIGTERM stop accepting, let
/// the plugin say goodbye and its connections end; a second signal stops at once. Listeners' certificates and users are loaded again within seconds after
/// their files changed, and at once by SIGHUP; those of --tls-ca and --tls-cert only by a new start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Listeners, with options as ?name=value&...:
  tcp://HOST:PORT    TCP; tcp://[::]:PORT is IPv4 and IPv6, port 0 a free one
  tls://HOST:PORT    TLS from the first byte; ?cert=FILE&key=FILE or ?cert=DIRECTORY, chosen by the
                     name that clients ask for. On other streams cert= is for STARTTLS
  udp://HOST:PORT    datagrams
  unix:///PATH       a UNIX socket with a file; ?mode=660 sets its permission bits
  unix:@NAME         a UNIX socket in the abstract namespace
  systemd://NAME     the sockets of that name that the service manager opened
                     (FileDescriptorName=); systemd: is all that no other listener names
  fd://N             file descriptor N, which is a listening, a connected or a UDP socket
  stdio:             one connection: standard input and output; nethost ends with it, as it
                     does with a connected socket, and prints nothing to standard output
  ?proxy=v1|v2|auto  every connection begins with a PROXY header; ?proxy-from=10.0.0.0/8
                     says whose is believed (default: loopback)
Others are backlog, nodelay, keepalive, alpn, client-auth, ca, tls-min, receive-buffer and
send-buffer; a wrong one is told with those that the listener has.

Examples:
  nethost run plugins/irc.wasm
  nethost run plugins/irc.wasm --listen tcp://[::]:6667 --set network=ExampleNet
  nethost run plugins/echo.wasm --listen unix:///tmp/echo.sock?mode=660
  nethost run plugins/irc.wasm --listen 'tls://[::]:6697?cert=/etc/letsencrypt/live'
  nethost run my-server.wasm --dir site=/srv/www:ro --dir uploads=/var/lib/up:rw --dir-quota uploads=2GiB
  nethost run plugins/echo.wasm --listen stdio: < question > answer
  nethost run my-mail.wasm --users /etc/nethost/users.toml
  nethost run my-proxy.wasm --listen tcp://127.0.0.1:0 --allow-connect 10.0.0.0/8:*")]
pub(crate) struct Run {
    /// The plugin, a component such as plugins/irc.wasm
    plugin: PathBuf,

    /// Where to listen, in place of the manifest's listeners; see Listeners below
    #[arg(long, value_name = "URL", value_parser = listener)]
    listen: Vec<Endpoint>,

    /// Set a key of the plugin's config; `nethost inspect` lists them
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,

    /// Let the plugin connect to HOST:PORT; HOST is a name, an address, a network or *, PORT a number or *; or to one UNIX socket, unix:/PATH or unix:@NAME
    ///
    /// A name covers what it resolves to, except this machine and its link (loopback, link-local and the like); * covers every address of the internet, so
    /// no private ones either. An address or a network covers all that is in it, and `localhost` covers loopback. With * or a network of more than one
    /// address the plugin may look up any name, and what it asks for reaches the name servers.
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectGrant>,

    #[command(flatten)]
    outward: Outward,

    /// Let the plugin use one file, which it knows as NAME: to read it, or (:rw) to write it too, which makes it if it is not there
    #[arg(long, value_name = "NAME=PATH[:ro|:rw]")]
    file: Vec<FileGrant>,

    /// Let the plugin use a directory and everything in it, which it knows as NAME: to read (:ro), or (:rw) to write too, which makes it if it is not there
    ///
    /// Without a mode it is the one that the plugin asks for (`nethost inspect` tells), and `ro` if it does not ask. The plugin cannot leave the directory: links that lead
    /// out of it are refused. What is mounted in it is a part of it.
    #[arg(long, value_name = "NAME=PATH[:ro|:rw]")]
    dir: Vec<DirectoryGrant>,

    /// How many bytes the files of a directory may have together, as logs=500MiB (KiB, MiB, GiB) [default: as many as the disk has]
    #[arg(long, value_name = "NAME=BYTES")]
    dir_quota: Vec<QuotaGrant>,
    /// Let the plugin verify the passwords of the users in FILE, which `nethost user` makes; a changed FILE is loaded within seconds, or at once by SIGHUP
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,

    /// Let the plugin let people in who do not say who they are
    #[arg(long)]
    anonymous: bool,

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
    /// Returns whether standard input and output are a connection.
    pub(crate) fn is_on_stdio(&self) -> bool {
        self.listen.contains(&Endpoint::Stdio)
    }

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
        let name_servers = self.outward.name_servers.clone();
        let tls = self.outward.tls()?;
        let users = self.users.map(|file| Accounts::load(&file, &service));
        let grants = Grants {
            connect: self.allow_connect,
            files: open_files(&self.file)?,
            directories: open_directories(&self.dir, &self.dir_quota, manifest)?,
            users: users.transpose().or_mistake()?,
            anonymous: self.anonymous,
        };
        ask(manifest, &service, &grants);
        Ok(ServiceSpec {
            program: Program {
                service,
                limits: Limits::default(),
                grants,
                tls,
                name_servers,
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

fn open_files(grants: &[FileGrant]) -> anyhow::Result<BTreeMap<String, HostFile>> {
    let mut files = BTreeMap::new();
    for grant in grants {
        let file = grant
            .open()
            .with_context(|| format!("opening {} for --file", grant.path.display()))
            .or_mistake()?;
        if files.insert(grant.name.clone(), file).is_some() {
            bail!(Mistake::new(format!("--file names `{}` twice", grant.name)));
        }
    }
    Ok(files)
}

fn open_directories(
    grants: &[DirectoryGrant],
    quotas: &[QuotaGrant],
    manifest: &Manifest,
) -> anyhow::Result<BTreeMap<String, Directory>> {
    let mut limits = BTreeMap::new();
    for QuotaGrant { name, bytes } in quotas {
        if !grants.iter().any(|grant| grant.name == *name) {
            bail!(Mistake::new(format!(
                "--dir-quota is about `{name}`, and no --dir is"
            )));
        }
        if limits.insert(name, *bytes).is_some() {
            bail!(Mistake::new(format!("--dir-quota names `{name}` twice")));
        }
    }
    let mut directories = BTreeMap::new();
    for grant in grants {
        let asked = manifest.directories.get(&grant.name);
        let mode = grant
            .mode
            .or_else(|| asked.map(|asked| asked.mode))
            .unwrap_or(FileMode::ReadOnly);
        let quota = Quota {
            bytes: limits.get(&grant.name).copied(),
            ..Quota::default()
        };
        let directory = grant
            .open(mode, quota)
            .with_context(|| format!("opening {} for --dir", grant.path.display()))
            .or_mistake()?;
        if directories.insert(grant.name.clone(), directory).is_some() {
            bail!(Mistake::new(format!("--dir names `{}` twice", grant.name)));
        }
    }
    Ok(directories)
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
            "users" if grants.users.is_none() => {
                tracing::warn!(
                    service,
                    "not granted: users ({why}); --users FILE grants them"
                );
            }
            "anonymous" if !grants.anonymous => {
                tracing::warn!(
                    service,
                    "not granted: anonymous ({why}); --anonymous grants it"
                );
            }
            "connect" | "users" | "anonymous" => {}
            other => tracing::warn!(
                service,
                "not granted: {other} ({why}); this version of nethost cannot grant it"
            ),
        }
    }
    for (name, DirectoryRequest { mode, reason }) in &manifest.directories {
        match grants.directories.get(name) {
            None => tracing::warn!(
                service,
                "not granted: directory {name} ({reason}); --dir {name}=PATH:{mode} grants it"
            ),
            Some(granted) if *mode == FileMode::ReadWrite && !granted.is_writable() => {
                tracing::warn!(
                    service,
                    "not granted: writing in directory {name} ({reason}); --dir {name}=PATH:rw grants it"
                );
            }
            Some(_) => {}
        }
    }
}

/// Prints the ready lines. Nobody has to read them.
fn announce(service: &Service) -> anyhow::Result<()> {
    let is_connection = |url: &Arc<str>| **url == *"stdio:";
    let mut output: Box<dyn io::Write> = if !service.listening().iter().any(is_connection) {
        Box::new(io::stdout().lock())
    } else if stdio::is_error_the_peers() {
        Box::new(io::sink())
    } else {
        Box::new(io::stderr().lock())
    };
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

/// The signals that the host listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that stops, and calls `reload` at each SIGHUP until then.
    async fn stop(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}

/// Waits for a signal, or for the end of the connections that the process was started for, then drains.
async fn stop(service: Service, timeout: Duration, mut signals: Signals) -> anyhow::Result<()> {
    let cause = tokio::select! {
        signal = signals.stop(|| service.reload()) => signal,
        () = service.finished() => "end of the connection",
    };
    let name = service.name().to_owned();
    let drain = async {
        let open = service.connection_count().await;
        tracing::info!(
            cause,
            connections = open,
            "draining for at most {timeout:?}; a second signal stops at once"
        );
        service.drain(timeout).await
    };
    // There is nobody left to load certificates for.
    let nothing = || {};
    tokio::select! {
        left = drain => {
            if left > 0 {
                tracing::warn!(service = name, connections = left, "closed at the deadline");
            }
            tracing::info!(service = name, "stopped");
            Ok(())
        }
        second = signals.stop(nothing) => bail!("stopped at once by a second signal ({second})"),
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

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
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
