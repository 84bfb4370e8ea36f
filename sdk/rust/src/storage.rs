//! Files that the operator granted.

use std::fmt;

use crate::{host, types::Error};

/// An open file. Dropping it closes it; what is being moved to or from it goes on.
///
/// A plugin does not read or write it: [`Connection::send_file`](crate::Connection::send_file) and
/// [`receive_file`](crate::Connection::receive_file) let the host do so.
pub struct File(host::File);

impl File {
    /// Opens the file that the operator granted under this name (`--file NAME=PATH`).
    ///
    /// Errors: `denied` (none is granted under that name), `limit` (this instance has too many open files).
    pub fn named(name: &str) -> Result<Self, Error> {
        Ok(Self(host::named_file(name)?))
    }

    /// Its length now, in bytes. Errors: `io`.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.0.size()?)
    }

    pub(crate) fn raw(&self) -> &host::File {
        &self.0
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}
