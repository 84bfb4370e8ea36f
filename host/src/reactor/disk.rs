//! Operations on files and directories: answered from memory where that is possible, and in a thread that may wait for the disk where it is not.

use std::{
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};

use super::{
    handler::{ErrorKind, Id, OperationError, Outcome, Value},
    holdings::{Found, Holdings, Work},
};
use crate::{
    files::{HostFile, Lock},
    limits::{Limits, STORAGE_SIZE, STORAGE_THREADS},
    metrics::meters::Limit,
    storage::{
        Directory, Metadata, Opening, Page, Slot, failure,
        path::{self, Target},
    },
};

/// What one instance's file operations share.
#[derive(Debug)]
pub(super) struct Disk {
    threads: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    watches: Arc<Semaphore>,
}

impl Disk {
    /// Returns the count of open files.
    pub(super) fn open_files(&self) -> &Arc<AtomicUsize> {
        &self.open
    }

    pub(super) fn new(limits: &Limits) -> Self {
        let bytes = limits.storage_bytes.min(Semaphore::MAX_PERMITS);
        Self {
            threads: Arc::new(Semaphore::new(STORAGE_THREADS)),
            bytes: Arc::new(Semaphore::new(bytes)),
            open: Arc::default(),
            watches: Arc::new(Semaphore::new(WATCHES)),
        }
    }
}

/// Something that is done to a directory and can touch the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    MakeDirectory,
    RemoveFile,
    RemoveDirectory,
    Rename,
    Link,
}

/// What a thread came back with.
pub(super) enum Done {
    Nothing,
    Bytes(Vec<u8>),
    File(HostFile),
    Metadata(Metadata),
    Page(Page),
}

pub(super) type Job = Result<Done, OperationError>;

// What can be asked of a directory.
impl Holdings {
    /// Opens a file.
    pub(crate) fn open_file(
        self: &Rc<Self>,
        id: Id,
        directory: &Directory,
        path: String,
        opening: Opening,
    ) {
        let checked = check(&path, Target::Entry).and_then(|()| {
            if opening != Opening::Read {
                check_writable(directory)?;
            }
            self.slot(directory)
        });
        let slot = match checked {
            Ok(slot) => slot,
            Err(error) => return self.refuse(id, error),
        };
        let Some(held) = self.hold(id, path.len()) else {
            return;
        };
        let slot = if opening == Opening::Read {
            match directory.open_cached(&path, slot) {
                Ok(opened) => {
                    let done = opened.map(Done::File).map_err(failure);
                    return self.decide_now(id, held, done);
                }
                Err(slot) => slot,
            }
        } else {
            slot
        };
        let directory = directory.clone();
        self.in_thread(id, held, None, move || {
            let opened = directory.open(&path, opening, slot);
            opened.map(Done::File).map_err(failure)
        });
    }

    /// Tells what is there.
    pub(crate) fn stat(self: &Rc<Self>, id: Id, directory: &Directory, path: String) {
        let Some(held) = self.checked(id, &path, path.len()) else {
            return;
        };
        if let Some(found) = directory.stat_cached(&path) {
            return self.decide_now(id, held, found.map(Done::Metadata).map_err(failure));
        }
        let directory = directory.clone();
        self.in_thread(id, held, None, move || {
            directory.stat(&path).map(Done::Metadata).map_err(failure)
        });
    }

    /// Lists a page.
    pub(crate) fn list_page(
        self: &Rc<Self>,
        id: Id,
        directory: &Directory,
        path: String,
        start: u64,
    ) {
        let Some(held) = self.checked(id, &path, PAGE_BYTES) else {
            return;
        };
        let directory = directory.clone();
        self.in_thread(id, held, None, move || {
            let page = directory.list(&path, start);
            page.map(Done::Page).map_err(failure)
        });
    }

    /// Changes names; `other` is the new one where there are two.
    pub(crate) fn change(
        self: &Rc<Self>,
        id: Id,
        directory: &Directory,
        change: Change,
        path: String,
        other: String,
    ) {
        let checked = check(&path, Target::Entry)
            .and_then(|()| match change {
                Change::Rename | Change::Link => check(&other, Target::Entry),
                Change::MakeDirectory | Change::RemoveFile | Change::RemoveDirectory => Ok(()),
            })
            .and_then(|()| check_writable(directory));
        if let Err(error) = checked {
            return self.refuse(id, error);
        }
        let Some(held) = self.hold(id, path.len() + other.len()) else {
            return;
        };
        let directory = directory.clone();
        self.in_thread(id, held, None, move || {
            let done = match change {
                Change::MakeDirectory => directory.make_directory(&path),
                Change::RemoveFile => directory.remove_file(&path),
                Change::RemoveDirectory => directory.remove_directory(&path),
                Change::Rename => directory.rename(&path, &other),
                Change::Link => directory.link(&path, &other),
            };
            nothing(done)
        });
    }

