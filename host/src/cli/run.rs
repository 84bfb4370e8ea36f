//! `nethost run`: serves one plugin.

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::bail;

use crate::{
    admin::{self, Admin, Taken},
    cli::{Mistake, limit, outward::Outward},
    config::{
        DirectoryConfig, HostConfig, LEAST_MEMORY, Secret, ServiceConfig, limits::LimitSetting,
        service_name, text::parse_size,
    },
    daemon::confinement::Confinement,
    endpoint::{Direction, Endpoint, EndpointError},
    files::FileGrant,
    grants::ConnectGrant,
    manifest::{Isolation, parse_duration, typed},
    metrics,
    serve::{self, Source},
    storage::{DirectoryGrant, QuotaGrant},
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
  nethost run plugins/irc.wasm --metrics tcp://127.0.0.1:9464
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
    /// A name covers what it resolves to, except loopback, link-local and other special addresses; * covers every address of the internet, so
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

    /// Set a limit of the service, as memory=64MiB; repeat it for others. --help lists them
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit::Setting, hide_possible_values = true, long_help = limit::long_help())]
    limits: Vec<LimitSetting>,

    /// How many instances there are: one per worker thread, one per service, or one per connection [default: the manifest's first]
    #[arg(long, value_name = "KIND")]
    isolation: Option<Isolation>,

    /// Worker threads [default: the number of cores]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Tell metrics (Prometheus' text, /metrics), health (/healthz) and readiness (/readyz) over HTTP here: tcp://HOST:PORT, unix:///PATH or unix:@NAME
    ///
    /// Whoever can connect may read them. The log says where it is, with the real port.
    #[arg(long, value_name = "URL", value_parser = metrics_endpoint)]
    metrics: Option<Endpoint>,

    /// Write a core dump of a plugin that breaks to this folder, which must be there; the log names the file
    ///
    /// It holds the plugin's memory, and so what its clients said: passwords, letters, keys. Only the process's own user can read it. The newest 8 are kept, of 64 MiB together;
    /// there is at most one in a second, and none of an instance with more than 16 MiB of memory.
    #[arg(long, value_name = "DIR")]
    coredump: Option<PathBuf>,

    /// Where `nethost ps`, `swap` and so on find this host: the path of a UNIX socket, or tls://HOST:PORT?cert=FILE [default: $XDG_RUNTIME_DIR/nethost.sock, if it is free]
    ///
    /// Only this user may open the socket (mode 600; `unix:///PATH?mode=660` says otherwise).
    #[arg(long, value_name = "PATH|URL", value_parser = Admin::endpoint)]
    admin: Option<Endpoint>,

    /// The file with the token that --admin tls:// wants of everybody
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token: Option<PathBuf>,

    /// When the plugin's file changes, swap it under its open connections; a file that is not fit is told, and the old version goes on
    #[arg(long)]
    watch: bool,

    /// The service's name in the output and the log: letters, digits, `-`, `_` and `.` [default: the plugin's name]
    #[arg(long, value_parser = service_name)]
    name: Option<String>,

    /// Whether the kernel keeps the process from files, connections and system calls that it does not need for what it was granted: on or off
    ///
    /// With Linux' Landlock and seccomp, as far as the kernel has them; what could not be applied is told in the log.
    #[arg(
        long,
        value_name = "on|off",
        default_value = "on",
        hide_possible_values = true
    )]
    confinement: Confinement,

    /// Bytes of memory that the host may use: over it new connections are closed and no plugin's memory grows [default: four fifths of what is free at the start]
    #[arg(long, value_name = "BYTES", value_parser = host_memory)]
    host_memory: Option<u64>,

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
        let host = HostConfig {
            admin: self.admin()?,
            workers: self.workers,
            metrics: self.metrics.clone(),
            confinement: self.confinement,
            memory: self.host_memory,
            coredump: self.coredump.clone(),
            drain_timeout: self.drain_timeout,
            ..HostConfig::default()
        };
        serve::run(Source::Flags(Box::new(self.describe()?)), host)
    }

    /// Returns where the host is administered.
    fn admin(&self) -> anyhow::Result<Option<Admin>> {
        let Some(endpoint) = self.admin.clone() else {
            // One that was started for a single connection is gone with it.
            let default = if self.is_on_stdio() {
                None
            } else {
                Admin::of_run()
            };
            if default.is_none() {
                tracing::debug!(
                    "not administered: there is no XDG_RUNTIME_DIR, or nothing to administer"
                );
            }
            return Ok(default);
        };
        let token = self.admin_token.clone().map(Secret::of_file).transpose();
        let token = token.map_err(Mistake::new)?;
        if let Some(token) = &token {
            admin::check_token(token.expose())
                .map_err(|error| Mistake::new(format!("--admin-token: {error}")))?;
        }
        Ok(Some(Admin {
            endpoint,
            token,
            taken: Taken::Fail,
        }))
    }

    /// Describes the one service.
    fn describe(self) -> anyhow::Result<ServiceConfig> {
        Ok(ServiceConfig {
            name: self.name,
            plugin: self.plugin,
            listen: self.listen,
            isolation: self.isolation,
            connect: self.allow_connect,
            files: once("--file", self.file, |grant| &grant.name)?,
            directories: directories(self.dir, self.dir_quota)?,
            users: self.users,
            anonymous: self.anonymous,
            name_servers: self.outward.name_servers.clone(),
            tls: self.outward.tls_settings(),
            settings: typed(&self.set),
            limits: limit::limits(&self.limits)?,
            watch: self.watch,
        })
    }
}

fn directories(
    grants: Vec<DirectoryGrant>,
    quotas: Vec<QuotaGrant>,
) -> anyhow::Result<Vec<DirectoryConfig>> {
    let grants = once("--dir", grants, |grant| &grant.name)?;
    let quotas = once("--dir-quota", quotas, |quota| &quota.name)?;
    for QuotaGrant { name, .. } in &quotas {
        if !grants.iter().any(|grant| grant.name == *name) {
            bail!(Mistake::new(format!(
                "--dir-quota is about `{name}`, and no --dir is"
            )));
        }
    }
    let directory = |grant: DirectoryGrant| DirectoryConfig {
        quota: quotas
            .iter()
            .find(|quota| quota.name == grant.name)
            .map(|quota| quota.bytes),
        grant,
    };
    Ok(grants.into_iter().map(directory).collect())
}

/// Sees that no name is given twice.
fn once<T>(flag: &str, grants: Vec<T>, name: impl Fn(&T) -> &String) -> anyhow::Result<Vec<T>> {
    let mut names = BTreeSet::new();
    for grant in &grants {
        let name = name(grant);
        if !names.insert(name) {
            bail!(Mistake::new(format!("{flag} names `{name}` twice")));
        }
    }
    Ok(grants)
}

fn listener(text: &str) -> Result<Endpoint, EndpointError> {
    let endpoint: Endpoint = text.parse()?;
    endpoint.check(Direction::Listening)?;
    Ok(endpoint)
}

fn metrics_endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint = listener(text).map_err(|error| error.to_string())?;
    metrics::endpoint::check(&endpoint).map_err(|error| error.to_string())?;
    Ok(endpoint)
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn host_memory(text: &str) -> Result<u64, String> {
    let least = LEAST_MEMORY;
    let wrong = || format!("expected a number of bytes from {least} on, such as 512MiB or 2GiB");
    let bytes = parse_size(text).filter(|bytes| *bytes >= least);
    bytes.ok_or_else(wrong)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .map(Duration::from_nanos)
        .map_err(|error| error.to_string())
}
