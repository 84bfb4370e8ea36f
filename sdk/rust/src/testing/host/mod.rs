//! A host for tests.

mod commands;
mod datagrams;
mod grants;
mod swap;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use datagrams::Bound;
pub use grants::Grants;
pub use swap::SwapError;

use super::{
    accounts::Users,
    bulk::{Access, error},
    command,
    disk::Folder,
    reactor::{self, Connection, Ending, Intake, Sink, Step, Wire},
};
use crate::{
    bindings::nethost::plugin::{
        deferred::Value,
        log::Level,
        types::{self, CloseReason, ErrorCode},
    },
    connection::{Address, ConnectionId, HIGH_WATER},
    datagram::SocketId,
    deferred::OperationId,
    executor,
    instance::{self, Session},
    protocol::Protocol,
    tls::{TlsInfo, TlsRole},
    types::Error,
};

/// One instance of a plugin and everything around it, under the test's control: peers, a clock that stands until it is advanced, and answers
/// to what the plugin asks for.
///
/// One at a time per thread. Every method returns when nothing is left to do at the current time, and panics when that is never, or
/// when it is given an id that does not exist.
pub struct Host<P: Protocol> {
    peers: BTreeMap<ConnectionId, Peer<P>>,
    sockets: BTreeMap<SocketId, Bound>,
}

impl<P: Protocol> Host<P> {
    /// Configures an instance with a JSON object, at second 0.
    pub fn start(config: &str) -> Result<Self, String> {
        Self::start_with_files(config, [])
    }

