//! The services of a process: started together, changed by SIGHUP, stopped together. `nethost run` has one, `nethost serve` those of a file.

mod reload;

mod signals;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use signals::{Asked, Signals};
use tokio::{
    runtime,
    sync::oneshot,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::{Mistake, OrMistake as _},
    config::{
        self, Config, HostConfig, Problem, Problems, ServiceConfig, Severity,
        prepare::{Effort, Fault, Prepared, digest, prepare, start_fault},
        reach::Loading,
    },
    daemon::{
        self,
        confinement::{self, Access, Confinement, Outcome, Reach},
        identity::Identity,
        lock::{LockError, LockFile},
        notify,
    },
    dumps::{Dumps, DumpsError},
    endpoint::{Endpoint, UnixName},
    engine::Engine,
    files::FileMode,
    memory,
    metrics::{self, registry::Phase},
    service::{Host, Service, ServiceError},
    transport::stdio,
};

/// Where the services are described.
#[derive(Debug)]
pub(crate) enum Source {
    /// By flags, which stay as they are; the process ends with the connections that it was started for.
    Flags(Box<ServiceConfig>),
    /// In a file, which SIGHUP reads again.
    File {
        /// Which.
        path: PathBuf,
        /// What it says.
        config: Box<Config>,
    },
}

