//! A site: files from a granted directory, and what an operator wants around them.
//!
//! An answer is worked out of what is known of the files (`store`), in one function that touches nothing else (`Site::decide`). What is not known is looked up, and
//! the function asked again; so a file that is asked for all the time is answered at once, within the callback that brings the request.

mod path;

mod conditional;
mod range;

mod coding;
mod mime;

mod listing;

mod store;

mod guard;
mod log;
mod settings;

pub use coding::{Accepted, Coding, accepted};
pub use conditional::{Validators, Verdict, evaluate, range_holds};
pub use path::{PathError, SitePath};
pub use range::{MAX_RANGES, Ranges, ranges};

use std::{fmt, ops::Range, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use nethost_sdk::{Config, ErrorCode, clock, log as host_log};

use crate::{
    body::{Body, BodyError, Piece},
    codec::target::host_of,
    router::{allowing, is_known},
    service::{Application, Peer, Reply, Service, plain},
    types::Limits,
};
use guard::Credentials;
use settings::Settings;
use store::{Content, Entry, Known, Representation, Resource, Store};

/// Serves files.
pub struct Site(Settings);

/// The plugin: a server for files.
#[derive(Debug)]
pub struct Files;

impl Application for Files {
    type Service = Site;

    fn configure(config: &Config) -> Result<Site, String> {
        Ok(Site(Settings::read(config)?))
    }
}

/// What is left of a request when it is known to be about a file.
struct Wanted {
    store: Rc<Store>,
    path: SitePath,
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
}

/// What a request comes to.
enum Decision {
    Answer(Response<Body>),
    /// This path has to be looked up first.
    Unknown(String),
    /// The directory is to be listed.
    List,
}

impl Service for Site {
    fn call(self: &Rc<Self>, request: Request<Body>, peer: &Peer) -> Reply {
        let (parts, body) = request.into_parts();
        let wanted = match self.wanted(parts) {
            Ok(wanted) => wanted,
            Err(response) => return after(body, self.finished(response)),
        };
        let Some(group) = self.protection(&wanted.path) else {
            return match self.decide(&wanted, clock::monotonic()) {
                Decision::Answer(response)
                    if response.status().is_success() || response.status().is_redirection() =>
                {
                    self.finished(response).into()
                }
                _ => self.later(wanted),
            };
        };
        self.guarded(wanted, group, peer)
    }

    fn answered(self: &Rc<Self>, peer: &Peer, status: StatusCode, bytes: u64) {
        if let Some(log) = &self.0.log {
            log.note(peer, status, bytes);
        }
    }

    fn draining(self: &Rc<Self>) {
        if let Some(log) = &self.0.log {
            log.drain();
        }
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }
}

impl Site {
    /// What file a request is about, or the answer if it is about none.
    #[expect(
        clippy::result_large_err,
        reason = "it is the answer, and goes one step"
    )]
    fn wanted(&self, request: Parts) -> Result<Wanted, Response<Body>> {
        let uri = &request.uri;
        match request.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Err(allow(StatusCode::NO_CONTENT)),
            ref method if is_known(method) => return Err(allow(StatusCode::METHOD_NOT_ALLOWED)),
            _ => return Err(allow(StatusCode::NOT_IMPLEMENTED)),
        }
        for redirect in &self.0.redirects {
            if let Some(target) = redirect.target(uri.path(), uri.query()) {
                return Err(moved(redirect.status, &target));
            }
        }
        let store = self
            .store(&request.headers)
            .ok_or_else(|| plain(StatusCode::MISDIRECTED_REQUEST))?;
        let path = SitePath::decode(uri.path()).map_err(|error| {
            plain(match error {
                PathError::Invalid => StatusCode::BAD_REQUEST,
                PathError::NotFound => StatusCode::NOT_FOUND,
            })
        })?;
        Ok(Wanted {
            store,
            path,
            query: uri.query().map(ToOwned::to_owned),
            method: request.method,
            headers: request.headers,
        })
    }

    /// The folder of the host that is asked for.
    fn store(&self, headers: &HeaderMap) -> Option<Rc<Store>> {
        if !self.0.hosts.is_empty()
            && let Some(host) = headers.get(header::HOST).and_then(|it| it.to_str().ok())
        {
            let name = host_of(host).trim_end_matches('.').to_ascii_lowercase();
            if let Some(store) = self.0.hosts.get(&name) {
                return Some(Rc::clone(store));
            }
        }
        self.0.root.clone()
    }

    /// Whether a path needs a password, and the group.
    fn protection(&self, path: &SitePath) -> Option<Option<String>> {
        let rules = self.0.protected.iter();
        let rule = rules
            .filter(|it| it.covers(path.as_str()))
            .max_by_key(|it| it.length());
        rule.map(|it| it.group.clone())
    }

    fn guarded(self: &Rc<Self>, wanted: Wanted, group: Option<String>, peer: &Peer) -> Reply {
        let guard = Rc::clone(&self.0.guard);
        let Some(credentials) = Credentials::of(&wanted.headers) else {
            return self.finished(guard.challenge()).into();
        };
        let (site, peer) = (Rc::clone(self), peer.clone());
        Reply::later(async move {
            let now = clock::monotonic();
            let account = match guard.known(&credentials, now) {
                Some(account) => account,
                None => match guard.verify(&peer, credentials, now).await {
                    Ok(account) => account,
                    Err(response) => return Err(site.finished(response)),
                },
            };
            peer.set_account(Rc::clone(&account));
            if group.is_some_and(|group| !account.groups.contains(&group)) {
                return Err(site.finished(plain(StatusCode::FORBIDDEN)));
            }
            let mut response = site.find(wanted).await;
            // What one user gets is not for a cache that others use.
            response
                .headers_mut()
                .entry(header::CACHE_CONTROL)
                .or_insert(HeaderValue::from_static("private"));
            Ok(response)
        })
    }

    fn later(self: &Rc<Self>, wanted: Wanted) -> Reply {
        let site = Rc::clone(self);
        Reply::Later(Box::pin(async move { site.find(wanted).await }))
    }

    /// Looks up what has to be known, and answers.
    async fn find(&self, wanted: Wanted) -> Response<Body> {
        let mut response = self.look_up(&wanted).await;
        if let Some(path) = self.0.error_pages.get(&response.status())
            && let Some(page) = self.page(&wanted.store, path).await
        {
            let (status, allow) = (
                response.status(),
                response.headers().get(header::ALLOW).cloned(),
            );
            response = page;
            *response.status_mut() = status;
            response
                .headers_mut()
                .extend(allow.map(|it| (header::ALLOW, it)));
        }
        self.finished(response)
    }

    async fn look_up(&self, wanted: &Wanted) -> Response<Body> {
        for _ in 0..MAX_LOOKUPS {
            let now = clock::monotonic();
            let unknown = match self.decide(wanted, now) {
                Decision::Answer(response) => return response,
                Decision::List => return self.list(wanted).await,
                Decision::Unknown(path) => path,
            };
            if let Err(error) = wanted.store.load(&unknown, now).await {
                return failed(&unknown, &error);
            }
        }
        plain(StatusCode::SERVICE_UNAVAILABLE)
    }

    async fn list(&self, wanted: &Wanted) -> Response<Body> {
        let (store, url) = (&wanted.store, wanted.path.directory_url());
        match listing::listing(store.directory(), &store.full(wanted.path.as_str()), &url).await {
            Ok(html) => {
                let mut response = Response::new(Body::from(html));
                let kind = HeaderValue::from_static("text/html; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(error) => failed(wanted.path.as_str(), &error),
        }
    }

    /// The file that is the body of an error.
    async fn page(&self, store: &Store, path: &str) -> Option<Response<Body>> {
        let now = clock::monotonic();
        let known = match store.find(path, now) {
            Some(known) => known,
            None => store.load(path, now).await.ok()?,
        };
        let Entry::File(resource) = &known.entry else {
            return None;
        };
        let mut response = Response::new(whole(&resource.plain));
        let kind = resource.plain.headers.get(header::CONTENT_TYPE)?;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
        Some(response)
    }

    /// The answer, out of what is known.
    fn decide(&self, wanted: &Wanted, now: Duration) -> Decision {
        let names = wanted.path.as_str();
        let Some(known) = wanted.store.find(names, now) else {
            return Decision::Unknown(names.to_owned());
        };
        match &known.entry {
            Entry::File(resource) if !wanted.path.is_directory() => {
                Decision::Answer(answer(wanted, resource))
            }
            Entry::File(_) | Entry::Missing => Decision::Answer(plain(StatusCode::NOT_FOUND)),
            Entry::Forbidden => Decision::Answer(plain(StatusCode::FORBIDDEN)),
            Entry::Directory if !wanted.path.is_directory() => {
                let mut target = wanted.path.directory_url();
                if let Some(query) = &wanted.query {
                    target.push('?');
                    target.push_str(query);
                }
                Decision::Answer(moved(StatusCode::MOVED_PERMANENTLY, &target))
            }
            Entry::Directory => self.decide_directory(wanted, now),
        }
    }

    fn decide_directory(&self, wanted: &Wanted, now: Duration) -> Decision {
        let names = wanted.path.as_str();
        for index in &self.0.index {
            let path = if names.is_empty() {
                index.clone()
            } else {
                format!("{names}/{index}")
            };
            let Some(known) = wanted.store.find(&path, now) else {
                return Decision::Unknown(path);
            };
            if let Known {
                entry: Entry::File(resource),
                ..
            } = &*known
            {
                return Decision::Answer(answer(wanted, resource));
            }
        }
        if self.0.listing {
            Decision::List
        } else {
            Decision::Answer(plain(StatusCode::NOT_FOUND))
        }
    }

    /// With the operator's headers.
    fn finished(&self, mut response: Response<Body>) -> Response<Body> {
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response
    }
}

/// The answer, once the body has come as far as it will be read: one that is malformed is answered with that, and who waits to be told to go on is told this.
fn after(body: Body, response: Response<Body>) -> Reply {
    if body.is_end_stream() || body.is_withheld() {
        return response.into();
    }
    Reply::later(async move {
        drop(body.buffered(UNREAD).await?);
        Ok::<_, BodyError>(response)
    })
}

/// The answer with a file, or a part of it, or why not.
fn answer(wanted: &Wanted, resource: &Resource) -> Response<Body> {
    let Some(chosen) = choose(&wanted.headers, resource) else {
        return plain(StatusCode::NOT_ACCEPTABLE);
    };
    if !conditional::is_conditional(&wanted.headers) {
        return with_headers(StatusCode::OK, chosen, whole(chosen));
    }
    let validators = Validators {
        etag: &chosen.etag,
        modified: chosen.modified(),
    };
    let now = || clock::wall().as_secs();
    match evaluate(&wanted.method, &wanted.headers, validators, now) {
        Verdict::Proceed => {}
        Verdict::Failed => return plain(StatusCode::PRECONDITION_FAILED),
        Verdict::NotModified => return not_modified(chosen),
    }
    // Range is for GET: https://www.rfc-editor.org/rfc/rfc9110.html#section-14.2-3
    let parts = if wanted.method == Method::GET && range_holds(&wanted.headers, validators) {
        ranges(&wanted.headers, chosen.size)
    } else {
        Ranges::All
    };
    match parts {
        Ranges::All => with_headers(StatusCode::OK, chosen, whole(chosen)),
        Ranges::Unsatisfiable => {
            let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE);
            insert(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes */{}", chosen.size),
            );
            response
        }
        Ranges::Some(ranges) => partial(chosen, &ranges),
    }
}

