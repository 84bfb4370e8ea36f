//! Zones and connections move to another version, in the middle of a message.

use nethost_dns::{
    DnsStream,
    codec::{Message, Query},
    types::{Class, Name, RecordType},
};
use nethost_sdk::testing::{Access, Grants, Host};

#[test]
fn a_connection_goes_on_where_it_was_and_zones_are_there_at_once() {
    let zone: &[u8] = b"$TTL 60\n@ SOA a b 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.w MX 10 ns\nd NS ns.d\nns.d A 192.0.2.2\n";
    let grants = Grants::new().directory("zones", Access::Read, [("example.com.zone", zone)]);
    let mut host = Host::<DnsStream>::start_with(CONFIG, grants).unwrap();
    let peer = host.connect();
    let questions = [
        ("ns.example.com", RecordType::A),
        ("x.w.example.com", RecordType::MX),
        ("a.d.example.com", RecordType::A),
        ("nothere.example.com", RecordType::A),
    ];
    for (name, rtype) in questions {
        let query = Query {
            name: Name::parse(name).unwrap(),
            rtype,
            class: Class::IN,
        };
        let message = Message::query(1, query, 0).encode().unwrap();
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        let bytes = [&length[..], &message].concat();
        host.send(peer, &bytes);
        let expected = host.received(peer);
        assert!(expected.len() > bytes.len(), "{name}");
        for cut in [1, 2, 20, bytes.len()] {
            let (before, after) = bytes.split_at(cut);
            host.send(peer, before);
            host = host
                .swap::<DnsStream>(CONFIG)
                .map_err(|(_, error)| format!("{error:?}"))
                .unwrap();
            host.send(peer, after);
            assert_eq!(host.received(peer), expected, "{name} cut at {cut}");
        }
    }
}

const CONFIG: &str = r#"{"allow-query": [], "allow-transfer": [], "allow-forwarding": [], "nsid": "", "cookie-secret": "", "tcp-idle": 10000000000,
    "query-log": false, "forward": [], "cache-size": 65536, "serve-stale": 0, "hosts": ""}"#;
