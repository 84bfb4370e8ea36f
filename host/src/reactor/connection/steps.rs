//! What has its place among the bytes that are written, and what takes the place of `data-received`: a change to TLS, files, and splices.
//!
//! A step begins when everything that was written before it is with the kernel; what is written later waits behind it.

use std::{
    collections::VecDeque,
    future::Future,
    io, mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::ClientConfig;
use tokio::time::Sleep;

use super::{Connection, Phase, Reading};
use crate::{
    endpoint::TlsOptions,
    files::HostFile,
    limits::HIGH_WATER,
    reactor::{
        bulk::{Extent, Failure, ReceiveFile, SendFile, Splice, Transfer},
        handler::{CloseReason, ErrorKind, Id, OperationError, Outcome, Value},
        outbox::Outbox,
    },
    tls::{client::Configuring, info::TlsInfo, server::ServerTls},
    transport::{
        Transport,
        tls::{TlsStream, failure, server_name},
    },
};

/// Which side of TLS a connection becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsRole {
    /// It shows its listener's certificate.
    Server,
    /// It checks that the peer's certificate has this name.
    Client(String),
}

/// Steps in order, each with what was written after it.
#[derive(Debug, Default)]
pub(super) struct Steps {
    queue: VecDeque<(Step, Outbox)>,
    /// Bytes that wait behind steps.
    waiting: usize,
}

#[derive(Debug)]
enum Step {
    StartTls {
        id: Id,
        role: TlsRole,
        securing: Securing,
    },
    SendFile(SendFile),
    Splice(Rc<Splice>),
}

/// How far a change to TLS has come.
#[derive(Debug, Default)]
struct Securing {
    /// Runs from when everything before it is with the kernel.
    timer: Option<Pin<Box<Sleep>>>,
    /// As the client: whom it trusts.
    config: Option<Configuring>,
}

/// What takes the received bytes in place of the session.
#[derive(Debug)]
pub(super) enum Intake {
    File(ReceiveFile),
    Splice(Rc<Splice>),
}

impl Steps {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns how many bytes wait behind steps.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns where bytes that are written now belong, if it is behind a step.
    pub(super) fn last(&mut self, count: usize) -> Option<&mut Outbox> {
        let (_, after) = self.queue.back_mut()?;
        self.waiting += count;
        Some(after)
    }

    /// Returns whether a file comes next: the last packet before it need not leave half full.
    pub(super) fn begins_with_file(&self) -> bool {
        matches!(self.queue.front(), Some((Step::SendFile(send), _)) if send.is_prompt())
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= MOST_STEPS
    }

    fn is_securing(&self) -> bool {
        let is_start = |(step, _): &(Step, Outbox)| matches!(step, Step::StartTls { .. });
        self.queue.iter().any(is_start)
    }
}

impl Intake {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::File(receive) => receive.transfer.is_cancelled(),
            Self::Splice(splice) => splice.is_cancelled(),
        }
    }
}

impl Step {
    fn id(&self) -> Id {
        match self {
            Self::StartTls { id, .. } => *id,
            Self::SendFile(send) => send.transfer.id,
            Self::Splice(splice) => splice.transfer.id,
        }
    }
}

// What a plugin calls.
impl Connection {
    /// Secures the stream once what is queued has left. Nothing is received in clear from now on.
    pub fn start_tls(self: &Rc<Self>, id: Id, role: TlsRole) {
        if let TlsRole::Client(name) = &role
            && let Err(error) = server_name(name)
        {
            let error = OperationError::new(ErrorKind::Invalid, error.to_string());
            return self.holdings.refuse(id, error);
        }
        let refusal = if !self.is_writable() {
            Some((ErrorKind::Closed, "the connection is closed"))
        } else if self.steps.borrow().is_full() {
            Some((ErrorKind::Limit, TOO_MANY_STEPS))
        } else if self.is_secured() || self.steps.borrow().is_securing() {
            Some((ErrorKind::Invalid, "the connection has TLS already"))
        } else if self.has_intake() {
            Some((ErrorKind::Busy, "what it receives is being moved elsewhere"))
        } else if role == TlsRole::Server && self.server_tls.is_none() {
            let message =
                "its listener has no certificate; the operator may give it one with `cert=`";
            Some((ErrorKind::Unsupported, message))
        } else {
            None
        };
        if let Some((kind, message)) = refusal {
            return self.holdings.refuse(id, OperationError::new(kind, message));
        }
        if self.holdings.begin_step(id) {
            self.push_step(Step::StartTls {
                id,
                role,
                securing: Securing::default(),
            });
        }
    }

