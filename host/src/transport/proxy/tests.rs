use proptest::prelude::*;

use super::*;

/// Reads as a listener does: exactly what is asked for. Returns the header and how many bytes it took.
fn read(version: ProxyHeader, stream: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let mut taken = 0;
    loop {
        match decode(version, &stream[..taken])? {
            Decoded::Complete(header) => return Ok(Some((header, taken))),
            Decoded::Incomplete(missing) => {
                assert!(missing > 0);
                if taken + missing > stream.len() {
                    // What is there is looked at before the rest comes.
                    return decode(version, stream).map(|_| None);
                }
                taken += missing;
            }
        }
    }
}

fn v4(ip: [u8; 4], port: u16) -> Address {
    Address::Socket(SocketAddr::from((ip, port)))
}

fn v6(text: &str) -> Address {
    Address::Socket(text.parse().unwrap())
}

fn path(text: &str) -> Address {
    Address::Path((!text.is_empty()).then(|| text.into()))
}

fn relayed(source: Address, destination: Address) -> Header {
    Header::Relayed {
        source,
        destination,
    }
}

/// A header of version 2, whatever it says.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

fn unix_paths(source: &[u8], destination: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 216];
    bytes[..source.len()].copy_from_slice(source);
    bytes[108..108 + destination.len()].copy_from_slice(destination);
    bytes
}

#[test]
fn what_a_header_says_is_known() {
    let client = v4([192, 0, 2, 1], 56_324);
    let server = v4([192, 0, 2, 2], 443);
    let both = relayed(client, server);
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(long.len(), LONGEST_V1);
    let mut ipv6 = vec![0; 36];
    ipv6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    ipv6[16..32].copy_from_slice(&"::ffff:192.0.2.2".parse::<Ipv6Addr>().unwrap().octets());
    ipv6[35] = 25;
    for (bytes, expected) in [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(), both.clone()),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            relayed(v4([0; 4], 0), v4([255; 4], 65_535)),
        ),
        (
            b"PROXY TCP6 2001:DB8::1 ::1 1 25\r\n".to_vec(),
            relayed(v6("[2001:db8::1]:1"), v6("[::1]:25")),
        ),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
            relayed(
                v6("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
                v6("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
        ),
        // An address that is mapped is IPv4, as everywhere.
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 56324 443\r\n".to_vec(),
            both.clone(),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Header::Own),
        (b"PROXY UNKNOWN \r\n".to_vec(), Header::Own),
        (b"PROXY UNKNOWN ::1 nonsense \xff\0\r\n".to_vec(), Header::Own),
        (long.into_bytes(), Header::Own),
        (v2(0x21, 0x11, &IPV4), both.clone()),
        (v2(0x21, 0x21, &ipv6), relayed(v6("[2001:db8::1]:0"), v4([192, 0, 2, 2], 25))),
        (
            v2(0x21, 0x31, &unix_paths(b"/run/client", b"\0name")),
            relayed(path("/run/client"), path("@name")),
        ),
        // A path that begins as an abstract name is shown.
        (v2(0x21, 0x31, &unix_paths(b"@", b"@x")), relayed(path("./@"), path("./@x"))),
        (v2(0x21, 0x31, &unix_paths(b"", b"/x\0y")), relayed(path(""), path("/x"))),
        (
            v2(0x21, 0x31, &unix_paths(&[b'/'; 108], &[b'y'; 108])),
            relayed(path(&"/".repeat(108)), path(&"y".repeat(108))),
        ),
        (v2(0x21, 0x00, b""), Header::Own),
        (v2(0x21, 0x00, b"whatever"), Header::Own),
        (v2(0x20, 0x00, b""), Header::Own),
        // The family of LOCAL is ignored, and so is everything after it.
        (v2(0x20, 0xff, &[0xff; 2048]), Header::Own),
        (v2(0x20, 0x11, &IPV4), Header::Own),
        // TLVs: a server name, nothing, padding.
        (
            v2(0x21, 0x11, &[&IPV4[..], &[2, 0, 1, b'x', 4, 0, 0, 4, 0, 2, 0, 0]].concat()),
            both.clone(),
        ),
        (
            v2(0x21, 0x11, &[&IPV4[..], &[4, 7, 0xf1], &[0; 2033]].concat()),
            both.clone(),
        ),
        (with_checksum(&[0xea, 0, 1, b'x']), both),
    ] {
        let version = if bytes[0] == b'P' { ProxyHeader::V1 } else { ProxyHeader::V2 };
        let shown = bytes.escape_ascii();
        for version in [version, ProxyHeader::Auto] {
            // What follows is the stream's, whatever it looks like.
            for rest in [&b""[..], b"\n", b"\r\n", b"PROXY TCP4", &[0; 3000]] {
                let stream = [&bytes, rest].concat();
                assert_eq!(
                    read(version, &stream),
                    Ok(Some((expected.clone(), bytes.len()))),
                    "{shown}"
                );
            }
            for length in 0..bytes.len() {
                assert!(
                    matches!(decode(version, &bytes[..length]), Ok(Decoded::Incomplete(missing)) if missing <= bytes.len() - length),
                    "{shown} after {length}"
                );
            }
        }
    }
}

