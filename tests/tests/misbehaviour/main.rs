//! Guests that mean harm: each deed ends, its reason is named, its memory comes back, and a service on the same worker goes on answering.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

mod supervision;

mod callbacks;

mod modules;

mod smith;

use std::{
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    misbehaviour::{DEEDS, Deed, GOAL, LINES, Pair},
};

/// How often each is done in one host: fewer times than make a service back off.
const ROUNDS: usize = 4;

/// Memory that a host may have more after the last round than after the first: what the allocator keeps.
const KEPT: u64 = 32 << 20;

/// Sees that a deed is survived, and prints what the neighbour noticed.
fn survive(deed: &Deed) {
    let pair = Pair::start(LINES);
    let neighbour = pair.neighbour();
    pair.perform(deed, 1);
    let first = pair.host.memory();
    for round in 2..=ROUNDS {
        pair.perform(deed, round);
    }
    let deadline = Instant::now() + DEADLINE;
    while pair.host.memory() > first + KEPT {
        let (memory, name) = (pair.host.memory(), deed.name);
        assert!(Instant::now() < deadline, "{name}: {first}, then {memory}");
        thread::sleep(Duration::from_millis(5));
    }
    let noticed = neighbour.stop();
    let Deed { name, callback, .. } = deed;
    println!("{name} in {callback}: {noticed:?}");
    // A machine that also compiles gets ten times the goal.
    assert!(
        noticed.worst < 10 * GOAL,
        "{name} in {callback}: {noticed:?}"
    );
}

fn survive_all(which: impl Fn(&Deed) -> bool) {
    let deeds = DEEDS.iter().filter(|deed| which(deed));
    let mut count = 0;
    for deed in deeds {
        survive(deed);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_loop_in_any_callback() {
    survive_all(|deed| deed.name == "loop");
}

#[test]
fn a_trap_in_any_callback() {
    survive_all(|deed| deed.name == "trap");
}

#[test]
fn everything_else() {
    // To look at one of them alone.
    let only = std::env::var("NETHOST_DEED").ok();
    survive_all(|deed| match &only {
        Some(only) => deed.name == only,
        None => !["loop", "trap"].contains(&deed.name),
    });
}
