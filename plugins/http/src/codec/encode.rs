//! A response's head, and chunks.

use http::{HeaderMap, StatusCode, header};

use super::date::Date;

/// How the end of a response's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseLength {
    /// It can have no body, so nothing is said: 1xx, 204, 304.
    None,
    /// It has so many bytes.
    Known(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection: HTTP/1.0.
    Close,
}

/// What is said about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It goes on, as HTTP/1.1 does by itself.
    Kept,
    /// It goes on, which HTTP/1.0 has to be told.
    KeptAlive,
    /// It ends.
    Closed,
}

/// Appends a response's head. The headers that are about the connection and the length are this function's: those in the map are passed over, but for a
/// `Connection` where it is kept, and a `Content-Length` where there is no body.
///
/// Every name is written in upper and lower case, `Content-Type`, because some clients look for it so.
pub fn head(
    output: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    (length, persistence): (ResponseLength, Persistence),
    date: &Date,
) {
    let is_dated = headers.keys().any(|name| *name == header::DATE);
    if status == StatusCode::OK && !is_dated {
        output.extend_from_slice(date.after_ok());
    } else {
        output.extend_from_slice(b"HTTP/1.1 ");
        output.extend_from_slice(status.as_str().as_bytes());
        output.push(b' ');
        output.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
        output.extend_from_slice(b"\r\n");
        if !is_dated {
            output.extend_from_slice(date.line());
        }
    }
    match length {
        ResponseLength::None | ResponseLength::Close => {}
        ResponseLength::Known(length) => {
            output.extend_from_slice(b"Content-Length: ");
            decimal(output, length);
            output.extend_from_slice(b"\r\n");
        }
        ResponseLength::Chunked => output.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match persistence {
        Persistence::Kept => {}
        Persistence::KeptAlive => output.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Closed => output.extend_from_slice(b"Connection: close\r\n"),
    }
    for (name, value) in headers {
        let passed_over = *name == header::TRANSFER_ENCODING
            || *name == header::CONTENT_LENGTH && length != ResponseLength::None
            || *name == header::CONNECTION && persistence != Persistence::Kept;
        if passed_over {
            continue;
        }
        field(output, name.as_str(), value.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

/// Appends a chunk, which is not empty.
pub fn chunk(output: &mut Vec<u8>, data: &[u8]) {
    chunk_size(output, data.len());
    output.extend_from_slice(data);
    output.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, with trailers.
pub fn last_chunk(output: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    output.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(output, name.as_str(), value.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

/// The answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// `field-name ":" OWS field-value OWS`
pub(crate) fn field(output: &mut Vec<u8>, name: &str, value: &[u8]) {
    match usual(name) {
        Some(name) => output.extend_from_slice(name),
        None => capitalized(output, name),
    }
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

/// Names of most answers, so that they are copied and not spelled.
fn usual(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "accept-ranges" => b"Accept-Ranges: ",
        "cache-control" => b"Cache-Control: ",
        "content-type" => b"Content-Type: ",
        "etag" => b"ETag: ",
        "last-modified" => b"Last-Modified: ",
        "vary" => b"Vary: ",
        _ => return None,
    })
}

fn capitalized(output: &mut Vec<u8>, name: &str) {
    let mut starts = true;
    output.extend(name.bytes().map(|byte| {
        let cased = if starts {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        starts = byte == b'-';
        cased
    }));
    output.extend_from_slice(b": ");
}

fn chunk_size(output: &mut Vec<u8>, size: usize) {
    output.extend_from_slice(format!("{size:x}\r\n").as_bytes());
}

pub(crate) fn decimal(output: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn encoded(
        length: ResponseLength,
        persistence: Persistence,
        headers: &[(&'static str, &'static str)],
    ) -> String {
        let mut output = Vec::new();
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        head(
            &mut output,
            StatusCode::OK,
            &headers,
            (length, persistence),
            &Date::default(),
        );
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn what_is_said_of_length_and_connection_is_the_servers() {
        let date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        assert_eq!(
            encoded(
                ResponseLength::Known(102),
                Persistence::Kept,
                &[("content-length", "7"), ("x-a", "b")]
            ),
            format!("HTTP/1.1 200 OK\r\n{date}Content-Length: 102\r\nX-A: b\r\n\r\n")
        );
        assert_eq!(
            encoded(
                ResponseLength::Chunked,
                Persistence::Closed,
                &[("connection", "keep-alive"), ("date", "x")]
            ),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nDate: x\r\n\r\n"
        );
        assert_eq!(
            encoded(
                ResponseLength::None,
                Persistence::KeptAlive,
                &[("content-length", "7")]
            ),
            format!("HTTP/1.1 200 OK\r\n{date}Connection: keep-alive\r\nContent-Length: 7\r\n\r\n")
        );
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 12345, u64::MAX] {
            let mut output = Vec::new();
            decimal(&mut output, number);
            assert_eq!(output, number.to_string().as_bytes());
        }
    }

    #[test]
    fn chunks_have_their_size_before_them() {
        let mut output = Vec::new();
        chunk(&mut output, &[b'a'; 17]);
        last_chunk(
            &mut output,
            Some(&HeaderMap::from_iter([(
                header::ETAG,
                HeaderValue::from_static("x"),
            )])),
        );
        assert_eq!(output, b"11\r\naaaaaaaaaaaaaaaaa\r\n0\r\nETag: x\r\n\r\n");
    }
}
