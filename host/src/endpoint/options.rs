//! The options of endpoints.
//!
//! | option | schemes | direction | meaning |
//! |---|---|---|---|
//! | `backlog=N` | tcp, tls, unix | listening | connections that the kernel holds before they are accepted, 1 to 65535; default 1024, capped at `net.core.somaxconn` |
//! | `nodelay=on\|off` | tcp, tls, systemd, fd | both | whether small writes are sent at once; default on |
//! | `keepalive=off\|30s` | tcp, tls, systemd, fd | both | idle time after which the kernel probes the peer, 1 to 32767 seconds; default off |
//! | `proxy=v1\|v2\|auto` | all streams | both | the PROXY protocol: listening, every connection must begin with this version's header; connecting, it is sent. `auto` takes both |
//! | `proxy-from=NET,...` | tcp, tls, systemd, fd | listening | peers that may send that header, others are reset; default loopback. Peers over UNIX sockets may always: the file's mode says who they are, and an abstract name is for this machine |
//! | `bind=ADDRESS` | tcp, tls, udp | connecting | the local address: any that this machine has, the port is the system's choice; peers of the other family are not tried |
//! | `timeout=10s` | tcp, tls, unix | connecting | time for look-up, connection and handshake together, 1ms to 10m; default 30s, which is also the service's limit |
//! | `cert=PATH` | all streams | listening | certificate chain in PEM, or a directory of them; may be repeated, the name that the client asks for (SNI) chooses |
//! | `key=FILE` | all streams | listening | private key of the `cert` before it, if it is not in the same file |
//! | `alpn=NAME,...` | all streams | both | application protocols, best first (RFC 7301) |
//! | `client-auth=none\|request\|require` | all streams | listening | client certificates; needs `ca` unless `none`, which is the default |
//! | `ca=FILE` | all streams | listening | certificates that client certificates must descend from |
//! | `tls-min=1.2\|1.3` | all streams | both | oldest version of TLS; default 1.2 |
//! | `server-name=NAME` | tcp, tls, unix | connecting | name that the server's certificate must have, in place of the host's |
//! | `mode=660` | unix | listening | permission bits of the socket's file |
//! | `tls=on\|off` | systemd, fd | listening | whether streams begin with TLS; default off |
//! | `receive-buffer=N`, `send-buffer=N` | udp | both | bytes that the kernel holds, 2048 to 1073741824 |

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use url::{Url, form_urlencoded};

use super::{Direction, EndpointError, Security, is_host_name, unmap, unmap_network};
use crate::manifest::{parse_duration, show_duration};

/// The options of a stream. Those of TLS say what happens if the stream is secured, from its start or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// How many connections the kernel holds before they are accepted. Default 1024; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// Whether small writes are sent at once. Default on: the host joins the writes of one turn itself.
    pub nodelay: Switch,
    /// The idle time after which the kernel probes the peer; none (the default) never does.
    pub keepalive: Option<Duration>,
    /// The PROXY protocol's header that streams begin with; none by default.
    pub proxy: Option<ProxyHeader>,
    /// Peers that may send such a header. Default: loopback.
    pub proxy_from: Vec<IpNet>,
    /// The local address of a connection that is made. None (the default): the system chooses. A plugin may name any that this machine has: where it
    /// may connect to is decided by the destination alone, and a source on loopback reaches nothing but loopback.
    pub bind: Option<IpAddr>,
    /// Time to connect in, look-up and handshake included. None (the default): the service's limit.
    pub timeout: Option<Duration>,
    /// How it is secured.
    pub tls: TlsOptions,
}

/// How a stream is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// What the server shows; empty if it cannot be one.
    pub certificates: Vec<Certificate>,
    /// Application protocols, best first.
    pub alpn: Vec<String>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The file of certificates that a client's must descend from.
    pub ca: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The name that a server's certificate must have, if not the host's.
    pub server_name: Option<String>,
}

/// Where a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain in PEM, or a directory of certificates.
    pub path: PathBuf,
    /// The private key, if it is not in the same file or directory.
    pub key: Option<PathBuf>,
}

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The option is set.
    On,
    /// The option is not set.
    Off,
}

/// A version of the PROXY protocol's header (HAProxy, proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
    /// Whichever comes.
    Auto,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked, and may have none; one that is wrong ends the handshake.
    Request,
    /// They must have one.
    Require,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            backlog: DEFAULT_BACKLOG,
            nodelay: Switch::On,
            keepalive: None,
            proxy: None,
            proxy_from: Vec::new(),
            bind: None,
            timeout: None,
            tls: TlsOptions::default(),
        }
    }
}

