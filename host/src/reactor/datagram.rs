//! A socket for datagrams: what a plugin sees of it, and the pump that moves its packets.
//!
//! In: one `recvmmsg` of up to 64 packets into a buffer that all sockets of the worker share, one call of the handler for each 64 KiB of them. Out: `send`
//! copies into the socket's queue, which leaves in batches of 64 when the handler has returned, or at the end of the turn if another callback sent.
//!
//! A listening socket is no way around the grants: [`Socket::send`] lets through what goes to a peer that sent to this socket lately
//! (the [table](super::peers)), or where a grant covers. Answers in the order of the packets just received find their peer at the next place of
//! that batch, and need no look-up.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    handler::{CloseReason, EndpointKey, ErrorKind, Id, OperationError, Origin},
    holdings::Holdings,
    peers::{Peer, Peers},
    worker::Worker,
};
use crate::{
    endpoint::unmap,
    limits::{DATAGRAM_BYTES, DATAGRAMS_UNSENT},
    metrics::meters::Datagram,
    transport::udp::{More, Packet, Udp},
};

/// A socket that the host owns. Everything that a swap must keep of it is here.
#[derive(Debug)]
pub struct Socket {
    id: Id,
    /// None once it is closed: the plugin may keep its handle.
    udp: RefCell<Option<Rc<Udp>>>,
    local: SocketAddr,
    origin: Origin,
    worker: Rc<Worker>,
    holdings: Rc<Holdings>,
    endpoint: Cell<Option<EndpointKey>>,
    peers: RefCell<Peers>,
    unsent: RefCell<Unsent>,
    /// What was received, and waits for the service's turn: no more than one look at the socket brought.
    rest: RefCell<(Vec<Packet>, Vec<u8>)>,
    /// The kernel took no more; the pump waits for it.
    blocked: Cell<bool>,
    /// In the worker's list of sockets to flush.
    dirty: Cell<bool>,
    /// What the worker received last is for this socket, whose handler has it now: the place of the next answer's peer in it.
    answering: Cell<Option<usize>>,
    /// Why it must end.
    fate: RefCell<Option<CloseReason>>,
    pump: RefCell<Option<Waker>>,
    refused: Complaint,
    dropped: Complaint,
    failed: Complaint,
}

/// A batch that was sent in a wrong way: the plugin's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// There are too many packets.
    #[error("a batch of {0} packets; the most are {DATAGRAMS_UNSENT}")]
    TooMany(usize),
    /// The lengths are wrong.
    #[error("packets of {lengths} bytes together, and payloads of {payloads}")]
    Lengths {
        /// The sum of the packets' lengths.
        lengths: u64,
        /// The bytes that there are.
        payloads: usize,
    },
}

/// Packets that wait to be sent, and their payloads end to end.
#[derive(Debug, Default)]
struct Unsent {
    packets: Vec<Packet>,
    payloads: Vec<u8>,
    /// How many of them are gone already.
    gone: usize,
    gone_bytes: usize,
}

/// Counts what went wrong since it was last logged.
#[derive(Debug, Default)]
struct Complaint {
    logged: Cell<Option<Instant>>,
    count: Cell<u64>,
}

// What a plugin calls.
impl Socket {
    /// Returns this socket's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Returns the address that it is bound to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Queues the packets that may be sent.
    pub fn send(self: &Rc<Self>, packets: &[Packet], payloads: &[u8]) -> Result<(), BadBatch> {
        check_batch(packets, payloads.len())?;
        if self.is_ended() {
            return Ok(());
        }
        let second = self.worker.second();
        let mut rest = payloads;
        let mut last = None;
        for packet in packets {
            let length = usize::try_from(packet.length).unwrap_or(0).min(rest.len());
            let (payload, after) = rest.split_at(length);
            rest = after;
            let peer = (packet.peer, packet.port, packet.scope);
            if last != Some(peer) && !self.may_send_to(peer, second) {
                self.refuse(peer);
                continue;
            }
            last = Some(peer);
            self.queue(packet, payload);
        }
        if !self.dirty.get() && !self.blocked.get() && self.answering.get().is_none() {
            self.dirty.set(true);
            self.worker.mark_dirty_socket(self);
        }
        Ok(())
    }

