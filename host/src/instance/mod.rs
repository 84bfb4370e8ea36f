//! Instances: one wasmtime store each, the unit of isolation, limits and swap. The only caller of a plugin's exports.

mod command;
mod limiter;
mod staging;
mod swap;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use limiter::Limiter;
use rustix::time::{ClockId, clock_gettime};
use slab::Slab;
pub(crate) use staging::Staging;
pub(crate) use swap::{Followed, Restored, Sessions};
use thiserror::Error;
use wasmtime::{
    Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace, component::ResourceAny,
};

use crate::{
    bindings::{
        exports::nethost::plugin::{
            command_handler, datagram_handler, deferred_handler, handler, session_swap_handler,
            swap_handler,
        },
        nethost::plugin::datagram,
    },
    command::{End, progress::Bar},
    dumps::Dumped,
    files::HostFile,
    imports::{
        convert,
        log::{self, Lines},
        metrics::Handles,
    },
    limits::Limits,
    metrics::{
        self,
        meters::{Call, Limit},
        plugin::Table,
    },
    plugin::Plugin,
    reactor::{
        CloseReason, Connection, EndpointKey, Group, Handler, Holdings, Id, Origin, Outcome,
        Packet, SessionKey, Socket,
    },
    storage::Directory,
};

/// One instance of a plugin.
pub struct Instance {
    plugin: Arc<Plugin>,
    holdings: Rc<Holdings>,
    store: RefCell<Store<State>>,
    /// With concurrency support off wasmtime does not notice when an instance is entered twice.
    calling: Cell<bool>,
    broken: Cell<bool>,
    handler: handler::Guest,
    deferred_handler: Option<deferred_handler::Guest>,
    datagram_handler: Option<datagram_handler::Guest>,
    command_handler: Option<command_handler::Guest>,
    swap: Option<(swap_handler::Guest, session_swap_handler::Guest)>,
    /// Of its state, best first.
    formats: RefCell<Vec<String>>,
    sessions: RefCell<Slab<ResourceAny>>,
    endpoints: RefCell<Slab<ResourceAny>>,
    /// The packets of the current call, as the contract has them.
    packets: RefCell<Vec<datagram::Packet>>,
    /// What the plugin counts.
    table: Rc<Table>,
}

/// The host's data in a store.
pub(crate) struct State {
    pub(crate) holdings: Rc<Holdings>,
    /// What the guest's `connection` handles mean.
    pub(crate) connections: Slab<Rc<Connection>>,
    /// What the guest's `group` handles mean.
    pub(crate) groups: Slab<Rc<Group>>,
    /// What the guest's `file` handles mean.
    pub(crate) files: Slab<(Id, HostFile)>,
    /// While it restores: files of the version before.
    pub(crate) adoptable: HashMap<Id, HostFile>,
    /// What the guest's `directory` handles mean.
    pub(crate) directories: Slab<Directory>,
    /// What the guest's `socket` handles mean.
    pub(crate) sockets: Slab<Rc<Socket>>,
    /// What the guest's `bar` handles mean.
    pub(crate) bars: Slab<Bar>,
    /// The packets of the batch that is being sent, as the reactor has them.
    pub(crate) batch: Vec<Packet>,
    /// What the guest's handles of metrics mean.
    pub(crate) metrics: Handles,
    /// The metrics themselves.
    pub(crate) table: Rc<Table>,
    pub(crate) lines: Lines,
    pub(crate) staging: Staging,
    limiter: Limiter,
    budget: Budget,
}

impl State {
    /// Returns the bytes of all linear memories.
    pub(crate) fn memory(&self) -> usize {
        self.limiter.memory()
    }
}

/// Processor time that the current call has left.
struct Budget {
    time: Duration,
    /// The thread's processor time when the first tick came within this call: reading it costs a system call, so a call that
    /// ends within a tick never does.
    since: Option<Duration>,
}

/// What a plugin did wrong. It ends the instance.
#[derive(Debug, Error)]
pub enum Fault {
    /// The plugin's own failure: `unreachable`, a wrong memory access, ...
    #[error("trapped: {0}")]
    Trap(String),
    /// A call took too long.
    #[error("took more than {0:?} of processor time")]
    Deadline(Duration),
    /// Its memory or tables would have grown past the limit.
    #[error("{0}")]
    Memory(String),
    /// A host function refused to go on.
    #[error("{0}")]
    Refused(String),
    /// It was called while it was being called: the host's fault, stopped before harm.
    #[error("called again while it was being called")]
    Reentered,
}

