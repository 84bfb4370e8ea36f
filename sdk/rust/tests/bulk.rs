//! Files, and what moves between them and connections.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use nethost_sdk::{
    CloseReason, Config, Connection, ConnectionId, Context, Deferred, ErrorCode, Extent, Factory,
    File, Group, OperationId, Origin, Protocol, Refusal, Swap, bulk, spawn_for_instance,
    testing::{Access, Host},
    with_factory, with_session,
};

#[test]
fn a_file_is_opened_by_the_name_that_it_was_granted_under() {
    let (mut host, ann) = started();
    host.send(ann, b"size data");
    host.send(ann, b"size other");
    assert_eq!(notes(), ["Ok(10)", "denied"]);
}

#[test]
fn a_part_of_a_file_has_its_place_among_what_is_written() {
    let cases = [
        ("send data", "0123456789", "10"),
        ("send data 3", "3456789", "7"),
        ("send data 3 4", "3456", "4"),
        ("send data 10", "", "0"),
        ("send data 3 0", "", "0"),
        ("send data 11", "", "invalid"),
        ("send data 3 8", "", "invalid"),
        ("send data 18446744073709551615 2", "", "invalid"),
    ];
    for (command, sent, outcome) in cases {
        let (mut host, ann) = started();
        host.send(ann, command.as_bytes());
        let received = String::from_utf8(host.received(ann)).unwrap();
        assert_eq!(received, format!("<{sent}>"), "{command}");
        assert_eq!(notes(), [outcome], "{command}");
    }
}

#[test]
fn what_a_group_writes_waits_behind_a_file() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"send data");
    host.send(ann, b"group");
    assert_eq!(host.received(ann), b"");
    // Only what the plugin wrote.
    assert_eq!(host.unsent(ann), 3);
    assert_eq!(notes(), [""; 0]);
    host.take(ann);
    assert_eq!(host.received(ann), b"<0123456789>g");
    assert_eq!(notes(), ["10"]);
}

#[test]
fn a_connection_closes_when_its_file_is_sent() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"send data");
    host.send(ann, b"close");
    assert_eq!(host.close_reason(ann), None);
    host.take(ann);
    assert_eq!(host.received(ann), b"<0123456789>");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
}

#[test]
fn a_rate_spreads_a_file_over_time() {
    let (mut host, ann) = started();
    host.send(ann, b"slow data 4");
    let operation = host.moves()[0];
    for (received, moved) in [("<0123", Some(4)), ("4567", Some(8)), ("89>", None)] {
        assert_eq!(host.received(ann), received.as_bytes());
        assert_eq!(bulk::progress(operation), moved);
        host.advance(Duration::from_millis(999));
        assert_eq!(host.received(ann), b"");
        host.advance(Duration::from_millis(1));
    }
    assert_eq!(notes(), ["10"]);
}

#[test]
fn a_stalled_peer_does_not_keep_the_clock_from_moving() {
    let (mut host, ann) = started();
    host.send(ann, b"slow data 4");
    host.stall(ann);
    host.advance(Duration::from_secs(3600));
    host.take(ann);
    assert_eq!(host.received(ann), b"<01234567");
}

#[test]
fn cancelling_stops_it_where_it_is() {
    let (mut host, ann) = started();
    host.send(ann, b"slow data 4");
    host.send(ann, b"drop");
    assert_eq!(host.moves(), []);
    host.advance(Duration::from_secs(10));
    assert_eq!(host.received(ann), b"<0123>");
}

#[test]
fn what_comes_is_written_to_a_file_up_to_the_length() {
    let (mut host, ann) = started();
    host.send(ann, b"receive log 2 5");
    host.send(ann, b"abc");
    assert_eq!(notes(), [""; 0]);
    host.send(ann, b"deto the session");
    assert_eq!(host.file("log"), b"ABabcde");
    assert_eq!(notes(), ["5", "to the session"]);
}

#[test]
fn what_comes_is_written_to_a_file_up_to_the_end() {
    let (mut host, ann) = started();
    host.send(ann, b"receive log 6");
    host.send(ann, b"xyz");
    host.close_write(ann);
    // A gap is zeros.
    assert_eq!(host.file("log"), b"ABCD\0\0xyz");
    assert_eq!(notes(), ["3", "read closed", "lost both sides closed"]);
}

#[test]
fn pausing_holds_what_goes_to_a_file() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, b"receive log");
    host.send(bob, format!("pause {ann}").as_bytes());
    host.send(ann, b"xyz");
    assert_eq!(host.file("log"), b"ABCD");
    host.send(bob, format!("resume {ann}").as_bytes());
    assert_eq!(host.file("log"), b"xyzD");
}

#[test]
fn a_file_to_be_read_is_not_written_and_one_taker_is_enough() {
    let (mut host, ann) = started();
    host.send(ann, b"receive data");
    host.send(ann, b"receive twice");
    host.send(ann, b"xyz");
    assert_eq!(host.file("data"), b"0123456789");
    assert_eq!(host.file("log"), b"xyzD");
    assert_eq!(notes(), ["denied", "busy"]);
}

