//! Services: a plugin with its listeners, grants, limits and config, from start to stop.

mod listening;

mod slot;

mod swap;

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    rc::Rc,
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use listening::{Listening, Socket};
use slot::Slot;
pub use swap::{SwapError, Swapped};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    endpoint::Endpoint,
    instance::StartError,
    manifest::Isolation,
    metrics::registry::{Registration, Registry},
    plugin::Plugin,
    reactor::{Handler, Holdings, Program, WorkerHandle, abort_on_panic},
    tls::{TlsError, watch::Watch},
};

/// The worker threads, and the services on them.
#[derive(Debug)]
pub struct Host {
    workers: Vec<WorkerHandle>,
    services: AtomicUsize,
    registry: Arc<Registry>,
}

/// What a service is to be.
#[derive(Debug)]
pub struct ServiceSpec {
    /// Name, limits and grants.
    pub program: Program,
    /// What answers its connections.
    pub protocol: Protocol,
    /// Where it listens.
    pub listen: Vec<Endpoint>,
    /// How many instances there are.
    pub isolation: Isolation,
}

/// What answers a service's connections.
#[derive(Clone)]
pub enum Protocol {
    /// A plugin, and its config as JSON.
    Plugin {
        /// The plugin.
        plugin: Arc<Plugin>,
        /// The JSON object that `configure` gets.
        config: Arc<str>,
    },
    /// Native code: what the benchmarks compare the sandbox with.
    Native(NativeProtocol),
}

/// Makes the native handler of one worker.
pub type NativeProtocol = Arc<dyn Fn(&Rc<Holdings>) -> Rc<dyn Handler> + Send + Sync>;

/// A service that runs.
#[derive(Debug)]
pub struct Service {
    id: ServiceId,
    program: Arc<Program>,
    registration: Registration,
    /// The workers that have an instance of it, by their index.
    workers: BTreeMap<usize, WorkerHandle>,
    listening: Listening,
    stop: watch::Sender<bool>,
    /// None if no listener has certificates.
    certificates: Option<Watch>,
    /// One swap at a time.
    swapping: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ServiceId(usize);

/// Why a service did not start.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// It cannot listen.
    #[error("listening on {endpoint}")]
    Listen {
        /// Where.
        endpoint: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The certificates of a listener cannot be loaded.
    #[error("the certificates of {endpoint}")]
    Tls {
        /// Where.
        endpoint: String,
        /// Why not.
        #[source]
        error: TlsError,
    },
    /// The isolation is not there yet.
    #[error("isolation `{0}` is not implemented yet; use `worker` or `service`")]
    Isolation(Isolation),
    /// The plugin did not start.
    #[error("plugin `{service}` did not start")]
    Start {
        /// The service.
        service: String,
        /// Why not.
        #[source]
        error: StartError,
    },
    /// The plugin has no use for a listener.
    #[error(
        "listening on {endpoint}: {service} takes no datagrams: it exports no `datagram-handler`"
    )]
    NoDatagrams {
        /// The service.
        service: String,
        /// The listener.
        endpoint: String,
    },
    /// A worker thread has ended, which it does only when the host itself is broken.
    #[error("a worker thread has ended")]
    WorkerEnded,
}

impl ServiceError {
    /// Returns whether the operator can mend it by calling differently: the plugin refused its config, or has no use for a listener; the isolation
    /// is not there; or certificates are not in order.
    pub fn is_mistake(&self) -> bool {
        matches!(
            self,
            Self::Isolation(_)
                | Self::Tls { .. }
                | Self::NoDatagrams { .. }
                | Self::Start {
                    error: StartError::Refused { .. },
                    ..
                }
        )
    }
}

impl Host {
    /// Starts the workers.
    ///
    /// A panic on one of them ends the process: it is a bug of the host, and half a host is worse than one that is started again.
    pub fn start(workers: NonZeroUsize) -> io::Result<Self> {
        static ABORT_ON_PANIC: Once = Once::new();
        ABORT_ON_PANIC.call_once(abort_on_panic);
        let workers = (0..workers.get())
            .map(WorkerHandle::spawn)
            .collect::<io::Result<Vec<_>>>()?;
        let registry = Registry::new(&workers, Slot::sample_all);
        Ok(Self {
            workers,
            registry,
            services: AtomicUsize::new(0),
        })
    }

