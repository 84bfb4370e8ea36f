//! The pump: the task that reads, waits for the kernel to take more, and ends the connection.

use std::{
    future::Future,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{io::ReadBuf, time::Instant};

use super::{Connection, Holds, Phase, Reading, UNSENT, Writing};
use crate::{
    limits::LOW_WATER,
    metrics::meters::{Limit, Refused},
    reactor::handler::{CloseReason, Origin},
    transport::Transport,
};

impl Connection {
    /// Makes the session and serves the connection until it ends. Returns once the handler was told.
    pub(in crate::reactor) async fn pump(self: Rc<Self>, origin: Origin) {
        self.holdings.turn().await;
        self.make(&origin);
        self.serve().await;
    }

    /// Calls `connection_made`, and returns whether there is a session.
    pub(in crate::reactor) fn make(self: &Rc<Self>, origin: &Origin) -> bool {
        self.pumping.set(true);
        self.accepted.set(matches!(origin, Origin::Configured(_)));
        let session = self
            .handler()
            .and_then(|handler| handler.connection_made(self, origin));
        self.pumping.set(false);
        self.session.set(session);
        if session.is_none() {
            if self.holdings.handler().is_some() {
                self.holdings.meters().refused.count(Refused::Plugin);
            }
            self.close();
        }
        session.is_some()
    }

    /// Serves the connection until it ends.
    pub(in crate::reactor) async fn serve(self: Rc<Self>) {
        let reason = std::future::poll_fn(|cx| self.poll(cx)).await;
        self.holdings.turn().await;
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
        self.lane().enter();
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
            let step = if !self.blocked.get() && self.outbox.borrow().is_empty() {
                let had_step = !self.steps.borrow().is_empty();
                if had_step && self.poll_gate(cx).is_pending() {
                    return Poll::Pending;
                }
                let polled = self.poll_step(cx);
                if had_step && polled.is_ready() {
                    continue;
                }
                polled
            } else {
                Poll::Pending
            };
            if step.is_ready() {
                if self.phase.get() == Phase::Closing && self.poll_last_words(cx).is_ready() {
                    return Poll::Ready(match self.reading.get() {
                        Reading::Ended => CloseReason::Done,
                        Reading::Flowing | Reading::Paused => CloseReason::ClosedHere,
                    });
                }
                if self.writing.get() == Writing::Ending {
                    let shut = match &mut *self.transport.borrow_mut() {
                        Some(transport) => transport.poll_shutdown_write(cx),
                        None => Poll::Ready(Ok(())),
                    };
                    match shut {
                        Poll::Ready(Ok(())) => {
                            self.writing.set(Writing::Ended);
                            continue;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(CloseReason::Reset),
                        Poll::Pending => {}
                    }
                }
            }
            if self.reading.get() == Reading::Ended && self.writing.get() == Writing::Ended {
                return Poll::Ready(CloseReason::Done);
            }
            if self.congested.get() && self.unsent() <= LOW_WATER {
                if self.poll_gate(cx).is_pending() {
                    return Poll::Pending;
                }
                self.congested.set(false);
                self.release_sources(Holds::These(Vec::new()));
                if let (Some(handler), Some(session)) = (self.handler(), self.session())
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
                if self.poll_gate(cx).is_pending() {
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

    /// Ready if it is the service's turn to have its guest called; otherwise the pump is woken when it is.
    fn poll_gate(&self, cx: &Context<'_>) -> Poll<()> {
        self.lane().poll_turn(cx, &self.place)
    }

    fn is_reading(&self) -> bool {
        self.phase.get() == Phase::Open
            && self.reading.get() == Reading::Flowing
            // Whom the plugin connected to may have to be read before it takes more: if neither end reads, both wait for ever.
            && !(self.congested.get() && self.accepted.get())
            && self.held.get() == 0
            && !self.is_securing()
    }

    /// Reads once and hands over what came.
    fn poll_receive(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.intake.borrow().is_some() {
            return self.poll_intake(cx);
        }
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
        match (result, self.handler(), self.session()) {
            (Err(error), _, _) => self.broke("reading", &error),
            (Ok(()), Some(handler), Some(session)) => {
                self.moved();
                if data.is_empty() {
                    self.reading.set(Reading::Ended);
                    handler.read_closed(self, session);
                } else {
                    self.count_received(data.len() as u64);
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

    /// The peer's end came, and not to the session.
    pub(super) fn read_end(self: &Rc<Self>) {
        self.reading.set(Reading::Ended);
        if let (Some(handler), Some(session)) = (self.handler(), self.session()) {
            handler.read_closed(self, session);
        }
    }

    /// Writes until nothing is left (ready) or the kernel takes no more (pending, and `blocked`). An error seals the connection's fate.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut transport = self.transport.borrow_mut();
        let Some(transport) = &mut *transport else {
            return Poll::Ready(());
        };
        let mut outbox = self.outbox.borrow_mut();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let filled = outbox.slices(&mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            let more = self.steps.borrow().begins_with_file();
            let written = match transport.poll_write(cx, slices, more) {
                Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                other => other,
            };
            self.blocked.set(written.is_pending());
            match ready!(written) {
                Ok(count) => {
                    outbox.advance(count, &mut self.worker.pool());
                    self.count_sent(count as u64);
                    self.moved();
                }
                Err(error) => {
                    outbox.clear();
                    self.broke("writing", &error);
                }
            }
        }
        let flushed = transport.poll_flush(cx);
        self.blocked.set(flushed.is_pending());
        if let Err(error) = ready!(flushed) {
            self.broke("writing", &error);
        }
        Poll::Ready(())
    }

    /// Says TLS's own end, which is with the kernel before the connection is closed; a bare stream has none.
    fn poll_last_words(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.transport.borrow_mut() {
            Some(transport) if transport.tls().is_some() => {
                transport.poll_shutdown_write(cx).map(drop)
            }
            _ => Poll::Ready(()),
        }
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
                return Some(CloseReason::Limit(CLOSE_TIME));
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
        self.drop_steps();
        self.timer.borrow_mut().take();
        for group in self.groups.take().into_values() {
            if let Some(group) = group.upgrade() {
                group.forget(self.id);
            }
        }
        self.release_sources(Holds::GaveUp);
        let meters = self.holdings.meters();
        meters.closed.count(reason.into());
        match reason {
            CloseReason::Limit(UNSENT) => meters.limits.count(Limit::Unsent),
            CloseReason::Limit(CLOSE_TIME) => meters.limits.count(Limit::CloseTime),
            _ => {}
        }
        self.holdings.lost(self);
        let transport = self.transport.borrow_mut().take();
        if let (Some(session), Some(handler)) = (self.session.take(), self.handler()) {
            handler.connection_lost(self, session, reason);
        }
        let mut transport = transport?;
        match reason {
            CloseReason::ClosedHere => {
                let shut = transport.poll_shutdown_write(&mut Context::from_waker(Waker::noop()));
                (!matches!(shut, Poll::Ready(Err(_)))).then_some(transport)
            }
            CloseReason::Idle | CloseReason::Draining | CloseReason::Kicked
                if transport.tls().is_some() =>
            {
                // To the peer it must not look like an attack (RFC 8446, section 6.1); it leaves if it can at once.
                let _tried = transport.poll_shutdown_write(&mut Context::from_waker(Waker::noop()));
                None
            }
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

/// Unsent bytes that are written as soon as a read was answered, and not at the end of the turn: 8 KiB.
const EAGER_FLUSH: usize = 8 << 10;

/// Chunks that one `writev` takes; 64 lines of a busy channel leave in one system call.
const SLICES_PER_WRITE: usize = 64;

/// How long a closed connection waits for the peer's end: 1 s, several round trips.
const LINGER: Duration = Duration::from_secs(1);

/// What the plugin is told when the peer does not let a connection close.
const CLOSE_TIME: &str = "time to close";
