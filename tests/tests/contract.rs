//! Every sentence of the contract, over sockets: what a plugin does and is told, and what its peers see.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use nethost_tests::{
    client::{Client, End},
    host::Run,
    places::{guest, scratch},
    scripted::{Scripted, pattern},
};
use socket2::{Domain, Socket, Type};

// Closing.

#[test]
fn dropping_the_handle_is_close() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("@{id} write last words; @{id} drop"));
    client.expect("last words\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

#[test]
fn close_sends_what_is_queued_first() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    assert_eq!(
        plugin.ask(&format!("@{id} fill 1000000; @{id} close")),
        "1000000"
    );
    let (data, end) = client.rest();
    assert!(data == pattern(0, 1_000_000), "{} bytes", data.len());
    assert_eq!(end, End::Closed);
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

#[test]
fn connection_lost_follows_a_close_only_when_the_queue_is_empty() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let mut sent = 0;
    // More than the kernel holds, so that some stays in the queue.
    while plugin.number(&format!("@{id} fill 200000")) < 400_000 {
        sent += 200_000;
    }
    sent += 200_000;
    plugin.run(&format!("@{id} close"));
    plugin.settle();
    assert!(!plugin.has_event(&format!("lost {id}")));
    let (data, end) = client.rest();
    assert!(data == pattern(0, sent), "{} of {sent} bytes", data.len());
    assert_eq!(end, End::Closed);
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

#[test]
fn nothing_is_read_and_nothing_written_after_close() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced");
    client.send("before");
    assert_eq!(plugin.event(&format!("data {id}")), "6");
    let unsent = plugin.ask_all(&format!("@{id} write one; @{id} close; @{id} write two"));
    assert_eq!(unsent, ["4", "0"]);
    client.expect("one\n");
    client.end();
    // The peer may go on sending for a while; nobody hears it, and nothing is reset.
    client.send("after");
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
    plugin.settle();
    assert!(!plugin.has_event(&format!("data {id}")));
}

#[test]
fn bytes_of_the_peer_that_were_not_read_do_not_turn_a_close_into_a_reset() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("pause");
    client.send(vec![b'x'; 100_000]);
    plugin.run(&format!("@{id} fill 100000; @{id} close"));
    let (data, end) = client.rest();
    assert!(data == pattern(0, 100_000), "{} bytes", data.len());
    assert_eq!(end, End::Closed);
}

#[test]
fn a_close_that_the_peer_does_not_take_waits_for_it() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    plugin.ask(&format!("@{id} fill 900000"));
    plugin.run(&format!("@{id} close"));
    assert_eq!(client.bytes(1000), pattern(0, 1000));
    plugin.settle();
    let (rest, end) = client.rest();
    assert!(rest == pattern(1000, 899_000));
    assert_eq!(end, End::Closed);
}

#[test]
fn abort_discards_what_is_queued_and_resets() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("@{id} write never; @{id} abort"));
    let (data, end) = client.rest();
    assert_eq!((data.as_slice(), end), (&b""[..], End::Reset));
    assert_eq!(plugin.event(&format!("lost {id}")), "aborted-here");
}

#[test]
fn abort_ends_a_close_that_waits() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    while plugin.number(&format!("@{id} fill 200000")) < 400_000 {}
    plugin.run(&format!("@{id} close"));
    plugin.settle();
    plugin.run(&format!("@{id} abort"));
    assert_eq!(plugin.event(&format!("lost {id}")), "aborted-here");
    client.reset();
}

#[test]
fn the_peers_end_is_told_and_leaves_the_other_half_open() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("stay & mode traced");
    client.send("question");
    client.close_write();
    assert_eq!(plugin.event(&format!("data {id}")), "8");
    plugin.event(&format!("read-closed {id}"));
    plugin.run(&format!("@{id} write an answer"));
    client.expect("an answer\n");
    plugin.run(&format!("@{id} close"));
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "done");
    assert_eq!(plugin.events(), [format!("dropped {id}")]);
}

