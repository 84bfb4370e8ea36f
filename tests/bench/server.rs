//! The server's side: one worker pinned to a core, with a plugin or with native sessions in its place.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum as _;
use nethost::{
    config::Secrets,
    engine::Engine,
    files::FileMode,
    grants::Grants,
    limits::Limits,
    manifest::Isolation,
    plugin::Plugin,
    reactor::{
        CloseReason, Connection, EndpointKey, Handler, Holdings, Id, Origin, Outcome, Packet,
        Program, SessionKey, Socket,
    },
    service::{Host, NativeProtocol, Protocol, ServiceSpec},
    storage::{DirectoryGrant, Quota},
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::udp;

/// What to serve.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A plugin; without it native sessions echo
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// The core to run on
    #[arg(long)]
    core: usize,
    /// What to listen for
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// A second plugin, on the same worker
    #[arg(long, requires = "folder")]
    beside: Option<PathBuf>,
    /// The directory that the second plugin is granted as `d`
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// What a server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// TCP, by the host
    #[default]
    Tcp,
    /// UDP, by the host
    Udp,
    /// UDP, by a plain loop of tokio, recvmmsg and sendmmsg that has nothing of the host
    PlainUdp,
}

/// Echo without a sandbox, in the place of a plugin's instance.
struct NativeEcho;

impl Handler for NativeEcho {
    fn connection_made(&self, connection: &Rc<Connection>, _: &Origin) -> Option<SessionKey> {
        Some(SessionKey(usize::try_from(connection.id().0).unwrap_or(0)))
    }

    fn data_received(&self, connection: &Rc<Connection>, _: SessionKey, data: &[u8]) {
        connection.write(data);
    }

    fn writable(&self, _: &Rc<Connection>, _: SessionKey) {}

    fn read_closed(&self, connection: &Rc<Connection>, _: SessionKey) {
        connection.close();
    }

    fn connection_lost(&self, _: &Rc<Connection>, _: SessionKey, _: &CloseReason) {}

    fn endpoint_made(&self, socket: &Rc<Socket>, _: &Origin) -> Option<EndpointKey> {
        Some(EndpointKey(usize::try_from(socket.id().0).unwrap_or(0)))
    }

    fn datagrams_received(
        &self,
        socket: &Rc<Socket>,
        _: EndpointKey,
        packets: &[Packet],
        payloads: &[u8],
    ) {
        if let Err(error) = socket.send(packets, payloads) {
            eprintln!("{error}");
        }
    }

    fn completed(&self, _: Option<&Rc<Connection>>, _: Id, _: Outcome) {}

    fn draining(&self, _: Duration) {}
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    pin(options.core)?;
    if options.kind == Kind::PlainUdp {
        return udp::serve_plain();
    }
    let protocol = match &options.plugin {
        Some(path) => plugin_protocol(path)?,
        None => {
            let native: NativeProtocol = Arc::new(|_: &Rc<Holdings>| Rc::new(NativeEcho));
            Protocol::Native(native)
        }
    };
    let host = Host::start(NonZeroUsize::MIN)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Several addresses, because one has only 28,000 ports for a client to come from.
        let urls: Vec<String> = match options.kind {
            Kind::Tcp => (1..=4)
                .map(|last| format!("tcp://127.0.0.{last}:0?backlog=4096"))
                .collect(),
            _ => vec![format!("udp://127.0.0.1:0?receive-buffer={}", udp::BUFFER)],
        };
        let listen = urls
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, _>>()?;
        let service = host
            .serve(ServiceSpec {
                program: program(),
                protocol,
                listen,
                isolation: Isolation::Worker,
            })
            .await?;
        let beside = match (&options.beside, &options.folder) {
            (Some(plugin), Some(folder)) => Some(host.serve(beside(plugin, folder)?).await?),
            _ => None,
        };
        let mut output = std::io::stdout().lock();
        let urls = service.listening();
        for url in urls
            .iter()
            .chain(beside.iter().flat_map(|it| it.listening()))
        {
            let address = url.split_once("://").map_or(&**url, |(_, address)| address);
            writeln!(output, "{address}")?;
        }
        writeln!(output)?;
        output.flush()?;
        // The benchmark that started this closes standard input when it is done, or dies.
        std::io::stdin().lock().read_to_end(&mut Vec::new())?;
        service.drain(Duration::ZERO).await;
        if let Some(beside) = beside {
            beside.drain(Duration::ZERO).await;
        }
        Ok(())
    })
}

/// A second service, with a directory.
fn beside(plugin: &Path, folder: &Path) -> anyhow::Result<ServiceSpec> {
    let grant = DirectoryGrant {
        name: "d".to_owned(),
        path: folder.to_owned(),
        mode: None,
    };
    let directory = grant.open(FileMode::ReadWrite, Quota::default())?;
    let mut program = program();
    program.grants.directories.insert(grant.name, directory);
    Ok(ServiceSpec {
        program,
        protocol: plugin_protocol(plugin)?,
        listen: vec!["tcp://127.0.0.1:0".parse()?],
        isolation: Isolation::Service,
    })
}

/// Limits and grants as in production.
pub(crate) fn program() -> Program {
    Program {
        tls: Arc::default(),
        service: "echo".to_owned(),
        limits: Limits::default(),
        grants: Grants::default(),
        name_servers: Vec::new(),
        secrets: Secrets::default(),
    }
}

fn plugin_protocol(path: &Path) -> anyhow::Result<Protocol> {
    let engine = Engine::new().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let plugin = Plugin::load(&engine, path)?;
    let config = serde_json::Value::Object(plugin.manifest.config(&[])?).to_string();
    Ok(Protocol::Plugin {
        plugin: Arc::new(plugin),
        config: config.into(),
    })
}

/// Keeps this thread, and those it starts, on one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("pinning to core {core}"))
}

/// A server in a process of its own; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) addresses: Vec<std::net::SocketAddr>,
}

impl Server {
    /// Starts a server on a core and waits until it listens.
    pub(crate) fn start(kind: Kind, plugin: Option<&Path>, core: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let kind = kind.to_possible_value().context("a kind")?;
        command.args(["serve", "--core", &core.to_string()]);
        command.args(["--kind", kind.get_name()]);
        if let Some(plugin) = plugin {
            command.arg("--plugin").arg(plugin);
        }
        Self::run(command)
    }

    /// Starts a plugin on a core, and beside it on the same worker one with a directory, whose address is the last.
    pub(crate) fn start_with_disk(
        plugin: &Path,
        (beside, folder): (&Path, &Path),
        core: usize,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--core", &core.to_string()]);
        command.arg("--plugin").arg(plugin);
        command.arg("--beside").arg(beside);
        command.arg("--folder").arg(folder);
        Self::run(command)
    }

    fn run(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let output = child.stdout.take().context("the server's output")?;
        let mut addresses = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            addresses.push(line.parse().context("the server's address")?);
        }
        anyhow::ensure!(!addresses.is_empty(), "the server did not start");
        Ok(Self { child, addresses })
    }

    /// Returns the processor time that it has used.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // The first number is the time spent on a processor, in nanoseconds (the kernel's sched-stats.rst).
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let time = stat.split(' ').next().context("schedstat")?;
            nanoseconds += time.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It was told to end; if it does not, waiting here shows it.
        let _status = self.child.wait();
    }
}
