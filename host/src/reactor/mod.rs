//! The reactor: worker threads, the connections and datagram sockets they pump, and the operations that complete later.
//!
//! A worker is one thread with one current-thread tokio runtime (`LocalRuntime`: the runtime and its `LocalSet` in one, so a wake-up passes one
//! queue and not two). A connection lives and dies on one worker; nothing on the path of a byte locks or crosses threads.

mod worker;

mod turns;

mod handler;

mod connection;

mod outbox;

mod bulk;

mod disk;

mod group;

mod holdings;

mod succession;

mod accounts;

mod command;

mod connect;

mod dial;

mod resolver;

mod listener;

mod establish;

mod datagram;

mod peers;

pub use bulk::Extent;
pub(crate) use connection::ConnectionReport;
pub use connection::{Connection, TlsRole};
pub(crate) use datagram::check_batch;
pub use datagram::{BadBatch, Socket};
pub(crate) use disk::Change;
pub(crate) use establish::{FirstTls, establish};
pub use group::{Admission, Group};
pub use handler::{
    Addresses, CloseReason, EndpointKey, ErrorKind, Handler, Id, OperationError, Origin, Outcome,
    SessionKey, Value,
};
pub(crate) use holdings::Found;
pub use holdings::{Holdings, Program};
pub(crate) use listener::{Accepted, Acceptor};
pub(crate) use succession::{Fallback, Returned};
pub(crate) use turns::{Lane, tick};
pub use worker::Worker;
pub(crate) use worker::{WorkerHandle, abort_on_panic};

pub use crate::transport::udp::Packet;
