//! DNS: over real sockets, with other implementations' clients and servers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod differential;
mod forward;
mod peers;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use nethost_dns::{
    codec::{Message, QR, Query},
    types::{Class, Name, Rcode, RecordType},
};
use nethost_tests::{
    DEADLINE,
    host::{Host, Run},
    places::{self, plugin, root, scratch},
};

use peers::{ask, until_served};

/// A host that serves the zones of a folder on a free port of UDP and one of TCP.
fn serve(zones: &Path, settings: &[(&str, &str)]) -> Host {
    let mut run = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .listen("tcp://127.0.0.1:0")
        .arguments(["--workers", "1"])
        .arguments(["--dir", &format!("zones={}", zones.display())]);
    for (key, value) in settings {
        run = run.set(key, value);
    }
    run.start()
}

fn zones() -> PathBuf {
    root().join("tests/tests/dns/zones")
}

fn query(name: &str, rtype: RecordType) -> Message {
    let query = Query {
        name: Name::parse(name).unwrap(),
        rtype,
        class: Class::IN,
    };
    Message::query(4711, query, 0)
}

/// What a program says.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; run `cargo xtask test`"));
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn other_implementations_clients_understand_the_answers() {
    let host = serve(
        &zones(),
        &[("nsid", "first"), ("allow-transfer", "127.0.0.1")],
    );
    let (udp, tcp) = (host.address_of(0), host.address_of(1));
    until_served(udp, "example.com");
    until_served(udp, "sub.example.org");
    let (port, tcp_port) = (udp.port().to_string(), tcp.port().to_string());
    let dig = |arguments: &[&str]| {
        let server = ["@127.0.0.1", "-p", &port];
        output("dig", &[&server, arguments].concat())
    };
    let said = dig(&["www.example.com", "A", "+nsid", "+cookie=0102030405060708"]);
    for part in [
        "status: NOERROR",
        "flags: qr aa rd;",
        "192.0.2.3",
        "192.0.2.4",
        "NSID: 66 69 72 73 74 (\"first\")",
        "(good)",
        "udp: 1232",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("WARNING: Message"), "{said}");
    let said = dig(&["nowhere.test", "A"]);
    assert!(
        said.contains("REFUSED") && said.contains("EDE: 20"),
        "{said}"
    );
    let said = dig(&["example.com", "SOA", "+edns=1", "+noednsnegotiation"]);
    assert!(said.contains("BADVERS"), "{said}");
    let said = dig(&["example.com", "SOA", "+opcode=NOTIFY"]);
    assert!(said.contains("NOTIMP"), "{said}");

    let said = output(
        "kdig",
        &["@127.0.0.1", "-p", &port, "x.wild.example.com", "MX"],
    );
    assert!(
        said.contains("x.wild.example.com. \t3600\tIN\tMX\t5 mail.example.com."),
        "{said}"
    );
    let said = output(
        "kdig",
        &[
            "+tcp",
            "@127.0.0.1",
            "-p",
            &tcp_port,
            "big.example.com",
            "TXT",
        ],
    );
    assert!(said.contains("412345678901234567890"), "{said}");
    let said = output("drill", &["-p", &port, "foo.dn.example.com", "@127.0.0.1"]);
    assert!(
        said.contains("foo.target.example.com.\t3600\tIN\tA\t192.0.2.30"),
        "{said}"
    );
    let said = output(
        "dig",
        &[
            "@127.0.0.1",
            "-p",
            &tcp_port,
            "sub.example.org",
            "AXFR",
            "+noall",
            "+answer",
        ],
    );
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 9, "{said}");
    assert!(lines.first().unwrap().contains("SOA") && lines.last().unwrap().contains("SOA"));
}

#[test]
fn a_secondary_transfers_a_zone() {
    let host = serve(&zones(), &[("allow-transfer", "127.0.0.1")]);
    let tcp = host.address_of(1);
    until_served(host.address_of(0), "example.com");
    // The secondary asks for the SOA over UDP, at the same port: so it is one that has both.
    let both = peers::both_ports(&zones());
    let secondary = peers::Knot::secondary("example.com", both.address_of(0));
    until_served(secondary.address, "example.com");
    for (name, rtype) in [
        ("www.example.com", RecordType::A),
        ("big.example.com", RecordType::TXT),
        ("svc.example.com", RecordType::HTTPS),
        ("loc.example.com", RecordType::LOC),
        ("esc\\.aped.example.com", RecordType::A),
        ("unk.example.com", RecordType(65400)),
    ] {
        let mut question = query(name, rtype);
        question.set_edns(1232, 0, &[]);
        let (ours, theirs) = (
            ask(host.address_of(0), &question),
            ask(secondary.address, &question),
        );
        assert_eq!(
            differential::records(&ours.answers),
            differential::records(&theirs.answers)
        );
        assert!(!ours.answers.is_empty(), "{name}");
    }
    // Who is not allowed gets nothing.
    let closed = serve(&zones(), &[]);
    until_served(closed.address_of(0), "example.com");
    let refused = ask_over_tcp(
        closed.address_of(1),
        &[query("example.com", RecordType::AXFR)],
    );
    assert_eq!(refused[0].rcode(), Rcode::REFUSED);
    drop(TcpStream::connect(tcp).unwrap());
}