    /// Returns whether [`Self::start_tls`] as the server would be tried: there is a certificate, and no TLS yet.
    pub fn can_start_tls(&self) -> bool {
        let is_open = self.is_writable() && self.server_tls.is_some();
        is_open && !self.is_secured() && !self.steps.borrow().is_securing()
    }

    /// Returns what was agreed on if the stream is secured.
    pub(crate) fn tls(&self) -> Option<(TlsInfo, Option<Id>)> {
        let transport = self.transport.borrow();
        let (info, ticket) = transport.as_ref()?.tls()?.info()?;
        let resumed_from = ticket.and_then(|ticket| self.holdings.read_ticket(ticket));
        Some((info, resumed_from))
    }

    /// Sends a part of a file, after what is queued and before what is written later.
    pub fn send_file(self: &Rc<Self>, id: Id, file: HostFile, extent: Extent) {
        if let Some(error) = self.cannot_queue() {
            return self.holdings.refuse(id, error);
        }
        let transfer = Transfer::new(id, [Rc::downgrade(self), Default::default()]);
        match SendFile::new(transfer.clone(), file, extent) {
            Ok(send) => {
                if self.holdings.begin_transfer(&transfer) {
                    self.push_step(Step::SendFile(send));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let error = OperationError::new(ErrorKind::Invalid, error.to_string());
                self.holdings.refuse(id, error);
            }
            Err(error) => self.holdings.refuse(id, error.into()),
        }
    }

    /// Writes what is received to a file.
    pub fn receive_file(self: &Rc<Self>, id: Id, file: HostFile, extent: Extent) {
        if let Some(error) = self.cannot_divert() {
            return self.holdings.refuse(id, error);
        }
        if !file.is_writable() {
            let error = OperationError::new(ErrorKind::Denied, "the file was granted to be read");
            return self.holdings.refuse(id, error);
        }
        let transfer = Transfer::new(id, [Rc::downgrade(self), Default::default()]);
        if self.holdings.begin_transfer(&transfer) {
            let receive = ReceiveFile::new(transfer, file, extent);
            *self.intake.borrow_mut() = Some(Intake::File(receive));
            self.wake();
        }
    }

    /// Sends what is received to another connection, after what is queued there.
    pub fn splice(self: &Rc<Self>, id: Id, to: &Rc<Self>, extent: Extent) {
        if let Some(error) = self.cannot_divert() {
            return self.holdings.refuse(id, error);
        }
        if Rc::ptr_eq(self, to) {
            let message = "a connection cannot be spliced to itself";
            let error = OperationError::new(ErrorKind::Invalid, message);
            return self.holdings.refuse(id, error);
        }
        if let Some(error) = to.cannot_queue() {
            return self.holdings.refuse(id, error);
        }
        let ends = [Rc::downgrade(self), Rc::downgrade(to)];
        let transfer = Transfer::new(id, ends);
        if self.holdings.begin_transfer(&transfer) {
            let will_be_tls = to.steps.borrow().is_securing();
            let bare = self.is_bare() && to.is_bare() && !will_be_tls;
            let splice = Splice::new(transfer, extent, bare);
            *self.intake.borrow_mut() = Some(Intake::Splice(splice.clone()));
            to.push_step(Step::Splice(splice));
            self.wake();
        }
    }

    /// Returns why what is received cannot go elsewhere.
    fn cannot_divert(&self) -> Option<OperationError> {
        let refusal = if self.phase.get() != Phase::Open || self.reading.get() == Reading::Ended {
            (ErrorKind::Closed, "the connection is closed")
        } else if self.has_intake() || self.steps.borrow().is_securing() {
            (ErrorKind::Busy, "what it receives is being moved already")
        } else {
            return None;
        };
        Some(OperationError::new(refusal.0, refusal.1))
    }

    /// Returns why nothing can be queued.
    fn cannot_queue(&self) -> Option<OperationError> {
        if !self.is_writable() {
            return Some(closed());
        }
        let is_full = self.steps.borrow().is_full();
        is_full.then(|| OperationError::new(ErrorKind::Limit, TOO_MANY_STEPS))
    }

    /// Returns whether something else than the session gets what comes. One that was cancelled gets nothing any more.
    fn has_intake(&self) -> bool {
        let mut intake = self.intake.borrow_mut();
        intake.take_if(|intake| intake.is_cancelled());
        intake.is_some()
    }

    fn is_bare(&self) -> bool {
        let transport = self.transport.borrow();
        transport.as_ref().is_some_and(Transport::is_bare)
    }

    fn is_secured(&self) -> bool {
        let transport = self.transport.borrow();
        transport.as_ref().is_some_and(|it| it.tls().is_some())
    }

    fn push_step(&self, step: Step) {
        let mut steps = self.steps.borrow_mut();
        steps.queue.push_back((step, Outbox::default()));
        drop(steps);
        self.wake();
    }
}

// What the pump calls.
impl Connection {
    /// Returns whether received bytes would still be in clear, and so may not reach the session.
    pub(super) fn is_securing(&self) -> bool {
        let steps = self.steps.borrow();
        !steps.is_empty() && steps.is_securing()
    }

