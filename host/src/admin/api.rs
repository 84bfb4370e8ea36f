//! What is sent over the admin socket, as JSON. See [the module above](super) for the requests.

use serde::{Deserialize, Serialize};

use crate::service;

/// The host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Version {
    /// `nethost`.
    pub program: String,
    /// The program's version, `0.1.0`.
    pub version: String,
    /// The version of this interface: 1.
    pub api: u32,
    /// The process.
    pub pid: u32,
    /// How long it has been running, in seconds.
    pub uptime: f64,
}

/// Whether all is well.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Health {
    /// Every worker answers.
    pub healthy: bool,
    /// Clients may come: every service listens.
    pub ready: bool,
    /// The workers, by their number, that do not answer within 2 s.
    pub silent_workers: Vec<usize>,
    /// A line for each service.
    pub services: Vec<String>,
}

/// All services.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Services {
    /// In the order of their names.
    pub services: Vec<Service>,
    /// How long the host has been running, in seconds.
    pub uptime: f64,
}

/// A service: what it is, what is true of it now, and what it has counted since it was started. A swap and a restart by SIGHUP take no count back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// More about the state, in words; absent if there is no more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version, as its manifest has it; null if it has none.
    pub version: Option<String>,
    /// The file that the service is started from.
    pub file: String,
    /// The plugin is not the one of that file: another was swapped in.
    pub swapped: bool,
    /// `worker`, `service` or `connection`.
    pub isolation: String,
    /// Where it listens, with real ports.
    pub listeners: Vec<String>,
    /// Instances that live.
    pub instances: usize,
    /// Open connections.
    pub connections: usize,
    /// Streams that were accepted and are not connections yet.
    pub establishing: usize,
    /// Open datagram sockets.
    pub sockets: usize,
    /// Operations in flight.
    pub operations: usize,
    /// Timers among them.
    pub timers: usize,
    /// Open files and directories.
    pub open_files: usize,
    /// Linear memory of all instances, in bytes.
    pub memory: usize,
    /// Connections taken.
    pub accepted: u64,
    /// Streams that did not become connections.
    pub refused: u64,
    /// Bytes that came.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Calls into the plugin.
    pub calls: u64,
    /// The time that half of the calls did not exceed, in nanoseconds; null before the first.
    pub p50_ns: Option<u64>,
    /// The time that 99 of 100 calls did not exceed, in nanoseconds; null before the first.
    pub p99_ns: Option<u64>,
    /// How calls' times are spread: a time in nanoseconds, and how many calls took about (within 7 %) so long. Of frequent calls one in 16 is timed, and counts for 16.
    pub call_times: Vec<(u64, u64)>,
    /// Instances that broke: a trap, or a limit.
    pub traps: u64,
    /// Swaps of the plugin.
    pub swaps: u64,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes connections.
    Serving,
    /// It serves, and its instances break again and again; `detail` says more.
    Degraded,
    /// It serves, and another version of its plugin is being put in.
    Swapping,
    /// It takes no more connections, and those that are open go on for some time.
    Draining,
    /// It was stopped, and can be started.
    Stopped,
}

/// A swap that was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Swapped {
    /// The service.
    pub service: String,
    /// What it did: its fields are this object's.
    #[serde(flatten)]
    pub swapped: service::Swapped,
}

/// A service that has ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ended {
    /// The service.
    pub service: String,
    /// Connections that had to be closed.
    pub closed: usize,
}

/// A service that was started.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Started {
    /// The service.
    pub service: String,
    /// Where it listens, with real ports.
    pub listeners: Vec<String>,
}

/// What a reload did.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reloaded {
    /// Services that were started, or restarted.
    pub started: Vec<String>,
    /// Services that were stopped, because they are not in the file any more.
    pub stopped: Vec<String>,
}

/// Some connections of a service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Connections {
    /// The connections.
    pub connections: Vec<Connection>,
    /// What to ask for with `after` to get more; null if there are no more.
    pub next: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Connection {
    /// What to call it: `3-17`. No other connection of the process has, had or will have it.
    pub id: String,
    /// The worker that it is on.
    pub worker: usize,
    /// The peer's address; `unix` for one that has none.
    pub peer: String,
    /// This side's address.
    pub local: String,
    /// How long it has been there, in seconds.
    pub age: f64,
    /// Bytes that came.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Bytes that the peer has not taken yet, beside what is in the kernel.
    pub unsent: usize,
    /// The version of TLS, `TLSv1.3`; null if it is not secured.
    pub tls: Option<String>,
    /// `in` if it came to a listener, `out` if the plugin connected.
    pub direction: String,
    /// It is closed, and its last bytes are on their way.
    pub closing: bool,
}

/// A connection that was closed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kicked {
    /// The connection.
    pub id: String,
    /// Of which service it was.
    pub service: String,
    /// Who it was with.
    pub peer: String,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LogLine {
    /// When, as in RFC 3339, in UTC.
    pub time: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// The service that it is about; null if it is about none.
    pub service: Option<String>,
    /// What part of the program said it.
    pub target: String,
    /// What it says, with its fields.
    pub message: String,
    /// How many lines before this one were gone before they could be sent; absent if none were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a request was not answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// What was wrong, and what to do.
    pub error: String,
    /// The services that there are, if another one was named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}
