//! Streams that were accepted, and wait for what comes before a connection: a PROXY header, TLS.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

/// Streams that were accepted, and are not connections yet.
#[derive(Debug, Default)]
pub(super) struct Establishing {
    pub(super) count: Cell<usize>,
    /// There is none any more.
    done: Notify,
    /// Those that are left are reset.
    pub(super) given_up: watch::Sender<bool>,
    /// When a failure was last worth a warning.
    pub(super) warned: Cell<Option<Instant>>,
}

impl Establishing {
    /// One less, and what it became.
    pub(super) fn finish<T>(&self, become_connection: impl FnOnce() -> T) -> T {
        self.count.set(self.count.get().saturating_sub(1));
        let result = become_connection();
        if self.count.get() == 0 {
            self.done.notify_waiters();
        }
        result
    }

    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// Waits a little until there is none, gives up those that are left, and returns what is left of the time.
    pub(super) async fn settle(&self, deadline: Duration) -> Duration {
        if self.count.get() == 0 {
            return deadline;
        }
        let start = Instant::now();
        let grace = deadline.min(ESTABLISHING_GRACE);
        if tokio::time::timeout(grace, self.emptied()).await.is_err() {
            self.give_up();
        }
        deadline.saturating_sub(start.elapsed())
    }

    async fn emptied(&self) {
        loop {
            let done = self.done.notified();
            if self.count.get() == 0 {
                return;
            }
            done.await;
        }
    }
}

/// How long a drain waits for streams that are not connections yet, before it tells the plugin that no more come: 1 s, several round trips.
const ESTABLISHING_GRACE: Duration = Duration::from_secs(1);