    /// Closes, after what the kernel takes at once of what is queued.
    pub fn close(&self) {
        self.end(CloseReason::ClosedHere);
    }

    /// Joins a multicast group, if a grant covers it.
    pub fn join(&self, group: IpAddr, interface: u32) -> Result<(), OperationError> {
        self.check_group(group)?;
        self.set(|udp| udp.join(group, interface))
            .map_err(|error| group_error(group, &error))
    }

    /// Leaves a multicast group.
    pub fn leave(&self, group: IpAddr, interface: u32) -> Result<(), OperationError> {
        self.check_group(group)?;
        self.set(|udp| udp.leave(group, interface))
            .map_err(|error| group_error(group, &error))
    }

    /// Returns whether the group may be joined.
    pub fn check_group(&self, group: IpAddr) -> Result<(), OperationError> {
        if !group.is_multicast() {
            let message = format!("{group} is not a multicast address");
            return Err(OperationError::new(ErrorKind::Invalid, message));
        }
        if !self.holdings.program().grants.allows_group(group) {
            let message = format!(
                "group {group} is not granted; the operator may grant it with --allow-connect"
            );
            return Err(OperationError::new(ErrorKind::Denied, message));
        }
        Ok(())
    }

    /// Sets how far packets to groups go.
    pub fn set_multicast_ttl(&self, hops: u8) {
        note_failure(
            "the multicast TTL",
            self.set(|udp| udp.set_multicast_ttl(hops)),
        );
    }

    /// Sets whether packets to groups come back to members on this machine.
    pub fn set_multicast_loop(&self, on: bool) {
        note_failure(
            "the multicast loop",
            self.set(|udp| udp.set_multicast_loop(on)),
        );
    }

    /// Does something to the system's socket, unless it is closed.
    fn set(&self, change: impl FnOnce(&Udp) -> io::Result<()>) -> io::Result<()> {
        match &*self.udp.borrow() {
            Some(udp) if !self.is_ended() => change(udp),
            _ => Ok(()),
        }
    }
}

