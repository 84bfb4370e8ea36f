//! The sockets of a service: bound before its instances are made, so that an address in use is found first.

use std::{net::SocketAddr, os::unix::net::UnixListener, sync::Arc};

use super::ServiceError;
use crate::{
    endpoint::{Endpoint, HostName, TcpEndpoint, UdpEndpoint},
    transport::{tcp::TcpListeners, udp::UdpSockets, unix::UnixListenerFile},
};

/// Where a service listens. Dropping it removes the files of UNIX sockets.
#[derive(Debug, Default)]
pub(super) struct Listening {
    urls: Vec<Arc<str>>,
    files: Vec<UnixListenerFile>,
}

/// A bound socket on its way to the worker that accepts on it.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp {
        socket: std::net::TcpListener,
        endpoint: Box<TcpEndpoint>,
        url: Arc<str>,
        /// Which of the service's workers.
        worker: usize,
    },
    Udp {
        socket: std::net::UdpSocket,
        url: Arc<str>,
        /// Which of the service's workers.
        worker: usize,
    },
    /// There is one for all workers: UNIX sockets cannot share an address.
    Unix { socket: UnixListener, url: Arc<str> },
}

impl Socket {
    pub(super) fn worker(&self) -> usize {
        match self {
            Self::Tcp { worker, .. } | Self::Udp { worker, .. } => *worker,
            Self::Unix { .. } => 0,
        }
    }
}

impl Socket {
    pub(super) fn url(&self) -> &str {
        match self {
            Self::Tcp { url, .. } | Self::Udp { url, .. } | Self::Unix { url, .. } => url,
        }
    }
}

impl Listening {
    /// Binds every endpoint for that many workers.
    pub(super) async fn bind(
        endpoints: &[Endpoint],
        workers: usize,
    ) -> Result<(Self, Vec<Socket>), ServiceError> {
        let mut listening = Self::default();
        let mut sockets = Vec::new();
        for endpoint in endpoints {
            let bound = match endpoint {
                Endpoint::Tcp(tcp) => listening.bind_tcp(tcp, workers, &mut sockets).await,
                Endpoint::Udp(udp) => listening.bind_udp(udp, workers, &mut sockets).await,
                Endpoint::Unix(unix) => UnixListenerFile::bind(unix).map(|mut file| {
                    let url: Arc<str> = format!("unix://{}", file.path.display()).into();
                    if let Some(socket) = file.socket.take() {
                        let url = url.clone();
                        sockets.push(Socket::Unix { socket, url });
                    }
                    listening.urls.push(url);
                    listening.files.push(file);
                }),
                _ => Err(std::io::ErrorKind::Unsupported.into()),
            };
            bound.map_err(|error| ServiceError::Listen {
                endpoint: endpoint.to_string(),
                error,
            })?;
        }
        Ok((listening, sockets))
    }

    pub(super) fn urls(&self) -> &[Arc<str>] {
        &self.urls
    }

    async fn bind_tcp(
        &mut self,
        endpoint: &TcpEndpoint,
        workers: usize,
        sockets: &mut Vec<Socket>,
    ) -> std::io::Result<()> {
        let address = find(&endpoint.host, endpoint.port).await?;
        let listeners = TcpListeners::bind(endpoint, address, workers)?;
        let url: Arc<str> = format!("tcp://{}", listeners.local).into();
        for (worker, socket) in listeners.sockets.into_iter().enumerate() {
            sockets.push(Socket::Tcp {
                socket,
                endpoint: Box::new(endpoint.clone()),
                url: url.clone(),
                worker,
            });
        }
        self.urls.push(url);
        Ok(())
    }
    async fn bind_udp(
        &mut self,
        endpoint: &UdpEndpoint,
        workers: usize,
        sockets: &mut Vec<Socket>,
    ) -> std::io::Result<()> {
        let address = find(&endpoint.host, endpoint.port).await?;
        let bound = UdpSockets::bind(endpoint, address, workers)?;
        let url: Arc<str> = format!("udp://{}", bound.local).into();
        for (worker, socket) in bound.sockets.into_iter().enumerate() {
            let url = url.clone();
            sockets.push(Socket::Udp {
                socket,
                url,
                worker,
            });
        }
        self.urls.push(url);
        Ok(())
    }
}

/// Returns the address to listen on.
async fn find(host: &HostName, port: u16) -> std::io::Result<SocketAddr> {
    match host {
        HostName::Address(address) => Ok(SocketAddr::new(*address, port)),
        HostName::Name(name) => tokio::net::lookup_host((name.as_str(), port))
            .await?
            .next()
            .ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()),
    }
}
