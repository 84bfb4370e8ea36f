//! Loads certificates again when their files changed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    files::Snapshot,
    server::{Reloaded, ServerTls},
};

/// Watches the files of a service's listeners, until the last listener is gone.
///
/// Their metadata is looked at once a second, on a thread that may block. What differs from what was loaded is loaded when two looks in a row saw the same:
/// a file that is still being written, or a certificate whose key is still on its way, is waited for. `at_once` (SIGHUP) loads everything without
/// waiting, whether it seems to differ or not.
///
/// A certificate that cannot be loaded is said once, and the old ones stay in use until the files change again.
pub(crate) async fn watch(service: String, listeners: Vec<Weak<ServerTls>>, at_once: Arc<Notify>) {
    let mut watcher = Watcher::new(service, listeners);
    while !watcher.is_done() {
        let look = tokio::select! {
            () = at_once.notified() => Look::AtOnce,
            () = tokio::time::sleep(PERIOD) => Look::WhenSettled,
        };
        let looked = tokio::task::spawn_blocking(move || {
            watcher.look(look);
            watcher
        });
        watcher = match looked.await {
            Ok(watcher) => watcher,
            // The runtime goes.
            Err(_) => return,
        };
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

    fn is_done(&self) -> bool {
        self.listeners.is_empty()
    }

    fn look(&mut self, look: Look) {
        self.listeners.retain_mut(|watched| {
            let Some(tls) = watched.tls.upgrade() else {
                return false;
            };
            watched.look(&tls, look, &self.service);
            true
        });
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
    use std::fs;

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
        assert!(!watcher.is_done());
        watcher.look(Look::WhenSettled);
        assert!(watcher.is_done());
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
