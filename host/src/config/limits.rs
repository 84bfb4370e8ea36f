//! `[service.limits]`: the keys of [`Limits`], one line for each.

use std::time::Duration;

use super::reader::Section;
use crate::limits::Limits;

/// A limit that the file can set.
pub(super) struct Limit {
    pub(super) key: &'static str,
    range: Range,
}

/// What it is, where it goes, and what it can be.
enum Range {
    Bytes(fn(&mut Limits) -> &mut usize, u64, u64),
    Count(fn(&mut Limits) -> &mut usize, u64, u64),
    /// A count whose default is not the same for everybody.
    Some(fn(&mut Limits) -> &mut Option<usize>, u64, u64),
    Rate(fn(&mut Limits) -> &mut u32, u64, u64),
    Time(fn(&mut Limits) -> &mut Duration, Duration, Duration),
}

/// The most is what a part of the host below cannot exceed (32 bits of address, two handles a session), or what no machine needs.
pub(super) const LIMITS: &[Limit] = &[
    bytes("memory", |it| &mut it.memory, MIB, 4 * GIB),
    count(
        "table-elements",
        |it| &mut it.table_elements,
        1_000,
        10_000_000,
    ),
    time("callback-time", |it| &mut it.callback_time, MS, 60 * S),
    time("setup-time", |it| &mut it.setup_time, 10 * MS, 600 * S),
    count("connections", |it| &mut it.connections, 1, 50_000),
    some(
        "connections-per-peer",
        |it| &mut it.connections_per_peer,
        1,
        1_000_000,
    ),
    some(
        "connections-per-prefix",
        |it| &mut it.connections_per_prefix,
        1,
        1_000_000,
    ),
    rate("accept-rate", |it| &mut it.accept_rate, 1, 1_000_000),
    time(
        "first-byte-time",
        |it| &mut it.first_byte_time,
        10 * MS,
        86_400 * S,
    ),
    time("idle-time", |it| &mut it.idle_time, 10 * MS, 86_400 * S),
    bytes("unsent", |it| &mut it.unsent, 64 * KIB, GIB),
    bytes("datagram", |it| &mut it.datagram, 1, 65_527),
    count("operations", |it| &mut it.operations, 1, 10_000_000),
    count("memberships", |it| &mut it.memberships, 1, 100_000_000),
    bytes("hostcall-bytes", |it| &mut it.hostcall_bytes, 64 * KIB, GIB),
    rate("log-lines", |it| &mut it.log_lines, 1, 1_000_000),
    count("metric-series", |it| &mut it.metric_series, 1, 1_000_000),
    count("open-files", |it| &mut it.open_files, 1, 1_000_000),
    bytes("storage-bytes", |it| &mut it.storage_bytes, MIB, 4 * GIB),
    time("close-time", |it| &mut it.close_time, 10 * MS, 3_600 * S),
    time(
        "connect-time",
        |it| &mut it.connect_time,
        10 * MS,
        3_600 * S,
    ),
    time(
        "handshake-time",
        |it| &mut it.handshake_time,
        10 * MS,
        600 * S,
    ),
    time("probation", |it| &mut it.probation, MS, 3_600 * S),
];

/// Reads the limits that are set.
pub(super) fn read(section: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    for limit in LIMITS {
        let Some(field) = section.field(limit.key) else {
            continue;
        };
        match limit.range {
            Range::Bytes(place, least, most) => {
                let size = field.size(least..=most);
                if let Some(size) = size.and_then(|size| usize::try_from(size).ok()) {
                    *place(&mut limits) = size;
                }
            }
            Range::Count(place, least, most) => {
                let count = field.number(least..=most);
                if let Some(count) = count.and_then(|count| usize::try_from(count).ok()) {
                    *place(&mut limits) = count;
                }
            }
            Range::Some(place, least, most) => {
                let count = field.number(least..=most);
                if let Some(count) = count.and_then(|count| usize::try_from(count).ok()) {
                    *place(&mut limits) = Some(count);
                }
            }
            Range::Rate(place, least, most) => {
                let rate = field.number(least..=most);
                if let Some(rate) = rate.and_then(|rate| u32::try_from(rate).ok()) {
                    *place(&mut limits) = rate;
                }
            }
            Range::Time(place, least, most) => {
                if let Some(time) = field.duration(least..=most) {
                    *place(&mut limits) = time;
                }
            }
        }
    }
    limits
}

/// The keys of the table.
pub(super) fn keys() -> Vec<&'static str> {
    LIMITS.iter().map(|limit| limit.key).collect()
}

const fn bytes(
    key: &'static str,
    place: fn(&mut Limits) -> &mut usize,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Bytes(place, least, most);
    Limit { key, range }
}

const fn count(
    key: &'static str,
    place: fn(&mut Limits) -> &mut usize,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Count(place, least, most);
    Limit { key, range }
}

const fn some(
    key: &'static str,
    place: fn(&mut Limits) -> &mut Option<usize>,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Some(place, least, most);
    Limit { key, range }
}

const fn rate(
    key: &'static str,
    place: fn(&mut Limits) -> &mut u32,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Rate(place, least, most);
    Limit { key, range }
}

/// `least` and `most` are milliseconds.
const fn time(
    key: &'static str,
    place: fn(&mut Limits) -> &mut Duration,
    least: u64,
    most: u64,
) -> Limit {
    let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
    let range = Range::Time(place, least, most);
    Limit { key, range }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MS: u64 = 1;
const S: u64 = 1000;
