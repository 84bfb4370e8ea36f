//! A granted directory, and what can be done in it.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _},
};
use rustix::{
    fs::{
        FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, inotify,
        inotify::{CreateFlags, WatchFlags},
        openat, openat2,
    },
    io::Errno,
};

use super::{Page, Quota, Slot, Space, list, quota::FileId};
use crate::files::{FileMode, HostFile};

/// A granted directory. Clones are the same.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Arc<Dir>,
    mode: FileMode,
    space: Arc<Space>,
    /// What the kernel has in memory it tells without asking anybody else: not so on network file systems and in FUSE.
    local: bool,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// To be read.
    Read,
    /// To be written too.
    Update,
    /// Made if there is none.
    Create,
    /// Made; there must be none.
    CreateNew,
    /// Made, or emptied.
    Replace,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What is known of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Nanoseconds since 1970; 0 before.
    pub(crate) modified: u64,
    pub(crate) number: u64,
}

impl Directory {
    pub(super) fn open_root(path: &Path, mode: FileMode, quota: Quota) -> io::Result<Self> {
        let root = Arc::new(Dir::open_ambient_dir(path, ambient_authority())?);
        let local = match root.open_dir(".").and_then(|dir| Ok(fstatfs(&dir)?)) {
            Ok(system) => {
                !REMOTE.contains(&(u64::from_ne_bytes(system.f_type.to_ne_bytes()) & 0xffff_ffff))
            }
            Err(_) => false,
        };
        Ok(Self {
            space: Space::of(&root, quota)?,
            root,
            mode,
            local,
        })
    }

    /// Returns whether something in it may be changed.
    pub fn is_writable(&self) -> bool {
        self.mode == FileMode::ReadWrite
    }