// What the rest of the reactor calls.
impl Socket {
    pub(super) fn new(
        worker: Rc<Worker>,
        holdings: Rc<Holdings>,
        id: Id,
        udp: Rc<Udp>,
        origin: Origin,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            local: udp.local(),
            udp: RefCell::new(Some(udp)),
            origin,
            worker,
            holdings,
            endpoint: Cell::new(None),
            peers: RefCell::default(),
            unsent: RefCell::default(),
            rest: RefCell::default(),
            blocked: Cell::new(false),
            dirty: Cell::new(false),
            answering: Cell::new(None),
            fate: RefCell::new(None),
            pump: RefCell::new(None),
            refused: Complaint::default(),
            dropped: Complaint::default(),
            failed: Complaint::default(),
        })
    }

    /// Returns where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns whether it is among these holdings.
    pub(crate) fn is_held_by(&self, holdings: &Rc<Holdings>) -> bool {
        Rc::ptr_eq(&self.holdings, holdings)
    }

    /// Returns whether the plugin made it itself.
    pub(crate) fn is_dialed(&self) -> bool {
        !matches!(self.origin, Origin::Configured(_))
    }

    /// Returns the handler's endpoint.
    pub fn endpoint(&self) -> Option<EndpointKey> {
        self.endpoint.get()
    }

    /// Gives the socket its endpoint: when it is opened, and at a swap.
    pub(crate) fn set_endpoint(&self, endpoint: Option<EndpointKey>) {
        self.endpoint.set(endpoint);
    }

    /// Ends the socket. The first reason stays.
    pub(crate) fn end(&self, reason: CloseReason) {
        let mut fate = self.fate.borrow_mut();
        if fate.is_none() {
            *fate = Some(reason);
            self.wake();
        }
    }

    /// Returns whether nothing is sent or received any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.fate.borrow().is_some()
    }

    /// Moves packets until the socket ends, and returns why it did.
    pub(crate) async fn pump(self: Rc<Self>) -> CloseReason {
        let reason = loop {
            if let Some(reason) = &*self.fate.borrow() {
                break reason.clone();
            }
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                Ok(true) => {
                    self.holdings.turn().await;
                    let more = self.receive();
                    while !self.rest.borrow().0.is_empty() {
                        self.holdings.turn().await;
                        self.hand_over_rest();
                    }
                    if more == More::Perhaps {
                        // The others' turn.
                        tokio::task::yield_now().await;
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(service = self.service(), %error, "a datagram socket failed");
                    self.end(CloseReason::Reset);
                }
            }
        };
        if reason == CloseReason::ClosedHere || reason == CloseReason::Draining {
            self.flush();
        }
        self.holdings.turn().await;
        if let (Some(handler), Some(endpoint)) = (self.holdings.handler(), self.endpoint.take()) {
            handler.endpoint_closed(&self, endpoint, &reason);
        }
        self.holdings.socket_closed(self.id);
        self.udp.take();
        reason
    }

    /// Sends what is queued, as much as the kernel takes; the flusher calls this once a turn.
    pub(super) fn flush(&self) {
        self.dirty.set(false);
        let Some(udp) = self.udp.borrow().clone() else {
            return;
        };
        let mut unsent = self.unsent.borrow_mut();
        let mut departures = self.worker.departures();
        let mut retried = false;
        while let Some((packets, payloads)) = unsent.rest() {
            match departures.send(&udp, packets, payloads) {
                Ok(count) => {
                    retried = false;
                    let bytes = unsent.advance(count);
                    self.holdings.meters().sent.add(bytes as u64);
                    self.count(Datagram::Sent, count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    unsent.forget_gone();
                    self.blocked.set(true);
                    self.wake();
                    return;
                }
                // What comes back by ICMP is told to the next call, whatever that is about.
                Err(error) if udp.is_connected() && is_icmp(&error) && !retried => {
                    retried = true;
                    self.returned(&error);
                }
                Err(error) => {
                    retried = false;
                    self.count(Datagram::Dropped, 1);
                    if let Some(count) = self.failed.add() {
                        let service = self.service();
                        tracing::debug!(service, count, %error, "the system refused a packet");
                    }
                    unsent.advance(1);
                }
            }
        }
        unsent.clear();
    }
}

