//! Dialogues over a connection, in words: what is asked, and what is answered. The zone is `tests/transcripts/example.com.zone`.
//!
//! `C: NAME TYPE` asks (with a class before the type, and `+edns` or `+nsid` behind it), `S:` is the answer's code and flags, and `A:`, `N:` and `X:` are the records of
//! its three sections. Each dialogue is played with the bytes whole, and one at a time.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use nethost_dns::{
    DnsStream,
    codec::{AA, Message, OptionCode, Query, RA, RD, Record, TC},
    rdata::Shown,
    types::{Class, Name, RecordType},
};
use nethost_sdk::testing::{Access, Grants, Host};

#[test]
fn dialogues_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let zone = fs::read(folder.join("example.com.zone")).unwrap();
    let mut played = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for piece in [usize::MAX, 1, 3] {
            let said = play(&text, &zone, piece);
            assert_eq!(said, text, "{} in pieces of {piece}", path.display());
        }
        played += 1;
    }
    assert!(played > 0);
}

/// The dialogue as it went: what was asked, and what came.
fn play(text: &str, zone: &[u8], piece: usize) -> String {
    let grants = Grants::new().directory("zones", Access::Read, [("example.com.zone", zone)]);
    let mut host = Host::<DnsStream>::start_with(CONFIG, grants).unwrap();
    let peer = host.connect();
    let mut said = String::new();
    for line in text.lines() {
        if let Some(asked) = line.strip_prefix("C: ") {
            let message = question(asked).encode().unwrap();
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            let bytes = [&length[..], &message].concat();
            for piece in bytes.chunks(piece.min(bytes.len())) {
                host.send(peer, piece);
            }
            let received = host.received(peer);
            let (length, answer) = received.split_first_chunk().unwrap();
            assert_eq!(usize::from(u16::from_be_bytes(*length)), answer.len());
            said.push_str(&format!(
                "{line}\n{}",
                shown(&Message::decode(answer).unwrap())
            ));
        } else if line.is_empty() || line.starts_with('#') {
            said.push_str(&format!("{line}\n"));
        }
    }
    said
}

fn question(asked: &str) -> Message {
    let mut words = asked.split(' ');
    let name = Name::parse(words.next().unwrap()).unwrap();
    let mut word = words.next().unwrap();
    let class = Class::parse(word.as_bytes());
    if class.is_some() && word != "ANY" {
        word = words.next().unwrap();
    }
    let query = Query {
        name,
        rtype: RecordType::parse(word.as_bytes()).unwrap(),
        class: class.filter(|_| word != "ANY").unwrap_or(Class::IN),
    };
    let mut message = Message::query(1, query, 0);
    match words.next() {
        Some("+edns") => message.set_edns(1232, 0, &[]),
        Some("+edns1") => message.set_edns(1232, 1 << 16, &[]),
        Some("+nsid") => message.set_edns(1232, 0, &[(OptionCode::NSID, b"")]),
        _ => {}
    }
    message
}

fn shown(answer: &Message) -> String {
    let flags = [(AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra")];
    let flags = flags.iter().filter(|(bit, _)| answer.flags & bit != 0);
    let flags: String = flags.map(|(_, name)| format!(" {name}")).collect();
    let mut said = format!("S: {}{flags}\n", answer.rcode());
    for (code, value) in answer.options() {
        let name = code.name().unwrap_or("option");
        said.push_str(&format!("O: {name} {value:?}\n"));
    }
    for (mark, records) in [
        ("A", &answer.answers),
        ("N", &answer.authority),
        ("X", &answer.additional),
    ] {
        for record in records.iter().filter(|it| it.rtype != RecordType::OPT) {
            said.push_str(&format!("{mark}: {}\n", line(record)));
        }
    }
    said
}

fn line(record: &Record) -> String {
    let data = Shown {
        rtype: record.rtype,
        data: &record.data,
    };
    format!("{} {} {} {data}", record.owner, record.ttl, record.rtype)
}

const CONFIG: &str = r#"{"allow-query": [], "allow-transfer": [], "allow-forwarding": [], "nsid": "one", "cookie-secret": "", "tcp-idle": 10000000000,
    "query-log": false, "forward": [], "cache-size": 65536, "serve-stale": 0, "hosts": ""}"#;
