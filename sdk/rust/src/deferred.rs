//! Results that come later.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    fmt,
    future::{Future, IntoFuture, poll_fn},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    bindings::nethost::plugin::{deferred::Value, types::ErrorCode},
    clock,
    connection::{Address, ConnectionId},
    datagram::DatagramSocket,
    datagram_peer::{DatagramPeer, Feed},
    executor::{self, Kind, Task},
    host, log,
    stream::Stream,
    types::Error,
};

/// A result that comes later: Twisted's Deferred, and a `Future` to `await`.
///
/// What it stands for is started when it is made; the functions chained to it run when something awaits it, or after
/// [`start`](Self::start) or [`detach`](Self::detach). Dropping it cancels the operation: a result that nobody waits for must not
/// keep a connection attempt alive.
#[must_use = "a deferred that is dropped is cancelled; await, start or detach it"]
pub struct Deferred<T> {
    id: Option<OperationId>,
    future: Pin<Box<dyn Future<Output = Result<T, Error>>>>,
}

/// Completes after this long. 0 completes as soon as the current callback has returned, after what waits already: long work is
/// cut into slices with it.
pub fn after(delay: Duration) -> Deferred<()> {
    let operation = Operation::timer(delay);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move { operation.outcome().await.map(drop) }),
    }
}

/// Connects to an endpoint such as `tcp://irc.example.net:6667`.
///
/// On success the protocol's `connection_made` is called with the origin `Dialed(id)`, and this completes with the connection's
/// id: [`with_session`](crate::with_session) reaches it. Errors: see the contract's `deferred.connect`; `denied` unless the operator granted it.
pub fn connect(endpoint: &str) -> Deferred<ConnectionId> {
    let operation = Operation::started(host::connect(endpoint), Purpose::Session);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            operation.outcome().await?;
            operation
                .0
                .connection
                .get()
                .ok_or_else(|| closed("the connection is lost already"))
        }),
    }
}

/// Connects to an endpoint and gives the connection as a [`Stream`]; the protocol is not told of it.
pub(crate) fn connect_stream(endpoint: &str) -> Deferred<Stream> {
    let operation = Operation::started(host::connect(endpoint), Purpose::Stream);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            operation.outcome().await?;
            operation
                .0
                .stream
                .take()
                .ok_or_else(|| closed("the connection is lost already"))
        }),
    }
}

/// Makes a socket for datagrams with one peer: `udp://192.0.2.1:53`.
///
/// On success an endpoint is made with the origin `Dialed(id)`, and this completes with its socket. The peer may be there or not: nothing was
/// sent. Errors: as for [`connect`], and `unsupported` in a plugin that exports no datagrams.
pub fn connect_datagrams(endpoint: &str) -> Deferred<DatagramSocket> {
    let operation = Operation::started(host::connect(endpoint), Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            operation.outcome().await?;
            let socket = operation.0.socket.take().map(|it| it.downcast());
            let socket = socket.and_then(Result::ok).map(|it| *it);
            socket.ok_or_else(|| closed("it is a connection, or closed already"))
        }),
    }
}

/// Makes a socket for datagrams with one peer and gives it as a [`DatagramPeer`]; the protocol for datagrams is not told of it.
pub(crate) fn connect_datagram_peer(endpoint: &str) -> Deferred<DatagramPeer> {
    let operation = Operation::started(host::connect(endpoint), Purpose::DatagramPeer);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            operation.outcome().await?;
            let peer = operation.0.socket.take().map(|it| it.downcast());
            let peer = peer.and_then(Result::ok).map(|it| *it);
            peer.ok_or_else(|| closed("it is a connection, or closed already"))
        }),
    }
}

/// Looks up the addresses of a name, in the order to try them.
pub fn resolve(name: &str) -> Deferred<Vec<IpAddr>> {
    let operation = Operation::started(host::resolve(name), Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            operation.outcome().await?;
            let found = host::take_addresses(operation.id().0);
            Ok(found
                .into_iter()
                .filter_map(|address| Address::from_contract(address).ip())
                .collect())
        }),
    }
}

