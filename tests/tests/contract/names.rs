//! Looking names up, and connecting to one of many addresses.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use nethost_tests::{
    full::full_listener,
    host::Run,
    names::{Answer, Names, addresses, lasting},
    places::guest,
    scripted::Scripted,
};

/// Starts a plugin with grants, separated by commas.
pub(crate) fn start(grants: &str) -> Scripted {
    Scripted::start_with(|run| granted(run, grants))
}

/// Starts a plugin with grants, separated by commas, and a name server.
pub(crate) fn plugin(names: &Names, grants: &str) -> Scripted {
    Scripted::start_with(|run| served(granted(run, grants), names))
}

pub(crate) fn port(listener: &TcpListener) -> u16 {
    let address = listener.local_addr();
    address.expect("a listener has an address").port()
}

fn granted(run: Run, grants: &str) -> Run {
    grants
        .split(',')
        .fold(run, |run, grant| run.arguments(["--allow-connect", grant]))
}

fn served(run: Run, names: &Names) -> Run {
    run.arguments(["--nameserver", &names.address().to_string()])
}

/// Listeners of both families of loopback with the same port: of IPv4, and of IPv6.
fn on_both() -> (TcpListener, TcpListener) {
    for _ in 0..100 {
        let v6 = TcpListener::bind("[::1]:0").expect("loopback has a free port");
        if let Ok(v4) = TcpListener::bind((Ipv4Addr::LOCALHOST, port(&v6))) {
            return (v4, v6);
        }
    }
    panic!("no port is free in both families");
}

/// A port on which nobody listens, on any address of loopback.
fn closed_port() -> u16 {
    port(&TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"))
}

fn outcome(plugin: &mut Scripted, command: &str) -> String {
    let id = plugin.started(command);
    plugin.event(&format!("completed {id}"))
}

// Look-ups.

#[test]
fn addresses_come_in_the_order_to_try_them() {
    let names = Names::start();
    names.set(
        "x.test",
        addresses("192.0.2.1 192.0.2.2 192.0.2.1 2001:db8::1 fd00::1 2001:db8::2"),
    );
    let mut plugin = plugin(&names, "x.test:*");
    let id = plugin.started("resolve X.Test.");
    assert_eq!(plugin.event(&format!("completed {id}")), "ready");
    assert_eq!(
        plugin.ask(&format!("take {id}")),
        "[2001:db8::1%0]:0 [::ffff:192.0.2.1%0]:0 [2001:db8::2%0]:0 [::ffff:192.0.2.2%0]:0 [fd00::1%0]:0"
    );
}

#[test]
fn an_answer_that_does_not_fit_into_a_datagram_is_fetched_over_tcp_and_limited() {
    let names = Names::start();
    let many: Vec<_> = (1..=200).map(|last| format!("192.0.2.{last}")).collect();
    names.set("x.test", addresses(&many.join(" ")));
    let mut plugin = plugin(&names, "x.test:*");
    let id = plugin.started("resolve x.test");
    assert_eq!(plugin.event(&format!("completed {id}")), "ready");
    let taken = plugin.ask(&format!("take {id}"));
    assert_eq!(taken.split(' ').count(), 64, "{taken}");
}

#[test]
fn an_answer_is_remembered_as_long_as_it_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    let names = Names::start();
    names.set("long.test", addresses("127.0.0.1"));
    names.set("short.test", lasting(0, "127.0.0.1"));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    for name in ["long.test", "short.test", "LONG.test.", "short.test"] {
        assert_eq!(
            outcome(&mut plugin, &format!("connect tcp://{name}:{port}")),
            "ok"
        );
        listener.accept().unwrap();
    }
    assert_eq!(names.asked("long.test"), 1);
    assert_eq!(names.asked("short.test"), 2);
}

#[test]
fn what_names_come_to_is_told_apart() {
    let names = Names::start();
    names.set("empty.test", addresses(""));
    names.set("broken.test", Answer::Code(2));
    let mut plugin = plugin(&names, "*:*");
    for (name, code) in [
        ("none.test", "name-not-found"),
        ("empty.test", "name-not-found"),
        ("broken.test", "io"),
    ] {
        for command in [format!("resolve {name}"), format!("connect tcp://{name}:7")] {
            let outcome = outcome(&mut plugin, &command);
            let expected = format!("error {code} ");
            assert!(outcome.starts_with(&expected), "{command}: {outcome}");
            assert!(outcome.contains(name), "{outcome}");
        }
    }
}

#[test]
fn a_name_server_that_is_silent_is_not_waited_for_longer_than_asked() {
    let names = Names::start();
    names.set("x.test", Answer::Silence);
    let mut plugin = plugin(&names, "x.test:*");
    let start = Instant::now();
    let outcome = outcome(&mut plugin, "connect tcp://x.test:7?timeout=300ms");
    assert_eq!(outcome, "error timeout no answer for x.test within 300ms");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn of_several_name_servers_one_that_answers_is_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1"));
    let mut plugin = Scripted::start_with(|run| {
        let run = granted(run, "127.0.0.0/8:*");
        let dead = format!("127.0.0.1:{}", closed_port());
        served(run.arguments(["--nameserver", &dead]), &names)
    });
    let endpoint = format!("tcp://x.test:{}", port(&listener));
    assert_eq!(outcome(&mut plugin, &format!("connect {endpoint}")), "ok");
}

