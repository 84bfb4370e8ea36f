//! What the host holds for an instance, and keeps when the instance is swapped for another: its connections, and its operations in flight.

mod operations;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use operations::Found;
pub(super) use operations::{Operation, Work};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    accounts::Logins,
    connection::{Connection, ListenerTls},
    datagram::Socket,
    disk::Disk,
    handler::{CloseReason, Handler, Id, Origin, Outcome},
    resolver::Resolver,
    succession::Versions,
    turns::Lane,
    worker::Worker,
};
use crate::{
    command::Console,
    config::Secrets,
    grants::Grants,
    limits::Limits,
    metrics::meters::{Limit, Meters},
    tls::client::ClientTls,
    transport::{Address, Transport, udp::Udp},
};

/// What the reactor must know of a service.
#[derive(Debug)]
pub struct Program {
    /// The service's name, for the log.
    pub service: String,
    /// Its limits.
    pub limits: Limits,
    /// What it was granted.
    pub grants: Grants,
    /// Whom it trusts when it connects with TLS.
    pub tls: Arc<ClientTls>,
    /// The name servers that are asked for it. Empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// What must not be in what is told of it.
    pub secrets: Secrets,
}

/// What the host holds for one instance.
#[derive(Debug)]
pub struct Holdings {
    program: Arc<Program>,
    worker: Rc<Worker>,
    /// None before the instance is made, and after it broke.
    handler: RefCell<Option<Rc<dyn Handler>>>,
    last_id: Cell<u64>,
    /// What tells these holdings' TLS tickets from others.
    nonce: [u8; 8],
    /// What tells them from others of the process, to an operator.
    serial: u64,
    connections: RefCell<HashMap<Id, Rc<Connection>>>,
    sockets: RefCell<HashMap<Id, Rc<Socket>>>,
    /// Connections that are being made.
    dialing: Cell<usize>,
    /// The connection in whose callback the instance is.
    current: Cell<Option<Id>>,
    pub(super) operations: RefCell<HashMap<Id, Operation>>,
    timers: RefCell<BTreeSet<(Instant, Id)>>,
    /// Outcomes that were certain at once; they wait until the callback that started them has returned.
    outcomes: RefCell<VecDeque<(Id, Outcome)>>,
    results: RefCell<HashMap<Id, Found>>,
    pub(super) disk: Disk,
    pub(super) logins: Logins,
    /// None unless this is a command.
    pub(super) console: OnceCell<Rc<Console>>,
    pub(super) versions: Versions,
    changed: Notify,
    ended: Cell<bool>,
    /// How the instance broke.
    fault: RefCell<Option<String>>,
    /// Connections that are lost, and whose last bytes are on their way.
    lingering: Cell<usize>,
    /// Memberships in groups, all groups together.
    memberships: Cell<usize>,
    empty: Notify,
    resolver: Rc<Resolver>,
    /// Look-ups that ask a name server wait for one of these.
    look_ups: Arc<Semaphore>,
    meters: Arc<Meters>,
    lane: Rc<Lane>,
    /// Processor time of each call that sets up.
    setup_time: Cell<Duration>,
}

impl Holdings {
    /// Makes holdings without a handler, and starts the task that completes operations.
    pub fn new(program: Arc<Program>, worker: Rc<Worker>, meters: Arc<Meters>) -> Rc<Self> {
        let resolver = worker.resolver(&program.name_servers);
        let disk = Disk::new(&program.limits);
        let lane = worker.lane(&program);
        let holdings = Rc::new(Self {
            setup_time: Cell::new(program.limits.setup_time),
            lane,
            program,
            worker,
            handler: RefCell::new(None),
            last_id: Cell::new(0),
            nonce: nonce(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            connections: RefCell::default(),
            sockets: RefCell::default(),
            dialing: Cell::new(0),
            current: Cell::new(None),
            operations: RefCell::default(),
            timers: RefCell::default(),
            outcomes: RefCell::default(),
            results: RefCell::default(),
            disk,
            logins: Logins::default(),
            console: OnceCell::new(),
            versions: Versions::default(),
            changed: Notify::new(),
            ended: Cell::new(false),
            fault: RefCell::default(),
            lingering: Cell::new(0),
            memberships: Cell::new(0),
            empty: Notify::new(),
            resolver,
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            meters,
        });
        tokio::task::spawn_local(holdings.clone().drive());
        holdings
    }

    /// Returns what the service is.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the handler, unless it broke.
    pub fn handler(&self) -> Option<Rc<dyn Handler>> {
        self.handler.borrow().clone()
    }

    /// Puts a handler in the place of the one that was there, if any.
    pub fn set_handler(&self, handler: Rc<dyn Handler>) {
        *self.handler.borrow_mut() = Some(handler);
    }

    /// Returns how many connections are open.
    pub fn connection_count(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Returns the number that these holdings alone have in the process.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Returns one of the open connections.
    pub(crate) fn connection_of(&self, id: Id) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&id).cloned()
    }

