//! SIGHUP: the file is read again, and only what differs changes. Everything that can go wrong goes wrong before anything changes.

use std::{path::Path, sync::Arc};

use super::{Live, Made, Ready, Server, Source, announce, tell_lacking};
use crate::{
    admin::{Refusal, api},
    config::{
        Config, ConfigError, HostConfig, Problem, Severity, WrittenService,
        prepare::{Digest, Effort, Fault, digest, prepare},
        reach,
    },
    service::{Service, Staged},
};

/// A service that could take its place.
struct Successor {
    made: Made,
    staged: Staged,
}

/// What the file says now, beside what serves.
struct Compared {
    ready: Vec<Ready>,
    /// The names of the services that stay, and what their files are.
    unchanged: Vec<(Option<String>, Digest)>,
}

impl Server {
    /// Reads the file again, and becomes what it says; or says why not, and stays what it was.
    pub(super) async fn reload_file(&mut self, path: &Path) -> Result<api::Reloaded, Refusal> {
        let config = match Config::load(path) {
            Ok(config) => config,
            Err(ConfigError::Invalid(problems)) => return refuse(path, &problems.0),
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!("nothing was changed: {error}");
                return Err(Refusal::Unfit(error));
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{}", warning.line());
        }
        let outside = self.outside(&config);
        if !outside.is_empty() {
            return refuse(path, &outside);
        }
        let Compared { ready, unchanged } = match self.compare(&config) {
            Ok(compared) => compared,
            Err(problems) => return refuse(path, &problems),
        };
        let gone = self.gone(&config, &ready);
        match self.stage(&config, ready, &gone).await {
            Ok(successors) => {
                self.take_settings(&config.host);
                for live in &mut self.services {
                    let mut unchanged = unchanged.iter();
                    if let Some((_, digest)) =
                        unchanged.find(|(name, _)| *name == live.made.config.name)
                    {
                        // The plugin that was swapped in may be the file's by now.
                        live.made.digest = Some(*digest);
                    }
                }
                self.source = Source::File {
                    path: path.to_owned(),
                    config: Box::new(config),
                };
                Ok(self.replace(successors, &gone).await)
            }
            Err(problem) => refuse(path, &[problem]),
        }
    }

    /// Says what of services that are new, or are described otherwise than before, cannot be reached by this process any more.
    fn outside(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        for service in &config.services {
            let mut live = self.services.iter();
            if live.any(|live| live.made.config == service.config) {
                continue;
            }
            let faults = reach::outside(&service.config);
            let told = |fault| config.problem(service, fault, Severity::Error);
            problems.extend(faults.iter().map(told));
        }
        problems
    }

