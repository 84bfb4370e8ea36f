//! One instance of a plugin: its factory, its sessions, and what surrounds each callback. The contract's exports and the test
//! harness both drive it.

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    time::Duration,
};

use crate::{
    bindings::nethost::plugin::{
        deferred::Value,
        types::{self, CloseReason},
    },
    config::Config,
    connection::{Connection, ConnectionId},
    deferred::{self, Purpose},
    executor, host,
    protocol::{Context, Factory, Origin, Protocol, Refusal, Swap},
    stream::{Feed, Stream},
    types::Error,
};

/// Calls a function with the factory, from a task or a closure of a [`Deferred`](crate::Deferred).
///
/// # Panics
///
/// Within a callback, which has the factory in its context already, and if `F` is not the plugin's factory.
pub fn with_factory<F: Factory, R>(call: impl FnOnce(&mut F) -> R) -> R {
    let factory = factory::<F>();
    let mut factory = factory.borrow_mut();
    call(&mut factory)
}

/// Calls a function with a session and its context, from a task or a closure of a [`Deferred`](crate::Deferred). None if that connection is lost,
/// or not of this protocol.
///
/// # Panics
///
/// Within a callback, which has its own session and the factory already.
pub fn with_session<P: Protocol, R>(
    id: ConnectionId,
    call: impl FnOnce(&mut P, &mut Context<'_, P::Factory>) -> R,
) -> Option<R> {
    let session = SESSIONS.with_borrow(|sessions| sessions.get(&id).and_then(Weak::upgrade))?;
    let session = session.downcast::<Inner<P>>().ok()?;
    session.with_protocol(call)
}

/// Makes the factory.
pub(crate) fn configure<P: Protocol>(config: String) -> Result<(), String> {
    executor::enter(None);
    let factory = P::Factory::configure(&Config::new(config))?;
    FACTORY.with_borrow_mut(|slot| *slot = Some(Rc::new(RefCell::new(factory))));
    executor::run_ready();
    Ok(())
}

/// Tells the factory that the service goes away.
pub(crate) fn draining<P: Protocol>(deadline: u64) {
    executor::enter(None);
    with_factory::<P::Factory, _>(|factory| factory.draining(Duration::from_nanos(deadline)));
    executor::run_ready();
}

/// An operation came to something.
pub(crate) fn completed(id: u64, outcome: Result<Value, Error>) {
    executor::enter(deferred::owner(id));
    deferred::completed(id, outcome);
    executor::run_ready();
}

/// One session, as the contract exports it.
pub(crate) struct Session<P: Protocol>(Rc<Inner<P>>);

struct Inner<P: Protocol> {
    id: ConnectionId,
    connection: Connection,
    factory: Rc<RefCell<P::Factory>>,
    role: RefCell<Role<P>>,
}

/// What is behind a connection.
enum Role<P> {
    /// The plugin's protocol.
    Protocol(P),
    /// A task that reads and writes a [`Stream`].
    Stream(Feed),
}

impl<P: Protocol> Session<P> {
    pub(crate) fn made(connection: host::Connection, origin: types::Origin) -> Option<Self> {
        let connection = Connection::new(connection);
        let id = connection.id();
        executor::enter(Some(id));
        let dialed = match origin {
            types::Origin::Dialed(operation) => deferred::dialed(operation, id),
            _ => None,
        };
        let role = match dialed {
            Some(dialed) if dialed.purpose == Purpose::Stream => {
                let (stream, feed) = Stream::new(&connection);
                dialed.stream.replace(Some(stream));
                Some(Role::Stream(feed))
            }
            _ => {
                let factory = factory::<P::Factory>();
                let cx = &mut Context {
                    connection: &connection,
                    factory: &mut *factory.borrow_mut(),
                };
                P::connection_made(cx, Origin::from_contract(origin)).map(Role::Protocol)
            }
        };
        let session = role.map(|role| Self::new(connection, role));
        if session.is_none() {
            // No `connection-lost` will come for it.
            executor::session_ended(id);
        }
        executor::run_ready();
        session
    }

    fn new(connection: Connection, role: Role<P>) -> Self {
        let id = connection.id();
        let inner = Rc::new(Inner {
            id,
            connection,
            factory: factory(),
            role: RefCell::new(role),
        });
        let weak: Weak<dyn Any> = Rc::downgrade(&(Rc::clone(&inner) as Rc<dyn Any>));
        SESSIONS.with_borrow_mut(|sessions| sessions.insert(id, weak));
        Self(inner)
    }

    pub(crate) fn data_received(&self, data: &[u8]) {
        executor::enter(Some(self.0.id));
        self.0.call(
            |protocol, cx| protocol.data_received(cx, data),
            |feed| feed.data_received(data),
        );
        executor::run_ready();
    }

    pub(crate) fn writable(&self) {
        executor::enter(Some(self.0.id));
        self.0.call(P::writable, Feed::writable);
        executor::run_ready();
    }

    pub(crate) fn read_closed(&self) {
        executor::enter(Some(self.0.id));
        self.0.call(P::read_closed, Feed::read_closed);
        executor::run_ready();
    }

    pub(crate) fn connection_lost(&self, reason: CloseReason) {
        let id = self.0.id;
        // What is started from here on belongs to the instance, says the contract.
        executor::enter(None);
        SESSIONS.with_borrow_mut(|sessions| sessions.remove(&id));
        let told = reason.clone();
        self.0.call(
            |protocol, cx| protocol.connection_lost(cx, told),
            |feed| feed.connection_lost(reason),
        );
        // Tasks see the end of their streams once before they are dropped.
        executor::run_ready();
        executor::session_ended(id);
        deferred::session_ended(id);
        executor::run_ready();
    }
}

impl<P: Protocol> Inner<P> {
    fn call<R>(
        &self,
        protocol: impl FnOnce(&mut P, &mut Context<'_, P::Factory>) -> R,
        stream: impl FnOnce(&mut Feed) -> R,
    ) -> R {
        match &mut *self.role.borrow_mut() {
            Role::Protocol(session) => {
                let cx = &mut Context {
                    connection: &self.connection,
                    factory: &mut *self.factory.borrow_mut(),
                };
                protocol(session, cx)
            }
            Role::Stream(feed) => stream(feed),
        }
    }

    fn with_protocol<R>(
        &self,
        call: impl FnOnce(&mut P, &mut Context<'_, P::Factory>) -> R,
    ) -> Option<R> {
        self.call(|protocol, cx| Some(call(protocol, cx)), |_| None)
    }
}

impl<P: Swap> Session<P> {
    pub(crate) fn save(&self, format: &str) -> Result<Vec<u8>, Refusal> {
        if executor::is_busy(self.0.id) {
            return Err(Refusal::Busy);
        }
        self.0.call(
            |protocol, _| protocol.save_session(format),
            |_| Err(Refusal::Busy),
        )
    }

    pub(crate) fn restore(
        connection: host::Connection,
        format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        let connection = Connection::new(connection);
        executor::enter(Some(connection.id()));
        let restored = {
            let factory = factory::<P::Factory>();
            let cx = &mut Context {
                connection: &connection,
                factory: &mut *factory.borrow_mut(),
            };
            P::restore_session(cx, format, state)
        };
        let session = restored.map(|protocol| Self::new(connection, Role::Protocol(protocol)));
        executor::run_ready();
        session
    }
}

/// Saves the factory.
pub(crate) fn save<P: Swap>(format: &str) -> Result<Vec<u8>, Refusal> {
    with_factory::<P::Factory, _>(|factory| P::save(factory, format))
}

/// Restores the factory.
pub(crate) fn restore<P: Swap>(format: &str, state: &[u8]) -> Result<(), String> {
    executor::enter(None);
    let restored = with_factory::<P::Factory, _>(|factory| P::restore(factory, format, state));
    executor::run_ready();
    restored
}

pub(crate) fn factory<F: Factory>() -> Rc<RefCell<F>> {
    let factory = FACTORY
        .with_borrow(|slot| slot.clone())
        .and_then(|factory| factory.downcast().ok());
    match factory {
        Some(factory) => factory,
        None => panic!("the instance is not configured, or its factory is of another type"),
    }
}

/// Everything that an instance is, taken out of this thread while another one runs: what tests of a swap need.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Suspended {
    factory: Option<Rc<dyn Any>>,
    sessions: HashMap<ConnectionId, Weak<dyn Any>>,
    operations: deferred::Operations,
    executor: executor::Suspended,
}

#[cfg(not(target_arch = "wasm32"))]
impl Suspended {
    pub(crate) fn take() -> Self {
        Self {
            factory: FACTORY.take(),
            sessions: SESSIONS.take(),
            operations: deferred::suspend(),
            executor: executor::suspend(),
        }
    }

    pub(crate) fn resume(self) {
        FACTORY.set(self.factory);
        SESSIONS.set(self.sessions);
        deferred::resume(self.operations);
        executor::resume(self.executor);
    }
}

thread_local! {
    static FACTORY: RefCell<Option<Rc<dyn Any>>> = RefCell::default();
    static SESSIONS: RefCell<HashMap<ConnectionId, Weak<dyn Any>>> = RefCell::default();
}
