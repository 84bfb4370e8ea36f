//! Outbound: look-ups and connections, each address checked against the grants.

use std::{io, net::SocketAddr};

use tokio::net::{TcpStream, UnixStream};

use super::handler::{Addresses, ErrorKind, OperationError};
use crate::{
    endpoint::{Endpoint, HostName, TcpEndpoint},
    grants::Grants,
    transport::{Address, Transport, tcp, unix},
};

/// Reads what a plugin wants to connect to, and refuses what no grant can cover.
pub(super) fn check(endpoint: &str, grants: &Grants) -> Result<Endpoint, OperationError> {
    let endpoint: Endpoint = endpoint
        .parse()
        .map_err(|error| OperationError::new(ErrorKind::Invalid, format!("{error}")))?;
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
        Endpoint::Unix(_) => false,
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
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if !is_name {
        let message = format!("`{}` is not a host name", name.escape_debug());
        return Err(OperationError::new(ErrorKind::Invalid, message));
    }
    let name = name.to_ascii_lowercase();
    if grants.allows_look_up(&name) {
        Ok(name)
    } else {
        Err(denied(&name))
    }
}

/// Connects to the first address that takes the connection, among those that are granted.
pub(super) async fn connect(
    endpoint: &Endpoint,
    grants: &Grants,
) -> Result<(Transport, (Address, Address)), OperationError> {
    match endpoint {
        Endpoint::Tcp(tcp) => connect_tcp(tcp, grants).await,
        Endpoint::Unix(endpoint) => {
            let stream = UnixStream::connect(&endpoint.path).await?;
            let addresses = unix::addresses(&stream)?;
            Ok((Transport::Unix(stream), addresses))
        }
    }
}

async fn connect_tcp(
    endpoint: &TcpEndpoint,
    grants: &Grants,
) -> Result<(Transport, (Address, Address)), OperationError> {
    let (name, candidates) = match &endpoint.host {
        HostName::Address(address) => (None, vec![SocketAddr::new(*address, endpoint.port)]),
        HostName::Name(name) => (Some(name.as_str()), find(name, endpoint.port).await?),
    };
    let mut error = denied(&format!("tcp://{}:{}", endpoint.host, endpoint.port));
    for address in candidates {
        // A name must not smuggle in an address that was not granted.
        if !grants.allows_address(name, address) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tcp::configure(&stream, endpoint.nodelay, endpoint.keepalive);
                let addresses = tcp::addresses(&stream)?;
                return Ok((Transport::Tcp(stream), addresses));
            }
            Err(failure) => error = failure.into(),
        }
    }
    Err(error)
}

/// Looks up the addresses of a name.
pub(super) async fn look_up(name: &str) -> Result<Addresses, OperationError> {
    Ok(find(name, 0)
        .await?
        .into_iter()
        .map(Address::Socket)
        .collect())
}

async fn find(name: &str, port: u16) -> Result<Vec<SocketAddr>, OperationError> {
    let not_found = |error: Option<io::Error>| {
        let reason =
            error.map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
        OperationError::new(ErrorKind::NameNotFound, format!("`{name}`: {reason}"))
    };
    let addresses: Vec<_> = tokio::net::lookup_host((name, port))
        .await
        .map_err(|error| not_found(Some(error)))?
        .collect();
    if addresses.is_empty() {
        return Err(not_found(None));
    }
    Ok(addresses)
}

fn denied(what: &str) -> OperationError {
    let message = format!("{what} is not granted; the operator may grant it with --allow-connect");
    OperationError::new(ErrorKind::Denied, message)
}