    /// Prepares the services that are new, or are described otherwise than before, or whose files have another content. Nothing is made before all of them
    /// were looked at.
    fn compare(&self, config: &Config) -> Result<Compared, Vec<Problem>> {
        let mut unchanged = Vec::new();
        let mut differing: Vec<&WrittenService> = Vec::new();
        for service in &config.services {
            let now = &service.config;
            let mut stopped = self.stopped.iter();
            if stopped.any(|it| it.made.config.name == now.name) {
                continue;
            }
            // Read once: what the files become meanwhile differs the next time.
            let digest = digest(now);
            let mut services = self.services.iter();
            let is_current = services.any(|live| live.made.is_current(now, digest));
            match digest.filter(|_| is_current) {
                Some(digest) => unchanged.push((now.name.clone(), digest)),
                None => differing.push(service),
            }
        }
        let told = |service, faults: Vec<Fault>| -> Vec<Problem> {
            let faults = faults.iter();
            let told = faults.map(|fault| config.problem(service, fault, Severity::Error));
            told.collect()
        };
        let mut problems = Vec::new();
        for service in &differing {
            if let Err(faults) = prepare(&self.engine, &service.config, Effort::Check) {
                problems.extend(told(service, faults));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut ready = Vec::new();
        for service in differing {
            let mut live = self.services.iter();
            let before = live.find(|live| live.made.config.name == service.config.name);
            let before = before.map(|live| &live.made);
            let prepared = Ready::new(&self.engine, &service.config, before);
            let prepared = prepared.map_err(|faults| told(service, faults))?;
            tell_lacking(config, service, &prepared);
            ready.push(prepared);
        }
        Ok(Compared { ready, unchanged })
    }

    /// Returns the names of the services that have a successor, or are not in the file any more.
    fn gone(&self, config: &Config, ready: &[Ready]) -> Vec<Option<String>> {
        let names = self.services.iter().map(|live| &live.made.config.name);
        let gone = names.filter(|name| {
            let has_successor = ready.iter().any(|ready| ready.made.config.name == **name);
            let mut services = config.services.iter();
            has_successor || !services.any(|service| service.config.name == **name)
        });
        gone.cloned().collect()
    }

    /// Binds and configures all of them, beside those whose place they take. If one cannot be, none is.
    async fn stage(
        &self,
        config: &Config,
        mut ready: Vec<Ready>,
        gone: &[Option<String>],
    ) -> Result<Vec<Successor>, Problem> {
        let mut successors: Vec<Successor> = Vec::new();
        // Listeners at port 0 are alike: first come those who have some already, and to each its own come first.
        ready.sort_by_key(|ready| !gone.contains(&ready.made.config.name));
        for ready in ready {
            let is_gone = |live: &&Live| gone.contains(&live.made.config.name);
            let mut predecessors: Vec<_> = self.services.iter().filter(is_gone).collect();
            predecessors.sort_by_key(|live| live.made.config.name != ready.made.config.name);
            let predecessors: Vec<_> = predecessors.iter().map(|live| &*live.service).collect();
            let earlier: Vec<_> = successors.iter().map(|it| &it.staged).collect();
            let spec = ready.prepared.spec;
            match self.host.stage(spec, &predecessors, &earlier).await {
                Ok(staged) => successors.push(Successor {
                    made: ready.made,
                    staged,
                }),
                Err(error) => {
                    for successor in successors {
                        successor.staged.discard();
                    }
                    return Err(config.failure(&ready.made.config, &error));
                }
            }
        }
        Ok(successors)
    }

    /// The successors accept, then those whose place they take stop, so that somebody listens all the time.
    async fn replace(
        &mut self,
        successors: Vec<Successor>,
        gone: &[Option<String>],
    ) -> api::Reloaded {
        let mut started = Vec::new();
        // Those that a successor could not take the place of after all.
        let mut kept = Vec::new();
        for Successor { made, staged } in successors {
            match staged.accept().await {
                Ok(service) => started.push(self.live(made, service)),
                Err(error) => {
                    let config = made.config;
                    let service = config.name.clone().unwrap_or_default();
                    let error = crate::chain(&error);
                    tracing::error!(service, error, "not started; what was there goes on");
                    kept.push(config.name);
                }
            }
        }
        let (old, mut services): (Vec<_>, Vec<_>) = std::mem::take(&mut self.services)
            .into_iter()
            .partition(|live| {
                gone.contains(&live.made.config.name) && !kept.contains(&live.made.config.name)
            });
        for live in &mut services {
            tracing::debug!(service = live.service.name(), "unchanged");
            live.service.reload();
        }
        let names: Vec<_> = old
            .iter()
            .map(|live| live.made.config.name.clone())
            .collect();
        for live in &started {
            let service = live.service.name();
            if names.contains(&live.made.config.name) {
                tracing::info!(
                    service,
                    "restarted; connections of before go on for at most {:?}",
                    self.settings.drain_timeout
                );
            } else {
                tracing::info!(service, "started");
            }
        }
        let running: Vec<&Service> = started.iter().map(|live| &*live.service).collect();
        let mut stopped = Vec::new();
        for Live { made, service, .. } in old {
            // Only a swap shares it, and there is none.
            let Some(mut service) = Arc::into_inner(service) else {
                continue;
            };
            service.let_go(&running).await;
            let mut successors = started.iter();
            if !successors.any(|live| live.made.config.name == made.config.name) {
                stopped.push(service.name().to_owned());
                tracing::info!(
                    service = service.name(),
                    "not in the file any more; its connections go on for at most {:?}",
                    self.settings.drain_timeout
                );
            }
            self.retire(service);
        }
        if let Err(error) = announce(started.iter().map(|live| &*live.service)) {
            tracing::error!("{error:#}");
        }
        let names = started.iter().map(|live| live.service.name().to_owned());
        let reloaded = api::Reloaded {
            started: names.collect(),
            stopped,
        };
        services.extend(started);
        self.services = services;
        self.take_stopped();
        reloaded
    }

    /// Services that an operator stopped stay so, are what the file says when they are started, and are forgotten if they are not in it any more.
    fn take_stopped(&mut self) {
        let Source::File { config, .. } = &self.source else {
            return;
        };
        self.stopped.retain_mut(|stopped| {
            let mut services = config.services.iter().map(|service| &service.config);
            let described = services.find(|it| it.name == stopped.made.config.name);
            if let Some(described) = described {
                stopped.made.config = described.clone();
            }
            described.is_some()
        });
    }

    /// Takes the settings of the host that can change while it runs, and says which cannot.
    fn take_settings(&mut self, new: &HostConfig) {
        let old = &self.settings;
        let same = [
            ("workers", old.workers == new.workers),
            ("admin", old.admin == new.admin),
            ("metrics", old.metrics == new.metrics),
            ("user", old.user == new.user),
            ("group", old.group == new.group),
            ("coredump", old.coredump == new.coredump),
            ("pid-file", old.pid_file == new.pid_file),
            ("confinement", old.confinement == new.confinement),
            ("memory", old.memory == new.memory),
            ("log", old.log == new.log),
            ("log-format", old.log_format == new.log_format),
        ];
        for (key, is_same) in same {
            if !is_same {
                tracing::warn!(
                    "`{key}` of [host] stays as it was: it changes with a new start only"
                );
            }
        }
        self.settings.drain_timeout = new.drain_timeout;
    }
}

/// Says what is wrong, in the log and to who asked.
fn refuse<T>(path: &Path, problems: &[Problem]) -> Result<T, Refusal> {
    for problem in problems {
        tracing::error!("{}", problem.line());
    }
    let (path, count) = (path.display(), problems.len());
    let mistakes = match count {
        1 => "there is a mistake",
        _ => "there are mistakes",
    };
    tracing::error!(count, "nothing was changed: {mistakes} in {path}");
    let lines: Vec<_> = problems.iter().map(Problem::line).collect();
    Err(Refusal::Unfit(lines.join("\n")))
}
