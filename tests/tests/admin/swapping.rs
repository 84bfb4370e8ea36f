//! A plugin that is swapped: by the command, and when its file changes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use nethost_tests::{
    client::Client,
    places::{self, guest, plugin, scratch, stock_plugins},
};

use serde_json::Value;

use super::{Administered, echoes};

/// `echo-next` says to each session that it takes over that it did.
fn is_restored(client: &mut Client) {
    let line = client.line();
    let count = line.strip_prefix("restored ");
    let count = count.and_then(|rest| rest.split_once(" from echo/"));
    assert!(count.is_some_and(|(count, _)| count != "0"), "{line}");
}

#[test]
fn a_swap_leaves_connections_open_and_shows() {
    let admin = Administered::run("admin-swap", |run| run);
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    let next = guest("echo-next");
    let told = admin.done(&format!("swap echo {}", next.display()));
    assert!(told.starts_with("swapped echo"), "{told}");
    assert!(told.contains("1 session moved"), "{told}");
    admin.host.logged(&[
        "INFO",
        "swapped",
        "from=\"0.1.0\"",
        "to=\"0.2.0\"",
        "moved=1",
        "refused=0",
        "left_behind=0",
        "state_bytes=",
        "pause=",
    ]);
    // The next version answers in capitals.
    is_restored(&mut client);
    echoes(&mut client, "ping", "PING");
    let service = admin.service();
    assert_eq!(service["swaps"], 1, "{service}");
    assert_eq!(service["swapped"], true, "{service}");
    assert_eq!(service["connections"], 1, "{service}");
    // And back.
    let swapped = admin.json(&format!("swap echo {}", plugin("echo").display()));
    assert_eq!(swapped["service"], "echo");
    assert_eq!(swapped["sessions"], 1, "{swapped}");
    assert!(swapped["pause"].as_f64().unwrap() < 10.0, "{swapped}");
    echoes(&mut client, "ping", "ping");
    assert_eq!(admin.service()["swapped"], false);
}

#[test]
fn a_swap_that_cannot_be_changes_nothing_and_says_why() {
    let admin = Administered::run("admin-unfit", |run| run);
    let mut client = admin.host.connect();
    let folder = scratch("admin-unfit-files");
    let (half, text) = (folder.join("half.wasm"), folder.join("text.wasm"));
    let whole = fs::read(guest("echo-next")).unwrap();
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    fs::write(&text, "no component").unwrap();
    for (arguments, parts) in [
        (
            format!("swap echo {}", half.display()),
            &["half.wasm", "damaged"][..],
        ),
        (
            format!("swap echo {}", text.display()),
            &["text.wasm", "not WebAssembly"],
        ),
        (
            "swap echo no-such.wasm".to_owned(),
            &["no-such.wasm", "no such file"],
        ),
        // It has no state that echo knows.
        (
            format!("swap echo {}", guest("traps").display()),
            &["echo is not swapped", "state"],
        ),
        (
            format!("swap irc {}", guest("echo-next").display()),
            &["no service `irc`", "`echo`"],
        ),
    ] {
        admin.refused(&arguments, 2, parts);
        echoes(&mut client, "ping", "ping");
    }
    assert_eq!(admin.service()["swaps"], 0);
}

#[test]
fn one_that_was_swapped_is_the_same_after_a_stop() {
    let admin = Administered::run("admin-swap-stop", |run| run);
    admin.done(&format!("swap echo {}", guest("echo-next").display()));
    admin.done("stop echo");
    assert_eq!(admin.service()["name"], "echo");
    admin.done("start echo");
    admin.host.wait_for_listeners(2);
    let service = admin.service();
    assert_eq!(
        (&service["name"], &service["swapped"]),
        (&"echo".into(), &true.into())
    );
    let mut client = Client::tcp(admin.host.address_of(1));
    echoes(&mut client, "ping", "PING");
}

