//! A request's head: the request line and the header lines.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header::HOST};
use memchr::memchr;

use super::{
    bytes::{is_field_value, is_token, trim},
    target::{self, Form},
};
use crate::types::{Limits, Refusal};

/// Where the parts of a request's head are, within the bytes that it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The bytes that the head takes, the empty line at its end included.
    pub length: usize,
    /// What is to be done: a token.
    pub method: Range<usize>,
    /// Upon what.
    pub target: Range<usize>,
    /// Which form the target has.
    pub form: Form,
    /// HTTP/1.0, or HTTP/1.1 which stands for every later minor version ([RFC 9110 section 2.5](https://www.rfc-editor.org/rfc/rfc9110.html#section-2.5-6)).
    pub version: Version,
    /// Where the header lines begin.
    pub fields: usize,
}

/// Where a header line's name and value are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, as it came.
    pub name: Range<usize>,
    /// The value, without whitespace around it.
    pub value: Range<usize>,
}

/// Decodes a head from the beginning of `data`; none if it is not complete. The header lines are added to `fields`, which is cleared before.
///
/// What is wrong is told as soon as the line that it is in is complete.
///
/// ```abnf
/// HTTP-message = start-line CRLF *( field-line CRLF ) CRLF [ message-body ]
/// ```
pub fn decode(
    data: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<Head>, Refusal> {
    fields.clear();
    // One empty line before a request is passed over: https://www.rfc-editor.org/rfc/rfc9112.html#section-2.2-6
    let start = match data {
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let too_long = Refusal::RequestLineTooLong;
    let end = line(data, start, limits.request_line, too_long).map_err(|refusal| {
        // It is not the target that is too long if it has not begun.
        let room = data.get(start..).unwrap_or_default();
        let room = room.get(..limits.request_line).unwrap_or(room);
        if refusal == too_long && memchr(b' ', room).is_none() {
            Refusal::RequestLine
        } else {
            refusal
        }
    })?;
    let Some(end) = end else {
        return begins_well(data).map(|()| None);
    };
    let mut head = request_line(data, start..end)?;
    let complete = field_lines(data, head.fields, limits, fields)?;
    Ok(complete.map(|length| {
        head.length = length;
        head
    }))
}

/// Decodes field lines from `start` on, up to the empty line; returns where that ends, or none if it is not there yet.
pub(crate) fn field_lines(
    data: &[u8],
    start: usize,
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, Refusal> {
    let mut at = start;
    loop {
        let room = limits.header_bytes.saturating_sub(at - start);
        let Some(end) = line(data, at, room, Refusal::HeadersTooLarge)? else {
            return Ok(None);
        };
        if end == at {
            return Ok(Some(end + 2));
        }
        if fields.len() >= limits.headers {
            return Err(Refusal::HeadersTooLarge);
        }
        fields.push(field_line(data, at..end)?);
        at = end + 2;
    }
}

impl Head {
    /// Makes the request of it. `bytes` are those that it was decoded from, up to its length.
    pub fn request(&self, bytes: &Bytes, fields: &[Field]) -> Result<Request<()>, Refusal> {
        let method = bytes.get(self.method.clone()).unwrap_or_default();
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(method).map_err(|_| Refusal::Method)?;
        *request.version_mut() = self.version;
        *request.uri_mut() = target::uri(bytes.slice(self.target.clone()), self.form)?;
        *request.headers_mut() = header_map(bytes, fields)?;
        // The target says it, whatever Host says: https://www.rfc-editor.org/rfc/rfc9112.html#section-3.2.2-8
        if self.form != Form::Origin
            && let Some(authority) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

/// The header lines as a map; names that come more than once keep their order.
pub(crate) fn header_map(bytes: &Bytes, fields: &[Field]) -> Result<HeaderMap, Refusal> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = bytes.get(field.name.clone()).unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(|_| Refusal::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(field.value.clone()))
            .map_err(|_| Refusal::HeaderValue)?;
        map.append(name, value);
    }
    Ok(map)
}

/// Where the line that begins at `start` ends, CR LF not included; none if its end is not there yet.
pub(crate) fn line(
    data: &[u8],
    start: usize,
    room: usize,
    too_long: Refusal,
) -> Result<Option<usize>, Refusal> {
    let rest = data.get(start..).unwrap_or_default();
    let Some(length) = memchr(b'\n', rest) else {
        // The CR may be there already.
        return if rest.len() > room.saturating_add(1) {
            Err(too_long)
        } else {
            Ok(None)
        };
    };
    let Some(length) = length
        .checked_sub(1)
        .filter(|at| rest.get(*at) == Some(&b'\r'))
    else {
        return Err(Refusal::BareLf);
    };
    if length > room {
        return Err(too_long);
    }
    Ok(Some(start + length))
}

/// `request-line = method SP request-target SP HTTP-version`
fn request_line(data: &[u8], range: Range<usize>) -> Result<Head, Refusal> {
    let line = data.get(range.clone()).unwrap_or_default();
    if line.contains(&b'\r') {
        return Err(Refusal::BareCr);
    }
    let method = memchr(b' ', line).ok_or(Refusal::RequestLine)?;
    let rest = line.get(method + 1..).unwrap_or_default();
    let target = memchr(b' ', rest)
        .filter(|length| *length > 0)
        .ok_or(Refusal::RequestLine)?;
    let name = line.get(..method).unwrap_or_default();
    if !is_token(name) {
        return Err(Refusal::Method);
    }
    let version = version(rest.get(target + 1..).unwrap_or_default())?;
    let form = target::form(name, rest.get(..target).unwrap_or_default())?;
    let target_start = range.start + method + 1;
    Ok(Head {
        length: 0,
        method: range.start..range.start + method,
        target: target_start..target_start + target,
        form,
        version,
        fields: range.end + 2,
    })
}

/// `HTTP-version = HTTP-name "/" DIGIT "." DIGIT`
fn version(text: &[u8]) -> Result<Version, Refusal> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::HTTP_11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Refusal::VersionUnsupported)
        }
        _ => Err(Refusal::Version),
    }
}

