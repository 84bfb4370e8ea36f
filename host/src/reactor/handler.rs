//! What the reactor calls, and the words they share: the contract's types without the contract's bindings.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{connection::Connection, datagram::Socket};
use crate::transport::{Address, tls, udp::Packet};

/// A protocol, as the reactor sees it: a plugin's instance, or native code in the benchmarks.
///
/// Every method is called from the worker's own tasks, never from within another one. A handler that breaks says so with
/// [`super::Holdings::fail`]; its connections are closed and it is not called again.
pub trait Handler {
    /// A connection is there. `None` refuses it.
    fn connection_made(&self, connection: &Rc<Connection>, origin: &Origin) -> Option<SessionKey>;
    /// Bytes came; 1 to [`crate::limits::READ_SIZE`].
    fn data_received(&self, connection: &Rc<Connection>, session: SessionKey, data: &[u8]);
    /// The unsent bytes fell below the low-water mark.
    fn writable(&self, connection: &Rc<Connection>, session: SessionKey);
    /// The peer will send no more.
    fn read_closed(&self, connection: &Rc<Connection>, session: SessionKey);
    /// The connection is gone, and the session with it.
    fn connection_lost(
        &self,
        connection: &Rc<Connection>,
        session: SessionKey,
        reason: &CloseReason,
    );
    /// A socket for datagrams is there. `None`, the default, says that this protocol has no use for it.
    fn endpoint_made(&self, socket: &Rc<Socket>, origin: &Origin) -> Option<EndpointKey> {
        let _ = (socket, origin);
        None
    }
    /// Datagrams came: 1 to [`crate::limits::DATAGRAM_BATCH`], of [`crate::limits::DATAGRAM_BYTES`] together at most.
    fn datagrams_received(
        &self,
        socket: &Rc<Socket>,
        endpoint: EndpointKey,
        packets: &[Packet],
        payloads: &[u8],
    ) {
        let _ = (socket, endpoint, packets, payloads);
    }
    /// The socket is gone, and the endpoint with it.
    fn endpoint_closed(&self, socket: &Rc<Socket>, endpoint: EndpointKey, reason: &CloseReason) {
        let _ = (socket, endpoint, reason);
    }
    /// An operation came to this. `owner` is the connection in whose callback it was started.
    fn completed(&self, owner: Option<&Rc<Connection>>, id: Id, outcome: Outcome);
    /// The service goes away in this much time.
    fn draining(&self, deadline: Duration);
}

/// Names a connection, a socket or an operation of one instance; never 0, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

/// Where a handler keeps a session; the handler's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub usize);

/// Where a handler keeps an endpoint; the handler's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointKey(pub usize);

/// Where a connection or a socket came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A listener of the configuration: its URL with the real port.
    Configured(Arc<str>),
    /// A connect operation.
    Dialed(Id),
}

/// Why a connection or a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both halves were closed in order.
    Done,
    /// The plugin closed, and everything went out.
    ClosedHere,
    /// The plugin aborted.
    AbortedHere,
    /// The peer, or the network, broke it.
    Reset,
    /// Nothing moved for the idle timeout.
    Idle,
    /// A limit was reached: which.
    Limit(&'static str),
    /// TLS failed: how.
    Tls(Arc<str>),
    /// The deadline of a drain passed.
    Draining,
    /// The instance broke.
    Trapped,
    /// An operator closed it.
    Kicked,
}

/// What an operation came to.
pub type Outcome = Result<Value, OperationError>;

/// The result of an operation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is nothing to say.
    Nothing,
    /// A number; what started the operation says of what.
    Number(u64),
    /// Bytes; what started the operation says which.
    Bytes(Vec<u8>),
    /// The result is with the [`super::Holdings`], to be taken.
    Ready,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationError {
    /// For the plugin.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

/// The errors that the host's operations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No grant covers it.
    Denied,
    /// The peer refused.
    Refused,
    /// No answer came in time.
    Timeout,
    /// No route.
    Unreachable,
    /// The peer reset the connection.
    Reset,
    /// The plugin refused its own connection.
    Closed,
    /// The name has no address.
    NameNotFound,
    /// A limit of the service is reached.
    Limit,
    /// An argument was wrong.
    Invalid,
    /// The plugin, the transport or the system cannot do it.
    Unsupported,
    /// There is no such thing.
    NotFound,
    /// It exists already.
    Exists,
    /// Something else is in progress.
    Busy,
    /// The disk, or the quota.
    Full,
    /// TLS failed.
    Tls,
    /// Somebody is not who it says.
    Credentials,
    /// The system failed otherwise.
    Io,
}

impl OperationError {
    /// Makes an error of a kind. A message may quote what the plugin passed, and waits to be taken; what is too long is cut.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push('…');
            message.shrink_to_fit();
        }
        Self { kind, message }
    }
}

impl From<std::io::Error> for OperationError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        if let Some(message) = tls::failure(&error) {
            return Self::new(ErrorKind::Tls, message);
        }
        let kind = match error.kind() {
            Io::ConnectionRefused => ErrorKind::Refused,
            Io::TimedOut => ErrorKind::Timeout,
            Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown => {
                ErrorKind::Unreachable
            }
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => ErrorKind::Reset,
            _ => ErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

/// Addresses that a look-up found, in the order to try them.
pub type Addresses = Vec<Address>;

/// Bytes of the longest message of an error: 1 KiB.
const LONGEST_MESSAGE: usize = 1 << 10;
