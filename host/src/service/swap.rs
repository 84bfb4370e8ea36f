//! Swapping a service's plugin for another version under its open connections.
//!
//! The new instances are made beside the old ones, on every worker. Then the workers stop together: each moves its sessions and reports, and all commit or
//! all go back. No connection is lost by a swap that fails.

use std::{
    rc::Rc,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::{
    Protocol, Service,
    slot::{Running, Slot},
};
use crate::{
    instance::{Instance, Restored, StartError},
    metrics::plugin::Succession,
    plugin::Plugin,
};

/// What becomes of the connections that are open when the plugin is swapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// They go on with the new version, which takes their state over.
    #[default]
    Migrate,
    /// They finish on the old version, or are closed at the deadline; new ones get the new version.
    Drain,
    /// They are closed; new ones get the new version.
    Close,
}

/// How to swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapOptions {
    /// What becomes of open connections.
    pub policy: Policy,
    /// How long a plugin that is busy is waited for, and how long connections may finish on the old version. Default: 30 s, as for a stop.
    pub deadline: Duration,
}

impl Default for SwapOptions {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            deadline: Duration::from_secs(30),
        }
    }
}

/// What a swap did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swapped {
    /// The version that was replaced, as its manifest has it.
    pub from: String,
    /// The version that is there now.
    pub to: String,
    /// Sessions that moved.
    pub sessions: usize,
    /// Sessions that could not move and were closed.
    pub refused: usize,
    /// Sessions that are on the old version still.
    pub left_behind: usize,
    /// Bytes of state that moved.
    pub state_bytes: u64,
    /// The longest time that a worker stood still.
    #[serde(serialize_with = "seconds")]
    pub pause: Duration,
}

fn seconds<S: Serializer>(pause: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(pause.as_secs_f64())
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
    /// A worker has ended, which it does only with the host.
    #[error("a worker did not answer")]
    WorkerSilent,
    /// The workers would have stood still for too long.
    #[error("moving the sessions took more than {0:?}")]
    TookTooLong(Duration),
}

enum Decision {
    Commit,
    GoBack,
}

impl Service {
    /// Swaps the plugin. On an error everything is as it was.
    pub async fn swap(
        &self,
        plugin: Arc<Plugin>,
        config: Arc<str>,
        _options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let protocol = Protocol::Plugin { plugin, config };
        let _alone = self.swapping.lock().await;
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
        let deadline = tokio::time::Instant::now() + LONGEST_PAUSE;
        for result in results {
            match tokio::time::timeout_at(deadline, result).await {
                Ok(Ok(Ok(part))) => {
                    swapped.sessions += part.sessions;
                    swapped.pause = swapped.pause.max(part.pause);
                }
                Ok(Ok(Err(error))) => failure = failure.or(Some(error)),
                Ok(Err(_ended)) => failure = failure.or(Some(SwapError::WorkerSilent)),
                Err(_elapsed) => failure = failure.or(Some(SwapError::TookTooLong(LONGEST_PAUSE))),
            }
        }
        for decide in decisions {
            let decision = match failure {
                None => Decision::Commit,
                Some(_) => Decision::GoBack,
            };
            // A worker that does not listen has failed, and gone back by itself.
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
            let instance = {
                let holdings = running.holdings.clone();
                Instance::stage(plugin.clone(), holdings, config, self.fresh_table(plugin))?
            };
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
        let moved = self.restore(&protocol);
        let result = match &moved {
            Ok((_, restored)) => Ok(Swapped {
                sessions: restored.session_count(),
                pause: started.elapsed(),
                ..Swapped::default()
            }),
            Err(_) => Err(()),
        };
        let (told, moved) = match (result, moved) {
            (Ok(swapped), Ok(moved)) => (report.send(Ok(swapped)).is_ok(), Some(moved)),
            (_, Err(error)) => (report.send(Err(error)).is_ok(), None),
            (Err(()), Ok(_)) => (false, None),
        };
        let Some((staged, restored)) = moved.filter(|_| told) else {
            return;
        };
        // Who decides has gone if nothing comes: then everything stays as it was.
        if let Ok(Decision::Commit) = decision.recv() {
            if let Some(instance) = staged {
                self.commit(&instance, restored);
            }
            *self.protocol.borrow_mut() = protocol;
        }
    }

    /// Moves every session of this worker to the staged instance. Nothing is changed by it. Without an instance, because the last one broke, there
    /// is nothing to move.
    fn restore(&self, protocol: &Protocol) -> Result<Moved, SwapError> {
        let Some(Running { holdings, instance }) = self.running.borrow().clone() else {
            return Ok((None, Restored::default()));
        };
        let Some(old) = instance.upgrade() else {
            return Ok((None, Restored::default()));
        };
        let is_of_now = |new: &Rc<Instance>| Rc::ptr_eq(new.holdings(), &holdings);
        if !self.staged.borrow().as_ref().is_some_and(is_of_now) {
            // The old version broke and was replaced since the new one was made.
            self.stage(protocol)?;
        }
        let Some(new) = self.staged.take() else {
            return Ok((None, Restored::default()));
        };
        let moved = Self::take_over(&old, &new);
        if old.is_broken() {
            // It broke while it was asked for its state: its connections end now, and not when they next have something to say.
            holdings.fail();
        }
        moved.map(|restored| (Some(new), restored))
    }

    fn take_over(old: &Instance, new: &Instance) -> Result<Restored, SwapError> {
        let (readable, written) = (new.formats()?, old.formats()?);
        let Some(format) = readable.iter().find(|format| written.contains(format)) else {
            return Err(SwapError::NoFormat {
                old: written.join(", "),
                new: readable.join(", "),
            });
        };
        Ok(new.restore_from(old, format)?)
    }

    fn commit(&self, instance: &Rc<Instance>, restored: Restored) {
        let mut running = self.running.borrow_mut();
        if let Some(running) = &mut *running
            && running.holdings.handler().is_some()
        {
            instance.commit(restored);
            self.hand_over(instance, Succession::Swapped);
            running.instance = Rc::downgrade(instance);
        }
    }
}

/// A new instance, and what it made; no instance where there was no old one.
type Moved = (Option<Rc<Instance>>, Restored);

/// How long the workers stand still for a swap, at most; then everything goes back to the old version: 30 s, several times what restoring may take.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
