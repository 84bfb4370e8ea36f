//! Bytes to types and back, without state.
//!
//! Everything here works on bytes. The crate `irc-proto` was not used: it works on strings, so it loses what is not UTF-8, and it
//! allocates for each parameter.

pub mod decode;

pub mod encode;

pub mod reply;

/// The longest message, CR and LF included ([RFC 2812 section 2.3](https://www.rfc-editor.org/rfc/rfc2812#section-2.3)).
pub const MAX_MESSAGE: usize = 512;

/// The longest tags that a client may put before a message, `@` and the space after them included
/// ([message tags, "size limit"](https://ircv3.net/specs/extensions/message-tags#size-limit)).
pub const MAX_TAGS: usize = 4096;

/// The longest line that need be kept to decode it.
pub const MAX_LINE: usize = MAX_TAGS + MAX_MESSAGE;

/// How many parameters a message has at most: "14( SPACE middle ) [ SPACE [ \":\" ] trailing ]".
const MAX_PARAMS: usize = 15;

#[cfg(test)]
mod tests;
