//! Why a request failed.

use http::StatusCode;

use super::{
    codec::Malformed,
    url::{Origin, UrlError},
};
use crate::body::BodyError;

/// Why there is no response, or no more of it. A status of any kind is a response, and no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none.
    #[error("`{0}`: {1}")]
    Url(String, #[source] UrlError),
    /// A proxy that is spoken to with TLS.
    #[error("only proxies with http:// are spoken to")]
    ProxyScheme,
    /// There is no connection.
    #[error("{0}: {1}")]
    Connect(Origin, #[source] nethost_sdk::Error),
    /// The proxy does not connect.
    #[error("the proxy does not connect to {0}: it answers {1}")]
    Proxy(Origin, StatusCode),
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    Lost(#[source] std::io::Error),
    /// What came is no response.
    #[error("what came is no valid response: {0}")]
    Malformed(#[from] Malformed),
    /// More redirects than are followed.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// A redirect to what is no URL.
    #[error("redirected to `{0}`: {1}")]
    Location(String, #[source] UrlError),
    /// A redirect that wants the body once more, which was made as it was sent.
    #[error("redirected to {0} with the body, which cannot be sent a second time")]
    Replay(String),
    /// The body is not what its Content-Encoding says.
    #[error("the body is no {0}: {1}")]
    Coding(&'static str, String),
    /// It took too long.
    #[error("time-out: {0}")]
    Timeout(&'static str),
    /// What makes the request's body failed.
    #[error("the request's body: {0}")]
    Body(#[source] BodyError),
}
