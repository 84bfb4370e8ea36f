//! Services: a plugin with its listeners, grants, limits and config, from start to stop.

mod admitting;

mod alone;

mod backoff;

mod door;

mod establishing;

mod listening;

mod moving;

mod pool;

mod rehearsal;

pub(crate) mod remote;

mod slot;

mod supervise;

mod swap;

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use door::Door;
use listening::{Listening, Socket};
use pool::Admission;
pub use pool::PoolError;
use slot::Slot;
use swap::Swapping;
pub use swap::{Policy, SwapError, SwapOptions, Swapped};
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::{
    endpoint::Endpoint,
    instance::StartError,
    manifest::Isolation,
    metrics::{
        health::Health,
        registry::{Registration, Registry},
    },
    plugin::Plugin,
    reactor::{Handler, Holdings, Program, WorkerHandle, abort_on_panic},
    tls::TlsError,
    watch::Watch,
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
    registration: Arc<Registration>,
    /// The workers that have an instance of it, by their index.
    workers: BTreeMap<usize, WorkerHandle>,
    listening: Listening,
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    /// None if no listener has certificates.
    certificates: Option<Watch>,
    swapping: Arc<Swapping>,
    isolation: Isolation,
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
    /// The plugin cannot have an instance for each connection.
    #[error("isolation `connection` of {service}")]
    Pool {
        /// The service.
        service: String,
        /// Why not.
        #[source]
        error: PoolError,
    },
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
            Self::Pool { .. }
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
        self.stage(spec, &[], &[]).await?.accept().await
    }

    /// Does everything that can go wrong at a start: binds sockets and makes instances, which are configured.
    pub async fn stage(
        &self,
        spec: ServiceSpec,
        predecessors: &[&Service],
        earlier: &[&Staged],
    ) -> Result<Staged, ServiceError> {
        let bound = self.bind(spec, predecessors, earlier).await?;
        bound.open().await
    }

    /// Binds the sockets of a service; nothing of its plugin runs yet. Where one of the predecessors listens already, and no one of `earlier` has taken that, its
    /// sockets are shared; it goes on as if nothing was.
    pub async fn bind(
        &self,
        spec: ServiceSpec,
        predecessors: &[&Service],
        earlier: &[&Staged],
    ) -> Result<Bound, ServiceError> {
        let id = ServiceId(self.services.fetch_add(1, Ordering::Relaxed));
        let ServiceSpec {
            program,
            protocol,
            listen,
            isolation,
        } = spec;
        let program = Arc::new(program);
        let workers: BTreeMap<_, _> = match isolation {
            Isolation::Worker | Isolation::Connection => {
                self.workers.iter().cloned().enumerate().collect()
            }
            // One service after the other, so that they spread over the workers.
            Isolation::Service => {
                let index = id.0 % self.workers.len().max(1);
                self.workers
                    .get(index)
                    .map(|worker| (index, worker.clone()))
                    .into_iter()
                    .collect()
            }
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
        let stop = watch::Sender::new(false);
        let swapping = Swapping::new(&protocol, stop.subscribe());
        let (protocol, pool) = match isolation {
            Isolation::Connection => pooled(protocol, &program, workers.len())?,
            Isolation::Worker | Isolation::Service => (protocol, None),
        };
        let door = Door::new(&program.limits, pool);
        let registration = self.registry.register(
            id.0,
            &program.service,
            program.limits.metric_series,
            swapping.plugin.clone(),
            workers.keys().copied(),
        );
        let predecessors: Vec<_> = predecessors.iter().map(|it| &it.listening).collect();
        let taken = earlier.iter().flat_map(|it| it.service.listening.taken());
        let taken: Vec<_> = taken.cloned().collect();
        let bound = Listening::bind(&listen, workers.len(), &predecessors, &taken).await;
        let (listening, sockets) = bound?;
        // Of one that somebody else opened it is known only now.
        let udp = sockets.iter().find(|socket| socket.is_datagrams());
        if let Some(udp) = udp.filter(|_| !takes_datagrams) {
            return Err(no_datagrams(udp.listener.url.to_string()));
        }
        let mut service = Service {
            id,
            program,
            registration: Arc::new(registration),
            workers,
            listening,
            door,
            stop,
            certificates: None,
            swapping,
            isolation,
        };
        service.watch_certificates();
        Ok(Bound {
            service,
            protocol,
            sockets,
        })
    }
}

