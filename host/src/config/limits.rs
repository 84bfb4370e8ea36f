//! `[service.limits]`, and `--limit`: the keys of [`Limits`], one line for each.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    reader::Section,
    text::{nearest, parse_size, show_size},
};
use crate::{
    limits::{DEFAULT_PER_PEER, DEFAULT_PER_PREFIX, Limits},
    manifest::{parse_duration, show_duration},
};

/// A limit that can be set.
pub(crate) struct Limit {
    pub(super) key: &'static str,
    /// What it is of, for who reads the help.
    about: &'static str,
    range: Range,
}

/// What `--limit` says: a limit, and what it is to be.
#[derive(Clone, Debug)]
pub(crate) struct LimitSetting {
    pub(crate) key: &'static str,
    value: u64,
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
    bytes("memory", |it| &mut it.memory, MIB, 4 * GIB).is("Bytes of memory of one instance"),
    count(
        "table-elements",
        |it| &mut it.table_elements,
        1_000,
        10_000_000,
    )
    .is("Elements of all tables of one instance"),
    time("callback-time", |it| &mut it.callback_time, MS, 60 * S)
        .is("Processor time of one callback"),
    time("setup-time", |it| &mut it.setup_time, 10 * MS, 600 * S)
        .is("Processor time to start, to configure, to save and to restore one, each"),
    rate("cpu-share", |it| &mut it.cpu_share, 1, 100)
        .is("Percent of a worker that it has before it takes turns with others there"),
    count("connections", |it| &mut it.connections, 1, 50_000)
        .is("Connections and datagram sockets of one instance"),
    some(
        "connections-per-peer",
        |it| &mut it.connections_per_peer,
        1,
        1_000_000,
    )
    .is("Connections of one address; unset, loopback has any number"),
    some(
        "connections-per-prefix",
        |it| &mut it.connections_per_prefix,
        1,
        1_000_000,
    )
    .is("Connections of one /24 or /64; unset, loopback has any number"),
    rate("accept-rate", |it| &mut it.accept_rate, 1, 1_000_000)
        .is("Connections accepted in a second"),
    time(
        "first-byte-time",
        |it| &mut it.first_byte_time,
        10 * MS,
        86_400 * S,
    )
    .is("How long a new connection may stay without a byte"),
    time("idle-time", |it| &mut it.idle_time, 10 * MS, 86_400 * S)
        .is("How long any accepted connection may stay without a byte"),
    time(
        "handshake-time",
        |it| &mut it.handshake_time,
        10 * MS,
        600 * S,
    )
    .is("How long a PROXY header and the handshake of TLS may take together"),
    time("close-time", |it| &mut it.close_time, 10 * MS, 3_600 * S)
        .is("How long one that was closed waits for its peer to take what is left"),
    bytes("unsent", |it| &mut it.unsent, 64 * KIB, GIB)
        .is("Bytes that wait to be sent on one connection"),
    bytes("datagram", |it| &mut it.datagram, 1, 65_527).is("Bytes of one datagram that are taken"),
    count("datagram-batch", |it| &mut it.datagram_batch, 1, 64)
        .is("Datagrams that one call brings"),
    count("connects", |it| &mut it.connects, 1, 50_000)
        .is("Outbound connections of one instance that are being made at once"),
    rate("connect-rate", |it| &mut it.connect_rate, 1, 1_000_000)
        .is("Outbound connections that are begun in a second, on each worker"),
    time(
        "connect-time",
        |it| &mut it.connect_time,
        10 * MS,
        3_600 * S,
    )
    .is("How long an outbound connection may take, look-up included"),
    count("listeners", |it| &mut it.listeners, 1, 1_000).is("Listeners of the service"),
    count("operations", |it| &mut it.operations, 1, 10_000_000)
        .is("Operations in flight of one instance, timers included"),
    count("timers", |it| &mut it.timers, 1, 10_000_000).is("Timers of one instance"),
    count("handles", |it| &mut it.handles, 100, 1_000_000)
        .is("Handles of one instance beside those of connections: groups, files, ..."),
    count("memberships", |it| &mut it.memberships, 1, 100_000_000)
        .is("Memberships in groups of one instance"),
    bytes("hostcall-bytes", |it| &mut it.hostcall_bytes, 64 * KIB, GIB)
        .is("Bytes that one call from the plugin brings in"),
    rate("log-lines", |it| &mut it.log_lines, 1, 1_000_000)
        .is("Log lines a second of one instance"),
    count("metric-series", |it| &mut it.metric_series, 1, 1_000_000)
        .is("Series of the plugin's metrics that have labels"),
    count("open-files", |it| &mut it.open_files, 1, 1_000_000).is("Open files of one instance"),
    bytes("storage-bytes", |it| &mut it.storage_bytes, MIB, 4 * GIB)
        .is("Bytes that file operations of one instance hold"),
    bytes("config-bytes", |it| &mut it.config_bytes, KIB, 64 * MIB)
        .is("Bytes of the config that the plugin gets"),
    bytes(
        "component-bytes",
        |it| &mut it.component_bytes,
        KIB,
        128 * MIB,
    )
    .is("Bytes of the component"),
    time(
        "compile-time",
        |it| &mut it.compile_time,
        10 * MS,
        3_600 * S,
    )
    .is("How long the component may take to compile"),
    time("probation", |it| &mut it.probation, MS, 3_600 * S)
        .is("How long a new version may break after a swap and be replaced by the one before"),
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

impl Limit {
    const fn is(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Returns the least and the most; times are in nanoseconds.
    fn bounds(&self) -> (u64, u64) {
        match self.range {
            Range::Bytes(_, least, most)
            | Range::Count(_, least, most)
            | Range::Some(_, least, most)
            | Range::Rate(_, least, most) => (least, most),
            Range::Time(_, least, most) => (nanoseconds(least), nanoseconds(most)),
        }
    }

    fn read(&self, text: &str) -> Option<u64> {
        match self.range {
            Range::Bytes(..) => parse_size(text),
            Range::Time(..) => parse_duration(text).ok(),
            Range::Count(..) | Range::Some(..) | Range::Rate(..) => text.parse().ok(),
        }
    }

    fn show(&self, value: u64) -> String {
        match self.range {
            Range::Bytes(..) => show_size(value),
            Range::Time(..) => show_duration(value),
            Range::Count(..) | Range::Some(..) | Range::Rate(..) => value.to_string(),
        }
    }

    /// Returns what it is.
    fn value(&self, limits: &mut Limits) -> u64 {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match self.range {
            Range::Bytes(place, ..) | Range::Count(place, ..) => number(*place(limits)),
            Range::Some(place, ..) => {
                let unset = match self.key {
                    "connections-per-peer" => DEFAULT_PER_PEER,
                    _ => DEFAULT_PER_PREFIX,
                };
                number(place(limits).unwrap_or(unset))
            }
            Range::Rate(place, ..) => u64::from(*place(limits)),
            Range::Time(place, ..) => nanoseconds(*place(limits)),
        }
    }

    fn set(&self, limits: &mut Limits, value: u64) {
        let number = usize::try_from(value).unwrap_or(usize::MAX);
        match self.range {
            Range::Bytes(place, ..) | Range::Count(place, ..) => *place(limits) = number,
            Range::Some(place, ..) => *place(limits) = Some(number),
            Range::Rate(place, ..) => *place(limits) = u32::try_from(value).unwrap_or(u32::MAX),
            Range::Time(place, ..) => *place(limits) = Duration::from_nanos(value),
        }
    }

    /// Returns what is wrong with a text that is no such value.
    fn not_one(&self, text: &str) -> String {
        let (what, example) = match self.range {
            Range::Bytes(..) => ("a number of bytes", "65536, 64KiB, 256MiB or 1GiB"),
            Range::Time(..) => ("a length of time", "500ms, 30s, 5m, 2h or 7d"),
            Range::Count(..) | Range::Some(..) | Range::Rate(..) => ("a whole number", "100"),
        };
        let (key, text) = (self.key, text.escape_debug());
        format!("`{key}`: `{text}` is not {what}; write it as {example}")
    }
}

impl LimitSetting {
    /// Reads `NAME=VALUE`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("expected NAME=VALUE; {Known}"));
        };
        let Some(limit) = LIMITS.iter().find(|limit| limit.key == name) else {
            let name = name.escape_debug().to_string();
            let meant = nearest(&name, LIMITS.iter().map(|limit| limit.key));
            let meant = meant.map_or_else(String::new, |key| format!("did you mean `{key}`? "));
            return Err(format!("there is no limit `{name}`; {meant}{Known}"));
        };
        let read = limit.read(value).ok_or_else(|| limit.not_one(value))?;
        let (least, most) = limit.bounds();
        if !(least..=most).contains(&read) {
            let (least, most) = (limit.show(least), limit.show(most));
            return Err(format!(
                "`{name}`: `{value}` is out of range; it can be {least} to {most}"
            ));
        }
        Ok(Self {
            key: limit.key,
            value: read,
        })
    }

