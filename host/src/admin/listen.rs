//! Listening for operators: the socket, its lock, and the thread that answers.

use std::{io, path::Path, rc::Rc, sync::Arc, thread, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::LocalSet,
};

use super::{Admin, Commands, routes::Routes, stream::Stream};
use crate::{
    config::Secret,
    endpoint::{Endpoint, HostName, TcpEndpoint},
    metrics::registry::Registry,
    tls::{TlsError, server::ServerTls},
    transport::{
        Transport,
        tcp::TcpListeners,
        tls::TlsStream,
        unix::{self, SocketFile},
    },
};

/// An admin socket that is bound. It is answered once it is [told](Self::answer) by whom, until it is dropped.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    url: String,
    file: Option<SocketFile>,
    tls: Option<Arc<ServerTls>>,
    token: Option<Secret>,
}

/// An admin socket that answers until this is dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    _file: Option<SocketFile>,
    /// Closed when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Why there is no admin socket.
#[derive(Debug, Error)]
pub(crate) enum AdminError {
    #[error("listening on {endpoint} for administration")]
    Listen {
        endpoint: String,
        #[source]
        error: io::Error,
    },
    #[error("the certificates of {endpoint}, for administration")]
    Tls {
        endpoint: String,
        #[source]
        error: TlsError,
    },
    #[error(
        "administration over {0} needs a token, which every request has to bring: say --admin-token FILE, or admin-token = {{ file = \"...\" }} under [host]"
    )]
    NoToken(String),
}

impl AdminError {
    /// Returns whether the operator can mend it by calling differently.
    pub(crate) fn is_mistake(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::NoToken(_))
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// Binds the socket; who connects from now on waits in the kernel.
    pub(crate) async fn bind(admin: &Admin) -> Result<Self, AdminError> {
        let endpoint = admin.endpoint.to_string();
        let failed = |error| AdminError::Listen {
            endpoint: endpoint.clone(),
            error,
        };
        let token = admin.token.clone();
        match &admin.endpoint {
            Endpoint::Unix(unix) => {
                let (socket, file) = unix::bind(unix).map_err(failed)?;
                Ok(Self {
                    socket: Socket::Unix(socket),
                    url: unix.address.to_string(),
                    file,
                    tls: None,
                    token,
                })
            }
            Endpoint::Tcp(tcp) => {
                if token.is_none() {
                    return Err(AdminError::NoToken(endpoint));
                }
                let tls = ServerTls::load(&tcp.options.tls);
                let tls = tls.map_err(|error| AdminError::Tls {
                    endpoint: endpoint.clone(),
                    error,
                })?;
                let (socket, url) = bind_tcp(tcp).await.map_err(failed)?;
                Ok(Self {
                    socket: Socket::Tcp(socket),
                    url,
                    file: None,
                    tls: Some(tls),
                    token,
                })
            }
            _ => Err(failed(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Returns the file of its UNIX socket, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Returns where it is, with the real port.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the listener's certificates, to be watched.
    pub(crate) fn certificates(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// Begins to answer, in a thread of its own.
    pub(crate) fn answer(
        self,
        registry: Arc<Registry>,
        commands: Commands,
    ) -> io::Result<Answering> {
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let Self {
            socket,
            url: _,
            file,
            tls,
            token,
        } = self;
        let routes = Routes::new(registry, commands, token);
        thread::Builder::new()
            .name("nethost-admin".to_owned())
            .spawn(move || run(&runtime, socket, tls, routes, stopped))?;
        Ok(Answering {
            _file: file,
            _stop: stop,
        })
    }
}

async fn bind_tcp(tcp: &TcpEndpoint) -> io::Result<(std::net::TcpListener, String)> {
    let address = match &tcp.host {
        HostName::Address(address) => (*address, tcp.port).into(),
        HostName::Name(name) => tokio::net::lookup_host((name.as_str(), tcp.port))
            .await?
            .next()
            .ok_or(io::ErrorKind::AddrNotAvailable)?,
    };
    let listeners = TcpListeners::bind(tcp, address, 1)?;
    let url = format!("tls://{}", listeners.local);
    let socket = listeners.sockets.into_iter().next();
    Ok((socket.ok_or(io::ErrorKind::AddrNotAvailable)?, url))
}

fn run(
    runtime: &Runtime,
    socket: Socket,
    tls: Option<Arc<ServerTls>>,
    routes: Routes,
    stopped: oneshot::Receiver<()>,
) {
    let result = LocalSet::new().block_on(runtime, async {
        tokio::select! {
            accepted = accept(socket, tls, Rc::new(routes)) => accepted,
            _ = stopped => Ok(()),
        }
    });
    if let Err(error) = result {
        tracing::error!(%error, "the admin socket does not answer any more");
    }
}

async fn accept(socket: Socket, tls: Option<Arc<ServerTls>>, routes: Rc<Routes>) -> io::Result<()> {
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
                tokio::task::spawn_local(serve(transport, tls.clone(), routes.clone(), place));
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection for administration");
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
async fn serve(
    transport: Transport,
    tls: Option<Arc<ServerTls>>,
    routes: Rc<Routes>,
    _place: OwnedSemaphorePermit,
) {
    let transport = match tls {
        None => Ok(transport),
        Some(tls) => match tokio::time::timeout(HEADER_TIME, secure(transport, &tls)).await {
            Ok(secured) => secured,
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    let stream = match transport {
        Ok(transport) => Stream::new(transport),
        Err(error) => {
            tracing::debug!(%error, "a connection for administration");
            return;
        }
    };
    let answer = service_fn(|request| {
        let routes = routes.clone();
        async move { routes.answer(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection for administration");
    }
}

async fn secure(transport: Transport, tls: &ServerTls) -> io::Result<Transport> {
    let mut stream = TlsStream::server(transport, tls.config(), &[])?;
    std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// Connections at a time: 32, several operators that follow the log.
const CONNECTIONS: usize = 32;

/// How long a handshake, and a request's header, may take: 5 s each.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request's header that are read: 16 KiB.
const BUFFER: usize = 16 << 10;

/// How long accepting pauses when the system has no more descriptors: 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
