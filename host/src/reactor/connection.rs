//! A connection: what a plugin sees of a byte stream, and the pump that moves its bytes.
//!
//! The plugin's side (`write`, `close`, ...) only queues and sets marks. Two things act on them: the worker's flusher, which once a turn
//! writes what was queued, one `writev` a connection, and the connection's own pump, a task that reads, waits for the kernel to take
//! more, and ends the connection.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep},
};

use super::{
    group::Group,
    handler::{CloseReason, Id, Origin, SessionKey},
    holdings::Holdings,
    outbox::Outbox,
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
    /// It came to a listener, and was not dialed.
    accepted: Cell<bool>,
    /// None once the connection is lost.
    transport: RefCell<Option<Transport>>,
    outbox: RefCell<Outbox>,
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
    idle_timeout: Cell<Option<Duration>>,
    /// When a byte last moved; kept only while there is an idle timeout.
    last_active: Cell<Option<Instant>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    groups: RefCell<Vec<Weak<Group>>>,
    /// Operations that end with this connection.
    operations: RefCell<BTreeSet<Id>>,
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
        let unsent = {
            let mut outbox = self.outbox.borrow_mut();
            outbox.push(data, &mut self.worker.pool());
            outbox.len()
        };
        self.queued(unsent)
    }

    /// Queues bytes without copying them.
    pub(super) fn write_shared(self: &Rc<Self>, data: &Bytes) {
        if self.is_writable() {
            let unsent = {
                let mut outbox = self.outbox.borrow_mut();
                outbox.push_shared(data);
                outbox.len()
            };
            self.queued(unsent);
        }
    }

    /// Returns how many bytes are unsent.
    pub fn unsent(&self) -> usize {
        self.outbox.borrow().len()
    }

    /// Sends what is queued, then closes.
    pub fn close(&self) {
        if self.phase.get() == Phase::Open {
            self.phase.set(Phase::Closing);
            self.arm(Some(
                Instant::now() + self.holdings.program().limits.close_time,
            ));
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

    fn queued(self: &Rc<Self>, unsent: usize) -> usize {
        if unsent > self.holdings.program().limits.unsent {
            self.end(CloseReason::Limit("unsent bytes"));
            return 0;
        }
        if unsent >= HIGH_WATER {
            self.congested.set(true);
            self.hold_source();
        }
        if !self.dirty.get() && !self.blocked.get() {
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
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            local,
            peer,
            worker,
            holdings,
            session: Cell::new(None),
            accepted: Cell::new(false),
            transport: RefCell::new(transport),
            outbox: RefCell::default(),
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
            idle_timeout: Cell::new(None),
            last_active: Cell::new(None),
            timer: RefCell::new(None),
            groups: RefCell::default(),
            operations: RefCell::default(),
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

    pub(super) fn admit_membership(&self) -> bool {
        self.holdings.admit_member()
    }

    pub(super) fn left_group(&self) {
        self.holdings.member_left();
    }

    pub(super) fn joined(&self, group: &Rc<Group>) {
        self.groups.borrow_mut().push(Rc::downgrade(group));
    }

    pub(super) fn left(&self, group: &Rc<Group>) {
        self.groups
            .borrow_mut()
            .retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(group)));
    }

    pub(super) fn forget_dropped_groups(&self) {
        self.groups
            .borrow_mut()
            .retain(|group| group.strong_count() > 0);
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
                && (self.phase.get() == Phase::Closing || self.writing.get() == Writing::Ending);
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

    fn wake(&self) {
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

    fn moved(&self) {
        if self.last_active.get().is_some() {
            self.last_active.set(Some(Instant::now()));
        }
    }
}

// The pump.
impl Connection {
    /// Makes the session and serves the connection until it ends. Returns once the handler was told.
    pub(super) async fn pump(self: Rc<Self>, origin: Origin) {
        self.make(&origin);
        self.serve().await;
    }

    /// Calls `connection_made`, and returns whether there is a session.
    pub(super) fn make(self: &Rc<Self>, origin: &Origin) -> bool {
        self.pumping.set(true);
        self.accepted.set(matches!(origin, Origin::Configured(_)));
        let session = self
            .holdings
            .handler()
            .and_then(|handler| handler.connection_made(self, origin));
        self.pumping.set(false);
        self.session.set(session);
        if session.is_none() {
            self.close();
        }
        session.is_some()
    }

    /// Serves the connection until it ends.
    pub(super) async fn serve(self: Rc<Self>) {
        let reason = std::future::poll_fn(|cx| self.poll(cx)).await;
        let transport = self.lose(&reason);
        let holdings = self.holdings.clone();
        if let Some(transport) = transport {
            linger(transport, self).await;
        }
        holdings.lingered();
    }

    fn poll(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        {
            let mut pump = self.pump.borrow_mut();
            if !pump
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *pump = Some(cx.waker().clone());
            }
        }
        self.pumping.set(true);
        let poll = self.poll_turn(cx);
        self.pumping.set(false);
        poll
    }

    fn poll_turn(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut reads = 0;
        loop {
            if let Some(reason) = self.fate.borrow_mut().take() {
                return Poll::Ready(reason);
            }
            if self.blocked.get() && self.poll_flush(cx).is_ready() {
                self.blocked.set(false);
                continue;
            }
            if self.outbox.borrow().is_empty() {
                if self.phase.get() == Phase::Closing {
                    return Poll::Ready(match self.reading.get() {
                        Reading::Ended => CloseReason::Done,
                        Reading::Flowing | Reading::Paused => CloseReason::ClosedHere,
                    });
                }
                if self.writing.get() == Writing::Ending {
                    self.writing.set(Writing::Ended);
                    if let Some(transport) = &*self.transport.borrow()
                        && transport.shutdown_write().is_err()
                    {
                        return Poll::Ready(CloseReason::Reset);
                    }
                    continue;
                }
            }
            if self.reading.get() == Reading::Ended && self.writing.get() == Writing::Ended {
                return Poll::Ready(CloseReason::Done);
            }
            if self.congested.get() && self.outbox.borrow().len() <= LOW_WATER {
                self.congested.set(false);
                self.release_sources(Holds::These(Vec::new()));
                if let (Some(handler), Some(session)) = (self.holdings.handler(), self.session())
                    && self.phase.get() == Phase::Open
                {
                    handler.writable(self, session);
                }
                continue;
            }
            if self.is_reading() {
                let others_wait = reads > 0 && self.worker.dirty_connections() > 1;
                if reads == READS_PER_TURN || others_wait {
                    // The others first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                reads += 1;
                if self.poll_receive(cx).is_ready() {
                    continue;
                }
            }
            if let Some(reason) = self.poll_timer(cx) {
                return Poll::Ready(reason);
            }
            return Poll::Pending;
        }
    }

    fn is_reading(&self) -> bool {
        self.phase.get() == Phase::Open
            && self.reading.get() == Reading::Flowing
            && !self.congested.get()
            && self.held.get() == 0
    }

    /// Reads once and hands over what came.
    fn poll_receive(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut memory = self.worker.take_read_buffer();
        let mut buffer = ReadBuf::new(&mut memory);
        let result = match &mut *self.transport.borrow_mut() {
            Some(transport) => transport.poll_read(cx, &mut buffer),
            None => Poll::Pending,
        };
        let result = match result {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.worker.give_read_buffer(memory);
                return Poll::Pending;
            }
        };
        let data = buffer.filled();
        match (result, self.holdings.handler(), self.session()) {
            (Err(error), _, _) => {
                tracing::debug!(connection = self.id.0, peer = %self.peer, %error, "reading");
                self.end(CloseReason::Reset);
            }
            (Ok(()), Some(handler), Some(session)) => {
                self.moved();
                if data.is_empty() {
                    self.reading.set(Reading::Ended);
                    handler.read_closed(self, session);
                } else {
                    self.holdings.traffic.received(data.len());
                    handler.data_received(self, session, data);
                    // Much is not worth joining to more: sent now, it is still in the processor's cache, and so is the buffer for
                    // the next connection.
                    if self.outbox.borrow().len() >= EAGER_FLUSH {
                        self.flush();
                    }
                }
            }
            (Ok(()), _, _) => self.end(CloseReason::Trapped),
        }
        self.worker.give_read_buffer(memory);
        Poll::Ready(())
    }

    /// Writes until nothing is left (ready) or the kernel takes no more (pending, and `blocked`). An error seals the connection's fate.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut transport = self.transport.borrow_mut();
        let Some(transport) = &mut *transport else {
            return Poll::Ready(());
        };
        let mut outbox = self.outbox.borrow_mut();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let filled = outbox.slices(&mut slices);
            let written = match transport.poll_write(cx, slices.get(..filled).unwrap_or_default()) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                other => other,
            };
            self.blocked.set(written.is_pending());
            match ready!(written) {
                Ok(count) => {
                    outbox.advance(count, &mut self.worker.pool());
                    self.holdings.traffic.sent(count);
                    self.moved();
                }
                Err(error) => {
                    tracing::debug!(connection = self.id.0, peer = %self.peer, %error, "writing");
                    outbox.clear();
                    self.end(CloseReason::Reset);
                }
            }
        }
        Poll::Ready(())
    }

    /// Returns why the connection must end if its timer says so: an idle timeout, or a `close` that the peer does not let finish.
    fn poll_timer(&self, cx: &mut Context<'_>) -> Option<CloseReason> {
        loop {
            let mut timer = self.timer.borrow_mut();
            if timer.as_mut()?.as_mut().poll(cx).is_pending() {
                return None;
            }
            *timer = None;
            drop(timer);
            if self.phase.get() == Phase::Closing {
                return Some(CloseReason::Limit("time to close"));
            }
            let deadline = self
                .idle_timeout
                .get()
                .zip(self.last_active.get())
                .and_then(|(timeout, active)| active.checked_add(timeout))?;
            if deadline <= Instant::now() {
                return Some(CloseReason::Idle);
            }
            self.arm(Some(deadline));
        }
    }

    /// Takes the connection out of everything and tells the handler. Returns the transport if it is to be closed gently.
    fn lose(self: &Rc<Self>, reason: &CloseReason) -> Option<Transport> {
        self.phase.set(Phase::Lost);
        self.pump.borrow_mut().take();
        self.outbox.borrow_mut().clear();
        self.timer.borrow_mut().take();
        for group in self.groups.borrow_mut().drain(..) {
            if let Some(group) = group.upgrade() {
                group.forget(self.id);
            }
        }
        self.release_sources(Holds::GaveUp);
        self.holdings.lost(self);
        let transport = self.transport.borrow_mut().take()?;
        if let (Some(session), Some(handler)) = (self.session.take(), self.holdings.handler()) {
            handler.connection_lost(self, session, reason);
        }
        match reason {
            CloseReason::ClosedHere => transport.shutdown_write().is_ok().then_some(transport),
            CloseReason::AbortedHere | CloseReason::Limit(_) => {
                transport.reset_on_drop();
                None
            }
            _ => None,
        }
    }
}

