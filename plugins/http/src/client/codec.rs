//! Bytes to responses, and requests to bytes.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};

use crate::{
    codec::{
        body::Decoder,
        bytes::{elements, is_field_value},
        encode::{decimal, field},
        framing::{BodyLength, content_length},
        head::{field_lines, header_map, line},
    },
    types::{Limits, Refusal},
};

/// Why what came is no response. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The first line is not `HTTP/1.x`, a status of three digits and a reason.
    #[error("the status line is no HTTP/1.1")]
    StatusLine,
    /// What a request can be wrong in as well: lines, headers, chunks.
    #[error("{0}")]
    Message(#[from] Refusal),
    /// More interim responses than anybody sends.
    #[error("more than {MAX_INTERIM} interim responses")]
    Interim,
    /// It says that another protocol follows, which nobody asked for.
    #[error("the server switches to another protocol, unasked")]
    Switching,
    /// The connection ended within it.
    #[error("the response is shorter than was said")]
    Incomplete,
}

/// A response's head.
#[derive(Debug)]
pub struct Head {
    /// The bytes that it took.
    pub length: usize,
    /// What it says.
    pub response: Response<()>,
    /// How its body ends.
    pub body: Ending,
    /// Whether the server takes another request afterwards.
    pub keep_alive: bool,
}

/// How a response's body ends.
#[derive(Debug)]
pub enum Ending {
    /// As the decoder says.
    Told(Box<Decoder>),
    /// With the connection.
    Close,
}

/// Decodes the head of a response to a request with this method; none if it is not complete.
///
/// ```abnf
/// status-line = HTTP-version SP status-code SP [ reason-phrase ]
/// ```
///
/// How long the body is, is as strict as for requests: a length that is written more than once, or beside chunks, is refused. A status without the space after it is
/// taken, as servers send it and nothing depends on it.
pub fn decode(data: &[u8], method: &Method, limits: &Limits) -> Result<Option<Head>, Malformed> {
    let Some(end) = line(data, 0, limits.request_line, Refusal::HeadersTooLarge)? else {
        let begun = data.get(..5).unwrap_or(data);
        return if b"HTTP/".starts_with(begun) {
            Ok(None)
        } else {
            Err(Malformed::StatusLine)
        };
    };
    let (version, status) = status_line(data.get(..end).unwrap_or_default())?;
    let mut fields = Vec::new();
    let Some(length) = field_lines(data, end + 2, limits, &mut fields)? else {
        return Ok(None);
    };
    let bytes = Bytes::copy_from_slice(data.get(..length).unwrap_or_default());
    let headers = header_map(&bytes, &fields)?;
    let body = ending(method, status, version, &headers, limits)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    let keep_alive = !matches!(body, Ending::Close) && is_kept(version, &headers);
    *response.headers_mut() = headers;
    Ok(Some(Head {
        length,
        response,
        body,
        keep_alive,
    }))
}

fn status_line(text: &[u8]) -> Result<(Version, StatusCode), Malformed> {
    let (version, rest) = text.split_at_checked(8).ok_or(Malformed::StatusLine)?;
    let version = match version {
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::HTTP_11,
        _ => return Err(Malformed::StatusLine),
    };
    match rest {
        [b' ', a, b, c] => StatusCode::from_bytes(&[*a, *b, *c]).ok(),
        [b' ', a, b, c, b' ', reason @ ..] if is_field_value(reason) => {
            StatusCode::from_bytes(&[*a, *b, *c]).ok()
        }
        _ => None,
    }
    .map(|status| (version, status))
    .ok_or(Malformed::StatusLine)
}

/// [RFC 9112 section 6.3](https://www.rfc-editor.org/rfc/rfc9112.html#section-6.3)
fn ending(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<Ending, Malformed> {
    let told = |length| Ok(Ending::Told(Box::new(Decoder::new(length, limits)?)));
    let has_none = method == Method::HEAD
        || method == Method::CONNECT && status.is_success()
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none {
        return told(BodyLength::Known(0));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (Some(coding), None) => {
            if version != Version::HTTP_11 || codings.next().is_some() {
                return Err(Refusal::TransferEncoding.into());
            }
            // No other coding was asked for.
            if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferCodingUnsupported.into());
            }
            told(BodyLength::Chunked)
        }
        (Some(_), Some(_)) => Err(Refusal::TransferEncoding.into()),
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Refusal::ContentLength.into());
            }
            told(BodyLength::Known(content_length(length.as_bytes())?))
        }
        (None, None) => Ok(Ending::Close),
    }
}

