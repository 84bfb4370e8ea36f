//! A service's place on one worker: its current instance, and how the next one is made.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    Protocol, ServiceId,
    alone::Alone,
    backoff::Backoff,
    door::Door,
    establishing::Establishing,
    listening::{GivenStream, Listener, Socket, Sockets, Source},
    moving::{Next, Staged},
    pool::{Admission, Place},
    supervise::supervise,
};
use crate::{
    instance::{Instance, StartError},
    metrics::{
        meters::Meters,
        plugin::{Gauges, Snapshot, Succession, Table},
        registry::{Sample, Samples},
    },
    plugin::Plugin,
    reactor::{
        Accepted, Acceptor, CloseReason, Holdings, Lane, Origin, Program, Worker, WorkerHandle,
    },
    transport::{
        Transport, tcp,
        udp::{Peers, Udp},
    },
};

thread_local! {
    /// The services of this worker.
    pub(super) static SLOTS: RefCell<HashMap<ServiceId, Rc<Slot>>> = RefCell::default();
}

/// A service on one worker.
#[derive(Debug)]
pub(super) struct Slot {
    worker: Rc<Worker>,
    pub(super) program: Arc<Program>,
    /// The service's part in the worker's time.
    pub(super) lane: Rc<Lane>,
    pub(super) meters: Arc<Meters>,
    /// What the plugin's instances have counted up to now; none for a native protocol. With isolation `connection` all of one version count here.
    table: RefCell<Option<Rc<Table>>>,
    /// Connections taken, by the listener.
    pub(super) accepted: RefCell<Vec<(Arc<str>, u64)>>,
    pub(super) protocol: RefCell<Protocol>,
    pub(super) running: RefCell<Option<Running>>,
    pub(super) door: Arc<Door>,
    /// With isolation `connection`: the instances that have a connection. The one that is running serves datagrams, and shows that the plugin starts.
    pub(super) alone: Option<Rc<Alone>>,
    /// A new version, made but not yet in charge.
    pub(super) staged: RefCell<Option<Staged>>,
    /// Instances of versions before, until their connections have ended.
    pub(super) outgoing: RefCell<Vec<Running>>,
    /// With the URLs of their listeners.
    acceptors: RefCell<Vec<(Arc<str>, JoinHandle<()>)>>,
    pub(super) establishing: Establishing,
    pub(super) backoff: Backoff,
    /// The service goes away: an instance that breaks is not replaced.
    pub(super) leaving: Cell<bool>,
    /// How long it took to make the first instance.
    first_setup: Cell<Option<Duration>>,
    /// The connections limit was reached and said so.
    pub(super) full: Cell<bool>,
}

/// The instance that takes new connections.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) holdings: Rc<Holdings>,
    /// Empty for a native protocol. The holdings own the instance, so one that broke is gone at once, memory and all.
    pub(super) instance: Weak<Instance>,
}

impl Slot {
    /// Makes the slot and its first instance.
    pub(super) fn open(
        id: ServiceId,
        worker: &Rc<Worker>,
        program: Arc<Program>,
        protocol: Protocol,
        door: Arc<Door>,
        meters: Arc<Meters>,
    ) -> Result<(), StartError> {
        let pool = door.pool.clone();
        let slot = Rc::new(Self {
            worker: worker.clone(),
            lane: worker.lane(&program),
            program,
            meters,
            alone: pool.map(Alone::new),
            table: RefCell::default(),
            accepted: RefCell::default(),
            protocol: RefCell::new(protocol),
            running: RefCell::default(),
            door,
            staged: RefCell::default(),
            outgoing: RefCell::default(),
            acceptors: RefCell::default(),
            establishing: Establishing::default(),
            backoff: Backoff::default(),
            first_setup: Cell::new(None),
            leaving: Cell::new(false),
            full: Cell::new(false),
        });
        let running = slot.make()?;
        slot.hand_over_to(&running);
        *slot.running.borrow_mut() = Some(running);
        slot.backoff.made(Instant::now());
        tokio::task::spawn_local(end_the_idle(Rc::downgrade(&slot)));
        tokio::task::spawn_local(supervise(Rc::downgrade(&slot)));
        SLOTS.with_borrow_mut(|slots| slots.insert(id, slot));
        Ok(())
    }

