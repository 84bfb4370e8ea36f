//! `nethost exec`: runs a plugin's command, its client side.

use std::{
    ffi::OsString, fs, future, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc,
};

use anyhow::{Context as _, anyhow, bail};
use tokio::{
    runtime,
    signal::unix::{self, SignalKind},
    sync::mpsc,
};

use super::{Mistake, OrMistake as _, limit, outward::Outward, run::key_value};
use crate::{
    command::{
        self, Command, Ended, Remarks, Signal, Surroundings, mentions,
        named::NamedFiles,
        progress::Screen,
        terminal::{Colour, Terminal},
    },
    config::{Secrets, limits::LimitSetting},
    daemon::confinement::{self, Access, Confinement, Reach},
    dumps::Dumps,
    engine::Engine,
    grants::{ConnectGrant, Grants},
    inspect,
    instance::StartError,
    manifest::CommandManifest,
    plugin::Plugin,
    reactor::{Program, WorkerHandle, abort_on_panic},
};

/// Run a plugin's command: its client side
///
/// Everything after PLUGIN is the plugin's, `--help` too; options of nethost come before it. The command line is the grant, and nothing else: the plugin may connect to
/// the hosts that its arguments mention and open the files that they name. It sees standard input, output and error, and nothing of the environment.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "nethost exec [OPTIONS] PLUGIN [ARGS]...",
    after_help = "\
What the arguments grant:
  hosts   an argument that is a name or an address, or has one between characters that cannot be in
          one: http://example.org:8080/x, @127.0.0.1, user@mail.example.org:25, [::1]:53. A port
          right behind it (:25) is the only one then, otherwise it is every port, TCP and UDP. A
          name covers what it resolves to, but no loopback and link-local addresses; `localhost`
          covers loopback. --allow-connect lets the plugin go further, for example after a redirect.
          One whose manifest says `name-servers` (`nethost inspect` shows it) may ask the system's
          name servers as well, or those of --nameserver
  files   where the plugin says that arguments name files (`nethost inspect` shows it), by exactly
          that path: one to be read is only read, one to be written is made, or emptied, when the
          plugin opens it. No pipes and terminals; `-` is standard input and output, if the plugin
          takes it so
What is refused is told on standard error.

SIGINT and SIGTERM are told to the plugin, and a second one ends it at once. Without --log and
RUST_LOG the log is warnings, and none of where in the plugin it broke: --log error shows that.
Exit codes: the plugin's own; 1 if it broke, 2 if nethost was called wrongly; 130 and 143 after
SIGINT and SIGTERM, 141 if nobody reads standard output any more.

Examples:
  nethost exec plugins/echo.wasm 127.0.0.1:7007 hello
  nethost exec plugins/echo.wasm --udp localhost:7007 < question > answer
  nethost exec --tls-ca ca.pem my-http.wasm get https://example.org/ -o page.html"
)]
pub(crate) struct Exec {
    /// The plugin, a component such as plugins/echo.wasm, and then its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_names = ["PLUGIN", "ARGS"],
        num_args = 1..
    )]
    command: Vec<OsString>,

    /// Let the plugin connect to HOST:PORT as well; HOST is a name, an address, a network or *, PORT a number or *
    ///
    /// As with `nethost run`: a name covers what it resolves to, except loopback and link-local addresses; * covers every address of the internet.
    #[arg(long, value_name = "HOST:PORT")]
    allow_connect: Vec<ConnectGrant>,

    /// Set a key of the plugin's config; `nethost inspect` lists them
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,

    /// Set a limit of the command, as memory=64MiB; repeat it for others. --help lists them
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit::Setting, hide_possible_values = true, long_help = limit::long_help())]
    limits: Vec<LimitSetting>,

    /// Write a core dump of the plugin to this folder if it breaks; it holds the plugin's memory, and so what it was told
    #[arg(long, value_name = "DIR")]
    coredump: Option<PathBuf>,

    #[command(flatten)]
    outward: Outward,

    /// When the plugin writes colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Colour,

    /// Whether the kernel keeps the process from files, connections and system calls that it does not need for what the arguments grant: on or off
    #[arg(
        long,
        value_name = "on|off",
        default_value = "on",
        hide_possible_values = true
    )]
    confinement: Confinement,

    /// Show no progress, and do not say what was refused
    #[arg(long, short)]
    quiet: bool,
}

