//! The command line: what it takes, what it says, and how it ends.

use std::fs;

use nethost_tests::{
    host::{Ended, Run, nethost},
    places::{guest, plugin, scratch},
    scripted::Scripted,
};
use serde_json::Value;

fn last_line(ended: &Ended) -> &str {
    ended.log.lines().last().unwrap_or_default()
}

#[test]
fn help_names_every_flag_and_exits_0() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--help"],
            &[
                "run",
                "exec",
                "build",
                "inspect",
                "--log",
                "--log-format",
                "--version",
                "Exit codes",
            ],
        ),
        (
            &["run", "--help"],
            &[
                "--listen",
                "--set",
                "--allow-connect",
                "--isolation",
                "--workers",
                "--name",
                "--drain-timeout",
                "--log",
                "--log-format",
                "KEY=VALUE",
                "HOST:PORT",
                "Examples",
                "unix:///",
                "tcp://",
                "worker",
                "service",
                "SIGTERM",
                "RUST_LOG",
            ],
        ),
        (
            &["build", "--help"],
            &["--out", "--manifest", "--debug", "plugin.toml", "Examples"],
        ),
        (&["inspect", "--help"], &["--json", "Examples"]),
    ];
    for (arguments, parts) in cases {
        let ended = nethost(*arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert_eq!(ended.log, "");
        for part in *parts {
            assert!(
                ended.output.contains(part),
                "{arguments:?}: no {part} in\n{}",
                ended.output
            );
        }
        for line in ended.output.lines() {
            assert!(line.chars().count() <= 100, "too long: {line}");
        }
    }
    let version = nethost(["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(
        version.output,
        format!("nethost {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn what_is_typed_wrongly_exits_2_and_names_it() {
    let echo = plugin("echo");
    let echo = echo.to_str().unwrap();
    let irc = plugin("irc");
    let irc = irc.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["rnu"], &["rnu"]),
        (&["run"], &["PLUGIN"]),
        (&["run", echo, "--lisen", "x"], &["--lisen", "--listen"]),
        (
            &["run", echo, "--listen", "tcp://127.0.0.1"],
            &["port is missing"],
        ),
        (
            &["run", echo, "--listen", "127.0.0.1:7"],
            &["127.0.0.1:7", "tcp://127.0.0.1"],
        ),
        (
            &["run", irc, "--listen", "udp://127.0.0.1:0"],
            &["udp://127.0.0.1:0", "datagram-handler"],
        ),
        (
            &["run", echo, "--listen", "tcp://127.0.0.1:0?bcklog=1"],
            &["bcklog", "backlog"],
        ),
        (
            &["run", echo, "--listen", "tcp://127.0.0.1:0?backlog=many"],
            &["backlog", "many"],
        ),
        (
            &["run", echo, "--listen", "unix://relative"],
            &["unix://relative"],
        ),
        (&["run", echo, "--workers", "0"], &["--workers", "0"]),
        (
            &["run", echo, "--name", "my service"],
            &["my service", "letters, digits"],
        ),
        (&["run", echo, "--workers", "many"], &["--workers", "many"]),
        (
            &["run", echo, "--isolation", "process"],
            &["process", "worker", "service"],
        ),
        (
            &["run", irc, "--isolation", "connection"],
            &["connection", "only service"],
        ),
        (
            &["run", irc, "--isolation", "worker"],
            &["irc", "worker", "service"],
        ),
        (
            &["run", echo, "--allow-connect", "somewhere"],
            &["somewhere", "HOST:PORT"],
        ),
        (&["run", echo, "--allow-connect", "a:99999"], &["99999"]),
        (
            &["run", echo, "--allow-connect", "0.0.0.0:7"],
            &["0.0.0.0:7", "`*` is any host"],
        ),
        (
            &["run", echo, "--nameserver", "dns.test"],
            &["dns.test", "--nameserver", "192.0.2.1:5353"],
        ),
        (
            &["run", echo, "--drain-timeout", "soon"],
            &["soon", "--drain-timeout"],
        ),
        (
            &["run", echo, "--drain-timeout", "5"],
            &["--drain-timeout", "5"],
        ),
        (
            &["run", echo, "--set", "greeting"],
            &["greeting", "KEY=VALUE"],
        ),
        (&["run", echo, "--set", "=x"], &["KEY=VALUE"]),
        (
            &["run", echo, "--set", "greting=x"],
            &["greting", "greeting"],
        ),
        (
            &["run", irc, "--set", "nick-length=long"],
            &["nick-length", "long", "integer"],
        ),
        (&["run", irc, "--set", "flood=maybe"], &["flood", "maybe"]),
        (
            &["run", irc, "--set", "ping-timeout=soon"],
            &["ping-timeout", "soon"],
        ),
        // What only the plugin knows to be wrong is the operator's mistake, too.
        (
            &[
                "run",
                irc,
                "--set",
                "nick-length=99",
                "--listen",
                "tcp://127.0.0.1:0",
            ],
            &["nick-length", "99"],
        ),
        (
            &[
                "run",
                irc,
                "--set",
                "network=two words",
                "--listen",
                "tcp://127.0.0.1:0",
            ],
            &["network", "two words"],
        ),
        (
            &["run", echo, "--log-format", "xml"],
            &["xml", "text", "json"],
        ),
        (&["run", echo, "--log", "nethost=loud"], &["loud"]),
        (&["inspect"], &["PLUGIN"]),
        (&["build", "/nowhere/at/all"], &["/nowhere/at/all"]),
        (&["build", echo], &["--out"]),
    ];
    for (arguments, parts) in cases {
        let ended = nethost(*arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.log);
        assert_eq!(ended.output, "", "{arguments:?}");
        for part in *parts {
            assert!(
                ended.log.contains(part),
                "{arguments:?}: no {part} in\n{}",
                ended.log
            );
        }
    }
}

#[test]
fn a_required_key_that_is_missing_is_named() {
    let ended = Run::of(guest("refuses")).ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    for part in ["reason", "--set"] {
        assert!(ended.log.contains(part), "no {part} in {}", ended.log);
    }
}

#[test]
fn what_is_set_reaches_the_plugin() {
    let host = Run::of(plugin("irc"))
        .set("network", "TestNet")
        .set("motd", "one line")
        .set("channel-modes", "nt")
        .start();
    let mut client = host.connect();
    client.say("NICK ann");
    client.say("USER ann 0 * :Ann");
    client.line_with("NETWORK=TestNet");
    client.line_with("one line");
}

#[test]
fn a_line_says_where_each_listener_is_and_nothing_else_is_printed() {
    let path = scratch("ready").join("x.sock");
    let mut plugin = Scripted::start_with(|run| {
        run.listen("tcp://127.0.0.1:0")
            .listen("tcp://[::1]:0?backlog=5")
            .listen(&format!("unix://{}?mode=600", path.display()))
            .arguments(["--name", "my-service", "--log", "trace"])
    });
    plugin.run("log info hello;print hello\\n");
    plugin.settle();
    let output = plugin.host.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    let port = |line: &str, start: &str| -> u16 {
        let port = line.strip_prefix(start);
        port.and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("`{line}` is not `{start}PORT`"))
    };
    assert_ne!(port(lines[0], "listening my-service tcp://127.0.0.1:"), 0);
    assert_ne!(port(lines[1], "listening my-service tcp://[::1]:"), 0);
    assert_eq!(
        lines[2],
        format!("listening my-service unix://{}", path.display())
    );
    plugin.host.terminate();
    plugin.control.close_write();
    let ended = plugin.host.ended();
    assert_eq!(ended.output, output);
}

