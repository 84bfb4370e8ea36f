//! UDP through the sandbox: batches, addresses, grants, groups, and the life of sockets.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use nethost::{limits::Limits, manifest::Isolation};
use nethost_tests::{
    DEADLINE,
    host::{Host, Run},
    places::{guest, plugin},
    scripted::Scripted,
    service::Running,
};
use socket2::SockRef;

/// A peer.
struct Peer(UdpSocket);

impl Peer {
    /// On a free port of the loopback address of that family.
    fn like(address: SocketAddr) -> Self {
        Self::on(if address.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        })
    }

    fn on(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        SockRef::from(&socket)
            .set_recv_buffer_size(4_000_000)
            .unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn send(&self, to: SocketAddr, payload: impl AsRef<[u8]>) {
        self.0.send_to(payload.as_ref(), to).unwrap();
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 70_000];
        let (length, from) = self.0.recv_from(&mut buffer).expect("a datagram in time");
        buffer.truncate(length);
        (buffer, from)
    }

    /// Waits for this from there.
    fn expect(&self, from: SocketAddr, payload: impl AsRef<[u8]>) {
        let (got, sender) = self.receive();
        assert!(
            got == payload.as_ref(),
            "{} bytes in place of {}",
            got.len(),
            payload.as_ref().len()
        );
        assert_eq!(sender, from);
    }

    fn echoes(&self, server: SocketAddr, payload: impl AsRef<[u8]>) {
        self.send(server, payload.as_ref());
        self.expect(server, payload);
    }

    /// Asserts that nothing is there.
    fn has_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        let error = self.0.recv_from(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).unwrap();
    }
}

fn echo(url: &str) -> (Host, SocketAddr) {
    let host = Run::of(plugin("echo")).listen(url).start();
    let address = host.address();
    (host, address)
}

/// The scripted guest with a control connection and one UDP listener, and that one's id and address.
fn scripted(url: &str, arguments: &[&str]) -> (Scripted, u64, SocketAddr) {
    let plugin = Scripted::start_with(|run| {
        let run = run.listen("tcp://127.0.0.1:0").listen(url);
        run.arguments(arguments)
    });
    let address = plugin.host.address_of(1);
    // The control connection has the id after the socket's.
    let (mut plugin, id) = (plugin, 1);
    assert!(
        plugin
            .ask(&format!("udp-local {id}"))
            .ends_with(&format!(":{}", address.port()))
    );
    (plugin, id, address)
}

fn on_loopback(address: SocketAddr, last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], address.port()))
}

// Batches.

#[test]
fn datagrams_of_every_size_come_back_whole_and_in_order() {
    let (_host, server) = echo("udp://127.0.0.1:0?receive-buffer=4000000");
    let peer = Peer::like(server);
    let sizes = [0, 1, 2, 63, 1472, 1473, 2048, 9000, 65_507, 0, 5];
    let payload = |size: usize, mark: usize| -> Vec<u8> {
        (0..size).map(|at| ((at + mark) % 251) as u8).collect()
    };
    for size in sizes {
        peer.echoes(server, payload(size, 0));
    }
    for (mark, size) in sizes.into_iter().enumerate() {
        peer.send(server, payload(size, mark));
    }
    for (mark, size) in sizes.into_iter().enumerate() {
        peer.expect(server, payload(size, mark));
    }
}

#[test]
fn a_thousand_at_once_come_back_in_order() {
    for url in ["udp://127.0.0.1:0", "udp://[::]:0"] {
        let (_host, server) = echo(&format!("{url}?receive-buffer=4000000"));
        let server = on_loopback(server, 1);
        let peers = [Peer::like(server), Peer::like(server)];
        for number in 0..1000_u32 {
            // In a row and in turn, of one length and of several.
            let payload = vec![b'x'; if number < 500 { 100 } else { number as usize }];
            let peer = &peers[usize::from(number % 7 == 0)];
            peer.send(server, [&number.to_be_bytes()[..], &payload].concat());
        }
        let mut last = [None; 2];
        for number in 0..1000_u32 {
            let which = usize::from(number % 7 == 0);
            let (got, from) = peers[which].receive();
            let got = u32::from_be_bytes(got[..4].try_into().unwrap());
            assert_eq!(from, server);
            assert!(last[which] < Some(got));
            last[which] = Some(got);
        }
        assert_eq!(last, [Some(999), Some(994)]);
    }
}

