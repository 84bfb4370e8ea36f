//! How long it takes to read a question and write its answer: the server of this plugin against the codec of crate `domain`, which is given the records of the answer
//! and only has to write them. Natively, on one core; a crate and a workspace of its own, so that nothing else depends on `domain`:
//!
//! ```text
//! cargo run --release --manifest-path plugins/dns/compare/Cargo.toml [ROUNDS]
//! ```

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    str::FromStr,
    time::Instant,
};

use domain::{
    base::{
        HashCompressor, Message, MessageBuilder, Name, Record, StaticCompressor, TreeCompressor,
        Ttl,
        iana::{Class, Rcode},
        wire::Composer,
    },
    rdata::{A, AllRecordData, Mx, Ns, Soa},
};
use nethost_dns::{
    codec,
    config::Config,
    server::{Reply, Served, Server, Transport},
    types::{self, RecordType},
    zone::Builder,
    zonefile::{Parser, Step},
};

type Data = AllRecordData<Vec<u8>, Name<Vec<u8>>>;

/// What crate `domain` has to write.
struct Answer {
    rcode: Rcode,
    is_authoritative: bool,
    answer: Vec<Record<Name<Vec<u8>>, Data>>,
    authority: Vec<Record<Name<Vec<u8>>, Data>>,
    additional: Vec<Record<Name<Vec<u8>>, Data>>,
}

fn main() {
    let rounds = std::env::args().nth(1);
    let rounds: usize = rounds.map_or(9, |rounds| rounds.parse().expect("a number of rounds"));
    println!("ns a question: median (least to most) of {rounds} rounds of {QUESTIONS}");
    let mut server = server();
    for (what, question, answer) in cases() {
        check(&mut server, &question, &answer);
        let mut times = [const { Vec::new() }; 5];
        let mut memory = Vec::with_capacity(2048);
        for _ in 0..rounds {
            let mut time = |place: usize, run: &mut dyn FnMut()| {
                let begun = Instant::now();
                for _ in 0..QUESTIONS {
                    run();
                }
                times[place].push(begun.elapsed().as_nanos() as f64 / f64::from(QUESTIONS));
            };
            time(0, &mut || {
                black_box(ours(&mut server, black_box(&question)).len());
            });
            // Each writes into the same memory again and again, as ours does.
            let mut theirs = |place: usize, write: &dyn Fn(Vec<u8>) -> Vec<u8>| {
                time(place, &mut || {
                    let mut empty = std::mem::take(&mut memory);
                    empty.clear();
                    memory = black_box(write(empty));
                });
            };
            let question = black_box(&question[..]);
            theirs(1, &|memory| write(question, &answer, memory));
            theirs(2, &|memory| {
                write(question, &answer, StaticCompressor::new(memory)).into_target()
            });
            theirs(3, &|memory| {
                write(question, &answer, HashCompressor::new(memory)).into_target()
            });
            theirs(4, &|memory| {
                write(question, &answer, TreeCompressor::new(memory)).into_target()
            });
        }
        println!("{what}");
        for (name, mut times) in NAMES.iter().zip(times) {
            times.sort_by(f64::total_cmp);
            let (median, least, most) = (times[rounds / 2], times[0], times[rounds - 1]);
            println!("  {name:<55}{median:8.0} ({least:.0} to {most:.0})");
        }
    }
}

/// Everything that the plugin does for a question: reads it, looks for its name in the zone, and writes the answer with its names compressed.
fn ours<'a>(server: &'a mut Server, question: &[u8]) -> &'a [u8] {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match server.handle(question, client, Transport::Udp, || 0) {
        Reply::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// What crate `domain` does: reads the question, and writes the answer that it is given.
fn write<T: Composer>(question: &[u8], answer: &Answer, target: T) -> T {
    let message = Message::from_octets(question).expect("a message");
    let asked = message.sole_question().expect("a question");
    black_box(asked.qname());
    let opt = message.opt();
    let longest = opt
        .as_ref()
        .map_or(512, |opt| opt.udp_payload_size().clamp(512, 1232));
    let Ok(builder) = MessageBuilder::from_target(target) else {
        panic!("no room for a header");
    };
    let mut builder = builder.start_answer(&message, answer.rcode).expect("room");
    builder.header_mut().set_aa(answer.is_authoritative);
    builder.set_push_limit(usize::from(longest));
    for record in &answer.answer {
        builder.push(record).expect("room");
    }
    let mut builder = builder.authority();
    for record in &answer.authority {
        builder.push(record).expect("room");
    }
    let mut builder = builder.additional();
    for record in &answer.additional {
        builder.push(record).expect("room");
    }
    if opt.is_some() {
        let payload = |opt: &mut domain::base::message_builder::OptBuilder<'_, T>| {
            opt.set_udp_payload_size(1232);
            Ok(())
        };
        builder.opt(payload).expect("room");
    }
    builder.finish()
}