    /// Takes the first step, if there is one. Ready when it is done, or there is none.
    pub(super) fn poll_step(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Out of the queue while it runs, so that nothing is borrowed when the plugin is called.
        let Some((mut step, after)) = self.steps.borrow_mut().queue.pop_front() else {
            return Poll::Ready(());
        };
        let polled = match &mut step {
            Step::StartTls { role, securing, .. } => self.poll_start_tls(role, securing, cx),
            Step::SendFile(send) => {
                self.poll_moving(cx, &send.transfer.clone(), |transport, cx| {
                    send.poll(transport, cx)
                })
            }
            Step::Splice(splice) => {
                self.poll_moving(cx, &splice.transfer.clone(), |transport, cx| {
                    splice.poll_drain(transport, cx)
                })
            }
        };
        match polled {
            Poll::Pending => {
                self.steps.borrow_mut().queue.push_front((step, after));
                Poll::Pending
            }
            Poll::Ready(outcome) => {
                {
                    let mut steps = self.steps.borrow_mut();
                    steps.waiting = steps.waiting.saturating_sub(after.len());
                    // Empty, or the step would not have begun.
                    let mut outbox = self.outbox.borrow_mut();
                    *outbox = after;
                    if !outbox.is_empty() && !self.dirty.get() {
                        self.dirty.set(true);
                        self.worker.mark_dirty(self);
                    }
                }
                if let Step::Splice(splice) = &step {
                    // Whatever ended it here, the source's bytes are its session's again. Delivered it is complete, and not cancelled.
                    splice.transfer.cancel();
                }
                self.holdings.complete(step.id(), outcome);
                Poll::Ready(())
            }
        }
    }

