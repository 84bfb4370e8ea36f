//! `cargo xtask soak`: every guest that misbehaves at once, next to a good one, for minutes.

use std::{
    io::{IsTerminal as _, stderr},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use nethost_tests::soak::{self, Options};

/// Run every guest that misbehaves at once, next to an echo service under load, and see what becomes of that
///
/// The good one must lose no byte, 99 of 100 round trips must take at most 100 ms and none longer than twice the deadline of a call, and the host's memory must be flat
/// after the first minute. The machine has to be calm for that. Exit code 1 if a goal is missed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Soak {
    /// How long it goes on
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Tell the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Soak { seconds, json } = Soak::parse();
    let report = soak::run(&Options {
        time: Duration::from_secs(seconds),
        slack: 1,
        shows_progress: stderr().is_terminal(),
    });
    match serde_json::to_string(&report) {
        Ok(told) if json => println!("{told}"),
        _ => print!("{report}"),
    }
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
