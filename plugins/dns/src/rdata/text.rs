//! Data of records as a master file has them.

use std::{net, str};

use base64::{Engine as _, engine::general_purpose};

use super::{ALGORITHMS, CERTIFICATE_TYPES, Field, fields, location, params, wire};
use crate::types::{Name, NameError, RecordType};

/// One word of a master file, with its escapes; what was between quotes comes without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The bytes.
    pub text: &'a [u8],
    /// Whether it was between quotes.
    pub quoted: bool,
    /// The line that it is on.
    pub line: u32,
}

/// The words of a record's data.
pub trait Tokens<'a> {
    /// The next word; none at the end of the record.
    fn next_token(&mut self) -> Option<Token<'a>>;
}

impl<'a, I: Iterator<Item = Token<'a>>> Tokens<'a> for I {
    fn next_token(&mut self) -> Option<Token<'a>> {
        self.next()
    }
}

/// Why a text is no data of that type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The record ends too early.
    #[error("the record ends where {0} is expected")]
    Missing(&'static str),
    /// There is more than the type has.
    #[error("`{0}` is more than the type has")]
    Extra(String),
    /// A word is not what is expected there.
    #[error("`{text}` is not {expected}")]
    Wrong {
        /// The word.
        text: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A word is no name.
    #[error("`{0}`: {1}")]
    Name(String, NameError),
    /// The data are longer than a record can have.
    #[error("the data are longer than 65535 bytes")]
    TooLong,
    /// A type of which there are no records.
    #[error("there are no records of type {0}")]
    NoData(RecordType),
    /// A type that is not known here, in words.
    #[error("the data of type {0} are known in the form `\\# LENGTH HEX` only")]
    Opaque(RecordType),
    /// The data in the form of RFC 3597 are not right for a type that is known.
    #[error("the data are not those of type {0}")]
    NotOfType(RecordType),
}

/// Reads the data of a record into their wire form, which is appended.
pub fn parse<'a>(
    rtype: RecordType,
    tokens: &mut impl Tokens<'a>,
    origin: Option<&Name>,
    out: &mut Vec<u8>,
) -> Result<(), TextError> {
    if !rtype.is_data() {
        return Err(TextError::NoData(rtype));
    }
    let start = out.len();
    let mut reader = Reader {
        peeked: tokens.next_token(),
        tokens,
        origin,
    };
    let generic = reader
        .peeked
        .is_some_and(|token| token.text == b"\\#" && !token.quoted);
    if generic {
        reader.peeked = reader.tokens.next_token();
        reader.generic(out)?;
        let data = out.get(start..).unwrap_or_default();
        if !wire::verify(rtype, data) {
            return Err(TextError::NotOfType(rtype));
        }
    } else {
        let fields = fields(rtype).ok_or(TextError::Opaque(rtype))?;
        for field in fields {
            reader.field(*field, out)?;
        }
    }
    if let Some(token) = reader.peeked {
        return Err(TextError::Extra(shown(token.text)));
    }
    if out.len() - start > usize::from(u16::MAX) {
        return Err(TextError::TooLong);
    }
    Ok(())
}