/// Why an instance was not made, or not restored.
#[derive(Debug, Error)]
pub enum StartError {
    /// `configure` or `restore` returned an error.
    #[error("{call}: {message}")]
    Refused {
        /// The call.
        call: &'static str,
        /// What the plugin said.
        message: String,
    },
    /// It broke.
    #[error("{call} {fault}")]
    Broken {
        /// The call.
        call: &'static str,
        /// How.
        fault: Fault,
    },
    /// It is busy; trying again may help.
    #[error("busy")]
    Busy,
    /// It has more state than the host holds.
    #[error("its state has more than {most} bytes (the limit `memory`): {bytes}")]
    TooBig {
        /// What was saved up to then.
        bytes: u64,
        /// What may be.
        most: usize,
    },
    /// Moving it would have kept its connections waiting for too long.
    #[error("moving its state took too long")]
    TookTooLong,
}

impl Instance {
    /// Instantiates and configures a plugin. It is not the holdings' handler yet.
    pub fn new(
        plugin: Arc<Plugin>,
        holdings: Rc<Holdings>,
        config: &str,
    ) -> Result<Rc<Self>, StartError> {
        let table = Self::own_table(&plugin, &holdings);
        Self::counting(plugin, holdings, config, table)
    }

    /// Makes a table for one instance.
    pub(crate) fn own_table(plugin: &Plugin, holdings: &Holdings) -> Rc<Table> {
        Rc::new(Table::new(
            &plugin.manifest.name,
            &holdings.program().service,
            holdings.program().limits.metric_series,
            holdings.meters().clone(),
        ))
    }

    /// As [`Self::new`], with what it counts in this table.
    pub fn counting(
        plugin: Arc<Plugin>,
        holdings: Rc<Holdings>,
        config: &str,
        table: Rc<Table>,
    ) -> Result<Rc<Self>, StartError> {
        Self::start(plugin, holdings, config, table, Staging::Live)
    }

    /// As [`Self::counting`], but what `configure` and later the restoring do to the world waits for `commit`.
    pub fn stage(
        plugin: Arc<Plugin>,
        holdings: Rc<Holdings>,
        config: &str,
        table: Rc<Table>,
    ) -> Result<Rc<Self>, StartError> {
        Self::start(plugin, holdings, config, table, Staging::held())
    }

    fn start(
        plugin: Arc<Plugin>,
        holdings: Rc<Holdings>,
        config: &str,
        table: Rc<Table>,
        staging: Staging,
    ) -> Result<Rc<Self>, StartError> {
        let limits = &holdings.program().limits;
        let state = State {
            lines: Lines::new(
                &holdings.program().service,
                limits.log_lines,
                holdings.meters().clone(),
            ),
            holdings: holdings.clone(),
            connections: Slab::new(),
            groups: Slab::new(),
            files: Slab::new(),
            adoptable: HashMap::new(),
            directories: Slab::new(),
            sockets: Slab::new(),
            bars: Slab::new(),
            batch: Vec::new(),
            metrics: Handles::default(),
            table: table.clone(),
            staging,
            limiter: Limiter::new(limits),
            budget: Budget {
                time: holdings.setup_time(),
                since: None,
            },
        };
        let mut store = new_store(&plugin, limits, state);
        let timing = holdings.meters().begin(Call::Instantiation);
        let loaded = Self::load(&plugin, &mut store);
        holdings.meters().end(timing);
        let (handler, deferred_handler, datagram_handler, command_handler, swap) =
            loaded.map_err(|error| {
                let fault = Fault::of(&error, holdings.setup_time());
                let broken = Broken {
                    dumped: dump(&plugin, &mut store, &error),
                    error: &error,
                };
                log_fault(
                    &plugin,
                    &holdings,
                    Call::Instantiation,
                    None,
                    &fault,
                    Some(broken),
                );
                StartError::Broken {
                    call: Call::Instantiation.name(),
                    fault,
                }
            })?;
        let instance = Rc::new(Self {
            plugin,
            holdings,
            store: RefCell::new(store),
            calling: Cell::new(false),
            broken: Cell::new(false),
            handler,
            deferred_handler,
            datagram_handler,
            command_handler,
            swap,
            formats: RefCell::default(),
            sessions: RefCell::default(),
            endpoints: RefCell::default(),
            packets: RefCell::default(),
            table,
        });
        instance.setup(Call::Configure, None, |store| {
            instance.handler.call_configure(store, config)
        })?;
        instance.learn_formats()?;
        instance.holdings.meters().instances_made.add(1);
        Ok(instance)
    }

    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn load(
        plugin: &Plugin,
        store: &mut Store<State>,
    ) -> wasmtime::Result<(
        handler::Guest,
        Option<deferred_handler::Guest>,
        Option<datagram_handler::Guest>,
        Option<command_handler::Guest>,
        Option<(swap_handler::Guest, session_swap_handler::Guest)>,
    )> {
        let exports = &plugin.exports;
        let instance = plugin.pre.instantiate(&mut *store)?;
        let handler = exports.handler.load(&mut *store, &instance)?;
        let deferred_handler = exports
            .deferred_handler
            .as_ref()
            .map(|indices| indices.load(&mut *store, &instance))
            .transpose()?;
        let datagram_handler = exports
            .datagram_handler
            .as_ref()
            .map(|indices| indices.load(&mut *store, &instance))
            .transpose()?;
        let command_handler = exports
            .command_handler
            .as_ref()
            .map(|indices| indices.load(&mut *store, &instance))
            .transpose()?;
        let swap = match &exports.swap {
            Some((shared, sessions)) => Some((
                shared.load(&mut *store, &instance)?,
                sessions.load(&mut *store, &instance)?,
            )),
            None => None,
        };
        Ok((
            handler,
            deferred_handler,
            datagram_handler,
            command_handler,
            swap,
        ))
    }