#[test]
fn a_batch_of_the_plugins_own_goes_out_whole() {
    let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &[]);
    let peer = Peer::like(server);
    peer.echoes(server, "first");
    plugin.run(&format!("udp-send {id} {} hello 1000", peer.address()));
    for _ in 0..1000 {
        peer.expect(server, "hello");
    }
    plugin.settle();
    peer.has_nothing();
}

#[test]
fn a_batch_that_is_none_ends_the_instance() {
    for (command, complaint) in [
        (
            "udp-send-short",
            "packets of 5 bytes together, and payloads of 4",
        ),
        ("udp-send", "a batch of 1025 packets"),
    ] {
        let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &[]);
        let peer = Peer::like(server);
        plugin.run(&format!("{command} {id} {} hello 1025", peer.address()));
        plugin.control.rest();
        plugin.host.logged(&[complaint, "this instance ends"]);
        peer.has_nothing();
        // And the next one serves.
        peer.echoes(server, "again");
    }
}

#[test]
fn what_is_longer_than_the_limit_is_cut_and_the_plugin_knows() {
    let limits = Limits {
        datagram: 100,
        ..Limits::default()
    };
    let listen = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
    let running = Running::limited_on(limits, &listen, &guest("scripted"));
    let server = running.address_of(1);
    let mut plugin = Scripted::on(running);
    plugin.run("udp-mode 1 traced");
    plugin.settle();
    let peer = Peer::like(server);
    for (sent, event) in [(99, "whole 99"), (100, "whole 100"), (101, "cut 100")] {
        let from = mapped(peer.address());
        peer.send(server, vec![b'a'; sent]);
        let told = plugin.event(&format!("datagram 1 {from} ::ffff:127.0.0.1"));
        assert!(told.starts_with(event), "{sent} bytes: {told}");
    }
}

fn mapped(address: SocketAddr) -> String {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    format!("[{ip}%0]:{}", address.port())
}

// Addresses.

#[test]
fn on_a_wildcard_listener_the_answer_comes_from_the_address_that_was_asked() {
    for url in ["udp://0.0.0.0:0", "udp://[::]:0"] {
        let (_host, server) = echo(url);
        let peer = Peer::on("127.0.0.1:0");
        for last in [1, 2, 77] {
            peer.echoes(on_loopback(server, last), [last]);
        }
        // In one batch, too.
        for last in 1..=60 {
            peer.send(on_loopback(server, last), [last]);
        }
        for last in 1..=60 {
            peer.expect(on_loopback(server, last), [last]);
        }
    }
}

#[test]
fn one_socket_serves_both_families() {
    let (_host, server) = echo("udp://[::]:0");
    Peer::on("127.0.0.1:0").echoes(on_loopback(server, 1), "four");
    let six = SocketAddr::new("::1".parse().unwrap(), server.port());
    Peer::on("[::1]:0").echoes(six, "six");
}

#[test]
fn only_ipv6_is_served_on_an_ipv6_address() {
    let (_host, server) = echo("udp://[::1]:0");
    Peer::on("[::1]:0").echoes(server, "six");
    // The port is free for the other family.
    UdpSocket::bind((Ipv4Addr::LOCALHOST, server.port())).unwrap();
}

#[test]
fn an_address_in_use_is_an_error() {
    for workers in ["1", "2"] {
        let first = Run::of(plugin("echo"))
            .listen("udp://127.0.0.1:0")
            .arguments(["--workers", workers])
            .start();
        let url = format!("udp://{}", first.address());
        for workers in ["1", "2"] {
            let ended = Run::of(plugin("echo"))
                .listen(&url)
                .arguments(["--workers", workers])
                .ended();
            assert_eq!((ended.code, &*ended.output), (Some(1), ""), "{}", ended.log);
            assert!(ended.log.contains(&url) && ended.log.contains("in use"));
        }
        Peer::like(first.address()).echoes(first.address(), "undisturbed");
    }
}

#[test]
fn every_worker_has_a_socket_on_the_port() {
    let host = Run::of(plugin("echo"))
        .listen("udp://127.0.0.1:0")
        .arguments(["--workers", "3"])
        .start();
    let server = host.address();
    let sockets = fs::read_to_string(format!("/proc/{}/net/udp", host.pid())).unwrap();
    let local = format!(" 0100007F:{:04X} ", server.port());
    assert_eq!(sockets.matches(&local).count(), 3, "{sockets}");
    // The kernel spreads them; each is answered, whoever got it.
    let peers: Vec<_> = (0..64_u8).map(|_| Peer::like(server)).collect();
    for _ in 0..3 {
        for (number, peer) in peers.iter().enumerate() {
            peer.send(server, number.to_be_bytes());
        }
        for (number, peer) in peers.iter().enumerate() {
            peer.expect(server, number.to_be_bytes());
        }
    }
}

