//! Endpoints: the URLs that say where to listen and where to connect.
//!
//! One grammar for both directions:
//!
//! | URL | what |
//! |---|---|
//! | `tcp://127.0.0.1:6667`, `tcp://[::]:6667` (dual stack), `tcp://name:25` | a byte stream; with `cert=` it can be secured later (STARTTLS) |
//! | `tls://0.0.0.0:6697?cert=a.pem&key=a.key`, `tls://name:6697` | a byte stream that is secured from its first byte |
//! | `udp://127.0.0.1:53`, `udp://[::]:53` (dual stack) | datagrams |
//! | `unix:///run/x.sock`, `unix:@name` (abstract) | a byte stream on this machine |
//! | `systemd://NAME` | sockets that the service manager opened (`FileDescriptorName=` of systemd.socket(5)); `systemd:` is all that have no other listener |
//! | `fd://3` | a socket that the parent process opened: listening, connected, or bound to UDP |
//! | `stdio:` | one connection: standard input and output |
//!
//! Options follow as `?name=value&...`; `options.rs` says which there are, and in which direction each has a meaning. One that is unknown, or
//! wrong, is an error that names it.

mod options;
mod place;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
pub use options::{
    Certificate, ClientAuth, ProxyHeader, StreamOptions, Switch, TlsOptions, TlsVersion,
};
use options::{Reader, Scheme, Writer};
pub(crate) use place::Place;
use thiserror::Error;
use url::{Host, Url};

/// Where to listen, or where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A byte stream over TCP, secured or not.
    Tcp(TcpEndpoint),
    /// Datagrams.
    Udp(UdpEndpoint),
    /// A byte stream over a UNIX socket.
    Unix(UnixEndpoint),
    /// Sockets of the service manager.
    Systemd(InheritedEndpoint<String>),
    /// A socket of the parent process.
    Fd(InheritedEndpoint<i32>),
    /// Standard input and output.
    Stdio,
}

/// A TCP endpoint: host, port, and the options of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpEndpoint {
    /// Whether TLS comes before everything else: `tls` or `tcp`.
    pub security: Security,
    /// An address, or a name to look up.
    pub host: HostName,
    /// The port; 0 asks the system for a free one, when listening.
    pub port: u16,
    /// The stream's options.
    pub options: StreamOptions,
}

/// A UDP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpEndpoint {
    /// An address, or a name to look up.
    pub host: HostName,
    /// The port; 0 asks the system for a free one, when listening.
    pub port: u16,
    /// The address to send from, when connecting. None (the default): the system chooses.
    pub bind: Option<IpAddr>,
    /// Bytes that the kernel holds until they are received. Default: `net.core.rmem_default`; the kernel caps it at `net.core.rmem_max`.
    pub receive_buffer: Option<u32>,
    /// Bytes that the kernel holds until they are sent. Default: `net.core.wmem_default`; the kernel caps it at `net.core.wmem_max`.
    pub send_buffer: Option<u32>,
}

/// A UNIX socket endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixEndpoint {
    /// Where it is.
    pub address: UnixName,
    /// The socket's permission bits; none (the default) leaves what the process's umask gives.
    pub mode: Option<u32>,
    /// The stream's options.
    pub options: StreamOptions,
}

/// What a UNIX socket is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// An absolute path.
    Path(PathBuf),
    /// A name in Linux's abstract namespace (unix(7)): no file, gone with its last socket.
    Abstract(String),
}

/// Sockets that somebody else opened: named by the service manager, or by their descriptor's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedEndpoint<T> {
    /// Which.
    pub which: T,
    /// Whether TLS comes before everything else: `tls=on`.
    pub security: Security,
    /// The options of the streams that they accept.
    pub options: StreamOptions,
}

/// Whether a stream begins with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// It begins in clear.
    #[default]
    Clear,
    /// It begins with a TLS handshake.
    Tls,
}

/// The host part of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A literal address.
    Address(IpAddr),
    /// A name, in lower case, to be looked up.
    Name(String),
}

/// What an endpoint is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Peers come.
    Listening,
    /// The host goes to the peer.
    Connecting,
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
    #[error("`{url}`: unknown transport `{scheme}`; known are {SCHEMES}")]
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
        known: String,
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
    /// An option means something in the other direction only.
    #[error("`{url}`: option `{option}` is not for {direction}; `{scheme}` has {known} there")]
    WrongDirection {
        /// The text.
        url: String,
        /// The transport.
        scheme: &'static str,
        /// The option's name.
        option: &'static str,
        /// What the endpoint was to be used for.
        direction: Direction,
        /// The options that the transport has in that direction.
        known: String,
    },
}

