use super::*;
use crate::zonefile::{Parser, Step};

/// The zone that a file is, or what is wrong with it.
fn zone(text: &str) -> Result<Zone, (u32, Fault)> {
    let apex = Name::parse("example.com").unwrap();
    let mut parser = Parser::new("zone", apex);
    parser.feed(b"$TTL 60\n");
    parser.feed(text.as_bytes());
    parser.feed_end();
    let mut builder = Builder::new(apex, 1);
    while let Step::Record(record) = parser.step().unwrap() {
        builder.add(&record).map_err(|fault| (record.line, fault))?;
    }
    loop {
        if let Some(zone) = builder.finish_some()? {
            return Ok(zone);
        }
    }
}

const HEAD: &str = "@ SOA a b 1 2 3 4 5\n@ NS ns\n";

#[test]
fn what_cannot_be_is_told_with_its_line() {
    for (text, line, expected) in [
        ("@ NS ns\n", 0, "the zone has no SOA record"),
        (
            "@ SOA a b 1 2 3 4 5\n",
            0,
            "the zone's name has no NS record",
        ),
        (
            "@ NS ns\na.net. A 192.0.2.1\n",
            3,
            "a.net. is not in the zone",
        ),
        (
            "@ SOA a b 1 2 3 4 5\n@ NS ns\nx SOA a b 1 2 3 4 5\n",
            4,
            "a second SOA record",
        ),
        (
            "@ SOA a b 1 2 3 4 5\n@ NS ns\n@ SOA a b 2 2 3 4 5\n",
            4,
            "a second SOA record",
        ),
        (
            "@ SOA a b 1 2 3 4 5\n@ NS ns\nx CNAME y\nx A 192.0.2.1\n",
            5,
            "x.example.com. has a CNAME record and other records",
        ),
        (
            "@ SOA a b 1 2 3 4 5\n@ NS ns\nx CNAME y\nx CNAME z\n",
            5,
            "x.example.com. has more than one CNAME record",
        ),
    ] {
        let (at, fault) = zone(text).err().unwrap();
        assert_eq!(at, line, "{text}");
        assert!(fault.to_string().starts_with(expected), "{fault}");
    }
    let large: String = (0..300)
        .map(|n| format!("x TXT {n}{}\n", "a".repeat(240)))
        .collect();
    let fault = zone(&format!("{HEAD}{large}")).err().unwrap().1;
    assert_eq!(fault, Fault::TooLarge);
}

#[test]
fn records_are_there_once_and_sets_have_one_ttl() {
    let text = format!("{HEAD}x 10 A 192.0.2.1\nx 5 A 192.0.2.2\nX 10 A 192.0.2.1\n");
    let zone = zone(&text).unwrap();
    assert_eq!((zone.records(), zone.serial()), (4, 1));
    let set = zone.sets.iter().find(|set| set.rtype == RecordType::A);
    assert_eq!(set.map(|set| (set.count, set.ttl)), Some((2, 5)));
}

#[test]
fn a_large_zone_finds_every_name_and_no_other() {
    let names: String = (0..5000)
        .map(|n| format!("n{n}.a{} A 192.0.2.1\n", n % 7))
        .collect();
    let zone = zone(&format!("{HEAD}{names}")).unwrap();
    let mut question = Question::new();
    let mut rcode = |name: &str| {
        question.set(&Name::parse(name).unwrap());
        let mut out = Writer::new();
        out.begin(&[0; 12], 512);
        // Where the question would be does not matter for the code.
        let outcome = zone.answer(&question, RecordType::A, &mut Question::new(), &mut out);
        (outcome.rcode.0, out.count(Section::Answer))
    };
    for n in 0..5000 {
        assert_eq!(
            rcode(&format!("N{n}.a{}.example.com", n % 7)),
            (0, 1),
            "{n}"
        );
        assert_eq!(
            rcode(&format!("n{n}.a{}.example.com", (n + 1) % 7)),
            (3, 0),
            "{n}"
        );
    }
    assert_eq!(rcode("a1.example.com"), (0, 0));
}
