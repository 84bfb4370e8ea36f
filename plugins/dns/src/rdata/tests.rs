use super::*;
use crate::types::{Name, RecordType};

/// The data of a record in wire form.
fn wire(rtype: RecordType, text: &str) -> Result<Vec<u8>, TextError> {
    let mut out = Vec::new();
    let origin = Name::parse("example.com").unwrap();
    let mut tokens = text.split(' ').map(|word| match word.strip_prefix('"') {
        Some(quoted) => Token {
            text: quoted.strip_suffix('"').unwrap_or(quoted).as_bytes(),
            quoted: true,
            line: 1,
        },
        None => Token {
            text: word.as_bytes(),
            quoted: false,
            line: 1,
        },
    });
    parse(rtype, &mut tokens, Some(&origin), &mut out)?;
    Ok(out)
}

#[test]
fn data_are_shown_as_they_were_read() {
    for (rtype, text) in [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("NS", "ns.example.net."),
        ("SOA", "a. b\\.c. 1 2 3 4 5"),
        ("MX", "10 a."),
        ("TXT", "\"a\" \"\" \"\\000\\255\""),
        ("CNAME", "a."),
        ("DNAME", "."),
        ("PTR", "a."),
        ("SRV", "1 2 3 a."),
        ("NAPTR", "1 2 \"s\" \"http+I2R\" \"\" a."),
        ("CAA", "128 issue \"a;b\""),
        ("TLSA", "3 1 1 0A0B"),
        ("SMIMEA", "3 1 1 0A0B"),
        ("SSHFP", "1 2 0A0B"),
        ("SVCB", "0 a."),
        (
            "HTTPS",
            "1 . mandatory=alpn alpn=\"h2,h3\" no-default-alpn port=8443 ipv4hint=192.0.2.1,192.0.2.2 ech=AQID ipv6hint=2001:db8::1 key65000=\"x\"",
        ),
        ("URI", "1 2 \"https://example.com/\""),
        ("LOC", "42 21 54.000 N 71 6 18.000 W -24.00m 30m 10000m 10m"),
        ("HINFO", "\"a\" \"b\""),
        ("DS", "1 8 2 0A0B"),
        ("CDS", "0 0 0 00"),
        ("DNSKEY", "257 3 13 AQID"),
        ("CDNSKEY", "0 3 0 AA=="),
        (
            "RRSIG",
            "A 8 2 3600 20260101000000 20250228235959 12345 example.com. AQID",
        ),
        ("NSEC", "a. A MX RRSIG NSEC TYPE1234"),
        (
            "NSEC3",
            "1 0 10 AABB 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG",
        ),
        ("NSEC3PARAM", "1 0 0 -"),
        ("OPENPGPKEY", "AQID"),
        ("CERT", "1 2 8 AQID"),
        ("CSYNC", "1 3 A NS AAAA"),
        ("ZONEMD", "1 1 1 0A0B"),
        ("EUI48", "00-00-5e-00-53-2a"),
        ("RP", "a. b."),
        ("TYPE65400", "\\# 3 0A0B0C"),
        ("TYPE65400", "\\# 0"),
    ] {
        let rtype = RecordType::parse(rtype.as_bytes()).unwrap();
        let data = wire(rtype, text)
            .map_err(|error| format!("{rtype} {text}: {error}"))
            .unwrap();
        let shown = Shown { rtype, data: &data }.to_string();
        assert_eq!(shown, text, "{rtype}");
        assert!(verify(rtype, &data), "{rtype}");
        // The same in the form that every type has.
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        let generic = format!("\\# {} {hex}", data.len());
        assert_eq!(wire(rtype, generic.trim_end()), Ok(data), "{rtype}");
    }
}

#[test]
fn data_that_are_none_are_refused() {
    for (rtype, text) in [
        ("A", "1.2.3"),
        ("AAAA", "1.2.3.4"),
        ("MX", "65536 a."),
        ("MX", "-1 a."),
        ("CAA", "0 a-b \"c\""),
        ("TLSA", "3 1 1 0A0"),
        ("SVCB", "1 . port=65536"),
        ("SVCB", "1 . port=1 port=2"),
        ("SVCB", "1 . mandatory=mandatory"),
        ("SVCB", "1 . foo=bar"),
        ("SVCB", "1 . alpn="),
        ("LOC", "91 N 0 E 0m"),
        ("LOC", "42 60 N 0 E 0m"),
        ("LOC", "42 X 0 E 0m"),
        ("DNSKEY", "257 3 NOPE AQID"),
        ("DNSKEY", "257 3 13 A"),
        (
            "RRSIG",
            "A 8 2 3600 20261301000000 20250228235959 12345 a. AQID",
        ),
        ("NSEC3", "1 0 10 AABB ! A"),
        ("EUI48", "00-00-5e-00-53"),
        ("TXT", &format!("\"{}\"", "a".repeat(256))),
        ("TXT", "\\256"),
        ("HINFO", "a b c"),
    ] {
        let rtype = RecordType::parse(rtype.as_bytes()).unwrap();
        assert!(wire(rtype, text).is_err(), "{rtype} {text}");
    }
}
