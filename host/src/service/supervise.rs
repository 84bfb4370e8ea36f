//! A service's instance on one worker is replaced when it breaks; one that breaks again and again, or cannot be made, is left alone for a while.
//!
//! The next instance is made at once, so that a plugin that nobody connects to (it connects itself, or has timers) goes on as well. While there is none the service
//! is degraded: what is accepted is closed at once, which a client and a proxy in front of it understand, and datagrams wait in the kernel.

use std::{
    rc::{Rc, Weak},
    time::Instant,
};

use super::slot::{Running, Slot};
use crate::{
    instance::StartError,
    reactor::{CloseReason, Holdings},
};

/// Replaces the instance when it breaks, and tries again when none could be made, as long as the slot is there.
pub(super) async fn supervise(slot: Weak<Slot>) {
    loop {
        let Some(next) = slot.upgrade().and_then(|slot| slot.next_event()) else {
            return;
        };
        match next {
            Next::Break(holdings) => holdings.finished().await,
            Next::Retry(time) => tokio::time::sleep_until(time.into()).await,
        }
        let Some(lane) = slot.upgrade().map(|slot| slot.lane().clone()) else {
            return;
        };
        // To make an instance takes as long as many calls, and is the service's own time.
        lane.turn().await;
        let Some(slot) = slot.upgrade() else {
            return;
        };
        if slot.leaving.get() {
            return;
        }
        slot.revive();
    }
}

/// What the supervision waits for.
enum Next {
    /// The instance breaks.
    Break(Rc<Holdings>),
    /// The time has come to make another.
    Retry(Instant),
}

impl Slot {
    fn next_event(&self) -> Option<Next> {
        if let Some(retry) = self.backoff.retry() {
            return Some(Next::Retry(retry));
        }
        let running = self.running.borrow();
        let holdings = &running.as_ref()?.holdings;
        Some(Next::Break(holdings.clone()))
    }

    /// Makes an instance if there is none that takes connections, and the time for it has come.
    fn revive(&self) {
        let serves = self.current().is_some();
        if serves && self.alone.is_some() && self.backoff.retry().is_some() {
            // Those that connections get could not be made. Whether one can be now shows only if one is.
            if let Some(running) = self.try_make(Instant::now()) {
                running.holdings.finish(&CloseReason::Trapped);
                self.recovered();
            }
        }
    }

    /// Returns the instance that takes new connections: a fresh one if the last one broke.
    pub(super) fn current(&self) -> Option<Running> {
        if let Some(running) = &*self.running.borrow()
            && running.holdings.handler().is_some()
        {
            return Some(running.clone());
        }
        let now = Instant::now();
        if self.backoff.is_on(now) {
            return None;
        }
        if let Some(delay) = self.backoff.ended(now) {
            let fault = self.running.borrow().as_ref().and_then(|running| {
                // What the operator reads when the log has scrolled away.
                running.holdings.fault()
            });
            let reason = fault.unwrap_or_else(|| "its instances break".to_owned());
            tracing::error!(
                service = self.program.service,
                reason,
                retry = ?delay,
                "its instances break again and again; connections are refused meanwhile"
            );
            self.meters.notice.set(reason, now + delay);
            return None;
        }
        let running = self.try_make(now)?;
        self.hand_over_to(&running);
        *self.running.borrow_mut() = Some(running.clone());
        if self.backoff.made(now) {
            self.note_recovery();
        }
        Some(running)
    }

    /// Makes an instance, unless the last attempts failed.
    pub(super) fn try_make(&self, now: Instant) -> Option<Running> {
        if self.backoff.is_on(now) {
            return None;
        }
        match self.make() {
            Ok(running) => Some(running),
            Err(error) => {
                if !matches!(error, StartError::Broken { .. }) {
                    self.meters.refusals.add(1);
                }
                let delay = self.backoff.longer(now);
                let error = crate::chain(&error);
                tracing::error!(
                    service = self.program.service,
                    error,
                    retry = ?delay,
                    "no instance; connections are refused meanwhile"
                );
                self.meters.notice.set(error, now + delay);
                None
            }
        }
    }

    /// An instance could be made whose end will not matter.
    pub(super) fn recovered(&self) {
        if self.backoff.recovered() {
            self.note_recovery();
        }
    }

    fn note_recovery(&self) {
        self.meters.notice.clear();
        tracing::info!(
            service = self.program.service,
            "there is an instance again; connections are taken"
        );
    }
}
