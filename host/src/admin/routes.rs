//! What is answered to which request.

use std::{
    convert::Infallible,
    path::PathBuf,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body as _, Bytes, Incoming},
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Answer, Command, Commands, Known, Origin, Refusal, Swap, api,
    content::Content,
    logs::{LINES, Ring},
};
use crate::{
    config::Secret,
    inspect::LARGEST,
    manifest::parse_duration,
    metrics::{
        overview::Overview,
        registry::{Readiness, Registry},
        spread::quantile,
    },
    service::{
        Policy, SwapOptions,
        remote::{ConnectionKey, Listed},
    },
};

/// What requests are answered with.
#[derive(Debug)]
pub(super) struct Routes {
    registry: Arc<Registry>,
    commands: Commands,
    token: Option<Secret>,
    /// One component at a time is in memory.
    components: Semaphore,
    started: Instant,
}

/// Why a request is not answered.
struct Failed {
    status: StatusCode,
    failure: api::Failure,
    allowed: Option<&'static str>,
}

impl Failed {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self {
            status,
            failure: api::Failure {
                error,
                known: Vec::new(),
            },
            allowed: None,
        }
    }

    fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NoService { .. } => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut failed = Self::new(status, refusal.to_string());
        if let Refusal::NoService { known, .. } = refusal {
            failed.failure.known = known;
        }
        failed
    }
}

type Answered = Result<Response<Content>, Failed>;

impl Routes {
    pub(super) fn new(registry: Arc<Registry>, commands: Commands, token: Option<Secret>) -> Self {
        Self {
            registry,
            commands,
            token,
            components: Semaphore::new(1),
            started: Instant::now(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Content>, Infallible> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = match self.check_token(&request) {
            Ok(()) => self.route(request).await,
            Err(failed) => Err(failed),
        };
        let mut response = answered.unwrap_or_else(|failed| {
            tracing::debug!(%method, path, status = %failed.status, error = failed.failure.error, "admin");
            let mut response = json(&failed.failure);
            *response.status_mut() = failed.status;
            if let Some(allowed) = failed.allowed {
                let allowed = HeaderValue::from_static(allowed);
                response.headers_mut().insert(ALLOW, allowed);
            }
            response
        });
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
        Ok(response)
    }

    fn check_token(&self, request: &Request<Incoming>) -> Result<(), Failed> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|given| given.as_bytes().strip_prefix(b"Bearer "));
        // So that how long it takes does not tell how much of it is right.
        let is_right = given.is_some_and(|given| given.ct_eq(token.expose().as_bytes()).into());
        if is_right {
            return Ok(());
        }
        let error = match given {
            Some(_) => "the token is another one",
            None => "a token is needed: Authorization: Bearer TOKEN",
        };
        Err(Failed::new(StatusCode::UNAUTHORIZED, error))
    }

