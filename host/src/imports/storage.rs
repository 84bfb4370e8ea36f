//! `storage`: the files and directories that a service was granted.

use wasmtime::component::Resource;

use super::convert;
use crate::{
    bindings::nethost::plugin::storage::{
        Entry as WitEntry, Error, Host, HostDirectory, HostFile as FileMethods, Id,
        Kind as WitKind, Lock as WitLock, Metadata as WitMetadata, Opening as WitOpening,
        Page as WitPage,
    },
    files::{HostFile, Lock},
    instance::State,
    metrics::meters::Limit,
    reactor::{self, Change, ErrorKind, Found, OperationError},
    storage::{Directory, Entry, Kind, Metadata, Opening},
};

impl Host for State {
    fn named_file(&mut self, name: String) -> wasmtime::Result<Result<Resource<HostFile>, Error>> {
        let program = self.holdings.program();
        let Some(file) = program.grants.files.get(&name) else {
            return Ok(Err(not_granted("file", &name, "--file")));
        };
        let limit = program.limits.open_files;
        if self.files.len() >= limit {
            self.holdings.meters().limits.count(Limit::OpenFiles);
            return Ok(Err(too_many("files", limit)));
        }
        let (id, file) = (self.holdings.next_id(), file.clone());
        Ok(Ok(self.own_file(id, file)?))
    }

    fn named_directory(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Resource<Directory>, Error>> {
        let program = self.holdings.program();
        let Some(directory) = program.grants.directories.get(&name) else {
            return Ok(Err(not_granted("directory", &name, "--dir")));
        };
        let limit = program.limits.open_files;
        if self.directories.len() >= limit {
            self.holdings.meters().limits.count(Limit::OpenFiles);
            return Ok(Err(too_many("directories", limit)));
        }
        let index = self.directories.insert(directory.clone());
        Ok(Ok(Resource::new_own(u32::try_from(index)?)))
    }

    fn take_file(&mut self, id: Id) -> wasmtime::Result<Option<Resource<HostFile>>> {
        let file = self.take(id, |found| match found {
            Found::File(file) => Some(file),
            _ => None,
        })?;
        let Some(file) = file else {
            return Ok(None);
        };
        let id = self.holdings.next_id();
        Ok(Some(self.own_file(id, file)?))
    }

    fn adopt_file(&mut self, id: Id) -> wasmtime::Result<Option<Resource<HostFile>>> {
        let id = reactor::Id(id);
        match self.adoptable.remove(&id) {
            Some(file) => Ok(Some(self.own_file(id, file)?)),
            None => Ok(None),
        }
    }

    fn take_metadata(&mut self, id: Id) -> wasmtime::Result<Option<WitMetadata>> {
        self.take(id, |found| match found {
            Found::Metadata(metadata) => Some(convert_metadata(metadata)),
            _ => None,
        })
    }

    fn take_page(&mut self, id: Id) -> wasmtime::Result<Option<WitPage>> {
        self.take(id, |found| match found {
            Found::Page(page) => Some(WitPage {
                entries: page.0.entries.iter().map(convert_entry).collect(),
                unnameable: page.0.unnameable,
                next: page.0.next,
            }),
            _ => None,
        })
    }
}

impl FileMethods for State {
    fn id(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<Id> {
        Ok(self.file_id(&handle)?.0)
    }

    fn size(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<Result<u64, Error>> {
        let size = self.file(&handle)?.size();
        Ok(size.map_err(|error| convert::error(error.into())))
    }

    fn read_at(
        &mut self,
        handle: Resource<HostFile>,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        self.begin(0, move |holdings, id| {
            holdings.read_at(id, file, offset, length);
        })
    }

    fn write_at(
        &mut self,
        handle: Resource<HostFile>,
        offset: u64,
        data: Vec<u8>,
    ) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        self.begin(data.len(), move |holdings, id| {
            holdings.write_file(id, file, Some(offset), data);
        })
    }

    fn append(&mut self, handle: Resource<HostFile>, data: Vec<u8>) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        self.begin(data.len(), move |holdings, id| {
            holdings.write_file(id, file, None, data);
        })
    }

    fn set_size(&mut self, handle: Resource<HostFile>, size: u64) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        self.begin(0, move |holdings, id| holdings.set_size(id, file, size))
    }

    fn sync(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        self.begin(0, move |holdings, id| holdings.sync_file(id, file))
    }

    fn lock(&mut self, handle: Resource<HostFile>, lock: WitLock) -> wasmtime::Result<Id> {
        let file = self.file(&handle)?.clone();
        let lock = match lock {
            WitLock::Shared => Lock::Shared,
            WitLock::Exclusive => Lock::Exclusive,
            WitLock::Released => Lock::Released,
        };
        self.begin(0, move |holdings, id| holdings.lock(id, file, lock))
    }