// The pump.
impl Socket {
    /// Returns true when there is something to receive, and false when there is something else to look at.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut pump = self.pump.borrow_mut();
        if !pump
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *pump = Some(cx.waker().clone());
        }
        drop(pump);
        let udp = self.udp.borrow().clone();
        let (Some(udp), false) = (udp, self.is_ended()) else {
            return Poll::Ready(Ok(false));
        };
        while self.blocked.get() {
            match udp.poll_writable(cx) {
                Poll::Ready(Ok(())) => {
                    self.blocked.set(false);
                    self.flush();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        udp.poll_readable(cx).map_ok(|()| true)
    }

    /// Receives one batch and gives it to the handler.
    fn receive(self: &Rc<Self>) -> More {
        let Some(udp) = self.udp.borrow().clone() else {
            return More::Nothing;
        };
        let longest = self.holdings.program().limits.datagram;
        let received = self.worker.arrivals_mut().receive(&udp, longest);
        let more = match received {
            Ok(more) => more,
            Err(error) => {
                self.returned(&error);
                return More::Perhaps;
            }
        };
        let arrivals = self.worker.arrivals();
        let (packets, payloads) = (arrivals.packets(), arrivals.payloads());
        if !self.has_one_peer() {
            let second = self.worker.second();
            let mut peers = self.peers.borrow_mut();
            for packet in packets {
                peers.note((packet.peer, packet.port, packet.scope), second);
            }
        }
        self.count(Datagram::Received, packets.len() as u64);
        let (done, done_bytes) = self.hand_over(packets, payloads, Some(0));
        if let (Some(packets @ [_, ..]), Some(payloads)) =
            (packets.get(done..), payloads.get(done_bytes..))
        {
            let rest = &mut *self.rest.borrow_mut();
            rest.0.extend_from_slice(packets);
            rest.1.extend_from_slice(payloads);
        }
        more
    }

    /// Hands over what waited for the turn.
    fn hand_over_rest(self: &Rc<Self>) {
        let (mut packets, mut payloads) = self.rest.take();
        let (done, done_bytes) = self.hand_over(&packets, &payloads, None);
        packets.drain(..done.min(packets.len()));
        payloads.drain(..done_bytes.min(payloads.len()));
        *self.rest.borrow_mut() = (packets, payloads);
    }

    /// Gives packets to the handler as long as it is the service's turn, and once at least. `first` is the place of the first in what the worker received last. Returns
    /// how many packets and bytes it gave, or had nobody to give to.
    fn hand_over(
        self: &Rc<Self>,
        mut packets: &[Packet],
        mut payloads: &[u8],
        first: Option<usize>,
    ) -> (usize, usize) {
        let all = (packets.len(), payloads.len());
        let (mut done, mut done_bytes) = (0, 0);
        while !packets.is_empty() && (done == 0 || self.holdings.lane().may_run()) {
            let (count, bytes) = fitting(packets, self.holdings.program().limits.datagram_batch);
            let (batch, after) = packets.split_at(count);
            let (payload, rest) = payloads.split_at(bytes.min(payloads.len()));
            (packets, payloads) = (after, rest);
            self.holdings.meters().received.add(bytes as u64);
            let (Some(handler), Some(endpoint)) = (self.holdings.handler(), self.endpoint.get())
            else {
                return all;
            };
            if self.is_ended() {
                return all;
            }
            self.answering.set(first.map(|first| first + done));
            handler.datagrams_received(self, endpoint, batch, payload);
            self.answering.set(None);
            done += count;
            done_bytes += bytes;
            if !self.blocked.get() {
                self.flush();
            }
        }
        (done, done_bytes)
    }

    fn may_send_to(&self, peer: Peer, second: u64) -> bool {
        if self.has_one_peer() {
            return true;
        }
        if let Some(at) = self.answering.get() {
            let arrivals = self.worker.arrivals();
            let next = arrivals.packets().get(at);
            if next.is_some_and(|packet| (packet.peer, packet.port, packet.scope) == peer) {
                self.answering.set(Some(at + 1));
                return true;
            }
        }
        if self.peers.borrow().knows(peer, second) {
            return true;
        }
        let (ip, port, _) = peer;
        let ip = unmap(IpAddr::V6(Ipv6Addr::from_bits(ip)));
        let grants = &self.holdings.program().grants;
        grants.allows_address(None, SocketAddr::new(ip, port))
    }

    fn queue(&self, packet: &Packet, payload: &[u8]) {
        let most = self.holdings.program().limits.unsent;
        if !self.unsent.borrow().takes(payload.len(), most) {
            // The kernel may take what waits without waiting itself.
            if !self.blocked.get() {
                self.flush();
            }
            if !self.unsent.borrow().takes(payload.len(), most) {
                self.count(Datagram::Dropped, 1);
                if let Some(count) = self.dropped.add() {
                    let service = self.service();
                    tracing::warn!(
                        service,
                        count,
                        "the network does not take what is sent; packets are dropped"
                    );
                }
                return;
            }
        }
        let mut unsent = self.unsent.borrow_mut();
        unsent.packets.push(*packet);
        unsent.payloads.extend_from_slice(payload);
    }

    fn refuse(&self, (ip, port, _): Peer) {
        self.count(Datagram::Refused, 1);
        if let Some(count) = self.refused.add() {
            let ip = unmap(IpAddr::V6(Ipv6Addr::from_bits(ip)));
            tracing::warn!(
                service = self.service(),
                count,
                peer = %SocketAddr::new(ip, port),
                "dropped what was sent to a peer that did not ask and that no grant covers; --allow-connect HOST:PORT grants it"
            );
        }
    }

    /// An error came back for a packet that was sent before.
    fn returned(&self, error: &io::Error) {
        self.count(Datagram::Returned, 1);
        if let Some(count) = self.failed.add() {
            tracing::debug!(service = self.service(), count, %error, "a packet did not arrive");
        }
    }

    fn count(&self, what: Datagram, count: u64) {
        self.holdings.meters().datagrams.add(what, count);
    }

    /// Returns whether it was dialed.
    fn has_one_peer(&self) -> bool {
        matches!(self.origin, Origin::Dialed(_))
    }

    fn service(&self) -> &str {
        &self.holdings.program().service
    }

    fn wake(&self) {
        if let Some(pump) = &*self.pump.borrow() {
            pump.wake_by_ref();
        }
    }
}

impl Unsent {
    /// Returns what is not gone; none if everything is.
    fn rest(&self) -> Option<(&[Packet], &[u8])> {
        let packets = self.packets.get(self.gone..)?;
        let payloads = self.payloads.get(self.gone_bytes..)?;
        (!packets.is_empty()).then_some((packets, payloads))
    }

    /// Notes that packets are gone, and returns their bytes.
    fn advance(&mut self, count: usize) -> usize {
        let gone = self.packets.iter().skip(self.gone).take(count);
        let bytes = gone.map(|packet| usize::try_from(packet.length).unwrap_or(0));
        let bytes = bytes.sum();
        self.gone += count;
        self.gone_bytes += bytes;
        bytes
    }

    fn takes(&self, bytes: usize, most: usize) -> bool {
        let waiting = self.packets.len() - self.gone;
        let waiting_bytes = self.payloads.len() - self.gone_bytes;
        // One packet always, however small the limit is.
        waiting == 0 || waiting < DATAGRAMS_UNSENT && waiting_bytes + bytes <= most
    }

    /// Moves what waits to the front, so that the queue never grows past what may wait.
    fn forget_gone(&mut self) {
        self.packets.drain(..self.gone.min(self.packets.len()));
        self.payloads
            .drain(..self.gone_bytes.min(self.payloads.len()));
        self.gone = 0;
        self.gone_bytes = 0;
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.payloads.clear();
        self.payloads.shrink_to(2 * DATAGRAM_BYTES);
        self.gone = 0;
        self.gone_bytes = 0;
    }
}

impl Complaint {
    /// Counts one, and returns how many there were since the last log line if it is time for one.
    fn add(&self) -> Option<u64> {
        let count = self.count.get() + 1;
        let now = Instant::now();
        let is_due = self
            .logged
            .get()
            .is_none_or(|logged| now.duration_since(logged) >= COMPLAINT_PAUSE);
        if is_due {
            self.logged.set(Some(now));
        }
        self.count.set(if is_due { 0 } else { count });
        is_due.then_some(count)
    }
}

/// Returns whether a batch is one.
pub(crate) fn check_batch(packets: &[Packet], payloads: usize) -> Result<(), BadBatch> {
    if packets.len() > DATAGRAMS_UNSENT {
        return Err(BadBatch::TooMany(packets.len()));
    }
    let lengths = packets.iter().map(|packet| u64::from(packet.length)).sum();
    if u64::try_from(payloads) != Ok(lengths) {
        return Err(BadBatch::Lengths { lengths, payloads });
    }
    Ok(())
}

/// Returns how many of the packets fit into one call, at least one, and their bytes.
fn fitting(packets: &[Packet], most: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for packet in packets {
        let length = usize::try_from(packet.length).unwrap_or(0);
        if count > 0 && (count >= most || bytes + length > DATAGRAM_BYTES) {
            break;
        }
        count += 1;
        bytes += length;
    }
    (count, bytes)
}

/// Returns whether the error is one that came back from the network.
fn is_icmp(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn group_error(group: IpAddr, error: &io::Error) -> OperationError {
    let kind = match error.kind() {
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        io::ErrorKind::AddrNotAvailable => ErrorKind::NotFound,
        _ => match error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
        {
            Some(rustix::io::Errno::NODEV) => ErrorKind::NotFound,
            Some(rustix::io::Errno::NOBUFS | rustix::io::Errno::NOMEM) => ErrorKind::Limit,
            _ => ErrorKind::Io,
        },
    };
    OperationError::new(kind, format!("group {group}: {error}"))
}

fn note_failure(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "setting {what}");
    }
}

