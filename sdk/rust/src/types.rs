//! How the contract's shared types read.

use std::{error, fmt};

use crate::bindings::nethost::plugin::types::{self, CloseReason, ErrorCode};

/// An error: the code is for the plugin, the message is for people (logs, never parsed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What a plugin decides by.
    pub code: ErrorCode,
    /// What happened, in lower case and without a full stop.
    pub message: String,
}

// Not the contract's own: wit-bindgen gives a type that a function fails with a `Display` of its choice.
impl From<types::Error> for Error {
    fn from(types::Error { code, message }: types::Error) -> Self {
        Self { code, message }
    }
}

/// The message, which is for people.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {}

/// The message, for [`Factory::configure`](crate::Factory::configure).
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.message
    }
}

/// The contract's word for it.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::NameNotFound => "name not found",
            Self::Limit => "limit",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not found",
            Self::Exists => "exists",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Io => "i/o error",
            Self::Other(words) => words,
        })
    }
}

/// In words, for logs and for what a protocol tells others.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("both sides closed"),
            Self::ClosedHere => f.write_str("closed here"),
            Self::AbortedHere => f.write_str("aborted here"),
            Self::Reset => f.write_str("connection reset by peer"),
            Self::Idle => f.write_str("idle timeout"),
            Self::Limit(name) => write!(f, "limit reached: {name}"),
            Self::Tls(words) => write!(f, "TLS failed: {words}"),
            Self::Draining => f.write_str("service going away"),
            Self::Trapped => f.write_str("plugin failed"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl CloseReason {
    /// Whether the end was clean: every byte written was handed to the peer's side.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Done | Self::ClosedHere)
    }
}
