//! What must hold for any input. Used by the crate `nethost-fuzz`, and by `tests/fuzz.rs` with inputs of a generator.

use std::{net::Ipv4Addr, rc::Rc, time::Duration};

use nethost_dns::{
    codec::{Message, Query, Question, Record, Request},
    config::Config,
    rdata::{Shown, verify},
    server::{Access, Reply, Served, Server, Transport},
    types::{Class, Name, RecordType},
    zone::{Builder, Zone},
    zonefile::{FileError, Parser, Step},
};

/// Bytes from a peer: what is read is written and read again as the same, with names compressed or not.
pub(crate) fn decode_any(data: &[u8]) {
    let _request = Request::decode(data, &mut Question::new());
    let Ok(message) = Message::decode(data) else {
        return;
    };
    for record in message.records() {
        assert!(verify(record.rtype, &record.data), "{record:?}");
        let _shown = Shown {
            rtype: record.rtype,
            data: &record.data,
        }
        .to_string();
    }
    // Written out it may be longer than a message can be.
    if let Some(bytes) = message.encode() {
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
    }
    if let Some(bytes) = message.encode_compressed() {
        let again = Message::decode(&bytes).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        assert_eq!(again.answers.len(), message.answers.len());
        assert_eq!(again.questions, message.questions);
    }
}

/// A message made of the input is read as it was written.
pub(crate) fn encode_decode(data: &[u8]) {
    let mut rest = data;
    let mut take = |most: usize| {
        let (length, after) = rest.split_first().unwrap_or((&0, &[]));
        let (part, after) = after.split_at(usize::from(*length).min(most).min(after.len()));
        rest = after;
        part
    };
    let mut name = || {
        let labels: Vec<&[u8]> = (0..3).map(|_| take(63)).collect();
        let labels = labels.into_iter().filter(|label| !label.is_empty());
        Name::join(labels, &Name::ROOT).unwrap_or(Name::ROOT)
    };
    let query = Query {
        name: name(),
        rtype: RecordType::A,
        class: Class::IN,
    };
    let mut message = Message::query(1, query, 0x8000);
    for rtype in [
        RecordType(65_400),
        RecordType::NS,
        RecordType::NULL,
        RecordType::MX,
    ] {
        let owner = name();
        let target = name();
        let data = match rtype {
            RecordType::NS => target.as_wire().to_vec(),
            RecordType::MX => [&[0, 1], target.as_wire()].concat(),
            _ => target.as_wire().iter().rev().copied().collect(),
        };
        message.answers.push(Record {
            owner,
            rtype,
            class: Class::IN,
            ttl: 7,
            data,
        });
    }
    let plain = message.encode().map(|bytes| Message::decode(&bytes));
    assert_eq!(plain, Some(Ok(message.clone())));
    let compressed = message
        .encode_compressed()
        .map(|bytes| Message::decode(&bytes));
    let Some(Ok(compressed)) = compressed else {
        panic!("{compressed:?}");
    };
    for (a, b) in compressed.answers.iter().zip(&message.answers) {
        assert_eq!((a.owner, a.rtype), (b.owner, b.rtype));
        assert!(a.data.eq_ignore_ascii_case(&b.data), "{a:?} {b:?}");
    }
}

/// A master file: the same whole or in pieces, and every record is read again from how it is shown.
pub(crate) fn zone_file(data: &[u8]) {
    let whole = records(data, data.len().max(1));
    let pieces = records(data, 7);
    assert_eq!(whole, pieces);
    for record in whole.unwrap_or_default() {
        let line = format!(
            "{} {} {} {}\n",
            record.owner,
            record.ttl,
            record.rtype,
            Shown {
                rtype: record.rtype,
                data: &record.data
            }
        );
        let again = records(line.as_bytes(), line.len());
        assert_eq!(again, Ok(vec![record]), "{line}");
    }
    let _zone = zone(data);
}

/// A request to a server with a zone: what it answers is a message, as long as it may be.
pub(crate) fn answer(data: &[u8]) {
    let mut server = server();
    let client = Ipv4Addr::LOCALHOST.into();
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Reply::Answer(bytes) = server.handle(data, client, transport, || 1) {
            assert!(bytes.len() <= 65_535 && bytes.get(..2) == data.get(..2));
            assert!(transport == Transport::Tcp || bytes.len() <= 1232);
            let answer = Message::decode(bytes);
            // The question of what could not be read is given back as it came, if any of it is.
            assert!(answer.is_ok(), "{answer:?}: {data:x?}");
        }
    }
}

fn records(data: &[u8], piece: usize) -> Result<Vec<Record>, FileError> {
    let mut parser = Parser::new("zone", Name::parse("example.com").expect("a name"));
    let mut rest = data;
    let mut records = Vec::new();
    loop {
        match parser.step()? {
            Step::Record(record) => records.push(Record {
                owner: *record.owner,
                rtype: record.rtype,
                class: Class::IN,
                ttl: record.ttl,
                data: record.data.to_vec(),
            }),
            // There is no other file.
            Step::Include(_) => {}
            Step::More => {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                rest = later;
                if now.is_empty() {
                    parser.feed_end();
                } else {
                    parser.feed(now);
                }
            }
            Step::End => return Ok(records),
        }
        if records.len() > 10_000 {
            return Ok(records);
        }
    }
}

fn zone(data: &[u8]) -> Option<Zone> {
    let apex = Name::parse("example.com").expect("a name");
    let mut builder = Builder::new(apex, 100);
    for (record, line) in records(data, data.len().max(1)).ok()?.iter().zip(1..) {
        let record = nethost_dns::zonefile::Record {
            owner: &record.owner,
            rtype: record.rtype,
            ttl: record.ttl,
            data: &record.data,
            line,
        };
        builder.add(&record).ok()?;
    }
    loop {
        if let Some(zone) = builder.finish_some().ok()? {
            return Some(zone);
        }
    }
}

fn server() -> Server {
    let config = Config {
        allow_query: Access::All,
        allow_transfer: Access::All,
        allow_forwarding: Access::Only(Vec::new()),
        nsid: Some(b"fuzz".to_vec()),
        cookie_secret: Some([7; 16]),
        tcp_idle: Duration::ZERO,
        query_log: false,
        forward: Vec::new(),
        cache_size: 65_536,
        serve_stale: Duration::ZERO,
        hosts: None,
    };
    let mut server = Server::new(config, [0; 16]);
    let zone = zone(ZONE).map(|zone| Served::Zone(Rc::new(zone)));
    let apex = Name::parse("example.com").expect("a name");
    server
        .zones_mut()
        .set(&apex, zone.unwrap_or(Served::Broken));
    server
}

const ZONE: &[u8] = b"$TTL 60
@ SOA ns root 1 2 3 4 5
@ NS ns
@ MX 10 ns
ns A 192.0.2.1
* CNAME *.b
*.b DNAME c
c DNAME example.com.
d NS ns.d
ns.d A 192.0.2.2
e SRV 1 2 3 ns.d
f CNAME g
g CNAME f
";
