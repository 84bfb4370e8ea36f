//! SIGHUP: the file is read again, and only what differs changes. Everything that can go wrong goes wrong before anything changes.

use std::path::Path;

use super::{Live, Ready, Server, Source, announce, tell_lacking};
use crate::{
    config::{
        Config, ConfigError, HostConfig, Problem, Severity, WrittenService,
        prepare::{Effort, Fault, digest, prepare},
        reach,
    },
    service::{Service, Staged},
};

/// A service that could take its place.
struct Successor {
    config: crate::config::ServiceConfig,
    digest: Option<[u8; 32]>,
    staged: Staged,
}

impl Server {
    /// Reads the file again, and becomes what it says; or says why not, and stays what it was.
    pub(super) async fn reload_file(&mut self, path: &Path) {
        let config = match Config::load(path) {
            Ok(config) => config,
            Err(ConfigError::Invalid(problems)) => return refuse(path, &problems.0),
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!("nothing was changed: {error}");
                return;
            }
        };
        for warning in &config.warnings {
            tracing::warn!("{}", warning.line());
        }
        let outside = self.outside(&config);
        if !outside.is_empty() {
            return refuse(path, &outside);
        }
        let ready = match self.differing(&config) {
            Ok(ready) => ready,
            Err(problems) => return refuse(path, &problems),
        };
        let gone = self.gone(&config, &ready);
        match self.stage(&config, ready, &gone).await {
            Ok(successors) => {
                self.take_settings(&config.host);
                self.source = Source::File {
                    path: path.to_owned(),
                    config: Box::new(config),
                };
                self.replace(successors, &gone).await;
            }
            Err(problem) => refuse(path, &[problem]),
        }
    }

    /// Says what of services that are new, or are described otherwise than before, cannot be reached by this process any more.
    fn outside(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        for service in &config.services {
            let mut live = self.services.iter();
            if live.any(|live| live.config == service.config) {
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
    fn differing(&self, config: &Config) -> Result<Vec<Ready>, Vec<Problem>> {
        let differs = |service: &&WrittenService| {
            let now = &service.config;
            !self.services.iter().any(|live| {
                live.config == *now && live.digest.is_some() && live.digest == digest(now)
            })
        };
        let differing: Vec<_> = config.services.iter().filter(differs).collect();
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
            let prepared = Ready::new(&self.engine, &service.config);
            let prepared = prepared.map_err(|faults| told(service, faults))?;
            tell_lacking(config, service, &prepared);
            ready.push(prepared);
        }
        Ok(ready)
    }

    /// Returns the names of the services that have a successor, or are not in the file any more.
    fn gone(&self, config: &Config, ready: &[Ready]) -> Vec<Option<String>> {
        let names = self.services.iter().map(|live| &live.config.name);
        let gone = names.filter(|name| {
            let has_successor = ready.iter().any(|ready| ready.config.name == **name);
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
        ready.sort_by_key(|ready| !gone.contains(&ready.config.name));
        for ready in ready {
            let is_gone = |live: &&Live| gone.contains(&live.config.name);
            let mut predecessors: Vec<_> = self.services.iter().filter(is_gone).collect();
            predecessors.sort_by_key(|live| live.config.name != ready.config.name);
            let predecessors: Vec<_> = predecessors.iter().map(|live| &live.service).collect();
            let earlier: Vec<_> = successors.iter().map(|it| &it.staged).collect();
            let spec = ready.prepared.spec;
            match self.host.stage(spec, &predecessors, &earlier).await {
                Ok(staged) => successors.push(Successor {
                    config: ready.config,
                    digest: ready.digest,
                    staged,
                }),
                Err(error) => {
                    for successor in successors {
                        successor.staged.discard();
                    }
                    return Err(config.failure(&ready.config, &error));
                }
            }
        }
        Ok(successors)
    }

    /// The successors accept, then those whose place they take stop, so that somebody listens all the time.
    async fn replace(&mut self, successors: Vec<Successor>, gone: &[Option<String>]) {
        let mut started = Vec::new();
        // Those that a successor could not take the place of after all.
        let mut kept = Vec::new();
        for Successor {
            config,
            digest,
            staged,
        } in successors
        {
            match staged.accept().await {
                Ok(service) => started.push(Live {
                    config,
                    digest,
                    service,
                }),
                Err(error) => {
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
                gone.contains(&live.config.name) && !kept.contains(&live.config.name)
            });
        for live in &services {
            tracing::debug!(service = live.service.name(), "unchanged");
            live.service.reload();
        }
        let names: Vec<_> = old.iter().map(|live| live.config.name.clone()).collect();
        for live in &started {
            let service = live.service.name();
            if names.contains(&live.config.name) {
                tracing::info!(
                    service,
                    "restarted; connections of before go on for at most {:?}",
                    self.settings.drain_timeout
                );
            } else {
                tracing::info!(service, "started");
            }
        }
        let running: Vec<&Service> = started.iter().map(|live| &live.service).collect();
        for Live {
            config,
            mut service,
            ..
        } in old
        {
            service.let_go(&running).await;
            if !started.iter().any(|live| live.config.name == config.name) {
                tracing::info!(
                    service = service.name(),
                    "not in the file any more; its connections go on for at most {:?}",
                    self.settings.drain_timeout
                );
            }
            self.retire(service);
        }
        if let Err(error) = announce(started.iter().map(|live| &live.service)) {
            tracing::error!("{error:#}");
        }
        services.extend(started);
        self.services = services;
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

fn refuse(path: &Path, problems: &[Problem]) {
    for problem in problems {
        tracing::error!("{}", problem.line());
    }
    let (path, count) = (path.display(), problems.len());
    let mistakes = match count {
        1 => "there is a mistake",
        _ => "there are mistakes",
    };
    tracing::error!(count, "nothing was changed: {mistakes} in {path}");
}
