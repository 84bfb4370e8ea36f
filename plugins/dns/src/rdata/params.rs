//! The parameters of SVCB and HTTPS ([RFC 9460 section 2](https://www.rfc-editor.org/rfc/rfc9460#section-2)).

use std::{fmt, net, str};

use base64::{Engine as _, engine::general_purpose};

use super::{
    present::quoted,
    text::{Reader, TextError, Token, Tokens, decimal, unescaped, wrong},
};

pub(super) fn parse<'a>(
    reader: &mut Reader<'_, 'a, impl Tokens<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), TextError> {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
    while let Some(token) = reader.next_if_any() {
        let (key, value) = split(token);
        let number = key_number(key).ok_or_else(|| wrong(token, "a parameter of a service"))?;
        if params.iter().any(|(other, _)| *other == number) {
            return Err(wrong(token, "a parameter that is there only once"));
        }
        let value = encode(number, value)
            .filter(|value| verify(number, value))
            .ok_or_else(|| wrong(token, "a parameter with a right value"))?;
        params.push((number, value));
    }
    params.sort_unstable();
    for (number, value) in params {
        let length = u16::try_from(value.len()).map_err(|_| TextError::TooLong)?;
        out.extend(number.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
    Ok(())
}

/// How long the parameters are that these bytes are; none if they are none.
pub(super) fn length(rest: &[u8]) -> Option<usize> {
    let mut before = None;
    let mut at = rest;
    while !at.is_empty() {
        let (number, value, after) = next(at)?;
        let ascends = before.is_none_or(|before| before < number);
        if !ascends || !verify(number, value) {
            return None;
        }
        before = Some(number);
        at = after;
    }
    Some(rest.len())
}

/// Whether all of it can be said: `mandatory` lists others, each once, in order.
pub(super) fn has_text(data: &[u8]) -> bool {
    let Some((MANDATORY, value, _)) = next(data) else {
        return true;
    };
    let keys: Vec<&[u8]> = value.chunks_exact(2).collect();
    let ascends = keys.windows(2).all(|pair| pair.first() < pair.last());
    ascends && keys.first() != Some(&&[0, 0][..])
}

pub(super) fn show(data: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = data;
    while let Some((number, value, after)) = next(rest) {
        f.write_str(" ")?;
        match key_name(number) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "key{number}")?,
        }
        if !value.is_empty() {
            f.write_str("=")?;
            show_value(number, value, f)?;
        }
        rest = after;
    }
    Ok(())
}

fn show_value(number: u16, value: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let list = |f: &mut fmt::Formatter<'_>, items: &mut dyn Iterator<Item = String>| {
        for (index, item) in items.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    };
    match number {
        MANDATORY => {
            let keys = value.chunks_exact(2).map(|key| {
                let number = key.try_into().map_or(0, u16::from_be_bytes);
                key_name(number).map_or_else(|| format!("key{number}"), str::to_owned)
            });
            list(f, &mut { keys })
        }
        ALPN => {
            let mut joined = Vec::new();
            for text in texts(value) {
                if !joined.is_empty() {
                    joined.push(b',');
                }
                for byte in text {
                    // A comma within a value has two levels of escapes.
                    if matches!(byte, b',' | b'\\') {
                        joined.push(b'\\');
                    }
                    joined.push(*byte);
                }
            }
            quoted(&joined, f)
        }
        PORT => match value.try_into() {
            Ok(port) => write!(f, "{}", u16::from_be_bytes(port)),
            Err(_) => quoted(value, f),
        },
        IPV4HINT => {
            let hints = value.chunks_exact(4).filter_map(|hint| {
                let octets: [u8; 4] = hint.try_into().ok()?;
                Some(net::Ipv4Addr::from(octets).to_string())
            });
            list(f, &mut { hints })
        }
        IPV6HINT => {
            let hints = value.chunks_exact(16).filter_map(|hint| {
                let octets: [u8; 16] = hint.try_into().ok()?;
                Some(net::Ipv6Addr::from(octets).to_string())
            });
            list(f, &mut { hints })
        }
        ECH => f.write_str(&general_purpose::STANDARD.encode(value)),
        _ => quoted(value, f),
    }
}

