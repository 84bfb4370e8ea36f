//! The data of records: from text, to text, and out of messages.
//!
//! A type is a list of [`Field`]s, and everything else follows from it. What is not listed is opaque ([RFC 3597](https://www.rfc-editor.org/rfc/rfc3597)).

mod location;
mod params;
mod present;
mod text;
mod wire;

pub use present::Shown;
pub use text::{TextError, Token, Tokens, parse};
pub(crate) use text::{parse_ttl, shown};
pub use wire::{expand, names, verify};

use crate::types::RecordType;

/// One part of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A number of one byte.
    U8,
    /// A number of two bytes.
    U16,
    /// A number of four bytes.
    U32,
    /// Seconds in four bytes; in text with units if one likes.
    Seconds,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// So many bytes of a MAC address, in text with hyphens.
    Eui(usize),
    /// A domain name.
    Name,
    /// A text with its length before it, up to 255 bytes.
    Text,
    /// One or more texts, to the end.
    Texts,
    /// As `Text`, without quotes: letters and digits, one at least.
    Tag,
    /// A text to the end, without a length.
    Rest,
    /// A type of records.
    Type,
    /// An algorithm of DNSSEC: a number, or a mnemonic.
    Algorithm,
    /// A kind of certificate: a number, or a mnemonic.
    CertificateType,
    /// Types of records as a bitmap, to the end ([RFC 4034 section 4.1.2](https://www.rfc-editor.org/rfc/rfc4034#section-4.1.2)).
    Types,
    /// A time in seconds since 1970, in text as `YYYYMMDDHHmmSS`.
    Time,
    /// Bytes with their length before them, in text hexadecimal, or `-` for none.
    Salt,
    /// Bytes with their length before them, in text in base32 with the extended alphabet.
    Hash,
    /// Bytes to the end, in text hexadecimal.
    Hex,
    /// Bytes to the end, in text in base64.
    Base64,
    /// Where on earth.
    Location,
    /// Parameters of a service, to the end ([RFC 9460](https://www.rfc-editor.org/rfc/rfc9460#section-2.1)).
    Params,
}

/// The parts of a type's data; none if it is opaque.
pub fn fields(rtype: RecordType) -> Option<&'static [Field]> {
    use Field::*;
    Some(match rtype {
        RecordType::A => &[Ipv4],
        RecordType::AAAA => &[Ipv6],
        RecordType::NS
        | RecordType::CNAME
        | RecordType::PTR
        | RecordType::DNAME
        | RecordType::MD
        | RecordType::MF
        | RecordType::MB
        | RecordType::MG
        | RecordType::MR => &[Name],
        RecordType::SOA => &[Name, Name, U32, Seconds, Seconds, Seconds, Seconds],
        RecordType::MX | RecordType::AFSDB | RecordType::RT | RecordType::KX => &[U16, Name],
        RecordType::TXT | RecordType::SPF => &[Texts],
        RecordType::HINFO => &[Text, Text],
        RecordType::MINFO | RecordType::RP => &[Name, Name],
        RecordType::SRV => &[U16, U16, U16, Name],
        RecordType::NAPTR => &[U16, U16, Text, Text, Text, Name],
        RecordType::CAA => &[U8, Tag, Rest],
        RecordType::TLSA | RecordType::SMIMEA => &[U8, U8, U8, Hex],
        RecordType::SSHFP => &[U8, U8, Hex],
        RecordType::SVCB | RecordType::HTTPS => &[U16, Name, Params],
        RecordType::URI => &[U16, U16, Rest],
        RecordType::LOC => &[Location],
        RecordType::DS | RecordType::CDS => &[U16, Algorithm, U8, Hex],
        RecordType::DNSKEY | RecordType::CDNSKEY => &[U16, U8, Algorithm, Base64],
        RecordType::RRSIG => &[Type, Algorithm, U8, U32, Time, Time, U16, Name, Base64],
        RecordType::NSEC => &[Name, Types],
        RecordType::NSEC3 => &[U8, U8, U16, Salt, Hash, Types],
        RecordType::NSEC3PARAM => &[U8, U8, U16, Salt],
        RecordType::OPENPGPKEY => &[Base64],
        RecordType::CERT => &[CertificateType, U16, Algorithm, Base64],
        RecordType::CSYNC => &[U32, U16, Types],
        RecordType::ZONEMD => &[U32, U8, U8, Hex],
        RecordType::EUI48 => &[Eui(6)],
        RecordType::EUI64 => &[Eui(8)],
        _ => return None,
    })
}

const ALGORITHMS: &[(u8, &str)] = &[
    (1, "RSAMD5"),
    (2, "DH"),
    (3, "DSA"),
    (5, "RSASHA1"),
    (6, "NSEC3DSA"),
    (6, "DSA-NSEC3-SHA1"),
    (7, "NSEC3RSASHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (12, "ECCGOST"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
    (252, "INDIRECT"),
    (253, "PRIVATEDNS"),
    (254, "PRIVATEOID"),
];

const CERTIFICATE_TYPES: &[(u16, &str)] = &[
    (1, "PKIX"),
    (2, "SPKI"),
    (3, "PGP"),
    (4, "IPKIX"),
    (5, "ISPKI"),
    (6, "IPGP"),
    (7, "ACPKIX"),
    (8, "IACPKIX"),
    (253, "URI"),
    (254, "OID"),
];

#[cfg(test)]
mod tests;
