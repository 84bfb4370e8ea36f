//! The policies, sessions that are busy, probation, and the kinds of isolation.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use nethost::{
    limits::Limits,
    manifest::Isolation,
    service::{Policy, SwapOptions},
};
use nethost_tests::{
    client::{Client, End},
    places::{guest, plugin},
    service::Running,
};

use super::{ECHO, echo, next, says};

fn with(policy: Policy, deadline: Duration) -> SwapOptions {
    SwapOptions { policy, deadline }
}

const ALL: [Isolation; 3] = [Isolation::Service, Isolation::Worker, Isolation::Connection];

#[test]
fn with_drain_old_connections_finish_on_the_old_version() {
    for isolation in ALL {
        let running = Running::start(&plugin("echo"), ECHO, isolation, 2);
        let mut clients: Vec<Client> = (0..6).map(|_| running.connect()).collect();
        for client in &mut clients {
            says(client, "abc", "abc");
        }
        let options = with(Policy::Drain, Duration::from_secs(60));
        let swapped = running
            .swap_as(&guest("echo-next"), &next(""), options)
            .unwrap();
        assert_eq!((swapped.sessions, swapped.left_behind), (0, 6));
        assert_eq!((&*swapped.from, &*swapped.to), ("0.1.0", "0.2.0"));
        for client in &mut clients {
            says(client, "small", "small");
        }
        for _ in 0..6 {
            says(&mut running.connect(), "new", "NEW");
        }
        for mut client in clients {
            client.close_write();
            client.end();
        }
    }
}

#[test]
fn with_drain_the_deadline_closes_what_is_left() {
    for isolation in ALL {
        let running = Running::start(&plugin("echo"), ECHO, isolation, 1);
        let mut client = running.connect();
        says(&mut client, "abc", "abc");
        let options = with(Policy::Drain, Duration::from_millis(100));
        running
            .swap_as(&guest("echo-next"), &next(""), options)
            .unwrap();
        let (rest, end) = client.rest();
        assert_eq!((rest, end), (Vec::new(), End::Closed));
        says(&mut running.connect(), "new", "NEW");
    }
}

#[test]
fn with_close_they_are_closed_and_no_format_is_needed() {
    for isolation in ALL {
        let running = Running::start(&guest("echo-next"), &next(""), isolation, 2);
        let mut client = running.connect();
        says(&mut client, "abc", "ABC");
        let options = with(Policy::Close, Duration::from_secs(60));
        let swapped = running.swap_as(&plugin("echo"), ECHO, options).unwrap();
        assert_eq!((swapped.refused, swapped.left_behind), (1, 0));
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
        says(&mut running.connect(), "new", "new");
    }
}

#[test]
fn a_listener_for_datagrams_goes_to_the_new_version_with_every_policy() {
    let listen = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
    for policy in [Policy::Migrate, Policy::Drain, Policy::Close] {
        let running = Running::start_on(&listen, &plugin("echo"), ECHO, Isolation::Worker, 2);
        let mut client = running.connect();
        says(&mut client, "abc", "abc");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(nethost_tests::DEADLINE))
            .unwrap();
        peer.connect(running.address_of(1)).unwrap();
        let ask = |sent: &[u8]| {
            let mut answer = [0; 100];
            peer.send(sent).unwrap();
            let count = peer.recv(&mut answer).unwrap();
            answer[..count].to_vec()
        };
        assert_eq!(ask(b"hello"), b"hello");
        let options = with(policy, Duration::from_secs(60));
        running
            .swap_as(&guest("echo-next"), &next(""), options)
            .unwrap();
        assert_eq!(ask(b"hello"), b"HELLO", "{policy:?}");
    }
}

#[test]
fn the_swap_waits_for_one_that_is_busy() {
    let running = Running::start(&guest("echo-next"), &next(""), Isolation::Service, 1);
    let mut client = running.connect();
    says(&mut client, "hold", "HOLD");
    std::thread::scope(|scope| {
        let swap = scope.spawn(|| running.swap(&plugin("echo"), ECHO));
        // It goes on as it was until it is free.
        for _ in 0..5 {
            says(&mut client, "abc", "ABC");
        }
        says(&mut client, "free", "FREE");
        assert_eq!(swap.join().unwrap().unwrap().sessions, 1);
    });
    says(&mut client, "abc", "abc");
}

