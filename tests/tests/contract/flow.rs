//! Reading, writing, their flow control, and idle timeouts.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use nethost_tests::{
    client::Client,
    scripted::{Scripted, pattern},
};

// Reading, and its flow control.

#[test]
fn nothing_is_read_before_connection_made_has_returned() {
    let mut plugin = Scripted::start();
    // The bytes are there before the host accepts: the instance is busy with the control connection's line until then.
    plugin.run("next mode traced & tell made it");
    plugin.settle();
    let mut client = plugin.host.connect();
    client.send("early");
    let id = plugin.made();
    plugin.event("made it");
    assert_eq!(plugin.event(&format!("data {id}")), "5");
}

#[test]
fn pause_in_connection_made_holds() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced & pause");
    client.send("waits in the kernel");
    client.close_write();
    plugin.settle();
    assert!(!plugin.has_event(&format!("data {id}")));
    assert!(!plugin.has_event(&format!("read-closed {id}")));
    plugin.run(&format!("@{id} resume"));
    assert_eq!(plugin.event(&format!("data {id}")), "19");
    plugin.event(&format!("read-closed {id}"));
}

#[test]
fn paused_reading_stalls_the_peer_and_resuming_loses_nothing() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode sink & pause");
    let sent = client.send_until_blocked(64 << 20);
    assert!(sent < 64 << 20, "the kernel took everything");
    plugin.settle();
    assert_eq!(plugin.ask(&format!("@{id} count")), "0");
    plugin.run(&format!("@{id} resume"));
    client.close_write();
    plugin.event(&format!("read-closed {id}"));
    assert_eq!(plugin.ask(&format!("@{id} count")), sent.to_string());
}

#[test]
fn pausing_works_from_the_next_callback_on_and_can_be_repeated() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced");
    for round in 1..=5 {
        plugin.run(&format!("@{id} pause; @{id} pause"));
        plugin.settle();
        client.send(vec![b'x'; round]);
        plugin.settle();
        assert!(!plugin.has_event(&format!("data {id}")));
        plugin.run(&format!("@{id} resume; @{id} resume"));
        assert_eq!(plugin.event(&format!("data {id}")), round.to_string());
    }
}

#[test]
fn one_call_brings_at_most_64_kib() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced & pause");
    client.send(vec![b'x'; 200_000]);
    plugin.run(&format!("@{id} resume"));
    let mut received = 0;
    while received < 200_000 {
        let size: usize = plugin.event(&format!("data {id}")).parse().unwrap();
        assert!((1..=65_536).contains(&size), "{size}");
        received += size;
    }
    assert_eq!(received, 200_000);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect_with("mode echo");
    let mut client = client.with_small_buffer();
    let before = plugin.host.memory();
    let sent = client.send_until_blocked(256 << 20);
    assert!(sent < 256 << 20, "the host took everything");
    let grown = plugin.host.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    // The plugin got no more than one read above the mark and what the kernel had taken.
    let received: usize = plugin.ask(&format!("@{id} count")).parse().unwrap();
    assert!(received < sent);
    // Nothing was lost by it.
    let answer = client.bytes(sent);
    assert!(answer.iter().all(|byte| *byte == b'.'));
    client.close_write();
    client.end();
}

#[test]
fn a_peer_that_was_connected_to_is_read_from_even_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin =
        Scripted::start_with(|run| run.arguments(["--allow-connect", &address.to_string()]));
    plugin.started(&format!("next mode sink; connect tcp://{address}"));
    let (peer, _) = listener.accept().unwrap();
    let id = plugin.made();
    let mut peer = Client::accepted(peer).with_small_buffer();
    // More than the kernel takes, and the peer takes none of it before it has said its own.
    while plugin.number(&format!("@{id} fill 60000")) < 500_000 {}
    peer.send(vec![b'.'; 8 << 20]);
    peer.close_write();
    plugin.event(&format!("read-closed {id}"));
    assert_eq!(plugin.ask(&format!("@{id} count")), (8 << 20).to_string());
}

// Writing, and its flow control.

#[test]
fn write_returns_what_is_unsent() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let unsent = plugin.ask_all(&format!("@{id} fill 10; @{id} fill 20; @{id} write four"));
    assert_eq!(unsent, ["10", "30", "35"]);
    client.expect([pattern(0, 30).as_slice(), b"four\n"].concat());
}

