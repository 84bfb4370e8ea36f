//! The PROXY protocol, in both directions.

use super::*;

// The PROXY protocol, from proxies.

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        rest,
    ]
    .concat()
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n";

fn v2_of_tcp() -> Vec<u8> {
    v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 0, 25])
}

const TOLD_PEER: &str = "[::ffff:192.0.2.1%0]:56324";
const TOLD_LOCAL: &str = "[::ffff:192.0.2.2%0]:25";

/// A scripted host whose second listener is this one.
fn behind_proxy(url: &str) -> Scripted {
    Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen(url)
            .arguments(["--log", "debug"])
    })
}

fn second_listener(host: &Host) -> Client {
    let urls = host.listening();
    let url = urls.get(1).unwrap();
    match url.strip_prefix("unix://") {
        Some(path) => Client::unix(path),
        None => Client::tcp(host.address_of(1)),
    }
}

#[test]
fn a_header_tells_the_addresses_and_what_follows_it_is_the_stream() {
    let path = scratch("proxy").join("x.sock");
    let unix = format!("unix://{}", path.display());
    for url in ["tcp://127.0.0.1:0", &unix] {
        for (version, headers) in [
            ("v1", vec![V1.to_vec()]),
            ("v2", vec![v2_of_tcp()]),
            ("auto", vec![V1.to_vec(), v2_of_tcp()]),
        ] {
            let mut plugin = behind_proxy(&format!("{url}?proxy={version}"));
            for header in headers {
                let mut client = second_listener(&plugin.host);
                client.send([&header[..], b"write first\nwrite second\n"].concat());
                client.expect("first\nsecond\n");
                let id = plugin.made();
                assert_eq!(plugin.ask(&format!("@{id} peer")), TOLD_PEER);
                assert_eq!(plugin.ask(&format!("@{id} local")), TOLD_LOCAL);
            }
        }
    }
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let mut plugin = behind_proxy("tcp://127.0.0.1:0?proxy=auto");
    let unix = v2(0x21, 0x31, &[&b"/run/x"[..], &[0; 210]].concat());
    for header in [V1, &v2_of_tcp(), b"PROXY UNKNOWN\r\n"] {
        for at in 1..header.len() {
            let (start, rest) = header.split_at(at);
            let mut client = second_listener(&plugin.host);
            client.send(start);
            client.wait_until_read();
            assert!(!plugin.has_event("made"));
            client.send([rest, b"write done\n"].concat());
            client.expect("done\n");
            plugin.made();
        }
    }
    // And byte by byte.
    for header in [V1, &v2_of_tcp(), &unix] {
        let mut client = second_listener(&plugin.host);
        for byte in [header, b"write done\n"].concat() {
            client.send([byte]);
        }
        client.expect("done\n");
        plugin.made();
    }
}

#[test]
fn a_header_that_tells_nothing_leaves_the_addresses_as_they_are() {
    let mut plugin = behind_proxy("tcp://127.0.0.1:0?proxy=auto");
    let address = plugin.host.address_of(1);
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, &[9; 12]),
        v2(0x21, 0x00, b""),
    ] {
        let mut client = second_listener(&plugin.host);
        client.send(header);
        let id = plugin.made();
        assert_eq!(plugin.ask(&format!("@{id} peer")), mapped(client.local()));
        assert_eq!(plugin.ask(&format!("@{id} local")), mapped(address));
    }
    let paths = [&b"/run/client"[..], &[0; 97], b"\0server", &[0; 101]].concat();
    let mut client = second_listener(&plugin.host);
    client.send(v2(0x21, 0x31, &paths));
    let id = plugin.made();
    assert_eq!(plugin.ask(&format!("@{id} peer")), "path /run/client");
    assert_eq!(plugin.ask(&format!("@{id} local")), "path @server");
}