impl StreamOptions {
    /// Returns whether a peer may begin its streams with a header of the PROXY protocol.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = unmap(peer);
        if self.proxy_from.is_empty() {
            return peer.is_loopback();
        }
        self.proxy_from
            .iter()
            .any(|network| network.contains(&peer))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, EndpointError> {
        Ok(Self {
            backlog: reader
                .option("backlog", "a number from 1 to 65535", |value| {
                    value.parse().ok().filter(|n| (1..=65_535).contains(n))
                })?
                .unwrap_or(DEFAULT_BACKLOG),
            nodelay: reader.switch("nodelay")?.unwrap_or(Switch::On),
            keepalive: reader
                .option(
                    "keepalive",
                    "`off` or seconds from `1s` to `32767s`",
                    keepalive,
                )?
                .flatten(),
            proxy: reader.option("proxy", "`v1`, `v2` or `auto`", ProxyHeader::named)?,
            proxy_from: reader
                .option("proxy-from", "networks such as `10.0.0.0/8,::1`", networks)?
                .unwrap_or_default(),
            bind: reader.address("bind")?,
            timeout: reader.option("timeout", "a time from `1ms` to `10m`", |value| {
                let time = Duration::from_nanos(parse_duration(value).ok()?);
                (Duration::from_millis(1)..=Duration::from_secs(600))
                    .contains(&time)
                    .then_some(time)
            })?,
            tls: TlsOptions::read(reader)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let is_default = self.backlog == DEFAULT_BACKLOG;
        writer.option("backlog", (!is_default).then_some(self.backlog));
        writer.option(
            "nodelay",
            (self.nodelay == Switch::Off).then_some(Switch::Off),
        );
        let keepalive = self.keepalive.map(|idle| format!("{}s", idle.as_secs()));
        writer.option("keepalive", keepalive);
        writer.option("proxy", self.proxy.map(ProxyHeader::name));
        let networks: Vec<_> = self.proxy_from.iter().map(ToString::to_string).collect();
        writer.list("proxy-from", &networks);
        writer.option("bind", self.bind);
        writer.option("timeout", self.timeout.map(show_time));
        self.tls.write(writer);
    }
}

impl TlsOptions {
    fn read(reader: &mut Reader<'_>) -> Result<Self, EndpointError> {
        let tls = Self {
            certificates: reader.certificates()?,
            alpn: reader
                .option(
                    "alpn",
                    "names of 1 to 255 bytes such as `h2,http/1.1`",
                    |value| {
                        let names: Vec<_> = value.split(',').map(str::to_owned).collect();
                        let fits = |name: &String| (1..=255).contains(&name.len());
                        names.iter().all(fits).then_some(names)
                    },
                )?
                .unwrap_or_default(),
            client_auth: reader
                .option(
                    "client-auth",
                    "`none`, `request` or `require`",
                    ClientAuth::named,
                )?
                .unwrap_or_default(),
            ca: reader.option("ca", "a file's path", path)?,
            min_version: reader
                .option("tls-min", "`1.2` or `1.3`", TlsVersion::named)?
                .unwrap_or_default(),
            server_name: reader.option("server-name", "a host's name or address", |value| {
                let is_name = is_host_name(value) || value.parse::<IpAddr>().is_ok();
                is_name.then(|| value.to_ascii_lowercase())
            })?,
        };
        match (tls.client_auth, &tls.ca) {
            (ClientAuth::Request | ClientAuth::Require, None) => Err(super::malformed(
                reader.text,
                "`client-auth` needs `ca=FILE`, the certificates that a client's must descend from",
            )),
            (ClientAuth::None, Some(_)) => Err(super::malformed(
                reader.text,
                "`ca` needs `client-auth=request` or `client-auth=require`",
            )),
            _ => Ok(tls),
        }
    }

    fn write(&self, writer: &mut Writer) {
        for certificate in &self.certificates {
            writer.option("cert", Some(certificate.path.display()));
            writer.option("key", certificate.key.as_ref().map(|key| key.display()));
        }
        writer.list("alpn", &self.alpn);
        let is_asked = self.client_auth != ClientAuth::None;
        writer.option("client-auth", is_asked.then_some(self.client_auth.name()));
        writer.option("ca", self.ca.as_ref().map(|ca| ca.display()));
        let is_default = self.min_version == TlsVersion::default();
        writer.option("tls-min", (!is_default).then_some(self.min_version.name()));
        writer.option("server-name", self.server_name.as_ref());
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

impl ProxyHeader {
    fn named(name: &str) -> Option<Self> {
        [Self::V1, Self::V2, Self::Auto]
            .into_iter()
            .find(|version| version.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Auto => "auto",
        }
    }
}

impl ClientAuth {
    fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Request, Self::Require]
            .into_iter()
            .find(|auth| auth.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Request => "request",
            Self::Require => "require",
        }
    }
}

impl TlsVersion {
    fn named(name: &str) -> Option<Self> {
        [Self::V1_2, Self::V1_3]
            .into_iter()
            .find(|version| version.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// The schemes, for the table of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Tcp,
    Tls,
    Udp,
    Unix,
    Systemd,
    Fd,
    Stdio,
}

/// An option: its name, the schemes that have it, and the direction in which it means something, or both.
struct Known {
    name: &'static str,
    schemes: &'static [Scheme],
    direction: Option<Direction>,
}

const fn known(
    name: &'static str,
    schemes: &'static [Scheme],
    direction: Option<Direction>,
) -> Known {
    Known {
        name,
        schemes,
        direction,
    }
}

const LISTENING: Option<Direction> = Some(Direction::Listening);
const CONNECTING: Option<Direction> = Some(Direction::Connecting);

/// Schemes whose sockets the host opens, and that carry streams.
const OPENED: &[Scheme] = &[Scheme::Tcp, Scheme::Tls, Scheme::Unix];
/// Schemes whose sockets somebody else opened.
const INHERITED: &[Scheme] = &[Scheme::Systemd, Scheme::Fd];
/// Schemes that can carry TCP.
const TCP: &[Scheme] = &[Scheme::Tcp, Scheme::Tls, Scheme::Systemd, Scheme::Fd];
/// Schemes that carry streams.
const STREAMS: &[Scheme] = &[
    Scheme::Tcp,
    Scheme::Tls,
    Scheme::Unix,
    Scheme::Systemd,
    Scheme::Fd,
];
const UDP: &[Scheme] = &[Scheme::Udp];

/// Every option, in the order in which they are told.
const OPTIONS: &[Known] = &[
    known("mode", &[Scheme::Unix], LISTENING),
    known("tls", INHERITED, LISTENING),
    known("backlog", OPENED, LISTENING),
    known("nodelay", TCP, None),
    known("keepalive", TCP, None),
    known("proxy", STREAMS, None),
    known("proxy-from", TCP, LISTENING),
    known("bind", &[Scheme::Tcp, Scheme::Tls, Scheme::Udp], CONNECTING),
    known("timeout", OPENED, CONNECTING),
    known("cert", STREAMS, LISTENING),
    known("key", STREAMS, LISTENING),
    known("alpn", STREAMS, None),
    known("client-auth", STREAMS, LISTENING),
    known("ca", STREAMS, LISTENING),
    known("tls-min", STREAMS, None),
    known("server-name", OPENED, CONNECTING),
    known("receive-buffer", UDP, None),
    known("send-buffer", UDP, None),
];

impl Scheme {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Tcp, "tcp"),
        (Self::Tls, "tls"),
        (Self::Udp, "udp"),
        (Self::Unix, "unix"),
        (Self::Systemd, "systemd"),
        (Self::Fd, "fd"),
        (Self::Stdio, "stdio"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(scheme, _)| *scheme)
    }

    pub(super) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(scheme, _)| *scheme == self);
        found.map_or("", |(_, name)| name)
    }

