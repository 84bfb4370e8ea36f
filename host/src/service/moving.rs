//! A swap on one worker: its instances are made, take over, and give way again.

use std::{
    rc::{Rc, Weak},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc as queue, oneshot};

use super::{
    SwapError, Swapped,
    pool::{Admission, Place},
    slot::{Running, Slot},
    swap::{Decision, LONGEST_PAUSE},
};
use crate::{
    instance::{Followed, Instance, Restored, Sessions, StartError},
    metrics::plugin::{Succession, Table},
    plugin::Plugin,
    reactor::{CloseReason, Holdings, Origin, Returned},
};

/// The version that is to come.
#[derive(Clone)]
pub(super) struct Next {
    pub(super) plugin: Arc<Plugin>,
    pub(super) config: Arc<str>,
    /// With isolation `connection`: how many instances it may have.
    pub(super) admission: Option<Arc<Admission>>,
}

/// How to move.
pub(super) struct Terms {
    /// What is busy then is closed.
    pub(super) end: Instant,
    /// None if there is no way back.
    pub(super) probation: Option<Duration>,
    /// Is told when the version before has come back, if there is a way back.
    pub(super) back: Option<queue::UnboundedSender<()>>,
}

/// For what instances are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// For the connections that are there.
    Current,
    /// For those that come.
    Fresh,
}

/// A new version's instances on this worker, made but not yet in charge.
#[derive(Debug)]
pub(super) struct Staged {
    /// Where those of isolation `connection` count.
    table: Rc<Table>,
    instances: Vec<Rc<Instance>>,
}

/// An instance whose sessions were moved.
struct Part {
    old: Rc<Instance>,
    new: Rc<Instance>,
    restored: Restored,
    format: String,
    place: Option<Place>,
}

/// What was there before a swap.
struct Before {
    next: Next,
    table: Option<Rc<Table>>,
    back: Option<queue::UnboundedSender<()>>,
}

