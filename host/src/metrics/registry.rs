//! What there is to tell: the workers, the services on them, and how far each has come.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::Instant};

use super::{
    families,
    health::{Health, State},
    merge::Admitted,
    meters::Meters,
    plugin::Snapshot,
    retired::{Leaving, Retired},
};
use crate::{plugin::Plugin, reactor::WorkerHandle};

/// Everything that can be scraped, and asked about health. Belongs to a [`Host`](crate::service::Host).
pub struct Registry {
    probes: Vec<Probe>,
    started: SystemTime,
    services: Mutex<Vec<Arc<Entry>>>,
    phase: Mutex<Phase>,
    pub(super) admitted: Mutex<Admitted>,
    retired: Mutex<Retired>,
}

/// How far the host, or a service, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not listen yet.
    Starting,
    /// It listens.
    Serving,
    /// It accepts no more.
    Draining,
}

impl Phase {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "listening",
            Self::Draining => "draining",
        }
    }
}

/// A service, as the registry knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    key: usize,
    pub(super) name: String,
    /// How many series its plugin's metrics may have, on all workers together.
    pub(super) most_series: usize,
    plugin: CurrentPlugin,
    /// By the worker.
    pub(super) meters: Vec<(usize, Arc<Meters>)>,
    phase: Mutex<(Phase, Vec<Arc<str>>)>,
    /// By the worker, of those that it has left.
    last: Mutex<Vec<(usize, Sample)>>,
}

/// A service's place in the registry; it leaves it when this is dropped. What it has counted stays as long as others of its name do.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

/// What is true of a service on one worker at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) connections: usize,
    /// Accepted, and not connections yet.
    pub(crate) establishing: usize,
    pub(crate) sockets: usize,
    pub(crate) operations: usize,
    pub(crate) timers: usize,
    pub(crate) open_files: usize,
    pub(crate) instances: usize,
    /// Bytes of linear memory.
    pub(crate) memory: usize,
    /// By the listener.
    pub(crate) accepted: Vec<(Arc<str>, u64)>,
    pub(crate) plugin: Snapshot,
}

impl Sample {
    /// Adds another worker's, but for what is by the listener and what is the plugin's.
    pub(super) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.establishing += other.establishing;
        self.sockets += other.sockets;
        self.operations += other.operations;
        self.timers += other.timers;
        self.open_files += other.open_files;
        self.instances += other.instances;
        self.memory += other.memory;
    }
}

/// What new connections of a service get, which a swap changes. None if the service is native.
pub(crate) type CurrentPlugin = Arc<Mutex<Option<Arc<Plugin>>>>;

/// Looks at all services of the worker that it is called on, by their keys.
pub(crate) type Sampler = fn() -> Samples;

/// What is true of all services of one worker.
pub(crate) type Samples = Vec<(usize, Sample)>;

/// Asks one worker. However many ask, one question at a time is on its way, so a worker that hangs collects none.
struct Probe {
    worker: WorkerHandle,
    sampler: Sampler,
    /// The number of the last question.
    asked: Mutex<u64>,
    told: Arc<Told>,
}

struct Told {
    /// The number of the last answer.
    number: watch::Sender<u64>,
    samples: Mutex<Arc<Samples>>,
}

/// One service at the time of a scrape; several of one name (one of them drains) are one.
pub(super) struct View {
    pub(super) name: String,
    pub(super) most_series: usize,
    /// Name and version of its plugin; of several, if some of them drain.
    pub(super) plugins: BTreeSet<(String, String)>,
    pub(super) is_listening: bool,
    pub(super) meters: Vec<Arc<Meters>>,
    /// By the worker.
    pub(super) samples: Vec<(usize, Sample)>,
    /// What those have counted that had this name before.
    pub(super) retired: Option<Sample>,
}

impl View {
    /// Returns where something was counted, by services that are there and others.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.iter().map(|(_, sample)| sample);
        // Those who are there say what a metric is.
        samples.chain(&self.retired)
    }
}

impl Entry {
    fn phase(&self) -> Phase {
        lock(&self.phase).0
    }

    fn plugin(&self) -> Option<(String, String)> {
        let plugin = lock(&self.plugin).clone()?;
        let version = plugin.manifest.version.clone();
        Some((plugin.manifest.name.clone(), version.unwrap_or_default()))
    }

    fn state(&self) -> State {
        State::of(self.meters.iter().map(|(_, meters)| &meters.notice))
    }