#[test]
fn a_look_up_that_is_cancelled_completes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let names = Names::start();
    names.set("x.test", Answer::Held(Box::new(addresses("127.0.0.1"))));
    names.set("y.test", addresses("127.0.0.1"));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    let endpoint = format!("tcp://x.test:{}", port(&listener));
    let connecting = plugin.started(&format!("connect {endpoint} tell wrong"));
    let looking = plugin.started("resolve x.test");
    names.wait_until_asked("x.test");
    plugin.run(&format!("cancel {connecting}; cancel {looking}"));
    plugin.settle();
    names.release("x.test");
    // What comes after it has gone all the way.
    assert_eq!(outcome(&mut plugin, "resolve y.test"), "ready");
    plugin.settle();
    assert!(!plugin.has_event("wrong") && !plugin.has_event("made"));
    assert!(!plugin.has_event(&format!("completed {looking}")));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn look_ups_wait_for_their_turn() {
    let names = Names::start();
    let name = |index: usize| format!("n{index}.test");
    for index in 0..17 {
        names.set(&name(index), Answer::Held(Box::new(addresses("192.0.2.1"))));
    }
    let mut plugin = plugin(&names, "*:*");
    let ids: Vec<_> = (0..17)
        .map(|index| plugin.started(&format!("resolve {}", name(index))))
        .collect();
    for index in 0..16 {
        names.wait_until_asked(&name(index));
    }
    plugin.settle();
    assert_eq!(names.asked(&name(16)), 0);
    // One that is cancelled gives its place away.
    plugin.run(&format!("cancel {}", ids[3]));
    names.wait_until_asked(&name(16));
    names.release(&name(16));
    assert_eq!(plugin.event(&format!("completed {}", ids[16])), "ready");
}

#[test]
fn a_name_server_that_is_none_is_the_operators_mistake() {
    for server in [
        "",
        "x.test",
        "192.0.2.1:0",
        "192.0.2.1:99999",
        "0.0.0.0",
        "[::]:53",
        "127.1",
    ] {
        let ended = Run::of(guest("scripted"))
            .arguments([format!("--nameserver={server}")])
            .ended();
        assert_eq!(ended.code, Some(2), "{server}: {}", ended.log);
        assert!(ended.log.contains("--nameserver"), "{}", ended.log);
    }
    for server in ["192.0.2.1", "::1", "[::1]:5353"] {
        Run::of(guest("scripted"))
            .arguments(["--nameserver", server])
            .start();
    }
}

// One of many addresses.

#[test]
fn an_address_that_does_not_answer_keeps_nobody_waiting() {
    let (full, _waiting) = full_listener("127.0.0.2", 0);
    let port = port(&full);
    let listener = TcpListener::bind(("127.0.0.3", port)).unwrap();
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.2 127.0.0.3"));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    let start = Instant::now();
    assert_eq!(
        outcome(&mut plugin, &format!("connect tcp://x.test:{port}")),
        "ok"
    );
    let elapsed = start.elapsed();
    // RFC 8305, section 5: 250 ms.
    assert!(elapsed >= Duration::from_millis(245), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    listener.accept().unwrap();
}

#[test]
fn an_address_after_many_that_do_not_answer_has_its_turn() {
    let (full, waiting) = full_listener("127.0.0.21", 0);
    let port = port(&full);
    let mut silent = vec![(full, waiting)];
    silent.extend((22..=30).map(|last| full_listener(&format!("127.0.0.{last}"), port)));
    let listener = TcpListener::bind(("127.0.0.31", port)).unwrap();
    let all: Vec<_> = (21..=31).map(|last| format!("127.0.0.{last}")).collect();
    let names = Names::start();
    names.set("x.test", addresses(&all.join(" ")));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    let connect = format!("connect tcp://x.test:{port}");
    assert_eq!(outcome(&mut plugin, &connect), "ok");
    listener.accept().unwrap();
}

#[test]
fn an_address_that_refuses_makes_way_at_once() {
    let listener = TcpListener::bind("127.0.0.99:0").unwrap();
    let port = port(&listener);
    let names = Names::start();
    // At 250 ms each these would take 7.5 s.
    let refusing: Vec<_> = (11..=40).map(|last| format!("127.0.0.{last}")).collect();
    names.set(
        "x.test",
        addresses(&format!("::1 {} 127.0.0.99", refusing.join(" "))),
    );
    let mut plugin = plugin(&names, "127.0.0.0/8:*,[::1]:*");
    let start = Instant::now();
    assert_eq!(
        outcome(&mut plugin, &format!("connect tcp://x.test:{port}")),
        "ok"
    );
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    listener.accept().unwrap();
}

#[test]
fn ipv6_goes_first_and_ipv4_takes_its_place() {
    let (v4, v6) = on_both();
    let port = port(&v4);
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1 ::1"));
    let mut plugin = plugin(&names, "127.0.0.1:*,x.test:*,[::1/127]:*");
    let connect = format!("connect tcp://x.test:{port}");
    assert_eq!(outcome(&mut plugin, &connect), "ok");
    v6.accept().unwrap();
    v4.set_nonblocking(true).unwrap();
    assert!(v4.accept().is_err(), "both were tried");
    drop(v6);
    assert_eq!(outcome(&mut plugin, &connect), "ok");
    v4.accept().unwrap();
}

#[test]
fn ipv4_does_not_wait_for_an_answer_about_ipv6() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let names = Names::start();
    let answer = addresses("127.0.0.1");
    names.set("x.test", Answer::SilentForV6(Box::new(answer)));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    let start = Instant::now();
    let connect = format!("connect tcp://x.test:{}", port(&listener));
    assert_eq!(outcome(&mut plugin, &connect), "ok");
    // The server would be given up after 5 s.
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_answer_that_comes_late_is_tried() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let names = Names::start();
    let both = addresses("127.0.0.1 ::1");
    names.set("x.test", Answer::HeldForV6(Box::new(both)));
    let mut plugin = plugin(&names, "127.0.0.0/8:*,[::1/127]:*");
    let id = plugin.started(&format!("connect tcp://x.test:{}", port(&listener)));
    names.wait_until_asked("x.test");
    plugin.settle();
    names.release("x.test");
    assert_eq!(plugin.event(&format!("completed {id}")), "ok");
    listener.accept().unwrap();
}

