//! Listeners: sockets that connections are accepted on.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::net::UnixListener as StdUnixListener,
    },
    rc::Rc,
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, getrlimit},
};

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
    /// `pause` says after each how long to wait for the next one, which is accepted when the service has its turn in `lane`.
    pub(crate) async fn run(
        self,
        mut stop: watch::Receiver<bool>,
        pause: impl Fn() -> Option<Duration>,
        lane: Rc<Lane>,
        take: Rc<dyn Fn(Accepted)>,
    ) {
        let mut complaint = Complaint::default();
        loop {
            let accepted = tokio::select! {
                // What was accepted is taken at once: this task may be ended while it waits.
                accepted = async {
                    lane.turn().await;
                    self.accept().await
                } => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok(accepted) => {
                    take(accepted);
                    while is_short_of_descriptors(self.as_fd()) && !*stop.borrow() {
                        complaint.tell("almost as many descriptors are open as may be (ulimit -n, LimitNOFILE=)");
                        tokio::select! {
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                            _ = stop.wait_for(|stop| *stop) => {}
                        }
                    }
                    if let Some(pause) = pause() {
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            _ = stop.wait_for(|stop| *stop) => break,
                        }
                    }
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    complaint.tell(&error.to_string());
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
            lane.turn().await;
            match waiting() {
                Ok(accepted) => take(accepted),
                Err(error) if is_the_peers(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "accepting what waits in the queue");
                    break;
                }
            }
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp { socket, .. } => socket.as_fd(),
            Self::Unix { socket } => socket.as_fd(),
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

/// What is wrong with accepting, which is said now and then.
#[derive(Debug, Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn tell(&mut self, why: &str) {
        let now = Instant::now();
        if self.0.is_none_or(|told| now - told >= COMPLAINTS_EVERY) {
            self.0 = Some(now);
            tracing::warn!(
                "accepting is paused, and connections wait in the kernel: {why}; not said again for a minute"
            );
        }
    }
}

/// Returns whether the descriptors that are left are for the connections that are there already: for what their plugins open, for files that are loaded again, for
/// who asks for metrics. The kernel gives the lowest number that is free, so a duplicate tells.
fn is_short_of_descriptors(any: BorrowedFd<'_>) -> bool {
    static CEILING: OnceLock<i32> = OnceLock::new();
    let ceiling = *CEILING.get_or_init(|| {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let kept = (most / 8).min(DESCRIPTORS_KEPT);
        i32::try_from(most - kept).unwrap_or(i32::MAX)
    });
    match fcntl_dupfd_cloexec(any, 0) {
        Ok(duplicate) => duplicate.as_raw_fd() >= ceiling,
        Err(_) => true,
    }
}

/// Descriptors that are not for new connections: 64, or an eighth if that is less.
const DESCRIPTORS_KEPT: u64 = 64;

/// How often it is said that accepting is paused: once a minute.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(60);

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
