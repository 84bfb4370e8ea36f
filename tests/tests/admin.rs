//! The admin socket, and the commands that speak to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Ended, Host, Run, help_tells, nethost},
    places::{self, guest, plugin, scratch},
    pty::{Step, on_terminal},
    tls::Authority,
};
use rustix::process::Signal;
use serde_json::Value;

/// A host with an admin socket, and what speaks to it.
struct Administered {
    host: Host,
    socket: PathBuf,
}

impl Administered {
    fn run(name: &str, run: impl FnOnce(Run) -> Run) -> Self {
        Self::of(&plugin("echo"), name, run)
    }

    fn of(plugin: &Path, name: &str, run: impl FnOnce(Run) -> Run) -> Self {
        let socket = scratch(name).join("s");
        let host = Run::of(plugin).arguments(["--admin", socket.to_str().unwrap()]);
        Self {
            host: run(host).start(),
            socket,
        }
    }

    fn serve(name: &str, services: &str, listeners: usize) -> (Self, PathBuf) {
        let folder = scratch(name);
        let (socket, file) = (folder.join("s"), folder.join("nethost.toml"));
        let text = format!(
            "[host]\nadmin = \"unix://{}\"\n{services}",
            socket.display()
        );
        fs::write(&file, text).unwrap();
        let host = Host::serve(&file, [""; 0], listeners);
        (Self { host, socket }, file)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = places::host();
        command.args(arguments.split(' '));
        command.arg("--admin").arg(&self.socket);
        command
    }

    fn ended(&self, arguments: &str) -> Ended {
        let arguments = arguments.split(' ');
        nethost(arguments.chain(["--admin", self.socket.to_str().unwrap()]))
    }

    #[track_caller]
    fn done(&self, arguments: &str) -> String {
        let ended = self.ended(arguments);
        assert_eq!(ended.code, Some(0), "{arguments}: {}", ended.log);
        assert_eq!(ended.log, "", "{arguments}");
        ended.output
    }

