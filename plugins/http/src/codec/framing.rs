//! How long a request's body is, and what becomes of the connection: where leniency means request smuggling.

use http::Version;

use super::{
    bytes::elements,
    head::{Field, Head},
    target::{Form, is_host},
};
use crate::types::Refusal;

/// What a head says about what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// How the body's end is known.
    pub body: BodyLength,
    /// Whether the client wants to send another request afterwards.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// It has so many bytes; there is none if that is 0.
    Known(u64),
    /// It comes in chunks.
    Chunked,
}

impl Framing {
    /// Reads the headers that matter. `data` is what the head was decoded from.
    ///
    /// [RFC 9112 section 6.3](https://www.rfc-editor.org/rfc/rfc9112.html#section-6.3), and stricter where it leaves a choice: a length that is
    /// written more than once, in whatever way, is refused.
    pub fn of(data: &[u8], head: &Head, fields: &[Field]) -> Result<Self, Refusal> {
        let mut seen = Seen::default();
        for field in fields {
            let name = data.get(field.name.clone()).unwrap_or_default();
            let value = data.get(field.value.clone()).unwrap_or_default();
            seen.field(name, value, head.version)?;
        }
        seen.framing(head)
    }
}

#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    transfer_encoding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    has_type: bool,
}

impl<'a> Seen<'a> {
    fn field(&mut self, name: &[u8], value: &'a [u8], version: Version) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.host, value, Refusal::Host)?;
                is_host(value).then_some(()).ok_or(Refusal::Host)?;
            }
            6 if name.eq_ignore_ascii_case(b"expect") && version == Version::HTTP_11 => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in elements(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if name.eq_ignore_ascii_case(b"content-type")
                && std::mem::replace(&mut self.has_type, true) =>
            {
                return Err(Refusal::ContentType);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = content_length(value)?;
                once(&mut self.length, length, Refusal::ContentLength)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                once(
                    &mut self.transfer_encoding,
                    value,
                    Refusal::TransferEncoding,
                )?;
            }
            // CGI and what came of it take `_` for `-`.
            14 if name.eq_ignore_ascii_case(b"content_length") => return Err(Refusal::Lookalike),
            17 if name.eq_ignore_ascii_case(b"transfer_encoding") => {
                return Err(Refusal::Lookalike);
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(self, head: &Head) -> Result<Framing, Refusal> {
        if self.host.is_none() && head.version == Version::HTTP_11 {
            return Err(Refusal::Host);
        }
        let body = match (self.transfer_encoding, self.length) {
            (Some(_), Some(_)) => return Err(Refusal::TransferEncoding),
            (Some(_), None) if head.version != Version::HTTP_11 => {
                return Err(Refusal::TransferEncoding);
            }
            (Some(codings), None) => transfer_encoding(codings)?,
            (None, length) => BodyLength::Known(length.unwrap_or(0)),
        };
        if head.form == Form::Authority && body != BodyLength::Known(0) {
            // What follows a CONNECT is the tunnel's: https://www.rfc-editor.org/rfc/rfc9110.html#section-9.3.6-14
            return Err(Refusal::ContentLength);
        }
        Ok(Framing {
            body,
            keep_alive: !self.close && (head.version == Version::HTTP_11 || self.keep_alive),
            expects_continue: self.expects_continue && body != BodyLength::Known(0),
        })
    }
}

/// Keeps a header's value; a second one is refused, also if it is the same.
fn once<T>(slot: &mut Option<T>, value: T, refusal: Refusal) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(refusal),
    }
}

/// `Content-Length = 1*DIGIT`, and no zeros before it, which some take for octal.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    match value {
        [] | [b'0', _, ..] => return Err(Refusal::ContentLength),
        _ => {}
    }
    value.iter().try_fold(0_u64, |length, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10);
        let digit = digit.ok_or(Refusal::ContentLength)?;
        let length = length
            .checked_mul(10)
            .and_then(|it| it.checked_add(u64::from(digit)));
        length.ok_or(Refusal::ContentLength)
    })
}

/// `Transfer-Encoding = #transfer-coding`, of which `chunked` is the last, and here the only one.
fn transfer_encoding(value: &[u8]) -> Result<BodyLength, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyLength::Chunked);
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = elements(value).rev();
    let is_last = codings.next().is_some_and(is_chunked);
    let mut others = codings.peekable();
    if !is_last || others.peek().is_none() {
        return Err(Refusal::TransferEncoding);
    }
    if others.all(|coding| !is_chunked(coding) && super::is_token(coding)) {
        Err(Refusal::TransferCodingUnsupported)
    } else {
        Err(Refusal::TransferEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::head::decode, types::Limits};

    fn framing(line: &str, headers: &str) -> Result<Framing, Refusal> {
        let data = format!("{line}\r\n{headers}\r\n");
        let mut fields = Vec::new();
        let head = decode(data.as_bytes(), &Limits::default(), &mut fields)?;
        Framing::of(data.as_bytes(), &head.unwrap(), &fields)
    }

    #[test]
    fn a_connection_is_kept_as_the_version_says() {
        for (version, connection, kept) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\n", false),
            (
                "1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let framing = framing(
                &format!("GET / HTTP/{version}"),
                &format!("Host: a\r\n{connection}"),
            );
            assert_eq!(framing.unwrap().keep_alive, kept, "{version} {connection}");
        }
    }

    #[test]
    fn a_body_has_one_length() {
        for (headers, expected) in [
            ("", Ok(BodyLength::Known(0))),
            ("Content-Length: 0\r\n", Ok(BodyLength::Known(0))),
            (
                "Content-Length: 18446744073709551615\r\n",
                Ok(BodyLength::Known(u64::MAX)),
            ),
            (
                "Content-Length: 18446744073709551616\r\n",
                Err(Refusal::ContentLength),
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Err(Refusal::ContentLength),
            ),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(BodyLength::Chunked)),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                Err(Refusal::TransferCodingUnsupported),
            ),
            (
                "Transfer-Encoding: chunked, gzip\r\n",
                Err(Refusal::TransferEncoding),
            ),
        ] {
            let framing = framing("POST / HTTP/1.1", &format!("Host: a\r\n{headers}"));
            assert_eq!(framing.map(|it| it.body), expected, "{headers}");
        }
    }

    #[test]
    fn only_one_expectation_is_met() {
        let with = |version: &str, expect: &str| {
            framing(
                &format!("POST / HTTP/{version}"),
                &format!("Host: a\r\nContent-Length: 1\r\nExpect: {expect}\r\n"),
            )
        };
        assert!(with("1.1", "100-Continue").unwrap().expects_continue);
        assert!(!with("1.0", "100-continue").unwrap().expects_continue);
        assert_eq!(with("1.1", "tea"), Err(Refusal::Expectation));
    }
}
