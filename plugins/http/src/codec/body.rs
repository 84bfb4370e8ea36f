//! Bodies: of a known length, and chunked with trailers.

use bytes::Bytes;
use http::HeaderMap;

use super::{
    extension::Extension,
    framing::BodyLength,
    head::{Field, field_lines, header_map},
};
use crate::types::{Limits, Refusal};

/// Where in a body the connection is. Bytes come in any pieces; the pieces of the body that go out are cut where those are.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of chunk extensions so far: they are passed over, and there is a limit to what is.
    extensions: usize,
    /// What came of the trailer lines.
    trailers: Vec<u8>,
    limits: Limits,
    /// Bytes of the body that may still come.
    room: u64,
}

/// A part of a body.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    /// Some of its bytes, at least one.
    Data(&'a [u8]),
    /// Its end, with its trailers.
    End(HeaderMap),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a body without chunks are left.
    Known(u64),
    /// At the first digit of a chunk's size.
    SizeStart,
    /// Within the size, with so many digits so far.
    Size { size: u64, digits: u8 },
    /// Within a chunk's extensions.
    Extension { size: u64, at: Extension },
    /// At the LF after the size.
    SizeLf { size: u64 },
    /// Within a chunk, of which so many bytes are left.
    Data(u64),
    /// At the CR after a chunk.
    DataCr,
    /// At the LF after a chunk.
    DataLf,
    /// In the trailers.
    Trailers,
    /// After its end.
    Done,
}

impl Decoder {
    /// At the beginning of a body. One whose length is over the limit is refused before it comes.
    pub fn new(length: BodyLength, limits: &Limits) -> Result<Self, Refusal> {
        let room = limits.body.unwrap_or(u64::MAX);
        let state = match length {
            BodyLength::Known(length) if length > room => return Err(Refusal::BodyTooLarge),
            BodyLength::Known(length) => State::Known(length),
            BodyLength::Chunked => State::SizeStart,
        };
        Ok(Self {
            state,
            extensions: 0,
            trailers: Vec::new(),
            limits: *limits,
            room,
        })
    }

    /// Takes the next part of the body from the beginning of `data`; none if there is none yet, and then all of `data` is taken.
    ///
    /// ```abnf
    /// chunked-body = *chunk last-chunk trailer-section CRLF
    /// chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
    /// ```
    pub fn decode<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<Part<'a>>, Refusal> {
        loop {
            match self.state {
                State::Known(0) => {
                    self.state = State::Done;
                    return Ok(Some(Part::End(HeaderMap::new())));
                }
                State::Known(left) => {
                    let part = take(data, left);
                    self.state = State::Known(left - part.len() as u64);
                    return Ok(Some(part).filter(|part| !part.is_empty()).map(Part::Data));
                }
                State::Data(left) => {
                    let part = take(data, left);
                    self.state = match left - part.len() as u64 {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                    return Ok(Some(part).filter(|part| !part.is_empty()).map(Part::Data));
                }
                State::Trailers => return self.trailers(data),
                State::Done => return Ok(None),
                _ => {
                    let Some((byte, rest)) = data.split_first() else {
                        return Ok(None);
                    };
                    self.state = self.step(*byte)?;
                    *data = rest;
                }
            }
        }
    }

