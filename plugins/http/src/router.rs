//! Which part of an application answers.

use std::{fmt, rc::Rc};

use http::{HeaderValue, Method, Request, Response, StatusCode, header::ALLOW};

use crate::{
    body::Body,
    service::{Peer, Reply, Service, plain},
};

/// Sends requests to handlers, by path and method.
///
/// A path has `{name}` for one part of it and `{*rest}` for all that is left; what stood there is in the request's extensions as [`Params`]. A path with other methods is
/// answered with 405, and so is CONNECT; OPTIONS with what there is, HEAD as GET without the body; a method that HTTP does not know is 501.
///
/// ```
/// use http::Method;
/// use nethost_http::{Router, text};
///
/// let router = Router::new()
///     .get("/", |_, _| text("OK"))
///     .route(Method::DELETE, "/things/{name}", |request, _| {
///         let params = request.extensions().get::<nethost_http::Params>();
///         text(format!("gone: {}", params.and_then(|it| it.get("name")).unwrap_or_default()))
///     });
/// ```
#[derive(Default)]
pub struct Router(matchit::Router<Routes>);

type Handler = Rc<dyn Fn(Request<Body>, &Peer) -> Reply>;

#[derive(Clone, Default)]
struct Routes(Vec<(Method, Handler)>);

/// What stood in the place of the names in a route's path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// What stood in the place of this name, as it was in the request: percent-encoding is not decoded.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Router {
    /// One without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for GET, and so for HEAD.
    #[must_use]
    pub fn get<R: Into<Reply>>(
        self,
        path: &str,
        handler: impl Fn(Request<Body>, &Peer) -> R + 'static,
    ) -> Self {
        self.route(Method::GET, path, handler)
    }

    /// Adds a handler for POST.
    #[must_use]
    pub fn post<R: Into<Reply>>(
        self,
        path: &str,
        handler: impl Fn(Request<Body>, &Peer) -> R + 'static,
    ) -> Self {
        self.route(Method::POST, path, handler)
    }

    /// Adds a handler.
    ///
    /// # Panics
    ///
    /// If the path is none, or the same as another one with other names: a mistake in the program.
    #[must_use]
    #[expect(
        clippy::panic,
        reason = "a mistake in the program, found when it starts"
    )]
    pub fn route<R: Into<Reply>>(
        mut self,
        method: Method,
        path: &str,
        handler: impl Fn(Request<Body>, &Peer) -> R + 'static,
    ) -> Self {
        let handler: Handler = Rc::new(move |request, peer| handler(request, peer).into());
        let mut routes = self.0.remove(path).unwrap_or_default();
        routes.0.push((method, handler));
        if let Err(error) = self.0.insert(path, routes) {
            panic!("the route {path}: {error}");
        }
        self
    }
}

impl Service for Router {
    fn call(self: &Rc<Self>, mut request: Request<Body>, peer: &Peer) -> Reply {
        let methods = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return allowing(StatusCode::NO_CONTENT, methods);
        }
        if request.method() == Method::CONNECT {
            // Its target has no path that a route could have.
            return allowing(StatusCode::METHOD_NOT_ALLOWED, methods);
        }
        let Ok(found) = self.0.at(request.uri().path()) else {
            let known = is_known(request.method());
            return if known {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::NOT_IMPLEMENTED
            }
            .into();
        };
        let Some(handler) = found.value.find(request.method()) else {
            return found.value.otherwise(request.method());
        };
        if !found.params.is_empty() {
            let params = found.params.iter();
            let params = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let params = Params(params.collect());
            request.extensions_mut().insert(params);
        }
        handler(request, peer)
    }
}

impl Routes {
    fn find(&self, method: &Method) -> Option<&Handler> {
        let of = |method: &Method| self.0.iter().find(|(it, _)| it == method);
        let found = of(method).or_else(|| of(&Method::GET).filter(|_| method == Method::HEAD));
        found.map(|(_, handler)| handler)
    }

    /// The answer where there is no handler.
    fn otherwise(&self, method: &Method) -> Reply {
        let mut names: Vec<&str> = self.0.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        let status = match method {
            &Method::OPTIONS => StatusCode::NO_CONTENT,
            method if is_known(method) => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::NOT_IMPLEMENTED,
        };
        allowing(status, &names.join(", "))
    }
}

/// Whether HTTP knows the method ([RFC 9110 section 9.1](https://www.rfc-editor.org/rfc/rfc9110.html#section-9.1-10)).
pub(crate) fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::CONNECT
            | Method::OPTIONS
            | Method::TRACE
            | Method::PATCH
    )
}

/// An answer that says which methods there are.
pub(crate) fn allowing(status: StatusCode, methods: &str) -> Reply {
    let mut response: Response<Body> = plain(status);
    if let Ok(methods) = HeaderValue::from_str(methods) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response.into()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}
