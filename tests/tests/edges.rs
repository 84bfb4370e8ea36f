//! The edges of limits, as an operator sets them: exactly so much is well, and one more is not.
//!
//! [`TESTED`] says which test shows which limit; one that is not in it fails.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    full::full_listener,
    host::{Ended, Run, nethost},
    places::{guest, plugin, root, scratch},
    scripted::Scripted,
};

/// Each limit, and the test that shows what is at its edge: a file below the root, and a function of it.
const TESTED: &[(&str, &str, &str)] = &[
    ("memory", LIMITER, TABLES_AND_MEMORIES),
    ("table-elements", LIMITER, TABLES_AND_MEMORIES),
    (
        "callback-time",
        "tests/tests/limits.rs",
        "a_callback_over_its_time_ends_the_instance_and_the_next_is_fresh",
    ),
    (
        "setup-time",
        HERE,
        "a_plugin_that_is_set_up_too_slowly_does_not_start",
    ),
    (
        "cpu-share",
        "host/src/reactor/turns.rs",
        "credit_comes_back_at_the_rate_of_the_share_up_to_the_burst",
    ),
    (
        "connections",
        "tests/tests/limits.rs",
        "a_connection_too_many_is_closed_and_the_next_is_served_when_there_is_room",
    ),
    ("connections-per-peer", DOOR, PER_PEER),
    ("connections-per-prefix", DOOR, PER_PEER),
    ("accept-rate", DOOR, "connections_that_come_too_fast_wait"),
    ("first-byte-time", DOOR, "who_says_nothing_is_closed"),
    ("idle-time", DOOR, "who_stops_talking_is_closed"),
    (
        "handshake-time",
        "tests/tests/listeners/proxy.rs",
        "a_header_that_is_late_or_never_comes_is_not_waited_for",
    ),
    (
        "probation",
        "tests/tests/swap/ways.rs",
        "after_its_probation_a_version_that_breaks_is_made_anew",
    ),
    (
        "close-time",
        "tests/tests/limits.rs",
        "a_close_that_the_peer_does_not_take_in_time_is_aborted",
    ),
    (
        "unsent",
        "tests/tests/limits.rs",
        "unsent_bytes_over_the_limit_end_the_connection",
    ),
    (
        "datagram",
        "tests/tests/datagram.rs",
        "what_is_longer_than_the_limit_is_cut_and_the_plugin_knows",
    ),
    (
        "datagram-batch",
        "host/src/reactor/datagram.rs",
        "a_call_brings_what_fits_and_at_least_one",
    ),
    (
        "connects",
        HERE,
        "a_connection_too_many_at_once_is_not_begun",
    ),
    (
        "connect-rate",
        HERE,
        "connections_that_are_begun_too_fast_fail",
    ),
    (
        "connect-time",
        "tests/tests/limits.rs",
        "an_attempt_to_connect_that_takes_too_long_times_out",
    ),
    (
        "listeners",
        HERE,
        "a_listener_too_many_keeps_the_service_from_starting",
    ),
    (
        "operations",
        "tests/tests/limits.rs",
        "an_operation_too_many_completes_with_limit",
    ),
    ("timers", HERE, "a_timer_too_many_fails"),
    ("handles", HERE, "a_handle_too_many_ends_the_instance"),
    (
        "memberships",
        "tests/tests/limits.rs",
        "memberships_over_the_limit_are_a_trap",
    ),
    (
        "hostcall-bytes",
        "tests/tests/limits.rs",
        "more_bytes_than_one_call_may_bring_are_a_trap",
    ),
    (
        "log-lines",
        "tests/tests/sandbox.rs",
        "a_flood_of_the_log_is_counted_and_dropped",
    ),
    (
        "metric-series",
        "tests/tests/metrics.rs",
        "a_plugin_that_breaks_the_rules_harms_only_its_own_metrics",
    ),
    (
        "open-files",
        "tests/tests/contract/storage.rs",
        "a_file_is_taken_once_and_counts_until_it_is_closed",
    ),
    (
        "storage-bytes",
        "tests/tests/contract/storage.rs",
        "operations_hold_so_many_bytes_at_a_time",
    ),
    ("config-bytes", HERE, "a_config_too_long_is_refused"),
    (
        "component-bytes",
        HERE,
        "a_component_too_large_is_not_loaded",
    ),
    (
        "compile-time",
        HERE,
        "a_component_that_compiles_too_slowly_is_not_loaded",
    ),
];

