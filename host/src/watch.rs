//! Loads what came from files again when they changed: certificates, users.
//!
//! Metadata is looked at again and again, rather than waiting for the kernel's word (inotify): that word does not come for a file behind a symbolic link
//! that now points elsewhere (certbot, Kubernetes), nor from a network file system.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

/// Something that was loaded from files, and can be loaded again.
pub(crate) trait Reload: Send + Sync + 'static {
    /// What it is, in the plural: for the log, and the thread's name.
    const WHAT: &'static str;

    /// How often the files are looked at.
    const PERIOD: Duration = PERIOD;

    /// Looks at the files, without reading them.
    fn look(&self) -> Snapshot;

    /// Returns whether files that look like this are others than those that were loaded.
    fn differs(&self, snapshot: &Snapshot) -> bool;

    /// Loads the files, and says in the log what came of it. On an error everything stays as it was.
    fn load(&self, why: Look, service: &str) -> Result<(), NotLoaded>;
}

/// The files could not be loaded; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotLoaded;

/// When something that differs is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Somebody asked for it.
    AtOnce,
    /// Once two looks in a row saw the same.
    WhenSettled,
}

/// What files looked like at one moment, without their content; what is not there is known too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Option<Stamp>>);

/// What changes when a file is written, replaced or linked elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Snapshot {
    /// Looks at one file.
    pub(crate) fn of(path: &Path) -> Self {
        let mut this = Self::default();
        this.add(path);
        this
    }

    /// Adds a file. What cannot be looked at counts as absent.
    pub(crate) fn add(&mut self, path: &Path) {
        let stamp = fs::metadata(path).ok().map(|metadata| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        self.0.insert(path.to_owned(), stamp);
    }
}

/// Watches files of a service, until it is dropped.
///
/// They are looked at once a second, on a thread of its own, because a file system may be slow. What differs from what was loaded is loaded when two
/// looks in a row saw the same: a file that is still being written, or a certificate whose key is still on its way, is waited for. What cannot be
/// loaded is said once, and the old stays in use until the files change again.
#[derive(Debug)]
pub(crate) struct Watch {
    what: &'static str,
    /// The thread ends with it.
    at_once: SyncSender<()>,
}

impl Watch {
    /// Starts to watch. What is dropped elsewhere is watched no more.
    pub(crate) fn start<'a, T: Reload>(
        service: &str,
        watched: impl IntoIterator<Item = &'a Arc<T>>,
    ) -> io::Result<Self> {
        let watcher = Watcher::new(service, watched);
        let (at_once, asked) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name(T::WHAT.to_owned())
            .spawn(move || watcher.run(&asked))?;
        Ok(Self {
            what: T::WHAT,
            at_once,
        })
    }

    /// Loads everything without waiting, whether it seems to differ or not. Returns at once; the log says what came of it.
    pub(crate) fn reload(&self) {
        match self.at_once.try_send(()) {
            // One that has not begun sees the same files.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!(
                    "{} cannot be loaded again: their thread has ended",
                    self.what
                );
            }
        }
    }
}

/// What the thread does.
#[derive(Debug)]
pub(crate) struct Watcher<T> {
    service: String,
    pub(crate) watched: Vec<Watched<T>>,
}

#[derive(Debug)]
pub(crate) struct Watched<T> {
    it: Weak<T>,
    /// What the last look saw, if it was not what is loaded.
    pub(crate) seen: Option<Snapshot>,
    /// What could not be loaded.
    pub(crate) failed: Option<Snapshot>,
}

impl<T: Reload> Watcher<T> {
    pub(crate) fn new<'a>(service: &str, watched: impl IntoIterator<Item = &'a Arc<T>>) -> Self {
        let watched = watched.into_iter().map(|it| Watched {
            it: Arc::downgrade(it),
            seen: None,
            failed: None,
        });
        Self {
            service: service.to_owned(),
            watched: watched.collect(),
        }
    }

    fn run(mut self, asked: &Receiver<()>) {
        loop {
            match asked.recv_timeout(T::PERIOD) {
                Ok(()) => self.look(Look::AtOnce),
                Err(RecvTimeoutError::Timeout) => self.look(Look::WhenSettled),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(crate) fn look(&mut self, why: Look) {
        for watched in &mut self.watched {
            if let Some(it) = watched.it.upgrade() {
                watched.look(&*it, why, &self.service);
            }
        }
    }
}

impl<T: Reload> Watched<T> {
    fn look(&mut self, it: &T, why: Look, service: &str) {
        let now = it.look();
        if why == Look::WhenSettled {
            if !it.differs(&now) {
                (self.seen, self.failed) = (None, None);
                return;
            }
            if self.failed.as_ref() == Some(&now) {
                return;
            }
            if self.seen.as_ref() != Some(&now) {
                self.seen = Some(now);
                return;
            }
        }
        self.seen = None;
        self.failed = it.load(why, service).is_err().then_some(now);
    }
}

/// How often files are looked at, unless it is said: every second. At 10,000 certificates a look takes some 30 ms.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