#[test]
fn shutdown_write_sends_what_is_queued_and_leaves_reading_open() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("stay & mode traced");
    plugin.ask(&format!("@{id} fill 300000"));
    plugin.run(&format!("@{id} shutdown"));
    assert_eq!(plugin.ask(&format!("@{id} write late")), "0");
    let (data, end) = client.rest();
    assert!(data == pattern(0, 300_000), "{} bytes", data.len());
    assert_eq!(end, End::Closed);
    client.send("still heard");
    assert_eq!(plugin.event(&format!("data {id}")), "11");
    plugin.settle();
    assert!(!plugin.has_event("lost"));
    client.close_write();
    plugin.event(&format!("read-closed {id}"));
    assert_eq!(plugin.event(&format!("lost {id}")), "done");
}

#[test]
fn both_halves_closed_by_the_plugin_last_are_done() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("stay");
    client.close_write();
    plugin.event(&format!("read-closed {id}"));
    plugin.ask(&format!("@{id} fill 200000"));
    plugin.run(&format!("@{id} shutdown"));
    let (data, end) = client.rest();
    assert!(data == pattern(0, 200_000));
    assert_eq!(end, End::Closed);
    assert_eq!(plugin.event(&format!("lost {id}")), "done");
}

#[test]
fn a_reset_is_told_as_one() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    client.kill();
    assert_eq!(plugin.event(&format!("lost {id}")), "reset");
}

#[test]
fn a_reset_is_noticed_while_reading_is_paused_and_something_is_written() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect_with("pause");
    client.kill();
    plugin.settle();
    plugin.ask(&format!("@{id} write x"));
    plugin.settle();
    plugin.ask(&format!("@{id} write y"));
    assert_eq!(plugin.event(&format!("lost {id}")), "reset");
}

#[test]
fn connection_lost_is_the_last_callback_and_then_the_session_is_dropped() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect_with("mode traced");
    client.send("x");
    plugin.event(&format!("data {id}"));
    client.kill();
    plugin.event(&format!("lost {id}"));
    assert_eq!(plugin.events(), [format!("dropped {id}")]);
}

#[test]
fn methods_after_the_loss_do_nothing() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    let (local, peer) = (plugin.host.address(), client.local());
    client.kill();
    plugin.event(&format!("lost {id}"));
    assert_eq!(plugin.ask(&format!("@{id} write x")), "0");
    assert_eq!(plugin.ask(&format!("@{id} fill 2000000")), "0");
    plugin.run(&format!(
        "@{id} close; @{id} abort; @{id} shutdown; @{id} pause; @{id} resume; @{id} idle 1; @{id} join lost"
    ));
    plugin.run("say lost nobody hears this");
    assert_eq!(plugin.ask(&format!("@{id} local")), mapped(local));
    assert_eq!(plugin.ask(&format!("@{id} peer")), mapped(peer));
    assert_eq!(plugin.ask(&format!("@{id} handle-id")), id.to_string());
    plugin.run(&format!("@{id} drop"));
    assert_eq!(plugin.events(), [format!("dropped {id}")]);
}

#[test]
fn ids_are_never_used_again() {
    let mut plugin = Scripted::start();
    let mut last = 0;
    for _ in 0..5 {
        let (client, id) = plugin.connect();
        assert!(id > last, "{id} after {last}");
        last = plugin.started("after 0");
        assert!(last > id, "{last} after {id}");
        drop(client);
        plugin.event(&format!("lost {id}"));
    }
}

#[test]
fn a_plugin_that_makes_no_session_closes_the_connection_after_its_words() {
    let mut plugin = Scripted::start();
    plugin.run("next write go away & refuse");
    plugin.settle();
    let mut client = plugin.host.connect();
    let id = plugin.made();
    client.expect("go away\n");
    client.end();
    plugin.settle();
    // There is no session, so nobody is told.
    assert!(!plugin.has_event(&format!("lost {id}")));
    let (mut next, _) = plugin.connect();
    next.command("write served");
    next.expect("served\n");
}

#[test]
fn a_peer_that_is_gone_before_it_is_served_is_told_like_any_other() {
    let mut plugin = Scripted::start();
    for _ in 0..20 {
        let client = plugin.host.connect();
        client.kill();
        // It may be made and lost, or never be accepted; the next one is served.
        let mut client = plugin.host.connect();
        let peer = mapped(client.local());
        loop {
            let id = plugin.made();
            if plugin.ask(&format!("@{id} peer")) == peer {
                break;
            }
            plugin.event(&format!("lost {id}"));
        }
        client.command("write served");
        client.expect("served\n");
    }
}

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