    /// Returns the plugin.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Returns what the host holds for it.
    pub fn holdings(&self) -> &Rc<Holdings> {
        &self.holdings
    }

    /// Returns whether a call failed, after which none is made.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Returns the bytes of linear memory that the instance has.
    pub fn memory(&self) -> usize {
        self.store.borrow().data().limiter.memory()
    }

    /// Returns what the plugin counts.
    pub(crate) fn table(&self) -> &Rc<Table> {
        &self.table
    }

    /// Makes one call into the guest.
    fn call<T>(
        &self,
        name: Call,
        connection: Option<&Rc<Connection>>,
        time: Duration,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        if self.broken.get() {
            return Err(Fault::Trap("it broke before".to_owned()));
        }
        if self.calling.replace(true) {
            self.broken.set(true);
            let fault = Fault::Reentered;
            log_fault(&self.plugin, &self.holdings, name, None, &fault, None);
            return Err(fault);
        }
        let outer = self.holdings.enter(connection.map(|it| it.id()));
        let mut store = self.store.borrow_mut();
        store.data_mut().budget = Budget { time, since: None };
        store.set_epoch_deadline(1);
        let timing = self.holdings.meters().begin(name);
        let result = call(&mut store);
        self.holdings.meters().end(timing);
        let failed = result.as_ref().err();
        let dumped = failed.and_then(|error| dump(&self.plugin, &mut store, error));
        drop(store);
        self.holdings.enter(outer);
        self.calling.set(false);
        result.map_err(|error| {
            self.broken.set(true);
            let fault = Fault::of(&error, time);
            let context = connection.map(|connection| &**connection);
            log_fault(
                &self.plugin,
                &self.holdings,
                name,
                context,
                &fault,
                Some(Broken {
                    error: &error,
                    dumped,
                }),
            );
            fault
        })
    }

    /// Makes a callback; a fault ends the instance and its connections.
    fn callback<T>(
        &self,
        name: Call,
        connection: Option<&Rc<Connection>>,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Option<T> {
        let time = self.holdings.program().limits.callback_time;
        match self.call(name, connection, time, call) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.holdings
                    .note_fault(log::escape(&format!("{} {fault}", name.name())));
                self.holdings.broke(self);
                if let Some(console) = self.holdings.console() {
                    console.finish(End::Failed(format!("{} {fault}", name.name())));
                }
                None
            }
        }
    }

    /// Makes a call that may take longer, and whose failure is told to who asked.
    fn setup<T>(
        &self,
        name: Call,
        connection: Option<&Rc<Connection>>,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, StartError> {
        let time = self.holdings.setup_time();
        match self.call(name, connection, time, call) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(StartError::Refused {
                call: name.name(),
                // It goes to the operator's terminal.
                message: log::escape(&self.holdings.program().secrets.redact(&message)),
            }),
            Err(fault) => Err(StartError::Broken {
                call: name.name(),
                fault,
            }),
        }
    }

    fn session(&self, key: SessionKey) -> Option<ResourceAny> {
        self.sessions.borrow().get(key.0).copied()
    }

    fn keep(&self, session: ResourceAny) -> SessionKey {
        SessionKey(self.sessions.borrow_mut().insert(session))
    }

    fn keep_endpoint(&self, endpoint: ResourceAny) -> EndpointKey {
        EndpointKey(self.endpoints.borrow_mut().insert(endpoint))
    }
}