const HERE: &str = "tests/tests/edges.rs";
const DOOR: &str = "tests/tests/door.rs";
const PER_PEER: &str = "a_peer_has_no_more_connections_than_its_limit";
const LIMITER: &str = "host/src/instance/limiter.rs";
const TABLES_AND_MEMORIES: &str = "tables_and_memories_grow_to_their_limit_and_no_further";

#[test]
fn every_limit_has_a_test() {
    // A unit test of the host sees to it that the example has every key.
    let example = fs::read_to_string(root().join("nethost.example.toml")).unwrap();
    let (_, section) = example.split_once("[service.limits]").unwrap();
    let keys: Vec<&str> = section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.strip_prefix('#')?.split_once(" = ")?.0))
        .filter(|key| !key.contains(' '))
        .collect();
    assert!(keys.len() >= 30, "{keys:?}");
    let tested: Vec<&str> = TESTED.iter().map(|(key, ..)| *key).collect();
    for key in &keys {
        assert!(tested.contains(key), "`{key}` has no test");
    }
    for (key, file, function) in TESTED {
        assert!(keys.contains(key), "there is no limit `{key}`");
        let text = fs::read_to_string(root().join(file)).unwrap();
        let function = format!("fn {function}()");
        assert!(text.contains(&function), "{file} has no {function}");
    }
}

fn scripted(limits: &[&str]) -> Scripted {
    Scripted::start_with(|run| {
        run.arguments(["--allow-connect", "127.0.0.0/8:*"])
            .arguments(limits.iter().flat_map(|limit| ["--limit", limit]))
    })
}

#[track_caller]
fn refused(run: Run, limits: &[&str], expected: &str) -> Ended {
    let ended = run
        .arguments(limits.iter().flat_map(|limit| ["--limit", limit]))
        .ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains(expected), "{}", ended.log);
    ended
}

#[test]
fn a_timer_too_many_fails() {
    let mut plugin = scripted(&["timers=3"]);
    let first = plugin.started("after 600000");
    plugin.started("after 600000");
    plugin.started("after 600000");
    let fourth = plugin.started("after 600000");
    assert_eq!(
        plugin.event(&format!("completed {fourth}")),
        "error limit 3 timers are running"
    );
    // What is due at once is no timer.
    let now = plugin.started("after 0");
    assert_eq!(plugin.event(&format!("completed {now}")), "ok");
    plugin.run(&format!("cancel {first}"));
    let next = plugin.started("after 1");
    assert_eq!(plugin.event(&format!("completed {next}")), "ok");
}

#[test]
fn a_connection_too_many_at_once_is_not_begun() {
    let (listener, _waiting) = full_listener("127.0.0.1", 0);
    let full = listener.local_addr().unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = open.local_addr().unwrap();
    let mut plugin = scripted(&["connects=2"]);
    let first = plugin.started(&format!("connect tcp://{full}"));
    plugin.started(&format!("connect tcp://{full}"));
    plugin.settle();
    let third = plugin.started(&format!("connect tcp://{open}"));
    assert_eq!(
        plugin.event(&format!("completed {third}")),
        "error limit 2 connections are being made"
    );
    plugin.run(&format!("cancel {first}"));
    plugin.settle();
}

#[test]
fn connections_that_are_begun_too_fast_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut plugin = scripted(&["connect-rate=1"]);
    let mut connect = || {
        let id = plugin.started(&format!("connect tcp://{address}"));
        plugin.event(&format!("completed {id}"))
    };
    let start = Instant::now();
    assert_eq!(connect(), "ok");
    assert_eq!(connect(), "error limit 1 connections a second are the most");
    while connect() != "ok" {
        assert!(start.elapsed() < DEADLINE, "no other is ever begun");
    }
    assert!(start.elapsed() >= Duration::from_millis(900));
}

