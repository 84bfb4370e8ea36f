//! The host's side of the contract, natively: what [`Host`](super::Host) controls and the SDK calls in place of the imports. One per thread.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    rc::{Rc, Weak},
    time::Duration,
};

use super::{
    accounts::Logins,
    bulk::{self, Move, Stored},
    command::{self, Console},
    disk::{Folder, Found, Watch},
    metrics::Metrics,
};
use crate::{
    Error,
    bindings::nethost::plugin::{
        datagram::Packet,
        deferred::Value,
        log::Level,
        transport::{TlsInfo, TlsRole},
        types::{self, ErrorCode},
    },
    connection::{Address, ConnectionId, HIGH_WATER},
    datagram::SocketId,
    deferred, executor,
};

pub(crate) fn after(delay: u64) -> u64 {
    REACTOR.with_borrow_mut(|reactor| {
        let id = reactor.next_id();
        let due = reactor.now.saturating_add(Duration::from_nanos(delay));
        reactor.timers.insert((due, id), executor::ambient());
        id
    })
}

pub(crate) fn cancel(id: u64) {
    // A thread that ends may have dropped the reactor before what it cancels.
    let _ = REACTOR.try_with(|reactor| {
        let mut reactor = reactor.borrow_mut();
        reactor.timers.retain(|(_, timer), _| *timer != id);
        reactor.connects.remove(&id);
        reactor.resolves.remove(&id);
        reactor.moves.remove(&id);
        reactor.watches.remove(&id);
        command::cancel(&mut reactor.console, id);
        // A file that is dropped here touches nothing of the reactor's.
        reactor.found.remove(&id);
    });
}

pub(crate) fn keep(id: u64) {
    REACTOR.with_borrow_mut(|reactor| {
        for ((_, timer), owner) in &mut reactor.timers {
            if *timer == id {
                *owner = None;
            }
        }
        if let Some(bytes) = reactor.moves.get_mut(&id) {
            bytes.owner = None;
        }
        if let Some(watch) = reactor.watches.get_mut(&id) {
            watch.owner = None;
        }
        let Reactor {
            connects, resolves, ..
        } = reactor;
        if let Some(asked) = connects.get_mut(&id).or_else(|| resolves.get_mut(&id)) {
            asked.owner = None;
        }
    });
}

pub(crate) fn connect(endpoint: &str) -> u64 {
    REACTOR.with_borrow_mut(|reactor| {
        let id = reactor.next_id();
        reactor.connects.insert(
            id,
            Asked {
                what: endpoint.to_owned(),
                owner: executor::ambient(),
            },
        );
        id
    })
}

pub(crate) fn resolve(name: &str) -> u64 {
    REACTOR.with_borrow_mut(|reactor| {
        let id = reactor.next_id();
        reactor.resolves.insert(
            id,
            Asked {
                what: name.to_owned(),
                owner: executor::ambient(),
            },
        );
        id
    })
}

pub(crate) fn take_addresses(id: u64) -> Vec<types::Address> {
    REACTOR.with_borrow_mut(|reactor| reactor.addresses.remove(&id).unwrap_or_default())
}

pub(crate) fn monotonic() -> u64 {
    REACTOR.with_borrow(|reactor| crate::host::nanoseconds(reactor.now))
}

pub(crate) fn wall() -> u64 {
    REACTOR.with_borrow(|reactor| crate::host::nanoseconds(WALL_START + reactor.now))
}

/// When tests begin, in nanoseconds.
pub(crate) fn wall_start() -> u64 {
    crate::host::nanoseconds(WALL_START)
}