/// Reads seconds, with units if there are any: `3600`, `1h30m` (as BIND has them).
pub(crate) fn parse_ttl(text: &[u8]) -> Option<u32> {
    let mut total = 0_u32;
    let mut number: Option<u32> = None;
    for byte in text {
        if byte.is_ascii_digit() {
            let digit = u32::from(byte - b'0');
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(number) => total.checked_add(number),
        None => (!text.is_empty()).then_some(total),
    }
}

pub(super) struct Reader<'t, 'a, T> {
    tokens: &'t mut T,
    peeked: Option<Token<'a>>,
    origin: Option<&'t Name>,
}

impl<'a, T: Tokens<'a>> Reader<'_, 'a, T> {
    pub(super) fn next(&mut self, expected: &'static str) -> Result<Token<'a>, TextError> {
        let token = self.peeked.take().ok_or(TextError::Missing(expected))?;
        self.peeked = self.tokens.next_token();
        Ok(token)
    }

    /// The next word, if there is one.
    pub(super) fn next_if_any(&mut self) -> Option<Token<'a>> {
        let token = self.peeked.take()?;
        self.peeked = self.tokens.next_token();
        Some(token)
    }

    fn field(&mut self, field: Field, out: &mut Vec<u8>) -> Result<(), TextError> {
        match field {
            Field::U8 => {
                let number = self.number("a number from 0 to 255")?;
                out.push(number);
            }
            Field::U16 => {
                let number: u16 = self.number("a number from 0 to 65535")?;
                out.extend(number.to_be_bytes());
            }
            Field::U32 => {
                let number: u32 = self.number("a number from 0 to 4294967295")?;
                out.extend(number.to_be_bytes());
            }
            Field::Seconds => {
                let expected = "a number of seconds";
                let token = self.next(expected)?;
                let seconds = parse_ttl(token.text).ok_or_else(|| wrong(token, expected))?;
                out.extend(seconds.to_be_bytes());
            }
            Field::Ipv4 => {
                let address: net::Ipv4Addr = self.number("an IPv4 address")?;
                out.extend(address.octets());
            }
            Field::Ipv6 => {
                let address: net::Ipv6Addr = self.number("an IPv6 address")?;
                out.extend(address.octets());
            }
            Field::Eui(length) => self.eui(length, out)?,
            Field::Name => {
                let token = self.next("a domain name")?;
                let name = Name::parse_within(token.text, self.origin)
                    .map_err(|error| TextError::Name(shown(token.text), error))?;
                out.extend(name.as_wire());
            }
            Field::Text => {
                let token = self.next("a text")?;
                text(token, out)?;
            }
            Field::Texts => {
                let mut token = self.next("a text")?;
                loop {
                    text(token, out)?;
                    match self.next_if_any() {
                        Some(next) => token = next,
                        None => break,
                    }
                }
            }
            Field::Tag => {
                let expected = "a tag of letters and digits";
                let token = self.next(expected)?;
                let fits = (1..=255).contains(&token.text.len())
                    && token.text.iter().all(u8::is_ascii_alphanumeric);
                if !fits {
                    return Err(wrong(token, expected));
                }
                text(token, out)?;
            }
            Field::Rest => {
                let token = self.next("a text")?;
                unescaped(token, out)?;
            }
            Field::Type => {
                let token = self.next("a type")?;
                let rtype = RecordType::parse(token.text);
                let rtype = rtype.ok_or_else(|| wrong(token, "a type"))?;
                out.extend(rtype.0.to_be_bytes());
            }
            Field::Algorithm => {
                let token = self.next("an algorithm")?;
                let named = ALGORITHMS
                    .iter()
                    .find(|(_, name)| token.text.eq_ignore_ascii_case(name.as_bytes()));
                let number = named.map_or_else(|| decimal(token.text), |(number, _)| Some(*number));
                out.push(number.ok_or_else(|| wrong(token, "an algorithm"))?);
            }
            Field::CertificateType => {
                let token = self.next("a kind of certificate")?;
                let named = CERTIFICATE_TYPES
                    .iter()
                    .find(|(_, name)| token.text.eq_ignore_ascii_case(name.as_bytes()));
                let number = named.map_or_else(|| decimal(token.text), |(number, _)| Some(*number));
                let number: u16 = number.ok_or_else(|| wrong(token, "a kind of certificate"))?;
                out.extend(number.to_be_bytes());
            }
            Field::Types => self.types(out)?,
            Field::Time => {
                let expected = "a time as YYYYMMDDHHmmSS";
                let token = self.next(expected)?;
                let time = parse_time(token.text).ok_or_else(|| wrong(token, expected))?;
                out.extend(time.to_be_bytes());
            }
            Field::Salt => {
                let expected = "hexadecimal digits, or `-`";
                let token = self.next(expected)?;
                let mut bytes = Vec::new();
                if token.text != b"-" {
                    let mut hex = Hex::default();
                    let right = hex.push(token.text, &mut bytes) && hex.is_whole();
                    if !right {
                        return Err(wrong(token, expected));
                    }
                }
                prefixed(&bytes, out).ok_or_else(|| wrong(token, expected))?;
            }
            Field::Hash => {
                let token = self.next("a hash in base32")?;
                let bytes = base32(token.text).filter(|bytes| !bytes.is_empty());
                let bytes = bytes.ok_or_else(|| wrong(token, "a hash in base32"))?;
                prefixed(&bytes, out).ok_or_else(|| wrong(token, "a hash in base32"))?;
            }
            Field::Hex => {
                let expected = "hexadecimal digits, two for each byte";
                let mut token = self.next(expected)?;
                let mut hex = Hex::default();
                loop {
                    if !hex.push(token.text, out) {
                        return Err(wrong(token, expected));
                    }
                    match self.next_if_any() {
                        Some(next) => token = next,
                        None => break,
                    }
                }
                if !hex.is_whole() {
                    return Err(wrong(token, expected));
                }
            }
            Field::Base64 => {
                let mut token = self.next("base64")?;
                let mut joined = token.text.to_vec();
                while let Some(next) = self.next_if_any() {
                    joined.extend_from_slice(next.text);
                    token = next;
                }
                // CDNSKEY and DNSKEY of RFC 8078 have a single 0.
                let bytes = general_purpose::STANDARD.decode(&joined);
                out.extend(bytes.map_err(|_| wrong(token, "base64"))?);
            }
            Field::Location => location::parse(self, out)?,
            Field::Params => params::parse(self, out)?,
        }
        Ok(())
    }

    fn number<N: str::FromStr>(&mut self, expected: &'static str) -> Result<N, TextError> {
        let token = self.next(expected)?;
        decimal(token.text).ok_or_else(|| wrong(token, expected))
    }

    /// `\# LENGTH HEX`, after the first word.
    fn generic(&mut self, out: &mut Vec<u8>) -> Result<(), TextError> {
        let start = out.len();
        let length: u16 = self.number("the length of the data")?;
        let mut hex = Hex::default();
        while let Some(token) = self.next_if_any() {
            if !hex.push(token.text, out) {
                return Err(wrong(token, "hexadecimal digits"));
            }
        }
        if !hex.is_whole() || out.len() - start != usize::from(length) {
            return Err(TextError::Wrong {
                text: format!("\\# {length}"),
                expected: "the length of the data that follow",
            });
        }
        Ok(())
    }

    fn eui(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), TextError> {
        let expected = "a MAC address with hyphens";
        let token = self.next(expected)?;
        let start = out.len();
        for part in token.text.split(|byte| *byte == b'-') {
            let mut hex = Hex::default();
            if part.len() != 2 || !hex.push(part, out) {
                return Err(wrong(token, expected));
            }
        }
        if out.len() - start != length {
            return Err(wrong(token, expected));
        }
        Ok(())
    }

    fn types(&mut self, out: &mut Vec<u8>) -> Result<(), TextError> {
        let mut types = Vec::new();
        while let Some(token) = self.next_if_any() {
            let rtype = RecordType::parse(token.text);
            types.push(rtype.ok_or_else(|| wrong(token, "a type"))?.0);
        }
        types.sort_unstable();
        for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
            let mut bits = [0_u8; 32];
            let mut used = 0;
            for rtype in window {
                let [_, low] = rtype.to_be_bytes();
                if let Some(byte) = bits.get_mut(usize::from(low >> 3)) {
                    *byte |= 0x80 >> (low & 7);
                }
                used = low >> 3;
            }
            let [high, _] = window.first().copied().unwrap_or(0).to_be_bytes();
            out.extend([high, used + 1]);
            out.extend(bits.iter().take(usize::from(used) + 1));
        }
        Ok(())
    }
}

