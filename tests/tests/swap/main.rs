//! Swapping a plugin's version under its open connections, through the library.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod failures;
mod kept;
mod load;
mod ways;

use std::{sync::mpsc, thread};

use nethost::{manifest::Isolation, service::SwapError};
use nethost_tests::{
    client::{Client, End},
    places::{guest, plugin},
    service::Running,
};

/// Echo as it is, one instance.
fn echo() -> Running {
    Running::start(&plugin("echo"), ECHO, Isolation::Service, 1)
}

fn next(fails_in: &str) -> String {
    format!(r#"{{"greeting": "", "fails-in": "{fails_in}"}}"#)
}

const ECHO: &str = r#"{"greeting": ""}"#;

fn says(client: &mut Client, sent: &str, answer: &str) {
    client.send(sent);
    client.expect(answer);
}

#[test]
fn an_open_connection_goes_on_with_the_next_version_and_its_state() {
    let running = echo();
    let (mut ann, mut bob) = (running.connect(), running.connect());
    says(&mut ann, "five5", "five5");
    says(&mut bob, "two", "two");
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    assert_eq!(swapped.sessions, 2);
    ann.expect("restored 5 from echo/1\n");
    bob.expect("restored 3 from echo/1\n");
    says(&mut ann, "more", "MORE");
    says(&mut ann, "?", "9 of 12\n");
    says(&mut bob, "?", "3 of 12\n");
    // Whoever comes now gets the next version, too.
    let mut eve = running.connect();
    says(&mut eve, "new", "NEW");
    says(&mut eve, "?", "3 of 15\n");
    assert_eq!(running.connections(), 3);
    // And back again.
    let swapped = running.swap(&plugin("echo"), ECHO).unwrap();
    assert_eq!(swapped.sessions, 3);
    says(&mut ann, "lower", "lower");
    says(&mut eve, "?", "?");
    ann.close_write();
    ann.end();
}

#[test]
fn the_metrics_tell_what_a_swap_did() {
    let running = echo();
    let mut clients: Vec<Client> = (0..3).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "abc");
    }
    let before = running.scrape();
    let info = |plugin: &str, version: &str| {
        format!(r#"nethost_service_info{{service="test",plugin="{plugin}",version="{version}"}}"#)
    };
    before.has(&[(&info("echo", "0.1.0"), 1.0)]);
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    let after = running.scrape();
    after.has(&[
        (&info("echo-next", "0.2.0"), 1.0),
        (
            r#"nethost_swap_sessions_total{service="test",result="moved"}"#,
            3.0,
        ),
        (
            r#"nethost_swap_sessions_total{service="test",result="left behind"}"#,
            0.0,
        ),
        (
            r#"nethost_swap_sessions_total{service="test",result="refused"}"#,
            0.0,
        ),
        (
            r#"nethost_swap_state_bytes_total{service="test"}"#,
            swapped.state_bytes as f64,
        ),
    ]);
    assert_eq!(after.value(&info("echo", "0.1.0")), None);
    let pause = after.value(r#"nethost_swap_pause_seconds_total{service="test"}"#);
    // The metrics count the way out of it, too.
    assert!(
        pause.unwrap() >= swapped.pause.as_secs_f64(),
        "{pause:?} {swapped:?}"
    );
}

#[test]
fn a_format_that_both_have_is_taken_the_new_versions_best_first() {
    let running = Running::start(&guest("echo-next"), &next(""), Isolation::Service, 1);
    let mut client = running.connect();
    says(&mut client, "abc", "ABC");
    running.swap(&guest("echo-next"), &next("")).unwrap();
    client.expect("restored 3 from echo/3\n");
}

#[test]
fn unsent_and_unread_bytes_survive() {
    let running = echo();
    let mut client = running.connect();
    // More than the kernel and the host take: some is unsent in the host, some is unread in the kernel.
    let mut writer = client.another();
    let data = letters(30_000_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&data);
            writer.close_write();
        });
        let mut got = client.bytes(1_000_000);
        // Nobody reads now, so everything is full when the swap comes.
        let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
        assert_eq!(swapped.sessions, 1);
        let (rest, end) = client.rest();
        got.extend(rest);
        assert_eq!(end, End::Closed);
        check_echo(&got, &data, 1);
    });
}

