//! How soon an instance that broke is replaced.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How the last instances of a service on one worker fared.
///
/// Now and then one breaks, and the next connection is served at once. Again and again, each time within a second, is a plugin that cannot serve, or a peer that
/// knows how to break it; then connections are refused for a while, each time for longer.
#[derive(Debug, Default)]
pub(super) struct Backoff(Cell<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// When the last instance was made.
    made: Option<Instant>,
    /// How many in a row broke soon.
    short_lives: u32,
    /// No new instance is tried before this time.
    until: Option<Instant>,
    /// The last delay.
    delay: Option<Duration>,
}

impl Backoff {
    /// Returns whether no instance is to be made now.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.0.get().until.is_some_and(|until| now < until)
    }

    /// Notes that an instance was made, whose end will matter.
    pub(super) fn made(&self, now: Instant) {
        self.0.set(State {
            made: Some(now),
            until: None,
            ..self.0.get()
        });
    }

    /// Notes that an instance could be made, whose end will not matter.
    pub(super) fn recovered(&self) {
        self.0.set(State {
            until: None,
            delay: None,
            ..self.0.get()
        });
    }

    /// Notes that the last instance broke. Returns how long to refuse connections, if they are to be.
    pub(super) fn ended(&self, now: Instant) -> Option<Duration> {
        let mut state = self.0.get();
        let made = state.made.take()?;
        if now.saturating_duration_since(made) < SHORT_LIFE {
            state.short_lives += 1;
        } else {
            (state.short_lives, state.delay) = (0, None);
        }
        self.0.set(state);
        (state.short_lives > SHORT_LIVES).then(|| self.longer(now))
    }

    /// Refuses connections for a while, longer than the last time; returns how long.
    pub(super) fn longer(&self, now: Instant) -> Duration {
        let state = self.0.get();
        let delay = state
            .delay
            .map_or(FIRST_BACKOFF, |delay| (delay * 2).min(LONGEST_BACKOFF));
        self.0.set(State {
            until: Some(now + delay),
            delay: Some(delay),
            ..state
        });
        delay
    }
}

/// An instance that breaks within this time of its making was short-lived.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// So many short-lived instances in a row are replaced at once; after the next one the service backs off.
const SHORT_LIVES: u32 = 5;

/// After the first failure to make an instance: 1 s.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// However often it failed: 60 s.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_break_soon_are_replaced_at_once_a_few_times() {
        let backoff = Backoff::default();
        let mut now = Instant::now();
        for _ in 0..SHORT_LIVES {
            backoff.made(now);
            now += Duration::from_millis(900);
            assert_eq!(backoff.ended(now), None);
        }
        backoff.made(now);
        assert_eq!(backoff.ended(now), Some(FIRST_BACKOFF));
        assert!(backoff.is_on(now + Duration::from_millis(999)));
        assert!(!backoff.is_on(now + FIRST_BACKOFF));
        // Twice the time, to the longest.
        let mut delays = Vec::new();
        for _ in 0..8 {
            backoff.made(now);
            delays.push(backoff.ended(now).unwrap().as_secs());
        }
        assert_eq!(delays, [2, 4, 8, 16, 32, 60, 60, 60]);
        // One that lives makes up for all.
        backoff.made(now);
        now += SHORT_LIFE;
        assert_eq!(backoff.ended(now), None);
        backoff.made(now);
        assert_eq!(backoff.ended(now), None);
        // What did not live is not counted twice.
        assert_eq!(backoff.ended(now), None);
    }

    #[test]
    fn what_cannot_be_made_is_tried_later() {
        let backoff = Backoff::default();
        let now = Instant::now();
        assert_eq!(backoff.longer(now), FIRST_BACKOFF);
        assert_eq!(backoff.longer(now), 2 * FIRST_BACKOFF);
        assert!(backoff.is_on(now + FIRST_BACKOFF));
        backoff.recovered();
        assert!(!backoff.is_on(now));
        assert_eq!(backoff.longer(now), FIRST_BACKOFF);
    }
}
