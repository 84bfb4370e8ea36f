//! What takes time, from its start to its completion: timers, outbound connections and look-ups here, and what other modules start.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time::Instant};

use super::Holdings;
use crate::{
    endpoint::Endpoint,
    files::HostFile,
    metrics::meters::{Connected, Limit},
    reactor::{
        bulk::Transfer,
        connect::{self, Outbound},
        handler::{Addresses, ErrorKind, Id, OperationError, Origin, Outcome, Value},
    },
    storage::{Metadata, Page},
    transport::{Address, udp::Udp},
};

#[derive(Debug)]
pub(in crate::reactor) struct Operation {
    pub(in crate::reactor) owner: Option<Id>,
    pub(in crate::reactor) work: Work,
}

/// What an operation found, and waits to be taken.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Of a name.
    Addresses(Addresses),
    /// Opened.
    File(HostFile),
    /// Of a file.
    Metadata(Metadata),
    /// Of a directory, and the bytes that it holds.
    Page(Rc<(Page, Option<OwnedSemaphorePermit>)>),
}

#[derive(Debug)]
pub(in crate::reactor) enum Work {
    /// Its outcome is among `outcomes`.
    Decided,
    /// As before, and it holds these bytes.
    Held { _bytes: OwnedSemaphorePermit },
    /// It is among `timers`.
    Timer(Instant),
    /// A task of its own completes it.
    Task(AbortHandle),
    /// Its connection completes it, and cannot stop half-way.
    Step,
    /// Its connection completes it.
    Transfer(Rc<Transfer>),
}

impl Holdings {
    /// Starts a timer.
    pub fn after(&self, id: Id, delay: Duration) {
        if delay.is_zero() {
            self.start(id, |_| Work::Decided);
            self.decide(id, Ok(Value::Nothing));
            return;
        }
        let most = self.program.limits.timers;
        if self.timers.borrow().len() >= most {
            self.meters.limits.count(Limit::Timers);
            let message = format!("{most} timers are running");
            return self.refuse(id, OperationError::new(ErrorKind::Limit, message));
        }
        // Some 30 years stand for never, as in tokio.
        let deadline = Instant::now() + delay.min(Duration::from_secs(86_400 * 365 * 30));
        let started = self.start(id, |_| Work::Timer(deadline));
        if started {
            let mut timers = self.timers.borrow_mut();
            timers.insert((deadline, id));
            if timers.first() == Some(&(deadline, id)) {
                self.changed.notify_one();
            }
        }
    }

    /// Starts to connect to an endpoint.
    pub fn connect(self: &Rc<Self>, id: Id, endpoint: &str) {
        match connect::check(endpoint, &self.program.grants) {
            Ok(_) if !self.lane.may_connect(Instant::now().into_std()) => {
                self.meters.limits.count(Limit::ConnectRate);
                self.note_connect(Some(ErrorKind::Limit));
                let rate = self.program.limits.connect_rate;
                let message = format!("{rate} connections a second are the most");
                self.refuse(id, OperationError::new(ErrorKind::Limit, message));
            }
            Ok(endpoint) => {
                let holdings = self.clone();
                // Now, and not when the dial begins: it may be nobody's by then.
                let relayed = self.current_connection();
                let relayed = relayed.and_then(|connection| connection.relayed());
                self.start(id, |_| {
                    let dial = holdings.dial(id, endpoint, relayed);
                    Work::Task(tokio::task::spawn_local(dial).abort_handle())
                });
            }
            Err(error) => {
                self.note_connect(Some(error.kind));
                self.refuse(id, error);
            }
        }
    }

    /// Starts to look up a name.
    pub fn resolve(self: &Rc<Self>, id: Id, name: &str) {
        match connect::check_name(name, &self.program.grants) {
            Ok(name) => {
                let holdings = self.clone();
                self.start(id, |_| {
                    Work::Task(tokio::task::spawn_local(holdings.look_up(id, name)).abort_handle())
                });
            }
            Err(error) => self.refuse(id, error),
        }
    }