    /// Moves bytes, and takes note of them.
    fn poll_moving(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        transfer: &Rc<Transfer>,
        poll: impl FnOnce(&mut Transport, &mut Context<'_>) -> Poll<Result<(), Failure>>,
    ) -> Poll<Outcome> {
        let before = transfer.moved();
        let polled = match &mut *self.transport.borrow_mut() {
            Some(transport) => poll(transport, cx),
            None => Poll::Pending,
        };
        let moved = transfer.moved() - before;
        if moved > 0 {
            self.count_sent(moved);
            self.moved();
            if self.phase.get() == Phase::Closing {
                self.moved_while_closing(moved);
            }
        }
        polled.map(|result| match result {
            Ok(()) => Ok(Value::Number(transfer.moved())),
            Err(Failure::File(error)) => Err(error.into()),
            Err(Failure::Connection(error)) => {
                let outcome = OperationError::new(ErrorKind::Closed, error.to_string());
                self.broke("sending", &error);
                Err(outcome)
            }
        })
    }

    /// The time to close is for a peer that takes nothing, or next to nothing: it begins anew with every [`HIGH_WATER`] that it takes.
    fn moved_while_closing(&self, count: u64) {
        let moved = self.moved_closing.get().saturating_add(count);
        if moved >= HIGH_WATER as u64 {
            self.moved_closing.set(0);
            self.arm_close();
        } else {
            self.moved_closing.set(moved);
        }
    }

    /// Becomes one side of TLS.
    fn poll_start_tls(
        self: &Rc<Self>,
        role: &TlsRole,
        securing: &mut Securing,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        let limit = self.holdings.program().limits.handshake_time;
        let timer = securing
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        let result = if timer.as_mut().poll(cx).is_ready() {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no TLS handshake within {limit:?}"),
            ))
        } else {
            if !self.is_secured() {
                let secured = match role {
                    TlsRole::Server => self.secure_as_server(),
                    TlsRole::Client(name) => {
                        let config = ready!(self.poll_client_config(&mut securing.config, cx));
                        config.and_then(|config| self.secure_as_client(config, name))
                    }
                };
                if let Err(error) = secured {
                    return Poll::Ready(self.did_not_secure(&error));
                }
            }
            match &mut *self.transport.borrow_mut() {
                Some(Transport::Tls(stream)) => ready!(stream.poll_handshake(cx)),
                _ => return Poll::Pending,
            }
        };
        Poll::Ready(match result {
            Ok(()) => Ok(Value::Nothing),
            Err(error) => self.did_not_secure(&error),
        })
    }

    /// Asks whom the service trusts.
    fn poll_client_config(
        &self,
        asked: &mut Option<Configuring>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Arc<ClientConfig>>> {
        let asked = asked.get_or_insert_with(|| {
            let tls = &self.holdings.program().tls;
            tls.config_for(&TlsOptions::default())
        });
        let config = ready!(Pin::new(asked).poll(cx));
        Poll::Ready(config.map_err(|error| io::Error::other(crate::chain(&error))))
    }

    fn secure_as_server(&self) -> io::Result<()> {
        let tls = self.server_tls.as_ref();
        let config = tls.ok_or(io::ErrorKind::Unsupported)?.config();
        let ticket = self.holdings.ticket(self.id);
        self.secure(|transport| TlsStream::server(transport, config, &ticket))
    }

    fn secure_as_client(&self, config: Arc<ClientConfig>, name: &str) -> io::Result<()> {
        let name = server_name(name)?;
        self.secure(|transport| TlsStream::client(transport, config, name))
    }

    fn secure(&self, wrap: impl FnOnce(Transport) -> io::Result<TlsStream>) -> io::Result<()> {
        let mut place = self.transport.borrow_mut();
        if let Some(transport) = place.take() {
            *place = Some(Transport::Tls(Box::new(wrap(transport)?)));
        }
        Ok(())
    }

    /// The handshake failed, and with it the connection.
    fn did_not_secure(&self, error: &io::Error) -> Outcome {
        let message = failure(error).map_or_else(|| error.to_string(), str::to_owned);
        self.end(CloseReason::Tls(message.as_str().into()));
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Tls,
        };
        Err(OperationError::new(kind, message))
    }