/// Between two log lines of the same kind about one socket: a minute.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(lengths: &[u32]) -> Vec<Packet> {
        let packet = |length: &u32| Packet {
            length: *length,
            ..Packet::default()
        };
        lengths.iter().map(packet).collect()
    }

    #[test]
    fn a_call_brings_what_fits_and_at_least_one() {
        for (lengths, expected) in [
            (&[0, 0, 0][..], (3, 0)),
            (&[65_527], (1, 65_527)),
            (&[65_527, 9, 1], (2, 65_536)),
            (&[65_527, 10], (1, 65_527)),
            (&[40_000, 25_536, 0, 1], (3, 65_536)),
        ] {
            assert_eq!(fitting(&packets(lengths), 64), expected, "{lengths:?}");
        }
        assert_eq!(fitting(&packets(&[1; 5]), 4), (4, 4));
        assert_eq!(fitting(&packets(&[1; 5]), 5), (5, 5));
    }

    #[test]
    fn lengths_must_add_up() {
        for (lengths, payloads, is_good) in [
            (&[][..], 0, true),
            (&[], 1, false),
            (&[1, 2], 3, true),
            (&[1, 2], 2, false),
            (&[1, 2], 4, false),
            (&[u32::MAX, 1], 0, false),
        ] {
            let checked = check_batch(&packets(lengths), payloads);
            assert_eq!(checked.is_ok(), is_good, "{lengths:?}");
        }
        assert!(check_batch(&packets(&[0; 1024]), 0).is_ok());
        assert_eq!(
            check_batch(&packets(&[0; 1025]), 0),
            Err(BadBatch::TooMany(1025))
        );
    }

    #[test]
    fn what_waits_is_bounded_in_packets_and_in_bytes() {
        let mut unsent = Unsent::default();
        assert!(unsent.takes(100, 10));
        unsent.packets = packets(&[5]);
        unsent.payloads = vec![0; 5];
        assert!(unsent.takes(5, 10));
        assert!(!unsent.takes(6, 10));
        unsent.packets = packets(&[0; 1024]);
        unsent.payloads.clear();
        assert!(!unsent.takes(0, 10));
        unsent.advance(1);
        assert!(unsent.takes(10, 10));
        assert_eq!(unsent.rest().unwrap().0.len(), 1023);
        unsent.forget_gone();
        assert_eq!((unsent.packets.len(), unsent.gone), (1023, 0));
    }

    #[test]
    fn complaints_are_logged_once_in_a_while() {
        let complaint = Complaint::default();
        assert_eq!(complaint.add(), Some(1));
        assert_eq!(complaint.add(), None);
        assert_eq!(complaint.add(), None);
        complaint
            .logged
            .set(Instant::now().checked_sub(COMPLAINT_PAUSE));
        assert_eq!(complaint.add(), Some(3));
    }
}
