//! Echo's dialogues, and its state moving to another version.

use nethost_echo::Echo;
use nethost_sdk::testing::{Host, play_directory};

#[test]
fn dialogues_go_as_written() {
    play_directory::<Echo>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"),
        CONFIG,
    );
}

#[test]
fn counters_survive_a_swap() {
    let mut host = Host::<Echo>::start(CONFIG).unwrap();
    let (ann, bob) = (host.connect(), host.connect());
    host.send(ann, b"12345");
    host.send(bob, b"123");
    let mut host: Host<Echo> = host.swap(CONFIG).unwrap();
    host.send(ann, b"67");
    assert_eq!(host.received(ann), b"1234567");
    host.close_write(ann);
    let log = host.logged();
    assert_eq!(
        log[0].1,
        "127.0.0.1:50000: echoed 7 bytes, 10 in all; ended: closed here"
    );
    assert_eq!(host.counter("echoed", &[]), 10);
}

#[test]
fn much_is_recorded_before_the_connection_ends() {
    let mut host = Host::<Echo>::start(CONFIG).unwrap();
    let ann = host.connect();
    host.send(ann, &[b'x'; 40 << 10]);
    assert_eq!(host.counter("echoed", &[]), 0);
    host.send(ann, &[b'x'; 30 << 10]);
    assert_eq!(host.counter("echoed", &[]), 70 << 10);
}

#[test]
fn a_missing_key_is_an_error() {
    let error = Host::<Echo>::start("{}").unwrap_err();
    assert!(error.contains("greeting"), "{error}");
}

const CONFIG: &str = r#"{"greeting": ""}"#;