    /// Returns this worker's slot of a service.
    pub(super) fn find(id: ServiceId) -> Option<Rc<Self>> {
        SLOTS.with_borrow(|slots| slots.get(&id).cloned())
    }

    /// Looks at every service of this worker.
    pub(super) fn sample_all() -> Samples {
        SLOTS.with_borrow(|slots| {
            let samples = slots.iter().map(|(id, slot)| (id.0, slot.sample()));
            samples.collect()
        })
    }

    fn sample(&self) -> Sample {
        let mut sample = Sample {
            establishing: self.establishing.count.get(),
            accepted: self.accepted.borrow().clone(),
            ..Sample::default()
        };
        for Running { holdings, instance } in self.all() {
            let serves = holdings.handler().is_some();
            let instance = instance.upgrade().filter(|_| serves);
            let (operations, timers) = holdings.in_flight();
            sample.connections += holdings.connection_count();
            sample.sockets += holdings.sockets().len();
            sample.operations += operations;
            sample.timers += timers;
            sample.open_files += holdings.open_files();
            sample.instances += usize::from(serves);
            sample.memory += instance.map_or(0, |instance| instance.memory());
        }
        let running = self.running.borrow();
        let serves = running
            .as_ref()
            .is_some_and(|it| it.holdings.handler().is_some());
        // Where instances share a table, what those said that are gone is not in it.
        let gauges = if serves || self.alone.is_some() {
            Gauges::True
        } else {
            Gauges::Gone
        };
        sample.plugin = self.snapshot(gauges);
        sample
    }

    /// Copies what the plugin has counted.
    fn snapshot(&self, gauges: Gauges) -> Snapshot {
        let mut snapshots = Vec::new();
        if let Some(table) = &*self.table.borrow() {
            if let Some(alone) = &self.alone {
                snapshots.extend(alone.earlier(table, gauges));
            }
            snapshots.push(table.snapshot(gauges));
        }
        let families = snapshots.into_iter().flat_map(|snapshot| snapshot.families);
        Snapshot {
            families: families.collect(),
        }
    }

    /// Ends what is left of a service on this worker, and returns what it has counted.
    pub(super) fn close(id: ServiceId) -> Option<Sample> {
        let slot = SLOTS.with_borrow_mut(|slots| slots.remove(&id))?;
        slot.leaving.set(true);
        slot.establishing.give_up();
        for running in slot.all() {
            running.holdings.finish(&CloseReason::Draining);
        }
        slot.running.take();
        Some(Sample {
            accepted: slot.accepted.take(),
            plugin: slot.snapshot(Gauges::Gone),
            ..Sample::default()
        })
    }

    /// Accepts on a socket until `stop` says so.
    pub(super) fn accept(
        self: &Rc<Self>,
        socket: Socket,
        workers: &[WorkerHandle],
        stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let Socket {
            source,
            listener,
            spare,
            ..
        } = socket;
        let acceptor = match source {
            Source::Tcp(socket) => Acceptor::tcp(socket, &listener.options)?,
            Source::Unix(socket) => Acceptor::unix(socket)?,
            Source::Stream(stream) => return self.accept_stream(*stream, &listener),
            Source::Udp(socket) => {
                return self.serve_datagrams(socket, spare, listener.url, stop);
            }
        };
        let door = self.door.clone();
        let pause = move || door.pause();
        let url = listener.url.clone();
        let take: Rc<dyn Fn(Accepted)> = match listener.sockets {
            Sockets::PerWorker => {
                let slot = self.clone();
                Rc::new(move |accepted| {
                    slot.take(accepted, &listener);
                })
            }
            Sockets::One => self.clone().spread(listener, workers.to_vec()),
        };
        let task = tokio::task::spawn_local(acceptor.run(stop, pause, self.lane.clone(), take));
        self.acceptors.borrow_mut().push((url, task));
        Ok(())
    }