    /// Returns what is true on a worker: what the service left there, or what the worker said last.
    fn sample(&self, worker: usize, told: Option<&Samples>) -> Option<Sample> {
        let last = lock(&self.last);
        if let Some((_, sample)) = last.iter().find(|(index, _)| *index == worker) {
            return Some(sample.clone());
        }
        let (_, sample) = told?.iter().find(|(key, _)| *key == self.key)?;
        Some(sample.clone())
    }
}

impl Registry {
    pub(crate) fn new(workers: &[WorkerHandle], sampler: Sampler) -> Arc<Self> {
        let probes = workers.iter().map(|worker| Probe {
            worker: worker.clone(),
            sampler,
            asked: Mutex::new(0),
            told: Arc::new(Told {
                number: watch::Sender::new(0),
                samples: Mutex::default(),
            }),
        });
        Arc::new(Self {
            probes: probes.collect(),
            started: SystemTime::now(),
            services: Mutex::default(),
            phase: Mutex::new(Phase::Starting),
            admitted: Mutex::default(),
            retired: Mutex::default(),
        })
    }

    /// Says how far the host has come: [`Phase::Serving`] once every service that it was started with listens, [`Phase::Draining`] before they are drained.
    pub fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// Takes a service in, which starts.
    pub(crate) fn register(
        self: &Arc<Self>,
        key: usize,
        name: &str,
        most_series: usize,
        plugin: CurrentPlugin,
        workers: impl Iterator<Item = usize>,
    ) -> Registration {
        let entry = Arc::new(Entry {
            key,
            name: name.to_owned(),
            most_series,
            plugin,
            meters: workers.map(|worker| (worker, Arc::default())).collect(),
            phase: Mutex::new((Phase::Starting, Vec::new())),
            last: Mutex::default(),
        });
        lock(&self.services).push(entry.clone());
        Registration {
            registry: self.clone(),
            entry,
        }
    }

    /// Returns when the host was started.
    pub(super) fn started(&self) -> SystemTime {
        self.started
    }

    /// Returns the metrics as text. Workers that do not answer in time are told as they were last.
    pub async fn scrape(&self) -> String {
        let answered = self.ask(SCRAPE_TIME).await;
        families::write(self, &self.views(), &answered)
    }

    /// Returns the workers, by their index, that do not answer in time.
    pub async fn silent_workers(&self) -> Vec<usize> {
        let answered = self.ask(HEALTH_TIME).await;
        let silent = answered
            .iter()
            .enumerate()
            .filter(|(_, answered)| !**answered);
        silent.map(|(index, _)| index).collect()
    }

    /// Returns whether the host serves and all of its services listen, and a line for each. One that drains while the others listen was taken out on purpose,
    /// and one that starts while another of its name listens keeps nobody waiting. One whose plugin breaks again and again says so in its line; only if there is no
    /// other, and no worker where it has an instance, would whoever is sent here come in vain.
    pub fn readiness(&self) -> (Readiness, Vec<String>) {
        let phase = *lock(&self.phase);
        let (mut starting, mut takes_connections) = (0, false);
        let mut lines = Vec::new();
        let services = lock(&self.services);
        let listening = services
            .iter()
            .filter(|entry| entry.phase() == Phase::Serving);
        let listening: Vec<_> = listening.map(|entry| &entry.name).collect();
        for entry in &*services {
            let (own, urls) = &*lock(&entry.phase);
            if *own == Phase::Starting && !listening.contains(&&entry.name) {
                starting += 1;
            }
            let state = entry.state();
            takes_connections |= *own == Phase::Serving && !state.is_down();
            let urls: Vec<_> = urls.iter().map(|url| format!(" {url}")).collect();
            let mut line = format!("{} {}{}", entry.name, own.name(), urls.concat());
            if let State::Degraded(degraded) = &state {
                line += &format!(", {degraded}");
            }
            lines.push(line);
        }
        let ready = phase == Phase::Serving && takes_connections && starting == 0;
        if phase != Phase::Serving {
            lines.insert(0, phase.name().to_owned());
        }
        let readiness = if ready {
            Readiness::Ready
        } else {
            Readiness::Unready
        };
        (readiness, lines)
    }

    /// Asks all workers, and returns which of them answered in time.
    async fn ask(&self, time: Duration) -> Vec<bool> {
        let deadline = Instant::now() + time;
        // All of them before the first answer is waited for.
        let numbers: Vec<_> = self.probes.iter().map(Probe::ask).collect();
        let mut answered = Vec::new();
        for (probe, number) in self.probes.iter().zip(numbers) {
            answered.push(probe.answered(number, deadline).await);
        }
        answered
    }

