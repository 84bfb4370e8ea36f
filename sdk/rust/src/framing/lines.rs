//! Lines.

use serde::{Deserialize, Serialize};

use super::{TooLong, take};

/// Lines that end in LF or CR LF.
///
/// With serde it can be a part of a session's state at a swap. A line that is too long is reported once, as soon as that is certain, and skipped up to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lines {
    maximum: usize,
    buffer: Vec<u8>,
    /// What comes up to the next LF belongs to a line that was too long.
    skipping: bool,
    /// The buffer's line was returned and is to be forgotten.
    returned: bool,
}

impl Lines {
    /// Lines of at most this many bytes, without their ends.
    pub fn new(maximum: usize) -> Self {
        Self {
            maximum,
            buffer: Vec::new(),
            skipping: false,
            returned: false,
        }
    }

    /// Forgets what it holds of a line, as if nothing had come: what [`start_tls`](crate::Connection::start_tls) asks for.
    pub fn clear(&mut self) {
        *self = Self::new(self.maximum);
    }

    /// Returns the next line, without its end, or takes all of `data` and returns none.
    pub fn next<'s, 'd: 's>(
        &'s mut self,
        data: &mut &'d [u8],
    ) -> Option<Result<&'s [u8], TooLong>> {
        if self.returned {
            self.buffer.clear();
            self.returned = false;
        }
        loop {
            let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
                return self.keep(take(data, usize::MAX));
            };
            let head = take(data, end);
            take(data, 1);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.buffer.is_empty() {
                return Some(self.checked(head));
            }
            self.returned = true;
            if self.buffer.len() + head.len() > self.maximum + 1 {
                return Some(Err(TooLong {
                    maximum: self.maximum,
                }));
            }
            self.buffer.extend_from_slice(head);
            return Some(self.checked(&self.buffer));
        }
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, part: &[u8]) -> Option<Result<&[u8], TooLong>> {
        if self.skipping || part.is_empty() {
            return None;
        }
        let length = self.buffer.len() + part.len();
        // One more byte may be the CR of the line's end.
        let fits =
            length <= self.maximum || length == self.maximum + 1 && part.last() == Some(&b'\r');
        if !fits {
            self.buffer.clear();
            self.skipping = true;
            return Some(Err(TooLong {
                maximum: self.maximum,
            }));
        }
        self.buffer.extend_from_slice(part);
        None
    }

    fn checked<'l>(&self, line: &'l [u8]) -> Result<&'l [u8], TooLong> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.maximum {
            Err(TooLong {
                maximum: self.maximum,
            })
        } else {
            Ok(line)
        }
    }
}
