//! One request and its answer on one connection: both go on at the same time, for a server that answers as it reads.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_io::{AsyncRead as _, AsyncWrite as _};
use http::{HeaderMap, Response};
use http_body::Frame;
use nethost_sdk::{Deferred, Stream, after};

use super::{
    error::Error,
    pool::{Pool, Route},
    session::{Event, Session},
};
use crate::{
    body::{Body, BodyError},
    codec::encode,
};

/// Sends the body of a request.
type Upload = Pin<Box<dyn Future<Output = Result<Sent, Error>>>>;

/// A request that is on its way.
pub(super) struct Exchange {
    link: Rc<Link>,
    session: Session,
    /// What came and was not looked at.
    received: Vec<u8>,
    at: usize,
    upload: Option<Upload>,
    silence: Duration,
    /// Runs while something is waited for, and since then so many bytes were sent.
    patience: Option<(Deferred<()>, u64)>,
    /// Where the connection goes afterwards.
    home: Option<Home>,
}

/// Where a connection goes that is good for another request.
pub(super) struct Home {
    pub(super) pool: Rc<Pool>,
    pub(super) route: Route,
    pub(super) idle_time: Duration,
}

/// The connection, for both directions.
struct Link {
    stream: RefCell<Option<Stream>>,
    /// Bytes that were sent.
    sent: Cell<u64>,
}

/// What became of what is sent.
#[derive(PartialEq, Eq)]
enum Sent {
    All,
    /// The server takes no more of it; it may have answered.
    Part,
}

/// An answer's parts, as [`Event`], with bytes of their own.
pub(super) enum Piece {
    Head(Response<()>),
    Data(Bytes),
    End(HeaderMap),
}

impl Exchange {
    /// Begins to send a head, and a body in chunks or as it is.
    pub(super) fn new(
        stream: Stream,
        session: Session,
        (head, body): (Vec<u8>, Option<(Body, Framed)>),
        silence: Duration,
        home: Option<Home>,
    ) -> Self {
        let link = Rc::new(Link {
            stream: RefCell::new(Some(stream)),
            sent: Cell::new(0),
        });
        let upload = upload(Rc::clone(&link), head, body);
        Self {
            link,
            session,
            received: Vec::new(),
            at: 0,
            upload: Some(Box::pin(upload)),
            silence,
            patience: None,
            home,
        }
    }

    /// The answer's head.
    pub(super) async fn head(&mut self) -> Result<Response<()>, Error> {
        loop {
            if let Piece::Head(head) = poll_fn(|cx| self.poll_next(cx)).await? {
                return Ok(head);
            }
        }
    }

    /// Whether nothing was heard of the server.
    pub(super) fn is_unheard(&self) -> bool {
        self.session.is_waiting() && self.received.is_empty()
    }

    /// Takes the connection, after an answer without a body; none if something came that belongs to no answer.
    pub(super) fn into_stream(self) -> Option<Stream> {
        let rest = self.received.get(self.at..).unwrap_or_default();
        if !rest.is_empty() || self.upload.is_some() {
            return None;
        }
        self.link.stream.take()
    }

    /// The next part of the answer.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.as_mut().poll(cx)
        {
            self.upload = None;
            if sent? == Sent::Part {
                self.home = None;
            }
        }
        loop {
            let mut rest = self.received.get(self.at..).unwrap_or_default();
            let event = self.session.handle_data(&mut rest)?;
            let left = rest.len();
            if let Some(event) = event {
                let piece = Piece::of(event);
                self.at = self.received.len() - left;
                self.patience = None;
                self.go_home(&piece);
                return Poll::Ready(Ok(piece));
            }
            self.received.drain(..self.received.len() - left);
            self.at = 0;
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => {
                    self.home = None;
                    let end = self.session.handle_end()?;
                    return Poll::Ready(Ok(Piece::of(end)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Lost(error))),
                Poll::Pending => {
                    ready!(self.poll_patience(cx));
                    let what = "nothing comes from the server";
                    return Poll::Ready(Err(Error::Timeout(what)));
                }
            }
        }
    }

    /// Reads what there is, and returns how much.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut stream = self.link.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Poll::Ready(Ok(0));
        };
        let before = self.received.len();
        self.received.resize(before + READ, 0);
        let room = self.received.get_mut(before..).unwrap_or_default();
        let read = Pin::new(stream).poll_read(cx, room);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.received.truncate(before + count);
        read
    }

    /// Completes when the server was silent for too long, and took nothing either.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let sent = self.link.sent.get();
            let (timer, before) = self
                .patience
                .get_or_insert_with(|| (after(self.silence), sent));
            let _ = ready!(Pin::new(timer).poll(cx));
            if *before == sent {
                return Poll::Ready(());
            }
            self.patience = None;
        }
    }

    /// Gives the connection back after the last part, if it is good for another request.
    fn go_home(&mut self, piece: &Piece) {
        let is_over = matches!(piece, Piece::End(_));
        if !is_over || self.upload.is_some() || self.at != self.received.len() {
            return;
        }
        if self.session.is_kept()
            && let Some(home) = self.home.take()
            && let Some(stream) = self.link.stream.take()
        {
            home.pool.put(home.route, stream, home.idle_time);
        }
    }
}

