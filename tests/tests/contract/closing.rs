//! How a connection ends, and what is told of it.

use nethost_tests::{
    client::End,
    scripted::{Scripted, pattern},
};

use crate::mapped;

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
