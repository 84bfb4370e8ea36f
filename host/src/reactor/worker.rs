//! Workers: the threads that everything runs on.

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    thread,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
};

use super::{
    connection::Connection,
    datagram::Socket,
    holdings::Program,
    outbox::BufferPool,
    resolver::Resolver,
    turns::{self, Lane, Turns},
};
use crate::{
    limits::READ_SIZE,
    transport::udp::{Arrivals, Departures},
};

/// What the tasks of one worker thread share.
pub struct Worker {
    turns: Rc<Turns>,
    /// Services whose connections have something to write.
    dirty: RefCell<VecDeque<Rc<Lane>>>,
    /// Those connections, all together.
    dirty_connections: Cell<usize>,
    flusher: RefCell<Option<Waker>>,
    /// Where every connection of the worker reads into; empty while one does.
    read_buffer: Cell<Vec<u8>>,
    pool: RefCell<BufferPool>,
    /// By the servers that they ask: as many as services have different ones.
    resolvers: RefCell<HashMap<Vec<SocketAddr>, Rc<Resolver>>>,
    /// Sockets with something to send, since the last turn.
    dirty_sockets: RefCell<Vec<Rc<Socket>>>,
    arrivals: RefCell<Arrivals>,
    departures: RefCell<Departures>,
}

/// The way to a worker from other threads.
#[derive(Clone, Debug)]
pub(crate) struct WorkerHandle {
    jobs: mpsc::UnboundedSender<Job>,
}

type Job = Box<dyn FnOnce(&Rc<Worker>) + Send>;

impl Worker {
    /// Makes the worker of the current thread and starts its flusher. Must be called within a `LocalRuntime`.
    pub fn start() -> Rc<Self> {
        let worker = Rc::new(Self {
            turns: Turns::new(),
            dirty: RefCell::default(),
            dirty_connections: Cell::default(),
            flusher: RefCell::default(),
            read_buffer: Cell::default(),
            pool: RefCell::default(),
            resolvers: RefCell::default(),
            dirty_sockets: RefCell::default(),
            arrivals: RefCell::default(),
            departures: RefCell::default(),
        });
        tokio::task::spawn_local(tokio::task::unconstrained(worker.clone().flush()));
        tokio::task::spawn_local(tokio::task::unconstrained(worker.turns.clone().keep()));
        worker
    }

    /// Returns a service's part in it.
    pub(crate) fn lane(&self, program: &Arc<Program>) -> Rc<Lane> {
        self.turns.lane(program)
    }

    pub(super) fn mark_dirty(&self, connection: &Rc<Connection>) {
        let lane = connection.lane();
        let is_first = lane.mark_dirty(connection);
        let connections = self.dirty_connections.get();
        self.dirty_connections.set(connections + 1);
        if is_first {
            self.dirty.borrow_mut().push_back(lane.clone());
            if connections == 0
                && let Some(flusher) = &*self.flusher.borrow()
            {
                flusher.wake_by_ref();
            }
        }
    }

    pub(super) fn mark_dirty_socket(&self, socket: &Rc<Socket>) {
        if let Some(flusher) = &*self.flusher.borrow() {
            flusher.wake_by_ref();
        }
        self.dirty_sockets.borrow_mut().push(socket.clone());
    }