    /// Returns what is counted here, and how far the services have come.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Starts a service: binds its sockets, makes its instances, and only then accepts.
    pub async fn serve(&self, spec: ServiceSpec) -> Result<Service, ServiceError> {
        let id = ServiceId(self.services.fetch_add(1, Ordering::Relaxed));
        let ServiceSpec {
            program,
            protocol,
            listen,
            isolation,
        } = spec;
        let program = Arc::new(program);
        let workers: BTreeMap<_, _> = match isolation {
            Isolation::Worker => self.workers.iter().cloned().enumerate().collect(),
            // One service after the other, so that they spread over the workers.
            Isolation::Service => {
                let index = id.0 % self.workers.len().max(1);
                self.workers
                    .get(index)
                    .map(|worker| (index, worker.clone()))
                    .into_iter()
                    .collect()
            }
            Isolation::Connection => return Err(ServiceError::Isolation(isolation)),
        };
        let takes_datagrams = match &protocol {
            Protocol::Plugin { plugin, .. } => plugin.takes_datagrams(),
            Protocol::Native(_) => true,
        };
        let no_datagrams = |endpoint: String| ServiceError::NoDatagrams {
            service: program.service.clone(),
            endpoint,
        };
        let udp = listen.iter().find(|it| matches!(it, Endpoint::Udp(_)));
        if let Some(udp) = udp.filter(|_| !takes_datagrams) {
            return Err(no_datagrams(udp.to_string()));
        }
        let registration = self.registry.register(
            id.0,
            &program.service,
            program.limits.metric_series,
            workers.keys().copied(),
        );
        let (listening, sockets) = Listening::bind(&listen, workers.len()).await?;
        // Of one that somebody else opened it is known only now.
        let udp = sockets.iter().find(|socket| socket.is_datagrams());
        if let Some(udp) = udp.filter(|_| !takes_datagrams) {
            return Err(no_datagrams(udp.listener.url.to_string()));
        }
        let mut service = Service {
            id,
            program,
            registration,
            workers,
            listening,
            stop: watch::Sender::new(false),
            certificates: None,
            swapping: Mutex::new(()),
        };
        service.watch_certificates();
        let mut started = service.open(&protocol).await;
        if started.is_ok() {
            started = service.accept(sockets).await;
        }
        if let Err(error) = started {
            service.forget();
            return Err(error);
        }
        service.registration.listens(service.listening());
        Ok(service)
    }
}

impl Service {
    /// Returns the service's name.
    pub fn name(&self) -> &str {
        &self.program.service
    }

    /// Returns where the service listens, with real ports.
    pub fn listening(&self) -> &[Arc<str>] {
        self.listening.urls()
    }

    /// Loads certificates and users again, without waiting until their files look different. Returns at once; the log says what came of it.
    pub fn reload(&self) {
        self.reload_certificates();
        if let Some(users) = &self.program.grants.users {
            users.reload();
        }
    }

    /// Loads the certificates of every listener again, without waiting until their files look different. Returns at once; the log says what came of it.
    pub fn reload_certificates(&self) {
        match &self.certificates {
            Some(certificates) => certificates.reload(),
            None => tracing::info!(
                service = self.name(),
                "no listener has certificates to load"
            ),
        }
    }

    /// Begins to watch the files of listeners' certificates. If no thread can be had for it, they are loaded again only by a new start.
    fn watch_certificates(&mut self) {
        let listeners = self.listening.certificates();
        if listeners.is_empty() {
            return;
        }
        match Watch::start(self.name(), listeners) {
            Ok(watch) => self.certificates = Some(watch),
            Err(error) => tracing::error!(
                service = self.name(),
                %error,
                "certificates will not be loaded again: no thread can be started"
            ),
        }
    }

