//! The PROXY protocol: the header in which a proxy says whose stream it relays, versions 1 and 2.
//!
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt> is the specification; sections are its own. This is the codec, without a socket:
//! [`decode`] says how many further bytes belong to the header for certain, so that whoever reads never takes a byte of the stream that follows it.
//!
//! The crate `ppp` is not used, because it takes `+80` for a port, and refuses what is to be ignored: the family of `LOCAL` if it is unknown, and more than
//! four words after `UNKNOWN`. It serves the tests as a second opinion.
//!
//! What is stricter here than section 2 wants: a header of version 2 with more than [`MOST_AFTER_FIXED`] bytes after its fixed part, with TLVs that do not
//! fill it exactly, or of a datagram, is refused. A checksum (`PP2_TYPE_CRC32C`) is verified; every other TLV is skipped.

#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

use super::Address;
use crate::endpoint::{ProxyHeader, map, unmap};

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The stream is the proxy's own, or it does not know whose: the stream's own addresses hold. `UNKNOWN`, `LOCAL`, `AF_UNSPEC`.
    Own,
    /// The stream is relayed.
    Relayed {
        /// Whose it is.
        source: Address,
        /// The address that the source connected to.
        destination: Address,
    },
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The beginning of a header, to which this many further bytes belong, if not more.
    Incomplete(usize),
    /// A header.
    Complete(Header),
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// They begin like no header of a version that is taken.
    #[error("no PROXY header of {0}")]
    Missing(&'static str),
    /// Version 1 has no end within its 107 bytes.
    #[error("the line has no end within {LONGEST_V1} bytes")]
    EndlessLine,
    /// A line feed without a carriage return before it, or the reverse.
    #[error("the line does not end with CR LF")]
    LineEnd,
    /// Neither `TCP4`, `TCP6` nor `UNKNOWN`.
    #[error("the protocol is neither TCP4, TCP6 nor UNKNOWN")]
    Protocol,
    /// Not two addresses and two ports.
    #[error("it does not have two addresses and two ports")]
    Fields,
    /// An address that is none of the family.
    #[error("an address is not one of {0}")]
    Address(&'static str),
    /// A port that is not 0 to 65535 in plain decimal.
    #[error("a port is not a plain number from 0 to 65535")]
    Port,
    /// The high half of the 13th byte.
    #[error("version {0} is not 2")]
    Version(u8),
    /// The low half of the 13th byte.
    #[error("command {0} is neither LOCAL nor PROXY")]
    Command(u8),
    /// The 14th byte.
    #[error("family and protocol {0:#04x} is no stream's")]
    Family(u8),
    /// The length is over the limit.
    #[error("{0} bytes follow the fixed part, more than {MOST_AFTER_FIXED}")]
    TooLong(usize),
    /// The length has no room for the addresses.
    #[error("{0} bytes are too few for the addresses")]
    TooShort(usize),
    /// The TLVs do not fill what the length leaves for them.
    #[error("the TLVs do not fill the header")]
    Tlvs,
    /// The checksum is wrong, or there are two.
    #[error("the checksum is wrong")]
    Checksum,
}

/// Reads what came so far, which is no more than the header: the beginning of one never asks for a byte that is not its own.
pub(crate) fn decode(version: ProxyHeader, bytes: &[u8]) -> Result<Decoded, Malformed> {
    let is_v1 = version != ProxyHeader::V2 && begins_alike(bytes, V1_PREFIX);
    let is_v2 = version != ProxyHeader::V1 && begins_alike(bytes, V2_SIGNATURE);
    if bytes.is_empty() {
        return Ok(Decoded::Incomplete(match version {
            ProxyHeader::V2 => V2_FIXED,
            ProxyHeader::V1 | ProxyHeader::Auto => SHORTEST_V1,
        }));
    }
    match (is_v1, is_v2) {
        (true, _) => decode_v1(bytes),
        (false, true) => decode_v2(bytes),
        (false, false) => Err(Malformed::Missing(match version {
            ProxyHeader::V1 => "version 1",
            ProxyHeader::V2 => "version 2",
            ProxyHeader::Auto => "version 1 or 2",
        })),
    }
}

/// Writes a header. Addresses that the version cannot say are left out, which the receiver reads as [`Header::Own`]; it gets version 1 for
/// `auto`, which is not for sending.
pub(crate) fn encode(version: ProxyHeader, header: &Header) -> Vec<u8> {
    match version {
        ProxyHeader::V1 | ProxyHeader::Auto => encode_v1(header).into_bytes(),
        ProxyHeader::V2 => encode_v2(header),
    }
}

/// Section 2.1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`, `PROXY TCP6 ...`, `PROXY UNKNOWN[ anything]\r\n`.
fn decode_v1(bytes: &[u8]) -> Result<Decoded, Malformed> {
    let missing = match bytes {
        [line @ .., b'\r', b'\n'] if !line.contains(&b'\r') && !line.contains(&b'\n') => {
            return decode_line(line).map(Decoded::Complete);
        }
        [line @ .., b'\r'] if !line.contains(&b'\r') && !line.contains(&b'\n') => 1,
        _ if bytes.contains(&b'\r') || bytes.contains(&b'\n') => return Err(Malformed::LineEnd),
        _ => 2,
    };
    // What is wrong already is not waited for.
    let mut words = bytes.split(|byte| *byte == b' ').skip(1);
    if let Some(protocol) = words.next() {
        let is_whole = words.next().is_some();
        let fits = |name: &&[u8]| {
            if is_whole {
                *name == protocol
            } else {
                let protocol = protocol.strip_suffix(b"\r").unwrap_or(protocol);
                protocol.len() <= name.len() && begins_alike(protocol, name)
            }
        };
        if !PROTOCOLS.iter().any(fits) {
            return Err(Malformed::Protocol);
        }
    }
    if bytes.len() + missing > LONGEST_V1 {
        return Err(Malformed::EndlessLine);
    }
    Ok(Decoded::Incomplete(
        missing.max(SHORTEST_V1.saturating_sub(bytes.len())),
    ))
}

fn decode_line(line: &[u8]) -> Result<Header, Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    if words.next() != Some(b"PROXY") {
        return Err(Malformed::Protocol);
    }
    let family = match words.next() {
        // What follows is to be ignored.
        Some(b"UNKNOWN") => return Ok(Header::Own),
        Some(b"TCP4") => decode_ip::<Ipv4Addr>,
        Some(b"TCP6") => decode_ip::<Ipv6Addr>,
        _ => return Err(Malformed::Protocol),
    };
    let fields: Vec<&[u8]> = words.collect();
    let [source, destination, source_port, destination_port] = *fields else {
        return Err(Malformed::Fields);
    };
    let name = if line.starts_with(b"PROXY TCP4") {
        "IPv4"
    } else {
        "IPv6"
    };
    let address = |ip: &[u8], port: &[u8]| {
        let ip = family(ip).ok_or(Malformed::Address(name))?;
        let port = decode_port(port).ok_or(Malformed::Port)?;
        Ok(socket(ip, port))
    };
    Ok(Header::Relayed {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
    })
}

