//! EDNS(0) ([RFC 6891](https://www.rfc-editor.org/rfc/rfc6891)).

/// Bytes of a datagram that this server sends and takes: what fits every path ([DNS flag day 2020](https://www.dnsflagday.net/2020/)).
pub const EDNS_PAYLOAD: u16 = 1232;

/// The number of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionCode(pub u16);

impl OptionCode {
    /// Which server it is ([RFC 5001](https://www.rfc-editor.org/rfc/rfc5001)).
    pub const NSID: Self = Self(3);
    /// Cookies ([RFC 7873](https://www.rfc-editor.org/rfc/rfc7873)).
    pub const COOKIE: Self = Self(10);
    /// How long a connection is kept ([RFC 7828](https://www.rfc-editor.org/rfc/rfc7828)).
    pub const KEEPALIVE: Self = Self(11);
    /// Why it is so ([RFC 8914](https://www.rfc-editor.org/rfc/rfc8914)).
    pub const EXTENDED_ERROR: Self = Self(15);

    /// Its name for people.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            3 => "NSID",
            8 => "CLIENT-SUBNET",
            9 => "EXPIRE",
            10 => "COOKIE",
            11 => "TCP-KEEPALIVE",
            12 => "PAD",
            15 => "EDE",
            _ => return None,
        })
    }
}

/// What a request says with its OPT record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edns<'a> {
    /// Bytes of a datagram that the client takes.
    pub payload: u16,
    /// The version.
    pub version: u8,
    /// Whether DNSSEC records are wanted.
    pub dnssec: bool,
    /// Whether the server is to say which one it is.
    pub nsid: bool,
    /// The client's cookie, and the server's behind it if the client has one.
    pub cookie: Option<&'a [u8]>,
}

impl<'a> Edns<'a> {
    /// Reads the class, TTL and data of an OPT record. None if the options are malformed; unknown ones are ignored.
    pub fn decode(class: u16, ttl: u32, data: &'a [u8]) -> Option<Self> {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Self {
            payload: class,
            version,
            dnssec: flags & 0x80 != 0,
            nsid: false,
            cookie: None,
        };
        let mut rest = data;
        while !rest.is_empty() {
            let (code, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (value, after) = after.split_at_checked(length)?;
            match OptionCode(u16::from_be_bytes(*code)) {
                OptionCode::NSID => edns.nsid = true,
                // 8 bytes of the client's, 8 to 32 of the server's; the first option counts.
                OptionCode::COOKIE if edns.cookie.is_none() => {
                    if length != 8 && !(16..=40).contains(&length) {
                        return None;
                    }
                    edns.cookie = Some(value);
                }
                _ => {}
            }
            rest = after;
        }
        Some(edns)
    }
}

/// What the server says with its OPT record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerOptions<'a> {
    /// The bits of the code that the header does not have.
    pub rcode_high: u8,
    /// Echoes that the client wants DNSSEC records.
    pub dnssec: bool,
    /// The client's cookie with the server's behind it.
    pub cookie: Option<[u8; 24]>,
    /// Which server it is.
    pub nsid: Option<&'a [u8]>,
    /// Why it is so: a code, and words.
    pub extended_error: Option<(u16, &'a str)>,
}

impl ServerOptions<'_> {
    /// Bytes of the record.
    pub fn length(&self) -> usize {
        let cookie = self.cookie.map_or(0, |cookie| 4 + cookie.len());
        let nsid = self.nsid.map_or(0, |nsid| 4 + nsid.len());
        let error = self.extended_error.map_or(0, |(_, text)| 6 + text.len());
        11 + cookie + nsid + error
    }

    /// Writes the record; nothing else than `put` is called.
    pub fn encode(&self, mut put: impl FnMut(&[u8])) {
        let [_, kind] = crate::types::RecordType::OPT.0.to_be_bytes();
        let [high, low] = EDNS_PAYLOAD.to_be_bytes();
        let flags = if self.dnssec { 0x80 } else { 0 };
        put(&[0, 0, kind, high, low, self.rcode_high, 0, flags, 0]);
        let length = self.length() - 11;
        put(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        let mut option = |code: OptionCode, parts: [&[u8]; 2]| {
            let length = parts.iter().map(|part| part.len()).sum::<usize>();
            put(&code.0.to_be_bytes());
            put(&u16::try_from(length).unwrap_or(0).to_be_bytes());
            parts.iter().for_each(|part| put(part));
        };
        if let Some(cookie) = &self.cookie {
            option(OptionCode::COOKIE, [cookie, &[]]);
        }
        if let Some(nsid) = self.nsid {
            option(OptionCode::NSID, [nsid, &[]]);
        }
        if let Some((code, text)) = self.extended_error {
            let code = code.to_be_bytes();
            option(OptionCode::EXTENDED_ERROR, [&code, text.as_bytes()]);
        }
    }
}