/// The file as the client likes it best; none if it takes none.
fn choose<'a>(headers: &HeaderMap, resource: &'a Resource) -> Option<&'a Representation> {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return Some(&resource.plain);
    }
    let accepted = accepted(headers);
    let of = |wanted: &Coding| {
        resource
            .compressed
            .iter()
            .find(|(coding, _)| coding == wanted)
    };
    let compressed = accepted.codings.iter().find_map(of).map(|(_, it)| it);
    compressed.or_else(|| accepted.identity.then_some(&resource.plain))
}

fn whole(chosen: &Representation) -> Body {
    match &chosen.content {
        Content::Memory(bytes) => Body::full(bytes.clone()),
        Content::File(file) => Body::file(Rc::clone(file), 0, chosen.size),
    }
}

fn with_headers(status: StatusCode, chosen: &Representation, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = chosen.headers.clone();
    response
}

fn not_modified(chosen: &Representation) -> Response<Body> {
    let mut response = with_headers(StatusCode::NOT_MODIFIED, chosen, Body::empty());
    // What describes the body is for who gets one: https://www.rfc-editor.org/rfc/rfc9110.html#section-15.4.5-4
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::ACCEPT_RANGES,
    ] {
        response.headers_mut().remove(name);
    }
    response
}

/// 206: one range as it is, several as `multipart/byteranges` ([section 15.3.7](https://www.rfc-editor.org/rfc/rfc9110.html#section-15.3.7)).
fn partial(chosen: &Representation, ranges: &[Range<u64>]) -> Response<Body> {
    let content_range = |range: &Range<u64>| {
        format!(
            "bytes {}-{}/{}",
            range.start,
            range.end.saturating_sub(1),
            chosen.size
        )
    };
    if let [range] = ranges {
        let body = Body::parts(vec![piece(chosen, range)]);
        let mut response = with_headers(StatusCode::PARTIAL_CONTENT, chosen, body);
        insert(&mut response, header::CONTENT_RANGE, &content_range(range));
        return response;
    }
    let kind = chosen
        .headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(kind);
    // It must not be in the file. The tag's digits are as good as random, and change with it.
    let boundary = format!("nethost-{}", chosen.etag.trim_matches('"'));
    let mut parts = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        let line = if at == 0 { "" } else { "\r\n" };
        let head = format!(
            "{line}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
            content_range(range)
        );
        parts.push(Piece::Bytes(Bytes::from(head)));
        parts.push(piece(chosen, range));
    }
    parts.push(Piece::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    let mut response = with_headers(StatusCode::PARTIAL_CONTENT, chosen, Body::parts(parts));
    insert(
        &mut response,
        header::CONTENT_TYPE,
        &format!("multipart/byteranges; boundary={boundary}"),
    );
    response
}