    /// Configures an instance that is granted these files, in memory: name, access, contents.
    pub fn start_with_files<'a>(
        config: &str,
        files: impl IntoIterator<Item = (&'a str, Access, &'a [u8])>,
    ) -> Result<Self, String> {
        let files = files.into_iter();
        let grants = files.fold(Grants::new(), |grants, (name, access, contents)| {
            grants.file(name, access, contents)
        });
        Self::start_with(config, grants)
    }

    /// Configures an instance that is granted these files and directories, in memory.
    pub fn start_with(config: &str, grants: Grants) -> Result<Self, String> {
        Self::start_in(config, |reactor| {
            reactor.files = grants.files;
            reactor.folders = grants.folders;
        })
    }

    /// Configures an instance that is granted these users.
    pub fn start_with_users(config: &str, users: Users) -> Result<Self, String> {
        Self::start_in(config, |reactor| reactor.logins.users = Some(users))
    }

    fn start_in(config: &str, set_up: impl FnOnce(&mut reactor::Reactor)) -> Result<Self, String> {
        executor::reset();
        reactor::with(|reactor| {
            *reactor = reactor::Reactor::default();
            set_up(reactor);
        });
        instance::configure::<P>(config.to_owned())?;
        let mut host = Self {
            peers: BTreeMap::new(),
            sockets: BTreeMap::new(),
        };
        host.settle();
        Ok(host)
    }

    /// A client connects from the loopback address.
    pub fn connect(&mut self) -> ConnectionId {
        self.connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// A client connects from this address.
    pub fn connect_from(&mut self, address: IpAddr) -> ConnectionId {
        let peer = Address::Socket(SocketAddr::new(address, CLIENT_PORT));
        let origin = types::Origin::Configured(format!("tcp://{}", listener()));
        let (id, _) = self.made(&peer, origin);
        self.settle();
        id
    }

    /// The peer sends bytes, which arrive in one piece.
    pub fn send(&mut self, id: ConnectionId, data: &[u8]) {
        if !data.is_empty() {
            self.peer(id)
                .wire
                .incoming
                .borrow_mut()
                .push_back(data.to_vec());
        }
        self.settle();
    }

    /// Takes what the peer has received.
    pub fn received(&mut self, id: ConnectionId) -> Vec<u8> {
        std::mem::take(&mut self.peer(id).received)
    }

    /// Whether the peer has received everything that it ever will, and sees the end of the stream.
    pub fn is_ended(&mut self, id: ConnectionId) -> bool {
        let peer = self.peer(id);
        peer.lost.is_some() || peer.wire.write_closed.get() && peer.wire.is_drained()
    }

    /// Why the connection was lost; none while it is open.
    pub fn close_reason(&mut self, id: ConnectionId) -> Option<CloseReason> {
        self.peer(id).lost.clone()
    }

    /// The peer closes its writing half.
    pub fn close_write(&mut self, id: ConnectionId) {
        self.peer(id).write_closed = true;
        self.settle();
    }

    /// The peer resets the connection.
    pub fn reset(&mut self, id: ConnectionId) {
        self.lose(id, CloseReason::Reset);
        self.settle();
    }

    /// The peer stops taking bytes.
    pub fn stall(&mut self, id: ConnectionId) {
        self.peer(id).taking = Taking::Nothing;
    }

    /// The peer takes bytes again.
    pub fn take(&mut self, id: ConnectionId) {
        self.peer(id).taking = Taking::Everything;
        self.settle();
    }

    /// How many of the bytes that the plugin wrote the peer has not taken. What is moved by itself is not counted.
    pub fn unsent(&mut self, id: ConnectionId) -> usize {
        self.peer(id).wire.unsent()
    }

    /// Whether the plugin has paused reading.
    pub fn is_paused(&mut self, id: ConnectionId) -> bool {
        self.peer(id).wire.paused.get()
    }

    /// Time passes; timers and idle timeouts that fall due do so in order, each at its own time.
    pub fn advance(&mut self, time: Duration) {
        let end = reactor::with(|reactor| reactor.now.saturating_add(time));
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            reactor::with(|reactor| reactor.now = reactor.now.max(due));
            self.settle();
        }
        reactor::with(|reactor| reactor.now = end);
        self.settle();
    }

    /// Time passes in one leap: what falls due on the way comes late, as on a busy machine.
    pub fn leap(&mut self, time: Duration) {
        reactor::with(|reactor| reactor.now = reactor.now.saturating_add(time));
        self.settle();
    }

    /// The service is going away in this much time.
    pub fn draining(&mut self, deadline: Duration) {
        instance::draining::<P>(crate::host::nanoseconds(deadline));
        self.settle();
    }

    /// The timers that are running: what the plugin waits for.
    pub fn timers(&self) -> usize {
        reactor::with(|reactor| reactor.timers.len())
    }

    /// The connections that the plugin asked for and that were not answered, oldest first.
    pub fn dials(&self) -> Vec<(OperationId, String)> {
        reactor::with(|reactor| {
            reactor
                .connects
                .iter()
                .map(|(id, asked)| ((*id).into(), asked.what.clone()))
                .collect()
        })
    }

    /// Answers a dial: the connection is there.
    pub fn accept(&mut self, dial: OperationId) -> ConnectionId {
        let asked = reactor::with(|reactor| reactor.connects.remove(&dial.as_u64()));
        assert!(asked.is_some(), "no dial {dial:?} is waiting");
        let peer = Address::Socket(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), CLIENT_PORT)));
        let (id, is_taken) = self.made(&peer, types::Origin::Dialed(dial.as_u64()));
        let refused = || Error {
            code: ErrorCode::Closed,
            message: "the plugin refused the connection".into(),
        };
        instance::completed(
            dial.as_u64(),
            if is_taken {
                Ok(Value::Nothing)
            } else {
                Err(refused())
            },
        );
        self.settle();
        id
    }

    /// The look-ups that the plugin asked for and that were not answered, oldest first.
    pub fn lookups(&self) -> Vec<(OperationId, String)> {
        reactor::with(|reactor| {
            reactor
                .resolves
                .iter()
                .map(|(id, asked)| ((*id).into(), asked.what.clone()))
                .collect()
        })
    }

    /// Answers a look-up.
    pub fn answer(&mut self, lookup: OperationId, addresses: &[IpAddr]) {
        let id = lookup.as_u64();
        reactor::with(|reactor| {
            assert!(
                reactor.resolves.remove(&id).is_some(),
                "no look-up {lookup:?} is waiting"
            );
            let found = addresses
                .iter()
                .map(|ip| Address::Socket(SocketAddr::new(*ip, 0)).to_contract())
                .collect();
            reactor.addresses.insert(id, found);
        });
        instance::completed(id, Ok(Value::Ready));
        self.settle();
    }

    /// The handshakes that the plugin asked for and that were not answered, with everything before them sent.
    pub fn handshakes(&self) -> Vec<(OperationId, ConnectionId, TlsRole)> {
        let waiting = self.peers.iter().filter_map(|(connection, peer)| {
            let (id, role) = peer.wire.handshake()?;
            Some((id.into(), *connection, TlsRole::from_contract(&role)))
        });
        waiting.collect()
    }

    /// Answers a handshake: the connection is secured. What the peer sent before is lost, as it was in clear; what it sends from now on came through TLS.
    pub fn secure(&mut self, id: ConnectionId, info: TlsInfo) {
        let Some(handshake) = self.take_handshake(id) else {
            panic!("no handshake of connection {id} is waiting");
        };
        self.peer(id).wire.tls.replace(Some(info.into_contract()));
        instance::completed(handshake, Ok(Value::Nothing));
        self.settle();
    }

    /// What is being moved from and to files and between connections, oldest first.
    pub fn moves(&self) -> Vec<OperationId> {
        reactor::with(|reactor| reactor.moves.keys().map(|id| (*id).into()).collect())
    }

    /// What a file has in it now.
    pub fn file(&self, name: &str) -> Vec<u8> {
        match reactor::with(|reactor| reactor.files.get(name).cloned()) {
            Some(file) => file.contents.borrow().clone(),
            None => panic!("there is no file `{name}`"),
        }
    }

    /// What a file in a directory has in it now; none if there is no such file.
    pub fn file_in(&self, directory: &str, path: &str) -> Option<Vec<u8>> {
        folder(directory).contents(path)
    }

    /// Somebody else writes a file in a directory, which those who watch it are told.
    pub fn write_in(&mut self, directory: &str, path: &str, contents: &[u8]) {
        folder(directory).write(path, contents);
        self.settle();
    }

    /// Fails a dial, a look-up, a handshake or what is being moved. A handshake that fails with `timeout` or `other` ends its connection.
    pub fn fail(&mut self, operation: OperationId, code: ErrorCode) {
        let id = operation.as_u64();
        let handshakes = self.handshakes();
        let securing = handshakes
            .iter()
            .find(|(waiting, ..)| *waiting == operation);
        let is_asked = reactor::with(|reactor| {
            let dial = reactor.connects.remove(&id);
            let lookup = reactor.resolves.remove(&id);
            let bytes = reactor.moves.remove(&id);
            dial.is_some() || lookup.is_some() || bytes.is_some()
        });
        assert!(
            is_asked || securing.is_some(),
            "no operation {operation:?} is waiting"
        );
        let message = code.to_string();
        let ends = matches!(code, ErrorCode::Timeout | ErrorCode::Other(_));
        if let Some((_, connection, _)) = securing {
            self.take_handshake(*connection);
        }
        instance::completed(id, Err(error(code, &message)));
        if let Some((_, connection, _)) = securing.filter(|_| ends) {
            self.lose(*connection, CloseReason::Tls(message));
        }
        self.settle();
    }

    /// Takes the lines that were logged.
    pub fn logged(&mut self) -> Vec<(Level, String)> {
        reactor::with(|reactor| std::mem::take(&mut reactor.log))
    }

    /// What a counter of the plugin has come to. The values of its labels are in the order in which it named them; the name is the plugin's, without what the host
    /// adds.
    pub fn counter(&self, name: &str, values: &[&str]) -> u64 {
        reactor::with(|reactor| reactor.metrics.recorded(name, values).count)
    }

    /// What a gauge of the plugin says; 0 if it was never set.
    pub fn gauge(&self, name: &str, values: &[&str]) -> f64 {
        reactor::with(|reactor| reactor.metrics.recorded(name, values).value)
    }

    /// What a histogram of the plugin has counted, in order.
    pub fn observed(&self, name: &str, values: &[&str]) -> Vec<f64> {
        reactor::with(|reactor| reactor.metrics.recorded(name, values).observed)
    }

    fn made(&mut self, peer: &Address, origin: types::Origin) -> (ConnectionId, bool) {
        let wire = Wire::new(
            Address::Socket(listener()).to_contract(),
            peer.to_contract(),
        );
        let session = Session::<P>::made(Connection::new(Rc::clone(&wire)), origin);
        let (id, is_taken) = (wire.id, session.is_some());
        self.peers.insert(id, Peer::new(wire, session));
        (id, is_taken)
    }

    fn peer(&mut self, id: ConnectionId) -> &mut Peer<P> {
        match self.peers.get_mut(&id) {
            Some(peer) => peer,
            None => panic!("there is no connection {id}"),
        }
    }

    /// Lets everything happen that happens by itself at this time.
    fn settle(&mut self) {
        for _ in 0..MAX_TURNS {
            let ids: Vec<_> = self.peers.keys().copied().collect();
            let moved = ids.into_iter().filter(|id| self.turn(*id)).count();
            let closed = self
                .sockets
                .values_mut()
                .filter(|bound| bound.port.is_closed.get() && bound.endpoint.is_some());
            let moved = moved
                + closed
                    .map(|bound| bound.close(CloseReason::ClosedHere))
                    .count();
            command::feed();
            command::drain();
            let due = reactor::with(|reactor| {
                if let Some(finished) = reactor.finished.pop_front() {
                    return Some(finished);
                }
                let first = reactor.timers.first_entry()?;
                if first.key().0 <= reactor.now {
                    Some((first.remove_entry().0.1, Ok(Value::Nothing)))
                } else {
                    None
                }
            });
            match due {
                Some((id, outcome)) => instance::completed(id, outcome),
                None if moved == 0 => return,
                None => {}
            }
        }
        panic!("the plugin does not come to rest: {MAX_TURNS} turns at one time");
    }

    /// Does the next thing that a connection has to do; says whether there was one.
    fn turn(&mut self, id: ConnectionId) -> bool {
        let now = reactor::with(|reactor| reactor.now);
        let peer = self.peer(id);
        if peer.lost.is_some() {
            return false;
        }
        let wire = Rc::clone(&peer.wire);
        if wire.ending.get() == Ending::Abort {
            return self.lose(id, CloseReason::AbortedHere);
        }
        if peer.taking == Taking::Everything && !wire.unsent.borrow().is_empty() {
            peer.received.append(&mut wire.unsent.borrow_mut());
            wire.last_moved.set(now);
            if !wire.behind.borrow().is_empty() {
                return true;
            }
        }
        if wire.is_securing() {
            // It came in clear, and too late.
            wire.incoming.borrow_mut().clear();
        }
        if self.step(id) {
            return true;
        }
        let peer = self.peer(id);
        let unsent = wire.unsent();
        if unsent > MAX_UNSENT {
            return self.lose(id, CloseReason::Limit("unsent bytes".into()));
        }
        if unsent < LOW_WATER && wire.was_full.replace(false) {
            peer.callback(Session::writable);
            return true;
        }
        if peer.read_closed && wire.write_closed.get() && wire.is_drained() {
            return self.lose(id, CloseReason::Done);
        }
        if wire.ending.get() == Ending::Close {
            return wire.is_drained() && self.lose(id, CloseReason::ClosedHere);
        }
        if wire
            .idle_timeout
            .get()
            .is_some_and(|timeout| now.saturating_sub(wire.last_moved.get()) >= timeout)
        {
            return self.lose(id, CloseReason::Idle);
        }
        if wire.paused.get() || unsent >= HIGH_WATER || wire.is_securing() {
            return false;
        }
        let intake = wire.intake.borrow().clone();
        if let Some(intake) = intake {
            return self.take_in(id, &intake);
        }
        if let Some(data) = wire.next_incoming(MAX_DELIVERY) {
            wire.last_moved.set(now);
            peer.callback(|session| session.data_received(&data));
            return true;
        }
        if peer.write_closed && !std::mem::replace(&mut peer.read_closed, true) {
            peer.callback(Session::read_closed);
            return true;
        }
        false
    }

    /// Does the next thing that has its place among what was written, if all of that before it has left.
    fn step(&mut self, id: ConnectionId) -> bool {
        let peer = self.peer(id);
        let wire = Rc::clone(&peer.wire);
        if !wire.unsent.borrow().is_empty() {
            return false;
        }
        let mut behind = wire.behind.borrow_mut();
        let is_over = match behind.front_mut() {
            None => return false,
            Some(Step::Bytes(bytes)) => {
                wire.unsent.borrow_mut().append(bytes);
                true
            }
            Some(Step::Splice(id)) => reactor::with(|reactor| !reactor.moves.contains_key(id)),
            Some(Step::File { id, rest }) => reactor::with(|reactor| {
                let now = reactor.now;
                let Some(bytes) = reactor.moves.get_mut(id) else {
                    return true;
                };
                if peer.taking == Taking::Everything {
                    let count = bytes.allowance(now).min(rest.len());
                    peer.received.extend(rest.drain(..count));
                    bytes.moved(count);
                    if count > 0 {
                        wire.last_moved.set(now);
                    }
                    if rest.is_empty() {
                        reactor.finish(*id, None);
                        return true;
                    }
                }
                false
            }),
            Some(Step::Handshake { .. }) => wire.ending.get() == Ending::Close,
        };
        if is_over && let Some(Step::Handshake { id, .. }) = behind.pop_front() {
            let closed = error(ErrorCode::Closed, "the connection was closed");
            reactor::with(|reactor| reactor.finished.push_back((id, Err(closed))));
        }
        is_over
    }

    /// Moves what a peer has sent to where it goes in place of the session.
    fn take_in(&mut self, id: ConnectionId, intake: &Intake) -> bool {
        let now = reactor::with(|reactor| reactor.now);
        let peer = self.peer(id);
        let (wire, is_end) = (Rc::clone(&peer.wire), peer.write_closed);
        let is_end = is_end && wire.incoming.borrow().is_empty();
        let allowed = reactor::with(|reactor| {
            let bytes = reactor.moves.get_mut(&intake.id)?;
            (!is_end && bytes.left != Some(0)).then(|| bytes.allowance(now))
        });
        let Some(allowed) = allowed else {
            reactor::with(|reactor| reactor.finish(intake.id, None));
            wire.intake.take();
            return true;
        };
        if let Sink::Connection(to) = &intake.sink
            && !self.peer(*to).takes_splice(intake.id)
        {
            return false;
        }
        let Some(data) = wire.next_incoming(allowed) else {
            return false;
        };
        reactor::with(|reactor| {
            if let Some(bytes) = reactor.moves.get_mut(&intake.id) {
                bytes.moved(data.len());
            }
        });
        wire.last_moved.set(now);
        match &intake.sink {
            Sink::File { file, at } => {
                file.put(*at, &data);
                let sink = Sink::File {
                    file: Rc::clone(file),
                    at: at + data.len() as u64,
                };
                let id = intake.id;
                wire.intake.replace(Some(Intake { id, sink }));
            }
            Sink::Connection(to) => {
                let to = self.peer(*to);
                to.wire.last_moved.set(now);
                to.received.extend(data);
            }
        }
        true
    }

    /// The handshake that waits on a connection, over now. What was sent before it is lost.
    fn take_handshake(&mut self, id: ConnectionId) -> Option<u64> {
        let wire = &self.peer(id).wire;
        let (handshake, _) = wire.handshake()?;
        wire.behind.borrow_mut().pop_front();
        wire.incoming.borrow_mut().clear();
        Some(handshake)
    }

    /// Ends a connection. Always true, for [`turn`](Self::turn).
    fn lose(&mut self, id: ConnectionId, reason: CloseReason) -> bool {
        let peer = self.peer(id);
        if peer.lost.is_some() {
            return true;
        }
        peer.wire.ending.set(Ending::Lost);
        peer.wire.unsent.take();
        peer.wire.incoming.take();
        peer.wire.tls.take();
        let (behind, intake) = (peer.wire.behind.take(), peer.wire.intake.take());
        peer.lost = Some(reason.clone());
        let session = peer.session.take();
        reactor::with(|reactor| {
            reactor.timers.retain(|_, owner| *owner != Some(id));
            reactor.connects.retain(|_, asked| asked.owner != Some(id));
            reactor.resolves.retain(|_, asked| asked.owner != Some(id));
            reactor.moves.retain(|_, bytes| bytes.owner != Some(id));
            reactor.watches.retain(|_, watch| watch.owner != Some(id));
            reactor.logins.lost(id);
            for step in behind {
                let closed = error(ErrorCode::Closed, "the connection is lost");
                match step {
                    Step::Bytes(_) => {}
                    Step::File { id, .. } | Step::Splice(id) => reactor.finish(id, Some(closed)),
                    Step::Handshake { id, .. } => reactor.finished.push_back((id, Err(closed))),
                }
            }
            if let Some(intake) = intake {
                let reset = error(ErrorCode::Reset, "the connection is lost");
                reactor.finish(intake.id, Some(reset));
            }
        });
        if let Some(session) = session {
            session.connection_lost(reason);
        }
        true
    }

    fn next_due(&self) -> Option<Duration> {
        let timer =
            reactor::with(|reactor| reactor.timers.first_key_value().map(|((due, _), _)| *due));
        let open = self.peers.values().filter(|peer| peer.lost.is_none());
        let idle = open.filter_map(|peer| {
            Some(
                peer.wire
                    .last_moved
                    .get()
                    .saturating_add(peer.wire.idle_timeout.get()?),
            )
        });
        let bulk = reactor::with(|reactor| {
            let due = reactor.moves.values();
            due.filter_map(|bytes| bytes.due(reactor.now)).min()
        });
        idle.chain(timer).chain(bulk).min()
    }
}