/// Both say the same.
fn check(server: &mut Server, question: &[u8], answer: &Answer) {
    let theirs = write(question, answer, StaticCompressor::new(Vec::new())).into_target();
    let theirs = codec::Message::decode(&theirs).expect("a message");
    let ours = codec::Message::decode(ours(server, question)).expect("a message");
    assert_eq!(ours.flags, theirs.flags);
    assert_eq!(ours.answers, theirs.answers);
    assert_eq!(ours.authority, theirs.authority);
    assert_eq!(ours.additional.len(), theirs.additional.len());
}

fn server() -> Server {
    let config = Config::new(&nethost_sdk::Config::new(CONFIG)).expect("a config");
    let mut server = Server::new(config, [7; 16]);
    let apex = types::Name::parse("bench.test").expect("a name");
    let mut parser = Parser::new("bench.test.zone", apex);
    let mut builder = Builder::new(apex, 100);
    parser.feed(ZONE.as_bytes());
    parser.feed_end();
    while let Step::Record(record) = parser.step().expect("a zone") {
        builder.add(&record).expect("a record of the zone");
    }
    let zone = loop {
        if let Some(zone) = builder.finish_some().expect("a zone") {
            break zone;
        }
    };
    let zones = server.zones_mut();
    zones.set(&apex, Served::Zone(Rc::new(zone)));
    server
}

fn cases() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let empty = || Answer {
        rcode: Rcode::NOERROR,
        is_authoritative: true,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    };
    let soa = Soa::new(
        name("ns1"),
        name("hostmaster"),
        1.into(),
        Ttl::from_secs(2),
        Ttl::from_secs(3),
        Ttl::from_secs(4),
        Ttl::from_secs(300),
    );
    let apex = Name::from_str("bench.test").expect("a name");
    let soa = Record::new(apex, Class::IN, Ttl::from_secs(300), soa.into());
    vec![
        (
            "one A",
            question("www", RecordType::A),
            Answer {
                answer: vec![address("www", 3)],
                ..empty()
            },
        ),
        (
            "two MX with addresses",
            question("mx", RecordType::MX),
            Answer {
                answer: vec![
                    record("mx", Mx::new(10, name("m1"))),
                    record("mx", Mx::new(20, name("m2"))),
                ],
                additional: vec![address("m1", 4), address("m2", 5)],
                ..empty()
            },
        ),
        (
            "a referral with glue",
            question("x.del", RecordType::A),
            Answer {
                is_authoritative: false,
                authority: vec![
                    record("del", Ns::new(name("ns1.del"))),
                    record("del", Ns::new(name("ns2.del"))),
                ],
                additional: vec![address("ns1.del", 6), address("ns2.del", 7)],
                ..empty()
            },
        ),
        (
            "NXDOMAIN with SOA",
            question("no", RecordType::A),
            Answer {
                rcode: Rcode::NXDOMAIN,
                authority: vec![soa],
                ..empty()
            },
        ),
    ]
}

fn question(name: &str, rtype: RecordType) -> Vec<u8> {
    let query = codec::Query {
        name: types::Name::parse(&format!("{name}.bench.test")).expect("a name"),
        rtype,
        class: types::Class::IN,
    };
    let mut message = codec::Message::query(4711, query, 0);
    message.set_edns(1232, 0, &[]);
    message.encode().expect("a question")
}

fn name(label: &str) -> Name<Vec<u8>> {
    Name::from_str(&format!("{label}.bench.test")).expect("a name")
}

fn record(owner: &str, data: impl Into<Data>) -> Record<Name<Vec<u8>>, Data> {
    Record::new(name(owner), Class::IN, Ttl::from_secs(3600), data.into())
}

fn address(owner: &str, last: u8) -> Record<Name<Vec<u8>>, Data> {
    record(owner, A::from_octets(192, 0, 2, last))
}

const NAMES: [&str; 5] = [
    "this plugin: everything, the look-up in the zone too",
    "domain: its codec alone, no compression",
    "domain: its codec alone, StaticCompressor",
    "domain: its codec alone, HashCompressor",
    "domain: its codec alone, TreeCompressor",
];

const QUESTIONS: u32 = 200_000;

const CONFIG: &str = r#"{"allow-query": [], "allow-transfer": [], "allow-forwarding": [], "nsid": "", "cookie-secret": "", "tcp-idle": 10000000000,
    "query-log": false, "forward": [], "cache-size": 65536, "serve-stale": 0, "hosts": ""}"#;

const ZONE: &str = "\
$TTL 3600
@ SOA ns1 hostmaster 1 2 3 4 300
@ NS ns1
@ NS ns2
ns1 A 192.0.2.1
ns2 A 192.0.2.2
www A 192.0.2.3
mx MX 10 m1
mx MX 20 m2
m1 A 192.0.2.4
m2 A 192.0.2.5
del NS ns1.del
del NS ns2.del
ns1.del A 192.0.2.6
ns2.del A 192.0.2.7
";
