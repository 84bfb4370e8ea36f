//! Bodies of requests and responses.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error, fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use nethost_sdk::{Connection, File};

use crate::{codec::encode::CONTINUE, types::Refusal};

/// A body: in memory, coming from the client, made piece by piece, or parts of files.
///
/// It is an [`http_body::Body`], so that what other crates make of bodies works with it.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
pub(crate) enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
    Parts(Vec<Piece>),
}

/// A part of a body that is made of files.
pub(crate) enum Piece {
    Bytes(Bytes),
    File {
        file: Rc<File>,
        offset: u64,
        length: u64,
    },
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// It is longer than the application wants.
    TooLarge,
    /// The connection is gone, or what came on it is no body; the server has told the client, or cannot.
    Lost,
    /// What makes the body has failed.
    Failed(Box<dyn error::Error>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Full(bytes.into()))
    }

    /// What another body yields, with its trailers. It goes out in chunks, unless its size is known exactly.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn error::Error>>,
    {
        Self(Kind::Stream(Box::pin(Foreign(Box::pin(body)))))
    }

    /// A part of a file, which the host sends without the plugin touching it.
    pub fn file(file: impl Into<Rc<File>>, offset: u64, length: u64) -> Self {
        let file = file.into();
        Self(Kind::Parts(vec![Piece::File {
            file,
            offset,
            length,
        }]))
    }

    pub(crate) fn parts(parts: Vec<Piece>) -> Self {
        Self(Kind::Parts(parts))
    }

    pub(crate) fn incoming(incoming: Incoming) -> Self {
        Self(Kind::Incoming(incoming))
    }

    pub(crate) fn into_kind(self) -> Kind {
        match self.0 {
            // All of it is there already: it needs no chunks.
            Kind::Incoming(incoming) => match incoming.whole() {
                Ok(bytes) => Kind::Full(bytes),
                Err(incoming) => Kind::Incoming(incoming),
            },
            kind => kind,
        }
    }

    /// How many bytes there will be, if that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Incoming(incoming) => incoming.0.length(),
            Kind::Stream(body) => body.size_hint().exact(),
            Kind::Parts(parts) => Some(parts.iter().map(Piece::length).sum()),
        }
    }

    /// The next bytes; none at the end. Trailers are passed over.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            let frame = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(self), cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// All bytes, if they are at most so many.
    pub async fn collect(mut self, most: usize) -> Result<Bytes, BodyError> {
        let mut first = match self.next().await {
            Some(bytes) => bytes?,
            None => return Ok(Bytes::new()),
        };
        let mut all = BytesMut::new();
        while let Some(more) = self.next().await {
            let more = more?;
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            if all.len() + more.len() > most {
                return Err(BodyError::TooLarge);
            }
            all.extend_from_slice(&more);
        }
        let all = if all.is_empty() { first } else { all.freeze() };
        if all.len() > most {
            return Err(BodyError::TooLarge);
        }
        Ok(all)
    }

    /// Whether the client waits to be told to go on before it sends this.
    pub(crate) fn is_withheld(&self) -> bool {
        matches!(&self.0, Kind::Incoming(incoming) if incoming.0.is_withheld())
    }

    /// Waits until a request's body is complete, or so many of its bytes are there; they stay in it. A body that turns out to be malformed by then was never
    /// answered by the application.
    pub async fn buffered(self, bytes: usize) -> Result<Self, BodyError> {
        if let Kind::Incoming(incoming) = &self.0 {
            incoming.0.capacity.set(bytes.max(CAPACITY));
            poll_fn(|cx| incoming.0.poll_filled(cx, bytes)).await?;
        }
        Ok(self)
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(
                    Some(bytes)
                        .filter(|it| !it.is_empty())
                        .map(|it| Ok(Frame::data(it))),
                )
            }
            Kind::Incoming(incoming) => incoming.0.poll_frame(cx),
            Kind::Stream(body) => body.as_mut().poll_frame(cx),
            // The server sends them; to read one's own files there is `File::read_at`.
            Kind::Parts(_) => Poll::Ready(Some(Err(BodyError::Failed(
                "files are sent, not read".into(),
            )))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Stream(body) => body.is_end_stream(),
            _ => self.length() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Stream(body) => body.size_hint(),
            _ => self
                .length()
                .map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

/// The client's side of a request's body: what came, and whether more is wanted.
pub(crate) struct Incoming(Rc<Channel>);

pub(crate) struct Channel {
    connection: Connection,
    chunks: RefCell<VecDeque<Bytes>>,
    /// Bytes in `chunks`.
    filled: Cell<usize>,
    /// Bytes that may be there before the client has to wait.
    capacity: Cell<usize>,
    /// Bytes that are still to come, as the client said.
    promised: Cell<Option<u64>>,
    trailers: RefCell<Option<HeaderMap>>,
    state: Cell<Flow>,
    is_paused: Cell<bool>,
    expects_continue: Cell<bool>,
    is_abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Coming,
    Ended,
    Lost,
}

impl Channel {
    pub(crate) fn new(
        connection: &Connection,
        promised: Option<u64>,
        expects_continue: bool,
    ) -> (Rc<Self>, Incoming) {
        let channel = Rc::new(Self {
            connection: connection.clone(),
            chunks: RefCell::default(),
            filled: Cell::new(0),
            capacity: Cell::new(CAPACITY),
            promised: Cell::new(promised),
            trailers: RefCell::default(),
            state: Cell::new(Flow::Coming),
            is_paused: Cell::new(false),
            expects_continue: Cell::new(expects_continue),
            is_abandoned: Cell::new(false),
            waker: RefCell::default(),
        });
        (Rc::clone(&channel), Incoming(channel))
    }

    /// Bytes came.
    pub(crate) fn push(&self, data: &[u8]) {
        self.expects_continue.set(false);
        if self.is_abandoned.get() {
            return;
        }
        self.chunks
            .borrow_mut()
            .push_back(Bytes::copy_from_slice(data));
        self.filled.set(self.filled.get() + data.len());
        self.promised.set(
            self.promised
                .get()
                .map(|left| left.saturating_sub(data.len() as u64)),
        );
        if self.filled.get() >= self.capacity.get() && !self.is_paused.replace(true) {
            self.connection.pause_reading();
        }
        self.wake();
    }

    /// The body is complete.
    pub(crate) fn end(&self, trailers: HeaderMap) {
        self.state.set(Flow::Ended);
        if !trailers.is_empty() {
            self.trailers.replace(Some(trailers));
        }
        self.wake();
    }

    /// There will be no more.
    pub(crate) fn lose(&self) {
        if self.state.get() == Flow::Coming {
            self.state.set(Flow::Lost);
            self.wake();
        }
    }

    /// Whether the client waits to be told to go on, and was not.
    pub(crate) fn is_withheld(&self) -> bool {
        self.expects_continue.get()
    }

    /// Whether nobody reads it, and how much of it is to come, if that is known.
    pub(crate) fn abandoned(&self) -> Option<Option<u64>> {
        self.is_abandoned.get().then(|| self.promised.get())
    }

    /// Whether the client is kept waiting because nobody reads.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.get()
    }

    fn length(&self) -> Option<u64> {
        match self.state.get() {
            Flow::Ended => Some(self.filled.get() as u64),
            _ => self
                .promised
                .get()
                .map(|left| left + self.filled.get() as u64),
        }
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let chunk = self.chunks.borrow_mut().pop_front();
        if let Some(chunk) = chunk {
            self.filled.set(self.filled.get() - chunk.len());
            self.resume(self.filled.get() < self.capacity.get() / 2);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.state.get() {
            Flow::Coming => self.wait(cx),
            Flow::Ended => Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it)))),
            Flow::Lost => Poll::Ready(Some(Err(BodyError::Lost))),
        }
    }

    fn poll_filled(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), BodyError>> {
        match self.state.get() {
            _ if self.filled.get() >= bytes => Poll::Ready(Ok(())),
            Flow::Coming => self.wait(cx),
            Flow::Ended => Poll::Ready(Ok(())),
            Flow::Lost => Poll::Ready(Err(BodyError::Lost)),
        }
    }

    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        if self.expects_continue.replace(false) {
            self.connection.write(CONTINUE);
        }
        self.resume(true);
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn resume(&self, resumes: bool) {
        if resumes && self.is_paused.replace(false) {
            self.connection.resume_reading();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Incoming {
    fn whole(self) -> Result<Bytes, Self> {
        if self.0.state.get() != Flow::Ended || self.0.trailers.borrow().is_some() {
            return Err(self);
        }
        let mut chunks = self.0.chunks.take();
        if chunks.len() <= 1 {
            return Ok(chunks.pop_front().unwrap_or_default());
        }
        let mut all = BytesMut::with_capacity(self.0.filled.get());
        chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
        Ok(all.freeze())
    }
}

/// Nobody reads it any more: what comes is thrown away.
impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        self.0.chunks.take();
        self.0.resume(true);
    }
}

/// A body of another crate, with its error as ours.
struct Foreign<B>(Pin<Box<B>>);

impl<B> http_body::Body for Foreign<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn error::Error>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.0.as_mut().poll_frame(cx);
        frame.map(|frame| frame.map(|it| it.map_err(|error| BodyError::Failed(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self(kind)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::full(bytes)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.length())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => Refusal::BodyTooLarge.fmt(f),
            Self::Lost => Refusal::BodyIncomplete.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl error::Error for BodyError {}

/// What the client is told of it.
impl From<BodyError> for Response<Body> {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Lost => StatusCode::BAD_REQUEST,
            BodyError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = crate::text(format!("{error}\n"));
        *response.status_mut() = status;
        response
    }
}

/// Bytes of a request's body that wait for the application before the client has to: 128 KiB, two deliveries of the host.
const CAPACITY: usize = 128 << 10;
