//! The commands' side of the admin socket.

use std::{io, path::Path, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::TcpStream;

use super::{api, content::Content};
use crate::{
    endpoint::{Endpoint, HostName, Security, TcpEndpoint},
    http::Stream,
    tls::ClientTls,
    transport::{
        Transport,
        tls::{self, TlsStream, server_name},
        unix,
    },
};

/// Asks one host. Every request has a connection of its own.
pub(crate) struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    /// Whom it trusts with TLS.
    tls: Arc<ClientTls>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nobody is there.
    #[error("no nethost answers at {endpoint}")]
    Unreachable {
        endpoint: String,
        #[source]
        error: io::Error,
    },
    /// Somebody is there, and is not trusted, or does not speak TLS.
    #[error("TLS with {endpoint} fails: {reason}")]
    Untrusted { endpoint: String, reason: String },
    /// The connection broke.
    #[error("asking the nethost at {endpoint}")]
    Broken {
        endpoint: String,
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host is gone, or the connection to it.
    #[error("the nethost at {endpoint} ended in the middle of its answer")]
    Cut { endpoint: String },
    /// The host said why.
    #[error("{}", .failure.error)]
    Refused {
        status: StatusCode,
        failure: api::Failure,
    },
}

impl ClientError {
    /// Returns whether the operator can mend it by calling differently, or by doing something else first.
    pub(crate) fn is_mistake(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } => true,
            Self::Broken { .. } | Self::Cut { .. } => false,
            Self::Refused { status, .. } => status.is_client_error(),
        }
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    endpoint: String,
    body: Incoming,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, token: Option<String>, tls: Arc<ClientTls>) -> Self {
        Self {
            endpoint,
            token,
            tls,
        }
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        let response = self.request(method, path, body).await?;
        let bytes = self.collected(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    /// Asks, and reads the answer as it comes.
    pub(crate) async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let response = self.request(Method::GET, path, Vec::new()).await?;
        Ok(Lines {
            endpoint: self.endpoint.to_string(),
            body: response.into_body(),
            unread: Vec::new(),
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = tokio::time::timeout(CONNECT_TIME, self.connect()).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| self.unconnected(error))?;
        let handshake = http1::handshake(TokioIo::new(Stream::new(stream))).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        // It ends with the answer; what breaks it breaks the answer too.
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut request = Request::new(Content::whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| self.broken(error))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("nethost"));
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            headers.insert(AUTHORIZATION, value.map_err(|error| self.broken(error))?);
        }
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| self.broken(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.collected(response).await?;
        let failure = serde_json::from_slice(&bytes);
        let failure = failure.unwrap_or_else(|_| api::Failure {
            error: format!("the host answered {status}"),
            known: Vec::new(),
        });
        Err(ClientError::Refused { status, failure })
    }

    async fn connect(&self) -> io::Result<Transport> {
        match &self.endpoint {
            Endpoint::Unix(endpoint) => {
                Ok(Transport::Unix(unix::connect(&endpoint.address).await?))
            }
            Endpoint::Tcp(tcp) if tcp.security == Security::Tls => self.secured(tcp).await,
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn secured(&self, tcp: &TcpEndpoint) -> io::Result<Transport> {
        let host = match &tcp.host {
            HostName::Address(address) => address.to_string(),
            HostName::Name(name) => name.clone(),
        };
        let stream = TcpStream::connect((host.as_str(), tcp.port)).await?;
        let name = tcp.options.tls.server_name.as_deref().unwrap_or(&host);
        let name = server_name(name).map_err(io::Error::other)?;
        let config = self
            .tls
            .config(&tcp.options.tls)
            .map_err(|error| tls::failure_of(crate::chain(&error)))?;
        let mut stream = TlsStream::client(Transport::Tcp(stream), config, name)?;
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    async fn collected(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = response.into_body().collect().await;
        Ok(body.map_err(|error| self.broken(error))?.to_bytes())
    }

    fn unconnected(&self, error: io::Error) -> ClientError {
        let endpoint = self.endpoint.to_string();
        match tls::failure(&error) {
            Some(reason) => ClientError::Untrusted {
                endpoint,
                reason: reason.to_owned(),
            },
            None => ClientError::Unreachable { endpoint, error },
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken {
            endpoint: self.endpoint.to_string(),
            error: error.into(),
        }
    }
}

impl Lines {
    /// Returns the next line; none at the end. Empty ones say nothing.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                if line.len() <= 1 {
                    continue;
                }
                let line = serde_json::from_slice(&line);
                return line.map(Some).map_err(|error| self.broken(error));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(ClientError::Cut {
                        endpoint: self.endpoint.clone(),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken {
            endpoint: self.endpoint.clone(),
            error: error.into(),
        }
    }
}

/// Writes a part of a path, or a value of a query, so that it stays one.
pub(crate) fn encoded(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}

/// Writes the path of something of a service.
pub(crate) fn of_service(service: &str, what: &str) -> String {
    let service = encoded(service);
    format!("/v1/services/{service}{what}")
}

/// Names a file in messages.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// How long connecting may take: 10 s.
const CONNECT_TIME: Duration = Duration::from_secs(10);
