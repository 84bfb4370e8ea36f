//! Who is let in, how fast, and for how long without a word.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::time::{Duration, Instant};

use nethost::limits::Limits;
use nethost_tests::{client::Client, places::guest, scripted::Scripted, service::Running};

fn service(limits: Limits) -> Running {
    Running::limited(limits, &guest("scripted"))
}

fn is_served(client: &mut Client) -> bool {
    client.try_send("write here\n").is_ok() && client.rest_until(5)
}

#[test]
fn a_peer_has_no_more_connections_than_its_limit() {
    for limits in [
        Limits {
            connections_per_peer: Some(3),
            ..Limits::default()
        },
        Limits {
            connections_per_prefix: Some(3),
            ..Limits::default()
        },
    ] {
        let service = service(limits);
        let mut clients: Vec<Client> = (0..3).map(|_| service.connect()).collect();
        assert!(clients.iter_mut().all(is_served));
        service.connect().rest();
        drop(clients.pop());
        let deadline = Instant::now() + nethost_tests::DEADLINE;
        while !is_served(&mut service.connect()) {
            assert!(Instant::now() < deadline, "its place does not come back");
        }
        assert!(clients.iter_mut().all(is_served));
    }
}

#[test]
fn connections_that_come_too_fast_wait() {
    let service = service(Limits {
        accept_rate: 100,
        ..Limits::default()
    });
    let start = Instant::now();
    let mut clients: Vec<Client> = (0..60).map(|_| service.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
    // Ten come at once.
    assert!(
        start.elapsed() >= Duration::from_millis(450),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn who_says_nothing_is_closed() {
    let service = service(Limits {
        first_byte_time: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut plugin = Scripted::on(service);
    let start = Instant::now();
    let (mut silent, id) = plugin.connect();
    let (mut other, _) = plugin.connect();
    other.command("write here");
    other.expect("here\n");
    assert_eq!(plugin.event(&format!("lost {id}")), "idle");
    assert!(start.elapsed() >= Duration::from_millis(200));
    silent.rest();
    other.command("write there");
    other.expect("there\n");
}

#[test]
fn who_stops_talking_is_closed() {
    let service = service(Limits {
        idle_time: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut client = service.connect();
    for _ in 0..3 {
        assert!(is_served(&mut client));
    }
    let start = Instant::now();
    client.rest();
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
    assert!(is_served(&mut service.connect()));
}
