//! Grants: what a service may do beyond its own connections. Nothing is granted by default.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    endpoint::{Endpoint, StreamOptions, UnixEndpoint, UnixName, unmap},
    files::HostFile,
};

/// What a service was granted.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Where it may connect to.
    pub connect: Vec<ConnectGrant>,
    /// The files that it may use, by the names that it knows them by.
    pub files: BTreeMap<String, HostFile>,
}

/// Leave to connect: `HOST:PORT`, where HOST is a name, an address, a network (`10.0.0.0/8`), or `*`, and PORT a number or `*`; or one UNIX socket,
/// `unix:/run/x.sock` or `unix:@name`, percent-encoded like the endpoint's URL.
///
/// A name covers the addresses that it resolves to, except loopback, link-local and unspecified ones: those need a literal address, a
/// network, or `localhost`. `*` covers every name and address but those, and no UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectGrant(Target);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Ip {
        host: HostPattern,
        port: Option<u16>,
    },
    Unix(UnixName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    Name(String),
    Network(IpNet),
}

/// Why a text is not a [`ConnectGrant`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a HOST:PORT to allow: {reason}; examples: irc.example.net:6667, 10.0.0.0/8:*, [::1]:53, unix:/run/x.sock"
)]
pub struct InvalidGrant {
    text: String,
    reason: &'static str,
}

impl Grants {
    /// Returns whether an address may be connected to, which `name` (if any) resolved to.
    pub fn allows_address(&self, name: Option<&str>, address: SocketAddr) -> bool {
        let ip = unmap(address.ip());
        self.connect.iter().any(|ConnectGrant(target)| {
            let Target::Ip { host, port } = target else {
                return false;
            };
            port.is_none_or(|port| port == address.port())
                && match host {
                    HostPattern::Network(network) => network.contains(&ip),
                    HostPattern::Any => is_public(ip),
                    HostPattern::Name(granted) => {
                        name == Some(granted.as_str())
                            && (is_public(ip) || granted == "localhost" && ip.is_loopback())
                    }
                }
        })
    }

    /// Returns whether a name may be looked up: a grant names it, or could cover an address that it has.
    pub fn allows_look_up(&self, name: &str) -> bool {
        self.connect
            .iter()
            .any(|ConnectGrant(target)| match target {
                Target::Ip { host, .. } => match host {
                    HostPattern::Any | HostPattern::Network(_) => true,
                    HostPattern::Name(granted) => granted == name,
                },
                Target::Unix(_) => false,
            })
    }

    /// Returns whether a UNIX socket may be connected to: a grant names exactly it.
    pub fn allows_unix(&self, name: &UnixName) -> bool {
        let mut targets = self.connect.iter().map(|ConnectGrant(target)| target);
        targets.any(|target| matches!(target, Target::Unix(granted) if granted == name))
    }
}

impl FromStr for ConnectGrant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let invalid = |reason| InvalidGrant {
            text: text.to_owned(),
            reason,
        };
        // `unix:25` is a port of a host of that name.
        if text.starts_with("unix:/") || text.starts_with("unix:@") {
            return match text.parse() {
                Ok(Endpoint::Unix(UnixEndpoint {
                    address,
                    mode: None,
                    options,
                })) if options == StreamOptions::default() => Ok(Self(Target::Unix(address))),
                Ok(_) => Err(invalid("a UNIX socket is granted without options")),
                Err(_) => Err(invalid(
                    "a UNIX socket has an absolute path without `.`, `..` and empty parts, or a name after `@`",
                )),
            };
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid("the port is missing; `*` is any port"))?;
        let port = match port {
            "*" => None,
            _ => Some(
                port.parse()
                    .map_err(|_| invalid("the port is not a number from 0 to 65535, nor `*`"))?,
            ),
        };
        let bare = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(bare) => bare,
            None if host.contains(':') => {
                return Err(invalid("an IPv6 address stands in brackets"));
            }
            None => host,
        };
        let host = if bare == "*" {
            HostPattern::Any
        } else if let Ok(address) = bare.parse::<IpAddr>() {
            HostPattern::Network(unmap(address).into())
        } else if let Ok(network) = bare.parse::<IpNet>() {
            HostPattern::Network(network.trunc())
        } else if is_name(bare) {
            HostPattern::Name(bare.to_ascii_lowercase())
        } else {
            return Err(invalid(
                "the host is neither a name, an address nor a network",
            ));
        };
        Ok(Self(Target::Ip { host, port }))
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = match &self.0 {
            Target::Ip { host, port } => (host, port),
            Target::Unix(name) => return name.fmt(f),
        };
        match host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Network(IpNet::V4(network)) => write!(f, "{network}")?,
            HostPattern::Network(IpNet::V6(network)) => write!(f, "[{network}]")?,
        }
        match port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

