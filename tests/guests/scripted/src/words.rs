//! What commands say and what is answered, between words and the contract's types.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::bindings::nethost::plugin::{
    bulk::Extent,
    datagram::Packet,
    types::{Address, CloseReason, ErrorCode, Origin, SocketAddress},
};

/// Bytes of which every position is known.
pub(crate) fn pattern(start: u64, count: u64) -> Vec<u8> {
    (start..start + count).map(|at| (at % 251) as u8).collect()
}

/// The first bytes as text, and how many there are.
pub(crate) fn bytes_in_words(bytes: &[u8]) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    format!("{} {}", bytes.len(), start.escape_debug())
}

pub(crate) fn number(text: &str) -> u64 {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `OFFSET LENGTH RATE`; `-` for none.
pub(crate) fn extent_of(text: &str) -> Extent {
    let mut words = text
        .split(' ')
        .map(|word| (word != "-").then(|| number(word)));
    Extent {
        offset: words.next().flatten().unwrap_or(0),
        length: words.next().flatten(),
        rate: words.next().flatten(),
    }
}

pub(crate) fn milliseconds(text: &str) -> u64 {
    number(text) * 1_000_000
}

pub(crate) fn origin_in_words(origin: &Origin) -> String {
    match origin {
        Origin::Configured(url) => format!("configured {url}"),
        Origin::Opened(id) => format!("opened {id}"),
        Origin::Dialed(id) => format!("dialed {id}"),
        Origin::Other(words) => format!("other {words}"),
    }
}

/// A packet to an address, and its payload.
pub(crate) fn packet(address: &str, text: &str) -> (Packet, Vec<u8>) {
    let SocketAddress { ip, port, scope } = socket_address(address);
    let packet = Packet {
        length: u32::try_from(text.len()).expect("a short text"),
        port,
        truncated: false,
        peer: ip,
        local: (0, 0),
        scope,
    };
    (packet, text.as_bytes().to_vec())
}

pub(crate) fn socket_address(text: &str) -> SocketAddress {
    let address: SocketAddr = text.parse().expect("an address");
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let bits = ip.to_bits();
    SocketAddress {
        ip: ((bits >> 64) as u64, bits as u64),
        port: address.port(),
        scope: 0,
    }
}

pub(crate) fn ip_of((high, low): (u64, u64)) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(high) << 64 | u128::from(low))
}

pub(crate) fn address_of(ip: (u64, u64), port: u16, scope: u32) -> String {
    format!("[{}%{scope}]:{port}", ip_of(ip))
}

pub(crate) fn address_in_words(address: &Address) -> String {
    match address {
        Address::Socket(socket) => address_of(socket.ip, socket.port, socket.scope),
        Address::Path(Some(path)) => format!("path {path}"),
        Address::Path(None) => "unnamed".to_owned(),
        Address::Other(words) => format!("other {words}"),
    }
}

pub(crate) fn reason_in_words(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Done => "done".to_owned(),
        CloseReason::ClosedHere => "closed-here".to_owned(),
        CloseReason::AbortedHere => "aborted-here".to_owned(),
        CloseReason::Reset => "reset".to_owned(),
        CloseReason::Idle => "idle".to_owned(),
        CloseReason::Limit(text) => format!("limit {text}"),
        CloseReason::Tls(text) => format!("tls {text}"),
        CloseReason::Draining => "draining".to_owned(),
        CloseReason::Trapped => "trapped".to_owned(),
        CloseReason::Other(text) => format!("other {text}"),
    }
}

pub(crate) fn code_in_words(code: &ErrorCode) -> String {
    match code {
        ErrorCode::Denied => "denied".to_owned(),
        ErrorCode::Refused => "refused".to_owned(),
        ErrorCode::Timeout => "timeout".to_owned(),
        ErrorCode::Unreachable => "unreachable".to_owned(),
        ErrorCode::Reset => "reset".to_owned(),
        ErrorCode::Closed => "closed".to_owned(),
        ErrorCode::NameNotFound => "name-not-found".to_owned(),
        ErrorCode::Limit => "limit".to_owned(),
        ErrorCode::Invalid => "invalid".to_owned(),
        ErrorCode::Unsupported => "unsupported".to_owned(),
        ErrorCode::Busy => "busy".to_owned(),
        ErrorCode::Io => "io".to_owned(),
        ErrorCode::Other(words) => format!("other({words})"),
        ErrorCode::NotFound => "not-found".to_owned(),
        ErrorCode::Exists => "exists".to_owned(),
        ErrorCode::Full => "full".to_owned(),
    }
}