#[test]
fn independent_sessions_follow_when_they_are_free_and_are_closed_at_the_deadline() {
    let running = Running::start(&guest("echo-apart"), &next(""), Isolation::Worker, 1);
    let (mut ann, mut bob, mut eve) = (running.connect(), running.connect(), running.connect());
    says(&mut ann, "abc", "ABC");
    says(&mut bob, "hold", "HOLD");
    says(&mut eve, "hold", "HOLD");
    let options = with(Policy::Migrate, Duration::from_secs(3));
    let swapped = running.swap_as(&plugin("echo"), ECHO, options).unwrap();
    assert_eq!((swapped.sessions, swapped.left_behind), (1, 2));
    says(&mut ann, "abc", "abc");
    says(&mut bob, "abc", "ABC");
    says(&mut eve, "abc", "ABC");
    says(&mut bob, "free", "FREE");
    // Asked every 20 ms, it has moved at some time.
    let mut moved = false;
    while !moved {
        bob.send("x");
        moved = bob.bytes(1) == b"x";
    }
    says(&mut ann, "abc", "abc");
    assert_eq!(eve.rest(), (Vec::new(), End::Closed));
    says(&mut bob, "abc", "abc");
}

#[test]
fn a_version_that_breaks_on_probation_gives_way_to_the_one_before() {
    let running = echo();
    let mut clients: Vec<Client> = (0..5).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "abc");
    }
    running.swap(&guest("echo-next"), &next("")).unwrap();
    for client in &mut clients {
        client.expect("restored 3 from echo/1\n");
    }
    // The first has an event, the second breaks it, the others have none.
    says(&mut clients[0], "def", "DEF");
    let mut late = running.connect();
    says(&mut late, "new", "NEW");
    clients[1].send("boom");
    assert_eq!(clients[1].rest().0, b"");
    assert_eq!(clients[0].rest().0, b"");
    assert_eq!(late.rest().0, b"");
    for client in &mut clients[2..] {
        says(client, "still", "still");
    }
    let mut eve = running.connect();
    says(&mut eve, "new", "new");
    assert_eq!(running.connections(), 3 + 1);
    running.scrape().has(&[(
        r#"nethost_instance_swaps_undone_total{service="test"}"#,
        1.0,
    )]);
    // What it had counted is as it was at the swap.
    running.swap(&guest("echo-next"), &next("")).unwrap();
    clients[2].expect("restored 8 from echo/1\n");
}

#[test]
fn what_breaks_on_one_worker_gives_way_on_all() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Worker, 2);
    let mut clients: Vec<Client> = (0..30).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "abc");
    }
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    assert_eq!(swapped.sessions, 30);
    for client in &mut clients {
        client.expect("restored 3 from echo/1\n");
    }
    clients[0].send("boom");
    assert_eq!(clients.remove(0).rest().0, b"");
    // On its worker they are back already, and on the other one they move back.
    for client in &mut clients {
        let deadline = Instant::now() + nethost_tests::DEADLINE;
        let mut back = false;
        while !back {
            assert!(Instant::now() < deadline, "it did not come back");
            running.connections();
            client.send("x");
            back = client.bytes(1) == b"x";
        }
        says(client, "abc", "abc");
    }
    assert_eq!(running.connections(), 29);
    says(&mut running.connect(), "new", "new");
}

#[test]
fn after_its_probation_a_version_that_breaks_is_made_anew() {
    let limits = Limits {
        probation: Duration::from_millis(1),
        ..Limits::default()
    };
    let running = Running::limited_as(limits, &plugin("echo"), ECHO, Isolation::Service, 1);
    let mut client = running.connect();
    says(&mut client, "abc", "abc");
    running.swap(&guest("echo-next"), &next("")).unwrap();
    client.expect("restored 3 from echo/1\n");
    // The kernel's and the runtime's clock: some round trips are more than a millisecond; the timer's tick is one.
    for _ in 0..200 {
        says(&mut client, "abc", "ABC");
    }
    client.send("boom");
    assert_eq!(client.rest().0, b"");
    says(&mut running.connect(), "new", "NEW");
}

#[test]
fn every_instance_of_a_connection_moves() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Connection, 2);
    let mut clients: Vec<Client> = (0..50).map(|_| running.connect()).collect();
    for round in 0..3 {
        for client in &mut clients {
            says(client, "abc", "abc");
        }
        let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
        assert_eq!(swapped.sessions, 50);
        for client in &mut clients {
            client.expect(format!("restored {} from echo/1\n", 3 + 6 * round));
            says(client, "abc", "ABC");
        }
        let swapped = running.swap(&plugin("echo"), ECHO).unwrap();
        assert_eq!(swapped.sessions, 50);
    }
}
