//! Deferreds, tasks and looping calls, under the test's clock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::poll_fn, task::Poll, time::Duration};

use nethost_sdk::{
    Config, Connection, Context, Deferred, ErrorCode, Factory, LoopingCall, Origin, Protocol, Task,
    after, clock, connect, resolve, spawn, spawn_for_instance, testing::Host, with_factory,
    with_session,
};

#[test]
fn a_timer_completes_at_its_time() {
    let (mut host, ann) = started();
    host.send(ann, b"timer");
    host.advance(Duration::from_millis(9_999));
    assert_eq!(notes(), [""; 0]);
    host.advance(Duration::from_millis(1));
    assert_eq!(notes(), ["10s"]);
}

#[test]
fn a_timer_of_zero_waits_for_the_callback_to_return() {
    let (mut host, ann) = started();
    host.send(ann, b"zero");
    assert_eq!(notes(), ["callback", "0ns"]);
}

#[test]
fn functions_are_chained_in_order_and_errors_pass_them_by() {
    let (mut host, ann) = started();
    host.send(ann, b"chain");
    host.advance(Duration::from_secs(3));
    assert_eq!(
        notes(),
        ["map 1", "then 2 at 3s", "or_else: no", "map recovered"]
    );
}

#[test]
fn a_dropped_deferred_is_cancelled() {
    let (mut host, ann) = started();
    host.send(ann, b"keep");
    assert_eq!(host.timers(), 1);
    host.send(ann, b"drop");
    assert_eq!(host.timers(), 0);
    host.advance(Duration::from_secs(60));
    assert_eq!(notes(), [""; 0]);
}

#[test]
fn a_timeout_cancels_what_it_waited_for() {
    let (mut host, ann) = started();
    host.send(ann, b"timeout");
    assert_eq!(host.dials().len(), 1);
    host.advance(Duration::from_secs(5));
    assert_eq!(notes(), ["timeout: no result within 5s"]);
    assert_eq!(host.dials().len(), 0);
}

#[test]
fn a_result_in_time_ends_the_timeout() {
    let (mut host, ann) = started();
    host.send(ann, b"timeout");
    let dial = host.dials()[0].0;
    host.fail(dial, ErrorCode::Refused);
    assert_eq!(notes(), ["refused: refused"]);
    assert_eq!(host.timers(), 0);
}

#[test]
fn a_dialed_connection_is_a_session_before_the_dial_completes() {
    let (mut host, ann) = started();
    host.send(ann, b"dial");
    let (dial, endpoint) = host.dials()[0].clone();
    assert_eq!(endpoint, "tcp://irc.example.net:6667");
    let peer = host.accept(dial);
    assert_eq!(
        notes(),
        [format!("dialed {dial:?}"), format!("connected {peer}")]
    );
    assert_eq!(host.received(peer), b"hello from a task");
}

#[test]
fn a_refused_session_fails_its_dial() {
    let (mut host, ann) = started();
    host.send(ann, b"refuse");
    host.send(ann, b"dial");
    let dial = host.dials()[0].0;
    let peer = host.accept(dial);
    assert!(host.is_ended(peer));
    assert_eq!(
        notes(),
        [
            format!("dialed {dial:?}"),
            "dropped".into(),
            "closed: the plugin refused the connection".into()
        ]
    );
}

#[test]
fn a_refused_session_leaves_no_task() {
    let (mut host, ann) = started();
    host.send(ann, b"refuse");
    host.connect();
    assert_eq!(host.timers(), 0);
    assert_eq!(notes(), ["dropped"]);
}

