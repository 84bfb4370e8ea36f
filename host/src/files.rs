//! Files that a service has open: those that the operator opened for it, and those in directories that it was granted.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, IoSliceMut},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::{Errno, ReadWriteFlags, preadv2, pwritev2},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::storage::Slot;

/// Leave to use one file: `NAME=PATH`, `NAME=PATH:ro` or `NAME=PATH:rw`.
///
/// The plugin knows the name and never sees the path. `ro` (the default) must exist; `rw` is made if it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// What the plugin calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What may be done with it.
    pub mode: FileMode,
}

/// What may be done with a file, or with a directory and everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum FileMode {
    /// It is read.
    #[serde(rename = "ro")]
    ReadOnly,
    /// It is read and written.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// Why a text is not a [`FileGrant`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a file to grant; write NAME=PATH, NAME=PATH:ro or NAME=PATH:rw")]
pub struct InvalidFileGrant(String);

/// An open file.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// None for what the operator opened: it counts in no directory. Dropped before the file is closed: its number may be another file's from then on.
    slot: Option<Arc<Slot>>,
    file: Arc<File>,
    mode: FileMode,
    /// Who writes waits for who wrote before.
    order: Arc<Mutex<()>>,
}

/// What the lock of an open file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Others may have shared ones as well.
    Shared,
    /// Nobody else has one.
    Exclusive,
    /// It has none.
    Released,
}

impl FileGrant {
    /// Opens the file.
    pub fn open(&self) -> io::Result<HostFile> {
        let file = match self.mode {
            FileMode::ReadOnly => open_regular(&self.path)?,
            FileMode::ReadWrite => OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.path)?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        Ok(HostFile::new(file, self.mode, None))
    }
}

/// Opens a file to read it. What is none is refused, and not waited for: a FIFO without a writer would never open.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}

impl FromStr for FileGrant {
    type Err = InvalidFileGrant;

    fn from_str(text: &str) -> Result<Self, InvalidFileGrant> {
        let (name, path, mode) =
            parse_grant(text).ok_or_else(|| InvalidFileGrant(text.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            mode: mode.unwrap_or(FileMode::ReadOnly),
        })
    }
}

/// Reads `NAME=PATH`, with `:ro` or `:rw` after it or not.
pub(crate) fn parse_grant(text: &str) -> Option<(&str, &Path, Option<FileMode>)> {
    let (name, rest) = text.split_once('=')?;
    let (path, mode) = if let Some(path) = rest.strip_suffix(":rw") {
        (path, Some(FileMode::ReadWrite))
    } else if let Some(path) = rest.strip_suffix(":ro") {
        (path, Some(FileMode::ReadOnly))
    } else {
        (rest, None)
    };
    let is_whole = !name.is_empty() && !path.is_empty();
    is_whole.then_some((name, Path::new(path), mode))
}

impl std::fmt::Display for FileMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        })
    }
}

impl HostFile {
    pub(crate) fn new(file: File, mode: FileMode, slot: Option<Slot>) -> Self {
        Self {
            file: Arc::new(file),
            mode,
            order: Arc::default(),
            slot: slot.map(Arc::new),
        }
    }

    /// Returns its length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Returns whether it may be written to.
    pub fn is_writable(&self) -> bool {
        self.mode == FileMode::ReadWrite
    }

    /// Returns the open file itself.
    pub(crate) fn as_file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns what those who write to it hold, one after another.
    pub(crate) fn order(&self) -> &Arc<Mutex<()>> {
        &self.order
    }

    /// Returns whether it was granted by itself, so that every handle of it is the same open file.
    pub(crate) fn is_named(&self) -> bool {
        self.slot.is_none()
    }

    /// Reads that much, or to the end if that comes before. May wait for the disk.
    pub(crate) fn read_full(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        // As far behind the end as can be; the kernel would call it invalid.
        if i64::try_from(offset).is_err() {
            return Ok(Vec::new());
        }
        let mut data = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self
                .file
                .read_at(rest, offset.saturating_add(filled as u64))
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    /// As [`Self::read_full`], if all of it is in memory; none if not, or if the file system cannot tell.
    pub(crate) fn read_full_cached(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        // preadv2(2): -1 is where the file stands.
        if i64::try_from(offset).is_err() {
            return None;
        }
        let rest = self.size().ok()?.saturating_sub(offset);
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        // At the end a byte is asked for all the same: some files do not know their size.
        let wanted = length.min(rest.max(1));
        let mut data = vec![0; wanted];
        let flags = ReadWriteFlags::NOWAIT;
        let buffers = &mut [IoSliceMut::new(&mut data)];
        let count = preadv2(&self.file, buffers, offset, flags).ok()?;
        data.truncate(count);
        (count == wanted.min(rest)).then_some(data)
    }

    /// Writes all of it from a position on, as far as the quota reaches. May wait for the disk.
    pub(crate) fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(Errno::INVAL)?;
        self.grow(
            |size| end.saturating_sub(size),
            || self.file.write_all_at(data, offset),
        )
    }

    /// Writes all of it at the end, wherever that is. May wait for the disk.
    pub(crate) fn append(&self, data: &[u8]) -> io::Result<()> {
        let write = || {
            let mut rest = data;
            while !rest.is_empty() {
                match pwritev2(&self.file, &[IoSlice::new(rest)], 0, ReadWriteFlags::APPEND) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        };
        self.grow(|_| data.len() as u64, write)
    }

    /// Cuts it, or fills it up with zeros. May wait for the disk.
    pub(crate) fn set_size(&self, size: u64) -> io::Result<()> {
        if i64::try_from(size).is_err() {
            return Err(Errno::INVAL.into());
        }
        self.grow(
            |before| size.saturating_sub(before),
            || self.file.set_len(size),
        )
    }

    /// Makes what was written durable. Waits for the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Changes its lock; [`io::ErrorKind::WouldBlock`] if somebody else's excludes that.
    pub(crate) fn lock(&self, lock: Lock) -> io::Result<()> {
        let operation = match lock {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
            Lock::Released => FlockOperation::NonBlockingUnlock,
        };
        Ok(flock(&self.file, operation)?)
    }

    /// Changes its length as far as the quota reaches.
    fn grow(
        &self,
        growth: impl FnOnce(u64) -> u64,
        change: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match &self.slot {
            Some(slot) => slot.change(&self.file, growth, change),
            None => change(),
        }
    }

    /// Reads what is in memory already; [`io::ErrorKind::WouldBlock`] if that needs the disk.
    ///
    /// A file system that cannot tell (`EOPNOTSUPP`) may need the disk for anything.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let buffers = &mut [IoSliceMut::new(buffer)];
        match preadv2(&self.file, buffers, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_name_a_path_and_a_mode() {
        for (text, expected) in [
            ("log=/tmp/x", Some(("log", "/tmp/x", FileMode::ReadOnly))),
            ("log=x:ro", Some(("log", "x", FileMode::ReadOnly))),
            ("log=a=b:rw", Some(("log", "a=b", FileMode::ReadWrite))),
            ("log=a:b", Some(("log", "a:b", FileMode::ReadOnly))),
            ("log", None),
            ("=x", None),
            ("log=", None),
            ("log=:rw", None),
        ] {
            let grant = text.parse::<FileGrant>().ok();
            let grant = grant.as_ref().map(|grant| {
                let path = grant.path.to_str().unwrap();
                (grant.name.as_str(), path, grant.mode)
            });
            assert_eq!(grant, expected, "{text}");
        }
    }
}
