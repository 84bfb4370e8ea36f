//! Connections and groups of them, as a plugin sees them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    rc::Rc,
    time::Duration,
};

use crate::{bindings::nethost::plugin::types, host};

/// One byte stream that the host owns: TCP, TLS or UNIX, accepted or dialed.
///
/// A handle: cloning it costs a counter, and every clone is the same connection. Dropping the last one is [`close`](Self::close); a
/// session keeps its own for as long as it lives. Once the connection is lost every method does nothing.
#[derive(Clone)]
pub struct Connection(Rc<host::Connection>);

impl Connection {
    /// This connection's id. The same after a swap.
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.0.id())
    }

    /// Queues bytes for the peer and returns how many are now unsent, these included.
    ///
    /// Never blocks. While [`HIGH_WATER`] or more are unsent the host does not read from this peer, unless the plugin connected to it, so a plugin that only answers needs no flow
    /// control of its own. One that writes unasked stops at [`HIGH_WATER`] and goes on in [`Protocol::writable`](crate::Protocol::writable).
    pub fn write(&self, data: &[u8]) -> usize {
        self.0.write(data) as usize
    }

    /// Sends what is queued, then closes. Nothing more is read.
    pub fn close(&self) {
        self.0.close();
    }

    /// Sends what is queued, then closes the writing half. Reading goes on; later writes do nothing.
    pub fn shutdown_write(&self) {
        self.0.shutdown_write();
    }

    /// Closes at once and discards what is queued; the peer sees a reset where the transport has one.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Stops `data_received`, and the notice of the end of the stream, from the next callback on.
    pub fn pause_reading(&self) {
        self.0.pause_reading();
    }

    /// Undoes [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&self) {
        self.0.resume_reading();
    }

    /// Closes the connection with the reason `idle` when no byte moved in either direction for this long. None, the default, is never.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.0.set_idle_timeout(timeout.map(host::nanoseconds));
    }

    /// This side's address: the one that the peer asked for, also on a wildcard listener.
    pub fn local(&self) -> Address {
        Address::from_contract(self.0.local())
    }

    /// The peer's address.
    pub fn peer(&self) -> Address {
        Address::from_contract(self.0.peer())
    }

    pub(crate) fn new(raw: host::Connection) -> Self {
        Self(Rc::new(raw))
    }

    pub(crate) fn raw(&self) -> &host::Connection {
        &self.0
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.id())
    }
}

/// A set of connections that one [`write`](Self::write) reaches. The host holds the bytes once, however many members there are.
///
/// A connection that is lost leaves its groups by itself.
pub struct Group(host::Group);

impl Group {
    /// An empty group.
    pub fn new() -> Self {
        Self(host::Group::new())
    }

    /// Adds a connection; does nothing if it is a member already, or lost.
    pub fn add(&self, member: &Connection) {
        self.0.add(&member.0);
    }

    /// Removes a connection; does nothing if it is not a member.
    pub fn remove(&self, member: &Connection) {
        self.0.remove(&member.0);
    }

    /// Queues bytes for every member but `skip`, in order with what is written to the members themselves.
    pub fn write(&self, data: &[u8], skip: Option<&Connection>) {
        self.0.write(data, skip.map(|connection| &*connection.0));
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Group")
    }
}

/// Names a connection within its instance; never reused, and kept across a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The id as the number that the contract has: for saved state.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<u64> for ConnectionId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP, or anything else over IP. An IPv4 address is told as one, not mapped into IPv6.
    Socket(SocketAddr),
    /// A UNIX socket: its path, or none for an unnamed one (the usual client's end).
    Path(Option<String>),
    /// A transport that came after this version of the contract, in words.
    Other(String),
}

impl Address {
    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => Some(address.ip()),
            Self::Path(_) | Self::Other(_) => None,
        }
    }

    /// The address as the contract has it.
    pub(crate) fn to_contract(&self) -> types::Address {
        match self {
            Self::Socket(address) => {
                let (ip, scope) = match address {
                    SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
                    SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
                };
                let [a, b, c, d, e, f, g, h] = ip.segments().map(u64::from);
                let ip = (
                    a << 48 | b << 32 | c << 16 | d,
                    e << 48 | f << 32 | g << 16 | h,
                );
                types::Address::Socket(types::SocketAddress {
                    ip,
                    port: address.port(),
                    scope,
                })
            }
            Self::Path(path) => types::Address::Path(path.clone()),
            Self::Other(words) => types::Address::Other(words.clone()),
        }
    }

    pub(crate) fn from_contract(address: types::Address) -> Self {
        match address {
            types::Address::Socket(address) => Self::Socket(socket_address(&address)),
            types::Address::Path(path) => Self::Path(path),
            types::Address::Other(words) => Self::Other(words),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Path(Some(path)) => f.write_str(path),
            Self::Path(None) => f.write_str("unnamed"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A plugin that writes unasked stops when this many bytes are unsent: 64 KiB, as the contract says.
pub const HIGH_WATER: usize = 64 * 1024;

fn socket_address(address: &types::SocketAddress) -> SocketAddr {
    let (high, low) = address.ip;
    let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
    match ip.to_ipv4_mapped() {
        Some(ip) => SocketAddr::from((ip, address.port)),
        None => SocketAddrV6::new(ip, address.port, 0, address.scope).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_told_as_ipv4() {
        let cases = [
            ((0, 0xffff_c000_0201), 7, 0, "192.0.2.1:7"),
            ((0x2001_0db8_0000_0000, 1), 6667, 0, "[2001:db8::1]:6667"),
            ((0xfe80_0000_0000_0000, 1), 6667, 3, "[fe80::1%3]:6667"),
            ((0, 1), 1, 0, "[::1]:1"),
        ];
        for (ip, port, scope, expected) in cases {
            let address = Address::from_contract(types::Address::Socket(types::SocketAddress {
                ip,
                port,
                scope,
            }));
            assert_eq!(address.to_string(), expected);
            assert_eq!(Address::from_contract(address.to_contract()), address);
        }
    }
}
