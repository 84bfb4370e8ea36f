//! What every process tells, under the names that Prometheus' client libraries gave it.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::text::Text;

/// Writes those of this process; what the system does not tell is left out.
pub(super) fn write(text: &mut Text, started: SystemTime) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    text.family(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
    )
    .sample(&[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    if let Ok(since) = started.duration_since(UNIX_EPOCH) {
        text.family(
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
        )
        .sample(&[], since.as_secs_f64());
    }
    if let Some(open) = open_descriptors() {
        text.family(
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
        )
        .sample(&[], open);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        text.family(
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
        )
        .sample(&[], limit);
    }
    for (field, name, help) in [
        (
            "VmRSS:",
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
        ),
        (
            "VmSize:",
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
        ),
    ] {
        if let Some(bytes) = memory(field) {
            text.family(name, "gauge", help).sample(&[], bytes);
        }
    }
}

fn open_descriptors() -> Option<usize> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // One is the folder's own.
    Some(open.saturating_sub(1))
}

fn memory(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
