//! Who failed to log in lately: what slows guessing down.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{endpoint::unmap, transport::Address};

/// A peer, as failures are counted: an IPv4 address, a /64 of IPv6 (which is what one customer has at least, RFC 6177), or everybody on this machine
/// whose connection has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    V4([u8; 4]),
    V6([u16; 4]),
    Local,
}

impl Peer {
    /// Returns the peer at an address.
    pub(crate) fn of(address: &Address) -> Self {
        let Address::Socket(address) = address else {
            return Self::Local;
        };
        match unmap(address.ip()) {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Failures of each peer, and its attempts under way.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<Peer, Record>>);

#[derive(Debug)]
struct Record {
    failures: u32,
    /// Up to when failures were forgiven.
    since: Instant,
    attempts: u32,
}

/// Why a peer may not try now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// It has as many attempts under way as one may have.
    Busy,
    /// It failed too often; one failure is forgiven in this time.
    Limited(Duration),
}

/// One attempt of a peer, which counts as under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    all: Arc<Failures>,
    peer: Peer,
}

impl Failures {
    /// Begins an attempt, if the peer may make one.
    pub(crate) fn begin(self: &Arc<Self>, peer: Peer, now: Instant) -> Result<Attempt, NotNow> {
        self.with(peer, now, |record| {
            if record.failures >= MOST_FAILURES {
                let left =
                    FORGIVEN_AFTER.saturating_sub(now.saturating_duration_since(record.since));
                return Err(NotNow::Limited(left));
            }
            if record.attempts >= MOST_ATTEMPTS {
                return Err(NotNow::Busy);
            }
            record.attempts += 1;
            Ok(())
        })?;
        Ok(Attempt {
            all: self.clone(),
            peer,
        })
    }

    /// Returns how many attempts of a peer are under way.
    #[cfg(test)]
    pub(super) fn under_way(&self, peer: Peer) -> u32 {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&peer).map_or(0, |record| record.attempts)
    }

    fn with<T>(&self, peer: Peer, now: Instant, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MOST_PEERS && !records.contains_key(&peer) {
            make_room(&mut records, now);
        }
        match records.entry(peer) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().forgive(now);
                let result = change(entry.get_mut());
                if entry.get().is_nothing() {
                    entry.remove();
                }
                result
            }
            Entry::Vacant(entry) => {
                let mut record = Record {
                    failures: 0,
                    since: now,
                    attempts: 0,
                };
                let result = change(&mut record);
                if !record.is_nothing() {
                    entry.insert(record);
                }
                result
            }
        }
    }
}

impl Record {
    fn forgive(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs() / FORGIVEN_AFTER.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed >= self.failures {
            (self.failures, self.since) = (0, now);
        } else {
            self.failures -= passed;
            self.since += FORGIVEN_AFTER * passed;
        }
    }

    fn is_nothing(&self) -> bool {
        self.failures == 0 && self.attempts == 0
    }
}

impl Attempt {
    /// Returns whose it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Counts a failure. Returns how long its answer is held back: 1, 2, 4, 8, 16 seconds, and no longer.
    pub(crate) fn failed(&self, now: Instant) -> Duration {
        let failures = self.all.with(self.peer, now, |record| {
            record.failures = record.failures.saturating_add(1);
            record.failures
        });
        FIRST_DELAY * (1 << failures.saturating_sub(1).min(4))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.all.with(self.peer, Instant::now(), |record| {
            record.attempts = record.attempts.saturating_sub(1);
        });
    }
}

/// Drops a peer with the fewest failures among some; which ones those are nobody outside can tell, for the table's order is random.
fn make_room(records: &mut HashMap<Peer, Record>, now: Instant) {
    let some = records.iter_mut().take(16).map(|(peer, record)| {
        record.forgive(now);
        (record.failures, record.attempts, *peer)
    });
    let least = some.min_by_key(|(failures, attempts, _)| (*failures, *attempts));
    if let Some((.., peer)) = least {
        records.remove(&peer);
    }
}