    /// Returns once the connections that the service was started with have ended: standard input and output, or sockets that were passed to the process
    /// and are connected. Then there is nothing left to do for whoever started it. Never returns for a service that only listens.
    pub async fn finished(&self) {
        self.listening.streams_ended().await;
    }

    /// Stops accepting, lets the plugin say goodbye, waits for its connections to end, and closes those that are left at the deadline.
    /// Returns how many those were.
    pub async fn drain(self, deadline: Duration) -> usize {
        self.registration.drains();
        self.stop.send_replace(true);
        let id = self.id;
        // First every worker accepts what waits, and hands over what is another's; only then is it certain that no connection comes any more.
        for worker in self.workers.values() {
            worker
                .call(move |_, accepted| {
                    if let Some(slot) = Slot::find(id) {
                        tokio::task::spawn_local(async move {
                            slot.accept_rest().await;
                            // Who waits for it is gone only if the host goes.
                            let _gone = accepted.send(());
                        });
                    }
                })
                .await;
        }
        let (sender, mut counts) = mpsc::unbounded_channel();
        for worker in self.workers.values() {
            let counts = sender.clone();
            worker.run(move |_| {
                if let Some(slot) = Slot::find(id) {
                    tokio::task::spawn_local(async move {
                        // Who waits for it is gone only if the host goes.
                        let _gone = counts.send(slot.drain(deadline).await);
                    });
                }
            });
        }
        drop(sender);
        let mut count = 0;
        while let Some(left) = counts.recv().await {
            count += left;
        }
        if self.listening.has_streams() {
            // Standard output may be behind; a moment more is for one that is read.
            let _elapsed = tokio::time::timeout(LAST_WORDS, self.finished()).await;
        }
        self.forget();
        count
    }

    /// Returns how many connections are open.
    pub async fn connection_count(&self) -> usize {
        let id = self.id;
        let mut count = 0;
        for worker in self.workers.values() {
            let counted = worker.call(move |_, counted| {
                // Who waits for it is gone only if the host goes.
                let _gone = counted.send(Slot::find(id).map_or(0, |slot| slot.connection_count()));
            });
            count += counted.await.unwrap_or(0);
        }
        count
    }

    async fn open(&self, protocol: &Protocol) -> Result<(), ServiceError> {
        let id = self.id;
        for (index, worker) in &self.workers {
            let (program, protocol) = (self.program.clone(), protocol.clone());
            let meters = self.registration.meters(*index);
            worker
                .call(move |worker, opened| {
                    // Who waits for it is gone only if the host goes.
                    let _gone = opened.send(Slot::open(id, worker, program, protocol, meters));
                })
                .await
                .ok_or(ServiceError::WorkerEnded)?
                .map_err(|error| ServiceError::Start {
                    service: self.program.service.clone(),
                    error,
                })?;
        }
        Ok(())
    }

    /// Gives every worker its sockets.
    async fn accept(&self, sockets: Vec<Socket>) -> Result<(), ServiceError> {
        let workers: Vec<_> = self.workers.values().cloned().collect();
        for socket in sockets {
            let Some(worker) = workers.get(socket.worker) else {
                continue;
            };
            let (id, stop) = (self.id, self.stop.subscribe());
            let (endpoint, others) = (socket.listener.url.to_string(), workers.clone());
            worker
                .call(move |_, accepting| {
                    if let Some(slot) = Slot::find(id) {
                        // Who waits for it is gone only if the host goes.
                        let _gone = accepting.send(slot.accept(socket, &others, stop));
                    }
                })
                .await
                .ok_or(ServiceError::WorkerEnded)?
                .map_err(|error| ServiceError::Listen { endpoint, error })?;
        }
        Ok(())
    }

    fn forget(&self) {
        let id = self.id;
        for worker in self.workers.values() {
            worker.run(move |_| Slot::close(id));
        }
    }
}

impl std::fmt::Debug for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plugin { plugin, .. } => plugin.fmt(f),
            Self::Native(_) => f.write_str("Native"),
        }
    }
}

/// How long a drain waits for standard output after the connection has ended: 1 s, as long as a socket's last bytes have.
const LAST_WORDS: Duration = Duration::from_secs(1);
