//! Swapping a service's plugin for another version under its open connections.
//!
//! The new instances are made beside the old ones, on every worker. Then the workers stop together: each moves its sessions and reports, and all commit or
//! all go back. No connection is lost by a swap that fails, but for the one below. What one worker does of it is in `moving`.
//!
//! *When the old version breaks.* A trap in its `save` or `save-session`, or one that takes longer than `setup-time`, refuses the swap and ends the old instance as anywhere else: after a
//! trap wasmtime lets nobody in any more, the sessions' state was in that memory and nowhere else, and a connection without its session can only be closed. The host could keep the sockets, but a
//! fresh instance would know nothing of who is logged in or what was half received, and an earlier snapshot would answer bytes twice. So its connections end, a fresh instance of the *old*
//! version takes new ones, and the policies drain and close, which do not ask for a state, lead to the next version. What keeps the loss small: with several workers, or isolation
//! `connection`, an instance that was not asked yet is not asked; on its own probation the version before comes back with its state; `formats` is asked when an instance is made, so it cannot
//! break one that has connections; and a plugin that *says* that it cannot save (`busy`, `failed`) loses nothing.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex as Turn, mpsc as queue, oneshot, watch};

use super::{
    PoolError, Protocol, Service, ServiceId,
    moving::{Next, Terms, Which},
    pool::Admission,
    slot::Slot,
};
use crate::{
    instance::StartError, manifest::Isolation, metrics::registry::CurrentPlugin, plugin::Plugin,
    reactor::WorkerHandle,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Swapped {
    /// The version that was replaced, as its manifest has it.
    pub from: String,
    /// The version that is there now.
    pub to: String,
    /// What became of the sessions: [`Policy::Drain`] also where `migrate` was asked for and the old version saves no state.
    pub policy: Policy,
    /// Sessions that moved.
    pub sessions: usize,
    /// Sessions that never move: the old version refused to save them, or it was told to close them. They end by themselves, or at the deadline.
    pub refused: usize,
    /// Sessions that are on the old version still, and follow when they are free, or drain; they are closed at the deadline.
    pub left_behind: usize,
    /// Bytes of state that moved.
    pub state_bytes: u64,
    /// The longest time that a worker stood still; as JSON in seconds.
    #[serde(with = "seconds")]
    pub pause: Duration,
}

mod seconds {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(
        time: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// Why a swap did not happen; the old version goes on.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The old or the new version has no state that the other one understands.
    #[error(
        "no state format in common: the old version has [{old}], the new one [{new}]; the policies drain and close need none"
    )]
    NoFormat {
        /// The old version's formats.
        old: String,
        /// The new version's formats.
        new: String,
    },
    /// One of the versions failed.
    #[error("the swap failed")]
    Failed(#[from] StartError),
    /// The new version cannot have an instance for each connection.
    #[error("isolation `connection`")]
    Pool(#[from] PoolError),
    /// The new version does not permit how the service runs.
    #[error("the new version does not permit isolation `{0}`, which the service has")]
    Isolation(Isolation),
    /// The service has more connections than the new version can have instances.
    #[error("there is no room for as many instances of the new version as there are connections")]
    NoRoom,
    /// The service has a UDP listener.
    #[error("the new version exports no `datagram-handler`, and the service has a UDP listener")]
    NoDatagrams,
    /// The old version did not let go.
    #[error("it was busy for {0:?}")]
    Busy(Duration),
    /// The service is native.
    #[error("the service is not a plugin")]
    Native,
    /// A worker has ended, which it does only with the host.
    #[error("a worker did not answer")]
    WorkerSilent,
    /// The service is ending.
    #[error("the service is being stopped")]
    Stopping,
    /// The workers would have stood still for too long.
    #[error("moving the sessions took more than {0:?}")]
    TookTooLong(Duration),
}

/// What a worker is told once all have moved their sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Commit,
    GoBack,
}

/// What the swaps of a service share.
#[derive(Debug)]
pub(super) struct Swapping {
    /// One swap at a time, and none while the service ends.
    pub(super) alone: Turn<()>,
    /// What new connections get, as it was given: with isolation `connection` it was compiled again. None if the service is native.
    pub(super) plugin: CurrentPlugin,
    /// Whether the service ends.
    stopping: watch::Receiver<bool>,
}

impl Swapping {
    pub(super) fn new(protocol: &Protocol, stopping: watch::Receiver<bool>) -> Arc<Self> {
        let plugin = match protocol {
            Protocol::Plugin { plugin, .. } => Some(plugin.clone()),
            Protocol::Native(_) => None,
        };
        Arc::new(Self {
            alone: Turn::default(),
            plugin: Arc::new(Mutex::new(plugin)),
            stopping,
        })
    }

    fn plugin(&self) -> MutexGuard<'_, Option<Arc<Plugin>>> {
        self.plugin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serves(&self, plugin: &Arc<Plugin>) -> bool {
        let served = self.plugin();
        served.as_ref().is_some_and(|it| Arc::ptr_eq(it, plugin))
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits for so long, or until the service ends.
    async fn pause(&self, time: Duration) {
        let mut stopping = self.stopping.clone();
        let stopped = stopping.wait_for(|stopping| *stopping);
        // A service that is gone has ended.
        let _waited = tokio::time::timeout(time, stopped).await;
    }
}

impl Service {
    /// Swaps the plugin. On an error everything is as it was. The log tells what came of it.
    ///
    /// Within the limit `probation` the old version comes back if the new one breaks.
    ///
    /// Who stops waiting does not stop it: half of the workers with one version and half with the other would be no service. A drain waits for its end,
    /// which comes soon then.
    pub async fn swap(
        &self,
        plugin: Arc<Plugin>,
        config: Arc<str>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let movers = self.movers();
        let swap = tokio::spawn(async move { movers.swap_alone(plugin, config, options).await });
        // Only the end of the runtime ends it earlier.
        swap.await.unwrap_or(Err(SwapError::Stopping))
    }

    /// Returns the plugin that new connections get: the one before, if a swap was undone. None for a native service. Asks no worker.
    pub fn plugin(&self) -> Option<Arc<Plugin>> {
        self.swapping.plugin().clone()
    }

    fn movers(&self) -> Movers {
        Movers {
            id: self.id,
            isolation: self.isolation,
            limits: self.program.clone(),
            workers: self.workers.values().cloned().collect(),
            swapping: self.swapping.clone(),
        }
    }
}

/// Who swaps: all that is needed of a service, for the time after the call as well.
#[derive(Clone)]
struct Movers {
    id: ServiceId,
    isolation: Isolation,
    limits: Arc<crate::reactor::Program>,
    workers: Vec<WorkerHandle>,
    swapping: Arc<Swapping>,
}

/// What a new version that breaks on probation gives way to.
struct Undone {
    broken: Arc<Plugin>,
    /// The version before, as it was given.
    given: Arc<Plugin>,
    /// The same, as it runs.
    before: Next,
}

impl Movers {
    /// Swaps, once no other swap is under way, and tells the log.
    async fn swap_alone(
        &self,
        plugin: Arc<Plugin>,
        config: Arc<str>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let _alone = self.swapping.alone.lock().await;
        let to = version(&plugin);
        let swapped = self.swap(plugin, config, options).await;
        let service = &*self.limits.service;
        match &swapped {
            Ok(swapped) => {
                tracing::info!(
                    service,
                    from = swapped.from,
                    to = swapped.to,
                    policy = ?swapped.policy,
                    moved = swapped.sessions,
                    refused = swapped.refused,
                    left_behind = swapped.left_behind,
                    state_bytes = swapped.state_bytes,
                    pause = ?swapped.pause,
                    "swapped"
                );
                if swapped.policy != options.policy {
                    tracing::warn!(
                        service,
                        from = swapped.from,
                        "the version of before exports no `swap-handler`, so nothing could move: its connections finish on it, as with the policy drain"
                    );
                }
            }
            Err(error) => {
                let error = crate::chain(error);
                tracing::error!(service, to, error, "not swapped; the old version goes on");
            }
        }
        swapped
    }

    async fn swap(
        &self,
        plugin: Arc<Plugin>,
        config: Arc<str>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let Some(Protocol::Plugin {
            plugin: old,
            config: old_config,
        }) = self.protocol().await
        else {
            return Err(SwapError::Native);
        };
        if !plugin.manifest.isolation.contains(&self.isolation) {
            return Err(SwapError::Isolation(self.isolation));
        }
        let before = Next {
            plugin: old.clone(),
            config: old_config,
            admission: self.admission().await,
        };
        let policy = match options.policy {
            // It has no state to give.
            Policy::Migrate if !old.can_swap() => Policy::Drain,
            policy => policy,
        };
        let next = self.prepare(plugin.clone(), config).await?;
        let (back, came_back) = queue::unbounded_channel();
        let swapped = match policy {
            Policy::Migrate => self.migrate(&next, options.deadline, Some(back)).await?,
            Policy::Drain => self.replace(&next, options.deadline).await?,
            Policy::Close => self.replace(&next, Duration::ZERO).await?,
        };
        let given = self.swapping.plugin().replace(plugin.clone());
        if let (Policy::Migrate, Some(given)) = (policy, given) {
            let undone = Undone {
                broken: plugin,
                given,
                before,
            };
            self.watch(undone, came_back);
        }
        let left = swapped.left_behind;
        let (left_behind, refused) = match policy {
            Policy::Close => (0, left),
            Policy::Migrate | Policy::Drain => (left, swapped.refused),
        };
        Ok(Swapped {
            from: version(&old),
            to: version(&next.plugin),
            policy,
            left_behind,
            refused,
            ..swapped
        })
    }

    /// Returns what new connections get.
    async fn protocol(&self) -> Option<Protocol> {
        let id = self.id;
        let worker = self.workers.first()?;
        let protocol = worker.call(move |_, answer| {
            if let Some(slot) = Slot::find(id) {
                // Who waits for it is gone only if the host goes.
                let _gone = answer.send(slot.protocol.borrow().clone());
            }
        });
        protocol.await
    }

    /// Makes a pool for the new version, where every connection has an instance. It compiles the plugin again, which no worker waits for.
    async fn prepare(&self, plugin: Arc<Plugin>, config: Arc<str>) -> Result<Next, SwapError> {
        if self.isolation != Isolation::Connection {
            return Ok(Next {
                plugin,
                config,
                admission: None,
            });
        }
        let (program, spare) = (self.limits.clone(), self.workers.len());
        let made =
            tokio::task::spawn_blocking(move || Admission::make(&plugin, &program.limits, spare));
        let (admission, plugin) = made.await.map_err(|_| SwapError::WorkerSilent)??;
        Ok(Next {
            plugin: Arc::new(plugin),
            config,
            admission: Some(admission),
        })
    }

    /// Moves every session, trying again while the old version is busy.
    async fn migrate(
        &self,
        next: &Next,
        deadline: Duration,
        back: Option<queue::UnboundedSender<()>>,
    ) -> Result<Swapped, SwapError> {
        let end = Instant::now() + deadline;
        let mut pause = RETRY_AFTER;
        let swapped = loop {
            let moved = match self.stage(next, Which::Current).await {
                Ok(()) => self.move_all(next, end, back.as_ref()).await,
                Err(error) => Err(error),
            };
            match moved {
                Err(SwapError::Failed(StartError::Busy)) => {
                    if Instant::now() + pause >= end {
                        break Err(SwapError::Busy(deadline));
                    }
                    self.swapping.pause(pause).await;
                    pause = (2 * pause).min(LONGEST_RETRY);
                }
                moved => break moved,
            }
        };
        self.unstage();
        swapped
    }

    /// Makes instances of the new version beside the old ones; what they do to the world waits.
    async fn stage(&self, next: &Next, which: Which) -> Result<(), SwapError> {
        let id = self.id;
        for worker in &self.workers {
            if self.swapping.is_stopping() {
                return Err(SwapError::Stopping);
            }
            let next = next.clone();
            worker
                .call(move |_, staged| {
                    if let Some(slot) = Slot::find(id) {
                        tokio::task::spawn_local(async move {
                            // Who waits for it is gone only if the host goes.
                            let _gone = staged.send(slot.stage(&next, which).await);
                        });
                    }
                })
                .await
                .ok_or(SwapError::WorkerSilent)??;
        }
        Ok(())
    }

    fn unstage(&self) {
        let id = self.id;
        for worker in &self.workers {
            worker.run(move |_| {
                if let Some(slot) = Slot::find(id) {
                    drop(slot.staged.take());
                }
            });
        }
    }

    async fn move_all(
        &self,
        next: &Next,
        end: Instant,
        back: Option<&queue::UnboundedSender<()>>,
    ) -> Result<Swapped, SwapError> {
        let id = self.id;
        let mut decisions = Vec::new();
        let mut results = Vec::new();
        for worker in &self.workers {
            let (decide, decision) = mpsc::channel();
            decisions.push(decide);
            let (next, terms) = (
                next.clone(),
                Terms {
                    end,
                    probation: back.is_some().then(|| self.limits.limits.probation),
                    back: back.cloned(),
                },
            );
            let (sender, receiver) = oneshot::channel();
            worker.run(move |_| {
                if let Some(slot) = Slot::find(id) {
                    slot.migrate(next, terms, sender, &decision);
                }
            });
            results.push(receiver);
        }
        let mut failure = None;
        let mut swapped = Swapped::default();
        let deadline = tokio::time::Instant::now() + LONGEST_PAUSE;
        for result in results {
            match tokio::time::timeout_at(deadline, result).await {
                Ok(Ok(Ok(part))) => swapped.add(&part),
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

    /// Where the new version broke on one worker, on probation, the old one is back there; the rest follows with its sessions, if the old version reads what the new one saves.
    fn watch(&self, undone: Undone, mut came_back: queue::UnboundedReceiver<()>) {
        let movers = self.clone();
        // The senders are with what is kept for the return, and go with it.
        tokio::spawn(async move {
            if came_back.recv().await.is_none() {
                return;
            }
            let _alone = movers.swapping.alone.lock().await;
            let Undone {
                broken,
                given,
                before,
            } = undone;
            if movers.swapping.is_stopping() || !movers.swapping.serves(&broken) {
                // Another version has come since.
                return;
            }
            *movers.swapping.plugin() = Some(given);
            let moved = movers.migrate(&before, Duration::from_secs(1), None).await;
            let service = &*movers.limits.service;
            match moved {
                Ok(moved) => tracing::warn!(
                    service,
                    moved = moved.sessions,
                    "the version before is back everywhere"
                ),
                Err(error) => {
                    let error = crate::chain(&error);
                    tracing::error!(
                        service,
                        error,
                        "instances of the new version go on beside it"
                    );
                }
            }
        });
    }

    async fn admission(&self) -> Option<Arc<Admission>> {
        let id = self.id;
        let worker = self.workers.first()?;
        let admission = worker.call(move |_, answer| {
            let slot = Slot::find(id);
            // Who waits for it is gone only if the host goes.
            let _gone = answer.send(slot.and_then(|slot| slot.admission()));
        });
        admission.await?
    }

    /// Gives new connections the new version; those that are there end with the old one.
    async fn replace(&self, next: &Next, deadline: Duration) -> Result<Swapped, SwapError> {
        let staged = self.stage(next, Which::Fresh).await;
        if staged.is_err() {
            self.unstage();
        }
        staged?;
        let id = self.id;
        let end = tokio::time::Instant::now() + deadline;
        let mut swapped = Swapped::default();
        for worker in &self.workers {
            let next = next.clone();
            let replaced = worker.call(move |_, replaced| {
                if let Some(slot) = Slot::find(id) {
                    // Who waits for it is gone only if the host goes.
                    let _gone = replaced.send(slot.replace(next, end));
                }
            });
            swapped.add(&replaced.await.ok_or(SwapError::WorkerSilent)?);
        }
        Ok(swapped)
    }
}

impl Swapped {
    fn add(&mut self, part: &Self) {
        self.sessions += part.sessions;
        self.refused += part.refused;
        self.left_behind += part.left_behind;
        self.state_bytes += part.state_bytes;
        self.pause = self.pause.max(part.pause);
    }
}

fn version(plugin: &Plugin) -> String {
    let version = plugin.manifest.version.clone();
    version.unwrap_or_else(|| "unknown".to_owned())
}

/// How long the workers stand still for a swap, at most; then everything goes back to the old version: 10 s. A peer that waits longer may think that
/// nobody is there.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How soon a busy version is asked again: 10 ms, and then ever later.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// But at least that often: 500 ms.
const LONGEST_RETRY: Duration = Duration::from_millis(500);
