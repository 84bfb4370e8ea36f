//! How much memory and how many tables an instance may have.

use thiserror::Error;
use wasmtime::ResourceLimiter;

use crate::{limits::Limits, memory::Taken};

/// Counts what an instance has; growing past the limit is an error, which ends the instance with its reason named.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: usize,
    /// Of what the host has.
    taken: Taken,
    memory_limit: usize,
    table_elements: usize,
    table_limit: usize,
}

/// The limit that an instance would have passed.
#[derive(Debug, Error)]
pub(crate) enum Exceeded {
    #[error("its memory would have grown past {0} bytes")]
    Memory(usize),
    #[error("its tables would have grown past {0} elements")]
    Table(usize),
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: 0,
            taken: Taken::default(),
            table_elements: 0,
            memory_limit: limits.memory,
            table_limit: limits.table_elements,
        }
    }

    /// Returns the bytes of all linear memories.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            return Err(Exceeded::Memory(self.memory_limit).into());
        }
        if !self.taken.grow(desired.saturating_sub(current)) {
            // What a guest makes of it is its own: it was within its limit.
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        let total = self.table_elements.saturating_add(grown);
        if total > self.table_limit {
            return Err(Exceeded::Table(self.table_limit).into());
        }
        self.table_elements = total;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_memories_grow_to_their_limit_and_no_further() {
        let mut limiter = Limiter::new(&Limits {
            memory: 3 << 16,
            table_elements: 1000,
            ..Limits::default()
        });
        // All of one instance count together.
        assert!(limiter.table_growing(0, 600, None).unwrap());
        assert!(limiter.table_growing(0, 400, None).unwrap());
        let error = limiter.table_growing(400, 401, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its tables would have grown past 1000 elements"
        );
        assert!(limiter.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 2 << 16, None).unwrap());
        let error = limiter
            .memory_growing(1 << 16, (1 << 16) + 1, None)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "its memory would have grown past 196608 bytes"
        );
        assert_eq!(limiter.memory(), 3 << 16);
    }
}
