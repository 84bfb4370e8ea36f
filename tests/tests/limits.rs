//! Each limit of a service: what it ends, and with which reason. Through the library, where a test can set them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use nethost::limits::Limits;
use nethost_tests::{
    client::End,
    full::full_listener,
    places::guest,
    scripted::{Scripted, pattern},
    service::Running,
};

fn scripted(limits: Limits) -> Scripted<Running> {
    Scripted::on(Running::limited(limits, &guest("scripted")))
}

/// Writes to a connection that does not read until the queue is not empty any more, and returns how much that was.
fn congest(plugin: &mut Scripted<Running>, id: u64) -> usize {
    let mut written = 0;
    while plugin.number(&format!("@{id} fill 200000")) < 400_000 {
        written += 200_000;
    }
    written + 200_000
}

#[test]
fn a_close_that_the_peer_does_not_take_in_time_is_aborted() {
    let mut plugin = scripted(Limits {
        close_time: Duration::from_millis(500),
        ..Limits::default()
    });
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    congest(&mut plugin, id);
    let start = Instant::now();
    plugin.run(&format!("@{id} close"));
    assert_eq!(plugin.event(&format!("lost {id}")), "limit time to close");
    assert!(start.elapsed() >= Duration::from_millis(500));
    client.reset();
}

#[test]
fn connections_that_are_being_made_count() {
    let (listener, _waiting) = full_listener("127.0.0.1", 0);
    let address = listener.local_addr().unwrap();
    let mut plugin = scripted(Limits {
        connections: 3,
        ..Limits::default()
    });
    // One is the test's own.
    let first = plugin.started(&format!("connect tcp://{address}"));
    let second = plugin.started(&format!("connect tcp://{address}"));
    plugin.settle();
    let third = plugin.started(&format!("connect tcp://{address}"));
    let outcome = plugin.event(&format!("completed {third}"));
    assert_eq!(
        outcome,
        "error limit 1 connections are open, 2 are being made"
    );
    // Both make room when they are given up.
    plugin.run(&format!("cancel {first}; cancel {second}"));
    plugin.settle();
    let (mut client, id) = plugin.connect();
    client.command("write here");
    client.expect("here\n");
    plugin.run(&format!("@{id} close"));
    client.end();
}

#[test]
fn a_connection_too_many_is_closed_and_the_next_is_served_when_there_is_room() {
    let mut plugin = scripted(Limits {
        connections: 3,
        ..Limits::default()
    });
    let (first, id) = plugin.connect();
    let (mut second, _) = plugin.connect();
    for _ in 0..5 {
        let (data, _) = plugin.host.connect().rest();
        assert_eq!(data, b"");
    }
    second.command("write undisturbed");
    second.expect("undisturbed\n");
    first.kill();
    plugin.event(&format!("lost {id}"));
    let (mut third, _) = plugin.connect();
    third.command("write served");
    third.expect("served\n");
}

#[test]
fn unsent_bytes_over_the_limit_end_the_connection() {
    let mut plugin = scripted(Limits {
        unsent: 100_000,
        ..Limits::default()
    });
    let (mut client, id) = plugin.connect();
    assert_eq!(plugin.number(&format!("@{id} fill 100000")), 100_000);
    client.expect(pattern(0, 100_000));
    plugin.run(&format!(
        "@{id} fill 60000; @{id} fill 40001; @{id} write never"
    ));
    assert_eq!(plugin.event(&format!("lost {id}")), "limit unsent bytes");
    assert_eq!(client.rest().1, End::Reset);
}

#[test]
fn an_operation_too_many_completes_with_limit() {
    let mut plugin = scripted(Limits {
        operations: 3,
        ..Limits::default()
    });
    plugin.run("after 600000; after 600000; after 200 tell timer");
    for _ in 0..3 {
        plugin.event("started");
    }
    for command in [
        "after 0",
        "after 100",
        "connect tcp://127.0.0.1:1",
        "resolve localhost",
    ] {
        let id = plugin.started(command);
        let outcome = plugin.event(&format!("completed {id}"));
        assert!(outcome.starts_with("error limit "), "{command}: {outcome}");
        assert!(outcome.contains('3'), "{outcome}");
    }
    // Those in flight are not touched, and one that completes makes room.
    plugin.event("timer");
    let id = plugin.started("after 0");
    assert_eq!(plugin.event(&format!("completed {id}")), "ok");
}

#[test]
fn an_attempt_to_connect_that_takes_too_long_times_out() {
    let (listener, _waiting) = full_listener("127.0.0.1", 0);
    let address = listener.local_addr().unwrap();
    let mut plugin = scripted(Limits {
        connect_time: Duration::from_millis(300),
        ..Limits::default()
    });
    let start = Instant::now();
    let id = plugin.started(&format!("connect tcp://{address}"));
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error timeout "), "{outcome}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    drop(listener);
}

#[test]
fn an_instance_over_its_memory_ends_and_the_next_is_fresh() {
    ends_and_is_replaced(
        guest("grows"),
        Limits {
            memory: 4 << 20,
            ..Limits::default()
        },
    );
}

#[test]
fn a_callback_over_its_time_ends_the_instance_and_the_next_is_fresh() {
    ends_and_is_replaced(
        guest("loops"),
        Limits {
            callback_time: Duration::from_millis(10),
            ..Limits::default()
        },
    );
}

fn ends_and_is_replaced(component: PathBuf, limits: Limits) {
    let running = Running::limited(limits, &component);
    for _ in 0..4 {
        let mut client = running.connect();
        client.send("x");
        client.expect("x");
        client.send("!");
        client.rest();
    }
    let mut client = running.connect();
    client.send("x");
    client.expect("x");
    assert_eq!(running.connections(), 1);
}

#[test]
fn more_bytes_than_one_call_may_bring_are_a_trap() {
    let mut plugin = scripted(Limits {
        hostcall_bytes: 100_000,
        ..Limits::default()
    });
    let (mut client, id) = plugin.connect();
    assert_eq!(plugin.number(&format!("@{id} fill 90000")), 90_000);
    client.expect(pattern(0, 90_000));
    plugin.run(&format!("@{id} fill 200000"));
    client.rest();
    plugin.control.rest();
    // Groups have the same limit.
    let mut plugin = Scripted::on(plugin.host);
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("@{id} join all; say-fill all 200000"));
    client.rest();
    plugin.control.rest();
}

#[test]
fn memberships_over_the_limit_are_a_trap() {
    let mut plugin = scripted(Limits {
        memberships: 3,
        ..Limits::default()
    });
    let (mut client, id) = plugin.connect();
    plugin.run(&format!(
        "@{id} join a; @{id} join b; @{id} join c; @{id} join c"
    ));
    // One that is left does not count.
    plugin.run(&format!("@{id} leave c; @{id} join d; say d still here"));
    client.expect("still here\n");
    plugin.run(&format!("@{id} join e"));
    client.rest();
    plugin.control.rest();
}