// Groups.

#[test]
fn a_group_reaches_its_members_but_one_that_is_skipped() {
    let mut plugin = Scripted::start();
    let (mut ann, a) = plugin.connect();
    let (mut bob, b) = plugin.connect();
    let (mut eve, e) = plugin.connect();
    plugin.run(&format!("@{a} join room; @{b} join room; @{a} join room"));
    plugin.run(&format!(
        "say room all; @{a} say-others room others; say room end"
    ));
    ann.expect("all\nend\n");
    bob.expect("all\nothers\nend\n");
    // A skipped connection need not be a member.
    plugin.run(&format!("@{e} say-others room from outside"));
    ann.expect("from outside\n");
    bob.expect("from outside\n");
    plugin.run(&format!(
        "@{b} leave room; @{b} leave room; say room without bob; @{b} write alone; @{e} write alone"
    ));
    ann.expect("without bob\n");
    bob.expect("alone\n");
    eve.expect("alone\n");
}

#[test]
fn order_is_kept_between_a_group_and_its_members() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let (mut other, second) = plugin.connect();
    plugin.run(&format!(
        "@{id} join one; @{id} join two; @{second} join one"
    ));
    let mut expected = String::new();
    for round in 0..50 {
        plugin.run(&format!(
            "@{id} write a{round}; say one b{round}; @{id} write c{round}; say two d{round}; say one e{round}"
        ));
        expected += &format!("a{round}\nb{round}\nc{round}\nd{round}\ne{round}\n");
    }
    client.expect(&expected);
    let expected: String = (0..50)
        .map(|round| format!("b{round}\ne{round}\n"))
        .collect();
    other.expect(&expected);
}

#[test]
fn a_lost_connection_leaves_its_groups() {
    let mut plugin = Scripted::start();
    let (ann, a) = plugin.connect();
    let (mut bob, b) = plugin.connect();
    plugin.run(&format!("@{a} join room; @{b} join room; @{a} join other"));
    ann.kill();
    plugin.event(&format!("lost {a}"));
    plugin.run("say room still; say other nobody");
    bob.expect("still\n");
    // One that is lost does not join again.
    plugin.run(&format!("@{a} join room; say room alone"));
    bob.expect("alone\n");
    plugin.run(&format!("disband room; disband other; @{b} write after"));
    bob.expect("after\n");
}

#[test]
fn a_closing_member_gets_nothing_more_and_everything_before() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!(
        "@{id} join room; say room one; @{id} close; say room two"
    ));
    client.expect("one\n");
    client.end();
}

#[test]
fn the_bytes_of_a_group_are_held_once() {
    let mut plugin = Scripted::start();
    let mut members = Vec::new();
    for _ in 0..100 {
        let (client, id) = plugin.connect();
        plugin.run(&format!("@{id} join room"));
        members.push(client.with_small_buffer());
    }
    plugin.settle();
    let before = plugin.host.memory();
    // 90 MB for a hundred members, if each had its own; the kernel's buffers are not the process's.
    plugin.run("say-fill room 900000");
    plugin.settle();
    let grown = plugin.host.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more");
    for member in &mut members {
        member.expect(pattern(0, 900_000));
    }
}

#[test]
fn a_members_limit_of_unsent_bytes_holds_for_the_group_and_spares_the_others() {
    let mut plugin = Scripted::start();
    let (fast, f) = plugin.connect();
    let (slow, s) = plugin.connect();
    let (mut fast, mut slow) = (fast, slow.with_small_buffer());
    plugin.run(&format!("@{f} join room; @{s} join room"));
    let mut rounds = 0;
    while !plugin.has_event(&format!("lost {s}")) {
        plugin.run("say-fill room 100000");
        fast.expect(pattern(0, 100_000));
        plugin.settle();
        rounds += 1;
        assert!(rounds < 500, "the slow one is never closed");
    }
    assert_eq!(plugin.event(&format!("lost {s}")), "limit unsent bytes");
    slow.reset();
    plugin.run("say room on");
    fast.expect("on\n");
}

