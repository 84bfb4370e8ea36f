//! The sockets of a service: bound, or taken over from who opened them, before its instances are made, so that an address in use is found first.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    sync::Arc,
};

use tokio::sync::{oneshot, watch};

use super::ServiceError;
use crate::{
    endpoint::{
        Endpoint, HostName, InheritedEndpoint, Security, StreamOptions, TcpEndpoint, UdpEndpoint,
    },
    tls::server::ServerTls,
    transport::{
        Address, Handed,
        inherited::{self, Inherited, Passed},
        stdio,
        tcp::TcpListeners,
        udp::UdpSockets,
        unix::{self, SocketFile},
    },
};

/// Where a service listens. Dropping it removes the files of UNIX sockets.
#[derive(Debug, Default)]
pub(super) struct Listening {
    urls: Vec<Arc<str>>,
    _files: Vec<SocketFile>,
    /// The other end of what the service's [`GivenStream`]s hold; none if it has none.
    streams: Option<watch::Receiver<()>>,
    /// The certificates of those listeners that have some.
    certificates: Vec<Arc<ServerTls>>,
}

/// A bound socket on its way to the worker that accepts on it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) source: Source,
    pub(super) listener: Listener,
    /// Which of the service's workers.
    pub(super) worker: usize,
}

impl Socket {
    /// Returns whether datagrams come on it, and not connections.
    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self.source, Source::Udp(_))
    }
}

/// What connections come from.
#[derive(Debug)]
pub(super) enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
    Udp(UdpSocket),
    /// It is a connection itself.
    Stream(Box<GivenStream>),
}

/// A stream that the service was started with: it does not outlive it.
#[derive(Debug)]
pub(super) struct GivenStream {
    pub(super) stream: Handed,
    /// Its addresses, if they are not the stream's own.
    pub(super) addresses: Option<(Address, Address)>,
    /// Comes once what was written to it has gone out, if that is not the kernel's business.
    pub(super) flushed: Option<oneshot::Receiver<()>>,
    /// Dropped when it has ended.
    pub(super) ended: watch::Sender<()>,
}

/// What the streams of one endpoint have in common.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    /// Its URL with the real port, without options.
    pub(super) url: Arc<str>,
    pub(super) options: Arc<StreamOptions>,
    /// Whether its streams begin with TLS.
    pub(super) security: Security,
    /// What TLS shows, now or later (STARTTLS).
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) sockets: Sockets,
}

/// How many sockets an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// One for each worker.
    PerWorker,
    /// One for all workers: UNIX sockets cannot share an address, and others opened only one.
    One,
}

impl Listening {
    /// Binds every endpoint for that many workers.
    pub(super) async fn bind(
        endpoints: &[Endpoint],
        workers: usize,
    ) -> Result<(Self, Vec<Socket>), ServiceError> {
        let mut binding = Binding {
            listening: Self::default(),
            sockets: Vec::new(),
            ended: watch::Sender::new(()),
            workers,
            tls: None,
        };
        for endpoint in endpoints {
            binding.load(endpoint)?;
            binding
                .bind(endpoint, endpoints)
                .await
                .map_err(|error| ServiceError::Listen {
                    endpoint: endpoint.to_string(),
                    error,
                })?;
        }
        Ok((binding.listening, binding.sockets))
    }

    /// Returns the certificates of its listeners.
    pub(super) fn certificates(&self) -> &[Arc<ServerTls>] {
        &self.certificates
    }

    pub(super) fn urls(&self) -> &[Arc<str>] {
        &self.urls
    }

    /// Returns once the last of the streams that the service was started with has ended; never if there was none.
    pub(super) async fn streams_ended(&self) {
        match &self.streams {
            // Nothing is ever sent: the change is that the last sender is gone.
            Some(streams) => while streams.clone().changed().await.is_ok() {},
            None => std::future::pending().await,
        }
    }

    /// Returns whether the service was started with a stream.
    pub(super) fn has_streams(&self) -> bool {
        self.streams.is_some()
    }
}

/// What is bound so far.
struct Binding {
    listening: Listening,
    sockets: Vec<Socket>,
    ended: watch::Sender<()>,
    workers: usize,
    /// The certificates of the endpoint that is being bound.
    tls: Option<Arc<ServerTls>>,
}

impl Binding {
    /// Loads the certificates of an endpoint, if it names any.
    fn load(&mut self, endpoint: &Endpoint) -> Result<(), ServiceError> {
        let options = endpoint.stream_options().map(|options| &options.tls);
        self.tls = match options.filter(|options| !options.certificates.is_empty()) {
            Some(options) => {
                let tls = ServerTls::load(options);
                Some(tls.map_err(|error| ServiceError::Tls {
                    endpoint: endpoint.to_string(),
                    error,
                })?)
            }
            None => None,
        };
        self.listening.certificates.extend(self.tls.clone());
        Ok(())
    }