/// SplitMix64 from a fixed start: the same numbers in every run.
pub(crate) fn random_u64() -> u64 {
    REACTOR.with_borrow_mut(|reactor| {
        reactor.random = reactor.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = reactor.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}

pub(crate) fn random_bytes(length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length as usize {
        bytes.extend(random_u64().to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

pub(crate) fn log(level: Level, message: &str) {
    REACTOR.with_borrow_mut(|reactor| reactor.log.push((level, message.to_owned())));
}

/// A plugin's handle of a connection.
#[derive(Debug)]
pub(crate) struct Connection(Rc<Wire>);

impl Connection {
    pub(crate) fn new(wire: Rc<Wire>) -> Self {
        Self(wire)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id.as_u64()
    }

    pub(crate) fn write(&self, data: &[u8]) -> u32 {
        self.0.write(data)
    }

    pub(crate) fn close(&self) {
        if self.0.ending.get() == Ending::Open {
            self.0.ending.set(Ending::Close);
        }
    }

    pub(crate) fn shutdown_write(&self) {
        self.0.write_closed.set(true);
    }

    pub(crate) fn abort(&self) {
        if self.0.ending.get() != Ending::Lost {
            self.0.ending.set(Ending::Abort);
            self.0.unsent.take();
        }
    }

    pub(crate) fn pause_reading(&self) {
        self.0.paused.set(true);
    }

    pub(crate) fn resume_reading(&self) {
        self.0.paused.set(false);
    }

    pub(crate) fn set_idle_timeout(&self, timeout: Option<u64>) {
        self.0.idle_timeout.set(timeout.map(Duration::from_nanos));
    }

    pub(crate) fn local(&self) -> types::Address {
        self.0.local.clone()
    }

    pub(crate) fn peer(&self) -> types::Address {
        self.0.peer.clone()
    }

    pub(crate) fn can_start_tls(&self) -> bool {
        self.0.is_writable() && self.0.tls.borrow().is_none() && !self.0.is_securing()
    }

    pub(crate) fn start_tls(&self, role: &TlsRole) -> u64 {
        let wire = &self.0;
        if !wire.is_writable() {
            return bulk::refused(ErrorCode::Closed, "the connection is closed");
        }
        if wire.tls.borrow().is_some() || wire.is_securing() {
            return bulk::refused(ErrorCode::Invalid, "the connection has TLS already");
        }
        if wire.intake.borrow().is_some() {
            return bulk::refused(ErrorCode::Busy, "what it receives is being moved elsewhere");
        }
        let id = with(Reactor::next_id);
        let role = role.clone();
        wire.behind
            .borrow_mut()
            .push_back(Step::Handshake { id, role });
        wire.incoming.borrow_mut().clear();
        id
    }

    pub(crate) fn tls(&self) -> Option<TlsInfo> {
        self.0.tls.borrow().clone()
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// A plugin's handle of a group.
#[derive(Debug, Default)]
pub(crate) struct Group(RefCell<Vec<Weak<Wire>>>);

impl Group {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&self, member: &Connection) {
        self.remove(member);
        self.0.borrow_mut().push(Rc::downgrade(&member.0));
    }

    pub(crate) fn remove(&self, member: &Connection) {
        let member = Rc::downgrade(&member.0);
        self.0.borrow_mut().retain(|other| !other.ptr_eq(&member));
    }

    pub(crate) fn write(&self, data: &[u8], skip: Option<&Connection>) {
        let skip = skip.map(|connection| Rc::downgrade(&connection.0));
        for member in &*self.0.borrow() {
            if skip.as_ref().is_some_and(|skip| skip.ptr_eq(member)) {
                continue;
            }
            if let Some(wire) = member.upgrade() {
                wire.write(data);
            }
        }
    }
}

/// A plugin's handle of a socket.
#[derive(Debug)]
pub(crate) struct Socket(Rc<Port>);

impl Socket {
    pub(crate) fn new(port: Rc<Port>) -> Self {
        Self(port)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id.0
    }

    pub(crate) fn local(&self) -> types::Address {
        self.0.local.to_contract()
    }

    pub(crate) fn send(&self, packets: &[Packet], payloads: &[u8]) {
        assert!(
            packets.len() <= MAX_BATCH,
            "a batch of {} packets, which traps",
            packets.len()
        );
        if self.0.is_closed.get() {
            return;
        }
        let mut rest = payloads;
        for packet in packets {
            let (payload, after) = rest.split_at(packet.length as usize);
            rest = after;
            self.0.sent.borrow_mut().push((*packet, payload.to_vec()));
        }
    }

    pub(crate) fn close(&self) {
        self.0.is_closed.set(true);
    }

    pub(crate) fn join(&self, group: &types::Address, interface: u32) -> Result<(), types::Error> {
        self.change_groups(group, |groups, group| {
            groups.insert((group, interface));
        })
    }

    pub(crate) fn leave(&self, group: &types::Address, interface: u32) -> Result<(), types::Error> {
        self.change_groups(group, |groups, group| {
            groups.remove(&(group, interface));
        })
    }

    /// Nothing here is sent to a group, so this changes nothing.
    pub(crate) fn set_multicast_ttl(&self, _hops: u8) {}

    /// As [`Self::set_multicast_ttl`].
    pub(crate) fn set_multicast_loop(&self, _on: bool) {}

    fn change_groups(
        &self,
        group: &types::Address,
        change: impl FnOnce(&mut BTreeSet<(IpAddr, u32)>, IpAddr),
    ) -> Result<(), types::Error> {
        let group = Address::from_contract(group.clone()).ip();
        let Some(group) = group.filter(IpAddr::is_multicast) else {
            return Err(types::Error {
                code: ErrorCode::Invalid,
                message: "not a multicast address".into(),
            });
        };
        change(&mut self.0.groups.borrow_mut(), group);
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

/// One socket, as the host sees it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: SocketId,
    pub(crate) local: Address,
    pub(crate) is_closed: Cell<bool>,
    /// Sent by the plugin, and not yet taken by the test.
    pub(crate) sent: RefCell<Vec<(Packet, Vec<u8>)>>,
    pub(crate) groups: RefCell<BTreeSet<(IpAddr, u32)>>,
}

impl Port {
    pub(crate) fn new(local: Address) -> Rc<Self> {
        let id = REACTOR.with_borrow_mut(Reactor::next_id);
        Rc::new(Self {
            id: SocketId(id),
            local,
            is_closed: Cell::default(),
            sent: RefCell::default(),
            groups: RefCell::default(),
        })
    }
}

/// One connection, as host and peer see it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) id: ConnectionId,
    pub(crate) local: types::Address,
    pub(crate) peer: types::Address,
    pub(crate) ending: Cell<Ending>,
    pub(crate) write_closed: Cell<bool>,
    pub(crate) paused: Cell<bool>,
    pub(crate) idle_timeout: Cell<Option<Duration>>,
    /// Written by the plugin and not yet taken by the peer.
    pub(crate) unsent: RefCell<Vec<u8>>,
    /// What has its place after `unsent`, and what was written after that.
    pub(crate) behind: RefCell<VecDeque<Step>>,
    /// Whether `unsent` had reached the high-water mark since `writable` was last called.
    pub(crate) was_full: Cell<bool>,
    /// Sent by the peer and not yet delivered, as it was sent.
    pub(crate) incoming: RefCell<VecDeque<Vec<u8>>>,
    /// What takes `incoming` in place of the session.
    pub(crate) intake: RefCell<Option<Intake>>,
    pub(crate) tls: RefCell<Option<TlsInfo>>,
    pub(crate) last_moved: Cell<Duration>,
}

impl Wire {
    pub(crate) fn new(local: types::Address, peer: types::Address) -> Rc<Self> {
        let (id, now) = REACTOR.with_borrow_mut(|reactor| (reactor.next_id().into(), reactor.now));
        Rc::new(Self {
            id,
            local,
            peer,
            ending: Cell::new(Ending::Open),
            write_closed: Cell::default(),
            paused: Cell::default(),
            idle_timeout: Cell::default(),
            unsent: RefCell::default(),
            was_full: Cell::default(),
            behind: RefCell::default(),
            incoming: RefCell::default(),
            intake: RefCell::default(),
            tls: RefCell::default(),
            last_moved: Cell::new(now),
        })
    }

    /// What a swap that fails puts back.
    pub(crate) fn snapshot(&self) -> impl Fn(&Self) + use<> {
        let (unsent, ending, write_closed) = (
            self.unsent.borrow().len(),
            self.ending.get(),
            self.write_closed.get(),
        );
        let (paused, idle_timeout, was_full) = (
            self.paused.get(),
            self.idle_timeout.get(),
            self.was_full.get(),
        );
        let (behind, intake) = (self.behind.borrow().clone(), self.intake.borrow().clone());
        move |wire| {
            wire.behind.replace(behind.clone());
            wire.intake.replace(intake.clone());
            wire.unsent.borrow_mut().truncate(unsent);
            wire.ending.set(ending);
            wire.write_closed.set(write_closed);
            wire.paused.set(paused);
            wire.idle_timeout.set(idle_timeout);
            wire.was_full.set(was_full);
        }
    }

    fn write(&self, data: &[u8]) -> u32 {
        if self.ending.get() == Ending::Lost {
            return 0;
        }
        if self.is_writable() {
            let mut behind = self.behind.borrow_mut();
            match behind.back_mut() {
                None => self.unsent.borrow_mut().extend_from_slice(data),
                Some(Step::Bytes(bytes)) => bytes.extend_from_slice(data),
                Some(_) => behind.push_back(Step::Bytes(data.to_vec())),
            }
        }
        let unsent = self.unsent();
        if self.is_writable() && unsent >= HIGH_WATER {
            self.was_full.set(true);
        }
        u32::try_from(unsent).unwrap_or(u32::MAX)
    }

    /// How many bytes the plugin has written that the peer has not taken.
    pub(crate) fn unsent(&self) -> usize {
        let behind = self.behind.borrow();
        let waiting = behind.iter().map(|step| match step {
            Step::Bytes(bytes) => bytes.len(),
            _ => 0,
        });
        self.unsent.borrow().len() + waiting.sum::<usize>()
    }

    /// Takes what the peer has sent, so many bytes of one piece at most.
    pub(crate) fn next_incoming(&self, maximum: usize) -> Option<Vec<u8>> {
        let mut incoming = self.incoming.borrow_mut();
        let piece = incoming.front_mut().filter(|_| maximum > 0)?;
        if piece.len() <= maximum {
            return incoming.pop_front();
        }
        let rest = piece.split_off(maximum);
        Some(std::mem::replace(piece, rest))
    }

    /// Whether nothing is left to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.unsent.borrow().is_empty() && self.behind.borrow().is_empty()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.ending.get() == Ending::Open && !self.write_closed.get()
    }

    /// Whether a handshake is to come, so that nothing is received until it is done.
    pub(crate) fn is_securing(&self) -> bool {
        let behind = self.behind.borrow();
        behind
            .iter()
            .any(|step| matches!(step, Step::Handshake { .. }))
    }

    /// The handshake that waits for the test, if everything before it has left.
    pub(crate) fn handshake(&self) -> Option<(u64, TlsRole)> {
        match self.behind.borrow().front() {
            Some(Step::Handshake { id, role }) if self.unsent.borrow().is_empty() => {
                Some((*id, role.clone()))
            }
            _ => None,
        }
    }
}

/// What has its place among the bytes that are written.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    File {
        id: u64,
        rest: VecDeque<u8>,
    },
    /// The bytes of this splice come here.
    Splice(u64),
    Handshake {
        id: u64,
        role: TlsRole,
    },
}

/// What takes what a peer sends, in place of the session.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) id: u64,
    pub(crate) sink: Sink,
}

#[derive(Clone, Debug)]
pub(crate) enum Sink {
    File { file: Rc<Stored>, at: u64 },
    Connection(ConnectionId),
}

/// How far the plugin has gone in ending a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Open,
    Close,
    Abort,
    Lost,
}

/// What was asked of the host and waits for the test's answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) owner: Option<ConnectionId>,
}