/// What came back is what was sent, but for what the versions said at the swaps, and in capitals where the next version was at work.
fn check_echo(got: &[u8], sent: &[u8], swaps: usize) {
    let mut rest = got;
    let mut echoed = Vec::new();
    let mut said = 0;
    while let Some(at) = rest.iter().position(|byte| *byte == b' ') {
        // `restored 17 from echo/1`, with the count of what came before.
        let start = at - "restored".len();
        let line = rest[start..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap();
        let line = std::str::from_utf8(&rest[start..start + line]).unwrap();
        echoed.extend_from_slice(&rest[..start]);
        assert_eq!(line, format!("restored {} from echo/1", echoed.len()));
        rest = &rest[start + line.len() + 1..];
        said += 1;
    }
    echoed.extend_from_slice(rest);
    assert!(
        echoed.eq_ignore_ascii_case(sent),
        "{} of {}",
        echoed.len(),
        sent.len()
    );
    assert_eq!(said, swaps);
}

/// Small letters, in an order of which every position is known.
fn letters(count: usize) -> Vec<u8> {
    (0..count).map(|at| b'a' + (at % 23) as u8).collect()
}

#[test]
fn bytes_under_way_survive_swap_after_swap_on_two_workers() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Worker, 2);
    let data = letters(2_000_000);
    let clients: Vec<Client> = (0..20).map(|_| running.connect()).collect();
    thread::scope(|scope| {
        let mut until_swapped = Vec::new();
        for mut client in clients {
            let (sender, swapped) = mpsc::channel::<()>();
            until_swapped.push(sender);
            let data = &data;
            scope.spawn(move || {
                let mut writer = client.another();
                thread::scope(|scope| {
                    scope.spawn(move || {
                        for piece in data.chunks(10_000) {
                            writer.send(piece);
                        }
                        // Nothing is ever sent: it ends when the swaps are done.
                        assert!(swapped.recv().is_err());
                        writer.close_write();
                    });
                    let (got, end) = client.rest();
                    check_echo(&got, data, 5);
                    assert_eq!(end, End::Closed);
                });
            });
        }
        for _ in 0..5 {
            let there = running.swap(&guest("echo-next"), &next("")).unwrap();
            let back = running.swap(&plugin("echo"), ECHO).unwrap();
            assert_eq!((there.sessions, back.sessions), (20, 20));
        }
        drop(until_swapped);
    });
}

#[test]
fn a_swap_that_fails_loses_nothing() {
    let running = echo();
    let mut clients: Vec<Client> = (0..10).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "before", "before");
    }
    for (fails_in, part) in [
        ("configure", "told to fail in configure"),
        ("trap-in-configure", "configure trapped"),
        ("restore", "told to fail in restore"),
        ("trap-in-restore", "restore trapped"),
        ("restore-session", "told to fail in restore-session"),
        ("trap-in-restore-session", "restore-session trapped"),
    ] {
        let error = running
            .swap(&guest("echo-next"), &next(fails_in))
            .unwrap_err();
        let said = chain(&error);
        assert!(said.contains(part), "{fails_in}: {said}");
        // What the new version wrote before it failed was held, and is forgotten.
        for client in &mut clients {
            says(client, "still small", "still small");
        }
        says(&mut running.connect(), "new", "new");
    }
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    assert!(swapped.sessions >= 10);
    // The counters are those of the old version: no failed restore has counted.
    let echoed = "before".len() + 6 * "still small".len();
    for client in &mut clients {
        client.expect(format!("restored {echoed} from echo/1\n"));
    }
}

#[test]
fn an_old_version_that_cannot_save_goes_on() {
    let running = Running::start(
        &guest("echo-next"),
        &next("save-session"),
        Isolation::Service,
        1,
    );
    let mut client = running.connect();
    says(&mut client, "abc", "ABC");
    let error = running.swap(&plugin("echo"), ECHO).unwrap_err();
    let told = chain(&error);
    assert!(told.contains("told to fail in save-session"), "{told}");
    says(&mut client, "def", "DEF");
    says(&mut client, "?", "6 of 6\n");
}

#[test]
fn plugins_with_no_format_in_common_are_refused() {
    let running = echo();
    let mut client = running.connect();
    says(&mut client, "abc", "abc");
    let error = running.swap(&guest("scripted"), "{}").unwrap_err();
    let said = chain(&error);
    assert!(matches!(error, SwapError::NoFormat { .. }), "{said}");
    assert!(said.contains("echo/1"), "{said}");
    says(&mut client, "def", "def");
    assert_eq!(running.connections(), 1);
}

#[test]
fn a_failure_on_one_worker_takes_all_back() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Worker, 2);
    let mut clients: Vec<Client> = (0..40).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "abc");
    }
    running
        .swap(&guest("echo-next"), &next("restore-session"))
        .unwrap_err();
    for client in &mut clients {
        says(client, "def", "def");
    }
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    assert_eq!(swapped.sessions, 40);
    for client in &mut clients {
        client.expect("restored 6 from echo/1\n");
        says(client, "ghi", "GHI");
    }
}

#[test]
fn a_service_without_connections_is_swapped() {
    let running = echo();
    let swapped = running.swap(&guest("echo-next"), &next("")).unwrap();
    assert_eq!(swapped.sessions, 0);
    says(&mut running.connect(), "new", "NEW");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
