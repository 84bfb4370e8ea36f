//! The glue: what the host calls, and how answers get to it.
//!
//! Most requests are answered within the callback that brings them: all of the answers that one delivery of bytes asks for are put together here and written at
//! once. A request whose answer takes time, or has a body that is not in memory, has a task ([`drive`]) until it is done.

mod drive;

use std::{cell::RefCell, collections::HashSet, fmt, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header::CONNECTION};
use nethost_sdk::{
    CloseReason, Config, Connection, ConnectionId, Context, Factory, HIGH_WATER, Origin, Protocol,
    Refusal as SwapRefusal, Swap, Task, after, clock, spawn, spawn_for_instance, with_session,
};

use crate::{
    body::{Body, Channel, Kind, Piece},
    codec::{
        date::Date,
        encode::{self, Persistence, ResponseLength},
        framing::BodyLength,
    },
    service::{Application, Peer, Reply, Service},
    session::{Event, Heads, Incoming, Late, Session},
    types::{Limits, Refusal},
};

/// One connection of an application.
pub struct Http<A: Application> {
    session: Session,
    /// What came and cannot be looked at yet: the request before it is not answered, or the client does not take its answers. At most one delivery.
    waiting: Vec<u8>,
    /// The request that is being answered.
    exchange: Option<Exchange<A>>,
    /// Its task, if it has one.
    driver: Option<Task>,
    /// The host's queue is full.
    gate: Option<Rc<Gate>>,
    is_congested: bool,
    is_paused: bool,
    /// The client has closed its half.
    has_ended: bool,
    /// The service goes away: the next answer is the last.
    is_draining: bool,
    timer: Option<Task>,
}

/// A request that is being answered.
struct Exchange<A: Application> {
    peer: Peer,
    service: Rc<A::Service>,
    is_head: bool,
    version: Version,
    keep_alive: bool,
    body: Option<Rc<Channel>>,
    /// What the client was told of the connection and of the body's length, once the answer has begun.
    begun: Option<(Persistence, ResponseLength)>,
}

/// What the sessions of an instance share.
pub struct Server<A: Application> {
    service: Rc<A::Service>,
    limits: Limits,
    date: Date,
    connections: HashSet<ConnectionId>,
    is_draining: bool,
    heads: Heads,
    /// Space for what is written; empty between two callbacks.
    output: Vec<u8>,
}

/// Opens when the client has taken what was written.
#[derive(Default)]
pub(crate) struct Gate {
    is_closed: std::cell::Cell<bool>,
    waker: RefCell<Option<std::task::Waker>>,
}

impl<A: Application> Protocol for Http<A> {
    type Factory = Server<A>;

    fn connection_made(cx: &mut Context<'_, Server<A>>, _origin: Origin) -> Option<Self> {
        if cx.factory.is_draining {
            return None;
        }
        Some(Self::opened(cx, Session::default()))
    }

    fn data_received(&mut self, cx: &mut Context<'_, Server<A>>, data: &[u8]) {
        if self.waiting.is_empty() {
            self.run(cx, data);
        } else {
            // The application may have wanted more of a body, and so has gone on reading.
            self.waiting.extend_from_slice(data);
            cx.connection.pause_reading();
        }
    }

    fn writable(&mut self, cx: &mut Context<'_, Server<A>>) {
        if let Some(gate) = &self.gate {
            gate.open();
        }
        if std::mem::take(&mut self.is_congested) {
            self.go_on(cx);
        }
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Server<A>>) {
        self.has_ended = true;
        let Some(exchange) = &self.exchange else {
            return cx.connection.close();
        };
        // Whoever sends a request and closes its half waits for the answer; one that stops in the middle of a body gets the application's.
        if self.session.is_in_body()
            && let Some(body) = &exchange.body
        {
            body.lose();
        }
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Server<A>>, _reason: CloseReason) {
        let id = cx.id();
        cx.factory.connections.remove(&id);
        if let Some(body) = self.exchange.as_ref().and_then(|it| it.body.as_ref()) {
            body.lose();
        }
    }
}

