//! Standard input, output and error of a command, and how it ended.
//!
//! None of the three can be waited for in one way: each may be a pipe, a file or a terminal that others share. So every read and write is a call in a thread that may
//! block, one at a time for each, while the worker goes on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use cap_std::{ambient_authority, fs::Dir};
use tokio::{
    sync::{Mutex, Notify},
    task::JoinHandle,
};

use super::{named::NamedFiles, progress::Screen, terminal::Terminal};
use crate::{
    limits::{HIGH_WATER, READ_SIZE},
    storage::{Quota, Space},
    transport::stdio::patiently,
};

/// What surrounds a command, on the worker that runs it.
pub(crate) struct Console {
    surroundings: Surroundings,
    input: Input,
    standard: Outlet,
    error: Outlet,
    /// Files that are named count here.
    pub(crate) space: Arc<Space>,
    end: RefCell<Option<End>>,
    /// What became of standard output, if it takes nothing any more.
    lost: RefCell<Option<End>>,
    changed: Notify,
    /// What the user was told of that was refused.
    refusals: RefCell<BTreeSet<String>>,
}

/// What a command is given.
pub(crate) struct Surroundings {
    /// The files that its arguments name.
    pub(crate) files: NamedFiles,
    /// The name servers that it may ask itself.
    pub(crate) name_servers: Vec<SocketAddr>,
    /// Where it runs.
    pub(crate) terminal: Terminal,
    /// Where its progress is drawn.
    pub(crate) screen: Arc<Screen>,
    /// Whether the user is told what was refused.
    pub(crate) remarks: Remarks,
    /// Bytes that may wait to be written to one output.
    pub(crate) unwritten: usize,
}

/// Whether the host says something on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remarks {
    /// It does.
    Say,
    /// It does not.
    Suppress,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this exit code.
    Exited(u8),
    /// By a signal, with the exit code for that.
    Signalled(u8),
    /// Nobody reads its standard output any more.
    OutputClosed,
    /// Something was wrong: what.
    Failed(String),
}

/// Where a command writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Standard,
    /// Standard error.
    Error,
}

struct Input {
    file: Arc<File>,
    /// Read, and wanted by nobody yet.
    left: RefCell<Bytes>,
    /// A read in its thread. It goes on when nobody waits for it any more.
    reading: RefCell<Option<JoinHandle<io::Result<Bytes>>>>,
    turn: Arc<Mutex<()>>,
}

struct Outlet {
    file: Arc<File>,
    queue: RefCell<BytesMut>,
    /// Bytes that are being written.
    writing: Cell<usize>,
    /// There is something to write, or no longer.
    changed: Notify,
    closed: Cell<bool>,
}

impl Console {
    /// Takes standard input, output and error, and starts the tasks that write. Must be called on the worker.
    pub(crate) fn start(surroundings: Surroundings) -> io::Result<Rc<Self>> {
        // Without the buffers of the standard library.
        let file = |fd: io::Result<OwnedFd>| Ok::<_, io::Error>(Arc::new(File::from(fd?)));
        let input = file(io::stdin().as_fd().try_clone_to_owned())?;
        let standard = file(io::stdout().as_fd().try_clone_to_owned())?;
        let error = file(io::stderr().as_fd().try_clone_to_owned())?;
        // Nothing is counted in it: there is no quota.
        let root = Dir::open_ambient_dir("/", ambient_authority())?;
        let space = Space::new(Arc::new(root), Quota::default())?;
        let console = Rc::new(Self {
            surroundings,
            input: Input::new(input),
            standard: Outlet::new(standard),
            error: Outlet::new(error),
            space: Arc::new(space),
            end: RefCell::default(),
            lost: RefCell::default(),
            changed: Notify::new(),
            refusals: RefCell::default(),
        });
        for output in [Output::Standard, Output::Error] {
            tokio::task::spawn_local(console.clone().pump(output));
        }
        Ok(console)
    }

