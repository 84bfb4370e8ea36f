//! The services of a process: started together, changed by SIGHUP, stopped together. `nethost run` has one, `nethost serve` those of a file.

mod reload;

mod control;

mod watching;

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
use control::{Names, Stopped, SwapEnded};
use signals::{Asked, Signals};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    admin::{self, Admin, Command, Commands, Taken, listen},
    cli::{Mistake, OrMistake as _},
    config::{
        self, Config, HostConfig, Problem, Problems, Secret, ServiceConfig, Severity,
        prepare::{Digest, Effort, Fault, Prepared, digest, prepare_with, start_fault},
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
    http::Answering,
    manifest::Isolation,
    memory,
    metrics::{self, registry::Phase},
    plugin::Plugin,
    service::{Host, Service, ServiceError},
    transport::stdio,
    watch::{Snapshot, Watch},
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
pub(crate) fn run(source: Source, mut host: HostConfig) -> anyhow::Result<()> {
    daemon::raise_file_limit();
    let identity = Identity::look_up(host.user.as_deref(), host.group.as_deref()).or_mistake()?;
    let locks = locks(&mut host)?;
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
    let (commands, asked) = mpsc::channel(admin::COMMANDS);
    let server = Server {
        host: Host::start(workers)?,
        settings: host,
        engine: Arc::new(engine),
        source,
        services: Vec::new(),
        stopped: Vec::new(),
        swaps: JoinSet::new(),
        reload_waits: false,
        draining: JoinSet::new(),
        draining_names: Names::default(),
        commands,
        asked,
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
    engine: Arc<Engine>,
    source: Source,
    services: Vec<Live>,
    /// Services that an operator stopped.
    stopped: Vec<Stopped>,
    swaps: JoinSet<SwapEnded>,
    /// SIGHUP came while a service was being swapped.
    reload_waits: bool,
    /// Services that are not in the file any more, or have a successor, and still have connections.
    draining: JoinSet<()>,
    draining_names: Names,
    commands: Commands,
    /// What came by `commands`.
    asked: mpsc::Receiver<Command>,
    /// Whom the process becomes once its sockets are bound.
    identity: Option<Identity>,
    /// What became of the confinement so far; none if it is off.
    confined: Option<Outcome>,
    _locks: Vec<LockFile>,
}

/// A service that runs, and what it was made of.
struct Live {
    made: Made,
    /// Shared with a swap that is under way, and with nobody else.
    service: Arc<Service>,
    is_swapping: bool,
    /// None if its plugin's file is not watched.
    _watch: Option<(Watch, Arc<watching::PluginFile>)>,
}

/// What a service was made of.
#[derive(Clone)]
struct Made {
    config: ServiceConfig,
    /// What the files were when they were read last. None if one could not be read.
    digest: Option<Digest>,
    /// What the plugin's file looked like before it was read.
    seen: Snapshot,
    isolation: Isolation,
    /// Another one than the file's, if an operator swapped it, or a new version broke on probation.
    plugin: Arc<Plugin>,
    swaps: u64,
}

impl Live {
    /// Takes note of the version that serves, which a swap or the end of a probation changed.
    fn follow(&mut self) {
        if let Some(plugin) = self.service.plugin() {
            self.made.plugin = plugin;
        }
    }
}

impl Made {
    /// Returns whether another plugin than the file's was swapped in.
    fn is_swapped(&self) -> bool {
        self.digest
            .is_none_or(|digest| self.plugin.digest != digest.plugin)
    }

    /// Returns whether a service of this description is as it would be if it was started now. A plugin that was swapped in stays until the file
    /// changes; and one that is in the file by now is no change.
    fn is_current(&self, config: &ServiceConfig, now: Option<Digest>) -> bool {
        let (Some(before), Some(now)) = (self.digest, now) else {
            return false;
        };
        let is_same_plugin = before.plugin == now.plugin || self.plugin.digest == now.plugin;
        self.config == *config && before.tls == now.tls && is_same_plugin
    }

    /// Returns whether a service of this description goes on with the plugin of this one: it is of the same file, and that has not changed.
    fn has_plugin_of(&self, config: &ServiceConfig, now: Option<Digest>) -> bool {
        let plugin = |digest: Option<Digest>| digest.map(|digest| digest.plugin);
        // What cannot be read any more cannot have changed for us.
        let is_same_content = now.is_none() || plugin(self.digest) == plugin(now);
        self.config.plugin == config.plugin && is_same_content
    }
}

/// A description that was compared with everything, and could be started.
struct Ready {
    made: Made,
    prepared: Prepared,
}

impl Ready {
    /// Prepares a service, which may have been there before.
    fn new(
        engine: &Engine,
        config: &ServiceConfig,
        before: Option<&Made>,
    ) -> Result<Self, Vec<Fault>> {
        // Before the files are read: one that changes meanwhile differs the next time.
        let seen = Snapshot::of(&config.plugin);
        let digest = digest(config);
        let kept = before.filter(|made| made.has_plugin_of(config, digest));
        let plugin = kept.map(|made| &made.plugin);
        let prepared = prepare_with(engine, config, Effort::Serve, plugin)?;
        let made = Made {
            config: config.clone(),
            digest,
            seen,
            isolation: prepared.spec.isolation,
            plugin: prepared.plugin.clone(),
            swaps: before.map_or(0, |made| made.swaps),
        };
        Ok(Self { made, prepared })
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
        let token = host.admin.iter().filter_map(|admin| admin.token.as_ref());
        for path in token.filter_map(Secret::file) {
            // The file names it when it is read again, too.
            reach.allow(path, Access::Reread);
        }
        let admin = host.admin.iter().map(|admin| &admin.endpoint);
        for endpoint in admin.chain(&host.metrics) {
            reach.allow_listener(endpoint);
        }
        let (services, loading): (Vec<_>, _) = match self {
            // The plugin may be replaced.
            Self::Flags(config) if config.watch => (vec![&**config], Loading::Again),
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
                let ready = Ready::new(engine, config, None).map_err(|faults| {
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
                    match Ready::new(engine, &service.config, None) {
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
        let admin = self.bind_admin().await?;
        self.start(prepared).await?;
        self.host.registry().enter(Phase::Serving);
        let _admin = self.answer_admin(admin)?;
        announce(self.services.iter().map(|live| &*live.service))?;
        notify::ready(self.status());
        let _watchdog = self.feed_watchdog()?;
        let cause = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload_by_signal().await,
                    Asked::Stop(name) => break name,
                },
                () = finished(&self.source, &self.services) => break "end of the connection",
                Some(ended) = self.draining.join_next() => note_end(ended),
                Some(ended) = self.swaps.join_next() => self.note_swap(ended).await,
                Some(command) = self.asked.recv() => self.obey(command).await,
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
        for Ready { made, prepared } in prepared {
            match self.host.bind(prepared.spec, &[], &[]).await {
                Ok(service) => bound.push((made, service)),
                Err(error) => return Err(self.source.failure(&made.config, error)),
            }
        }
        if let Some(identity) = &self.identity {
            for file in bound.iter().flat_map(|(_, bound)| bound.socket_files()) {
                give(identity, file)?;
            }
            identity.assume()?;
        }
        self.limit_calls();
        let mut staged = Vec::new();
        for (made, bound) in bound {
            match bound.open().await {
                Ok(service) => staged.push((made, service)),
                Err(error) => return Err(self.source.failure(&made.config, error)),
            }
        }
        for (made, staged) in staged {
            let service = staged.accept().await;
            let service = service.map_err(|error| self.source.failure(&made.config, error))?;
            let live = self.live(made, service);
            self.services.push(live);
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

    /// Binds the admin socket, before root is given up.
    async fn bind_admin(&self) -> anyhow::Result<Option<listen::Bound>> {
        let Some(admin) = &self.settings.admin else {
            return Ok(None);
        };
        match listen::Bound::bind(admin).await {
            Ok(bound) => {
                if let (Some(identity), Some(file)) = (&self.identity, bound.file()) {
                    give(identity, file)?;
                }
                Ok(Some(bound))
            }
            Err(error) if admin.taken == Taken::GoOn => {
                let error = crate::chain(&error);
                tracing::warn!(error, "{NOT_ADMINISTERED}");
                Ok(None)
            }
            Err(error) if error.is_mistake() => Err(error).or_mistake(),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins to answer at the admin socket, until what this returns is dropped.
    fn answer_admin(
        &self,
        bound: Option<listen::Bound>,
    ) -> anyhow::Result<Option<(Answering, Option<Watch>)>> {
        let Some(bound) = bound else {
            return Ok(None);
        };
        let watch = bound.certificates().map(|tls| Watch::start("admin", [tls]));
        let watch = watch.transpose().context("watching certificates")?;
        let url = bound.url();
        match self.settings.admin.as_ref().map(|admin| admin.taken) {
            // Nobody asked.
            Some(Taken::GoOn) => tracing::debug!(url, "administration"),
            _ => tracing::info!(url, "administration"),
        }
        let registry = self.host.registry().clone();
        let answering = bound.answer(registry, self.commands.clone());
        let answering = answering.context("starting the thread for administration")?;
        Ok(Some((answering, watch)))
    }

    /// Lets a service end in its own time, while others go on.
    fn retire(&mut self, service: Service) {
        let timeout = self.settings.drain_timeout;
        self.draining.spawn(async move {
            drain(service, timeout).await;
        });
    }

    /// Drains everything. A second signal ends that.
    async fn stop(mut self, cause: &str, mut signals: Signals) -> anyhow::Result<()> {
        let timeout = self.settings.drain_timeout;
        // Whoever asks from now on is told that the host is stopping.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        // A swap that is not done by now is none: the version of before says goodbye.
        self.swaps.shutdown().await;
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
                if let Some(service) = Arc::into_inner(live.service) {
                    self.retire(service);
                }
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

/// Drains a service, and returns how many connections had to be closed.
async fn drain(service: Service, timeout: Duration) -> usize {
    let name = service.name().to_owned();
    let left = service.drain(timeout).await;
    if left > 0 {
        tracing::warn!(service = name, connections = left, "closed at the deadline");
    }
    tracing::info!(service = name, "stopped");
    left
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
fn locks(host: &mut HostConfig) -> anyhow::Result<Vec<LockFile>> {
    let mut locks = Vec::new();
    if let Some(Admin { taken, .. }) = &host.admin
        && let Some(path) = admin_lock(host)
    {
        let lock = hold(&path).with_context(|| {
            let socket = path.with_extension("");
            let socket = socket.display();
            format!("another nethost has the admin socket {socket}; stop that one, or give this one another `admin`")
        });
        match lock {
            Ok(lock) => locks.push(lock),
            Err(error) if *taken == Taken::GoOn => {
                tracing::warn!(error = format!("{error:#}"), "{NOT_ADMINISTERED}");
                host.admin = None;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(path) = &host.pid_file {
        locks.push(hold(path).context("`pid-file`")?);
    }
    Ok(locks)
}

/// Returns the file that says whose the admin socket is.
fn admin_lock(host: &HostConfig) -> Option<PathBuf> {
    let Endpoint::Unix(unix) = &host.admin.as_ref()?.endpoint else {
        return None;
    };
    let UnixName::Path(socket) = &unix.address else {
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

/// What is said if nobody asked for an admin socket, and there can be none.
const NOT_ADMINISTERED: &str = "`nethost ps`, `swap` and so on will not find this host; --admin PATH gives it a socket of its own";

/// What a drain may take beyond its time: 5 s, for the last bytes of connections that were closed at its end.
const LAST_WORDS: Duration = Duration::from_secs(5);
