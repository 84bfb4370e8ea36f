//! What a client does, and how long it waits.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;

use super::{
    error::Error,
    url::{Origin, Scheme, Url},
};
use crate::types::Limits;

/// What a client does, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How many redirects are followed for one request; 0 returns them as they are. curl's 50 and browsers' 20 are for people who wait; a chain of more than 10 is a mistake.
    pub redirects: usize,
    /// Whether `gzip`, `br` and `zstd` are asked for and decoded. A request that has its own `Accept-Encoding` gets what comes as it is.
    pub decodes: bool,
    /// By which proxy.
    pub proxy: Option<Proxy>,
    /// How long a connection may take to be made, its TLS included.
    pub connect_time: Duration,
    /// How long the server may be silent while it is waited for, and take nothing of what it is sent.
    pub silence_time: Duration,
    /// How long a request may take, redirects and the whole body included; none for as long as it takes.
    pub total_time: Option<Duration>,
    /// How long a connection is kept for another request.
    pub idle_time: Duration,
    /// What is put up with in a response: `request_line` for its status line, the headers, and the body, decoded, if that is limited.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            redirects: 10,
            decodes: true,
            proxy: None,
            connect_time: Duration::from_secs(30),
            silence_time: Duration::from_secs(60),
            total_time: None,
            idle_time: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// A proxy: HTTP's own, with CONNECT for `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    origin: Origin,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Parses `http://[USER:PASSWORD@]HOST:PORT`; a path means nothing.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let url = Url::parse(text).map_err(|error| Error::Url(text.to_owned(), error))?;
        if url.origin().scheme == Scheme::Https {
            return Err(Error::ProxyScheme);
        }
        Ok(Self {
            authorization: url.credentials().and_then(basic),
            origin: url.origin().clone(),
        })
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// Without the password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({})", self.origin)
    }
}

/// `Basic` and `user:password` ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617.html)).
pub(super) fn basic(credentials: &[u8]) -> Option<HeaderValue> {
    let mut text = STANDARD.encode(credentials);
    text.insert_str(0, "Basic ");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