#[test]
fn a_plugin_without_datagrams_does_not_start_on_udp() {
    let ended = Run::of(plugin("irc")).listen("udp://127.0.0.1:0").ended();
    assert_eq!((ended.code, &*ended.output), (Some(2), ""), "{}", ended.log);
    for part in ["udp://127.0.0.1:0", "datagram-handler"] {
        assert!(ended.log.contains(part), "{part}: {}", ended.log);
    }
}

// Grants.

#[test]
fn a_listening_socket_sends_to_nobody_who_did_not_ask() {
    let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &[]);
    let (peer, third) = (Peer::like(server), Peer::like(server));
    peer.echoes(server, "hello");
    for _ in 0..3 {
        plugin.run(&format!("udp-send {id} {} spam", third.address()));
    }
    let port = third.address().port();
    let other = SocketAddr::from(([127, 0, 0, 2], peer.address().port()));
    plugin.run(&format!("udp-send {id} {other} spam"));
    plugin.run(&format!("udp-send {id} {} unasked", peer.address()));
    peer.expect(server, "unasked");
    plugin.settle();
    third.has_nothing();
    let warned = plugin
        .host
        .logged(&["WARN", "did not ask", &format!("127.0.0.1:{port}")]);
    assert!(warned.contains("--allow-connect"), "{warned}");
    assert_eq!(plugin.host.log().matches("did not ask").count(), 1);
    // Once it has asked, it is answered, also later.
    third.echoes(server, "now");
    plugin.run(&format!("udp-send {id} {} later", third.address()));
    third.expect(server, "later");
}

#[test]
fn a_grant_lets_a_listening_socket_send_first() {
    let third = Peer::on("127.0.0.1:0");
    let grant = third.address().to_string();
    let (mut plugin, id, server) = scripted("udp://0.0.0.0:0", &["--allow-connect", &grant]);
    plugin.run(&format!("udp-send {id} {grant} first"));
    third.expect(on_loopback(server, 1), "first");
}

// Dialed sockets.

#[test]
fn a_dialed_socket_has_one_peer() {
    for ip in ["127.0.0.1", "[::1]"] {
        let (peer, third) = (Peer::on(&format!("{ip}:0")), Peer::on(&format!("{ip}:0")));
        let grant = peer.address().to_string();
        let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", &grant]));
        let operation = plugin.started(&format!("connect udp://{grant}"));
        let bound = plugin.event("bound ");
        let (id, origin) = bound.split_once(' ').unwrap();
        assert_eq!(origin, format!("dialed {operation}"));
        assert_eq!(plugin.event(&format!("completed {operation}")), "ok");
        // The record's peer means nothing here.
        plugin.run(&format!("udp-send {id} {} hello", third.address()));
        let (got, from) = peer.receive();
        assert_eq!(got, b"hello");
        assert_eq!(plugin.ask(&format!("udp-local {id}")), mapped(from));
        plugin.run(&format!("udp-mode {id} traced"));
        plugin.settle();
        third.send(from, "spoofed");
        peer.send(from, "answer");
        let told = plugin.event(&format!("datagram {id}"));
        assert_eq!(
            told,
            format!(
                "{} {} whole 6 answer",
                mapped(peer.address()),
                mapped(from).split(['[', '%']).nth(1).unwrap()
            )
        );
        plugin.run(&format!("udp-close {id}"));
        assert_eq!(plugin.event(&format!("closed {id}")), "closed-here");
        plugin.event(&format!("unbound {id}"));
        assert!(!plugin.has_event("datagram"));
    }
}

#[test]
fn dialing_is_denied_unless_granted() {
    let peer = Peer::on("127.0.0.1:0");
    let port = peer.address().port();
    let grant = format!("127.0.0.1:{}", port ^ 1);
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", &grant]));
    for endpoint in [
        format!("udp://127.0.0.1:{port}"),
        format!("udp://localhost:{port}"),
        format!("udp://[::ffff:127.0.0.1]:{port}"),
    ] {
        let id = plugin.started(&format!("connect {endpoint}"));
        let outcome = plugin.event(&format!("completed {id}"));
        assert!(outcome.starts_with("error denied"), "{endpoint}: {outcome}");
    }
    let id = plugin.started("connect udp://127.0.0.1:9?nodelay=on");
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error invalid"), "{outcome}");
    assert!(!plugin.has_event("bound"));
}

