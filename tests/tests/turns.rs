//! One service that takes all the time there is, and another on the same worker that does not notice.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    client::Client,
    host::Host,
    places::{guest, plugin, scratch},
};

/// Ten times the goal, which is twice the deadline of a callback: what a busy machine adds must not fail the test. Without turns the neighbour waits for 200 calls
/// of 40 ms, which are 8 s.
const MOST: Duration = Duration::from_secs(1);

/// A worker with two services: the second is the good one.
fn host(name: &str) -> Host {
    let file = scratch(name).join("nethost.toml");
    let listen = "listen = [\"tcp://127.0.0.1:0\"]";
    let service = |name: &str, plugin: &std::path::Path| {
        let plugin = plugin.display();
        format!("[[service]]\nname = \"{name}\"\nplugin = \"{plugin}\"\n{listen}\n")
    };
    let text = format!(
        "[host]\nworkers = 1\n{}{}",
        service("bad", &guest("burns")),
        service("good", &plugin("echo"))
    );
    fs::write(&file, text).unwrap();
    Host::serve(&file, ["--log", "info"], 2)
}

#[test]
fn a_service_that_takes_all_the_time_delays_no_other() {
    let host = host("turns");
    let mut bad: Vec<Client> = (0..200).map(|_| Client::tcp(host.address_of(0))).collect();
    for client in &mut bad {
        client.send("x");
    }
    // Each is answered once and sends the next, so all are always there.
    let mut good = Client::tcp(host.address_of(1));
    let mut worst = Duration::ZERO;
    let end = Instant::now() + Duration::from_secs(3);
    let mut rounds = 0_usize;
    while Instant::now() < end {
        for client in &mut bad {
            client.send("x");
        }
        let asked = Instant::now();
        good.send("ping");
        good.expect("ping");
        worst = worst.max(asked.elapsed());
        rounds += 1;
        thread::yield_now();
    }
    assert!(worst < MOST, "{worst:?} in {rounds} rounds");
    // What is over its share is served all the same.
    for client in bad.iter_mut().take(3) {
        assert_eq!(client.bytes(1), b"x");
    }
}