    /// Puts it in its place.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        if let Some(limit) = LIMITS.iter().find(|limit| limit.key == self.key) {
            limit.set(limits, self.value);
        }
    }
}

/// Says which limits there are.
struct Known;

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {}", keys().join(", "))
    }
}

/// Returns the names, defaults, ranges and meanings of all limits, for people.
pub(crate) fn table() -> String {
    let mut defaults = Limits::default();
    let mut table = String::new();
    for limit in LIMITS {
        let (least, most) = limit.bounds();
        let default = limit.show(limit.value(&mut defaults));
        let range = format!("{} to {}", limit.show(least), limit.show(most));
        let (key, about) = (limit.key, limit.about);
        table.push_str(&format!("{key}: {default} ({range})\n    {about}\n"));
    }
    table
}

/// Returns every limit as it is in force, by its name.
pub(crate) fn in_force(limits: &Limits) -> BTreeMap<&'static str, String> {
    let mut limits = limits.clone();
    let each = LIMITS.iter();
    each.map(|limit| (limit.key, limit.show(limit.value(&mut limits))))
        .collect()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The keys of the table.
pub(crate) fn keys() -> Vec<&'static str> {
    LIMITS.iter().map(|limit| limit.key).collect()
}

const fn bytes(
    key: &'static str,
    place: fn(&mut Limits) -> &mut usize,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Bytes(place, least, most);
    Limit {
        key,
        about: "",
        range,
    }
}

