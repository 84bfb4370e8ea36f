//! The same questions to this plugin and to Knot, compared section by section.

use std::fmt::Write as _;

use nethost_dns::{
    codec::{AA, AD, CD, Message, OptionCode, Query, RA, RD, Record, TC},
    rdata::Shown,
    types::{Class, Name, RecordType},
};
use nethost_tests::random::Random;

use crate::{peers, serve, zones};

/// Names that are there, and those around them.
const NAMES: &[&str] = &[
    "@",
    "ns1",
    "mail",
    "www",
    "alias",
    "alias2",
    "chainout",
    "loop1",
    "loop2",
    "dangling",
    "a.b.c.ent",
    "b.c.ent",
    "c.ent",
    "ent",
    "wild",
    "*.wild",
    "sub.wild",
    "wildcname",
    "*.wildcname",
    "wcloop",
    "x.wcloop",
    "del",
    "ns1.del",
    "ns.del",
    "ns.other",
    "other",
    "del2",
    "todel",
    "dn",
    "target",
    "foo.target",
    "dnout",
    "_sip._tcp",
    "_tcp",
    "sip",
    "toglue",
    "big",
    "loc",
    "svc",
    "svcmx",
    "naptr",
    "hinfo",
    "unk",
    "h1",
    "h2",
    "sshfp",
    "_443._tcp.www",
    "smime",
    "pgp",
    "uri",
    "cds",
    "cdnskey",
    "key",
    "sub.*.star",
    "*.star",
    "star",
    "ptrs",
    "ptr",
    "bigmx",
    "m1",
    "m3",
    "c1",
    "c4",
    "cnx",
    "cwild",
    "cent",
    "esc\\.aped",
    "abc",
    "srvout",
    "srvdot",
    "nsdel.deep.below",
    "deep.below",
    "below",
    "ns1.nsdel.deep.below",
    "dname.under",
    "nothere",
];

/// What is put before them.
const PREFIXES: &[&str] = &[
    "", "", "", "x.", "a.b.", "*.", "foo.", "x.*.", "ns1.", "sub.",
];

const TYPES: &[u16] = &[
    1, 1, 28, 2, 5, 6, 12, 13, 15, 16, 29, 33, 35, 39, 43, 44, 46, 47, 48, 50, 51, 52, 53, 59, 60,
    61, 64, 65, 99, 256, 257, 255, 65400, 1234,
];

/// Why an answer may be another than Knot's.
struct Explanation {
    reason: &'static str,
    applies: fn(&Message) -> bool,
}

const EXPLAINED: &[Explanation] = &[Explanation {
    reason: "RFC 8482 leaves open which of the sets answers ANY: Knot takes its first, the plugin the SOA or the lowest type",
    applies: |question| question.questions[0].rtype == RecordType::ANY,
}];

#[test]
fn answers_are_those_of_knot() {
    let knot = peers::Knot::primary(&zones(), &["example.com", "sub.example.org"]);
    let host = serve(&zones(), &[]);
    let ours = host.address_of(0);
    for server in [knot.address, ours] {
        peers::until_served(server, "example.com");
        peers::until_served(server, "sub.example.org");
    }
    let mut random = Random::new(5300);
    let (mut differences, mut explained) = (String::new(), 0);
    let mut count = 0;
    for number in 0..QUESTIONS {
        let question = generate(&mut random, number);
        let (a, b) = (
            peers::ask(ours, &question),
            peers::ask(knot.address, &question),
        );
        let difference = compare(&a, &b);
        if difference.is_empty() {
            continue;
        }
        if let Some(explanation) = EXPLAINED.iter().find(|it| (it.applies)(&question)) {
            assert!(!explanation.reason.is_empty());
            explained += 1;
            continue;
        }
        count += 1;
        if count <= 20 {
            let _ = writeln!(differences, "{:?}\n{difference}", shown(&question));
        }
    }
    assert!(count == 0, "{count} of {QUESTIONS} differ:\n{differences}");
    assert!(explained < QUESTIONS / 10, "{explained}");
}