/// Serves until a signal, or until there is nothing left to do.
pub(crate) fn run(source: Source, host: HostConfig) -> anyhow::Result<()> {
    daemon::raise_file_limit();
    let identity = Identity::look_up(host.user.as_deref(), host.group.as_deref()).or_mistake()?;
    let locks = locks(&host)?;
    let workers = host
        .workers
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    if let Some(identity) = &identity {
        source.make_absent(identity)?;
    }
    // Before there is another thread.
    let confined = source.confine(&host);
    let dumps = open_dumps(&host, identity.as_ref())?;
    let engine = Engine::dumping(dumps.clone())
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .context("setting up wasmtime")?;
    if let Some(bytes) = host.memory.or_else(memory::default_bound) {
        memory::bound(bytes).context("watching the memory")?;
    }
    let prepared = source.prepare(&engine)?;
    let server = Server {
        host: Host::start(workers)?,
        settings: host,
        engine,
        source,
        services: Vec::new(),
        draining: JoinSet::new(),
        identity,
        confined,
        _locks: locks,
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the main thread's runtime")?;
    let ended = runtime.block_on(server.run(prepared));
    if let Some(dumps) = dumps {
        dumps.finish();
    }
    ended
}

/// Opens the folder for core dumps, as whom the process becomes.
fn open_dumps(
    host: &HostConfig,
    identity: Option<&Identity>,
) -> anyhow::Result<Option<Arc<Dumps>>> {
    let Some(folder) = &host.coredump else {
        return Ok(None);
    };
    let opened = match identity {
        Some(identity) => identity.act(|| Dumps::open(folder))?,
        None => Dumps::open(folder),
    };
    match opened {
        Err(error @ DumpsError::Thread(_)) => Err(error.into()),
        opened => opened.or_mistake().map(Some),
    }
}

/// The services of the process.
struct Server {
    host: Host,
    /// What `[host]` said at the start; only `drain-timeout` changes.
    settings: HostConfig,
    engine: Engine,
    source: Source,
    services: Vec<Live>,
    /// Services that are not in the file any more, or have a successor, and still have connections.
    draining: JoinSet<()>,
    /// Whom the process becomes once its sockets are bound.
    identity: Option<Identity>,
    /// What became of the confinement so far; none if it is off.
    confined: Option<Outcome>,
    _locks: Vec<LockFile>,
}

/// A service that runs, and what it was made of.
struct Live {
    config: ServiceConfig,
    digest: Option<[u8; 32]>,
    service: Service,
}

/// A description that was compared with everything, and could be started.
struct Ready {
    config: ServiceConfig,
    digest: Option<[u8; 32]>,
    prepared: Prepared,
}

impl Ready {
    fn new(engine: &Engine, config: &ServiceConfig) -> Result<Self, Vec<Fault>> {
        // Before the files are read: one that changes meanwhile differs the next time.
        let digest = digest(config);
        Ok(Self {
            config: config.clone(),
            digest,
            prepared: prepare(engine, config, Effort::Serve)?,
        })
    }
}

impl Source {
    /// Makes the files and directories that plugins are to write to and that are not there, as whom the process becomes: they have to be writable for it afterwards,
    /// and root makes nothing in a folder that is somebody else's.
    fn make_absent(&self, identity: &Identity) -> anyhow::Result<()> {
        let Self::File { config, .. } = self else {
            return Ok(());
        };
        let is_absent = |path: &&PathBuf| !path.exists();
        for service in config.services.iter().map(|it| &it.config) {
            let files = service.files.iter();
            let files = files.filter(|grant| grant.mode == FileMode::ReadWrite);
            for path in files.map(|grant| &grant.path).filter(is_absent) {
                let make = || OpenOptions::new().write(true).create_new(true).open(path);
                made(path, identity.act(make)?.map(drop))?;
            }
            let directories = service.directories.iter().map(|it| &it.grant);
            // Without a mode it may be for reading, and then has to be there.
            let directories = directories.filter(|it| it.mode == Some(FileMode::ReadWrite));
            for path in directories.map(|grant| &grant.path).filter(is_absent) {
                made(path, identity.act(|| fs::create_dir_all(path))?)?;
            }
        }
        Ok(())
    }

    /// Confines the process to what the services and the host need, as far as the kernel can; returns what became of it.
    fn confine(&self, host: &HostConfig) -> Option<Outcome> {
        if host.confinement == Confinement::Off {
            return None;
        }
        let mut reach = Reach::default();
        reach.allow_system();
        if host.user.is_some() || host.group.is_some() {
            // The file names them when it is read again, too.
            reach.allow(Path::new("/etc/passwd"), Access::Read);
            reach.allow(Path::new("/etc/group"), Access::Read);
        }
        for path in admin_lock(host).iter().chain(&host.pid_file) {
            reach.allow(path, Access::Remove);
        }
        if let Some(coredump) = &host.coredump {
            reach.allow(coredump, Access::Write);
        }
        let admin = host.admin.clone().map(Endpoint::Unix);
        for endpoint in admin.iter().chain(&host.metrics) {
            reach.allow_listener(endpoint);
        }
        let (services, loading): (Vec<_>, _) = match self {
            Self::Flags(config) => (vec![&**config], Loading::Once),
            Self::File { path, config } => {
                reach.allow(path, Access::Reread);
                let services = config.services.iter().map(|it| &it.config);
                (services.collect(), Loading::Again)
            }
        };
        for config in services {
            let manifest = config::reach::manifest(config);
            if let Some((manifest, takes_datagrams)) = &manifest {
                config::reach::make(config, manifest, *takes_datagrams);
            }
            let manifest = manifest.as_ref().map(|(manifest, _)| manifest);
            config::reach::allow(&mut reach, config, manifest, loading);
        }
        Some(confinement::enter(reach))
    }

    /// Prepares all services, or says everything that is wrong with any of them.
    fn prepare(&self, engine: &Engine) -> anyhow::Result<Vec<Ready>> {
        match self {
            Self::Flags(config) => {
                let ready = Ready::new(engine, config).map_err(|faults| {
                    let faults: Vec<_> = faults.iter().map(Fault::typed).collect();
                    Mistake::new(faults.join("\n"))
                })?;
                let service = &ready.prepared.spec.program.service;
                for fault in &ready.prepared.lacking {
                    tracing::warn!(service, "{}", fault.typed());
                }
                Ok(vec![ready])
            }
            Self::File { config, .. } => {
                for warning in &config.warnings {
                    tracing::warn!("{}", warning.line());
                }
                let mut problems = Vec::new();
                let mut all = Vec::new();
                for service in &config.services {
                    match Ready::new(engine, &service.config) {
                        Ok(ready) => {
                            tell_lacking(config, service, &ready);
                            all.push(ready);
                        }
                        Err(faults) => {
                            let told = |fault| config.problem(service, fault, Severity::Error);
                            problems.extend(faults.iter().map(told));
                        }
                    }
                }
                if problems.is_empty() {
                    Ok(all)
                } else {
                    Err(Problems(problems).into())
                }
            }
        }
    }

    /// Says why a service did not start.
    fn failure(&self, config: &ServiceConfig, error: ServiceError) -> anyhow::Error {
        let is_mistake = error.is_mistake();
        match self {
            Self::Flags(_) if is_mistake => anyhow::Error::new(Mistake::new(crate::chain(&error))),
            Self::Flags(_) => error.into(),
            Self::File { config: file, .. } => {
                let problem = file.failure(config, &error);
                if is_mistake {
                    anyhow::Error::new(Mistake::new(problem.line()))
                } else {
                    anyhow::Error::msg(problem.line())
                }
            }
        }
    }
}

impl Config {
    /// Says where in the file it is written what kept a service from starting.
    fn failure(&self, config: &ServiceConfig, error: &ServiceError) -> Problem {
        let fault = start_fault(config, error);
        let mut services = self.services.iter();
        match services.find(|it| it.config.name == config.name) {
            Some(service) => self.problem(service, &fault, Severity::Error),
            None => self.problem_of_file(&fault),
        }
    }
}

/// Says what a plugin asks for and was not granted.
fn tell_lacking(config: &Config, service: &config::WrittenService, ready: &Ready) {
    for fault in &ready.prepared.lacking {
        let problem = config.problem(service, fault, Severity::Warning);
        let service = &ready.prepared.spec.program.service;
        tracing::warn!(service, "{}", problem.line());
    }
}

impl Server {
    async fn run(mut self, prepared: Vec<Ready>) -> anyhow::Result<()> {
        // Before anybody is told that it is ready: who is told may send a signal at once.
        let mut signals = Signals::new().context("listening for signals")?;
        let _metrics = self.tell_metrics().await?;
        self.start(prepared).await?;
        self.host.registry().enter(Phase::Serving);
        announce(self.services.iter().map(|live| &live.service))?;
        notify::ready(self.status());
        let _watchdog = self.feed_watchdog()?;
        let cause = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => {
                        notify::reloading();
                        self.reload().await;
                        notify::ready(self.status());
                    }
                    Asked::Stop(name) => break name,
                },
                () = finished(&self.source, &self.services) => break "end of the connection",
                Some(ended) = self.draining.join_next() => note_end(ended),
            }
        };
        notify::stopping();
        self.host.registry().enter(Phase::Draining);
        self.stop(cause, signals).await
    }

    /// Listens for who asks for metrics, before root is given up.
    async fn tell_metrics(&self) -> anyhow::Result<Option<metrics::endpoint::Serving>> {
        let Some(endpoint) = &self.settings.metrics else {
            return Ok(None);
        };
        let serving = metrics::endpoint::serve(endpoint, self.host.registry().clone()).await;
        match serving {
            Ok(serving) => {
                if let (Some(identity), Some(file)) = (&self.identity, serving.file()) {
                    give(identity, file)?;
                }
                Ok(Some(serving))
            }
            Err(error) if error.is_mistake() => Err(error).or_mistake(),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the service manager now and then that the process is alive, if every worker is, until what this returns is dropped. In a thread of its own: a reload
    /// that compiles takes the main thread's time, and is no reason to be killed.
    fn feed_watchdog(&self) -> anyhow::Result<Option<oneshot::Sender<()>>> {
        let Some(period) = notify::watchdog_period() else {
            return Ok(None);
        };
        let registry = self.host.registry().clone();
        let (stop, mut stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let feed = async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = &mut stopped => return,
                }
                if registry.silent_workers().await.is_empty() {
                    notify::alive();
                } else {
                    tracing::error!(
                        "a worker does not answer; the service manager is not told that all is well"
                    );
                }
            }
        };
        thread::Builder::new()
            .name("nethost-watchdog".to_owned())
            .spawn(move || runtime.block_on(feed))?;
        Ok(Some(stop))
    }

    fn status(&self) -> String {
        let listeners = self
            .services
            .iter()
            .map(|live| live.service.listening().len());
        let (services, listeners) = (self.services.len(), listeners.sum::<usize>());
        format!("services: {services}, listeners: {listeners}")
    }

    /// Starts all services, or none: nobody is accepted before the last one is sure to start.
    async fn start(&mut self, prepared: Vec<Ready>) -> anyhow::Result<()> {
        let mut bound = Vec::new();
        for Ready {
            config,
            digest,
            prepared,
        } in prepared
        {
            match self.host.bind(prepared.spec, &[], &[]).await {
                Ok(service) => bound.push((config, digest, service)),
                Err(error) => return Err(self.source.failure(&config, error)),
            }
        }
        if let Some(identity) = &self.identity {
            for file in bound.iter().flat_map(|(_, _, bound)| bound.socket_files()) {
                give(identity, file)?;
            }
            identity.assume()?;
        }
        self.limit_calls();
        let mut staged = Vec::new();
        for (config, digest, bound) in bound {
            match bound.open().await {
                Ok(service) => staged.push((config, digest, service)),
                Err(error) => return Err(self.source.failure(&config, error)),
            }
        }
        for (config, digest, staged) in staged {
            let service = staged.accept().await;
            let service = service.map_err(|error| self.source.failure(&config, error))?;
            self.services.push(Live {
                config,
                digest,
                service,
            });
        }
        Ok(())
    }

    /// From here on nothing is called that only a start needs. No plugin has run yet.
    fn limit_calls(&mut self) {
        match &mut self.confined {
            Some(outcome) => {
                confinement::limit_calls(outcome);
                outcome.tell();
            }
            None => confinement::tell_off(),
        }
    }

    async fn reload(&mut self) {
        match &self.source {
            Source::Flags(_) => {
                for live in &self.services {
                    live.service.reload();
                }
            }
            Source::File { path, .. } => {
                let path = path.clone();
                self.reload_file(&path).await;
            }
        }
    }

    /// Lets a service end in its own time, while others go on.
    fn retire(&mut self, service: Service) {
        let timeout = self.settings.drain_timeout;
        self.draining.spawn(drain(service, timeout));
    }

    /// Drains everything. A second signal ends that.
    async fn stop(mut self, cause: &str, mut signals: Signals) -> anyhow::Result<()> {
        let timeout = self.settings.drain_timeout;
        let services = std::mem::take(&mut self.services);
        let drained = async {
            let mut open = 0;
            for live in &services {
                open += live.service.connection_count().await;
            }
            tracing::info!(
                cause,
                connections = open,
                "draining for at most {timeout:?}; a second signal stops at once"
            );
            for live in services {
                self.retire(live.service);
            }
            // Those that began to drain earlier may have been given longer.
            let rest = async {
                while let Some(ended) = self.draining.join_next().await {
                    note_end(ended);
                }
            };
            if tokio::time::timeout(timeout + LAST_WORDS, rest)
                .await
                .is_err()
            {
                tracing::warn!("closed at the deadline what was draining before");
            }
        };
        tokio::select! {
            () = drained => Ok(()),
            // There is nobody left to look at files for.
            second = signals.stop() => bail!("stopped at once by a second signal ({second})"),
        }
    }
}