impl Handler for Instance {
    fn connection_made(&self, connection: &Rc<Connection>, origin: &Origin) -> Option<SessionKey> {
        self.callback(Call::ConnectionMade, Some(connection), |store| {
            let handle = store.data_mut().own(connection);
            let origin = convert::origin(origin);
            self.handler.call_connection_made(store, handle, &origin)
        })?
        .map(|session| self.keep(session))
    }

    fn data_received(&self, connection: &Rc<Connection>, session: SessionKey, data: &[u8]) {
        if let Some(session) = self.session(session) {
            self.callback(Call::DataReceived, Some(connection), |store| {
                self.handler
                    .session()
                    .call_data_received(store, session, data)
            });
        }
    }

    fn writable(&self, connection: &Rc<Connection>, session: SessionKey) {
        if let Some(session) = self.session(session) {
            self.callback(Call::Writable, Some(connection), |store| {
                self.handler.session().call_writable(store, session)
            });
        }
    }

    fn read_closed(&self, connection: &Rc<Connection>, session: SessionKey) {
        if let Some(session) = self.session(session) {
            self.callback(Call::ReadClosed, Some(connection), |store| {
                self.handler.session().call_read_closed(store, session)
            });
        }
    }

    fn connection_lost(
        &self,
        connection: &Rc<Connection>,
        session: SessionKey,
        reason: &CloseReason,
    ) {
        let Some(session) = self.sessions.borrow_mut().try_remove(session.0) else {
            return;
        };
        tracing::debug!(
            service = self.holdings.program().service,
            connection = connection.id().0,
            peer = %connection.peer(),
            ?reason,
            "connection lost"
        );
        let reason = convert::close_reason(reason);
        // What is started here outlives the connection, so it is the instance's.
        let told = self.callback(Call::ConnectionLost, None, |store| {
            self.handler
                .session()
                .call_connection_lost(store, session, &reason)
        });
        if told.is_some() {
            self.callback(Call::SessionDestructor, None, |store| {
                session.resource_drop(store)
            });
        }
    }

    fn endpoint_made(&self, socket: &Rc<Socket>, origin: &Origin) -> Option<EndpointKey> {
        let handler = self.datagram_handler.as_ref()?;
        let endpoint = self.callback(Call::EndpointConstructor, None, |store| {
            let handle = store.data_mut().own_socket(socket);
            let origin = convert::origin(origin);
            handler.endpoint().call_constructor(store, handle, &origin)
        })?;
        Some(self.keep_endpoint(endpoint))
    }

    fn datagrams_received(
        &self,
        _socket: &Rc<Socket>,
        endpoint: EndpointKey,
        packets: &[Packet],
        payloads: &[u8],
    ) {
        let endpoint = self.endpoints.borrow().get(endpoint.0).copied();
        let (Some(handler), Some(endpoint)) = (&self.datagram_handler, endpoint) else {
            return;
        };
        let mut batch = self.packets.borrow_mut();
        batch.clear();
        batch.extend(packets.iter().map(convert::packet));
        self.callback(Call::DatagramsReceived, None, |store| {
            handler
                .endpoint()
                .call_datagrams_received(store, endpoint, &batch, payloads)
        });
    }

    fn endpoint_closed(&self, _socket: &Rc<Socket>, endpoint: EndpointKey, reason: &CloseReason) {
        let endpoint = self.endpoints.borrow_mut().try_remove(endpoint.0);
        let (Some(handler), Some(endpoint)) = (&self.datagram_handler, endpoint) else {
            return;
        };
        let reason = convert::close_reason(reason);
        let told = self.callback(Call::EndpointClosed, None, |store| {
            handler.endpoint().call_closed(store, endpoint, &reason)
        });
        if told.is_some() {
            self.callback(Call::EndpointDestructor, None, |store| {
                endpoint.resource_drop(store)
            });
        }
    }

