//! Files that one process holds as long as it lives: so that there is one of it, and so that it can be found.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
};

use rustix::fs::{FlockOperation, OFlags, flock};
use thiserror::Error;

/// A file with the number of this process in it, locked until it is dropped, and then removed.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _file: File,
}

/// Why a file cannot be locked.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    #[error("{} is held by another nethost{}", .path.display(), by(.pid))]
    Held { path: PathBuf, pid: String },
    #[error("locking {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

fn by(pid: &str) -> String {
    if pid.is_empty() {
        String::new()
    } else {
        format!(" (process {pid})")
    }
}

impl LockFile {
    /// Locks a file, which is made if it is not there, and writes the number of this process into it (mode 644, as pid files have).
    pub(crate) fn hold(path: &Path) -> Result<Self, LockError> {
        let failed = |error: io::Error| LockError::Io {
            path: path.to_owned(),
            error,
        };
        loop {
            let mut file = open(path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => {
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        pid: pid_in(&mut file),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The one who held it may have removed it between.
            if !is_at(&file, path).map_err(failed)? {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            writeln!(file, "{}", process::id()).map_err(failed)?;
            return Ok(Self {
                path: path.to_owned(),
                _file: file,
            });
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A process that gave up root may not, if it is in a folder of root's; the next one finds it unlocked.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "removing {}", self.path.display());
        }
    }
}

/// Opens or makes the file. Its folder may be somebody's who would like root to write elsewhere: no link is followed, and no file with a second name is taken.
fn open(path: &Path) -> io::Result<File> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(nofollow)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file with one name",
        ))
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the number in a file, or nothing.
fn pid_in(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(LONGEST_PID).read_to_string(&mut text);
    let is_number = read.is_ok() && text.trim().bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        text.trim().to_owned()
    } else {
        String::new()
    }
}

/// Bytes of the longest number of a process, with its line's end: 4,194,304 is the highest (proc(5), pid_max).
const LONGEST_PID: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_it_and_it_goes_with_that() {
        let folder = std::env::temp_dir().join(format!("nethost-lock-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("nethost.pid");
        fs::write(&path, "what a process that was killed left behind\n").unwrap();
        let held = LockFile::hold(&path).unwrap();
        let own = process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        let error = LockFile::hold(&path).unwrap_err().to_string();
        let expected = format!(
            "{} is held by another nethost (process {own})",
            path.display()
        );
        assert_eq!(error, expected);
        drop(held);
        assert!(!path.exists());
        drop(LockFile::hold(&path).unwrap());
        // Nobody else's file is written to.
        let victim = folder.join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(LockFile::hold(&path).is_err());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(LockFile::hold(&path).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let error = LockFile::hold(&folder.join("no/such")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
