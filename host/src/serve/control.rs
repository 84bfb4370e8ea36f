//! What operators ask for over the admin socket. The main thread does it, between signals: nothing that takes long keeps it from the next one.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinError;

use super::{Live, Made, Ready, Server, Source, announce, drain, watching::PluginFile};
use crate::{
    admin::{Answer, Command, Known, Origin, Refusal, Swap, api},
    config::{
        ServiceConfig,
        prepare::{Fault, digest, settings},
    },
    daemon::notify,
    engine::Engine,
    metrics::health::State,
    plugin::Plugin,
    service::{Service, SwapError, SwapOptions, Swapped, remote::Remote},
};

/// A service that was stopped or drained, and can be started again.
pub(super) struct Stopped {
    pub(super) made: Made,
    pub(super) name: String,
}

/// A swap that has ended.
pub(super) struct SwapEnded {
    service: Arc<Service>,
    origin: Origin,
    result: Result<Swapped, Refusal>,
    answer: Answer<api::Swapped>,
}

/// What it takes to swap, away from the main thread.
struct Job {
    service: Arc<Service>,
    made: Made,
    engine: Arc<Engine>,
    options: SwapOptions,
}

impl Server {
    /// Does what was asked for, or begins to.
    pub(super) async fn obey(&mut self, command: Command) {
        self.follow();
        match command {
            // Whoever asked may have gone.
            Command::List(answer) => drop(answer.send(self.list())),
            Command::Remotes(name, answer) => drop(answer.send(self.remotes(name))),
            Command::Swap(swap) => self.swap(swap),
            Command::Drain(name, time, answer) => self.drain_one(&name, time, answer),
            Command::Start(name, answer) => {
                let started = self.start_one(&name).await;
                let _gone = answer.send(started);
            }
            Command::Reload(answer) => {
                let reloaded = match self.swapping() {
                    Some(name) => Err(being_swapped(name)),
                    None => self.reload().await,
                };
                let _gone = answer.send(reloaded);
            }
        }
    }

    /// Takes note of versions that came back by themselves.
    fn follow(&mut self) {
        for live in &mut self.services {
            live.follow();
        }
    }

    fn list(&self) -> Vec<Known> {
        let live = self.services.iter().map(|live| {
            let health = live.service.health();
            let (state, detail) = match (&health.state, live.is_swapping) {
                (_, true) => (api::State::Swapping, None),
                (State::Degraded(degraded), _) => {
                    (api::State::Degraded, Some(degraded.to_string()))
                }
                (State::Serving, _) => (api::State::Serving, None),
            };
            let listeners = live.service.listening().iter();
            Known {
                state,
                detail,
                listeners: listeners.map(ToString::to_string).collect(),
                ..live.made.known(live.service.name())
            }
        });
        let stopped = self.stopped.iter().map(|stopped| Known {
            state: if self.is_draining(&stopped.name) {
                api::State::Draining
            } else {
                api::State::Stopped
            },
            ..stopped.made.known(&stopped.name)
        });
        live.chain(stopped).collect()
    }

    fn known(&self) -> Vec<String> {
        let mut known: Vec<_> = self.list().into_iter().map(|known| known.name).collect();
        known.sort();
        known
    }

    fn remotes(&self, name: Option<String>) -> Result<Vec<(String, Remote)>, Refusal> {
        let asked = |live: &&Live| {
            let own = live.service.name();
            name.as_deref().is_none_or(|name| name == own)
        };
        let live = self.services.iter().filter(asked);
        let remotes: Vec<_> = live
            .map(|live| (live.service.name().to_owned(), live.service.remote()))
            .collect();
        match name {
            Some(name) if remotes.is_empty() => Err(self.none_live(&name)),
            _ => Ok(remotes),
        }
    }

    /// Says why there is no such service that runs.
    fn none_live(&self, name: &str) -> Refusal {
        let is_it = |stopped: &&Stopped| stopped.name == name;
        match self.stopped.iter().find(is_it) {
            Some(_) => Refusal::Conflict(format!(
                "service `{name}` is stopped; `nethost start {name}` starts it"
            )),
            None => Refusal::NoService {
                name: name.to_owned(),
                known: self.known(),
            },
        }
    }

    fn is_draining(&self, name: &str) -> bool {
        self.draining_names.lock().contains(name)
    }

    /// Returns the name of a service that is being swapped, if there is one.
    pub(super) fn swapping(&self) -> Option<&str> {
        let mut swapping = self.services.iter().filter(|live| live.is_swapping);
        swapping.next().map(|live| live.service.name())
    }

