//! Who sent to a socket lately: whom it may answer without a grant.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// One peer: address, port and scope.
pub(super) type Peer = (u128, u16, u32);

/// A table of fixed size. Each peer has one set that it can be in, of four places; in a set that is full the peer that has been silent for
/// the longest gives way. Which set it is, nobody outside can tell, so nobody can aim at it.
///
/// 65,536 places of 32 bytes are 2 MiB, of which the system gives a page when something is first written to it.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Empty until somebody sends.
    sets: Vec<Set>,
    hasher: RandomState,
    /// The one that was noted last, and when: many packets come in a row.
    last: Option<(Peer, u64)>,
}

/// Four places, each the two halves of the address, port and scope, and the second when it last sent; 0 is never.
type Set = [[u64; 4]; 4];

impl Peers {
    /// Notes that a peer sent in this second, counted from any time that is long enough ago.
    pub(super) fn note(&mut self, peer: Peer, second: u64) {
        if self.last == Some((peer, second)) {
            return;
        }
        self.last = Some((peer, second));
        if self.sets.is_empty() {
            self.sets = vec![[[0; 4]; 4]; SETS];
        }
        let key = key(peer);
        let index = self.index(peer);
        let Some(set) = self.sets.get_mut(index) else {
            return;
        };
        let place = match set.iter().position(|place| place.starts_with(&key)) {
            Some(at) => set.get_mut(at),
            None => set.iter_mut().min_by_key(|[.., seen]| *seen),
        };
        if let Some(place) = place {
            let [high, low, port] = key;
            *place = [high, low, port, second];
        }
    }

    /// Returns whether the peer sent within [`RECENT`].
    pub(super) fn knows(&self, peer: Peer, second: u64) -> bool {
        let key = key(peer);
        let set = self.sets.get(self.index(peer));
        set.is_some_and(|set| {
            set.iter().any(|place| {
                let [.., seen] = place;
                *seen > 0
                    && place.starts_with(&key)
                    && second.saturating_sub(*seen) <= RECENT.as_secs()
            })
        })
    }

    fn index(&self, peer: Peer) -> usize {
        let hash = self.hasher.hash_one(peer);
        usize::try_from(hash % SETS as u64).unwrap_or(0)
    }
}

fn key((ip, port, scope): Peer) -> [u64; 3] {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    [
        half(ip >> 64),
        half(ip),
        u64::from(scope) << 16 | u64::from(port),
    ]
}

/// How long a peer that sent may be sent to: five minutes, as long as a NAT is to keep the way back open
/// ([RFC 4787 section 4.3](https://www.rfc-editor.org/rfc/rfc4787.html#section-4.3)).
pub(super) const RECENT: Duration = Duration::from_secs(300);

const SETS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> Peer {
        (u128::from(number) << 64 | 7, number, 0)
    }

    #[test]
    fn a_peer_is_known_for_as_long_as_it_sent_lately() {
        let mut peers = Peers::default();
        assert!(!peers.knows(peer(1), 1000));
        peers.note(peer(1), 1000);
        for (second, known) in [(1000, true), (1300, true), (1301, false)] {
            assert_eq!(peers.knows(peer(1), second), known, "{second}");
        }
        peers.note(peer(1), 1200);
        assert!(peers.knows(peer(1), 1500));
    }

    #[test]
    fn address_port_and_scope_all_count() {
        let mut peers = Peers::default();
        let (ip, port, scope) = (0xfe80 << 112 | 1, 53, 2);
        peers.note((ip, port, scope), 10);
        assert!(peers.knows((ip, port, scope), 10));
        for other in [
            (ip + 1, port, scope),
            (ip ^ 1 << 64, port, scope),
            (ip, port + 1, scope),
            (ip, port, scope + 1),
            (0, 0, 0),
        ] {
            assert!(!peers.knows(other, 10), "{other:?}");
        }
    }

    #[test]
    fn the_one_that_was_silent_longest_gives_way() {
        let mut peers = Peers::default();
        // More than fit, one a second: the last thousands are there, the first are not.
        for number in 0..=u16::MAX {
            peers.note(peer(number), u64::from(number / 256) + 1);
        }
        for number in 0..=u16::MAX {
            peers.note((1 << 100 | u128::from(number), 1, 0), 300);
        }
        let known = |from: u16, to: u16| (from..to).filter(|n| peers.knows(peer(*n), 300)).count();
        let (old, new) = (known(0, 16_384), known(49_152, u16::MAX));
        assert!(old < new, "{old} of the oldest, {new} of the newest");
        let latest = (0..=u16::MAX)
            .filter(|number| peers.knows((1 << 100 | u128::from(*number), 1, 0), 300))
            .count();
        assert!(latest > 50_000, "{latest}");
    }

    #[test]
    fn no_memory_is_taken_before_somebody_sends() {
        let peers = Peers::default();
        assert_eq!(peers.sets.capacity(), 0);
        assert!(!peers.knows(peer(3), 0));
    }
}