    /// Asks all workers, as a scrape does.
    pub(super) async fn ask_for_scrape(&self) {
        self.ask(SCRAPE_TIME).await;
    }

    pub(super) fn views(&self) -> Vec<View> {
        let samples: Vec<_> = self
            .probes
            .iter()
            .map(|probe| lock(&probe.told.samples).clone())
            .collect();
        let mut views: Vec<View> = Vec::new();
        for entry in &*lock(&self.services) {
            let of_worker = |(worker, _): &(usize, Arc<Meters>)| {
                let told = samples.get(*worker).map(|told| &**told);
                Some((*worker, entry.sample(*worker, told)?))
            };
            let samples = entry.meters.iter().filter_map(of_worker);
            let is_listening = entry.phase() == Phase::Serving;
            let meters = entry.meters.iter().map(|(_, meters)| meters.clone());
            let plugins = entry.plugin();
            if let Some(view) = views.iter_mut().find(|view| view.name == entry.name) {
                view.samples.extend(samples);
                view.meters.extend(meters);
                view.plugins.extend(plugins);
                view.is_listening |= is_listening;
            } else {
                let retired = lock(&self.retired).of(&entry.name);
                let (counted, retired) = retired.unzip();
                views.push(View {
                    name: entry.name.clone(),
                    most_series: entry.most_series,
                    plugins: plugins.into_iter().collect(),
                    is_listening,
                    meters: meters.chain(counted).collect(),
                    samples: samples.collect(),
                    retired,
                });
            }
        }
        views
    }
}

/// Whether clients may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They may.
    Ready,
    /// They may not.
    Unready,
}

impl Registration {
    /// Returns what is counted on a worker.
    pub(crate) fn meters(&self, worker: usize) -> Arc<Meters> {
        let mut meters = self.entry.meters.iter();
        let found = meters.find(|(index, _)| *index == worker);
        found.map_or_else(Arc::default, |(_, meters)| meters.clone())
    }

    /// The service listens here.
    pub(crate) fn listens(&self, urls: &[Arc<str>]) {
        *lock(&self.entry.phase) = (Phase::Serving, urls.to_vec());
    }

    /// Returns how the service fares.
    pub(crate) fn health(&self) -> Health {
        let meters = self.entry.meters.iter().map(|(_, meters)| meters);
        Health {
            failures: meters.map(|meters| meters.failures()).sum(),
            state: self.entry.state(),
        }
    }

    /// The service has left a worker, where this is what it counted.
    pub(crate) fn ended(&self, worker: usize, counted: Sample) {
        lock(&self.entry.last).push((worker, counted));
    }

    /// The service accepts no more.
    pub(crate) fn drains(&self) {
        lock(&self.entry.phase).0 = Phase::Draining;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Self { registry, entry } = self;
        let mut services = lock(&registry.services);
        services.retain(|other| !Arc::ptr_eq(other, entry));
        let others = services.iter().filter(|other| other.name == entry.name);
        let others: Vec<_> = others.collect();
        let mut retired = lock(&registry.retired);
        if others.is_empty() {
            retired.forget(&entry.name);
            return;
        }
        let listeners = others.iter().map(|other| lock(&other.phase).1.clone());
        let leaving = Leaving {
            name: &entry.name,
            most_series: entry.most_series,
            meters: entry.meters.iter().map(|(_, it)| it.clone()).collect(),
            samples: lock(&entry.last).iter().map(|(_, it)| it.clone()).collect(),
        };
        let listeners: Vec<_> = listeners.flatten().collect();
        retired.keep(&leaving, &listeners, &mut lock(&registry.admitted));
    }
}

impl Probe {
    /// Asks the worker, unless it has not answered yet, and returns the number of the question.
    fn ask(&self) -> u64 {
        let mut asked = lock(&self.asked);
        if *asked == *self.told.number.borrow() {
            *asked += 1;
            let (number, told, sampler) = (*asked, self.told.clone(), self.sampler);
            self.worker.run(move |_| {
                let samples = Arc::new(sampler());
                *lock(&told.samples) = samples;
                told.number.send_replace(number);
            });
        }
        *asked
    }

