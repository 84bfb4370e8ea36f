//! UDP: sockets, one a worker where workers share a port, and batches in and out of them: `recvmmsg` and `sendmmsg`, one system call for up to
//! [`DATAGRAM_BATCH`] packets.
//!
//! Four packets or more in a row to one peer, of one length, leave as one that the kernel cuts apart late (`UDP_SEGMENT` of udp(7)). `bench udp` says what that is
//! worth, in processor time for a packet of 64 bytes that is echoed: with 32 packets of each peer on their way, 1.46 us through a plugin, and
//! 2.03 us in a plain loop of `recvmmsg` and `sendmmsg` that does not do it; where no two packets in a row have the same peer, 2.61 and 2.56 us.
//! Segments that the way does not take (they are longer than its MTU) go one by one, and no longer ones are tried on that socket again.
//!
//! `UDP_GRO`, its counterpart, is not used: over loopback nothing is joined that was not sent as one, and it needs a control message that some packets
//! have and others have not, for which `recvmmsg` of the crate nix has no room after the first that had none.

use std::{
    array,
    cell::Cell,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
    task::{Context, Poll},
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
        sendmmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::tcp::{canonical, local_address};
use crate::{
    endpoint::{UdpEndpoint, map, unmap},
    limits::DATAGRAM_BATCH,
};

/// One packet of a batch; its payload lies in a buffer of its own, after that of the packet before. An address is that of IPv6, or of IPv4
/// mapped into it; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Bytes of payload.
    pub length: u32,
    /// The peer's port.
    pub port: u16,
    /// The payload is only the beginning of what was sent.
    pub truncated: bool,
    /// The peer: source of what was received, destination of what is sent.
    pub peer: u128,
    /// The address on this side that it was sent to, or is to be sent from.
    pub local: u128,
    /// The scope of a link-local peer; the interface to reach a multicast group on.
    pub scope: u32,
}

/// The sockets of one listening endpoint, all bound to the same address.
#[derive(Debug)]
pub(crate) struct UdpSockets {
    /// The address with its real port.
    pub(crate) local: SocketAddr,
    /// One socket for each worker.
    pub(crate) sockets: Vec<std::net::UdpSocket>,
}

impl UdpSockets {
    /// Binds `count` sockets to the address; as with TCP they share the port, and an exclusive bind comes first.
    pub(crate) fn bind(
        endpoint: &UdpEndpoint,
        address: SocketAddr,
        count: usize,
    ) -> io::Result<Self> {
        let first = bind(endpoint, address, Sharing::Exclusive)?;
        let local = local_address(&first)?;
        let sockets = if count <= 1 {
            vec![first.into()]
        } else {
            drop(first);
            (0..count)
                .map(|_| bind(endpoint, local, Sharing::Shared).map(Into::into))
                .collect::<io::Result<_>>()?
        };
        Ok(Self { local, sockets })
    }
}

/// Makes a socket with one peer. Nothing is sent by it.
pub(crate) fn connect(
    endpoint: &UdpEndpoint,
    address: SocketAddr,
) -> io::Result<std::net::UdpSocket> {
    let socket = new_socket(endpoint, address)?;
    if let Some(bind) = endpoint.bind {
        let bind = if address.is_ipv6() {
            IpAddr::V6(map(bind))
        } else {
            unmap(bind)
        };
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// A socket in a worker's runtime.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    family: Family,
    sources: Sources,
    is_connected: bool,
    /// Longer segments than this were refused: they do not fit the way's MTU, or its device cannot do it.
    longest_segment: Cell<u32>,
}

/// Whom a socket sends to and receives from. The kernel is not asked: one that is connected to port 0 has no peer as far as it can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    /// It is connected.
    One,
    /// It is bound.
    Many,
}

/// What the addresses of a socket look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Which address of this host packets come to and go from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sources {
    /// The one that the socket is bound to.
    One(u128),
    /// Any: the kernel tells with each packet, and is told (`IP_PKTINFO` of ip(7), RFC 3542 section 6).
    Told,
}

/// What a receiving left in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    /// Nothing; the runtime tells when there is something.
    Nothing,
    /// Perhaps something.
    Perhaps,
}