    /// Returns what an operation found.
    pub(crate) fn found(&self, id: Id) -> Option<Found> {
        self.results.borrow().get(&id).cloned()
    }

    /// Forgets what an operation found.
    pub(crate) fn forget_found(&self, id: Id) {
        self.results.borrow_mut().remove(&id);
    }

    /// Keeps what an operation found until it is taken.
    pub(in crate::reactor) fn keep_found(&self, id: Id, found: Found) -> Value {
        self.results.borrow_mut().insert(id, found);
        Value::Ready
    }

    /// Forgets an operation.
    pub fn cancel(&self, id: Id) {
        self.forget_found(id);
        self.logins.forget(id);
        let Some(operation) = self.operations.borrow_mut().remove(&id) else {
            return;
        };
        self.disown(&operation, id);
        match operation.work {
            // Its outcome finds no operation when its turn comes.
            Work::Decided | Work::Held { .. } => {}
            Work::Timer(deadline) => {
                self.timers.borrow_mut().remove(&(deadline, id));
            }
            Work::Task(task) => task.abort(),
            Work::Step => {}
            Work::Transfer(transfer) => transfer.cancel(),
        }
    }

    /// Makes an operation the instance's.
    pub fn keep(&self, id: Id) {
        if let Some(operation) = self.operations.borrow_mut().get_mut(&id) {
            self.disown(operation, id);
            operation.owner = None;
        }
    }

    async fn dial(self: Rc<Self>, id: Id, endpoint: Endpoint, relayed: Option<(Address, Address)>) {
        if self.is_full(0) {
            let message = format!(
                "{} connections are open, {} are being made",
                self.connection_count(),
                self.dialing.get()
            );
            self.meters.limits.count(Limit::Connections);
            self.note_connect(Some(ErrorKind::Limit));
            return self.deliver(id, Err(OperationError::new(ErrorKind::Limit, message)));
        }
        let most = self.program.limits.connects;
        if self.dialing.get() >= most {
            self.meters.limits.count(Limit::Connects);
            self.note_connect(Some(ErrorKind::Limit));
            let message = format!("{most} connections are being made");
            return self.deliver(id, Err(OperationError::new(ErrorKind::Limit, message)));
        }
        if let Endpoint::Udp(udp) = &endpoint {
            let connected = {
                let _dialing = Dialing::new(&self.dialing);
                let connected = connect::connect_udp(udp, self.outbound()).await;
                self.turn().await;
                connected
            };
            let outcome = match connected {
                Ok(_) if self.ended.get() => return,
                Ok(udp) => self.open_dialed(id, udp),
                Err(error) => Err(error),
            };
            self.note_connect(outcome.as_ref().err().map(|error| error.kind));
            return self.deliver(id, outcome);
        }
        let connected = {
            let _dialing = Dialing::new(&self.dialing);
            let connected = connect::connect(&endpoint, self.outbound(), relayed).await;
            self.turn().await;
            connected
        };
        let outcome = match connected {
            Ok(_) if self.ended.get() => return,
            Ok((transport, addresses)) => {
                let connection = self.connection(self.next_id(), Some(transport), addresses, None);
                let made = connection.make(&Origin::Dialed(id));
                tokio::task::spawn_local(connection.serve());
                if made {
                    Ok(Value::Nothing)
                } else {
                    Err(OperationError::new(
                        ErrorKind::Closed,
                        "the plugin refused the connection",
                    ))
                }
            }
            Err(error) => Err(error),
        };
        self.note_connect(outcome.as_ref().err().map(|error| error.kind));
        self.deliver(id, outcome);
    }

    /// Counts an outbound connection, or why there is none.
    fn note_connect(&self, error: Option<ErrorKind>) {
        self.meters.connects.count(Connected::from(error));
    }

