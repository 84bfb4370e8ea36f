//! Timers, and whose they are.

use std::time::{Duration, Instant};

use nethost_tests::scripted::Scripted;

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
fn an_operation_that_is_kept_outlives_its_session() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    client.command("after 300 tell it lived on; keep-last; after 300 tell wrong; tell ready");
    plugin.event("ready");
    client.kill();
    plugin.event(&format!("lost {id}"));
    plugin.event("it lived on");
    plugin.run("after 300 tell end");
    plugin.event("end");
    assert!(!plugin.has_event("wrong"));
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