#[test]
fn the_manifests_listener_is_the_default() {
    // Its port may be taken on this machine; then the error names it, which says the same.
    let inspected = nethost([
        "inspect".as_ref(),
        plugin("echo").as_os_str(),
        "--json".as_ref(),
    ]);
    let described: Value = serde_json::from_str(&inspected.output).unwrap();
    assert_eq!(
        described["listen"],
        serde_json::json!(["tcp://127.0.0.1:7007", "udp://127.0.0.1:7007"])
    );
    let described = nethost([
        "inspect".as_ref(),
        plugin("irc").as_os_str(),
        "--json".as_ref(),
    ]);
    let described: Value = serde_json::from_str(&described.output).unwrap();
    assert_eq!(
        described["listen"],
        serde_json::json!(["tcp://127.0.0.1:6667"])
    );
    let ended = nethost(["run".as_ref(), guest("scripted").as_os_str()]);
    assert_eq!(ended.code, Some(2));
    assert!(last_line(&ended).contains("--listen"), "{}", ended.log);
}

#[test]
fn a_host_that_cannot_listen_exits_1() {
    for url in [
        // An address of nobody's (RFC 5737), so not this machine's.
        "tcp://192.0.2.1:0",
        "unix:///nowhere/at/all/x.sock",
        "tcp://does-not-exist.invalid:0",
    ] {
        let ended = Run::of(plugin("echo")).listen(url).ended();
        assert_eq!(ended.code, Some(1), "{url}: {}", ended.log);
        assert!(last_line(&ended).contains(url), "{}", ended.log);
        assert!(
            last_line(&ended).starts_with("nethost: listening on "),
            "{}",
            ended.log
        );
    }
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let mut plugin =
        Scripted::start_with(|run| run.arguments(["--log-format", "json", "--log", "trace"]));
    plugin.run("log warn it said \"so\" \\n; print printed\\n");
    plugin.host.logged(&["it said"]);
    plugin.host.logged(&["printed"]);
    let (client, _) = plugin.connect();
    client.kill();
    plugin.event("lost");
    plugin.host.terminate();
    plugin.control.close_write();
    let ended = plugin.host.ended();
    let mut said = false;
    for line in ended.log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "target", "fields"] {
            assert!(!line[field].is_null(), "no {field} in {line}");
        }
        if line["fields"]["message"] == "it said \"so\" \\n" {
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["fields"]["service"], "scripted");
            said = true;
        }
    }
    assert!(said, "{}", ended.log);
}