    /// Returns the ids of the open connections.
    pub(crate) fn connection_ids(&self) -> Vec<Id> {
        self.connections.borrow().keys().copied().collect()
    }

    /// Returns the handler, and the one that sessions have stayed with at a swap, if there is one.
    pub(crate) fn handlers(&self) -> impl Iterator<Item = Rc<dyn Handler>> {
        [self.handler(), self.versions.elder()]
            .into_iter()
            .flatten()
    }

    /// Returns the open connections.
    pub fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }

    /// Ends accepted connections of which no byte has moved for the time that the limits say; this is called once in every `period`.
    pub(crate) fn end_idle(&self, period: Duration) {
        for connection in self.connections() {
            connection.end_if_idle(period);
        }
    }

    /// Returns the open datagram sockets.
    pub fn sockets(&self) -> Vec<Rc<Socket>> {
        self.sockets.borrow().values().cloned().collect()
    }

    /// Makes a socket the handler's: it gets an endpoint. None if the handler has no use for it, or broke. Somebody must
    /// [pump](Socket::pump) it.
    pub(crate) fn open(self: &Rc<Self>, udp: &Rc<Udp>, origin: Origin) -> Option<Rc<Socket>> {
        let handler = self.handler()?;
        let id = self.next_id();
        let socket = Socket::new(self.worker.clone(), self.clone(), id, udp.clone(), origin);
        self.sockets.borrow_mut().insert(id, socket.clone());
        let endpoint = handler.endpoint_made(&socket, socket.origin());
        if endpoint.is_none() {
            // The handle that it got must do nothing any more.
            socket.end(CloseReason::Trapped);
            self.socket_closed(id);
            return None;
        }
        socket.set_endpoint(endpoint);
        Some(socket)
    }

    /// Forgets a socket that is closed.
    pub(super) fn socket_closed(&self, id: Id) {
        self.sockets.borrow_mut().remove(&id);
        self.empty.notify_waiters();
        self.look();
    }

    /// Returns the service's part in the worker's time.
    pub(super) fn lane(&self) -> &Rc<Lane> {
        &self.lane
    }

    /// Returns once it is the service's turn to have its guest called.
    pub(crate) async fn turn(&self) {
        self.lane.turn().await;
    }

    /// Returns how long each call that sets up may take.
    pub(crate) fn setup_time(&self) -> Duration {
        self.setup_time.get()
    }

    /// Others are being served while this instance is set up, so it has no more time for it than another one took before, and half as much again; but as much as a
    /// callback always.
    pub(crate) fn quick_setup(&self, took_before: Duration) {
        let limits = &self.program.limits;
        let time = (took_before.saturating_mul(3) / 2).max(limits.callback_time);
        self.setup_time.set(time.min(limits.setup_time));
    }

    /// The instance is there, and what else sets up is not known to be quick: another version, or the state that it takes over.
    pub(crate) fn usual_setup(&self) {
        self.setup_time.set(self.program.limits.setup_time);
    }

    /// Returns the counters, which only this worker writes.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// Returns how many operations are in flight, and how many of them are timers.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.operations.borrow().len(), self.timers.borrow().len())
    }

    /// Notes in whose callback the instance is, so that what it starts is that connection's. Returns what was noted before.
    pub fn enter(&self, connection: Option<Id>) -> Option<Id> {
        self.current.replace(connection)
    }

    /// Returns what [`Self::enter`] noted last.
    pub(crate) fn entered(&self) -> Option<Id> {
        self.current.get()
    }

    /// Returns the connection in whose callback the instance is.
    pub(super) fn current_connection(&self) -> Option<Rc<Connection>> {
        let id = self.current.get()?;
        self.connections.borrow().get(&id).cloned()
    }

    /// Takes a stream in as a connection, and returns what serves it until it ends.
    pub(crate) fn accept(
        self: &Rc<Self>,
        id: Id,
        transport: Transport,
        addresses: (Address, Address),
        origin: Origin,
        server_tls: ListenerTls,
    ) -> impl Future<Output = ()> + use<> {
        self.connection(id, Some(transport), addresses, server_tls)
            .pump(origin)
    }

    /// Makes a connection that leads nowhere: what is written to it stays. For benchmarks of the boundary alone.
    pub fn detached(self: &Rc<Self>) -> Rc<Connection> {
        let nowhere = (Address::Path(None), Address::Path(None));
        self.connection(self.next_id(), None, nowhere, None)
    }

    fn connection(
        self: &Rc<Self>,
        id: Id,
        transport: Option<Transport>,
        addresses: (Address, Address),
        server_tls: ListenerTls,
    ) -> Rc<Connection> {
        let connection = Connection::new(
            self.worker.clone(),
            self.clone(),
            id,
            transport,
            addresses,
            server_tls,
        );
        self.connections.borrow_mut().insert(id, connection.clone());
        connection
    }

    /// Returns what a client of a connection's TLS brings back when it resumes the session.
    pub(crate) fn ticket(&self, connection: Id) -> [u8; 16] {
        let mut ticket = [0; 16];
        let (nonce, id) = ticket.split_at_mut(8);
        nonce.copy_from_slice(&self.nonce);
        id.copy_from_slice(&connection.0.to_be_bytes());
        ticket
    }

    /// Returns the connection that a ticket was given to; none if it was not one of these.
    pub(super) fn read_ticket(&self, ticket: &[u8]) -> Option<Id> {
        let id = ticket.strip_prefix(&self.nonce)?;
        Some(Id(u64::from_be_bytes(id.try_into().ok()?)))
    }

    /// Forgets a connection that is lost, and cancels its operations.
    pub(super) fn lost(&self, connection: &Connection) {
        self.connections.borrow_mut().remove(&connection.id());
        self.logins.lost(connection.id());
        for id in connection.operations().take() {
            self.cancel(id);
        }
        self.lingering.set(self.lingering.get() + 1);
        if self.connections.borrow().is_empty() {
            self.empty.notify_waiters();
            self.look();
        }
    }

    /// A command may wait for nothing any more.
    fn look(&self) {
        if let Some(console) = self.console.get() {
            console.look();
        }
    }

    /// A lost connection's last bytes have gone, or were given up.
    pub(super) fn lingered(&self) {
        self.lingering.set(self.lingering.get().saturating_sub(1));
        if self.lingering.get() == 0 {
            self.empty.notify_waiters();
        }
    }

    /// Counts a membership of a group, unless there are too many.
    pub(crate) fn admit_member(&self) -> bool {
        let most = self.program.limits.memberships + self.versions.doubled();
        let admitted = self.memberships.get() < most;
        if admitted {
            self.memberships.set(self.memberships.get() + 1);
        } else {
            self.meters.limits.count(Limit::Memberships);
        }
        admitted
    }

    pub(super) fn membership_count(&self) -> usize {
        self.memberships.get()
    }

    pub(super) fn member_left(&self) {
        self.memberships
            .set(self.memberships.get().saturating_sub(1));
    }

    /// The instance broke: its connections end, its operations are forgotten, and it is not called again.
    pub fn fail(&self) {
        self.finish(&CloseReason::Trapped);
    }

    /// Notes how the instance broke, for whoever asks later.
    pub(crate) fn note_fault(&self, fault: String) {
        *self.fault.borrow_mut() = Some(fault);
    }

    /// Returns how the instance broke.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Returns once the instance broke, or was told to finish.
    pub(crate) async fn finished(&self) {
        loop {
            let finished = self.empty.notified();
            if self.ended.get() {
                return;
            }
            finished.await;
        }
    }

    /// Closes every connection and socket with the reason, and forgets the handler once it was told.
    pub fn finish(&self, reason: &CloseReason) {
        if *reason == CloseReason::Trapped {
            // The caller may be the handler itself: it holds a reference of its own until it returns.
            self.handler.borrow_mut().take();
            self.end_probation();
            self.dismiss_elder();
        }
        for connection in self.connections.borrow().values() {
            connection.end(reason.clone());
        }
        for socket in self.sockets.borrow().values() {
            socket.end(reason.clone());
        }
        self.ended.set(true);
        self.changed.notify_one();
        self.empty.notify_waiters();
    }

    /// Returns once no connection is open.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.empty.notified();
            if self.connections.borrow().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns once no connection and no datagram socket is open.
    pub async fn closed(&self) {
        loop {
            let emptied = self.empty.notified();
            if self.connections.borrow().is_empty() && self.sockets.borrow().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns once no lost connection has last bytes on their way, which is a second after the last was lost at the latest.
    pub async fn settled(&self) {
        loop {
            let settled = self.empty.notified();
            if self.lingering.get() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Returns an id for something new.
    pub fn next_id(&self) -> Id {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        Id(id)
    }

    /// Returns whether so many operations are in flight that not even a refusal can be noted for a further one.
    pub(crate) fn is_overrun(&self) -> bool {
        let noted = self.operations.borrow().len();
        let waiting = self.outcomes.borrow().len();
        noted.max(waiting) >= 2 * self.program.limits.operations
    }

    /// Returns whether a further connection or socket would be one too many; connections that are being made count as well, for they take sockets.
    /// `more` is what else takes their place.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        let open = self.connections.borrow().len() + self.sockets.borrow().len();
        open + self.dialing.get() + more >= self.program.limits.connections
    }
}

/// Look-ups of one instance that ask a name server at a time; further ones wait, so that slow ones of one service leave some for the others.
const LOOK_UPS: usize = 16;

/// The serial of the next holdings.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// 64 random bits. Without randomness the tickets of two instances look alike, and a plugin may be told the wrong connection's id.
fn nonce() -> [u8; 8] {
    let mut nonce = [0; 8];
    if let Err(error) = getrandom(&mut nonce, GetRandomFlags::empty()) {
        tracing::warn!(%error, "no randomness for the tickets of TLS");
    }
    nonce
}

impl std::fmt::Debug for dyn Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}
