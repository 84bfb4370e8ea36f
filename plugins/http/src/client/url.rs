//! URLs of `http` and `https`, and references to them: as much of [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986.html) as requests need.

use std::fmt;

use crate::codec::target::{host_of, is_host};

/// An absolute URL, without its fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    origin: Origin,
    /// The user and the password before the host, decoded: `user:password`.
    credentials: Option<Vec<u8>>,
    /// Path and query, in origin form.
    target: String,
}

/// Whom a URL belongs to: what was meant for one is not told to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// In lower case; IPv6 with its brackets.
    pub host: String,
    /// The scheme's own, if none was written.
    pub port: u16,
}

/// Whether there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// With TLS.
    Https,
}

/// Why a text is no URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UrlError {
    /// It does not begin with `http://` or `https://`.
    #[error("it does not begin with http:// or https://")]
    Scheme,
    /// The host, or the port after it, is none.
    #[error("its host or port is invalid (a name that is not ASCII is written as xn--...)")]
    Host,
    /// It has a control character.
    #[error("it has a control character")]
    Control,
}

impl Url {
    /// Parses an absolute URL. What cannot be in one, such as spaces and letters that are not ASCII, is percent-encoded, as browsers do.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        Ok(Self {
            origin: Origin::parse(scheme, host)?,
            credentials: user.map(decoded),
            target: target(rest)?,
        })
    }

    /// What a reference means here: the value of a `Location` ([RFC 3986 section 5.2](https://www.rfc-editor.org/rfc/rfc3986.html#section-5.2)). Credentials in it
    /// are passed over: nobody typed them.
    pub fn join(&self, reference: &str) -> Result<Self, UrlError> {
        if has_scheme(reference) {
            let url = Self::parse(reference)?;
            return Ok(Self {
                credentials: None,
                ..url
            });
        }
        if reference.starts_with("//") {
            return self.join(&format!("{}:{reference}", self.origin.scheme));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let merged = match reference.chars().next() {
            None | Some('#') => self.target.clone(),
            Some('/') => reference.to_owned(),
            Some('?') => format!("{path}{reference}"),
            Some(_) => {
                let folder = path
                    .rfind('/')
                    .map_or("/", |at| path.get(..=at).unwrap_or("/"));
                format!("{folder}{reference}")
            }
        };
        Ok(Self {
            origin: self.origin.clone(),
            credentials: None,
            target: target(&merged)?,
        })
    }

    /// Whom it belongs to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path and the query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `user:password`, if it has them.
    pub fn credentials(&self) -> Option<&[u8]> {
        self.credentials.as_deref()
    }
}

/// Without credentials.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

impl Origin {
    fn parse(scheme: Scheme, authority: &str) -> Result<Self, UrlError> {
        if !is_host(authority.as_bytes()) {
            return Err(UrlError::Host);
        }
        let host = host_of(authority);
        let port = match authority.get(host.len()..).unwrap_or_default() {
            "" | ":" => scheme.port(),
            port => {
                let port = port.strip_prefix(':').unwrap_or_default();
                port.parse().map_err(|_| UrlError::Host)?
            }
        };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// The host, and the port if it is not the scheme's: the value of `Host`.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

impl Scheme {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// `scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`, and the colon.
fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// Path, query and fragment as a request target: without the fragment, without `.` and `..`, and with what cannot be in one encoded.
fn target(text: &str) -> Result<String, UrlError> {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let mut target = String::new();
    encode(&mut target, &without_dots(path))?;
    if let Some(query) = query {
        target.push('?');
        encode(&mut target, query)?;
    }
    Ok(target)
}

/// [RFC 3986 section 5.2.4](https://www.rfc-editor.org/rfc/rfc3986.html#section-5.2.4)
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(part) = parts.next() {
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if parts.peek().is_none() {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

fn encode(output: &mut String, text: &str) -> Result<(), UrlError> {
    for byte in text.bytes() {
        match byte {
            0..0x20 | 0x7f => return Err(UrlError::Control),
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                output.push_str(&format!("%{byte:02X}"));
            }
            byte => output.push(char::from(byte)),
        }
    }
    Ok(())
}

/// Without percent-encoding; what is none stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut output = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        let encoded = (byte == b'%')
            .then(|| Some(digit()? << 4 | digit()?))
            .flatten()
            .and_then(|byte| u8::try_from(byte).ok());
        if encoded.is_some() {
            bytes = ahead;
        }
        output.push(encoded.unwrap_or(byte));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_an_origin_and_a_target() {
        for (text, expected) in [
            ("http://a", "http://a/"),
            ("HTTP://A:80/x?y#z", "http://a/x?y"),
            ("https://a:443?q=a/../b", "https://a/?q=a/../b"),
            (
                "https://[::1]:8443/a b/é",
                "https://[::1]:8443/a%20b/%C3%A9",
            ),
            ("http://u:p%40@a:8080/./b/../c/..", "http://a:8080/"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), expected, "{text}");
        }
        let url = Url::parse("http://u:p%40%zz@a/").unwrap();
        assert_eq!(url.credentials(), Some(&b"u:p@%zz"[..]));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, expected) in [
            ("a/b", UrlError::Scheme),
            ("ftp://a", UrlError::Scheme),
            ("http:///a", UrlError::Host),
            ("http://a:0x50/", UrlError::Host),
            ("http://a:65536/", UrlError::Host),
            ("http://a b/", UrlError::Host),
            ("http://é/", UrlError::Host),
            ("http://a/\r\nX: y", UrlError::Control),
        ] {
            assert_eq!(Url::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn references_are_resolved_as_the_rfc_has_them() {
        let base = Url::parse("http://u@a/b/c/d;p?q").unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("", "http://a/b/c/d;p?q"),
            ("#s", "http://a/b/c/d;p?q"),
            ("..", "http://a/b/"),
            ("../../../g", "http://a/g"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("https://x:1/y", "https://x:1/y"),
        ] {
            let url = base.join(reference).unwrap();
            assert_eq!(url.to_string(), expected, "{reference}");
            assert_eq!(url.credentials(), None);
        }
        assert_eq!(base.join("javascript:1"), Err(UrlError::Scheme));
    }
}
