//! Endpoints: the URLs that say where to listen and where to connect.
//!
//! One grammar for both directions:
//!
//! | URL | options (`?name=value&...`) |
//! |---|---|
//! | `tcp://127.0.0.1:6667`, `tcp://[::]:6667` (dual stack), `tcp://name:25` | `backlog`, `nodelay`, `keepalive` |
//! | `unix:///run/x.sock` | `backlog`, `mode` |

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use thiserror::Error;
use url::{Host, Url};

/// Where to listen, or where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A byte stream over TCP.
    Tcp(TcpEndpoint),
    /// A byte stream over a UNIX socket.
    Unix(UnixEndpoint),
}

/// A TCP endpoint: host, port, and the options of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpEndpoint {
    /// An address, or a name to look up.
    pub host: HostName,
    /// The port; 0 asks the system for a free one, when listening.
    pub port: u16,
    /// How many connections the kernel holds before they are accepted. Default 1024; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether small writes are sent at once. Default on: the host joins the writes of one turn itself.
    pub nodelay: Switch,
    /// The idle time after which the kernel probes the peer; none (the default) never does.
    pub keepalive: Option<Duration>,
}

/// A UNIX socket endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixEndpoint {
    /// The socket's path, absolute.
    pub path: PathBuf,
    /// The socket's permission bits; none (the default) leaves what the process's umask gives.
    pub mode: Option<u32>,
    /// As for TCP.
    pub backlog: u32,
}

/// The host part of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A literal address.
    Address(IpAddr),
    /// A name, in lower case, to be looked up.
    Name(String),
}

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The option is set.
    On,
    /// The option is not set.
    Off,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// It is not a URL at all.
    #[error(
        "`{url}` is not an endpoint: {reason}; an endpoint looks like `tcp://127.0.0.1:6667` or `unix:///run/x.sock`"
    )]
    NotUrl {
        /// The text.
        url: String,
        /// What the URL parser said.
        reason: String,
    },
    /// The scheme is none that the host has.
    #[error("`{url}`: unknown transport `{scheme}`; known are tcp, unix")]
    UnknownScheme {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A part is missing, or there is one too many.
    #[error("`{url}`: {reason}")]
    Malformed {
        /// The text.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The transport has no such option.
    #[error("`{url}`: unknown option `{option}`; `{scheme}` has {known}")]
    UnknownOption {
        /// The text.
        url: String,
        /// The transport.
        scheme: &'static str,
        /// The option's name.
        option: String,
        /// The options that the transport has.
        known: &'static str,
    },
    /// An option's value is wrong.
    #[error("`{url}`: option `{option}` cannot be `{value}`; expected {expected}")]
    WrongOption {
        /// The text.
        url: String,
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|error| EndpointError::NotUrl {
            url: text.to_owned(),
            reason: error.to_string(),
        })?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(malformed(
                text,
                "an endpoint has neither a user nor a fragment",
            ));
        }
        match url.scheme() {
            "tcp" => TcpEndpoint::from_url(text, &url).map(Self::Tcp),
            "unix" => UnixEndpoint::from_url(text, &url).map(Self::Unix),
            scheme => Err(EndpointError::UnknownScheme {
                url: text.to_owned(),
                scheme: scheme.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(tcp) => tcp.fmt(f),
            Self::Unix(unix) => unix.fmt(f),
        }
    }
}

impl TcpEndpoint {
    /// Returns the endpoint of a literal address, with every option at its default.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            host: HostName::Address(address.ip()),
            port: address.port(),
            backlog: DEFAULT_BACKLOG,
            nodelay: Switch::On,
            keepalive: None,
        }
    }

    fn from_url(text: &str, url: &Url) -> Result<Self, EndpointError> {
        if !matches!(url.path(), "" | "/") {
            return Err(malformed(text, "a TCP endpoint has no path"));
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => HostName::Address(IpAddr::V6(address)),
            Some(Host::Ipv4(address)) => HostName::Address(IpAddr::V4(address)),
            Some(Host::Domain("")) | None => {
                return Err(malformed(
                    text,
                    "the host is missing; write `tcp://127.0.0.1:PORT`",
                ));
            }
            // `tcp` is not one of the URL standard's special schemes, so IPv4 arrives here; only the four-part decimal spelling is an address.
            Some(Host::Domain(name)) => match name.parse() {
                Ok(address) => HostName::Address(IpAddr::V4(address)),
                Err(_) => HostName::Name(name.to_ascii_lowercase()),
            },
        };
        let port = url
            .port()
            .ok_or_else(|| malformed(text, "the port is missing"))?;
        let mut endpoint = Self {
            host,
            port,
            backlog: DEFAULT_BACKLOG,
            nodelay: Switch::On,
            keepalive: None,
        };
        for (name, value) in url.query_pairs() {
            match &*name {
                "backlog" => endpoint.backlog = parse_backlog(text, &value)?,
                "nodelay" => endpoint.nodelay = parse_switch(text, "nodelay", &value)?,
                "keepalive" => endpoint.keepalive = parse_keepalive(text, &value)?,
                _ => {
                    return Err(unknown_option(
                        text,
                        "tcp",
                        &name,
                        "backlog, nodelay, keepalive",
                    ));
                }
            }
        }
        Ok(endpoint)
    }
}

