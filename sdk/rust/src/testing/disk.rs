//! Directories in memory, natively.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use super::{
    bulk::{Access, File, Stored, error, refused},
    reactor,
};
use crate::{
    Error,
    bindings::nethost::plugin::{
        deferred::Value,
        storage::{Entry, Kind, Metadata, Opening, Page},
        types::{self, ErrorCode},
    },
    connection::ConnectionId,
    executor,
};

pub(crate) fn named_directory(name: &str) -> Result<Directory, types::Error> {
    let folder = reactor::with(|reactor| reactor.folders.get(name).cloned());
    folder.map(Directory).ok_or_else(|| types::Error {
        code: ErrorCode::Denied,
        message: "no directory is granted under that name".to_owned(),
    })
}

pub(crate) fn take_file(id: u64) -> Option<File> {
    take(id, |found| match found {
        Found::File(file) => Ok(file),
        other => Err(other),
    })
}

pub(crate) fn take_metadata(id: u64) -> Option<Metadata> {
    take(id, |found| match found {
        Found::Metadata(metadata) => Ok(metadata),
        other => Err(other),
    })
}

pub(crate) fn take_page(id: u64) -> Option<Page> {
    take(id, |found| match found {
        Found::Page(page) => Ok(page),
        other => Err(other),
    })
}

fn take<T>(id: u64, pick: impl FnOnce(Found) -> Result<T, Found>) -> Option<T> {
    reactor::with(|reactor| match pick(reactor.found.remove(&id)?) {
        Ok(found) => Some(found),
        Err(other) => {
            reactor.found.insert(id, other);
            None
        }
    })
}

/// What waits to be taken.
#[derive(Debug)]
pub(crate) enum Found {
    File(File),
    Metadata(Metadata),
    Page(Page),
}

/// Somebody waits for a change in a directory.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: Rc<Folder>,
    path: String,
    pub(crate) owner: Option<ConnectionId>,
}

/// A granted directory and all below it.
#[derive(Debug)]
pub(crate) struct Folder {
    access: Access,
    /// By path; the folder itself is not among them.
    nodes: RefCell<BTreeMap<String, Node>>,
    last_number: Cell<u64>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Rc<Stored>),
    Folder { number: u64 },
}

impl Folder {
    /// Makes one with these files, and the folders that they are in.
    pub(crate) fn new<'a>(
        access: Access,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Rc<Self> {
        let folder = Rc::new(Self {
            access,
            nodes: RefCell::default(),
            last_number: Cell::new(1),
        });
        for (path, contents) in files {
            for (end, _) in path.match_indices('/') {
                let number = folder.next_number();
                let mut nodes = folder.nodes.borrow_mut();
                nodes
                    .entry(path[..end].to_owned())
                    .or_insert(Node::Folder { number });
            }
            let stored = folder.store(contents.to_vec());
            let path = path.to_owned();
            folder.nodes.borrow_mut().insert(path, Node::File(stored));
        }
        folder
    }

    /// What a file has in it.
    pub(crate) fn contents(&self, path: &str) -> Option<Vec<u8>> {
        match self.nodes.borrow().get(path)? {
            Node::File(stored) => Some(stored.contents.borrow().clone()),
            Node::Folder { .. } => None,
        }
    }

    /// Somebody else writes a file.
    pub(crate) fn write(self: &Rc<Self>, path: &str, contents: &[u8]) {
        let node = Node::File(self.store(contents.to_vec()));
        self.nodes.borrow_mut().insert(path.to_owned(), node);
        self.changed(path);
    }

    fn store(self: &Rc<Self>, contents: Vec<u8>) -> Rc<Stored> {
        Stored::within(contents, self.next_number())
    }

    fn next_number(&self) -> u64 {
        let number = self.last_number.get() + 1;
        self.last_number.set(number);
        number
    }

    fn node(&self, path: &str) -> Result<Node, Error> {
        let nodes = self.nodes.borrow();
        let node = nodes.get(path).cloned();
        node.ok_or_else(|| error(ErrorCode::NotFound, "no such file or directory"))
    }

    fn is_folder(&self, path: &str) -> bool {
        path == "." || matches!(self.nodes.borrow().get(path), Some(Node::Folder { .. }))
    }

    /// Checks that an entry may be made here.
    fn check_parent(&self, path: &str) -> Result<(), Error> {
        if self.is_folder(parent(path)) {
            return Ok(());
        }
        Err(error(ErrorCode::NotFound, "no such directory"))
    }

    fn is_empty(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let nodes = self.nodes.borrow();
        !nodes.keys().any(|other| other.starts_with(&below))
    }

