//! Datagrams: UDP, listening or dialed.

use std::{
    cell::RefCell,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    rc::Rc,
};

use crate::{
    bindings::nethost::plugin::{
        datagram::Packet,
        types::{self, CloseReason},
    },
    connection::Address,
    datagram_peer::Feed,
    deferred, executor, host, instance,
    protocol::{Context, Factory, Origin, Protocol},
    types::Error,
};

/// What a plugin keeps for one socket: Twisted's DatagramProtocol, the contract's endpoint. Exported with `export_plugin!(Name, datagrams: This)`, or
/// `export_plugin!(datagrams: This)` by a plugin that has nothing else.
///
/// A socket of the configuration has one in every instance, made right after [`Factory::configure`]; one that was
/// [dialed](crate::connect_datagrams) has its own.
pub trait DatagramProtocol: Sized + 'static {
    /// What all endpoints and sessions of an instance share; `()` if nothing.
    type Factory: Factory;

    /// A socket is there, listening or dialed.
    fn endpoint_made(cx: &mut DatagramContext<'_, Self::Factory>, origin: Origin) -> Self;

    /// Datagrams came, 1 to 64 with at most 64 KiB together: what the kernel had at the moment.
    fn datagrams_received(
        &mut self,
        cx: &mut DatagramContext<'_, Self::Factory>,
        datagrams: &Datagrams,
    );

    /// The socket is gone. The last callback of an endpoint.
    fn closed(&mut self, cx: &mut DatagramContext<'_, Self::Factory>, reason: CloseReason) {
        let _ = (cx, reason);
    }
}

/// What a callback about datagrams may touch.
#[derive(Debug)]
pub struct DatagramContext<'a, F> {
    /// The socket that the callback is about.
    pub socket: &'a DatagramSocket,
    /// What all endpoints and sessions of the instance share.
    pub factory: &'a mut F,
}

/// One socket that the host owns.
///
/// A handle: cloning it costs a counter. Dropping the last one is [`close`](Self::close); an endpoint keeps its own for as long as it lives.
/// Once the socket is closed every method does nothing.
#[derive(Clone)]
pub struct DatagramSocket(Rc<host::Socket>);

impl DatagramSocket {
    /// This socket's id. The same after a swap.
    pub fn id(&self) -> SocketId {
        SocketId(self.0.id())
    }

    /// The address that it is bound to; [`Datagram::local`] tells which one of a wildcard's a datagram was sent to.
    pub fn local(&self) -> Address {
        Address::from_contract(self.0.local())
    }

    /// Sends a batch, received or made. Never blocks, never fails; datagrams may be lost. More than 1,024 at once is a trap.
    ///
    /// A socket of the configuration sends to whoever sent to it within five minutes, and where a `connect` grant covers; the rest is dropped. A dialed one sends
    /// everything to its peer.
    pub fn send(&self, datagrams: &Datagrams) {
        self.0.send(&datagrams.packets, &datagrams.payloads);
    }

    /// Sends what waits, as far as the kernel takes it at once, then closes.
    pub fn close(&self) {
        self.0.close();
    }

    /// Joins a multicast group on an interface, by its index; 0 lets the system choose. Needs a `connect` grant of the group's address.
    #[allow(
        clippy::needless_question_mark,
        reason = "in a component the error is another type"
    )]
    pub fn join(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        Ok(self.0.join(&group_address(group), interface)?)
    }

    /// Leaves a multicast group.
    #[allow(
        clippy::needless_question_mark,
        reason = "in a component the error is another type"
    )]
    pub fn leave(&self, group: IpAddr, interface: u32) -> Result<(), Error> {
        Ok(self.0.leave(&group_address(group), interface)?)
    }

    /// How far what is sent to multicast groups goes. Default 1: the local network.
    pub fn set_multicast_ttl(&self, hops: u8) {
        self.0.set_multicast_ttl(hops);
    }

    /// Whether what is sent to a group comes back to members on this machine. Default true.
    pub fn set_multicast_loop(&self, on: bool) {
        self.0.set_multicast_loop(on);
    }

    fn new(raw: host::Socket) -> Self {
        Self(Rc::new(raw))
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatagramSocket({})", self.id().0)
    }
}