    fn swap(&mut self, swap: Swap) {
        let Swap {
            service: name,
            component,
            file,
            options,
            origin,
            answer,
        } = swap;
        let mut services = self.services.iter_mut();
        let found = services.find(|live| live.service.name() == name);
        let refusal = match found {
            None => self.none_live(&name),
            Some(live) if live.is_swapping => being_swapped(&name),
            Some(live) => {
                live.is_swapping = true;
                let job = Job {
                    service: live.service.clone(),
                    made: live.made.clone(),
                    engine: self.engine.clone(),
                    options,
                };
                self.swaps.spawn(async move {
                    let service = job.service.clone();
                    let result = job.run(component, &file).await;
                    SwapEnded {
                        service,
                        origin,
                        result,
                        answer,
                    }
                });
                return;
            }
        };
        let _gone = answer.send(Err(refusal));
    }

    /// A swap has ended: the service is what it became, and what was put off is done.
    pub(super) async fn note_swap(&mut self, ended: Result<SwapEnded, JoinError>) {
        match ended {
            Ok(ended) => self.take_up(ended),
            // Only the end of the process stops one.
            Err(error) => tracing::error!(%error, "a swap's task ended"),
        }
        if self.reload_waits && self.swapping().is_none() {
            self.reload_waits = false;
            self.reload_by_signal().await;
        }
    }

    fn take_up(&mut self, ended: SwapEnded) {
        let SwapEnded {
            service,
            origin,
            result,
            answer,
        } = ended;
        let mut services = self.services.iter_mut();
        let live = services.find(|live| Arc::ptr_eq(&live.service, &service));
        let name = service.name().to_owned();
        let result = result.map(|swapped| {
            if let Some(live) = live {
                live.is_swapping = false;
                live.follow();
                live.made.note_swap(origin);
            }
            api::Swapped {
                service: name.clone(),
                swapped,
            }
        });
        if let Err(refusal) = &result {
            let mut services = self.services.iter_mut();
            if let Some(live) = services.find(|live| Arc::ptr_eq(&live.service, &service)) {
                live.is_swapping = false;
            }
            if origin == Origin::Sent {
                tracing::error!(service = name, "not swapped: {refusal}");
            }
        }
        let _gone = answer.send(result);
    }

    fn drain_one(&mut self, name: &str, time: Option<Duration>, answer: Answer<api::Ended>) {
        let mut services = self.services.iter();
        let Some(place) = services.position(|live| live.service.name() == name) else {
            let _gone = answer.send(Err(self.none_live(name)));
            return;
        };
        if self
            .services
            .get(place)
            .is_some_and(|live| live.is_swapping)
        {
            let _gone = answer.send(Err(being_swapped(name)));
            return;
        }
        let Live { made, service, .. } = self.services.remove(place);
        self.stopped.push(Stopped {
            made,
            name: name.to_owned(),
        });
        let Some(service) = Arc::into_inner(service) else {
            // Only a swap shares it, and there is none.
            let failed = Refusal::Failed("the service is in use".to_owned());
            let _gone = answer.send(Err(failed));
            return;
        };
        let time = time.unwrap_or(self.settings.drain_timeout);
        tracing::info!(
            service = name,
            "draining for at most {time:?}, as an operator said"
        );
        let name = name.to_owned();
        let draining = self.draining_names.begin(&name);
        self.draining.spawn(async move {
            let closed = drain(service, time).await;
            drop(draining);
            let _gone = answer.send(Ok(api::Ended {
                service: name,
                closed,
            }));
        });
    }

    async fn start_one(&mut self, name: &str) -> Result<api::Started, Refusal> {
        let is_it = |stopped: &Stopped| stopped.name == name;
        let Some(place) = self.stopped.iter().position(is_it) else {
            let mut services = self.services.iter();
            if services.any(|live| live.service.name() == name) {
                return Err(Refusal::Conflict(format!("service `{name}` runs already")));
            }
            return Err(self.none_live(name));
        };
        if self.is_draining(name) {
            return Err(Refusal::Conflict(format!(
                "service `{name}` is draining; wait until it has ended"
            )));
        }
        let Some(Stopped { made, .. }) = self.stopped.get(place) else {
            return Err(self.none_live(name));
        };
        // One that was named after its plugin keeps that name, whatever was swapped in.
        let config = ServiceConfig {
            name: Some(name.to_owned()),
            ..made.config.clone()
        };
        let ready = Ready::new(&self.engine, &config, Some(made));
        let Ready { made, prepared } = ready.map_err(|faults| unfit(&faults))?;
        let failed = |error: crate::service::ServiceError| {
            let message = crate::chain(&error);
            if error.is_mistake() {
                Refusal::Unfit(message)
            } else {
                Refusal::Failed(message)
            }
        };
        let service = self.host.serve(prepared.spec).await.map_err(failed)?;
        self.stopped.remove(place);
        tracing::info!(service = name, "started");
        if let Err(error) = announce([&service].into_iter()) {
            tracing::error!("{error:#}");
        }
        let listeners = service.listening().iter();
        let started = api::Started {
            service: name.to_owned(),
            listeners: listeners.map(ToString::to_string).collect(),
        };
        let live = self.live(made, service);
        self.services.push(live);
        notify::ready(self.status());
        Ok(started)
    }