    fn metadata(&self, path: &str) -> Result<Metadata, Error> {
        let (kind, size, number) = if path == "." {
            (Kind::Directory, 0, 1)
        } else {
            match self.node(path)? {
                Node::Folder { number } => (Kind::Directory, 0, number),
                Node::File(stored) => {
                    let size = stored.contents.borrow().len() as u64;
                    (Kind::File, size, stored.number)
                }
            }
        };
        Ok(Metadata {
            kind,
            size,
            // Nothing here remembers when; it is never later than now.
            modified: reactor::wall_start(),
            number,
        })
    }

    /// Wakes who watches the directory that an entry is in.
    fn changed(self: &Rc<Self>, path: &str) {
        let above = parent(path);
        reactor::with(|reactor| {
            let ids: Vec<_> = reactor
                .watches
                .iter()
                .filter(|(_, watch)| Rc::ptr_eq(&watch.folder, self) && watch.path == above)
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                reactor.watches.remove(&id);
                reactor.finished.push_back((id, Ok(Value::Nothing)));
            }
        });
    }
}

/// A plugin's handle of a directory.
#[derive(Debug)]
pub(crate) struct Directory(Rc<Folder>);

impl Directory {
    pub(crate) fn is_writable(&self) -> bool {
        self.0.access == Access::Write
    }

    pub(crate) fn open(&self, path: &str, opening: Opening) -> u64 {
        self.found(|folder| {
            check(path)?;
            if opening != Opening::Read {
                self.check_writable()?;
            }
            let stored = match (folder.node(path), opening) {
                (Ok(_), Opening::CreateNew) => {
                    return Err(error(ErrorCode::Exists, "it exists already"));
                }
                (Ok(Node::Folder { .. }), _) => {
                    return Err(error(ErrorCode::Invalid, "it is a directory"));
                }
                (Ok(Node::File(stored)), _) => stored,
                (Err(error), Opening::Read | Opening::Update) => return Err(error),
                (Err(_), _) => {
                    folder.check_parent(path)?;
                    let stored = folder.store(Vec::new());
                    let node = Node::File(Rc::clone(&stored));
                    folder.nodes.borrow_mut().insert(path.to_owned(), node);
                    folder.changed(path);
                    stored
                }
            };
            if opening == Opening::Replace {
                stored.contents.borrow_mut().clear();
            }
            let access = match opening {
                Opening::Read => Access::Read,
                _ => Access::Write,
            };
            let (changed, path) = (Rc::clone(folder), path.to_owned());
            Ok(Found::File(File::opened(
                stored,
                access,
                Rc::new(move || changed.changed(&path)),
            )))
        })
    }

    pub(crate) fn stat(&self, path: &str) -> u64 {
        self.found(|folder| {
            check_or_self(path)?;
            folder.metadata(path).map(Found::Metadata)
        })
    }

    pub(crate) fn list_page(&self, path: &str, start: u64) -> u64 {
        self.found(|folder| {
            check_or_self(path)?;
            if !folder.is_folder(path) {
                return Err(error(ErrorCode::NotFound, "no such directory"));
            }
            let nodes = folder.nodes.borrow();
            let names = nodes.keys().filter(|other| parent(other) == path);
            let names: Vec<_> = names.cloned().collect();
            drop(nodes);
            let begin = usize::try_from(start).unwrap_or(usize::MAX);
            let mut entries = Vec::new();
            for path in names.iter().skip(begin).take(PAGE) {
                entries.push(Entry {
                    name: path.rsplit('/').next().unwrap_or(path).to_owned(),
                    metadata: folder.metadata(path)?,
                });
            }
            let end = begin.saturating_add(PAGE);
            Ok(Found::Page(Page {
                entries,
                unnameable: 0,
                next: (end < names.len()).then_some(end as u64),
            }))
        })
    }

    pub(crate) fn make_directory(&self, path: &str) -> u64 {
        self.change(&[path], |folder| {
            folder.check_parent(path)?;
            if folder.node(path).is_ok() {
                return Err(error(ErrorCode::Exists, "it exists already"));
            }
            let node = Node::Folder {
                number: folder.next_number(),
            };
            folder.nodes.borrow_mut().insert(path.to_owned(), node);
            Ok(())
        })
    }

    pub(crate) fn rename(&self, old: &str, new: &str) -> u64 {
        self.change(&[old, new], |folder| {
            let node = folder.node(old)?;
            folder.check_parent(new)?;
            let is_folder = matches!(node, Node::Folder { .. });
            if new.strip_prefix(old).is_some_and(|it| it.starts_with('/')) {
                return Err(error(ErrorCode::Invalid, "a directory into itself"));
            }
            match folder.node(new) {
                Ok(_) if old == new => return Ok(()),
                Ok(Node::Folder { .. }) if !is_folder => {
                    return Err(error(ErrorCode::Invalid, "it is a directory"));
                }
                Ok(Node::Folder { .. }) if !folder.is_empty(new) => {
                    return Err(error(ErrorCode::Exists, "directory not empty"));
                }
                Ok(Node::File(_)) if is_folder => {
                    return Err(error(ErrorCode::NotFound, "not a directory"));
                }
                _ => {}
            }
            let mut nodes = folder.nodes.borrow_mut();
            let below = format!("{old}/");
            let moved: Vec<_> = nodes
                .keys()
                .filter(|path| *path == old || path.starts_with(&below))
                .cloned()
                .collect();
            for path in moved {
                if let Some(node) = nodes.remove(&path) {
                    nodes.insert(format!("{new}{}", &path[old.len()..]), node);
                }
            }
            Ok(())
        })
    }

