//! `random`: the system's generator.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::{bindings::nethost::plugin::random::Host, instance::State};

impl Host for State {
    fn get_u64(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn get_bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length.min(MOST_BYTES))?];
        fill(&mut bytes)?;
        Ok(bytes)
    }
}

fn fill(mut bytes: &mut [u8]) -> wasmtime::Result<()> {
    while !bytes.is_empty() {
        let count = match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => 0,
            result => result?,
        };
        bytes = bytes.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

/// What the contract promises: 64 KiB.
const MOST_BYTES: u32 = 64 << 10;
