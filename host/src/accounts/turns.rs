//! Whose password is hashed next: there are few places, and a peer that takes many leaves room for the others.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::failures::Peer;

/// Places to hash, and who waits for one.
#[derive(Debug)]
pub(super) struct Turns {
    /// How many hash at a time.
    places: usize,
    /// How many may wait.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hashing: Vec<Peer>,
    /// In the order in which they came.
    waiting: VecDeque<(Peer, oneshot::Sender<Turn>)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    peer: Peer,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Turns {
    pub(super) fn new(places: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            most,
            state: Mutex::default(),
        })
    }

    /// Waits for a place. The next one is for who has the fewest; of several, for who came first. If too many wait, the last of the peer with the most
    /// makes way for a peer that would have fewer.
    pub(super) async fn wait(self: &Arc<Self>, peer: Peer) -> Result<Turn, Full> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if state.hashing.len() < self.places {
                state.hashing.push(peer);
                return Ok(self.turn(peer));
            }
            // Who was cancelled does not wait any more.
            state.waiting.retain(|(_, sender)| !sender.is_closed());
            if state.waiting.len() >= self.most {
                state.make_way(peer)?;
            }
            state.waiting.push_back((peer, sender));
        }
        receiver.await.map_err(|_| Full)
    }

    fn turn(self: &Arc<Self>, peer: Peer) -> Turn {
        Turn {
            turns: self.clone(),
            peer,
        }
    }

    /// Gives a place back, and to the next.
    fn release(self: &Arc<Self>, peer: Peer) {
        let next = self.state().replace(peer);
        if let Some((next, sender)) = next {
            // Who was cancelled gives it back in here, so that this goes as deep as there are who wait, at most.
            let _given_back = sender.send(self.turn(next));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waiting_of(&self, peer: Peer) -> usize {
        self.waiting.iter().filter(|(it, _)| *it == peer).count()
    }

    fn hashing_of(&self, peer: Peer) -> usize {
        self.hashing.iter().filter(|it| **it == peer).count()
    }

    /// Sends the last of the peer with the most away, if that has more than this one would have.
    fn make_way(&mut self, peer: Peer) -> Result<(), Full> {
        let counts = self.waiting.iter().enumerate();
        let greediest = counts
            .map(|(at, (it, _))| (self.waiting_of(*it), at))
            .max()
            .filter(|(count, _)| *count > self.waiting_of(peer) + 1);
        let (_, at) = greediest.ok_or(Full)?;
        self.waiting.remove(at);
        Ok(())
    }

    /// Takes a place from one and returns the next, who has it.
    fn replace(&mut self, peer: Peer) -> Option<(Peer, oneshot::Sender<Turn>)> {
        if let Some(at) = self.hashing.iter().position(|it| *it == peer) {
            self.hashing.swap_remove(at);
        }
        let waiting = self.waiting.iter().enumerate();
        let (at, _) = waiting.min_by_key(|(at, (peer, _))| (self.hashing_of(*peer), *at))?;
        let next = self.waiting.remove(at)?;
        self.hashing.push(next.0);
        Some(next)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.release(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Wait<'a> = Pin<Box<dyn Future<Output = Result<Turn, Full>> + 'a>>;

    fn poll(
        wait: Pin<&mut (impl Future<Output = Result<Turn, Full>> + ?Sized)>,
    ) -> Poll<Result<Turn, Full>> {
        wait.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn waits(turns: &Arc<Turns>, peer: u8) -> Wait<'_> {
        let mut wait: Wait<'_> = Box::pin(turns.wait(Peer::V4([peer; 4])));
        assert!(poll(wait.as_mut()).is_pending(), "{peer}");
        wait
    }

    fn has(turns: &Arc<Turns>, peer: u8) -> Turn {
        match poll(pin!(turns.wait(Peer::V4([peer; 4])))) {
            Poll::Ready(Ok(turn)) => turn,
            other => panic!("{peer}: {other:?}"),
        }
    }

    fn is_next(wait: &mut Wait<'_>) -> Turn {
        match poll(wait.as_mut()) {
            Poll::Ready(Ok(turn)) => turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_place_is_for_who_has_the_fewest() {
        let turns = Turns::new(2, 8);
        let (first, second) = (has(&turns, 1), has(&turns, 1));
        let mut greedy: Vec<_> = (0..3).map(|_| waits(&turns, 1)).collect();
        let mut late = waits(&turns, 2);
        drop(first);
        let late = is_next(&mut late);
        assert!(poll(greedy[0].as_mut()).is_pending());
        drop(second);
        let mut turn = is_next(&mut greedy[0]);
        for wait in &mut greedy[1..] {
            drop(turn);
            turn = is_next(wait);
        }
        drop((turn, late));
        assert!(turns.state().hashing.is_empty());
    }

    #[test]
    fn who_waits_with_many_makes_way_when_there_is_no_more_room() {
        let turns = Turns::new(1, 3);
        let first = has(&turns, 9);
        let mut greedy: Vec<_> = (0..3).map(|_| waits(&turns, 1)).collect();
        assert!(matches!(
            poll(pin!(turns.wait(Peer::V4([1; 4])))),
            Poll::Ready(Err(Full))
        ));
        let _other = waits(&turns, 2);
        assert!(matches!(poll(greedy[2].as_mut()), Poll::Ready(Err(Full))));
        let _third = waits(&turns, 3);
        assert!(matches!(poll(greedy[1].as_mut()), Poll::Ready(Err(Full))));
        // Each has one now: whoever comes has to come again.
        assert!(matches!(
            poll(pin!(turns.wait(Peer::V4([4; 4])))),
            Poll::Ready(Err(Full))
        ));
        drop(first);
        is_next(&mut greedy[0]);
    }

    #[test]
    fn who_is_cancelled_neither_waits_nor_hashes() {
        let turns = Turns::new(1, 2);
        let first = has(&turns, 1);
        drop((waits(&turns, 2), waits(&turns, 3)));
        let (given, mut last) = (waits(&turns, 4), waits(&turns, 5));
        drop(first);
        // It has the place, and goes before it knows.
        drop(given);
        drop(is_next(&mut last));
        drop(has(&turns, 6));
        assert!(turns.state().hashing.is_empty());
    }
}
