//! The sockets of a service: bound, or taken over from who opened them, before its instances are made, so that an address in use is found first.
//!
//! A service that takes another's place gets its sockets as well, as duplicates of the descriptors: what waits in their queues is served by the new one, and none is
//! ever closed that somebody could be waiting at.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    sync::{Arc, Weak},
};

use rustix::net::listen;
use socket2::SockRef;
use tokio::sync::{oneshot, watch};

use super::ServiceError;
use crate::{
    endpoint::{
        Endpoint, HostName, InheritedEndpoint, Place, Security, StreamOptions, TcpEndpoint,
        UdpEndpoint, UnixName,
    },
    tls::server::ServerTls,
    transport::{
        Address, Handed,
        inherited::{self, Inherited, Passed},
        stdio,
        tcp::TcpListeners,
        udp::{self, UdpSockets},
        unix::{self, SocketFile},
    },
};

/// Where a service listens. Dropping it removes the files of UNIX sockets, unless a successor has them.
#[derive(Debug, Default)]
pub(super) struct Listening {
    urls: Vec<Arc<str>>,
    /// For a successor.
    bound: Vec<Bound>,
    /// What was taken over, by the predecessor's URLs.
    taken: Vec<Arc<str>>,
    /// The other end of what the service's [`GivenStream`]s hold; none if it has none.
    streams: Option<watch::Receiver<()>>,
    /// The certificates of those listeners that have some.
    certificates: Vec<Arc<ServerTls>>,
}

/// The sockets of one endpoint, beside those that workers have.
#[derive(Debug)]
struct Bound {
    endpoint: Endpoint,
    /// With the URLs of their listeners.
    sockets: Vec<(Arc<str>, Spare)>,
    file: Option<Arc<SocketFile>>,
    origin: Origin,
}

/// Another descriptor of a socket.
#[derive(Debug)]
enum Spare {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// A plugin may close a datagram socket: the descriptor goes with what the worker has.
    Udp(Weak<UdpSocket>),
}

/// Who bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This service, with all its options.
    Own,
    /// A predecessor, whose options may have been others.
    Predecessor,
}

/// A bound socket on its way to the worker that accepts on it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) source: Source,
    pub(super) listener: Listener,
    /// Which of the service's workers.
    pub(super) worker: usize,
    /// For a successor, of a datagram socket: to be held as long as it is served.
    pub(super) spare: Option<Arc<UdpSocket>>,
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

