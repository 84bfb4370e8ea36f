//! Files and what moves by itself, natively.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use super::{
    disk,
    reactor::{self, Adoptable, Connection, Ending, Intake, Reactor, Sink, Step},
};
use crate::{
    bindings::nethost::plugin::{
        bulk::Extent,
        deferred::Value,
        storage::Lock,
        types::{self, ErrorCode},
    },
    connection::ConnectionId,
    executor,
    storage::MAX_TRANSFER,
    types::Error,
};

pub(crate) fn named_file(name: &str) -> Result<File, types::Error> {
    let file = reactor::with(|reactor| reactor.files.get(name).cloned());
    let opened = file.map(|stored| {
        let access = stored.access;
        File {
            handle: None,
            stored,
            access,
            changed: Rc::new(|| {}),
        }
    });
    opened.ok_or_else(|| types::Error {
        code: ErrorCode::Denied,
        message: "no file is granted under that name".to_owned(),
    })
}

pub(crate) fn progress(id: u64) -> Option<u64> {
    reactor::with(|reactor| Some(reactor.moves.get(&id)?.moved))
}

pub(crate) fn send_file(destination: &Connection, file: &File, extent: Extent) -> u64 {
    let wire = destination.wire();
    if !wire.is_writable() {
        return refused(ErrorCode::Closed, "the connection is closed");
    }
    let Some(part) = file.stored.part(&extent) else {
        return refused(ErrorCode::Invalid, "the file is shorter than that");
    };
    let id = begun(&extent);
    let rest = part.into();
    wire.behind.borrow_mut().push_back(Step::File { id, rest });
    id
}

pub(crate) fn receive_file(source: &Connection, file: &File, extent: Extent) -> u64 {
    if file.access == Access::Read {
        return refused(ErrorCode::Denied, "the file was granted to be read");
    }
    let sink = Sink::File {
        file: Rc::clone(&file.stored),
        at: extent.offset,
    };
    divert(source, sink, &extent)
}

pub(crate) fn splice(source: &Connection, destination: &Connection, extent: Extent) -> u64 {
    let to = destination.wire();
    if !to.is_writable() {
        return refused(ErrorCode::Closed, "the other connection is closed");
    }
    let id = divert(source, Sink::Connection(to.id), &extent);
    if reactor::with(|reactor| reactor.moves.contains_key(&id)) {
        to.behind.borrow_mut().push_back(Step::Splice(id));
    }
    id
}

/// What comes goes elsewhere from now on.
fn divert(source: &Connection, sink: Sink, extent: &Extent) -> u64 {
    let wire = source.wire();
    if wire.ending.get() != Ending::Open {
        return refused(ErrorCode::Closed, "the connection is closed");
    }
    if wire.intake.borrow().is_some() || wire.is_securing() {
        return refused(ErrorCode::Busy, "what it receives is being moved already");
    }
    let id = begun(extent);
    wire.intake.replace(Some(Intake { id, sink }));
    id
}

fn begun(extent: &Extent) -> u64 {
    reactor::with(|reactor| {
        let id = reactor.next_id();
        reactor.moves.insert(
            id,
            Move {
                owner: executor::ambient(),
                moved: 0,
                left: extent.length,
                rate: extent.rate.map(|rate| rate.max(1)),
                second: reactor.now,
                in_second: 0,
            },
        );
        id
    })
}

/// An operation that fails as soon as the callback has returned.
pub(crate) fn refused(code: ErrorCode, message: &str) -> u64 {
    reactor::with(|reactor| {
        let id = reactor.next_id();
        reactor.finished.push_back((id, Err(error(code, message))));
        id
    })
}

pub(crate) fn error(code: ErrorCode, message: &str) -> Error {
    Error {
        code,
        message: message.to_owned(),
    }
}

/// The file that the version before had, with its lock: that version is forgotten, and not dropped.
pub(crate) fn adopt_file(id: u64) -> Option<File> {
    let Adoptable(stored, access, changed) =
        reactor::with(|reactor| reactor.adoptable.remove(&id))?;
    Some(File {
        handle: Some(id),
        stored,
        access,
        changed,
    })
}

/// A plugin's handle of a file.
pub(crate) struct File {
    /// What its locks are known by; none for a file that was granted by name.
    handle: Option<u64>,
    stored: Rc<Stored>,
    access: Access,
    /// Tells who watches.
    changed: Rc<dyn Fn()>,
}

impl File {
    /// Its id, under which another version can have it after a swap.
    pub(crate) fn id(&self) -> u64 {
        reactor::with(|reactor| {
            let id = self.handle.unwrap_or_else(|| reactor.next_id());
            let (stored, changed) = (self.stored.clone(), self.changed.clone());
            reactor
                .adoptable
                .insert(id, Adoptable(stored, self.access, changed));
            id
        })
    }

    pub(crate) fn opened(stored: Rc<Stored>, access: Access, changed: Rc<dyn Fn()>) -> Self {
        Self {
            handle: Some(reactor::with(Reactor::next_id)),
            stored,
            access,
            changed,
        }
    }

    pub(crate) fn stored(&self) -> &Rc<Stored> {
        &self.stored
    }

    pub(crate) fn size(&self) -> Result<u64, types::Error> {
        Ok(self.stored.contents.borrow().len() as u64)
    }