/// A service whose sockets are bound.
#[derive(Debug)]
pub struct Bound {
    service: Service,
    protocol: Protocol,
    sockets: Vec<Socket>,
}

impl Bound {
    /// Returns the files of its UNIX sockets.
    pub fn socket_files(&self) -> impl Iterator<Item = &Path> {
        self.service.listening.files()
    }

    /// Makes its instances, which are configured.
    pub async fn open(self) -> Result<Staged, ServiceError> {
        let Self {
            service,
            protocol,
            sockets,
        } = self;
        let opened = service.open(&protocol).await;
        let staged = Staged { service, sockets };
        match opened {
            Ok(()) => Ok(staged),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }
}

/// A service that could accept, and does not yet.
#[derive(Debug)]
pub struct Staged {
    service: Service,
    sockets: Vec<Socket>,
}

impl Staged {
    /// Accepts from now on.
    pub async fn accept(self) -> Result<Service, ServiceError> {
        let Self { service, sockets } = self;
        if let Err(error) = service.accept(sockets).await {
            service.forget();
            return Err(error);
        }
        service.listening.adjust();
        service.registration.listens(service.listening());
        Ok(service)
    }

    /// Ends its instances. Who shares sockets with it keeps them.
    pub fn discard(self) {
        self.service.forget();
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

    /// Stops accepting where a successor does now, without closing a socket: what waits in the queue is the successor's. Datagrams are left to it too.
    pub async fn let_go(&mut self, successors: &[&Self]) {
        let taken = successors.iter().flat_map(|it| it.listening.taken());
        let taken: Arc<[Arc<str>]> = taken.cloned().collect();
        self.listening.let_go(&taken);
        let id = self.id;
        for worker in self.workers.values() {
            let taken = taken.clone();
            let let_go = worker.call(move |_, let_go| {
                if let Some(slot) = Slot::find(id) {
                    slot.let_go(&taken);
                }
                // Who waits for it is gone only if the host goes.
                let _gone = let_go.send(());
            });
            // A worker that is gone accepts nothing.
            let _gone = let_go.await;
        }
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
    pub async fn drain(mut self, deadline: Duration) -> usize {
        self.listening.close_spare();
        self.registration.drains();
        self.stop.send_replace(true);
        let begun = Instant::now();
        let swapping = self.swapping.clone();
        // A swap that has begun comes to its end first; none begins any more.
        let _alone = swapping.alone.lock().await;
        let deadline = deadline.saturating_sub(begun.elapsed());
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

    /// Returns whether connections are taken, and if not why not and when the next instance is made. Asks no worker, so one that hangs holds nobody up.
    pub fn health(&self) -> Health {
        self.registration.health()
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
            let door = self.door.clone();
            let meters = self.registration.meters(*index);
            worker
                .call(move |worker, opened| {
                    let slot = Slot::open(id, worker, program, protocol, door, meters);
                    // Who waits for it is gone only if the host goes.
                    let _gone = opened.send(slot);
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
        for (index, worker) in &self.workers {
            // The last worker lets go of it, so it leaves the registry with all that was counted.
            let (index, registration) = (*index, self.registration.clone());
            worker.run(move |_| {
                if let Some(counted) = Slot::close(id) {
                    registration.ended(index, counted);
                }
            });
        }
    }
}

/// Loads a plugin into a pool of instances. Native code has no instances, so it needs none.
fn pooled(
    protocol: Protocol,
    program: &Program,
    spare: usize,
) -> Result<(Protocol, Option<Arc<Admission>>), ServiceError> {
    let Protocol::Plugin { plugin, config } = protocol else {
        return Ok((protocol, None));
    };
    let made = Admission::make(&plugin, &program.limits, spare);
    let (admission, plugin) = made.map_err(|error| ServiceError::Pool {
        service: program.service.clone(),
        error,
    })?;
    let plugin = Arc::new(plugin);
    Ok((Protocol::Plugin { plugin, config }, Some(admission)))
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
