//! Outbound: look-ups and connections, each address checked against the grants.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    dial::{self, Dial},
    establish::send_header,
    handler::{Addresses, ErrorKind, OperationError},
    resolver::{ADDRESSES, Found, Resolver},
};
use crate::{
    endpoint::{
        Direction, Endpoint, HostName, Security, TcpEndpoint, UdpEndpoint, UnixName, is_host_name,
    },
    grants::Grants,
    tls::ClientTls,
    transport::{
        Address, Transport, tcp,
        tls::{TlsStream, server_name},
        udp::{self, Peers, Udp},
        unix,
    },
};

/// What connecting and looking up need of an instance.
#[derive(Clone, Copy)]
pub(super) struct Outbound<'a> {
    pub(super) grants: &'a Grants,
    pub(super) resolver: &'a Resolver,
    /// Of the instance's look-ups.
    pub(super) look_ups: &'a Arc<Semaphore>,
    pub(super) tls: &'a Arc<ClientTls>,
    /// The most time that it may take.
    pub(super) limit: Duration,
}

/// Reads what a plugin wants to connect to, and refuses what no grant can cover.
pub(super) fn check(endpoint: &str, grants: &Grants) -> Result<Endpoint, OperationError> {
    if endpoint.len() > LONGEST_ENDPOINT {
        let message = format!("an endpoint has at most {LONGEST_ENDPOINT} bytes");
        return Err(OperationError::new(ErrorKind::Invalid, message));
    }
    let invalid = |error| OperationError::new(ErrorKind::Invalid, format!("{error}"));
    let endpoint: Endpoint = endpoint.parse().map_err(invalid)?;
    endpoint.check(Direction::Connecting).map_err(invalid)?;
    let allowed = match &endpoint {
        Endpoint::Tcp(TcpEndpoint {
            host: HostName::Address(address),
            port,
            ..
        })
        | Endpoint::Udp(UdpEndpoint {
            host: HostName::Address(address),
            port,
            ..
        }) => grants.allows_address(None, SocketAddr::new(*address, *port)),
        Endpoint::Tcp(TcpEndpoint {
            host: HostName::Name(name),
            port,
            ..
        })
        | Endpoint::Udp(UdpEndpoint {
            host: HostName::Name(name),
            port,
            ..
        }) => grants.allows_look_up(name, Some(*port)),
        Endpoint::Unix(unix) => grants.allows_unix(&unix.address),
        _ => false,
    };
    if !allowed {
        return Err(denied(&endpoint.to_string()));
    }
    Ok(endpoint)
}

/// Refuses to look up a name that no grant can cover.
pub(super) fn check_name(name: &str, grants: &Grants) -> Result<String, OperationError> {
    if !is_host_name(name) {
        let shown: String = name.chars().take(LONGEST_SHOWN).collect();
        let message = format!("`{}` is not a host name", shown.escape_debug());
        return Err(OperationError::new(ErrorKind::Invalid, message));
    }
    let name = name.to_ascii_lowercase();
    if grants.allows_look_up(&name, None) {
        Ok(name)
    } else {
        Err(denied(&name))
    }
}

/// Connects to an endpoint that was [checked](check), up to its first byte: what comes before that (a PROXY header, TLS) is done. `relayed` is what a PROXY
/// header tells, if one is sent.
pub(super) async fn connect(
    endpoint: &Endpoint,
    outbound: Outbound<'_>,
    relayed: Option<(Address, Address)>,
) -> Result<(Transport, (Address, Address)), OperationError> {
    let own = endpoint
        .stream_options()
        .and_then(|options| options.timeout);
    let limit = time(own, outbound);
    let deadline = Instant::now() + limit;
    let (transport, addresses) = match endpoint {
        Endpoint::Tcp(tcp) => {
            let stream = connect_tcp(tcp, outbound, limit, deadline).await?;
            let addresses = tcp::addresses(&stream)?;
            (Transport::Tcp(stream), addresses)
        }
        Endpoint::Unix(unix) => timeout_at(deadline, connect_unix(&unix.address))
            .await
            .map_err(|_elapsed| late(&format!("connection to {endpoint}"), limit))??,
        _ => return Err(denied(&endpoint.to_string())),
    };
    let begun = timeout_at(deadline, begin(transport, endpoint, outbound, relayed)).await;
    let transport =
        begun.map_err(|_elapsed| late(&format!("handshake with {endpoint}"), limit))??;
    Ok((transport, addresses))
}

/// Does what comes before a stream's first byte.
async fn begin(
    mut transport: Transport,
    endpoint: &Endpoint,
    outbound: Outbound<'_>,
    relayed: Option<(Address, Address)>,
) -> Result<Transport, OperationError> {
    let options = endpoint.stream_options();
    if let Some(version) = options.and_then(|options| options.proxy) {
        send_header(&mut transport, version, relayed).await?;
    }
    let Endpoint::Tcp(tcp) = endpoint else {
        return Ok(transport);
    };
    if tcp.security == Security::Clear {
        return Ok(transport);
    }
    let (tls, options) = (&outbound.tls, &tcp.options.tls);
    let name = options.server_name.clone();
    let name = server_name(&name.unwrap_or_else(|| tcp.host.to_string()))
        .map_err(|error| OperationError::new(ErrorKind::Invalid, error.to_string()))?;
    let config = tls.config_for(options).await;
    let config =
        config.map_err(|error| OperationError::new(ErrorKind::Tls, crate::chain(&error)))?;
    let mut stream = TlsStream::client(transport, config, name)?;
    std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(Transport::Tls(Box::new(stream)))
}

