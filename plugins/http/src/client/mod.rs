//! The client: HTTP/1.1 over TCP and TLS.
//!
//! | module | what |
//! |---|---|
//! | [`url`] | URLs, and what a redirect means |
//! | [`codec`] | bytes to responses, and requests to bytes |
//! | [`session`] | what the bytes of one connection mean; no host calls |
//! | [`Client`] | the glue: connections, kept for the next request, redirects, time-outs, proxies |
//! | [`Get`] | the command: `nethost exec plugins/http.wasm get URL` |
//!
//! ```
//! use http::Request;
//! use nethost_http::{Body, client::{Client, Error, Options}};
//!
//! async fn motto(client: &Client) -> Result<Vec<u8>, Error> {
//!     let request = Request::get("https://example.org/motto").body(Body::empty());
//!     let Ok(request) = request else { return Ok(Vec::new()) };
//!     let response = client.send(request).await?;
//!     // Or piece by piece, with `next`.
//!     let motto = response.into_body().collect(1000).await;
//!     motto.map(Into::into).map_err(Error::Body)
//! }
//! # let _ = motto(&Client::new(Options::default()));
//! ```

pub mod url;

pub mod codec;

pub mod session;

mod redirect;

mod exchange;
mod pool;

mod coding;

mod error;
mod options;

mod command;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use nethost_sdk::{Stream, TlsRole, after};

use self::{
    codec::{Malformed, RequestLength},
    coding::{ACCEPTED, Coding, Decoded},
    exchange::{Exchange, Framed, Home, Incoming, Piece, TOTAL},
    pool::{Pool, Route},
    redirect::Asked,
    session::Session,
    url::{Origin, Scheme, Url},
};
pub use self::{
    command::Get,
    error::Error,
    options::{Options, Proxy},
    pool::MAX_IDLE,
};
use crate::body::{Body, Kind};

/// Sends requests, and keeps connections for the next ones. A plugin has one, or one for each set of options; its copies share connections.
#[derive(Clone, Debug, Default)]
pub struct Client {
    options: Options,
    pool: Rc<Pool>,
}

/// What is sent with a request, which may be needed more than once: a redirect, or a kept connection that the server has closed meanwhile.
pub(crate) struct Upload {
    make: Box<dyn FnMut() -> Option<Body>>,
    is_repeatable: bool,
}

