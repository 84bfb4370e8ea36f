//! How soon an instance that broke is replaced.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rustix::rand::{GetRandomFlags, getrandom};

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
    /// The last delay, before chance added to it.
    delay: Option<Duration>,
}

impl Backoff {
    /// Returns whether no instance is to be made now.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.0.get().until.is_some_and(|until| now < until)
    }

    /// Returns when the next instance is to be made, if there is none because of the last ones.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.0.get().until
    }

    /// Notes that an instance was made, whose end will matter. Returns whether there was none for a while.
    pub(super) fn made(&self, now: Instant) -> bool {
        let state = self.0.get();
        self.0.set(State {
            made: Some(now),
            until: None,
            ..state
        });
        state.until.is_some()
    }

    /// Notes that an instance could be made, whose end will not matter. Returns whether there was none for a while.
    pub(super) fn recovered(&self) -> bool {
        let state = self.0.get();
        self.0.set(State {
            until: None,
            delay: None,
            ..state
        });
        state.until.is_some()
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
        let least = state
            .delay
            .map_or(FIRST_BACKOFF, |delay| (delay * 2).min(LONGEST_BACKOFF));
        let delay = least + (least / JITTER).mul_f32(lot());
        self.0.set(State {
            until: Some(now + delay),
            delay: Some(least),
            ..state
        });
        delay
    }
}

/// Returns a number from 0 to 1 by chance, so that workers and hosts whose plugins broke together do not come back together.
fn lot() -> f32 {
    let mut lot = [0];
    // Without randomness all wait equally long, and that is all.
    let _failed = getrandom(&mut lot, GetRandomFlags::NONBLOCK);
    f32::from(lot[0]) / f32::from(u8::MAX)
}

/// An instance that breaks within this time of its making was short-lived.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// So many short-lived instances in a row are replaced at once; after the next one the service backs off.
const SHORT_LIVES: u32 = 5;

/// After the first failure to make an instance: 1 s.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// However often it failed: 48 s, which chance makes up to 60 s.
const LONGEST_BACKOFF: Duration = Duration::from_secs(48);

/// Chance adds up to a fourth.
const JITTER: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_jittered(delay: Duration, seconds: u64) -> bool {
        let least = Duration::from_secs(seconds);
        (least..=least + least / JITTER).contains(&delay)
    }

    #[test]
    fn those_that_break_soon_are_replaced_at_once_a_few_times() {
        let backoff = Backoff::default();
        let mut now = Instant::now();
        for _ in 0..SHORT_LIVES {
            assert!(!backoff.made(now));
            now += Duration::from_millis(900);
            assert_eq!(backoff.ended(now), None);
        }
        backoff.made(now);
        let first = backoff.ended(now).unwrap();
        assert!(is_jittered(first, 1), "{first:?}");
        assert!(backoff.is_on(now + first - Duration::from_millis(1)));
        assert!(!backoff.is_on(now + first));
        // Until one is made nobody is served, however late that is.
        assert_eq!(backoff.retry(), Some(now + first));
        // Twice the time, to the longest.
        for seconds in [2, 4, 8, 16, 32, 48, 48, 48] {
            assert!(backoff.made(now));
            assert_eq!(backoff.retry(), None);
            let delay = backoff.ended(now).unwrap();
            assert!(is_jittered(delay, seconds), "{delay:?}");
        }
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
        assert!(is_jittered(backoff.longer(now), 1));
        let second = backoff.longer(now);
        assert!(is_jittered(second, 2), "{second:?}");
        assert!(backoff.is_on(now + FIRST_BACKOFF));
        assert!(backoff.recovered());
        assert!(!backoff.recovered());
        assert!(!backoff.is_on(now));
        assert!(is_jittered(backoff.longer(now), 1));
    }

    #[test]
    fn chance_makes_the_times_differ() {
        let now = Instant::now();
        let delays = (0..32).map(|_| Backoff::default().longer(now));
        let delays: std::collections::BTreeSet<_> = delays.collect();
        assert!(delays.len() > 1, "{delays:?}");
        assert!(delays.iter().all(|delay| is_jittered(*delay, 1)));
    }
}