impl Udp {
    /// Takes a socket into this worker's runtime.
    /// Takes a socket that is bound, or one that [`connect`] made.
    pub(crate) fn new(socket: std::net::UdpSocket, peers: Peers) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let family = match local {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        let sources = if local.ip().is_unspecified() {
            match family {
                Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
            Sources::Told
        } else {
            Sources::One(map(local.ip()).to_bits())
        };
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            local: canonical(local),
            family,
            sources,
            is_connected: peers == Peers::One,
            longest_segment: Cell::new(u32::MAX),
        })
    }

    /// Returns the address that it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Returns whether it has one peer.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Returns once there is something to receive.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }

    /// Joins a group; that it is joined already is no error.
    pub(crate) fn join(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        let joined = match self.group(group)? {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
        };
        ignore(joined, io::ErrorKind::AddrInUse)
    }

    /// Leaves a group; that it is not joined is no error.
    pub(crate) fn leave(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        let left = match self.group(group)? {
            IpAddr::V4(group) => {
                socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => socket.leave_multicast_v6(&group, interface),
        };
        ignore(left, io::ErrorKind::AddrNotAvailable)
    }

    pub(crate) fn set_multicast_ttl(&self, hops: u8) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        // A dual-stack socket has both options.
        socket.set_multicast_ttl_v4(hops.into())?;
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => socket.set_multicast_hops_v6(hops.into()),
        }
    }

    pub(crate) fn set_multicast_loop(&self, on: bool) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        socket.set_multicast_loop_v4(on)?;
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => socket.set_multicast_loop_v6(on),
        }
    }

    /// Returns a group as the socket can join it.
    fn group(&self, group: IpAddr) -> io::Result<IpAddr> {
        let takes = match (self.family, group) {
            (Family::V4, IpAddr::V4(_)) => true,
            (Family::V4, IpAddr::V6(_)) => false,
            // Only a dual-stack socket hears groups of IPv4.
            (Family::V6, IpAddr::V4(_)) => self.local.ip().is_unspecified(),
            (Family::V6, IpAddr::V6(_)) => true,
        };
        if takes {
            Ok(group)
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Returns the source that a packet asks for, where the kernel has to be told.
    fn source(&self, packet: &Packet) -> Source {
        let group = is_group(packet.peer);
        let interface = if group || is_link_local(packet.local) {
            packet.scope
        } else {
            0
        };
        let local = match self.sources {
            Sources::One(_) => 0,
            // What came to a group is answered from one of this host's own addresses.
            Sources::Told if is_group(packet.local) => 0,
            Sources::Told => packet.local,
        };
        // IPv6 takes the interface from the destination's scope.
        if local == 0 && (self.family == Family::V6 && unmapped_v6(packet.peer)) {
            return Source::default();
        }
        Source { local, interface }
    }

    fn destination(&self, packet: &Packet) -> Option<SockaddrStorage> {
        if self.is_connected {
            return None;
        }
        let ip = std::net::Ipv6Addr::from_bits(packet.peer);
        Some(match self.family {
            Family::V4 => {
                // No address of IPv4: one that the kernel refuses.
                let ip = ip.to_ipv4_mapped();
                let ip = ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
                let port = if ip.is_unspecified() { 0 } else { packet.port };
                SocketAddrV4::new(ip, port).into()
            }
            Family::V6 => SocketAddrV6::new(ip, packet.port, 0, packet.scope).into(),
        })
    }
}

/// The address and the interface that a packet is sent from, as far as they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Source {
    local: u128,
    interface: u32,
}

/// What one receiving brought; one for all sockets of a worker.
#[derive(Default)]
pub(crate) struct Arrivals {
    packets: Vec<Packet>,
    /// The payloads, end to end; before that, each at its own place.
    buffer: Vec<u8>,
    /// The kernel leaves the lengths of what it wrote in them, which the next call takes for the room that there is: so only sockets of a kind share them.
    plain_v4: Option<MultiHeaders<SockaddrStorage>>,
    plain_v6: Option<MultiHeaders<SockaddrStorage>>,
    told_v4: Option<MultiHeaders<SockaddrStorage>>,
    told_v6: Option<MultiHeaders<SockaddrStorage>>,
}

