//! Bulk: bytes that move between connections and files without passing through the plugin.
//!
//! Between bare sockets and files the kernel moves them (sendfile(2), splice(2)); under TLS they are copied. Nothing here blocks the worker on a disk:
//! what is not in memory is read, and what came is written, on the runtime's blocking threads.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io::{self, IoSlice},
    num::NonZeroU64,
    os::fd::OwnedFd,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    fs::sendfile,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{
    io::{Interest, ReadBuf},
    task::JoinHandle,
    time::{Instant, Sleep},
};

use super::{connection::Connection, handler::Id};
use crate::{files::HostFile, limits::READ_SIZE, transport::Transport};

/// How much is to be moved, from where in a file, and how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first byte in the file; without meaning between connections.
    pub offset: u64,
    /// Bytes to move; none is to the end.
    pub length: Option<u64>,
    /// Bytes a second, at most.
    pub rate: Option<NonZeroU64>,
}

/// One movement: what the plugin can ask about it, and how it is called off.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(super) id: Id,
    moved: Cell<u64>,
    cancelled: Cell<bool>,
    ends: [Weak<Connection>; 2],
}

/// What went wrong, and where.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection broke, and ends.
    Connection(io::Error),
    /// The file failed; the connection goes on.
    File(io::Error),
}

impl Transfer {
    pub(super) fn new(id: Id, ends: [Weak<Connection>; 2]) -> Rc<Self> {
        Rc::new(Self {
            id,
            moved: Cell::new(0),
            cancelled: Cell::new(false),
            ends,
        })
    }

    /// Returns how many bytes have moved.
    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// Returns whether it was stopped.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Stops it where it is.
    pub(super) fn cancel(&self) {
        self.cancelled.set(true);
        for end in self.ends.iter().filter_map(Weak::upgrade) {
            end.wake();
        }
    }

    fn advance(&self, count: usize) {
        self.moved.set(self.moved.get() + count as u64);
    }
}

/// A file on its way to a connection.
#[derive(Debug)]
pub(super) struct SendFile {
    pub(super) transfer: Rc<Transfer>,
    file: HostFile,
    offset: u64,
    remaining: u64,
    pace: Pace,
    /// Up to here the file is in memory, as far as is known.
    resident: u64,
    loading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// The kernel does not send this file by itself.
    copying: bool,
    /// Full segments only, until the file's end: over loopback that is half as fast again (`bench send-file`: 1.5 GiB/s without, 2.2 with). What goes
    /// in one piece has no use for it.
    corked: bool,
    /// What was read to be copied, and how much of it is sent.
    buffer: Vec<u8>,
    sent: usize,
}

impl SendFile {
    /// Fails if the file has not got that much.
    pub(super) fn new(
        transfer: Rc<Transfer>,
        file: HostFile,
        extent: Extent,
    ) -> Result<Self, io::Error> {
        let size = file.size()?;
        let rest = size.checked_sub(extent.offset).ok_or_else(too_short)?;
        let remaining = extent.length.unwrap_or(rest);
        if remaining > rest {
            return Err(too_short());
        }
        Ok(Self {
            transfer,
            file,
            offset: extent.offset,
            remaining,
            pace: Pace::new(extent.rate),
            resident: 0,
            loading: None,
            copying: false,
            corked: false,
            buffer: Vec::new(),
            sent: 0,
        })
    }

    /// Returns whether bytes of it follow at once, so that what is before it can wait for them in the kernel.
    pub(super) fn is_prompt(&self) -> bool {
        self.remaining > 0 && !self.transfer.is_cancelled() && self.pace.rate.is_none()
    }

    /// Sends until everything is sent, or the turn is over.
    pub(super) fn poll(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        if self.is_prompt() && self.remaining > SENDFILE_CHUNK as u64 && !self.corked {
            transport.set_cork(true);
            self.corked = true;
        }
        let polled = self.poll_parts(transport, cx);
        if polled.is_ready() && self.corked {
            transport.set_cork(false);
        }
        polled
    }