impl<A: Application> Http<A> {
    fn opened(cx: &mut Context<'_, Server<A>>, session: Session) -> Self {
        let id = cx.id();
        cx.factory.connections.insert(id);
        cx.connection
            .set_idle_timeout(Some(cx.factory.limits.idle_time));
        Self {
            session,
            waiting: Vec::new(),
            exchange: None,
            driver: None,
            gate: None,
            is_congested: false,
            is_paused: false,
            has_ended: false,
            is_draining: false,
            timer: None,
        }
    }

    /// Takes what came, request by request, until there is no more or one has to wait.
    fn run(&mut self, cx: &mut Context<'_, Server<A>>, mut data: &[u8]) {
        let mut output = std::mem::take(&mut cx.factory.output);
        while !self.is_congested {
            let limits = cx.factory.limits;
            match self.session.next(&mut data, &limits, &mut cx.factory.heads) {
                Ok(Some(Event::Request(incoming))) => self.request(cx, incoming, &mut output),
                Ok(Some(Event::Data(part))) => {
                    if let Some(body) = self.body() {
                        body.push(part);
                    }
                }
                Ok(Some(Event::End(trailers))) => self.body_ended(cx, trailers, &mut output),
                Ok(None) => break,
                Err(refusal) => self.refuse(cx, refusal, &mut output),
            }
            if output.len() >= FLUSH_AT {
                self.flush(cx.connection, &mut output);
            }
        }
        self.flush(cx.connection, &mut output);
        output.shrink_to(MAX_SCRATCH);
        cx.factory.output = output;
        self.hold(cx.connection, data);
        self.settle(cx);
    }

    /// What cannot be looked at yet waits, and the client with it.
    fn hold(&mut self, connection: &Connection, data: &[u8]) {
        if data.is_empty() {
            let is_awaited = !self.body().is_some_and(|body| body.is_paused());
            if std::mem::take(&mut self.is_paused) && is_awaited {
                connection.resume_reading();
            }
            return;
        }
        self.waiting.extend_from_slice(data);
        if !std::mem::replace(&mut self.is_paused, true) {
            connection.pause_reading();
        }
    }

    /// Looks at what has waited.
    fn go_on(&mut self, cx: &mut Context<'_, Server<A>>) {
        let waiting = std::mem::take(&mut self.waiting);
        self.run(cx, &waiting);
        if self.has_ended && self.exchange.is_none() && !self.is_congested {
            cx.connection.close();
        }
    }

    /// After everything that came: sees to it that the client does not take forever.
    fn settle(&mut self, cx: &mut Context<'_, Server<A>>) {
        if self.session.lingers() == Some(true) {
            cx.connection.close();
            return;
        }
        if !self.session.is_waiting() {
            return;
        }
        self.session.handle_time(cx.now());
        if self.timer.is_none() {
            self.set_timer(cx);
        }
    }

    /// One timer, which is set again when it fires too early: what is set for every request would cost more than the request.
    fn set_timer(&mut self, cx: &Context<'_, Server<A>>) {
        let Some(at) = self.session.poll_timeout(&cx.factory.limits) else {
            self.timer = None;
            return;
        };
        let id = cx.id();
        let wait = after(at.saturating_sub(cx.now()));
        let fire = wait.map(move |()| {
            with_session(id, Self::time_is_over);
        });
        self.timer = Some(fire.start());
    }

    fn time_is_over(&mut self, cx: &mut Context<'_, Server<A>>) {
        // This runs in the timer's own task, which ends by itself.
        if let Some(timer) = self.timer.take() {
            timer.detach();
        }
        let now = cx.now();
        if self.body().is_some_and(|body| body.is_paused()) || self.is_paused {
            // It is the application that takes its time, not the client.
            self.session.handle_time(now);
        }
        match self.session.handle_timeout(&cx.factory.limits, now) {
            Some(Late::End) => cx.connection.close(),
            Some(Late::Request) => {
                let mut output = Vec::new();
                self.refuse(cx, Refusal::Timeout, &mut output);
                self.flush(cx.connection, &mut output);
                self.set_timer(cx);
            }
            None => self.set_timer(cx),
        }
    }

