//! The endpoint: `/metrics`, `/healthz` and `/readyz` over HTTP/1.1, on a thread of its own.

use std::{convert::Infallible, io, path::Path, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use thiserror::Error;

use super::registry::{Readiness, Registry};
use crate::{
    endpoint::{Endpoint, Security, TcpEndpoint},
    http::{Answering, Bound, BoxedError, answer_one},
    transport::Transport,
};

/// An endpoint that answers until it is dropped.
#[derive(Debug)]
pub struct Serving {
    url: String,
    answering: Answering,
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
    let socket = Bound::bind(endpoint).await.map_err(failed)?;
    let url = match endpoint {
        Endpoint::Unix(_) => format!("unix:{}", socket.address()),
        _ => format!("http://{}/metrics", socket.address()),
    };
    let begin = move || move |transport| serve_one(transport, registry.clone());
    let answering = socket.answer("metrics", begin).map_err(failed)?;
    tracing::info!(url, "metrics, /healthz and /readyz");
    Ok(Serving { url, answering })
}

impl Serving {
    /// Returns the file of its UNIX socket, if it has one.
    pub fn file(&self) -> Option<&Path> {
        self.answering.file()
    }

    /// Returns where the metrics are, with the real port.
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn serve_one(transport: Transport, registry: Arc<Registry>) -> Result<(), BoxedError> {
    let answered = answer_one(transport, |request| answer(request, &registry));
    tokio::time::timeout(CONNECTION_TIME, answered).await?
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

/// How long a connection may take: 30 s, three times what Prometheus waits for a scrape.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
