//! The host's datagrams: sockets, and what tests send to them and see of them.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use super::{Host, listener};
use crate::{
    bindings::nethost::plugin::{
        deferred::Value,
        types::{self, CloseReason},
    },
    connection::Address,
    datagram::{DatagramProtocol, Datagrams, Endpoint, SocketId},
    deferred::OperationId,
    instance,
    protocol::Protocol,
    testing::reactor::{self, Port, Socket},
};

impl<P: Protocol> Host<P> {
    /// The service listens for datagrams: an endpoint is made for a socket of its configuration. A swap closes it; bind again.
    pub fn bind<D: DatagramProtocol<Factory = P::Factory>>(&mut self) -> SocketId {
        let origin = types::Origin::Configured(format!("udp://{}", listener()));
        let id = self.bound::<D>(origin);
        self.settle();
        id
    }

    /// Answers a dial of [`connect_datagrams`](crate::connect_datagrams): the socket is there.
    pub fn accept_datagrams<D: DatagramProtocol<Factory = P::Factory>>(
        &mut self,
        dial: OperationId,
    ) -> SocketId {
        let asked = reactor::with(|reactor| reactor.connects.remove(&dial.as_u64()));
        assert!(asked.is_some(), "no dial {dial:?} is waiting");
        let id = self.bound::<D>(types::Origin::Dialed(dial.as_u64()));
        instance::completed(dial.as_u64(), Ok(Value::Nothing));
        self.settle();
        id
    }

    /// Peers send datagrams to a socket, which arrive in one batch.
    pub fn send_datagrams(&mut self, id: SocketId, datagrams: &Datagrams) {
        let bound = self.socket(id);
        if let (false, Some(endpoint)) = (bound.port.is_closed.get(), &bound.endpoint) {
            endpoint.datagrams_received(datagrams.clone());
        }
        self.settle();
    }

    /// Takes what the plugin sent from a socket: to whom, and what.
    pub fn sent_datagrams(&mut self, id: SocketId) -> Vec<(SocketAddr, Vec<u8>)> {
        let sent = self.socket(id).port.sent.take();
        let mut batch = Datagrams::new();
        for (packet, payload) in sent {
            batch.add(packet, &payload);
        }
        batch
            .iter()
            .map(|datagram| (datagram.peer(), datagram.payload().to_vec()))
            .collect()
    }

    /// The multicast groups that the plugin has joined, each with its interface.
    pub fn groups(&mut self, id: SocketId) -> Vec<(IpAddr, u32)> {
        self.socket(id)
            .port
            .groups
            .borrow()
            .iter()
            .copied()
            .collect()
    }

    /// The host closes a socket.
    pub fn close_datagrams(&mut self, id: SocketId, reason: CloseReason) {
        self.socket(id).close(reason);
        self.settle();
    }

    /// Whether a socket is closed.
    pub fn is_closed(&mut self, id: SocketId) -> bool {
        self.socket(id).endpoint.is_none()
    }

    fn bound<D: DatagramProtocol<Factory = P::Factory>>(
        &mut self,
        origin: types::Origin,
    ) -> SocketId {
        let port = Port::new(Address::Socket(listener()));
        let id = port.id;
        let endpoint = Endpoint::<D>::made(Socket::new(Rc::clone(&port)), origin);
        let endpoint: Box<dyn AnyEndpoint> = Box::new(endpoint);
        let endpoint = Some(endpoint);
        self.sockets.insert(id, Bound { port, endpoint });
        id
    }

    fn socket(&mut self, id: SocketId) -> &mut Bound {
        match self.sockets.get_mut(&id) {
            Some(bound) => bound,
            None => panic!("there is no socket {id:?}"),
        }
    }
}

/// A socket and its endpoint, until it is closed.
pub(super) struct Bound {
    pub(super) port: Rc<Port>,
    pub(super) endpoint: Option<Box<dyn AnyEndpoint>>,
}

impl Bound {
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.port.is_closed.set(true);
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.closed(reason);
        }
    }
}

/// An endpoint of any protocol.
pub(super) trait AnyEndpoint {
    fn datagrams_received(&self, datagrams: Datagrams);
    fn closed(&self, reason: CloseReason);
}

impl<D: DatagramProtocol> AnyEndpoint for Endpoint<D> {
    fn datagrams_received(&self, datagrams: Datagrams) {
        self.received(&datagrams);
    }

    fn closed(&self, reason: CloseReason) {
        Self::closed(self, reason);
    }
}
