//! Files and what moves by itself, natively.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::reactor::{self, Connection, Ending, Intake, Sink, Step};
use crate::{
    bindings::nethost::plugin::{
        bulk::Extent,
        types::{self, ErrorCode},
    },
    connection::ConnectionId,
    executor,
    types::Error,
};

pub(crate) fn named_file(name: &str) -> Result<File, types::Error> {
    let file = reactor::with(|reactor| reactor.files.get(name).cloned());
    file.map(File).ok_or_else(|| types::Error {
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
    let Some(part) = file.0.part(&extent) else {
        return refused(ErrorCode::Invalid, "the file is shorter than that");
    };
    let id = begun(&extent);
    let rest = part.into();
    wire.behind.borrow_mut().push_back(Step::File { id, rest });
    id
}

pub(crate) fn receive_file(source: &Connection, file: &File, extent: Extent) -> u64 {
    if file.0.access == Access::Read {
        return refused(ErrorCode::Denied, "the file was granted to be read");
    }
    let sink = Sink::File {
        file: Rc::clone(&file.0),
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

/// A plugin's handle of a file.
#[derive(Debug)]
pub(crate) struct File(Rc<Stored>);

impl File {
    pub(crate) fn size(&self) -> Result<u64, types::Error> {
        Ok(self.0.contents.borrow().len() as u64)
    }
}

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) contents: RefCell<Vec<u8>>,
    pub(crate) access: Access,
}

impl Stored {
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

/// What a test grants of a file.
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
