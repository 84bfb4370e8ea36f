//! Where one message ends and the next begins, however the bytes come.
//!
//! Every decoder here is fed the same way: [`next`](Lines::next) takes what it needs from the front of `data` and returns one frame, until it
//! returns none. What it has not taken is the caller's, so that a protocol may change its framing between two frames.
//!
//! ```
//! use nethost_sdk::framing::Lines;
//!
//! let mut lines = Lines::new(510);
//! let mut seen = Vec::new();
//! for mut data in [&b"NICK ann\r\nUS"[..], b"ER ann\n"] {
//!     while let Some(line) = lines.next(&mut data) {
//!         seen.push(line.expect("short enough").to_vec());
//!     }
//! }
//! assert_eq!(seen, [&b"NICK ann"[..], b"USER ann"]);
//! ```
//!
//! When a connection becomes secured, [`clear`](Lines::clear) throws away what is held of a frame that began in clear, and the caller throws away what is
//! left of `data`: see [`start_tls`](crate::Connection::start_tls).
//!
//! Memory is bounded: a frame that lies in one delivery is not copied, and a part of one is held up to the maximum, which has no default. A
//! decoder whose error says that the stream makes no sense from here on takes and ignores what follows; the session closes.

mod length_prefixed;
mod lines;
mod netstrings;

pub use length_prefixed::LengthPrefixed;
pub use lines::Lines;
pub use netstrings::{MalformedNetstring, Netstrings};

use std::{error::Error, fmt};

/// A frame was longer than the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The maximum, in bytes.
    pub maximum: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "longer than {} bytes", self.maximum)
    }
}

impl Error for TooLong {}

/// Takes up to `count` bytes from the front.
fn take<'d>(data: &mut &'d [u8], count: usize) -> &'d [u8] {
    let (taken, rest) = data.split_at_checked(count).unwrap_or((data, &[]));
    *data = rest;
    taken
}

#[cfg(test)]
mod tests;
