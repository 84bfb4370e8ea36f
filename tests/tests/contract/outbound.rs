//! Outbound connections and look-ups, and their grants.

use std::{net::TcpListener, os::unix::net::UnixListener};

use nethost_tests::{
    client::Client,
    full::full_listener,
    host::Run,
    places::{guest, scratch},
    scripted::Scripted,
};

use crate::mapped;

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
    let (listener, _waiting) = full_listener("127.0.0.1", 0);
    let address = listener.local_addr().unwrap();

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
