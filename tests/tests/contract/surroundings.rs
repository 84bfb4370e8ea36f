//! Addresses, clock, random numbers, log.

use std::time::Duration;

use nethost_tests::{client::Client, places::scratch, scripted::Scripted};

use crate::mapped;

#[test]
fn addresses_are_mapped_into_ipv6_and_are_the_ones_that_the_peer_asked_for() {
    let mut plugin =
        Scripted::start_with(|run| run.listen("tcp://127.0.0.1:0").listen("tcp://[::]:0"));
    let port = plugin.host.address_of(1).port();
    for ip in ["127.0.0.1", "127.0.0.9", "[::1]"] {
        let asked = format!("{ip}:{port}").parse().unwrap();
        let client = Client::tcp(asked);
        let event = plugin.event("made ");
        let (id, origin) = event.split_once(' ').unwrap();
        assert_eq!(origin, format!("configured tcp://[::]:{port}"));
        assert_eq!(plugin.ask(&format!("@{id} local")), mapped(asked));
        assert_eq!(plugin.ask(&format!("@{id} peer")), mapped(client.local()));
    }
}

#[test]
fn a_unix_socket_has_a_path_and_an_unnamed_peer() {
    let path = scratch("addresses").join("x.sock");
    let mut plugin = Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen(&format!("unix://{}", path.display()))
    });
    let mut client = Client::unix(&path);
    let event = plugin.event("made ");
    let (id, origin) = event.split_once(' ').unwrap();
    assert_eq!(origin, format!("configured unix://{}", path.display()));
    assert_eq!(
        plugin.ask(&format!("@{id} local")),
        format!("path {}", path.display())
    );
    assert_eq!(plugin.ask(&format!("@{id} peer")), "unnamed");
    client.command("write over unix; close");
    client.expect("over unix\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

#[test]
fn the_clock_goes_on_and_the_wall_clock_is_right() {
    let mut plugin = Scripted::start();
    let mut now = || -> (u64, u64) {
        let answer = plugin.ask("now");
        let (monotonic, wall) = answer.split_once(' ').unwrap();
        (monotonic.parse().unwrap(), wall.parse().unwrap())
    };
    let first = now();
    let second = now();
    assert!(second.0 > first.0);
    // Since the host started, not since 1970 or since the machine did.
    assert!(first.0 < 60_000_000_000, "{}", first.0);
    let real = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let told = Duration::from_nanos(second.1);
    assert!(real.abs_diff(told) < Duration::from_secs(20), "{told:?}");
}

#[test]
fn random_numbers_differ_and_are_bounded() {
    let mut plugin = Scripted::start();
    assert_ne!(plugin.ask("random"), plugin.ask("random"));
    for (asked, given) in [
        (0, 0),
        (1, 1),
        (65_536, 65_536),
        (65_537, 65_536),
        (4_000_000_000_u32, 65_536),
    ] {
        assert_eq!(
            plugin.ask(&format!("random-length {asked}")),
            given.to_string()
        );
    }
}

#[test]
fn the_log_has_level_and_service_and_no_control_characters() {
    let mut plugin =
        Scripted::start_with(|run| run.arguments(["--log", "trace", "--name", "demo"]));
    for (level, shown) in [
        ("trace", "TRACE"),
        ("debug", "DEBUG"),
        ("info", "INFO"),
        ("warn", "WARN"),
        ("error", "ERROR"),
    ] {
        plugin.run(&format!("log {level} one\\ntwo\\e[31m {level}-line"));
        let line = plugin.host.logged(&[&format!("{level}-line")]);
        assert!(line.contains(shown), "{line}");
        assert!(line.contains("demo"), "{line}");
        assert!(line.contains("one\\ntwo\\u{1b}[31m"), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

#[test]
fn a_long_line_of_the_log_is_cut() {
    let mut plugin = Scripted::start();
    plugin.run("log-long 100000");
    let line = plugin.host.logged(&["xxxx"]);
    assert!((8_000..9_000).contains(&line.len()), "{} bytes", line.len());
}

#[test]
fn printed_pieces_are_joined_into_lines_of_the_log() {
    let mut plugin = Scripted::start();
    plugin.run("print one ;print two\\nthree ;print four\\n");
    plugin.host.logged(&["INFO", "onetwo"]);
    plugin.host.logged(&["INFO", "threefour"]);
}