    /// Returns what the worker's sockets received last.
    pub(super) fn arrivals(&self) -> Ref<'_, Arrivals> {
        self.arrivals.borrow()
    }

    /// Returns where the worker's sockets receive into; no handler is called meanwhile.
    pub(super) fn arrivals_mut(&self) -> RefMut<'_, Arrivals> {
        self.arrivals.borrow_mut()
    }

    /// Returns what the worker's sockets send with.
    pub(super) fn departures(&self) -> RefMut<'_, Departures> {
        self.departures.borrow_mut()
    }

    /// Returns the time in seconds since some start, never 0; cheap, and a tick behind.
    pub(super) fn second(&self) -> u64 {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        u64::try_from(now.tv_sec).unwrap_or(0) + 1
    }

    pub(super) fn dirty_connections(&self) -> usize {
        self.dirty_connections.get()
    }

    pub(super) fn take_read_buffer(&self) -> Vec<u8> {
        let mut buffer = self.read_buffer.take();
        if buffer.is_empty() {
            buffer.resize(READ_SIZE, 0);
        }
        buffer
    }

    pub(super) fn give_read_buffer(&self, buffer: Vec<u8>) {
        self.read_buffer.set(buffer);
    }

    pub(super) fn pool(&self) -> RefMut<'_, BufferPool> {
        self.pool.borrow_mut()
    }

    /// Returns the resolver that asks these name servers; none: those of the system.
    pub(super) fn resolver(&self, servers: &[SocketAddr]) -> Rc<Resolver> {
        let mut resolvers = self.resolvers.borrow_mut();
        let resolver = resolvers
            .entry(servers.to_vec())
            .or_insert_with(|| Rc::new(Resolver::new(servers)));
        resolver.clone()
    }

    /// Writes, once a turn, what the turn queued. The first dirty connection wakes it, and it runs after the tasks that are ready
    /// already: 50 lines to one peer cost one system call. A service that wrote to thousands of connections is in the way of no other: each gets a part in turn,
    /// and other tasks get theirs between.
    async fn flush(self: Rc<Self>) {
        let mut sockets = Vec::new();
        std::future::poll_fn::<(), _>(|cx| {
            let mut flusher = self.flusher.borrow_mut();
            if !flusher
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *flusher = Some(cx.waker().clone());
            }
            drop(flusher);
            self.flush_some();
            if !self.dirty.borrow().is_empty() {
                cx.waker().wake_by_ref();
            }
            std::mem::swap(&mut sockets, &mut *self.dirty_sockets.borrow_mut());
            for socket in sockets.drain(..) {
                socket.flush();
            }
            Poll::Pending
        })
        .await;
    }
}

impl Worker {
    fn flush_some(&self) {
        for _ in 0..PARTS_PER_TURN {
            let Some(lane) = self.dirty.borrow_mut().pop_front() else {
                return;
            };
            lane.enter();
            for _ in 0..FLUSHES_PER_PART {
                let Some(connection) = lane.next_dirty() else {
                    break;
                };
                let connections = self.dirty_connections.get();
                self.dirty_connections.set(connections.saturating_sub(1));
                connection.flush();
            }
            if lane.is_dirty() {
                self.dirty.borrow_mut().push_back(lane);
            }
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

impl WorkerHandle {
    /// Starts a worker thread.
    pub(crate) fn spawn(index: usize) -> io::Result<Self> {
        let runtime_error = |error: io::Error| {
            io::Error::new(error.kind(), format!("starting worker {index}: {error}"))
        };
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (started, result) = std::sync::mpsc::channel();
        thread::Builder::new()
            .name(format!("{WORKER}{index}"))
            .spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(BLOCKING_THREADS)
                    .on_thread_park(turns::is_nobodys)
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        // The host that waits for this has gone if it cannot be told.
                        let _gone = started.send(Ok(()));
                        runtime.block_on(work(inbox));
                    }
                    Err(error) => {
                        let _gone = started.send(Err(error));
                    }
                }
            })
            .map_err(runtime_error)?;
        result
            .recv()
            .map_err(|_| io::Error::other(format!("worker {index} ended before it started")))?
            .map_err(runtime_error)?;
        Ok(Self { jobs })
    }

    /// Runs a job on the worker. Does nothing if the worker has ended, which it does only with the host.
    pub(crate) fn run(&self, job: impl FnOnce(&Rc<Worker>) + Send + 'static) {
        let _ended = self.jobs.send(Box::new(job));
    }

    /// Runs a job on the worker and waits for what it makes.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Rc<Worker>, oneshot::Sender<T>) + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.run(move |worker| job(worker, sender));
        receiver.await.ok()
    }
}

/// Ends the process when a worker panics. That is a bug of the host; tokio would catch it, and a task that everything else depends on would be missing
/// without a word. A supervisor starts the process again.
pub(crate) fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = thread::current();
        if thread.name().is_some_and(|name| name.starts_with(WORKER)) {
            std::process::abort();
        }
    }));
}

/// Threads of one worker for calls that block: 64, so that slow ones of one service leave some for the others.
const BLOCKING_THREADS: usize = 64;

/// Connections of one service that are flushed before those of the next: 64, some 300 µs.
const FLUSHES_PER_PART: usize = 64;

/// Parts that are flushed before the other tasks have their turn: 8.
const PARTS_PER_TURN: usize = 8;

/// What the names of worker threads begin with.
const WORKER: &str = "nethost-worker-";

async fn work(mut inbox: mpsc::UnboundedReceiver<Job>) {
    let worker = Worker::start();
    while let Some(job) = inbox.recv().await {
        turns::is_nobodys();
        job(&worker);
    }
}