    /// Takes a service in that runs, and begins to watch its plugin's file if it is to be watched.
    pub(super) fn live(&self, made: Made, service: Service) -> Live {
        let watch = made.config.watch.then(|| {
            PluginFile::watch(
                service.name(),
                &made.config.plugin,
                made.seen.clone(),
                self.commands.clone(),
            )
        });
        Live {
            made,
            service: Arc::new(service),
            is_swapping: false,
            _watch: watch.flatten(),
        }
    }

    /// What SIGHUP does: at once, or after the swaps that are under way.
    pub(super) async fn reload_by_signal(&mut self) {
        if let Some(name) = self.swapping() {
            tracing::info!(service = name, "reloading once it is swapped");
            self.reload_waits = true;
            return;
        }
        notify::reloading();
        self.follow();
        // The log has said what was wrong.
        let _told = self.reload().await;
        notify::ready(self.status());
    }

    /// Loads what came from files again.
    async fn reload(&mut self) -> Result<api::Reloaded, Refusal> {
        match &self.source {
            Source::Flags(_) => {
                for live in &self.services {
                    live.service.reload();
                }
                Ok(api::Reloaded {
                    started: Vec::new(),
                    stopped: Vec::new(),
                })
            }
            Source::File { path, .. } => {
                let path = path.clone();
                self.reload_file(&path).await
            }
        }
    }
}

impl Job {
    async fn run(self, component: Vec<u8>, file: &Path) -> Result<Swapped, Refusal> {
        let (engine, path) = (self.engine.clone(), file.to_owned());
        let limits = self.made.config.limits.clone();
        let compile = move || Plugin::of(&engine, &path, component, &limits);
        // Compiling takes up to seconds.
        let compiled = tokio::task::spawn_blocking(compile).await;
        let plugin = compiled
            .map_err(|error| Refusal::Failed(format!("compiling {}: {error}", file.display())))?;
        let plugin = plugin.map_err(|error| Refusal::Unfit(crate::chain(&error)))?;
        self.check(&plugin)?;
        let config = settings(&self.made.config, &plugin.manifest);
        let config = config.map_err(|faults| unfit(&faults))?;
        let swapped = self.service.swap(Arc::new(plugin), config, self.options);
        swapped.await.map_err(|error| match error {
            SwapError::Stopping | SwapError::WorkerSilent => Refusal::Failed(crate::chain(&error)),
            error => Refusal::Unfit(crate::chain(&error)),
        })
    }

    /// Sees that the new version can do what the service needs.
    fn check(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let isolation = self.made.isolation;
        let permitted = &plugin.manifest.isolation;
        if !permitted.contains(&isolation) {
            let permitted: Vec<_> = permitted.iter().map(ToString::to_string).collect();
            let permitted = permitted.join(", ");
            return Err(Refusal::Unfit(format!(
                "the service has isolation `{isolation}`, and the new version permits {permitted}: it takes a new start"
            )));
        }
        let mut listeners = self.service.listening().iter();
        let udp = listeners.find(|url| url.starts_with("udp:"));
        match udp {
            Some(url) if !plugin.takes_datagrams() => Err(Refusal::Unfit(format!(
                "the service listens on {url}, and the new version takes no datagrams: it exports no `datagram-handler`"
            ))),
            _ => Ok(()),
        }
    }
}

impl Made {
    fn known(&self, name: &str) -> Known {
        let Self {
            config,
            plugin,
            isolation,
            ..
        } = self;
        Known {
            name: name.to_owned(),
            state: api::State::Serving,
            detail: None,
            plugin: plugin.manifest.name.clone(),
            version: plugin.manifest.version.clone(),
            file: config.plugin.clone(),
            swapped: self.is_swapped(),
            isolation: isolation.to_string(),
            listeners: Vec::new(),
            swaps: self.swaps,
        }
    }

    fn note_swap(&mut self, origin: Origin) {
        self.swaps += 1;
        if origin == Origin::File {
            self.digest = digest(&self.config);
        }
    }
}

/// The names of services that an operator had drained, and that have not ended yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<BTreeSet<String>>>);

/// A name that is among them until this is dropped.
pub(super) struct Named {
    names: Names,
    name: String,
}

impl Names {
    pub(super) fn begin(&self, name: &str) -> Named {
        self.lock().insert(name.to_owned());
        Named {
            names: self.clone(),
            name: name.to_owned(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

fn being_swapped(name: &str) -> Refusal {
    Refusal::Conflict(format!(
        "service `{name}` is being swapped; wait until that is done"
    ))
}

fn unfit(faults: &[Fault]) -> Refusal {
    let faults: Vec<_> = faults.iter().map(|fault| fault.message.clone()).collect();
    Refusal::Unfit(faults.join("; "))
}
