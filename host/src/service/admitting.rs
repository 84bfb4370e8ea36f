//! How a stream that came to a listener becomes a connection, or why not.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{
    alone::{Alone, One},
    door::Seat,
    listening::Listener,
    slot::{Running, SLOTS, Slot},
};
use crate::{
    endpoint::Security,
    memory,
    metrics::meters::{Limit, Refused},
    reactor::{Accepted, FirstTls, Holdings, Id, Origin, WorkerHandle, establish},
    transport::{Address, Transport},
};

impl Slot {
    /// Takes a stream in that another worker accepted.
    fn take_in_turn(self: Rc<Self>, accepted: Accepted, listener: Listener) {
        tokio::task::spawn_local(async move {
            self.lane.turn().await;
            self.take(accepted, &listener);
        });
    }

    /// Takes a stream in: at once, or after what must come before. Returns the task that serves it, unless it is refused.
    pub(super) fn take(
        self: &Rc<Self>,
        accepted: Accepted,
        listener: &Listener,
    ) -> Option<JoinHandle<()>> {
        let first_tls = match listener.security {
            Security::Clear => None,
            Security::Tls => listener.tls.clone(),
        };
        // Behind a proxy it is not known yet who it is.
        let seat = match listener.options.proxy {
            None => Some(self.seat(&accepted.1.1, listener)?),
            Some(_) => None,
        };
        if listener.options.proxy.is_none() && first_tls.is_none() {
            let admitted = self.admit(accepted, listener, None, seat)?;
            return Some(tokio::task::spawn_local(admitted));
        }
        let holdings = self.room()?;
        // The client takes the id home, to say where it has been when it comes again.
        let id = holdings.next_id();
        let first_tls = first_tls.map(|tls| (tls.config(), holdings.ticket(id)));
        self.establishing
            .count
            .set(self.establishing.count.get() + 1);
        let (slot, listener) = (self.clone(), listener.clone());
        Some(tokio::task::spawn_local(async move {
            let peer = accepted.1.1.clone();
            let established = slot.establish(accepted, &listener, first_tls).await;
            // Now it counts as a connection, or not at all.
            let served = match established {
                Ok(accepted) => {
                    let reserved = Some((&holdings, id));
                    let admit = || slot.admit(accepted, &listener, reserved, seat);
                    slot.establishing.finish(admit)
                }
                Err((refused, reason)) => {
                    slot.meters.refused.count(refused);
                    slot.establishing.finish(|| ());
                    slot.note_refusal(&listener, &peer, &reason);
                    None
                }
            };
            if let Some(served) = served {
                served.await;
            }
        }))
    }

    async fn establish(
        &self,
        accepted: Accepted,
        listener: &Listener,
        first_tls: FirstTls,
    ) -> Result<Accepted, (Refused, String)> {
        let limit = self.program.limits.handshake_time;
        let mut given_up = self.establishing.given_up.subscribe();
        let steps = tokio::time::timeout(limit, establish(accepted, &listener.options, first_tls));
        tokio::select! {
            biased;
            // The sender is this slot's. Once it was said that no connection comes any more, none does.
            _ = given_up.wait_for(|given_up| *given_up) => {
                Err((Refused::Draining, "the service is draining".to_owned()))
            }
            established = steps => match established {
                Ok(established) => {
                    established.map_err(|error| (Refused::Handshake, error.to_string()))
                }
                Err(_elapsed) => {
                    self.meters.limits.count(Limit::HandshakeTime);
                    let reason = format!("it was not established within {limit:?}");
                    Err((Refused::HandshakeTime, reason))
                }
            },
        }
    }

    /// Says why a stream did not become a connection: now and then so that an operator sees it, and otherwise for who looks for it.
    fn note_refusal(&self, listener: &Listener, peer: &Address, reason: &str) {
        let now = Instant::now();
        let service = &*self.program.service;
        let listener = &*listener.url;
        let warned = self.establishing.warned.get();
        if warned.is_none_or(|warned| now.duration_since(warned) >= REFUSALS_WARNED_EVERY) {
            self.establishing.warned.set(Some(now));
            tracing::warn!(
                service,
                listener,
                %peer,
                reason,
                "a stream was refused; others in the next minute are logged at level debug"
            );
        } else {
            tracing::debug!(service, listener, %peer, reason, "a stream was refused");
        }
    }

    /// Makes a stream a connection, and returns what serves it. It may have an id already, of holdings that may be gone by now.
    fn admit(
        &self,
        (transport, addresses): Accepted,
        listener: &Listener,
        reserved: Option<(&Rc<Holdings>, Id)>,
        seat: Option<Seat>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let seat = match seat {
            Some(seat) => seat,
            None => self.seat(&addresses.1, listener)?,
        };
        let (holdings, alone) = match &self.alone {
            None => (self.room()?, None),
            Some(alone) => {
                let one = self.one(alone)?;
                (one.holdings().clone(), Some(one))
            }
        };
        self.count_accepted(&listener.url);
        let id = match reserved {
            Some((of, id)) if Rc::ptr_eq(of, &holdings) => id,
            _ => holdings.next_id(),
        };
        let origin = Origin::Configured(listener.url.clone());
        let served = holdings.accept(id, transport, addresses, origin, listener.tls.clone());
        Some(async move {
            served.await;
            drop(seat);
            if let Some(alone) = alone {
                alone.outlive().await;
            }
        })
    }

