//! The host's own HTTP: a socket, and a thread that answers one request on each connection. Metrics and administration are told over it; plugins have nothing to do with it.

mod stream;

use std::{convert::Infallible, error::Error, io, path::Path, sync::Arc, thread, time::Duration};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
pub(crate) use stream::Stream;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot},
    task::LocalSet,
};

use crate::{
    endpoint::{Endpoint, HostName, TcpEndpoint},
    transport::{
        Transport,
        tcp::TcpListeners,
        unix::{self, SocketFile},
    },
};

/// A socket that is bound; who connects waits in the kernel until it is [answered](Self::answer).
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    address: String,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A socket that is answered until this is dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    file: Option<SocketFile>,
    /// Closed when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Bound {
    /// Binds one socket, for TCP or UNIX; what comes before HTTP on a connection is the caller's.
    pub(crate) async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(tcp) => {
                let listeners = TcpListeners::bind(tcp, resolved(tcp).await?, 1)?;
                let socket = listeners.sockets.into_iter().next();
                Ok(Self {
                    socket: Socket::Tcp(socket.ok_or(io::ErrorKind::AddrNotAvailable)?),
                    address: listeners.local.to_string(),
                    file: None,
                })
            }
            Endpoint::Unix(unix) => {
                let (socket, file) = unix::bind(unix)?;
                Ok(Self {
                    socket: Socket::Unix(socket),
                    address: unix.address.to_string(),
                    file,
                })
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Returns the address: with the real port, or the path.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the file of a UNIX socket, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Begins to answer, in a thread of its own, for `what` in messages. There `begin` returns what is done with each connection.
    pub(crate) fn answer<S, F>(
        self,
        what: &'static str,
        begin: impl FnOnce() -> S + Send + 'static,
    ) -> io::Result<Answering>
    where
        S: Fn(Transport) -> F,
        F: Future<Output = Result<(), BoxedError>> + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let Self { socket, file, .. } = self;
        thread::Builder::new()
            .name(format!("nethost-{what}"))
            .spawn(move || run(what, &runtime, socket, &begin(), stopped))?;
        Ok(Answering { file, _stop: stop })
    }
}

impl Answering {
    /// Returns the file of a UNIX socket, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }
}

/// Why a connection ended early.
pub(crate) type BoxedError = Box<dyn Error + Send + Sync>;

async fn resolved(tcp: &TcpEndpoint) -> io::Result<std::net::SocketAddr> {
    match &tcp.host {
        HostName::Address(address) => Ok((*address, tcp.port).into()),
        HostName::Name(name) => {
            let mut found = tokio::net::lookup_host((name.as_str(), tcp.port)).await?;
            found
                .next()
                .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
        }
    }
}

fn run<S, F>(
    what: &'static str,
    runtime: &Runtime,
    socket: Socket,
    serve: &S,
    stopped: oneshot::Receiver<()>,
) where
    S: Fn(Transport) -> F,
    F: Future<Output = Result<(), BoxedError>> + 'static,
{
    let result = LocalSet::new().block_on(runtime, async {
        tokio::select! {
            accepted = accept(what, socket, serve) => accepted,
            _ = stopped => Ok(()),
        }
    });
    if let Err(error) = result {
        tracing::error!(%error, "the socket for {what} does not answer any more");
    }
}

async fn accept<S, F>(what: &'static str, socket: Socket, serve: &S) -> io::Result<()>
where
    S: Fn(Transport) -> F,
    F: Future<Output = Result<(), BoxedError>> + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let socket = match socket {
        Socket::Tcp(socket) => Acceptor::Tcp(TcpListener::from_std(socket)?),
        Socket::Unix(socket) => Acceptor::Unix(UnixListener::from_std(socket)?),
    };
    loop {
        // Those who come when there is no place wait in the kernel.
        let place = places.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let accepted = match &socket {
            Acceptor::Tcp(socket) => socket.accept().await.map(|(it, _)| Transport::Tcp(it)),
            Acceptor::Unix(socket) => socket.accept().await.map(|(it, _)| Transport::Unix(it)),
        };
        match accepted {
            Ok(transport) => {
                let served = serve(transport);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection for {what}");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection for {what}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Answers one request, and closes.
pub(crate) async fn answer_one<B, F>(
    transport: Transport,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Result<(), BoxedError>
where
    B: Body<Error: Into<BoxedError>> + 'static,
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Stream::new(transport)), service_fn(answer));
    Ok(connection.await?)
}

/// Connections at a time on one socket: 32, several scrapers and probes, or operators that follow the log.
const CONNECTIONS: usize = 32;

/// How long a request's header, and what comes before it, may take: 5 s each.
pub(crate) const HEADER_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request's header that are read: 16 KiB.
const BUFFER: usize = 16 << 10;

/// How long accepting pauses when the system has no more descriptors: 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
