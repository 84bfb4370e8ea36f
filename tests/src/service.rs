//! A service in the test's own process, through the library.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, OnceLock},
};

use nethost::{
    config::Secrets,
    engine::Engine,
    grants::Grants,
    limits::Limits,
    manifest::Isolation,
    metrics::health::Health,
    plugin::Plugin,
    reactor::Program,
    service::{Host, Protocol, Service, ServiceSpec, SwapError, SwapOptions, Swapped},
};
use tokio::runtime::{Builder, Runtime};

use crate::{client::Client, metrics::Scrape, scripted::Serves};

/// A service that runs in this process.
#[derive(Debug)]
pub struct Running {
    runtime: Runtime,
    /// The service's workers end with it.
    host: Host,
    service: Service,
}

impl Running {
    /// Starts one on a free port of 127.0.0.1; `config` is a JSON object with every key of the plugin's manifest.
    pub fn start(component: &Path, config: &str, isolation: Isolation, workers: usize) -> Self {
        Self::start_on(&[TCP], component, config, isolation, workers)
    }

    /// As [`Self::start`], with these listeners; the first must be TCP.
    pub fn start_on(
        listen: &[&str],
        component: &Path,
        config: &str,
        isolation: Isolation,
        workers: usize,
    ) -> Self {
        let mut limits = Limits::default();
        if isolation == Isolation::Connection {
            // A pool for as many as the machine bears would leave none for the tests beside this one.
            limits.connections = 500;
        }
        let program = program(limits);
        Self::start_with(program, listen, component, config, isolation, workers)
    }

    /// Starts one with one instance that has these limits, and may connect to everything on loopback.
    pub fn limited(limits: Limits, component: &Path) -> Self {
        Self::limited_on(limits, &[TCP], component)
    }

    /// As [`Self::limited`], with these listeners; the first must be TCP.
    pub fn limited_on(limits: Limits, listen: &[&str], component: &Path) -> Self {
        let program = program(limits);
        Self::start_with(program, listen, component, "{}", Isolation::Service, 1)
    }

    /// Starts one with an instance for each connection, on two workers.
    pub fn limited_each(limits: Limits, component: &Path) -> Self {
        let program = program(limits);
        Self::start_with(program, &[TCP], component, "{}", Isolation::Connection, 2)
    }

    /// Starts one with these limits.
    pub fn limited_as(
        limits: Limits,
        component: &Path,
        config: &str,
        isolation: Isolation,
        workers: usize,
    ) -> Self {
        Self::start_with(
            program(limits),
            &[TCP],
            component,
            config,
            isolation,
            workers,
        )
    }

    /// Starts one with these limits and grants.
    pub fn granted(
        program: Program,
        component: &Path,
        config: &str,
        isolation: Isolation,
        workers: usize,
    ) -> Self {
        Self::start_with(program, &[TCP], component, config, isolation, workers)
    }

    /// Returns where a listener is.
    pub fn address_of(&self, index: usize) -> SocketAddr {
        let url = self.service.listening().get(index);
        let address = url.and_then(|url| url.split_once("://")?.1.parse().ok());
        address.expect("there is such a listener")
    }

    fn start_with(
        program: Program,
        listen: &[&str],
        component: &Path,
        config: &str,
        isolation: Isolation,
        workers: usize,
    ) -> Self {
        // A thread of its own: what goes on by itself after a call, as a return on probation does, goes on while a test reads.
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("a runtime: {error}"));
        let workers = NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN);
        let host = Host::start(workers).unwrap_or_else(|error| panic!("workers: {error}"));
        let listen = listen.iter().map(|url| url.parse());
        let listen = listen.collect::<Result<_, _>>();
        let spec = ServiceSpec {
            program,
            protocol: Protocol::Plugin {
                plugin: load(component),
                config: config.into(),
            },
            listen: listen.unwrap_or_else(|error| panic!("{error}")),
            isolation,
        };
        let service = runtime.block_on(host.serve(spec));
        let service = service.unwrap_or_else(|error| panic!("{error}"));
        Self {
            runtime,
            host,
            service,
        }
    }

    /// Connects to it.
    pub fn connect(&self) -> Client {
        Serves::connect(self)
    }

    /// Swaps the plugin.
    pub fn swap(&self, component: &Path, config: &str) -> Result<Swapped, SwapError> {
        self.swap_as(component, config, SwapOptions::default())
    }

    /// Swaps the plugin in this way.
    pub fn swap_as(
        &self,
        component: &Path,
        config: &str,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let swap = self.service.swap(load(component), config.into(), options);
        self.runtime.block_on(swap)
    }

    /// Returns the metrics.
    pub fn scrape(&self) -> Scrape {
        Scrape(self.runtime.block_on(self.host.registry().scrape()))
    }

    /// Returns how the service fares.
    pub fn health(&self) -> Health {
        self.service.health()
    }

    /// Returns how many connections are open.
    pub fn connections(&self) -> usize {
        self.runtime.block_on(self.service.connection_count())
    }
}

impl Serves for Running {
    fn address(&self) -> SocketAddr {
        self.address_of(0)
    }
}

/// A free port.
const TCP: &str = "tcp://127.0.0.1:0";

/// A service named `test` with these limits, which may connect to everything on loopback.
pub fn program(limits: Limits) -> Program {
    let grant = "127.0.0.0/8:*".parse();
    Program {
        tls: Arc::default(),
        service: "test".to_owned(),
        limits,
        grants: Grants {
            connect: grant.into_iter().collect(),
            ..Grants::default()
        },
        name_servers: Vec::new(),
        secrets: Secrets::default(),
    }
}

/// Returns the engine for all tests of a program: it has a thread of its own.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap_or_else(|error| panic!("an engine: {error:#}")))
}

/// Loads a component.
pub fn load(component: &Path) -> Arc<Plugin> {
    let plugin = Plugin::load(engine(), component);
    Arc::new(plugin.unwrap_or_else(|error| panic!("{error}")))
}