#[test]
fn a_handle_too_many_ends_the_instance() {
    let plugin = scripted(&["handles=100", "connections=10"]);
    let mut client = plugin.host.connect();
    let mut groups = 0;
    // Two for each of ten connections, of which two are there, and one hundred.
    while client
        .try_send(format!("join g{groups}; write here\n"))
        .is_ok()
        && client.rest_until(5)
    {
        groups += 1;
        assert!(groups <= 120);
    }
    assert!((100..=116).contains(&groups), "{groups} groups");
    plugin.host.logged(&["ERROR", "this instance ends"]);
}

#[test]
fn a_listener_too_many_keeps_the_service_from_starting() {
    let run = || {
        let run = Run::of(plugin("echo"));
        run.listen("tcp://127.0.0.1:0").listen("tcp://127.0.0.1:0")
    };
    run().arguments(["--limit", "listeners=2"]).start();
    refused(run(), &["listeners=1"], "2 listeners; `listeners` allows 1");
}

#[test]
fn a_config_too_long_is_refused() {
    let run = |letters: usize| {
        let greeting = "x".repeat(letters);
        Run::of(plugin("echo")).set("greeting", &greeting)
    };
    let refusal = refused(
        run(2000),
        &["config-bytes=1KiB"],
        "`config-bytes` allows 1024",
    );
    let (_, rest) = refusal.log.split_once("config has ").unwrap();
    let bytes: usize = rest.split(' ').next().unwrap().parse().unwrap();
    let beside = bytes - 2000;
    run(1024 - beside)
        .arguments(["--limit", "config-bytes=1KiB"])
        .start();
    refused(
        run(1025 - beside),
        &["config-bytes=1KiB"],
        "the plugin's config has 1025 bytes",
    );
}

#[test]
fn a_component_too_large_is_not_loaded() {
    let component = plugin("echo");
    let size = fs::metadata(&component).unwrap().len();
    let limit = |bytes: u64| format!("component-bytes={bytes}");
    Run::of(&component)
        .arguments(["--limit", &limit(size)])
        .start();
    let expected = format!("it has {size} bytes; `component-bytes` allows {}", size - 1);
    refused(Run::of(&component), &[&limit(size - 1)], &expected);
}

#[test]
fn a_component_that_compiles_too_slowly_is_not_loaded() {
    // Nothing that was compiled before is found there.
    let cache = scratch("compiles-slowly");
    let run = |folder: &str| {
        let cache = cache.join(folder);
        Run::of(plugin("irc")).started_by([
            Path::new("env"),
            Path::new(&format!("XDG_CACHE_HOME={}", cache.display())),
        ])
    };
    refused(
        run("one"),
        &["compile-time=10ms"],
        "takes longer to compile than `compile-time` allows, which is 10ms",
    );
    run("other")
        .arguments(["--limit", "compile-time=1h"])
        .start();
}

#[test]
fn a_plugin_that_is_set_up_too_slowly_does_not_start() {
    let run = |setup: &str| {
        Run::of(guest("burns"))
            .set("setup", setup)
            .arguments(["--limit", "setup-time=300ms"])
    };
    run("10ms").start();
    let ended = run("30s").ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("took more than 300ms of processor time"),
        "{}",
        ended.log
    );
}

#[test]
fn a_limit_that_is_set_wrongly_is_a_mistake() {
    for (limits, expected) in [
        (
            &["memry=1MiB"][..],
            "did you mean `memory`? there are memory, ",
        ),
        (&["memory"], "expected NAME=VALUE"),
        (&["memory=0"], "out of range; it can be 1MiB to 4GiB"),
        (&["callback-time=50"], "is not a length of time"),
        (&["connections=-1"], "is not a whole number"),
        (&["timers=1", "timers=2"], "--limit sets `timers` twice"),
    ] {
        refused(Run::of(plugin("echo")), limits, expected);
        let mut arguments = vec!["exec"];
        arguments.extend(limits.iter().flat_map(|limit| ["--limit", *limit]));
        let echo = plugin("echo");
        arguments.push(echo.to_str().unwrap());
        let ended = nethost(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(ended.log.contains(expected), "{}", ended.log);
    }
}

#[test]
fn help_has_a_table_of_limits_and_shells_complete_them() {
    for command in ["run", "exec"] {
        let help = nethost([command, "--help"]).output;
        for (key, ..) in TESTED {
            assert!(help.contains(&format!("{key}: ")), "{key} in {command}");
        }
    }
    let script = nethost(["completions", "bash"]).output;
    assert!(script.contains("callback-time"));
}