#[test]
fn what_has_no_good_header_is_reset_and_the_plugin_never_sees_it() {
    let mut plugin = behind_proxy("tcp://127.0.0.1:0?proxy=v1");
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let mut refused = 0;
    for (data, reason) in [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "no PROXY header of version 1",
        ),
        (v2_of_tcp(), "no PROXY header of version 1"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n".to_vec(),
            "a port is not a plain number",
        ),
        (
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            "an address is not one of IPv6",
        ),
        (endless.into_bytes(), "the line has no end within 107 bytes"),
    ] {
        let mut client = second_listener(&plugin.host);
        client.send(&data);
        client.reset();
        plugin.host.logged(&["a stream was refused", reason]);
        refused += 1;
    }
    let mut client = second_listener(&plugin.host);
    client.send("PROXY TCP4 192");
    client.close_write();
    client.reset();
    plugin
        .host
        .logged(&["it ended before its PROXY header did"]);
    refused += 1;
    plugin.settle();
    assert!(!plugin.has_event("made"));
    // One warning for all of them.
    let log = plugin.host.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("a stream was refused"));
    let warnings = lines.clone().filter(|line| line.contains("WARN"));
    assert_eq!((lines.count(), warnings.count()), (refused, 1), "{log}");
    // A good one is served as before.
    let mut client = second_listener(&plugin.host);
    client.send([V1, b"write served\n"].concat());
    client.expect("served\n");
}

#[test]
fn only_those_that_are_trusted_may_send_a_header() {
    for (from, trusted) in [
        ("", true),
        ("&proxy-from=127.0.0.0/8", true),
        ("&proxy-from=192.0.2.0/24,127.0.0.1", true),
        ("&proxy-from=192.0.2.0/24", false),
        ("&proxy-from=::1", false),
    ] {
        let mut plugin = behind_proxy(&format!("tcp://127.0.0.1:0?proxy=auto{from}"));
        if trusted {
            let mut client = second_listener(&plugin.host);
            client.send([V1, b"write served\n"].concat());
            client.expect("served\n");
        } else {
            // The reset may come before connecting has returned.
            match TcpStream::connect(plugin.host.address_of(1)) {
                Ok(stream) => Client::accepted(stream).reset(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
            plugin
                .host
                .logged(&["WARN", "a stream was refused", "proxy-from"]);
            plugin.settle();
            assert!(!plugin.has_event("made"));
        }
    }
}

#[test]
fn a_header_that_is_late_or_never_comes_is_not_waited_for() {
    let limits = Limits {
        handshake_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let urls = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0?proxy=auto"];
    let running = Running::limited_on(limits, &urls, &guest("scripted"));
    let mut plugin = Scripted::on(running);
    let address = plugin.host.address_of(1);
    for start in [&b""[..], b"P", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f"] {
        let began = Instant::now();
        let mut client = Client::tcp(address);
        client.send(start);
        client.reset();
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
    plugin.settle();
    assert!(!plugin.has_event("made"));
    // A connection is not affected by it.
    let mut client = Client::tcp(address);
    client.send(V1);
    plugin.made();
    plugin.run("after 400 tell later");
    plugin.event("later");
    client.command("write still there");
    client.expect("still there\n");
}

#[test]
fn a_stream_counts_as_a_connection_before_its_header_has_come() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let urls = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0?proxy=auto"];
    let running = Running::limited_on(limits, &urls, &guest("scripted"));
    let mut plugin = Scripted::on(running);
    let address = plugin.host.address_of(1);
    let mut waiting: Vec<_> = (0..2).map(|_| Client::tcp(address)).collect();
    for client in &mut waiting {
        client.send("PROXY ");
        client.wait_until_read();
    }
    // The third of them, and a plain one.
    let (data, _) = Client::tcp(address).rest();
    assert_eq!(data, b"");
    let (data, _) = plugin.host.connect().rest();
    assert_eq!(data, b"");
    let mut second = waiting.pop().unwrap();
    second.send("UNKNOWN\r\n");
    plugin.made();
    drop(waiting);
    plugin.settle();
    let (mut third, _) = plugin.connect();
    third.command("write served");
    third.expect("served\n");
}

#[test]
fn a_drain_does_not_wait_for_a_header_that_does_not_come() {
    let mut plugin = Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen("tcp://127.0.0.1:0?proxy=auto")
            .arguments(["--drain-timeout", "19s", "--log", "debug"])
    });
    plugin.run("on-draining @1 close");
    plugin.settle();
    let mut waiting = second_listener(&plugin.host);
    waiting.send("PROXY ");
    waiting.wait_until_read();
    plugin.host.terminate();
    waiting.reset();
    plugin.event("draining");
    plugin.control.rest();
    let ended = plugin.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.log.contains("the service is draining"),
        "{}",
        ended.log
    );
    assert!(
        !ended.log.contains("closed at the deadline"),
        "{}",
        ended.log
    );
}