// Timers.

#[test]
fn a_timer_completes_once_and_not_too_early() {
    let mut plugin = Scripted::start();
    let start = Instant::now();
    let id = plugin.started("after 200");
    assert_eq!(plugin.event(&format!("completed {id}")), "ok");
    assert!(start.elapsed() >= Duration::from_millis(200));
    plugin.run("after 50 tell later");
    plugin.event("later");
    plugin.settle();
    assert!(!plugin.has_event(&format!("completed {id}")));
}

#[test]
fn timers_complete_in_the_order_of_their_times() {
    let mut plugin = Scripted::start();
    plugin.run("after 300 tell c; after 100 tell a; after 200 tell b; after 100 tell a2; after 400 tell end");
    plugin.event("end");
    let events = plugin.events();
    let told: Vec<_> = events
        .iter()
        .filter(|event| ["a", "a2", "b", "c"].contains(&event.as_str()))
        .collect();
    assert_eq!(told, ["a", "a2", "b", "c"]);
}

#[test]
fn zero_completes_after_the_current_callback_and_after_what_waits() {
    let mut plugin = Scripted::start();
    plugin.run("after 0 tell first & after 0 tell third; after 0 tell second; tell callback");
    plugin.event("third");
    let events = plugin.events();
    let told: Vec<_> = events.iter().filter(|event| !event.contains(' ')).collect();
    assert_eq!(told, ["callback", "first", "second"]);
}

#[test]
fn a_cancelled_operation_does_not_complete() {
    let mut plugin = Scripted::start();
    for delay in ["0", "1", "100"] {
        plugin.run(&format!(
            "after {delay} tell wrong; cancel-last; after 200 tell end"
        ));
        let id = plugin.event("started ");
        plugin.event("started ");
        plugin.event("end");
        plugin.settle();
        assert!(!plugin.has_event("wrong"), "{delay}");
        assert!(!plugin.has_event(&format!("completed {id}")), "{delay}");
    }
    // Unknown and complete ids are nothing to cancel.
    let id = plugin.started("after 0");
    plugin.event(&format!("completed {id}"));
    plugin.run(&format!(
        "cancel {id}; cancel 0; cancel 18446744073709551615"
    ));
    plugin.settle();
}

#[test]
fn a_sessions_timer_ends_with_its_connection() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    client.command("after 300 tell wrong; after 0 after 300 tell wrong too; tell ready");
    plugin.event("ready");
    plugin.settle();
    client.kill();
    plugin.event(&format!("lost {id}"));
    plugin.run("after 600 tell end");
    plugin.event("end");
    assert!(!plugin.has_event("wrong"));
}

#[test]
fn a_timer_started_in_connection_lost_is_the_instances() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect_with("on-lost after 100 tell it lived on");
    client.kill();
    plugin.event(&format!("lost {id}"));
    plugin.event("it lived on");
}

#[test]
fn a_timer_started_in_another_sessions_callback_is_that_ones() {
    let mut plugin = Scripted::start();
    let (client, id) = plugin.connect();
    // It is about the other connection, but was started in a callback of the control connection.
    plugin.ask(&format!("@{id} write x; after 300 tell it lived on"));
    client.kill();
    plugin.event(&format!("lost {id}"));
    plugin.event("it lived on");
}

#[test]
fn a_timer_of_never_does_no_harm() {
    let mut plugin = Scripted::start();
    let id = plugin.started("after 18446744073709");
    plugin.run("after 10 tell end");
    plugin.event("end");
    plugin.run(&format!("cancel {id}"));
    plugin.settle();
    assert!(!plugin.has_event(&format!("completed {id}")));
}

// Outbound connections.