/// An operation that completes with nothing.
pub(crate) fn nothing(id: u64) -> Deferred<()> {
    let operation = Operation::started(id, Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move { operation.outcome().await.map(drop) }),
    }
}

/// An operation that completes with a number.
pub(crate) fn number(id: u64) -> Deferred<u64> {
    let operation = Operation::started(id, Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            match operation.outcome().await? {
                Value::Number(number) => Ok(number),
                other => Err(Error {
                    code: ErrorCode::Unsupported,
                    message: format!("the host completed it with {other:?}, which is no number"),
                }),
            }
        }),
    }
}

/// An operation that completes with bytes.
pub(crate) fn bytes(id: u64) -> Deferred<Vec<u8>> {
    let operation = Operation::started(id, Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            match operation.outcome().await? {
                Value::Bytes(bytes) => Ok(bytes),
                other => Err(Error {
                    code: ErrorCode::Unsupported,
                    message: format!("the host completed it with {other:?}, which are no bytes"),
                }),
            }
        }),
    }
}

/// An operation whose result is made of its id and what it completed with.
pub(crate) fn made<T: 'static>(
    id: u64,
    make: impl FnOnce(u64, Value) -> Result<T, Error> + 'static,
) -> Deferred<T> {
    let operation = Operation::started(id, Purpose::Other);
    Deferred {
        id: Some(operation.id()),
        future: Box::pin(async move {
            let value = operation.outcome().await?;
            make(operation.id().0, value)
        }),
    }
}

/// An operation whose result is taken.
pub(crate) fn taken<T: 'static>(
    id: u64,
    take: impl FnOnce(u64) -> Option<T> + 'static,
) -> Deferred<T> {
    let operation = Untaken(Operation::started(id, Purpose::Other));
    Deferred {
        id: Some(operation.0.id()),
        future: Box::pin(async move {
            let Untaken(operation) = &operation;
            operation.outcome().await?;
            take(operation.id().0).ok_or_else(|| Error {
                code: ErrorCode::Unsupported,
                message: "the host has no result to take".to_owned(),
            })
        }),
    }
}

/// Has the host forget a result that nobody takes: an open file counts until then.
struct Untaken(Operation);

impl Drop for Untaken {
    fn drop(&mut self) {
        host::cancel(self.0.id().0);
    }
}

impl<T: 'static> Deferred<T> {
    /// A deferred of a future.
    pub fn new(future: impl Future<Output = Result<T, Error>> + 'static) -> Self {
        Self {
            id: None,
            future: Box::pin(future),
        }
    }

    /// The id of the operation that this came from, for saved state; none if it came from a future.
    pub fn id(&self) -> Option<OperationId> {
        self.id
    }

    /// Changes the result.
    pub fn map<U: 'static>(self, change: impl FnOnce(T) -> U + 'static) -> Deferred<U> {
        Deferred {
            id: self.id,
            future: Box::pin(async move { self.future.await.map(change) }),
        }
    }

    /// Goes on with another deferred, or an `async` block, unless there was an error: Twisted's callback.
    pub fn then<U, N>(self, next: impl FnOnce(T) -> N + 'static) -> Deferred<U>
    where
        U: 'static,
        N: IntoFuture<Output = Result<U, Error>> + 'static,
    {
        Deferred {
            id: self.id,
            future: Box::pin(async move { next(self.future.await?).await }),
        }
    }

    /// Goes on with another deferred, or an `async` block, if there was an error: Twisted's errback.
    pub fn or_else<N>(self, next: impl FnOnce(Error) -> N + 'static) -> Self
    where
        N: IntoFuture<Output = Result<T, Error>> + 'static,
    {
        let future = async move {
            match self.future.await {
                Ok(value) => Ok(value),
                Err(error) => next(error).await,
            }
        };
        Self {
            id: self.id,
            future: Box::pin(future),
        }
    }

    /// Fails with `timeout` if there is no result after this long from now, and cancels what it was waiting for.
    pub fn timeout(self, limit: Duration) -> Self {
        let Self { id, mut future } = self;
        let mut timer = after(limit);
        let race = poll_fn(move |cx| {
            if let Poll::Ready(outcome) = future.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            Pin::new(&mut timer).poll(cx).map(|_| {
                Err(Error {
                    code: ErrorCode::Timeout,
                    message: format!("no result within {limit:?}"),
                })
            })
        });
        Self {
            id,
            future: Box::pin(race),
        }
    }

    /// Gives the operation up. The same as dropping it, with a name.
    pub fn cancel(self) {}

    /// Runs what is chained to it, until the returned handle is dropped. An error that nobody handled is logged at level `debug`.
    ///
    /// It belongs to a session or to the instance, as a [task](crate::spawn) does; but it does not keep its session from moving to another
    /// version of the plugin. A session that wants the result there saves the [`id`](Self::id) and [adopts](Self::adopt) it.
    pub fn start(self) -> Task {
        let run = async move {
            if let Err(error) = self.future.await {
                log::debug!("deferred: {error}");
            }
        };
        executor::start(run, executor::owner(), Kind::Restartable)
    }

    /// [`start`](Self::start)s it, and lets it run with nobody holding it.
    pub fn detach(self) {
        self.start().detach();
    }
}

impl Deferred<()> {
    /// A timer, or a handshake, that was started before a swap, by the id that the saved state has.
    pub fn adopt(id: OperationId) -> Self {
        nothing(id.0)
    }
}

impl<T> Future for Deferred<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Names an operation that was started; never reused within an instance, and kept across a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u64);