    /// Stops accepting on the listeners with these URLs: somebody else does. What waits in their queues is left to it.
    pub(super) fn let_go(&self, urls: &[Arc<str>]) {
        // Dropped at the next turn; nothing that was accepted is lost by it.
        let gone = |(url, acceptor): &(Arc<str>, JoinHandle<()>)| {
            let is_gone = urls.contains(url);
            if is_gone {
                acceptor.abort();
            }
            is_gone
        };
        self.acceptors
            .borrow_mut()
            .retain(|acceptor| !gone(acceptor));
        let Some(running) = self.running.borrow().clone() else {
            return;
        };
        for socket in running.holdings.sockets() {
            if matches!(socket.origin(), Origin::Configured(url) if urls.contains(url)) {
                socket.end(CloseReason::Draining);
            }
        }
    }

    /// Takes the stream in that the service was started with.
    fn accept_stream(self: &Rc<Self>, given: GivenStream, listener: &Listener) -> io::Result<()> {
        let GivenStream {
            stream,
            addresses,
            flushed,
            ended,
        } = given;
        let transport = Transport::from_handed(stream)?;
        if let Transport::Tcp(stream) = &transport {
            let options = &listener.options;
            tcp::configure(stream, options.nodelay, options.keepalive);
        }
        let addresses = addresses.map_or_else(|| transport.addresses(), Ok)?;
        let served = self.take((transport, addresses), listener);
        let close_time = self.program.limits.close_time;
        tokio::task::spawn_local(async move {
            if let Some(served) = served {
                // A task that panics ends the process.
                let _served = served.await;
            }
            if let Some(flushed) = flushed {
                // What is not taken in that time is given up, as with any other connection.
                let _flushed = tokio::time::timeout(close_time, flushed).await;
            }
            drop(ended);
        });
        Ok(())
    }

