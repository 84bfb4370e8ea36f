//! What a plugin does wrong ends with its instance, and what is no plugin is refused with the reason.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nethost_tests::{
    client::{Client, End},
    host::{Ended, Host, Run, nethost},
    places::{folders, guest, root, scratch, stock_plugins},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// One instance, so that all connections are its.
fn one_instance_of(name: &str) -> Run {
    Run::of(guest(name)).arguments(["--isolation", "service"])
}

/// Two connections; the first one misbehaves, and both end. A third is served at once, by the same process.
fn only_the_instance_ends(host: Host, misbehave: impl FnOnce(&mut Client)) -> Host {
    let pid = host.pid();
    let (mut bad, mut bystander) = (host.connect(), host.connect());
    for client in [&mut bad, &mut bystander] {
        client.send("hello");
        client.expect("hello");
    }
    misbehave(&mut bad);
    bad.rest();
    bystander.rest();
    served(&host);
    let mut host = host;
    assert_eq!(host.pid(), pid);
    assert!(host.is_running());
    host
}

fn served(host: &Host) {
    let mut next = host.connect();
    next.send("next");
    next.expect("next");
}

/// Appends all files of a folder, and of those in it.
fn collect(folder: &Path, sources: &mut String) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else {
            // Some are not text.
            *sources += &String::from_utf8_lossy(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn every_guest_has_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for folder in ["tests", "src", "bench", "../fuzz/src"] {
        collect(&here.join(folder), &mut sources);
    }
    for name in folders(&here.join("guests")) {
        assert!(
            sources.contains(&format!("\"{name}\"")),
            "no test and no benchmark names the guest {name}"
        );
    }
}

// Traps.

#[test]
fn a_trap_ends_all_connections_of_its_instance_and_nothing_else() {
    let host = one_instance_of("traps").start();
    let host = only_the_instance_ends(host, |client| client.send("!"));
    let line = host.logged(&["data-received trapped"]);
    for part in [
        "ERROR",
        "service=\"traps\"",
        "plugin=\"traps\"",
        "connection=1",
        "peer=\"127.0.0.1:",
        "unreachable",
        "nethost_guest_traps::trap",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    // The last words of a Rust program are in the log, too.
    host.logged(&["told to trap"]);
    host.logged(&["src/lib.rs:"]);
}

#[test]
fn a_trap_in_any_callback_ends_only_the_instance() {
    for callback in [
        "connection-made",
        "read-closed",
        "connection-lost",
        "completed",
    ] {
        let host = one_instance_of("traps").set("in", callback).start();
        let mut client = host.connect();
        match callback {
            "read-closed" => client.close_write(),
            // It may trap before it is sent.
            _ => drop(client.try_send("!")),
        }
        client.rest();
        host.logged(&["ERROR", callback, "trapped"]);
        if callback == "connection-made" {
            // The next one is made by a fresh instance, and traps again.
            host.connect().rest();
            host.logged_times(&["ERROR", callback, "trapped"], 2);
        } else {
            served(&host);
        }
    }
}

#[test]
fn a_trap_while_draining_does_not_keep_the_host_from_ending() {
    let host = one_instance_of("traps").set("in", "draining").start();
    let mut client = host.connect();
    client.send("x");
    client.expect("x");
    host.terminate();
    client.rest();
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("draining trapped"), "{}", ended.log);
}

#[test]
fn a_stack_overflow_is_a_trap() {
    let host = one_instance_of("traps").set("how", "recursion").start();
    let host = only_the_instance_ends(host, |client| client.send("!"));
    host.logged(&["data-received trapped", "call stack exhausted"]);
}

#[test]
fn a_trap_leaves_the_instances_of_other_workers_alone() {
    let host = Run::of(guest("traps"))
        .arguments(["--workers", "2", "--isolation", "worker"])
        .start();
    let mut clients: Vec<Client> = (0..40).map(|_| host.connect()).collect();
    for client in &mut clients {
        client.send("x");
        client.expect("x");
    }
    let mut bad = clients.pop().unwrap();
    bad.send("!");
    bad.rest();
    host.logged(&["data-received trapped"]);
    let mut left = 0;
    for mut client in clients {
        if client.try_send("y").is_ok() && client.rest_until(1) {
            left += 1;
        }
    }
    assert!((1..39).contains(&left), "{left} of 39 are left");
}

#[test]
fn a_plugin_that_breaks_again_and_again_is_left_alone_for_a_while() {
    let mut host = one_instance_of("traps").start();
    for _ in 0..10 {
        let mut client = host.connect();
        // It is refused at some time, and then this may fail.
        drop(client.try_send("!"));
        client.rest();
    }
    host.logged(&["ERROR", "again and again"]);
    // The first ones are replaced at once.
    host.logged_times(&["data-received trapped"], 6);
    host.connect().rest();
    // After a second it is tried again.
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    loop {
        let mut client = host.connect();
        if client.try_send("x").is_ok() && client.rest_until(1) {
            break;
        }
        assert!(Instant::now() < deadline, "it is never served again");
        assert!(client.rest().0.is_empty());
    }
    assert!(host.is_running());
}

// Time and memory.

#[test]
fn a_loop_without_end_is_ended_by_the_deadline() {
    let host = one_instance_of("loops").start();
    let start = Instant::now();
    let host = only_the_instance_ends(host, |client| client.send("!"));
    assert!(start.elapsed() >= Duration::from_millis(50));
    let line = host.logged(&["data-received took more than 50ms of processor time"]);
    assert!(line.contains("nethost_guest_loops::spin"), "{line}");
}

#[test]
fn a_loop_on_one_worker_does_not_hold_up_the_other() {
    let host = Run::of(guest("loops"))
        .arguments(["--workers", "2", "--isolation", "worker"])
        .start();
    for _ in 0..4 {
        let mut bad = host.connect();
        bad.send("!");
        bad.rest();
        served(&host);
    }
    host.logged_times(&["data-received took more than"], 4);
}

#[test]
fn memory_without_end_is_ended_by_the_limit() {
    let host = one_instance_of("grows").start();
    let host = only_the_instance_ends(host, |client| client.send("!"));
    let line = host.logged(&[
        "data-received",
        "its memory would have grown past 268435456 bytes",
    ]);
    assert!(line.contains("backtrace"), "{line}");
    assert!(host.memory() < 128 << 20, "{} bytes", host.memory());
}

#[test]
fn handles_without_end_are_ended_by_the_limit() {
    let host = one_instance_of("hoards").start();
    let host = only_the_instance_ends(host, |client| {
        // 20,000 groups each; there may be 120,000 handles.
        while client.try_send("!").is_ok() && client.rest_until(1) {}
    });
    host.logged(&["ERROR", "data-received"]);
    assert!(host.peak_memory() < 256 << 20, "{}", host.peak_memory());
}

#[test]
fn a_plugin_that_writes_without_end_loses_the_connection_and_nothing_else() {
    let host = one_instance_of("floods").start();
    let mut bystander = host.connect();
    let mut bad = host.connect();
    bad.send("!");
    bystander.send("still served");
    bystander.expect("still served");
    let (_, end) = bad.rest();
    assert_eq!(end, End::Reset);
    assert!(host.peak_memory() < 128 << 20, "{}", host.peak_memory());
}

#[test]
fn timers_without_end_complete_with_limit() {
    let host = one_instance_of("timers")
        .arguments(["--log", "debug", "--limit", "timers=1000000"])
        .start();
    let mut client = host.connect();
    let refused = |client: &mut Client| {
        client.send("?");
        client.line().parse::<u32>().unwrap()
    };
    // 5,000 each; 200,000 operations may be in flight.
    for round in 1..=40 {
        client.send("!");
        assert_eq!(refused(&mut client), 0, "after {round} rounds");
    }
    client.send("!");
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    while refused(&mut client) < 5_000 {
        assert!(Instant::now() < deadline);
    }
    // The SDK's own executor takes an operation now and then.
    let over = refused(&mut client);
    assert!((5_000..5_010).contains(&over), "{over}");
    // They were the session's, and are gone with it: the next one may start as many.
    drop(client);
    host.logged(&["connection lost"]);
    let mut client = host.connect();
    client.send("!");
    assert!(refused(&mut client) <= over);
    assert!(host.peak_memory() < 256 << 20, "{}", host.peak_memory());
}

#[test]
fn many_timers_that_come_due_at_once_do_not_hold_up_others() {
    let host = one_instance_of("timers")
        .arguments(["--limit", "timers=1000000"])
        .start();
    let (mut client, mut bystander) = (host.connect(), host.connect());
    for _ in 0..39 {
        client.send("2?");
        assert_eq!(client.line(), "0");
    }
    // A few seconds are those until they are due, and what a loaded machine takes.
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    while start.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        bystander.send(".");
        bystander.expect(".");
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

/// Adds up what the log says that was dropped of it.
fn dropped(log: &str) -> u32 {
    let told = log.lines().filter(|line| line.contains("WARN"));
    let told = told.filter_map(|line| line.split_once("were dropped")?.1.split_once("dropped="));
    told.map(|(_, count)| count.trim().parse::<u32>().unwrap())
        .sum()
}

#[test]
fn a_flood_of_the_log_is_counted_and_dropped() {
    let host = one_instance_of("logs").start();
    let mut client = host.connect();
    client.send("!");
    client.expect("!");
    // Later lines tell how many were dropped, a second's at a time.
    let mut rounds = 0;
    while dropped(&host.log()) <= 8_000 {
        rounds += 1;
        assert!(rounds < 1000, "{}", dropped(&host.log()));
        assert!(client.is_silent_for(Duration::from_millis(20)));
        client.send("!");
        client.expect("!");
    }
    let log = host.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("logged ") || line.contains("printed "));
    let lines = lines.count();
    assert!(
        (1_000..1_500 + rounds * 100).contains(&lines),
        "{lines} lines"
    );
}

// At the start.

#[test]
fn a_configuration_that_the_plugin_refuses_is_the_operators_mistake() {
    let ended = Run::of(guest("refuses"))
        .set("reason", "no such network")
        .ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert_eq!(ended.output, "");
    let last = last_line(&ended);
    for part in ["nethost: ", "refuses", "configure", "no such network"] {
        assert!(last.contains(part), "no {part} in {last}");
    }
}

#[test]
fn a_trap_in_configure_is_told_and_ends_the_host() {
    let ended = Run::of(guest("traps")).set("in", "configure").ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert_eq!(ended.output, "");
    assert!(ended.log.contains("told to trap"), "{}", ended.log);
    let last = last_line(&ended);
    for part in ["nethost: ", "traps", "configure trapped"] {
        assert!(last.contains(part), "no {part} in {last}");
    }
}

// What is no plugin.

#[test]
fn stock_plugins_import_nothing_but_the_contract() {
    let plugins = stock_plugins();
    assert!(plugins.len() >= 2, "{plugins:?}");
    for plugin in plugins {
        let described = nethost(["inspect".as_ref(), plugin.as_os_str(), "--json".as_ref()]);
        assert_eq!(described.code, Some(0), "{}", described.log);
        let described: serde_json::Value = serde_json::from_str(&described.output).unwrap();
        let imports = described["imports"].as_array().unwrap();
        assert!(!imports.is_empty(), "{}", plugin.display());
        for import in imports {
            let import = import.as_str().unwrap();
            assert!(
                import.starts_with("nethost:plugin/"),
                "{} imports {import}",
                plugin.display()
            );
        }
    }
}

#[test]
fn what_is_no_plugin_is_refused_with_the_reason() {
    let folder = scratch("unfit");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(guest("scripted")).unwrap();
    fs::create_dir_all(folder.join("source")).unwrap();
    fs::write(folder.join("source/plugin.toml"), "").unwrap();
    let cases: Vec<(PathBuf, &[&str])> = vec![
        (folder.join("nowhere.wasm"), &["no such file"]),
        (
            folder.join("source.wasm"),
            &["not built", "nethost build ", "source`"],
        ),
        (folder.join("source"), &["source folder", "nethost build "]),
        (file("empty.wasm", b""), &["not WebAssembly"]),
        (
            file("script.wasm", b"#!/bin/sh\n"),
            &["not WebAssembly", "#!/bin/s"],
        ),
        (file("text.wasm", b"(component)"), &["WebAssembly text"]),
        (
            file("core.wasm", &wat::parse_str("(module)").unwrap()),
            &["a core module", "nethost build"],
        ),
        (
            file("nothing.wasm", &wat::parse_str("(component)").unwrap()),
            &[
                "does not export `nethost:plugin/handler@0.1.0`",
                "exports nothing",
            ],
        ),
        (file("cut.wasm", &whole[..whole.len() / 2]), &["damaged"]),
        (
            file(
                "newer.wasm",
                &component(CONTRACT.replace("@0.1.0", "@0.2.0").as_str()),
            ),
            &["another contract", "nethost:plugin/handler@0.2.0", "0.1.x"],
        ),
        (
            file(
                "less.wasm",
                &component(&CONTRACT.replace("    draining: func(deadline: u64);\n", "")),
            ),
            &["does not export `nethost:plugin/handler@0.1.0#draining`"],
        ),
        (
            file(
                "sockets.wasm",
                &component(&CONTRACT.replace("world it {\n", "world it {\n    import teleport;\n")),
            ),
            &["imports `nethost:plugin/teleport@0.1.0`", "does not offer"],
        ),
        (
            file(
                "other-type.wasm",
                &component(&CONTRACT.replace("wall: func() -> u64", "wall: func() -> u32")),
            ),
            &["clock"],
        ),
    ];
    for (path, parts) in cases {
        let ended = nethost(["run".as_ref(), path.as_os_str()]);
        let said = last_line(&ended);
        assert_eq!(ended.code, Some(2), "{}: {said}", path.display());
        assert_eq!(ended.output, "");
        assert!(said.starts_with("nethost: "), "{said}");
        let name = path.file_name().unwrap().to_str().unwrap();
        for part in parts.iter().chain(&[name]) {
            assert!(said.contains(part), "no `{part}` in {said}");
        }
        // `inspect` compiles nothing, so it cannot see what only the types of functions show.
        if name != "other-type.wasm" {
            let inspected = nethost(["inspect".as_ref(), path.as_os_str()]);
            assert_eq!(inspected.code, Some(2), "{name}");
            assert_eq!(last_line(&inspected), said);
        }
    }
}

#[test]
fn a_component_of_the_same_contract_made_by_other_tools_is_served() {
    let path = scratch("foreign").join("foreign.wasm");
    fs::write(&path, component(CONTRACT)).unwrap();
    // It refuses every connection.
    let host = Run::of(&path).start();
    host.connect().end();
    host.connect().end();
}

#[test]
fn an_import_of_wasi_is_named_with_what_to_do_about_it() {
    let path = scratch("wasi").join("wasi.wasm");
    let text = r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#;
    fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    let ended = nethost(["inspect".as_ref(), path.as_os_str()]);
    assert_eq!(ended.code, Some(2));
    // It exports nothing either, which may be said first; a whole plugin shows the import.
    let whole = CONTRACT.replace(
        "world it {\n",
        "world it {\n    import wasi:sockets/tcp@0.2.0;\n",
    ) + "\npackage wasi:sockets@0.2.0 {\n    interface tcp {\n        start: func();\n    }\n}\n";
    fs::write(&path, component(&whole)).unwrap();
    let ended = nethost(["inspect".as_ref(), path.as_os_str()]);
    let said = last_line(&ended);
    assert_eq!(ended.code, Some(2), "{said}");
    for part in ["`wasi:sockets/tcp@0.2.0`", "never sees a socket"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[test]
fn a_missing_stock_plugin_names_the_command_that_builds_it() {
    // A copy of the source without its component beside it.
    let folder = scratch("missing").join("plugins");
    fs::create_dir_all(folder.join("irc")).unwrap();
    fs::copy(
        root().join("plugins/irc/plugin.toml"),
        folder.join("irc/plugin.toml"),
    )
    .unwrap();
    let component = folder.join("irc.wasm");
    let ended = nethost(["run".as_ref(), component.as_os_str()]);
    assert_eq!(ended.code, Some(2));
    let command = format!("`nethost build {}`", folder.join("irc").display());
    assert!(ended.log.contains(&command), "{}", ended.log);
}

fn last_line(ended: &Ended) -> String {
    ended.log.lines().last().unwrap_or_default().to_owned()
}

/// Makes the component of a world `it` whose functions do nothing: they return zeros.
fn component(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("it.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("it")).unwrap();
    let mut module = wat::parse_str(MODULE).unwrap();
    if wit.contains("wall: func() -> u32") {
        let text = MODULE.replace("$wall (result i64)", "$wall (result i32)");
        module = wat::parse_str(text).unwrap();
    }
    if wit.contains("@0.2.0;") && !wit.contains("wasi") {
        let text = MODULE.replace("@0.1.0", "@0.2.0");
        module = wat::parse_str(text).unwrap();
    }
    if wit.contains("import teleport") {
        module = importing("nethost:plugin/teleport@0.1.0", "beam");
    }
    if wit.contains("import wasi") {
        module = importing("wasi:sockets/tcp@0.2.0", "start");
    }
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

fn importing(interface: &str, function: &str) -> Vec<u8> {
    let import = format!("(module (import \"{interface}\" \"{function}\" (func))");
    wat::parse_str(MODULE.replacen("(module", &import, 1)).unwrap()
}

/// The least of the contract that a plugin needs.
const CONTRACT: &str = "\
package nethost:plugin@0.1.0;

interface types {
    variant origin { configured(string), opened(u64), dialed(u64), other(string) }
    variant close-reason { done, closed-here, aborted-here, reset, idle, limit(string), tls(string), draining, trapped, other(string) }
}

interface clock {
    wall: func() -> u64;
}

interface teleport {
    beam: func();
}

interface transport {
    resource connection {
        id: func() -> u64;
    }
}

interface handler {
    use types.{close-reason, origin};
    use transport.{connection};
    configure: func(config: string) -> result<_, string>;
    draining: func(deadline: u64);
    connection-made: func(connection: connection, origin: origin) -> option<session>;
    resource session {
        data-received: func(data: list<u8>);
        writable: func();
        read-closed: func();
        connection-lost: func(reason: close-reason);
    }
}

world it {
    import clock;
    import transport;
    export handler;
}
";

/// Configures well, and refuses every connection.
const MODULE: &str = r#"(module
    (import "nethost:plugin/clock@0.1.0" "wall" (func $wall (result i64)))
    (import "nethost:plugin/transport@0.1.0" "[resource-drop]connection" (func $drop (param i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func (export "nethost:plugin/handler@0.1.0#configure") (param i32 i32) (result i32)
        (drop (call $wall))
        (i32.const 16))
    (func (export "nethost:plugin/handler@0.1.0#draining") (param i64))
    (func (export "nethost:plugin/handler@0.1.0#connection-made") (param i32 i32 i64 i32) (result i32)
        (call $drop (local.get 0))
        (i32.const 16))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.data-received") (param i32 i32 i32))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.writable") (param i32))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.read-closed") (param i32))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.connection-lost") (param i32 i32 i32 i32)))
"#;