async fn connect_unix(name: &UnixName) -> Result<(Transport, (Address, Address)), OperationError> {
    let stream = unix::connect(name).await.map_err(|error| {
        let mut error = OperationError::from(error);
        error.message = format!("{name}: {}", error.message);
        error
    })?;
    let addresses = unix::addresses(&stream)?;
    Ok((Transport::Unix(stream), addresses))
}

/// Makes the TCP connection of an endpoint, secured later or not: looks the name up once, and connects to the first of its granted addresses that takes
/// the connection.
async fn connect_tcp(
    endpoint: &TcpEndpoint,
    outbound: Outbound<'_>,
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, OperationError> {
    let (name, found) = match &endpoint.host {
        HostName::Address(address) => {
            let addresses = vec![*address];
            let rest = None;
            (None, Found { addresses, rest })
        }
        HostName::Name(name) => {
            let looking = outbound.resolver.look_up(name, outbound.look_ups);
            let found = timeout_at(deadline, looking).await;
            let found = found.map_err(|_elapsed| late(&format!("answer for {name}"), limit))??;
            (Some(name.as_str()), found)
        }
    };
    // A name must not smuggle in an address that was not granted.
    let is_granted = |address| outbound.grants.allows_address(name, address);
    let dial = Dial {
        what: &format!("tcp://{}:{}", endpoint.host, endpoint.port),
        port: endpoint.port,
        bind: endpoint.options.bind,
        is_granted: &is_granted,
        deadline,
        limit,
    };
    let stream = dial::dial(&dial, found).await?;
    tcp::configure(
        &stream,
        endpoint.options.nodelay,
        endpoint.options.keepalive,
    );
    Ok(stream)
}

/// Makes a socket for the first granted address that there is a way to.
pub(super) async fn connect_udp(
    endpoint: &UdpEndpoint,
    outbound: Outbound<'_>,
) -> Result<Udp, OperationError> {
    let (name, candidates) = match &endpoint.host {
        HostName::Address(address) => (None, vec![*address]),
        HostName::Name(name) => (Some(name.as_str()), find(name, outbound).await?),
    };
    let mut error = denied(&format!("udp://{}:{}", endpoint.host, endpoint.port));
    for address in dial::order(candidates) {
        let address = SocketAddr::new(address, endpoint.port);
        if !outbound.grants.allows_address(name, address) {
            continue;
        }
        match udp::connect(endpoint, address).and_then(|socket| Udp::new(socket, Peers::One)) {
            Ok(udp) => return Ok(udp),
            Err(failure) => error = failure.into(),
        }
    }
    Err(error)
}

/// Looks up the addresses of a name that was [checked](check_name): at most 64, in the order to try them.
pub(super) async fn look_up(
    name: &str,
    outbound: Outbound<'_>,
) -> Result<Addresses, OperationError> {
    let addresses = find(name, outbound).await?;
    Ok(dial::order(addresses)
        .into_iter()
        .take(ADDRESSES)
        .map(|ip| Address::Socket(SocketAddr::new(ip, 0)))
        .collect())
}

/// Looks up every address of a name.
async fn find(name: &str, outbound: Outbound<'_>) -> Result<Vec<IpAddr>, OperationError> {
    let deadline = Instant::now() + outbound.limit;
    let looking = outbound.resolver.look_up(name, outbound.look_ups);
    let found = timeout_at(deadline, looking).await;
    let Found {
        mut addresses,
        rest,
    } = found.map_err(|_elapsed| late(&format!("answer for {name}"), outbound.limit))??;
    if let Some(rest) = rest
        && let Ok(rest) = timeout_at(deadline, rest).await
    {
        addresses.extend(rest);
    }
    Ok(addresses)
}

/// The endpoint's own time, which is never more than the service's.
fn time(own: Option<Duration>, outbound: Outbound<'_>) -> Duration {
    own.map_or(outbound.limit, |own| own.min(outbound.limit))
}

fn late(what: &str, limit: Duration) -> OperationError {
    OperationError::new(ErrorKind::Timeout, format!("no {what} within {limit:?}"))
}

/// `what` ends with what `--allow-connect` takes.
fn denied(what: &str) -> OperationError {
    let grant = what.rsplit("://").next().unwrap_or(what);
    let grant = grant.split('?').next().unwrap_or(grant);
    let port = if what.contains("://") || what.starts_with("unix:") {
        ""
    } else {
        ":*"
    };
    let message = format!(
        "{what} is not granted; the operator may grant it with --allow-connect {grant}{port}"
    );
    OperationError::new(ErrorKind::Denied, message)
}

/// An endpoint that a plugin names; longer than any host name and path: 1 KiB.
const LONGEST_ENDPOINT: usize = 1 << 10;

/// Characters of what is not a host name that an error shows.
const LONGEST_SHOWN: usize = 253;
