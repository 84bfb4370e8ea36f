//! What a new version does to the world before it is certain that it will serve is held, and let out at commit.

use std::rc::Rc;

use wasmtime::component::Resource;

use super::State;
use crate::{
    files::HostFile,
    reactor::{Connection, Group, Holdings, Id, Socket},
    storage::Directory,
};

/// Whether effects happen at once, or wait.
pub(crate) enum Staging {
    /// They happen at once.
    Live,
    /// They wait for the commit, in order.
    Held {
        /// What waits.
        effects: Vec<Effect>,
        /// Bytes that wait to be written.
        bytes: usize,
    },
}

impl Staging {
    /// Everything waits, and nothing does yet.
    pub(super) fn held() -> Self {
        Self::Held {
            effects: Vec::new(),
            bytes: 0,
        }
    }
}

/// Something that a host function does to the world.
pub(crate) type Effect = Box<dyn FnOnce(&Rc<Holdings>)>;

impl State {
    /// Makes a handle for the guest to own.
    pub(crate) fn own(&mut self, connection: &Rc<Connection>) -> Resource<Connection> {
        let index = self.connections.insert(connection.clone());
        Resource::new_own(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Makes a handle of a socket for the guest to own.
    pub(crate) fn own_socket(&mut self, socket: &Rc<Socket>) -> Resource<Socket> {
        let index = self.sockets.insert(socket.clone());
        Resource::new_own(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Returns the socket that a handle means.
    pub(crate) fn socket(&self, handle: &Resource<Socket>) -> wasmtime::Result<&Rc<Socket>> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.sockets.get(index))
            .ok_or_else(|| wasmtime::format_err!("a socket handle that the host never gave"))
    }

    /// Returns the connection that a handle means.
    pub(crate) fn connection(
        &self,
        handle: &Resource<Connection>,
    ) -> wasmtime::Result<&Rc<Connection>> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.connections.get(index))
            .ok_or_else(|| wasmtime::format_err!("a connection handle that the host never gave"))
    }

    /// Returns the group that a handle means.
    pub(crate) fn group(&self, handle: &Resource<Group>) -> wasmtime::Result<&Rc<Group>> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.groups.get(index))
            .ok_or_else(|| wasmtime::format_err!("a group handle that the host never gave"))
    }

    /// Returns the file that a handle means.
    pub(crate) fn file(&self, handle: &Resource<HostFile>) -> wasmtime::Result<&HostFile> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.files.get(index))
            .map(|(_, file)| file)
            .ok_or_else(|| wasmtime::format_err!("a file handle that the host never gave"))
    }

    /// Makes a handle of an open file for the guest to own.
    pub(crate) fn own_file(
        &mut self,
        id: Id,
        file: HostFile,
    ) -> wasmtime::Result<Resource<HostFile>> {
        let index = self.files.insert((id, file));
        Ok(Resource::new_own(u32::try_from(index)?))
    }

    /// Returns the id of the file that a handle means.
    pub(crate) fn file_id(&self, handle: &Resource<HostFile>) -> wasmtime::Result<Id> {
        let index = usize::try_from(handle.rep())?;
        let file = self.files.get(index);
        file.map(|(id, _)| *id)
            .ok_or_else(|| wasmtime::format_err!("a file handle that the host never gave"))
    }

    /// Returns the directory that a handle means.
    pub(crate) fn directory(&self, handle: &Resource<Directory>) -> wasmtime::Result<&Directory> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.directories.get(index))
            .ok_or_else(|| wasmtime::format_err!("a directory handle that the host never gave"))
    }

    /// Does something to the world that takes `size` bytes to remember, now or at the commit. What would have to be remembered is limited; an error
    /// ends the new version, not the old one.
    pub(crate) fn perform(
        &mut self,
        size: usize,
        effect: impl FnOnce(&Rc<Holdings>) + 'static,
    ) -> wasmtime::Result<()> {
        match &mut self.staging {
            Staging::Live => effect(&self.holdings),
            Staging::Held { effects, bytes } => {
                *bytes = bytes.saturating_add(size);
                if effects.len() >= MOST_EFFECTS || *bytes > MOST_BYTES {
                    wasmtime::bail!("it did too much before it was in charge");
                }
                // What is started is the session's in whose call it was started, now as well as later.
                let owner = self.holdings.entered();
                effects.push(Box::new(move |holdings| {
                    let outer = holdings.enter(owner);
                    effect(holdings);
                    holdings.enter(outer);
                }));
            }
        }
        Ok(())
    }

    /// Returns whether effects happen at once; the hot paths ask before they make one.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.staging, Staging::Live)
    }

    /// Lets out what was held.
    pub(super) fn release(&mut self) {
        if let Staging::Held { effects, .. } = std::mem::replace(&mut self.staging, Staging::Live) {
            for effect in effects {
                effect(&self.holdings);
            }
        }
    }
}

/// Effects that a new version may cause before it is in charge: some for each of 50,000 connections.
const MOST_EFFECTS: usize = 500_000;

/// Bytes that it may write before: 64 MiB.
const MOST_BYTES: usize = 64 << 20;
