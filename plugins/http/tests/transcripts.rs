//! Dialogues with an application, whole, split at every byte, and byte by byte; and its connections moving to another version.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod common;

use std::time::Duration;

use common::{Echo, statuses};
use nethost_http::Http;
use nethost_sdk::testing::{Host, play_directory};

#[test]
fn dialogues_go_as_written() {
    play_directory::<Http<Echo>>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"),
        "{}",
    );
}

#[test]
fn idle_connections_move_and_a_request_is_finished_first() {
    let mut host = Host::<Http<Echo>>::start("{}").unwrap();
    let (idle, begun) = (host.connect(), host.connect());
    host.send(idle, b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    host.send(begun, b"GET /now HTTP/1.1\r\nHo");
    let mut host: Host<Http<Echo>> = host.swap("{}").unwrap();
    host.send(begun, b"st: a\r\n\r\n");
    host.send(idle, b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        statuses(&String::from_utf8_lossy(&host.received(begun))),
        [200]
    );
    assert_eq!(
        statuses(&String::from_utf8_lossy(&host.received(idle))),
        [200, 200]
    );
    host.send(
        idle,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    );
    assert!(
        host.swap::<Http<Echo>>("{}").is_err(),
        "a request is in progress"
    );
}

#[test]
fn who_is_slow_is_told() {
    let mut host = Host::<Http<Echo>>::start("{}").unwrap();
    let (head, body) = (host.connect(), host.connect());
    host.send(head, b"GET / HTTP/1.1\r\n");
    host.send(
        body,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    );
    for second in 1..=30 {
        host.advance(Duration::from_secs(1));
        if second == 15 {
            // It does not help to send a byte now and then.
            host.send(head, b"X");
        }
    }
    assert_eq!(
        statuses(&String::from_utf8_lossy(&host.received(head))),
        [408]
    );
    assert_eq!(host.received(body), b"");
    host.advance(Duration::from_secs(31));
    assert_eq!(
        statuses(&String::from_utf8_lossy(&host.received(body))),
        [408]
    );
    assert!(host.is_ended(body) && host.close_reason(head).is_some());
}

#[test]
fn a_service_that_goes_away_lets_the_idle_go_and_finishes_the_rest() {
    let mut host = Host::<Http<Echo>>::start("{}").unwrap();
    let (idle, busy) = (host.connect(), host.connect());
    host.send(
        busy,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    );
    host.draining(Duration::from_secs(5));
    assert!(host.is_ended(idle) && !host.is_ended(busy));
    host.send(busy, b"b");
    let answer = String::from_utf8(host.received(busy)).unwrap();
    assert!(
        answer.contains("Connection: close\r\n") && answer.ends_with("ab"),
        "{answer}"
    );
    assert!(host.is_ended(busy));
}

#[test]
fn a_client_that_does_not_read_makes_the_other_side_wait() {
    let mut host = Host::<Http<Echo>>::start("{}").unwrap();
    let client = host.connect();
    host.stall(client);
    host.send(
        client,
        b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    for _ in 0..32 {
        host.send(client, &chunk);
    }
    // One queue towards the client and one towards the application, and no more.
    assert!(
        host.unsent(client) <= 3 * (64 << 10),
        "{}",
        host.unsent(client)
    );
    host.take(client);
    host.send(client, b"0\r\n\r\n");
    let received = host.received(client);
    assert_eq!(
        received.iter().filter(|byte| **byte == b'x').count(),
        32 << 16
    );
    assert!(received.ends_with(b"\r\n0\r\n\r\n"));
}