    fn poll_parts(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let mut turn = 0;
        while self.remaining > 0 && !self.transfer.cancelled.get() {
            if turn >= BYTES_PER_TURN {
                // The others first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(loading) = &mut self.loading {
                let loaded = ready!(Pin::new(loading).poll(cx));
                self.loading = None;
                let data = loaded.map_err(io::Error::other).flatten();
                let data = data.map_err(Failure::File)?;
                if data.is_empty() {
                    return Poll::Ready(Err(Failure::File(too_short())));
                }
                self.resident = self.offset.saturating_add(data.len() as u64);
                (self.buffer, self.sent) = (data, 0);
            }
            let most = ready!(self.pace.poll(cx)).min(self.remaining);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let sent = if transport.is_bare() && !self.copying {
                ready!(self.poll_sendfile(transport, cx, most))
            } else {
                ready!(self.poll_copy(transport, cx, most))
            };
            let Some(sent) = sent? else {
                continue;
            };
            turn += sent;
            self.offset = self.offset.saturating_add(sent as u64);
            self.remaining = self.remaining.saturating_sub(sent as u64);
            self.pace.spend(sent);
            self.transfer.advance(sent);
        }
        // What TLS holds back is not with the kernel yet.
        transport.poll_flush(cx).map_err(Failure::Connection)
    }

    /// Lets the kernel send. None: try again.
    fn poll_sendfile(
        &mut self,
        transport: &Transport,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<usize>, Failure>> {
        let count = most.min(SENDFILE_CHUNK);
        let end = self.offset.saturating_add(count as u64);
        // Read ahead by the kernel, a file is in memory from front to back: its last byte speaks for the chunk.
        if end > self.resident {
            match self.file.read_cached(&mut [0], end.saturating_sub(1)) {
                Ok(0) => return Poll::Ready(Err(Failure::File(too_short()))),
                Ok(_) => self.resident = end,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.load(count);
                    return Poll::Ready(Ok(None));
                }
                Err(error) => return Poll::Ready(Err(Failure::File(error))),
            }
        }
        self.buffer = Vec::new();
        let mut offset = self.offset;
        let sent = transport.poll_socket(cx, Interest::WRITABLE, |socket| {
            Ok(sendfile(
                socket,
                self.file.as_file(),
                Some(&mut offset),
                count,
            )?)
        });
        Poll::Ready(match ready!(sent) {
            Ok(0) => Err(Failure::File(too_short())),
            Ok(sent) => Ok(Some(sent)),
            // sendfile(2): not every file system has it.
            Err(error) if is_unsupported(&error) => {
                self.copying = true;
                Ok(None)
            }
            Err(error) => Err(Failure::Connection(error)),
        })
    }

    /// Reads and writes. None: try again.
    fn poll_copy(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<usize>, Failure>> {
        if self.sent == self.buffer.len() {
            let left = usize::try_from(self.remaining).unwrap_or(usize::MAX);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(left.min(COPY_CHUNK), 0);
            match self.file.read_cached(&mut buffer, self.offset) {
                Ok(0) => return Poll::Ready(Err(Failure::File(too_short()))),
                Ok(count) => buffer.truncate(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.load(left.min(COPY_CHUNK));
                    return Poll::Ready(Ok(None));
                }
                Err(error) => return Poll::Ready(Err(Failure::File(error))),
            }
            (self.buffer, self.sent) = (buffer, 0);
        }
        let rest = self.buffer.get(self.sent..).unwrap_or_default();
        let rest = rest.get(..most).unwrap_or(rest);
        let written = ready!(transport.poll_write(cx, &[IoSlice::new(rest)], false));
        let written = written.map_err(Failure::Connection)?;
        self.sent += written;
        Poll::Ready(Ok(Some(written)))
    }

    /// Reads from the disk, in a thread that may wait for it.
    fn load(&mut self, count: usize) {
        let (file, offset) = (self.file.clone(), self.offset);
        self.loading = Some(tokio::task::spawn_blocking(move || {
            file.read_full(offset, count)
        }));
    }
}

/// What a connection receives on its way to a file.
#[derive(Debug)]
pub(super) struct ReceiveFile {
    pub(super) transfer: Rc<Transfer>,
    file: HostFile,
    offset: u64,
    remaining: Option<u64>,
    pace: Pace,
    buffer: Vec<u8>,
    /// The disk has the buffer meanwhile.
    writing: Option<JoinHandle<io::Result<usize>>>,
    /// The peer's end came.
    pub(super) ended: bool,
}

impl ReceiveFile {
    pub(super) fn new(transfer: Rc<Transfer>, file: HostFile, extent: Extent) -> Self {
        Self {
            transfer,
            file,
            offset: extent.offset,
            remaining: extent.length,
            pace: Pace::new(extent.rate),
            buffer: Vec::new(),
            writing: None,
            ended: false,
        }
    }

