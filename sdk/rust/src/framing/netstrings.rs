//! Netstrings.

use std::{error::Error, fmt};

use super::take;

/// Netstrings: `5:hello,` (<https://cr.yp.to/proto/netstrings.txt>).
///
/// An error ends the stream: it is reported once, and everything after it is ignored.
#[derive(Debug)]
pub struct Netstrings {
    maximum: usize,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The number so far, and how many digits it has.
    Length(usize, u32),
    Bytes(usize),
    Comma,
    Returned,
    Ended,
}

/// What is wrong with a netstring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedNetstring {
    /// It was longer than this maximum, in bytes.
    TooLong(usize),
    /// This byte is no digit and no colon, or a digit after a leading zero.
    Length(u8),
    /// This byte came in place of the comma.
    End(u8),
}

impl Netstrings {
    /// Netstrings of at most this many bytes each.
    pub fn new(maximum: usize) -> Self {
        Self {
            maximum,
            buffer: Vec::new(),
            state: State::Length(0, 0),
        }
    }

    /// Forgets what it holds of a netstring, or that the stream made no sense, as if nothing had come: what
    /// [`start_tls`](crate::Connection::start_tls) asks for.
    pub fn clear(&mut self) {
        *self = Self::new(self.maximum);
    }

    /// Returns the bytes of the next netstring, or takes all of `data` and returns none.
    pub fn next<'s, 'd: 's>(
        &'s mut self,
        data: &mut &'d [u8],
    ) -> Option<Result<&'s [u8], MalformedNetstring>> {
        if self.state == State::Returned {
            self.buffer.clear();
            self.state = State::Length(0, 0);
        }
        loop {
            match self.state {
                State::Length(length, digits) => {
                    let byte = *take(data, 1).first()?;
                    match self.length(length, digits, byte) {
                        Ok(state) => self.state = state,
                        Err(error) => return self.fail(error, data),
                    }
                }
                State::Bytes(length) => {
                    self.buffer
                        .extend_from_slice(take(data, length - self.buffer.len()));
                    if self.buffer.len() < length {
                        return None;
                    }
                    self.state = State::Comma;
                }
                State::Comma => {
                    let byte = *take(data, 1).first()?;
                    if byte != b',' {
                        return self.fail(MalformedNetstring::End(byte), data);
                    }
                    self.state = State::Returned;
                    return Some(Ok(&self.buffer));
                }
                State::Returned | State::Ended => {
                    take(data, usize::MAX);
                    return None;
                }
            }
        }
    }

    fn length(&self, length: usize, digits: u32, byte: u8) -> Result<State, MalformedNetstring> {
        match byte {
            b'0'..=b'9' if digits == 0 || length > 0 => {
                let length = length
                    .saturating_mul(10)
                    .saturating_add(usize::from(byte - b'0'));
                if length > self.maximum {
                    return Err(MalformedNetstring::TooLong(self.maximum));
                }
                Ok(State::Length(length, digits + 1))
            }
            b':' if digits > 0 => Ok(State::Bytes(length)),
            byte => Err(MalformedNetstring::Length(byte)),
        }
    }

    fn fail(
        &mut self,
        error: MalformedNetstring,
        data: &mut &[u8],
    ) -> Option<Result<&[u8], MalformedNetstring>> {
        self.state = State::Ended;
        take(data, usize::MAX);
        Some(Err(error))
    }
}

impl fmt::Display for MalformedNetstring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(maximum) => write!(f, "longer than {maximum} bytes"),
            Self::Length(byte) => write!(f, "`{}` in a length", byte.escape_ascii()),
            Self::End(byte) => write!(f, "`{}` in place of a comma", byte.escape_ascii()),
        }
    }
}

impl Error for MalformedNetstring {}