/// Returns once the connections have ended that the process was started for. One that serves a file has other services.
async fn finished(source: &Source, services: &[Live]) {
    match (source, services.first()) {
        (Source::Flags(_), Some(live)) => live.service.finished().await,
        _ => std::future::pending().await,
    }
}

async fn drain(service: Service, timeout: Duration) {
    let name = service.name().to_owned();
    let left = service.drain(timeout).await;
    if left > 0 {
        tracing::warn!(service = name, connections = left, "closed at the deadline");
    }
    tracing::info!(service = name, "stopped");
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a drain's task ended");
    }
}

/// Prints the ready lines. Nobody has to read them.
fn announce<'a>(services: impl Iterator<Item = &'a Service>) -> anyhow::Result<()> {
    let is_connection = |url: &Arc<str>| **url == *"stdio:";
    for service in services {
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
            }
            result => result.context("writing the ready lines")?,
        }
    }
    Ok(())
}

/// Takes the lock of the admin socket and that of the pid file, as far as there are any.
fn locks(host: &HostConfig) -> anyhow::Result<Vec<LockFile>> {
    let mut locks = Vec::new();
    if let (Some(admin), Some(path)) = (&host.admin, admin_lock(host)) {
        let lock = hold(&path).with_context(|| {
            let socket = &admin.address;
            format!("another nethost has the admin socket {socket}; stop that one, or give this one another `admin`")
        })?;
        locks.push(lock);
    }
    if let Some(path) = &host.pid_file {
        locks.push(hold(path).context("`pid-file`")?);
    }
    Ok(locks)
}