/// A header of version 2 with a checksum between its addresses and these TLVs.
fn with_checksum(tlvs: &[u8]) -> Vec<u8> {
    let mut bytes = v2(
        0x21,
        0x11,
        &[&IPV4[..], &[3, 0, 4, 0, 0, 0, 0], tlvs].concat(),
    );
    let checksum = crc32c(bytes.iter().copied());
    bytes[31..35].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn the_checksum_is_castagnolis() {
    // RFC 3720, appendix B.4.
    assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
    assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
    assert_eq!(crc32c(0..32), 0x46dd_794e);
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn what_is_not_a_header_is_refused_and_says_why() {
    use Malformed as M;
    let v1 = |text: &str| text.as_bytes().to_vec();
    let wrong_checksum = {
        let mut bytes = with_checksum(b"");
        bytes[16] ^= 1;
        bytes
    };
    let two_checksums = {
        let good = with_checksum(b"");
        v2(0x21, 0x11, &[&good[16..], &[3, 0, 4, 0, 0, 0, 0]].concat())
    };
    for (bytes, expected) in [
        (
            v1("GET / HTTP/1.1\r\nHost: x\r\n"),
            M::Missing("version 1 or 2"),
        ),
        (v1("\x16\x03\x01"), M::Missing("version 1 or 2")),
        (v1("\n"), M::Missing("version 1 or 2")),
        (v1("proxy TCP4"), M::Missing("version 1 or 2")),
        (v1("PROXY\tTCP4 192.0.2.1"), M::Missing("version 1 or 2")),
        (v1("PROXY\r\n"), M::Missing("version 1 or 2")),
        (v1("PROXYTCP4 192.0.2.1"), M::Missing("version 1 or 2")),
        (v1(" PROXY TCP4 192.0.2.1"), M::Missing("version 1 or 2")),
        (v1("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), M::Protocol),
        (v1("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"), M::Protocol),
        (v1("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n"), M::Protocol),
        (v1("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"), M::Protocol),
        (v1("PROXY TCP 192.0.2.1 192.0.2.2 1 2\r\n"), M::Protocol),
        (v1("PROXY UNKNOWN,\r\n"), M::Protocol),
        (v1("PROXY UNKNOW\r\n"), M::Protocol),
        (v1("PROXY \r\nxxxxxxxxx"), M::LineEnd),
        (v1("PROXY TCP4\r\nxxxxx"), M::LineEnd),
        (v1("PROXY UNKNOWN\n"), M::LineEnd),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), M::LineEnd),
        (v1("PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n"), M::LineEnd),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n"), M::LineEnd),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), M::Fields),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"), M::Fields),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), M::Fields),
        (v1("PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n"), M::Fields),
        (v1("PROXY TCP4 ::1 ::1 1 2\r\n"), M::Address("IPv4")),
        (
            v1("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP4 0xc0000201 192.0.2.2 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP4 192.0.2.1 example.net 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP4 192.0.2.\u{661} 192.0.2.2 1 2\r\n"),
            M::Address("IPv4"),
        ),
        (
            v1("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"),
            M::Address("IPv6"),
        ),
        (v1("PROXY TCP6 1::2::3 ::1 1 2\r\n"), M::Address("IPv6")),
        (v1("PROXY TCP6 00001::1 ::1 1 2\r\n"), M::Address("IPv6")),
        (v1("PROXY TCP6 [::1] ::1 1 2\r\n"), M::Address("IPv6")),
        (
            v1("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"),
            M::Address("IPv6"),
        ),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 00 2\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 0x50\r\n"), M::Port),
        (v1("PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n"), M::Port),
        (
            v1(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92))),
            M::EndlessLine,
        ),
        (
            v1(&format!("PROXY UNKNOWN {}", "x".repeat(2000))),
            M::EndlessLine,
        ),
        (v2(0x11, 0x11, &IPV4), M::Version(1)),
        (v2(0x31, 0x11, &IPV4), M::Version(3)),
        (v2(0x22, 0x11, &IPV4), M::Command(2)),
        (v2(0x2f, 0x11, &IPV4), M::Command(15)),
        (v2(0x21, 0x12, &IPV4), M::Family(0x12)),
        (v2(0x21, 0x10, &IPV4), M::Family(0x10)),
        (v2(0x21, 0x01, &IPV4), M::Family(0x01)),
        (v2(0x21, 0x41, &IPV4), M::Family(0x41)),
        (v2(0x21, 0x22, &[0; 36]), M::Family(0x22)),
        (v2(0x21, 0x32, &[0; 216]), M::Family(0x32)),
        (v2(0x21, 0x11, &IPV4[..11]), M::TooShort(11)),
        (v2(0x21, 0x21, &[0; 35]), M::TooShort(35)),
        (v2(0x21, 0x31, &[0; 215]), M::TooShort(215)),
        (v2(0x21, 0x11, b""), M::TooShort(0)),
        (v2(0x21, 0x11, &[0; 2049]), M::TooLong(2049)),
        (v2(0x20, 0x00, &[0; 65_535]), M::TooLong(65_535)),
        (v2(0x21, 0x11, &[&IPV4[..], &[4, 0]].concat()), M::Tlvs),
        (v2(0x21, 0x11, &[&IPV4[..], &[4, 0, 1]].concat()), M::Tlvs),
        (
            v2(0x21, 0x11, &[&IPV4[..], &[4, 0, 0, 9]].concat()),
            M::Tlvs,
        ),
        (
            v2(0x21, 0x11, &[&IPV4[..], &[3, 0, 3, 0, 0, 0]].concat()),
            M::Tlvs,
        ),
        (
            v2(0x21, 0x11, &[&IPV4[..], &[3, 0, 4, 0, 0, 0, 0]].concat()),
            M::Checksum,
        ),
        (wrong_checksum, M::Checksum),
        (two_checksums, M::Checksum),
        (
            [&V2_SIGNATURE[..11], b"\r\x21\x11\0\0"].concat(),
            M::Missing("version 1 or 2"),
        ),
    ] {
        assert_eq!(
            read(ProxyHeader::Auto, &bytes),
            Err(expected),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn the_other_version_is_refused_at_its_first_byte() {
    assert_eq!(
        decode(ProxyHeader::V1, b"\r"),
        Err(Malformed::Missing("version 1"))
    );
    assert_eq!(
        decode(ProxyHeader::V2, b"P"),
        Err(Malformed::Missing("version 2"))
    );
}

#[test]
fn what_a_version_cannot_say_is_left_out() {
    let (tcp, unix) = (v4([192, 0, 2, 1], 1), path("/run/x"));
    let ipv6 = v6("[::1]:2");
    for (header, v1, v2) in [
        (Header::Own, "PROXY UNKNOWN\r\n", &[0x20, 0, 0, 0][..]),
        (
            relayed(unix.clone(), unix.clone()),
            "PROXY UNKNOWN\r\n",
            &[0x21, 0x31, 0, 216, b'/', b'r'],
        ),
        (
            relayed(tcp.clone(), unix),
            "PROXY UNKNOWN\r\n",
            &[0x21, 0, 0, 0],
        ),
        (
            relayed(Address::Other("stdio"), Address::Other("stdio")),
            "PROXY UNKNOWN\r\n",
            &[0x21, 0, 0, 0],
        ),
        (
            relayed(path(&"x".repeat(109)), path("")),
            "PROXY UNKNOWN\r\n",
            &[0x21, 0, 0, 0],
        ),
        (
            relayed(tcp, ipv6),
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            &[
                0x21, 0x21, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192,
            ],
        ),
    ] {
        assert_eq!(encode(ProxyHeader::V1, &header), v1.as_bytes());
        let bytes = encode(ProxyHeader::V2, &header);
        assert!(
            bytes.strip_prefix(V2_SIGNATURE).unwrap().starts_with(v2),
            "{bytes:x?}"
        );
    }
}

fn socket_address() -> impl Strategy<Value = Address> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|ip| unmap(ip.into())),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| Address::Socket(SocketAddr::new(ip, port)))
}