fn piece(chosen: &Representation, range: &Range<u64>) -> Piece {
    match &chosen.content {
        Content::Memory(bytes) => {
            let at = |position: u64| {
                usize::try_from(position)
                    .unwrap_or(bytes.len())
                    .min(bytes.len())
            };
            Piece::Bytes(bytes.slice(at(range.start)..at(range.end)))
        }
        Content::File(file) => Piece::File {
            file: Rc::clone(file),
            offset: range.start,
            length: range.end - range.start,
        },
    }
}

fn moved(status: StatusCode, target: &str) -> Response<Body> {
    let shown = listing::escape(target);
    let html =
        format!("<!doctype html><title>{status}</title><p>It is <a href=\"{shown}\">here</a>.\n");
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    insert(&mut response, header::LOCATION, target);
    response
}

fn allow(status: StatusCode) -> Response<Body> {
    match allowing(status, "GET, HEAD, OPTIONS") {
        Reply::Now(response) => response,
        Reply::Later(_) => plain(status),
    }
}

/// The answer to an error that is not about the path: the operator is told.
fn failed(path: &str, error: &nethost_sdk::Error) -> Response<Body> {
    let status = match error.code {
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Denied => StatusCode::FORBIDDEN,
        ErrorCode::Limit | ErrorCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        host_log::warn!("`{path}` could not be read: {error}");
    }
    plain(status)
}

fn insert(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Site")
    }
}

/// How often one request looks something up: the path, and each file that may stand for a directory; and again if what was found did not hold so long.
const MAX_LOOKUPS: usize = 64;

/// Bytes of a body that is of no use here that are awaited before the answer: 64 KiB, up to which the connection goes on.
const UNREAD: usize = 64 << 10;
