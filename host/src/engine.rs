//! The wasmtime engine: how components are compiled, and the one thread that makes time pass for them.

use std::{env, sync::Arc, thread, time::Duration};

use rustix::rand::{GetRandomFlags, getrandom};
use wasmtime::{
    Cache, Config, Engine as Wasmtime, InstanceAllocationStrategy, PoolingAllocationConfig,
    ProfilingStrategy, WasmBacktraceDetails, component::Linker,
};

use crate::{dumps::Dumps, imports, instance::State, reactor};

/// Compiles components, and links them with what the host offers.
#[derive(Clone)]
pub struct Engine {
    wasmtime: Wasmtime,
    linker: Linker<State>,
    dumps: Option<Arc<Dumps>>,
}

/// What a pool of instances has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSize {
    /// Components at a time.
    pub(crate) instances: usize,
    /// Linear memories of one component.
    pub(crate) memories_each: u32,
    /// Tables of one component.
    pub(crate) tables_each: u32,
    /// Bytes of the largest memory.
    pub(crate) memory: usize,
    /// Elements of the largest table.
    pub(crate) table_elements: usize,
}

impl Engine {
    /// Makes an engine and starts its ticker, which ends with the engine.
    ///
    /// What an instance needs is allocated on demand. Compiled code is kept in wasmtime's own cache (`~/.cache/wasmtime`), so a second start
    /// with the same plugin does not compile; without a writable cache folder it does, and the log says so.
    pub fn new() -> wasmtime::Result<Self> {
        Self::dumping(None)
    }

    /// As [`Self::new`], and a plugin that breaks leaves a core dump.
    pub fn dumping(dumps: Option<Arc<Dumps>>) -> wasmtime::Result<Self> {
        Self::with(InstanceAllocationStrategy::OnDemand, dumps)
    }

    /// As [`Self::dumping`], but instances come from a pool, which makes thousands of them cheap. It is sized for one plugin.
    pub(crate) fn pooling(size: &PoolSize, dumps: Option<Arc<Dumps>>) -> wasmtime::Result<Self> {
        let count = |each: u32| -> u32 {
            let instances = u32::try_from(size.instances).unwrap_or(u32::MAX);
            instances.saturating_mul(each)
        };
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(count(1))
            // Those of one component are not counted here: the memories and tables that they bring are.
            .total_core_instances(u32::MAX)
            .total_memories(count(size.memories_each))
            .total_tables(count(size.tables_each))
            .max_memories_per_component(size.memories_each)
            .max_memories_per_module(size.memories_each)
            .max_tables_per_component(size.tables_each)
            .max_tables_per_module(size.tables_each)
            .max_memory_size(size.memory)
            .table_elements(size.table_elements)
            .max_core_instance_size(LARGEST_INSTANCE)
            .max_component_instance_size(LARGEST_INSTANCE)
            // What a connection leaves behind goes back to the system.
            .max_unused_warm_slots(WARM_SLOTS);
        Self::with(InstanceAllocationStrategy::Pooling(pool), dumps)
    }

    fn with(
        allocation: InstanceAllocationStrategy,
        dumps: Option<Arc<Dumps>>,
    ) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            // Measured: the same calls cost three times as much with it.
            .concurrency_support(false)
            .epoch_interruption(true)
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .allocation_strategy(allocation)
            .cache(cache())
            .coredump_on_trap(dumps.is_some());
        if env::var_os(PERF_MAP).is_some() {
            config.profiler(ProfilingStrategy::PerfMap);
        }
        let wasmtime = Wasmtime::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        imports::add_to_linker(&mut linker)?;
        tick(&wasmtime)?;
        Ok(Self {
            wasmtime,
            linker,
            dumps,
        })
    }

    /// Returns wasmtime's engine.
    pub fn wasmtime(&self) -> &Wasmtime {
        &self.wasmtime
    }

    /// Returns where core dumps go.
    pub(crate) fn dumps(&self) -> Option<&Arc<Dumps>> {
        self.dumps.as_ref()
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.linker
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// The time between two epochs: a callback that takes longer is looked at that often. 10 ms: a hundred wake-ups a second are not to be seen in a
/// profile, and a deadline of 50 ms is kept within a quarter. It is a quarter less or more each time, so that no plugin can tell when the next
/// [tick](reactor::tick) comes, and work only between them.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The variable that has plugins' functions named for `perf`, in `/tmp/perf-PID.map`: for whoever looks for where the time goes.
const PERF_MAP: &str = "NETHOST_PERF_MAP";

/// Bytes of what wasmtime keeps for one instance beside memories and tables: 16 MiB, so that it refuses none for it.
const LARGEST_INSTANCE: usize = 16 << 20;

/// Slots of a pool whose memory is kept for the next instance: 100, as wasmtime has it; the first connections after others ended are quick, and
/// a flood leaves nothing behind.
const WARM_SLOTS: u32 = 100;

fn tick(engine: &Wasmtime) -> wasmtime::Result<()> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            let mut random = seed();
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                reactor::tick();
                // Knuth's linear congruential generator; the guest sees nothing of it.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                thread::sleep(TICK * 3 / 4 + TICK / 2 * high_byte(random) / 256);
            }
        })?;
    Ok(())
}

/// Returns a number that nobody can guess. Without randomness, ticks can be foreseen by who knows when the program began.
fn seed() -> u64 {
    let mut seed = [0; 8];
    let _unknown = getrandom(&mut seed, GetRandomFlags::empty());
    u64::from_ne_bytes(seed)
}

/// Returns the byte of a number that is hardest to foresee.
fn high_byte(random: u64) -> u32 {
    let [highest, ..] = random.to_be_bytes();
    highest.into()
}

fn cache() -> Option<Cache> {
    match Cache::from_file(None) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "no compile cache; every start compiles"
            );
            None
        }
    }
}
