//! The plugin's configuration, checked once.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    server::{Access, Network},
    types::Name,
};

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who may ask at all.
    pub allow_query: Access,
    /// Who may have whole zones.
    pub allow_transfer: Access,
    /// For whom questions are passed on.
    pub allow_forwarding: Access,
    /// What this server is called, if it is to say so (NSID).
    pub nsid: Option<Vec<u8>>,
    /// The secret of cookies that servers share; none for one that is made up.
    pub cookie_secret: Option<[u8; 16]>,
    /// How long a silent connection is kept.
    pub tcp_idle: Duration,
    /// Whether every question is logged.
    pub query_log: bool,
    /// Who is asked for names that are in no zone here; a domain of the root is every other name.
    pub forward: Vec<Forward>,
    /// How many bytes of answers are kept.
    pub cache_size: usize,
    /// For how long answers are given whose time is over, while nobody says anything newer.
    pub serve_stale: Duration,
    /// The file with names of hosts, in the folder of zones; none without.
    pub hosts: Option<String>,
}

/// Who is asked for names below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The domain.
    pub domain: Name,
    /// The servers, in the order to ask them.
    pub servers: Vec<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Keys {
    allow_query: Vec<String>,
    allow_transfer: Vec<String>,
    allow_forwarding: Vec<String>,
    nsid: String,
    cookie_secret: String,
    #[serde(deserialize_with = "nethost_sdk::duration")]
    tcp_idle: Duration,
    query_log: bool,
    forward: Vec<String>,
    cache_size: u64,
    #[serde(deserialize_with = "nethost_sdk::duration")]
    serve_stale: Duration,
    hosts: String,
}

impl Config {
    /// Checks what the host passes. The error names the key.
    pub fn new(config: &nethost_sdk::Config) -> Result<Self, String> {
        let keys: Keys = config.parse()?;
        let cache_size = usize::try_from(keys.cache_size).unwrap_or(usize::MAX);
        if !(65_536..=1 << 30).contains(&cache_size) {
            return Err(format!(
                "cache-size: {cache_size} is not 65536 to 1073741824"
            ));
        }
        if keys.nsid.len() > 64 {
            return Err("nsid: longer than 64 bytes".to_owned());
        }
        Ok(Self {
            allow_query: match keys.allow_query.as_slice() {
                [] => Access::All,
                _ => networks("allow-query", &keys.allow_query)?,
            },
            allow_transfer: networks("allow-transfer", &keys.allow_transfer)?,
            allow_forwarding: match keys.allow_forwarding.as_slice() {
                [] => networks(
                    "allow-forwarding",
                    &["127.0.0.0/8".to_owned(), "::1".to_owned()],
                )?,
                _ => networks("allow-forwarding", &keys.allow_forwarding)?,
            },
            nsid: (!keys.nsid.is_empty()).then(|| keys.nsid.into_bytes()),
            cookie_secret: secret(&keys.cookie_secret)?,
            tcp_idle: keys.tcp_idle,
            query_log: keys.query_log,
            forward: forwards(&keys.forward)?,
            cache_size,
            serve_stale: keys.serve_stale,
            hosts: (!keys.hosts.is_empty()).then_some(keys.hosts),
        })
    }

    /// Whether anybody is asked for names that are in no zone here.
    pub fn forwards(&self) -> bool {
        !self.forward.is_empty() || self.hosts.is_some()
    }

    /// Who is asked for a name: those of the longest domain that it is in.
    pub fn servers_for(&self, name: &Name) -> &[SocketAddr] {
        let fitting = self
            .forward
            .iter()
            .filter(|forward| name.is_within(&forward.domain));
        let longest = fitting.max_by_key(|forward| forward.domain.as_wire().len());
        longest.map_or(&[], |forward| &forward.servers)
    }
}

fn networks(key: &str, texts: &[String]) -> Result<Access, String> {
    let networks = texts.iter().map(|text| text.parse::<Network>());
    let networks = networks.collect::<Result<_, _>>();
    networks
        .map(Access::Only)
        .map_err(|error| format!("{key}: {error}"))
}

fn secret(text: &str) -> Result<Option<[u8; 16]>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let error = || "cookie-secret: not 32 hexadecimal digits".to_owned();
    if text.len() != 32 {
        return Err(error());
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| error())?;
    Ok(Some(number.to_be_bytes()))
}

/// `ADDRESS`, `ADDRESS:PORT`, or `DOMAIN=` before either.
fn forwards(texts: &[String]) -> Result<Vec<Forward>, String> {
    let mut forwards: Vec<Forward> = Vec::new();
    for text in texts {
        let (domain, server) = text.split_once('=').unwrap_or((".", text));
        let domain = Name::parse(domain).map_err(|error| format!("forward: `{text}`: {error}"))?;
        let server = server_address(server).ok_or_else(|| {
            format!("forward: `{text}` is not an address, or DOMAIN=ADDRESS, such as 192.0.2.1 or [2001:db8::1]:53")
        })?;
        match forwards.iter_mut().find(|forward| forward.domain == domain) {
            Some(forward) => forward.servers.push(server),
            None => forwards.push(Forward {
                domain,
                servers: vec![server],
            }),
        }
    }
    Ok(forwards)
}

/// An address with a port, or without for 53.
pub(crate) fn server_address(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, PORT)),
        Err(_) => text.parse().ok(),
    }
}

/// The port of name servers.
pub(crate) const PORT: u16 = 53;
