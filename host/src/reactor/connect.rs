//! Outbound: look-ups and connections, each address checked against the grants.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use tokio::{net::TcpStream, sync::Semaphore};

use super::{
    establish::send_header,
    handler::{Addresses, ErrorKind, OperationError},
};
use crate::{
    endpoint::{Direction, Endpoint, HostName, TcpEndpoint, UnixName},
    grants::Grants,
    transport::{Address, Transport, tcp, unix},
};

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
        }) => grants.allows_address(None, SocketAddr::new(*address, *port)),
        Endpoint::Tcp(TcpEndpoint {
            host: HostName::Name(name),
            ..
        }) => grants.allows_look_up(name),
        Endpoint::Unix(unix) => grants.allows_unix(&unix.address),
        _ => false,
    };
    if allowed {
        Ok(endpoint)
    } else {
        Err(denied(&endpoint.to_string()))
    }
}

/// Refuses to look up a name that no grant can cover.
pub(super) fn check_name(name: &str, grants: &Grants) -> Result<String, OperationError> {
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !is_name {
        let shown: String = name.chars().take(LONGEST_NAME).collect();
        let message = format!("`{}` is not a host name", shown.escape_debug());
        return Err(OperationError::new(ErrorKind::Invalid, message));
    }
    let name = name.to_ascii_lowercase();
    if grants.allows_look_up(&name) {
        Ok(name)
    } else {
        Err(denied(&name))
    }
}

/// Connects to the first address that takes the connection, among those that are granted. `relayed` is what a PROXY header tells, if one is sent.
pub(super) async fn connect(
    endpoint: &Endpoint,
    grants: &Grants,
    look_ups: &Arc<Semaphore>,
    relayed: Option<(Address, Address)>,
) -> Result<(Transport, (Address, Address)), OperationError> {
    let (mut transport, addresses) = match endpoint {
        Endpoint::Tcp(tcp) => connect_tcp(tcp, grants, look_ups).await?,
        Endpoint::Unix(unix) => connect_unix(&unix.address).await?,
        _ => return Err(denied(&endpoint.to_string())),
    };
    if let Some(version) = endpoint.stream_options().and_then(|options| options.proxy) {
        send_header(&mut transport, version, relayed).await?;
    }
    Ok((transport, addresses))
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

async fn connect_tcp(
    endpoint: &TcpEndpoint,
    grants: &Grants,
    look_ups: &Arc<Semaphore>,
) -> Result<(Transport, (Address, Address)), OperationError> {
    let (name, candidates) = match &endpoint.host {
        HostName::Address(address) => (None, vec![SocketAddr::new(*address, endpoint.port)]),
        HostName::Name(name) => (
            Some(name.as_str()),
            find(name, endpoint.port, look_ups).await?,
        ),
    };
    let mut error = denied(&format!("tcp://{}:{}", endpoint.host, endpoint.port));
    for address in candidates {
        // A name must not smuggle in an address that was not granted.
        if !grants.allows_address(name, address) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tcp::configure(
                    &stream,
                    endpoint.options.nodelay,
                    endpoint.options.keepalive,
                );
                let addresses = tcp::addresses(&stream)?;
                return Ok((Transport::Tcp(stream), addresses));
            }
            Err(failure) => error = failure.into(),
        }
    }
    Err(error)
}

/// Looks up the addresses of a name.
pub(super) async fn look_up(
    name: &str,
    look_ups: &Arc<Semaphore>,
) -> Result<Addresses, OperationError> {
    Ok(find(name, 0, look_ups)
        .await?
        .into_iter()
        .map(Address::Socket)
        .collect())
}

/// Looks up a name in a thread of its own. The permit goes with the thread, not with who waits for it: a look-up that was cancelled still
/// takes its place until it ends.
async fn find(
    name: &str,
    port: u16,
    look_ups: &Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, OperationError> {
    let not_found = |error: Option<io::Error>| {
        let reason =
            error.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
        OperationError::new(ErrorKind::NameNotFound, format!("`{name}`: {reason}"))
    };
    let permit = Arc::clone(look_ups)
        .acquire_owned()
        .await
        .map_err(|closed| not_found(Some(io::Error::other(closed))))?;
    let wanted = name.to_owned();
    let addresses = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let found = (wanted.as_str(), port).to_socket_addrs();
        found.map(Iterator::collect::<Vec<_>>)
    })
    .await
    .map_err(|failed| not_found(Some(failed.into())))?
    .map_err(|error| not_found(Some(error)))?;
    if addresses.is_empty() {
        return Err(not_found(None));
    }
    Ok(addresses)
}

fn denied(what: &str) -> OperationError {
    let message = format!("{what} is not granted; the operator may grant it with --allow-connect");
    OperationError::new(ErrorKind::Denied, message)
}

/// An endpoint that a plugin names; longer than any host name and path: 1 KiB.
const LONGEST_ENDPOINT: usize = 1 << 10;

/// A host name's bytes (RFC 1035, section 2.3.4, less the root's).
const LONGEST_NAME: usize = 253;