fn decode_ip<T: FromStr + Into<IpAddr>>(text: &[u8]) -> Option<IpAddr> {
    let address: T = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.into())
}

fn decode_port(text: &[u8]) -> Option<u16> {
    let is_plain =
        text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || !text.starts_with(b"0"));
    let text = std::str::from_utf8(text).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

/// Section 2.2: the signature, version and command, family and protocol, the length of what follows: addresses, then TLVs.
fn decode_v2(bytes: &[u8]) -> Result<Decoded, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(Decoded::Incomplete(V2_FIXED.saturating_sub(bytes.len())));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_relayed = match (command >> 4, command & 0xf) {
        (2, 0) => false,
        (2, 1) => true,
        (2, other) => return Err(Malformed::Command(other)),
        (other, _) => return Err(Malformed::Version(other)),
    };
    let addresses = match family {
        _ if !is_relayed => 0,
        0x00 => 0,
        TCP_OVER_IPV4 => 12,
        TCP_OVER_IPV6 => 36,
        UNIX_STREAM => 2 * UNIX_PATH,
        _ => return Err(Malformed::Family(family)),
    };
    if length > MOST_AFTER_FIXED {
        return Err(Malformed::TooLong(length));
    }
    if length < addresses {
        return Err(Malformed::TooShort(length));
    }
    if rest.len() < length {
        return Ok(Decoded::Incomplete(length - rest.len()));
    }
    if addresses == 0 {
        // Its content is to be ignored, whatever it is.
        return Ok(Decoded::Complete(Header::Own));
    }
    let (addresses, tlvs) = rest.split_at_checked(addresses).ok_or(Malformed::Tlvs)?;
    check_tlvs(bytes, tlvs)?;
    let header = match family {
        TCP_OVER_IPV4 => decode_ips::<4>(addresses),
        TCP_OVER_IPV6 => decode_ips::<16>(addresses),
        _ => addresses
            .split_at_checked(UNIX_PATH)
            .map(|(source, destination)| Header::Relayed {
                source: decode_path(source),
                destination: decode_path(destination),
            }),
    };
    header
        .map(Decoded::Complete)
        .ok_or(Malformed::TooShort(length))
}

