//! Files and directories that the operator granted.

use std::{fmt, time::Duration};

pub use crate::bindings::nethost::plugin::storage::{
    Kind as FileKind, Lock as FileLock, Opening as FileOpening,
};
use crate::{
    bindings::nethost::plugin::storage::{Entry, Metadata, Page},
    deferred::{self, Deferred},
    host,
    types::Error,
};

/// An open file. Dropping it closes it, which releases its lock; what is being moved to or from it goes on.
///
/// Each method but [`size`](Self::size) is a [`Deferred`], which completes after the callback. Reading much to send it is the host's business:
/// [`Connection::send_file`](crate::Connection::send_file), and [`receive_file`](crate::Connection::receive_file) the other way.
pub struct File(host::File);

impl File {
    /// Opens the file that the operator granted under this name (`--file NAME=PATH`).
    ///
    /// Errors: `denied` (none is granted under that name), `limit` (this instance has too many open files).
    pub fn named(name: &str) -> Result<Self, Error> {
        Ok(Self(host::named_file(name)?))
    }

    /// Its id, under which the next version of the plugin can [adopt](Self::adopt) it.
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// The file that the version before had open, with its lock: in [`Snapshot::restore`](crate::Snapshot::restore) and
    /// [`restore_session`](crate::Snapshot::restore_session) only. What is not adopted is closed.
    pub fn adopt(id: u64) -> Option<Self> {
        host::adopt_file(id).map(Self)
    }

    /// Its length now, in bytes. Errors: `io`.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.0.size()?)
    }

    /// Reads from this position on: so many bytes, or fewer if the file ends before, none at its end. Errors: `invalid` (more than [`MAX_TRANSFER`]).
    pub fn read_at(&self, offset: u64, length: u32) -> Deferred<Vec<u8>> {
        deferred::bytes(self.0.read_at(offset, length))
    }

    /// Writes from this position on, after zeros if the file ends before it.
    ///
    /// Writes and [`sync`](Self::sync)s of one `File` happen in the order in which they were called. Errors: `invalid` (more than [`MAX_TRANSFER`]), `denied` (it was
    /// opened to be read), `full`.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Deferred<()> {
        deferred::nothing(self.0.write_at(offset, data))
    }

    /// Writes at the end, wherever that is by then. Errors: as for [`write_at`](Self::write_at).
    pub fn append(&self, data: &[u8]) -> Deferred<()> {
        deferred::nothing(self.0.append(data))
    }

    /// Cuts it to this length in bytes, or fills it up with zeros. Errors: `denied`, `full`.
    pub fn set_size(&self, size: u64) -> Deferred<()> {
        deferred::nothing(self.0.set_size(size))
    }

    /// Completes when what was written before survives a loss of power. The name of a new file needs [`Directory::sync`] as well.
    pub fn sync(&self) -> Deferred<()> {
        deferred::nothing(self.0.sync())
    }

    /// Takes, changes or releases its lock, which keeps others from locks and from nothing else. Errors: `busy` (nobody waits here: try again later, and what
    /// it had before is gone then), `unsupported` (a file of [`named`](Self::named)).
    pub fn lock(&self, lock: FileLock) -> Deferred<()> {
        deferred::nothing(self.0.lock(lock))
    }

    pub(crate) fn new(raw: host::File) -> Self {
        Self(raw)
    }

    pub(crate) fn raw(&self) -> &host::File {
        &self.0
    }
}

/// A directory that the operator granted, with everything in it.
///
/// A path is relative, with one `/` between its names, none of which is empty, `.` or `..`; `.` alone is the directory itself. What is at most 4,096 bytes of UTF-8 and
/// comes from a peer may be passed as it is: what is not a path, and what leads out of the directory by a link, is refused. Errors of all: `invalid`, `denied`,
/// `not-found`, `limit`, `full`, `busy`, `io`.
///
/// ```
/// use nethost_sdk::{Deferred, Directory, Error, FileOpening};
///
/// /// The first line of a motto, if there is one.
/// fn motto() -> Result<Deferred<String>, Error> {
///     let directory = Directory::named("site")?;
///     Ok(directory.open("motto.txt", FileOpening::Read).then(|file| async move {
///         let start = file.read_at(0, 4096).await?;
///         let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
///         Ok(String::from_utf8_lossy(line).into_owned())
///     }))
/// }
/// ```
pub struct Directory(host::Directory);