#[test]
fn connecting_is_denied_unless_granted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = scratch("denied");
    let path = folder.join("x.sock");
    let _unix = UnixListener::bind(&path).unwrap();
    let mut plugin = Scripted::start();
    for endpoint in [
        format!("tcp://127.0.0.1:{port}"),
        format!("tcp://localhost:{port}"),
        format!("tcp://[::ffff:127.0.0.1]:{port}"),
        format!("unix://{}", path.display()),
    ] {
        let id = plugin.started(&format!("connect {endpoint}"));
        let outcome = plugin.event(&format!("completed {id}"));
        assert!(outcome.starts_with("error denied"), "{endpoint}: {outcome}");
        assert!(outcome.contains("--allow-connect"), "{outcome}");
    }
    assert!(!plugin.has_event("made"));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn a_granted_connection_is_made_before_it_completes() {
    for ip in ["127.0.0.1", "[::1]"] {
        let listener = TcpListener::bind(format!("{ip}:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let mut plugin = Scripted::start_with(|run| {
            run.arguments(["--allow-connect", &format!("{ip}:{}", address.port())])
        });
        let operation = plugin.started(&format!("connect tcp://{address} tell connected"));
        let (peer, dialer) = listener.accept().unwrap();
        plugin.event("connected");
        let events = plugin.events();
        let made = events.iter().position(|event| event.starts_with("made "));
        let completed = events
            .iter()
            .position(|event| *event == format!("completed {operation} ok"));
        assert!(made.is_some() && made < completed, "{events:?}");
        let made = &events[made.unwrap()];
        let id = made.split(' ').nth(1).unwrap();
        assert_eq!(*made, format!("made {id} dialed {operation}"));
        assert_eq!(plugin.ask(&format!("@{id} peer")), mapped(address));
        assert_eq!(plugin.ask(&format!("@{id} local")), mapped(dialer));
        plugin.run(&format!("@{id} write hello"));
        let mut peer = Client::accepted(peer);
        peer.expect("hello\n");
        peer.command("tell heard");
        plugin.event("heard");
        peer.close_write();
        peer.end();
        assert_eq!(plugin.event(&format!("lost {id}")), "done");
    }
}

#[test]
fn a_plugin_that_refuses_its_own_connection_is_told_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "127.0.0.1:*"]));
    let id = plugin.started(&format!("next write no & refuse; connect tcp://{address}"));
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error closed"), "{outcome}");
    let mut peer = Client::accepted(listener.accept().unwrap().0);
    peer.expect("no\n");
    peer.end();
}

#[test]
fn errors_of_connecting_are_told_apart() {
    let mut plugin = Scripted::start_with(|run| {
        run.arguments(["--allow-connect", "127.0.0.0/8:*"])
            .arguments(["--allow-connect", "does-not-exist.invalid:*"])
    });
    // Nobody listens on the port of a listener that is gone.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for (endpoint, code) in [
        (format!("tcp://127.0.0.1:{port}"), "refused"),
        (
            "tcp://does-not-exist.invalid:7".to_owned(),
            "name-not-found",
        ),
        ("tcp://127.0.0.1".to_owned(), "invalid"),
        ("tcp://127.0.0.1:70000".to_owned(), "invalid"),
        ("tcp://127.0.0.1:1?nodelay=maybe".to_owned(), "invalid"),
        ("gopher://127.0.0.1:70".to_owned(), "invalid"),
        ("127.0.0.1:7".to_owned(), "invalid"),
        ("tcp://10.0.0.1:7".to_owned(), "denied"),
    ] {
        let id = plugin.started(&format!("connect {endpoint}"));
        let outcome = plugin.event(&format!("completed {id}"));
        assert!(
            outcome.starts_with(&format!("error {code} ")),
            "{endpoint}: {outcome}"
        );
    }
}

