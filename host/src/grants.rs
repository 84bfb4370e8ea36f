//! Grants: what a service may do beyond its own connections. Nothing is granted by default.
//!
//! # What a grant to connect covers
//!
//! | the grant's host | covers |
//! |---|---|
//! | an address (`192.0.2.1`, `[::1]`) | that address |
//! | a network (`10.0.0.0/8`, `[fd00::/8]`) | every address in it, loopback and link-local ones included: `0.0.0.0/0` is *all* of IPv4, `[::/0]` all of IPv6 |
//! | `localhost` | 127.0.0.0/8 and `::1`, when that name is connected to |
//! | another name (`db.example.net`) | the addresses that this name resolves to, if they are global or private; never its subdomains |
//! | `*` | every name and every address, if it is global |
//!
//! [`Reach`] says which addresses are global and which are private. So a name works for a server on the operator's own network, as whoever grants
//! `db.internal:5432` expects, while `*` is the internet and not the network that the host stands in. Addresses of this machine other than loopback
//! are treated like any other of their range.
//!
//! An IPv4-mapped IPv6 address is the IPv4 address that it maps (RFC 4291, section 2.5.5.2), in grants as in what is asked for; `0.0.0.0` and `::` are `127.0.0.1` and `::1`,
//! which is where the kernel connects to. There are no scope ids: neither a grant nor an endpoint can name the interface of a link-local IPv6
//! address, so that connecting to one fails even where it is granted.
//!
//! # What may be looked up
//!
//! A name that a grant names; any name if there is a grant of a network of more than one address, or of `*`. **Such a grant lets the plugin tell
//! something to the name servers that answer for the names it makes up**; where that matters, grant names and single addresses alone. Names under
//! `localhost` are answered by the host itself and tell nobody anything.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    accounts::Accounts,
    endpoint::{
        Endpoint, StreamOptions, UnixEndpoint, UnixName, is_host_name, unmap, unmap_network,
    },
    files::HostFile,
    storage::Directory,
};

/// What a service was granted.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Where it may connect to.
    pub connect: Vec<ConnectGrant>,
    /// The files that it may use, by the names that it knows them by.
    pub files: BTreeMap<String, HostFile>,
    /// The directories that it may use, by the names that it knows them by.
    pub directories: BTreeMap<String, Directory>,
    /// Users whose passwords it may have verified.
    pub users: Option<Arc<Accounts>>,
    /// Whether it may let people in who do not say who they are.
    pub anonymous: bool,
}

/// Leave to connect, to send datagrams unasked, and to join a multicast group (at any port): `HOST:PORT`, where HOST is a name, an address, a network
/// (`10.0.0.0/8`), or `*`, and PORT a number or `*`; or one UNIX socket, `unix:/run/x.sock` or `unix:@name`, percent-encoded like the
/// endpoint's URL.
///
/// The [module](self) says what it covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectGrant(Target);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Ip {
        host: HostPattern,
        port: Option<u16>,
    },
    Unix(UnixName),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HostPattern {
    Any,
    /// In lower case, without the root's dot.
    Name(String),
    /// Never one of IPv4-mapped addresses.
    Network(IpNet),
}

/// How far an address reaches, which says what kind of grant covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing but an address, a network or (loopback) `localhost` in a grant covers it: loopback (127.0.0.0/8, `::1`), unspecified (0.0.0.0/8, `::`),
    /// link-local (169.254.0.0/16, where clouds keep their credentials, and fe80::/10), multicast, broadcast, and whatever is not
    /// allocated for unicast: 240.0.0.0/4, and in IPv6 all but 2000::/3, fc00::/7 and 64:ff9b::/96 (site-local fec0::/10, IPv4-compatible ::/96,
    /// IPv4-translated ::ffff:0:0:0/96 and local NAT64 64:ff9b:1::/48 among it).
    Special,
    /// A name covers it, `*` does not: 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918), 100.64.0.0/10 (RFC 6598), 192.0.0.0/24 (RFC 6890), 198.18.0.0/15
    /// (RFC 2544) and fc00::/7 (RFC 4193).
    Private,
    /// Names and `*` cover it: everything else.
    Global,
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