/// Names a socket within its instance; never reused, and kept across a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub(crate) u64);

/// A batch of datagrams: what came, or what is to be sent. Iterating copies nothing.
///
/// ```
/// use nethost_sdk::Datagrams;
///
/// fn answer(received: &Datagrams) -> Datagrams {
///     let mut answers = Datagrams::new();
///     for question in received {
///         answers.reply(&question, b"42");
///     }
///     answers
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    packets: Vec<Packet>,
    payloads: Vec<u8>,
}

impl Datagrams {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a datagram to a peer; the system chooses the address that it comes from.
    pub fn push(&mut self, peer: SocketAddr, payload: &[u8]) {
        let types::Address::Socket(peer) = Address::Socket(peer).to_contract() else {
            return;
        };
        self.add(
            Packet {
                length: 0,
                port: peer.port,
                truncated: false,
                peer: peer.ip,
                local: (0, 0),
                scope: peer.scope,
            },
            payload,
        );
    }

    /// Adds an answer to a datagram: to its sender, from the address that was asked.
    pub fn reply(&mut self, to: &Datagram<'_>, payload: &[u8]) {
        self.add(*to.packet, payload);
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The payloads' bytes together.
    pub fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Removes all datagrams and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.payloads.clear();
    }

    /// The datagrams, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            packets: self.packets.iter(),
            payloads: &self.payloads,
        }
    }

    pub(crate) fn add(&mut self, packet: Packet, payload: &[u8]) {
        // What is longer than any datagram, the host drops.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.packets.push(Packet { length, ..packet });
        self.payloads.extend_from_slice(payload);
    }
}

impl<'a> IntoIterator for &'a Datagrams {
    type Item = Datagram<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The datagrams of a batch.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    packets: std::slice::Iter<'a, Packet>,
    payloads: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Datagram<'a>;

    fn next(&mut self) -> Option<Datagram<'a>> {
        let packet = self.packets.next()?;
        let length = (packet.length as usize).min(self.payloads.len());
        let (payload, rest) = self.payloads.split_at(length);
        self.payloads = rest;
        Some(Datagram { packet, payload })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.packets.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    packet: &'a Packet,
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The payload; may be empty.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The other side: who sent it, or to whom it is sent.
    pub fn peer(&self) -> SocketAddr {
        let Packet { port, scope, .. } = *self.packet;
        match ip(self.packet.peer) {
            IpAddr::V4(ip) => SocketAddr::from((ip, port)),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        }
    }

    /// The address on this side that it was sent to: a multicast group, if it came to one.
    pub fn local(&self) -> IpAddr {
        ip(self.packet.local)
    }

    /// Whether it was longer than the service takes, and this is only its beginning.
    pub fn is_truncated(&self) -> bool {
        self.packet.truncated
    }
}

/// The protocol of a plugin that has nothing but datagrams: refuses every connection.
#[derive(Debug)]
pub struct DatagramsOnly<D>(std::marker::PhantomData<D>);

impl<D: DatagramProtocol> Protocol for DatagramsOnly<D> {
    type Factory = D::Factory;

    fn connection_made(_cx: &mut Context<'_, D::Factory>, _origin: Origin) -> Option<Self> {
        None
    }