/// A parameter's number and value, and what is behind it.
fn next(rest: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (number, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (value, rest) = rest.split_at_checked(length)?;
    Some((u16::from_be_bytes(*number), value, rest))
}

/// Whether a value in wire form is right for that parameter.
fn verify(number: u16, value: &[u8]) -> bool {
    match number {
        MANDATORY => !value.is_empty() && value.len().is_multiple_of(2),
        ALPN => {
            let mut rest = value;
            while let Some((length, after)) = rest.split_first() {
                match after.get(usize::from(*length)..) {
                    Some(after) if *length > 0 => rest = after,
                    _ => return false,
                }
            }
            !value.is_empty()
        }
        NO_DEFAULT_ALPN => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6HINT => !value.is_empty() && value.len().is_multiple_of(16),
        _ => number != u16::MAX,
    }
}

fn texts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(text)
    })
}

/// The key of `key=value` or `key="value"`, and the value as a word of its own.
fn split(token: Token<'_>) -> (&[u8], Option<Token<'_>>) {
    let Some(at) = token.text.iter().position(|byte| *byte == b'=') else {
        return (token.text, None);
    };
    let (key, value) = token.text.split_at(at);
    let value = value.get(1..).unwrap_or_default();
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    let text = bare.unwrap_or(value);
    (key, Some(Token { text, ..token }))
}

fn encode(number: u16, value: Option<Token<'_>>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(token) = value else {
        return Some(bytes);
    };
    unescaped(token, &mut bytes).ok()?;
    let items = || bytes.split(|byte| *byte == b',');
    match number {
        MANDATORY => {
            let mut keys = items().map(key_number).collect::<Option<Vec<_>>>()?;
            keys.sort_unstable();
            let twice = keys.windows(2).any(|pair| pair.first() == pair.last());
            if twice || keys.contains(&MANDATORY) {
                return None;
            }
            Some(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        ALPN => {
            let mut out = Vec::new();
            for text in list(&bytes)? {
                out.push(u8::try_from(text.len()).ok()?);
                out.extend(text);
            }
            Some(out)
        }
        PORT => Some(decimal::<u16>(&bytes)?.to_be_bytes().to_vec()),
        IPV4HINT => {
            let hints = items().map(|hint| Some(decimal::<net::Ipv4Addr>(hint)?.octets()));
            Some(hints.collect::<Option<Vec<_>>>()?.concat())
        }
        IPV6HINT => {
            let hints = items().map(|hint| Some(decimal::<net::Ipv6Addr>(hint)?.octets()));
            Some(hints.collect::<Option<Vec<_>>>()?.concat())
        }
        ECH => general_purpose::STANDARD.decode(&bytes).ok(),
        _ => Some(bytes),
    }
}

/// The values of a list with commas between them, `\,` and `\\` being of a value ([RFC 9460 appendix A.1](https://www.rfc-editor.org/rfc/rfc9460#appendix-A.1)).
fn list(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut items = vec![Vec::new()];
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut()?.push(*rest.next()?),
            byte => items.last_mut()?.push(*byte),
        }
    }
    Some(items)
}

fn key_number(text: &[u8]) -> Option<u16> {
    let named = KEYS.iter().find(|(_, name)| text == name.as_bytes());
    match named {
        Some((number, _)) => Some(*number),
        None => {
            let digits = text.strip_prefix(b"key")?;
            let number = decimal(digits)?;
            (digits.len() == 1 || !digits.starts_with(b"0")).then_some(number)
        }
    }
}

fn key_name(number: u16) -> Option<&'static str> {
    let found = KEYS.iter().find(|(other, _)| *other == number);
    found.map(|(_, name)| *name)
}

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;

const KEYS: &[(u16, &str)] = &[
    (MANDATORY, "mandatory"),
    (ALPN, "alpn"),
    (NO_DEFAULT_ALPN, "no-default-alpn"),
    (PORT, "port"),
    (IPV4HINT, "ipv4hint"),
    (ECH, "ech"),
    (IPV6HINT, "ipv6hint"),
    (7, "dohpath"),
    (8, "ohttp"),
];
