//! Loads certificates again when their files changed.

use std::{
    io,
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use super::{
    files::Snapshot,
    server::{Reloaded, ServerTls},
};

/// Watches the files of a service's listeners, until it is dropped.
///
/// Their metadata is looked at once a second, on a thread of its own, because a file system may be slow. What differs from what was loaded is loaded when two
/// looks in a row saw the same: a file that is still being written, or a certificate whose key is still on its way, is waited for.
///
/// A certificate that cannot be loaded is said once, and the old ones stay in use until the files change again.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The thread ends with it.
    at_once: SyncSender<()>,
}

impl Watch {
    /// Starts to watch.
    pub(crate) fn start<'a>(
        service: &str,
        listeners: impl IntoIterator<Item = &'a Arc<ServerTls>>,
    ) -> io::Result<Self> {
        let listeners = listeners.into_iter().map(Arc::downgrade).collect();
        let watcher = Watcher::new(service.to_owned(), listeners);
        let (at_once, asked) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || watcher.run(&asked))?;
        Ok(Self { at_once })
    }

    /// Loads everything without waiting, whether it seems to differ or not. Returns at once; the log says what came of it.
    pub(crate) fn reload(&self) {
        match self.at_once.try_send(()) {
            // One that has not begun sees the same files.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("certificates cannot be loaded again: their thread has ended");
            }
        }
    }
}

/// When something that differs is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    AtOnce,
    WhenSettled,
}

#[derive(Debug)]
struct Watcher {
    service: String,
    listeners: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    tls: Weak<ServerTls>,
    /// What the last look saw, if it was not what is loaded.
    seen: Option<Snapshot>,
    /// What could not be loaded.
    failed: Option<Snapshot>,
}

impl Watcher {
    fn new(service: String, listeners: Vec<Weak<ServerTls>>) -> Self {
        let listeners = listeners.into_iter().map(|tls| Watched {
            tls,
            seen: None,
            failed: None,
        });
        Self {
            service,
            listeners: listeners.collect(),
        }
    }

    fn run(mut self, asked: &Receiver<()>) {
        loop {
            match asked.recv_timeout(PERIOD) {
                Ok(()) => self.look(Look::AtOnce),
                Err(RecvTimeoutError::Timeout) => self.look(Look::WhenSettled),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self, look: Look) {
        for watched in &mut self.listeners {
            if let Some(tls) = watched.tls.upgrade() {
                watched.look(&tls, look, &self.service);
            }
        }
    }
}

impl Watched {
    fn look(&mut self, tls: &ServerTls, look: Look, service: &str) {
        let now = tls.look();
        if look == Look::WhenSettled {
            if !tls.differs(&now) {
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
        match tls.reload() {
            Ok(Reloaded::Changed { certificates }) => {
                tracing::info!(
                    service,
                    "new connections get the certificates of {certificates}"
                );
                self.failed = None;
            }
            Ok(Reloaded::Unchanged) => {
                match look {
                    Look::AtOnce => tracing::info!(service, "the certificates are the same"),
                    Look::WhenSettled => {
                        tracing::debug!(service, "the files changed, the certificates did not");
                    }
                }
                self.failed = None;
            }
            Err(error) => {
                tracing::error!(
                    service,
                    "the certificates stay as they were: {}",
                    crate::chain(&error)
                );
                self.failed = Some(now);
            }
        }
    }
}

/// How often the files are looked at: every second. At 10,000 certificates a look takes some 30 ms.
const PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;
    use crate::tls::testing::{Authority, Folder, showing};

    /// Returns whether the last look loaded something.
    fn looks(watcher: &mut Watcher, look: Look, tls: &ServerTls) -> bool {
        let before = tls.has_changed();
        watcher.look(look);
        before && !tls.has_changed()
    }

    #[test]
    fn what_changed_is_loaded_once_it_has_settled() {
        let folder = Folder::new();
        let authority = Authority::new("test");
        let write = |names: &[&str]| {
            let issued = authority.issue(names);
            folder.write("a.pem", issued.certificate + &issued.key)
        };
        let path = write(&["one.example"]);
        let tls = ServerTls::load(&showing(&path)).unwrap();
        let mut watcher = Watcher::new("test".to_owned(), vec![Arc::downgrade(&tls)]);
        watcher.look(Look::WhenSettled);
        // Changed twice, a look between: the second is waited for as well.
        write(&["two.example"]);
        assert!(!looks(&mut watcher, Look::WhenSettled, &tls));
        write(&["much-longer.example"]);
        assert!(!looks(&mut watcher, Look::WhenSettled, &tls));
        assert!(looks(&mut watcher, Look::WhenSettled, &tls));
        // At a signal at once.
        write(&["four.example"]);
        assert!(looks(&mut watcher, Look::AtOnce, &tls));
        drop(tls);
        watcher.look(Look::AtOnce);
    }

    #[test]
    fn a_thread_watches_until_it_is_told_to_end() {
        let folder = Folder::new();
        let authority = Authority::new("test");
        let write = |name: &str| {
            let issued = authority.issue(&[name]);
            folder.write("a.pem", issued.certificate + &issued.key)
        };
        let tls = ServerTls::load(&showing(&write("one.example"))).unwrap();
        let watch = Watch::start("test", [&tls]).unwrap();
        let settled = || {
            let deadline = Instant::now() + Duration::from_secs(20);
            while tls.has_changed() {
                assert!(Instant::now() < deadline, "nothing was loaded");
                thread::yield_now();
            }
        };
        let start = Instant::now();
        write("two.example");
        watch.reload();
        settled();
        // The second look would come after two seconds.
        assert!(start.elapsed() < PERIOD * 3 / 2);
        write("three.example");
        settled();
        let weak = Arc::downgrade(&tls);
        drop((watch, tls));
        let deadline = Instant::now() + Duration::from_secs(20);
        while weak.strong_count() > 0 {
            assert!(Instant::now() < deadline, "the thread keeps the listener");
            thread::yield_now();
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_tried_once_until_it_changes() {
        let folder = Folder::new();
        let issued = Authority::new("test").issue(&["one.example"]);
        let good = issued.certificate + &issued.key;
        let path = folder.write("a.pem", &good);
        let tls = ServerTls::load(&showing(&path)).unwrap();
        let mut watcher = Watcher::new("test".to_owned(), vec![Arc::downgrade(&tls)]);
        let failed = |watcher: &Watcher| watcher.listeners[0].failed.clone();
        folder.write("a.pem", "hello");
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), None);
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), Some(tls.look()));
        // Nothing is tried now: `seen`, which a try clears, stays as it is.
        watcher.listeners[0].seen = Some(Snapshot::default());
        watcher.look(Look::WhenSettled);
        assert_eq!(watcher.listeners[0].seen, Some(Snapshot::default()));
        watcher.look(Look::AtOnce);
        assert_eq!(watcher.listeners[0].seen, None);
        // Another bad one is tried again, and a good one ends it.
        folder.write("a.pem", "hello again");
        watcher.look(Look::WhenSettled);
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), Some(tls.look()));
        fs::remove_file(&path).unwrap();
        watcher.look(Look::WhenSettled);
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), Some(tls.look()));
        folder.write("a.pem", &good);
        watcher.look(Look::WhenSettled);
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), None);
        assert!(!tls.has_changed());
    }
}
