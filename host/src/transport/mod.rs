//! Transports: what moves a connection's bytes, and datagrams.

pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod unix;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A byte stream to a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A UNIX socket.
    Unix(UnixStream),
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
    /// A UNIX socket, or none for an unnamed one.
    Path(Option<PathBuf>),
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
        }
    }

    /// Writes the slices with one system call and returns how many bytes the kernel took.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Self::Tcp(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Self::Unix(stream), _) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Closes the writing half; the kernel sends what it has, then the end of the stream.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream),
            Self::Unix(stream) => socket2::SockRef::from(stream),
        };
        socket.shutdown(std::net::Shutdown::Write)
    }

    /// Takes the stream out of this worker's runtime, to be handed to another worker.
    pub(crate) fn into_handed(self) -> io::Result<Handed> {
        Ok(match self {
            Self::Tcp(stream) => Handed::Tcp(stream.into_std()?),
            Self::Unix(stream) => Handed::Unix(stream.into_std()?),
        })
    }

    /// Puts a stream that was handed over into this worker's runtime.
    pub(crate) fn from_handed(handed: Handed) -> io::Result<Self> {
        Ok(match handed {
            Handed::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            Handed::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Makes the coming drop a reset, where the transport has one.
    pub(crate) fn reset_on_drop(&self) {
        if let Self::Tcp(stream) = self
            && let Err(error) =
                socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO))
        {
            tracing::debug!(%error, "setting SO_LINGER");
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Path(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Path(None) => f.write_str("unix"),
        }
    }
}
