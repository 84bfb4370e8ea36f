//! A plugin's client side as a command: what `nethost exec PLUGIN ARGUMENTS` runs.
//!
//! A [`Command`] is one `async` function over the arguments and standard input and output. It is exported beside the protocol, `export_plugin!(Echo, command: Ask)`, or
//! alone, `export_plugin!(command: Ask)`. It uses [`Stream`](crate::Stream), [`resolve`](crate::resolve()), [`after`](crate::after) and everything else that a session
//! may use.
//!
//! The command line is the grant, and nothing else: hosts that an argument mentions may be connected to (`http://example.org:8080/x`, `@127.0.0.1`,
//! `mail.example.org:25`), and looked up; with a port behind it only at that one. Files that the arguments name may be [opened](open) where `plugin.toml` says that files are
//! named:
//!
//! ```toml
//! [command]
//! usage = "get URL [-o FILE] [-d @FILE]"
//! reads = ["-d@", "put 1"]       # -d @FILE, and the first argument after `put`
//! writes = ["-o", "--output"]
//! values = ["-H"]                # other options that take a value
//! name-servers = "to look up MX" # only for a command that asks name servers itself
//! ```
//!
//! # Example
//!
//! ```
#![doc = include_str!("../examples/ask.rs")]
//! ```
//!
//! A test has it natively, with peers and a clock of its own: `testing::Host::run`.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    error, fmt,
    future::poll_fn,
    marker::PhantomData,
    net::SocketAddr,
    task::{Poll, Waker},
    time::Duration,
};

pub use crate::bindings::nethost::plugin::{
    command::{Output as OutputKind, Signal, StandardStream},
    progress::Unit,
};
use crate::{
    connection::{Address, HIGH_WATER},
    deferred::{self, Deferred},
    executor::{self, Kind},
    host,
    protocol::{Context, Factory, Origin, Protocol},
    storage::{File, FileOpening},
    types::Error,
};

/// A plugin's client side. The [module](self) has an example.
pub trait Command: 'static {
    /// What the command shares with the plugin's sessions, reached with [`with_factory`](crate::with_factory); `()` if nothing.
    type Factory: Factory;

    /// Runs the command: its arguments, the plugin's own name not among them. It ends with this exit code when the future is done, whatever else is going on; an
    /// error is written to standard error, and the exit code is 1.
    ///
    /// While it waits for nothing that can ever come, the host ends it with an error.
    fn run(
        arguments: Vec<String>,
        io: Io,
    ) -> impl Future<Output = Result<ExitCode, Failure>> + 'static;
}

/// Why a command failed. Every error and every text is one with `?` or `into()`.
pub type Failure = Box<dyn error::Error>;

/// A command's exit code, 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// All went well: 0.
    pub const SUCCESS: Self = Self(0);
    /// It failed: 1.
    pub const FAILURE: Self = Self(1);
    /// It was called wrongly: 2.
    pub const USAGE: Self = Self(2);
}

/// Standard input, output and error.
#[derive(Debug)]
#[non_exhaustive]
pub struct Io {
    /// Standard input.
    pub input: Input,
    /// Standard output.
    pub output: Output,
    /// Standard error.
    pub error: Output,
}

/// Standard input. Nothing is read before it is asked for.
#[derive(Debug, Default)]
pub struct Input {
    ended: bool,
}

impl Input {
    /// Reads what there is, at least 1 and at most 65,536 bytes; none at the end. When the future is dropped nothing is lost.
    pub async fn read(&mut self) -> Result<Vec<u8>, Error> {
        if self.ended {
            return Ok(Vec::new());
        }
        let data = deferred::bytes(host::read_input(MOST)).await?;
        self.ended = data.is_empty();
        Ok(data)
    }

    /// Reads all of it, and fails with more than `limit` bytes.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        loop {
            let data = self.read().await?;
            if data.is_empty() {
                return Ok(all);
            }
            if all.len() + data.len() > limit {
                return Err(format!("standard input has more than {limit} bytes").into());
            }
            all.extend(data);
        }
    }
}

/// Standard output, or standard error.
#[derive(Debug)]
pub struct Output {
    kind: OutputKind,
    unwritten: usize,
}

impl Output {
    /// Writes all of these bytes, and waits while [`HIGH_WATER`] or more are unwritten.
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        for piece in data.chunks(HIGH_WATER) {
            if self.unwritten >= HIGH_WATER {
                deferred::nothing(host::written(self.kind, LOW_WATER)).await?;
            }
            self.unwritten = host::write_output(self.kind, piece) as usize;
        }
        Ok(())
    }

    /// Writes a text at once, without waiting: a few lines. With more than 1 MiB unwritten the command ends.
    pub fn print(&mut self, text: &str) {
        self.unwritten = host::write_output(self.kind, text.as_bytes()) as usize;
    }

    /// Waits until everything is written. At the end of a command nobody needs it: the host does so.
    pub async fn flush(&mut self) -> Result<(), Error> {
        deferred::nothing(host::written(self.kind, 0)).await?;
        self.unwritten = 0;
        Ok(())
    }

    /// Whether to write colours there: `--color`, `NO_COLOR`, `CLICOLOR_FORCE` and `TERM` are looked at.
    pub fn wants_colour(&self) -> bool {
        host::wants_colour(self.kind)
    }
}