const fn count(
    key: &'static str,
    place: fn(&mut Limits) -> &mut usize,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Count(place, least, most);
    Limit {
        key,
        about: "",
        range,
    }
}

const fn some(
    key: &'static str,
    place: fn(&mut Limits) -> &mut Option<usize>,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Some(place, least, most);
    Limit {
        key,
        about: "",
        range,
    }
}

const fn rate(
    key: &'static str,
    place: fn(&mut Limits) -> &mut u32,
    least: u64,
    most: u64,
) -> Limit {
    let range = Range::Rate(place, least, most);
    Limit {
        key,
        about: "",
        range,
    }
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
    Limit {
        key,
        about: "",
        range,
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MS: u64 = 1;
const S: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_sets_every_limit_to_its_bounds_and_no_further() {
        for limit in LIMITS {
            let (least, most) = limit.bounds();
            for value in [least, most] {
                let text = format!("{}={}", limit.key, limit.show(value));
                let setting = LimitSetting::parse(&text).unwrap();
                let mut limits = Limits::default();
                setting.apply(&mut limits);
                assert_eq!(limit.value(&mut limits), value, "{text}");
            }
            for text in [least.saturating_sub(1), most + 1].map(|value| match limit.range {
                Range::Time(..) => format!("{value}ns"),
                _ => value.to_string(),
            }) {
                let text = format!("{}={text}", limit.key);
                assert!(LimitSetting::parse(&text).is_err(), "{text}");
            }
            let mut defaults = Limits::default();
            let default = limit.value(&mut defaults);
            assert!((least..=most).contains(&default), "{}", limit.key);
        }
    }

    #[test]
    fn what_is_wrong_with_a_flag_is_said() {
        for (text, expected) in [
            ("memory", "expected NAME=VALUE; there are memory, "),
            (
                "memry=1MiB",
                "there is no limit `memry`; did you mean `memory`? there are memory, ",
            ),
            (
                "memory=",
                "`memory`: `` is not a number of bytes; write it as 65536, ",
            ),
            (
                "memory=lots",
                "`memory`: `lots` is not a number of bytes; write it as ",
            ),
            (
                "memory=1",
                "`memory`: `1` is out of range; it can be 1MiB to 4GiB",
            ),
            (
                "memory=5GiB",
                "`memory`: `5GiB` is out of range; it can be ",
            ),
            ("memory=-1", "`memory`: `-1` is not a number of bytes; "),
            (
                "callback-time=50",
                "`callback-time`: `50` is not a length of time; write it as 500ms, ",
            ),
            (
                "callback-time=0s",
                "`callback-time`: `0s` is out of range; it can be 1ms to 1m",
            ),
            (
                "connections=0",
                "`connections`: `0` is out of range; it can be 1 to 50000",
            ),
            (
                "connections=-5",
                "`connections`: `-5` is not a whole number; write it as 100",
            ),
            (
                "connections=many",
                "`connections`: `many` is not a whole number; ",
            ),
            (
                "cpu-share=101",
                "`cpu-share`: `101` is out of range; it can be 1 to 100",
            ),
            (
                "connections=99999999999999999999",
                "`connections`: `99999999999999999999` is not ",
            ),
        ] {
            let error = LimitSetting::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_table_tells_every_limit_and_what_it_is() {
        let table = table();
        for limit in LIMITS {
            assert!(!limit.about.is_empty(), "{}", limit.key);
            let line = table
                .lines()
                .find(|line| line.trim().starts_with(limit.key));
            assert!(line.is_some(), "{}", limit.key);
        }
    }
}