fn is_kept(version: Version, headers: &HeaderMap) -> bool {
    let has = |wanted: &[u8]| {
        let values = headers.get_all(header::CONNECTION).iter();
        values
            .flat_map(|value| elements(value.as_bytes()))
            .any(|option| option.eq_ignore_ascii_case(wanted))
    };
    !has(b"close") && (version == Version::HTTP_11 || has(b"keep-alive"))
}

/// A request's head. What is about the connection and the length is this function's; `Host` goes first.
pub fn encode(
    method: &Method,
    target: &str,
    host: &str,
    headers: &HeaderMap,
    length: RequestLength,
) -> Vec<u8> {
    let mut output = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    match headers.get(header::HOST) {
        Some(host) => field(&mut output, "host", host.as_bytes()),
        None => field(&mut output, "host", host.as_bytes()),
    }
    for (name, value) in headers {
        if !OURS.contains(name) {
            field(&mut output, name.as_str(), value.as_bytes());
        }
    }
    match length {
        RequestLength::None => {}
        RequestLength::Known(length) => {
            output.extend_from_slice(b"Content-Length: ");
            decimal(&mut output, length);
            output.extend_from_slice(b"\r\n");
        }
        RequestLength::Chunked => output.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    output.extend_from_slice(b"\r\n");
    output
}

/// How a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLength {
    /// There is none, and nothing is said.
    None,
    /// It has so many bytes.
    Known(u64),
    /// It comes in chunks.
    Chunked,
}

/// What a caller cannot set: it would say how to read the message.
pub(crate) const OURS: [header::HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
];

/// Interim responses (1xx) before the one that counts.
pub(crate) const MAX_INTERIM: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &str) -> Option<Malformed> {
        decode(data.as_bytes(), &Method::GET, &Limits::default()).err()
    }

    #[test]
    fn a_head_is_complete_or_not() {
        let data = b"HTTP/1.1 200 Very OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc";
        for at in 0..data.len() - 3 {
            let decoded = decode(&data[..at], &Method::GET, &Limits::default());
            assert!(matches!(decoded, Ok(None)), "{at}");
        }
        let head = decode(data, &Method::GET, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(head.length, data.len() - 3);
        assert_eq!(head.response.headers()["a"], "b");
        assert!(head.keep_alive);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        for (data, expected) in [
            ("SSH-2.0".to_owned(), Malformed::StatusLine),
            ("HTTP/2 200\r\n\r\n".to_owned(), Malformed::StatusLine),
            ("HTTP/1.1 20\r\n\r\n".to_owned(), Malformed::StatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n".to_owned(), Malformed::StatusLine),
            ("HTTP/1.1 200 \0\r\n\r\n".to_owned(), Malformed::StatusLine),
            ("HTTP/1.1 200 OK\n".to_owned(), Refusal::BareLf.into()),
            (with("A: b\r\n c\r\n"), Refusal::Folded.into()),
            (with("A : b\r\n"), Refusal::HeaderName.into()),
            (
                with("Content-Length: 1\r\nContent-Length: 1\r\n"),
                Refusal::ContentLength.into(),
            ),
            (
                with("Content-Length: +1\r\n"),
                Refusal::ContentLength.into(),
            ),
            (
                with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
                Refusal::TransferEncoding.into(),
            ),
            (
                with("Transfer-Encoding: gzip, chunked\r\n"),
                Refusal::TransferCodingUnsupported.into(),
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                Refusal::TransferEncoding.into(),
            ),
        ] {
            assert_eq!(refused(&data), Some(expected), "{data:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_if_the_end_is_known() {
        for (head, kept) in [
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n", true),
            ("HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 204 No\r\n", true),
            ("HTTP/1.1 304 No\r\nConnection: x, CLOSE\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n",
                true,
            ),
        ] {
            let data = format!("{head}\r\n");
            let decoded = decode(data.as_bytes(), &Method::GET, &Limits::default());
            assert_eq!(decoded.unwrap().unwrap().keep_alive, kept, "{head}");
        }
    }
}