    /// Receives until everything is in the file.
    pub(super) fn poll(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if let Some(writing) = &mut self.writing {
                let written = ready!(Pin::new(writing).poll(cx));
                self.writing = None;
                let written = written.map_err(io::Error::other).flatten();
                let count = written.map_err(Failure::File)?;
                self.offset = self.offset.saturating_add(count as u64);
                self.transfer.advance(count);
            }
            if self.ended || self.remaining == Some(0) || self.transfer.cancelled.get() {
                return Poll::Ready(Ok(()));
            }
            let received = self.poll_fill(transport, cx);
            if let Poll::Ready(Err(error)) = received {
                return Poll::Ready(Err(Failure::Connection(error)));
            }
            if self.buffer.is_empty() {
                if received.is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            let (file, offset) = (self.file.clone(), self.offset);
            let buffer = std::mem::take(&mut self.buffer);
            self.writing = Some(tokio::task::spawn_blocking(move || {
                file.write_all_at(&buffer, offset).map(|()| buffer.len())
            }));
        }
    }

    /// Reads until the buffer is full, or nothing more is there (pending).
    fn poll_fill(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let left = usize::try_from(self.remaining.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            let Poll::Ready(allowed) = self.pace.poll(cx) else {
                break Poll::Pending;
            };
            let most = left.min(usize::try_from(allowed).unwrap_or(usize::MAX));
            let most = most.min(RECEIVE_CHUNK.saturating_sub(self.buffer.len()));
            if most == 0 {
                break Poll::Ready(Ok(()));
            }
            match poll_read_some(transport, cx, most, &mut self.buffer) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    break Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(count)) => {
                    self.pace.spend(count);
                    self.remaining = self.remaining.map(|left| left.saturating_sub(count as u64));
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        }
    }
}

/// What one connection receives on its way to another.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) transfer: Rc<Transfer>,
    remaining: Cell<Option<u64>>,
    pace: RefCell<Pace>,
    room: RefCell<Room>,
    /// Nothing more comes; with the reason if that is a failure.
    end: RefCell<Option<Result<(), io::Error>>>,
}

/// What has come and not yet gone. It is filled only when it is empty: a pipe that takes no more and a socket that has no more look the same.
#[derive(Debug)]
enum Room {
    Pipe {
        read: OwnedFd,
        write: OwnedFd,
        held: usize,
    },
    Memory {
        data: Vec<u8>,
        sent: usize,
    },
}

impl Room {
    fn is_empty(&self) -> bool {
        match self {
            Self::Pipe { held, .. } => *held == 0,
            Self::Memory { data, sent } => data.len() == *sent,
        }
    }
}

impl Splice {
    /// `bare` says that both sides are, so that the kernel can move the bytes.
    pub(super) fn new(transfer: Rc<Transfer>, extent: Extent, bare: bool) -> Rc<Self> {
        let memory = Room::Memory {
            data: Vec::new(),
            sent: 0,
        };
        let room = if bare {
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_or_else(
                |error| {
                    tracing::debug!(%error, "no pipe to splice through; the bytes are copied");
                    memory
                },
                |(read, write)| {
                    // A smaller one does as well.
                    let _size = fcntl_setpipe_size(&write, PIPE_SIZE);
                    Room::Pipe {
                        read,
                        write,
                        held: 0,
                    }
                },
            )
        } else {
            memory
        };
        Rc::new(Self {
            transfer,
            remaining: Cell::new(extent.length),
            pace: RefCell::new(Pace::new(extent.rate)),
            room: RefCell::new(room),
            end: RefCell::new(None),
        })
    }

    /// Nothing more comes.
    pub(super) fn finish(&self, how: Result<(), io::Error>) {
        self.end.borrow_mut().get_or_insert(how);
        self.wake();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.transfer.is_cancelled()
    }

    fn wake(&self) {
        for end in self.transfer.ends.iter().filter_map(Weak::upgrade) {
            end.wake();
        }
    }