impl OperationId {
    /// The id as the number that the contract has: for saved state.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u64> for OperationId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

/// An operation came to this: wakes what waits for it. An id that nobody waits for is ignored.
pub(crate) fn completed(id: u64, outcome: Result<Value, Error>) {
    let state = OPERATIONS.with_borrow_mut(|operations| operations.remove(id));
    if let Some(state) = state {
        state.complete(outcome);
    }
}

/// Who owns an operation: the session in whose callback it was started, as the host sees it.
pub(crate) fn owner(id: u64) -> Option<ConnectionId> {
    OPERATIONS.with_borrow(|operations| operations.by_id.get(&id)?.owner.get())
}

/// A connection that an operation asked for is there. Tells the operation, and says what it wanted.
pub(crate) fn dialed(id: u64, connection: ConnectionId) -> Option<Rc<State>> {
    let state = OPERATIONS.with_borrow(|operations| operations.by_id.get(&id).cloned())?;
    state.connection.set(Some(connection));
    Some(state)
}

/// The socket that an operation asked for is there. Returns what is to be fed, if that is no endpoint of the plugin's protocol.
pub(crate) fn dialed_socket(id: u64, socket: &DatagramSocket) -> Option<Feed> {
    let state = OPERATIONS.with_borrow(|operations| operations.by_id.get(&id).cloned())?;
    if state.purpose == Purpose::DatagramPeer {
        let (peer, feed) = DatagramPeer::new(socket);
        state.socket.replace(Some(Box::new(peer)));
        return Some(feed);
    }
    state.socket.replace(Some(Box::new(socket.clone())));
    None
}

/// A session is gone, and with it, in the host, every operation that was started in one of its callbacks. Its tasks are dropped already;
/// what is left was started there and given to others. Their timers are started again, and what else they wait for fails.
pub(crate) fn session_ended(owner: ConnectionId) {
    let orphans = OPERATIONS.with_borrow_mut(|operations| operations.take_owned(owner));
    for state in orphans {
        match state.deadline {
            Some(deadline) => {
                let left = deadline.saturating_sub(clock::monotonic());
                state.id.set(host::after(host::nanoseconds(left)));
                state.owner.set(None);
                OPERATIONS.with_borrow_mut(|operations| operations.insert(state));
            }
            None => state.complete(Err(closed(
                "the connection in whose callback this was started is lost",
            ))),
        }
    }
}

/// Whether something waits for an operation.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn is_awaited(id: u64) -> bool {
    OPERATIONS.with_borrow(|operations| operations.by_id.contains_key(&id))
}

/// Takes the table of operations out of this thread, and puts one back.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn suspend() -> Operations {
    OPERATIONS.take()
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn resume(operations: Operations) {
    OPERATIONS.set(operations);
}