// Making instances.
impl Slot {
    /// Makes instances of the new version. Between two of them others have their turn.
    pub(super) async fn stage(&self, next: &Next, which: Which) -> Result<(), SwapError> {
        if which == Which::Fresh {
            let takes_datagrams = next.plugin.takes_datagrams();
            if !takes_datagrams && self.movable().iter().any(|it| listens(&it.holdings)) {
                return Err(SwapError::NoDatagrams);
            }
            let holdings = self.fresh_holdings();
            return self.stage_for(&holdings, next).inspect_err(|_| {
                holdings.finish(&CloseReason::Trapped);
            });
        }
        for running in self.movable() {
            running.holdings.turn().await;
            self.stage_for(&running.holdings, next)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Makes one, unless it is there, or nobody needs it.
    fn stage_for(&self, holdings: &Rc<Holdings>, next: &Next) -> Result<(), SwapError> {
        let table = {
            let staged = self.staged.borrow();
            let instances = staged.iter().flat_map(|staged| &staged.instances);
            if instances
                .into_iter()
                .any(|it| Rc::ptr_eq(it.holdings(), holdings))
            {
                return Ok(());
            }
            let shared = staged.as_ref().filter(|_| self.alone.is_some());
            shared.map(|staged| staged.table.clone())
        };
        let table = table.unwrap_or_else(|| self.fresh_table(&next.plugin));
        let (plugin, config) = (next.plugin.clone(), &next.config);
        let instance = Instance::stage(plugin, holdings.clone(), config, table.clone())?;
        let mut staged = self.staged.borrow_mut();
        let staged = staged.get_or_insert_with(|| Staged {
            table,
            instances: Vec::new(),
        });
        staged.instances.push(instance);
        Ok(())
    }

    fn take_staged(&self, holdings: &Rc<Holdings>) -> Option<Rc<Instance>> {
        let mut staged = self.staged.borrow_mut();
        let instances = &mut staged.as_mut()?.instances;
        let at = instances
            .iter()
            .position(|it| Rc::ptr_eq(it.holdings(), holdings))?;
        Some(instances.swap_remove(at))
    }
}

// Moving sessions.
impl Slot {
    /// Moves every session, tells how it went, and commits or goes back as it is told. The worker stands still meanwhile.
    pub(super) fn migrate(
        self: &Rc<Self>,
        next: Next,
        terms: Terms,
        report: oneshot::Sender<Result<Swapped, SwapError>>,
        decision: &mpsc::Receiver<Decision>,
    ) {
        let started = Instant::now();
        // It waits for no turn, for the other workers wait for this one; but the service pays.
        self.lane.enter();
        match self.move_parts(&next, started) {
            Err(error) => {
                // Who waits for it is gone only if the host goes.
                let _gone = report.send(Err(error));
            }
            Ok((parts, behind)) => {
                let waiting = behind.iter().map(|it| it.holdings.connection_count());
                let mut swapped = Swapped {
                    left_behind: waiting.sum(),
                    pause: started.elapsed(),
                    ..Swapped::default()
                };
                for part in &parts {
                    swapped.sessions += part.restored.moved();
                    swapped.refused += part.restored.refused();
                    swapped.left_behind += part.restored.left_behind();
                    swapped.state_bytes += part.restored.state_bytes();
                }
                let noted = swapped.clone();
                // Who decides has gone if nothing comes: then everything stays as it was.
                if report.send(Ok(swapped)).is_ok() && decision.recv() == Ok(Decision::Commit) {
                    self.commit(parts, behind, next, terms);
                    self.note(&noted, started.elapsed());
                }
            }
        }
        self.lane.enter();
    }

    fn note(&self, swapped: &Swapped, pause: Duration) {
        let meters = self.meters();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        meters.swap_moved.add(count(swapped.sessions));
        meters.swap_refused.add(count(swapped.refused));
        meters.swap_left_behind.add(count(swapped.left_behind));
        meters.swap_state_bytes.add(swapped.state_bytes);
        let pause = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        meters.swap_pause_nanoseconds.add(pause);
    }

    /// Moves what can be moved to the staged instances. Nothing is changed by it. Instances that are broken have nothing to move; with isolation `connection`
    /// those that are busy stay.
    fn move_parts(
        &self,
        next: &Next,
        started: Instant,
    ) -> Result<(Vec<Part>, Vec<Running>), SwapError> {
        let mut parts = Vec::new();
        let mut behind = Vec::new();
        for running in self.movable() {
            let Some(old) = running.instance.upgrade().filter(|it| !it.is_broken()) else {
                continue;
            };
            if Arc::ptr_eq(old.plugin(), &next.plugin) {
                continue;
            }
            match self.move_one(&running, &old, next, started) {
                Ok(part) => parts.push(part),
                Err(SwapError::Failed(StartError::Busy)) if self.is_alone(&running) => {
                    behind.push(running);
                }
                Err(SwapError::Failed(StartError::TookTooLong)) => {
                    return Err(SwapError::TookTooLong(LONGEST_PAUSE));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((parts, behind))
    }

    fn move_one(
        &self,
        running: &Running,
        old: &Rc<Instance>,
        next: &Next,
        started: Instant,
    ) -> Result<Part, SwapError> {
        let holdings = &running.holdings;
        // It came, or took the place of one that broke, since the others were made.
        self.stage_for(holdings, next)?;
        let moved = self.save_and_restore(holdings, old, started);
        if old.is_broken() {
            // It broke while it was asked for its state: its connections end now, and not when they next have something to say.
            holdings.broke(&**old);
        }
        let (new, restored, format) = moved?;
        let place = match &next.admission {
            Some(admission) if self.is_alone(running) => {
                Some(admission.take().ok_or(SwapError::NoRoom)?)
            }
            _ => None,
        };
        Ok(Part {
            old: old.clone(),
            new,
            restored,
            format,
            place,
        })
    }

    fn save_and_restore(
        &self,
        holdings: &Rc<Holdings>,
        old: &Instance,
        started: Instant,
    ) -> Result<(Rc<Instance>, Restored, String), SwapError> {
        let is_over = || started.elapsed() >= LONGEST_PAUSE;
        let written = old.formats();
        let readable = {
            let staged = self.staged.borrow();
            let mut instances = staged.iter().flat_map(|staged| &staged.instances);
            let new = instances.find(|it| Rc::ptr_eq(it.holdings(), holdings));
            new.map_or_else(Vec::new, |new| new.formats())
        };
        let Some(format) = readable.iter().find(|format| written.contains(format)) else {
            return Err(SwapError::NoFormat {
                old: written.join(", "),
                new: readable.join(", "),
            });
        };
        let sessions = if old.plugin().manifest.independent_sessions {
            Sessions::Independent
        } else {
            Sessions::Together
        };
        // A version that is busy says so here: the new one is as it was, and waits.
        let saved = old.save(format, sessions, is_over)?;
        let Some(new) = self.take_staged(holdings) else {
            return Err(SwapError::WorkerSilent);
        };
        let restored = new.restore(old, saved, is_over)?;
        Ok((new, restored, format.clone()))
    }

    fn commit(self: &Rc<Self>, parts: Vec<Part>, behind: Vec<Running>, next: Next, terms: Terms) {
        // It may be back here already, with instances left that are not.
        let old = self.exchange(next.clone()).unwrap_or_else(|| next.clone());
        let before = Rc::new(Before {
            next: old,
            table: self.table(),
            back: terms.back,
        });
        for part in parts {
            if part.old.is_broken() {
                // Nothing is there that could be taken over.
                continue;
            }
            let holdings = part.new.holdings().clone();
            let place = self.rebind(&holdings, &part.new, part.place);
            let returned: Option<Returned> = terms.probation.map(|_| {
                let (slot, before) = (Rc::downgrade(self), before.clone());
                let (holdings, old) = (holdings.clone(), Rc::downgrade(&part.old));
                let returned: Returned = Box::new(move || {
                    if let Some(slot) = slot.upgrade() {
                        slot.came_back(&holdings, &old, place, &before);
                    }
                });
                returned
            });
            part.new.commit(part.restored, returned);
            self.hand_over(&part.new, Succession::Swapped);
            if !holdings.staying().is_empty() {
                let follow = follow(part.old, part.new, part.format, terms.end);
                tokio::task::spawn_local(follow);
            }
            if let Some(probation) = terms.probation {
                let swap = holdings.swap_count();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(probation).await;
                    holdings.end_probation_of(swap);
                });
            }
        }
        if !behind.is_empty() {
            let slot = Rc::downgrade(self);
            tokio::task::spawn_local(catch_up(slot, behind, next, terms.end));
        }
    }

    /// The new version broke on probation, and the one before has these holdings again.
    fn came_back(
        self: &Rc<Self>,
        holdings: &Rc<Holdings>,
        old: &Weak<Instance>,
        place: Option<Place>,
        before: &Before,
    ) {
        if let Some(old) = old.upgrade() {
            self.rebind(holdings, &old, place);
        }
        if let Some(next) = self.exchange(before.next.clone()) {
            tracing::error!(
                service = self.program().service,
                broken = next.plugin.manifest.version,
                back = before.next.plugin.manifest.version,
                connections = holdings.connection_count(),
                "the new version broke on probation; the one before goes on from its state at the swap"
            );
        }
        self.take_table_back(before.table.as_ref());
        self.meters().swaps_undone.add(1);
        if let Some(back) = &before.back {
            // Nobody listens if the process ends.
            let _gone = back.send(());
        }
    }
}

// Draining.
impl Slot {
    /// Gives new connections to the new version, and ends the old one with its connections, at the latest then.
    pub(super) fn replace(self: &Rc<Self>, next: Next, end: tokio::time::Instant) -> Swapped {
        let started = Instant::now();
        let staged = self.staged.take();
        let new = staged.and_then(|mut staged| staged.instances.pop());
        let (Some(new), Some(_)) = (new, self.exchange(next)) else {
            return Swapped::default();
        };
        let leaving = self.movable();
        new.take_charge();
        self.hand_over(&new, Succession::Swapped);
        let running = Running {
            holdings: new.holdings().clone(),
            instance: Rc::downgrade(&new),
        };
        if let Some(old) = self.running.replace(Some(running)) {
            self.outgoing.borrow_mut().push(old);
        }
        let mut swapped = Swapped::default();
        for Running { holdings, .. } in leaving {
            swapped.left_behind += holdings.connection_count();
            for socket in holdings.sockets() {
                if !socket.is_dialed() {
                    // Whoever serves the listener opens it for the new version.
                    socket.end(CloseReason::Draining);
                }
            }
            if end <= tokio::time::Instant::now() {
                holdings.finish(&CloseReason::Draining);
            }
            let slot = Rc::downgrade(self);
            tokio::task::spawn_local(async move {
                let _elapsed = tokio::time::timeout_at(end, holdings.emptied()).await;
                holdings.finish(&CloseReason::Draining);
                holdings.closed().await;
                holdings.settled().await;
                if let Some(slot) = slot.upgrade() {
                    let mut outgoing = slot.outgoing.borrow_mut();
                    outgoing.retain(|it| !Rc::ptr_eq(&it.holdings, &holdings));
                }
            });
        }
        swapped.pause = started.elapsed();
        self.meters().swaps.add(1);
        self.note(&Swapped::default(), swapped.pause);
        swapped
    }
}

/// Asks the sessions that were busy again and again, until they have moved; at the deadline they are closed.
async fn follow(old: Rc<Instance>, new: Rc<Instance>, format: String, end: Instant) {
    let holdings = new.holdings().clone();
    let in_charge = Rc::downgrade(&new);
    drop(new);
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let Some(new) = in_charge.upgrade().filter(|it| !it.is_broken()) else {
            return;
        };
        let staying = holdings.staying();
        if staying.is_empty() || old.is_broken() {
            holdings.dismiss_elder();
            return;
        }
        let is_over = Instant::now() >= end;
        for connection in staying {
            if is_over {
                connection.end(CloseReason::Draining);
                continue;
            }
            holdings.turn().await;
            if !connection.stays() {
                // The version before has come back meanwhile.
                continue;
            }
            match new.follow(&old, &connection, &format) {
                Ok(Followed::Moved | Followed::Gone | Followed::Busy) => {}
                Err(error) => tracing::debug!(
                    service = holdings.program().service,
                    connection = connection.id().0,
                    error = crate::chain(&error),
                    "a session stays with the old version"
                ),
            }
            for instance in [&old, &new] {
                if instance.is_broken() {
                    holdings.broke(&**instance);
                    return;
                }
            }
        }
    }
}

/// With isolation `connection`: swaps instances that were busy, one by one; at the deadline they end.
async fn catch_up(slot: Weak<Slot>, mut behind: Vec<Running>, next: Next, end: Instant) {
    while !behind.is_empty() {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let Some(slot) = slot.upgrade() else {
            return;
        };
        if !slot.is_of(&next.plugin) {
            // Another swap has come since, or the version before has come back.
            return;
        }
        for running in std::mem::take(&mut behind) {
            running.holdings.turn().await;
            if !slot.is_of(&next.plugin) {
                return;
            }
            let Some(old) = running.instance.upgrade().filter(|it| !it.is_broken()) else {
                continue;
            };
            match slot.move_one(&running, &old, &next, Instant::now()) {
                Ok(part) => {
                    let holdings = part.new.holdings().clone();
                    slot.rebind(&holdings, &part.new, part.place);
                    part.new.commit(part.restored, None);
                }
                Err(_) if Instant::now() < end => behind.push(running),
                Err(_) => running.holdings.finish(&CloseReason::Draining),
            }
        }
    }
}

fn listens(holdings: &Holdings) -> bool {
    let sockets = holdings.sockets();
    sockets
        .iter()
        .any(|socket| matches!(socket.origin(), Origin::Configured(_)))
}

/// How soon a session that was busy is asked again: 20 ms.
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
