use super::*;
use crate::types::{Class, Rcode, RecordType};

#[test]
fn names_are_read_through_pointers_that_go_back() {
    let message = b"\x03www\x07example\0\xc0\x04\x01a\xc0\x0d\xc0\x14\xc0\xff";
    let read = |at| read_name(message, at).map(|(name, length)| (name.to_string(), length));
    assert_eq!(read(0), Some(("www.example.".to_owned(), 13)));
    assert_eq!(read(13), Some(("example.".to_owned(), 2)));
    assert_eq!(read(15), Some(("a.example.".to_owned(), 4)));
    // To itself, forward, behind the end.
    for (message, at) in [
        (&b"\xc0\x00"[..], 0),
        (b"\x01a\xc0\x00", 0),
        (b"\xc0\x02\0", 0),
        (b"\xc0", 0),
        (b"\x05a", 0),
        (b"\x40\0", 0),
        (b"", 0),
    ] {
        assert_eq!(read_name(message, at), None, "{message:x?}");
    }
}

#[test]
fn messages_survive_a_round_trip() {
    let query = Query {
        name: Name::parse("www.example.com").unwrap(),
        rtype: RecordType::MX,
        class: Class::IN,
    };
    let mut message = Message::query(7, query, QR | AA | RD);
    let mut data = vec![0, 10];
    data.extend(Name::parse("mail.example.com").unwrap().as_wire());
    for owner in ["www.example.com", "example.com", "other"] {
        message.answers.push(Record {
            owner: Name::parse(owner).unwrap(),
            rtype: RecordType::MX,
            class: Class::IN,
            ttl: 60,
            data: data.clone(),
        });
    }
    message.set_edns(1232, 0x8000, &[(OptionCode::NSID, b"x")]);
    let plain = message.encode().unwrap();
    let compressed = message.encode_compressed().unwrap();
    assert!(compressed.len() + 40 < plain.len());
    assert_eq!(Message::decode(&plain).unwrap(), message);
    assert_eq!(Message::decode(&compressed).unwrap(), message);
    for length in 0..plain.len() {
        assert!(Message::decode(&plain[..length]).is_err(), "{length}");
        assert!(Message::decode(&compressed[..length.min(compressed.len() - 1)]).is_err());
    }
    assert_eq!(message.rcode(), Rcode::NOERROR);
    assert_eq!(
        message.options().collect::<Vec<_>>(),
        [(OptionCode::NSID, &b"x"[..])]
    );
}

#[test]
fn a_request_is_what_a_message_says() {
    let query = Query {
        name: Name::parse("wWw.example.com").unwrap(),
        rtype: RecordType::A,
        class: Class::IN,
    };
    let mut message = Message::query(7, query, RD);
    let mut question = Question::new();
    let plain = message.encode().unwrap();
    let request = Request::decode(&plain, &mut question).unwrap();
    assert_eq!(
        (request.qtype, request.question_end),
        (RecordType::A, plain.len())
    );
    assert_eq!(question.wire(), b"\x03www\x07example\x03com\0");
    assert_eq!(
        (question.labels(), question.suffix(2)),
        (3, &b"\x07example\x03com\0"[..])
    );
    let mut other = Question::new();
    other.set(&Name::parse("EXAMPLE.com").unwrap());
    assert_eq!(other.hash(2), question.hash(2));

    let cookie = [1; 8];
    message.set_edns(
        4096,
        0x8000,
        &[(OptionCode::COOKIE, &cookie), (OptionCode(999), b"x")],
    );
    let bytes = message.encode().unwrap();
    let edns = Request::decode(&bytes, &mut question)
        .unwrap()
        .edns
        .unwrap();
    assert_eq!(
        (edns.payload, edns.dnssec, edns.cookie),
        (4096, true, Some(&cookie[..]))
    );
    // Every cut of it is malformed, and told with as much of the question as there is.
    for length in HEADER..bytes.len() {
        let end = if length < plain.len() {
            HEADER
        } else {
            plain.len()
        };
        let result = Request::decode(&bytes[..length], &mut question).map(|_| ());
        assert_eq!(result, Err(Malformed::FormErr(end)), "{length}");
    }
}
