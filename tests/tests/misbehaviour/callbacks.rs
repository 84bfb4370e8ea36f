//! Callbacks that no client sets off: at the start, at the end, in a swap, of a command; and strings in every place where one goes.

use std::{
    fs,
    time::{Duration, Instant},
};

use nethost::limits::Limits;
use nethost_tests::{
    host::{Run, nethost},
    misbehaviour::{GOAL, LINES, Pair},
    places::{guest, scratch},
    service::Running,
};

#[test]
fn a_loop_in_configure_ends_the_start() {
    let ended = Run::of(guest("misbehaves"))
        .set("deed", "loop")
        .set("in", "configure")
        // The default is 5 s of processor time, which a busy machine may not have to give in 20 s.
        .arguments(["--limit", "setup-time=500ms"])
        .ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let reason = "configure took more than 500ms of processor time";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

#[test]
fn a_loop_in_draining_does_not_keep_the_host() {
    let pair = Pair::start(LINES);
    let mut client = pair.bad();
    client.command("!loop draining");
    client.line_with("ready");
    pair.host.terminate();
    client.rest();
    let ended = pair.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let reason = "draining took more than 50ms of processor time";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

#[test]
fn a_loop_in_an_endpoints_constructor_leaves_the_others_alone() {
    let lines = format!("{LINES}\n[service.config]\ndeed = \"loop\"\nin = \"endpoint\"\n");
    let pair = Pair::start(&lines);
    let neighbour = pair.neighbour();
    pair.host
        .logged(&["the endpoint's constructor took more than"]);
    assert!(neighbour.stop().worst < 10 * GOAL);
}

#[test]
fn a_command_that_loops_fails() {
    let component = guest("misbehaves");
    let ended = nethost(["exec".as_ref(), component.as_os_str(), "loop".as_ref()]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("start took more than 50ms"),
        "{}",
        ended.log
    );
}

#[test]
fn a_loop_in_a_swap_fails_the_swap() {
    let component = guest("misbehaves");
    let limits = Limits {
        setup_time: Duration::from_millis(200),
        ..Limits::default()
    };
    for callback in [
        "formats",
        "save",
        "save-session",
        "restore",
        "restore-session",
    ] {
        let service = Running::limited(limits.clone(), &component);
        let mut client = service.connect();
        client.send("x");
        client.expect("x");
        // Formats are asked for once, when an instance is made.
        let is_new = callback.starts_with("restore") || callback == "formats";
        let config = if is_new {
            format!(r#"{{"deed":"loop","in":"{callback}"}}"#)
        } else {
            client.command(&format!("!loop {callback}"));
            client.line_with("ready");
            "{}".to_owned()
        };
        let started = Instant::now();
        let error = service.swap(&component, &config).expect_err(callback);
        let error = format!("{:#}", Chain(&error));
        let reason = format!("{callback} took more than 200ms of processor time");
        assert!(error.contains(&reason), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
        if is_new {
            // The old version has lost nothing.
            client.send("y");
            client.expect("y");
        } else {
            client.rest();
            let mut next = service.connect();
            next.send("y");
            next.expect("y");
        }
    }
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(source) => write!(f, ": {}", Chain(source)),
            None => Ok(()),
        }
    }
}

#[test]
fn a_giant_string_does_no_harm_wherever_it_goes() {
    let folder = scratch("giant-strings").join("d");
    fs::create_dir_all(&folder).unwrap();
    let lines = format!(
        "{LINES}[service.grants]\ndirectories = {{ d = {{ path = \"{}\", mode = \"rw\" }} }}\n",
        folder.display()
    );
    let pair = Pair::start(&lines);
    let neighbour = pair.neighbour();
    for which in 0..=32 {
        let mut client = pair.bad();
        client.command(&format!("!giant-string-{which}"));
        client.line_with(&format!("done giant-string-{which}"));
    }
    pair.serves();
    // No string was put where a file's name goes.
    assert_eq!(folder.read_dir().unwrap().count(), 0);
    let longest = pair.host.log().lines().map(str::len).max();
    assert!(longest < Some(20_000), "{longest:?}");
    let noticed = neighbour.stop();
    println!("giant strings: {noticed:?}");
    assert!(noticed.worst < 10 * GOAL, "{noticed:?}");
    let peak = pair.host.peak_memory();
    assert!(peak < 256 << 20, "{peak}");
}