/// Returns the file that says whose the admin socket is.
fn admin_lock(host: &HostConfig) -> Option<PathBuf> {
    let UnixName::Path(socket) = &host.admin.as_ref()?.address else {
        return None;
    };
    let mut path = socket.clone().into_os_string();
    path.push(".lock");
    Some(path.into())
}

fn hold(path: &Path) -> anyhow::Result<LockFile> {
    match LockFile::hold(path) {
        Err(error @ LockError::Held { .. }) => Err(error).or_mistake(),
        other => Ok(other?),
    }
}

/// Says what to do about a file or directory that cannot be made.
fn made(path: &Path, made: io::Result<()>) -> anyhow::Result<()> {
    let path = path.display();
    let context = || {
        format!(
            "making {path} as the `user` that nethost becomes: make it yourself and give it to that user, or let that user write to its folder"
        )
    };
    made.with_context(context).or_mistake()
}

/// Makes a socket's file the identity's.
fn give(identity: &Identity, path: &Path) -> anyhow::Result<()> {
    let given = identity.own(path);
    given.with_context(|| format!("giving {} to the user that nethost becomes", path.display()))
}

/// What a drain may take beyond its time: 5 s, for the last bytes of connections that were closed at its end.
const LAST_WORDS: Duration = Duration::from_secs(5);