#[test]
fn a_connection_carries_many_questions_however_their_bytes_are_cut() {
    let host = serve(&zones(), &[]);
    until_served(host.address_of(0), "example.com");
    let questions: Vec<Message> = (0..50_u16)
        .map(|id| {
            let names = ["www.example.com", "nx.example.com", "big.example.com"];
            let mut question = query(names[usize::from(id % 3)], RecordType::TXT);
            question.id = id;
            question
        })
        .collect();
    let answers = ask_over_tcp(host.address_of(1), &questions);
    let ids: Vec<u16> = answers.iter().map(|answer| answer.id).collect();
    let expected: Vec<u16> = (0..50).collect();
    assert_eq!(ids, expected);
    let mut bytes = Vec::new();
    for question in &questions[..3] {
        let message = question.encode().unwrap();
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    for cut in 1..bytes.len() {
        let mut stream = TcpStream::connect(host.address_of(1)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&bytes[..cut]).unwrap();
        stream.write_all(&bytes[cut..]).unwrap();
        for id in 0..3 {
            assert_eq!(read_message(&mut stream).id, id, "cut at {cut}");
        }
    }
}

#[test]
fn changed_zones_are_taken_up_and_broken_ones_are_not() {
    let folder = scratch("dns-changes");
    let file = folder.join("example.net.zone");
    let zone = |address: &str| {
        format!("$TTL 60\n@ SOA ns root 1 60 60 60 60\n NS ns\nns A {address}\n$INCLUDE more\n")
    };
    fs::write(folder.join("more"), "more TXT included\n").unwrap();
    fs::write(&file, zone("192.0.2.1")).unwrap();
    let host = serve(&folder, &[]);
    let udp = host.address_of(0);
    until_served(udp, "example.net");
    let question = query("ns.example.net", RecordType::A);
    assert_eq!(ask(udp, &question).answers[0].data, [192, 0, 2, 1]);

    replace(&file, &zone("192.0.2.2"));
    host.logged_times(&["zone example.net.", "serial 1"], 2);
    assert_eq!(ask(udp, &question).answers[0].data, [192, 0, 2, 2]);

    replace(&file, &zone("192.0.2.300"));
    host.logged(&[
        "example.net.zone:4: A: `192.0.2.300` is not an IPv4 address",
        "served as it was before",
    ]);
    assert_eq!(ask(udp, &question).answers[0].data, [192, 0, 2, 2]);

    replace(&file, &zone("192.0.2.3"));
    host.logged_times(&["zone example.net.", "serial 1"], 3);
    replace(&folder.join("more"), "more TXT \"\n");
    host.logged(&["more:1: `\"` is not closed"]);
    assert_eq!(ask(udp, &question).answers[0].data, [192, 0, 2, 3]);

    fs::remove_file(&file).unwrap();
    host.logged(&["zone example.net.", "its file is gone"]);
    assert_eq!(ask(udp, &question).rcode(), Rcode::REFUSED);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn zones_are_enough_and_forwarding_needs_a_grant() {
    let host = serve(&zones(), &[]);
    until_served(host.address_of(0), "example.com");
    assert!(!host.log().contains("not granted"), "{}", host.log());
    let forwards = serve(&zones(), &[("forward", "127.0.0.1:1")]);
    forwards.logged(&["not granted: connect (to ask the servers that `forward` names)"]);
}

#[test]
fn malformed_packets_at_full_speed_cost_no_legitimate_question() {
    let host = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0?receive-buffer=4194304")
        .arguments(["--workers", "1"])
        .arguments(["--dir", &format!("zones={}", zones().display())])
        .start();
    let udp = host.address();
    until_served(udp, "example.com");
    let question = query("www.example.com", RecordType::A);
    let bytes = question.encode().unwrap();
    // It reads no answer.
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    flood.connect(udp).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut seed = 1_u64;
    let mut buffer = [0; 4096];
    let mut question = question;
    for id in 0..QUESTIONS_IN_FLOOD {
        // As many as the kernel keeps for a server that has no time just now: what it drops on a slow machine would say nothing about the server.
        for length in 0..BROKEN_PER_QUESTION {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let noise = seed.to_le_bytes().repeat(8);
            let broken = match length % 3 {
                0 => &bytes[..length % bytes.len()],
                _ => &noise[..length % 64],
            };
            // The kernel tells here that nobody listens where an answer went.
            let _sent = flood.send(broken);
        }
        question.id = id;
        client.send(&question.encode().unwrap()).unwrap();
        // None is asked twice.
        let length = client.recv(&mut buffer);
        let length = length.unwrap_or_else(|error| panic!("question {id} is lost: {error}"));
        let answer = Message::decode(&buffer[..length]).unwrap();
        assert_eq!((answer.id, answer.answers.len()), (id, 2));
    }
}

#[test]
fn answers_are_dropped_and_garbage_is_answered_as_bind_does() {
    let host = serve(&zones(), &[]);
    let udp = host.address_of(0);
    until_served(udp, "example.com");
    let good = query("www.example.com", RecordType::A).encode().unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    // None: nothing comes back.
    let cases: Vec<(&str, Vec<u8>, Option<Rcode>)> = vec![
        ("shorter than a header", good[..11].to_vec(), None),
        ("an answer", with(2, 0x80), None),
        ("no question", good[..12].to_vec(), Some(Rcode::FORMERR)),
        ("a cut question", good[..20].to_vec(), Some(Rcode::FORMERR)),
        ("two questions", with(5, 2), Some(Rcode::FORMERR)),
        (
            "a record that is not there",
            with(11, 1),
            Some(Rcode::FORMERR),
        ),
        (
            "bytes behind it",
            [&good[..], b"x"].concat(),
            Some(Rcode::FORMERR),
        ),
        (
            "a compressed question",
            with(12, 0xc0),
            Some(Rcode::FORMERR),
        ),
        ("UPDATE", with(2, 5 << 3), Some(Rcode::NOTIMP)),
        ("NOTIFY", with(2, 4 << 3), Some(Rcode::NOTIMP)),
        ("STATUS", with(2, 2 << 3), Some(Rcode::NOTIMP)),
        ("MAILA", with(good.len() - 3, 254), Some(Rcode::NOTIMP)),
    ];
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = [0; 4096];
    for (what, bytes, expected) in cases {
        client.send(&bytes).unwrap();
        // What is answered in order tells that nothing came before.
        let mut marker = query("ns1.example.com", RecordType::A);
        marker.id = 1;
        client.send(&marker.encode().unwrap()).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        let answer = &buffer[..length];
        let id = u16::from_be_bytes([answer[0], answer[1]]);
        match expected {
            None => assert_eq!(id, 1, "{what}"),
            Some(rcode) => {
                assert_eq!(id, 4711, "{what}");
                assert_eq!(u16::from(answer[3] & 15), rcode.0, "{what}");
                assert!(u16::from_be_bytes([answer[2], answer[3]]) & QR != 0);
                client.recv(&mut buffer).unwrap();
            }
        }
    }
}

#[test]
fn the_client_prints_what_dig_prints() {
    let both = peers::both_ports(&zones());
    let address = both.address_of(0);
    until_served(address, "example.com");
    let at = format!("@{address}");
    let run = |arguments: &[&str]| {
        let mut command = places::host();
        command.arg("exec").arg(plugin("dns")).arg("query");
        let output = command.args(arguments).arg(&at).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let port = address.port().to_string();
    let dig = output(
        "dig",
        &[
            "@127.0.0.1",
            "-p",
            &port,
            "bigmx.example.com",
            "MX",
            "+nocookie",
        ],
    );
    let (code, ours, error) = run(&["bigmx.example.com", "MX"]);
    assert_eq!(code, Some(0), "{error}");
    let interesting = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::to_owned);
        let mut lines: Vec<String> = lines
            .filter(|line| {
                !line.contains("id: ") && !line.contains("time:") && !line.contains("WHEN:")
            })
            .filter(|line| {
                !line.contains("<<>>")
                    && !line.contains("server found")
                    && !line.contains("global options")
            })
            .collect();
        lines.retain(|line| !line.is_empty());
        lines
    };
    assert_eq!(interesting(&ours), interesting(&dig));
    let (_, short, _) = run(&["bigmx.example.com", "MX", "+short", "+tcp"]);
    assert_eq!(
        short,
        "10 m1.example.com.\n20 m2.example.com.\n30 m3.example.com.\n"
    );
    let (_, json, _) = run(&["www.example.com", "+json", "+norecurse"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answerRRs"][0]["rdata"], "192.0.2.3");
    assert_eq!(
        (&json["RD"], &json["RCODEname"]),
        (&0.into(), &"NOERROR".into())
    );
    let (code, badvers, _) = run(&["www.example.com", "+edns=1"]);
    assert!(
        code == Some(0) && badvers.contains("status: BADVERS"),
        "{badvers}"
    );
    let (code, _, error) = run(&["www.example.com", "FOO"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("`FOO` is not a type"), "{error}");
}

/// Puts a file in the place of another in one step, as editors do.
fn replace(file: &Path, text: &str) {
    let other = file.with_extension("new");
    fs::write(&other, text).unwrap();
    fs::rename(other, file).unwrap();
}

fn ask_over_tcp(server: SocketAddr, questions: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for question in questions {
        let message = question.encode().unwrap();
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &message].concat()).unwrap();
    }
    questions
        .iter()
        .map(|_| read_message(&mut stream))
        .collect()
}

fn read_message(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Message::decode(&message).unwrap()
}

/// Questions, one after the other, each behind a burst of garbage: the server has something to do all the time.
const QUESTIONS_IN_FLOOD: u16 = 5000;

/// Broken packets before each question.
const BROKEN_PER_QUESTION: usize = 200;
