//! Files that the operator opened for a service.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSliceMut},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use thiserror::Error;

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

/// What may be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// It is read.
    ReadOnly,
    /// It is read and written.
    ReadWrite,
}

/// Why a text is not a [`FileGrant`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a file to grant; write NAME=PATH, NAME=PATH:ro or NAME=PATH:rw")]
pub struct InvalidFileGrant(String);

/// An open file.
#[derive(Clone, Debug)]
pub struct HostFile {
    file: Arc<File>,
    mode: FileMode,
}

impl FileGrant {
    /// Opens the file.
    pub fn open(&self) -> io::Result<HostFile> {
        let file = match self.mode {
            FileMode::ReadOnly => File::open(&self.path)?,
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
        Ok(HostFile {
            file: Arc::new(file),
            mode: self.mode,
        })
    }
}

impl FromStr for FileGrant {
    type Err = InvalidFileGrant;

    fn from_str(text: &str) -> Result<Self, InvalidFileGrant> {
        let invalid = || InvalidFileGrant(text.to_owned());
        let (name, rest) = text.split_once('=').ok_or_else(invalid)?;
        let (path, mode) = if let Some(path) = rest.strip_suffix(":rw") {
            (path, FileMode::ReadWrite)
        } else {
            (rest.strip_suffix(":ro").unwrap_or(rest), FileMode::ReadOnly)
        };
        if name.is_empty() || path.is_empty() {
            return Err(invalid());
        }
        Ok(Self {
            name: name.to_owned(),
            path: Path::new(path).to_owned(),
            mode,
        })
    }
}

impl HostFile {
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

    /// Reads what is in memory already; [`io::ErrorKind::WouldBlock`] if that needs the disk.
    ///
    /// A file system that cannot tell (`EOPNOTSUPP`) is asked as if it was all in memory.
    pub(crate) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = |buffer: &mut [u8], flags| {
            preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset, flags)
        };
        match read(buffer, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) => Ok(read(buffer, ReadWriteFlags::empty())?),
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