#[test]
fn what_was_swapped_in_stays_until_its_file_changes() {
    let folder = scratch("admin-reload-files");
    let file = folder.join("echo.wasm");
    fs::copy(plugin("echo"), &file).unwrap();
    let service = |greeting: &str| {
        format!(
            "[[service]]\nname = \"back\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:0\"]\n[service.config]\ngreeting = \"{greeting}\"\n",
            file.display()
        )
    };
    let (admin, config) = Administered::serve("admin-reload", &service("one"), 1);
    let greeted = |greeting: &str, version: &str| {
        let mut client = admin.host.connect();
        let end = if version == "ping" { "\r\n" } else { "" };
        client.expect(format!("{greeting}{end}"));
        echoes(&mut client, "ping", version);
    };
    greeted("one", "ping");
    admin.done(&format!("swap back {}", guest("echo-next").display()));
    greeted("one", "PING");
    // Nothing else has changed: it stays.
    assert_eq!(admin.done("reload"), "reloaded");
    greeted("one", "PING");
    // It stays over a stop, too. The listener is at another port then, so that is looked at in `ps`.
    assert_eq!(admin.service()["swapped"], true);
    // And if the service is told something else.
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"one\"", "\"two\"")).unwrap();
    assert_eq!(admin.done("reload"), "reloaded; started: back");
    greeted("two", "PING");
    // What is in the file by now is no change; what is new in it is.
    fs::copy(guest("echo-next"), &file).unwrap();
    assert_eq!(admin.done("reload"), "reloaded");
    assert_eq!(admin.service()["swapped"], false);
    fs::copy(plugin("echo"), &file).unwrap();
    assert_eq!(admin.done("reload"), "reloaded; started: back");
    greeted("two", "ping");
    // A wrong file is told to who asked.
    fs::write(&config, "[host]\n").unwrap();
    admin.refused("reload", 2, &["no service"]);
    greeted("two", "ping");
}

#[test]
fn a_changed_file_is_swapped_in_and_a_half_one_is_waited_for() {
    let folder = scratch("admin-watch-files");
    let file = folder.join("echo.wasm");
    fs::copy(plugin("echo"), &file).unwrap();
    let admin = Administered::of(&file, "admin-watch", |run| run.arguments(["--watch"]));
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    let next = fs::read(guest("echo-next")).unwrap();
    let mut writing = fs::File::create(&file).unwrap();
    writing.write_all(&next[..next.len() / 2]).unwrap();
    admin.host.logged(&[
        "ERROR",
        "echo.wasm",
        "not taken up",
        "version of before goes on",
    ]);
    echoes(&mut client, "ping", "ping");
    // The rest of it.
    writing.write_all(&next[next.len() / 2..]).unwrap();
    drop(writing);
    admin.wait_for("swapped", |service| service["swaps"] == 1);
    is_restored(&mut client);
    echoes(&mut client, "ping", "PING");
    assert_eq!(admin.service()["swapped"], false);
    // One that takes the other's place at once.
    let beside = folder.join("new");
    fs::copy(plugin("echo"), &beside).unwrap();
    fs::rename(&beside, &file).unwrap();
    admin.wait_for("swapped again", |service| service["swaps"] == 2);
    echoes(&mut client, "ping", "ping");
    let complaints = admin.host.log().matches("not taken up").count();
    assert_eq!(complaints, 1, "{}", admin.host.log());
    // SIGHUP finds nothing new in it.
    assert_eq!(admin.done("reload"), "reloaded");
    echoes(&mut client, "ping", "ping");
}

#[test]
fn a_service_of_a_file_is_watched_if_it_says_so() {
    let file = scratch("admin-watch-serve-files").join("echo.wasm");
    fs::copy(plugin("echo"), &file).unwrap();
    let service = format!(
        "[[service]]\nname = \"back\"\nplugin = \"{}\"\nwatch = true\nlisten = [\"tcp://127.0.0.1:0\"]\n",
        file.display()
    );
    let (admin, _) = Administered::serve("admin-watch-serve", &service, 1);
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    fs::copy(guest("echo-next"), &file).unwrap();
    admin.wait_for("swapped", |service| service["swaps"] == 1);
    is_restored(&mut client);
    echoes(&mut client, "ping", "PING");
}

#[test]
fn what_is_built_again_is_swapped_in() {
    let folder = scratch("admin-build-watch");
    let (source, built) = (folder.join("source.wasm"), folder.join("echo.wasm"));
    fs::copy(plugin("echo"), &source).unwrap();
    let mut command = places::host();
    command
        .args(["build", "--watch", "--out"])
        .args([&built, &source]);
    let mut build = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(build.stdout.take().unwrap()).lines();
    let mut out = out.map(Result::unwrap);
    let errors = BufReader::new(build.stderr.take().unwrap()).lines();
    let mut errors = errors.map(Result::unwrap);
    assert!(out.next().unwrap().starts_with("built "));
    let admin = Administered::of(&built, "admin-built", |run| run.arguments(["--watch"]));
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    // What does not build is told, and waited for.
    fs::write(&source, "not yet").unwrap();
    assert!(errors.next().unwrap().contains("source.wasm"));
    echoes(&mut client, "ping", "ping");
    fs::copy(guest("echo-next"), &source).unwrap();
    assert!(out.next().unwrap().starts_with("built "));
    admin.wait_for("swapped", |service| service["swaps"] == 1);
    is_restored(&mut client);
    echoes(&mut client, "ping", "PING");
    build.kill().unwrap();
    build.wait().unwrap();
}

