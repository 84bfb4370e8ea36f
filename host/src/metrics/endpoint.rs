//! The endpoint: `/metrics`, `/healthz` and `/readyz` over HTTP/1.1, on a thread of its own.

use std::{convert::Infallible, io, path::Path, sync::Arc, thread, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

use super::registry::{Readiness, Registry};
use crate::{
    endpoint::{Endpoint, HostName, Security, TcpEndpoint},
    transport::{
        tcp::TcpListeners,
        unix::{self, SocketFile},
    },
};

/// An endpoint that answers until it is dropped.
#[derive(Debug)]
pub struct Serving {
    url: String,
    file: Option<SocketFile>,
    /// Closed when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Why there is no endpoint.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// It is no place for it.
    #[error(
        "{0}: metrics are told at tcp://HOST:PORT, unix:///PATH or unix:@NAME, without TLS and without the PROXY protocol"
    )]
    Unfit(String),
    /// It cannot listen.
    #[error("listening on {endpoint} for metrics")]
    Listen {
        /// Where.
        endpoint: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl EndpointError {
    /// Returns whether the operator can mend it by calling differently.
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }
}

/// Returns whether metrics can be told there.
pub fn check(endpoint: &Endpoint) -> Result<(), EndpointError> {
    let proxied = |endpoint: &Endpoint| {
        let options = endpoint.stream_options();
        options.is_some_and(|options| options.proxy.is_some())
    };
    match endpoint {
        Endpoint::Tcp(TcpEndpoint {
            security: Security::Clear,
            ..
        })
        | Endpoint::Unix(_)
            if !proxied(endpoint) =>
        {
            Ok(())
        }
        _ => Err(EndpointError::Unfit(endpoint.to_string())),
    }
}

/// Listens, and answers in a thread of its own.
pub async fn serve(endpoint: &Endpoint, registry: Arc<Registry>) -> Result<Serving, EndpointError> {
    check(endpoint)?;
    let failed = |error| EndpointError::Listen {
        endpoint: endpoint.to_string(),
        error,
    };
    let (socket, url, file) = bind(endpoint).await.map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    thread::Builder::new()
        .name("nethost-metrics".to_owned())
        .spawn(move || run(&runtime, socket, registry, stopped))
        .map_err(failed)?;
    tracing::info!(url, "metrics, /healthz and /readyz");
    Ok(Serving {
        url,
        file,
        _stop: stop,
    })
}

impl Serving {
    /// Returns the file of its UNIX socket, if it has one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// Returns where the metrics are, with the real port.
    pub fn url(&self) -> &str {
        &self.url
    }
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

async fn bind(endpoint: &Endpoint) -> io::Result<(Bound, String, Option<SocketFile>)> {
    match endpoint {
        Endpoint::Tcp(tcp) => {
            let address = match &tcp.host {
                HostName::Address(address) => (*address, tcp.port).into(),
                HostName::Name(name) => tokio::net::lookup_host((name.as_str(), tcp.port))
                    .await?
                    .next()
                    .ok_or(io::ErrorKind::AddrNotAvailable)?,
            };
            let listeners = TcpListeners::bind(tcp, address, 1)?;
            let url = format!("http://{}/metrics", listeners.local);
            let socket = listeners.sockets.into_iter().next();
            let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok((Bound::Tcp(socket), url, None))
        }
        Endpoint::Unix(endpoint) => {
            let (socket, file) = unix::bind(endpoint)?;
            let url = format!("unix:{}", endpoint.address);
            Ok((Bound::Unix(socket), url, file))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn run(runtime: &Runtime, socket: Bound, registry: Arc<Registry>, stopped: oneshot::Receiver<()>) {
    let result = runtime.block_on(async {
        tokio::select! {
            accepted = accept(socket, registry) => accepted,
            _ = stopped => Ok(()),
        }
    });
    if let Err(error) = result {
        tracing::error!(%error, "metrics are not told any more");
    }
}

async fn accept(socket: Bound, registry: Arc<Registry>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let socket = match socket {
        Bound::Tcp(socket) => Acceptor::Tcp(TcpListener::from_std(socket)?),
        Bound::Unix(socket) => Acceptor::Unix(UnixListener::from_std(socket)?),
    };
    loop {
        // Those who come when there is no place wait in the kernel.
        let place = places.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        match &socket {
            Acceptor::Tcp(socket) => match socket.accept().await {
                Ok((stream, _)) => spawn(stream, registry.clone(), place),
                Err(error) => pause(&error).await,
            },
            Acceptor::Unix(socket) => match socket.accept().await {
                Ok((stream, _)) => spawn(stream, registry.clone(), place),
                Err(error) => pause(&error).await,
            },
        }
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

async fn pause(error: &io::Error) {
    tracing::debug!(%error, "accepting a connection for metrics");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Answers one request in a task, and closes.
fn spawn(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    registry: Arc<Registry>,
    place: OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let _place = place;
        let answer = service_fn(|request| answer(request, &registry));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .keep_alive(false)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), answer);
        match tokio::time::timeout(CONNECTION_TIME, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics"),
            Err(_elapsed) => tracing::debug!("a connection for metrics took too long"),
        }
    });
}

async fn answer(
    request: Request<Incoming>,
    registry: &Registry,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let known = matches!(path, "/metrics" | "/healthz" | "/readyz");
    let (status, kind, body) = if !known {
        let body = "/metrics, /healthz and /readyz are here\n".to_owned();
        (StatusCode::NOT_FOUND, PLAIN, body)
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let body = "only GET and HEAD\n".to_owned();
        (StatusCode::METHOD_NOT_ALLOWED, PLAIN, body)
    } else if path == "/metrics" {
        (StatusCode::OK, TEXT, registry.scrape().await)
    } else if path == "/healthz" {
        let (status, body) = health(registry).await;
        (status, PLAIN, body)
    } else {
        let (status, body) = readiness(registry);
        (status, PLAIN, body)
    };
    // hyper leaves the body out of the answer to HEAD, and says its length.
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

async fn health(registry: &Registry) -> (StatusCode, String) {
    let silent = registry.silent_workers().await;
    if silent.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = silent
        .iter()
        .map(|worker| format!("worker {worker} does not answer\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

fn readiness(registry: &Registry) -> (StatusCode, String) {
    let (readiness, lines) = registry.readiness();
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Unready => StatusCode::SERVICE_UNAVAILABLE,
    };
    (
        status,
        lines.iter().map(|line| format!("{line}\n")).collect(),
    )
}

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN: &str = "text/plain; charset=utf-8";

/// Connections at a time: 32, several scrapers and probes.
const CONNECTIONS: usize = 32;

/// How long a request's header may take: 5 s.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// How long a connection may take: 30 s, three times what Prometheus waits for a scrape.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Bytes of a request's header that are read: 16 KiB.
const BUFFER: usize = 16 << 10;

/// How long accepting pauses when the system has no more descriptors: 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