    /// What is between the chunks' data, byte by byte.
    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::SizeStart, byte) => {
                let size = digit(byte).ok_or(Refusal::Chunk)?;
                Ok(State::Size { size, digits: 1 })
            }
            (State::Size { size, .. }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { size, .. }, b';' | b' ' | b'\t') => {
                self.extension(size, Extension::Gap, byte)
            }
            (State::Size { size, digits }, byte) => {
                // 16 digits are 64 bits.
                let digit = digit(byte).filter(|_| digits < 16).ok_or(Refusal::Chunk)?;
                Ok(State::Size {
                    size: size << 4 | digit,
                    digits: digits + 1,
                })
            }
            (State::Extension { size, at }, b'\r') if at.may_end() => Ok(State::SizeLf { size }),
            (State::Extension { size, at }, byte) => self.extension(size, at, byte),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => {
                self.room = self.room.checked_sub(size).ok_or(Refusal::BodyTooLarge)?;
                Ok(State::Data(size))
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            _ => Err(Refusal::Chunk),
        }
    }

    fn extension(&mut self, size: u64, at: Extension, byte: u8) -> Result<State, Refusal> {
        self.extensions += 1;
        let at = at.step(byte).filter(|_| self.extensions <= MAX_EXTENSIONS);
        let at = at.ok_or(Refusal::Chunk)?;
        Ok(State::Extension { size, at })
    }

    /// `trailer-section = *( field-line CRLF )`, and the empty line.
    fn trailers<'a>(&mut self, data: &mut &'a [u8]) -> Result<Option<Part<'a>>, Refusal> {
        // Lines are looked at when they are complete, and each LF completes one.
        while let Some(at) = memchr::memchr(b'\n', data) {
            let (line, rest) = data.split_at_checked(at + 1).unwrap_or((data, &[]));
            self.trailers.extend_from_slice(line);
            *data = rest;
            // Only the last line can be the empty one, and only it needs a look at all of them.
            let is_last = self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n");
            if !is_last
                && self.trailers.ends_with(b"\r\n")
                && self.trailers.len() <= self.limits.header_bytes
            {
                continue;
            }
            let mut fields = Vec::new();
            let Some(_) = field_lines(&self.trailers, 0, &self.limits, &mut fields)? else {
                continue;
            };
            self.state = State::Done;
            let lines = Bytes::from(std::mem::take(&mut self.trailers));
            return Ok(Some(Part::End(trailer_map(&lines, &fields)?)));
        }
        self.trailers.extend_from_slice(data);
        *data = &[];
        if self.trailers.len() > self.limits.header_bytes {
            return Err(Refusal::HeadersTooLarge);
        }
        Ok(None)
    }
}

/// The trailers, without those that would say how to read the message: they come too late for that, and a server behind this one could believe them
/// ([RFC 9110 section 6.5.1](https://www.rfc-editor.org/rfc/rfc9110.html#section-6.5.1)).
fn trailer_map(lines: &Bytes, fields: &[Field]) -> Result<HeaderMap, Refusal> {
    let mut map = header_map(lines, fields)?;
    for name in FORBIDDEN_TRAILERS {
        map.remove(name);
    }
    Ok(map)
}

fn take<'a>(data: &mut &'a [u8], most: u64) -> &'a [u8] {
    let count = usize::try_from(most).map_or(data.len(), |most| most.min(data.len()));
    let (part, rest) = data.split_at_checked(count).unwrap_or((data, &[]));
    *data = rest;
    part
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Bytes of extensions of all chunks of a body together: 16 KiB, so that a body of nothing but extensions ends
/// ([RFC 9112 section 7.1.1](https://www.rfc-editor.org/rfc/rfc9112.html#section-7.1.1-4)).
const MAX_EXTENSIONS: usize = 16 << 10;

