//! Administration: HTTP with JSON, at a socket that only the operator can use. The commands `nethost ps`, `swap`, `top` and so on speak it.
//!
//! # Where
//!
//! `nethost run --admin WHERE`, or `admin = "..."` under `[host]`:
//!
//! * a UNIX socket, `unix:///run/nethost.sock`: its file has mode 600 unless `?mode=` says otherwise, and whoever can open it is the operator. A
//!   lock beside it (`nethost.sock.lock`) keeps a second host away. `nethost run` has one at `$XDG_RUNTIME_DIR/nethost.sock` by itself, if that is free;
//!   `nethost serve` has none unless it is told.
//! * TLS, `tls://127.0.0.1:9443?cert=FILE`, with a token, which every request has to bring: `Authorization: Bearer TOKEN`. Plain TCP is refused: the token, and
//!   plugins, would pass in clear.
//!
//! It is answered on a thread of its own: no worker ever waits for it, and workers are asked by messages.
//!
//! # Stability
//!
//! Paths begin with `/v1`. Within it fields are added, and never removed, renamed or given another unit; who reads must ignore what it does not know. Sizes
//! are bytes, times seconds unless the name says `_ns` (nanoseconds). Bodies are JSON except where it says otherwise.
//!
//! # Requests
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/version` | [`api::Version`] |
//! | `GET /v1/health` | [`api::Health`]; the status is 200 even if something is wrong |
//! | `GET /v1/services` | [`api::Services`], in the order of their names |
//! | `GET /v1/services/NAME` | [`api::Service`] |
//! | `POST /v1/services/NAME/swap?policy=&deadline=&file=` | the body is the new component (at most 128 MiB); [`api::Swapped`] once it serves. `policy` is `migrate` (default), `drain` or `close`; `deadline` such as `30s` (default); `file` is what to call it in messages |
//! | `POST /v1/services/NAME/drain?deadline=` | stops accepting, lets connections end until the deadline (default: `drain-timeout`), closes the rest; [`api::Ended`] when that is done |
//! | `POST /v1/services/NAME/stop` | as `drain` with no time; [`api::Ended`] |
//! | `POST /v1/services/NAME/start` | starts one that was stopped or drained; [`api::Started`] |
//! | `POST /v1/reload` | what SIGHUP does; [`api::Reloaded`] when it is done |
//! | `GET /v1/services/NAME/connections?after=&limit=` | [`api::Connections`]: `limit` (default 1000, at most 10,000) that come after the connection `after` |
//! | `DELETE /v1/connections/ID` | closes the connection; [`api::Kicked`] |
//! | `GET /v1/logs?service=&lines=&follow=` | a line of JSON ([`api::LogLine`]) for each of the last `lines` (default 100) that the log has of a service (default: of everything); with `follow=true` those that come, too, until the client goes. An empty line every 15 s shows that the host is there |
//!
//! Every error is an [`api::Failure`] with status
//!
//! * 400: a parameter is wrong,
//! * 401: the token is not there, or another one,
//! * 404: no such path, service (`known` lists them) or connection,
//! * 405: another method,
//! * 409: not now: the service is stopped, or being swapped,
//! * 413: the component is too large,
//! * 422: it cannot be done as asked: the component is unfit, the versions have no state in common, an address is taken; nothing has changed,
//! * 500: it failed,
//! * 503: the host is stopping.
//!
//! # Bounds
//!
//! 32 connections at a time, one request each; further ones wait in the kernel. 5 s for a request's header (16 KiB), 60 s for its body, of which only that of `swap` is more
//! than 64 KiB; one component at a time is taken in. An answer that the client does not take is given up after 60 s. The log keeps its last 1,000 lines of at most 4 KiB; a
//! client that follows and is slower than the log is told how many lines it missed.

pub mod api;

pub(crate) mod listen;

mod routes;

mod content;

pub(crate) mod logs;

pub(crate) mod client;

use std::{env, path::PathBuf, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Secret,
    endpoint::{Direction, Endpoint, Security, StreamOptions, UnixEndpoint, UnixName},
    service::{SwapOptions, remote::Remote},
};

/// Where the host is administered, and by whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// A UNIX socket with a file, or TLS.
    pub endpoint: Endpoint,
    /// What requests must bring. Always there with TLS.
    pub token: Option<Secret>,
    /// What to do if another host is there.
    pub taken: Taken,
}

/// What to do if another host has the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This one does not start.
    Fail,
    /// This one is not administered: nobody said that it should be.
    GoOn,
}

impl Admin {
    /// Reads where it is to be: a URL, or a path.
    pub(crate) fn endpoint(text: &str) -> Result<Endpoint, String> {
        let endpoint = place(text)?;
        endpoint
            .check(Direction::Listening)
            .map_err(|error| error.to_string())?;
        Ok(match endpoint {
            Endpoint::Unix(unix) => Endpoint::Unix(UnixEndpoint {
                mode: Some(unix.mode.unwrap_or(MODE)),
                ..unix
            }),
            other => other,
        })
    }

    /// Returns where `nethost run` is administered if nobody says: nowhere without a folder for it.
    pub(crate) fn of_run() -> Option<Self> {
        let path = default_path()?;
        let endpoint = Self::endpoint(path.to_str()?).ok()?;
        Some(Self {
            endpoint,
            token: None,
            taken: Taken::GoOn,
        })
    }
}

/// Reads a path, or a URL that administration can be at.
pub(crate) fn place(text: &str) -> Result<Endpoint, String> {
    let is_path = !text.contains("://") && !text.starts_with("unix:");
    let endpoint: Endpoint = if is_path {
        let path = std::path::absolute(text).map_err(|error| error.to_string())?;
        Endpoint::Unix(UnixEndpoint {
            address: UnixName::Path(path),
            mode: None,
            options: StreamOptions::default(),
        })
    } else {
        text.parse()
            .map_err(|error: crate::endpoint::EndpointError| error.to_string())?
    };
    let proxied = endpoint.stream_options();
    let proxied = proxied.is_some_and(|options| options.proxy.is_some());
    match &endpoint {
        Endpoint::Unix(unix) if matches!(unix.address, UnixName::Path(_)) && !proxied => {
            Ok(endpoint)
        }
        Endpoint::Tcp(tcp) if tcp.security == Security::Tls && !proxied => Ok(endpoint),
        Endpoint::Tcp(tcp) if tcp.security == Security::Clear => Err(format!(
            "`{endpoint}` would send the token and plugins in clear: administration is at a UNIX socket, such as unix:///run/nethost.sock, or at tls://HOST:PORT"
        )),
        _ => Err(format!(
            "`{endpoint}` is neither a UNIX socket with a file, such as unix:///run/nethost.sock, nor tls://HOST:PORT"
        )),
    }
}

/// Sees that a token can be sent, and is not guessed.
pub(crate) fn check_token(token: &str) -> Result<(), String> {
    let is_fit = token.len() >= SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_fit.then_some(()).ok_or_else(|| {
        format!("a token has at least {SHORTEST_TOKEN} characters of ASCII without a space; `openssl rand -hex 32` makes one")
    })
}

/// Returns where the commands look first: `$XDG_RUNTIME_DIR/nethost.sock`.
pub(crate) fn default_path() -> Option<PathBuf> {
    let folder = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?;
    let folder = PathBuf::from(folder);
    // As the specification of it says, one that is relative is none.
    folder.is_absolute().then(|| folder.join("nethost.sock"))
}

/// What the main thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Says what services there are.
    List(oneshot::Sender<Vec<Known>>),
    /// Says how to ask the workers about a service, or about all.
    Remotes(Option<String>, Answer<Vec<(String, Remote)>>),
    /// Swaps a plugin.
    Swap(Swap),
    /// Drains a service, with so much time; none: as much as at the host's end.
    Drain(String, Option<Duration>, Answer<api::Ended>),
    /// Starts a service that was stopped.
    Start(String, Answer<api::Started>),
    /// Does what SIGHUP does.
    Reload(Answer<api::Reloaded>),
}

/// A swap that somebody asked for.
#[derive(Debug)]
pub(crate) struct Swap {
    pub(crate) service: String,
    pub(crate) component: Vec<u8>,
    /// What to call it in messages.
    pub(crate) file: PathBuf,
    pub(crate) options: SwapOptions,
    pub(crate) origin: Origin,
    pub(crate) answer: Answer<api::Swapped>,
}

/// Where a new plugin came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An operator sent it.
    Sent,
    /// It is what is in the service's file now.
    File,
}

/// A service, as the main thread knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) state: api::State,
    pub(crate) plugin: String,
    pub(crate) version: Option<String>,
    pub(crate) file: PathBuf,
    pub(crate) swapped: bool,
    pub(crate) isolation: String,
    pub(crate) listeners: Vec<String>,
    /// Swaps of its plugin.
    pub(crate) swaps: u64,
    /// More about the state, in words.
    pub(crate) detail: Option<String>,
}

/// Who is told what came of it.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// The way to the main thread. Bounded: who asks waits for room.
pub(crate) type Commands = mpsc::Sender<Command>;

/// Commands that wait for the main thread: 16.
pub(crate) const COMMANDS: usize = 16;

/// Why something was not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such service.
    NoService { name: String, known: Vec<String> },
    /// Not now.
    Conflict(String),
    /// Not as asked; the operator can mend it.
    Unfit(String),
    /// It was tried.
    Failed(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoService { name, known } if known.is_empty() => {
                write!(f, "there is no service `{name}`, and no other one")
            }
            Self::NoService { name, known } => {
                let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
                let known = known.join(", ");
                write!(f, "there is no service `{name}`; there is {known}")
            }
            Self::Conflict(message) | Self::Unfit(message) | Self::Failed(message) => {
                f.write_str(message)
            }
        }
    }
}

/// Bytes of the shortest token: 16.
const SHORTEST_TOKEN: usize = 16;

/// The permission bits of the socket, unless it is told: its owner's alone.
const MODE: u32 = 0o600;
