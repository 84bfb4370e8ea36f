//! Grants: what a service may do beyond its own connections. Nothing is granted by default.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;

use crate::endpoint::unmap;

/// What a service was granted.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Where it may connect to.
    pub connect: Vec<ConnectGrant>,
}

/// Leave to connect, to send datagrams unasked, and to join a multicast group (at any port): `HOST:PORT`, where HOST is a name, an address, a
/// network (`10.0.0.0/8`), or `*`, and PORT a number or `*`.
///
/// A name covers the addresses that it resolves to, except loopback, link-local and unspecified ones: those need a literal address, a
/// network, or `localhost`. `*` covers every name and address but those and multicast groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectGrant {
    host: HostPattern,
    port: Option<u16>,
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
    "`{text}` is not a HOST:PORT to allow: {reason}; examples: irc.example.net:6667, 10.0.0.0/8:*, [::1]:53"
)]
pub struct InvalidGrant {
    text: String,
    reason: &'static str,
}

impl Grants {
    /// Returns whether an address may be connected to, which `name` (if any) resolved to.
    pub fn allows_address(&self, name: Option<&str>, address: SocketAddr) -> bool {
        let ip = unmap(address.ip());
        self.connect.iter().any(|grant| {
            grant.port.is_none_or(|port| port == address.port())
                && match &grant.host {
                    HostPattern::Network(network) => network.contains(&ip),
                    HostPattern::Any => is_public(ip),
                    HostPattern::Name(granted) => {
                        name == Some(granted.as_str())
                            && (is_public(ip) || granted == "localhost" && ip.is_loopback())
                    }
                }
        })
    }

    /// Returns whether a multicast group may be joined: a grant of its address, or of a network that it is in, at any port.
    pub fn allows_group(&self, group: IpAddr) -> bool {
        let group = unmap(group);
        self.connect.iter().any(|grant| match &grant.host {
            HostPattern::Network(network) => network.contains(&group),
            HostPattern::Any | HostPattern::Name(_) => false,
        })
    }

    /// Returns whether a name may be looked up: a grant names it, or could cover an address that it has.
    pub fn allows_look_up(&self, name: &str) -> bool {
        self.connect.iter().any(|grant| match &grant.host {
            HostPattern::Any | HostPattern::Network(_) => true,
            HostPattern::Name(granted) => granted == name,
        })
    }
}

impl FromStr for ConnectGrant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let invalid = |reason| InvalidGrant {
            text: text.to_owned(),
            reason,
        };
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
        Ok(Self { host, port })
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Network(IpNet::V4(network)) => write!(f, "{network}")?,
            HostPattern::Network(IpNet::V6(network)) => write!(f, "[{network}]")?,
        }
        match self.port {
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
    fn a_group_needs_a_grant_of_its_address() {
        let group = "224.0.0.251".parse().unwrap();
        for (grant, allowed) in [
            ("224.0.0.251:5353", true),
            ("224.0.0.0/24:*", true),
            ("224.0.0.252:5353", false),
            ("*:*", false),
            ("x.test:5353", false),
        ] {
            assert_eq!(grants(&[grant]).allows_group(group), allowed, "{grant}");
        }
        assert!(!Grants::default().allows_group(group));
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
        ] {
            assert!(text.parse::<ConnectGrant>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_spelling_survives_a_round_trip() {
        for text in ["x.test:25", "10.0.0.0/8:*", "[fd00::/8]:1", "*:*"] {
            assert_eq!(text.parse::<ConnectGrant>().unwrap().to_string(), text);
        }
    }
}