    /// Gives a datagram socket to each instance in turn, until the service ends: a drain is no end yet, the plugin says goodbye on it.
    fn serve_datagrams(
        self: &Rc<Self>,
        socket: std::net::UdpSocket,
        spare: Option<Arc<std::net::UdpSocket>>,
        url: Arc<str>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let udp = Rc::new(Udp::new(socket, Peers::Many)?);
        let slot = Rc::downgrade(self);
        let open = move |udp: &Rc<Udp>| {
            let Running { holdings, .. } = slot.upgrade()?.current()?;
            holdings.open(udp, Origin::Configured(url.clone()))
        };
        let mut socket = open(&udp);
        let slot = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            // A successor can have the socket as long as it is served, and no longer.
            let _spare = spare;
            loop {
                if let Some(served) = socket.take() {
                    let reason = served.clone().pump().await;
                    let replaced = slot.upgrade().is_some_and(|slot| slot.has_left(&served));
                    if replaced && reason == CloseReason::Draining {
                        socket = open(&udp);
                        continue;
                    }
                    if reason != CloseReason::Trapped {
                        return;
                    }
                }
                // The instance broke. The next one is made for the next packet, as for the next connection.
                tokio::select! {
                    readable = udp.readable() => if readable.is_err() { return },
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                socket = open(&udp);
                if socket.is_none() {
                    tokio::time::sleep(NO_INSTANCE_PAUSE).await;
                }
            }
        });
        Ok(())
    }

    /// Returns once what waited to be accepted is accepted, and the sockets are closed.
    pub(super) async fn accept_rest(&self) {
        let acceptors = self.acceptors.take();
        for (_, acceptor) in acceptors {
            if let Err(error) = acceptor.await {
                tracing::error!(service = self.program.service, %error, "a listener's task ended");
            }
        }
    }

    /// Stops, and returns how many connections had to be closed at the deadline.
    pub(super) async fn drain(self: Rc<Self>, deadline: Duration) -> usize {
        self.leaving.set(true);
        // What was accepted last has its session before it is told to say goodbye; no connection comes after that.
        tokio::task::yield_now().await;
        let deadline = self.establishing.settle(deadline).await;
        let all = self.all();
        for Running { holdings, .. } in &all {
            holdings.turn().await;
            for handler in holdings.handlers() {
                handler.draining(deadline);
            }
        }
        let end = tokio::time::Instant::now() + deadline;
        let mut left = 0;
        for Running { holdings, .. } in &all {
            let in_time = tokio::time::timeout_at(end, holdings.emptied()).await;
            left += holdings.connection_count();
            if in_time.is_err() || !holdings.sockets().is_empty() {
                holdings.finish(&CloseReason::Draining);
            }
        }
        // They end in their own tasks' next turn; a second is for a machine under load.
        let end = tokio::time::Instant::now() + Duration::from_secs(1);
        for Running { holdings, .. } in &all {
            let _elapsed = tokio::time::timeout_at(end, holdings.closed()).await;
        }
        for Running { holdings, .. } in &all {
            // The last words are on their way; to exit now could destroy them.
            holdings.settled().await;
        }
        left
    }

    pub(super) fn connection_count(&self) -> usize {
        let all = self.all();
        all.iter().map(|it| it.holdings.connection_count()).sum()
    }

    /// Returns whether a socket was that of an instance which gave way to another version.
    fn has_left(&self, socket: &crate::reactor::Socket) -> bool {
        let leaving = self.outgoing.borrow();
        leaving.iter().any(|it| socket.is_held_by(&it.holdings))
    }

    /// Returns every instance.
    pub(super) fn all(&self) -> Vec<Running> {
        let mut all = self.movable();
        all.extend(self.outgoing.borrow().iter().cloned());
        all
    }

    /// Returns every instance whose connections would move in a swap.
    pub(super) fn movable(&self) -> Vec<Running> {
        let alone = self.alone.as_ref().map(|alone| alone.all());
        let mut all = alone.unwrap_or_default();
        all.extend(self.running.borrow().clone());
        all
    }

    /// Makes holdings for an instance that has none to take over.
    pub(super) fn fresh_holdings(&self) -> Rc<Holdings> {
        Holdings::new(
            self.program.clone(),
            self.worker.clone(),
            self.meters.clone(),
        )
    }

    pub(super) fn make(&self) -> Result<Running, StartError> {
        self.lane.enter();
        let holdings = self.fresh_holdings();
        if let Some(took) = self.first_setup.get() {
            holdings.quick_setup(took);
        }
        let start = Instant::now();
        let made = match &*self.protocol.borrow() {
            Protocol::Plugin { plugin, config } => {
                let (plugin, table) = (plugin.clone(), self.next_table(plugin));
                let instance = Instance::counting(plugin, holdings.clone(), config, table);
                instance.map(|instance| {
                    let weak = Rc::downgrade(&instance);
                    holdings.set_handler(instance);
                    weak
                })
            }
            Protocol::Native(make) => {
                holdings.set_handler(make(&holdings));
                Ok(Weak::new())
            }
        };
        holdings.usual_setup();
        match made {
            Ok(instance) => {
                if self.first_setup.get().is_none() {
                    self.first_setup.set(Some(start.elapsed()));
                }
                Ok(Running { holdings, instance })
            }
            Err(error) => {
                holdings.finish(&CloseReason::Trapped);
                Err(error)
            }
        }
    }

    pub(super) fn hand_over_to(&self, running: &Running) {
        if let Some(instance) = running.instance.upgrade() {
            self.hand_over(&instance, Succession::Replaced);
        }
    }

    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }

    pub(super) fn lane(&self) -> &Rc<Lane> {
        &self.lane
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn table(&self) -> Option<Rc<Table>> {
        self.table.borrow().clone()
    }

    /// The version before is back, and counts where it did.
    pub(super) fn take_table_back(&self, table: Option<&Rc<Table>>) {
        let Some(table) = table else {
            return;
        };
        let since = self.table.replace(Some(table.clone()));
        if let (Some(alone), Some(since)) = (&self.alone, since)
            && !Rc::ptr_eq(&since, table)
        {
            alone.reinstate(table, since);
        }
    }

    /// Returns how many instances there may be, with isolation `connection`.
    pub(super) fn admission(&self) -> Option<Arc<Admission>> {
        self.alone.as_ref().map(|alone| alone.admission())
    }

    /// Returns whether this is the version that new connections get.
    pub(super) fn is_of(&self, version: &Arc<Plugin>) -> bool {
        matches!(&*self.protocol.borrow(), Protocol::Plugin { plugin, .. } if Arc::ptr_eq(plugin, version))
    }

    /// Returns whether this is an instance with one connection.
    pub(super) fn is_alone(&self, running: &Running) -> bool {
        let alone = self.alone.as_ref();
        alone.is_some_and(|alone| alone.has(&running.holdings))
    }

    /// Gives new connections another version, and returns which they had; none if they had it already, or a native protocol.
    pub(super) fn exchange(&self, next: Next) -> Option<Next> {
        let admission = self.admission();
        let (plugin, config) = match &*self.protocol.borrow() {
            Protocol::Plugin { plugin, .. } if Arc::ptr_eq(plugin, &next.plugin) => return None,
            Protocol::Plugin { plugin, config } => (plugin.clone(), config.clone()),
            Protocol::Native(_) => return None,
        };
        *self.protocol.borrow_mut() = Protocol::Plugin {
            plugin: next.plugin,
            config: next.config,
        };
        self.first_setup.set(None);
        if let (Some(alone), Some(admission)) = (&self.alone, next.admission) {
            alone.admit_by(admission);
        }
        Some(Next {
            plugin,
            config,
            admission,
        })
    }

    /// Notes who has these holdings now, and returns the place that was taken before.
    pub(super) fn rebind(
        &self,
        holdings: &Rc<Holdings>,
        instance: &Rc<Instance>,
        place: Option<Place>,
    ) -> Option<Place> {
        let instance = Rc::downgrade(instance);
        if let Some(running) = &mut *self.running.borrow_mut()
            && Rc::ptr_eq(&running.holdings, holdings)
        {
            running.instance = instance;
            return None;
        }
        self.alone.as_ref()?.rebind(holdings, instance, place?)
    }

    /// What the instances before counted goes on in a new one.
    pub(super) fn hand_over(&self, instance: &Instance, how: Succession) {
        let table = instance.table().clone();
        let Some(old) = self.table.replace(Some(table.clone())) else {
            return;
        };
        match &self.alone {
            _ if Rc::ptr_eq(&old, &table) => {}
            // Instances of the version before have their connections still.
            Some(alone) => alone.retire(old),
            None => table.succeed(&old, how),
        }
    }

    /// Returns where the next instance of this version counts.
    fn next_table(&self, plugin: &Plugin) -> Rc<Table> {
        let known = self.table.borrow().clone();
        match known.filter(|_| self.alone.is_some()) {
            Some(shared) => shared,
            None => self.fresh_table(plugin),
        }
    }

    /// Makes a table for the first instance of a version.
    pub(super) fn fresh_table(&self, plugin: &Plugin) -> Rc<Table> {
        let make = match &self.alone {
            Some(_) => Table::shared,
            None => Table::new,
        };
        Rc::new(make(
            &plugin.manifest.name,
            &self.program.service,
            self.program.limits.metric_series,
            self.meters.clone(),
        ))
    }
}

/// Ends connections of which no byte moves, as long as the slot is there.
async fn end_the_idle(slot: Weak<Slot>) {
    loop {
        let Some(period) = slot.upgrade().map(|slot| {
            let limits = &slot.program.limits;
            let shortest = limits.first_byte_time.min(limits.idle_time);
            (shortest / LOOKS_PER_TIME).clamp(MOST_OFTEN, LEAST_OFTEN)
        }) else {
            return;
        };
        tokio::time::sleep(period).await;
        let Some(slot) = slot.upgrade() else {
            return;
        };
        for Running { holdings, .. } in slot.all() {
            holdings.end_idle(period);
        }
    }
}

/// How often a connection is looked at within the shorter of the times that it may be idle: 4.
const LOOKS_PER_TIME: u32 = 4;

/// Not more often than that: 10 ms.
const MOST_OFTEN: Duration = Duration::from_millis(10);

/// And not less: 15 s. A look at 50,000 connections takes a millisecond.
const LEAST_OFTEN: Duration = Duration::from_secs(15);

/// How long a datagram socket waits for an instance before it looks again, while packets wait in the kernel: 100 ms.
const NO_INSTANCE_PAUSE: Duration = Duration::from_millis(100);