#[test]
fn a_dialed_socket_outlives_a_peer_that_is_not_there() {
    let gone = Peer::on("127.0.0.1:0");
    let address = gone.address();
    let grant = address.to_string();
    drop(gone);
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", &grant]));
    let operation = plugin.started(&format!("connect udp://{address}"));
    let bound = plugin.event("bound ");
    let id = bound.split(' ').next().unwrap();
    assert_eq!(plugin.event(&format!("completed {operation}")), "ok");
    for _ in 0..3 {
        plugin.run(&format!("udp-send {id} {address} lost"));
        plugin.settle();
    }
    let back = Peer::on(&grant);
    plugin.run(&format!("udp-send {id} {address} found"));
    assert_eq!(back.receive().0, b"found");
    assert!(!plugin.has_event("closed"));
}

// Groups.

#[test]
fn a_group_is_joined_and_left_under_a_grant() {
    for url in ["udp://0.0.0.0:0", "udp://[::]:0"] {
        let arguments = ["--allow-connect", "239.255.77.0/24:*"];
        let (mut plugin, id, server) = scripted(url, &arguments);
        let group = SocketAddr::from(([239, 255, 77, 1], server.port()));
        let peer = Peer::on("127.0.0.1:0");
        SockRef::from(&peer.0)
            .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
            .unwrap();
        peer.send(group, "before");
        let join = format!("udp-join {id} 239.255.77.1 {LOOPBACK}");
        assert_eq!(plugin.ask(&join), "ok");
        assert_eq!(plugin.ask(&join), "ok", "again");
        // The answer comes from an address of this host, not from the group's.
        peer.send(group, "to the group");
        peer.expect(on_loopback(server, 1), "to the group");
        plugin.run(&format!("udp-mode {id} traced"));
        plugin.settle();
        peer.send(group, "traced");
        let told = plugin.event(&format!("datagram {id}"));
        let expected = format!(
            "{} ::ffff:239.255.77.1 whole 6 traced",
            mapped(peer.address())
        );
        assert_eq!(told, expected);
        let leave = format!("udp-leave {id} 239.255.77.1 {LOOPBACK}");
        assert_eq!(plugin.ask(&leave), "ok");
        assert_eq!(plugin.ask(&leave), "ok", "again");
        peer.send(group, "after");
        peer.send(on_loopback(server, 1), "directly");
        let told = plugin.event(&format!("datagram {id}"));
        assert!(told.ends_with(" directly"), "{told}");
    }
}

#[test]
fn a_group_is_refused_without_a_grant() {
    let (mut plugin, id, _) = scripted("udp://0.0.0.0:0", &["--allow-connect", "*:*"]);
    for (command, answer) in [
        ("join", "239.255.77.1", "error denied"),
        ("leave", "239.255.77.1", "error denied"),
        ("join", "192.0.2.1", "error invalid"),
    ]
    .map(|(word, group, answer)| (format!("udp-{word} {id} {group} {LOOPBACK}"), answer))
    {
        let got = plugin.ask(&command);
        assert!(got.starts_with(answer), "{command}: {got}");
    }
    let (mut plugin, id, _) = scripted(
        "udp://0.0.0.0:0",
        &[
            "--allow-connect",
            "[ff00::/8]:*",
            "--allow-connect",
            "224.0.0.0/4:*",
        ],
    );
    for (command, answer) in [
        (
            format!("udp-join {id} [ff02::1234] {LOOPBACK}"),
            "error unsupported",
        ),
        (
            format!("udp-join {id} 239.255.77.1 9999"),
            "error not-found",
        ),
    ] {
        let got = plugin.ask(&command);
        assert!(got.starts_with(answer), "{command}: {got}");
    }
}