    /// Makes a directory's names durable.
    pub(crate) fn sync_directory(self: &Rc<Self>, id: Id, directory: &Directory, path: String) {
        let Some(held) = self.checked(id, &path, path.len()) else {
            return;
        };
        let directory = directory.clone();
        self.in_thread(id, held, None, move || nothing(directory.sync(&path)));
    }

    /// Waits until something in a directory changes.
    pub(crate) fn watch(self: &Rc<Self>, id: Id, directory: &Directory, path: String) {
        let Some(held) = self.checked(id, &path, path.len()) else {
            return;
        };
        let Ok(watch) = self.disk.watches.clone().try_acquire_owned() else {
            let message = format!("{WATCHES} directories are being watched");
            return self.refuse(id, OperationError::new(ErrorKind::Limit, message));
        };
        let (holdings, directory) = (self.clone(), directory.clone());
        self.start(id, |_| {
            let task = async move {
                let outcome = holdings.until_changed(directory, path).await;
                drop((held, watch));
                holdings.deliver(id, outcome);
            };
            Work::Task(tokio::task::spawn_local(task).abort_handle())
        });
    }

    async fn until_changed(&self, directory: Directory, path: String) -> Outcome {
        let closed = |_| OperationError::new(ErrorKind::Io, "the instance ends");
        let thread = self.disk.threads.clone().acquire_owned().await;
        let thread = thread.map_err(closed)?;
        let watch = tokio::task::spawn_blocking(move || {
            let watch = directory.watch(&path);
            drop(thread);
            watch
        });
        let watch: io::Result<OwnedFd> = watch.await.map_err(io::Error::other).flatten();
        #[expect(
            deprecated,
            reason = "the function in its place is unsafe for descriptors that others may close; nobody closes an `OwnedFd`"
        )]
        let watch = watch.and_then(|watch| AsyncFd::with_interest(watch, Interest::READABLE));
        let watch = watch.map_err(failure)?;
        let changed = watch.readable().await;
        changed.map(|_| Value::Nothing).map_err(failure)
    }
}

// What can be asked of a file.
impl Holdings {
    /// Reads.
    pub(crate) fn read_at(self: &Rc<Self>, id: Id, file: HostFile, offset: u64, length: u32) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if let Err(error) = check_size(length) {
            return self.refuse(id, error);
        }
        let Some(held) = self.hold(id, length) else {
            return;
        };
        if let Some(data) = file.read_full_cached(offset, length) {
            return self.decide_now(id, held, Ok(Done::Bytes(data)));
        }
        self.in_thread(id, held, None, move || {
            let data = file.read_full(offset, length);
            data.map(Done::Bytes).map_err(failure)
        });
    }

    /// Writes from a position on or (none) at the end.
    pub(crate) fn write_file(
        self: &Rc<Self>,
        id: Id,
        file: HostFile,
        offset: Option<u64>,
        data: Vec<u8>,
    ) {
        if let Err(error) = check_size(data.len()) {
            return self.refuse(id, error);
        }
        let size = data.len();
        self.write_with(id, file, size, move |file| match offset {
            Some(offset) => file.write_all_at(&data, offset),
            None => file.append(&data),
        });
    }

    /// Cuts a file, or fills it up.
    pub(crate) fn set_size(self: &Rc<Self>, id: Id, file: HostFile, size: u64) {
        self.write_with(id, file, 0, move |file| file.set_size(size));
    }

    /// Makes a file's contents durable. What was not written by this handle need not be, so that one to be read is as durable as it gets.
    pub(crate) fn sync_file(self: &Rc<Self>, id: Id, file: HostFile) {
        let Some(held) = self.hold(id, 0) else {
            return;
        };
        let order = file.order().clone();
        self.in_thread(id, held, Some(order), move || nothing(file.sync()));
    }

    /// Changes a file's lock.
    pub(crate) fn lock(self: &Rc<Self>, id: Id, file: HostFile, lock: Lock) {
        if file.is_named() {
            let message = "a file that was granted by name has no locks of its own";
            return self.refuse(id, OperationError::new(ErrorKind::Unsupported, message));
        }
        let Some(held) = self.hold(id, 0) else {
            return;
        };
        self.in_thread(id, held, None, move || nothing(file.lock(lock)));
    }

    fn write_with(
        self: &Rc<Self>,
        id: Id,
        file: HostFile,
        size: usize,
        write: impl FnOnce(&HostFile) -> io::Result<()> + Send + 'static,
    ) {
        if !file.is_writable() {
            let message = "the file is open to be read only";
            return self.refuse(id, OperationError::new(ErrorKind::Denied, message));
        }
        let Some(held) = self.hold(id, size) else {
            return;
        };
        let order = file.order().clone();
        self.in_thread(id, held, Some(order), move || nothing(write(&file)));
    }
}

