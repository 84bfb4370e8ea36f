//! A connection as a byte stream for `async` code.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
};

use tokio::io::ReadBuf;

use crate::{
    bindings::nethost::plugin::types::CloseReason,
    connection::{Connection, HIGH_WATER},
    deferred::{self, Deferred},
    executor,
    protocol::{Context, Factory, Origin, Protocol},
    tls::TlsRole,
};

/// A connection as a byte stream: the `AsyncRead` and `AsyncWrite` of both futures and tokio, so that crates that are generic
/// over them run in a plugin.
///
/// Back-pressure works both ways: the peer is not read while [`MAX_BUFFERED`] bytes or more wait to be read, and writing waits while
/// [`HIGH_WATER`] bytes or more are unsent. Dropping it closes the connection; what was written is sent.
pub struct Stream {
    connection: Connection,
    shared: Rc<Shared>,
}

impl Stream {
    /// Connects to an endpoint such as `tcp://irc.example.net:6667`. Errors: see [`connect`](crate::connect).
    pub fn connect(endpoint: &str) -> Deferred<Self> {
        deferred::connect_stream(endpoint)
    }

    /// The connection, for its addresses and timeouts.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Secures the connection (STARTTLS), and throws away what came in clear and was not read yet: nobody knows who sent it.
    ///
    /// That happens at the call, whatever comes of it; what is read later came through TLS. What was read already, and lies in a buffer around this stream (tokio's
    /// `BufReader`, a codec's), is for the caller to throw away: take the stream out of it, and put it into a new one. Errors, and why all this
    /// matters: see [`Connection::start_tls`].
    pub fn start_tls(&mut self, role: TlsRole) -> Deferred<()> {
        let secured = self.connection.start_tls(role);
        self.shared.received.borrow_mut().clear();
        if self.shared.paused.replace(false) {
            self.connection.resume_reading();
        }
        secured
    }

    /// Reads some bytes; 0 at the end of the stream.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_into(cx, buffer)).await
    }

    /// Writes all of these bytes.
    pub async fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = poll_fn(|cx| self.poll_write_from(cx, data)).await?;
            data = data.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Its two directions, for two futures at the same time ([`try_join`](crate::try_join())).
    pub fn split(&mut self) -> (StreamReader<'_>, StreamWriter<'_>) {
        (StreamReader(self), StreamWriter(self))
    }

    pub(crate) fn new(connection: &Connection) -> (Self, Feed) {
        let shared = Rc::new(Shared::default());
        let stream = Self {
            connection: connection.clone(),
            shared: Rc::clone(&shared),
        };
        (
            stream,
            Feed {
                connection: connection.clone(),
                shared,
            },
        )
    }

    fn poll_read_into(&self, cx: &TaskContext<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        let mut received = shared.received.borrow_mut();
        if !received.is_empty() || buffer.is_empty() {
            let read = io::Read::read(&mut *received, buffer)?;
            if received.len() < MAX_BUFFERED && shared.paused.replace(false) {
                self.connection.resume_reading();
            }
            return Poll::Ready(Ok(read));
        }
        if let Some(reason) = &*shared.lost.borrow() {
            return Poll::Ready(if reason.is_clean() {
                Ok(0)
            } else {
                Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    reason.to_string(),
                ))
            });
        }
        if shared.read_closed.get() {
            return Poll::Ready(Ok(0));
        }
        shared.reader.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn poll_write_from(&self, cx: &TaskContext<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        if shared.lost.borrow().is_some() || shared.write_closed.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if shared.full.get() {
            shared.writer.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let part = data.get(..HIGH_WATER).unwrap_or(data);
        shared.full.set(self.connection.write(part) >= HIGH_WATER);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_end(&self) -> Poll<io::Result<()>> {
        if !self.shared.write_closed.replace(true) {
            self.connection.shutdown_write();
        }
        Poll::Ready(Ok(()))
    }
}

/// What comes of a [`Stream`].
#[derive(Debug)]
pub struct StreamReader<'a>(&'a Stream);

impl StreamReader<'_> {
    /// Reads some bytes; 0 at the end of the stream.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.0.poll_read_into(cx, buffer)).await
    }
}

