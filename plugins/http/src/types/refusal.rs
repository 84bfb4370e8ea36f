//! Ways in which a request is wrong.

use http::StatusCode;

/// Why a request is refused. The connection ends after the answer: where the next request would begin is not certain.
///
/// The message is for the client's author: it is the body of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A line ends with LF alone.
    #[error("a line ends with LF and no CR before it")]
    BareLf,
    /// A CR is not followed by LF.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// The request line is not `method SP target SP version`.
    #[error("the request line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// The method is not a token.
    #[error("the method is not a token")]
    Method,
    /// The target has a byte that cannot be in one, or is of no form that there is.
    #[error("the request target is invalid")]
    Target,
    /// The target's form is not one for this method.
    #[error("the form of the request target is not one for this method")]
    TargetForm,
    /// What should be `HTTP/1.1` is no version of HTTP.
    #[error("the version is not written as HTTP/digit.digit")]
    Version,
    /// A version that is not spoken here.
    #[error("this version of HTTP is not spoken here")]
    VersionUnsupported,
    /// A header line without a colon, or with nothing before it.
    #[error("a header line is not a name, a colon and a value")]
    HeaderLine,
    /// A header's name is not a token; whitespace before the colon is the most frequent case.
    #[error("a header's name is not a token, or has whitespace after it")]
    HeaderName,
    /// A header's value has a control character.
    #[error("a header's value has a control character")]
    HeaderValue,
    /// A header line begins with whitespace: obs-fold.
    #[error("a header line begins with whitespace")]
    Folded,
    /// There is no Host, or more than one, or it is no host.
    #[error("there is not exactly one valid Host")]
    Host,
    /// Content-Length is not one number.
    #[error("Content-Length is not one decimal number")]
    ContentLength,
    /// Transfer-Encoding comes twice, does not end with `chunked`, or comes with Content-Length or in HTTP/1.0.
    #[error(
        "Transfer-Encoding is not `chunked` alone, or comes with Content-Length, or in HTTP/1.0"
    )]
    TransferEncoding,
    /// A transfer coding that is not known here.
    #[error("this transfer coding is not implemented")]
    TransferCodingUnsupported,
    /// A header that other servers take for one that says how long the body is.
    #[error(
        "a header's name is Content-Length or Transfer-Encoding, but for a `_` in the place of `-`"
    )]
    Lookalike,
    /// Content-Type comes twice.
    #[error("Content-Type comes twice")]
    ContentType,
    /// A chunk's size or extension is invalid.
    #[error(
        "a chunk is not a hexadecimal size, extensions if there are any, CR LF, so many bytes and CR LF"
    )]
    Chunk,
    /// The body ends before its end.
    #[error("the body is shorter than was said")]
    BodyIncomplete,
    /// Expect is something other than `100-continue`.
    #[error("this expectation cannot be met")]
    Expectation,
    /// The request line is too long.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// The headers or trailers are too many, or too long.
    #[error("the headers are too many or too long")]
    HeadersTooLarge,
    /// The body is too long.
    #[error("the body is too long")]
    BodyTooLarge,
    /// The request did not come in time.
    #[error("the request did not come in time")]
    Timeout,
}

impl Refusal {
    /// What it is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::VersionUnsupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TransferCodingUnsupported => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