    async fn answered(&self, number: u64, deadline: Instant) -> bool {
        let mut told = self.told.number.subscribe();
        let answer = told.wait_for(|told| *told >= number);
        tokio::time::timeout_at(deadline, answer).await.is_ok()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// Locks what no code leaves half-changed, so that it can be used even if a thread panicked with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a scrape waits for a worker: 1 s, a tenth of what Prometheus waits for a scrape.
const SCRAPE_TIME: Duration = Duration::from_secs(1);

/// How long a worker may take to answer before it counts as hanging: 2 s, forty times what one callback may take.
const HEALTH_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::plugin::{Declaration, Gauges, Kind, Table};

    fn registry() -> Arc<Registry> {
        let registry = Registry::new(&[], Vec::new);
        registry.enter(Phase::Serving);
        registry
    }

    fn register(registry: &Arc<Registry>, key: usize) -> Registration {
        registry.register(key, "echo", 2, CurrentPlugin::default(), 0..2)
    }

    fn serve(registration: &Registration) {
        registration.listens(&["tcp://here".into()]);
    }

    /// What a service leaves on a worker that took a connection from each listener, and counted by these names.
    fn sample(listeners: &[&str], names: &[&str]) -> Sample {
        let table = Table::new("echo", "echo", 10, Arc::default());
        let family = table.declare(Declaration {
            name: "c".to_owned(),
            help: "C".to_owned(),
            unit: None,
            labels: vec!["who".to_owned()],
            kind: Kind::Counter,
        });
        let family = family.unwrap();
        for name in names {
            let series = table.series(&family, &[(*name).to_owned()]);
            series.unwrap().count(1);
        }
        let accepted = listeners.iter().map(|url| ((*url).into(), 1));
        Sample {
            accepted: accepted.collect(),
            plugin: table.snapshot(Gauges::Gone),
            ..Sample::default()
        }
    }

    fn told(registry: &Registry, sample: &str) -> Option<u64> {
        let text = families::write(registry, &registry.views(), &[]);
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value)
    }

    #[test]
    fn a_successor_that_starts_keeps_nobody_waiting() {
        let registry = registry();
        let first = register(&registry, 0);
        assert_eq!(registry.readiness().0, Readiness::Unready);
        serve(&first);
        assert_eq!(registry.readiness().0, Readiness::Ready);
        let second = register(&registry, 1);
        assert_eq!(registry.readiness().0, Readiness::Ready);
        // Of another name it does.
        let other = registry.register(2, "irc", 2, CurrentPlugin::default(), 0..2);
        assert_eq!(registry.readiness().0, Readiness::Unready);
        drop(other);
        first.drains();
        assert_eq!(registry.readiness().0, Readiness::Unready);
        serve(&second);
        assert_eq!(registry.readiness().0, Readiness::Ready);
    }

    const RECEIVED: &str = r#"nethost_received_bytes_total{service="echo"}"#;
    const HERE: &str =
        r#"nethost_connections_accepted_total{service="echo",listener="tcp://here"}"#;
    const GONE: &str =
        r#"nethost_connections_accepted_total{service="echo",listener="tcp://gone"}"#;

    fn counter(who: &str) -> String {
        format!(r#"echo_c_total{{service="echo",who="{who}"}}"#)
    }

    #[test]
    fn what_a_service_counted_stays_as_long_as_its_name() {
        let registry = registry();
        let mut current = register(&registry, 0);
        serve(&current);
        for round in 1..=3 {
            for worker in 0..2 {
                current.meters(worker).received.add(5);
                current.ended(worker, sample(&["tcp://here", "tcp://gone"], &["ann"]));
            }
            let expect = || {
                assert_eq!(told(&registry, RECEIVED), Some(10 * round));
                assert_eq!(told(&registry, HERE), Some(2 * round));
                assert_eq!(told(&registry, &counter("ann")), Some(2 * round));
            };
            expect();
            let next = register(&registry, usize::try_from(round).unwrap());
            serve(&next);
            expect();
            drop(current);
            expect();
            // Nobody listens there any more.
            assert_eq!(told(&registry, GONE), None);
            current = next;
        }
        drop(current);
        let fresh = register(&registry, 9);
        assert_eq!(told(&registry, RECEIVED), Some(0));
        assert_eq!(told(&registry, &counter("ann")), None);
        drop(fresh);
    }

    #[test]
    fn what_is_kept_of_a_name_has_no_more_series_than_are_told() {
        let registry = registry();
        let mut current = register(&registry, 0);
        for round in 1..=10 {
            let own = [format!("a{round}"), format!("b{round}")];
            current.ended(0, sample(&[], &[&own[0], &own[1]]));
            let next = register(&registry, round);
            drop(current);
            current = next;
        }
        assert_eq!(told(&registry, &counter("a1")), Some(1));
        assert_eq!(told(&registry, &counter("b1")), Some(1));
        assert_eq!(told(&registry, &counter("(overflow)")), Some(18));
        let (_, kept) = lock(&registry.retired).of("echo").unwrap();
        assert_eq!(kept.plugin.families[0].1.len(), 3);
    }
}
