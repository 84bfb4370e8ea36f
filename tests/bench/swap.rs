//! `bench swap`: how long an IRC service stands still when a new version takes over, and how that grows with its connections.

use std::time::Duration;

use anyhow::Context as _;
use nethost::manifest::Isolation;
use nethost_tests::{chat::Chat, places, scripted::Serves as _, service::Running};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{plugin, stats::Rounds};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections, 20 in a channel
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    connections: Vec<usize>,
    /// Swaps of each
    #[arg(long, default_value_t = 20)]
    swaps: usize,
    /// Messages a second, all clients together; each reaches 19 others
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

/// What so many connections cost.
#[derive(Debug, serde::Serialize)]
struct Row {
    connections: usize,
    /// Milliseconds in which the worker made no call.
    pause: Rounds,
    /// Milliseconds in which no client received anything, around a swap: what they saw of it.
    silence: Rounds,
    /// The same between two swaps, for comparison.
    quiet: Rounds,
    /// Bytes of state.
    state: Rounds,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let most = connections_at_most(options.connections.iter().max().copied().unwrap_or(0));
    let versions = [places::guest("irc-next"), plugin("irc")?];
    if !options.json {
        println!(
            "a swap of irc, 20 connections in a channel, {} messages a second (goal at 1,000 connections: 50 ms)",
            options.rate
        );
    }
    for asked in &options.connections {
        let connections = most.min(*asked);
        if connections < *asked {
            eprintln!(
                "{asked} connections need more open files than this process may have: {connections}"
            );
        }
        let row = measure(options, connections, &versions)?;
        if options.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            println!(
                "{:>6} connections: pause {} ms; no message anywhere for {} ms, and {} ms without a swap; {} bytes of state",
                row.connections, row.pause, row.silence, row.quiet, row.state
            );
        }
    }
    Ok(())
}

/// Raises the limit of open files as far as it takes and may be, and returns how many connections fit.
fn connections_at_most(wanted: usize) -> usize {
    // Both ends are in this process.
    let needed = u64::try_from(2 * wanted + OTHER_FILES).unwrap_or(u64::MAX);
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.maximum;
    limit.maximum = before.map(|most| most.max(needed));
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        // Root alone may have more than the hard limit.
        limit.maximum = before;
        limit.current = before;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let files = limit.current.unwrap_or(u64::MAX);
    usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES)
        / 2
}

fn measure(
    options: &Options,
    connections: usize,
    versions: &[std::path::PathBuf; 2],
) -> anyhow::Result<Row> {
    let [_, irc] = versions;
    let running = Running::start(irc, "{}", Isolation::Service, 1);
    let period = Duration::from_secs_f64(connections as f64 / options.rate.max(1) as f64);
    let rooms = (connections / 20).max(1);
    let chat = Chat::begin(running.address(), connections, rooms, period);
    let second = u64::try_from(options.rate)? * 19 / 2;
    chat.hear(second);
    let (mut pause, mut silence, mut quiet, mut state) = (vec![], vec![], vec![], vec![]);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    for swap in 0..options.swaps {
        chat.longest_silence();
        chat.hear(second);
        quiet.push(milliseconds(chat.longest_silence()));
        let next = versions.get(swap % 2).context("two versions")?;
        let swapped = running.swap(next, "{}")?;
        chat.hear(second / 4);
        silence.push(milliseconds(chat.longest_silence()));
        pause.push(milliseconds(swapped.pause));
        state.push(swapped.state_bytes as f64);
        if swapped.sessions != connections {
            // The clients know why they are gone.
            undisturbed(chat)?;
            anyhow::bail!("{connections} connections, and {swapped:?}");
        }
    }
    undisturbed(chat)?;
    Ok(Row {
        connections,
        pause: Rounds::of(pause),
        silence: Rounds::of(silence),
        quiet: Rounds::of(quiet),
        state: Rounds::of(state),
    })
}

fn undisturbed(chat: Chat) -> anyhow::Result<()> {
    let ended = chat.end().map(drop);
    ended.map_err(|error| anyhow::anyhow!("the chat was disturbed: {error}"))
}

/// Open files that are no connections: 400, with those that are left when the host pauses accepting.
const OTHER_FILES: usize = 400;