/// Failures after which a peer is refused until one is forgiven: 10.
const MOST_FAILURES: u32 = 10;

/// One failure is forgiven in this time: a minute. So a peer has 1,440 guesses a day, and ten more.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Attempts of one peer under way, those included whose answer is held back: 8.
const MOST_ATTEMPTS: u32 = 8;

const FIRST_DELAY: Duration = Duration::from_secs(1);

/// Peers that are remembered: 65,536, some 4 MiB.
const MOST_PEERS: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(all: &Arc<Failures>, peer: Peer, now: Instant) -> Result<Duration, NotNow> {
        all.begin(peer, now).map(|attempt| attempt.failed(now))
    }

    #[test]
    fn every_failure_is_held_back_longer_until_there_are_too_many() {
        // `drop` looks at the clock, so this is in its future.
        let now = Instant::now() + SECOND * 3600;
        let all = Arc::default();
        for expected in [1, 2, 4, 8, 16, 16, 16, 16, 16, 16] {
            assert_eq!(fail(&all, Peer::Local, now), Ok(SECOND * expected));
        }
        let later = now + SECOND * 20;
        assert_eq!(
            fail(&all, Peer::Local, later),
            Err(NotNow::Limited(SECOND * 40))
        );
        assert_eq!(fail(&all, Peer::V4([1; 4]), later), Ok(SECOND));
        // One is forgiven in a minute, all in ten.
        let later = now + SECOND * 61;
        assert_eq!(fail(&all, Peer::Local, later), Ok(SECOND * 16));
        assert!(fail(&all, Peer::Local, later).is_err());
        assert_eq!(fail(&all, Peer::Local, later + SECOND * 600), Ok(SECOND));
    }

    #[test]
    fn a_success_is_no_failure_and_forgives_none() {
        let now = Instant::now();
        let all: Arc<Failures> = Arc::default();
        assert_eq!(fail(&all, Peer::Local, now), Ok(SECOND));
        for _ in 0..100 {
            drop(all.begin(Peer::Local, now).unwrap());
        }
        assert_eq!(fail(&all, Peer::Local, now), Ok(SECOND * 2));
    }

    #[test]
    fn a_peer_has_few_attempts_under_way() {
        let now = Instant::now();
        let all: Arc<Failures> = Arc::default();
        let mut under_way: Vec<_> = (0..8)
            .map(|_| all.begin(Peer::Local, now).unwrap())
            .collect();
        assert_eq!(all.begin(Peer::Local, now).unwrap_err(), NotNow::Busy);
        under_way.pop();
        under_way.push(all.begin(Peer::Local, now).unwrap());
        drop(under_way);
        // Nothing is left of it.
        assert!(all.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_peer_is_an_address_or_a_64_of_ipv6() {
        let peer = |text: &str| Peer::of(&Address::Socket(text.parse::<SocketAddr>().unwrap()));
        assert_eq!(peer("192.0.2.1:1"), peer("[::ffff:192.0.2.1]:2"));
        assert_ne!(peer("192.0.2.1:1"), peer("192.0.2.2:1"));
        assert_eq!(
            peer("[2001:db8:0:1::1]:1"),
            peer("[2001:db8:0:1:ffff::2]:1")
        );
        assert_ne!(peer("[2001:db8:0:1::1]:1"), peer("[2001:db8:0:2::1]:1"));
        assert_eq!(Peer::of(&Address::Path(None)), Peer::Local);
    }

    #[test]
    fn the_table_is_bounded_and_those_who_failed_often_stay() {
        let now = Instant::now();
        let all: Arc<Failures> = Arc::default();
        for _ in 0..10 {
            fail(&all, Peer::Local, now).unwrap();
        }
        for number in 0..100_000_u32 {
            fail(&all, Peer::V4(number.to_be_bytes()), now).unwrap();
        }
        assert_eq!(all.0.lock().unwrap().len(), MOST_PEERS);
        assert!(fail(&all, Peer::Local, now).is_err());
    }
}
