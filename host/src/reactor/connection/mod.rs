//! A connection: what a plugin sees of a byte stream, and the pump that moves its bytes.
//!
//! The plugin's side (`write`, `close`, ...) only queues and sets marks. Two things act on them: the worker's flusher, which once a turn
//! writes what was queued, one `writev` a connection, and the connection's own pump, a task that reads, waits for the kernel to take
//! more, and ends the connection.

mod pump;

mod report;

mod steps;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
pub(crate) use report::ConnectionReport;
use report::Tally;
pub(crate) use steps::ListenerTls;
pub use steps::TlsRole;
use steps::{Intake, Steps};
use tokio::time::{Instant, Sleep};

use super::{
    group::Group,
    handler::{CloseReason, Handler, Id, SessionKey},
    holdings::Holdings,
    outbox::Outbox,
    turns::{Lane, Place},
    worker::Worker,
};
use crate::{
    limits::{HIGH_WATER, LOW_WATER},
    transport::{Address, Transport},
};

/// A byte stream that the host owns. Everything that a swap must keep of it is here.
#[derive(Debug)]
pub struct Connection {
    id: Id,
    local: Address,
    peer: Address,
    worker: Rc<Worker>,
    holdings: Rc<Holdings>,
    session: Cell<Option<SessionKey>>,
    /// The session is that of the version before the last swap.
    stays: Cell<bool>,
    /// The session had a callback since the last swap.
    touched: Cell<bool>,
    /// What it can show a peer when it becomes the server of TLS.
    server_tls: ListenerTls,
    /// It came to a listener, and was not dialed.
    accepted: Cell<bool>,
    /// None once the connection is lost.
    transport: RefCell<Option<Transport>>,
    outbox: RefCell<Outbox>,
    /// What comes after the outbox.
    steps: RefCell<Steps>,
    /// Where received bytes go, if not to the session.
    intake: RefCell<Option<Intake>>,
    phase: Cell<Phase>,
    reading: Cell<Reading>,
    writing: Cell<Writing>,
    /// The unsent bytes reached the high-water mark and have not yet fallen below the low-water mark.
    congested: Cell<bool>,
    /// Connections whose reading waits until this one is no longer congested: what they brought is what waits here.
    holds: RefCell<Holds>,
    /// How many congested connections this one's reading waits for.
    held: Cell<usize>,
    /// The kernel took no more; the pump waits for it, and the flusher leaves this connection alone.
    blocked: Cell<bool>,
    /// In the worker's list of connections to flush.
    dirty: Cell<bool>,
    /// Decided outside of the pump: why the connection must end.
    fate: RefCell<Option<CloseReason>>,
    /// The pump is being polled, and need not be woken.
    pumping: Cell<bool>,
    pump: RefCell<Option<Waker>>,
    /// Where the pump waits for the service's turn.
    place: Place,
    /// How long no byte has moved, as far as looks now and then can tell.
    idle: Cell<Duration>,
    /// No byte has moved yet.
    fresh: Cell<bool>,
    idle_timeout: Cell<Option<Duration>>,
    /// When a byte last moved; kept only while there is an idle timeout.
    last_active: Cell<Option<Instant>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Bytes that moved in bulk since the time to close began.
    moved_closing: Cell<u64>,
    /// By their addresses: a connection may be in a million groups, and leave each.
    groups: RefCell<BTreeMap<usize, Weak<Group>>>,
    /// Operations that end with this connection.
    operations: RefCell<BTreeSet<Id>>,
    tally: Tally,
}

#[derive(Debug)]
enum Holds {
    These(Vec<Rc<Connection>>),
    /// The peer did not catch up in time, and holds nobody until it has.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// `close` was called: what is queued goes out, nothing is read.
    Closing,
    /// Its fate is sealed; the pump ends it in its next turn, and nothing moves until then.
    Doomed,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Flowing,
    /// `pause-reading` was called.
    Paused,
    /// The peer sent its end.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Flowing,
    /// `shutdown-write` was called: the end follows what is queued.
    Ending,
    Ended,
}