impl Spare {
    /// Returns a third descriptor, for a successor; none if the plugin has closed the socket.
    fn source(&self) -> std::io::Result<Option<Source>> {
        Ok(match self {
            Self::Tcp(socket) => Some(Source::Tcp(socket.try_clone()?)),
            Self::Unix(socket) => Some(Source::Unix(socket.try_clone()?)),
            Self::Udp(socket) => match socket.upgrade() {
                Some(socket) => Some(Source::Udp(socket.try_clone()?)),
                None => None,
            },
        })
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Udp(socket) => socket.strong_count() > 0,
        }
    }
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
    /// Binds every endpoint for that many workers. Where one of the predecessors listens already, its sockets are taken over; it goes on accepting on them until it is
    /// told to [let go](Self::let_go). `taken` are the URLs that other successors have.
    pub(super) async fn bind(
        endpoints: &[Endpoint],
        workers: usize,
        predecessors: &[&Self],
        taken: &[Arc<str>],
    ) -> Result<(Self, Vec<Socket>), ServiceError> {
        let spare = predecessors.iter().flat_map(|it| &it.bound);
        let spare = spare.filter(|it| !it.has_one_of(taken)).collect();
        let mut binding = Binding {
            listening: Self::default(),
            sockets: Vec::new(),
            ended: watch::Sender::new(()),
            workers,
            tls: None,
            spare,
        };
        for endpoint in endpoints {
            binding.load(endpoint)?;
            binding
                .bind_or_take_over(endpoint, endpoints)
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

    /// Returns the files of UNIX sockets.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.bound.iter().filter_map(|bound| bound.file.as_ref());
        files.map(|file| file.path())
    }

    pub(super) fn urls(&self) -> &[Arc<str>] {
        &self.urls
    }

    /// Returns what was taken over, by the predecessors' URLs.
    pub(super) fn taken(&self) -> &[Arc<str>] {
        &self.taken
    }

    /// Sets the options of sockets that were taken over, once it is certain that they are.
    pub(super) fn adjust(&self) {
        let taken = self.bound.iter();
        for bound in taken.filter(|bound| bound.origin == Origin::Predecessor) {
            if let Err(error) = bound.adjust() {
                let listener = bound.endpoint.to_string();
                tracing::warn!(listener, %error, "setting the options of a listener");
            }
        }
    }

    /// Leaves those of its sockets that have one of these URLs to who took them over, files and all.
    pub(super) fn let_go(&mut self, taken: &[Arc<str>]) {
        self.bound.retain(|bound| !bound.has_one_of(taken));
    }

    /// Closes the descriptors that are for a successor: there will be none. The sockets close with their acceptors then.
    pub(super) fn close_spare(&mut self) {
        for bound in &mut self.bound {
            bound.sockets.clear();
        }
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

impl Bound {
    fn has_one_of(&self, urls: &[Arc<str>]) -> bool {
        self.sockets.iter().any(|(url, _)| urls.contains(url))
    }

    fn adjust(&self) -> std::io::Result<()> {
        for (_, socket) in &self.sockets {
            match (socket, &self.endpoint) {
                // To listen again sets the length of the queue, and changes nothing else.
                (Spare::Tcp(socket), Endpoint::Tcp(endpoint)) => {
                    listen(socket, backlog(&endpoint.options))?;
                }
                (Spare::Unix(socket), Endpoint::Unix(endpoint)) => {
                    listen(socket, backlog(&endpoint.options))?;
                    if let (UnixName::Path(path), Some(mode)) = (&endpoint.address, endpoint.mode) {
                        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                    }
                }
                (Spare::Udp(socket), Endpoint::Udp(endpoint)) => {
                    if let Some(socket) = socket.upgrade() {
                        udp::set_buffers(endpoint, &SockRef::from(&*socket))?;
                    }
                }
                // Somebody else's.
                _ => {}
            }
        }
        Ok(())
    }
}

fn backlog(options: &StreamOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// What is bound so far.
struct Binding<'a> {
    listening: Listening,
    sockets: Vec<Socket>,
    ended: watch::Sender<()>,
    workers: usize,
    /// The certificates of the endpoint that is being bound.
    tls: Option<Arc<ServerTls>>,
    /// What predecessors listen on and nobody has taken over yet.
    spare: Vec<&'a Bound>,
}

impl Binding<'_> {
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

    async fn bind_or_take_over(
        &mut self,
        endpoint: &Endpoint,
        all: &[Endpoint],
    ) -> std::io::Result<()> {
        let first = self.sockets.len();
        let place = Place::of(endpoint);
        let spare = self.spare.iter().position(|bound| {
            let mut sockets = bound.sockets.iter();
            Place::of(&bound.endpoint) == place && sockets.any(|(_, spare)| spare.is_open())
        });
        let (file, origin) = match spare.map(|at| self.spare.remove(at)) {
            Some(bound) => {
                self.take_over(endpoint, bound)?;
                (bound.file.clone(), Origin::Predecessor)
            }
            None => (self.bind(endpoint, all).await?, Origin::Own),
        };
        let mut sockets = Vec::new();
        for socket in self.sockets.get_mut(first..).unwrap_or_default() {
            let spare = match &socket.source {
                Source::Tcp(socket) => Spare::Tcp(socket.try_clone()?),
                Source::Unix(socket) => Spare::Unix(socket.try_clone()?),
                Source::Udp(udp) => {
                    let spare = socket.spare.insert(Arc::new(udp.try_clone()?));
                    Spare::Udp(Arc::downgrade(spare))
                }
                // It has one owner.
                Source::Stream(_) => continue,
            };
            sockets.push((socket.listener.url.clone(), spare));
        }
        self.listening.bound.push(Bound {
            endpoint: endpoint.clone(),
            sockets,
            file,
            origin,
        });
        Ok(())
    }

    /// Takes a predecessor's sockets, which may be fewer or more than there are workers.
    fn take_over(&mut self, endpoint: &Endpoint, bound: &Bound) -> std::io::Result<()> {
        let default = StreamOptions::default();
        let options = endpoint.stream_options().unwrap_or(&default);
        let shares = match endpoint {
            Endpoint::Tcp(_) | Endpoint::Udp(_) if bound.sockets.len() >= self.workers => {
                Sockets::PerWorker
            }
            _ => Sockets::One,
        };
        for (index, (url, spare)) in bound.sockets.iter().enumerate() {
            let Some(source) = spare.source()? else {
                continue;
            };
            self.listening.taken.push(url.clone());
            let new_url = match (endpoint, url.split_once("://")) {
                (Endpoint::Tcp(endpoint), Some((_, address))) => {
                    format!("{}://{address}", scheme(endpoint.security))
                }
                _ => url.to_string(),
            };
            let mut listener = self.listener(new_url, options, shares);
            listener.security = endpoint.security();
            let worker = match shares {
                Sockets::PerWorker => index % self.workers.max(1),
                Sockets::One => 0,
            };
            self.add(source, listener, worker);
        }
        Ok(())
    }

    /// Binds an endpoint, and returns its file if it has one.
    async fn bind(
        &mut self,
        endpoint: &Endpoint,
        all: &[Endpoint],
    ) -> std::io::Result<Option<Arc<SocketFile>>> {
        match endpoint {
            Endpoint::Tcp(tcp) => self.bind_tcp(tcp).await?,
            Endpoint::Unix(unix) => {
                let (socket, file) = unix::bind(unix)?;
                let listener = self.listener(unix.address.to_string(), &unix.options, Sockets::One);
                self.add(Source::Unix(socket), listener, 0);
                return Ok(file.map(Arc::new));
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
        Ok(None)
    }

    async fn bind_tcp(&mut self, endpoint: &TcpEndpoint) -> std::io::Result<()> {
        let address = find(&endpoint.host, endpoint.port).await?;
        let listeners = TcpListeners::bind(endpoint, address, self.workers)?;
        let url = format!("{}://{}", scheme(endpoint.security), listeners.local);
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
            spare: None,
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

fn scheme(security: Security) -> &'static str {
    match security {
        Security::Clear => "tcp",
        Security::Tls => "tls",
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
