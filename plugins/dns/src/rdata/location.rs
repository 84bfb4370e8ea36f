//! LOC: where on earth ([RFC 1876](https://www.rfc-editor.org/rfc/rfc1876)).

use std::fmt;

use super::text::{Reader, TextError, Token, Tokens, decimal, wrong};

/// `d1 [m1 [s1]] {"N"|"S"} d2 [m2 [s2]] {"E"|"W"} alt["m"] [siz["m"] [hp["m"] [vp["m"]]]]`
pub(super) fn parse<'a>(
    reader: &mut Reader<'_, 'a, impl Tokens<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), TextError> {
    let latitude = angle(reader, 90, [b'N', b'S'])?;
    let longitude = angle(reader, 180, [b'E', b'W'])?;
    let token = reader.next("an altitude in metres")?;
    let altitude = centimetres(token, -10_000_000, 4_284_967_295)
        .and_then(|altitude| u32::try_from(altitude + 10_000_000).ok())
        .ok_or_else(|| wrong(token, "an altitude in metres"))?;
    // The defaults of the RFC: 1 m, 10 km, 10 m.
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        let Some(token) = reader.next_if_any() else {
            break;
        };
        *size = centimetres(token, 0, 9_000_000_000)
            .and_then(precision)
            .ok_or_else(|| wrong(token, "a size in metres"))?;
    }
    out.push(0);
    out.extend(sizes);
    out.extend(latitude.to_be_bytes());
    out.extend(longitude.to_be_bytes());
    out.extend(altitude.to_be_bytes());
    Ok(())
}

/// Whether all of it can be said: angles that there are, and sizes in the one form that they have.
pub(super) fn has_text(data: &[u8; 16]) -> bool {
    let [0, size, horizontal, vertical, rest @ ..] = data else {
        return false;
    };
    let angle = |from: usize, most: u32| {
        let bytes = rest
            .get(from..from + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default()).abs_diff(EQUATOR) <= most * 3_600_000
    };
    let plain = |size: &u8| {
        let (mantissa, exponent) = (size >> 4, size & 15);
        exponent <= 9 && ((1..=9).contains(&mantissa) || *size == 0)
    };
    angle(0, 90) && angle(4, 180) && [size, horizontal, vertical].into_iter().all(plain)
}

pub(super) fn show(data: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [0, size, horizontal, vertical, rest @ ..] = data else {
        return Err(fmt::Error);
    };
    let number = |from: usize| {
        let bytes = rest
            .get(from..from + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    };
    show_angle(number(0), ['N', 'S'], f)?;
    f.write_str(" ")?;
    show_angle(number(4), ['E', 'W'], f)?;
    let altitude = i64::from(number(8)) - 10_000_000;
    let sign = if altitude < 0 { "-" } else { "" };
    let altitude = altitude.abs();
    write!(f, " {sign}{}.{:02}m", altitude / 100, altitude % 100)?;
    for precision in [size, horizontal, vertical] {
        let centimetres = u64::from(precision >> 4) * 10_u64.pow(u32::from(precision & 15).min(9));
        if centimetres.is_multiple_of(100) {
            write!(f, " {}m", centimetres / 100)?;
        } else {
            write!(f, " {}.{:02}m", centimetres / 100, centimetres % 100)?;
        }
    }
    Ok(())
}

fn show_angle(angle: u32, [plus, minus]: [char; 2], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (letter, value) = match angle.checked_sub(EQUATOR) {
        Some(value) => (plus, value),
        None => (minus, EQUATOR - angle),
    };
    let (degrees, rest) = (value / 3_600_000, value % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    let (seconds, thousandths) = (rest / 1000, rest % 1000);
    write!(f, "{degrees} {minutes} {seconds}.{thousandths:03} {letter}")
}

/// Degrees, and minutes and seconds if there are any, and a hemisphere: in thousandths of a second from the equator, which is 2^31.
fn angle<'a>(
    reader: &mut Reader<'_, 'a, impl Tokens<'a>>,
    most: u32,
    [plus, minus]: [u8; 2],
) -> Result<u32, TextError> {
    let expected = "an angle: degrees, minutes, seconds and N, S, E or W";
    let mut thousandths = 0_u32;
    let units = [(3_600_000_u32, most + 1), (60_000, 60), (1000, 60)];
    for (index, (unit, limit)) in units.into_iter().enumerate() {
        let token = reader.next(expected)?;
        if index > 0
            && let Some(value) = hemisphere(token, thousandths, plus, minus)
        {
            return Ok(value);
        }
        let value = if unit == 1000 {
            fraction(token.text, 3)
        } else {
            decimal::<u32>(token.text).map(|value| u64::from(value) * u64::from(unit))
        };
        thousandths += value
            .filter(|value| *value < u64::from(limit) * u64::from(unit))
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| wrong(token, expected))?;
    }
    let token = reader.next(expected)?;
    if thousandths > most * 3_600_000 {
        return Err(wrong(token, "an angle that there is"));
    }
    hemisphere(token, thousandths, plus, minus).ok_or_else(|| wrong(token, expected))
}

fn hemisphere(token: Token<'_>, thousandths: u32, plus: u8, minus: u8) -> Option<u32> {
    let [letter] = token.text else { return None };
    match letter.to_ascii_uppercase() {
        letter if letter == plus => EQUATOR.checked_add(thousandths),
        letter if letter == minus => EQUATOR.checked_sub(thousandths),
        _ => None,
    }
}

/// Metres with up to two digits behind the point, and an `m` if one likes.
fn centimetres(token: Token<'_>, least: i64, most: i64) -> Option<i64> {
    let text = token.text;
    let text = text.strip_suffix(b"m").unwrap_or(text);
    let (sign, digits) = match text.split_first() {
        Some((b'-', digits)) => (-1, digits),
        Some((b'+', digits)) => (1, digits),
        _ => (1, text),
    };
    let value = sign * i64::try_from(fraction(digits, 2)?).ok()?;
    (least..=most).contains(&value).then_some(value)
}

/// A decimal number, times ten to the power of `digits`.
fn fraction(text: &[u8], digits: usize) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = decimal::<u64>(parts.next()?)?;
    let behind = parts.next().unwrap_or_default();
    if behind.len() > digits || !behind.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = whole;
    for index in 0..digits {
        let digit = behind.get(index).map_or(0, |byte| u64::from(byte - b'0'));
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    Some(value)
}

/// A size in centimetres as a digit and a power of ten.
fn precision(centimetres: i64) -> Option<u8> {
    let mut mantissa = u64::try_from(centimetres).ok()?;
    let mut exponent = 0;
    while mantissa > 9 {
        mantissa /= 10;
        exponent += 1;
    }
    Some(u8::try_from(mantissa).ok()? << 4 | exponent)
}

const EQUATOR: u32 = 1 << 31;