impl fmt::Display for TcpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)?;
        let mut query = Query::default();
        query.option(
            "backlog",
            (self.backlog != DEFAULT_BACKLOG).then_some(self.backlog),
        );
        query.option("nodelay", (self.nodelay == Switch::Off).then_some("off"));
        query.option(
            "keepalive",
            self.keepalive.map(|idle| format!("{}s", idle.as_secs())),
        );
        f.write_str(&query.0)
    }
}

impl UnixEndpoint {
    fn from_url(text: &str, url: &Url) -> Result<Self, EndpointError> {
        if url.has_host() || !url.path().starts_with('/') || url.path() == "/" {
            return Err(malformed(
                text,
                "a UNIX socket has an absolute path: `unix:///run/x.sock`",
            ));
        }
        let path = percent_decode(url.path())
            .ok_or_else(|| malformed(text, "the path is not percent-encoded UTF-8 without NUL"))?;
        let mut endpoint = Self {
            path: PathBuf::from(path),
            mode: None,
            backlog: DEFAULT_BACKLOG,
        };
        for (name, value) in url.query_pairs() {
            match &*name {
                "backlog" => endpoint.backlog = parse_backlog(text, &value)?,
                "mode" => endpoint.mode = Some(parse_mode(text, &value)?),
                _ => return Err(unknown_option(text, "unix", &name, "backlog, mode")),
            }
        }
        Ok(endpoint)
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unix://")?;
        for character in self.path.to_string_lossy().chars() {
            match character {
                '%' | '?' | '#' | ' ' | '"' | '<' | '>' | '`' | '{' | '}' | '^' | '\\' => {
                    write!(f, "%{:02X}", u32::from(character))?;
                }
                _ if character.is_ascii_control() => write!(f, "%{:02X}", u32::from(character))?,
                _ => write!(f, "{character}")?,
            }
        }
        let mut query = Query::default();
        query.option(
            "backlog",
            (self.backlog != DEFAULT_BACKLOG).then_some(self.backlog),
        );
        query.option("mode", self.mode.map(|mode| format!("{mode:o}")));
        f.write_str(&query.0)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Returns the address that an IPv4-mapped IPv6 address stands for, and any other address as it is.
pub(crate) fn unmap(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Returns the IPv6 form of an address, in which IPv4 is mapped.
pub(crate) fn map(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The options of an endpoint that are not at their default, as a query string.
#[derive(Default)]
struct Query(String);

impl Query {
    fn option(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            let separator = if self.0.is_empty() { '?' } else { '&' };
            self.0.push(separator);
            self.0.push_str(&format!("{name}={value}"));
        }
    }
}

fn malformed(url: &str, reason: &'static str) -> EndpointError {
    EndpointError::Malformed {
        url: url.to_owned(),
        reason,
    }
}

fn unknown_option(
    url: &str,
    scheme: &'static str,
    option: &str,
    known: &'static str,
) -> EndpointError {
    EndpointError::UnknownOption {
        url: url.to_owned(),
        scheme,
        option: option.to_owned(),
        known,
    }
}

fn wrong_option(
    url: &str,
    option: &'static str,
    value: &str,
    expected: &'static str,
) -> EndpointError {
    EndpointError::WrongOption {
        url: url.to_owned(),
        option,
        value: value.to_owned(),
        expected,
    }
}

fn parse_backlog(url: &str, value: &str) -> Result<u32, EndpointError> {
    match value.parse() {
        Ok(backlog @ 1..=65_535) => Ok(backlog),
        _ => Err(wrong_option(
            url,
            "backlog",
            value,
            "a number from 1 to 65535",
        )),
    }
}

fn parse_switch(url: &str, option: &'static str, value: &str) -> Result<Switch, EndpointError> {
    match value {
        "on" => Ok(Switch::On),
        "off" => Ok(Switch::Off),
        _ => Err(wrong_option(url, option, value, "`on` or `off`")),
    }
}

fn parse_keepalive(url: &str, value: &str) -> Result<Option<Duration>, EndpointError> {
    let expected = "`off` or seconds from `1s` to `32767s`";
    if value == "off" {
        return Ok(None);
    }
    let seconds = value
        .strip_suffix('s')
        .and_then(|digits| digits.parse().ok());
    match seconds {
        Some(seconds @ 1..=32_767) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(wrong_option(url, "keepalive", value, expected)),
    }
}

fn parse_mode(url: &str, value: &str) -> Result<u32, EndpointError> {
    match u32::from_str_radix(value, 8) {
        Ok(mode @ 0..=0o777) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(mode),
        _ => Err(wrong_option(
            url,
            "mode",
            value,
            "octal permission bits such as `660`",
        )),
    }
}

fn percent_decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|path| !path.contains('\0'))
}

const DEFAULT_BACKLOG: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_survives_a_round_trip() {
        for url in [
            "tcp://127.0.0.1:6667",
            "tcp://[::]:6667",
            "tcp://[::1]:0",
            "tcp://irc.example.net:6667",
            "tcp://127.0.0.1:25?backlog=7",
            "tcp://127.0.0.1:25?nodelay=off&keepalive=60s",
            "unix:///run/x.sock",
            "unix:///run/a%20b%3F.sock?backlog=5&mode=660",
        ] {
            let endpoint: Endpoint = url.parse().unwrap();
            assert_eq!(endpoint.to_string(), url);
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn only_four_decimal_parts_are_an_ipv4_address() {
        for name in ["127.1", "0x7f000001", "2130706433", "0177.0.0.1"] {
            let Endpoint::Tcp(endpoint) = format!("tcp://{name}:1").parse().unwrap() else {
                panic!("not TCP");
            };
            assert_eq!(endpoint.host, HostName::Name(name.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, message) in [
            ("6667", "`6667` is not an endpoint"),
            (
                "http://127.0.0.1:1",
                "unknown transport `http`; known are tcp, unix",
            ),
            ("tcp://127.0.0.1", "the port is missing"),
            ("tcp://:1", "not an endpoint"),
            ("tcp://127.0.0.1:1/x", "a TCP endpoint has no path"),
            ("tcp://127.0.0.1:66667", "invalid port number"),
            ("tcp://u@127.0.0.1:1", "neither a user nor a fragment"),
            (
                "tcp://127.0.0.1:1?mode=1",
                "unknown option `mode`; `tcp` has backlog, nodelay, keepalive",
            ),
            (
                "tcp://127.0.0.1:1?backlog=0",
                "option `backlog` cannot be `0`",
            ),
            ("tcp://127.0.0.1:1?nodelay=1", "expected `on` or `off`"),
            (
                "tcp://127.0.0.1:1?keepalive=1",
                "option `keepalive` cannot be `1`",
            ),
            (
                "unix://run/x.sock",
                "a UNIX socket has an absolute path: `unix:///run/x.sock`",
            ),
            ("unix:///x?mode=999", "octal permission bits"),
            ("unix:///x?mode=+7", "octal permission bits"),
            ("unix:///x%00", "without NUL"),
            ("unix:///x?nodelay=on", "`unix` has backlog, mode"),
        ] {
            let error = url.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(message), "{url}: {error}");
        }
    }
}
