//! Bytes to types and back; no state but where a body is.
//!
//! The parser of requests is this crate's own and not `httparse`, for strictness: `httparse` takes LF alone for the end of a line, and empty lines without end before
//! a request, which another server on the way may see differently; and it says neither which of these things is wrong, nor stops at a limit, so that another pass over
//! the bytes would be needed. What this one takes, `httparse` takes as well, with the same result: `tests/properties.rs` and the fuzz target `http-head` say so.
//!
//! | module | what |
//! |---|---|
//! | [`head`] | a request's head |
//! | [`framing`] | how long its body is, and what else the connection's headers mean |
//! | [`target`] | the request target and Host |
//! | [`body`] | bodies, chunked and not |
//! | [`encode`] | a response's head, and chunks |
//! | [`date`] | dates |

pub mod head;

pub mod framing;
pub mod target;

pub mod body;
mod extension;

pub mod encode;

pub mod date;

pub(crate) mod bytes;

pub use self::bytes::{is_field_value, is_token};
