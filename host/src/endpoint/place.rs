//! What listeners cannot share.

use std::net::IpAddr;

use super::{Endpoint, HostName, UnixName};

/// Where an endpoint listens, whatever its options: two listeners of one place are one too many, or one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(HostName, u16),
    Udp(HostName, u16),
    Unix(UnixName),
    Systemd(String),
    Fd(i32),
    Stdio,
}

impl Place {
    /// Returns where an endpoint listens.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp(it) => Self::Tcp(it.host.clone(), it.port),
            Endpoint::Udp(it) => Self::Udp(it.host.clone(), it.port),
            Endpoint::Unix(it) => Self::Unix(it.address.clone()),
            Endpoint::Systemd(it) => Self::Systemd(it.which.clone()),
            Endpoint::Fd(it) => Self::Fd(it.which),
            Endpoint::Stdio => Self::Stdio,
        }
    }

    /// Returns whether the system refuses one of the two where the other is, as far as that can be told without looking names up.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            _ if self.is_any() || other.is_any() => false,
            (Self::Tcp(host, port), Self::Tcp(there, taken))
            | (Self::Udp(host, port), Self::Udp(there, taken)) => {
                port == taken && (host == there || covers(host, there) || covers(there, host))
            }
            _ => self == other,
        }
    }

    /// Returns whether the system finds a free one for everybody who asks: port 0.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self, Self::Tcp(_, 0) | Self::Udp(_, 0))
    }
}

/// Returns whether one is a wildcard that the other is in; that of IPv6 is for IPv4 too.
fn covers(wildcard: &HostName, host: &HostName) -> bool {
    let HostName::Address(wildcard) = wildcard else {
        return false;
    };
    let is_ip4 = matches!(host, HostName::Address(IpAddr::V4(_)));
    wildcard.is_unspecified() && (wildcard.is_ipv6() || is_ip4 || matches!(host, HostName::Name(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_meets_every_address_of_its_port() {
        let place = |url: &str| Place::of(&url.parse().unwrap());
        for (one, other, expected) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
            ("tcp://127.0.0.1:1", "tls://127.0.0.1:1?cert=a", true),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", false),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", false),
            ("tcp://127.0.0.1:1", "udp://127.0.0.1:1", false),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", false),
            ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", true),
            ("tcp://[::]:1", "tcp://127.0.0.1:1", true),
            ("tcp://[::]:1", "tcp://0.0.0.0:1", true),
            ("tcp://0.0.0.0:1", "tcp://[::1]:1", false),
            ("udp://[::]:1", "udp://localhost:1", true),
            ("unix:///a", "unix:///a?mode=600", true),
            ("unix:///a", "unix:///b", false),
        ] {
            assert_eq!(place(one).meets(&place(other)), expected, "{one} {other}");
            assert_eq!(place(other).meets(&place(one)), expected, "{other} {one}");
        }
    }
}
