//! What an application is.

use std::{cell::RefCell, fmt, future::Future, pin::Pin, rc::Rc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use nethost_sdk::{Address, Config, Connection, TlsInfo, accounts::Account};

use crate::{body::Body, codec::head::Field, types::Limits};

/// A plugin that answers requests: [`Http`](crate::Http) of it is what `export_plugin!` takes.
pub trait Application: 'static {
    /// What answers. An instance has one.
    type Service: Service;

    /// Makes it, once, before anything else. An error keeps the service from starting and is shown to the operator.
    fn configure(config: &Config) -> Result<Self::Service, String>;
}

/// Answers requests: an application, or what stands before one.
pub trait Service: 'static {
    /// Answers a request. It is called within a callback of the host and does not wait: what takes time is in a [`Reply::later`].
    fn call(self: &Rc<Self>, request: Request<Body>, peer: &Peer) -> Reply;

    /// An answer is on its way, for a log. `bytes` are those of its body.
    fn answered(self: &Rc<Self>, peer: &Peer, status: StatusCode, bytes: u64) {
        let _ = (peer, status, bytes);
    }

    /// The service goes away; requests that are in progress are still answered.
    fn draining(self: &Rc<Self>) {}

    /// What is put up with. Asked once.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

/// An answer: now, or later.
pub enum Reply {
    /// It is there.
    Now(Response<Body>),
    /// It comes. If the client goes away before, this is dropped.
    Later(Pin<Box<dyn Future<Output = Response<Body>>>>),
}

impl Reply {
    /// An answer that takes time. An error is an answer as well: of [`BodyError`](crate::BodyError) it is made here, of others by the application.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use nethost_http::{Body, BodyError, Reply, text};
    ///
    /// fn shout(request: Request<Body>) -> Reply {
    ///     Reply::later(async {
    ///         let body = request.into_body().collect(1000).await?;
    ///         Ok::<_, BodyError>(text(body.to_ascii_uppercase()))
    ///     })
    /// }
    /// ```
    pub fn later<E: Into<Response<Body>>>(
        answer: impl Future<Output = Result<Response<Body>, E>> + 'static,
    ) -> Self {
        Self::Later(Box::pin(
            async move { answer.await.unwrap_or_else(Into::into) },
        ))
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Now(response)
    }
}

/// An answer without a body, but for the status in words where it is an error.
impl From<StatusCode> for Reply {
    fn from(status: StatusCode) -> Self {
        Self::Now(plain(status))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(response) => response.fmt(f),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// Who has sent a request, and how it was written. A clone is the same.
#[derive(Clone)]
pub struct Peer(Rc<Asked>);

struct Asked {
    connection: Connection,
    head: Bytes,
    fields: usize,
    account: RefCell<Option<Rc<Account>>>,
}

impl Peer {
    pub(crate) fn new(connection: &Connection, head: Bytes, fields: usize) -> Self {
        Self(Rc::new(Asked {
            connection: connection.clone(),
            head,
            fields,
            account: RefCell::default(),
        }))
    }

    /// The client's address.
    pub fn address(&self) -> Address {
        self.0.connection.peer()
    }

    /// This side's address.
    pub fn local(&self) -> Address {
        self.0.connection.local()
    }

    /// What the TLS handshake led to; none without TLS.
    pub fn tls(&self) -> Option<TlsInfo> {
        self.0.connection.tls()
    }

    /// The user that the client has shown to be, if something before the application has asked it to.
    pub fn account(&self) -> Option<Rc<Account>> {
        self.0.account.borrow().clone()
    }

    /// Remembers the user.
    pub fn set_account(&self, account: Rc<Account>) {
        self.0.account.replace(Some(account));
    }

    /// The request line, as it came.
    pub fn request_line(&self) -> &[u8] {
        let line = self.0.head.get(..self.0.fields.saturating_sub(2));
        let line = line.unwrap_or_default();
        line.strip_prefix(b"\r\n").unwrap_or(line)
    }

    /// The header lines as they came, name and value.
    pub fn header_lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let head = &self.0.head;
        let mut fields: Vec<Field> = Vec::new();
        // It was decoded before, so every line is one.
        let limits = Limits {
            headers: usize::MAX,
            header_bytes: usize::MAX,
            ..Limits::default()
        };
        let _decoded = crate::codec::head::field_lines(head, self.0.fields, &limits, &mut fields);
        fields.into_iter().map(move |field| {
            let part = |range| head.get(range).unwrap_or_default();
            (part(field.name), part(field.value))
        })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// The values of a header, as they came.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.header_lines();
        lines
            .find(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.address()).finish()
    }
}

/// An answer with a text.
pub fn text(text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An answer with the status as its text, where it can have one.
pub(crate) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = if status.is_client_error() || status.is_server_error() {
        text(format!("{status}\n"))
    } else {
        Response::new(Body::empty())
    };
    *response.status_mut() = status;
    response
}
