//! Listening for operators: the socket, and TLS and the token where it is on TCP.

use std::{io, path::Path, rc::Rc, sync::Arc};

use thiserror::Error;

use super::{Admin, Commands, routes::Routes};
use crate::{
    config::Secret,
    endpoint::Endpoint,
    http::{self, Answering, BoxedError, HEADER_TIME, answer_one},
    metrics::registry::Registry,
    tls::{TlsError, server::ServerTls},
    transport::{Transport, tls::TlsStream},
};

/// An admin socket that is bound. It is answered once it is [told](Self::answer) by whom.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: http::Bound,
    url: String,
    tls: Option<Arc<ServerTls>>,
    token: Option<Secret>,
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

impl Bound {
    /// Binds the socket; who connects from now on waits in the kernel.
    pub(crate) async fn bind(admin: &Admin) -> Result<Self, AdminError> {
        let endpoint = admin.endpoint.to_string();
        let token = admin.token.clone();
        let tls = match &admin.endpoint {
            Endpoint::Tcp(_) if token.is_none() => return Err(AdminError::NoToken(endpoint)),
            Endpoint::Tcp(tcp) => {
                let tls = ServerTls::load(&tcp.options.tls);
                Some(tls.map_err(|error| AdminError::Tls {
                    endpoint: endpoint.clone(),
                    error,
                })?)
            }
            _ => None,
        };
        let socket = http::Bound::bind(&admin.endpoint).await;
        let socket = socket.map_err(|error| AdminError::Listen { endpoint, error })?;
        let scheme = if tls.is_some() { "tls://" } else { "" };
        Ok(Self {
            url: format!("{scheme}{}", socket.address()),
            socket,
            tls,
            token,
        })
    }

    /// Returns the file of its UNIX socket, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.socket.file()
    }

    /// Returns where it is, with the real port.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the listener's certificates, to be watched.
    pub(crate) fn certificates(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// Begins to answer, in a thread of its own, until what this returns is dropped.
    pub(crate) fn answer(
        self,
        registry: Arc<Registry>,
        commands: Commands,
    ) -> io::Result<Answering> {
        let Self {
            socket, tls, token, ..
        } = self;
        let routes = Routes::new(registry, commands, token);
        socket.answer("admin", move || {
            let routes = Rc::new(routes);
            move |transport| serve(transport, tls.clone(), routes.clone())
        })
    }
}

async fn serve(
    transport: Transport,
    tls: Option<Arc<ServerTls>>,
    routes: Rc<Routes>,
) -> Result<(), BoxedError> {
    let transport = match tls {
        None => transport,
        Some(tls) => tokio::time::timeout(HEADER_TIME, secure(transport, &tls)).await??,
    };
    answer_one(transport, |request| routes.answer(request)).await
}

async fn secure(transport: Transport, tls: &ServerTls) -> io::Result<Transport> {
    let mut stream = TlsStream::server(transport, tls.config(), &[])?;
    std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(Transport::Tls(Box::new(stream)))
}
