//! The admin socket, and the commands that speak to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod looking;
mod reaching;
mod swapping;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Ended, Host, Run, help_tells, nethost},
    places::{self, plugin, scratch},
};
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

fn echoes(client: &mut Client, text: &str, expected: &str) {
    client.send(text);
    client.expect(expected);
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
        (&["top", "--help"], &["--once", "--sort", "--json", "quits"]),
        (&["run", "--help"], &["--watch", "--admin"]),
    ];
    help_tells(cases);
}