const FORBIDDEN_TRAILERS: [http::HeaderName; 8] = [
    http::header::TRANSFER_ENCODING,
    http::header::CONTENT_LENGTH,
    http::header::HOST,
    http::header::CONNECTION,
    http::header::TRAILER,
    http::header::CONTENT_ENCODING,
    http::header::AUTHORIZATION,
    http::header::COOKIE,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes it in pieces of this size; returns the body, its trailers and what is left.
    #[expect(clippy::type_complexity, reason = "it is said above")]
    fn decoded(data: &[u8], size: usize) -> Result<Option<(Vec<u8>, HeaderMap, Vec<u8>)>, Refusal> {
        let mut decoder = Decoder::new(BodyLength::Chunked, &Limits::default())?;
        let mut body = Vec::new();
        let mut at = 0;
        for piece in data.chunks(size) {
            let mut rest = piece;
            while let Some(part) = decoder.decode(&mut rest)? {
                match part {
                    Part::Data(data) => body.extend_from_slice(data),
                    Part::End(trailers) => {
                        let used = at + piece.len() - rest.len();
                        return Ok(Some((body, trailers, data[used..].to_vec())));
                    }
                }
            }
            at += piece.len();
        }
        Ok(None)
    }

    #[test]
    fn chunks_make_a_body_however_they_are_cut() {
        let data =
            b"3\r\nabc\r\n0a ;x=\"y\\\"\";z\r\n0123456789\r\n0\r\nA: b\r\nHost: evil\r\n\r\nGET";
        for size in 1..=data.len() {
            let (body, trailers, rest) = decoded(data, size).unwrap().unwrap();
            assert_eq!(body, b"abc0123456789", "{size}");
            assert_eq!(trailers["a"], "b");
            assert_eq!(trailers.len(), 1);
            assert_eq!(rest, b"GET", "{size}");
        }
        assert_eq!(decoded(b"0\r\n\r\n", 1).unwrap().unwrap().0, b"");
    }

    #[test]
    fn what_is_no_chunk_is_refused_however_it_is_cut() {
        for (data, expected) in [
            ("\r\n", Refusal::Chunk),
            ("g\r\n", Refusal::Chunk),
            (" 1\r\n", Refusal::Chunk),
            ("1 \r\n", Refusal::Chunk),
            ("-1\r\n", Refusal::Chunk),
            ("+1\r\n", Refusal::Chunk),
            ("0x1\r\n", Refusal::Chunk),
            ("1_0\r\n", Refusal::Chunk),
            ("1\n", Refusal::Chunk),
            ("1\r\r\n", Refusal::Chunk),
            ("1;a\n", Refusal::Chunk),
            ("1;a\rb\r\n", Refusal::Chunk),
            ("1;\0\r\n", Refusal::Chunk),
            ("1;\r\n", Refusal::Chunk),
            ("1;a \r\n", Refusal::Chunk),
            ("00000000000000001\r\n", Refusal::Chunk),
            ("1\r\nab", Refusal::Chunk),
            ("1\r\na\n", Refusal::Chunk),
            ("1\r\na0\r\n", Refusal::Chunk),
            ("0\r\na\r\n", Refusal::HeaderLine),
            ("0\r\na : b\r\n", Refusal::HeaderName),
            ("0\r\n\n", Refusal::BareLf),
            ("0\r\nA: b\n\n", Refusal::BareLf),
        ] {
            let data = format!("{data}\r\n\r\n");
            for size in 1..=data.len() {
                let found = decoded(data.as_bytes(), size);
                assert_eq!(found.err(), Some(expected), "{data:?} by {size}");
            }
        }
    }

    #[test]
    fn limits_end_a_body() {
        let limits = Limits {
            body: Some(10),
            header_bytes: 20,
            ..Limits::default()
        };
        assert!(Decoder::new(BodyLength::Known(10), &limits).is_ok());
        let over = Decoder::new(BodyLength::Known(11), &limits);
        assert_eq!(over.err(), Some(Refusal::BodyTooLarge));
        for (data, expected) in [
            ("a\r\n0123456789\r\n1\r\n", Refusal::BodyTooLarge),
            ("0\r\nabcdefghijkl: mnopqrstuvw", Refusal::HeadersTooLarge),
        ] {
            let mut decoder = Decoder::new(BodyLength::Chunked, &limits).unwrap();
            let mut rest = data.as_bytes();
            let refused = loop {
                match decoder.decode(&mut rest) {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(refusal) => break Some(refusal),
                }
            };
            assert_eq!(refused, Some(expected), "{data}");
        }
        let long = format!("1;{}", "a".repeat(MAX_EXTENSIONS + 1));
        assert_eq!(
            decoded(long.as_bytes(), 1 << 20).err(),
            Some(Refusal::Chunk)
        );
    }

    #[test]
    fn a_known_length_ends_by_itself() {
        let mut decoder = Decoder::new(BodyLength::Known(3), &Limits::default()).unwrap();
        let mut data = &b"abcd"[..];
        assert_eq!(decoder.decode(&mut data), Ok(Some(Part::Data(b"abc"))));
        assert_eq!(
            decoder.decode(&mut data),
            Ok(Some(Part::End(HeaderMap::new())))
        );
        assert_eq!((decoder.decode(&mut data), data), (Ok(None), &b"d"[..]));
    }
}