    /// Returns what the command was given.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Reads some bytes of standard input, in turn with others who do; none at its end. Nothing is lost when the future is dropped.
    pub(crate) async fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let _turn = self.input.turn.lock().await;
        self.input.read(most).await
    }

    /// Queues bytes, and returns how many are unwritten.
    pub(crate) fn write(&self, output: Output, data: &[u8]) -> usize {
        let outlet = self.outlet(output);
        if outlet.closed.get() || self.end.borrow().is_some() {
            return 0;
        }
        outlet.queue.borrow_mut().extend_from_slice(data);
        outlet.changed.notify_waiters();
        let unwritten = outlet.unwritten();
        if unwritten > self.surroundings.unwritten {
            let most = self.surroundings.unwritten;
            let name = output.name();
            self.finish(End::Failed(format!(
                "it writes faster than {name} is read, and does not wait: more than {most} bytes are unwritten"
            )));
        }
        unwritten
    }

    /// Returns once at most so many bytes are unwritten.
    pub(crate) async fn written(&self, output: Output, unwritten: usize) {
        let outlet = self.outlet(output);
        loop {
            let changed = outlet.changed.notified();
            if outlet.unwritten() <= unwritten {
                return;
            }
            changed.await;
        }
    }

    /// Tells the user what was refused: each thing once, and not without end.
    pub(crate) fn note_refusal(&self, message: &str) {
        let mut refusals = self.refusals.borrow_mut();
        if self.surroundings.remarks == Remarks::Suppress
            || refusals.len() >= REFUSALS
            || !refusals.insert(message.to_owned())
        {
            return;
        }
        drop(refusals);
        self.write(Output::Error, format!("nethost: {message}\n").as_bytes());
    }

    /// The command ended like this. Only the first time counts.
    pub(crate) fn finish(&self, end: End) {
        self.end.borrow_mut().get_or_insert(end);
        self.changed.notify_one();
    }

    /// Returns how the command ended after all, once everything is written that can be: one that exited well, and whose output went nowhere, has not.
    pub(crate) fn outcome(&self, end: End) -> End {
        match (&end, &*self.lost.borrow()) {
            (End::Exited(_), Some(lost)) => lost.clone(),
            _ => end,
        }
    }

    /// Something completed or closed, and there may be nothing left.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Returns how the command ended, once it did, or once `is_idle` says that it waits for nothing.
    pub(crate) async fn ended(&self, is_idle: impl Fn() -> bool) -> End {
        loop {
            let changed = self.changed.notified();
            if let Some(end) = &*self.end.borrow() {
                return end.clone();
            }
            if is_idle() {
                return End::Failed("it has not exited, and waits for nothing any more".to_owned());
            }
            changed.await;
        }
    }

    fn outlet(&self, output: Output) -> &Outlet {
        match output {
            Output::Standard => &self.standard,
            Output::Error => &self.error,
        }
    }

    /// Writes what is queued, one piece after the other.
    async fn pump(self: Rc<Self>, output: Output) {
        let outlet = self.outlet(output);
        let on_terminal = self.surroundings.terminal.is(output);
        loop {
            let changed = outlet.changed.notified();
            let Some(piece) = outlet.next() else {
                changed.await;
                continue;
            };
            let (file, screen) = (outlet.file.clone(), self.surroundings.screen.clone());
            let written = tokio::task::spawn_blocking(move || {
                let write = || write_all(&file, &piece);
                if on_terminal {
                    screen.suspend(piece.ends_with(b"\n"), write)
                } else {
                    write()
                }
            });
            let written = written.await.map_err(io::Error::other).flatten();
            outlet.writing.set(0);
            if let Err(error) = written {
                outlet.closed.set(true);
                outlet.queue.borrow_mut().clear();
                self.lose(output, &error);
            }
            outlet.changed.notify_waiters();
        }
    }

    /// An output takes nothing any more.
    fn lose(&self, output: Output, error: &io::Error) {
        let end = match (output, error.kind()) {
            (Output::Standard, ErrorKind::BrokenPipe) => End::OutputClosed,
            (Output::Standard, _) => End::Failed(format!("writing to standard output: {error}")),
            // There is nobody to tell.
            (Output::Error, _) => {
                return tracing::debug!(%error, "writing to standard error");
            }
        };
        *self.lost.borrow_mut() = Some(end.clone());
        self.finish(end);
    }
}

impl Input {
    fn new(file: Arc<File>) -> Self {
        Self {
            file,
            left: RefCell::default(),
            reading: RefCell::default(),
            turn: Arc::default(),
        }
    }

    async fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        if self.left.borrow().is_empty() {
            let read = std::future::poll_fn(|cx| {
                let mut reading = self.reading.borrow_mut();
                let task = reading.get_or_insert_with(|| {
                    let file = self.file.clone();
                    tokio::task::spawn_blocking(move || read_some(&file))
                });
                let read = Pin::new(task).poll(cx);
                if read.is_ready() {
                    reading.take();
                }
                read
            });
            let read = read.await.map_err(io::Error::other).flatten()?;
            *self.left.borrow_mut() = read;
        }
        let mut left = self.left.borrow_mut();
        let most = most.min(left.len());
        Ok(left.split_to(most).to_vec())
    }
}

impl Outlet {
    fn new(file: Arc<File>) -> Self {
        Self {
            file,
            queue: RefCell::default(),
            writing: Cell::new(0),
            changed: Notify::new(),
            closed: Cell::new(false),
        }
    }

    fn unwritten(&self) -> usize {
        self.queue.borrow().len() + self.writing.get()
    }

    /// Takes the next piece to be written.
    fn next(&self) -> Option<Bytes> {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            return None;
        }
        let size = queue.len().min(HIGH_WATER);
        self.writing.set(size);
        Some(queue.split_to(size).freeze())
    }
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard output",
            Self::Error => "standard error",
        }
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

fn read_some(mut file: &File) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(READ_SIZE);
    let count = patiently(|| file.read(&mut buffer))?;
    buffer.truncate(count);
    Ok(buffer.freeze())
}

fn write_all(mut file: &File, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match patiently(|| file.write(data))? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => data = data.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Refusals that the user is told of.
const REFUSALS: usize = 16;