#[test]
fn a_splice_has_its_place_among_what_is_written() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.stall(bob);
    host.send(ann, format!("splice {bob} 6").as_bytes());
    host.send(ann, b"abc");
    let operation = host.moves()[0];
    assert_eq!(bulk::progress(operation), Some(0));
    host.take(bob);
    assert_eq!(host.received(bob), b"<abc");
    assert_eq!(bulk::progress(operation), Some(3));
    host.send(ann, b"defto the session");
    assert_eq!(host.received(bob), b"def>");
    assert_eq!(notes(), ["6", "to the session"]);
    assert_eq!(bulk::progress(operation), None);
}

#[test]
fn two_splices_join_two_connections_until_their_ends() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, format!("splice {bob}").as_bytes());
    host.send(bob, format!("splice {ann}").as_bytes());
    host.send(ann, b"hello");
    host.send(bob, b"world");
    // The first splice's `>` waits for it to end.
    assert_eq!(host.received(bob), b"<hello");
    assert_eq!(host.received(ann), b"<world");
    host.close_write(ann);
    assert_eq!(notes(), ["5", "read closed"]);
    assert_eq!(host.received(bob), b">");
}

#[test]
fn a_splice_ends_with_either_connection() {
    // Whose loss, and what is told.
    for (lost, told) in [("bob", "closed"), ("ann", "reset")] {
        let (mut host, ann) = started();
        let bob = host.connect();
        let carl = host.connect();
        // Carl's, so that it is not cancelled with either.
        host.send(carl, format!("join {ann} {bob}").as_bytes());
        host.send(ann, b"abc");
        assert_eq!(host.received(bob), b"abc", "{lost}");
        if lost == "bob" {
            host.reset(bob);
            host.send(ann, b"mine again");
            assert_eq!(
                notes(),
                ["lost connection reset by peer", told, "mine again"]
            );
        } else {
            host.reset(ann);
            assert_eq!(notes(), ["lost connection reset by peer", told]);
        }
        assert_eq!(host.moves(), []);
    }
}

#[test]
fn what_a_session_moves_is_cancelled_with_it() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, format!("splice {bob}").as_bytes());
    host.reset(ann);
    assert_eq!(host.moves(), []);
    // The place among what is written is free again.
    assert_eq!(host.received(bob), b"<>");
}

#[test]
fn a_disk_that_fails_is_an_error() {
    let (mut host, ann) = started();
    host.send(ann, b"slow data 4");
    let operation = host.moves()[0];
    host.fail(operation, ErrorCode::Io);
    assert_eq!(notes(), ["i/o error"]);
    assert_eq!(host.received(ann), b"<0123>");
}

#[test]
fn a_lost_connection_moves_nothing() {
    let (mut host, ann) = started();
    let bob = host.connect();
    host.send(ann, b"remember");
    host.reset(ann);
    notes();
    host.send(bob, b"send to remembered");
    assert_eq!(notes(), ["closed", "closed", "closed"]);
}

#[test]
fn what_is_moved_goes_on_after_a_swap() {
    let (mut host, ann) = started();
    host.send(ann, b"slow data 4");
    let mut host = host.swap::<Session>("{}").unwrap();
    assert_eq!(host.received(ann), b"<0123");
    host.advance(Duration::from_secs(2));
    assert_eq!(host.received(ann), b"456789>");
    assert_eq!(notes(), ["10"]);
}

fn started() -> (Host<Session>, ConnectionId) {
    let files = [
        ("data", Access::Read, &b"0123456789"[..]),
        ("log", Access::Write, b"ABCD"),
    ];
    let mut host = Host::<Session>::start_with_files("{}", files).unwrap();
    let ann = host.connect();
    (host, ann)
}

fn notes() -> Vec<String> {
    with_factory(|shared: &mut Shared| std::mem::take(&mut shared.notes))
}

#[derive(Default)]
struct Shared {
    notes: Vec<String>,
    remembered: Option<Connection>,
    started: Option<Deferred<u64>>,
}

impl Factory for Shared {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self::default())
    }
}

struct Session(Connection);

impl Protocol for Session {
    type Factory = Shared;

    fn connection_made(cx: &mut Context<'_, Shared>, _origin: Origin) -> Option<Self> {
        Some(Self(cx.connection.clone()))
    }