    /// Hands what comes to where it goes in place of the session. Ready once that is over.
    pub(super) fn poll_intake(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut intake) = self.intake.borrow_mut().take() else {
            return Poll::Ready(());
        };
        let polled = match &mut *self.transport.borrow_mut() {
            Some(transport) => match &mut intake {
                Intake::File(receive) => {
                    let before = receive.transfer.moved();
                    let polled = receive.poll(transport, cx);
                    let moved = receive.transfer.moved() - before;
                    self.count_received(moved);
                    if moved > 0 {
                        self.moved();
                    }
                    polled.map(|result| result.map(|()| receive.ended))
                }
                Intake::Splice(splice) if splice.is_cancelled() => Poll::Ready(Ok(false)),
                Intake::Splice(splice) => self
                    .poll_splice(splice, transport, cx)
                    .map(|result| result.map_err(Failure::Connection)),
            },
            None => Poll::Pending,
        };
        let result = match polled {
            Poll::Pending => {
                *self.intake.borrow_mut() = Some(intake);
                return Poll::Pending;
            }
            Poll::Ready(result) => result,
        };
        self.took_in(&intake, result);
        Poll::Ready(())
    }

    /// Takes in until there is nothing, the length is reached (false), or the peer's end came (true).
    fn poll_splice(
        &self,
        splice: &Splice,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        while !splice.is_full_length() {
            let count = ready!(splice.poll_fill(transport, cx))?;
            if count == 0 {
                return Poll::Ready(Ok(true));
            }
            self.count_received(count as u64);
            self.moved();
        }
        Poll::Ready(Ok(false))
    }

    /// What came is where it should be, or something broke.
    fn took_in(self: &Rc<Self>, intake: &Intake, result: Result<bool, Failure>) {
        let ended = matches!(result, Ok(true));
        match (intake, result) {
            (Intake::File(receive), Ok(_)) => {
                let moved = receive.transfer.moved();
                self.holdings
                    .complete(receive.transfer.id, Ok(Value::Number(moved)));
            }
            (Intake::File(receive), Err(Failure::File(error))) => {
                self.holdings
                    .complete(receive.transfer.id, Err(error.into()));
            }
            (Intake::File(receive), Err(Failure::Connection(error))) => {
                let id = receive.transfer.id;
                let outcome = OperationError::new(ErrorKind::Reset, error.to_string());
                self.broke("receiving", &error);
                self.holdings.complete(id, Err(outcome));
            }
            (Intake::Splice(splice), Ok(_)) => splice.finish(Ok(())),
            (Intake::Splice(splice), Err(Failure::Connection(error) | Failure::File(error))) => {
                self.broke("receiving", &error);
                splice.finish(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        if ended {
            self.read_end();
        }
    }

    /// The connection is lost: what it was doing is over.
    pub(super) fn drop_steps(&self) {
        let steps = mem::take(&mut *self.steps.borrow_mut());
        for (step, _) in steps.queue {
            if let Step::Splice(splice) = &step {
                // The source goes on; its bytes are its session's again.
                splice.transfer.cancel();
            }
            self.holdings.decide(step.id(), Err(closed()));
        }
        match self.intake.borrow_mut().take() {
            Some(Intake::File(receive)) => {
                let error = OperationError::new(ErrorKind::Reset, "the connection is lost");
                self.holdings.decide(receive.transfer.id, Err(error));
            }
            Some(Intake::Splice(splice)) => {
                splice.finish(Err(io::ErrorKind::ConnectionReset.into()));
            }
            None => {}
        }
    }

    /// Ends the connection because of what the transport said.
    pub(super) fn broke(&self, doing: &str, error: &io::Error) {
        tracing::debug!(connection = self.id.0, peer = %self.peer, %error, "{doing}");
        self.end(match failure(error) {
            Some(message) => CloseReason::Tls(message.into()),
            None => CloseReason::Reset,
        });
    }
}

fn closed() -> OperationError {
    OperationError::new(ErrorKind::Closed, "the connection is closed")
}

const TOO_MANY_STEPS: &str = "too many files, splices and the like are queued on this connection";

/// Files, splices and changes to TLS that wait on one connection: 64. A plugin has less reason to queue many than memory to make the host hold.
const MOST_STEPS: usize = 64;

/// The TLS of a connection's listener.
pub(crate) type ListenerTls = Option<Arc<ServerTls>>;