impl Directory {
    /// The directory that the operator granted under this name (`--dir NAME=PATH`); `plugin.toml` asks for it in `[grants.directories.NAME]`.
    ///
    /// Errors: `denied` (none is granted under that name), `limit` (this instance has too many handles of directories).
    pub fn named(name: &str) -> Result<Self, Error> {
        Ok(Self(host::named_directory(name)?))
    }

    /// Whether something in it may be changed; if not, what would do so is `denied`.
    pub fn is_writable(&self) -> bool {
        self.0.is_writable()
    }

    /// Opens a file. Errors: `exists`, `invalid` (it is a directory), `denied` (it is no regular file).
    pub fn open(&self, path: &str, opening: FileOpening) -> Deferred<File> {
        deferred::taken(self.0.open(path, opening), |id| {
            host::take_file(id).map(File)
        })
    }

    /// Tells what is there, links followed.
    pub fn stat(&self, path: &str) -> Deferred<FileMetadata> {
        deferred::taken(self.0.stat(path), |id| {
            host::take_metadata(id).map(FileMetadata::from_contract)
        })
    }

    /// Lists a directory, at most 256 entries at a time, from where the page before says, or 0.
    pub fn list_page(&self, path: &str, start: u64) -> Deferred<DirectoryPage> {
        deferred::taken(self.0.list_page(path, start), |id| {
            host::take_page(id).map(DirectoryPage::from_contract)
        })
    }

    /// Makes a directory; the one that it is in must be there. Errors: `exists`.
    pub fn make_directory(&self, path: &str) -> Deferred<()> {
        deferred::nothing(self.0.make_directory(path))
    }

    /// Renames an entry in one step; what is there under the new name is replaced.
    pub fn rename(&self, old: &str, new: &str) -> Deferred<()> {
        deferred::nothing(self.0.rename(old, new))
    }

    /// Gives a file one more name, and never replaces another. Errors: `exists`, `denied` (a directory), `unsupported`.
    pub fn link(&self, old: &str, new: &str) -> Deferred<()> {
        deferred::nothing(self.0.link(old, new))
    }

    /// Removes a file, or a link itself. Who has it open keeps it. Errors: `invalid` (a directory).
    pub fn remove_file(&self, path: &str) -> Deferred<()> {
        deferred::nothing(self.0.remove_file(path))
    }

    /// Removes an empty directory. Errors: `exists` (it is not empty).
    pub fn remove_directory(&self, path: &str) -> Deferred<()> {
        deferred::nothing(self.0.remove_directory(path))
    }

    /// Completes when the names in this directory survive a loss of power.
    pub fn sync(&self, path: &str) -> Deferred<()> {
        deferred::nothing(self.0.sync(path))
    }

    /// Completes once, when something in this directory changes from now on, by whomever. To miss nothing, watch first and list then.
    pub fn watch(&self, path: &str) -> Deferred<()> {
        deferred::nothing(self.0.watch(path))
    }
}

/// What is known of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file; without meaning for everything else.
    pub size: u64,
    /// When its contents last changed, since 1970-01-01T00:00:00Z, as [`clock::wall`](crate::clock::wall) counts.
    pub modified: Duration,
    /// The same while it is renamed, another once another file has its name.
    pub number: u64,
}

impl FileMetadata {
    fn from_contract(metadata: Metadata) -> Self {
        Self {
            kind: metadata.kind,
            size: metadata.size,
            modified: Duration::from_nanos(metadata.modified),
            number: metadata.number,
        }
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, without the directory's.
    pub name: String,
    /// What it is itself: of a link, the link.
    pub metadata: FileMetadata,
}

/// A part of a directory's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryPage {
    /// In the system's order.
    pub entries: Vec<DirectoryEntry>,
    /// How many more there were whose names are not UTF-8: no path reaches them.
    pub unnameable: u32,
    /// Where to go on; none after the last.
    pub next: Option<u64>,
}

impl DirectoryPage {
    fn from_contract(page: Page) -> Self {
        let entries = page.entries.into_iter().map(|entry: Entry| DirectoryEntry {
            name: entry.name,
            metadata: FileMetadata::from_contract(entry.metadata),
        });
        Self {
            entries: entries.collect(),
            unnameable: page.unnameable,
            next: page.next,
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory")
    }
}

/// The most bytes of one [`File::read_at`], [`write_at`](File::write_at) or [`append`](File::append): 1 MiB.
pub const MAX_TRANSFER: usize = 1 << 20;