    fn data_received(&mut self, _cx: &mut Context<'_, D::Factory>, _data: &[u8]) {}
}

/// One endpoint, as the contract exports it.
pub(crate) struct Endpoint<D: DatagramProtocol> {
    socket: DatagramSocket,
    factory: Rc<RefCell<D::Factory>>,
    role: RefCell<Role<D>>,
}

/// What is behind a socket.
enum Role<D> {
    /// The plugin's protocol.
    Protocol(D),
    /// A task that awaits what comes.
    Peer(Feed),
}

impl<D: DatagramProtocol> Endpoint<D> {
    pub(crate) fn made(socket: host::Socket, origin: types::Origin) -> Self {
        let socket = DatagramSocket::new(socket);
        // What endpoints start belongs to the instance, says the contract.
        executor::enter(None);
        let feed = match origin {
            types::Origin::Dialed(operation) => deferred::dialed_socket(operation, &socket),
            _ => None,
        };
        let factory = instance::factory::<D::Factory>();
        let role = match feed {
            Some(feed) => Role::Peer(feed),
            None => {
                let cx = &mut DatagramContext {
                    socket: &socket,
                    factory: &mut *factory.borrow_mut(),
                };
                Role::Protocol(D::endpoint_made(cx, Origin::from_contract(origin)))
            }
        };
        executor::run_ready();
        Self {
            socket,
            factory,
            role: RefCell::new(role),
        }
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn datagrams_received(&self, packets: Vec<Packet>, payloads: Vec<u8>) {
        self.received(&Datagrams { packets, payloads });
    }

    pub(crate) fn received(&self, datagrams: &Datagrams) {
        self.call(
            |protocol, cx| protocol.datagrams_received(cx, datagrams),
            |feed| feed.received(datagrams),
        );
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        let told = reason.clone();
        self.call(
            |protocol, cx| protocol.closed(cx, told),
            |feed| feed.closed(&reason),
        );
    }

    fn call(
        &self,
        protocol: impl FnOnce(&mut D, &mut DatagramContext<'_, D::Factory>),
        peer: impl FnOnce(&Feed),
    ) {
        executor::enter(None);
        match &mut *self.role.borrow_mut() {
            Role::Protocol(endpoint) => {
                let cx = &mut DatagramContext {
                    socket: &self.socket,
                    factory: &mut *self.factory.borrow_mut(),
                };
                protocol(endpoint, cx);
            }
            Role::Peer(feed) => peer(feed),
        }
        executor::run_ready();
    }
}

fn ip((high, low): (u64, u64)) -> IpAddr {
    let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

fn group_address(group: IpAddr) -> types::Address {
    Address::Socket(SocketAddr::new(group, 0)).to_contract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut batch = Datagrams::new();
        let sent: [(SocketAddr, &[u8]); 4] = [
            ("192.0.2.1:53".parse().unwrap(), b"one"),
            ("[2001:db8::1]:53".parse().unwrap(), b""),
            ("[fe80::1%3]:9".parse().unwrap(), b"three"),
            ("127.0.0.1:65535".parse().unwrap(), b"4"),
        ];
        for (peer, payload) in sent {
            batch.push(peer, payload);
        }
        assert_eq!((batch.len(), batch.bytes()), (4, 9));
        assert_eq!(batch.iter().len(), 4);
        for (datagram, (peer, payload)) in batch.iter().zip(sent) {
            assert_eq!((datagram.peer(), datagram.payload()), (peer, payload));
        }
        let mut answers = Datagrams::new();
        for datagram in &batch {
            answers.reply(&datagram, b"yes");
        }
        let peers: Vec<_> = answers.iter().map(|answer| answer.peer()).collect();
        assert_eq!(peers, sent.map(|(peer, _)| peer));
        assert!(answers.iter().all(|answer| answer.payload() == b"yes"));
        batch.clear();
        assert!(batch.is_empty() && batch.iter().next().is_none());
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let received = Datagrams {
            packets: vec![Packet {
                length: 2,
                port: 9,
                truncated: true,
                peer: (0, 0xffff_7f00_0001),
                local: (0, 0xffff_7f00_0002),
                scope: 0,
            }],
            payloads: b"hi".to_vec(),
        };
        let mut answers = Datagrams::new();
        for question in &received {
            assert!(question.is_truncated());
            assert_eq!(question.local().to_string(), "127.0.0.2");
            answers.reply(&question, b"hello");
        }
        let answer = answers.iter().next().unwrap();
        assert_eq!(answer.local().to_string(), "127.0.0.2");
        assert_eq!(answer.peer().to_string(), "127.0.0.1:9");
    }
}
