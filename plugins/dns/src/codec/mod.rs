//! Messages: bytes to questions, and answers to bytes ([RFC 1035 section 4](https://www.rfc-editor.org/rfc/rfc1035#section-4)).
//!
//! A server reads a [`Request`] and writes with a [`Writer`], with nothing allocated; a client and a cache read a whole [`Message`].
//!
//! Why this is not crate `domain`: to read a question, find its name and write the answer takes 108 to 232 ns here, and 186 to 472 ns for domain 0.11.1 to read the question and write
//! the records that it is given, with its fastest compressor (`compare/`, natively; the README has the table). A zone here keeps its sets as they are sent, and names as numbers, which
//! a compressor of names in general cannot make use of.

mod edns;
mod message;
mod request;
mod writer;

pub use edns::{EDNS_PAYLOAD, Edns, OptionCode, ServerOptions};
pub use message::{Message, MessageError, Query, Record, question_of};
pub(crate) use request::{HASH_START, fold, hash_label};
pub use request::{Malformed, Question, Request};
pub use writer::{Mark, Section, Writer};

use crate::types::{MAX_LABEL, Name};

/// Reads a name, and says how many bytes it takes where it begins. None if it does not end, or is too long, or points forward.
pub fn read_name(message: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut wire = [0; crate::types::MAX_NAME];
    let mut end = 0;
    let mut at = start;
    let mut consumed = None;
    // A pointer goes to somewhere before what has been read: so it ends.
    let mut least = start;
    loop {
        let length = *message.get(at)?;
        match usize::from(length) {
            0 => {
                *wire.get_mut(end)? = 0;
                let name = Name::from_wire(wire.get(..=end)?)?;
                return Some((name, consumed.unwrap_or(at + 1 - start)));
            }
            length if length <= MAX_LABEL => {
                let label = message.get(at..=at + length)?;
                wire.get_mut(end..=end + length)?.copy_from_slice(label);
                end += length + 1;
                at += length + 1;
            }
            length if length >= 0xc0 => {
                let low = *message.get(at + 1)?;
                consumed.get_or_insert(at + 2 - start);
                let target = (length & 0x3f) << 8 | usize::from(low);
                if target >= least {
                    return None;
                }
                least = target;
                at = target;
            }
            _ => return None,
        }
    }
}

/// Bytes of the header.
pub const HEADER: usize = 12;

/// The bit that says that a message is an answer.
pub const QR: u16 = 0x8000;
/// The answer is authoritative.
pub const AA: u16 = 0x0400;
/// The answer is cut.
pub const TC: u16 = 0x0200;
/// Recursion is desired.
pub const RD: u16 = 0x0100;
/// Recursion is available.
pub const RA: u16 = 0x0080;
/// The data are authentic.
pub const AD: u16 = 0x0020;
/// Checking is disabled.
pub const CD: u16 = 0x0010;

#[cfg(test)]
mod tests;