#[test]
fn a_name_does_not_smuggle_in_an_address_of_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Spellings that this machine resolves to itself without asking anybody.
    let names = [
        "ip6-localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
    ];
    for grant in names
        .map(|name| format!("{name}:*"))
        .iter()
        .chain([&"*:*".to_owned()])
    {
        // Some are no names to grant at all, which is as good.
        let run = |run: Run| run.arguments(["--allow-connect", grant]);
        let refused = run(Run::of(guest("scripted")));
        if grant.starts_with(|first: char| first.is_ascii_digit()) {
            let ended = refused.ended();
            assert_eq!(ended.code, Some(2), "{grant}: {}", ended.log);
            continue;
        }
        let mut plugin = Scripted::start_with(run);
        for name in names.iter().chain(&[
            "localhost",
            "127.0.0.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
        ]) {
            let id = plugin.started(&format!("connect tcp://{name}:{port}"));
            let outcome = plugin.event(&format!("completed {id}"));
            assert!(
                outcome.starts_with("error denied")
                    || outcome.starts_with("error name-not-found")
                    || outcome.starts_with("error invalid"),
                "{name} with {grant}: {outcome}"
            );
        }
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn localhost_is_reached_by_its_name_when_that_is_granted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plugin = Scripted::start_with(|run| {
        run.arguments(["--allow-connect", &format!("localhost:{port}")])
    });
    let id = plugin.started(&format!("connect tcp://localhost:{port}"));
    assert_eq!(plugin.event(&format!("completed {id}")), "ok");
    // Another port is not covered.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let id = plugin.started(&format!("connect tcp://localhost:{port}"));
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error denied"), "{outcome}");
}

#[test]
fn a_cancelled_connection_is_given_up() {
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "127.0.0.1:*"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    plugin.run(&format!("connect tcp://{address}; cancel-last"));
    let id = plugin.event("started ");
    plugin.run("after 100 tell end");
    plugin.event("end");
    plugin.settle();
    assert!(!plugin.has_event("made"));
    assert!(!plugin.has_event(&format!("completed {id}")));
}

#[test]
fn an_attempt_that_hangs_is_given_up_with_its_session_or_when_it_is_cancelled() {
    // A listener whose queue is full answers no further attempt, until somebody accepts.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let listener: TcpListener = listener.into();
    let address = listener.local_addr().unwrap();
    let _waiting = Client::tcp(address);

    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "127.0.0.1:*"]));
    let (mut client, id) = plugin.connect();
    client.command(&format!("connect tcp://{address} tell wrong"));
    plugin.event("started");
    let cancelled = plugin.started(&format!("connect tcp://{address} tell wrong"));
    plugin.settle();
    client.kill();
    plugin.event(&format!("lost {id}"));
    plugin.run(&format!("cancel {cancelled}"));
    plugin.settle();
    listener.accept().unwrap();
    // The kernel would try again after one second, and after three.
    plugin.run("after 1500 tell end");
    plugin.event("end");
    plugin.settle();
    assert!(!plugin.has_event("wrong") && !plugin.has_event("made"));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn a_dialed_connection_outlives_the_session_that_asked_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "127.0.0.1:*"]));
    let (mut client, asking) = plugin.connect();
    client.command(&format!("connect tcp://{address} tell there"));
    let id = plugin.made();
    plugin.event("there");
    client.kill();
    plugin.event(&format!("lost {asking}"));
    plugin.ask(&format!("@{id} write still open"));
    Client::accepted(listener.accept().unwrap().0).expect("still open\n");
}

// Names.

#[test]
fn looking_up_is_denied_unless_a_grant_could_cover_it() {
    let mut plugin = Scripted::start();
    let id = plugin.started("resolve localhost");
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error denied"), "{outcome}");
    for (name, code) in [("", "invalid"), ("a b", "invalid"), ("a/b", "invalid")] {
        let id = plugin.started(&format!("resolve {name}"));
        let outcome = plugin.event(&format!("completed {id}"));
        assert!(
            outcome.starts_with(&format!("error {code}")),
            "{name}: {outcome}"
        );
    }
}

#[test]
fn addresses_of_a_name_are_taken_once() {
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "localhost:7"]));
    let id = plugin.started("resolve LocalHost");
    assert_eq!(plugin.event(&format!("completed {id}")), "ready");
    let addresses = plugin.ask(&format!("take {id}"));
    for address in addresses.split(' ') {
        assert!(
            ["[::ffff:127.0.0.1%0]:0", "[::1%0]:0"].contains(&address),
            "{addresses}"
        );
    }
    assert_eq!(plugin.ask(&format!("take {id}")), "");
    assert_eq!(plugin.ask("take 12345"), "");
    let id = plugin.started("resolve other.example");
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error denied"), "{outcome}");
}

// Addresses, clock, random numbers, log.

