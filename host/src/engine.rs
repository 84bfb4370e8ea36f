//! The wasmtime engine: how components are compiled, and the one thread that makes time pass for them.

use std::{thread, time::Duration};

use wasmtime::{Cache, Config, Engine as Wasmtime, WasmBacktraceDetails, component::Linker};

use crate::{imports, instance::State};

/// Compiles components, and links them with what the host offers.
#[derive(Clone)]
pub struct Engine {
    wasmtime: Wasmtime,
    linker: Linker<State>,
}

impl Engine {
    /// Makes an engine and starts its ticker, which ends with the engine.
    ///
    /// Memory of instances is allocated on demand. Compiled code is kept in wasmtime's own cache (`~/.cache/wasmtime`), so a second start
    /// with the same plugin does not compile; without a writable cache folder it does, and the log says so.
    pub fn new() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            // Measured: the same calls cost three times as much with it.
            .concurrency_support(false)
            .epoch_interruption(true)
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .cache(cache());
        let wasmtime = Wasmtime::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        imports::add_to_linker(&mut linker)?;
        tick(&wasmtime)?;
        Ok(Self { wasmtime, linker })
    }

    /// Returns wasmtime's engine.
    pub fn wasmtime(&self) -> &Wasmtime {
        &self.wasmtime
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
/// profile, and a deadline of 50 ms is kept within a fifth.
pub(crate) const TICK: Duration = Duration::from_millis(10);

fn tick(engine: &Wasmtime) -> wasmtime::Result<()> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })?;
    Ok(())
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