    /// A request: has it answered.
    fn request(
        &mut self,
        cx: &mut Context<'_, Server<A>>,
        incoming: Incoming,
        output: &mut Vec<u8>,
    ) {
        let Incoming {
            request,
            head,
            fields,
            framing,
        } = incoming;
        let peer = Peer::new(cx.connection, head, fields);
        let (channel, body) = match framing.body {
            BodyLength::Known(0) => (None, Body::empty()),
            length => {
                let promised = match length {
                    BodyLength::Known(length) => Some(length),
                    BodyLength::Chunked => None,
                };
                let (channel, incoming) =
                    Channel::new(cx.connection, promised, framing.expects_continue);
                (Some(channel), Body::incoming(incoming))
            }
        };
        let service = Rc::clone(&cx.factory.service);
        self.exchange = Some(Exchange {
            peer: peer.clone(),
            service: Rc::clone(&service),
            is_head: request.method() == Method::HEAD,
            version: request.version(),
            keep_alive: framing.keep_alive,
            body: channel,
            begun: None,
        });
        match service.call(request.map(|()| body), &peer) {
            Reply::Now(response) => {
                let response = self.begin(cx, response, output);
                match response {
                    None => self.finish(cx, output),
                    Some(rest) => {
                        self.flush(cx.connection, output);
                        self.drive(cx, drive::Answer::Rest(rest));
                    }
                }
            }
            Reply::Later(answer) => {
                // What was answered before does not wait for this.
                self.flush(cx.connection, output);
                self.drive(cx, drive::Answer::Later(answer));
            }
        }
    }

    fn drive(&mut self, cx: &Context<'_, Server<A>>, answer: drive::Answer) {
        // The application takes the time that it takes.
        cx.connection.set_idle_timeout(None);
        let gate = Rc::clone(self.gate.get_or_insert_default());
        let task = drive::drive::<A>(
            cx.connection.clone(),
            gate,
            answer,
            cx.factory.limits.body_time,
        );
        self.driver = Some(spawn(task));
    }

