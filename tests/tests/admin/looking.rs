//! What there is, and what it does: `ps`, `connections`, `logs`, `top`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    host::nethost,
    places::{guest, plugin, scratch},
    pty::{Step, on_terminal},
};
use rustix::process::Signal;
use serde_json::Value;

use super::{Administered, echoes};

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
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    // Bytes that came and went.
    assert_eq!(cells[5..7], ["4", "4"], "{table}");
    assert!(lines[1].ends_with(&admin.host.listening()[0]));
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
    assert_eq!(follow.wait().unwrap().code(), Some(0));
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
    let json = admin.done("top --once --every 100ms --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    let entry = &json["services"][0];
    assert_eq!(entry["service"]["name"], "echo", "{json}");
    assert_eq!(entry["calls_per_second"], 0, "{json}");
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

/// More than the command asks for at a time takes more questions than one.
#[test]
fn connections_are_asked_for_page_by_page_until_there_are_enough() {
    let socket = scratch("admin-pages").join("s");
    let page = |ids: &[&str], next: Value| {
        let connection = |id: &&str| {
            serde_json::json!({
                "id": id, "worker": 0, "peer": "127.0.0.1:5", "local": "127.0.0.1:6", "age": 1.5, "received": 1, "sent": 2,
                "unsent": 0, "tls": null, "direction": "in", "closing": false, "from a later version": 7,
            })
        };
        let connections: Vec<_> = ids.iter().map(connection).collect();
        serde_json::json!({ "connections": connections, "next": next }).to_string()
    };
    for (arguments, pages, listed) in [
        (
            "connections a/b --json",
            vec![
                ("limit=5000", page(&["0-1", "0-2"], "0-2".into())),
                ("limit=5000&after=0-2", page(&[], "1-1".into())),
                ("limit=5000&after=1-1", page(&["1-2"], Value::Null)),
            ],
            vec!["0-1", "0-2", "1-2"],
        ),
        (
            "connections a/b --limit 5002 --json",
            vec![
                ("limit=5000", page(&["0-1"; 5000], "0-1".into())),
                ("limit=2&after=0-1", page(&["0-2", "0-3"], "0-3".into())),
            ],
            [["0-1"; 5000].as_slice(), &["0-2", "0-3"]].concat(),
        ),
    ] {
        let _earlier = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let host = thread::spawn(move || {
            for (query, body) in pages {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    stream.read_line(&mut request).unwrap();
                }
                let path = format!("GET /v1/services/a%2Fb/connections?{query} HTTP/1.1\r\n");
                assert!(request.starts_with(&path), "{request}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let answer = head + &body;
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let at = ["--admin", socket.to_str().unwrap()];
        let ended = nethost(arguments.split(' ').chain(at));
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        host.join().unwrap();
        let told: Value = serde_json::from_str(&ended.output).unwrap();
        assert_eq!(told["next"], Value::Null);
        let connections = told["connections"].as_array().unwrap().iter();
        assert!(connections.map(|it| it["id"].as_str().unwrap()).eq(listed));
    }
}

#[test]
fn a_page_goes_on_behind_a_connection_that_is_closed_by_then() {
    let admin = Administered::run("admin-gone", |run| run.listen("tcp://127.0.0.1:0"));
    let mut clients: Vec<_> = (0..6).map(|_| admin.host.connect()).collect();
    for client in &mut clients {
        echoes(client, "ping", "ping");
    }
    let page = |query: &str| -> Value {
        let (status, body) = admin.ask("GET", &format!("/v1/services/echo/connections?{query}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let ids = |page: &Value| -> Vec<String> {
        let connections = page["connections"].as_array().unwrap().iter();
        let ids = connections.map(|it| it["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let all = ids(&page("limit=100"));
    let first = page("limit=2");
    assert_eq!(ids(&first), all[..2]);
    let next = first["next"].as_str().unwrap();
    admin.done(&format!("kick {next}"));
    admin.wait_for("closed", |service| service["connections"] == 5);
    assert_eq!(ids(&page(&format!("limit=100&after={next}"))), all[2..]);
}

#[test]
fn ps_fits_a_terminal_whatever_was_swapped_in() {
    let long = "a-service-with-a-name-as-long-as-it-may-well-be";
    let services = ["echo", long].map(|name| {
        format!(
            "[[service]]\nname = \"{name}\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:0\", \"tcp://[::1]:0\"]\n",
            plugin("echo").display()
        )
    });
    let (admin, _) = Administered::serve("admin-narrow", &services.concat(), 4);
    for name in ["echo", long] {
        admin.done(&format!("swap {name} {}", guest("echo-next").display()));
    }
    let wide = admin.done("ps");
    assert_eq!(wide.lines().count(), 3, "{wide}");
    assert!(
        wide.lines()
            .all(|line| line.len() > 80 || line.starts_with("SERVICE"))
    );
    for columns in [80, 50, 200] {
        let Some(shown) = on_terminal(&admin.command("ps"), (columns, 24), &[]) else {
            return;
        };
        assert_eq!(shown.code, 0, "{}", shown.text);
        for line in shown.text.lines() {
            let width = line.trim_end().chars().count();
            assert!(width <= usize::from(columns), "{columns}: {}", shown.text);
        }
        let mut parts = vec![
            "VERSION",
            "0.2.0*",
            "plugin echo-next",
            "tcp://[::1]:",
            "\nup ",
        ];
        // They stand below, with their names, where there is no column for them.
        parts.extend((columns == 50).then_some("TRAPS 0"));
        for part in parts {
            assert!(shown.text.contains(part), "no {part} in {}", shown.text);
        }
    }
}

#[test]
fn a_log_that_is_followed_ends_with_its_reader() {
    let admin = Administered::run("admin-logs-json", |run| run);
    let mut follow = admin.command("logs -f --json --lines 1");
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut line = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(line()["missed"], Value::Null);
    admin.done("stop echo");
    while line()["message"] != "stopped" {}
    drop(lines);
    // The next line finds nobody there.
    admin.done("start echo");
    assert_eq!(follow.wait().unwrap().code(), Some(0));
}