/// Reads and forgets what the peer still sends, until it closes or a second has passed: closing a socket with unread bytes resets
/// the connection, and could destroy the answer that is on its way.
async fn linger(mut transport: Transport, connection: Rc<Connection>) {
    let discard = std::future::poll_fn(|cx| {
        for _ in 0..READS_PER_TURN {
            let mut memory = connection.worker.take_read_buffer();
            let mut buffer = ReadBuf::new(&mut memory);
            let result = transport.poll_read(cx, &mut buffer);
            let ended = buffer.filled().is_empty();
            connection.worker.give_read_buffer(memory);
            if ready!(result).is_err() || ended {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    // When the time is up the socket is closed as it is.
    let _elapsed = tokio::time::timeout(LINGER, discard).await;
}

/// Reads of one connection before the other tasks of the worker get their turn.
const READS_PER_TURN: usize = 8;

/// How long a congested connection holds up those that feed it: 2 s. A peer that takes less than the 64 KiB of the high-water mark in that time
/// gets what its limit of unsent bytes allows, and is closed when that is used up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Unsent bytes that are written as soon as a read was answered, and not at the end of the turn: 8 KiB.
const EAGER_FLUSH: usize = 8 << 10;

/// Chunks that one `writev` takes; 64 lines of a busy channel leave in one system call.
const SLICES_PER_WRITE: usize = 64;

/// How long a closed connection waits for the peer's end: 1 s, several round trips.
const LINGER: Duration = Duration::from_secs(1);