/// Opens a file that the arguments name, by exactly what the user wrote.
///
/// Errors: `denied` (the arguments do not name it so, or it is a pipe or a terminal), `not-found`, `exists`, `invalid` (it is a directory), `io`. What stands for standard
/// input or output (`-`) is never a file.
pub fn open(name: &str, opening: FileOpening) -> Deferred<File> {
    deferred::taken(host::open_named(name, opening), |id| {
        host::take_file(id).map(File::new)
    })
}

/// Whether this instance runs a command, and serves nobody. For a plugin that is both, whose [`Factory::configure`] wants something of its operator that the command does
/// without. In tests it is false.
pub fn is_running() -> bool {
    host::is_command()
}

/// Whether this is a terminal.
pub fn is_terminal(of: StandardStream) -> bool {
    host::is_terminal(of)
}

/// Columns and rows of the terminal; none if neither standard output nor standard error is one.
pub fn terminal_size() -> Option<(u16, u16)> {
    host::terminal_size()
}

/// The name servers that the plugin may ask itself. Empty unless `plugin.toml` has `name-servers` in `[command]`.
pub fn name_servers() -> Vec<SocketAddr> {
    let servers = host::name_servers().into_iter();
    let address = servers.map(Address::from_contract);
    address
        .filter_map(|address| match address {
            Address::Socket(address) => Some(address),
            Address::Path(_) | Address::Other(_) => None,
        })
        .collect()
}

/// The signals that the user and the system send, for as long as this is kept. Without one the first SIGINT or SIGTERM ends the command; with one the second does.
#[derive(Debug)]
pub struct Signals {
    /// To the host, who waits for a signal alone waits for nothing.
    _waits: Deferred<()>,
}

impl Signals {
    /// From now on signals are the command's to handle.
    pub fn new() -> Self {
        SIGNALS.with(|signals| signals.kept.set(signals.kept.get() + 1));
        Self {
            _waits: deferred::after(Duration::MAX),
        }
    }

    /// The next signal. A change of the terminal's size is told once, however often it changed.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            SIGNALS.with(|signals| match signals.waiting.borrow_mut().pop_front() {
                Some(signal) => Poll::Ready(signal),
                None => {
                    signals.waker.replace(Some(cx.waker().clone()));
                    Poll::Pending
                }
            })
        })
        .await
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // A thread that ends may have dropped it before.
        let _ = SIGNALS.try_with(|signals| {
            let kept = signals.kept.get().saturating_sub(1);
            signals.kept.set(kept);
            if kept == 0 {
                signals.waiting.borrow_mut().clear();
            }
        });
    }
}

/// How far the command has come: a bar on the terminal, if there is one. Dropping it takes it from the screen.
pub struct Progress(host::Bar);

impl Progress {
    /// Begins at 0; without a total it is not known how much there is.
    pub fn new(unit: Unit, total: Option<u64>) -> Self {
        Self(host::Bar::new(unit, total))
    }

    /// So much is done, since the beginning.
    pub fn set(&self, done: u64) {
        self.0.set(done);
    }

    /// So much there is.
    pub fn set_total(&self, total: Option<u64>) {
        self.0.set_total(total);
    }

    /// A few words beside it.
    pub fn set_message(&self, message: &str) {
        self.0.set_message(message);
    }

    /// It is done: the bar stays on the screen as it is.
    pub fn finish(self) {
        self.0.finish();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// The protocol of a plugin that is a command and nothing else: refuses every connection but those that the command makes.
#[derive(Debug)]
pub struct CommandOnly<C>(PhantomData<C>);

impl<C: Command> Protocol for CommandOnly<C> {
    type Factory = C::Factory;

    fn connection_made(_cx: &mut Context<'_, C::Factory>, _origin: Origin) -> Option<Self> {
        None
    }

    fn data_received(&mut self, _cx: &mut Context<'_, C::Factory>, _data: &[u8]) {}
}

/// The command begins.
pub(crate) fn start<C: Command>(arguments: Vec<String>) {
    executor::enter(None);
    let output = |kind| Output { kind, unwritten: 0 };
    let io = Io {
        input: Input::default(),
        output: output(OutputKind::Standard),
        error: output(OutputKind::Error),
    };
    let run = async move {
        let code = match C::run(arguments, io).await {
            Ok(ExitCode(code)) => code,
            Err(failure) => {
                let line = format!("error: {failure}\n");
                host::write_output(OutputKind::Error, line.as_bytes());
                1
            }
        };
        host::exit(code);
    };
    executor::start(run, None, Kind::Busy).detach();
    executor::run_ready();
}

/// Somebody sent a signal. Returns whether the command handles it.
pub(crate) fn signalled(signal: Signal) -> bool {
    executor::enter(None);
    let handled = SIGNALS.with(|signals| {
        if signals.kept.get() == 0 {
            return false;
        }
        let mut waiting = signals.waiting.borrow_mut();
        if !waiting.contains(&signal) {
            waiting.push_back(signal);
        }
        if let Some(waker) = signals.waker.take() {
            waker.wake();
        }
        true
    });
    executor::run_ready();
    handled
}

/// What was signalled, and by whom it is awaited.
#[derive(Default)]
struct Waiting {
    kept: Cell<usize>,
    /// Each at most once.
    waiting: RefCell<VecDeque<Signal>>,
    waker: RefCell<Option<Waker>>,
}

thread_local! {
    static SIGNALS: Waiting = Waiting::default();
}

/// Bytes of one read: as many as the contract has.
const MOST: u32 = 64 * 1024;

/// Unwritten bytes below which writing goes on, as for connections: 16 KiB.
const LOW_WATER: u32 = 16 * 1024;