impl<P: Protocol> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("connections", &self.peers.keys())
            .finish_non_exhaustive()
    }
}

fn folder(name: &str) -> Rc<Folder> {
    match reactor::with(|reactor| reactor.folders.get(name).cloned()) {
        Some(folder) => folder,
        None => panic!("there is no directory `{name}`"),
    }
}

struct Peer<P: Protocol> {
    wire: Rc<Wire>,
    session: Option<Session<P>>,
    received: Vec<u8>,
    taking: Taking,
    /// The peer will send no more.
    write_closed: bool,
    /// The plugin was told so.
    read_closed: bool,
    lost: Option<CloseReason>,
}

impl<P: Protocol> Peer<P> {
    fn new(wire: Rc<Wire>, session: Option<Session<P>>) -> Self {
        Self {
            wire,
            session,
            received: Vec::new(),
            taking: Taking::Everything,
            write_closed: false,
            read_closed: false,
            lost: None,
        }
    }

    fn with_session<N: Protocol>(self, session: Option<Session<N>>) -> Peer<N> {
        let Self {
            wire,
            session: _,
            received,
            taking,
            write_closed,
            read_closed,
            lost,
        } = self;
        Peer {
            wire,
            session,
            received,
            taking,
            write_closed,
            read_closed,
            lost,
        }
    }

    /// Whether a splice has come to its place among what was written here, and can go on.
    fn takes_splice(&self, id: u64) -> bool {
        let is_next =
            matches!(self.wire.behind.borrow().front(), Some(Step::Splice(next)) if *next == id);
        is_next && self.wire.unsent.borrow().is_empty() && self.taking == Taking::Everything
    }

    fn callback(&self, call: impl FnOnce(&Session<P>)) {
        if let Some(session) = &self.session {
            call(session);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    Everything,
    Nothing,
}

fn listener() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, LISTENER_PORT))
}

const LISTENER_PORT: u16 = 7;
const CLIENT_PORT: u16 = 50_000;
/// The contract's numbers: what `writable` waits for, what one `data_received` has at most, and the default limit of unsent bytes.
const LOW_WATER: usize = 16 * 1024;
const MAX_DELIVERY: usize = 64 * 1024;
const MAX_UNSENT: usize = 1024 * 1024;
/// A plugin that has not come to rest after so many turns never will.
const MAX_TURNS: usize = 100_000;