fn shown(question: &Message) -> String {
    let query = &question.questions[0];
    let opt = question.opt().map(|opt| (opt.class.0, opt.ttl));
    format!(
        "{} {} {} flags {:x} edns {opt:?}",
        query.name, query.class, query.rtype, question.flags
    )
}

fn generate(random: &mut Random, number: u16) -> Message {
    let mut pick = |list: &[&str]| list[random.up_to(list.len()) - 1].to_owned();
    let (name, prefix) = (pick(NAMES), pick(PREFIXES));
    let zone = pick(&[
        "example.com",
        "example.com",
        "example.com",
        "sub.example.org",
        "example.net",
        "org",
    ]);
    let name = if zone == "example.com" {
        name.replace('@', &zone)
    } else {
        pick(&[
            "@", "www", "ns", "child", "x", "*", "a.b", "ns.child", "x.child",
        ])
        .replace('@', &zone)
    };
    let name = if name == zone {
        format!("{prefix}{zone}")
    } else {
        format!("{prefix}{name}.{zone}")
    };
    // Case is kept in the question and means nothing otherwise.
    let name: String = name
        .chars()
        .map(|c| {
            if random.up_to(4) == 1 {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    let rtype = RecordType(TYPES[random.up_to(TYPES.len()) - 1]);
    let class = if random.up_to(50) == 1 {
        Class::CH
    } else {
        Class::IN
    };
    let query = Query {
        name: Name::parse(&name).unwrap(),
        rtype,
        class,
    };
    let flags = [0, RD, CD, AD, RD | AD][random.up_to(5) - 1];
    let mut question = Message::query(number, query, flags);
    let dnssec = if random.up_to(4) == 1 { 0x8000 } else { 0 };
    let payload = [0, 512, 600, 1232, 4096][random.up_to(5) - 1];
    match random.up_to(8) {
        1..=3 => {}
        4 => question.set_edns(payload, 1 << 16, &[]),
        5 => question.set_edns(payload, dnssec, &[(OptionCode(65001), b"unknown")]),
        _ => question.set_edns(payload, dnssec, &[]),
    }
    question
}

/// What is different, in words; nothing if nothing is.
fn compare(ours: &Message, theirs: &Message) -> String {
    let mut out = String::new();
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            let _ = writeln!(out, "  {what}: ours {ours}\n  {what}: Knot {theirs}");
        }
    };
    differ("code", ours.rcode().to_string(), theirs.rcode().to_string());
    let flags =
        |message: &Message| format!("{:04x}", message.flags & (AA | TC | RD | RA | AD | CD));
    differ("flags", flags(ours), flags(theirs));
    let question = |message: &Message| {
        let questions = message.questions.iter();
        // As bytes: with its case.
        let shown = questions
            .map(|query| format!("{:?} {} {}", query.name.as_wire(), query.class, query.rtype));
        shown.collect::<String>()
    };
    differ("question", question(ours), question(theirs));
    // Payload, version and the bit for DNSSEC; options are each server's own.
    let edns = |message: &Message| {
        format!(
            "{:?}",
            message.opt().map(|opt| (opt.class.0, opt.ttl & 0xff_8000))
        )
    };
    differ("edns", edns(ours), edns(theirs));
    if ours.flags & theirs.flags & TC != 0 {
        // What is in a message that is cut is of no use (RFC 2181 section 9), and each cuts elsewhere.
        return out;
    }
    differ("answer", records(&ours.answers), records(&theirs.answers));
    differ(
        "authority",
        records(&ours.authority),
        records(&theirs.authority),
    );
    differ(
        "additional",
        records(&ours.additional),
        records(&theirs.additional),
    );
    out
}

/// Records in an order that does not depend on the server, in lower case.
pub(crate) fn records(records: &[Record]) -> String {
    let records = records
        .iter()
        .filter(|record| record.rtype != RecordType::OPT);
    let mut lines: Vec<String> = records
        .map(|record| {
            let data = Shown {
                rtype: record.rtype,
                data: &record.data,
            };
            let (class, rtype, ttl) = (record.class, record.rtype, record.ttl);
            format!("{} {ttl} {class} {rtype} {data}; ", record.owner).to_lowercase()
        })
        .collect();
    lines.sort();
    lines.concat()
}

const QUESTIONS: u16 = 4000;
