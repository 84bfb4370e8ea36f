//! What a granted directory may hold.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cap_std::fs::{Dir, MetadataExt as _};

/// The limits of one granted directory, for all instances of the service together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that its files may have together. Default none: as many as the disk has.
    ///
    /// What is there is counted at the start, and again before anything is refused (once in 10 seconds at most), so that what others put there and take away
    /// is known. A file's holes count.
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
    counted: Mutex<Instant>,
}

/// The place of one open file in its directory's quota and in its instance's limit, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) space: Arc<Space>,
    instance: Arc<AtomicUsize>,
}

impl Space {
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
        })
    }

    /// Takes bytes of the quota.
    pub(crate) fn grow(&self, by: u64) -> io::Result<()> {
        let Some(most) = self.quota.bytes else {
            return Ok(());
        };
        if by == 0 || self.take(by, most) {
            return Ok(());
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.elapsed() >= COUNT_INTERVAL {
            *counted = Instant::now();
            self.used.store(count(&self.root)?, Ordering::Relaxed);
        }
        if self.take(by, most) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("the quota of {most} bytes is used up"),
        ))
    }

    fn take(&self, by: u64, most: u64) -> bool {
        let grown = |used: u64| used.checked_add(by).filter(|sum| *sum <= most);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, grown).is_ok()
    }

    /// Gives bytes back.
    pub(crate) fn shrink(&self, by: u64) {
        if self.quota.bytes.is_some() {
            let less = |used: u64| Some(used.saturating_sub(by));
            let order = Ordering::Relaxed;
            let _always = self.used.fetch_update(order, order, less);
        }
    }

    /// Returns whether sizes matter at all.
    pub(super) fn is_limited(&self) -> bool {
        self.quota.bytes.is_some()
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
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
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

/// Adds up the sizes of all files. One that has several names counts as a part at each of them.
fn count(root: &Dir) -> io::Result<u64> {
    let mut sum = 0_u64;
    let mut folders = vec![root.open_dir(".")?];
    while let Some(folder) = folders.pop() {
        for entry in folder.entries()? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                match entry.open_dir() {
                    Ok(below) => folders.push(below),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            } else if metadata.is_file() {
                let part = metadata.len().checked_div(metadata.nlink());
                sum = sum.saturating_add(part.unwrap_or(0));
            }
        }
    }
    Ok(sum)
}

/// How often what a directory holds is counted again, at most.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