    pub(crate) fn read_at(&self, offset: u64, length: u32) -> u64 {
        if length as usize > MAX_TRANSFER {
            return refused(ErrorCode::Invalid, "too much at once");
        }
        let contents = self.stored.contents.borrow();
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = contents.get(begin..).unwrap_or_default();
        let data = rest.get(..length as usize).unwrap_or(rest);
        disk::finished(Ok(Value::Bytes(data.to_vec())))
    }

    pub(crate) fn write_at(&self, offset: u64, data: &[u8]) -> u64 {
        if data.len() > MAX_TRANSFER {
            return refused(ErrorCode::Invalid, "too much at once");
        }
        self.write(|stored| stored.put(offset, data))
    }

    pub(crate) fn append(&self, data: &[u8]) -> u64 {
        let end = self.stored.contents.borrow().len() as u64;
        self.write_at(end, data)
    }

    pub(crate) fn set_size(&self, size: u64) -> u64 {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.write(|stored| stored.contents.borrow_mut().resize(size, 0))
    }

    pub(crate) fn sync(&self) -> u64 {
        disk::finished(Ok(Value::Nothing))
    }

    pub(crate) fn lock(&self, lock: Lock) -> u64 {
        let Some(handle) = self.handle else {
            return refused(ErrorCode::Unsupported, "it was granted by name");
        };
        let mut locks = self.stored.locks.borrow_mut();
        locks.remove(&handle);
        let is_free = match lock {
            Lock::Shared => !locks.values().any(|lock| *lock == Lock::Exclusive),
            Lock::Exclusive => locks.is_empty(),
            Lock::Released => return disk::finished(Ok(Value::Nothing)),
        };
        if !is_free {
            return refused(ErrorCode::Busy, "another handle has a lock");
        }
        locks.insert(handle, lock);
        disk::finished(Ok(Value::Nothing))
    }

    fn write(&self, write: impl FnOnce(&Stored)) -> u64 {
        if self.access == Access::Read {
            return refused(ErrorCode::Denied, "it is open to be read only");
        }
        write(&self.stored);
        (self.changed)();
        disk::finished(Ok(Value::Nothing))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.stored.locks.borrow_mut().remove(&handle);
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").finish_non_exhaustive()
    }
}

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) contents: RefCell<Vec<u8>>,
    pub(crate) access: Access,
    pub(crate) number: u64,
    locks: RefCell<BTreeMap<u64, Lock>>,
}

impl Stored {
    /// One that is granted by itself.
    pub(crate) fn named(contents: Vec<u8>, access: Access) -> Rc<Self> {
        Rc::new(Self {
            contents: contents.into(),
            access,
            number: 0,
            locks: RefCell::default(),
        })
    }

    /// One in a directory; its handles say what may be done.
    pub(crate) fn within(contents: Vec<u8>, number: u64) -> Rc<Self> {
        Rc::new(Self {
            contents: contents.into(),
            access: Access::Write,
            number,
            locks: RefCell::default(),
        })
    }

    /// None if it is shorter than that.
    fn part(&self, extent: &Extent) -> Option<Vec<u8>> {
        let contents = self.contents.borrow();
        let rest = contents.get(usize::try_from(extent.offset).ok()?..)?;
        let part = match extent.length {
            Some(length) => rest.get(..usize::try_from(length).ok()?)?,
            None => rest,
        };
        Some(part.to_vec())
    }

    /// Puts bytes in their place, after zeros if the file ends before it.
    pub(crate) fn put(&self, at: u64, data: &[u8]) {
        let mut contents = self.contents.borrow_mut();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(data.len());
        if contents.len() < end {
            contents.resize(end, 0);
        }
        if let Some(place) = contents.get_mut(at..end) {
            place.copy_from_slice(data);
        }
    }
}

/// What a test grants of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read only.
    Read,
    /// It is read and written.
    Write,
}

/// Bytes that are being moved.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) owner: Option<ConnectionId>,
    pub(crate) moved: u64,
    /// None is up to the end.
    pub(crate) left: Option<u64>,
    rate: Option<u64>,
    /// When the second began in which `in_second` bytes were moved.
    second: Duration,
    in_second: u64,
}

impl Move {
    /// How many bytes it may move now.
    pub(crate) fn allowance(&mut self, now: Duration) -> usize {
        let by_rate = match self.rate {
            Some(rate) => {
                if now.saturating_sub(self.second) >= SECOND {
                    (self.second, self.in_second) = (now, 0);
                }
                rate.saturating_sub(self.in_second)
            }
            None => u64::MAX,
        };
        usize::try_from(by_rate.min(self.left.unwrap_or(u64::MAX))).unwrap_or(usize::MAX)
    }

    /// Takes note of what was moved.
    pub(crate) fn moved(&mut self, count: usize) {
        let count = count as u64;
        self.moved += count;
        self.in_second += count;
        self.left = self.left.map(|left| left.saturating_sub(count));
    }

    /// When it may move more, if its rate is what it waits for.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        let due = self.second.saturating_add(SECOND);
        (self.in_second >= self.rate? && due > now).then_some(due)
    }
}

const SECOND: Duration = Duration::from_secs(1);
