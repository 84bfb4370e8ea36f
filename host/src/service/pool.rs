//! Isolation `connection`: how many instances there can be, and the pool that they come from.
//!
//! The kernel's own answer to one instance too many is a failed `mmap` somewhere in the process, which may hit anybody. So the most is worked out when the
//! service starts, from what pools were not promised yet, and one more connection is refused at the door.

use std::{
    fmt, fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::process::{Resource, getrlimit};
use thiserror::Error;

use crate::{
    engine::{Engine, PoolSize},
    limits::Limits,
    memory,
    plugin::{LoadError, Plugin},
};

/// How many instances a service may have, on all workers together.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    taken: AtomicUsize,
    /// The pool has it as long as there are instances.
    _share: Share,
}

/// What the pools of this process were promised, all together: the kernel does not take it back when they are empty.
static PROMISED: Mutex<Resources> = Mutex::new(Resources {
    maps: 0,
    address_space: 0,
    memory: 0,
});

/// A part of what there is; it goes back when it is dropped.
#[derive(Debug, Default)]
struct Share(Resources);

/// Things that instances take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Resources {
    /// Memory maps.
    maps: u64,
    /// Bytes of address space.
    address_space: u64,
    /// Bytes of memory.
    memory: u64,
}

impl Resources {
    fn each(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            maps: combine(self.maps, other.maps),
            address_space: combine(self.address_space, other.address_space),
            memory: combine(self.memory, other.memory),
        }
    }

    /// Returns what one pool may take: a third of everything, so that there is room for another service and for the successor of one; or half of what is left.
    fn share(self, promised: Self) -> Self {
        let left = self.each(promised, u64::saturating_sub);
        self.each(left, |all, left| (all / 3).min(left / 2))
    }
}

impl Share {
    fn take(taken: Resources) -> Self {
        let mut promised = PROMISED.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = promised.each(taken, u64::saturating_add);
        Self(taken)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut promised = PROMISED.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = promised.each(self.0, u64::saturating_sub);
    }
}

/// One instance's leave to be; it goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Admission>);

/// Why there is no pool for a plugin.
#[derive(Debug, Error)]
pub enum PoolError {
    /// What an instance takes is known only once it is made.
    #[error(
        "it imports core modules, so what an instance takes cannot be known before; use isolation `worker` or `service`"
    )]
    Unknown,
    /// An instance alone takes more than there is.
    #[error("this machine has no room for one instance of it: {0}")]
    NoRoom(String),
    /// The pool cannot be made.
    #[error("making its pool of instances")]
    Engine(#[source] wasmtime::Error),
    /// It cannot be loaded into the pool.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Admission {
    /// Makes a pool for a plugin, and loads the plugin into it. `spare` instances are made before they are needed.
    pub(super) fn make(
        plugin: &Plugin,
        limits: &Limits,
        spare: usize,
    ) -> Result<(Arc<Self>, Plugin), PoolError> {
        let each = Each::of(plugin, limits).ok_or(PoolError::Unknown)?;
        // One pool after the other, so that no two are promised the same.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let promised = *PROMISED.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = Bounds::new(machine().share(promised), &each, limits);
        let most = bounds.most();
        if most == 0 {
            return Err(PoolError::NoRoom(bounds.to_string()));
        }
        let share = Share::take(each.resources(most.saturating_add(spare)));
        tracing::info!(
            plugin = plugin.manifest.name,
            "at most {most} connections, with an instance each: {bounds}"
        );
        let size = PoolSize {
            instances: most.saturating_add(spare),
            memories_each: each.memories,
            tables_each: each.tables,
            memory: limits.memory,
            table_elements: limits.table_elements,
        };
        let engine = Engine::pooling(&size, plugin.dumps.clone());
        let pooled = plugin.load_again(&engine.map_err(PoolError::Engine)?)?;
        let this = Self {
            most,
            taken: AtomicUsize::new(0),
            _share: share,
        };
        Ok((Arc::new(this), pooled))
    }

    /// Takes a place, unless there is none.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        // Counting is all that it does: nothing is published through it.
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        (taken < self.most).then_some(place)
    }

    /// Returns whether there is no place beside `more` that are spoken for.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.taken.load(Ordering::Relaxed).saturating_add(more) >= self.most
    }

    /// Returns how many there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one instance takes.
#[derive(Clone, Copy, Debug)]
struct Each {
    memories: u32,
    tables: u32,
    /// Bytes of memory that it begins with.
    bytes: u64,
}

impl Each {
    fn of(plugin: &Plugin, limits: &Limits) -> Option<Self> {
        let required = plugin.pre.component().resources_required()?;
        let pages = required.max_initial_memory_size.unwrap_or(0);
        let bytes = pages
            .saturating_mul(WASM_PAGE)
            .saturating_mul(required.num_memories.into());
        Some(Self {
            memories: required.num_memories,
            tables: required.num_tables,
            bytes: bytes
                .min(u64::try_from(limits.memory).unwrap_or(u64::MAX))
                .saturating_add(HOST_BYTES),
        })
    }

    /// Returns what so many of them take.
    fn resources(&self, count: usize) -> Resources {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Resources {
            maps: self.maps().saturating_mul(count),
            address_space: self.address_space().saturating_mul(count),
            memory: self.bytes.saturating_mul(count),
        }
    }

    fn maps(&self) -> u64 {
        u64::from(self.memories) * MAPS_PER_MEMORY + u64::from(self.tables) * MAPS_PER_TABLE
    }

