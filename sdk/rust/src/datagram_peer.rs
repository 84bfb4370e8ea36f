//! One peer of datagrams for `async` code.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    bindings::nethost::plugin::types::CloseReason,
    datagram::{DatagramSocket, Datagrams},
    deferred::{self, Deferred, after},
};

/// A socket for datagrams with one peer, to send and to await: what a client of a UDP protocol uses. The plugin must export datagrams
/// (`export_plugin!(Name, datagrams: ...)`); its [`DatagramProtocol`](crate::DatagramProtocol) is not told of this socket.
///
/// Dropping it closes it. What comes while [`MAX_WAITING`] datagrams wait is dropped, as the kernel does.
pub struct DatagramPeer {
    socket: DatagramSocket,
    shared: Rc<Shared>,
}

impl DatagramPeer {
    /// Makes a socket for a peer such as `udp://192.0.2.1:53`. Nothing is sent, so it tells nothing about the peer. Errors: see
    /// [`connect_datagrams`](crate::connect_datagrams).
    pub fn connect(endpoint: &str) -> Deferred<Self> {
        deferred::connect_datagram_peer(endpoint)
    }

    /// The socket, for its address.
    pub fn socket(&self) -> &DatagramSocket {
        &self.socket
    }

    /// Sends one datagram. Never blocks, never fails; it may be lost.
    pub fn send(&self, payload: &[u8]) {
        let mut batch = Datagrams::new();
        // The host sends everything to the one peer.
        batch.push(([0, 0, 0, 0], 0).into(), payload);
        self.socket.send(&batch);
    }

    /// Receives the next datagram. Fails when the socket is closed. It may never come.
    pub async fn receive(&mut self) -> io::Result<Vec<u8>> {
        poll_fn(|cx| {
            let shared = &self.shared;
            if let Some(payload) = shared.waiting.borrow_mut().pop_front() {
                return Poll::Ready(Ok(payload));
            }
            if shared.closed.get() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            shared.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// As [`receive`](Self::receive); none if none comes within this time.
    pub async fn receive_within(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut timer = after(limit);
        let mut receive = pin!(self.receive());
        poll_fn(|cx| {
            if let Poll::Ready(received) = receive.as_mut().poll(cx) {
                return Poll::Ready(received.map(Some));
            }
            Pin::new(&mut timer).poll(cx).map(|_| Ok(None))
        })
        .await
    }

    pub(crate) fn new(socket: &DatagramSocket) -> (Self, Feed) {
        let shared = Rc::new(Shared::default());
        let peer = Self {
            socket: socket.clone(),
            shared: Rc::clone(&shared),
        };
        (peer, Feed(shared))
    }
}

impl Drop for DatagramPeer {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl fmt::Debug for DatagramPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatagramPeer").field(&self.socket).finish()
    }
}

/// The callbacks' end of a [`DatagramPeer`].
pub(crate) struct Feed(Rc<Shared>);

impl Feed {
    pub(crate) fn received(&self, datagrams: &Datagrams) {
        let mut waiting = self.0.waiting.borrow_mut();
        for datagram in datagrams {
            if waiting.len() < MAX_WAITING {
                waiting.push_back(datagram.payload().to_vec());
            }
        }
        drop(waiting);
        self.wake();
    }

    pub(crate) fn closed(&self, _reason: &CloseReason) {
        self.0.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct Shared {
    waiting: RefCell<VecDeque<Vec<u8>>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

/// Datagrams that wait to be received by one [`DatagramPeer`]; what comes above it is dropped: 64, as many as one callback brings.
pub const MAX_WAITING: usize = 64;
