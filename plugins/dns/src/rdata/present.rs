//! Data of records as people read them.

use std::{fmt, net};

use base64::{Engine as _, engine::general_purpose};

use super::{Field, fields, location, params, wire};
use crate::types::{Name, RecordType};

/// The data of a record, to be shown as a master file has them. What is not right for its type is shown as [RFC 3597](https://www.rfc-editor.org/rfc/rfc3597#section-5) says.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The type.
    pub rtype: RecordType,
    /// The data, with no name compressed.
    pub data: &'a [u8],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = fields(self.rtype).filter(|_| wire::verify(self.rtype, self.data));
        let Some(fields) = known.filter(|fields| has_text(fields, self.data)) else {
            return generic(self.data, f);
        };
        let mut rest = self.data;
        for (index, field) in fields.iter().enumerate() {
            let length = wire::span(*field, rest).ok_or(fmt::Error)?;
            let (part, after) = rest.split_at_checked(length).ok_or(fmt::Error)?;
            rest = after;
            // What may be nothing at all brings its own spaces.
            if index > 0 && !matches!(field, Field::Params | Field::Types) {
                f.write_str(" ")?;
            }
            show(*field, part, f)?;
        }
        Ok(())
    }
}

/// Whether there is a text that stands for exactly these bytes: what nobody writes so (a bitmap with zeros at its end) has none.
fn has_text(fields: &[Field], data: &[u8]) -> bool {
    let mut rest = data;
    fields.iter().all(|field| {
        let Some((part, after)) =
            wire::span(*field, rest).and_then(|length| rest.split_at_checked(length))
        else {
            return false;
        };
        rest = after;
        match field {
            Field::Hex | Field::Base64 => !part.is_empty(),
            Field::Tag => part.iter().skip(1).all(u8::is_ascii_alphanumeric),
            Field::Types => {
                let mut rest = part;
                while let Some(([_, length], after)) = rest.split_first_chunk() {
                    let (bits, after) = after
                        .split_at_checked(usize::from(*length))
                        .unwrap_or_default();
                    if bits.last().is_none_or(|last| *last == 0) {
                        return false;
                    }
                    rest = after;
                }
                true
            }
            Field::Location => part.try_into().is_ok_and(location::has_text),
            Field::Params => params::has_text(part),
            _ => true,
        }
    })
}

fn show(field: Field, part: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match field {
        Field::U8 | Field::Algorithm => write!(f, "{}", part.first().unwrap_or(&0)),
        Field::U16 | Field::CertificateType => write!(f, "{}", u16_of(part)),
        Field::U32 | Field::Seconds => write!(f, "{}", u32_of(part)),
        Field::Ipv4 => write!(f, "{}", net::Ipv4Addr::from(u32_of(part))),
        Field::Ipv6 => {
            let octets: [u8; 16] = part.try_into().map_err(|_| fmt::Error)?;
            write!(f, "{}", net::Ipv6Addr::from(octets))
        }
        Field::Eui(_) => {
            for (index, byte) in part.iter().enumerate() {
                let hyphen = if index > 0 { "-" } else { "" };
                write!(f, "{hyphen}{byte:02x}")?;
            }
            Ok(())
        }
        Field::Name => write!(f, "{}", Name::from_wire(part).ok_or(fmt::Error)?),
        Field::Text => quoted(part.get(1..).unwrap_or_default(), f),
        Field::Texts => {
            let mut rest = part;
            let mut space = "";
            while let Some((length, after)) = rest.split_first() {
                let (text, after) = after
                    .split_at_checked(usize::from(*length))
                    .ok_or(fmt::Error)?;
                f.write_str(space)?;
                quoted(text, f)?;
                space = " ";
                rest = after;
            }
            Ok(())
        }
        Field::Tag => {
            let tag = part.get(1..).unwrap_or_default();
            f.write_str(&String::from_utf8_lossy(tag))
        }
        Field::Rest => quoted(part, f),
        Field::Type => write!(f, "{}", RecordType(u16_of(part))),
        Field::Types => {
            let mut rest = part;
            while let Some(([window, length], after)) = rest.split_first_chunk() {
                let (bits, after) = after
                    .split_at_checked(usize::from(*length))
                    .ok_or(fmt::Error)?;
                for low in 0..=255_u8 {
                    let byte = bits.get(usize::from(low >> 3)).unwrap_or(&0);
                    if byte << (low & 7) & 0x80 != 0 {
                        let rtype = RecordType(u16::from_be_bytes([*window, low]));
                        write!(f, " {rtype}")?;
                    }
                }
                rest = after;
            }
            Ok(())
        }
        Field::Time => show_time(u32_of(part), f),
        Field::Salt => match part.get(1..).unwrap_or_default() {
            [] => f.write_str("-"),
            salt => hex(salt, f),
        },
        Field::Hash => f.write_str(&base32(part.get(1..).unwrap_or_default())),
        Field::Hex => hex(part, f),
        Field::Base64 => f.write_str(&general_purpose::STANDARD.encode(part)),
        Field::Location => location::show(part.try_into().map_err(|_| fmt::Error)?, f),
        Field::Params => params::show(part, f),
    }
}

fn generic(data: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "\\# {}", data.len())?;
    if !data.is_empty() {
        f.write_str(" ")?;
        hex(data, f)?;
    }
    Ok(())
}

/// Between quotes, with escapes.
pub(super) fn quoted(text: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for byte in text {
        match byte {
            b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
            0x20..=0x7e => write!(f, "{}", char::from(*byte))?,
            _ => write!(f, "\\{byte:03}")?,
        }
    }
    f.write_str("\"")
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut digit = |five: u32| {
        let digit = char::from_digit(five & 31, 32).unwrap_or_default();
        out.push(digit.to_ascii_uppercase());
    };
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            digit(bits >> count);
        }
    }
    if count > 0 {
        digit(bits << (5 - count));
    }
    out
}

fn show_time(time: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut days, seconds) = (time / 86_400, time % 86_400);
    let mut year = 1970_u32;
    let leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    loop {
        let length = match month {
            2 => 28 + u32::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(
        f,
        "{year:04}{month:02}{:02}{hour:02}{minute:02}{second:02}",
        days + 1
    )
}

fn u16_of(part: &[u8]) -> u16 {
    part.try_into().map_or(0, u16::from_be_bytes)
}

fn u32_of(part: &[u8]) -> u32 {
    part.try_into().map_or(0, u32::from_be_bytes)
}
