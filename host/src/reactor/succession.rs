//! One version's instance takes the place of another's, with the same holdings: what goes on with whom, and the way back.
//!
//! After a swap three things may be there at once: the handler in charge; the *elder*, which sessions that could not move yet have stayed with; and the
//! *fallback*, the version before as it was at the swap, to which everything returns if the new one breaks on probation. Elder and fallback are the
//! same instance where both are there.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    fmt,
    rc::Rc,
};

use super::{
    connection::Connection,
    datagram::Socket,
    handler::{
        CloseReason, EndpointKey, ErrorKind, Handler, Id, OperationError, SessionKey, Value,
    },
    holdings::{Holdings, Work},
};

/// What is left of the version before.
#[derive(Default)]
pub(super) struct Versions {
    elder: RefCell<Option<Rc<dyn Handler>>>,
    fallback: RefCell<Option<Fallback>>,
    /// Memberships that the version before has still, and that count twice therefore.
    doubled: Cell<usize>,
    swaps: Cell<u64>,
}

/// The version before, as it was at the swap.
pub(crate) struct Fallback {
    handler: Rc<dyn Handler>,
    sessions: Vec<(Rc<Connection>, SessionKey)>,
    sockets: Vec<(Rc<Socket>, EndpointKey)>,
    operations: HashMap<Id, Outstanding>,
    returned: Returned,
}

/// Called once it is in charge again.
pub(crate) type Returned = Box<dyn FnOnce()>;

/// An operation that was in flight.
struct Outstanding {
    owner: Option<Id>,
    is_timer: bool,
}

impl Versions {
    pub(super) fn doubled(&self) -> usize {
        self.doubled.get()
    }

    /// Returns who has the sessions that did not move.
    pub(super) fn elder(&self) -> Option<Rc<dyn Handler>> {
        self.elder.borrow().clone()
    }
}

// A swap.
impl Holdings {
    /// The version before keeps its memberships while the new one builds its own.
    pub(crate) fn double_memberships(&self) {
        self.versions.doubled.set(self.membership_count());
    }

    /// Returns everything that the handler in charge has, to come back to.
    pub(crate) fn fallback(&self, returned: Returned) -> Option<Fallback> {
        let sessions = self.connections().into_iter();
        let sockets = self.sockets().into_iter();
        let operations = self.operations.borrow();
        let outstanding = operations.iter().map(|(id, operation)| {
            let is_timer = matches!(operation.work, Work::Timer(_));
            let owner = operation.owner;
            (*id, Outstanding { owner, is_timer })
        });
        Some(Fallback {
            handler: self.handler()?,
            sessions: sessions
                .filter_map(|connection| {
                    let session = connection.session()?;
                    Some((connection, session))
                })
                .collect(),
            sockets: sockets
                .filter_map(|socket| {
                    let endpoint = socket.endpoint()?;
                    Some((socket, endpoint))
                })
                .collect(),
            operations: outstanding.collect(),
            returned,
        })
    }

    /// Puts the next version in charge. `stays` are connections whose sessions are the old one's still.
    pub(crate) fn succeed(
        &self,
        next: Rc<dyn Handler>,
        fallback: Option<Fallback>,
        stays: &[Rc<Connection>],
    ) {
        self.versions.swaps.set(self.versions.swaps.get() + 1);
        let old = self.handler();
        for connection in self.connections() {
            connection.untouch();
        }
        for connection in stays {
            connection.stay(true);
        }
        // What was there of an earlier swap is over by now.
        self.versions
            .elder
            .replace(old.filter(|_| !stays.is_empty()));
        self.versions.fallback.replace(fallback);
        self.set_handler(next);
    }

    /// A session that had stayed has moved.
    pub(crate) fn followed(&self, connection: &Connection, session: SessionKey) {
        connection.set_session(Some(session));
        connection.stay(false);
        connection.touch();
    }

    /// Returns the connections whose sessions are the version before's.
    pub(crate) fn staying(&self) -> Vec<Rc<Connection>> {
        let mut connections = self.connections();
        connections.retain(|connection| connection.stays());
        connections
    }

    /// Nobody stays with the version before any more.
    pub(crate) fn dismiss_elder(&self) {
        let elder = self.versions.elder.take();
        self.forget_doubled();
        drop(elder);
    }

    /// The new version has proved itself.
    pub(crate) fn end_probation(&self) {
        let fallback = self.versions.fallback.take();
        drop(fallback);
        self.forget_doubled();
    }