    /// Lists the options of a scheme, for one direction or both.
    pub(super) fn known(self, direction: Option<Direction>) -> String {
        let names: Vec<_> = self
            .options()
            .filter(|option| {
                direction.is_none() || option.direction.is_none() || option.direction == direction
            })
            .map(|option| option.name)
            .collect();
        if names.is_empty() {
            return "none".to_owned();
        }
        names.join(", ")
    }

    fn options(self) -> impl Iterator<Item = &'static Known> {
        OPTIONS
            .iter()
            .filter(move |option| option.schemes.contains(&self))
    }
}

/// The options of a URL, each asked for by its name.
pub(super) struct Reader<'a> {
    text: &'a str,
    scheme: Scheme,
    given: Vec<(&'static str, String)>,
}

impl<'a> Reader<'a> {
    /// Takes the options of a URL, unless the scheme has no such option, or one is there twice.
    pub(super) fn new(text: &'a str, scheme: Scheme, url: &Url) -> Result<Self, EndpointError> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in url.query_pairs() {
            let Some(option) = scheme.options().find(|option| option.name == name) else {
                return Err(EndpointError::UnknownOption {
                    url: text.to_owned(),
                    scheme: scheme.name(),
                    option: name.escape_debug().to_string(),
                    known: scheme.known(None),
                });
            };
            let can_repeat = matches!(option.name, "cert" | "key");
            if !can_repeat && given.iter().any(|(there, _)| *there == option.name) {
                return Err(EndpointError::WrongOption {
                    url: text.to_owned(),
                    option: option.name,
                    value: value.into_owned(),
                    expected: "it once",
                });
            }
            given.push((option.name, value.into_owned()));
        }
        Ok(Self {
            text,
            scheme,
            given,
        })
    }

    fn option<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, EndpointError> {
        debug_assert!(OPTIONS.iter().any(|option| option.name == name));
        match self.given.iter().find(|(given, _)| *given == name) {
            None => Ok(None),
            Some((_, value)) => match parse(value) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(self.wrong(name, value, expected)),
            },
        }
    }

    fn wrong(&self, option: &'static str, value: &str, expected: &'static str) -> EndpointError {
        EndpointError::WrongOption {
            url: self.text.to_owned(),
            option,
            value: value.to_owned(),
            expected,
        }
    }

    fn switch(&self, name: &'static str) -> Result<Option<Switch>, EndpointError> {
        self.option(name, "`on` or `off`", |value| match value {
            "on" => Some(Switch::On),
            "off" => Some(Switch::Off),
            _ => None,
        })
    }

    pub(super) fn security(&self) -> Result<Security, EndpointError> {
        Ok(match self.switch("tls")? {
            Some(Switch::On) => Security::Tls,
            Some(Switch::Off) | None => Security::Clear,
        })
    }

    pub(super) fn address(&self, name: &'static str) -> Result<Option<IpAddr>, EndpointError> {
        self.option(name, "an IPv4 or IPv6 address", |value| value.parse().ok())
    }

    pub(super) fn buffer_size(&self, name: &'static str) -> Result<Option<u32>, EndpointError> {
        self.option(name, "bytes from 2048 to 1073741824", |value| {
            value
                .parse()
                .ok()
                .filter(|bytes| (2048..=1 << 30).contains(bytes))
        })
    }

    pub(super) fn mode(&self) -> Result<Option<u32>, EndpointError> {
        self.option("mode", "octal permission bits such as `660`", |value| {
            let is_octal = value.bytes().all(|byte| byte.is_ascii_digit());
            let mode = u32::from_str_radix(value, 8).ok()?;
            (is_octal && mode <= 0o777).then_some(mode)
        })
    }

    fn certificates(&self) -> Result<Vec<Certificate>, EndpointError> {
        let mut certificates: Vec<Certificate> = Vec::new();
        for (name, value) in &self.given {
            match *name {
                "cert" => certificates.push(Certificate {
                    path: path(value).ok_or_else(|| {
                        self.wrong("cert", value, "the path of a file or a directory")
                    })?,
                    key: None,
                }),
                "key" => {
                    let key =
                        path(value).ok_or_else(|| self.wrong("key", value, "a file's path"))?;
                    match certificates.last_mut() {
                        Some(certificate) if certificate.key.is_none() => {
                            certificate.key = Some(key);
                        }
                        _ => {
                            return Err(self.wrong(
                                "key",
                                value,
                                "the `cert` that it is of before it",
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(certificates)
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("scheme", &self.scheme)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

/// Options that are not at their default.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<(&'static str, String)>);

impl Writer {
    pub(super) fn option(&mut self, name: &'static str, value: Option<impl fmt::Display>) {
        debug_assert!(OPTIONS.iter().any(|option| option.name == name));
        if let Some(value) = value {
            self.0.push((name, value.to_string()));
        }
    }

    fn list(&mut self, name: &'static str, values: &[String]) {
        self.option(name, (!values.is_empty()).then(|| values.join(",")));
    }

    /// Returns the first option that means nothing in a direction.
    pub(super) fn first_not_for(&self, direction: Direction) -> Option<&'static str> {
        self.0.iter().map(|(name, _)| *name).find(|name| {
            OPTIONS
                .iter()
                .find(|option| option.name == *name)
                .and_then(|option| option.direction)
                .is_some_and(|only| only != direction)
        })
    }
}

impl fmt::Display for Writer {
    /// As a query string.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{name}=")?;
            for part in form_urlencoded::byte_serialize(value.as_bytes()) {
                match part {
                    // Encoded for the sake of HTML forms only.
                    "%2F" => f.write_str("/")?,
                    "%2C" => f.write_str(",")?,
                    "%3A" => f.write_str(":")?,
                    _ => f.write_str(part)?,
                }
            }
        }
        Ok(())
    }
}

fn path(value: &str) -> Option<PathBuf> {
    let is_path = !value.is_empty() && !value.contains('\0');
    is_path.then(|| PathBuf::from(value))
}

fn networks(value: &str) -> Option<Vec<IpNet>> {
    value
        .split(',')
        .map(|text| match text.parse::<IpAddr>() {
            Ok(address) => Some(unmap(address).into()),
            Err(_) => text
                .parse::<IpNet>()
                .ok()
                .map(|network| unmap_network(network.trunc())),
        })
        .collect()
}

/// None within: `off`.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it is well-formed"
)]
fn keepalive(value: &str) -> Option<Option<Duration>> {
    if value == "off" {
        return Some(None);
    }
    let seconds = value.strip_suffix('s')?.parse().ok()?;
    (1..=32_767)
        .contains(&seconds)
        .then(|| Some(Duration::from_secs(seconds)))
}

fn show_time(time: Duration) -> String {
    show_duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

const DEFAULT_BACKLOG: u32 = 1024;