impl Endpoint {
    /// Returns whether the endpoint can be used in a direction: an error for an option that has no meaning there, or is missing.
    pub fn check(&self, direction: Direction) -> Result<(), EndpointError> {
        let url = self.to_string();
        let writer = self.write_options();
        let scheme = self.scheme();
        if let Some(option) = writer.first_not_for(direction) {
            return Err(EndpointError::WrongDirection {
                url,
                scheme: scheme.name(),
                option,
                direction,
                known: scheme.known(Some(direction)),
            });
        }
        let wrong = match (direction, self) {
            (
                Direction::Listening,
                Self::Unix(UnixEndpoint {
                    address: UnixName::Abstract(_),
                    mode: Some(_),
                    ..
                }),
            ) => Some("an abstract name has no file, and so no `mode`"),
            (Direction::Listening, _) if self.security() == Security::Tls => self
                .stream_options()
                .filter(|options| options.tls.certificates.is_empty())
                .map(|_| "TLS needs a certificate: `cert=FILE&key=FILE` or `cert=DIRECTORY`"),
            (Direction::Connecting, Self::Systemd(_) | Self::Fd(_) | Self::Stdio) => {
                Some("there is nothing to connect to: it is for listening")
            }
            (Direction::Connecting, Self::Tcp(TcpEndpoint { port: 0, .. }))
            | (Direction::Connecting, Self::Udp(UdpEndpoint { port: 0, .. })) => {
                Some("there is nothing at port 0 to connect to")
            }
            (Direction::Connecting, _) => self
                .stream_options()
                .filter(|options| options.proxy == Some(ProxyHeader::Auto))
                .map(|_| "`proxy=auto` is for listening; a connection sends `v1` or `v2`"),
            _ => None,
        };
        wrong.map_or(Ok(()), |reason| {
            Err(EndpointError::Malformed { url, reason })
        })
    }

    /// Returns the options of the streams that are accepted or made here; none for datagrams.
    pub fn stream_options(&self) -> Option<&StreamOptions> {
        match self {
            Self::Tcp(endpoint) => Some(&endpoint.options),
            Self::Unix(endpoint) => Some(&endpoint.options),
            Self::Systemd(endpoint) => Some(&endpoint.options),
            Self::Fd(endpoint) => Some(&endpoint.options),
            Self::Udp(_) | Self::Stdio => None,
        }
    }

    /// Returns whether its streams begin with TLS.
    pub fn security(&self) -> Security {
        match self {
            Self::Tcp(endpoint) => endpoint.security,
            Self::Systemd(endpoint) => endpoint.security,
            Self::Fd(endpoint) => endpoint.security,
            Self::Udp(_) | Self::Unix(_) | Self::Stdio => Security::Clear,
        }
    }

    fn scheme(&self) -> Scheme {
        match self {
            Self::Tcp(endpoint) => match endpoint.security {
                Security::Clear => Scheme::Tcp,
                Security::Tls => Scheme::Tls,
            },
            Self::Udp(_) => Scheme::Udp,
            Self::Unix(_) => Scheme::Unix,
            Self::Systemd(_) => Scheme::Systemd,
            Self::Fd(_) => Scheme::Fd,
            Self::Stdio => Scheme::Stdio,
        }
    }