impl Piece {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Head(head) => Self::Head(head),
            Event::Data(data) => Self::Data(Bytes::copy_from_slice(data)),
            Event::End(trailers) => Self::End(trailers),
        }
    }
}

/// How a request's body is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    /// As so many bytes.
    Known(u64),
    Chunked,
}

async fn upload(
    link: Rc<Link>,
    head: Vec<u8>,
    body: Option<(Body, Framed)>,
) -> Result<Sent, Error> {
    if link.write_all(&head).await.is_err() {
        return Ok(Sent::Part);
    }
    let Some((mut body, framed)) = body else {
        return Ok(Sent::All);
    };
    let mut left = match framed {
        Framed::Known(length) => Some(length),
        Framed::Chunked => None,
    };
    while let Some(data) = body.next().await {
        let data = data.map_err(Error::Body)?;
        if data.is_empty() {
            continue;
        }
        let written = if let Some(left) = &mut left {
            // More than was said would be taken for the next request.
            let length = data.len() as u64;
            *left = left.checked_sub(length).ok_or_else(wrong_length)?;
            link.write_all(&data).await
        } else {
            let mut chunk = Vec::with_capacity(data.len() + 16);
            encode::chunk(&mut chunk, &data);
            link.write_all(&chunk).await
        };
        if written.is_err() {
            return Ok(Sent::Part);
        }
    }
    match left {
        Some(0) => {}
        Some(_) => return Err(wrong_length()),
        None => {
            let mut last = Vec::new();
            encode::last_chunk(&mut last, None);
            if link.write_all(&last).await.is_err() {
                return Ok(Sent::Part);
            }
        }
    }
    Ok(Sent::All)
}

fn wrong_length() -> Error {
    Error::Body(BodyError::Failed("it is not as long as it said".into()))
}

impl Link {
    async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = poll_fn(|cx| match self.stream.borrow_mut().as_mut() {
                Some(stream) => Pin::new(stream).poll_write(cx, data),
                None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            })
            .await?;
            self.sent.set(self.sent.get() + written as u64);
            data = data.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The body of an answer, as the application gets it.
pub(super) struct Incoming {
    pub(super) exchange: Exchange,
    /// When all of it has to be there.
    pub(super) deadline: Option<Deferred<()>>,
    pub(super) is_over: bool,
    pub(super) length: Option<u64>,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && Pin::new(deadline).poll(cx).is_ready()
        {
            self.is_over = true;
            return Poll::Ready(Some(Err(Error::Timeout(TOTAL))));
        }
        loop {
            return match ready!(self.exchange.poll_next(cx)) {
                Ok(Piece::Head(_)) => continue,
                Ok(Piece::Data(data)) => {
                    let length = data.len() as u64;
                    self.length = self.length.map(|it| it.saturating_sub(length));
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Ok(Piece::End(trailers)) => {
                    self.is_over = true;
                    Poll::Ready(
                        Some(trailers)
                            .filter(|trailers| !trailers.is_empty())
                            .map(|trailers| Ok(Frame::trailers(trailers))),
                    )
                }
                Err(error) => {
                    self.is_over = true;
                    Poll::Ready(Some(Err(error)))
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.length {
            Some(length) => http_body::SizeHint::with_exact(length),
            None => http_body::SizeHint::new(),
        }
    }
}

pub(super) const TOTAL: &str = "the request takes longer than it may";

/// Bytes of one read: 64 KiB, as many as wait to be read at most.
const READ: usize = 64 << 10;