fn some_version() -> impl Strategy<Value = ProxyHeader> {
    prop_oneof![
        Just(ProxyHeader::V1),
        Just(ProxyHeader::V2),
        Just(ProxyHeader::Auto)
    ]
}

/// Bytes that look like a header more often than chance has it.
fn like_a_header() -> impl Strategy<Value = Vec<u8>> {
    let text = "PROXY (TCP4|TCP6|UNKNOWN)?( [0-9a-f:.]{0,12}){0,5}( [0-9+]{1,5}){0,3}[\r\n]{0,2}";
    let line = proptest::string::string_regex(text).unwrap();
    let binary = (
        prop_oneof![Just(0x20_u8), Just(0x21), any::<u8>()],
        prop_oneof![Just(0x11_u8), Just(0x21), Just(0x31), Just(0), any::<u8>()],
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    let binary = binary.prop_map(|(command, family, rest)| v2(command, family, &rest));
    let noise = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![line.prop_map(String::into_bytes), binary, noise]
}

/// What the other implementation makes of it.
fn second_opinion(bytes: &[u8]) -> Option<Header> {
    let socket = |ip: IpAddr, port| Address::Socket(SocketAddr::new(unmap(ip), port));
    if bytes.starts_with(b"P") {
        use ppp::v1::Addresses;
        return Some(match ppp::v1::Header::try_from(bytes).ok()?.addresses {
            Addresses::Unknown => Header::Own,
            Addresses::Tcp4(tcp) => relayed(
                socket(tcp.source_address.into(), tcp.source_port),
                socket(tcp.destination_address.into(), tcp.destination_port),
            ),
            Addresses::Tcp6(tcp) => relayed(
                socket(tcp.source_address.into(), tcp.source_port),
                socket(tcp.destination_address.into(), tcp.destination_port),
            ),
        });
    }
    use ppp::v2::{Addresses, Command, Header as V2};
    let header = V2::try_from(bytes).ok()?;
    Some(match header.addresses {
        _ if header.command == Command::Local => Header::Own,
        Addresses::Unspecified => Header::Own,
        Addresses::IPv4(tcp) => relayed(
            socket(tcp.source_address.into(), tcp.source_port),
            socket(tcp.destination_address.into(), tcp.destination_port),
        ),
        Addresses::IPv6(tcp) => relayed(
            socket(tcp.source_address.into(), tcp.source_port),
            socket(tcp.destination_address.into(), tcp.destination_port),
        ),
        Addresses::Unix(unix) => relayed(decode_path(&unix.source), decode_path(&unix.destination)),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn whatever_is_encoded_is_decoded(
        source in socket_address(),
        destination in socket_address(),
        version in prop_oneof![Just(ProxyHeader::V1), Just(ProxyHeader::V2)],
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = relayed(source, destination);
        let bytes = encode(version, &header);
        prop_assert_eq!(second_opinion(&bytes), Some(header.clone()));
        let length = bytes.len();
        let stream = [bytes, rest].concat();
        prop_assert_eq!(read(version, &stream), Ok(Some((header, length))));
    }

    #[test]
    fn paths_that_are_encoded_are_decoded(source in "@?[^\0@]{1,30}|", destination in "@?[^\0@]{1,30}") {
        let header = relayed(path(&source), path(&destination));
        let bytes = encode(ProxyHeader::V2, &header);
        // Characters have up to four bytes.
        let fits = source.len() <= UNIX_PATH && destination.len() <= UNIX_PATH;
        let expected = if fits { header } else { Header::Own };
        prop_assert_eq!(read(ProxyHeader::V2, &bytes), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn no_bytes_break_it_and_what_is_taken_the_other_implementation_takes(
        bytes in like_a_header(),
        version in some_version(),
    ) {
        // Every beginning is looked at, as it would come.
        for length in 0..bytes.len() {
            if decode(version, &bytes[..length]).is_err() {
                break;
            }
        }
        if let Ok(Some((header, length))) = read(version, &bytes) {
            let is_text = bytes[0] == b'P';
            // It looks at the family of LOCAL, and at what follows UNKNOWN, which are to be ignored.
            let is_ignored = header == Header::Own && (is_text || bytes[12] == 0x20);
            if !is_ignored {
                prop_assert_eq!(second_opinion(&bytes[..length]), Some(header));
            }
        }
    }
}
