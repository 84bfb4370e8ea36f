//! Listeners: sockets that connections are accepted on.

use std::{io, os::unix::net::UnixListener as StdUnixListener, rc::Rc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};

use super::turns::Lane;
use crate::{
    endpoint::{StreamOptions, Switch},
    transport::{Address, Transport, tcp, unix},
};

/// One listening socket on one worker.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp {
        socket: TcpListener,
        nodelay: Switch,
        keepalive: Option<Duration>,
    },
    Unix {
        socket: UnixListener,
    },
}

/// A stream that was accepted, and its two addresses.
pub(crate) type Accepted = (Transport, (Address, Address));

impl Acceptor {
    pub(crate) fn tcp(socket: std::net::TcpListener, options: &StreamOptions) -> io::Result<Self> {
        Ok(Self::Tcp {
            socket: TcpListener::from_std(socket)?,
            nodelay: options.nodelay,
            keepalive: options.keepalive,
        })
    }

    pub(crate) fn unix(socket: StdUnixListener) -> io::Result<Self> {
        Ok(Self::Unix {
            socket: UnixListener::from_std(socket)?,
        })
    }

    /// Accepts until told to stop; then what already waits in the queue, and closes. A client is never reset by a drain.
    ///
    /// `pause` says after each how long to wait for the next one. It is taken when the service has its turn in `lane`.
    pub(crate) async fn run(
        self,
        mut stop: watch::Receiver<bool>,
        pause: impl Fn() -> Option<Duration>,
        lane: Rc<Lane>,
        take: Rc<dyn Fn(Accepted)>,
    ) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok(accepted) => {
                    failing = false;
                    lane.turn().await;
                    take(accepted);
                    if let Some(pause) = pause() {
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            _ = stop.wait_for(|stop| *stop) => break,
                        }
                    }
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "accepting is paused; connections wait in the kernel");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Without the runtime's idea of what is ready: a connection that came a moment ago must not be missed.
        let mut waiting = match self.into_waiting() {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "accepting what waits in the queue");
                return;
            }
        };
        // A flood of connections must not keep a drain from ending.
        for _ in 0..MOST_WAITING {
            match waiting() {
                Ok(accepted) => {
                    lane.turn().await;
                    take(accepted);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "accepting what waits in the queue");
                    break;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp {
                socket,
                nodelay,
                keepalive,
            } => {
                let (stream, _) = socket.accept().await?;
                Self::accepted_tcp(stream, *nodelay, *keepalive)
            }
            Self::Unix { socket } => {
                let (stream, _) = socket.accept().await?;
                Self::accepted_unix(stream)
            }
        }
    }

    /// Returns a function that accepts the next connection of the queue, without waiting for one.
    fn into_waiting(self) -> io::Result<Box<dyn FnMut() -> io::Result<Accepted>>> {
        Ok(match self {
            Self::Tcp {
                socket,
                nodelay,
                keepalive,
            } => {
                let socket = socket.into_std()?;
                Box::new(move || {
                    let (stream, _) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Self::accepted_tcp(TcpStream::from_std(stream)?, nodelay, keepalive)
                })
            }
            Self::Unix { socket } => {
                let socket = socket.into_std()?;
                Box::new(move || {
                    let (stream, _) = socket.accept()?;
                    stream.set_nonblocking(true)?;
                    Self::accepted_unix(UnixStream::from_std(stream)?)
                })
            }
        })
    }

    fn accepted_tcp(
        stream: TcpStream,
        nodelay: Switch,
        keepalive: Option<Duration>,
    ) -> io::Result<Accepted> {
        tcp::configure(&stream, nodelay, keepalive);
        let addresses = tcp::addresses(&stream)?;
        Ok((Transport::Tcp(stream), addresses))
    }

    fn accepted_unix(stream: UnixStream) -> io::Result<Accepted> {
        let addresses = unix::addresses(&stream)?;
        Ok((Transport::Unix(stream), addresses))
    }
}

/// Returns whether the error is of the one connection that was being accepted (accept(2)); the next one may be well.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | NotConnected
            | NetworkDown
            | NetworkUnreachable
            | HostUnreachable
    )
}

/// How long accepting pauses when the system has no more descriptors or memory: 100 ms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of one queue that a drain still accepts: as many as the largest backlog.
const MOST_WAITING: usize = 65_535;
