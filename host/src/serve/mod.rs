//! The services of a process: started together, changed by SIGHUP, stopped together. `nethost run` has one, `nethost serve` those of a file.

mod lock;

mod reload;

mod signals;

use std::{
    io::{self, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use lock::{AdminLock, LockError};
use rustix::process::{Resource, getrlimit, setrlimit};
use signals::{Asked, Signals};
use tokio::{runtime, task::JoinSet};

use crate::{
    cli::{Mistake, OrMistake as _},
    config::{
        Config, HostConfig, Problem, Problems, ServiceConfig, Severity,
        prepare::{Effort, Fault, Prepared, digest, prepare, start_fault},
    },
    endpoint::UnixName,
    engine::Engine,
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
    raise_file_limit();
    let lock = lock(&host)?;
    let workers = host
        .workers
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN);
    let engine = Engine::new()
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .context("setting up wasmtime")?;
    let prepared = source.prepare(&engine)?;
    let server = Server {
        host: Host::start(workers)?,
        settings: host,
        engine,
        source,
        services: Vec::new(),
        draining: JoinSet::new(),
        _lock: lock,
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the main thread's runtime")?;
    runtime.block_on(server.run(prepared))
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
    _lock: Option<AdminLock>,
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
fn tell_lacking(config: &Config, service: &crate::config::WrittenService, ready: &Ready) {
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
        self.start(prepared).await?;
        announce(self.services.iter().map(|live| &live.service))?;
        let cause = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload().await,
                    Asked::Stop(name) => break name,
                },
                () = finished(&self.source, &self.services) => break "end of the connection",
                Some(ended) = self.draining.join_next() => note_end(ended),
            }
        };
        self.stop(cause, signals).await
    }

    /// Starts all services, or none: nobody is accepted before the last one is sure to start.
    async fn start(&mut self, prepared: Vec<Ready>) -> anyhow::Result<()> {
        let mut staged = Vec::new();
        for Ready {
            config,
            digest,
            prepared,
        } in prepared
        {
            match self.host.stage(prepared.spec, &[], &[]).await {
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
            while let Some(ended) = self.draining.join_next().await {
                note_end(ended);
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

/// Takes the lock of the admin socket, if there is one.
fn lock(host: &HostConfig) -> anyhow::Result<Option<AdminLock>> {
    let Some(UnixName::Path(path)) = host.admin.as_ref().map(|admin| &admin.address) else {
        return Ok(None);
    };
    match AdminLock::take(path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ LockError::Held { .. }) => Err(error).or_mistake(),
        Err(error) => Err(error.into()),
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