fn decode_ips<const N: usize>(bytes: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    Some(Header::Relayed {
        source: socket((*source).into(), u16::from_be_bytes(*source_port)),
        destination: socket((*destination).into(), u16::from_be_bytes(*destination_port)),
    })
}

/// A path up to its NUL, or as long as the field; after a NUL at its start, a name of the abstract namespace (unix(7)).
fn decode_path(field: &[u8]) -> Address {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let until_nul = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
    let name = match field {
        [0, name @ ..] => until_nul(name)
            .filter(|name| !name.is_empty())
            .map(|name| path(&[b"@", &*name].concat())),
        // A path that would look like an abstract name.
        [b'@', ..] => until_nul(field).map(|name| path(&[b"./", &*name].concat())),
        _ => until_nul(field).map(|name| path(&name)),
    };
    Address::Path(name)
}

fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), Malformed> {
    let mut checksum = None;
    while !tlvs.is_empty() {
        let ([kind, high, low], rest) = tlvs.split_first_chunk().ok_or(Malformed::Tlvs)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or(Malformed::Tlvs)?;
        if *kind == CRC32C {
            let value = <[u8; 4]>::try_from(value).map_err(|_| Malformed::Tlvs)?;
            let before = header.len().saturating_sub(rest.len());
            if checksum.replace((before, value)).is_some() {
                return Err(Malformed::Checksum);
            }
        }
        tlvs = next;
    }
    // Section 2.2.4: computed over the whole header with this value as zeros.
    if let Some((at, value)) = checksum {
        let zeroed = header.iter().enumerate().map(|(index, byte)| {
            if (at..at + value.len()).contains(&index) {
                0
            } else {
                *byte
            }
        });
        if crc32c(zeroed) != u32::from_be_bytes(value) {
            return Err(Malformed::Checksum);
        }
    }
    Ok(())
}

/// RFC 3720, appendix B.4; bit by bit, for once a connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let feedback = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            crc >> 1 ^ feedback
        })
    })
}