    /// Finds a place for a connection among its peer's.
    fn seat(&self, peer: &Address, listener: &Listener) -> Option<Seat> {
        if memory::is_short() {
            self.meters.refused.count(Refused::Limit);
            self.meters.limits.count(Limit::HostMemory);
            let reason = "the host has no memory for more connections";
            self.note_refusal(listener, peer, reason);
            return None;
        }
        match self.door.seat(peer) {
            Ok(seat) => Some(seat),
            Err(too_many) => {
                self.meters.refused.count(Refused::Limit);
                self.meters.limits.count(Limit::ConnectionsOfPeer);
                self.note_refusal(listener, peer, &too_many.to_string());
                None
            }
        }
    }

    /// Returns who takes one more connection; none is counted.
    fn room(&self) -> Option<Rc<Holdings>> {
        let Some(Running { holdings, .. }) = self.current() else {
            self.meters.refused.count(Refused::NoInstance);
            return None;
        };
        if self.is_full(&holdings) {
            self.meters.refused.count(Refused::Limit);
            self.meters.limits.count(Limit::Connections);
            return None;
        }
        Some(holdings)
    }

    /// Makes an instance for one connection, if there is a place for it.
    fn one(&self, alone: &Rc<Alone>) -> Option<One> {
        let Some(place) = alone.admission().take() else {
            self.note_full(true);
            self.meters.refused.count(Refused::Limit);
            self.meters.limits.count(Limit::Connections);
            return None;
        };
        let Some(running) = self.try_make(Instant::now()) else {
            self.meters.refused.count(Refused::NoInstance);
            return None;
        };
        self.recovered();
        Some(alone.keep(running, place))
    }

    fn count_accepted(&self, listener: &Arc<str>) {
        let mut accepted = self.accepted.borrow_mut();
        match accepted.iter_mut().find(|(url, _)| url == listener) {
            Some((_, count)) => *count += 1,
            // One for each listener of the service.
            None => accepted.push((listener.clone(), 1)),
        }
    }

    fn is_full(&self, holdings: &Holdings) -> bool {
        let leaving = self.outgoing.borrow();
        let leaving = leaving.iter().map(|it| it.holdings.connection_count());
        let more = self.establishing.count.get() + leaving.sum::<usize>();
        let full = match &self.alone {
            Some(alone) => alone.admission().is_full(more),
            None => holdings.is_full(more),
        };
        self.note_full(full);
        full
    }

    fn note_full(&self, full: bool) {
        let limit = self
            .alone
            .as_ref()
            .map_or(self.program.limits.connections, |alone| {
                alone.admission().most()
            });
        if full && !self.full.get() {
            tracing::warn!(
                service = self.program.service,
                limit,
                "too many connections; further ones are closed"
            );
        }
        self.full.set(full);
    }

    /// Hands the connections of one socket to all workers in turn.
    pub(super) fn spread(
        self: Rc<Self>,
        listener: Listener,
        workers: Vec<WorkerHandle>,
    ) -> Rc<dyn Fn(Accepted)> {
        let id = SLOTS.with_borrow(|slots| {
            slots
                .iter()
                .find(|(_, slot)| Rc::ptr_eq(slot, &self))
                .map(|(id, _)| *id)
        });
        let next = Cell::new(0_usize);
        let on_their_way = Arc::new(AtomicUsize::new(0));
        Rc::new(move |(transport, addresses)| {
            let index = next.replace(next.get().wrapping_add(1)) % workers.len().max(1);
            // The first worker is this one.
            let (Some(worker), Some(id), true) = (workers.get(index), id, index > 0) else {
                self.take((transport, addresses), &listener);
                return;
            };
            if on_their_way.load(Ordering::Relaxed) >= MOST_HANDED {
                // A worker that stands still must not collect them.
                self.take((transport, addresses), &listener);
                return;
            }
            let listener = listener.clone();
            let count = on_their_way.clone();
            count.fetch_add(1, Ordering::Relaxed);
            match transport.into_handed() {
                Ok(handed) => worker.run(move |_| {
                    count.fetch_sub(1, Ordering::Relaxed);
                    if let Some(slot) = Self::find(id)
                        && let Ok(transport) = Transport::from_handed(handed)
                    {
                        slot.take_in_turn((transport, addresses), listener);
                    }
                }),
                Err(error) => {
                    count.fetch_sub(1, Ordering::Relaxed);
                    tracing::debug!(%error, "handing a connection to another worker");
                }
            }
        })
    }
}

/// Of refused streams one in this time is worth a warning: 60 s.
const REFUSALS_WARNED_EVERY: Duration = Duration::from_secs(60);

/// Connections of one socket that are on their way to other workers; further ones stay with the worker that accepts.
const MOST_HANDED: usize = 256;