#[test]
fn the_log_says_as_much_as_is_asked_for() {
    for (filter, expected) in [
        ("off", &[][..]),
        ("error", &["e"]),
        ("warn", &["e", "w"]),
        ("info", &["e", "w", "i"]),
        ("debug", &["e", "w", "i", "d"]),
        ("trace", &["e", "w", "i", "d", "t"]),
        ("error,nethost::plugin=info", &["e", "w", "i"]),
    ] {
        let mut plugin = Scripted::start_with(|run| run.arguments(["--log", filter]));
        plugin.run("log error line-e; log warn line-w; log info line-i; log debug line-d; log trace line-t");
        plugin.settle();
        plugin.host.terminate();
        plugin.control.close_write();
        let ended = plugin.host.ended();
        for level in ["e", "w", "i", "d", "t"] {
            assert_eq!(
                ended.log.contains(&format!("line-{level}")),
                expected.contains(&level),
                "{filter}: {}",
                ended.log
            );
        }
        if filter == "off" {
            assert_eq!(ended.log, "");
        }
    }
}

#[test]
fn what_is_asked_for_and_not_granted_is_said_with_the_flag() {
    let plugin = Scripted::start();
    let line = plugin.host.logged(&["not granted", "connect"]);
    for part in [
        "WARN",
        "to test outbound connections",
        "--allow-connect HOST:PORT",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let plugin = Scripted::start_with(|run| run.arguments(["--allow-connect", "10.0.0.1:7"]));
    assert!(
        !plugin.host.log().contains("not granted: connect"),
        "{}",
        plugin.host.log()
    );
}

#[test]
fn inspect_tells_everything_about_a_plugin() {
    let ended = nethost(["inspect".as_ref(), plugin("irc").as_os_str()]);
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    for part in [
        "irc 0.1.0",
        "0.1.0",
        "nethost:plugin/transport@0.1.0",
        "nethost:plugin/handler@0.1.0",
        "tcp://127.0.0.1:6667",
        "service",
        "network",
        "ExampleNet",
        "ping-interval",
        "2m",
    ] {
        assert!(
            ended.output.contains(part),
            "no {part} in\n{}",
            ended.output
        );
    }
    let ended = nethost([
        "inspect".as_ref(),
        guest("scripted").as_os_str(),
        "--json".as_ref(),
    ]);
    let described: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!(described["name"], "scripted");
    assert_eq!(described["contract"], "0.1.0");
    assert_eq!(
        described["grants"]["connect"],
        "to test outbound connections"
    );
    assert_eq!(
        described["isolation"],
        serde_json::json!(["service", "worker", "connection"])
    );
    let imports = serde_json::json!([
        "nethost:plugin/accounts@0.1.0",
        "nethost:plugin/bulk@0.1.0",
        "nethost:plugin/clock@0.1.0",
        "nethost:plugin/datagram@0.1.0",
        "nethost:plugin/deferred@0.1.0",
        "nethost:plugin/log@0.1.0",
        "nethost:plugin/random@0.1.0",
        "nethost:plugin/storage@0.1.0",
        "nethost:plugin/transport@0.1.0",
        "nethost:plugin/types@0.1.0",
    ]);
    let mut got: Vec<String> = serde_json::from_value(described["imports"].clone()).unwrap();
    got.sort();
    assert_eq!(serde_json::json!(got), imports);
}

#[test]
fn a_plugin_is_built_from_its_source_and_left_alone_when_nothing_changed() {
    // The guest was built before, so this is the second time.
    let component = guest("loops");
    let before = fs::metadata(&component).unwrap().modified().unwrap();
    let source = nethost_tests::places::root().join("tests/guests/loops");
    let target = component.parent().unwrap().parent().unwrap();
    let mut command = nethost_tests::places::host();
    command
        .args([
            "build".as_ref(),
            source.as_os_str(),
            "--out".as_ref(),
            component.as_os_str(),
        ])
        .env("CARGO_TARGET_DIR", target);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("is up to date"), "{said}");
    assert_eq!(
        fs::metadata(&component).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn shell_completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = nethost(["completions", shell]);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(ended.output.contains("allow-connect"), "{shell}");
    }
}
