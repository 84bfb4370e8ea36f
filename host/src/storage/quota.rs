//! What a granted directory may hold.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cap_std::fs::{Dir, MetadataExt as _};

use super::count::count;

/// The limits of one granted directory, for all instances of the service together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that its files may have together. Default none: as many as the disk has.
    ///
    /// What is there is counted at the start, and again before anything is refused (once in 10 seconds at most), so that what others put there and take away
    /// is known. A file's holes count, and so does a file that was removed and is still open. Where there is a quota, what changes sizes happens one after
    /// another. Names and directories take no bytes of it.
    pub bytes: Option<u64>,
    /// Files of it that are open at the same time. Default 4096, which is what four instances may have open.
    pub open_files: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            bytes: None,
            open_files: 4096,
        }
    }
}

/// What is used of a quota.
#[derive(Debug)]
pub(crate) struct Space {
    quota: Quota,
    root: Arc<Dir>,
    used: AtomicU64,
    open: AtomicUsize,
    /// Held by who changes sizes, which may take as long as the disk does: no worker takes it. When everything was counted.
    counted: Mutex<Instant>,
    /// The open files, if there is a quota. Held for a moment.
    files: Mutex<HashMap<FileId, OpenFile>>,
}

/// The spaces of directories whose bytes are limited; few, as the operator grants each.
static SPACES: Mutex<Vec<(FileId, Weak<Space>)>> = Mutex::new(Vec::new());

/// Device and number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId(u64, u64);

#[derive(Debug, Default)]
struct OpenFile {
    handles: usize,
    /// Its length, if it has no name any more.
    removed: Option<u64>,
}

/// The place of one open file in its directory's quota and in its instance's limit, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    space: Arc<Space>,
    instance: Arc<AtomicUsize>,
    /// None before it is open, and if there is no quota.
    file: Option<FileId>,
}

/// A time in which nobody else changes sizes.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    space: &'a Space,
    counted: MutexGuard<'a, Instant>,
}

impl Space {
    /// Returns the space of a directory. Who has the same directory with the same limits has the same space: a service and its successor, which
    /// would otherwise not see what the other one writes.
    pub(crate) fn of(root: &Arc<Dir>, quota: Quota) -> io::Result<Arc<Self>> {
        if quota.bytes.is_none() {
            return Ok(Arc::new(Self::new(root.clone(), quota)?));
        }
        let metadata = root.dir_metadata()?;
        let id = FileId(metadata.dev(), metadata.ino());
        let mut spaces = SPACES.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.retain(|(_, space)| space.strong_count() > 0);
        let mut known = spaces.iter().filter(|(known, _)| *known == id);
        let known = known.find_map(|(_, space)| space.upgrade().filter(|it| it.quota == quota));
        if let Some(space) = known {
            return Ok(space);
        }
        let space = Arc::new(Self::new(root.clone(), quota)?);
        spaces.push((id, Arc::downgrade(&space)));
        Ok(space)
    }

    /// Counts what is there, if that is limited.
    pub(crate) fn new(root: Arc<Dir>, quota: Quota) -> io::Result<Self> {
        let used = match quota.bytes {
            Some(_) => count(&root)?,
            None => 0,
        };
        Ok(Self {
            quota,
            root,
            used: AtomicU64::new(used),
            open: AtomicUsize::new(0),
            counted: Mutex::new(Instant::now()),
            files: Mutex::default(),
        })
    }