/// A spelling such as `127.1` or `0x7f000001` is no name: getaddrinfo would read it as an address.
fn is_name(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    !last.is_empty()
        && !last.starts_with(|first: char| first.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// Returns whether an address can be covered by a name or `*`: not this machine, not the link.
fn is_public(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.octets().starts_with(&[0]) || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants {
            connect: texts.iter().map(|text| text.parse().unwrap()).collect(),
            ..Grants::default()
        }
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let none = Grants::default();
        assert!(!none.allows_address(None, "192.0.2.1:25".parse().unwrap()));
        assert!(!none.allows_look_up("example.net"));
    }

    #[test]
    fn a_grant_covers_what_it_says() {
        for (grant, name, address, allowed) in [
            ("192.0.2.1:25", None, "192.0.2.1:25", true),
            ("192.0.2.1:25", None, "192.0.2.1:26", false),
            ("192.0.2.1:*", None, "192.0.2.1:26", true),
            ("192.0.2.1:25", None, "[::ffff:192.0.2.1]:25", true),
            ("10.0.0.0/8:*", None, "10.1.2.3:1", true),
            ("10.0.0.0/8:*", Some("x.test"), "10.1.2.3:1", true),
            ("10.0.0.0/8:*", None, "11.1.2.3:1", false),
            ("[fd00::/8]:*", None, "[fd00::1]:1", true),
            ("x.test:25", Some("x.test"), "192.0.2.1:25", true),
            ("x.test:25", Some("y.test"), "192.0.2.1:25", false),
            ("x.test:25", None, "192.0.2.1:25", false),
            ("x.test:25", Some("x.test"), "127.0.0.1:25", false),
            ("x.test:25", Some("x.test"), "[::1]:25", false),
            ("x.test:25", Some("x.test"), "[::ffff:127.0.0.1]:25", false),
            ("x.test:25", Some("x.test"), "0.0.0.0:25", false),
            ("x.test:25", Some("x.test"), "169.254.1.1:25", false),
            ("x.test:25", Some("x.test"), "[fe80::1]:25", false),
            ("localhost:25", Some("localhost"), "127.0.0.1:25", true),
            ("localhost:25", Some("localhost"), "169.254.1.1:25", false),
            ("127.0.0.1:25", None, "127.0.0.1:25", true),
            ("*:25", None, "192.0.2.1:25", true),
            ("*:25", None, "127.0.0.1:25", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                grants(&[grant]).allows_address(name, address),
                allowed,
                "{grant} {name:?} {address}"
            );
        }
    }

    #[test]
    fn what_is_not_a_grant_is_refused() {
        for text in [
            "",
            "x.test",
            "x.test:",
            "x.test:65536",
            "::1:25",
            "127.1:25",
            "0x7f000001:25",
            "2130706433:25",
            "x test:1",
            "10.0.0.0/33:1",
            "unix:x.sock",
            "unix://x.sock",
            "unix:/",
            "unix:@",
            "unix:/run//x.sock",
            "unix:/run/../x.sock",
            "unix:/run/%2e/x.sock",
            "unix:/run/x.sock/",
            "unix:/run/x.sock?mode=600",
            "unix:/run/x.sock?proxy=v1",
        ] {
            assert!(text.parse::<ConnectGrant>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_spelling_survives_a_round_trip() {
        for text in [
            "x.test:25",
            "10.0.0.0/8:*",
            "[fd00::/8]:1",
            "*:*",
            "unix:25",
            "unix:///run/a%20b.sock",
            "unix:@name",
        ] {
            assert_eq!(text.parse::<ConnectGrant>().unwrap().to_string(), text);
        }
        let short: ConnectGrant = "unix:/run/x.sock".parse().unwrap();
        assert_eq!(short.to_string(), "unix:///run/x.sock");
        assert_eq!(short.to_string().parse(), Ok(short));
    }

    #[test]
    fn a_unix_socket_is_granted_by_its_exact_name_only() {
        let name = |url: &str| match url.parse().unwrap() {
            Endpoint::Unix(endpoint) => endpoint.address,
            other => panic!("{other} is no UNIX socket"),
        };
        for (grant, url, allowed) in [
            ("unix:/run/x.sock", "unix:///run/x.sock", true),
            ("unix:/run/x.sock", "unix:///run/x.sock2", false),
            ("unix:/run/x.sock", "unix:///run", false),
            ("unix:/run", "unix:///run/x.sock", false),
            ("unix:@x", "unix:@x", true),
            ("unix:@x", "unix:@y", false),
            ("unix:/@x", "unix:@x", false),
            ("*:*", "unix:///run/x.sock", false),
            ("unix:25", "unix:@25", false),
        ] {
            let allows = grants(&[grant]).allows_unix(&name(url));
            assert_eq!(allows, allowed, "{grant} {url}");
        }
        let grants = grants(&["unix:/run/x.sock"]);
        assert!(!grants.allows_look_up("x"));
        assert!(!grants.allows_address(None, "192.0.2.1:25".parse().unwrap()));
    }
}