/// An open file that another version may ask for.
pub(crate) struct Adoptable(
    pub(crate) Rc<Stored>,
    pub(crate) super::Access,
    pub(crate) Rc<dyn Fn()>,
);

impl std::fmt::Debug for Adoptable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Adoptable")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reactor {
    pub(crate) now: Duration,
    last_id: u64,
    random: u64,
    pub(crate) timers: BTreeMap<(Duration, u64), Option<ConnectionId>>,
    pub(crate) connects: BTreeMap<u64, Asked>,
    pub(crate) resolves: BTreeMap<u64, Asked>,
    pub(crate) addresses: HashMap<u64, Vec<types::Address>>,
    pub(crate) log: Vec<(Level, String)>,
    pub(crate) files: HashMap<String, Rc<Stored>>,
    pub(crate) adoptable: HashMap<u64, Adoptable>,
    pub(crate) folders: HashMap<String, Rc<Folder>>,
    pub(crate) watches: BTreeMap<u64, Watch>,
    pub(crate) found: HashMap<u64, Found>,
    pub(crate) moves: BTreeMap<u64, Move>,
    pub(crate) logins: Logins,
    pub(crate) console: Console,
    pub(crate) metrics: Metrics,
    /// What came to something, and is told when the callback has returned.
    pub(crate) finished: VecDeque<(u64, Result<Value, Error>)>,
}