    async fn route(&self, request: Request<Incoming>) -> Answered {
        let path = request.uri().path().to_owned();
        let Some(path) = path.strip_prefix("/v1/") else {
            return Err(no_such(&path));
        };
        let parts: Vec<_> = path.split('/').collect();
        let method = request.method().clone();
        let is = |wanted: Method, allowed: &'static str| {
            if method == wanted {
                return Ok(());
            }
            let mut failed = Failed::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("`{path}` takes {allowed}"),
            );
            failed.allowed = Some(allowed);
            Err(failed)
        };
        match &*parts {
            ["version"] => is(Method::GET, "GET").map(|()| json(&self.version())),
            ["health"] => {
                is(Method::GET, "GET")?;
                Ok(json(&self.health().await))
            }
            ["services"] => {
                is(Method::GET, "GET")?;
                Ok(json(&self.services().await?))
            }
            ["services", name] => {
                is(Method::GET, "GET")?;
                self.service(&decoded(name)?).await
            }
            ["services", name, "connections"] => {
                is(Method::GET, "GET")?;
                self.connections(&decoded(name)?, request.uri()).await
            }
            ["services", name, "swap"] => {
                is(Method::POST, "POST")?;
                self.swap(&decoded(name)?, request).await
            }
            ["services", name, verb @ ("drain" | "stop" | "start")] => {
                is(Method::POST, "POST")?;
                let name = decoded(name)?;
                let deadline = parameter(request.uri(), "deadline")?;
                let deadline = deadline.map(|text| duration(&text)).transpose()?;
                let (sent, name) = (drained(request).await, name);
                sent?;
                match *verb {
                    "start" => {
                        let start = |answer| Command::Start(name, answer);
                        Ok(json(&self.ask(start).await?))
                    }
                    "stop" => {
                        let stop = |answer| Command::Drain(name, Some(Duration::ZERO), answer);
                        Ok(json(&self.ask(stop).await?))
                    }
                    _ => {
                        let drain = |answer| Command::Drain(name, deadline, answer);
                        Ok(json(&self.ask(drain).await?))
                    }
                }
            }
            ["connections", id] => {
                is(Method::DELETE, "DELETE")?;
                self.kick(&decoded(id)?).await
            }
            ["reload"] => {
                is(Method::POST, "POST")?;
                drained(request).await?;
                Ok(json(&self.ask(Command::Reload).await?))
            }
            ["logs"] => {
                is(Method::GET, "GET")?;
                self.logs(request.uri()).await
            }
            _ => Err(no_such(&format!("/v1/{path}"))),
        }
    }

    fn version(&self) -> api::Version {
        api::Version {
            program: "nethost".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: 1,
            pid: process::id(),
            uptime: self.started.elapsed().as_secs_f64(),
        }
    }

    async fn health(&self) -> api::Health {
        let silent_workers = self.registry.silent_workers().await;
        let (readiness, services) = self.registry.readiness();
        api::Health {
            healthy: silent_workers.is_empty(),
            ready: readiness == Readiness::Ready,
            silent_workers,
            services,
        }
    }

    async fn services(&self) -> Result<api::Services, Failed> {
        let known = self.tell(Command::List).await?;
        let overview = self.registry.overview().await;
        let mut services: Vec<_> = known
            .into_iter()
            .map(|known| {
                let mut counted = overview.iter();
                let counted = counted.find(|counted| counted.name == known.name);
                service(known, counted.cloned().unwrap_or_default())
            })
            .collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(api::Services {
            services,
            uptime: self.started.elapsed().as_secs_f64(),
        })
    }

    async fn service(&self, name: &str) -> Answered {
        let api::Services { services, .. } = self.services().await?;
        let known = services.iter().map(|service| service.name.clone());
        let known: Vec<_> = known.collect();
        let mut services = services.into_iter();
        match services.find(|service| service.name == name) {
            Some(service) => Ok(json(&service)),
            None => {
                let name = name.to_owned();
                Err(Refusal::NoService { name, known }.into())
            }
        }
    }

    async fn connections(&self, name: &str, uri: &Uri) -> Answered {
        let after = match parameter(uri, "after")? {
            Some(after) => Some(key(&after)?),
            None => None,
        };
        let limit = number(uri, "limit", PAGE, MOST_LISTED)?;
        let name = name.to_owned();
        let remotes = |answer| Command::Remotes(Some(name), answer);
        let mut page = crate::service::remote::Page::default();
        for (_, remote) in self.ask(remotes).await? {
            page = remote.connections(after, limit).await;
        }
        let last = page.connections.last().map(|last| last.key.to_string());
        Ok(json(&api::Connections {
            next: last.filter(|_| page.has_more),
            connections: page.connections.into_iter().map(connection).collect(),
        }))
    }

    async fn kick(&self, id: &str) -> Answered {
        let key = key(id)?;
        let remotes = |answer| Command::Remotes(None, answer);
        for (service, remote) in self.ask(remotes).await? {
            if let Some(peer) = remote.kick(key).await {
                tracing::info!(service, connection = id, peer, "closed by an operator");
                return Ok(json(&api::Kicked {
                    id: id.to_owned(),
                    service,
                    peer,
                }));
            }
        }
        Err(Failed::new(
            StatusCode::NOT_FOUND,
            format!(
                "there is no connection `{id}` any more; `nethost connections SERVICE` lists those that there are"
            ),
        ))
    }

    async fn swap(&self, name: &str, request: Request<Incoming>) -> Answered {
        let uri = request.uri().clone();
        let policy = match parameter(&uri, "policy")? {
            None => Policy::default(),
            Some(text) => clap::ValueEnum::from_str(&text, false).map_err(|_: String| {
                Failed::bad(format!(
                    "`{text}` is no policy: `migrate`, `drain` or `close`"
                ))
            })?,
        };
        let mut options = SwapOptions {
            policy,
            ..SwapOptions::default()
        };
        if let Some(text) = parameter(&uri, "deadline")? {
            options.deadline = duration(&text)?;
        }
        let file = parameter(&uri, "file")?.unwrap_or_else(|| "the component sent".to_owned());
        let place = self.components.acquire().await;
        let _place = place.map_err(|_| Failed::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING))?;
        let most = usize::try_from(LARGEST).unwrap_or(usize::MAX);
        let component = body(request, most).await?;
        if component.is_empty() {
            return Err(Failed::bad("the body is empty: it is the new component"));
        }
        let swap = |answer| {
            Command::Swap(Swap {
                service: name.to_owned(),
                component: component.into(),
                file: PathBuf::from(file),
                options,
                origin: Origin::Sent,
                answer,
            })
        };
        Ok(json(&self.ask(swap).await?))
    }

    async fn logs(&self, uri: &Uri) -> Answered {
        let service = parameter(uri, "service")?;
        let most = number(uri, "lines", LOG_LINES, LINES)?;
        let follows = match parameter(uri, "follow")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(Failed::bad(format!(
                    "`follow` is `true` or `false`, not `{}`",
                    other.escape_debug()
                )));
            }
        };
        if let Some(name) = &service {
            let known = self.tell(Command::List).await?;
            let known: Vec<_> = known.into_iter().map(|known| known.name).collect();
            if !known.contains(name) {
                let name = name.clone();
                return Err(Refusal::NoService { name, known }.into());
            }
        }
        let ring = Ring::of_process();
        let mut excerpt = ring.last(service.as_deref(), most);
        let lines = excerpt.lines.drain(..);
        let text: Vec<u8> = lines.flat_map(|line| encoded(&*line)).collect();
        let content = if follows {
            // One that is not taken yet, and one on its way: who is slow finds the ring gone further.
            let (sender, coming) = mpsc::channel(1);
            tokio::task::spawn_local(follow(sender, text, service, excerpt.next));
            Content::Coming(coming)
        } else {
            Content::whole(text)
        };
        let mut response = Response::new(content);
        let kind = HeaderValue::from_static("application/x-ndjson");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    /// Asks the main thread to do something.
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Failed> {
        Ok(self.tell(command).await??)
    }

    async fn tell<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failed> {
        let stopping = || Failed::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING);
        let (sender, answer) = oneshot::channel();
        let sent = self.commands.send(command(sender)).await;
        sent.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// Sends lines as they come, until nobody takes them.
