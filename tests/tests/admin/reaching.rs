//! Who reaches the socket, and what is said to who asks wrongly.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use nethost_tests::{
    host::{Host, Run, nethost},
    places::{self, guest, plugin, scratch},
    tls::Authority,
};
use serde_json::Value;

use super::Administered;

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

/// `ps` cannot reach the host, though somebody is there.
#[track_caller]
fn refused(at: &str, arguments: &[&str], parts: &[&str]) {
    let ended = nethost(["ps", "--admin", at].iter().chain(arguments));
    assert_eq!((ended.code, &*ended.output), (Some(2), ""), "{}", ended.log);
    assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
    for part in parts {
        assert!(ended.log.contains(part), "no {part} in {}", ended.log);
    }
    for part in ["no nethost answers", "start one"] {
        assert!(!ended.log.contains(part), "{}", ended.log);
    }
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
    let stranger = folder.join("stranger.pem");
    Authority::new("admin-tls-stranger").write(&stranger);
    let stranger = stranger.to_str().unwrap();
    let next = guest("echo-next");
    let (ca, token, other) = (
        ca.to_str().unwrap(),
        token.to_str().unwrap(),
        other.to_str().unwrap(),
    );
    let ended = ps(&["--admin-ca", ca, "--admin-token", token]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.output.contains("echo"), "{}", ended.output);
    for (arguments, parts) in [
        (
            &["--admin-ca", ca][..],
            &["a token is needed", "--admin-token FILE"][..],
        ),
        (
            &["--admin-ca", ca, "--admin-token", other],
            &["the token is another one", "--admin-token FILE"],
        ),
        (
            &["--admin-token", token],
            &["certificate: UnknownIssuer", "--admin-ca FILE"],
        ),
        (
            &["--admin-ca", stranger, "--admin-token", token],
            &["certificate", "--admin-ca FILE"],
        ),
    ] {
        refused(&at, arguments, parts);
    }
    // It is issued to another name.
    let by_number = format!("tls://127.0.0.1:{port}");
    let arguments = &["--admin-ca", ca, "--admin-token", token];
    refused(&by_number, arguments, &["not valid for", "--admin-ca FILE"]);
    // Nobody there speaks TLS; or there is nobody.
    let address = host.address();
    refused(
        &format!("tls://localhost:{}", address.port()),
        arguments,
        &["TLS with tls://localhost:"],
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("tls://127.0.0.1:{}", free.local_addr().unwrap().port());
    drop(free);
    let ended = nethost(["ps", "--admin", &nobody].iter().chain(arguments));
    assert!(ended.log.contains("no nethost answers"), "{}", ended.log);
    // What is sent and what is followed go the same way.
    let swap = ["swap", "echo", next.to_str().unwrap(), "--admin", &at];
    let ended = nethost(swap.iter().chain(arguments));
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let logs = ["logs", "echo", "-n", "1", "--admin", &at];
    let ended = nethost(logs.iter().chain(arguments));
    assert!(ended.output.contains("swapped"), "{}", ended.output);
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
