//! What the system says, as the contract has it.

use std::io;

use rustix::io::Errno;

use crate::reactor::{ErrorKind, OperationError};

/// Turns an error of a file operation into a plugin's. Its message names nothing of the host.
pub(crate) fn failure(error: io::Error) -> OperationError {
    use io::ErrorKind as Io;
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        // What is opened without waiting, and is no file: a FIFO without a reader, a socket, a device without a driver.
        Some(Errno::NXIO | Errno::NODEV) => ErrorKind::Denied,
        Some(Errno::PERM | Errno::ACCESS | Errno::ROFS) => ErrorKind::Denied,
        Some(Errno::MFILE | Errno::NFILE | Errno::MLINK | Errno::NOBUFS) => ErrorKind::Limit,
        Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL | Errno::ISDIR) => ErrorKind::Invalid,
        Some(Errno::FBIG) => ErrorKind::Full,
        Some(Errno::XDEV) => ErrorKind::Unsupported,
        Some(Errno::NOTEMPTY | Errno::EXIST) => ErrorKind::Exists,
        _ => match error.kind() {
            Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
            Io::AlreadyExists | Io::DirectoryNotEmpty => ErrorKind::Exists,
            Io::PermissionDenied => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::WouldBlock | Io::ResourceBusy | Io::ExecutableFileBusy => ErrorKind::Busy,
            Io::InvalidInput => ErrorKind::Invalid,
            Io::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        },
    };
    OperationError::new(kind, error.to_string())
}