    #[track_caller]
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{arguments} --json"))).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &str, code: i32, parts: &[&str]) {
        let ended = self.ended(arguments);
        assert_eq!(ended.code, Some(code), "{arguments}: {}", ended.log);
        assert_eq!(ended.output, "", "{arguments}");
        assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        for part in parts {
            assert!(ended.log.contains(part), "no {part} in {}", ended.log);
        }
    }

    /// Returns what is told of the only service.
    fn service(&self) -> Value {
        let services = self.json("ps");
        assert_eq!(services["services"].as_array().unwrap().len(), 1);
        services["services"][0].clone()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let service = self.service();
            if is_so(&service) {
                return;
            }
            assert!(Instant::now() < deadline, "not {what}: {service}");
        }
    }

    /// Sends bytes, and returns the status and the body of the answer.
    fn http(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(answer.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split_once("content-length: ").unwrap().1;
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.http(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    }
}

/// `echo-next` says to each session that it takes over that it did.
fn is_restored(client: &mut Client) {
    let line = client.line();
    let count = line.strip_prefix("restored ");
    let count = count.and_then(|rest| rest.split_once(" from echo/"));
    assert!(count.is_some_and(|(count, _)| count != "0"), "{line}");
}

fn echoes(client: &mut Client, text: &str, expected: &str) {
    client.send(text);
    client.expect(expected);
}

#[test]
fn ps_tells_what_there_is_and_what_was_counted() {
    let admin = Administered::run("admin-ps", |run| run);
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    let service = admin.service();
    for (key, expected) in [
        ("name", Value::from("echo")),
        ("state", "serving".into()),
        ("plugin", "echo".into()),
        ("version", "0.1.0".into()),
        ("swapped", false.into()),
        ("isolation", "worker".into()),
        ("listeners", vec![admin.host.listening()[0].clone()].into()),
        ("connections", 1.into()),
        ("accepted", 1.into()),
        ("received", 4.into()),
        ("sent", 4.into()),
        ("traps", 0.into()),
        ("swaps", 0.into()),
    ] {
        assert_eq!(service[key], expected, "{key} of {service}");
    }
    let number = |key: &str| service[key].as_u64().unwrap();
    assert!(
        number("calls") >= 2 && number("memory") > 10_000,
        "{service}"
    );
    assert!(0 < number("p50_ns") && number("p50_ns") <= number("p99_ns"));
    let times = service["call_times"].as_array().unwrap();
    let counted: u64 = times.iter().map(|it| it[1].as_u64().unwrap()).sum();
    assert_eq!(counted, number("calls"));
    let table = admin.done("ps");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    for column in ["SERVICE", "VERSION", "CONN", "P99", "MEM", "TRAPS"] {
        assert!(lines[0].contains(column), "{table}");
    }
    assert!(lines[1].starts_with("echo     serving  0.1.0 "), "{table}");
    assert!(lines[1].contains("4 B") && lines[1].ends_with(&admin.host.listening()[0]));
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
fn one_who_is_not_there_or_is_named_wrongly_is_told_with_what_to_do() {
    let admin = Administered::run("admin-names", |run| run);
    for command in ["drain", "stop", "start", "connections", "logs"] {
        let parts = ["there is no service `ech`; there is `echo`"];
        admin.refused(&format!("{command} ech"), 2, &parts);
    }
    admin.refused(
        "kick 9999-1",
        2,
        &["no connection `9999-1`", "nethost connections"],
    );
    admin.refused("kick ann", 2, &["`ann`", "3-17"]);
    admin.refused("start echo", 2, &["runs already"]);
    let nobody = scratch("admin-nobody").join("s");
    for command in [
        "ps",
        "top --once",
        "swap echo plugins/echo.wasm",
        "logs",
        "reload",
    ] {
        let mut arguments: Vec<_> = command.split(' ').collect();
        let echo = plugin("echo");
        for argument in &mut arguments {
            if argument.ends_with(".wasm") {
                *argument = echo.to_str().unwrap();
            }
        }
        let ended = nethost(
            arguments
                .into_iter()
                .chain(["--admin", nobody.to_str().unwrap()]),
        );
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        for part in [nobody.to_str().unwrap(), "no nethost answers", "--admin"] {
            assert!(ended.log.contains(part), "no {part} in {}", ended.log);
        }
    }
    let ended = nethost(["ps"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("XDG_RUNTIME_DIR"), "{}", ended.log);
    for (place, part) in [
        ("tcp://127.0.0.1:7", "in clear"),
        ("udp://127.0.0.1:7", "UNIX socket"),
        ("unix:@name", "UNIX socket"),
    ] {
        for command in [&["ps"][..], &["run", "x.wasm"]] {
            let ended = nethost(command.iter().chain(&["--admin", place]));
            assert_eq!(ended.code, Some(2), "{place}: {}", ended.log);
            assert!(ended.log.contains(part), "{place}: {}", ended.log);
        }
    }
}

#[test]
fn a_service_is_stopped_and_started_while_the_host_goes_on() {
    let admin = Administered::run("admin-stop", |run| run.listen("tcp://127.0.0.1:0"));
    let mut client = admin.host.connect();
    echoes(&mut client, "ping", "ping");
    assert_eq!(admin.done("stop echo"), "stopped echo, 1 connection closed");
    client.end();
    let service = admin.service();
    assert_eq!(service["state"], "stopped");
    assert_eq!(service["connections"], 0);
    admin.refused("stop echo", 2, &["is stopped", "nethost start echo"]);
    admin.refused("connections echo", 2, &["is stopped"]);
    // SIGHUP does not bring it back.
    assert_eq!(admin.done("reload"), "reloaded");
    assert_eq!(admin.service()["state"], "stopped");
    let told = admin.done("start echo");
    let url = told.strip_prefix("started echo ").unwrap();
    admin.host.wait_for_listeners(2);
    assert_eq!(admin.host.listening()[1], url);
    let mut client = Client::tcp(admin.host.address_of(1));
    echoes(&mut client, "ping", "ping");
    // A drain waits for whoever is there.
    let draining = admin
        .command("drain echo --deadline 60s")
        .stdout(Stdio::piped())
        .spawn();
    let draining = draining.unwrap();
    admin.wait_for("draining", |service| service["state"] == "draining");
    admin.refused("start echo", 2, &["is draining"]);
    echoes(&mut client, "still", "still");
    drop(client);
    let drained = draining.wait_with_output().unwrap();
    assert!(drained.status.success());
    assert_eq!(
        String::from_utf8(drained.stdout).unwrap(),
        "drained echo, 0 connections closed\n"
    );
    assert_eq!(admin.service()["state"], "stopped");
    admin.host.terminate();
    assert_eq!(admin.host.ended().code, Some(0));
    assert!(!admin.socket.exists());
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

#[test]
fn connections_are_listed_by_pages_and_closed() {
    let admin = Administered::run("admin-connections", |run| run.listen("tcp://127.0.0.1:0"));
    let mut clients: Vec<_> = (0..25).map(|_| admin.host.connect()).collect();
    for client in &mut clients {
        echoes(client, "ping", "ping");
    }
    let listed = admin.json("connections echo");
    let listed = listed["connections"].as_array().unwrap();
    assert_eq!(listed.len(), 25);
    let ids = |listed: &[Value]| -> BTreeSet<String> {
        let ids = listed
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    assert_eq!(ids(listed).len(), 25);
    for connection in listed {
        assert_eq!(connection["received"], 4);
        assert_eq!(connection["sent"], 4);
        assert_eq!(connection["unsent"], 0);
        assert_eq!(connection["tls"], Value::Null);
        assert_eq!(connection["direction"], "in");
        assert!(connection["age"].as_f64().unwrap() < DEADLINE.as_secs_f64());
    }
    // Page by page there are the same.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let (status, body) = admin.ask(
            "GET",
            &format!("/v1/services/echo/connections?limit=7{after}"),
        );
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        let connections = page["connections"].as_array().unwrap();
        assert!(connections.len() <= 7);
        paged.extend(connections.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged.len(), 25);
    assert_eq!(ids(&paged), ids(listed));
    let limited = admin.json("connections echo --limit 3");
    assert_eq!(limited["connections"].as_array().unwrap().len(), 3);
    // One of them is closed, and no other one.
    let peer = clients[7].local().to_string();
    let found = listed.iter().find(|it| it["peer"] == *peer).unwrap();
    let id = found["id"].as_str().unwrap();
    assert_eq!(
        admin.done(&format!("kick {id}")),
        format!("closed {id} of echo, {peer}")
    );
    clients.remove(7).end();
    for client in &mut clients {
        echoes(client, "ping", "ping");
    }
    let table = admin.done("connections echo");
    assert_eq!(table.lines().count(), 25, "{table}");
    assert!(!table.contains(&peer), "{table}");
    assert!(table.starts_with("ID "), "{table}");
    admin.refused(&format!("kick {id}"), 2, &["no connection"]);
    admin.host.logged(&["closed by an operator", id]);
}

#[test]
fn the_log_is_told_and_followed() {
    let admin = Administered::run("admin-logs", |run| run);
    let mut follow = admin.command("logs -f echo --lines 5");
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    // What comes is told at once, whether it began before or after the command.
    admin.done(&format!(
        "swap echo {} --policy close",
        guest("echo-next").display()
    ));
    admin.done("stop echo");
    let stopped = lines.find(|line| line.contains("stopped"));
    assert!(stopped.unwrap().contains(" INFO echo: stopped"));
    let last = admin.done("logs echo --lines 1");
    assert!(
        last.contains("echo: stopped") && last.lines().count() == 1,
        "{last}"
    );
    let json = admin.done("logs echo --lines 1 --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["service"], "echo");
    assert_eq!(json["level"], "INFO");
    assert_eq!(json["message"], "stopped");
    // What is about no service is among all, and not among those of one.
    assert!(admin.done("logs").contains("administration"));
    assert!(!admin.done("logs echo").contains("administration"));
    // It ends with the host.
    admin.host.terminate();
    assert_eq!(lines.last(), None);
    assert!(follow.wait().is_ok());
}

#[test]
fn top_tells_rates() {
    let admin = Administered::run("admin-top", |run| run);
    let mut client = admin.host.connect();
    let traffic = thread::spawn(move || {
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            echoes(&mut client, "ping", "ping");
        }
        client
    });
    let told = admin.done("top --once --every 500ms");
    let _client = traffic.join().unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].contains("1 service, 1 connection"), "{told}");
    let columns: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(columns[..5], ["SERVICE", "STATE", "VERS", "CONN", "IN/s"]);
    assert!(lines[2].starts_with("echo "), "{told}");
    assert!(!lines[2].contains(" - "), "there are rates: {told}");
    admin.refused("top", 2, &["needs a terminal", "--once"]);
    let hasty = admin.command("top --once --every 1ms").output().unwrap();
    assert_eq!(hasty.status.code(), Some(2));
}

#[test]
fn top_shows_itself_on_a_terminal_and_gives_it_back() {
    let admin = Administered::run("admin-pty", |run| run);
    let command = admin.command("top --every 100ms");
    let steps = [
        Step::resizing("space look", 100, 30),
        Step::typing("space look", "s"),
        Step::typing("", "r"),
        Step::typing("", "q"),
    ];
    let Some(shown) = on_terminal(&command, (80, 24), &steps) else {
        return;
    };
    assert_eq!(shown.code, 0, "{}", shown.text);
    assert!(shown.is_as_before, "{}", shown.text);
    for part in [
        "\x1b[?1049h",
        "SERVICE",
        "TRAP",
        "serving",
        "\x1b[?25h\x1b[?1049l",
    ] {
        assert!(shown.text.contains(part), "no {part:?} in {:?}", shown.text);
    }
    // Ctrl-C is a key there, and a host that goes is said and waited for.
    let steps = [Step::typing("space look", "\x03")];
    let shown = on_terminal(&command, (80, 24), &steps).unwrap();
    assert_eq!((shown.code, shown.is_as_before), (0, true));
    admin.host.signal(Signal::KILL);
    let _ = admin.host.ended();
    let shown = on_terminal(&command, (80, 24), &[]).unwrap();
    assert_eq!((shown.code, shown.is_as_before), (2, true));
    assert!(shown.text.contains("no nethost answers"), "{}", shown.text);
}

#[test]
fn the_socket_is_its_owners_and_a_second_host_goes_on_without() {
    let folder = scratch("admin-default");
    let run = || {
        let mut command = Run::of(plugin("echo"))
            .listen("tcp://127.0.0.1:0")
            .command();
        command.env("XDG_RUNTIME_DIR", &folder);
        command
    };
    let first = Host::start(run(), 1);
    let socket = folder.join("nethost.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!first.log().contains("administration"), "{}", first.log());
    let second = Host::start(run(), 1);
    second.logged(&["WARN", "another nethost has the admin socket", "--admin"]);
    // The commands find the first by themselves.
    let mut ps = places::host();
    ps.arg("ps").arg("--json").env("XDG_RUNTIME_DIR", &folder);
    let listed: Value = serde_json::from_slice(&ps.output().unwrap().stdout).unwrap();
    assert_eq!(listed["services"][0]["listeners"][0], first.listening()[0]);
    let mut ended = Run::of(plugin("echo")).listen("tcp://127.0.0.1:0");
    ended = ended.arguments(["--admin", socket.to_str().unwrap()]);
    let ended = ended.ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("another nethost"), "{}", ended.log);
    drop(second);
    assert!(socket.exists());
    first.terminate();
    assert_eq!(first.ended().code, Some(0));
    assert!(!socket.exists());
    // Without the folder there is none, and nobody minds.
    let nowhere = Run::of(plugin("echo")).start();
    assert!(!nowhere.log().contains("administration"));
    assert!(!nowhere.log().contains("WARN"), "{}", nowhere.log());
}

#[test]
fn over_tls_there_is_a_token() {
    let authority = Authority::new("admin-tls");
    let folder = scratch("admin-tls-files");
    let (ca, pem) = (folder.join("ca.pem"), folder.join("host.pem"));
    authority.write(&ca);
    authority.issue_to(&pem, &["localhost"]);
    let (token, other) = (folder.join("token"), folder.join("other"));
    fs::write(&token, "0123456789abcdef-right\n").unwrap();
    fs::write(&other, "0123456789abcdef-wrong\n").unwrap();
    let url = format!("tls://127.0.0.1:0?cert={}", pem.display());
    let run = |token: &[&str]| {
        let run = Run::of(plugin("echo")).arguments(["--admin", &url]);
        run.arguments(token)
    };
    let ended = run(&[]).ended();
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("needs a token"), "{}", ended.log);
    let short = folder.join("short");
    fs::write(&short, "short").unwrap();
    let ended = run(&["--admin-token", short.to_str().unwrap()]).ended();
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("at least 16"), "{}", ended.log);
    let host = run(&["--admin-token", token.to_str().unwrap()]).start();
    let line = host.logged(&["administration", "url="]);
    let port = line.trim_end_matches('"').rsplit(':').next().unwrap();
    let at = format!("tls://localhost:{port}");
    let ps = |arguments: &[&str]| nethost(["ps", "--admin", &at].iter().chain(arguments));
    let (ca, token, other) = (
        ca.to_str().unwrap(),
        token.to_str().unwrap(),
        other.to_str().unwrap(),
    );
    let ended = ps(&["--admin-ca", ca, "--admin-token", token]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.output.contains("echo"), "{}", ended.output);
    for (arguments, part) in [
        (&["--admin-ca", ca][..], "a token is needed"),
        (&["--admin-ca", ca, "--admin-token", other], "another one"),
        (&["--admin-token", token], "certificate"),
    ] {
        let ended = ps(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(ended.log.contains(part), "{}", ended.log);
    }
    assert!(!host.log().contains("right"), "{}", host.log());
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let admin = Administered::run("admin-http", |run| run);
    for (method, path, status, part) in [
        ("GET", "/v1/version", 200, "\"api\":1"),
        ("GET", "/v1/health", 200, "\"ready\":true"),
        ("GET", "/v1/services/echo", 200, "\"name\":\"echo\""),
        ("GET", "/v1/services/ec%68o", 200, "\"name\":\"echo\""),
        ("GET", "/v1/services/ech", 404, "\"known\":[\"echo\"]"),
        ("GET", "/", 404, "/v1/services"),
        ("GET", "/v1/nothing", 404, "/v1/nothing"),
        ("GET", "/v2/services", 404, "/v1/services"),
        ("POST", "/v1/services", 405, "GET"),
        ("GET", "/v1/services/echo/stop", 405, "POST"),
        ("GET", "/v1/connections/1-1", 405, "DELETE"),
        ("DELETE", "/v1/connections/x", 400, "3-17"),
        ("POST", "/v1/services/echo/swap?policy=hope", 400, "migrate"),
        (
            "POST",
            "/v1/services/echo/swap?deadline=soon",
            400,
            "deadline",
        ),
        ("POST", "/v1/services/echo/swap", 400, "empty"),
        (
            "POST",
            "/v1/services/echo/drain?deadline=1",
            400,
            "deadline",
        ),
        ("GET", "/v1/services/echo/connections?limit=0", 400, "limit"),
        (
            "GET",
            "/v1/services/echo/connections?limit=10001",
            400,
            "10000",
        ),
        ("GET", "/v1/services/echo/connections?after=x", 400, "3-17"),
        ("GET", "/v1/logs?follow=maybe", 400, "follow"),
        ("GET", "/v1/logs?lines=1&lines=2", 400, "twice"),
    ] {
        let (found, body) = admin.ask(method, path);
        assert_eq!(found, status, "{method} {path}: {body}");
        assert!(body.contains(part), "{method} {path}: {body}");
        let _: Value = serde_json::from_str(&body).unwrap();
    }
    let swap =
        "POST /v1/services/echo/swap HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ";
    let (status, body) = admin.http(&format!("{swap}134217729\r\n\r\nx"));
    assert_eq!(status, 413, "{body}");
    let (status, body) = admin.http(&format!("{swap}12\r\n\r\nno component"));
    assert_eq!(status, 422, "{body}");
    assert!(body.contains("not WebAssembly"), "{body}");
    assert_eq!(admin.service()["state"], "serving");
}

#[test]
fn the_help_of_each_tells_what_it_does() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["ps", "--help"], &["--json", "--admin", "XDG_RUNTIME_DIR"]),
        (
            &["swap", "--help"],
            &["--policy", "migrate", "--deadline", "traps"],
        ),
        (&["drain", "--help"], &["--deadline"]),
        (&["stop", "--help"], &["connections are closed"]),
        (&["start", "--help"], &["drained"]),
        (&["reload", "--help"], &["SIGHUP"]),
        (&["logs", "--help"], &["--follow", "--lines"]),
        (&["connections", "--help"], &["UNSENT"]),
        (&["kick", "--help"], &["3-17"]),
        (&["top", "--help"], &["--once", "--sort", "quits"]),
        (&["run", "--help"], &["--watch", "--admin"]),
    ];
    help_tells(cases);
}