    fn write_options(&self) -> Writer {
        let mut writer = Writer::default();
        match self {
            Self::Tcp(endpoint) => endpoint.options.write(&mut writer),
            Self::Udp(endpoint) => {
                writer.option("bind", endpoint.bind);
                writer.option("receive-buffer", endpoint.receive_buffer);
                writer.option("send-buffer", endpoint.send_buffer);
            }
            Self::Unix(endpoint) => {
                writer.option("mode", endpoint.mode.map(|mode| format!("{mode:o}")));
                endpoint.options.write(&mut writer);
            }
            Self::Systemd(endpoint) => endpoint.write_options(&mut writer),
            Self::Fd(endpoint) => endpoint.write_options(&mut writer),
            Self::Stdio => {}
        }
        writer
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        // The URL parser would remove them in silence.
        if text.contains(|character: char| character.is_control() || character == ' ') {
            // It goes to a terminal.
            let shown: String = text.chars().flat_map(shown).collect();
            return Err(malformed(
                &shown,
                "spaces and control characters are written as %20 and the like",
            ));
        }
        let url = Url::parse(text).map_err(|error| EndpointError::NotUrl {
            url: text.to_owned(),
            reason: error.to_string(),
        })?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.fragment().is_some() {
            return Err(malformed(
                text,
                "an endpoint has neither a user nor a fragment",
            ));
        }
        let scheme = Scheme::named(url.scheme()).ok_or_else(|| EndpointError::UnknownScheme {
            url: text.to_owned(),
            scheme: url.scheme().to_owned(),
        })?;
        let mut reader = Reader::new(text, scheme, &url)?;
        let endpoint = match scheme {
            Scheme::Tcp | Scheme::Tls => Self::Tcp(TcpEndpoint {
                security: match scheme {
                    Scheme::Tls => Security::Tls,
                    _ => Security::Clear,
                },
                host: host(text, &url)?,
                port: port(text, &url)?,
                options: StreamOptions::read(&mut reader)?,
            }),
            Scheme::Udp => Self::Udp(UdpEndpoint {
                host: host(text, &url)?,
                port: port(text, &url)?,
                bind: reader.address("bind")?,
                receive_buffer: reader.buffer_size("receive-buffer")?,
                send_buffer: reader.buffer_size("send-buffer")?,
            }),
            Scheme::Unix => Self::Unix(UnixEndpoint {
                address: unix_name(text, &url)?,
                mode: reader.mode()?,
                options: StreamOptions::read(&mut reader)?,
            }),
            Scheme::Systemd => Self::Systemd(InheritedEndpoint {
                which: descriptor_name(text, &url)?,
                security: reader.security()?,
                options: StreamOptions::read(&mut reader)?,
            }),
            Scheme::Fd => Self::Fd(InheritedEndpoint {
                which: descriptor(text, &url)?,
                security: reader.security()?,
                options: StreamOptions::read(&mut reader)?,
            }),
            Scheme::Stdio => {
                if url.has_host() || !url.path().is_empty() {
                    return Err(malformed(text, "write `stdio:` and nothing else"));
                }
                Self::Stdio
            }
        };
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme().name();
        match self {
            Self::Tcp(TcpEndpoint { host, port, .. })
            | Self::Udp(UdpEndpoint { host, port, .. }) => {
                write!(f, "{scheme}://{host}:{port}")?;
            }
            Self::Unix(endpoint) => endpoint.address.fmt(f)?,
            Self::Systemd(endpoint) if endpoint.which.is_empty() => write!(f, "{scheme}:")?,
            Self::Systemd(endpoint) => write!(f, "{scheme}://{}", endpoint.which)?,
            Self::Fd(endpoint) => write!(f, "{scheme}://{}", endpoint.which)?,
            Self::Stdio => write!(f, "{scheme}:")?,
        }
        self.write_options().fmt(f)
    }
}

impl TcpEndpoint {
    /// Returns the endpoint of a literal address in clear, with every option at its default.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            security: Security::Clear,
            host: HostName::Address(address.ip()),
            port: address.port(),
            options: StreamOptions::default(),
        }
    }
}

impl<T> InheritedEndpoint<T> {
    fn write_options(&self, writer: &mut Writer) {
        writer.option(
            "tls",
            (self.security == Security::Tls).then_some(Switch::On),
        );
        self.options.write(writer);
    }
}

impl fmt::Display for UnixName {
    /// As a URL: `unix:///run/x.sock`, `unix:@name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Path(path) => {
                f.write_str("unix://")?;
                path.to_string_lossy()
            }
            Self::Abstract(name) => {
                f.write_str("unix:@")?;
                name.into()
            }
        };
        for character in name.chars() {
            match character {
                '%' | '?' | '#' | ' ' | '"' | '<' | '>' | '`' | '{' | '}' | '\\' | '^' | '|' => {
                    write!(f, "%{:02X}", u32::from(character))?;
                }
                _ if character.is_control() => {
                    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                        write!(f, "%{byte:02X}")?;
                    }
                }
                _ => write!(f, "{character}")?,
            }
        }
        Ok(())
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

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listening => "listening",
            Self::Connecting => "connecting",
        })
    }
}

/// Returns the address that an IPv4-mapped IPv6 address stands for, and any other address as it is.
pub(crate) fn unmap(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Returns the IPv4 network that a network of IPv4-mapped addresses stands for, and any other network as it is.
pub(crate) fn unmap_network(network: IpNet) -> IpNet {
    let unmapped = match network {
        IpNet::V6(mapped) => mapped
            .addr()
            .to_ipv4_mapped()
            .zip(mapped.prefix_len().checked_sub(96))
            .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()),
        IpNet::V4(_) => None,
    };
    unmapped.map_or(network, IpNet::V4)
}

