//! Swapping a service's plugin for another version under its open connections.
//!
//! The new instances are made beside the old ones, on every worker. Then the workers stop together: each moves its sessions and reports, and all commit or
//! all go back. No connection is lost by a swap that fails.

use std::{
    rc::Rc,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    Protocol, Service,
    slot::{Running, Slot},
};
use crate::{
    instance::{Instance, Restored, StartError},
    plugin::Plugin,
    reactor::CloseReason,
};

/// What a swap did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swapped {
    /// Sessions that moved.
    pub sessions: usize,
    /// The longest time that a worker stood still.
    pub pause: Duration,
}

/// Why a swap did not happen; the old version goes on.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The old or the new version has no state that the other one understands.
    #[error("no state format in common: the old version has [{old}], the new one [{new}]")]
    NoFormat {
        /// The old version's formats.
        old: String,
        /// The new version's formats.
        new: String,
    },
    /// One of the versions failed.
    #[error("the swap failed")]
    Failed(#[from] StartError),
    /// The service is native.
    #[error("the service is not a plugin")]
    Native,
    /// Not every worker answered in time.
    #[error("a worker did not answer")]
    WorkerSilent,
}

enum Decision {
    Commit,
    GoBack,
}

impl Service {
    /// Swaps the plugin. On an error everything is as it was.
    pub async fn swap(&self, plugin: Arc<Plugin>, config: Arc<str>) -> Result<Swapped, SwapError> {
        let protocol = Protocol::Plugin { plugin, config };
        let staged = self.stage(&protocol).await;
        let swapped = match staged {
            Ok(()) => self.migrate(&protocol).await,
            Err(error) => Err(error),
        };
        let id = self.id;
        for worker in self.workers.values() {
            worker.run(move |_| {
                if let Some(slot) = Slot::find(id) {
                    slot.staged.take();
                }
            });
        }
        swapped
    }

    async fn stage(&self, protocol: &Protocol) -> Result<(), SwapError> {
        let id = self.id;
        for worker in self.workers.values() {
            let protocol = protocol.clone();
            worker
                .call(move |_, staged| {
                    if let Some(slot) = Slot::find(id) {
                        // Who waits for it is gone only if the host goes.
                        let _gone = staged.send(slot.stage(&protocol));
                    }
                })
                .await
                .ok_or(SwapError::WorkerSilent)??;
        }
        Ok(())
    }

    async fn migrate(&self, protocol: &Protocol) -> Result<Swapped, SwapError> {
        let id = self.id;
        let mut decisions = Vec::new();
        let mut results = Vec::new();
        for worker in self.workers.values() {
            let (decide, decision) = mpsc::channel();
            decisions.push(decide);
            let protocol = protocol.clone();
            let (sender, receiver) = tokio::sync::oneshot::channel();
            worker.run(move |_| {
                if let Some(slot) = Slot::find(id) {
                    slot.migrate(protocol, sender, &decision);
                }
            });
            results.push(receiver);
        }
        let mut failure = None;
        let mut swapped = Swapped::default();
        for result in results {
            match result.await {
                Ok(Ok(part)) => {
                    swapped.sessions += part.sessions;
                    swapped.pause = swapped.pause.max(part.pause);
                }
                Ok(Err(error)) => failure = Some(error),
                Err(_ended) => failure = Some(SwapError::WorkerSilent),
            }
        }
        for decide in decisions {
            let decision = match failure {
                None => Decision::Commit,
                Some(_) => Decision::GoBack,
            };
            // A worker that does not listen any more has given up by itself.
            let _gone = decide.send(decision);
        }
        failure.map_or(Ok(swapped), Err)
    }
}

impl Slot {
    /// Makes an instance of the new version beside the old one.
    fn stage(&self, protocol: &Protocol) -> Result<(), SwapError> {
        let Protocol::Plugin { plugin, config } = protocol else {
            return Err(SwapError::Native);
        };
        if matches!(*self.protocol.borrow(), Protocol::Native(_)) {
            return Err(SwapError::Native);
        }
        if let Some(running) = &*self.running.borrow() {
            let instance = Instance::stage(plugin.clone(), running.holdings.clone(), config)?;
            *self.staged.borrow_mut() = Some(instance);
        }
        Ok(())
    }

    /// Moves every session, tells how it went, and commits or goes back as it is told. The worker stands still meanwhile.
    fn migrate(
        &self,
        protocol: Protocol,
        report: tokio::sync::oneshot::Sender<Result<Swapped, SwapError>>,
        decision: &mpsc::Receiver<Decision>,
    ) {
        let started = Instant::now();
        let staged = self.staged.take();
        let moved = self.restore(staged.as_ref());
        let (restored, result) = match moved {
            Ok(restored) => {
                let sessions = restored.len();
                let pause = started.elapsed();
                (restored, Ok(Swapped { sessions, pause }))
            }
            Err(error) => (Vec::new(), Err(error)),
        };
        let well = result.is_ok() && report.send(result).is_ok();
        let decision = decision.recv_timeout(DECISION).unwrap_or(Decision::GoBack);
        if let (true, Decision::Commit, Some(instance)) = (well, decision, staged) {
            self.commit(&instance, restored);
            *self.protocol.borrow_mut() = protocol;
        }
    }

    fn restore(&self, staged: Option<&Rc<Instance>>) -> Result<Vec<Restored>, SwapError> {
        let running = self.running.borrow().clone();
        let (Some(new), Some(Running { instance, .. })) = (staged, running) else {
            return Err(SwapError::Native);
        };
        let Some(old) = instance.upgrade().filter(|old| !old.is_broken()) else {
            // It broke, and its connections are gone; the new version starts from nothing.
            return Ok(Vec::new());
        };
        let (readable, written) = (new.formats()?, old.formats()?);
        let Some(format) = readable.iter().find(|format| written.contains(format)) else {
            return Err(SwapError::NoFormat {
                old: written.join(", "),
                new: readable.join(", "),
            });
        };
        Ok(new.restore_from(&old, format)?)
    }

    fn commit(&self, instance: &Rc<Instance>, restored: Vec<Restored>) {
        let before = self.running.take();
        if let Some(Running { holdings, .. }) = before {
            if holdings.handler().is_some() {
                instance.commit(restored);
                *self.running.borrow_mut() = Some(Running {
                    holdings,
                    instance: Rc::downgrade(instance),
                });
            } else {
                // It broke meanwhile: the next connection gets a fresh instance of the new version.
                holdings.finish(&CloseReason::Trapped);
            }
        }
    }
}

/// How long a worker waits for the others, at most; then it goes back to the old version by itself: 30 s, several times what restoring may take.
const DECISION: Duration = Duration::from_secs(30);
