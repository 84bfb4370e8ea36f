//! Names, types, and the codes of answers.

mod name;
mod record_type;

use std::fmt;

pub(crate) use name::unescape;
pub use name::{Labels, MAX_LABEL, MAX_NAME, Name, NameError};
pub use record_type::RecordType;

/// What a message asks its receiver to do ([RFC 1035 section 4.1.1](https://www.rfc-editor.org/rfc/rfc1035#section-4.1.1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A standard query, the only one that is served.
    pub const QUERY: Self = Self(0);
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("QUERY"),
            1 => f.write_str("IQUERY"),
            2 => f.write_str("STATUS"),
            4 => f.write_str("NOTIFY"),
            5 => f.write_str("UPDATE"),
            6 => f.write_str("DSO"),
            other => write!(f, "OPCODE{other}"),
        }
    }
}

/// How a question was answered: the four bits of the header, and eight more of EDNS above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcode(pub u16);

impl Rcode {
    /// No error, which includes that there are no such data.
    pub const NOERROR: Self = Self(0);
    /// The question could not be read.
    pub const FORMERR: Self = Self(1);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// There is no such name.
    pub const NXDOMAIN: Self = Self(3);
    /// The server does not do this.
    pub const NOTIMP: Self = Self(4);
    /// The server does not want to.
    pub const REFUSED: Self = Self(5);
    /// A name would become too long by a DNAME ([RFC 6672 section 2.2](https://www.rfc-editor.org/rfc/rfc6672#section-2.2)).
    pub const YXDOMAIN: Self = Self(6);
    /// The server has no such zone.
    pub const NOTAUTH: Self = Self(9);
    /// The version of EDNS is not known here.
    pub const BADVERS: Self = Self(16);
    /// The cookie is not this server's.
    pub const BADCOOKIE: Self = Self(23);

    /// The four bits that the header has.
    pub fn low(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// The eight bits that EDNS has.
    pub fn high(self) -> u8 {
        (self.0 >> 4 & 255) as u8
    }

    /// Its mnemonic, if it has one.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            16 => "BADVERS",
            17 => "BADKEY",
            18 => "BADTIME",
            19 => "BADMODE",
            20 => "BADNAME",
            21 => "BADALG",
            22 => "BADTRUNC",
            23 => "BADCOOKIE",
            _ => return None,
        })
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

/// The class of a record or question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u16);

impl Class {
    /// The Internet, the only one that is served.
    pub const IN: Self = Self(1);
    /// Chaosnet, where servers tell of themselves.
    pub const CH: Self = Self(3);
    /// Any class.
    pub const ANY: Self = Self(255);

    /// Reads a mnemonic, or `CLASS` and a number ([RFC 3597 section 5](https://www.rfc-editor.org/rfc/rfc3597#section-5)).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let known = [
            ("IN", Self::IN),
            ("CH", Self::CH),
            ("HS", Self(4)),
            ("ANY", Self::ANY),
        ];
        let found = known
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name.as_bytes()));
        match found {
            Some((_, class)) => Some(*class),
            None => record_type::numbered(b"CLASS", text).map(Self),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("IN"),
            3 => f.write_str("CH"),
            4 => f.write_str("HS"),
            254 => f.write_str("NONE"),
            255 => f.write_str("ANY"),
            other => write!(f, "CLASS{other}"),
        }
    }
}