    async fn bind(&mut self, endpoint: &Endpoint, all: &[Endpoint]) -> std::io::Result<()> {
        match endpoint {
            Endpoint::Tcp(tcp) => self.bind_tcp(tcp).await?,
            Endpoint::Unix(unix) => {
                let (socket, file) = unix::bind(unix)?;
                self.listening._files.extend(file);
                let listener = self.listener(unix.address.to_string(), &unix.options, Sockets::One);
                self.add(Source::Unix(socket), listener, 0);
            }
            Endpoint::Systemd(systemd) => self.take_passed(systemd, all)?,
            Endpoint::Fd(fd) => {
                let url = format!("fd://{}", fd.which);
                let mut listener = self.listener(url, &fd.options, Sockets::One);
                listener.security = fd.security;
                self.add_inherited(inherited::take(fd.which)?, listener);
            }
            Endpoint::Stdio => {
                let stdio = stdio::take()?;
                let url = endpoint.to_string();
                let listener = self.listener(url, &StreamOptions::default(), Sockets::One);
                self.add_stream(stdio.stream, stdio.addresses, stdio.flushed, listener);
            }
            Endpoint::Udp(udp) => self.bind_udp(udp).await?,
        }
        Ok(())
    }

    async fn bind_tcp(&mut self, endpoint: &TcpEndpoint) -> std::io::Result<()> {
        let address = find(&endpoint.host, endpoint.port).await?;
        let listeners = TcpListeners::bind(endpoint, address, self.workers)?;
        let scheme = match endpoint.security {
            Security::Clear => "tcp",
            Security::Tls => "tls",
        };
        let url = format!("{scheme}://{}", listeners.local);
        let mut listener = self.listener(url, &endpoint.options, Sockets::PerWorker);
        listener.security = endpoint.security;
        for (worker, socket) in listeners.sockets.into_iter().enumerate() {
            self.add(Source::Tcp(socket), listener.clone(), worker);
        }
        Ok(())
    }

    async fn bind_udp(&mut self, endpoint: &UdpEndpoint) -> std::io::Result<()> {
        let address = find(&endpoint.host, endpoint.port).await?;
        let bound = UdpSockets::bind(endpoint, address, self.workers)?;
        let url = format!("udp://{}", bound.local);
        let listener = self.listener(url, &StreamOptions::default(), Sockets::PerWorker);
        for (worker, socket) in bound.sockets.into_iter().enumerate() {
            self.add(Source::Udp(socket), listener.clone(), worker);
        }
        Ok(())
    }

    /// Takes the sockets of a name, or those that no other endpoint names.
    fn take_passed(
        &mut self,
        endpoint: &InheritedEndpoint<String>,
        all: &[Endpoint],
    ) -> std::io::Result<()> {
        let passed = Passed::from_environment()?;
        let wanted = if endpoint.which.is_empty() {
            let mut names = Vec::new();
            let mut fds = Vec::new();
            for other in all {
                match other {
                    Endpoint::Systemd(other) => names.push(other.which.as_str()),
                    Endpoint::Fd(other) => fds.push(other.which),
                    _ => {}
                }
            }
            // An empty one is this one, or one that comes too late; it is not a name.
            names.retain(|name| !name.is_empty());
            passed.except(&names, &fds)?
        } else {
            passed.named(&endpoint.which)?
        };
        for (name, fd) in wanted {
            let mut listener = self.listener(systemd_url(&name), &endpoint.options, Sockets::One);
            listener.security = endpoint.security;
            self.add_inherited(inherited::take(fd)?, listener);
        }
        Ok(())
    }

    fn add_inherited(&mut self, socket: Inherited, listener: Listener) {
        match socket {
            Inherited::Tcp(socket) => self.add(Source::Tcp(socket), listener, 0),
            Inherited::Unix(socket) => self.add(Source::Unix(socket), listener, 0),
            Inherited::Udp(socket) => self.add(Source::Udp(socket), listener, 0),
            Inherited::Stream(stream) => self.add_stream(stream, None, None, listener),
        }
    }

    fn add_stream(
        &mut self,
        stream: Handed,
        addresses: Option<(Address, Address)>,
        flushed: Option<oneshot::Receiver<()>>,
        listener: Listener,
    ) {
        let ended = self.ended.clone();
        self.listening.streams = Some(ended.subscribe());
        let stream = GivenStream {
            stream,
            addresses,
            flushed,
            ended,
        };
        // One worker after the other.
        let worker = self.sockets.len() % self.workers.max(1);
        self.add(Source::Stream(Box::new(stream)), listener, worker);
    }

    fn add(&mut self, source: Source, listener: Listener, worker: usize) {
        self.sockets.push(Socket {
            source,
            listener,
            worker,
        });
    }

    /// Notes where streams come from; sockets of one name are one listener.
    fn listener(&mut self, url: String, options: &StreamOptions, sockets: Sockets) -> Listener {
        let url: Arc<str> = url.into();
        if !self.listening.urls.contains(&url) {
            self.listening.urls.push(url.clone());
        }
        Listener {
            url,
            options: Arc::new(options.clone()),
            security: Security::Clear,
            tls: self.tls.clone(),
            sockets,
        }
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

/// A name that a URL cannot say is left out.
fn systemd_url(name: &str) -> String {
    let url = format!("systemd://{name}");
    match url.parse() {
        Ok(Endpoint::Systemd(endpoint)) if endpoint.which == name => url,
        _ => "systemd:".to_owned(),
    }
}