fn encode_v1(header: &Header) -> String {
    match ips(header) {
        Some(Ips::V4(source, destination)) => line("TCP4", source, destination),
        Some(Ips::V6(source, destination)) => line("TCP6", source, destination),
        None => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

fn line(
    protocol: &str,
    (source, source_port): (impl std::fmt::Display, u16),
    (destination, destination_port): (impl std::fmt::Display, u16),
) -> String {
    format!("PROXY {protocol} {source} {destination} {source_port} {destination_port}\r\n")
}

fn encode_v2(header: &Header) -> Vec<u8> {
    let (command, family, addresses) = match (header, ips(header)) {
        (Header::Own, _) => (0x20, 0x00, Vec::new()),
        (_, Some(Ips::V4((source, source_port), (destination, destination_port)))) => (
            0x21,
            TCP_OVER_IPV4,
            [
                &source.octets()[..],
                &destination.octets(),
                &source_port.to_be_bytes(),
                &destination_port.to_be_bytes(),
            ]
            .concat(),
        ),
        (_, Some(Ips::V6((source, source_port), (destination, destination_port)))) => (
            0x21,
            TCP_OVER_IPV6,
            [
                &source.octets()[..],
                &destination.octets(),
                &source_port.to_be_bytes(),
                &destination_port.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            Header::Relayed {
                source,
                destination,
            },
            None,
        ) => match (encode_path(source), encode_path(destination)) {
            (Some(source), Some(destination)) => {
                (0x21, UNIX_STREAM, [source, destination].concat())
            }
            // AF_UNSPEC: relayed, but nobody can say from where.
            _ => (0x21, 0x00, Vec::new()),
        },
    };
    // 216 at most.
    let length = u16::try_from(addresses.len()).unwrap_or(0);
    [
        V2_SIGNATURE,
        &[command, family],
        &length.to_be_bytes(),
        &addresses,
    ]
    .concat()
}

fn encode_path(address: &Address) -> Option<[u8; UNIX_PATH]> {
    let Address::Path(path) = address else {
        return None;
    };
    let bytes = path
        .as_ref()
        .map_or(&[][..], |path| path.as_os_str().as_bytes());
    let mut field = [0; UNIX_PATH];
    field.get_mut(..bytes.len())?.copy_from_slice(bytes);
    if let [first @ b'@', ..] = &mut field {
        *first = 0;
    }
    Some(field)
}

enum Ips {
    V4((Ipv4Addr, u16), (Ipv4Addr, u16)),
    V6((Ipv6Addr, u16), (Ipv6Addr, u16)),
}

/// The addresses in the one family that both have; IPv6 if they differ.
fn ips(header: &Header) -> Option<Ips> {
    let Header::Relayed {
        source: Address::Socket(source),
        destination: Address::Socket(destination),
    } = header
    else {
        return None;
    };
    Some(match (unmap(source.ip()), unmap(destination.ip())) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Ips::V4((from, source.port()), (to, destination.port()))
        }
        (from, to) => Ips::V6((map(from), source.port()), (map(to), destination.port())),
    })
}

fn socket(ip: IpAddr, port: u16) -> Address {
    Address::Socket(SocketAddr::new(unmap(ip), port))
}

/// Whether the shorter of the two is the beginning of the longer.
fn begins_alike(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.iter().zip(whole).all(|(one, other)| one == other)
}

/// The most bytes that a header of version 2 may have after its 16 fixed ones: 2 KiB. Addresses take at most 216; the TLVs of load
/// balancers some hundred, and a client's certificate is told by its name only.
pub(crate) const MOST_AFTER_FIXED: usize = 2048;

/// Section 2.1: the worst case, and so a buffer of 108 bytes is always enough.
const LONGEST_V1: usize = 107;

/// `PROXY UNKNOWN\r\n`.
const SHORTEST_V1: usize = 15;

const V1_PREFIX: &[u8] = b"PROXY ";

const PROTOCOLS: [&[u8]; 3] = [b"TCP4", b"TCP6", b"UNKNOWN"];

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const V2_FIXED: usize = 16;

const TCP_OVER_IPV4: u8 = 0x11;

const TCP_OVER_IPV6: u8 = 0x21;

const UNIX_STREAM: u8 = 0x31;

const UNIX_PATH: usize = 108;

/// `PP2_TYPE_CRC32C`.
const CRC32C: u8 = 0x03;