impl Holdings {
    fn slot(&self, directory: &Directory) -> Result<Slot, OperationError> {
        let limit = self.program().limits.open_files;
        let slot = directory.space().slot(&self.disk.open, limit);
        slot.map_err(|message| {
            self.meters().limits.count(Limit::OpenFiles);
            OperationError::new(ErrorKind::Limit, message)
        })
    }

    /// Returns how many files of directories are open.
    pub(crate) fn open_files(&self) -> usize {
        self.disk.open.load(Ordering::Relaxed)
    }

    /// Checks a path to an entry or the directory itself, and holds bytes for the operation.
    fn checked(&self, id: Id, path: &str, size: usize) -> Option<OwnedSemaphorePermit> {
        match check(path, Target::EntryOrSelf) {
            Ok(()) => self.hold(id, size),
            Err(error) => {
                self.refuse(id, error);
                None
            }
        }
    }

    /// Holds the bytes of an operation until it is over. None if there are too many, and then it completes with `limit`.
    pub(super) fn hold(&self, id: Id, size: usize) -> Option<OwnedSemaphorePermit> {
        let size = u32::try_from(size.saturating_add(OPERATION_BYTES)).unwrap_or(u32::MAX);
        let held = self.disk.bytes.clone().try_acquire_many_owned(size);
        if held.is_err() {
            self.meters().limits.count(Limit::StorageBytes);
            let most = self.program().limits.storage_bytes;
            let message = format!("file operations hold {most} bytes");
            self.refuse(id, OperationError::new(ErrorKind::Limit, message));
        }
        held.ok()
    }

    /// Completes an operation whose answer was in memory, once the current callback has returned.
    fn decide_now(&self, id: Id, held: OwnedSemaphorePermit, done: Job) {
        if self.start(id, |_| Work::Held { _bytes: held }) {
            let outcome = done.map(|done| self.keep_done(id, done, None));
            self.decide(id, outcome);
        }
    }

    /// Keeps what waits to be taken. A page goes on holding its bytes.
    fn keep_done(&self, id: Id, done: Done, held: Option<&mut OwnedSemaphorePermit>) -> Value {
        match done {
            Done::Nothing => Value::Nothing,
            Done::Bytes(data) => Value::Bytes(data),
            Done::File(file) => self.keep_found(id, Found::File(file)),
            Done::Metadata(metadata) => self.keep_found(id, Found::Metadata(metadata)),
            Done::Page(page) => {
                let held = held.and_then(|held| held.split(held.num_permits()));
                self.keep_found(id, Found::Page(Rc::new((page, held))))
            }
        }
    }

    /// Does something where waiting for a disk holds nobody up, after those before it in `order`.
    pub(super) fn in_thread(
        self: &Rc<Self>,
        id: Id,
        held: OwnedSemaphorePermit,
        order: Option<Arc<Mutex<()>>>,
        job: impl FnOnce() -> Job + Send + 'static,
    ) {
        let holdings = self.clone();
        self.start(id, |_| {
            let task = async move {
                let turn = match order {
                    Some(order) => Some(order.lock_owned().await),
                    None => None,
                };
                let Ok(thread) = holdings.disk.threads.clone().acquire_owned().await else {
                    return;
                };
                // What it holds goes with it: it is not over when its operation is cancelled.
                let job = tokio::task::spawn_blocking(move || {
                    let done = job();
                    drop((turn, thread));
                    (done, held)
                });
                match job.await {
                    Ok((done, mut held)) => {
                        let outcome =
                            done.map(|done| holdings.keep_done(id, done, Some(&mut held)));
                        holdings.deliver(id, outcome);
                    }
                    Err(error) => {
                        let error = OperationError::new(ErrorKind::Io, error.to_string());
                        holdings.deliver(id, Err(error));
                    }
                }
            };
            Work::Task(tokio::task::spawn_local(task).abort_handle())
        });
    }
}

fn check(path: &str, target: Target) -> Result<(), OperationError> {
    path::check(path, target).map_err(|why| OperationError::new(ErrorKind::Invalid, why))
}

fn check_writable(directory: &Directory) -> Result<(), OperationError> {
    if directory.is_writable() {
        return Ok(());
    }
    let message = "the directory was granted to be read only";
    Err(OperationError::new(ErrorKind::Denied, message))
}

fn check_size(size: usize) -> Result<(), OperationError> {
    if size <= STORAGE_SIZE {
        return Ok(());
    }
    let message = format!("{size} bytes at once; at most {STORAGE_SIZE}");
    Err(OperationError::new(ErrorKind::Invalid, message))
}

fn nothing(done: io::Result<()>) -> Job {
    done.map(|()| Done::Nothing).map_err(failure)
}

/// What the least operation takes of memory, its task among it, roughly.
const OPERATION_BYTES: usize = 1 << 10;

/// What a page takes: 256 names of 255 bytes, and what is known of each.
const PAGE_BYTES: usize = 96 << 10;

/// Directories that one instance watches at a time. Each takes one of the user's inotify descriptors, of which Linux allows 128 by default.
const WATCHES: usize = 16;
