//! Transports: what moves a connection's bytes, and datagrams.

pub(crate) mod tcp;

pub(crate) mod tls;

pub(crate) mod udp;

pub(crate) mod unix;

pub(crate) mod inherited;

pub(crate) mod stdio;

pub(crate) mod proxy;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::SendFlags;
use socket2::SockRef;
use tls::TlsStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A byte stream to a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A UNIX socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream>),
}

/// A stream on its way from one worker to another.
#[derive(Debug)]
pub(crate) enum Handed {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A UNIX socket.
    Unix(std::os::unix::net::UnixStream),
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP; IPv4 is unmapped.
    Socket(SocketAddr),
    /// A UNIX socket: its path, `@` and the name of one in the abstract namespace, or none for an unnamed one.
    Path(Option<PathBuf>),
    /// No address: what it is, in a word.
    Other(&'static str),
}

impl Transport {
    /// Reads what is there, at most what the buffer takes. Nothing read and `Ok` is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }

    /// Writes the slices with one system call and returns how many bytes were taken. `more` says that a file follows at once: the kernel then fills
    /// the last packet with it.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (stream @ Self::Tcp(_), _) if more => {
                stream.poll_socket(cx, Interest::WRITABLE, |socket| {
                    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                    let flags = i32::try_from(flags.bits()).unwrap_or(0);
                    SockRef::from(&socket).send_vectored_with_flags(slices, flags)
                })
            }
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Self::Tcp(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Self::Unix(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Self::Tls(stream), _) => stream.poll_write(cx, slices),
        }
    }

    /// Hands what was taken, and is still here, to the kernel; a bare socket holds nothing back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Closes the writing half; the kernel sends what it has, then the end of the stream.
    pub(crate) fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self {
            Self::Tcp(stream) => SockRef::from(&*stream).shutdown(std::net::Shutdown::Write),
            Self::Unix(stream) => SockRef::from(&*stream).shutdown(std::net::Shutdown::Write),
            Self::Tls(stream) => return stream.poll_shutdown_write(cx),
        })
    }

    /// Does something with the socket itself, now or when it is ready; pending under TLS, where its bytes are not ours to move.
    pub(crate) fn poll_socket<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let ready = match self {
                Self::Tcp(stream) if interest.is_readable() => stream.poll_read_ready(cx),
                Self::Tcp(stream) => stream.poll_write_ready(cx),
                Self::Unix(stream) if interest.is_readable() => stream.poll_read_ready(cx),
                Self::Unix(stream) => stream.poll_write_ready(cx),
                Self::Tls(_) => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            };
            ready!(ready)?;
            let done = match self {
                Self::Tcp(stream) => stream.try_io(interest, || act(stream.as_fd())),
                Self::Unix(stream) => stream.try_io(interest, || act(stream.as_fd())),
                Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Lets the kernel hold back what does not fill a segment (tcp(7), TCP_CORK), or sends what it held. Only TCP has that.
    pub(crate) fn set_cork(&self, cork: bool) {
        if let Self::Tcp(stream) = self
            && let Err(error) = rustix::net::sockopt::set_tcp_cork(stream, cork)
        {
            tracing::debug!(%error, "setting TCP_CORK");
        }
    }

    /// Returns whether the kernel can move its bytes by itself.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    /// Returns TLS, if the stream is secured.
    pub(crate) fn tls(&self) -> Option<&TlsStream> {
        match self {
            Self::Tls(stream) => Some(stream),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Takes the stream out of this worker's runtime, to be handed to another worker.
    pub(crate) fn into_handed(self) -> io::Result<Handed> {
        Ok(match self {
            Self::Tcp(stream) => Handed::Tcp(stream.into_std()?),
            Self::Unix(stream) => Handed::Unix(stream.into_std()?),
            // Streams are handed over as they were accepted.
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Puts a stream that was handed over into this worker's runtime.
    pub(crate) fn from_handed(handed: Handed) -> io::Result<Self> {
        Ok(match handed {
            Handed::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            Handed::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Returns the local and the peer's address.
    pub(crate) fn addresses(&self) -> io::Result<(Address, Address)> {
        match self {
            Self::Tcp(stream) => tcp::addresses(stream),
            Self::Unix(stream) => unix::addresses(stream),
            Self::Tls(stream) => stream.under().addresses(),
        }
    }

    /// Makes the coming drop a reset, where the transport has one.
    pub(crate) fn reset_on_drop(&self) {
        match self {
            Self::Tcp(stream) => {
                if let Err(error) =
                    SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO))
                {
                    tracing::debug!(%error, "setting SO_LINGER");
                }
            }
            Self::Tls(stream) => stream.under().reset_on_drop(),
            Self::Unix(_) => {}
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            // The peer may have chosen it, and it goes to the log.
            Self::Path(Some(path)) => {
                write!(f, "unix:{}", path.to_string_lossy().escape_debug())
            }
            Self::Path(None) => f.write_str("unix"),
            Self::Other(what) => f.write_str(what),
        }
    }
}
