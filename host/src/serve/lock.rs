//! The lock of the admin socket: two hosts that are to be administered at one place are one too many.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use thiserror::Error;

/// Holds `PATH.lock` until it is dropped, or the process ends in whatever way. The file stays: to remove it would let two hold a lock of that name.
#[derive(Debug)]
pub(crate) struct AdminLock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    /// Another process has it.
    #[error(
        "another nethost has the admin socket {}: its lock {} is held; stop that one, or give this one another `admin`",
        socket.display(),
        lock.display()
    )]
    Held {
        /// The socket.
        socket: PathBuf,
        /// The lock's file.
        lock: PathBuf,
    },
    /// It cannot be made.
    #[error("locking {}", lock.display())]
    Io {
        /// The lock's file.
        lock: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl AdminLock {
    /// Takes the lock of a socket's path.
    pub(crate) fn take(socket: &Path) -> Result<Self, LockError> {
        let mut lock = socket.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let failed = |error| LockError::Io {
            lock: lock.clone(),
            error,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held {
                socket: socket.to_owned(),
                lock,
            }),
            Err(error) => Err(failed(error.into())),
        }
    }
}