/// The operations in flight.
#[derive(Default)]
pub(crate) struct Operations {
    by_id: HashMap<u64, Rc<State>>,
    by_owner: BTreeSet<(ConnectionId, u64)>,
}

impl Operations {
    fn insert(&mut self, state: Rc<State>) {
        let id = state.id.get();
        self.by_owner
            .extend(state.owner.get().map(|owner| (owner, id)));
        self.by_id.insert(id, state);
    }

    fn remove(&mut self, id: u64) -> Option<Rc<State>> {
        let state = self.by_id.remove(&id)?;
        if let Some(owner) = state.owner.get() {
            self.by_owner.remove(&(owner, id));
        }
        Some(state)
    }

    fn take_owned(&mut self, owner: ConnectionId) -> Vec<Rc<State>> {
        let ids: Vec<_> = self
            .by_owner
            .range((owner, 0)..=(owner, u64::MAX))
            .map(|(_, id)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

/// One operation of the host, cancelled when dropped.
pub(crate) struct Operation(Rc<State>);

/// What is known of an operation, shared by the one who waits and the table of those in flight.
pub(crate) struct State {
    id: Cell<u64>,
    /// The session in whose callback it was started, as the host sees it.
    owner: Cell<Option<ConnectionId>>,
    deadline: Option<Duration>,
    pub(crate) purpose: Purpose,
    connection: Cell<Option<ConnectionId>>,
    pub(crate) stream: RefCell<Option<Stream>>,
    /// A [`DatagramSocket`] or a [`DatagramPeer`], and not by its name: what drops one imports `datagram`, and a plugin imports only what it uses.
    socket: RefCell<Option<Box<dyn Any>>>,
    outcome: RefCell<Option<Result<Value, Error>>>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection that an operation asks for becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session of the plugin's protocol.
    Session,
    /// A [`Stream`].
    Stream,
    /// A [`DatagramPeer`].
    DatagramPeer,
    /// It asks for none.
    Other,
}

impl Operation {
    pub(crate) fn timer(delay: Duration) -> Self {
        let deadline = clock::monotonic().saturating_add(delay);
        Self::track(
            host::after(host::nanoseconds(delay)),
            Purpose::Other,
            Some(deadline),
        )
    }

    fn started(id: u64, purpose: Purpose) -> Self {
        Self::track(id, purpose, None)
    }

    fn track(id: u64, purpose: Purpose, deadline: Option<Duration>) -> Self {
        let ambient = executor::ambient();
        // A task runs in the callback that wakes it. What it starts there must not end with that callback's session.
        let is_strangers = ambient.is_some() && executor::owner() != ambient;
        if is_strangers {
            host::keep(id);
        }
        let state = Rc::new(State {
            id: Cell::new(id),
            owner: Cell::new(ambient.filter(|_| !is_strangers)),
            deadline,
            purpose,
            connection: Cell::default(),
            stream: RefCell::default(),
            socket: RefCell::default(),
            outcome: RefCell::default(),
            waker: RefCell::default(),
        });
        OPERATIONS.with_borrow_mut(|operations| operations.insert(Rc::clone(&state)));
        Self(state)
    }

    fn id(&self) -> OperationId {
        OperationId(self.0.id.get())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.0.outcome.borrow().is_some()
    }

    async fn outcome(&self) -> Result<Value, Error> {
        poll_fn(|cx| match self.0.outcome.borrow().as_ref() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                self.0.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let id = self.0.id.get();
        // Gone from the table means complete. A thread that ends may have dropped the table before this.
        let pending =
            OPERATIONS.try_with(|operations| operations.borrow_mut().remove(id).is_some());
        if pending == Ok(true) {
            host::cancel(id);
        }
    }
}

impl State {
    fn complete(&self, outcome: Result<Value, Error>) {
        self.outcome.replace(Some(outcome));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn closed(message: &str) -> Error {
    Error {
        code: ErrorCode::Closed,
        message: message.into(),
    }
}

thread_local! {
    static OPERATIONS: RefCell<Operations> = RefCell::default();
}