/// Returns the IPv6 form of an address, in which IPv4 is mapped.
pub(crate) fn map(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Returns whether a text can be a host's name: labels of 1 to 63 bytes, 253 in all (RFC 1035, section 2.3.4), and perhaps the root's dot at its end. A spelling such as
/// `127.1` or `0x7f000001` is none: the system's resolver would read it as an address (inet_aton(3)), and so its last label must not begin with a
/// digit.
pub(crate) fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() <= LONGEST_NAME
        && !last.starts_with(|first: char| first.is_ascii_digit())
        && name.split('.').all(|label| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn host(text: &str, url: &Url) -> Result<HostName, EndpointError> {
    if !matches!(url.path(), "" | "/") {
        return Err(malformed(text, "an address has no path after its port"));
    }
    match url.host() {
        Some(Host::Ipv6(address)) => Ok(HostName::Address(IpAddr::V6(address))),
        Some(Host::Ipv4(address)) => Ok(HostName::Address(IpAddr::V4(address))),
        Some(Host::Domain("")) | None => Err(malformed(
            text,
            "the host is missing; write `tcp://127.0.0.1:PORT`",
        )),
        // None of our schemes is one of the URL standard's special ones, so IPv4 arrives here; only the four-part decimal spelling is an address.
        Some(Host::Domain(name)) => match name.parse() {
            Ok(address) => Ok(HostName::Address(IpAddr::V4(address))),
            Err(_) if is_host_name(name) => Ok(HostName::Name(name.to_ascii_lowercase())),
            Err(_) => Err(malformed(
                text,
                "the host is neither a name nor an address; IPv4 is written as four decimal numbers, IPv6 in brackets",
            )),
        },
    }
}

fn port(text: &str, url: &Url) -> Result<u16, EndpointError> {
    url.port()
        .ok_or_else(|| malformed(text, "the port is missing"))
}

fn unix_name(text: &str, url: &Url) -> Result<UnixName, EndpointError> {
    let decoded = percent_decode(url.path())
        .ok_or_else(|| malformed(text, "the path is not percent-encoded UTF-8 without NUL"))?;
    // The URL parser resolves `.` and `..` by itself, which is not what the system does where there are symbolic links.
    let written = text.split_once(':').map_or("", |(_, rest)| rest);
    let written = written.split('?').next().unwrap_or_default();
    let written = written.strip_prefix("//").unwrap_or(written);
    let has_odd_part = |path: &str| {
        let mut parts = path.split('/').skip(1);
        parts.any(|part| matches!(part, "" | "." | ".."))
    };
    let is_path = decoded.starts_with('/') && decoded != "/" && !url.has_host();
    if is_path && (has_odd_part(&decoded) || percent_decode(written).as_ref() != Some(&decoded)) {
        return Err(malformed(
            text,
            "the path of a UNIX socket has no `.`, `..` and empty parts",
        ));
    }
    match decoded.strip_prefix('@') {
        Some(name) if !url.has_host() && !name.is_empty() => {
            Ok(UnixName::Abstract(name.to_owned()))
        }
        None if !url.has_host() && decoded.starts_with('/') && decoded != "/" => {
            Ok(UnixName::Path(PathBuf::from(decoded)))
        }
        _ => Err(malformed(
            text,
            "a UNIX socket has an absolute path, `unix:///run/x.sock`, or an abstract name, `unix:@name`",
        )),
    }
}

fn descriptor_name(text: &str, url: &Url) -> Result<String, EndpointError> {
    let name = url.host_str().unwrap_or_default();
    // sd_listen_fds_with_names(3): printable, without colons, at most 255 characters.
    let is_name = name.len() <= 255
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if is_name && matches!(url.path(), "" | "/") && url.port().is_none() {
        return Ok(name.to_owned());
    }
    Err(malformed(
        text,
        "write `systemd://NAME` with the FileDescriptorName= of the socket unit, or `systemd:`",
    ))
}

fn descriptor(text: &str, url: &Url) -> Result<i32, EndpointError> {
    let number = url.host_str().filter(|_| url.port().is_none());
    let number = number.filter(|_| matches!(url.path(), "" | "/"));
    match number.and_then(|number| number.parse().ok()) {
        Some(number @ 3..) => Ok(number),
        _ => Err(malformed(
            text,
            "write `fd://N` with the number of an open socket, 3 or more",
        )),
    }
}

fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

fn malformed(url: &str, reason: &'static str) -> EndpointError {
    EndpointError::Malformed {
        url: url.to_owned(),
        reason,
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

/// Every scheme, for errors.
const SCHEMES: &str = "tcp, tls, udp, unix, systemd, fd, stdio";

/// A host name's bytes (RFC 1035, section 2.3.4, less the root's).
const LONGEST_NAME: usize = 253;

/// The bytes of one of its labels (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;