/// Hexadecimal digits in one word or several.
#[derive(Default)]
pub(super) struct Hex(Option<u8>);

impl Hex {
    fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in text {
            let Some(digit) = char::from(*byte)
                .to_digit(16)
                .and_then(|it| u8::try_from(it).ok())
            else {
                return false;
            };
            match self.0.take() {
                Some(high) => out.push(high << 4 | digit),
                None => self.0 = Some(digit),
            }
        }
        true
    }

    fn is_whole(&self) -> bool {
        self.0.is_none()
    }
}

pub(super) fn wrong(token: Token<'_>, expected: &'static str) -> TextError {
    TextError::Wrong {
        text: shown(token.text),
        expected,
    }
}

pub(super) fn decimal<N: str::FromStr>(text: &[u8]) -> Option<N> {
    // What begins with a sign is no number here.
    let first = text.first()?;
    if matches!(first, b'+' | b'-') {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// A word for a message: what is long is cut.
pub(crate) fn shown(text: &[u8]) -> String {
    let cut = text.get(..60).unwrap_or(text);
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{more}", String::from_utf8_lossy(cut))
}

/// The bytes that a word stands for.
pub(super) fn unescaped(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    if !token.text.contains(&b'\\') {
        out.extend_from_slice(token.text);
        return Ok(());
    }
    let mut rest = token.text.iter();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'\\' => crate::types::unescape(&mut rest)
                .ok_or_else(|| wrong(token, "a text with right escapes"))?,
            byte => *byte,
        };
        out.push(byte);
    }
    Ok(())
}

/// A text with its length before it.
fn text(token: Token<'_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    let start = out.len();
    out.push(0);
    unescaped(token, out)?;
    let length = u8::try_from(out.len() - start - 1)
        .map_err(|_| wrong(token, "a text of at most 255 bytes"))?;
    if let Some(place) = out.get_mut(start) {
        *place = length;
    }
    Ok(())
}

fn prefixed(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(bytes.len()).ok()?);
    out.extend_from_slice(bytes);
    Some(())
}

fn base32(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let digit = char::from(*byte).to_digit(32)?;
        bits = bits << 5 | digit;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 255) as u8);
        }
    }
    Some(out)
}

/// Seconds since 1970 of a date, modulo 2^32; or such a number itself.
fn parse_time(text: &[u8]) -> Option<u32> {
    if text.len() != 14 {
        return decimal(text);
    }
    let part = |from: usize, to: usize| decimal::<u64>(text.get(from..to)?);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let fits = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut days = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum::<u64>();
    for past in 1..month {
        days += match past {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
    }
    let seconds = (days + day - 1) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds & 0xffff_ffff) as u32)
}