impl Arrivals {
    /// Receives what is there, at most [`DATAGRAM_BATCH`] packets of at most `longest` bytes.
    pub(crate) fn receive(&mut self, udp: &Udp, longest: usize) -> io::Result<More> {
        self.packets.clear();
        let received = udp.socket.try_io(Interest::READABLE, || {
            self.receive_now(udp, longest)?;
            if self.packets.len() < DATAGRAM_BATCH {
                // The kernel had no more, as another call would say. What comes from now on is told of again.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match received {
            Ok(()) => Ok(More::Perhaps),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(More::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Returns the packets of the last receiving.
    pub(crate) fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// Returns the payloads of the last receiving, end to end.
    pub(crate) fn payloads(&self) -> &[u8] {
        &self.buffer
    }

    fn receive_now(&mut self, udp: &Udp, longest: usize) -> io::Result<()> {
        // Places that are not a power of two apart, so that the beginnings of packets do not compete for the same few lines of the cache. The pages of
        // a place that no packet ever filled are never touched, and take no memory.
        let stride = longest.next_multiple_of(CACHE_LINE) + CACHE_LINE;
        if self.buffer.len() < stride * DATAGRAM_BATCH {
            self.buffer = vec![0; stride * DATAGRAM_BATCH];
        }
        let (headers, control) = match (udp.family, udp.sources) {
            (Family::V4, Sources::One(_)) => (&mut self.plain_v4, None),
            (Family::V6, Sources::One(_)) => (&mut self.plain_v6, None),
            (Family::V4, Sources::Told) => (&mut self.told_v4, Some(cmsg_space!(libc::in_pktinfo))),
            (Family::V6, Sources::Told) => {
                (&mut self.told_v6, Some(cmsg_space!(libc::in6_pktinfo)))
            }
        };
        let headers =
            headers.get_or_insert_with(|| MultiHeaders::preallocate(DATAGRAM_BATCH, control));
        let mut places = self.buffer.chunks_exact_mut(stride);
        let mut slices: [_; DATAGRAM_BATCH] = array::from_fn(|_| {
            let place = places.next().unwrap_or_default();
            let length = longest.min(place.len());
            [IoSliceMut::new(place.split_at_mut(length).0)]
        });
        let fd = udp.socket.as_raw_fd();
        let received = recvmmsg(fd, headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
        for message in received {
            let (peer, port, scope) = message.address.as_ref().map_or((0, 0, 0), parts);
            let local = match udp.sources {
                Sources::One(local) => local,
                Sources::Told => message.cmsgs()?.find_map(told).unwrap_or(0),
            };
            self.packets.push(Packet {
                length: u32::try_from(message.bytes).unwrap_or(0),
                port,
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
                peer,
                local,
                scope,
            });
        }
        let mut end = 0;
        for (index, packet) in self.packets.iter().enumerate() {
            let length = usize::try_from(packet.length).unwrap_or(0);
            let start = index * stride;
            self.buffer.copy_within(start..start + length, end);
            end += length;
        }
        Ok(())
    }
}

/// What sending needs to remember between two calls, so that it need not be made anew; one for all sockets of a worker.
#[derive(Default)]
pub(crate) struct Departures {
    plain: Option<MultiHeaders<SockaddrStorage>>,
    told_v4: Option<MultiHeaders<SockaddrStorage>>,
    told_v6: Option<MultiHeaders<SockaddrStorage>>,
    destinations: Vec<Option<SockaddrStorage>>,
}

impl Departures {
    /// Sends the first packets of a batch, as many as go in one call, and returns how many the kernel took: at least one. An error is about the first packet.
    pub(crate) fn send(
        &mut self,
        udp: &Udp,
        packets: &[Packet],
        payloads: &[u8],
    ) -> io::Result<usize> {
        udp.socket
            .try_io(Interest::WRITABLE, || self.send_now(udp, packets, payloads))
    }

    fn send_now(&mut self, udp: &Udp, packets: &[Packet], payloads: &[u8]) -> io::Result<usize> {
        let Some(first) = packets.first() else {
            return Ok(0);
        };
        let source = udp.source(first);
        let segments = segments(packets, udp.longest_segment.get());
        if segments.count >= FEWEST_SEGMENTS {
            match send_segments(udp, first, source, &segments, payloads) {
                Ok(()) => return Ok(segments.count),
                Err(error) if is_refused_segment(error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let packets = packets
            .get(..plain(packets, udp, source))
            .unwrap_or_default();
        let sent = self.send_plain(udp, packets, source, payloads)?;
        if segments.count >= FEWEST_SEGMENTS {
            // One by one they go.
            udp.longest_segment.set(first.length.saturating_sub(1));
        }
        Ok(sent)
    }

    fn send_plain(
        &mut self,
        udp: &Udp,
        packets: &[Packet],
        source: Source,
        payloads: &[u8],
    ) -> io::Result<usize> {
        let count = packets.len();
        let (v4, v6) = (source.v4(), source.v6());
        let is_v4 = udp.family == Family::V4;
        let control = [if is_v4 {
            ControlMessage::Ipv4PacketInfo(&v4)
        } else {
            ControlMessage::Ipv6PacketInfo(&v6)
        }];
        let (headers, control) = if source == Source::default() {
            let headers = self.plain.get_or_insert_with(|| headers(None));
            (headers, control.get(..0).unwrap_or_default())
        } else if is_v4 {
            let space = || headers(Some(cmsg_space!(libc::in_pktinfo)));
            (self.told_v4.get_or_insert_with(space), control.as_slice())
        } else {
            let space = || headers(Some(cmsg_space!(libc::in6_pktinfo)));
            (self.told_v6.get_or_insert_with(space), control.as_slice())
        };
        self.destinations.clear();
        self.destinations
            .extend(packets.iter().map(|packet| udp.destination(packet)));
        let mut rest = payloads;
        let mut lengths = packets.iter();
        let slices: [_; DATAGRAM_BATCH] = array::from_fn(|_| {
            let length = lengths.next().map_or(0, |packet| packet.length);
            let length = usize::try_from(length).unwrap_or(0).min(rest.len());
            let (payload, after) = rest.split_at(length);
            rest = after;
            [IoSlice::new(payload)]
        });
        let slices = slices.get(..count).unwrap_or_default();
        let fd = udp.socket.as_raw_fd();
        let sent = sendmmsg(
            fd,
            headers,
            slices,
            &self.destinations,
            control,
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }
}

/// Packets of one peer that are of one length, but for the last, which may be shorter: the kernel takes them as one, and cuts them apart late.
struct Segments {
    count: usize,
    bytes: usize,
}

/// Returns what of the beginning can go as segments.
fn segments(packets: &[Packet], longest: u32) -> Segments {
    let mut segments = Segments { count: 0, bytes: 0 };
    let Some(first) = packets.first() else {
        return segments;
    };
    if first.length == 0 || first.length > longest {
        return segments;
    }
    for packet in packets.iter().take(DATAGRAM_BATCH) {
        let length = usize::try_from(packet.length).unwrap_or(usize::MAX);
        let is_like = *packet
            == Packet {
                length: packet.length,
                truncated: packet.truncated,
                ..*first
            };
        let fits = segments.bytes.saturating_add(length) <= MOST_SEGMENTED;
        if !is_like || !fits || packet.length == 0 || packet.length > first.length {
            break;
        }
        segments.count += 1;
        segments.bytes += length;
        if packet.length < first.length {
            break;
        }
    }
    segments
}

fn send_segments(
    udp: &Udp,
    first: &Packet,
    source: Source,
    segments: &Segments,
    payloads: &[u8],
) -> nix::Result<()> {
    let size = u16::try_from(first.length).map_err(|_| Errno::EMSGSIZE)?;
    let (v4, v6) = (source.v4(), source.v6());
    let control = [
        ControlMessage::UdpGsoSegments(&size),
        match udp.family {
            Family::V4 => ControlMessage::Ipv4PacketInfo(&v4),
            Family::V6 => ControlMessage::Ipv6PacketInfo(&v6),
        },
    ];
    let told = if source == Source::default() { 1 } else { 2 };
    let payload = payloads.get(..segments.bytes).unwrap_or_default();
    sendmsg(
        udp.socket.as_raw_fd(),
        &[IoSlice::new(payload)],
        control.get(..told).unwrap_or_default(),
        MsgFlags::MSG_DONTWAIT,
        udp.destination(first).as_ref(),
    )?;
    Ok(())
}

/// Returns how many packets of the beginning go one by one: as long as they have one source, and until segments begin.
fn plain(packets: &[Packet], udp: &Udp, source: Source) -> usize {
    let mut run = 0;
    let mut last: Option<&Packet> = None;
    for (index, packet) in packets.iter().take(DATAGRAM_BATCH).enumerate() {
        if udp.source(packet) != source {
            return index;
        }
        run = if last == Some(packet) { run + 1 } else { 1 };
        last = Some(packet);
        let begins = (index + 1).saturating_sub(run);
        if run >= FEWEST_SEGMENTS && begins > 0 && packet.length > 0 {
            return begins;
        }
    }
    packets.len().min(DATAGRAM_BATCH)
}

impl Source {
    fn v4(self) -> libc::in_pktinfo {
        let local = std::net::Ipv6Addr::from_bits(self.local).to_ipv4_mapped();
        let local = local.map_or([0; 4], |local| local.octets());
        libc::in_pktinfo {
            ipi_ifindex: i32::try_from(self.interface).unwrap_or(0),
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from_ne_bytes(local),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        }
    }

    fn v6(self) -> libc::in6_pktinfo {
        // Without an address it is about a group of IPv4 (the interface of others is part of the destination), and Linux wants that told.
        let local = if self.local == 0 {
            std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().to_bits()
        } else {
            self.local
        };
        libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: local.to_be_bytes(),
            },
            ipi6_ifindex: self.interface,
        }
    }
}

fn headers(control: Option<Vec<u8>>) -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(DATAGRAM_BATCH, control)
}

enum Sharing {
    Exclusive,
    Shared,
}

fn bind(endpoint: &UdpEndpoint, address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = new_socket(endpoint, address)?;
    if matches!(address.ip(), IpAddr::V6(_)) {
        // `[::]` takes IPv4 as well, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // No SO_REUSEADDR: with UDP it would let another program take the port.
    if matches!(sharing, Sharing::Shared) {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn new_socket(endpoint: &UdpEndpoint, address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    set_buffers(endpoint, &socket)?;
    Ok(socket)
}

/// Sets how much the kernel holds, where the endpoint says it.
pub(crate) fn set_buffers(endpoint: &UdpEndpoint, socket: &Socket) -> io::Result<()> {
    let size = |size: u32| usize::try_from(size).unwrap_or(usize::MAX);
    if let Some(bytes) = endpoint.receive_buffer {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = endpoint.send_buffer {
        socket.set_send_buffer_size(size(bytes))?;
    }
    Ok(())
}

/// Returns whether the error is of segmentation (udp(7)): longer than the way's MTU, or nothing that its device can do.
fn is_refused_segment(error: Errno) -> bool {
    matches!(error, Errno::EMSGSIZE | Errno::EINVAL | Errno::EIO)
}

/// Returns address, port and scope.
fn parts(address: &SockaddrStorage) -> (u128, u16, u32) {
    if let Some(v4) = address.as_sockaddr_in() {
        (v4.ip().to_ipv6_mapped().to_bits(), v4.port(), 0)
    } else if let Some(v6) = address.as_sockaddr_in6() {
        (v6.ip().to_bits(), v6.port(), v6.scope_id())
    } else {
        (0, 0, 0)
    }
}

/// Returns the address on this side that a packet came to.
fn told(control: ControlMessageOwned) -> Option<u128> {
    let v4 = |address: libc::in_addr| {
        let address = std::net::Ipv4Addr::from(address.s_addr.to_ne_bytes());
        address.to_ipv6_mapped().to_bits()
    };
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let destination = v4(info.ipi_addr);
            // For a broadcast it is the address of the interface that an answer can come from.
            let own = v4(info.ipi_spec_dst);
            Some(if is_group(destination) {
                destination
            } else {
                own
            })
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(u128::from_be_bytes(info.ipi6_addr.s6_addr))
        }
        _ => None,
    }
}

/// Returns whether an address is that of a multicast group.
pub(crate) fn is_group(ip: u128) -> bool {
    unmap(IpAddr::V6(std::net::Ipv6Addr::from_bits(ip))).is_multicast()
}

fn is_link_local(ip: u128) -> bool {
    std::net::Ipv6Addr::from_bits(ip).is_unicast_link_local()
}

fn unmapped_v6(ip: u128) -> bool {
    std::net::Ipv6Addr::from_bits(ip).to_ipv4_mapped().is_none()
}

fn ignore(result: io::Result<()>, kind: io::ErrorKind) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        result => result,
    }
}

/// So many packets in a row to one peer are worth a call of their own.
const FEWEST_SEGMENTS: usize = 4;

/// Bytes that the kernel takes to be cut into segments: one IP packet's, less the longest headers.
const MOST_SEGMENTED: usize = 65_000;

/// Bytes of a line of the processor's cache.
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests;
