//! Trying again, ever later.

use std::time::Duration;

use crate::random;

/// How long to wait before the next attempt: each time up to twice as long, and never the same for many clients at once.
///
/// ```no_run
/// # use std::time::Duration;
/// use nethost_sdk::{Backoff, Stream, after};
///
/// # async fn talk(_stream: Stream) {}
/// # async fn stay_connected() -> Result<(), nethost_sdk::Error> {
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// loop {
///     if let Ok(stream) = Stream::connect("tcp://irc.example.net:6667").await {
///         talk(stream).await;
///         backoff.reset();
///     }
///     after(backoff.next_delay()).await?;
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    maximum: Duration,
    current: Duration,
}

impl Backoff {
    /// Delays up to `first`, then twice that, and so on up to `maximum`.
    pub fn new(first: Duration, maximum: Duration) -> Self {
        Self {
            first: first.min(maximum),
            maximum,
            current: first.min(maximum),
        }
    }

    /// The next delay: a random one between half of the current bound and all of it.
    pub fn next_delay(&mut self) -> Duration {
        let half = self.current / 2;
        let spread = u64::try_from((self.current - half).as_nanos()).unwrap_or(u64::MAX);
        self.current = self.current.saturating_mul(2).min(self.maximum);
        half + Duration::from_nanos(random::u64() % spread.saturating_add(1))
    }

    /// Begins again with the first delay: an attempt was successful.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_with_a_spread() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        for _ in 0..2 {
            for bound in [1, 2, 4, 5, 5] {
                let delay = backoff.next_delay();
                assert!(
                    delay >= seconds(bound) / 2 && delay <= seconds(bound),
                    "{delay:?} of {bound}"
                );
            }
            backoff.reset();
        }
    }

    #[test]
    fn delays_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_ne!(backoff.next_delay(), backoff.next_delay());
    }

    #[test]
    fn no_bound_is_too_small_or_too_large() {
        for bound in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut backoff = Backoff::new(bound, bound);
            assert!(backoff.next_delay() <= bound);
        }
    }
}