    /// Returns what is used of its quota.
    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Opens a regular file, without waiting for anybody at the other end of what is none.
    pub(crate) fn open(
        &self,
        path: &str,
        opening: Opening,
        mut slot: Slot,
    ) -> io::Result<HostFile> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(opening != Opening::Read)
            .create(opening.makes())
            .create_new(opening == Opening::CreateNew)
            .custom_flags(UNHURRIED.bits().cast_signed());
        let file = {
            // Not while a removal is under way that found nothing at this name: it would not give back what this file gets.
            let _changing = opening.makes().then(|| self.space.change());
            self.root.open_with(path, &options)?.into_std()
        };
        check_regular(&file)?;
        slot.hold(&file)?;
        let mode = match opening {
            Opening::Read => FileMode::ReadOnly,
            _ => FileMode::ReadWrite,
        };
        let file = HostFile::new(file, mode, Some(slot));
        if opening == Opening::Replace {
            // Not by O_TRUNC: what is no file is not touched, and the quota gets back what was there.
            file.set_size(0)?;
        }
        Ok(file)
    }

    /// Opens a file to be read if everything on its way is in memory; gives the slot back if not.
    pub(crate) fn open_cached(
        &self,
        path: &str,
        mut slot: Slot,
    ) -> Result<io::Result<HostFile>, Slot> {
        let Some(opened) = self.resolve_cached(path, OFlags::RDONLY | UNHURRIED) else {
            return Err(slot);
        };
        Ok(opened.and_then(|file| {
            check_regular(&file)?;
            slot.hold(&file)?;
            Ok(HostFile::new(file, FileMode::ReadOnly, Some(slot)))
        }))
    }

    /// Tells what is there, links followed.
    pub(crate) fn stat(&self, path: &str) -> io::Result<Metadata> {
        let metadata = self.root.metadata(path)?;
        let kind = if metadata.is_file() {
            Kind::File
        } else if metadata.is_dir() {
            Kind::Directory
        } else {
            Kind::Other
        };
        Ok(Metadata {
            kind,
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            number: metadata.ino(),
        })
    }

    /// As [`Self::stat`], if everything on the way is in memory.
    pub(crate) fn stat_cached(&self, path: &str) -> Option<io::Result<Metadata>> {
        let found = self.resolve_cached(path, OFlags::PATH)?;
        Some(found.and_then(|file| Ok(Metadata::of(&fstat(&file)?))))
    }

    /// Returns a page of a directory's entries.
    pub(crate) fn list(&self, path: &str, start: u64) -> io::Result<Page> {
        list::page(self.readable(path)?, start)
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<()> {
        self.root.create_dir(path)
    }

    /// Renames an entry.
    pub(crate) fn rename(&self, old: &str, new: &str) -> io::Result<()> {
        let changing = self.space.change();
        let replaced = changing.as_ref().and_then(|_| {
            let (old, new) = (self.root.symlink_metadata(old), self.only_name(new)?);
            // The same file under both names stays as it is.
            let is_same = old.is_ok_and(|old| FileId::of_only_name(&old) == Some(new));
            (!is_same).then_some(new)
        });
        self.root.rename(old, &self.root, new)?;
        if let (Some(changing), Some((id, size))) = (changing, replaced) {
            changing.removed(id, size);
        }
        Ok(())
    }

    /// Gives a file one more name.
    pub(crate) fn link(&self, old: &str, new: &str) -> io::Result<()> {
        // Not while somebody removes what seems to be the only name.
        let _changing = self.space.change();
        self.root.hard_link(old, &self.root, new)
    }

    /// Removes a file, or a link itself.
    pub(crate) fn remove_file(&self, path: &str) -> io::Result<()> {
        let changing = self.space.change();
        let removed = changing.as_ref().and_then(|_| self.only_name(path));
        self.root.remove_file(path)?;
        if let (Some(changing), Some((id, size))) = (changing, removed) {
            changing.removed(id, size);
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.root.remove_dir(path)
    }

    /// Makes a directory's names durable.
    pub(crate) fn sync(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable(path)?)?)
    }

    /// Returns what becomes readable once something in a directory changes.
    pub(crate) fn watch(&self, path: &str) -> io::Result<OwnedFd> {
        let folder = self.readable(path)?;
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // By its descriptor: its path may mean something else by now.
        let here = format!("/proc/self/fd/{}", folder.as_raw_fd());
        match inotify::add_watch(&watch, here, CHANGES) {
            Ok(_) => Ok(watch),
            // What is missing is the system's, and nothing that the path names.
            Err(Errno::NOENT) => Err(Errno::OPNOTSUPP.into()),
            // inotify(7): no watch is left of the user's.
            Err(Errno::NOSPC) => Err(Errno::MFILE.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a directory to be read; cap-std's own handles are paths alone.
    fn readable(&self, path: &str) -> io::Result<OwnedFd> {
        let folder = self.root.open_dir(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(openat(folder, ".", flags, Mode::empty())?)
    }

    /// None if the kernel would have to ask a disk, or cannot say.
    fn resolve_cached(&self, path: &str, flags: OFlags) -> Option<io::Result<File>> {
        if !self.local {
            return None;
        }
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
        match openat2(&*self.root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Some(Ok(fd.into())),
            // That there is nothing is known, too.
            Err(Errno::NOENT) => Some(Err(Errno::NOENT.into())),
            Err(_) => None,
        }
    }

    /// Returns number and length of a file that has this name and no other.
    fn only_name(&self, path: &str) -> Option<(FileId, u64)> {
        FileId::of_only_name(&self.root.symlink_metadata(path).ok()?)
    }
}

impl Opening {
    /// Returns whether it may make a file.
    fn makes(self) -> bool {
        matches!(self, Self::Create | Self::CreateNew | Self::Replace)
    }
}

impl Metadata {
    pub(super) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanoseconds(
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            number: stat.st_ino,
        }
    }
}

fn check_regular(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(Errno::ISDIR.into())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not a regular file",
        ))
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> u64 {
    let sum = i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    u64::try_from(sum).unwrap_or(0)
}

/// Opening waits for nobody, and makes nothing this process's terminal.
const UNHURRIED: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// What is a change of a directory.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// File systems that ask somebody else even for what the kernel has in memory (linux/magic.h): NFS, SMB (three numbers), FUSE, Ceph, AFS, 9P, Coda.
const REMOTE: [u64; 9] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x00c3_6400,
    0x5346_414f,
    0x0102_1997,
    0x7375_7245,
];