/// `field-line = field-name ":" OWS field-value OWS`
fn field_line(data: &[u8], range: Range<usize>) -> Result<Field, Refusal> {
    let line = data.get(range.clone()).unwrap_or_default();
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Folded);
    }
    let colon = memchr(b':', line)
        .filter(|at| *at > 0)
        .ok_or(Refusal::HeaderLine)?;
    if !is_token(line.get(..colon).unwrap_or_default()) {
        return Err(Refusal::HeaderName);
    }
    let value = line.get(colon + 1..).unwrap_or_default();
    if !is_field_value(value) {
        return Err(if value.contains(&b'\r') {
            Refusal::BareCr
        } else {
            Refusal::HeaderValue
        });
    }
    let trimmed = trim(value);
    let leading = value
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let start = range.start + colon + 1 + if trimmed.is_empty() { 0 } else { leading };
    Ok(Field {
        name: range.start..range.start + colon,
        value: start..start + trimmed.len(),
    })
}

/// Whether what has come of a first line can become one, as far as [`FIRST_LOOK`]: a client that speaks another protocol is told at once.
pub(crate) fn begins_well(data: &[u8]) -> Result<(), Refusal> {
    let line = match data.get(..FIRST_LOOK).unwrap_or(data) {
        [b'\r'] => return Ok(()),
        [b'\r', b'\n', line @ ..] => line,
        line => line,
    };
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method.is_empty() && !line.is_empty() || !method.is_empty() && !is_token(method) {
        return Err(Refusal::Method);
    }
    Ok(())
}

