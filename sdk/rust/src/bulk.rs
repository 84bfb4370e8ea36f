//! Bytes that the host moves by itself, so that none of them passes through the plugin: from a [`File`] to a connection, from a connection to a
//! [`File`], from one connection to another.
//!
//! The functions that start it are the [`Connection`]'s: [`send_file`](Connection::send_file), [`receive_file`](Connection::receive_file) and
//! [`splice`](Connection::splice). Each is a [`Deferred`] of how many bytes were moved; dropping that stops it where it is.

use crate::{
    bindings::nethost::plugin::bulk,
    connection::Connection,
    deferred::{self, Deferred, OperationId},
    host,
    storage::File,
};

impl Connection {
    /// Sends a part of a file, after what was written before and before what is written later. It is done when the kernel has all of it.
    ///
    /// Errors: `invalid` (the file is shorter than that), `closed`, `io` (the disk failed, or the file became shorter: the peer has got less than was
    /// promised).
    ///
    /// ```
    /// use nethost_sdk::{Connection, Deferred, Error, Extent, File};
    ///
    /// /// Half of a download, at most 64 KiB a second.
    /// fn send_rest(connection: &Connection, from: u64) -> Result<Deferred<u64>, Error> {
    ///     let file = File::named("welcome")?;
    ///     Ok(connection.send_file(&file, Extent::all().from(from).rate(64 * 1024)))
    /// }
    /// ```
    pub fn send_file(&self, file: &File, extent: Extent) -> Deferred<u64> {
        deferred::number(host::send_file(
            self.raw(),
            file.raw(),
            extent.into_contract(),
        ))
    }

    /// Writes what comes to a file, in place of `data_received`, until the length is reached or the peer's end comes, which `read_closed` tells then.
    ///
    /// What comes after the length goes to `data_received`; what the plugin has received already does not go to the file. [`pause_reading`](Self::pause_reading)
    /// holds it as well. Errors: `denied` (the file was granted to be read only), `busy` (something else takes what comes), `closed`, `reset`, `full`,
    /// `io`.
    pub fn receive_file(&self, file: &File, extent: Extent) -> Deferred<u64> {
        deferred::number(host::receive_file(
            self.raw(),
            file.raw(),
            extent.into_contract(),
        ))
    }

    /// Sends what comes here to another connection, in place of `data_received`, until the length is reached or the peer's end comes.
    ///
    /// `read_closed` tells the end then; nothing is closed by itself. On the other connection it has its place between what was written before and what is
    /// written later. It is done when the kernel has all of it. Two splices make a connection in both directions. Errors: `busy` (something else takes
    /// what comes), `closed` (the other connection is lost, and what comes goes to `data_received` again), `reset` (this one is lost).
    pub fn splice(&self, destination: &Self, extent: Extent) -> Deferred<u64> {
        deferred::number(host::splice(
            self.raw(),
            destination.raw(),
            extent.into_contract(),
        ))
    }
}

/// What is moved, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it describes what to move and moves nothing"]
pub struct Extent {
    offset: u64,
    length: Option<u64>,
    rate: Option<u64>,
}

impl Extent {
    /// Everything, up to the end of the file or of the stream, as fast as it goes.
    pub fn all() -> Self {
        Self {
            offset: 0,
            length: None,
            rate: None,
        }
    }

    /// Begins at this byte of the file. Without meaning for a splice.
    pub fn from(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Moves this many bytes.
    pub fn length(self, length: u64) -> Self {
        Self {
            length: Some(length),
            ..self
        }
    }

    /// Moves at most so many bytes a second. 0 is as good as 1.
    pub fn rate(self, bytes_per_second: u64) -> Self {
        Self {
            rate: Some(bytes_per_second),
            ..self
        }
    }

    fn into_contract(self) -> bulk::Extent {
        bulk::Extent {
            offset: self.offset,
            length: self.length,
            rate: self.rate,
        }
    }
}

/// How many bytes an operation of this module, by its [`Deferred::id`], has moved so far; none if it is complete, or unknown.
pub fn progress(id: OperationId) -> Option<u64> {
    host::progress(id.as_u64())
}

/// An operation of this module that was started before a swap, by the id that the saved state has.
pub fn adopt(id: OperationId) -> Deferred<u64> {
    deferred::number(id.as_u64())
}