impl Reactor {
    /// What was being moved has arrived, or did not, unless it was cancelled.
    pub(crate) fn finish(&mut self, id: u64, error: Option<Error>) {
        if let Some(bytes) = self.moves.remove(&id) {
            let outcome = error.map_or(Ok(Value::Number(bytes.moved)), Err);
            self.finished.push_back((id, outcome));
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// Forgets the operations that no instance waits for: what a swap does with those that were not adopted.
pub(crate) fn forget_orphans() {
    REACTOR.with_borrow_mut(|reactor| {
        reactor
            .timers
            .retain(|(_, id), _| deferred::is_awaited(*id));
        reactor.connects.retain(|id, _| deferred::is_awaited(*id));
        reactor.resolves.retain(|id, _| deferred::is_awaited(*id));
        reactor.moves.retain(|id, _| deferred::is_awaited(*id));
        reactor.watches.retain(|id, _| deferred::is_awaited(*id));
    });
}

/// Does something with this thread's reactor. No callback may run within it.
pub(crate) fn with<R>(call: impl FnOnce(&mut Reactor) -> R) -> R {
    REACTOR.with_borrow_mut(call)
}

/// The contract's number: packets of one `send`.
const MAX_BATCH: usize = 1024;

/// 2026-01-01T00:00:00Z: tests begin then.
const WALL_START: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static REACTOR: RefCell<Reactor> = RefCell::default();
}