    fn address_space(&self) -> u64 {
        u64::from(self.memories).saturating_mul(RESERVED_PER_MEMORY)
    }
}

/// Returns what this process may take, what pools were promised included.
fn machine() -> Resources {
    let number = |path| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let allowed = number("/proc/sys/vm/max_map_count").unwrap_or(DEFAULT_MAPS);
    let limit = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    Resources {
        maps: allowed.saturating_sub(MAPS_KEPT),
        address_space: limit.min(ADDRESS_SPACE),
        memory: memory::available().min(memory::room_in_group()),
    }
}

/// How many instances each of the things that they take allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    maps: u64,
    address_space: u64,
    memory: u64,
    limit: u64,
}

impl Bounds {
    fn new(machine: Resources, each: &Each, limits: &Limits) -> Self {
        let share = |all: u64, each: u64| all.checked_div(each).unwrap_or(u64::MAX);
        Self {
            maps: share(machine.maps, each.maps()),
            address_space: share(machine.address_space, each.address_space()),
            memory: share(machine.memory, each.bytes),
            limit: u64::try_from(limits.connections).unwrap_or(u64::MAX),
        }
    }

    fn most(&self) -> usize {
        let most = self.maps.min(self.address_space).min(self.memory);
        usize::try_from(most.min(self.limit)).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory maps (sysctl vm.max_map_count) allow {}, address space {}, free memory {}, the limit of connections {}",
            self.maps, self.address_space, self.memory, self.limit
        )
    }
}

/// Bytes of a page of WebAssembly.
const WASM_PAGE: u64 = 64 << 10;

/// Bytes that the host keeps for an instance and its connection: 128 KiB; a store, tables, buffers.
const HOST_BYTES: u64 = 128 << 10;

/// Memory maps of a linear memory: what is initialized, what is not, what is not accessible yet. Echo, with one memory and two tables, was seen to
/// take four of the five that it is counted for.
const MAPS_PER_MEMORY: u64 = 3;

/// Memory maps of a table.
const MAPS_PER_TABLE: u64 = 1;

/// Memory maps that are kept for everything else: 4,096, for threads, allocations, services without a pool.
const MAPS_KEPT: u64 = 4096;

/// What the kernel allows if it does not say (DEFAULT_MAX_MAP_COUNT).
const DEFAULT_MAPS: u64 = 65_530;

/// Address space for pools: 48 TiB. A process has 128 TiB on x86-64 and aarch64, and what it has there already may cut that in two.
const ADDRESS_SPACE: u64 = 48 << 40;

/// Address space of a linear memory: 4 GiB and a guard, so that compiled code need not check an address.
const RESERVED_PER_MEMORY: u64 = (4 << 30) + (64 << 20);

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Resources = Resources {
        maps: 60_000,
        address_space: 1 << 46,
        memory: 16 << 30,
    };

    const EACH: Each = Each {
        memories: 1,
        tables: 1,
        bytes: 1 << 20,
    };

    fn most(machine: Resources, each: Each, connections: usize) -> usize {
        let limits = Limits {
            connections,
            ..Limits::default()
        };
        Bounds::new(machine, &each, &limits).most()
    }

    #[test]
    fn the_scarcest_thing_decides() {
        assert_eq!(most(MACHINE, EACH, 50_000), 60_000 / 4);
        assert_eq!(most(MACHINE, EACH, 700), 700);
        let memory = Resources {
            memory: 100 << 20,
            ..MACHINE
        };
        assert_eq!(most(memory, EACH, 50_000), 100);
        let space = Resources {
            address_space: 10 * RESERVED_PER_MEMORY,
            ..MACHINE
        };
        assert_eq!(most(space, EACH, 50_000), 10);
        let many = Each {
            memories: 2,
            tables: 10,
            ..EACH
        };
        assert_eq!(most(MACHINE, many, 50_000), 60_000 / 16);
        let none = Resources { maps: 3, ..MACHINE };
        assert_eq!(most(none, EACH, 50_000), 0);
    }

    #[test]
    fn there_is_always_room_for_another_pool() {
        let all = Resources {
            maps: 60_000,
            ..Resources::default()
        };
        let mut promised = Resources::default();
        let mut shares = Vec::new();
        for _ in 0..5 {
            let share = all.share(promised);
            shares.push(share.maps);
            promised = promised.each(share, u64::saturating_add);
        }
        assert_eq!(shares, [20_000, 20_000, 10_000, 5_000, 2_500]);
        let before = *PROMISED.lock().unwrap();
        let share = Share::take(Resources {
            maps: 7,
            ..Resources::default()
        });
        assert_eq!(PROMISED.lock().unwrap().maps, before.maps + 7);
        drop(share);
        assert_eq!(*PROMISED.lock().unwrap(), before);
    }

    #[test]
    fn one_more_than_there_are_places_gets_none() {
        let admission = Arc::new(Admission {
            most: 2,
            taken: AtomicUsize::new(0),
            _share: Share::default(),
        });
        assert!(!admission.is_full(1) && admission.is_full(2));
        let first = admission.take().unwrap();
        let _second = admission.take().unwrap();
        assert!(admission.take().is_none() && admission.is_full(0));
        drop(first);
        assert!(!admission.is_full(0));
        assert!(admission.take().is_some());
    }

    #[test]
    fn what_the_machine_has_can_be_read() {
        let Resources {
            maps,
            address_space,
            memory,
        } = machine();
        assert!(maps > 0 && address_space > 0 && memory > 0);
        assert!(memory < u64::MAX, "/proc/meminfo says how much there is");
    }
}