/// The ports that a grant reaches by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpPorts {
    /// It is about a UNIX socket.
    None,
    One(u16),
    Any,
}

impl ConnectGrant {
    /// Returns which ports it reaches.
    pub(crate) fn tcp_ports(&self) -> TcpPorts {
        match &self.0 {
            Target::Unix(_) => TcpPorts::None,
            Target::Ip { port: None, .. } => TcpPorts::Any,
            Target::Ip {
                port: Some(port), ..
            } => TcpPorts::One(*port),
        }
    }

    /// Returns whether it is about a UNIX socket without a file.
    pub(crate) fn is_abstract(&self) -> bool {
        matches!(&self.0, Target::Unix(UnixName::Abstract(_)))
    }
}

impl Grants {
    /// Returns whether an address may be connected to, which `name` (if any) resolved to.
    pub fn allows_address(&self, name: Option<&str>, address: SocketAddr) -> bool {
        let ip = destination(address.ip());
        let reach = Reach::of(ip);
        let name = name.map(normal);
        self.connect.iter().any(|ConnectGrant(target)| {
            let Target::Ip { host, port } = target else {
                return false;
            };
            port.is_none_or(|port| port == address.port())
                && match host {
                    HostPattern::Network(network) => network.contains(&ip),
                    HostPattern::Any => reach == Reach::Global,
                    HostPattern::Name(granted) => {
                        name.as_ref() == Some(granted)
                            && (reach != Reach::Special || granted == LOCALHOST && ip.is_loopback())
                    }
                }
        })
    }

    /// Returns whether a name may be looked up, to connect to this port or (none) for its own sake: a grant names it, or could cover an address that it has.
    pub fn allows_look_up(&self, name: &str, port: Option<u16>) -> bool {
        let name = normal(name);
        let is_local = is_localhost(&name);
        self.connect.iter().any(|ConnectGrant(target)| {
            let Target::Ip {
                host,
                port: granted,
            } = target
            else {
                return false;
            };
            port.is_none_or(|port| granted.is_none_or(|granted| granted == port))
                && match host {
                    HostPattern::Any => true,
                    HostPattern::Network(network) => {
                        is_local || network.prefix_len() < network.max_prefix_len()
                    }
                    HostPattern::Name(granted) => *granted == name,
                }
        })
    }

    /// Returns whether a multicast group may be joined: a grant of its address, or of a network that it is in, at any port.
    pub fn allows_group(&self, group: IpAddr) -> bool {
        let group = unmap(group);
        self.connect
            .iter()
            .any(|ConnectGrant(target)| match target {
                Target::Ip {
                    host: HostPattern::Network(network),
                    ..
                } => network.contains(&group),
                Target::Ip { .. } | Target::Unix(_) => false,
            })
    }

    /// Returns whether a UNIX socket may be connected to: a grant names exactly it.
    pub fn allows_unix(&self, name: &UnixName) -> bool {
        let mut targets = self.connect.iter().map(|ConnectGrant(target)| target);
        targets.any(|target| matches!(target, Target::Unix(granted) if granted == name))
    }
}