    /// Waits until nobody else changes sizes; none if they are not limited. May wait for the disk.
    pub(super) fn change(&self) -> Option<Changing<'_>> {
        self.quota.bytes?;
        Some(Changing {
            space: self,
            counted: self.counted.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn take(&self, by: u64, most: u64) -> bool {
        let grown = |used: u64| used.checked_add(by).filter(|sum| *sum <= most);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, grown).is_ok()
    }

    fn grow(&self, by: u64) {
        let more = |used: u64| Some(used.saturating_add(by));
        let order = Ordering::Relaxed;
        let _always = self.used.fetch_update(order, order, more);
    }

    fn shrink(&self, by: u64) {
        let less = |used: u64| Some(used.saturating_sub(by));
        let order = Ordering::Relaxed;
        let _always = self.used.fetch_update(order, order, less);
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, OpenFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an open file. Returns what to [close](Self::closed) it by.
    fn opened(&self, file: &File) -> io::Result<FileId> {
        let metadata = file.metadata()?;
        let id = FileId(metadata.dev(), metadata.ino());
        self.files().entry(id).or_default().handles += 1;
        // Who removes it from now on finds it; who did so before gave its bytes back.
        let metadata = file.metadata().inspect_err(|_| self.closed(id))?;
        if metadata.nlink() == 0
            && let Some(open) = self.files().get_mut(&id)
            && open.removed.is_none()
        {
            open.removed = Some(metadata.len());
            self.grow(metadata.len());
        }
        Ok(id)
    }

    fn closed(&self, id: FileId) {
        let mut files = self.files();
        if let Some(open) = files.get_mut(&id) {
            open.handles = open.handles.saturating_sub(1);
            if open.handles == 0 {
                let removed = open.removed;
                files.remove(&id);
                self.shrink(removed.unwrap_or(0));
            }
        }
    }

    /// Takes a place for one more open file of an instance, or says which limit is reached.
    pub(crate) fn slot(
        self: &Arc<Self>,
        instance: &Arc<AtomicUsize>,
        limit: usize,
    ) -> Result<Slot, String> {
        if !take_one(instance, limit) {
            return Err(format!("{limit} files are open"));
        }
        if !take_one(&self.open, self.quota.open_files) {
            instance.fetch_sub(1, Ordering::Relaxed);
            let limit = self.quota.open_files;
            return Err(format!("{limit} files of this directory are open"));
        }
        Ok(Slot {
            space: self.clone(),
            instance: instance.clone(),
            file: None,
        })
    }
}

impl Changing<'_> {
    /// Takes bytes of the quota.
    fn grow(&mut self, by: u64) -> io::Result<()> {
        let Some(most) = self.space.quota.bytes else {
            return Ok(());
        };
        if by == 0 || self.space.take(by, most) {
            return Ok(());
        }
        if self.counted.elapsed() >= COUNT_INTERVAL {
            let there = count(&self.space.root);
            *self.counted = Instant::now();
            let files = self.space.files();
            let removed = files.values().filter_map(|open| open.removed);
            let used = removed.fold(there?, u64::saturating_add);
            self.space.used.store(used, Ordering::Relaxed);
        }
        if self.space.take(by, most) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("the quota of {most} bytes is used up"),
        ))
    }

    /// Notes that a file has lost its last name. Its bytes are given back once nobody has it open.
    pub(super) fn removed(&self, id: FileId, size: u64) {
        let mut files = self.space.files();
        match files.get_mut(&id) {
            Some(OpenFile {
                removed: removed @ None,
                ..
            }) => *removed = Some(size),
            // Who opened it at this moment found that it has no name any more, and counted it once more.
            Some(_) | None => self.space.shrink(size),
        }
    }
}

impl Slot {
    /// Notes which file has the place.
    pub(super) fn hold(&mut self, file: &File) -> io::Result<()> {
        if self.space.quota.bytes.is_some() {
            self.file = Some(self.space.opened(file)?);
        }
        Ok(())
    }

    /// Changes the file's length: takes what that adds from the quota, and gives back what it did not add in the end. May wait for the disk.
    pub(crate) fn change(
        &self,
        file: &File,
        growth: impl FnOnce(u64) -> u64,
        change: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(mut changing) = self.space.change() else {
            return change();
        };
        let before = file.metadata()?.len();
        let growth = growth(before);
        changing.grow(growth)?;
        let changed = change();
        let taken = before.saturating_add(growth);
        let after = file.metadata().map_or(taken, |metadata| metadata.len());
        self.space.grow(after.saturating_sub(taken));
        self.space.shrink(taken.saturating_sub(after));
        if let Some(id) = self.file
            && let Some(open) = self.space.files().get_mut(&id)
            && let Some(removed) = &mut open.removed
        {
            *removed = after;
        }
        changed
    }
}

