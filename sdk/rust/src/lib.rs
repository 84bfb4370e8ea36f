//! SDK

extern crate self as nethost_sdk;

mod connection;
mod deferred;
mod executor;
mod export;
mod host;
mod instance;
mod looping_call;
mod protocol;
mod stream;
mod types;

pub mod clock;
pub mod framing;
pub mod log;
pub mod random;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod glue;
#[doc(hidden)]
pub mod sections;

pub use bindings::nethost::plugin::types::{CloseReason, Error, ErrorCode};
pub use connection::{Address, Connection, ConnectionId, Group, HIGH_WATER};
pub use deferred::{Deferred, OperationId, after, connect, resolve};
pub use executor::{Task, spawn, spawn_for_instance};
pub use instance::{with_factory, with_session};
pub use looping_call::LoopingCall;
pub use protocol::{Config, Context, Factory, Origin, Protocol, Refusal, Swap};
pub use stream::{MAX_BUFFERED, Serve, Served, Stream};
