//! Whether a service has instances, and why not.

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::registry::lock;

/// How a service fares, all its workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it takes connections everywhere.
    pub state: State,
    /// Instances that broke or could not be made since the service started.
    pub failures: u64,
}

/// Whether a service takes connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On every worker.
    Serving,
    /// Not on some workers, or on none.
    Degraded(Degraded),
}

/// Why a service has no instance, and when it gets one. Until then its connections are closed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What went wrong last, in one line.
    pub reason: String,
    /// When the next instance is made; of several workers the first.
    pub retry: Instant,
    /// On how many of its workers the service has none.
    pub workers: usize,
    /// How many workers it has.
    pub of: usize,
}

/// What one worker says of it. Written when an instance cannot be had and when there is one again, which is never on the path of a byte.
#[derive(Debug, Default)]
pub(crate) struct Notice(Mutex<Option<(String, Instant)>>);

impl Notice {
    /// There is no instance, for this reason, and the next one is made then.
    pub(crate) fn set(&self, reason: String, retry: Instant) {
        *self.locked() = Some((reason, retry));
    }

    /// There is an instance.
    pub(crate) fn clear(&self) {
        *self.locked() = None;
    }

    pub(super) fn is_set(&self) -> bool {
        self.locked().is_some()
    }

    fn locked(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        lock(&self.0)
    }
}

impl State {
    /// Sums up what the workers of a service say.
    pub(super) fn of<'a>(notices: impl Iterator<Item = &'a Notice>) -> Self {
        let mut of = 0;
        let mut set = Vec::new();
        for notice in notices {
            of += 1;
            set.extend(notice.locked().clone());
        }
        let workers = set.len();
        let first = set.into_iter().min_by_key(|(_, retry)| *retry);
        match first {
            None => Self::Serving,
            Some((reason, retry)) => Self::Degraded(Degraded {
                reason,
                retry,
                workers,
                of,
            }),
        }
    }

    /// Returns whether no worker takes connections.
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Self::Degraded(degraded) if degraded.workers == degraded.of)
    }
}

impl std::fmt::Display for Degraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            reason,
            retry,
            workers,
            of,
        } = self;
        write!(f, "degraded")?;
        if workers < of {
            write!(f, " on {workers} of {of} workers")?;
        }
        let left = retry.saturating_duration_since(Instant::now());
        let left = left.as_secs_f32();
        write!(f, ": {reason}; next try in {left:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_to_be_tried_again_speaks_for_all() {
        let notices = [Notice::default(), Notice::default(), Notice::default()];
        assert_eq!(State::of(notices.iter()), State::Serving);
        let soon = Instant::now();
        let later = soon + Duration::from_secs(5);
        notices[0].set("that".to_owned(), later);
        notices[2].set("this".to_owned(), soon);
        let state = State::of(notices.iter());
        assert!(!state.is_down());
        let State::Degraded(degraded) = state else {
            panic!("{state:?}")
        };
        assert_eq!(
            degraded.to_string(),
            "degraded on 2 of 3 workers: this; next try in 0.0 s"
        );
        notices[1].set("those".to_owned(), later);
        assert!(State::of(notices.iter()).is_down());
        for notice in &notices {
            notice.clear();
        }
        assert_eq!(State::of(notices.iter()), State::Serving);
    }
}