impl FileId {
    /// Returns the number and the length of a file that has no other name.
    pub(super) fn of_only_name(metadata: &cap_std::fs::Metadata) -> Option<(Self, u64)> {
        let counts = metadata.is_file() && metadata.nlink() == 1;
        counts.then(|| (Self(metadata.dev(), metadata.ino()), metadata.len()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(id) = self.file {
            self.space.closed(id);
        }
        self.space.open.fetch_sub(1, Ordering::Relaxed);
        self.instance.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take_one(count: &AtomicUsize, limit: usize) -> bool {
    let order = Ordering::Relaxed;
    count
        .fetch_update(order, order, |count| (count < limit).then_some(count + 1))
        .is_ok()
}

/// How often what a directory holds is counted again, at most.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;
    use crate::{
        files::{FileMode, HostFile},
        storage::{Directory, Opening},
    };

    fn open(directory: &Directory, path: &str, opening: Opening) -> io::Result<HostFile> {
        let slot = directory.space().slot(&Arc::default(), 9).unwrap();
        if opening == Opening::Read {
            match directory.open_cached(path, slot) {
                Ok(opened) => opened,
                Err(slot) => directory.open(path, opening, slot),
            }
        } else {
            directory.open(path, opening, slot)
        }
    }

    /// Does one of everything that changes what is used; much of it fails, for the others are faster.
    fn disturb(directory: &Directory, turn: usize, kept: &mut Vec<HostFile>) {
        let names = ["a", "b", "c"];
        let [one, other] = [turn, turn / 3].map(|at| names[at % 3]);
        let _may_fail = match turn % 11 {
            0 => open(directory, one, Opening::Replace).map(|file| kept.push(file)),
            1 => open(directory, one, Opening::Read).map(|file| kept.push(file)),
            2 => open(directory, one, Opening::Create).and_then(|file| file.set_size(0)),
            3 | 4 => open(directory, one, Opening::Create).and_then(|file| file.append(&[7; 5000])),
            5 => directory.link(one, other),
            6 => directory.rename(one, other),
            7 | 8 => directory.remove_file(one),
            9 => kept
                .last()
                .map_or(Ok(()), |file| file.write_all_at(&[1; 900], 8000)),
            _ => {
                kept.clear();
                Ok(())
            }
        };
    }

    #[test]
    fn what_is_used_is_what_is_there_whoever_is_first() {
        let folder = std::env::temp_dir().join(format!("nethost-quota-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let quota = Quota {
            bytes: Some(1 << 30),
            open_files: 1000,
        };
        let directory = Directory::open_root(&folder, FileMode::ReadWrite, quota).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let directory = &directory;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for turn in 0..4000 {
                        disturb(directory, turn * 7 + thread * 5, &mut kept);
                    }
                });
            }
        });
        let space = directory.space();
        assert_eq!(
            space.used.load(Ordering::Relaxed),
            count(&space.root).unwrap()
        );
        assert!(space.files().is_empty());
        assert_eq!(space.open.load(Ordering::Relaxed), 0);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_successor_sees_what_its_predecessor_writes() {
        let folder =
            std::env::temp_dir().join(format!("nethost-quota-shared-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let quota = Quota {
            bytes: Some(10_000),
            ..Quota::default()
        };
        let open_root = |quota| Directory::open_root(&folder, FileMode::ReadWrite, quota).unwrap();
        let (before, after) = (open_root(quota), open_root(quota));
        assert!(Arc::ptr_eq(before.space(), after.space()));
        let file = open(&before, "a", Opening::Create).unwrap();
        file.append(&[1; 6000]).unwrap();
        let file = open(&after, "b", Opening::Create).unwrap();
        assert!(file.append(&[1; 6000]).is_err());
        let other = open_root(Quota {
            bytes: Some(20_000),
            ..quota
        });
        assert!(!Arc::ptr_eq(before.space(), other.space()));
        fs::remove_dir_all(&folder).unwrap();
    }
}
