//! TLS over any other transport: rustls between its bytes and ours.
//!
//! Nothing here waits or spawns: the connection's pump polls it like a bare socket, and TLS's own messages (tickets, key updates, alerts) leave
//! whenever something is read or written.

use std::{
    cell::RefCell,
    io::{self, IoSlice, Read as _, Write as _},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{ClientConnection, Connection, ServerConnection, pki_types::ServerName};
use thiserror::Error;
use tokio::io::ReadBuf;

use super::Transport;
use crate::{limits::READ_SIZE, tls::info::TlsInfo};

/// A byte stream that is secured, or about to be.
#[derive(Debug)]
pub(crate) struct TlsStream {
    under: Transport,
    session: Connection,
    /// The name that was asked for, as the client.
    server_name: Option<String>,
    /// What was read and not yet taken in, because plain text waits.
    unfed: Vec<u8>,
    /// The stream under it has ended.
    ended: bool,
}

/// What went wrong in TLS; inside an [`io::Error`], so that [`failure`] can tell it from the network's errors.
#[derive(Debug, Error)]
#[error("{0}")]
struct Failure(String);

impl TlsStream {
    /// Secures a stream as the server. `ticket` comes back from a client that resumes this session.
    pub(crate) fn server(
        under: Transport,
        config: Arc<rustls::ServerConfig>,
        ticket: &[u8],
    ) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(failed)?;
        session.set_resumption_data(ticket);
        Ok(Self::new(under, session.into()))
    }

    /// Secures a stream as the client of a server with this name.
    pub(crate) fn client(
        under: Transport,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let server_name = name.to_str().into_owned();
        let session = ClientConnection::new(config, name).map_err(failed)?;
        let mut stream = Self::new(under, session.into());
        stream.server_name = Some(server_name);
        Ok(stream)
    }

    fn new(under: Transport, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(MOST_BUFFERED));
        Self {
            under,
            session,
            server_name: None,
            unfed: Vec::new(),
            ended: false,
        }
    }

    /// Returns what the handshake led to, and the ticket of the session that was resumed, if this side gave it; none before its end.
    pub(crate) fn info(&self) -> Option<(TlsInfo, Option<&[u8]>)> {
        if self.session.is_handshaking() {
            return None;
        }
        Some(match &self.session {
            Connection::Server(server) => (
                TlsInfo::of_server(server),
                server.received_resumption_data(),
            ),
            Connection::Client(client) => {
                let name = self.server_name.as_deref();
                (TlsInfo::of_client(client, name), None)
            }
        })
    }

    /// Returns the stream under it.
    pub(super) fn under(&self) -> &Transport {
        &self.under
    }

    /// Brings the handshake to its end. When it fails, the peer was told why if it could be.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let fed = ready!(self.poll_feed(cx, None));
            match fed {
                Ok(0) => {
                    return Poll::Ready(Err(failure_of(
                        "the stream ended within the handshake".to_owned(),
                    )));
                }
                Ok(_) => {}
                Err(error) => {
                    self.say_last(cx);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().read(buffer.initialize_unfilled()) {
                // The peer said that this is its end.
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(failure_of(error.to_string()))),
            }
            if self.ended {
                return Poll::Ready(Err(truncated()));
            }
            let before = buffer.filled().len();
            let fed = self.poll_feed(cx, Some(buffer));
            // Tickets, key updates and alerts; what the kernel does not take now wakes this again.
            let _pending = self.poll_flush(cx);
            let fed = ready!(fed);
            match fed {
                Ok(0) => self.ended = true,
                Ok(_) if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads once from the stream under it, and takes it in; what it meant goes to `plain`. Returns how much was read, 0 at the end of the stream.
    fn poll_feed(
        &mut self,
        cx: &mut Context<'_>,
        plain: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<usize>> {
        if !self.unfed.is_empty() {
            let unfed = std::mem::take(&mut self.unfed);
            return Poll::Ready(self.feed(&unfed, plain));
        }
        CIPHERTEXT.with_borrow_mut(|memory| {
            memory.resize(READ_SIZE, 0);
            let mut read = ReadBuf::new(memory);
            ready!(self.under.poll_read(cx, &mut read))?;
            Poll::Ready(self.feed(read.filled(), plain))
        })
    }

    /// Takes in what came. What would be plain text that nobody has room for is kept as it is.
    fn feed(&mut self, came: &[u8], mut plain: Option<&mut ReadBuf<'_>>) -> io::Result<usize> {
        let mut rest = came;
        while !rest.is_empty() {
            if self.session.read_tls(&mut rest)? == 0 {
                // After the peer's end nothing has a meaning.
                break;
            }
            self.session.process_new_packets().map_err(failed)?;
            if let Some(plain) = &mut plain {
                match self.session.reader().read(plain.initialize_unfilled()) {
                    Ok(count) => plain.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(failure_of(error.to_string())),
                }
            }
            if !self.session.wants_read() {
                self.unfed.extend_from_slice(rest);
                break;
            }
        }
        Ok(came.len())
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What is encrypted is bounded: nothing is taken while the last lot has not left.
        ready!(self.poll_flush(cx))?;
        let taken = self.session.writer().write_vectored(slices)?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    /// Hands what is encrypted to the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut out = Out {
                under: &mut self.under,
                cx,
            };
            match self.session.write_tls(&mut out) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more comes (`close_notify`), and ends the writing half under it.
    pub(super) fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Said twice it is queued once.
        self.session.send_close_notify();
        ready!(self.poll_flush(cx))?;
        self.under.poll_shutdown_write(cx)
    }

    /// Tries to send an alert; the connection ends whether it leaves or not.
    fn say_last(&mut self, cx: &mut Context<'_>) {
        let _pending = self.poll_flush(cx);
    }
}

/// The stream under TLS as a writer that does not block.
struct Out<'a, 'b, 'c> {
    under: &'a mut Transport,
    cx: &'b mut Context<'c>,
}

impl io::Write for Out<'_, '_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.under.poll_write(self.cx, slices, false) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the name that a server's certificate must have.
pub(crate) fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{}` is not a server's name", name.escape_debug()),
            )
        }),
    }
}

/// Returns what went wrong if it was TLS and not the network.
pub(crate) fn failure(error: &io::Error) -> Option<&str> {
    let failure = error.get_ref()?.downcast_ref::<Failure>()?;
    Some(&failure.0)
}

fn failed(error: rustls::Error) -> io::Error {
    failure_of(error.to_string())
}

/// Makes an error of TLS, and not of the network.
pub(crate) fn failure_of(message: String) -> io::Error {
    io::Error::other(Failure(message))
}

/// The stream ended without `close_notify`: what came may not be all (RFC 8446, section 6.1).
fn truncated() -> io::Error {
    failure_of("the stream ended without close_notify".to_owned())
}

thread_local! {
    /// What was read from the streams under TLS; each read is taken in whole before the next.
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that are encrypted ahead of what the kernel takes: 64 KiB.
const MOST_BUFFERED: usize = 64 << 10;