    fn open_dialed(self: &Rc<Self>, id: Id, udp: Udp) -> Outcome {
        match self.open(&Rc::new(udp), Origin::Dialed(id)) {
            Some(socket) => {
                tokio::task::spawn_local(socket.pump());
                Ok(Value::Nothing)
            }
            None => Err(OperationError::new(
                ErrorKind::Unsupported,
                "the plugin exports no `datagram-handler`",
            )),
        }
    }

    async fn look_up(self: Rc<Self>, id: Id, name: String) {
        let found = connect::look_up(&name, self.outbound()).await;
        let outcome = found.map(|addresses| self.keep_found(id, Found::Addresses(addresses)));
        self.deliver(id, outcome);
    }

    fn outbound(&self) -> Outbound<'_> {
        Outbound {
            grants: &self.program.grants,
            resolver: &self.resolver,
            look_ups: &self.look_ups,
            tls: &self.program.tls,
            limit: self.program.limits.connect_time,
        }
    }

    /// Notes an operation that its connection completes. Returns whether it may begin.
    pub(in crate::reactor) fn begin_step(&self, id: Id) -> bool {
        self.start(id, |_| Work::Step)
    }

    /// Notes a movement of bytes. Returns whether it may begin.
    pub(in crate::reactor) fn begin_transfer(&self, transfer: &Rc<Transfer>) -> bool {
        self.start(transfer.id, |_| Work::Transfer(transfer.clone()))
    }

    /// Returns how many bytes a movement has moved; none if it is over.
    pub fn progress(&self, id: Id) -> Option<u64> {
        match &self.operations.borrow().get(&id)?.work {
            Work::Transfer(transfer) => Some(transfer.moved()),
            _ => None,
        }
    }

    /// Completes an operation with an error, once the current callback has returned.
    pub(in crate::reactor) fn refuse(&self, id: Id, error: OperationError) {
        self.start(id, |_| Work::Decided);
        self.decide(id, Err(error));
    }

    /// Notes an operation that a task of its own completes, and starts the task.
    pub(in crate::reactor) fn start_task(&self, id: Id, task: impl Future<Output = ()> + 'static) {
        self.start(id, |_| {
            Work::Task(tokio::task::spawn_local(task).abort_handle())
        });
    }

    /// Notes an operation that came to something at once, and completes it.
    pub(in crate::reactor) fn settle(&self, id: Id, outcome: Outcome) {
        if self.start(id, |_| Work::Decided) {
            self.decide(id, outcome);
        }
    }

    /// Notes an operation, unless there are too many: then it completes with `limit`.
    pub(in crate::reactor) fn start(&self, id: Id, work: impl FnOnce(Id) -> Work) -> bool {
        let owner = self.current.get();
        if let Some(owner) = owner
            && let Some(connection) = self.connections.borrow().get(&owner)
        {
            connection.operations().borrow_mut().insert(id);
        }
        // Results that nobody takes count as well.
        let count = self.operations.borrow().len() + self.results.borrow().len();
        let count = count + self.logins.count();
        let full = count >= self.program.limits.operations;
        let work = if full { Work::Decided } else { work(id) };
        self.operations
            .borrow_mut()
            .insert(id, Operation { owner, work });
        if full {
            self.meters.limits.count(Limit::Operations);
            let message = format!(
                "{} operations are in flight",
                self.program.limits.operations
            );
            self.decide(id, Err(OperationError::new(ErrorKind::Limit, message)));
        }
        !full
    }

    /// Completes an operation once the current callback has returned.
    pub(in crate::reactor) fn decide(&self, id: Id, outcome: Outcome) {
        self.outcomes.borrow_mut().push_back((id, outcome));
        self.changed.notify_one();
    }

    fn disown(&self, operation: &Operation, id: Id) {
        if let Some(owner) = operation.owner
            && let Some(connection) = self.connections.borrow().get(&owner)
        {
            connection.operations().borrow_mut().remove(&id);
        }
    }

    /// Completes an operation, unless it was cancelled: now, or when the service has its turn. Never called while the instance is being called.
    pub(in crate::reactor) fn deliver(&self, id: Id, outcome: Outcome) {
        // What waits comes first.
        if self.outcomes.borrow().is_empty() && self.lane.may_run() {
            self.complete(id, outcome);
        } else {
            self.decide(id, outcome);
        }
    }

    /// As [`Self::deliver`], by who has made certain that it is the service's turn.
    pub(in crate::reactor) fn complete(&self, id: Id, outcome: Outcome) {
        let Some(operation) = self.operations.borrow_mut().remove(&id) else {
            return;
        };
        self.disown(&operation, id);
        let owner = operation
            .owner
            .and_then(|owner| self.connections.borrow().get(&owner).cloned());
        if let (Some(console), Err(error)) = (self.console.get(), &outcome)
            && error.kind == ErrorKind::Denied
        {
            console.note_refusal(&error.message);
        }
        let handler = match &owner {
            Some(owner) => owner.handler(),
            None => self.handler(),
        };
        if let Some(handler) = handler {
            handler.completed(owner.as_ref(), id, outcome);
        }
        self.look();
    }

    /// Returns how many operations are in flight.
    pub(in crate::reactor) fn operation_count(&self) -> usize {
        self.operations.borrow().len()
    }

    /// Completes timers, and what was decided at once, until the instance ends.
    pub(super) async fn drive(self: Rc<Self>) {
        while !self.ended.get() {
            // Only what waits now, and not too much of it: a plugin that slices its work with `after(0)`, and one that has many timers, let
            // the others have their turn.
            let waiting = self.outcomes.borrow().len().min(COMPLETIONS_PER_TURN);
            let began = Instant::now();
            for _ in 0..waiting {
                if began.elapsed() >= TIME_PER_TURN || !self.lane.may_run() {
                    break;
                }
                let decided = self.outcomes.borrow_mut().pop_front();
                if let Some((id, outcome)) = decided {
                    self.complete(id, outcome);
                }
            }
            let now = Instant::now();
            for _ in 0..COMPLETIONS_PER_TURN {
                let Some((deadline, id)) = self.due(now).filter(|_| self.lane.may_run()) else {
                    break;
                };
                if began.elapsed() >= TIME_PER_TURN {
                    break;
                }
                self.timers.borrow_mut().remove(&(deadline, id));
                self.complete(id, Ok(Value::Nothing));
            }
            if !self.outcomes.borrow().is_empty() || self.due(now).is_some() {
                tokio::task::yield_now().await;
                self.turn().await;
                continue;
            }
            let next = self.timers.borrow().first().map(|(deadline, _)| *deadline);
            match next {
                Some(deadline) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(deadline) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
        let operations = std::mem::take(&mut *self.operations.borrow_mut());
        for operation in operations.into_values() {
            if let Work::Task(task) = operation.work {
                task.abort();
            }
        }
        // The handler knows these holdings, and they know it: without this neither would ever be freed.
        self.closed().await;
        let handler = self.handler.borrow_mut().take();
        drop(handler);
        self.end_probation();
        self.dismiss_elder();
    }

    fn due(&self, now: Instant) -> Option<(Instant, Id)> {
        self.timers
            .borrow()
            .first()
            .copied()
            .filter(|(deadline, _)| *deadline <= now)
    }
}

/// Counts a connection that is being made, until it is, or is given up.
struct Dialing<'a>(&'a Cell<usize>);

impl<'a> Dialing<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Completions of one instance before the other tasks of the worker get their turn.
const COMPLETIONS_PER_TURN: usize = 64;

/// Time of one instance's completions before the other tasks of the worker get their turn, less than which the last one began: 10 ms. Sixty-four that each take what a
/// callback may take would be three seconds.
const TIME_PER_TURN: Duration = Duration::from_millis(10);