    pub(crate) fn link(&self, old: &str, new: &str) -> u64 {
        self.change(&[old, new], |folder| {
            let node = folder.node(old)?;
            folder.check_parent(new)?;
            if matches!(node, Node::Folder { .. }) {
                return Err(error(ErrorCode::Denied, "it is a directory"));
            }
            if folder.node(new).is_ok() {
                return Err(error(ErrorCode::Exists, "it exists already"));
            }
            folder.nodes.borrow_mut().insert(new.to_owned(), node);
            Ok(())
        })
    }

    pub(crate) fn remove_file(&self, path: &str) -> u64 {
        self.change(&[path], |folder| match folder.node(path)? {
            Node::Folder { .. } => Err(error(ErrorCode::Invalid, "it is a directory")),
            Node::File(_) => {
                folder.nodes.borrow_mut().remove(path);
                Ok(())
            }
        })
    }

    pub(crate) fn remove_directory(&self, path: &str) -> u64 {
        self.change(&[path], |folder| match folder.node(path)? {
            Node::File(_) => Err(error(ErrorCode::NotFound, "not a directory")),
            Node::Folder { .. } if !folder.is_empty(path) => {
                Err(error(ErrorCode::Exists, "directory not empty"))
            }
            Node::Folder { .. } => {
                folder.nodes.borrow_mut().remove(path);
                Ok(())
            }
        })
    }

    pub(crate) fn sync(&self, path: &str) -> u64 {
        let checked = check_or_self(path).and_then(|()| self.check_folder(path));
        finished(checked.map(|()| Value::Nothing))
    }

    pub(crate) fn watch(&self, path: &str) -> u64 {
        if let Err(error) = check_or_self(path).and_then(|()| self.check_folder(path)) {
            return finished(Err(error));
        }
        reactor::with(|reactor| {
            let id = reactor.next_id();
            let watch = Watch {
                folder: Rc::clone(&self.0),
                path: path.to_owned(),
                owner: executor::ambient(),
            };
            reactor.watches.insert(id, watch);
            id
        })
    }

    fn found(&self, find: impl FnOnce(&Rc<Folder>) -> Result<Found, Error>) -> u64 {
        match find(&self.0) {
            Ok(found) => {
                let id = finished(Ok(Value::Ready));
                reactor::with(|reactor| reactor.found.insert(id, found));
                id
            }
            Err(error) => finished(Err(error)),
        }
    }

    fn change(&self, paths: &[&str], change: impl FnOnce(&Rc<Folder>) -> Result<(), Error>) -> u64 {
        let checked = paths.iter().try_for_each(|path| check(path));
        let done = checked
            .and_then(|()| self.check_writable())
            .and_then(|()| change(&self.0));
        if done.is_ok() {
            for path in paths {
                self.0.changed(path);
            }
        }
        finished(done.map(|()| Value::Nothing))
    }

    fn check_writable(&self) -> Result<(), Error> {
        if self.is_writable() {
            return Ok(());
        }
        Err(error(ErrorCode::Denied, "it was granted to be read only"))
    }

    fn check_folder(&self, path: &str) -> Result<(), Error> {
        if self.0.is_folder(path) {
            return Ok(());
        }
        Err(error(ErrorCode::NotFound, "no such directory"))
    }
}

/// An operation that is over as soon as the callback has returned.
pub(crate) fn finished(outcome: Result<Value, Error>) -> u64 {
    match outcome {
        Err(error) => refused(error.code, &error.message),
        Ok(value) => reactor::with(|reactor| {
            let id = reactor.next_id();
            reactor.finished.push_back((id, Ok(value)));
            id
        }),
    }
}

/// The folder that an entry is in.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn check_or_self(path: &str) -> Result<(), Error> {
    if path == "." { Ok(()) } else { check(path) }
}

/// As the contract says what a path is.
fn check(path: &str) -> Result<(), Error> {
    let is_name =
        |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    if path.len() <= 4096 && path.split('/').all(is_name) {
        return Ok(());
    }
    Err(error(ErrorCode::Invalid, "not a path within the directory"))
}

/// The contract's number of entries in a page.
const PAGE: usize = 256;
