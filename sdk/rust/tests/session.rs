//! A session's callbacks: order, flow control, and the ways to end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nethost_sdk::{
    CloseReason, Config, Context, Factory, Group, HIGH_WATER, Origin, Protocol, clock, log,
    testing::Host, with_factory, with_session,
};

#[test]
fn a_peer_that_closes_gets_the_rest_first() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"hello");
    host.close_write(ann);
    assert_eq!(host.close_reason(ann), None);
    host.take(ann);
    assert_eq!(host.received(ann), b"hello");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
    assert_eq!(notes(), ["lost closed here"]);
}

#[test]
fn each_way_to_end_has_its_reason() {
    let cases = [
        ("close", CloseReason::ClosedHere, "before"),
        ("abort", CloseReason::AbortedHere, ""),
        ("shutdown", CloseReason::Done, "before"),
        ("flood", CloseReason::Limit("unsent bytes".into()), ""),
        ("idle", CloseReason::Idle, "before"),
    ];
    for (command, reason, received) in cases {
        let (mut host, ann) = started();
        host.stall(ann);
        host.send(ann, command.as_bytes());
        if received == "before" {
            host.take(ann);
        }
        if command == "shutdown" {
            assert!(host.is_ended(ann));
            host.close_write(ann);
        }
        host.advance(Duration::from_secs(30));
        assert_eq!(host.received(ann), received.as_bytes(), "{command}");
        assert_eq!(host.close_reason(ann), Some(reason.clone()), "{command}");
        assert_eq!(notes(), [format!("lost {reason}")], "{command}");
    }
    let (mut host, ann) = started();
    host.reset(ann);
    assert_eq!(notes(), ["lost connection reset by peer"]);
}

#[test]
fn a_lost_connection_takes_no_more() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, b"remember");
    host.reset(ann);
    host.send(bob, b"write to remembered");
    assert_eq!(notes(), ["lost connection reset by peer", "unsent 0"]);
    assert_eq!(host.received(ann), b"");
}

#[test]
fn a_refused_connection_gets_what_was_written() {
    let mut host = Host::<Probe>::start(r#"{"refuse": true}"#).unwrap();
    let ann = host.connect();
    assert_eq!(host.received(ann), b"go away");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
    assert_eq!(notes(), [""; 0]);
}

#[test]
fn dropping_a_clone_does_not_close() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, b"remember");
    host.send(bob, b"forget");
    assert_eq!(
        host.close_reason(ann),
        None,
        "the session has its own handle"
    );
}

#[test]
fn a_paused_session_gets_nothing_until_it_resumes() {
    let (mut host, ann) = started();
    host.send(ann, b"pause");
    host.send(ann, b"first");
    host.send(ann, b"second");
    host.close_write(ann);
    assert_eq!(host.received(ann), b"");
    assert!(host.is_paused(ann));
    with_session::<Probe, _>(ann, |_, cx| cx.connection.resume_reading()).unwrap();
    host.advance(Duration::ZERO);
    assert_eq!(host.received(ann), b"firstsecond");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
}

#[test]
fn writable_follows_a_full_queue_once() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"fill");
    assert_eq!(host.unsent(ann), HIGH_WATER);
    host.send(ann, b"not read while full");
    assert_eq!(notes(), [""; 0]);
    host.take(ann);
    assert_eq!(notes(), ["writable"]);
    assert_eq!(
        host.received(ann).len(),
        HIGH_WATER + "not read while full".len()
    );
}

#[test]
fn a_group_reaches_all_but_one() {
    let (mut host, ann) = started();
    let (bob, eve) = (host.connect(), host.connect());
    for member in [ann, bob, eve] {
        host.send(member, b"join");
        host.send(member, b"join");
    }
    host.reset(eve);
    host.send(ann, b"tell");
    assert_eq!(host.received(ann), b"");
    assert_eq!(host.received(bob), b"told");
    assert_eq!(host.received(eve), b"");
    host.send(ann, b"leave");
    host.send(bob, b"tell all");
    assert_eq!(host.received(ann), b"");
    assert_eq!(host.received(bob), b"told");
}