async fn follow(
    sender: mpsc::Sender<Bytes>,
    first: Vec<u8>,
    service: Option<String>,
    mut next: u64,
) {
    let ring = Ring::of_process();
    let mut count = ring.watch();
    let mut text = first;
    loop {
        if !text.is_empty() && sender.send(Bytes::from(text)).await.is_err() {
            return;
        }
        let news = tokio::select! {
            () = sender.closed() => return,
            news = tokio::time::timeout(HEARTBEAT, count.wait_for(|count| *count > next)) => news.is_ok(),
        };
        text = Vec::new();
        if !news {
            text.push(b'\n');
            continue;
        }
        let excerpt = ring.since(next, service.as_deref());
        next = excerpt.next;
        let mut missed = excerpt.missed;
        for line in excerpt.lines {
            let line = api::LogLine {
                missed: std::mem::take(&mut missed),
                ..(*line).clone()
            };
            text.extend(encoded(&line));
        }
    }
}

fn service(known: Known, counted: Overview) -> api::Service {
    let quantile = |share| quantile(&counted.call_times, share);
    let (p50_ns, p99_ns) = (quantile(0.5), quantile(0.99));
    api::Service {
        name: known.name,
        state: known.state,
        detail: known.detail,
        plugin: known.plugin,
        version: known.version,
        file: known.file.display().to_string(),
        swapped: known.swapped,
        isolation: known.isolation,
        listeners: known.listeners,
        instances: counted.now.instances,
        connections: counted.now.connections,
        establishing: counted.now.establishing,
        sockets: counted.now.sockets,
        operations: counted.now.operations,
        timers: counted.now.timers,
        open_files: counted.now.open_files,
        memory: counted.now.memory,
        accepted: counted.accepted,
        refused: counted.refused,
        received: counted.received,
        sent: counted.sent,
        calls: counted.calls,
        p50_ns,
        p99_ns,
        call_times: counted.call_times,
        traps: counted.traps,
        swaps: known.swaps,
    }
}