#[test]
fn a_connection_that_fails_says_what_was_tried() {
    let names = Names::start();
    let many: Vec<_> = (11..=30).map(|last| format!("127.0.0.{last}")).collect();
    names.set("few.test", addresses("127.0.0.11 127.0.0.12 10.0.0.1"));
    names.set("many.test", addresses(&many.join(" ")));
    let mut plugin = plugin(&names, "127.0.0.0/8:*");
    let port = closed_port();
    let few = outcome(&mut plugin, &format!("connect tcp://few.test:{port}"));
    let start =
        format!("error refused no connection to tcp://few.test:{port}: 127.0.0.11:{port}: ");
    assert!(few.starts_with(&start), "{few}");
    assert!(few.contains(&format!("127.0.0.12:{port}: ")), "{few}");
    assert!(few.ends_with("; 1 not granted"), "{few}");
    let many = outcome(&mut plugin, &format!("connect tcp://many.test:{port}"));
    assert!(many.ends_with("; and 12 more"), "{many}");
    assert!(many.len() < 1000, "{many}");
}

// Options.

#[test]
fn the_timeout_of_an_endpoint_is_kept() {
    let (full, _waiting) = full_listener("127.0.0.1", 0);
    let address = full.local_addr().unwrap();
    let mut plugin = start("127.0.0.1:*");
    let start = Instant::now();
    let outcome = outcome(
        &mut plugin,
        &format!("connect tcp://{address}?timeout=300ms"),
    );
    let elapsed = start.elapsed();
    let expected = format!(
        "error timeout no connection to tcp://{address} within 300ms: {address}: no answer"
    );
    assert_eq!(outcome, expected);
    assert!(elapsed >= Duration::from_millis(295), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
}

#[test]
fn a_connection_comes_from_the_address_that_it_is_bound_to() {
    let (v4, v6) = on_both();
    let port = port(&v4);
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1 ::1"));
    let mut plugin = plugin(&names, "127.0.0.0/8:*,[::1/127]:*");
    for (endpoint, source) in [
        (
            format!("tcp://127.0.0.1:{port}?bind=127.0.0.5"),
            "127.0.0.5",
        ),
        (
            format!("tcp://127.0.0.1:{port}?bind=::ffff:127.0.0.6"),
            "127.0.0.6",
        ),
        // The other family is not tried.
        (format!("tcp://x.test:{port}?bind=127.0.0.7"), "127.0.0.7"),
        (format!("tcp://x.test:{port}?bind=0.0.0.0"), "127.0.0.1"),
    ] {
        assert_eq!(outcome(&mut plugin, &format!("connect {endpoint}")), "ok");
        let (_, peer) = v4.accept().unwrap();
        assert_eq!(peer.ip().to_string(), source, "{endpoint}");
    }
    v6.set_nonblocking(true).unwrap();
    assert!(v6.accept().is_err(), "the other family was tried");
}

#[test]
fn an_address_that_cannot_be_bound_to_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin = start("127.0.0.1:*");
    for (bind, part) in [
        ("::1", "bind=::1 is of the other family"),
        // Of no machine (RFC 5737).
        ("203.0.113.7", "bind=203.0.113.7: "),
    ] {
        let outcome = outcome(&mut plugin, &format!("connect tcp://{address}?bind={bind}"));
        assert!(outcome.starts_with("error invalid "), "{outcome}");
        assert!(outcome.contains(part), "{outcome}");
    }
    // What is not an address is no endpoint at all.
    let outcome = outcome(
        &mut plugin,
        &format!("connect tcp://{address}?bind=localhost"),
    );
    assert!(outcome.starts_with("error invalid "), "{outcome}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody connected");
}
