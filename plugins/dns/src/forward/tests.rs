use std::time::Duration;

use super::*;
use crate::{
    codec::Record,
    types::{Class, RecordType},
};

fn answer(name: &str, ttl: u32) -> Message {
    let query = Query {
        name: Name::parse(name).unwrap(),
        rtype: RecordType::A,
        class: Class::IN,
    };
    let mut message = Message::query(1, query, QR);
    message.answers.push(Record {
        owner: query.name,
        rtype: RecordType::A,
        class: Class::IN,
        ttl,
        data: vec![192, 0, 2, 1],
    });
    message
}

fn key(name: &str) -> Key {
    Key {
        name: Name::parse(name).unwrap(),
        rtype: RecordType::A,
        dnssec: false,
        checking_disabled: false,
    }
}

#[test]
fn an_answer_is_fresh_then_waning_then_stale_then_gone() {
    let seconds = Duration::from_secs;
    let mut cache = Cache::new(1 << 20, seconds(1000));
    cache.keep(key("a"), &answer("a", 100), seconds(10));
    let mut at = |now| {
        let cached = cache.find(&key("a"), seconds(now))?;
        Some((cached.freshness, cached.message.answers.first()?.ttl))
    };
    assert_eq!(at(10), Some((Freshness::Fresh, 100)));
    assert_eq!(at(99), Some((Freshness::Fresh, 11)));
    assert_eq!(at(100), Some((Freshness::Waning, 10)));
    assert_eq!(at(101), Some((Freshness::Fresh, 9)));
    assert_eq!(at(110), Some((Freshness::Stale, 30)));
    assert_eq!(at(1111), None);
    cache.failed(&key("a"), seconds(200));
    let freshness = |cache: &mut Cache, now| {
        let cached = cache.find(&key("a"), seconds(now));
        cached.map(|cached| cached.freshness)
    };
    assert_eq!(freshness(&mut cache, 229), Some(Freshness::Hopeless));
    assert_eq!(freshness(&mut cache, 230), Some(Freshness::Stale));
}

#[test]
fn the_cache_has_a_limit_and_the_oldest_go_first() {
    let mut cache = Cache::new(20_000, Duration::ZERO);
    for number in 0..1000 {
        let name = format!("n{number}");
        cache.keep(key(&name), &answer(&name, 100), Duration::ZERO);
        cache.keep(key("often"), &answer("often", 100), Duration::ZERO);
        assert!(cache.size() <= 20_000);
    }
    assert!(cache.len() > 5);
    assert!(cache.find(&key("often"), Duration::ZERO).is_some());
    assert!(cache.find(&key("n999"), Duration::ZERO).is_some());
    assert!(cache.find(&key("n1"), Duration::ZERO).is_none());
}

#[test]
fn what_does_not_say_how_long_it_holds_is_not_kept() {
    let mut cache = Cache::new(1 << 20, Duration::ZERO);
    cache.keep(key("a"), &answer("a", 0), Duration::ZERO);
    let mut negative = answer("b", 100);
    negative.answers.clear();
    negative.flags |= Rcode::NXDOMAIN.0;
    cache.keep(key("b"), &negative, Duration::ZERO);
    assert!(cache.is_empty());
    let mut data = vec![0, 0];
    data.extend(
        [1_u32, 2, 3, 4, 60]
            .iter()
            .flat_map(|number| number.to_be_bytes()),
    );
    negative.authority.push(Record {
        owner: Name::ROOT,
        rtype: RecordType::SOA,
        class: Class::IN,
        ttl: 3600,
        data,
    });
    cache.keep(key("b"), &negative, Duration::ZERO);
    assert!(cache.find(&key("b"), Duration::from_secs(59)).is_some());
    assert!(cache.find(&key("b"), Duration::from_secs(60)).is_none());
}

#[test]
fn hosts_have_addresses_and_addresses_have_names() {
    let text = b"127.0.0.1 localhost # this\n192.0.2.1\tone.test one\n2001:db8::1 one.test\nnonsense here\n\n192.0.2.2\n";
    let (hosts, wrong) = Hosts::parse(text);
    assert_eq!(wrong, [4, 6]);
    let ask = |name: &str, rtype| {
        let query = Query {
            name: Name::parse(name).unwrap(),
            rtype,
            class: Class::IN,
        };
        let answer = hosts.answer(&query)?;
        Some(
            answer
                .answers
                .into_iter()
                .map(|it| it.data)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        ask("ONE.test", RecordType::A),
        Some(vec![vec![192, 0, 2, 1]])
    );
    assert_eq!(ask("one.test", RecordType::MX), Some(vec![]));
    assert_eq!(ask("two.test", RecordType::A), None);
    let name = Name::parse("one.test").unwrap().as_wire().to_vec();
    assert_eq!(
        ask("1.2.0.192.in-addr.arpa", RecordType::PTR),
        Some(vec![name])
    );
}