    /// Takes in what the source has, once. Ready with 0 at its end; done when [`Self::is_full_length`].
    pub(super) fn poll_fill(
        &self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut room = self.room.borrow_mut();
        if !room.is_empty() {
            // Who empties it wakes this side.
            return Poll::Pending;
        }
        let most = ready!(self.pace.borrow_mut().poll(cx));
        let most = most.min(self.remaining.get().unwrap_or(u64::MAX));
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIPE_SIZE);
        let count = match &mut *room {
            Room::Pipe { write, held, .. } => {
                let moved = transport.poll_socket(cx, Interest::READABLE, |socket| {
                    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                    Ok(splice(socket, None, &*write, None, most, flags)?)
                });
                *held = ready!(moved)?;
                *held
            }
            Room::Memory { data, sent } => {
                // A splice that waits holds no memory.
                (*data, *sent) = (Vec::new(), 0);
                ready!(poll_read_some(transport, cx, most.min(COPY_CHUNK), data))?
            }
        };
        drop(room);
        self.pace.borrow_mut().spend(count);
        let remaining = self.remaining.get();
        self.remaining
            .set(remaining.map(|left| left.saturating_sub(count as u64)));
        self.wake();
        Poll::Ready(Ok(count))
    }

    /// Returns whether as much has come as was asked for.
    pub(super) fn is_full_length(&self) -> bool {
        self.remaining.get() == Some(0)
    }

    /// Hands on what has come. Ready when nothing more will.
    pub(super) fn poll_drain(
        &self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let mut room = self.room.borrow_mut();
        while !room.is_empty() {
            let written = match &mut *room {
                Room::Pipe { read, held, .. } => {
                    let moved = transport.poll_socket(cx, Interest::WRITABLE, |socket| {
                        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                        Ok(splice(&*read, None, socket, None, *held, flags)?)
                    });
                    let moved = ready!(moved).map_err(Failure::Connection)?;
                    *held = held.saturating_sub(moved);
                    moved
                }
                Room::Memory { data, sent } => {
                    let rest = data.get(*sent..).unwrap_or_default();
                    let written = transport.poll_write(cx, &[IoSlice::new(rest)], false);
                    let written = ready!(written).map_err(Failure::Connection)?;
                    *sent += written;
                    written
                }
            };
            self.transfer.advance(written);
        }
        drop(room);
        ready!(transport.poll_flush(cx)).map_err(Failure::Connection)?;
        if let Some(end) = self.end.borrow_mut().take() {
            // The source's failure is no failure of this side: it goes on.
            return Poll::Ready(end.map_err(Failure::File));
        }
        if self.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        self.wake();
        Poll::Pending
    }
}

/// A rate limit: a bucket that holds a twentieth of a second's bytes.
#[derive(Debug)]
struct Pace {
    rate: Option<NonZeroU64>,
    credit: u64,
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate,
            credit: 0,
            at: Instant::now(),
            timer: None,
        }
    }

    /// Returns how many bytes may move now; pending while there are none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(rate) = self.rate.map(NonZeroU64::get) else {
            return Poll::Ready(u64::MAX);
        };
        let burst = (rate / 20).max(1);
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            let now = Instant::now();
            let elapsed = now.duration_since(self.at).as_nanos();
            let earned = u128::from(rate) * elapsed / 1_000_000_000;
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            if earned > 0 {
                self.at = now;
                self.credit = self.credit.saturating_add(earned).min(burst);
            }
            if self.credit > 0 {
                return Poll::Ready(self.credit);
            }
            // Half a bucket, and not byte by byte.
            let wait = (burst / 2).max(1).saturating_mul(1_000_000_000) / rate;
            let wait = Duration::from_nanos(wait.max(1_000_000));
            self.timer = Some(Box::pin(tokio::time::sleep_until(self.at + wait)));
        }
    }

    fn spend(&mut self, count: usize) {
        if self.rate.is_some() {
            self.credit = self.credit.saturating_sub(count as u64);
        }
    }
}

/// Reads once, at most so many bytes, and adds them to the buffer: it grows by what came, and not by what could have come.
fn poll_read_some(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    most: usize,
    buffer: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(READ_SIZE, 0);
        let space = scratch.get_mut(..most.min(READ_SIZE)).unwrap_or_default();
        let mut read = ReadBuf::new(space);
        ready!(transport.poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

thread_local! {
    /// Where everything of a worker that is to be moved is read into.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn too_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file is shorter than that",
    )
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
    )
}

/// Bytes of one file before the other tasks of the worker get their turn: 8 MiB, some 4 ms over loopback; a real network takes less at a time.
const BYTES_PER_TURN: usize = 8 << 20;

/// Bytes that one sendfile(2) is asked for: 2 MiB, as nginx does.
const SENDFILE_CHUNK: usize = 2 << 20;

/// Bytes that are read at a time to be copied: 64 KiB.
const COPY_CHUNK: usize = 64 << 10;

/// Bytes that are collected before they are written to a file: 256 KiB.
const RECEIVE_CHUNK: usize = 256 << 10;

/// Bytes of a pipe between two connections: 256 KiB.
const PIPE_SIZE: usize = 256 << 10;
