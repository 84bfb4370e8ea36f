//! `clock`: time since the host started, and the time of day.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime},
};

use crate::{
    bindings::nethost::plugin::clock::{Host, Nanoseconds},
    instance::State,
};

/// Set by the first look at the clock; the same for every instance, so that a time saved in a swap keeps its meaning.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Host for State {
    fn monotonic(&mut self) -> wasmtime::Result<Nanoseconds> {
        Ok(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&mut self) -> wasmtime::Result<Nanoseconds> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(since.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }))
    }
}