#[test]
fn addresses_are_mapped_into_ipv6_and_are_the_ones_that_the_peer_asked_for() {
    let mut plugin =
        Scripted::start_with(|run| run.listen("tcp://127.0.0.1:0").listen("tcp://[::]:0"));
    let port = plugin.host.address_of(1).port();
    for ip in ["127.0.0.1", "127.0.0.9", "[::1]"] {
        let asked = format!("{ip}:{port}").parse().unwrap();
        let client = Client::tcp(asked);
        let event = plugin.event("made ");
        let (id, origin) = event.split_once(' ').unwrap();
        assert_eq!(origin, format!("configured tcp://[::]:{port}"));
        assert_eq!(plugin.ask(&format!("@{id} local")), mapped(asked));
        assert_eq!(plugin.ask(&format!("@{id} peer")), mapped(client.local()));
    }
}

#[test]
fn a_unix_socket_has_a_path_and_an_unnamed_peer() {
    let path = scratch("addresses").join("x.sock");
    let mut plugin = Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen(&format!("unix://{}", path.display()))
    });
    let mut client = Client::unix(&path);
    let event = plugin.event("made ");
    let (id, origin) = event.split_once(' ').unwrap();
    assert_eq!(origin, format!("configured unix://{}", path.display()));
    assert_eq!(
        plugin.ask(&format!("@{id} local")),
        format!("path {}", path.display())
    );
    assert_eq!(plugin.ask(&format!("@{id} peer")), "unnamed");
    client.command("write over unix; close");
    client.expect("over unix\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

/// As the guest tells it.
fn mapped(address: SocketAddr) -> String {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    format!("[{ip}%0]:{}", address.port())
}

#[test]
fn the_clock_goes_on_and_the_wall_clock_is_right() {
    let mut plugin = Scripted::start();
    let mut now = || -> (u64, u64) {
        let answer = plugin.ask("now");
        let (monotonic, wall) = answer.split_once(' ').unwrap();
        (monotonic.parse().unwrap(), wall.parse().unwrap())
    };
    let first = now();
    let second = now();
    assert!(second.0 > first.0);
    // Since the host started, not since 1970 or since the machine did.
    assert!(first.0 < 60_000_000_000, "{}", first.0);
    let real = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let told = Duration::from_nanos(second.1);
    assert!(real.abs_diff(told) < Duration::from_secs(20), "{told:?}");
}

#[test]
fn random_numbers_differ_and_are_bounded() {
    let mut plugin = Scripted::start();
    assert_ne!(plugin.ask("random"), plugin.ask("random"));
    for (asked, given) in [
        (0, 0),
        (1, 1),
        (65_536, 65_536),
        (65_537, 65_536),
        (4_000_000_000_u32, 65_536),
    ] {
        assert_eq!(
            plugin.ask(&format!("random-length {asked}")),
            given.to_string()
        );
    }
}

#[test]
fn the_log_has_level_and_service_and_no_control_characters() {
    let mut plugin =
        Scripted::start_with(|run| run.arguments(["--log", "trace", "--name", "demo"]));
    for (level, shown) in [
        ("trace", "TRACE"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("warn", "WARN"),
        ("error", "ERROR"),
    ] {
        plugin.run(&format!("log {level} one\\ntwo\\e[31m {level}-line"));
        let line = plugin.host.logged(&[&format!("{level}-line")]);
        assert!(line.contains(shown), "{line}");
        assert!(line.contains("demo"), "{line}");
        assert!(line.contains("one\\ntwo\\u{1b}[31m"), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

#[test]
fn a_long_line_of_the_log_is_cut() {
    let mut plugin = Scripted::start();
    plugin.run("log-long 100000");
    let line = plugin.host.logged(&["xxxx"]);
    assert!((8_000..9_000).contains(&line.len()), "{} bytes", line.len());
}

#[test]
fn printed_pieces_are_joined_into_lines_of_the_log() {
    let mut plugin = Scripted::start();
    plugin.run("print one ;print two\\nthree ;print four\\n");
    plugin.host.logged(&["INFO", "onetwo"]);
    plugin.host.logged(&["INFO", "threefour"]);
}