// What a plugin calls.
impl Connection {
    /// Returns this connection's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Returns whether the plugin has closed it, and what is queued goes out.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase.get() == Phase::Closing
    }

    /// Returns this side's address.
    pub fn local(&self) -> &Address {
        &self.local
    }

    /// Returns the peer's address.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Queues a copy of the bytes and returns how many are unsent.
    pub fn write(self: &Rc<Self>, data: &[u8]) -> usize {
        if !self.is_writable() {
            return 0;
        }
        {
            let mut steps = self.steps.borrow_mut();
            let pool = &mut self.worker.pool();
            match steps.last(data.len()) {
                None => self.outbox.borrow_mut().push(data, pool),
                Some(after) => after.push(data, pool),
            }
        }
        self.queued()
    }

    /// Queues bytes without copying them.
    pub(super) fn write_shared(self: &Rc<Self>, data: &Bytes) {
        if data.len() < SHARED_FROM {
            self.write(data);
        } else if self.is_writable() {
            match self.steps.borrow_mut().last(data.len()) {
                None => self.outbox.borrow_mut().push_shared(data),
                Some(after) => after.push_shared(data),
            }
            self.queued();
        }
    }

    /// Returns how many bytes are unsent.
    pub fn unsent(&self) -> usize {
        self.outbox.borrow().len() + self.steps.borrow().waiting()
    }

    /// Sends what is queued, then closes.
    pub fn close(&self) {
        if self.phase.get() == Phase::Open {
            self.phase.set(Phase::Closing);
            self.arm_close();
            self.wake();
        }
    }

    /// Sends what is queued, then closes the writing half.
    pub fn shutdown_write(&self) {
        if self.is_writable() {
            self.writing.set(Writing::Ending);
            self.wake();
        }
    }

    /// Closes at once, with a reset.
    pub fn abort(&self) {
        self.end(CloseReason::AbortedHere);
    }

    /// Reads no more until [`Self::resume_reading`].
    pub fn pause_reading(&self) {
        if self.reading.get() == Reading::Flowing {
            self.reading.set(Reading::Paused);
        }
    }

    /// Reads again.
    pub fn resume_reading(&self) {
        if self.reading.get() == Reading::Paused {
            self.reading.set(Reading::Flowing);
            self.wake();
        }
    }

    /// Closes the connection when no byte moved for this long.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        if self.phase.get() == Phase::Open {
            self.idle_timeout.set(timeout);
            let now = timeout.map(|_| Instant::now());
            self.last_active.set(now);
            self.arm(
                now.zip(timeout)
                    .and_then(|(now, timeout)| now.checked_add(timeout)),
            );
            self.wake();
        }
    }

    fn is_writable(&self) -> bool {
        self.phase.get() == Phase::Open && self.writing.get() == Writing::Flowing
    }

    fn queued(self: &Rc<Self>) -> usize {
        let unsent = self.unsent();
        if unsent > self.holdings.program().limits.unsent {
            self.end(CloseReason::Limit(UNSENT));
            return 0;
        }
        if unsent >= HIGH_WATER {
            self.congested.set(true);
            self.hold_source();
        }
        if !self.dirty.get() && !self.blocked.get() && !self.outbox.borrow().is_empty() {
            self.dirty.set(true);
            self.worker.mark_dirty(self);
        }
        unsent
    }
}