#[test]
fn what_is_sent_to_a_group_goes_out_on_the_interface_that_is_named() {
    for url in ["udp://0.0.0.0:0", "udp://[::]:0"] {
        let member = Peer::on("0.0.0.0:0");
        SockRef::from(&member.0)
            .join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 2), &Ipv4Addr::LOCALHOST)
            .unwrap();
        let group = format!("239.255.77.2:{}", member.address().port());
        let (mut plugin, id, server) = scripted(url, &["--allow-connect", &group]);
        // The loopback interface brings it back in any case.
        plugin.run(&format!(
            "udp-ttl {id} 3; udp-loop {id} off; udp-send-group {id} {group} hello {LOOPBACK}"
        ));
        let (got, from) = member.receive();
        assert_eq!((&*got, from.port()), (&b"hello"[..], server.port()));
    }
    // Without a grant nothing leaves.
    let member = Peer::on("0.0.0.0:0");
    SockRef::from(&member.0)
        .join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 3), &Ipv4Addr::LOCALHOST)
        .unwrap();
    let group = format!("239.255.77.3:{}", member.address().port());
    let (mut plugin, id, _) = scripted("udp://0.0.0.0:0", &["--allow-connect", "*:*"]);
    plugin.run(&format!("udp-send-group {id} {group} hello {LOOPBACK}"));
    plugin.settle();
    member.has_nothing();
    plugin.host.logged(&["did not ask"]);
}

/// The index of the loopback interface: the first that Linux makes.
const LOOPBACK: u32 = 1;

// The life of a socket.

#[test]
fn a_trap_in_a_datagram_callback_ends_the_instance_and_the_next_one_serves() {
    let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &[]);
    let peer = Peer::like(server);
    peer.echoes(server, "well");
    plugin.run(&format!("udp-mode {id} trap"));
    plugin.settle();
    peer.send(server, "break");
    plugin
        .host
        .logged(&["datagrams-received", "this instance ends"]);
    plugin.control.rest();
    // The next packet finds a fresh instance, without anybody's connection.
    peer.echoes(server, "well again");
    let mut plugin = Scripted::on(plugin.host);
    plugin.settle();
    peer.echoes(server, "still");
}

#[test]
fn closing_a_listening_socket_ends_that_listener_and_nothing_else() {
    for command in ["udp-close", "udp-drop"] {
        let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &[]);
        let peer = Peer::like(server);
        peer.echoes(server, "open");
        // What was sent before goes out.
        let to = peer.address();
        plugin.run(&format!("udp-send {id} {to} bye; {command} {id}"));
        peer.expect(server, "bye");
        assert_eq!(plugin.event(&format!("closed {id}")), "closed-here");
        plugin.event(&format!("unbound {id}"));
        let again = UdpSocket::bind(server);
        assert!(again.is_ok(), "{again:?}");
        plugin.settle();
    }
}

#[test]
fn a_drain_serves_datagrams_until_the_last_connection_is_gone() {
    let (mut plugin, id, server) = scripted("udp://127.0.0.1:0", &["--drain-timeout", "60s"]);
    let peer = Peer::like(server);
    plugin.host.terminate();
    plugin.event("draining");
    peer.echoes(server, "still here");
    plugin.control.close_write();
    plugin
        .host
        .logged(&["INFO", &format!("closed {id} draining")]);
    let ended = plugin.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn datagrams_alone_do_not_hold_up_a_drain() {
    for workers in ["1", "2"] {
        let host = Run::of(plugin("echo"))
            .listen("udp://127.0.0.1:0")
            .arguments(["--workers", workers, "--drain-timeout", "10m"])
            .start();
        Peer::like(host.address()).echoes(host.address(), "hello");
        host.terminate();
        assert_eq!(host.ended().code, Some(0));
    }
}

#[test]
fn a_swap_gives_the_sockets_to_the_next_version() {
    let listen = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
    let running = Running::start_on(&listen, &plugin("echo"), ECHO, Isolation::Worker, 2);
    let server = running.address_of(1);
    let peers: Vec<_> = (0..16).map(|_| Peer::like(server)).collect();
    let all = |sent: &str, answer: &str| {
        for peer in &peers {
            peer.send(server, sent);
            peer.expect(server, answer);
        }
    };
    all("lower", "lower");
    for failure in ["configure", "restore", "trap-in-restore"] {
        let failed = running.swap(&guest("echo-next"), &next(failure));
        assert!(failed.is_err(), "{failure}");
        all("still", "still");
    }
    running.swap(&guest("echo-next"), &next("")).unwrap();
    all("upper", "UPPER");
    let mut client = running.connect();
    client.send("tcp");
    client.expect("TCP");
    running.swap(&plugin("echo"), ECHO).unwrap();
    all("lower again", "lower again");
}

fn next(fails_in: &str) -> String {
    format!(r#"{{"greeting": "", "fails-in": "{fails_in}"}}"#)
}

const ECHO: &str = r#"{"greeting": ""}"#;
