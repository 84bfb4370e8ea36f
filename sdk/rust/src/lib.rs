//! What a nethost plugin in Rust imports.
//!
//! nethost keeps Twisted's split. The host has the reactor and the transports; a plugin is a [`Protocol`], one value per connection,
//! and a [`Factory`], one value that the connections of an instance share. The host calls them, one callback at a time; they write to a
//! [`Connection`] and return. What takes time is a [`Deferred`].
//!
//! | to | use |
//! |---|---|
//! | answer what comes | [`Protocol`], [`Context`], [`Connection`], [`export_plugin!`] |
//! | read the configuration, share state | [`Factory`], [`Config`] |
//! | write to many at once | [`Group`] |
//! | serve datagrams (UDP) | [`DatagramProtocol`], [`Datagrams`], [`DatagramSocket`], [`connect_datagrams`] |
//! | begin TLS in the middle of a dialogue | [`Connection::start_tls`], which says what to throw away; [`TlsInfo`] |
//! | send, receive or relay much, without touching it | [`File`], [`Extent`], [`bulk`] |
//! | read, write, list and watch files in a directory | [`Directory`], [`File`] |
//! | be a client that is run as a command (`nethost exec`) | [`command`], [`DatagramPeer`] |
//! | find lines and messages in the bytes | [`framing`] |
//! | wait, connect, look up names | [`after`], [`connect`], [`resolve`]: a [`Deferred`] each |
//! | do something again and again, try again ever later | [`LoopingCall`], [`Backoff`] |
//! | write `async` code | [`spawn`], [`with_factory`], [`with_session`] |
//! | use a crate that wants `AsyncRead` and `AsyncWrite` | [`Stream`], [`Serve`] |
//! | keep state and connections when the plugin is replaced | [`Snapshot`], in ten lines; [`Migrate`]; [`Swap`] where bytes are to be written by hand |
//! | know the time, draw lots, log | [`clock`], [`random`], [`log`] |
//! | count for the operator's monitoring | [`metrics`] |
//! | test without wasm, sockets and sleep | `testing` |
//!
//! # From nothing to a running finger server
//!
//! `Cargo.toml`. As a `cdylib` it becomes the component, as an `rlib` it is tested:
//!
//! ```toml
//! [package]
//! name = "finger"
//! version = "0.1.0"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! nethost-sdk = { path = "../../sdk/rust" }
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! `plugin.toml` says where it listens and what can be configured:
//!
//! ```toml
//! [plugin]
//! name = "finger"
//! version = "0.1.0"
//! description = "Tells who is who (RFC 1288)"
//! listen = ["tcp://127.0.0.1:7979"]
//! isolation = ["worker", "service"]
//!
//! [config.users]
//! type = "list"
//! default = ["ann: writes servers", "bob"]
//! description = "A name each, and after a colon what is told about it"
//! ```
//!
//! `src/lib.rs`:
//!
//! ```
#![doc = include_str!("../examples/finger.rs")]
//! ```
//!
//! Two commands build and serve it, and `finger @localhost` (or `echo | nc localhost 7979`) asks it:
//!
//! ```text
//! nethost build plugins/finger
//! nethost run plugins/finger.wasm
//! ```
//!
//! Its test is a dialogue, `tests/transcripts/ann.txt`, and three lines in `tests/transcripts.rs` that play it with the bytes cut
//! at every place:
//!
//! ```text
//! C: ann
//! S: ann: writes servers
//! E:
//! ```
//!
//! ```no_run
//! # struct Finger;
//! # impl nethost_sdk::Protocol for Finger {
//! #     type Factory = ();
//! #     fn connection_made(_: &mut nethost_sdk::Context<'_, ()>, _: nethost_sdk::Origin) -> Option<Self> { None }
//! #     fn data_received(&mut self, _: &mut nethost_sdk::Context<'_, ()>, _: &[u8]) {}
//! # }
//! #[test]
//! # fn hidden() {}
//! fn dialogues_go_as_written() {
//!     nethost_sdk::testing::play_directory::<Finger>("tests/transcripts", r#"{"users": ["ann: writes servers"]}"#);
//! }
//! ```

// The bindings name their runtime as other crates see it.
extern crate self as nethost_sdk;

mod config;
mod protocol;
mod snapshot;

mod connection;
mod datagram;
mod datagram_peer;
mod tls;

mod export;
pub mod framing;

mod backoff;
mod deferred;
mod executor;
mod looping_call;
mod stream;

pub mod command;

pub mod accounts;
pub mod bulk;
mod storage;

pub mod clock;
pub mod log;
pub mod metrics;
pub mod random;
mod types;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod glue;
mod host;
mod instance;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod sections;

pub use backoff::Backoff;
pub use bindings::nethost::plugin::types::{CloseReason, ErrorCode};
pub use bulk::Extent;
pub use config::{Config, duration};
pub use connection::{Address, Connection, ConnectionId, Group, HIGH_WATER};
pub use datagram::{
    Datagram, DatagramContext, DatagramProtocol, DatagramSocket, Datagrams, DatagramsOnly, Iter,
    SocketId,
};
pub use datagram_peer::{DatagramPeer, MAX_WAITING};
pub use deferred::{Deferred, OperationId, after, connect, connect_datagrams, resolve};
pub use executor::{Task, spawn, spawn_for_instance, try_join};
pub use instance::{with_factory, with_session};
pub use looping_call::LoopingCall;
pub use protocol::{Context, Factory, Origin, Protocol, Refusal, Swap};
pub use snapshot::{Formats, Migrate, Snapshot};
pub use storage::{
    Directory, DirectoryEntry, DirectoryPage, File, FileKind, FileLock, FileMetadata, FileOpening,
    MAX_TRANSFER,
};
pub use stream::{MAX_BUFFERED, Serve, Served, Stream, StreamReader, StreamWriter};
pub use tls::{TlsInfo, TlsRole};
pub use types::Error;