impl Client {
    /// A client without connections.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            pool: Rc::default(),
        }
    }

    /// Sends a request, whose URL is absolute, and returns when the head of the answer is there. Any status is an answer. Its body comes as it is
    /// read; one that is dropped before its end closes the connection.
    ///
    /// `Host`, the length and what is about the connection are the client's own, but for a `Host` in the request. A body that is not in memory is sent once: a redirect that wants it again fails.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let (parts, body) = request.into_parts();
        let text = parts.uri.to_string();
        let url = Url::parse(&text).map_err(|error| Error::Url(text, error))?;
        let upload = Upload::of(body);
        self.fetch(url, (parts.method, parts.headers), upload).await
    }

    pub(crate) async fn fetch(
        &self,
        url: Url,
        (method, mut headers): (Method, HeaderMap),
        upload: Upload,
    ) -> Result<Response<Body>, Error> {
        if let Some(credentials) = url.credentials()
            && !headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = options::basic(credentials)
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        // A part of what is compressed cannot be decoded.
        let decodes = self.options.decodes
            && !headers.contains_key(header::ACCEPT_ENCODING)
            && !headers.contains_key(header::RANGE);
        if decodes {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        let asked = Asked {
            url,
            method,
            headers,
            has_body: true,
        };
        let mut deadline = self.options.total_time.map(after);
        let mut work = pin!(self.follow(asked, upload));
        let (response, exchange, asked) = poll_fn(|cx| {
            if let Some(deadline) = &mut deadline
                && Pin::new(deadline).poll(cx).is_ready()
            {
                return Poll::Ready(Err(Error::Timeout(TOTAL)));
            }
            work.as_mut().poll(cx)
        })
        .await?;
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|it| it.to_str().ok()?.parse().ok());
        let incoming = Incoming {
            exchange,
            deadline,
            is_over: false,
            length: length.filter(|_| asked.method != Method::HEAD),
        };
        let coding = Coding::of(response.headers()).filter(|_| decodes);
        let mut response = match coding {
            Some(coding) if asked.method != Method::HEAD => {
                let mut response = response.map(|()| Body::stream(Decoded::new(incoming, coding)));
                // They describe what came, and not what the caller gets.
                response.headers_mut().remove(header::CONTENT_ENCODING);
                response.headers_mut().remove(header::CONTENT_LENGTH);
                response
            }
            _ => response.map(|()| Body::stream(incoming)),
        };
        response.extensions_mut().insert(asked.url);
        Ok(response)
    }

    /// Asks, and asks again as long as the answer says so.
    async fn follow(
        &self,
        mut asked: Asked,
        mut upload: Upload,
    ) -> Result<(Response<()>, Exchange, Asked), Error> {
        let most = self.options.redirects;
        for count in 0.. {
            let (response, exchange) = self.exchange(&asked, &mut upload).await?;
            let next = match most {
                0 => None,
                _ => asked.redirected(&response)?,
            };
            let Some(next) = next else {
                return Ok((response, exchange, asked));
            };
            if count == most {
                break;
            }
            if next.has_body && !upload.is_repeatable {
                return Err(Error::Replay(next.url.to_string()));
            }
            pass_over(exchange).await;
            asked = next;
        }
        Err(Error::Redirects(most))
    }

    /// Sends one request, and waits for the head of its answer. A kept connection may be closed by the server at the moment when it is used, so a request that may be
    /// repeated is ([RFC 9110 section 9.2.2](https://www.rfc-editor.org/rfc/rfc9110.html#section-9.2.2-4)).
    async fn exchange(
        &self,
        asked: &Asked,
        upload: &mut Upload,
    ) -> Result<(Response<()>, Exchange), Error> {
        let route = Route {
            origin: asked.url.origin().clone(),
            proxy: self.options.proxy.clone(),
        };
        let mut kept = self.pool.take(&route);
        loop {
            let is_kept = kept.is_some();
            let stream = match kept.take() {
                Some(stream) => stream,
                None => self.connect(&route).await?,
            };
            let body = match asked.has_body {
                true => (upload.make)().unwrap_or_default(),
                false => Body::empty(),
            };
            let request = self.encoded(asked, body);
            let session = Session::new(asked.method.clone(), self.options.limits);
            let home = Home {
                pool: Rc::clone(&self.pool),
                route: route.clone(),
                idle_time: self.options.idle_time,
            };
            let silence = self.options.silence_time;
            let mut exchange = Exchange::new(stream, session, request, silence, Some(home));
            match exchange.head().await {
                Ok(response) => return Ok((response, exchange)),
                Err(Error::Lost(_) | Error::Malformed(Malformed::Incomplete))
                    if is_kept
                        && exchange.is_unheard()
                        && asked.method.is_idempotent()
                        && (upload.is_repeatable || !asked.has_body) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The request's head, and its body, if there is one.
    fn encoded(&self, asked: &Asked, body: Body) -> (Vec<u8>, Option<(Body, Framed)>) {
        let expects_body = matches!(asked.method, Method::POST | Method::PUT | Method::PATCH);
        let (length, framed) = match body.length() {
            Some(0) if expects_body => (RequestLength::Known(0), None),
            Some(0) => (RequestLength::None, None),
            Some(length) => (RequestLength::Known(length), Some(Framed::Known(length))),
            None => (RequestLength::Chunked, Some(Framed::Chunked)),
        };
        let mut headers = asked.headers.clone();
        let origin = asked.url.origin();
        let target = match &self.options.proxy {
            Some(proxy) if origin.scheme == Scheme::Http => {
                if let Some(authorization) = proxy.authorization() {
                    headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
                }
                asked.url.to_string()
            }
            _ => asked.url.target().to_owned(),
        };
        let (method, host) = (&asked.method, origin.authority());
        let head = codec::encode(method, &target, &host, &headers, length);
        (head, framed.map(|framed| (body, framed)))
    }

    async fn connect(&self, route: &Route) -> Result<Stream, Error> {
        let origin = &route.origin;
        let first = route.proxy.as_ref().map_or(origin, Proxy::origin);
        let address = format!("{}:{}", first.host, first.port);
        let endpoint = match first.scheme {
            Scheme::Https => format!("tls://{address}?alpn=http/1.1"),
            Scheme::Http => format!("tcp://{address}"),
        };
        let stream = Stream::connect(&endpoint).timeout(self.options.connect_time);
        let stream = stream
            .await
            .map_err(|error| Error::Connect(first.clone(), error))?;
        match &route.proxy {
            Some(proxy) if origin.scheme == Scheme::Https => {
                self.tunnel(stream, origin, proxy).await
            }
            _ => Ok(stream),
        }
    }

    /// Has a proxy connect, and begins TLS with whom it leads to
    /// ([RFC 9110 section 9.3.6](https://www.rfc-editor.org/rfc/rfc9110.html#section-9.3.6)).
    async fn tunnel(
        &self,
        stream: Stream,
        origin: &Origin,
        proxy: &Proxy,
    ) -> Result<Stream, Error> {
        let target = format!("{}:{}", origin.host, origin.port);
        let mut headers = HeaderMap::new();
        if let Some(authorization) = proxy.authorization() {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let method = Method::CONNECT;
        let head = codec::encode(&method, &target, &target, &headers, RequestLength::None);
        let session = Session::new(method, self.options.limits);
        let silence = self.options.silence_time;
        let mut exchange = Exchange::new(stream, session, (head, None), silence, None);
        let response = exchange.head().await?;
        if !response.status().is_success() {
            return Err(Error::Proxy(origin.clone(), response.status()));
        }
        // A server says nothing before TLS begins.
        let stream = exchange.into_stream().ok_or(Malformed::Switching)?;
        let mut stream = stream;
        let name = origin.host.trim_matches(['[', ']']);
        let secured = stream.start_tls(TlsRole::client(name));
        let secured = secured.timeout(self.options.connect_time).await;
        secured.map_err(|error| Error::Connect(origin.clone(), error))?;
        Ok(stream)
    }
}

impl Upload {
    /// A body; one that is in memory may be sent again.
    pub(crate) fn of(body: Body) -> Self {
        match body.into_kind() {
            Kind::Empty => Self::bytes(Bytes::new()),
            Kind::Full(bytes) => Self::bytes(bytes),
            kind => {
                let mut body = Some(kind.into());
                Self {
                    make: Box::new(move || body.take()),
                    is_repeatable: false,
                }
            }
        }
    }

    fn bytes(bytes: Bytes) -> Self {
        Self::repeatable(move || Body::full(bytes.clone()))
    }

    /// A body that can be made again.
    pub(crate) fn repeatable(mut make: impl FnMut() -> Body + 'static) -> Self {
        Self {
            make: Box::new(move || Some(make())),
            is_repeatable: true,
        }
    }
}

/// Reads a short body to its end, so that the connection can be used again.
async fn pass_over(mut exchange: Exchange) {
    let mut room = PASSED_OVER;
    while let Ok(Piece::Data(data)) = poll_fn(|cx| exchange.poll_next(cx)).await {
        match room.checked_sub(data.len()) {
            Some(left) => room = left,
            None => return,
        }
    }
}

/// Bytes of a redirect's body that are read and thrown away: 64 KiB. With more the connection is closed.
const PASSED_OVER: usize = 64 << 10;