    /// Writes the head of an answer, and its body as far as that is in memory. Returns the rest of it.
    fn begin(
        &mut self,
        cx: &mut Context<'_, Server<A>>,
        response: Response<Body>,
        output: &mut Vec<u8>,
    ) -> Option<Rest> {
        let persistence = self.persistence(cx, response.headers());
        let exchange = self.exchange.as_mut()?;
        let (parts, body) = response.into_parts();
        let has_body = has_body(parts.status);
        let length = match body.length() {
            _ if !has_body => ResponseLength::None,
            // What a GET would say of a length that only the application knows.
            Some(0)
                if exchange.is_head && parts.headers.contains_key(http::header::CONTENT_LENGTH) =>
            {
                ResponseLength::None
            }
            Some(length) => ResponseLength::Known(length),
            None if exchange.version == Version::HTTP_11 => ResponseLength::Chunked,
            None => ResponseLength::Close,
        };
        let persistence = match length {
            ResponseLength::Close => Persistence::Closed,
            _ => persistence,
        };
        exchange.begun = Some((persistence, length));
        cx.factory.date.set(clock::wall());
        encode::head(
            output,
            parts.status,
            &parts.headers,
            (length, persistence),
            &cx.factory.date,
        );
        let sends = has_body && !exchange.is_head;
        let bytes = body.length().filter(|_| sends).unwrap_or(0);
        exchange
            .service
            .answered(&exchange.peer, parts.status, bytes);
        if !sends {
            return None;
        }
        match body.into_kind() {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                self.write_body(cx.connection, &bytes, output);
                None
            }
            Kind::Parts(parts) => {
                // The header waits in the queue, so that it leaves together with the file's first bytes.
                self.flush(cx.connection, output);
                Some(Rest::Parts(parts))
            }
            kind @ (Kind::Incoming(_) | Kind::Stream(_)) => {
                Some(Rest::Stream(Body::from(kind), length))
            }
        }
    }

    /// A small body joins its head; a large one is copied once, by the host.
    fn write_body(&mut self, connection: &Connection, bytes: &Bytes, output: &mut Vec<u8>) {
        if bytes.len() <= JOINED_BODY {
            output.extend_from_slice(bytes);
            return;
        }
        self.flush(connection, output);
        // The host closes a connection with more than 1 MiB unsent.
        let mut pieces = bytes.chunks(WRITTEN_AT_ONCE);
        if let Some(first) = pieces.next() {
            self.is_congested |= connection.write(first) >= HIGH_WATER;
        }
        for piece in pieces {
            self.is_congested |= connection.write(piece) >= HIGH_WATER;
        }
    }

    /// What becomes of the connection after this answer.
    fn persistence(&self, cx: &Context<'_, Server<A>>, headers: &HeaderMap) -> Persistence {
        let Some(exchange) = &self.exchange else {
            return Persistence::Closed;
        };
        // A body that nobody reads is thrown away if it is small; if not, the connection is cheaper.
        let is_too_much = exchange.body.as_ref().is_some_and(|body| {
            let rest = body.abandoned();
            self.session.is_in_body()
                && (body.is_withheld() && rest.is_some()
                    || rest.is_some_and(|left| left.is_none_or(|left| left > DISCARDED)))
        });
        let closes = !exchange.keep_alive
            || is_too_much
            || self.is_draining
            || cx.factory.is_draining
            || wants_close(headers);
        match exchange.version {
            _ if closes => Persistence::Closed,
            Version::HTTP_10 => Persistence::KeptAlive,
            _ => Persistence::Kept,
        }
    }

    /// The answer is written: the next request may come, once the body of this one is over.
    fn finish(&mut self, cx: &mut Context<'_, Server<A>>, output: &mut Vec<u8>) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let persistence = exchange
            .begun
            .map_or(Persistence::Closed, |(persistence, _)| persistence);
        if persistence == Persistence::Closed {
            return self.linger(cx, output);
        }
        if self.session.is_in_body() {
            if self.has_ended {
                return self.linger(cx, output);
            }
            let left = exchange.body.as_ref().and_then(|body| body.abandoned());
            if left.is_none_or(|left| left.is_none_or(|left| left > DISCARDED)) {
                return self.linger(cx, output);
            }
            // Its end ends the exchange.
            return;
        }
        self.exchange = None;
        self.session.handle_answered();
    }

    fn body_ended(
        &mut self,
        cx: &mut Context<'_, Server<A>>,
        trailers: HeaderMap,
        output: &mut Vec<u8>,
    ) {
        if let Some(body) = self.body() {
            body.end(trailers);
        }
        let is_answered = self.exchange.as_ref().is_some_and(|it| it.begun.is_some());
        if is_answered && self.driver.is_none() {
            self.finish(cx, output);
        }
    }

    /// Refuses what came, and ends the connection.
    fn refuse(&mut self, cx: &mut Context<'_, Server<A>>, refusal: Refusal, output: &mut Vec<u8>) {
        if let Some(body) = self.body() {
            body.lose();
        }
        // The application learns of it by its answer being dropped.
        let is_written = self.driver.take().is_none();
        if self.exchange.as_ref().is_some_and(|it| it.begun.is_some()) {
            if is_written {
                return self.linger(cx, output);
            }
            // The client has a part of an answer: the rest can only be missing.
            output.clear();
            self.exchange = None;
            self.session.linger(cx.now());
            cx.connection.abort();
            return;
        }
        let mut response = crate::text(format!("{refusal}\n"));
        *response.status_mut() = refusal.status();
        cx.factory.date.set(clock::wall());
        let length = response.body().length().unwrap_or(0);
        let how = (ResponseLength::Known(length), Persistence::Closed);
        encode::head(
            output,
            response.status(),
            response.headers(),
            how,
            &cx.factory.date,
        );
        if let Kind::Full(bytes) = response.into_body().into_kind() {
            output.extend_from_slice(&bytes);
        }
        if let Some(exchange) = &self.exchange {
            exchange
                .service
                .answered(&exchange.peer, refusal.status(), length);
        }
        self.linger(cx, output);
    }

    fn linger(&mut self, cx: &mut Context<'_, Server<A>>, output: &mut Vec<u8>) {
        self.exchange = None;
        self.flush(cx.connection, output);
        self.session.linger(cx.now());
        if self.has_ended {
            cx.connection.close();
        } else {
            cx.connection.shutdown_write();
        }
    }

    fn flush(&mut self, connection: &Connection, output: &mut Vec<u8>) {
        if !output.is_empty() {
            self.is_congested |= connection.write(output) >= HIGH_WATER;
            output.clear();
        }
    }

    fn body(&self) -> Option<&Rc<Channel>> {
        self.exchange.as_ref().and_then(|it| it.body.as_ref())
    }

    /// From the task: the answer is there.
    fn answer(
        &mut self,
        cx: &mut Context<'_, Server<A>>,
        response: Response<Body>,
    ) -> Option<Rest> {
        let mut output = std::mem::take(&mut cx.factory.output);
        let rest = self.begin(cx, response, &mut output);
        self.flush(cx.connection, &mut output);
        cx.factory.output = output;
        rest
    }

    /// From the task: all of the answer is written.
    fn answered(&mut self, cx: &mut Context<'_, Server<A>>) {
        // It is this task.
        if let Some(driver) = self.driver.take() {
            driver.detach();
        }
        cx.connection
            .set_idle_timeout(Some(cx.factory.limits.idle_time));
        self.finish(cx, &mut Vec::new());
        if !self.is_congested {
            self.go_on(cx);
        }
    }

    /// The service goes away: who waits for nothing is let go.
    fn drain(&mut self, cx: &mut Context<'_, Server<A>>) {
        self.is_draining = true;
        if self.exchange.is_none() && !self.session.is_waiting() && self.waiting.is_empty() {
            cx.connection.close();
        }
    }
}

