//! HTTP/1.1: a server for files, a client, and the library for HTTP applications in other plugins.
//!
//! * [RFC 9110](https://www.rfc-editor.org/rfc/rfc9110.html), HTTP Semantics
//! * [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112.html), HTTP/1.1
//!
//! | module | what |
//! |---|---|
//! | [`types`] | what a request can be wrong in, and what is put up with |
//! | [`codec`] | bytes to types and back; no state but where a body is |
//! | [`session`] | a connection's requests one after another; no bytes of answers, no host calls |
//! | [`Service`], [`Router`], [`Body`] | what an application is made of |
//! | [`site`] | the application that this crate itself is: files |
//! | [`client`] | the other side: requests, and the command `get` |
//! | [`Http`] | the glue: what the host calls and is called for |
//!
//! # An application
//!
//! A plugin of its own, which has `nethost-http` with `default-features = false` among its dependencies:
//!
//! ```
//! use http::{Request, Response};
//! use nethost_http::{Application, Body, Http, Peer, Router, text};
//! use nethost_sdk::{Config, export_plugin, testing::Host};
//!
//! struct Hello;
//!
//! impl Application for Hello {
//!     type Service = Router;
//!
//!     fn configure(_config: &Config) -> Result<Router, String> {
//!         Ok(Router::new().get("/", |_, peer| text(format!("hello {}", peer.local()))))
//!     }
//! }
//!
//! export_plugin!(Http<Hello>, swap);
//!
//! # fn main() -> Result<(), String> {
//! let mut host = Host::<Http<Hello>>::start("{}")?;
//! let client = host.connect();
//! host.send(client, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
//! assert!(host.received(client).ends_with(b"\r\n\r\nhello 127.0.0.1:7"));
//! # Ok(())
//! # }
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a panic is a failed test"
    )
)]

pub mod types;

pub mod codec;

pub mod session;

mod service;

mod body;
mod router;

mod server;

pub mod site;

pub mod client;

pub use body::{Body, BodyError};
pub use http;
pub use router::{Params, Router};
pub use server::{Http, Server};
pub use service::{Application, Peer, Reply, Service, text};

#[cfg(feature = "plugin")]
nethost_sdk::export_plugin!(Http<site::Files>, swap, command: client::Get);
