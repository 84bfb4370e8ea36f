//! Datagrams without sockets.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::net::SocketAddr;

use nethost_sdk::{
    CloseReason, Config, DatagramContext, DatagramProtocol, Datagrams, DatagramsOnly, ErrorCode,
    Factory, Origin, connect_datagrams, log, testing::Host, with_factory,
};

/// Answers `name?` from a table, and asks the upstream server for what is not there.
struct Names;

struct Table {
    upstream: Option<nethost_sdk::DatagramSocket>,
    closed: Vec<String>,
}

impl Factory for Table {
    fn configure(_config: &Config) -> Result<Self, String> {
        connect_datagrams("udp://192.0.2.53:53")
            .then(|socket| async move {
                with_factory::<Self, _>(|table| table.upstream = Some(socket));
                Ok(())
            })
            .or_else(|error| async move {
                log::warn!("no upstream: {error}");
                Ok(())
            })
            .detach();
        Ok(Self {
            upstream: None,
            closed: Vec::new(),
        })
    }
}

impl DatagramProtocol for Names {
    type Factory = Table;

    fn endpoint_made(cx: &mut DatagramContext<'_, Table>, origin: Origin) -> Self {
        if matches!(origin, Origin::Configured(_)) {
            cx.socket.join("224.0.0.251".parse().unwrap(), 2).unwrap();
            assert_eq!(
                cx.socket
                    .join("192.0.2.1".parse().unwrap(), 0)
                    .unwrap_err()
                    .code,
                ErrorCode::Invalid
            );
        }
        Self
    }

    fn datagrams_received(&mut self, cx: &mut DatagramContext<'_, Table>, datagrams: &Datagrams) {
        let mut answers = Datagrams::new();
        let mut questions = Datagrams::new();
        for datagram in datagrams {
            match datagram.payload() {
                b"ann?" => answers.reply(&datagram, b"192.0.2.1"),
                b"leave" => cx.socket.leave("224.0.0.251".parse().unwrap(), 2).unwrap(),
                b"bye" => cx.socket.close(),
                other => questions.push(datagram.peer(), other),
            }
        }
        cx.socket.send(&answers);
        if let (Some(upstream), false) = (&cx.factory.upstream, questions.is_empty()) {
            upstream.send(&questions);
        }
    }

    fn closed(&mut self, cx: &mut DatagramContext<'_, Table>, reason: CloseReason) {
        cx.factory.closed.push(reason.to_string());
        log::info!("closed: {reason}");
    }
}

fn start() -> Host<DatagramsOnly<Names>> {
    Host::start("{}").unwrap()
}

fn batch(datagrams: &[(SocketAddr, &[u8])]) -> Datagrams {
    let mut batch = Datagrams::new();
    for (peer, payload) in datagrams {
        batch.push(*peer, payload);
    }
    batch
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 5000))
}

#[test]
fn a_batch_is_answered_to_who_asked() {
    let mut host = start();
    let socket = host.bind::<Names>();
    assert_eq!(host.groups(socket), [("224.0.0.251".parse().unwrap(), 2)]);
    host.send_datagrams(
        socket,
        &batch(&[(peer(1), b"ann?"), (peer(2), b"bob?"), (peer(3), b"ann?")]),
    );
    let answer = |number| (peer(number), b"192.0.2.1".to_vec());
    assert_eq!(host.sent_datagrams(socket), [answer(1), answer(3)]);
    assert_eq!(host.sent_datagrams(socket), []);
    host.send_datagrams(socket, &batch(&[(peer(1), b"leave")]));
    assert_eq!(host.groups(socket), []);
}

#[test]
fn a_dialed_socket_gets_an_endpoint_and_completes_its_deferred() {
    let mut host = start();
    let socket = host.bind::<Names>();
    let (dial, endpoint) = host.dials().remove(0);
    assert_eq!(endpoint, "udp://192.0.2.53:53");
    let upstream = host.accept_datagrams::<Names>(dial);
    host.send_datagrams(socket, &batch(&[(peer(1), b"bob?"), (peer(2), b"")]));
    let sent = host.sent_datagrams(upstream);
    assert_eq!(sent, [(peer(1), b"bob?".to_vec()), (peer(2), Vec::new())]);
    assert!(!host.is_closed(upstream));
}

#[test]
fn a_dial_may_fail() {
    let mut host = start();
    let (dial, _) = host.dials().remove(0);
    host.fail(dial, ErrorCode::Denied);
    assert_eq!(host.logged()[0].1, "no upstream: denied");
}

#[test]
fn an_endpoint_is_told_once_that_its_socket_is_closed() {
    let mut host = start();
    let (first, second) = (host.bind::<Names>(), host.bind::<Names>());
    host.send_datagrams(first, &batch(&[(peer(1), b"ann?"), (peer(1), b"bye")]));
    // What it sends after the close goes nowhere.
    assert_eq!(host.sent_datagrams(first), []);
    assert!(host.is_closed(first) && !host.is_closed(second));
    host.send_datagrams(first, &batch(&[(peer(1), b"ann?")]));
    host.close_datagrams(second, CloseReason::Draining);
    host.close_datagrams(second, CloseReason::Draining);
    let logged: Vec<_> = host.logged().into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        logged,
        ["closed: closed here", "closed: service going away"]
    );
}

#[test]
fn a_plugin_of_datagrams_refuses_connections() {
    let mut host = start();
    let id = host.connect();
    assert!(host.received(id).is_empty());
    host.send(id, b"hello");
    assert!(host.received(id).is_empty());
}