#[test]
fn writable_is_told_once_the_queue_was_full_and_has_fallen() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    // Below the mark there is nothing to tell.
    plugin.ask(&format!("@{id} fill 65535"));
    client.expect(pattern(0, 65_535));
    plugin.settle();
    assert!(!plugin.has_event("writable"));
    plugin.ask(&format!("@{id} fill 65536"));
    client.expect(pattern(65_535, 65_536));
    plugin.event(&format!("writable {id}"));
    plugin.settle();
    assert!(!plugin.has_event("writable"));
}

#[test]
fn a_feed_that_minds_writable_arrives_whole_in_bounded_memory() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let before = plugin.host.memory();
    plugin.run(&format!("@{id} feed 20000000"));
    client.expect(pattern(0, 20_000_000));
    plugin.event(&format!("fed {id}"));
    let grown = plugin.host.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

#[test]
fn more_unsent_bytes_than_the_limit_close_the_connection() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("@{id} fill 2000000"));
    assert_eq!(plugin.event(&format!("lost {id}")), "limit unsent bytes");
    client.reset();
}

#[test]
fn reading_goes_on_after_the_peer_has_read() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect_with("mode traced");
    let mut client = client.with_small_buffer();
    let mut filled = 0;
    while plugin.number(&format!("@{id} fill 100000")) < 200_000 {
        filled += 100_000;
    }
    filled += 100_000;
    client.send("question");
    plugin.settle();
    assert!(!plugin.has_event(&format!("data {id}")), "it was read from");
    client.expect(pattern(0, filled));
    assert_eq!(plugin.event(&format!("data {id}")), "8");
}

#[test]
fn who_writes_to_a_peer_that_does_not_read_is_held_up_for_a_while_and_nobody_else_is() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    let (mut source, _) = plugin.connect();
    let (mut filled, mut longest) = (0, Duration::ZERO);
    loop {
        let asked = Instant::now();
        source.command(&format!("@{id} fill 200000"));
        let unsent: usize = source.line_with("= ")[2..].parse().unwrap();
        longest = longest.max(asked.elapsed());
        filled += 200_000;
        // The control connection is not what fills the queue.
        assert_eq!(plugin.ask("id"), "1");
        if unsent > 600_000 {
            break;
        }
    }
    // Two seconds, at most, for one who has stopped reading; a loaded machine takes longer.
    assert!(longest > Duration::from_secs(1), "{longest:?}");
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    client.expect(pattern(0, filled));
    source.command(&format!("@{id} write caught up"));
    client.expect("caught up\n");
}

// Idle timeouts.

#[test]
fn an_idle_connection_is_closed_with_that_reason() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let start = Instant::now();
    plugin.run(&format!("@{id} idle 300"));
    assert_eq!(plugin.event(&format!("lost {id}")), "idle");
    assert!(start.elapsed() >= Duration::from_millis(300));
    client.end();
}

#[test]
fn bytes_in_either_direction_are_activity() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced & idle 1500");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        client.send("x");
        plugin.event(&format!("data {id}"));
        assert!(client.is_silent_for(Duration::from_millis(100)));
    }
    plugin.run(&format!("@{id} mode commands"));
    while start.elapsed() < Duration::from_millis(5000) {
        plugin.ask(&format!("@{id} write y"));
        client.expect("y\n");
        assert!(client.is_silent_for(Duration::from_millis(100)));
    }
    assert!(!plugin.has_event(&format!("lost {id}")));
    assert_eq!(plugin.event(&format!("lost {id}")), "idle");
}

#[test]
fn an_idle_timeout_can_be_taken_back() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("idle 200");
    plugin.run(&format!("@{id} idle none"));
    plugin.settle();
    assert!(client.is_silent_for(Duration::from_millis(600)));
    client.command("write still here");
    client.expect("still here\n");
    plugin.settle();
    assert!(!plugin.has_event(&format!("lost {id}")));
}

#[test]
fn an_idle_timeout_that_is_closed_within_does_not_speak() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("idle 100");
    plugin.run(&format!("@{id} write bye; @{id} close"));
    client.expect("bye\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}
