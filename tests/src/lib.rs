//! The real host over real sockets.
//!
//! * [`host`]: a host as a process of its own, and its log.
//! * [`chat`]: a crowd on IRC that notices every message that is missing.
//! * [`client`]: connections with deadlines. Nothing here sleeps: it waits for an event, and panics when it does not come.
//! * [`dialogue`]: transcripts, played over sockets.
//! * [`service`]: a service in the test's own process, for what the command line does not offer.
//! * [`tls`]: certificates, and TLS clients of others.
//! * [`scripted`]: the other end of the guest that does what it is told.
//! * [`disk`]: a directory that is granted to it.
//! * [`metrics`]: the endpoint for metrics, and what it says.
//! * [`misbehaviour`]: what a guest must not do, and a neighbour that notices it or not.
//! * [`full`]: a listener that keeps who connects waiting.
//! * [`golden`]: files that are wrong, and what is said of them.
//! * [`names`]: a name server that answers what it is told to.
//! * [`soak`]: every guest that misbehaves at once, next to a good one.
//! * [`places`]: where the host's program, plugins and guests are.
//! * [`pty`]: programs on a terminal.
//! * [`random`]: the same numbers at every run.

pub mod chat;
pub mod client;
pub mod dialogue;
pub mod disk;
pub mod full;
pub mod golden;
pub mod host;
pub mod metrics;
pub mod misbehaviour;
pub mod names;
pub mod places;
pub mod pty;
pub mod random;
pub mod scripted;
pub mod service;
pub mod soak;
pub mod tls;

use std::time::Duration;

/// How long a test waits for anything: 20 s. It is long because a machine that also compiles is slow; what goes well takes milliseconds.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long a host may take until it listens: 2 min. wasmtime compiles a plugin first, and one made from Python is 18 MB.
pub const START_DEADLINE: Duration = Duration::from_secs(120);