impl Exec {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        // Before there is another thread.
        self.confine();
        let dumps = self.coredump.as_deref().map(Dumps::open);
        let dumps = dumps.transpose().or_mistake()?;
        let engine = Engine::dumping(dumps.clone())
            .map_err(|error| anyhow!("{error:#}"))
            .context("setting up wasmtime")?;
        let command = self.command(&engine)?;
        let screen = command.surroundings.screen.clone();
        let name = command.program.service.clone();
        abort_on_panic();
        let worker = WorkerHandle::spawn(0)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the main thread's runtime")?;
        let ended = runtime.block_on(watched(&worker, command, &screen));
        if let Some(dumps) = dumps {
            dumps.finish();
        }
        match ended {
            Ok(code) => Ok(ExitCode::from(code)),
            Err(error) => {
                let is_mistake = matches!(
                    error.downcast_ref(),
                    Some(Ended::Start(StartError::Refused { .. }))
                );
                let error = error.context(name);
                if is_mistake {
                    Err(error).or_mistake()
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Confines the process to what the arguments grant, as far as the kernel can.
    fn confine(&self) {
        if self.confinement == Confinement::Off {
            return confinement::tell_off();
        }
        let mut reach = Reach::default();
        reach.allow_system();
        reach.allow_tls(&self.outward.tls_files(), Access::Read);
        if let Some(coredump) = &self.coredump {
            reach.allow(coredump, Access::Write);
        }
        let mut words = self.command.iter();
        let plugin = PathBuf::from(words.next().cloned().unwrap_or_default());
        reach.allow(&plugin, Access::Read);
        let arguments: Option<Vec<_>> = words.map(|word| word.clone().into_string().ok()).collect();
        let arguments = arguments.unwrap_or_default();
        // What is wrong with it is told when it is loaded.
        let read = inspect::read(&plugin).and_then(|bytes| inspect::describe(&bytes));
        let manifest = read.ok().and_then(|it| it.manifest);
        let command = manifest.and_then(|it| it.command).unwrap_or_default();
        NamedFiles::find(&command, &arguments).allow(&mut reach);
        let mentioned = mentions::hosts(&arguments);
        for grant in self.allow_connect.iter().chain(&mentioned) {
            reach.allow_connect(grant);
        }
        let mut servers = self.outward.name_servers.clone();
        servers.extend(system_name_servers());
        for server in servers {
            reach.allow_port(server.port());
        }
        let mut outcome = confinement::enter(reach);
        confinement::limit_calls(&mut outcome);
        outcome.tell();
    }

    /// Checks everything that the command line says against the plugin's manifest.
    fn command(self, engine: &Engine) -> anyhow::Result<Command> {
        let mut words = self.command.into_iter();
        // clap has seen to it that there is one.
        let path = PathBuf::from(words.next().unwrap_or_default());
        let arguments = words
            .map(OsString::into_string)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|word| Mistake::new(format!("the argument {word:?} is not UTF-8")))?;
        let limits = limit::limits(&self.limits)?;
        let plugin = Plugin::load_within(engine, &path, &limits).or_mistake()?;
        let manifest = &plugin.manifest;
        if !plugin.is_command() {
            bail!(Mistake::new(format!(
                "{} is no command: it exports no `command-handler`, which `nethost inspect` shows of a plugin that is one; `nethost run` serves it",
                manifest.name
            )));
        }
        let config = manifest.config(&self.set)?;
        let none = CommandManifest::default();
        let declared = manifest.command.as_ref().unwrap_or(&none);
        let name_servers = match (&declared.name_servers, self.outward.name_servers.as_slice()) {
            (None, _) => Vec::new(),
            (Some(_), []) => system_name_servers(),
            (Some(_), named) => named.to_vec(),
        };
        let mut connect = self.allow_connect;
        connect.extend(mentions::hosts(&arguments));
        // Not the whole machine that a name server is on.
        connect.extend(
            name_servers
                .iter()
                .filter_map(|it| it.to_string().parse().ok()),
        );
        let files = NamedFiles::find(declared, &arguments);
        let terminal = Terminal::of_process(self.color);
        let surroundings = Surroundings {
            files,
            name_servers,
            terminal,
            screen: Screen::new(terminal.can_draw() && !self.quiet),
            remarks: if self.quiet {
                Remarks::Suppress
            } else {
                Remarks::Say
            },
            unwritten: limits.unsent,
        };
        let program = Program {
            service: manifest.name.clone(),
            limits,
            grants: Grants {
                connect,
                ..Grants::default()
            },
            name_servers: self.outward.name_servers.clone(),
            tls: self.outward.tls()?,
            secrets: Secrets::default(),
        };
        Ok(Command {
            config: serde_json::Value::Object(config).to_string(),
            plugin: Arc::new(plugin),
            program,
            arguments,
            surroundings,
        })
    }
}

/// Runs the command on a worker, and hands it the signals. A second one ends it at once.
async fn watched(worker: &WorkerHandle, command: Command, screen: &Screen) -> anyhow::Result<u8> {
    let ignored = ignored_signals();
    let mut interrupt = Heard::new(SignalKind::interrupt(), ignored)?;
    let mut terminate = Heard::new(SignalKind::terminate(), ignored)?;
    let mut hangup = Heard::new(SignalKind::hangup(), ignored)?;
    let mut resized = Heard::new(SignalKind::window_change(), ignored)?;
    let (sender, signals) = mpsc::unbounded_channel();
    let ended = worker.call(move |worker, ended| {
        let running = command::run(worker.clone(), command, signals);
        tokio::task::spawn_local(async move {
            // Who waits for it is gone only if the process ends.
            let _gone = ended.send(running.await);
        });
    });
    tokio::pin!(ended);
    let mut told = false;
    loop {
        let signal = tokio::select! {
            ended = &mut ended => {
                screen.close();
                let ended = ended.ok_or_else(|| anyhow!("the worker thread has ended"))?;
                return Ok(ended?);
            }
            _ = interrupt.recv() => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
            _ = hangup.recv() => Signal::Terminate,
            _ = resized.recv() => Signal::Resized,
        };
        if signal != Signal::Resized && std::mem::replace(&mut told, true) {
            return Ok(signal.exit_code());
        }
        // It has ended if it cannot be told.
        let _ended = sender.send(signal);
    }
}

/// A signal that is heard of, unless whoever started the process has it ignored: nohup(1), or a shell without job control for what it runs in the background.
struct Heard(Option<unix::Signal>);

impl Heard {
    fn new(kind: SignalKind, ignored: u64) -> io::Result<Self> {
        let bit = u32::try_from(kind.as_raw_value() - 1).ok();
        let is_ignored = bit.is_some_and(|bit| ignored >> bit & 1 == 1);
        let heard = (!is_ignored).then(|| unix::signal(kind)).transpose();
        Ok(Self(heard?))
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => future::pending().await,
        }
    }
}

/// Returns which signals were ignored when the process started, the first one in the lowest bit. Without /proc there are none.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Returns the name servers of resolv.conf(5). Without that file there are none.
fn system_name_servers() -> Vec<SocketAddr> {
    match fs::read_to_string(RESOLV_CONF) {
        Ok(text) => name_servers(&text),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "no name servers: reading {RESOLV_CONF}");
            }
            Vec::new()
        }
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = words.next().filter(|word| *word == "nameserver");
        let ip = ip.and_then(|_| words.next())?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(server).collect()
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_resolv_conf_has_them() {
        let text = "# nameserver 192.0.2.9\nsearch x.test\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver fe80::1%eth0\nnameserver\n";
        let found: Vec<_> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