/// What ends at once, the one before is back, and is the one that everything goes on with.
#[test]
fn a_version_that_broke_on_probation_is_neither_shown_nor_tried_again() {
    for watch in [false, true] {
        let name = if watch {
            "admin-undone-watch"
        } else {
            "admin-undone"
        };
        let file = scratch(&format!("{name}-files")).join("echo.wasm");
        fs::copy(plugin("echo"), &file).unwrap();
        let service = format!(
            "[[service]]\nname = \"back\"\nplugin = \"{}\"\nisolation = \"service\"\nwatch = {watch}\nlisten = [\"tcp://127.0.0.1:0\"]\n",
            file.display()
        );
        let (admin, _) = Administered::serve(name, &service, 1);
        let (mut quiet, mut loud) = (admin.host.connect(), admin.host.connect());
        for client in [&mut quiet, &mut loud] {
            echoes(client, "ping", "ping");
        }
        if watch {
            fs::copy(guest("echo-next"), &file).unwrap();
        } else {
            admin.done(&format!("swap back {}", guest("echo-next").display()));
        }
        for client in [&mut quiet, &mut loud] {
            is_restored(client);
        }
        let is = |service: &Value, version: &str, swapped: bool| {
            (&service["version"], &service["swapped"], &service["swaps"])
                == (&version.into(), &swapped.into(), &1.into())
        };
        admin.wait_for("swapped", |service| is(service, "0.2.0", !watch));
        loud.send("boom");
        assert_eq!(loud.rest().0, b"");
        // What serves is not what is in the file, if that is the one that broke.
        admin.wait_for("undone", |service| is(service, "0.1.0", watch));
        admin
            .host
            .logged(&["ERROR", "broke on probation", "broken=\"0.2.0\""]);
        for _ in 0..2 {
            assert_eq!(admin.done("reload"), "reloaded");
            echoes(&mut quiet, "still", "still");
            echoes(&mut admin.host.connect(), "new", "new");
            let service = admin.service();
            assert!(is(&service, "0.1.0", watch), "{service}");
        }
        // It is the same one after a stop, too.
        admin.done("stop back");
        quiet.end();
        admin.done("start back");
        let service = admin.service();
        assert!(is(&service, "0.1.0", watch), "{service}");
        // What is new in the file is taken up.
        fs::copy(plugin("irc"), &file).unwrap();
        assert_eq!(admin.done("reload"), "reloaded; started: back");
        assert_eq!(admin.service()["plugin"], "irc");
    }
}

#[test]
fn one_that_can_give_no_state_is_drained_and_a_warning_says_so() {
    let admin = Administered::of(&guest("traps"), "admin-stateless", |run| run);
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    let swap = format!("swap traps {}", plugin("echo").display());
    let ended = admin.ended(&swap);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended
            .output
            .contains("1 connection left on the old version")
    );
    for part in ["nethost: warning: nothing could move", "`swap-handler`"] {
        assert!(ended.log.contains(part), "{}", ended.log);
    }
    assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
    admin.host.logged(&["WARN", "traps", "no `swap-handler`"]);
    echoes(&mut client, "still", "still");
    echoes(&mut admin.host.connect(), "new", "new");
    // Who asks for what is done is not warned.
    let ended = admin.ended(&format!("{swap} --policy drain"));
    assert_eq!((ended.code, &*ended.log), (Some(0), ""));
}

/// A connection that was open before is the next version's, whatever the protocol.
#[test]
fn every_stock_plugin_moves_its_sessions() {
    let served = format!("root={}:ro", scratch("admin-stock-root").display());
    for path in stock_plugins() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let admin = Administered::of(&path, &format!("admin-stock-{name}"), |run| {
            let run = run.listen("tcp://127.0.0.1:0");
            match name {
                "http" => run.arguments(["--dir", &served]),
                _ => run,
            }
        });
        let _client = admin.host.connect();
        admin.wait_for("connected", |service| service["connections"] == 1);
        let swapped = admin.json(&format!("swap {name} {}", path.display()));
        let result = (&swapped["policy"], &swapped["sessions"]);
        assert_eq!(result, (&"migrate".into(), &1.into()), "{name}: {swapped}");
    }
}