#[test]
fn draining_reaches_the_factory() {
    let (mut host, _) = started();
    host.draining(Duration::from_secs(30));
    assert_eq!(notes(), ["draining 30s"]);
}

#[test]
fn the_log_has_what_was_written() {
    let (mut host, ann) = started();
    host.send(ann, b"log");
    assert_eq!(
        host.logged(),
        [
            (log::Level::Info, "ann said 3".into()),
            (log::Level::Error, "failed".into())
        ]
    );
}

#[test]
fn random_numbers_are_the_same_in_every_run() {
    let (_host, _) = started();
    let first = (
        nethost_sdk::random::u64(),
        nethost_sdk::random::bytes(70_000),
    );
    let (_host, _) = started();
    assert_eq!(
        (
            nethost_sdk::random::u64(),
            nethost_sdk::random::bytes(70_000)
        ),
        first
    );
    assert_eq!(first.1.len(), 70_000);
    assert_ne!(first.1[..8], first.1[8..16]);
}

#[test]
fn time_stands_still_until_it_is_advanced() {
    let (mut host, _) = started();
    let (monotonic, wall) = (clock::monotonic(), clock::wall());
    host.advance(Duration::from_secs(7));
    assert_eq!(clock::monotonic() - monotonic, Duration::from_secs(7));
    assert_eq!(clock::wall() - wall, Duration::from_secs(7));
}

struct Probe;

#[derive(Default)]
struct Shared {
    refuses: bool,
    notes: Vec<String>,
    group: Group,
    remembered: Option<nethost_sdk::Connection>,
}

impl Factory for Shared {
    fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            refuses: config.as_str().contains("refuse"),
            ..Self::default()
        })
    }

    fn draining(&mut self, deadline: Duration) {
        self.notes.push(format!("draining {deadline:?}"));
    }
}

impl Protocol for Probe {
    type Factory = Shared;

    fn connection_made(cx: &mut Context<'_, Shared>, _origin: Origin) -> Option<Self> {
        if cx.factory.refuses {
            cx.connection.write(b"go away");
            return None;
        }
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, Shared>, data: &[u8]) {
        let connection = cx.connection;
        match data {
            b"close" => {
                connection.write(b"before");
                connection.close();
                connection.write(b"after");
            }
            b"abort" => {
                connection.write(b"before");
                connection.abort();
            }
            b"shutdown" => {
                connection.write(b"before");
                connection.shutdown_write();
                connection.write(b"after");
            }
            b"flood" => while connection.write(&[0; 1000]) <= 1024 * 1024 {},
            b"idle" => {
                connection.write(b"before");
                connection.set_idle_timeout(Some(Duration::from_secs(10)));
            }
            b"fill" => {
                connection.write(&[b'x'; HIGH_WATER]);
            }
            b"pause" => connection.pause_reading(),
            b"join" => cx.factory.group.add(connection),
            b"leave" => cx.factory.group.remove(connection),
            b"tell" => cx.factory.group.write(b"told", Some(connection)),
            b"tell all" => cx.factory.group.write(b"told", None),
            b"remember" => cx.factory.remembered = Some(connection.clone()),
            b"forget" => cx.factory.remembered = None,
            b"write to remembered" => {
                let unsent = cx
                    .factory
                    .remembered
                    .as_ref()
                    .map(|connection| connection.write(b"hello"));
                cx.factory.notes.push(format!("unsent {}", unsent.unwrap()));
            }
            b"log" => {
                log::info!("ann said {}", data.len());
                log::error!("failed");
            }
            data => {
                connection.write(data);
            }
        }
    }

    fn writable(&mut self, cx: &mut Context<'_, Shared>) {
        cx.factory.notes.push("writable".into());
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Shared>, reason: CloseReason) {
        cx.connection.write(b"too late");
        cx.factory.notes.push(format!("lost {reason}"));
    }
}

fn notes() -> Vec<String> {
    with_factory(|shared: &mut Shared| shared.notes.clone())
}

fn started() -> (Host<Probe>, nethost_sdk::ConnectionId) {
    let mut host = Host::start("{}").unwrap();
    let ann = host.connect();
    (host, ann)
}