    /// As [`Self::end_probation`], unless there was another swap since.
    pub(crate) fn end_probation_of(&self, swap: u64) {
        if self.swap_count() == swap {
            self.end_probation();
        }
    }

    /// Returns how often another handler was put in charge.
    pub(crate) fn swap_count(&self) -> u64 {
        self.versions.swaps.get()
    }

    fn forget_doubled(&self) {
        if self.versions.elder.borrow().is_none() && self.versions.fallback.borrow().is_none() {
            self.versions.doubled.set(0);
        }
    }

    /// A handler broke. If it is the version before, it takes those along that stayed with it; if it is the new one on probation, the version before is in
    /// charge again; otherwise everything ends.
    pub(crate) fn broke(self: &Rc<Self>, who: &dyn Handler) {
        let is_elder = self
            .versions
            .elder
            .borrow()
            .as_deref()
            .is_some_and(|it| is(it, who));
        if is_elder {
            self.versions.fallback.take();
            self.dismiss_elder();
            for connection in self.staying() {
                connection.end(CloseReason::Trapped);
            }
            return;
        }
        let in_charge = self.handler().is_some_and(|it| is(&*it, who));
        match self.versions.fallback.take().filter(|_| in_charge) {
            Some(fallback) => self.go_back(fallback),
            None => self.fail(),
        }
    }

    /// Sessions without an event since the swap go on with the version before; the others are closed, and it is told.
    fn go_back(self: &Rc<Self>, fallback: Fallback) {
        let Fallback {
            handler,
            sessions,
            sockets,
            operations,
            returned,
        } = fallback;
        let broken = self.handler();
        self.versions.elder.take();
        self.set_handler(handler.clone());
        let mut known = HashSet::new();
        let mut untouched = HashSet::new();
        let mut lost = Vec::new();
        for (connection, session) in sessions {
            if connection.is_lost() {
                lost.push((connection, session));
                continue;
            }
            known.insert(connection.id());
            connection.set_session(Some(session));
            if !connection.stays() && connection.is_touched() {
                connection.end(CloseReason::Trapped);
            } else {
                untouched.insert(connection.id());
            }
            connection.stay(false);
        }
        for connection in self.connections() {
            if !known.contains(&connection.id()) {
                connection.set_session(None);
                connection.end(CloseReason::Trapped);
            }
        }
        self.return_sockets(&sockets);
        self.return_operations(&operations, &untouched);
        self.versions.doubled.set(0);
        // Not from within the callback that broke. It keeps the broken one alive until it has returned, too.
        tokio::task::spawn_local(async move {
            drop(broken);
            for (connection, session) in lost {
                handler.connection_lost(&connection, session, &CloseReason::Trapped);
            }
        });
        returned();
    }

    fn return_sockets(&self, sockets: &[(Rc<Socket>, EndpointKey)]) {
        for socket in self.sockets() {
            let before = sockets.iter().find(|(it, _)| Rc::ptr_eq(it, &socket));
            socket.set_endpoint(before.map(|(_, endpoint)| *endpoint));
            if before.is_none() {
                socket.end(CloseReason::Trapped);
            }
        }
    }

    /// Ends what the new version started, and completes for the old one what the new one was told or has cancelled: a timer as if it were due now,
    /// anything else as failed.
    fn return_operations(&self, before: &HashMap<Id, Outstanding>, untouched: &HashSet<Id>) {
        let mut since: Vec<_> = self.operations.borrow().keys().copied().collect();
        since.retain(|id| !before.contains_key(id));
        for id in since {
            self.cancel(id);
        }
        let outer = self.enter(None);
        for (id, operation) in before {
            let is_owned_by_nobody = operation
                .owner
                .is_some_and(|owner| !untouched.contains(&owner));
            if is_owned_by_nobody || self.operations.borrow().contains_key(id) {
                continue;
            }
            self.enter(operation.owner);
            let outcome = if operation.is_timer {
                Ok(Value::Nothing)
            } else {
                let message = "its result went to a version of the plugin that broke";
                Err(OperationError::new(ErrorKind::Reset, message))
            };
            self.settle(*id, outcome);
        }
        self.enter(outer);
    }
}

fn is(handler: &dyn Handler, who: &dyn Handler) -> bool {
    std::ptr::addr_eq(handler, who)
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions")
            .field("elder", &self.elder.borrow().is_some())
            .field("fallback", &self.fallback.borrow().is_some())
            .finish()
    }
}
