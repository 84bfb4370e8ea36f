//! `--watch`: when a plugin's file changes, the new version takes the old one's place under its connections.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    admin::{Command, Commands, Origin, Refusal, Swap},
    inspect,
    service::SwapOptions,
    watch::{Look, NotLoaded, Reload, Snapshot, Watch},
};

/// The file that a service's plugin is from.
pub(super) struct PluginFile {
    path: PathBuf,
    /// What it looked like when it was read last, and was fit.
    loaded: Mutex<Snapshot>,
    commands: Commands,
}

impl PluginFile {
    /// Begins to watch. `seen` is what the file looked like before the service's plugin was read from it.
    pub(super) fn watch(
        service: &str,
        path: &Path,
        seen: Snapshot,
        commands: Commands,
    ) -> Option<(Watch, Arc<Self>)> {
        let file = Arc::new(Self {
            path: path.to_owned(),
            loaded: Mutex::new(seen),
            commands,
        });
        match Watch::start(service, [&file]) {
            Ok(watch) => Some((watch, file)),
            Err(error) => {
                tracing::error!(service, %error, "the plugin is not watched: no thread can be started");
                None
            }
        }
    }

    fn loaded(&self) -> MutexGuard<'_, Snapshot> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the service swapped. None if the host is stopping.
    fn swap(&self, service: &str) -> Option<Result<(), Refusal>> {
        let component = match inspect::read(&self.path) {
            Ok(component) => component,
            Err(error) => return Some(Err(Refusal::Unfit(crate::chain(&error)))),
        };
        let (answer, answered) = oneshot::channel();
        let swap = Swap {
            service: service.to_owned(),
            component,
            file: self.path.clone(),
            options: SwapOptions::default(),
            origin: Origin::File,
            answer,
        };
        self.commands.blocking_send(Command::Swap(swap)).ok()?;
        Some(answered.blocking_recv().ok()?.map(drop))
    }
}

impl Reload for PluginFile {
    const WHAT: &'static str = "plugins";

    const PERIOD: Duration = PERIOD;

    fn look(&self) -> Snapshot {
        Snapshot::of(&self.path)
    }

    fn differs(&self, snapshot: &Snapshot) -> bool {
        *self.loaded() != *snapshot
    }

    fn load(&self, _: Look, service: &str) -> Result<(), NotLoaded> {
        let snapshot = self.look();
        match self.swap(service) {
            Some(Ok(())) => {
                *self.loaded() = snapshot;
                Ok(())
            }
            Some(Err(refusal)) => {
                let path = self.path.display();
                tracing::error!(
                    service,
                    "{path} has changed and is not taken up, the version of before goes on: {refusal}"
                );
                Err(NotLoaded)
            }
            None => Err(NotLoaded),
        }
    }
}

/// How often a plugin's file is looked at: every 200 ms, so that who saves a file sees it at work within half a second. It is one look at one file.
const PERIOD: Duration = Duration::from_millis(200);
