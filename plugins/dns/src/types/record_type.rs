//! The types of records.

use std::{fmt, str::FromStr as _};

/// The type of a record or question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

macro_rules! types {
    ($($name:ident $constant:ident $number:literal $what:literal)*) => {
        impl RecordType {
            $(#[doc = $what] pub const $constant: Self = Self($number);)*

            /// Its mnemonic, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            fn named(text: &[u8]) -> Option<Self> {
                const ALL: &[(&str, RecordType)] = &[$((stringify!($name), RecordType($number)),)*];
                let found = ALL.iter().find(|(name, _)| text.eq_ignore_ascii_case(name.as_bytes()));
                found.map(|(_, number)| *number)
            }
        }
    };
}

// The most frequent first: that is how they are looked for.
types! {
    A A 1 "An IPv4 address (RFC 1035)."
    AAAA AAAA 28 "An IPv6 address (RFC 3596)."
    NS NS 2 "A name server (RFC 1035)."
    CNAME CNAME 5 "Another name for this one (RFC 1035)."
    MX MX 15 "Where mail goes (RFC 1035)."
    TXT TXT 16 "Text (RFC 1035)."
    PTR PTR 12 "A name for an address (RFC 1035)."
    SOA SOA 6 "The start of a zone (RFC 1035)."
    SRV SRV 33 "Where a service is (RFC 2782)."
    DS DS 43 "The key of a zone below (RFC 4034)."
    RRSIG RRSIG 46 "A signature (RFC 4034)."
    NSEC NSEC 47 "The next name (RFC 4034)."
    DNSKEY DNSKEY 48 "A key (RFC 4034)."
    NSEC3 NSEC3 50 "The next hashed name (RFC 5155)."
    NSEC3PARAM NSEC3PARAM 51 "How names are hashed (RFC 5155)."
    CAA CAA 257 "Who may issue certificates (RFC 8659)."
    TLSA TLSA 52 "The certificate of a service (RFC 6698)."
    SVCB SVCB 64 "How to reach a service (RFC 9460)."
    HTTPS HTTPS 65 "How to reach a web site (RFC 9460)."
    NAPTR NAPTR 35 "A rule that makes a name (RFC 3403)."
    DNAME DNAME 39 "Another name for all below this one (RFC 6672)."
    SSHFP SSHFP 44 "The key of an SSH server (RFC 4255)."
    URI URI 256 "A URI (RFC 7553)."
    LOC LOC 29 "Where on earth (RFC 1876)."
    HINFO HINFO 13 "What a host is (RFC 1035)."
    CDS CDS 59 "The DS that the child wants (RFC 7344)."
    CDNSKEY CDNSKEY 60 "The DNSKEY that the child wants (RFC 7344)."
    OPENPGPKEY OPENPGPKEY 61 "A key for mail (RFC 7929)."
    SMIMEA SMIMEA 53 "A certificate for mail (RFC 8162)."
    MD MD 3 "A mail destination, obsolete (RFC 1035)."
    MF MF 4 "A mail forwarder, obsolete (RFC 1035)."
    MB MB 7 "A mailbox (RFC 1035)."
    MG MG 8 "A member of a mail group (RFC 1035)."
    MR MR 9 "Another name for a mailbox (RFC 1035)."
    NULL NULL 10 "Anything (RFC 1035)."
    MINFO MINFO 14 "Who is responsible for a mailbox (RFC 1035)."
    RP RP 17 "Who is responsible (RFC 1183)."
    AFSDB AFSDB 18 "A cell's server (RFC 1183)."
    RT RT 21 "A route (RFC 1183)."
    KX KX 36 "Who exchanges keys (RFC 2230)."
    CERT CERT 37 "A certificate (RFC 4398)."
    OPT OPT 41 "Options of the message (RFC 6891)."
    CSYNC CSYNC 62 "What a parent is to copy (RFC 7477)."
    ZONEMD ZONEMD 63 "A digest of the zone (RFC 8976)."
    SPF SPF 99 "Who may send mail, obsolete (RFC 7208)."
    EUI48 EUI48 108 "A MAC address (RFC 7043)."
    EUI64 EUI64 109 "A long MAC address (RFC 7043)."
    TSIG TSIG 250 "The message's signature (RFC 8945)."
    IXFR IXFR 251 "What changed in a zone (RFC 1995)."
    AXFR AXFR 252 "A whole zone (RFC 5936)."
    ANY ANY 255 "Any type (RFC 8482)."
}

impl RecordType {
    /// Reads a mnemonic, or `TYPE` and a number ([RFC 3597 section 5](https://www.rfc-editor.org/rfc/rfc3597#section-5)).
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::named(text).or_else(|| numbered(b"TYPE", text).map(Self))
    }

    /// Whether records have this type: 1 to 127 and 256 to 61439 ([RFC 6895 section 3.1](https://www.rfc-editor.org/rfc/rfc6895#section-3.1)), except OPT; and those for private use.
    pub fn is_data(self) -> bool {
        self.0 != 0 && self != Self::OPT && !(128..256).contains(&self.0)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// A word and a number behind it.
pub(super) fn numbered(word: &[u8], text: &[u8]) -> Option<u16> {
    let (start, digits) = text.split_at_checked(word.len())?;
    if !start.eq_ignore_ascii_case(word) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u16::from_str(std::str::from_utf8(digits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_shown() {
        for number in 0..=u16::MAX {
            let shown = RecordType(number).to_string();
            assert_eq!(
                RecordType::parse(shown.as_bytes()),
                Some(RecordType(number))
            );
        }
        for text in ["TYPE", "TYPE65536", "TYPE-1", "TYPE+1", "FOO", ""] {
            assert_eq!(RecordType::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(RecordType::parse(b"type28"), Some(RecordType::AAAA));
        assert_eq!(RecordType::parse(b"aaaa"), Some(RecordType::AAAA));
    }
}