// What the rest of the reactor calls.
impl Connection {
    pub(super) fn new(
        worker: Rc<Worker>,
        holdings: Rc<Holdings>,
        id: Id,
        transport: Option<Transport>,
        (local, peer): (Address, Address),
        server_tls: ListenerTls,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            local,
            peer,
            worker,
            holdings,
            session: Cell::new(None),
            stays: Cell::new(false),
            touched: Cell::new(false),
            server_tls,
            accepted: Cell::new(false),
            transport: RefCell::new(transport),
            outbox: RefCell::default(),
            steps: RefCell::default(),
            intake: RefCell::default(),
            phase: Cell::new(Phase::Open),
            reading: Cell::new(Reading::Flowing),
            writing: Cell::new(Writing::Flowing),
            congested: Cell::new(false),
            holds: RefCell::new(Holds::These(Vec::new())),
            held: Cell::new(0),
            blocked: Cell::new(false),
            dirty: Cell::new(false),
            fate: RefCell::new(None),
            pumping: Cell::new(false),
            pump: RefCell::new(None),
            place: Place::default(),
            idle: Cell::new(Duration::ZERO),
            fresh: Cell::new(true),
            idle_timeout: Cell::new(None),
            last_active: Cell::new(None),
            timer: RefCell::new(None),
            moved_closing: Cell::new(0),
            groups: RefCell::default(),
            operations: RefCell::default(),
            tally: Tally::default(),
        })
    }

    /// Returns whether the connection is gone.
    pub fn is_lost(&self) -> bool {
        self.phase.get() == Phase::Lost
    }

    /// Returns the addresses, local and the peer's, that a connection made on its behalf tells: its own if it was accepted.
    pub(super) fn relayed(&self) -> Option<(Address, Address)> {
        self.accepted
            .get()
            .then(|| (self.local.clone(), self.peer.clone()))
    }

    /// Returns who is to be called about this connection now: the handler in charge, or the one that the session stayed with at a swap.
    pub(super) fn handler(&self) -> Option<Rc<dyn Handler>> {
        self.touched.set(true);
        if self.stays.get() {
            self.holdings.versions.elder()
        } else {
            self.holdings.handler()
        }
    }

    pub(super) fn is_touched(&self) -> bool {
        self.touched.get()
    }

    pub(super) fn touch(&self) {
        self.touched.set(true);
    }

    pub(super) fn untouch(&self) {
        self.touched.set(false);
    }

    pub(crate) fn stays(&self) -> bool {
        self.stays.get()
    }

    pub(super) fn stay(&self, stays: bool) {
        self.stays.set(stays);
    }

    /// Returns the handler's session, if the connection has one.
    pub fn session(&self) -> Option<SessionKey> {
        self.session.get()
    }

    /// Gives the connection its session: after `connection_made`, and at a swap.
    pub(crate) fn set_session(&self, session: Option<SessionKey>) {
        self.session.set(session);
    }

    /// Forgets what is queued, as if it had been sent, and returns how much it was; for benchmarks that have no kernel between.
    pub fn discard_unsent(&self) -> usize {
        let mut outbox = self.outbox.borrow_mut();
        let count = outbox.len();
        outbox.advance(count, &mut self.worker.pool());
        count
    }

    /// Ends the connection, whatever is unsent. The first reason stays.
    pub(crate) fn end(&self, reason: CloseReason) {
        if self.phase.get() != Phase::Lost {
            let mut fate = self.fate.borrow_mut();
            if fate.is_none() {
                *fate = Some(reason);
                self.phase.set(Phase::Doomed);
                self.wake();
            }
        }
    }

    /// Ends it if it was accepted, and no byte has moved for as long as the limits say. It is looked at once in every `period`.
    pub(super) fn end_if_idle(&self, period: Duration) {
        if !self.accepted.get() || self.phase.get() != Phase::Open {
            return;
        }
        let idle = self.idle.get();
        let limits = &self.holdings.program().limits;
        let most = if self.fresh.get() {
            limits.first_byte_time.min(limits.idle_time)
        } else {
            limits.idle_time
        };
        if idle >= most {
            self.end(CloseReason::Idle);
        }
        self.idle.set(idle.saturating_add(period));
    }

    pub(super) fn lane(&self) -> &Rc<Lane> {
        self.holdings.lane()
    }

    pub(super) fn admit_membership(&self) -> bool {
        self.holdings.admit_member()
    }

    pub(super) fn left_group(&self) {
        self.holdings.member_left();
    }

    pub(super) fn joined(&self, group: &Rc<Group>) {
        let address = Rc::as_ptr(group).addr();
        let mut groups = self.groups.borrow_mut();
        groups.insert(address, Rc::downgrade(group));
    }

    /// It is no member of the group any more, which may be about to go.
    pub(super) fn left(&self, group: &Group) {
        let address = std::ptr::from_ref(group).addr();
        self.groups.borrow_mut().remove(&address);
    }

    pub(super) fn operations(&self) -> &RefCell<BTreeSet<Id>> {
        &self.operations
    }

    /// Writes what is queued; the flusher calls this once a turn.
    pub(super) fn flush(&self) {
        self.dirty.set(false);
        if self.blocked.get() || matches!(self.phase.get(), Phase::Doomed | Phase::Lost) {
            return;
        }
        // The waker that is registered must be the pump's: a no-op here, and the pump polls again.
        let poll = self.poll_flush(&mut Context::from_waker(Waker::noop()));
        let outbox = self.outbox.borrow();
        let pump_has_work = poll.is_pending()
            || self.congested.get() && outbox.len() <= LOW_WATER
            || outbox.is_empty()
                && (self.phase.get() == Phase::Closing
                    || self.writing.get() == Writing::Ending
                    || !self.steps.borrow().is_empty());
        drop(outbox);
        if pump_has_work {
            self.wake();
        }
    }

    /// This connection is congested by what another one brought: that one is not read until this one has caught up. So what a
    /// plugin relays flows at the pace of the slower side, and a flood in a group at the pace of its readers, but not for
    /// longer than [`PATIENCE`]: a peer that has stopped reading stops nobody else.
    fn hold_source(self: &Rc<Self>) {
        let Some(source) = self.holdings.current_connection() else {
            return;
        };
        if Rc::ptr_eq(&source, self) {
            return;
        }
        if let Holds::These(sources) = &mut *self.holds.borrow_mut()
            && !sources.iter().any(|held| Rc::ptr_eq(held, &source))
        {
            if sources.is_empty() {
                tokio::task::spawn_local(self.clone().lose_patience());
            }
            source.held.set(source.held.get() + 1);
            sources.push(source);
        }
    }

    fn release_sources(&self, next: Holds) {
        if let Holds::These(sources) = self.holds.replace(next) {
            for source in sources {
                source.held.set(source.held.get().saturating_sub(1));
                if source.held.get() == 0 {
                    source.wake();
                }
            }
        }
    }

    /// Lets go of the others if this connection is still what they wait for. An episode that began later ends a little early: it began
    /// with a peer that had just caught up.
    async fn lose_patience(self: Rc<Self>) {
        tokio::time::sleep(PATIENCE).await;
        if self.congested.get() && !self.is_lost() {
            self.release_sources(Holds::GaveUp);
        }
    }

    pub(super) fn wake(&self) {
        if !self.pumping.get()
            && let Some(pump) = &*self.pump.borrow()
        {
            pump.wake_by_ref();
        }
    }

    fn arm(&self, deadline: Option<Instant>) {
        *self.timer.borrow_mut() =
            deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    }

    /// Runs the time in which the peer must take what is queued.
    fn arm_close(&self) {
        let limit = self.holdings.program().limits.close_time;
        self.arm(Some(Instant::now() + limit));
    }

    fn moved(&self) {
        self.idle.set(Duration::ZERO);
        self.fresh.set(false);
        if self.last_active.get().is_some() {
            self.last_active.set(Some(Instant::now()));
        }
    }
}

/// How long a congested connection holds up those that feed it: 2 s. A peer that takes less than the 64 KiB of the high-water mark in that time
/// gets what its limit of unsent bytes allows, and is closed when that is used up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the plugin is told when too much is unsent.
const UNSENT: &str = "unsent bytes";

/// From so many bytes on, a write to a group is shared among its members: 128. Of a shorter one each has a copy: to keep a share takes 40 bytes itself, so a million
/// unsent writes of one byte would take forty times what the limit says.
const SHARED_FROM: usize = 128;
