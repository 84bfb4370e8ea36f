use super::*;
use crate::{rdata::Shown, types::Name};

/// Every record as a line; files that are included by name.
fn read(text: &str, files: &[(&str, &str)], piece: usize) -> Result<Vec<String>, FileError> {
    let mut parser = Parser::new("zone", Name::parse("example.com").unwrap());
    let mut records = Vec::new();
    let mut open = vec![text.as_bytes()];
    loop {
        match parser.step()? {
            Step::Record(record) => {
                let data = Shown {
                    rtype: record.rtype,
                    data: record.data,
                };
                let (owner, ttl, rtype) = (record.owner, record.ttl, record.rtype);
                records.push(format!("{owner} {ttl} {rtype} {data}"));
            }
            Step::Include(name) => {
                let file = files.iter().find(|(other, _)| *other == name);
                parser.include(&name);
                open.push(file.unwrap().1.as_bytes());
            }
            Step::More => {
                let rest = open.last_mut().unwrap();
                let (now, later) = rest.split_at(piece.min(rest.len()));
                *rest = later;
                if now.is_empty() {
                    open.pop();
                    parser.feed_end();
                } else {
                    parser.feed(now);
                }
            }
            Step::End => return Ok(records),
        }
    }
}

#[test]
fn entries_are_read_wherever_they_are_cut() {
    let text = "\
$TTL 1h ; an hour
@ IN SOA ns.example.net. host\\.master 1 2h 3m 4w 1d1s
   60 NS ns ( ; the owner is the one before
 )
a.b IN 30 A (
  192.0.2.1
)
a.b 30 IN AAAA 2001:DB8::1
(c) TXT ( \"a; (b)\" c\\;d
\"\\\"\\065\\\\\" \"\" )
$ORIGIN sub
d MX 10 @
d. CNAME ..e
";
    let wrong = read(text, &[], 1).unwrap_err();
    assert_eq!(wrong.to_string(), "zone:13: CNAME: `..e`: a label is empty");
    let text = text.replace("..e", "e");
    let expected = [
        "example.com. 3600 SOA ns.example.net. host\\.master.example.com. 1 7200 180 2419200 86401",
        "example.com. 60 NS ns.example.com.",
        "a.b.example.com. 30 A 192.0.2.1",
        "a.b.example.com. 30 AAAA 2001:db8::1",
        "c.example.com. 3600 TXT \"a; (b)\" \"c;d\" \"\\\"A\\\\\" \"\"",
        "d.sub.example.com. 3600 MX 10 sub.example.com.",
        "d. 3600 CNAME e.sub.example.com.",
    ];
    for piece in 1..text.len() {
        assert_eq!(read(&text, &[], piece).unwrap(), expected, "{piece}");
    }
}

#[test]
fn files_include_files() {
    let files = [
        (
            "one",
            "a A 192.0.2.1\n$ORIGIN else.\nb A 192.0.2.2\n$INCLUDE two sub",
        ),
        ("two", "@ A 192.0.2.3"),
    ];
    let text = "$TTL 1\nfirst A 192.0.2.0\n$INCLUDE one\n A 192.0.2.4\nlast A 192.0.2.5\n";
    let expected = [
        "first.example.com. 1 A 192.0.2.0",
        "a.example.com. 1 A 192.0.2.1",
        "b.else. 1 A 192.0.2.2",
        "sub.else. 1 A 192.0.2.3",
        "first.example.com. 1 A 192.0.2.4",
        "last.example.com. 1 A 192.0.2.5",
    ];
    assert_eq!(read(text, &files, 7).unwrap(), expected);
    let endless = read("$INCLUDE a\n", &[("a", "$INCLUDE a\n")], 100).unwrap_err();
    assert_eq!(
        (endless.reason, endless.file.as_str()),
        (Reason::Depth, "a")
    );
}

#[test]
fn ranges_generate_records() {
    let text = "$TTL 1\n$GENERATE 1-3/2 h$ A 10.0.0.$\n$GENERATE 9-10 ${1,3,d}.${-9}.${0,2,x} TXT \"${0,3,n}\" \\$\n";
    let expected = [
        "h1.example.com. 1 A 10.0.0.1",
        "h3.example.com. 1 A 10.0.0.3",
        "010.0.09.example.com. 1 TXT \"9.0\" \"$\"",
        "011.1.0a.example.com. 1 TXT \"a.0\" \"$\"",
    ];
    assert_eq!(read(text, &[], 10).unwrap(), expected);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, expected) in [
        ("a A 192.0.2.1\n", "zone:1: no TTL"),
        (
            "$TTL 1\n\n\na A 192.0.2.256\n",
            "zone:4: A: `192.0.2.256` is not an IPv4 address",
        ),
        (
            "$TTL 1\na A (\n 192.0.2.1\n x )\n",
            "zone:4: A: `x` is more than the type has",
        ),
        ("$TTL 1\na A (\n", "zone:2: `(` is not closed"),
        ("$TTL 1\na A )\n", "zone:2: `)` without `(`"),
        ("$TTL 1\na TXT \"b\n", "zone:2: `\"` is not closed"),
        ("$TTL 1\na FOO b\n", "zone:2: unknown type `FOO`"),
        ("$TTL 1\na CH TXT b\n", "zone:2: class CH"),
        (
            "$TTL 1\n A 192.0.2.1\n",
            "zone:2: the first record has no owner",
        ),
        ("$TTL x\n", "zone:1: $TTL: `x` is not a number of seconds"),
        (
            "$TTL 2147483648\n",
            "zone:1: the TTL 2147483648 is above 2147483647",
        ),
        ("$FOO x\n", "zone:1: unknown directive `$FOO`"),
        (
            "$ORIGIN\n",
            "zone:1: the entry ends where a name is expected",
        ),
        (
            "$GENERATE 2-1 a A b\n",
            "zone:1: $GENERATE: `2-1` is not a range",
        ),
        (
            "$TTL 1\n$GENERATE 1-2 ${x} A b\n",
            "zone:2: $GENERATE: `${x}` is not a word",
        ),
        (
            "$TTL 1\na MX 10\n",
            "zone:2: MX: the record ends where a domain name is expected",
        ),
        (
            "$TTL 1\na TYPE1234 b\n",
            "zone:2: TYPE1234: the data of type TYPE1234 are known in the form",
        ),
        (
            "$TTL 1\na A \\# 3 010203\n",
            "zone:2: A: the data are not those of type A",
        ),
        (
            "$TTL 1\na A \\# 5 01020304\n",
            "zone:2: A: `\\# 5` is not the length",
        ),
        (
            "$TTL 1\na OPT \\# 0\n",
            "zone:2: OPT: there are no records of type OPT",
        ),
        (
            "$TTL 1\na TXT b\\\n",
            "zone:2: a backslash at the end of a line",
        ),
    ] {
        let error = read(text, &[], 1000).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}