fn connection(listed: Listed) -> api::Connection {
    let Listed {
        key,
        worker,
        report,
    } = listed;
    api::Connection {
        id: key.to_string(),
        worker,
        peer: report.peer,
        local: report.local,
        age: report.age.as_secs_f64(),
        received: report.received,
        sent: report.sent,
        unsent: report.unsent,
        tls: report.tls.map(str::to_owned),
        direction: if report.accepted { "in" } else { "out" }.to_owned(),
        closing: report.closing,
    }
}

fn no_such(path: &str) -> Failed {
    let error = format!("there is nothing at `{path}`; try /v1/services");
    Failed::new(StatusCode::NOT_FOUND, error)
}

fn json(answer: &impl Serialize) -> Response<Content> {
    let mut response = Response::new(Content::whole(encoded(answer)));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Encodes as one line.
fn encoded(what: &impl Serialize) -> Vec<u8> {
    // None of these types has a map with keys that are no strings, which is what could fail.
    let mut line = serde_json::to_vec(what).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a body that should be empty or does not matter.
async fn drained(request: Request<Incoming>) -> Result<(), Failed> {
    body(request, SMALL_BODY).await.map(drop)
}

async fn body(request: Request<Incoming>, most: usize) -> Result<Bytes, Failed> {
    let too_large = || {
        Failed::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {most} bytes"),
        )
    };
    // One that says so at the beginning is told before it has sent it.
    if request.body().size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Failed::bad(format!("the body did not come: {error}"))),
        Err(_elapsed) => Err(Failed::bad(format!(
            "the body did not come within {BODY_TIME:?}"
        ))),
    }
}

/// Returns a parameter of the query.
fn parameter(uri: &Uri, name: &str) -> Result<Option<String>, Failed> {
    let query = uri.query().unwrap_or_default();
    let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = found.next().map(|(_, value)| value.into_owned());
    match found.next() {
        Some(_) => Err(Failed::bad(format!("`{name}` is there twice"))),
        None => Ok(value),
    }
}

fn number(uri: &Uri, name: &str, default: usize, most: usize) -> Result<usize, Failed> {
    let Some(text) = parameter(uri, name)? else {
        return Ok(default);
    };
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| {
        Failed::bad(format!(
            "`{name}` is a number from 1 to {most}, not `{}`",
            text.escape_debug()
        ))
    })
}

fn duration(text: &str) -> Result<Duration, Failed> {
    let parsed = parse_duration(text).map(Duration::from_nanos);
    match parsed {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err(Failed::bad(format!("`deadline`: at most {LONGEST:?}"))),
        Err(error) => Err(Failed::bad(format!("`deadline`: {error}"))),
    }
}

fn key(text: &str) -> Result<ConnectionKey, Failed> {
    text.parse()
        .map_err(|error| Failed::bad(format!("`{}`: {error}", text.escape_debug())))
}

/// Decodes a part of a path.
fn decoded(part: &str) -> Result<String, Failed> {
    // A plus is one, unlike in a query.
    let part = part.replace('+', "%2B");
    let decoded = url::form_urlencoded::parse(part.as_bytes()).next();
    match decoded {
        Some((name, _)) if !name.is_empty() => Ok(name.into_owned()),
        _ => Err(Failed::bad("a part of the path is empty")),
    }
}

const STOPPING: &str = "the host is stopping";

/// Connections in an answer, unless it is said.
const PAGE: usize = 1_000;

/// Connections in an answer, at most: some 2 MB of JSON.
const MOST_LISTED: usize = 10_000;

/// Lines of the log in an answer, unless it is said.
const LOG_LINES: usize = 100;

/// How often who follows hears that the host is there: 15 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a body may take to come: 60 s.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Bytes of a body that says nothing: 64 KiB.
const SMALL_BODY: usize = 64 << 10;

/// The longest deadline: a week, as for `drain-timeout`.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