/// What goes into a [`Stream`].
#[derive(Debug)]
pub struct StreamWriter<'a>(&'a Stream);

impl StreamWriter<'_> {
    /// Writes all of these bytes.
    pub async fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = poll_fn(|cx| self.0.poll_write_from(cx, data)).await?;
            data = data.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends what was written, then the end of the stream. Reading goes on.
    pub fn shutdown(&mut self) {
        if !self.0.shared.write_closed.replace(true) {
            self.0.connection.shutdown_write();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.abandoned.set(true);
        self.connection.close();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.connection).finish()
    }
}

impl futures_io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_into(cx, buffer)
    }
}

impl futures_io::AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, data)
    }

    /// What is written is queued with the host already.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.poll_end()
    }
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_read_into(cx, buffer.initialize_unfilled());
        read.map_ok(|read| buffer.advance(read))
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_from(cx, data)
    }

    /// What is written is queued with the host already.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.poll_end()
    }
}

/// A plugin written as one `async` function per connection; exported as `export_plugin!(Served<Name>)`.
pub trait Serve: 'static {
    /// What all connections of an instance share, reached with [`with_factory`](crate::with_factory).
    type Factory: Factory;

    /// Serves one connection. It is closed when this returns or drops the stream. When the connection is lost, reading and writing fail, and
    /// what then still waits for something else is dropped.
    fn serve(stream: Stream, origin: Origin) -> impl Future<Output = ()> + 'static;
}

/// The [`Protocol`] of a [`Serve`].
pub struct Served<S> {
    feed: Feed,
    serve: PhantomData<S>,
}

impl<S: Serve> Protocol for Served<S> {
    type Factory = S::Factory;

    fn connection_made(cx: &mut Context<'_, S::Factory>, origin: Origin) -> Option<Self> {
        let (stream, feed) = Stream::new(cx.connection);
        executor::spawn(S::serve(stream, origin)).detach();
        Some(Self {
            feed,
            serve: PhantomData,
        })
    }

    fn data_received(&mut self, _cx: &mut Context<'_, S::Factory>, data: &[u8]) {
        self.feed.data_received(data);
    }

    fn writable(&mut self, _cx: &mut Context<'_, S::Factory>) {
        self.feed.writable();
    }

    fn read_closed(&mut self, _cx: &mut Context<'_, S::Factory>) {
        self.feed.read_closed();
    }

    fn connection_lost(&mut self, _cx: &mut Context<'_, S::Factory>, reason: CloseReason) {
        self.feed.connection_lost(reason);
    }
}

impl<S> fmt::Debug for Served<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served")
            .field(&self.feed.connection)
            .finish()
    }
}

/// The callbacks' end of a [`Stream`].
pub(crate) struct Feed {
    connection: Connection,
    shared: Rc<Shared>,
}

impl Feed {
    pub(crate) fn data_received(&mut self, data: &[u8]) {
        let shared = &self.shared;
        if shared.abandoned.get() {
            return;
        }
        let mut received = shared.received.borrow_mut();
        received.extend(data);
        if received.len() >= MAX_BUFFERED && !shared.paused.replace(true) {
            self.connection.pause_reading();
        }
        wake(&shared.reader);
    }

    pub(crate) fn writable(&mut self) {
        self.shared.full.set(false);
        wake(&self.shared.writer);
    }

    pub(crate) fn read_closed(&mut self) {
        self.shared.read_closed.set(true);
        wake(&self.shared.reader);
    }

    pub(crate) fn connection_lost(&mut self, reason: CloseReason) {
        self.shared.lost.replace(Some(reason));
        wake(&self.shared.reader);
        wake(&self.shared.writer);
    }
}

#[derive(Default)]
struct Shared {
    received: RefCell<VecDeque<u8>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    lost: RefCell<Option<CloseReason>>,
    paused: Cell<bool>,
    full: Cell<bool>,
    read_closed: Cell<bool>,
    write_closed: Cell<bool>,
    abandoned: Cell<bool>,
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A stream with this many bytes to be read is not fed more: 64 KiB. One delivery of 64 KiB may go over it.
pub const MAX_BUFFERED: usize = 64 * 1024;
