//! The forwarding cache, with a server behind it that the test plays.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use nethost_dns::{
    codec::{Message, OptionCode, QR, RA, RD, Record, TC},
    types::{Class, Name, Rcode, RecordType},
};
use nethost_tests::{
    DEADLINE,
    host::{Host, Run},
    metrics::Endpoint,
    places::{guest, plugin, scratch},
};

use crate::{
    peers::{ask, free_address},
    query,
};

/// A server that answers what it is asked; what it was asked is kept.
struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(SocketAddr, Message)>>>,
    silent: Arc<AtomicBool>,
}

impl Upstream {
    fn start() -> Self {
        let address = free_address();
        let udp = UdpSocket::bind(address).unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let silent = Arc::new(AtomicBool::new(false));
        let (heard, quiet) = (Arc::clone(&asked), Arc::clone(&silent));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer) {
                let question = Message::decode(&buffer[..length]).unwrap();
                heard.lock().unwrap().push((client, question.clone()));
                if quiet.load(Ordering::SeqCst) {
                    continue;
                }
                // Before the answer come some that are none: another number, another case, another question.
                let good = answer(&question);
                let mut wrong = vec![good.clone(), good.clone(), good.clone()];
                wrong[0].id ^= 1;
                let name = question.questions[0].name;
                let flipped: Vec<Vec<u8>> = name
                    .labels()
                    .map(|label| {
                        label
                            .iter()
                            .map(|byte| {
                                if byte.is_ascii_alphabetic() {
                                    byte ^ 0x20
                                } else {
                                    *byte
                                }
                            })
                            .collect()
                    })
                    .collect();
                let flipped = flipped.iter().map(Vec::as_slice);
                wrong[1].questions[0].name = Name::join(flipped, &Name::ROOT).unwrap();
                wrong[2].questions[0].rtype = RecordType::TXT;
                for mut message in wrong {
                    for record in &mut message.answers {
                        record.data = vec![203, 0, 113, 66];
                    }
                    udp.send_to(&message.encode().unwrap(), client).unwrap();
                }
                udp.send_to(&good.encode().unwrap(), client).unwrap();
            }
        });
        thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                let mut message = answer(&Message::decode(&bytes).unwrap());
                message.flags &= !TC;
                add(&mut message, [192, 0, 2, 99]);
                let bytes = message.encode().unwrap();
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &bytes].concat()).unwrap();
            }
        });
        Self {
            address,
            asked,
            silent,
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn add(message: &mut Message, data: [u8; 4]) {
    let name = message.questions[0].name.to_string().to_lowercase();
    let ttl = if name.starts_with("short") {
        1
    } else if name.starts_with("wanes") {
        5
    } else {
        300
    };
    message.answers.push(Record {
        owner: message.questions[0].name,
        rtype: RecordType::A,
        class: Class::IN,
        ttl,
        data: data.to_vec(),
    });
}

/// `nx...` does not exist, `cut...` is for TCP, `plain...` for who asks without EDNS, everything else has an address.
fn answer(question: &Message) -> Message {
    let mut message = Message::query(question.id, question.questions[0], QR | RA | RD);
    let name = message.questions[0].name.to_string().to_lowercase();
    if name.starts_with("plain") && question.opt().is_some() {
        message.flags |= Rcode::FORMERR.0;
    } else if name.starts_with("nx") {
        message.flags |= Rcode::NXDOMAIN.0;
        let mut data = vec![0, 0];
        data.extend(
            [1_u32, 2, 3, 4, 60]
                .iter()
                .flat_map(|number| number.to_be_bytes()),
        );
        message.authority.push(Record {
            owner: Name::ROOT,
            rtype: RecordType::SOA,
            class: Class::IN,
            ttl: 3600,
            data,
        });
    } else if name.starts_with("cut") {
        message.flags |= TC;
    } else {
        add(&mut message, [192, 0, 2, 1]);
    }
    message
}

fn forwarding(upstream: &Upstream, settings: &[(&str, &str)]) -> Host {
    let mut run = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .arguments(["--workers", "1"])
        .arguments(["--allow-connect", &upstream.address.to_string()])
        .set("forward", &upstream.address.to_string());
    for (key, value) in settings {
        run = run.set(key, value);
    }
    run.start()
}

fn desired(name: &str, rtype: RecordType) -> Message {
    let mut question = query(name, rtype);
    question.flags = RD;
    question.set_edns(1232, 0, &[]);
    question
}

#[test]
fn questions_are_passed_on_once_and_only_right_answers_count() {
    let upstream = Upstream::start();
    let host = forwarding(&upstream, &[]);
    let server = host.address();
    for round in 0..3 {
        let answer = ask(server, &desired("wWw.Example.net", RecordType::A));
        assert_eq!(answer.answers[0].data, [192, 0, 2, 1], "{round}");
        assert_eq!(
            answer.questions[0].name.as_wire(),
            b"\x03wWw\x07Example\x03net\0"
        );
        assert!(answer.flags & RA != 0);
        assert_eq!(upstream.asked(), 1);
    }
    for _ in 0..2 {
        let answer = ask(server, &desired("nx.example.net", RecordType::A));
        assert_eq!(
            (answer.rcode(), answer.authority.len()),
            (Rcode::NXDOMAIN, 1)
        );
        assert_eq!(upstream.asked(), 2);
    }
    // What is cut is asked for over TCP.
    let answer = ask(server, &desired("cut.example.net", RecordType::A));
    assert_eq!(answer.answers[0].data, [192, 0, 2, 99]);
    for number in 0..20 {
        ask(
            server,
            &desired(
                &format!("n{number}.a-rather-long-name.example.net"),
                RecordType::A,
            ),
        );
    }
    let asked = upstream.asked.lock().unwrap().clone();
    let distinct = |values: Vec<String>| {
        values
            .into_iter()
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    let ports = distinct(
        asked
            .iter()
            .map(|(client, _)| client.port().to_string())
            .collect(),
    );
    let ids = distinct(
        asked
            .iter()
            .map(|(_, message)| message.id.to_string())
            .collect(),
    );
    let cases = asked
        .iter()
        .map(|(_, message)| message.questions[0].name.to_string());
    assert!(ports > 15 && ids > 20, "{ports} {ids}");
    assert!(distinct(cases.map(|name| name.chars().skip(4).collect()).collect()) > 15);
    // Without RD nobody else is asked.
    let refused = ask(server, &query("other.example.net", RecordType::A));
    assert_eq!(refused.rcode(), Rcode::REFUSED);
}

#[test]
fn what_holds_no_more_is_better_than_nothing() {
    let upstream = Upstream::start();
    let host = forwarding(&upstream, &[]);
    let question = desired("short.example.net", RecordType::A);
    assert_eq!(ask(host.address(), &question).answers[0].ttl, 1);
    upstream.silent.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask(host.address(), &question);
        assert_eq!(answer.answers[0].data, [192, 0, 2, 1]);
        let errors: Vec<_> = answer
            .options()
            .filter(|(code, _)| *code == OptionCode::EXTENDED_ERROR)
            .map(|(_, value)| value.to_vec())
            .collect();
        if errors == [[0, 3]] {
            assert_eq!(answer.answers[0].ttl, 30);
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
}

#[test]
fn others_are_refused_and_hosts_are_known() {
    let upstream = Upstream::start();
    let folder = scratch("dns-hosts");
    std::fs::write(folder.join("hosts"), "192.0.2.77 printer.lan printer\n").unwrap();
    let directory = format!("zones={}", folder.display());
    let host = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .arguments(["--workers", "1", "--dir", &directory])
        .set("hosts", "hosts")
        .start();
    host.logged(&["hosts: 2 names of hosts"]);
    let answer = ask(host.address(), &desired("printer.lan", RecordType::A));
    assert_eq!(answer.answers[0].data, [192, 0, 2, 77]);
    let unknown = ask(host.address(), &desired("else.lan", RecordType::A));
    assert_eq!(unknown.rcode(), Rcode::REFUSED);
    let closed = forwarding(&upstream, &[("allow-forwarding", "192.0.2.0/24")]);
    let refused = ask(closed.address(), &desired("www.example.net", RecordType::A));
    assert_eq!((refused.rcode(), upstream.asked()), (Rcode::REFUSED, 0));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_domain_has_servers_of_its_own() {
    let (everything, corp, lab) = (Upstream::start(), Upstream::start(), Upstream::start());
    let host = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .arguments(["--workers", "1"])
        .arguments(["--allow-connect", "127.0.0.1:*"])
        .set("forward", &everything.address.to_string())
        .set("forward", &format!("corp.example={}", corp.address))
        .set("forward", &format!("lab.corp.example={}", lab.address))
        .start();
    let mut expected = [0; 3];
    for (name, server) in [
        ("www.example", 0),
        ("corp.example", 1),
        ("a.b.CORP.example", 1),
        ("notcorp.example", 0),
        ("x.lab.corp.example", 2),
        ("lab.corp.example", 2),
        ("nx.corp.example", 1),
    ] {
        ask(host.address(), &desired(name, RecordType::A));
        expected[server] += 1;
        let asked = [&everything, &corp, &lab].map(Upstream::asked);
        assert_eq!(asked, expected, "{name}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_passed_over_and_one_without_edns_is_asked_without() {
    let (silent, other) = (Upstream::start(), Upstream::start());
    silent.silent.store(true, Ordering::SeqCst);
    let host = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .arguments(["--workers", "1"])
        .arguments(["--allow-connect", "127.0.0.1:*"])
        .set("forward", &silent.address.to_string())
        .set("forward", &other.address.to_string())
        .start();
    let answer = ask(host.address(), &desired("plain.example", RecordType::A));
    assert_eq!(answer.answers[0].data, [192, 0, 2, 1]);
    let asked = other.asked.lock().unwrap().clone();
    let edns: Vec<bool> = asked
        .iter()
        .map(|(_, message)| message.opt().is_some())
        .collect();
    assert_eq!(edns, [true, false]);
}

#[test]
fn what_is_about_to_end_is_asked_for_before_it_does() {
    let upstream = Upstream::start();
    let host = forwarding(&upstream, &[]);
    let question = desired("wanes.example.net", RecordType::A);
    ask(host.address(), &question);
    // From now on an answer can be from the cache only.
    upstream.silent.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + DEADLINE;
    while upstream.asked() < 2 {
        let answer = ask(host.address(), &question);
        assert_eq!(answer.answers[0].data, [192, 0, 2, 1]);
        // What holds no more would say so.
        let mut errors = answer.options();
        assert!(!errors.any(|(code, _)| code == OptionCode::EXTENDED_ERROR));
        assert!(Instant::now() < deadline, "nobody asked");
    }
}

#[test]
fn questions_are_logged_and_counted_by_type_and_code() {
    let upstream = Upstream::start();
    let zones = crate::zones();
    let directory = format!("zones={}", zones.display());
    let host = Run::of(plugin("dns"))
        .listen("udp://127.0.0.1:0")
        .listen("tcp://127.0.0.1:0")
        .arguments(["--workers", "1", "--dir", &directory])
        .arguments(["--metrics", "tcp://127.0.0.1:0"])
        .arguments(["--allow-connect", &upstream.address.to_string()])
        .set("forward", &upstream.address.to_string())
        .set("query-log", "true")
        .start();
    let server = host.address_of(0);
    crate::until_served(server, "example.com");
    for (name, rtype, rcode) in [
        ("www.example.com", RecordType::AAAA, Rcode::NOERROR),
        ("nothere.example.com", RecordType::AAAA, Rcode::NXDOMAIN),
        ("nothere.example.com", RecordType::MX, Rcode::NXDOMAIN),
        ("nx.example.net", RecordType::MX, Rcode::NXDOMAIN),
        ("www.example.com", RecordType(65400), Rcode::NOERROR),
    ] {
        assert_eq!(ask(server, &desired(name, rtype)).rcode(), rcode);
    }
    crate::ask_over_tcp(
        host.address_of(1),
        &[query("www.example.com", RecordType::CAA)],
    );
    host.logged(&["query www.example.com. IN AAAA from 127.0.0.1 over UDP"]);
    host.logged(&["query nx.example.net. IN MX from 127.0.0.1 over UDP"]);
    host.logged(&["query www.example.com. IN CAA from 127.0.0.1 over TCP"]);
    let endpoint = Endpoint::of(&host);
    let count = |rtype: &str, rcode: &str| {
        format!(r#"dns_queries_total{{service="dns",type="{rtype}",rcode="{rcode}"}}"#)
    };
    for (rtype, rcode, value) in [
        ("AAAA", "NOERROR", 1.0),
        ("AAAA", "NXDOMAIN", 1.0),
        ("MX", "NXDOMAIN", 2.0),
        ("CAA", "NOERROR", 1.0),
        ("other", "NOERROR", 1.0),
    ] {
        endpoint.await_value(&count(rtype, rcode), value);
    }
    let scrape = endpoint.await_value(r#"dns_zones{service="dns"}"#, 2.0);
    scrape.is_clean();
    drop(host);
}

#[test]
fn another_plugin_learns_where_mail_goes() {
    let folder = scratch("dns-mail");
    let zone = "$TTL 60\n@ SOA ns root 1 60 60 60 60\n NS ns\nns A 192.0.2.1\n AAAA 2001:db8::1\n\
                two MX 20 b\ntwo MX 10 a\na A 192.0.2.2\nb A 192.0.2.3\n A 192.0.2.4\nnull MX 0 .\nalias CNAME two\n";
    std::fs::write(folder.join("example.net.zone"), zone).unwrap();
    let dns = crate::peers::both_ports(&folder);
    let server = dns.address_of(0);
    crate::until_served(server, "example.net");
    let host = Run::of(guest("resolves"))
        .listen("tcp://127.0.0.1:0")
        .arguments(["--allow-connect", &server.to_string()])
        .set("server", &server.to_string())
        .start();
    let mut client = host.connect();
    for (domain, expected) in [
        (
            "two.example.net",
            "10 a.example.net. 192.0.2.2, 20 b.example.net. 192.0.2.3 192.0.2.4",
        ),
        // The same at the end of an alias.
        (
            "alias.example.net",
            "10 a.example.net. 192.0.2.2, 20 b.example.net. 192.0.2.3 192.0.2.4",
        ),
        // Without MX records a host takes its mail itself (RFC 5321 section 5.1).
        ("ns.example.net", "0 ns.example.net. 2001:db8::1 192.0.2.1"),
        ("null.example.net", "refused"),
        ("nx.example.net", "error: nx.example.net. does not exist"),
    ] {
        client.send(format!("{domain}\n"));
        client.expect(format!("{expected}\n"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}