// The PROXY protocol, to servers.

#[test]
fn a_dial_in_the_callback_of_an_accepted_connection_tells_its_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let path = scratch("proxy-out").join("x.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let mut plugin = Scripted::start_with(|run| {
        run.arguments(["--allow-connect", "127.0.0.1:*"])
            .arguments(["--allow-connect", &format!("unix:{}", path.display())])
    });
    let (mut client, _) = plugin.connect();
    let (from, to) = (client.local(), plugin.host.address());
    let v1 = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
        from.port(),
        to.port()
    );
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let v2 = v2(
        0x21,
        0x11,
        &[&[127, 0, 0, 1, 127, 0, 0, 1], &ports[..]].concat(),
    );
    for (version, header) in [("v1", v1.as_bytes()), ("v2", &v2)] {
        // At once, and in the completion of what began there.
        for start in ["", "after 0 "] {
            client.command(&format!(
                "next write hello; {start}connect tcp://{address}?proxy={version}"
            ));
            let mut server = Client::accepted(listener.accept().unwrap().0);
            server.expect(header);
            server.expect("hello\n");
            client.command(&format!(
                "next write hello; connect unix://{}?proxy={version}",
                path.display()
            ));
            let mut server = Client::connected(unix.accept().unwrap().0);
            server.expect(header);
            server.expect("hello\n");
        }
    }
    // Without the option nothing is sent.
    client.command(&format!("next write hello; connect tcp://{address}"));
    Client::accepted(listener.accept().unwrap().0).expect("hello\n");
}

#[test]
fn a_dial_on_nobodys_behalf_tells_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "127.0.0.1:*"]));
    for (version, header) in [
        ("v1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("v2", v2(0x20, 0, b"")),
    ] {
        // What a lost connection starts is the instance's.
        plugin.events();
        let (client, id) = plugin.connect();
        plugin.run(&format!(
            "@{id} on-lost connect tcp://{address}?proxy={version}"
        ));
        plugin.settle();
        client.kill();
        let mut server = Client::accepted(listener.accept().unwrap().0);
        server.expect(&header);
        // So is what a dialed connection starts: nobody came there.
        server.command(&format!("connect tcp://{address}?proxy={version}"));
        let mut server = Client::accepted(listener.accept().unwrap().0);
        server.expect(&header);
    }
}

#[test]
fn from_proxy_to_proxy_the_client_stays_who_it_is() {
    let mut last = behind_proxy("tcp://127.0.0.1:0?proxy=v2");
    let server = last.host.address_of(1);
    let first = Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen("tcp://127.0.0.1:0?proxy=v1")
            .arguments(["--allow-connect", "127.0.0.1:*"])
    });
    let mut client = second_listener(&first.host);
    client.send(V1);
    client.command(&format!("connect tcp://{server}?proxy=v2"));
    let id = last.made();
    assert_eq!(last.ask(&format!("@{id} peer")), TOLD_PEER);
    assert_eq!(last.ask(&format!("@{id} local")), TOLD_LOCAL);
}
