//! `progress`: how far a command has come.

use wasmtime::component::Resource;

use crate::{
    bindings::nethost::plugin::progress::{Host, HostBar, Unit as WitUnit},
    command::progress::{Bar, Unit},
    instance::State,
};

impl Host for State {}

impl HostBar for State {
    fn new(&mut self, unit: WitUnit, total: Option<u64>) -> wasmtime::Result<Resource<Bar>> {
        if self.bars.len() >= MOST_BARS {
            wasmtime::bail!("{MOST_BARS} progress bars at a time");
        }
        let unit = match unit {
            WitUnit::Bytes => Unit::Bytes,
            WitUnit::Items => Unit::Items,
        };
        let console = self.holdings.console();
        let bar = console.map_or_else(Bar::nowhere, |console| {
            console.surroundings().screen.bar(unit, total)
        });
        let index = self.bars.insert(bar);
        Ok(Resource::new_own(u32::try_from(index)?))
    }

    fn set(&mut self, handle: Resource<Bar>, done: u64) -> wasmtime::Result<()> {
        self.bar(&handle)?.set(done);
        Ok(())
    }

    fn set_total(&mut self, handle: Resource<Bar>, total: Option<u64>) -> wasmtime::Result<()> {
        self.bar(&handle)?.set_total(total);
        Ok(())
    }

    fn set_message(&mut self, handle: Resource<Bar>, message: String) -> wasmtime::Result<()> {
        self.bar(&handle)?.set_message(&message);
        Ok(())
    }

    fn finish(&mut self, handle: Resource<Bar>) -> wasmtime::Result<()> {
        self.bar(&handle)?.finish();
        Ok(())
    }

    fn drop(&mut self, handle: Resource<Bar>) -> wasmtime::Result<()> {
        self.bars.try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}

impl State {
    fn bar(&self, handle: &Resource<Bar>) -> wasmtime::Result<&Bar> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.bars.get(index))
            .ok_or_else(|| wasmtime::format_err!("a progress bar that the host never gave"))
    }
}

/// Handles of one instance, drawn or not. A further one is a trap.
const MOST_BARS: usize = 1024;
