//! TCP: listening sockets, one a worker where workers share a port, and the addresses of streams.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use super::Address;
use crate::endpoint::{Switch, TcpEndpoint, unmap};

/// The listening sockets of one endpoint, all bound to the same address.
#[derive(Debug)]
pub(crate) struct TcpListeners {
    /// The address with its real port.
    pub(crate) local: SocketAddr,
    /// One socket for each worker that accepts.
    pub(crate) sockets: Vec<TcpListener>,
}

impl TcpListeners {
    /// Binds `count` sockets to the address.
    ///
    /// With more than one they share the port (`SO_REUSEPORT`), and the kernel spreads the connections. As a second program's bind
    /// would then succeed silently, an exclusive bind comes first: an address in use is an error.
    pub(crate) fn bind(
        endpoint: &TcpEndpoint,
        address: SocketAddr,
        count: usize,
    ) -> io::Result<Self> {
        let first = bind(address, Sharing::Exclusive)?;
        let local = local_address(&first)?;
        let sockets = if count <= 1 {
            vec![first]
        } else {
            drop(first);
            (0..count)
                .map(|_| bind(local, Sharing::Shared))
                .collect::<io::Result<Vec<_>>>()?
        };
        let sockets = sockets
            .into_iter()
            .map(|socket| {
                socket.listen(i32::try_from(endpoint.options.backlog).unwrap_or(i32::MAX))?;
                Ok(socket.into())
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { local, sockets })
    }
}

/// Sets the options of the endpoint on a stream.
pub(crate) fn configure(stream: &TcpStream, nodelay: Switch, keepalive: Option<Duration>) {
    let result = stream.set_nodelay(nodelay == Switch::On).and_then(|()| {
        keepalive.map_or(Ok(()), |idle| {
            SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))
        })
    });
    if let Err(error) = result {
        // The peer may be gone already; reading will say so.
        tracing::debug!(%error, "setting the options of a TCP stream");
    }
}

/// Returns the local and the peer's address.
pub(crate) fn addresses(stream: &TcpStream) -> io::Result<(Address, Address)> {
    Ok((
        Address::Socket(canonical(stream.local_addr()?)),
        Address::Socket(canonical(stream.peer_addr()?)),
    ))
}

enum Sharing {
    Exclusive,
    Shared,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if matches!(address.ip(), IpAddr::V6(_)) {
        // `[::]` takes IPv4 as well, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if matches!(sharing, Sharing::Shared) {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(super) fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| Errno::AFNOSUPPORT.into())
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match unmap(address.ip()) {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_also_when_its_owner_shares_it() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = TcpEndpoint::new(loopback);
        let first = TcpListeners::bind(&endpoint, loopback, 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        for count in [1, 2] {
            let error = TcpListeners::bind(&endpoint, first.local, count).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