/// What is left of an answer after its head.
pub(crate) enum Rest {
    /// A body that comes piece by piece.
    Stream(Body, ResponseLength),
    /// Parts of files.
    Parts(Vec<Piece>),
}

impl<A: Application> Factory for Server<A> {
    fn configure(config: &Config) -> Result<Self, String> {
        let service = Rc::new(A::configure(config)?);
        Ok(Self {
            limits: service.limits(),
            service,
            date: Date::default(),
            connections: HashSet::new(),
            is_draining: false,
            heads: Heads::default(),
            output: Vec::new(),
        })
    }

    fn draining(&mut self, _deadline: Duration) {
        self.is_draining = true;
        self.service.draining();
        let connections: Vec<_> = self.connections.iter().copied().collect();
        // A session cannot be reached from within a callback of the factory.
        let drain = async move {
            for id in connections {
                with_session(id, Http::<A>::drain);
            }
        };
        spawn_for_instance(drain).detach();
    }
}

/// Idle connections move; a request in progress is finished first.
impl<A: Application> Swap for Http<A> {
    const FORMATS: &'static [&'static str] = &["http/1"];

    fn save(_factory: &Server<A>, _format: &str) -> Result<Vec<u8>, SwapRefusal> {
        Ok(Vec::new())
    }

    fn restore(_factory: &mut Server<A>, _format: &str, _state: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// What has come of the next request.
    fn save_session(&self, _format: &str) -> Result<Vec<u8>, SwapRefusal> {
        match self.session.held() {
            Some(held) if self.exchange.is_none() && self.waiting.is_empty() && !self.has_ended => {
                Ok(held.to_vec())
            }
            _ => Err(SwapRefusal::Busy),
        }
    }

    fn restore_session(
        cx: &mut Context<'_, Server<A>>,
        _format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        let mut this = Self::opened(cx, Session::resumed(state.to_vec()));
        this.settle(cx);
        Ok(this)
    }
}

impl Gate {
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    fn open(&self) {
        self.is_closed.set(false);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) async fn passed(&self) {
        std::future::poll_fn(|cx| {
            if !self.is_closed.get() {
                return std::task::Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            std::task::Poll::Pending
        })
        .await;
    }
}

impl<A: Application> fmt::Debug for Http<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl<A: Application> fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Whether an answer with this status has a body ([RFC 9110 section 6.4.1](https://www.rfc-editor.org/rfc/rfc9110.html#section-6.4.1)).
fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Answers have few headers: to look at each is less work than a hash.
fn wants_close(headers: &HeaderMap) -> bool {
    let mut headers = headers.iter();
    headers
        .any(|(name, value)| *name == CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Bytes of answers that are put together before they are written: 32 KiB, so that a delivery of many requests does not make a queue longer than the host wants.
const FLUSH_AT: usize = 32 << 10;

/// Space that is kept between two callbacks: 64 KiB.
const MAX_SCRATCH: usize = 64 << 10;

/// Bodies up to this are copied behind their head, which is less work than another call of the host: 2 KiB.
const JOINED_BODY: usize = 2 << 10;

/// Bytes of one call of the host.
const WRITTEN_AT_ONCE: usize = 256 << 10;

/// Bytes of a request's body that are thrown away to keep the connection, if they are known to be no more: 64 KiB.
const DISCARDED: u64 = 64 << 10;
