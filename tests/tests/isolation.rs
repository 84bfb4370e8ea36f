//! Isolation `connection`: an instance for each connection, and nothing between them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{fs, time::Instant};

use nethost::limits::Limits;
use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Host, Run},
    places::{guest, plugin, scratch},
    service::Running,
};
use rustix::process::Signal;

fn echoes(client: &mut Client) {
    client.send("x");
    client.expect("x");
}

#[test]
fn a_trap_ends_one_connection_and_no_other() {
    let host = Run::of(guest("traps"))
        .arguments(["--workers", "2", "--isolation", "connection"])
        .start();
    let mut clients: Vec<Client> = (0..40).map(|_| host.connect()).collect();
    for client in &mut clients {
        echoes(client);
    }
    // More than what would make a service of one instance back off.
    for mut bad in clients.split_off(20) {
        bad.send("!");
        bad.rest();
    }
    host.logged_times(&["data-received trapped", "connections=1"], 20);
    for client in &mut clients {
        echoes(client);
    }
    echoes(&mut host.connect());
}

#[test]
fn a_trap_at_the_first_call_ends_only_its_connection_too() {
    let host = Run::of(guest("traps"))
        .set("in", "connection-made")
        .arguments(["--isolation", "connection"])
        .start();
    for _ in 0..10 {
        host.connect().rest();
    }
    host.logged_times(&["connection-made trapped"], 10);
}

#[test]
fn one_connection_more_than_there_are_places_is_closed() {
    let limits = Limits {
        connections: 5,
        ..Limits::default()
    };
    let service = Running::limited_each(limits, &guest("scripted"));
    let mut clients: Vec<Client> = (0..5).map(|_| service.connect()).collect();
    for client in &mut clients {
        client.command("write here");
        client.expect("here\n");
    }
    service.connect().rest();
    assert_eq!(service.connections(), 5);
    // Places come back, and so does what the pool has for them: it has five, and one for each worker.
    for _ in 0..30 {
        drop(clients.pop());
        let mut client = loop {
            let mut client = service.connect();
            if client.try_send("write here\n").is_ok() && client.rest_until(5) {
                break client;
            }
        };
        client.command("write there");
        client.expect("there\n");
        clients.push(client);
    }
}

#[test]
fn datagrams_have_an_instance_of_their_own() {
    let host = Run::of(plugin("echo"))
        .listen("tcp://127.0.0.1:0")
        .listen("udp://127.0.0.1:0")
        .arguments(["--isolation", "connection", "--workers", "2"])
        .start();
    let mut client = host.connect();
    echoes(&mut client);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = host
        .listening()
        .get(1)
        .unwrap()
        .strip_prefix("udp://")
        .unwrap()
        .to_owned();
    for _ in 0..3 {
        udp.send_to(b"datagram", &address).unwrap();
        let mut buffer = [0; 100];
        let (count, _) = udp.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer.get(..count), Some(b"datagram".as_slice()));
        echoes(&mut client);
    }
}

#[test]
fn a_service_has_a_successor_and_another_beside_it() {
    let file = scratch("isolation-successor").join("nethost.toml");
    let plugin = plugin("echo");
    let write = |greeting: &str| {
        let service = |name: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
                 isolation = \"connection\"\nconfig.greeting = \"{greeting}\"\n",
                plugin.display()
            )
        };
        fs::write(&file, service("one") + &service("other")).unwrap();
    };
    write("hello");
    let host = Host::serve(&file, ["--log", "info"], 2);
    let greeting = |index| Client::tcp(host.address_of(index)).line();
    assert_eq!(
        (greeting(0), greeting(1)),
        ("hello".to_owned(), "hello".to_owned())
    );
    for next in ["welcome", "good morning", "hello again"] {
        write(next);
        host.signal(Signal::HUP);
        for index in [0, 1] {
            let deadline = Instant::now() + DEADLINE;
            while greeting(index) != next {
                assert!(Instant::now() < deadline, "{}", host.log());
            }
        }
    }
}

#[test]
fn how_many_there_may_be_is_said_at_the_start() {
    let host = Run::of(plugin("echo"))
        .arguments(["--isolation", "connection"])
        .start();
    let line = host.logged(&["at most", "connections, with an instance each"]);
    assert!(line.contains("vm.max_map_count"), "{line}");
    let mut client = host.connect();
    echoes(&mut client);
    host.signal(Signal::TERM);
    client.close_write();
    client.end();
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn what_instances_took_goes_back() {
    let host = Run::of(plugin("echo"))
        .arguments(["--isolation", "connection"])
        .start();
    let round = || {
        let mut clients: Vec<Client> = (0..500).map(|_| host.connect()).collect();
        for client in &mut clients {
            echoes(client);
        }
    };
    round();
    let before = host.peak_memory();
    for _ in 0..5 {
        round();
    }
    let grown = host.peak_memory().saturating_sub(before);
    // Each has 64 KiB and more: 2,500 that stay would be 160 MiB.
    assert!(grown < 40 << 20, "{grown} bytes");
}
