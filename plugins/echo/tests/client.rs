//! Echo's client side.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::time::Duration;

use nethost_echo::{Client, Echo, EchoDatagrams};
use nethost_sdk::{Datagrams, testing::Host};

fn started(arguments: &[&str]) -> Host<Echo> {
    let mut host = Host::start(r#"{"greeting": ""}"#).unwrap();
    host.run::<Client>(arguments);
    host
}

#[test]
fn what_it_is_told_goes_there_and_comes_back() {
    let mut host = started(&["echo.test:7", "hello", "world"]);
    let (dial, endpoint) = host.dials().remove(0);
    assert_eq!(endpoint, "tcp://echo.test:7");
    // Its connections are its own, and no sessions that echo.
    let peer = host.accept(dial);
    assert_eq!(host.received(peer), b"hello world\n");
    assert!(host.is_ended(peer));
    host.send(peer, b"hello world\n");
    host.close_write(peer);
    assert_eq!(host.output(), b"hello world\n");
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn standard_input_goes_there_as_it_comes() {
    let mut host = started(&["echo.test:7"]);
    let (dial, _) = host.dials().remove(0);
    let peer = host.accept(dial);
    host.input(b"one");
    assert_eq!(host.received(peer), b"one");
    host.send(peer, b"one");
    assert_eq!(host.output(), b"one");
    host.end_input();
    assert!(host.is_ended(peer));
    host.close_write(peer);
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn a_lost_datagram_is_sent_again_and_not_for_ever() {
    for answered in [true, false] {
        let mut host = started(&["--udp", "192.0.2.7:7", "hi"]);
        let (dial, endpoint) = host.dials().remove(0);
        assert_eq!(endpoint, "udp://192.0.2.7:7");
        let socket = host.accept_datagrams::<EchoDatagrams>(dial);
        host.advance(Duration::from_secs(1));
        assert_eq!(host.sent_datagrams(socket).len(), 2);
        if answered {
            let mut echo = Datagrams::new();
            echo.push("192.0.2.7:7".parse().unwrap(), b"hi\n");
            host.send_datagrams(socket, &echo);
            assert_eq!(
                (host.output(), host.exit_code()),
                (b"hi\n".to_vec(), Some(0))
            );
        } else {
            host.advance(Duration::from_secs(2));
            assert_eq!(host.error_output(), b"error: no answer to 3 datagrams\n");
            assert_eq!(host.exit_code(), Some(1));
        }
    }
}

#[test]
fn one_that_is_called_wrongly_says_how() {
    for (arguments, code) in [
        (&[] as &[&str], 2),
        (&["-x"], 2),
        (&["--udp"], 2),
        (&["--help"], 0),
    ] {
        let mut host = started(arguments);
        assert_eq!(host.exit_code(), Some(code), "{arguments:?}");
        let said = [host.output(), host.error_output()].concat();
        assert!(said.starts_with(b"usage: echo"));
    }
}
