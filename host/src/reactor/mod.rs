//! The reactor: worker threads, the connections they pump, and the operations that complete later.
//!
//! A worker is one thread with one current-thread tokio runtime (`LocalRuntime`: the runtime and its `LocalSet` in one, so a wake-up passes one
//! queue and not two). A connection lives and dies on one worker; nothing on the path of a byte locks or crosses threads.

mod worker;

mod handler;

mod connection;

mod outbox;

mod bulk;

mod group;

mod holdings;

mod connect;

mod listener;

mod establish;

pub use bulk::Extent;
pub use connection::{Connection, TlsRole};
pub(crate) use establish::{FirstTls, establish};
pub use group::{Admission, Group};
pub use handler::{
    Addresses, CloseReason, ErrorKind, Handler, Id, OperationError, Origin, Outcome, SessionKey,
    Value,
};
pub use holdings::{Holdings, Program, Traffic};
pub(crate) use listener::{Accepted, Acceptor};
pub use worker::Worker;
pub(crate) use worker::{WorkerHandle, abort_on_panic};
