//! Who is let in: how many connections a peer and its network may have, and how fast connections are accepted.
//!
//! It is asked once for each connection, by all workers. Nothing of it lies on the path of a byte.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::pool::Admission;
use crate::{
    endpoint::unmap,
    limits::{DEFAULT_PER_PEER, DEFAULT_PER_PREFIX, Limits},
    transport::Address,
};

/// The door of one service.
#[derive(Debug)]
pub(super) struct Door {
    /// With isolation `connection`: how many instances there may be.
    pub(super) pool: Option<Arc<Admission>>,
    per_peer: Option<usize>,
    per_prefix: Option<usize>,
    counts: Mutex<HashMap<Network, usize>>,
    opened: Instant,
    /// Between two connections, in nanoseconds.
    interval: u64,
    /// When the next connection would come if they came evenly at the highest rate, in nanoseconds after `opened`.
    next: AtomicU64,
}

/// A connection's place among those of its peer. It goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    door: Arc<Door>,
    taken: Vec<Network>,
}

/// Those who are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    /// One address.
    Peer(IpAddr),
    /// A /24 of IPv4: its first three bytes.
    V4([u8; 3]),
    /// A /64 of IPv6, which is what one customer has at least (RFC 6177).
    V6([u16; 4]),
}

/// Somebody has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    from: Network,
    most: usize,
}

impl Door {
    pub(super) fn new(limits: &Limits, pool: Option<Arc<Admission>>) -> Arc<Self> {
        let rate = u64::from(limits.accept_rate.max(1));
        Arc::new(Self {
            pool,
            per_peer: limits.connections_per_peer,
            per_prefix: limits.connections_per_prefix,
            counts: Mutex::default(),
            opened: Instant::now(),
            interval: NANOSECONDS / rate,
            next: AtomicU64::new(0),
        })
    }

    /// Takes a place for a connection of a peer. Peers that are told apart by nothing, on a UNIX socket, are not limited.
    pub(super) fn seat(self: &Arc<Self>, peer: &Address) -> Result<Seat, TooMany> {
        let mut seat = Seat {
            door: self.clone(),
            taken: Vec::new(),
        };
        let Address::Socket(address) = peer else {
            return Ok(seat);
        };
        let ip = unmap(address.ip());
        let default = |most| (!ip.is_loopback()).then_some(most);
        let wanted = [
            (Network::Peer(ip), self.per_peer, DEFAULT_PER_PEER),
            (Network::around(ip), self.per_prefix, DEFAULT_PER_PREFIX),
        ];
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (network, most, unset) in wanted {
            let Some(most) = most.or_else(|| default(unset)) else {
                continue;
            };
            let count = counts.entry(network).or_insert(0);
            if *count >= most {
                if *count == 0 {
                    counts.remove(&network);
                }
                // The seat gives back what it took, for which it needs the lock.
                drop(counts);
                return Err(TooMany {
                    from: network,
                    most,
                });
            }
            *count += 1;
            seat.taken.push(network);
        }
        Ok(seat)
    }

    /// Counts a connection that was accepted, and returns how long to wait before the next one: nothing, unless they come faster than they may.
    pub(super) fn pause(&self) -> Option<Duration> {
        let now = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let step = |next: u64| next.max(now).saturating_add(self.interval);
        // The generic cell rate algorithm (ITU-T I.371): one number in the place of a bucket. Nothing is published through it.
        let before = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                Some(step(next))
            })
            .unwrap_or_default();
        let ahead = step(before).saturating_sub(now);
        let pause = ahead.saturating_sub(BURST);
        (pause > 0).then(|| Duration::from_nanos(pause))
    }
}

impl Network {
    fn around(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let counts = self.door.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        for network in &self.taken {
            if let Entry::Occupied(mut entry) = counts.entry(*network) {
                *entry.get_mut() = entry.get().saturating_sub(1);
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.most;
        match self.from {
            Network::Peer(ip) => write!(f, "{ip} has {most} connections, and may have no more"),
            Network::V4([a, b, c]) => {
                write!(
                    f,
                    "{a}.{b}.{c}.0/24 has {most} connections, and may have no more"
                )
            }
            Network::V6([a, b, c, d]) => {
                write!(
                    f,
                    "{a:x}:{b:x}:{c:x}:{d:x}::/64 has {most} connections, and may have no more"
                )
            }
        }
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

/// How far connections may come ahead of an even rate: 100 ms, a tenth of a second's worth at once.
const BURST: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn door(limits: &Limits) -> Arc<Door> {
        Door::new(limits, None)
    }

    fn peer(ip: &str) -> Address {
        Address::Socket(std::net::SocketAddr::new(ip.parse().unwrap(), 1))
    }

    #[test]
    fn a_peer_has_so_many_and_its_network_so_many() {
        let door = door(&Limits {
            connections_per_peer: Some(2),
            connections_per_prefix: Some(3),
            ..Limits::default()
        });
        let first = door.seat(&peer("192.0.2.1")).unwrap();
        let _second = door.seat(&peer("::ffff:192.0.2.1")).unwrap();
        let refused = door.seat(&peer("192.0.2.1")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "192.0.2.1 has 2 connections, and may have no more"
        );
        let _third = door.seat(&peer("192.0.2.2")).unwrap();
        let refused = door.seat(&peer("192.0.2.3")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "192.0.2.0/24 has 3 connections, and may have no more"
        );
        let _elsewhere = door.seat(&peer("192.0.3.1")).unwrap();
        drop(first);
        drop(door.seat(&peer("192.0.2.1")).unwrap());
        let sixth = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:1::"]
            .map(|ip| door.seat(&peer(ip)).unwrap());
        assert_eq!(
            door.seat(&peer("2001:db8::3")).unwrap_err().to_string(),
            "2001:db8:0:0::/64 has 3 connections, and may have no more"
        );
        drop(sixth);
        drop((_second, _third, _elsewhere));
        assert!(door.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn loopback_is_limited_only_if_the_limit_is_set() {
        let door = door(&Limits::default());
        let seats: Vec<_> = (0..300)
            .map(|_| door.seat(&peer("127.0.0.1")).unwrap())
            .collect();
        assert!(seats.iter().all(|seat| seat.taken.is_empty()));
        let _others: Vec<_> = (0..DEFAULT_PER_PEER)
            .map(|_| door.seat(&peer("192.0.2.1")).unwrap())
            .collect();
        assert!(door.seat(&peer("192.0.2.1")).is_err());
        assert!(door.seat(&Address::Path(None)).is_ok());
    }

    #[test]
    fn connections_that_come_too_fast_are_waited_for() {
        let door = door(&Limits {
            accept_rate: 1000,
            ..Limits::default()
        });
        let pauses: Vec<_> = (0..200).map(|_| door.pause()).collect();
        let at_once = pauses.iter().filter(|pause| pause.is_none()).count();
        // A hundred are the burst; some more come while the test runs.
        assert!((100..200).contains(&at_once), "{at_once}");
        let longest = pauses.last().unwrap().unwrap();
        assert!(longest <= Duration::from_millis(100), "{longest:?}");
    }
}
