//! SIGTERM and SIGINT: the plugin says goodbye, and nobody is cut off who need not be.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    client::{Client, End},
    host::Run,
    places::{guest, plugin},
    scripted::Scripted,
};
use rustix::process::Signal;

#[test]
fn a_signal_lets_the_plugin_say_goodbye_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let host = Run::of(plugin("irc")).start();
        let mut client = host.connect();
        client.say("NICK ann");
        client.say("USER ann 0 * :Ann");
        client.line_with(" 001 ann ");
        host.signal(signal);
        client.line_with("NOTICE ann :Server shutting down");
        client.line_with("ERROR :Closing Link");
        client.end();
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(
            !ended.log.contains("closed at the deadline"),
            "{}",
            ended.log
        );
    }
}

#[test]
fn without_connections_the_host_ends_at_once() {
    for workers in ["1", "2"] {
        let host = Run::of(plugin("echo"))
            .arguments(["--workers", workers, "--drain-timeout", "10m"])
            .start();
        host.terminate();
        assert_eq!(host.ended().code, Some(0));
    }
}

#[test]
fn draining_is_told_with_its_deadline_and_whoever_is_done_in_time_is_not_cut_off() {
    let mut plugin = Scripted::start_with(|run| run.arguments(["--drain-timeout", "19s"]));
    let (mut client, id) = plugin.connect();
    plugin.run(&format!(
        "on-draining @{id} write goodbye & @{id} close & after 100 @1 close"
    ));
    plugin.settle();
    plugin.host.terminate();
    // What is left of it: the host spends some of it until it tells.
    let told = Duration::from_nanos(plugin.event("draining").parse().unwrap());
    assert!(
        (Duration::from_secs(9)..=Duration::from_secs(19)).contains(&told),
        "{told:?}"
    );
    client.expect("goodbye\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
    plugin.control.rest();
    let ended = plugin.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("deadline"), "{}", ended.log);
}

#[test]
fn what_is_open_at_the_deadline_is_closed_with_that_reason() {
    let mut plugin =
        Scripted::start_with(|run| run.arguments(["--drain-timeout", "300ms", "--log", "debug"]));
    let (mut client, _) = plugin.connect_with("stay");
    let start = Instant::now();
    plugin.host.terminate();
    plugin.event("draining");
    client.rest();
    assert!(start.elapsed() >= Duration::from_millis(300));
    let ended = plugin.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.log.contains("closed at the deadline"),
        "{}",
        ended.log
    );
    assert!(ended.log.contains("reason=Draining"), "{}", ended.log);
}

#[test]
fn what_was_written_before_the_deadline_is_not_lost_by_it() {
    let mut plugin = Scripted::start_with(|run| run.arguments(["--drain-timeout", "300ms"]));
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("on-draining @{id} fill 100000"));
    plugin.settle();
    plugin.host.terminate();
    let (data, _) = client.rest();
    assert_eq!(data.len(), 100_000);
}

#[test]
fn a_second_signal_stops_at_once() {
    let host = Run::of(plugin("echo"))
        .arguments(["--drain-timeout", "10m"])
        .start();
    let mut client = host.connect();
    client.send("x");
    client.expect("x");
    host.terminate();
    host.logged(&["draining", "second signal"]);
    // The connection still works.
    client.send("y");
    client.expect("y");
    host.signal(Signal::INT);
    client.rest();
    let ended = host.ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("second signal"), "{}", ended.log);
}

#[test]
fn clients_that_wait_in_the_queue_are_served_and_no_others() {
    for (isolation, workers) in [("service", "1"), ("worker", "2"), ("connection", "2")] {
        let host = Run::of(plugin("echo"))
            .arguments(["--isolation", isolation, "--workers", workers])
            .arguments(["--drain-timeout", "18s"])
            .start();
        let address = host.address();
        // While it is stopped they wait in the kernel, and the signal comes before it is on again.
        host.signal(Signal::STOP);
        let mut clients: Vec<Client> = (0..50).map(|_| host.connect()).collect();
        for client in &mut clients {
            client.send("queued");
        }
        host.terminate();
        host.signal(Signal::CONT);
        for client in &mut clients {
            client.expect("queued");
        }
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(address).is_ok() {
            assert!(Instant::now() < deadline, "it still listens");
        }
        for client in &mut clients {
            client.send("more");
            client.expect("more");
            client.close_write();
            client.end();
        }
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
}

#[test]
fn a_queued_client_is_told_goodbye_too() {
    let host = Run::of(plugin("irc")).start();
    host.signal(Signal::STOP);
    let mut client = host.connect();
    host.terminate();
    host.signal(Signal::CONT);
    let (data, end) = client.rest();
    let text = String::from_utf8_lossy(&data);
    assert!(text.contains("Server shutting down"), "{text}");
    assert_eq!(end, End::Closed);
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn a_timer_that_never_ends_does_not_keep_the_host() {
    let host = Run::of(guest("timers")).start();
    let mut client = host.connect();
    client.send("!?");
    client.line();
    drop(client);
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
}
