//! How much memory the host may use, all services together: what keeps the kernel from ending the process (oom_killer of the kernel), and with it every connection.
//!
//! Two things are counted. The linear memories of all instances, as they grow: one that would pass the bound does not (`memory.grow` answers -1, and an instance
//! that cannot even begin is not made). And what the process has in memory, which the kernel knows: that is the linear memories as far as they were touched, what is queued for
//! peers, TLS, everything. It is looked at ten times a second, by a thread of its own; while it is over the bound no memory grows, and a new connection is closed at
//! once. What is there goes on, and is bounded for itself by the limits of its service.
//!
//! There is one bound for the process, since there is one memory. Without [`bound`] there is none.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
};

// All of them are numbers that are compared, and nothing is published through them.

/// Bytes that may be used.
static BOUND: AtomicU64 = AtomicU64::new(u64::MAX);

/// Bytes of all linear memories.
static LINEAR: AtomicU64 = AtomicU64::new(0);

/// Whether the process has more in memory than it may.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Sets the bound, once, and begins to look at what the process has in memory.
pub(crate) fn bound(bytes: u64) -> io::Result<()> {
    BOUND.store(bytes, Ordering::Relaxed);
    tracing::info!("at most {} MiB of memory are used", bytes >> 20);
    // Held open: a process that is short of descriptors has to know as well.
    let Ok(statm) = File::open("/proc/self/statm") else {
        tracing::warn!("what is in memory is not known without /proc; linear memories are bounded");
        return Ok(());
    };
    thread::Builder::new()
        .name("memory".to_owned())
        .spawn(move || watch(&statm, bytes))?;
    Ok(())
}

/// Returns a bound for this machine: four fifths of what it, its control group and the limit of address space leave free now; none if none of them says it.
pub(crate) fn default_bound() -> Option<u64> {
    let space = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let free = available().min(room_in_group()).min(space);
    (free < u64::MAX).then_some(free / 5 * 4)
}

/// Returns whether there is no room for another connection. A little is left for those that are there.
pub(crate) fn is_short() -> bool {
    let bound = BOUND.load(Ordering::Relaxed);
    SHORT.load(Ordering::Relaxed) || LINEAR.load(Ordering::Relaxed) > bound / 16 * 15
}

/// Linear memory that was taken; it goes back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Taken(u64);

impl Taken {
    /// Takes that many bytes more, if there are.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = LINEAR.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= BOUND.load(Ordering::Relaxed)
            && !SHORT.load(Ordering::Relaxed);
        if fits {
            self.0 += bytes;
        } else {
            LINEAR.fetch_sub(bytes, Ordering::Relaxed);
            tracing::debug!("a memory does not grow: the host has none left");
        }
        fits
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        LINEAR.fetch_sub(self.0, Ordering::Relaxed);
    }
}

fn watch(statm: &File, bound: u64) {
    loop {
        if let Some(resident) = resident(statm) {
            // A little lower for the end, so that it does not come and go.
            let most = match SHORT.load(Ordering::Relaxed) {
                true => bound / 16 * 15,
                false => bound,
            };
            let short = resident > most;
            if short != SHORT.swap(short, Ordering::Relaxed) {
                tell(short, resident, bound);
            }
            if short {
                give_back();
            }
        }
        thread::sleep(LOOK);
    }
}

/// Gives the kernel back what the C library keeps for later: otherwise what was freed may count as used for ever, and nobody comes in any more.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
fn give_back() {
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries keep little.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

fn tell(short: bool, resident: u64, bound: u64) {
    let (resident, bound) = (resident >> 20, bound >> 20);
    if short {
        tracing::warn!(
            "{resident} MiB are used, of at most {bound}: new connections are closed and no memory grows until there is room; `memory` of [host] or --host-memory is the bound"
        );
    } else {
        tracing::info!("{resident} MiB are used, of at most {bound}: there is room again");
    }
}

/// Returns what is nobody else's and in no file: the second number of the file less the third, which count pages (proc_pid_statm(5)).
fn resident(statm: &File) -> Option<u64> {
    let mut bytes = [0; 128];
    let count = statm.read_at(&mut bytes, 0).ok()?;
    let text = str::from_utf8(bytes.get(..count)?).ok()?;
    let mut numbers = text.split_ascii_whitespace().skip(1);
    let mut next = || numbers.next()?.parse::<u64>().ok();
    let pages = next()?.saturating_sub(next()?);
    pages.checked_mul(u64::try_from(page_size()).ok()?)
}

/// Returns what the machine has free, or could have.
pub(crate) fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

/// What the control group (cgroups(7), version 2) leaves, if it sets a limit: a container's memory is often less than the machine's.
pub(crate) fn room_in_group() -> u64 {
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse().ok()
    };
    match number("memory.max") {
        Some(most) => most.saturating_sub(number("memory.current").unwrap_or(0)),
        None => u64::MAX,
    }
}

/// How often it is looked at: every 100 ms, in which a network of 10 Gbit/s brings 125 MB; a fifth of what was free is kept for that.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_leaves_can_be_read() {
        let bound = default_bound().unwrap();
        assert!(bound > 0 && bound <= available());
        let statm = File::open("/proc/self/statm").unwrap();
        let resident = resident(&statm).unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
    }

    #[test]
    fn what_was_taken_goes_back() {
        let before = LINEAR.load(Ordering::Relaxed);
        let mut taken = Taken::default();
        assert!(taken.grow(1 << 40));
        assert!(LINEAR.load(Ordering::Relaxed) >= before + (1 << 40));
        drop(taken);
        assert!(LINEAR.load(Ordering::Relaxed) < 1 << 40);
    }
}