/// How far a line that is not complete is looked at: 64 bytes.
pub(crate) const FIRST_LOOK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &str) -> Option<Refusal> {
        decode(data.as_bytes(), &Limits::default(), &mut Vec::new()).err()
    }

    #[test]
    fn a_head_has_a_method_a_target_a_version_and_lines() {
        let data = b"\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nA:\t b c \r\nEmpty:\r\n\r\nbody";
        let mut fields = Vec::new();
        let head = decode(data, &Limits::default(), &mut fields)
            .unwrap()
            .unwrap();
        assert_eq!(&data[head.length..], b"body");
        let bytes = Bytes::copy_from_slice(&data[..head.length]);
        let request = head.request(&bytes, &fields).unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(request.headers()["a"], "b c");
        assert_eq!(request.headers()["empty"], "");
        assert_eq!(&data[fields[1].name.clone()], b"A");
    }

    #[test]
    fn what_is_cut_is_incomplete_wherever_it_is_cut() {
        let data = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for at in 0..data.len() {
            let decoded = decode(&data[..at], &Limits::default(), &mut Vec::new());
            assert_eq!(decoded, Ok(None), "{at}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (data, expected) in [
            ("GET / HTTP/1.1\n", Refusal::BareLf),
            ("\n", Refusal::BareLf),
            ("\r\n\r\nGET / HTTP/1.1\r\n", Refusal::RequestLine),
            ("GET /\rx HTTP/1.1\r\n", Refusal::BareCr),
            ("GET /\r\n", Refusal::RequestLine),
            ("GET  / HTTP/1.1\r\n", Refusal::RequestLine),
            (" GET / HTTP/1.1\r\n", Refusal::Method),
            ("G(T / HTTP/1.1\r\n", Refusal::Method),
            ("\x16\x03\x01\x02", Refusal::Method),
            ("GET / HTTP/1.1 \r\n", Refusal::Version),
            ("GET / http/1.1\r\n", Refusal::Version),
            ("GET / HTTP/1.10\r\n", Refusal::Version),
            ("GET / HTTP/2.0\r\n", Refusal::VersionUnsupported),
            ("GET /a\"b HTTP/1.1\r\n", Refusal::Target),
            ("GET /a#b HTTP/1.1\r\n", Refusal::Target),
            ("GET /\u{e9} HTTP/1.1\r\n", Refusal::Target),
            ("GET / HTTP/1.1\r\nA : b\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nA\r\n", Refusal::HeaderLine),
            ("GET / HTTP/1.1\r\n: b\r\n", Refusal::HeaderLine),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", Refusal::Folded),
            ("GET / HTTP/1.1\r\n A: b\r\n", Refusal::Folded),
            ("GET / HTTP/1.1\r\nA: b\0c\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nA: b\rc\r\n", Refusal::BareCr),
            ("GET / HTTP/1.1\r\nA: b\n", Refusal::BareLf),
        ] {
            assert_eq!(refused(data), Some(expected), "{data:?}");
        }
    }

    #[test]
    fn limits_are_kept_to_the_byte() {
        let limits = Limits {
            request_line: 20,
            header_bytes: 10,
            headers: 2,
            ..Limits::default()
        };
        let decoded = |data: &str| decode(data.as_bytes(), &limits, &mut Vec::new());
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(length - 14));
        assert_eq!(decoded(&line(20)), Ok(None));
        assert_eq!(decoded(&line(21)), Err(Refusal::RequestLineTooLong));
        assert_eq!(decoded(&"a".repeat(21)), Ok(None));
        assert_eq!(decoded(&"a".repeat(22)), Err(Refusal::RequestLine));
        let target = format!("GET /{}", "a".repeat(17));
        assert_eq!(decoded(&target), Err(Refusal::RequestLineTooLong));
        let lines = |lines: &str| decoded(&format!("{}{lines}", line(20)));
        assert_eq!(lines("a: 3456789"), Ok(None));
        assert_eq!(lines("a: 345678901\r\n"), Err(Refusal::HeadersTooLarge));
        assert_eq!(lines("a:\r\nb:\r\nc:\r\n"), Err(Refusal::HeadersTooLarge));
    }
}