    fn completed(&self, owner: Option<&Rc<Connection>>, id: Id, outcome: Outcome) {
        if let Some(handler) = &self.deferred_handler {
            let outcome = convert::outcome(outcome);
            let outcome = outcome.as_ref();
            self.callback(Call::Completed, owner, |store| {
                handler.call_completed(store, id.0, outcome)
            });
        }
    }

    fn draining(&self, deadline: Duration) {
        let deadline = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.callback(Call::Draining, None, |store| {
            self.handler.call_draining(store, deadline)
        });
    }
}

fn new_store(plugin: &Plugin, limits: &Limits, state: State) -> Store<State> {
    let mut store = Store::new(plugin.pre.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(
        limits
            .connections
            .saturating_mul(HANDLES_PER_CONNECTION)
            .saturating_add(limits.handles),
    );
    store.epoch_deadline_callback(|mut store| check_budget(&mut store));
    store.set_epoch_deadline(1);
    store
}

/// Called at every tick within a call. The epoch is wall clock, and a guest that was preempted is innocent: what counts is processor time.
fn check_budget(store: &mut StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let budget = &mut store.data_mut().budget;
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let now = Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    );
    let since = *budget.since.get_or_insert(now);
    if now.saturating_sub(since) >= budget.time {
        return Err(Trap::Interrupt.into());
    }
    Ok(UpdateDeadline::Continue(1))
}

/// What wasmtime tells of a call that failed.
struct Broken<'a> {
    error: &'a wasmtime::Error,
    dumped: Option<Dumped>,
}

fn dump(plugin: &Plugin, store: &mut Store<State>, error: &wasmtime::Error) -> Option<Dumped> {
    let dumps = plugin.dumps.as_ref()?;
    dumps.take(&plugin.manifest, store, error)
}

fn log_fault(
    plugin: &Plugin,
    holdings: &Holdings,
    call: Call,
    connection: Option<&Connection>,
    fault: &Fault,
    broken: Option<Broken<'_>>,
) {
    let error = broken.as_ref().map(|broken| broken.error);
    let coredump = broken.as_ref().and_then(|broken| broken.dumped.as_ref());
    let backtrace = error.and_then(|error| error.downcast_ref::<WasmBacktrace>());
    let backtrace = backtrace.map(|backtrace| {
        let frames = backtrace.frames().iter();
        let names: Vec<_> = frames
            .map(|frame| {
                frame.func_name().map_or_else(
                    || format!("function {}", frame.func_index()),
                    |name| format!("{:#}", rustc_demangle::demangle(name)),
                )
            })
            .collect();
        names.join(" < ")
    });
    note_fault(holdings, fault);
    tracing::error!(
        service = holdings.program().service,
        plugin = plugin.manifest.name,
        connection = connection.map(|connection| connection.id().0),
        peer = connection.map(|connection| connection.peer().to_string()),
        backtrace,
        coredump = coredump.map(tracing::field::display),
        connections = holdings.connection_count(),
        "{} {fault}; this instance ends",
        call.name()
    );
}

fn note_fault(holdings: &Holdings, fault: &Fault) {
    let meters = holdings.meters();
    let trap = match fault {
        Fault::Trap(_) => metrics::meters::Trap::Trap,
        Fault::Deadline(_) => {
            meters.limits.count(Limit::CallTime);
            metrics::meters::Trap::Deadline
        }
        Fault::Memory(_) => {
            meters.limits.count(Limit::Memory);
            metrics::meters::Trap::Memory
        }
        Fault::Refused(_) => metrics::meters::Trap::Refused,
        Fault::Reentered => metrics::meters::Trap::Reentered,
    };
    meters.traps.count(trap);
}

impl Fault {
    fn of(error: &wasmtime::Error, time: Duration) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Self::Deadline(time),
            Some(trap) => Self::Trap(trap.to_string()),
            None => match error.downcast_ref::<limiter::Exceeded>() {
                Some(exceeded) => Self::Memory(exceeded.to_string()),
                None => Self::Refused(error.root_cause().to_string()),
            },
        }
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

/// A connection's handle and its session's.
const HANDLES_PER_CONNECTION: usize = 2;