#[test]
fn names_are_looked_up() {
    let (mut host, ann) = started();
    host.send(ann, b"resolve");
    let (lookup, name) = host.lookups()[0].clone();
    assert_eq!(name, "example.net");
    host.answer(
        lookup,
        &["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    );
    assert_eq!(notes(), ["[192.0.2.1, 2001:db8::1]"]);
}

#[test]
fn a_task_ends_with_its_session() {
    let (mut host, ann) = started();
    host.send(ann, b"timer");
    host.send(ann, b"nested");
    assert_eq!(host.timers(), 2);
    host.close_write(ann);
    assert_eq!(host.timers(), 0);
    host.advance(Duration::from_secs(60));
    assert_eq!(notes(), ["dropped"]);
}

#[test]
fn the_instances_timer_outlives_the_session_that_started_it() {
    let (mut host, ann) = started();
    host.send(ann, b"instance");
    host.advance(Duration::from_secs(4));
    host.close_write(ann);
    host.advance(Duration::from_millis(5_999));
    assert_eq!(notes(), [""; 0]);
    host.advance(Duration::from_millis(1));
    assert_eq!(notes(), ["10s"]);
}

#[test]
fn the_instances_dial_outlives_the_session_in_whose_callback_it_was_started() {
    let (mut host, ann) = started();
    host.send(ann, b"instance dial");
    let dial = host.dials()[0].0;
    host.close_write(ann);
    assert_eq!(host.dials().len(), 1);
    assert_eq!(notes(), [""; 0]);
    host.fail(dial, ErrorCode::Refused);
    assert_eq!(notes(), ["refused: refused"]);
}

#[test]
fn a_task_that_always_wakes_itself_lets_others_run() {
    let (mut host, ann) = started();
    host.send(ann, b"spin");
    assert_eq!(notes(), ["other", "spun 5000"]);
}

#[test]
fn a_looping_call_does_not_drift_and_skips_what_it_missed() {
    let (mut host, ann) = started();
    host.send(ann, b"loop");
    host.advance(Duration::from_millis(1_900));
    host.leap(Duration::from_millis(2_700));
    host.advance(Duration::from_secs(1));
    let calls = ["1s", "4.6s", "5s"];
    assert_eq!(notes(), calls);
    host.send(ann, b"drop");
    host.advance(Duration::from_secs(10));
    assert_eq!(notes(), calls);
    assert_eq!(host.timers(), 0);
}

struct Probe {
    kept: Option<Kept>,
}

#[expect(dead_code, reason = "kept for what dropping them does")]
enum Kept {
    Deferred(Deferred<()>),
    Looping(LoopingCall),
    Task(Task),
}

#[derive(Default)]
struct Shared {
    notes: Vec<String>,
    refuses: bool,
}

impl Factory for Shared {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl Protocol for Probe {
    type Factory = Shared;

    fn connection_made(cx: &mut Context<'_, Shared>, origin: Origin) -> Option<Self> {
        if let Origin::Dialed(id) = origin {
            cx.factory.notes.push(format!("dialed {id:?}"));
        }
        if cx.factory.refuses {
            let guard = OnDrop;
            spawn(async move {
                let _guard = guard;
                let _ = after(Duration::from_secs(20)).await;
            })
            .detach();
            return None;
        }
        Some(Self { kept: None })
    }

    fn data_received(&mut self, cx: &mut Context<'_, Shared>, data: &[u8]) {
        match data {
            b"timer" => after(Duration::from_secs(10))
                .map(|()| note_time())
                .detach(),
            b"zero" => {
                after(Duration::ZERO).map(|()| note_time()).detach();
                cx.factory.notes.push("callback".into());
            }
            b"chain" => chain().detach(),
            b"keep" => {
                self.kept = Some(Kept::Deferred(
                    after(Duration::from_secs(10)).map(|()| note("never")),
                ))
            }
            b"drop" => self.kept = None,
            b"timeout" => {
                let dial = connect("tcp://slow.example.net:1").timeout(Duration::from_secs(5));
                report(dial);
            }
            b"refuse" => cx.factory.refuses = true,
            b"dial" => {
                let dial = connect("tcp://irc.example.net:6667").map(|id| {
                    note(&format!("connected {id}"));
                    with_session::<Self, _>(id, |_, cx| cx.connection.write(b"hello from a task"));
                });
                report(dial);
            }
            b"resolve" => resolve("example.net")
                .map(|found| note(&format!("{found:?}")))
                .detach(),
            b"nested" => {
                let connection: Connection = cx.connection.clone();
                spawn(async move {
                    let guard = OnDrop;
                    spawn(async move {
                        let _guard = guard;
                        let _ = after(Duration::from_secs(20)).await;
                        connection.write(b"never");
                    })
                    .detach();
                })
                .detach();
            }
            b"instance" => {
                spawn_for_instance(async {
                    let _ = after(Duration::from_secs(10)).await;
                    note_time();
                })
                .detach();
            }
            b"instance dial" => {
                spawn_for_instance(async {
                    if let Err(error) = connect("tcp://irc.example.net:6667").await {
                        note(&format!("{}: {error}", error.code));
                    }
                })
                .detach();
            }
            b"spin" => {
                self.kept = Some(Kept::Task(spawn(async {
                    spin(5000).await;
                    note("spun 5000");
                })));
                spawn(async { note("other") }).detach();
            }
            b"loop" => {
                self.kept = Some(Kept::Looping(LoopingCall::start(
                    Duration::from_secs(1),
                    note_time,
                )))
            }
            _ => panic!("{}", data.escape_ascii()),
        }
    }
}

struct OnDrop;

impl Drop for OnDrop {
    fn drop(&mut self) {
        note("dropped");
    }
}

fn chain() -> Deferred<()> {
    after(Duration::from_secs(1))
        .map(|()| 1)
        .then(|n| {
            note(&format!("map {n}"));
            after(Duration::from_secs(2)).map(move |()| n + 1)
        })
        .then(|n| async move {
            note(&format!("then {n} at {:?}", clock::monotonic()));
            Err::<(), _>(nethost_sdk::Error {
                code: ErrorCode::Io,
                message: "no".into(),
            })
        })
        .map(|()| note("never"))
        .or_else(|error| async move {
            note(&format!("or_else: {error}"));
            Ok(())
        })
        .map(|()| note("map recovered"))
}

async fn spin(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn report<T: 'static>(deferred: Deferred<T>) {
    let reported = deferred.map(drop).or_else(|error| async move {
        note(&format!("{}: {error}", error.code));
        Ok(())
    });
    reported.detach();
}

fn note(text: &str) {
    with_factory(|shared: &mut Shared| shared.notes.push(text.to_owned()));
}

fn note_time() {
    note(&format!("{:?}", clock::monotonic()));
}

fn notes() -> Vec<String> {
    with_factory(|shared: &mut Shared| shared.notes.clone())
}

fn started() -> (Host<Probe>, nethost_sdk::ConnectionId) {
    let mut host = Host::start("{}").unwrap();
    let ann = host.connect();
    (host, ann)
}
