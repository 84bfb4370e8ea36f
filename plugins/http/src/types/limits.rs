//! What a server puts up with.

use std::time::Duration;

/// How much a client may send, and how long it may take. The defaults are nginx's or Apache's, whichever is less, unless a line says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request line, its CR LF not counted; more is 414. [RFC 9112 section 3](https://www.rfc-editor.org/rfc/rfc9112.html#section-3-5)
    /// recommends 8,000 at least.
    pub request_line: usize,
    /// Bytes of all header lines of a request together, and of all trailer lines; more is 431.
    pub header_bytes: usize,
    /// How many header lines a request has, and how many trailer lines; more is 431.
    pub headers: usize,
    /// Bytes of a body; more is 413. None leaves it to the application, which gets bodies piece by piece.
    pub body: Option<u64>,
    /// How long a request's head may take from its first byte on; more is 408.
    pub head_time: Duration,
    /// How long a client may be silent in the middle of a body, and how long it may not take what it is sent; more is 408, or the connection's end.
    pub body_time: Duration,
    /// How long a connection may be idle between two requests, and before the first.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 8192,
            header_bytes: 32 << 10,
            headers: 100,
            body: None,
            head_time: Duration::from_secs(20),
            body_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(75),
        }
    }
}