    fn data_received(&mut self, cx: &mut Context<'_, Shared>, data: &[u8]) {
        let text = String::from_utf8(data.to_vec()).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at).map(|word| word.parse::<u64>().unwrap());
        let extent = |from, length| {
            let extent = Extent::all().from(number(from).unwrap_or(0));
            number(length).map_or(extent, |length| extent.length(length))
        };
        let connection = cx.connection;
        match words[0] {
            "size" => cx.factory.notes.push(match File::named(words[1]) {
                Ok(file) => format!("{:?}", file.size()),
                Err(error) => error.code.to_string(),
            }),
            "send" if words[1] == "to" => {
                let lost = cx.factory.remembered.clone().unwrap();
                let log = File::named("log").unwrap();
                tell(lost.send_file(&log, Extent::all()));
                tell(lost.receive_file(&log, Extent::all()));
                tell(connection.splice(&lost, Extent::all()));
            }
            "send" => {
                let file = File::named(words[1]).unwrap();
                connection.write(b"<");
                tell(connection.send_file(&file, extent(2, 3)));
                connection.write(b">");
            }
            "slow" => {
                let file = File::named(words[1]).unwrap();
                connection.write(b"<");
                let sent = connection.send_file(&file, Extent::all().rate(number(2).unwrap()));
                connection.write(b">");
                cx.factory.started = Some(sent);
                watch();
            }
            "drop" => cx.factory.started = None,
            "receive" => {
                let twice = words[1] == "twice";
                let file = File::named(if twice { "log" } else { words[1] }).unwrap();
                tell(connection.receive_file(&file, extent(2, 3)));
                if twice {
                    tell(connection.receive_file(&file, extent(2, 3)));
                }
            }
            "splice" => {
                let source = connection.clone();
                let extent = number(2).map_or_else(Extent::all, |it| Extent::all().length(it));
                let to = ConnectionId::from(number(1).unwrap());
                // Another session is reached only after the callback.
                nethost_sdk::spawn(async move {
                    let spliced = with_session(to, |session: &mut Self, _| {
                        session.0.write(b"<");
                        let spliced = source.splice(&session.0, extent);
                        session.0.write(b">");
                        spliced
                    });
                    note(spliced.unwrap().await);
                })
                .detach();
            }
            "join" => {
                let (from, to) = (number(1).unwrap().into(), number(2).unwrap().into());
                nethost_sdk::spawn(async move {
                    let of = |id| with_session(id, |session: &mut Self, _| session.0.clone());
                    let (from, to) = (of(from).unwrap(), of(to).unwrap());
                    let spliced = from.splice(&to, Extent::all());
                    drop((from, to));
                    note(spliced.await);
                })
                .detach();
            }
            "pause" | "resume" => {
                let is_pause = words[0] == "pause";
                let id = ConnectionId::from(number(1).unwrap());
                nethost_sdk::spawn(async move {
                    with_session(id, |session: &mut Self, _| {
                        if is_pause {
                            session.0.pause_reading();
                        } else {
                            session.0.resume_reading();
                        }
                    });
                })
                .detach();
            }
            "group" => {
                let group = Group::new();
                group.add(connection);
                group.write(b"g", None);
            }
            "remember" => cx.factory.remembered = Some(connection.clone()),
            "close" => connection.close(),
            _ => cx.factory.notes.push(text),
        }
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Shared>) {
        cx.factory.notes.push("read closed".into());
        cx.connection.shutdown_write();
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Shared>, reason: CloseReason) {
        cx.factory.notes.push(format!("lost {reason}"));
    }
}

impl Swap for Session {
    const FORMATS: &'static [&'static str] = &["bulk/1"];

    fn save(shared: &Shared, _format: &str) -> Result<Vec<u8>, Refusal> {
        let id = shared.started.as_ref().and_then(Deferred::id);
        Ok(id.unwrap().as_u64().to_string().into_bytes())
    }

    fn restore(shared: &mut Shared, _format: &str, state: &[u8]) -> Result<(), String> {
        let id: u64 = str::from_utf8(state).unwrap().parse().unwrap();
        shared.started = Some(bulk::adopt(id.into()));
        watch();
        Ok(())
    }

    fn save_session(&self, _format: &str) -> Result<Vec<u8>, Refusal> {
        Ok(Vec::new())
    }

    fn restore_session(
        cx: &mut Context<'_, Shared>,
        _format: &str,
        _state: &[u8],
    ) -> Result<Self, String> {
        Ok(Self(cx.connection.clone()))
    }
}

/// Notes what the operation comes to that the factory holds, so that it can be dropped.
fn watch() {
    spawn_for_instance(poll_fn(|cx| {
        let outcome = with_factory(|shared: &mut Shared| {
            let started = shared.started.as_mut()?;
            Some(Pin::new(started).poll(cx))
        });
        outcome.map_or(Poll::Ready(()), |outcome| outcome.map(note))
    }))
    .detach();
}

/// Notes what an operation comes to.
fn tell(operation: Deferred<u64>) {
    let id = operation.id();
    assert_ne!(id, None::<OperationId>);
    spawn_for_instance(async move { note(operation.await) }).detach();
}

fn note(outcome: Result<u64, nethost_sdk::Error>) {
    let text = outcome.map_or_else(|error| error.code.to_string(), |moved| moved.to_string());
    with_factory(|shared: &mut Shared| shared.notes.push(text));
}
