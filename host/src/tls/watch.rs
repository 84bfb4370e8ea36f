//! How a listener's certificates are loaded again.

use super::{
    files,
    server::{Reloaded, ServerTls},
};
use crate::watch::{Look, NotLoaded, Reload, Snapshot};

impl Reload for ServerTls {
    const WHAT: &'static str = "certificates";

    fn look(&self) -> Snapshot {
        files::look(self.options())
    }

    fn differs(&self, snapshot: &Snapshot) -> bool {
        self.has_loaded_other(snapshot)
    }

    fn load(&self, why: Look, service: &str) -> Result<(), NotLoaded> {
        match self.reload() {
            Ok(Reloaded::Changed { certificates }) => {
                tracing::info!(
                    service,
                    "new connections get the certificates of {certificates}"
                );
                Ok(())
            }
            Ok(Reloaded::Unchanged) => {
                match why {
                    Look::AtOnce => tracing::info!(service, "the certificates are the same"),
                    Look::WhenSettled => {
                        tracing::debug!(service, "the files changed, the certificates did not");
                    }
                }
                Ok(())
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(service, "the certificates stay as they were: {error}");
                Err(NotLoaded)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use crate::{
        tls::{
            server::ServerTls,
            testing::{Authority, Folder, showing},
        },
        watch::{Look, PERIOD, Reload as _, Snapshot, Watch, Watcher},
    };

    /// Returns whether the last look loaded something.
    fn looks(watcher: &mut Watcher<ServerTls>, look: Look, tls: &ServerTls) -> bool {
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
        let mut watcher = Watcher::new("test", [&tls]);
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
        let mut watcher = Watcher::new("test", [&tls]);
        let failed = |watcher: &Watcher<ServerTls>| watcher.watched[0].failed.clone();
        folder.write("a.pem", "hello");
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), None);
        watcher.look(Look::WhenSettled);
        assert_eq!(failed(&watcher), Some(tls.look()));
        // Nothing is tried now: `seen`, which a try clears, stays as it is.
        watcher.watched[0].seen = Some(Snapshot::default());
        watcher.look(Look::WhenSettled);
        assert_eq!(watcher.watched[0].seen, Some(Snapshot::default()));
        watcher.look(Look::AtOnce);
        assert_eq!(watcher.watched[0].seen, None);
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