    fn drop(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<()> {
        self.files.try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}

impl HostDirectory for State {
    fn is_writable(&mut self, handle: Resource<Directory>) -> wasmtime::Result<bool> {
        Ok(self.directory(&handle)?.is_writable())
    }

    fn open(
        &mut self,
        handle: Resource<Directory>,
        path: String,
        opening: WitOpening,
    ) -> wasmtime::Result<Id> {
        let directory = self.directory(&handle)?.clone();
        let opening = convert_opening(opening);
        self.begin(path.len(), move |holdings, id| {
            holdings.open_file(id, &directory, path, opening);
        })
    }

    fn stat(&mut self, handle: Resource<Directory>, path: String) -> wasmtime::Result<Id> {
        let directory = self.directory(&handle)?.clone();
        self.begin(path.len(), move |holdings, id| {
            holdings.stat(id, &directory, path);
        })
    }

    fn list_page(
        &mut self,
        handle: Resource<Directory>,
        path: String,
        start: u64,
    ) -> wasmtime::Result<Id> {
        let directory = self.directory(&handle)?.clone();
        self.begin(path.len(), move |holdings, id| {
            holdings.list_page(id, &directory, path, start);
        })
    }

    fn make_directory(
        &mut self,
        handle: Resource<Directory>,
        path: String,
    ) -> wasmtime::Result<Id> {
        self.change(&handle, Change::MakeDirectory, path, String::new())
    }

    fn rename(
        &mut self,
        handle: Resource<Directory>,
        old: String,
        new: String,
    ) -> wasmtime::Result<Id> {
        self.change(&handle, Change::Rename, old, new)
    }

    fn link(
        &mut self,
        handle: Resource<Directory>,
        old: String,
        new: String,
    ) -> wasmtime::Result<Id> {
        self.change(&handle, Change::Link, old, new)
    }

    fn remove_file(&mut self, handle: Resource<Directory>, path: String) -> wasmtime::Result<Id> {
        self.change(&handle, Change::RemoveFile, path, String::new())
    }

    fn remove_directory(
        &mut self,
        handle: Resource<Directory>,
        path: String,
    ) -> wasmtime::Result<Id> {
        self.change(&handle, Change::RemoveDirectory, path, String::new())
    }

    fn sync(&mut self, handle: Resource<Directory>, path: String) -> wasmtime::Result<Id> {
        let directory = self.directory(&handle)?.clone();
        self.begin(path.len(), move |holdings, id| {
            holdings.sync_directory(id, &directory, path);
        })
    }

    fn watch(&mut self, handle: Resource<Directory>, path: String) -> wasmtime::Result<Id> {
        let directory = self.directory(&handle)?.clone();
        self.begin(path.len(), move |holdings, id| {
            holdings.watch(id, &directory, path);
        })
    }

    fn drop(&mut self, handle: Resource<Directory>) -> wasmtime::Result<()> {
        self.directories.try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}

impl State {
    fn change(
        &mut self,
        handle: &Resource<Directory>,
        change: Change,
        path: String,
        other: String,
    ) -> wasmtime::Result<Id> {
        let directory = self.directory(handle)?.clone();
        self.begin(path.len() + other.len(), move |holdings, id| {
            holdings.change(id, &directory, change, path, other);
        })
    }
}

fn not_granted(what: &str, name: &str, flag: &str) -> Error {
    let shown: String = name.chars().take(LONGEST_SHOWN).collect();
    let message = format!(
        "no {what} is granted as `{}`; the operator may grant one with {flag}",
        shown.escape_debug()
    );
    convert::error(OperationError::new(ErrorKind::Denied, message))
}

fn too_many(what: &str, limit: usize) -> Error {
    let message = format!("{limit} {what} are open");
    convert::error(OperationError::new(ErrorKind::Limit, message))
}

pub(super) fn convert_opening(opening: WitOpening) -> Opening {
    match opening {
        WitOpening::Read => Opening::Read,
        WitOpening::Update => Opening::Update,
        WitOpening::Create => Opening::Create,
        WitOpening::CreateNew => Opening::CreateNew,
        WitOpening::Replace => Opening::Replace,
    }
}

fn convert_entry(entry: &Entry) -> WitEntry {
    WitEntry {
        name: entry.name.clone(),
        metadata: convert_metadata(entry.metadata),
    }
}

fn convert_metadata(metadata: Metadata) -> WitMetadata {
    WitMetadata {
        kind: match metadata.kind {
            Kind::File => WitKind::File,
            Kind::Directory => WitKind::Directory,
            Kind::Link => WitKind::Link,
            Kind::Other => WitKind::Other,
        },
        size: metadata.size,
        modified: metadata.modified,
        number: metadata.number,
    }
}

/// Characters of a name that an error quotes.
const LONGEST_SHOWN: usize = 100;
