//! The reactor's types as the contract's.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    bindings::nethost::plugin::{
        datagram::Packet as WitPacket,
        deferred::Value as WitValue,
        transport::TlsInfo as WitTlsInfo,
        types::{
            Address as WitAddress, CloseReason as WitCloseReason, Error, ErrorCode,
            Origin as WitOrigin, SocketAddress,
        },
    },
    endpoint::{map, unmap},
    reactor::{CloseReason, ErrorKind, Id, OperationError, Origin, Outcome, Packet, Value},
    tls::info::TlsInfo,
    transport::Address,
};

pub(crate) fn address(address: &Address) -> WitAddress {
    match address {
        Address::Socket(address) => {
            let ip = halves(map(address.ip()).to_bits());
            let scope = match address {
                std::net::SocketAddr::V4(_) => 0,
                std::net::SocketAddr::V6(address) => address.scope_id(),
            };
            WitAddress::Socket(SocketAddress {
                ip,
                port: address.port(),
                scope,
            })
        }
        Address::Path(path) => WitAddress::Path(
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
        ),
        Address::Other(what) => WitAddress::Other((*what).to_owned()),
    }
}

/// Returns the address of a group, if it is an address of IP.
pub(crate) fn ip(address: &WitAddress) -> Option<IpAddr> {
    match address {
        WitAddress::Socket(address) => {
            let ip = Ipv6Addr::from_bits(join(address.ip));
            Some(unmap(IpAddr::V6(ip)))
        }
        WitAddress::Path(_) | WitAddress::Other(_) => None,
    }
}

/// A packet as the contract has it.
pub(crate) fn packet(packet: &Packet) -> WitPacket {
    WitPacket {
        length: packet.length,
        port: packet.port,
        truncated: packet.truncated,
        peer: halves(packet.peer),
        local: halves(packet.local),
        scope: packet.scope,
    }
}

/// A packet as the reactor has it.
pub(crate) fn packet_of(packet: &WitPacket) -> Packet {
    Packet {
        length: packet.length,
        port: packet.port,
        truncated: packet.truncated,
        peer: join(packet.peer),
        local: join(packet.local),
        scope: packet.scope,
    }
}

/// The halves of 128 bits, high and low.
fn halves(bits: u128) -> (u64, u64) {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    (half(bits >> 64), half(bits))
}

fn join((high, low): (u64, u64)) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

pub(crate) fn error(error: OperationError) -> Error {
    Error {
        code: error_code(error.kind),
        message: error.message,
    }
}

pub(crate) fn origin(origin: &Origin) -> WitOrigin {
    match origin {
        Origin::Configured(url) => WitOrigin::Configured(url.to_string()),
        Origin::Dialed(id) => WitOrigin::Dialed(id.0),
    }
}

pub(crate) fn close_reason(reason: &CloseReason) -> WitCloseReason {
    match reason {
        CloseReason::Done => WitCloseReason::Done,
        CloseReason::ClosedHere => WitCloseReason::ClosedHere,
        CloseReason::AbortedHere => WitCloseReason::AbortedHere,
        CloseReason::Reset => WitCloseReason::Reset,
        CloseReason::Idle => WitCloseReason::Idle,
        CloseReason::Limit(limit) => WitCloseReason::Limit((*limit).to_owned()),
        CloseReason::Tls(message) => WitCloseReason::Tls(message.to_string()),
        CloseReason::Draining => WitCloseReason::Draining,
        CloseReason::Trapped => WitCloseReason::Trapped,
        CloseReason::Kicked => WitCloseReason::Other("closed by an operator".to_owned()),
    }
}

pub(crate) fn outcome(outcome: Outcome) -> Result<WitValue, Error> {
    match outcome {
        Ok(Value::Nothing) => Ok(WitValue::Nothing),
        Ok(Value::Number(number)) => Ok(WitValue::Number(number)),
        Ok(Value::Bytes(bytes)) => Ok(WitValue::Bytes(bytes)),
        Ok(Value::Ready) => Ok(WitValue::Ready),
        Err(failure) => Err(error(failure)),
    }
}

pub(crate) fn tls_info((info, resumed_from): (TlsInfo, Option<Id>)) -> WitTlsInfo {
    WitTlsInfo {
        version: info.version.to_owned(),
        cipher_suite: info.cipher_suite,
        alpn: info.alpn,
        server_name: info.server_name,
        peer_certificates: info.peer_certificates,
        resumed: info.resumed,
        resumed_from: resumed_from.map(|id| id.0),
    }
}

fn error_code(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::Denied => ErrorCode::Denied,
        ErrorKind::Refused => ErrorCode::Refused,
        ErrorKind::Timeout => ErrorCode::Timeout,
        ErrorKind::Unreachable => ErrorCode::Unreachable,
        ErrorKind::Reset => ErrorCode::Reset,
        ErrorKind::Closed => ErrorCode::Closed,
        ErrorKind::NameNotFound => ErrorCode::NameNotFound,
        ErrorKind::Limit => ErrorCode::Limit,
        ErrorKind::Invalid => ErrorCode::Invalid,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        ErrorKind::Busy => ErrorCode::Busy,
        ErrorKind::Full => ErrorCode::Full,
        ErrorKind::Tls => ErrorCode::Other("tls".to_owned()),
        ErrorKind::Credentials => ErrorCode::Other("credentials".to_owned()),
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::Exists => ErrorCode::Exists,
        ErrorKind::Io => ErrorCode::Io,
    }
}