impl Reach {
    /// Returns how far an address reaches. One that carries an IPv4 address on its way (NAT64, 6to4, Teredo) reaches no further than that.
    pub fn of(ip: IpAddr) -> Self {
        match unmap(ip) {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [0 | 127 | 224..=255, ..] | [169, 254, ..] => Self::Special,
            [10, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [198, 18..=19, ..] => Self::Private,
            _ => Self::Global,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        let v4 = |high: u16, low: u16| {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match ip.segments() {
            // NAT64 (RFC 6052, section 2.1).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
            // 6to4 (RFC 3056, section 2).
            [0x2002, high, low, ..] => v4(high, low),
            // Teredo (RFC 4380, section 4): the server's address, and the client's with every bit inverted.
            [0x2001, 0, high, low, _, _, client_high, client_low] => {
                v4(high, low).narrower(v4(!client_high, !client_low))
            }
            [0x2000..=0x3fff, ..] => Self::Global,
            [0xfc00..=0xfdff, ..] => Self::Private,
            _ => Self::Special,
        }
    }

    fn narrower(self, other: Self) -> Self {
        match (self, other) {
            (Self::Special, _) | (_, Self::Special) => Self::Special,
            (Self::Private, _) | (_, Self::Private) => Self::Private,
            (Self::Global, Self::Global) => Self::Global,
        }
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
            if unmap(address).is_unspecified() {
                return Err(invalid(
                    "no server has the address 0.0.0.0 or ::; `*` is any host",
                ));
            }
            HostPattern::Network(unmap(address).into())
        } else if let Ok(network) = bare.parse::<IpNet>() {
            HostPattern::Network(unmap_network(network.trunc()))
        } else if is_host_name(bare) {
            HostPattern::Name(normal(bare))
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

/// Returns whether a name is `localhost` or under it: always this machine, and nobody's to answer (RFC 6761, section 6.3).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = normal(name);
    name == LOCALHOST
        || name
            .strip_suffix(LOCALHOST)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// A name as grants have it: in lower case, without the root's dot.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The address that the kernel connects to.
fn destination(ip: IpAddr) -> IpAddr {
    match unmap(ip) {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

const LOCALHOST: &str = "localhost";

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
        assert!(!none.allows_look_up("example.net", None));
        assert!(!none.allows_look_up("localhost", None));
    }

    #[test]
    fn a_grant_covers_what_it_says() {
        for (grant, name, address, allowed) in [
            ("192.0.2.1:25", None, "192.0.2.1:25", true),
            ("192.0.2.1:25", None, "192.0.2.1:26", false),
            ("192.0.2.1:*", None, "192.0.2.1:26", true),
            ("192.0.2.1:25", None, "[::ffff:192.0.2.1]:25", true),
            ("[::ffff:192.0.2.1]:25", None, "192.0.2.1:25", true),
            ("10.0.0.0/8:*", None, "10.1.2.3:1", true),
            ("10.0.0.0/8:*", None, "[::ffff:10.1.2.3]:1", true),
            ("10.0.0.0/8:*", Some("x.test"), "10.1.2.3:1", true),
            ("10.0.0.0/8:*", None, "11.1.2.3:1", false),
            ("[::ffff:10.0.0.0/104]:*", None, "10.1.2.3:1", true),
            ("[::ffff:10.0.0.0/104]:*", None, "[::ffff:10.1.2.3]:1", true),
            ("[::ffff:10.0.0.0/104]:*", None, "11.1.2.3:1", false),
            ("[fd00::/8]:*", None, "[fd00::1]:1", true),
            ("0.0.0.0/0:*", None, "127.0.0.1:1", true),
            ("0.0.0.0/0:*", None, "[::1]:1", false),
            ("[::/0]:*", None, "[::1]:1", true),
            ("[::/0]:*", None, "127.0.0.1:1", false),
            ("[::/0]:*", None, "[::ffff:127.0.0.1]:1", false),
            // Where the kernel goes counts.
            ("0.0.0.0/8:*", None, "0.0.0.0:1", false),
            ("[::/127]:*", None, "[::]:1", true),
            ("127.0.0.1:*", None, "0.0.0.0:1", true),
            ("x.test:25", Some("x.test"), "192.0.2.1:25", true),
            ("x.test:25", Some("X.Test."), "192.0.2.1:25", true),
            ("X.TEST.:25", Some("x.test"), "192.0.2.1:25", true),
            ("x.test:25", Some("a.x.test"), "192.0.2.1:25", false),
            ("x.test:25", Some("y.test"), "192.0.2.1:25", false),
            ("x.test:25", None, "192.0.2.1:25", false),
            ("x.test:25", Some("x.test"), "10.0.0.1:25", true),
            ("x.test:25", Some("x.test"), "[fd00::1]:25", true),
            ("x.test:25", Some("x.test"), "127.0.0.1:25", false),
            ("x.test:25", Some("x.test"), "[::1]:25", false),
            ("x.test:25", Some("x.test"), "[::ffff:127.0.0.1]:25", false),
            ("x.test:25", Some("x.test"), "0.0.0.0:25", false),
            ("x.test:25", Some("x.test"), "169.254.1.1:25", false),
            ("x.test:25", Some("x.test"), "[fe80::1]:25", false),
            ("x.test:25", Some("x.test"), "[64:ff9b::7f00:1]:25", false),
            ("localhost:25", Some("localhost"), "127.0.0.1:25", true),
            ("localhost:25", Some("localhost."), "127.0.0.1:25", true),
            ("localhost:25", Some("localhost"), "[::1]:25", true),
            ("localhost:25", Some("a.localhost"), "127.0.0.1:25", false),
            ("a.localhost:25", Some("a.localhost"), "127.0.0.1:25", false),
            ("localhost:25", None, "127.0.0.1:25", false),
            ("localhost:25", Some("localhost"), "169.254.1.1:25", false),
            ("127.0.0.1:25", None, "127.0.0.1:25", true),
            ("169.254.169.254:80", None, "169.254.169.254:80", true),
            ("*:25", None, "192.0.2.1:25", true),
            ("*:25", Some("x.test"), "192.0.2.1:25", true),
            ("*:25", None, "127.0.0.1:25", false),
            ("*:25", None, "10.0.0.1:25", false),
            ("*:25", Some("x.test"), "10.0.0.1:25", false),
            ("*:25", Some("localhost"), "127.0.0.1:25", false),
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
    fn an_address_reaches_no_further_than_the_one_it_carries() {
        for (addresses, reach) in [
            (
                "127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
                 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1 \
                 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::0.0.0.0 64:ff9b:1::7f00:1 64:ff9b:1:2::808:808 64:ff9b::1:808:808 \
                 2002:7f00:1:: 2002:a9fe:a9fe::1 2001:0:7f00:1::f7f7:f7f7 2001:0:808:808::80ff:fffe 100::1 200::1 4000::1 5f00::1 fe00::1",
                Reach::Special,
            ),
            (
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 100.127.255.255 192.0.0.8 198.18.0.1 198.19.255.255 ::ffff:10.0.0.1 \
                 fc00::1 fd00::1 fdff::1 64:ff9b::10.0.0.1 2002:a00:1::1 2001:0:808:808::f5ff:fffe",
                Reach::Private,
            ),
            (
                "8.8.8.8 1.1.1.1 126.255.255.255 128.0.0.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 169.253.0.1 192.0.2.1 198.20.0.1 223.255.255.255 \
                 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2001:0:808:808::f7f7:f7f7 2001:db8::1 2001:4860:4860::8888 2600::1 3fff::1",
                Reach::Global,
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }

    #[test]
    fn names_are_looked_up_that_a_grant_names_or_could_cover() {
        for (grant, name, port, allowed) in [
            ("x.test:25", "x.test", None, true),
            ("x.test:25", "X.TEST.", Some(25), true),
            ("x.test:25", "x.test", Some(26), false),
            ("x.test:25", "y.test", None, false),
            ("x.test:25", "a.x.test", None, false),
            ("*:25", "x.test", None, true),
            ("*:25", "x.test", Some(26), false),
            ("10.0.0.0/8:*", "x.test", Some(1), true),
            ("192.0.2.1:*", "x.test", None, false),
            ("192.0.2.1/32:*", "x.test", None, false),
            ("[::1]:*", "x.test", None, false),
            // The host answers these itself.
            ("127.0.0.1:*", "localhost", Some(25), true),
            ("127.0.0.1:*", "a.localhost.", None, true),
            ("localhost:*", "a.localhost", None, false),
            ("127.0.0.1:*", "notlocalhost", None, false),
        ] {
            assert_eq!(
                grants(&[grant]).allows_look_up(name, port),
                allowed,
                "{grant} {name} {port:?}"
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
            "0177.0.0.1:25",
            "x test:1",
            "x..test:1",
            ".:1",
            "*.test:1",
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
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:0.0.0.0]:1",
            "[fe80::1%eth0]:1",
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
        for (text, shown) in [
            ("X.Test.:25", "x.test:25"),
            ("[::ffff:127.0.0.0/104]:1", "127.0.0.0/8:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1/32:1"),
        ] {
            assert_eq!(text.parse::<ConnectGrant>().unwrap().to_string(), shown);
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
        assert!(!grants.allows_look_up("x", None));
        assert!(!grants.allows_address(None, "192.0.2.1:25".parse().unwrap()));
    }
}
