//! The corpus of `smuggling.txt`: each request gets the answers that it has to, however its bytes are cut, and what hides in it gets none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod common;

use common::{Echo, statuses};
use nethost_http::Http;
use nethost_sdk::testing::Host;

#[test]
fn what_hides_in_a_request_is_never_answered() {
    let cases: Vec<_> = include_str!("smuggling.txt")
        .lines()
        .filter_map(case)
        .collect();
    assert!(cases.len() >= 60, "there are only {}", cases.len());
    let mut host = Host::<Http<Echo>>::start("{}").unwrap();
    for (expected, name, request) in &cases {
        let mut ways: Vec<Vec<&[u8]>> = (0..request.len())
            .map(|at| vec![&request[..at], &request[at..]])
            .collect();
        ways.push(request.chunks(1).collect());
        for pieces in ways {
            let client = host.connect();
            for piece in &pieces {
                if !host.is_ended(client) {
                    host.send(client, piece);
                }
            }
            let received = host.received(client);
            let text = String::from_utf8_lossy(&received);
            assert_eq!(statuses(&text), *expected, "{name}: {text}");
            assert!(!text.contains("smuggled"), "{name}: {text}");
            let is_error = expected.last().is_some_and(|status| *status >= 400);
            if is_error {
                assert!(host.is_ended(client), "{name}: the connection goes on");
            }
            host.reset(client);
        }
    }
}

/// `STATUS[,STATUS...] | name | bytes`
fn case(line: &str) -> Option<(Vec<u16>, &str, Vec<u8>)> {
    if line.starts_with('#') || line.is_empty() {
        return None;
    }
    let mut parts = line.splitn(3, " | ");
    let (statuses, name, bytes) = (parts.next()?, parts.next()?, parts.next()?);
    let statuses = statuses.split(',').map(|it| it.parse().unwrap());
    Some((statuses.collect(), name, unescaped(bytes)))
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let escape = if char == '\\' { chars.next() } else { None };
        match (char, escape) {
            ('\\', Some('r')) => bytes.push(b'\r'),
            ('\\', Some('n')) => bytes.push(b'\n'),
            ('\\', Some('t')) => bytes.push(b'\t'),
            ('\\', Some('0')) => bytes.push(0),
            ('\\', Some('\\')) => bytes.push(b'\\'),
            ('\\', Some('x')) => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            ('\\', other) => panic!("an escape that is none: {other:?} in {text}"),
            (char, _) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}
