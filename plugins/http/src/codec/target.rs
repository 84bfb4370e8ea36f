//! The request target and Host.

use bytes::Bytes;
use http::Uri;

use super::bytes::{is_host_name, is_target};
use crate::types::Refusal;

/// The forms of a request target ([RFC 9112 section 3.2](https://www.rfc-editor.org/rfc/rfc9112.html#section-3.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `absolute-path [ "?" query ]`
    Origin,
    /// `absolute-URI`, as proxies get it
    Absolute,
    /// `uri-host ":" port`, of CONNECT only
    Authority,
    /// `*`, of OPTIONS only
    Asterisk,
}

/// Which form this target of this method has.
pub(crate) fn form(method: &[u8], target: &[u8]) -> Result<Form, Refusal> {
    if !is_target(target) || !is_path(target) {
        return Err(Refusal::Target);
    }
    if method == b"CONNECT" {
        return match is_authority(target) {
            Some(Port::Given) => Ok(Form::Authority),
            _ => Err(Refusal::TargetForm),
        };
    }
    match target {
        [b'/', ..] => Ok(Form::Origin),
        b"*" if method == b"OPTIONS" => Ok(Form::Asterisk),
        b"*" => Err(Refusal::TargetForm),
        _ => {
            let authority = absolute_authority(target).ok_or(Refusal::Target)?;
            is_authority(authority)
                .map(|_| Form::Absolute)
                .ok_or(Refusal::Target)
        }
    }
}

/// Whether the target is without what no path has: a backslash, which some take for a slash, and encoded control characters, among them the end of a line and the NUL
/// that ends a name elsewhere. In a query they are data.
fn is_path(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next();
    let path = path.unwrap_or_default();
    let is_control = |after: &[u8]| matches!(after, [b'0' | b'1', _, ..] | [b'7', b'f' | b'F', ..]);
    !path.contains(&b'\\')
        && memchr::memchr_iter(b'%', path)
            .all(|at| !is_control(path.get(at + 1..).unwrap_or_default()))
}

/// The target as a URI.
pub(crate) fn uri(target: Bytes, form: Form) -> Result<Uri, Refusal> {
    let uri = Uri::from_maybe_shared(target).map_err(|_| Refusal::Target)?;
    let has_authority = matches!(form, Form::Absolute | Form::Authority);
    if uri.authority().is_some() != has_authority {
        return Err(Refusal::Target);
    }
    Ok(uri)
}

/// Whether this is a value of Host. An empty one would be right for a URI without an authority, and `http` URIs have one.
///
/// ```abnf
/// Host = uri-host [ ":" port ]
/// ```
pub fn is_host(value: &[u8]) -> bool {
    is_authority(value).is_some()
}

/// The host of an authority or a Host header, without its port.
pub fn host_of(authority: &str) -> &str {
    let end = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority.get(..end).unwrap_or(authority)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Given,
    Missing,
}

/// Whether this is a host and maybe a port; without user information, which has no place in HTTP
/// ([RFC 9110 section 4.2.4](https://www.rfc-editor.org/rfc/rfc9110.html#section-4.2.4)).
fn is_authority(text: &[u8]) -> Option<Port> {
    let (host, port) = if let [b'[', rest @ ..] = text {
        let end = rest.iter().position(|byte| *byte == b']')?;
        let address = std::str::from_utf8(rest.get(..end)?).ok()?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (None, rest.get(end + 1..)?)
    } else {
        let end = text
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(text.len());
        (Some(text.get(..end)?), text.get(end..)?)
    };
    if host.is_some_and(|host| !is_host_name(host) || !is_percent_encoded(host)) {
        return None;
    }
    match port {
        [] => Some(Port::Missing),
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            // An empty port is allowed, and is the scheme's: https://www.rfc-editor.org/rfc/rfc3986.html#section-3.2.3
            let number = digits
                .iter()
                .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            (number <= 65535).then_some(if digits.is_empty() {
                Port::Missing
            } else {
                Port::Given
            })
        }
        _ => None,
    }
}

/// Whether two digits follow each `%`.
fn is_percent_encoded(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'%');
    parts.next();
    parts.all(|part| matches!(part, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// The authority of `http://authority/...`.
fn absolute_authority(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let scheme = target.get(..colon)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = target.get(colon..)?.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    rest.get(..end.unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_for_its_methods() {
        for (method, target, expected) in [
            ("GET", "/", Ok(Form::Origin)),
            ("GET", "//a/b?c", Ok(Form::Origin)),
            ("GET", "http://a", Ok(Form::Absolute)),
            ("GET", "HTTPS://a:80/b", Ok(Form::Absolute)),
            ("GET", "http://[::1]:80/b", Ok(Form::Absolute)),
            ("GET", "http://u@a/", Err(Refusal::Target)),
            ("GET", "http:///a", Err(Refusal::Target)),
            ("GET", "ftp://a/", Err(Refusal::Target)),
            ("GET", "a", Err(Refusal::Target)),
            ("GET", "a:80", Err(Refusal::Target)),
            ("GET", "*", Err(Refusal::TargetForm)),
            ("GET", "/a\\b", Err(Refusal::Target)),
            ("GET", "/a%00", Err(Refusal::Target)),
            ("GET", "/%0d%0A", Err(Refusal::Target)),
            ("GET", "http://a/%1F", Err(Refusal::Target)),
            ("GET", "/%7f", Err(Refusal::Target)),
            ("GET", "/%20%7E?a=%0d%0a\\", Ok(Form::Origin)),
            ("OPTIONS", "*", Ok(Form::Asterisk)),
            ("CONNECT", "a:80", Ok(Form::Authority)),
            ("CONNECT", "a", Err(Refusal::TargetForm)),
            ("CONNECT", "/", Err(Refusal::TargetForm)),
            ("CONNECT", "http://a:80/", Err(Refusal::TargetForm)),
        ] {
            let found = form(method.as_bytes(), target.as_bytes());
            assert_eq!(found, expected, "{method} {target}");
            if let Ok(form) = found {
                assert!(
                    uri(Bytes::from_static(target.as_bytes()), form).is_ok(),
                    "{target}"
                );
            }
        }
    }

    #[test]
    fn a_host_is_one_host() {
        for good in [
            "a",
            "a.example:8080",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]:1",
            "a_b",
            "a:",
            "%41",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a,b", "a/b", "u@a", "a:x", "a:65536", "a:1:2", "[::1", "[::1]x",
            "[zz]", "a\\b", "%4", "a?b",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
        for (authority, host) in [
            ("a:80", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
