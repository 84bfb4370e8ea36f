//! Loads the users again when their file changed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use super::Accounts;

/// What tells one state of a file from another; none if it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<Metadata>);

/// Device, file, length, and the times of its last changes.
type Metadata = (u64, u64, u64, [i64; 4]);

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        Self(metadata.map(|it| {
            let times = [it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()];
            (it.dev(), it.ino(), it.size(), times)
        }))
    }
}

/// Looks at a users file once a second, on a thread of its own, until it is dropped.
///
/// What differs from what was loaded is loaded when two looks in a row saw the same: a file that is still being written is waited for. One that cannot be
/// loaded is said once, and the users stay as they were until it changes again.
#[derive(Debug)]
pub(super) struct Watch {
    /// The thread ends with it.
    at_once: SyncSender<()>,
}

impl Watch {
    pub(super) fn start(service: &str, accounts: &Arc<Accounts>) -> io::Result<Self> {
        let mut watcher = Watcher::new(service, accounts);
        let (at_once, asked) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("users".to_owned())
            .spawn(move || watcher.run(&asked))?;
        Ok(Self { at_once })
    }

    pub(super) fn reload(&self) {
        match self.at_once.try_send(()) {
            // One that has not begun sees the same file.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("users cannot be loaded again: their thread has ended");
            }
        }
    }
}

/// When a file that differs is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    AtOnce,
    WhenSettled,
}

#[derive(Debug)]
pub(super) struct Watcher {
    service: String,
    accounts: Weak<Accounts>,
    /// What the last look saw, if it was not what is loaded.
    seen: Option<Stamp>,
    /// What could not be loaded.
    failed: Option<Stamp>,
}

impl Watcher {
    pub(super) fn new(service: &str, accounts: &Arc<Accounts>) -> Self {
        Self {
            service: service.to_owned(),
            accounts: Arc::downgrade(accounts),
            seen: None,
            failed: None,
        }
    }

    fn run(&mut self, asked: &Receiver<()>) {
        loop {
            match asked.recv_timeout(PERIOD) {
                Ok(()) => self.look(Look::AtOnce),
                Err(RecvTimeoutError::Timeout) => self.look(Look::WhenSettled),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn look(&mut self, look: Look) {
        let Some(accounts) = self.accounts.upgrade() else {
            return;
        };
        let now = Stamp::of(&accounts.path);
        if look == Look::WhenSettled {
            if now == accounts.stamp() {
                (self.seen, self.failed) = (None, None);
                return;
            }
            if self.failed == Some(now) {
                return;
            }
            if self.seen != Some(now) {
                self.seen = Some(now);
                return;
            }
        }
        self.seen = None;
        let service = &self.service;
        match accounts.load_again() {
            Ok(count) => {
                tracing::info!(service, "the users file was loaded: {count} users");
                self.failed = None;
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(service, "the users stay as they were: {error}");
                self.failed = Some(now);
            }
        }
    }
}

/// How often the file is looked at: every second.
const PERIOD: Duration = Duration::from_secs(1);
