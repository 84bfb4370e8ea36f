//! What happens between the moment a stream is accepted and its `connection-made`: a handshake that is the host's and not the plugin's.
//!
//! First comes the header of the PROXY protocol. It is read to its last byte and not one further, so whatever comes next, TLS or the protocol
//! itself, finds the stream at its start. Then comes TLS.

use std::{io, sync::Arc};

use thiserror::Error;
use tokio::io::ReadBuf;

use super::listener::Accepted;
use crate::{
    endpoint::{ProxyHeader, StreamOptions},
    transport::{
        Address, Transport,
        proxy::{self, Decoded, Header},
        tls::TlsStream,
    },
};

/// Why a stream did not become a connection.
#[derive(Debug, Error)]
pub(crate) enum EstablishError {
    /// `proxy-from` does not cover the peer.
    #[error("the peer is not among those that may send a PROXY header (proxy-from)")]
    Untrusted,
    /// It does not begin with a header.
    #[error("{0}")]
    Malformed(#[from] proxy::Malformed),
    /// It ended within the header.
    #[error("it ended before its PROXY header did")]
    Ended,
    /// The network failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The TLS that a stream begins with, and what the client brings back when it resumes the session; none if it begins in clear.
pub(crate) type FirstTls = Option<(Arc<rustls::ServerConfig>, [u8; 16])>;

/// Makes a stream ready for its `connection-made`, and returns it with the addresses that it has then. One that fails, or whose future is dropped, is reset.
pub(crate) async fn establish(
    (transport, addresses): Accepted,
    options: &StreamOptions,
    first_tls: FirstTls,
) -> Result<Accepted, EstablishError> {
    let mut pending = Pending(Some(transport));
    let mut addresses = addresses;
    if let Some(version) = options.proxy {
        addresses = receive_header(pending.transport()?, addresses, version, options).await?;
    }
    if let Some((config, ticket)) = first_tls {
        let transport = pending.0.take().ok_or(EstablishError::Ended)?;
        let mut stream = TlsStream::server(transport, config, &ticket)?;
        // An alert says why it failed: a reset would destroy it.
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        return Ok((Transport::Tls(Box::new(stream)), addresses));
    }
    let transport = pending.0.take().ok_or(EstablishError::Ended)?;
    Ok((transport, addresses))
}

/// Sends the header that a stream to a server begins with.
pub(crate) async fn send_header(
    transport: &mut Transport,
    version: ProxyHeader,
    relayed: Option<(Address, Address)>,
) -> io::Result<()> {
    let header = relayed.map_or(Header::Own, |(local, peer)| Header::Relayed {
        source: peer,
        destination: local,
    });
    let bytes = proxy::encode(version, &header);
    let mut left = &*bytes;
    while !left.is_empty() {
        let slice = [io::IoSlice::new(left)];
        match std::future::poll_fn(|cx| transport.poll_write(cx, &slice, false)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => left = left.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Reads the header and returns the addresses, local and peer's, that the connection has by it.
async fn receive_header(
    transport: &mut Transport,
    addresses: (Address, Address),
    version: ProxyHeader,
    options: &StreamOptions,
) -> Result<(Address, Address), EstablishError> {
    // Who may connect to a UNIX socket is decided by its file's mode.
    if let (_, Address::Socket(peer)) = &addresses
        && !options.trusts(peer.ip())
    {
        return Err(EstablishError::Untrusted);
    }
    let mut bytes = Vec::new();
    loop {
        match proxy::decode(version, &bytes)? {
            Decoded::Complete(Header::Own) => return Ok(addresses),
            Decoded::Complete(Header::Relayed {
                source,
                destination,
            }) => return Ok((destination, source)),
            Decoded::Incomplete(missing) => {
                // At most what a header of version 2 has after its fixed part.
                let start = bytes.len();
                bytes.resize(start + missing, 0);
                let mut buffer = ReadBuf::new(bytes.get_mut(start..).unwrap_or_default());
                std::future::poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await?;
                let count = buffer.filled().len();
                bytes.truncate(start + count);
                if count == 0 {
                    return Err(EstablishError::Ended);
                }
            }
        }
    }
}

/// A stream that is reset unless it is taken out.
struct Pending(Option<Transport>);

impl Pending {
    fn transport(&mut self) -> Result<&mut Transport, EstablishError> {
        self.0.as_mut().ok_or(EstablishError::Ended)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(transport) = &self.0 {
            transport.reset_on_drop();
        }
    }
}
