//! Messages with their length in front.

use super::{TooLong, take};

/// Messages after a length of one, two or four bytes, most significant first.
///
/// A length over the maximum ends the stream: it is reported once, and everything after it is ignored.
#[derive(Debug)]
pub struct LengthPrefixed {
    width: usize,
    maximum: usize,
    /// The length and the message, as far as they have come.
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length,
    Message(usize),
    Returned,
    Ended,
}

impl LengthPrefixed {
    /// Lengths of one byte.
    pub fn u8(maximum: usize) -> Self {
        Self::new(1, maximum)
    }

    /// Lengths of two bytes, as DNS over TCP has them.
    pub fn u16(maximum: usize) -> Self {
        Self::new(2, maximum)
    }

    /// Lengths of four bytes, as SSH's agent has them.
    pub fn u32(maximum: usize) -> Self {
        Self::new(4, maximum)
    }

    fn new(width: usize, maximum: usize) -> Self {
        Self {
            width,
            maximum,
            buffer: Vec::new(),
            state: State::Length,
        }
    }

    /// Forgets what it holds of a message, or that the stream made no sense, as if nothing had come: what
    /// [`start_tls`](crate::Connection::start_tls) asks for.
    pub fn clear(&mut self) {
        *self = Self::new(self.width, self.maximum);
    }

    /// Returns the next message, without its length, or takes all of `data` and returns none.
    pub fn next<'s, 'd: 's>(
        &'s mut self,
        data: &mut &'d [u8],
    ) -> Option<Result<&'s [u8], TooLong>> {
        if self.state == State::Returned {
            self.buffer.clear();
            self.state = State::Length;
        }
        if self.state == State::Length {
            self.buffer
                .extend_from_slice(take(data, self.width - self.buffer.len()));
            if self.buffer.len() < self.width {
                return None;
            }
            let length = self
                .buffer
                .drain(..)
                .fold(0, |length, byte| length << 8 | usize::from(byte));
            if length > self.maximum {
                self.state = State::Ended;
                take(data, usize::MAX);
                return Some(Err(TooLong {
                    maximum: self.maximum,
                }));
            }
            self.state = State::Message(length);
        }
        let State::Message(length) = self.state else {
            take(data, usize::MAX);
            return None;
        };
        if self.buffer.is_empty() && data.len() >= length {
            self.state = State::Length;
            return Some(Ok(take(data, length)));
        }
        self.buffer
            .extend_from_slice(take(data, length - self.buffer.len()));
        if self.buffer.len() < length {
            return None;
        }
        self.state = State::Returned;
        Some(Ok(&self.buffer))
    }
}
