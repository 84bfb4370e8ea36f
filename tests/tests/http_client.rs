//! HTTP's client over sockets: `nethost exec plugins/http.wasm get`, with this server and with Python's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nethost_tests::{
    host::{Host, Run},
    places::{self, plugin, scratch},
};

/// Runs `get` with these options of nethost and these arguments.
fn get(options: &[&str], arguments: &[&str]) -> Output {
    let mut command = places::host();
    command.arg("exec").args(options).arg(plugin("http"));
    command.arg("get").args(["-m", "20s"]).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
}

/// A folder with a site, and room for certificates and downloads.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = scratch(&format!("http-client-{name}"));
        fs::create_dir_all(folder.join("site/folder")).unwrap();
        fs::write(folder.join("site/a.txt"), "hello").unwrap();
        fs::write(folder.join("site/folder/index.html"), "index").unwrap();
        fs::write(folder.join("site/big"), "0123456789".repeat(1_000_000)).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn run(&self) -> Run {
        let root = format!("root={}", self.path("site"));
        Run::of(plugin("http")).arguments(["--dir", &root, "--workers", "1"])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn url(host: &Host, path: &str) -> String {
    format!("http://{}{path}", host.address())
}

#[test]
fn files_come_from_this_server_with_redirects_and_errors() {
    let place = Place::new("own");
    let host = place.run().start();
    let output = get(&[], &["-i", &url(&host, "/a.txt")]);
    assert_code(&output, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello"), "{text}");

    let followed = get(&[], &[&url(&host, "/folder")]);
    assert_code(&followed, 0);
    assert_eq!(followed.stdout, b"index");

    let file = place.path("download");
    assert_code(&get(&[], &["-o", &file, &url(&host, "/big")]), 0);
    let (got, expected) = (
        fs::read(&file).unwrap(),
        fs::read(place.path("site/big")).unwrap(),
    );
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());

    assert_code(&get(&[], &[&url(&host, "/none")]), 22);
    let head = get(&[], &["-I", &url(&host, "/big")]);
    assert!(String::from_utf8_lossy(&head.stdout).contains("Content-Length: 10000000\r\n"));
    assert_code(&get(&[], &["http://127.0.0.1:1/"]), 7);
    assert_code(&get(&[], &["--nonsense", "http://127.0.0.1:1/"]), 2);
    assert_code(
        &get(&[], &["-o", &place.path("no/file"), &url(&host, "/a.txt")]),
        23,
    );
}

#[test]
fn what_is_sent_arrives_however_long() {
    let place = Place::new("upload");
    let host = Run::of(plugin("examples/http-hello"))
        .arguments(["--workers", "1"])
        .start();
    let output = get(&[], &["-d", "a=b", &url(&host, "/")]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"a=b"[..])
    );
    let data = format!("@{}", place.path("site/big"));
    let file = place.path("echoed");
    assert_code(&get(&[], &["-o", &file, "-d", &data, &url(&host, "/")]), 0);
    assert!(fs::read(file).unwrap() == fs::read(place.path("site/big")).unwrap());
    let lines = get(
        &[],
        &["-H", "X-Odd: 1", "-H", "Host: other", &url(&host, "/echo")],
    );
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert!(
        lines.starts_with("Host: other\n") && lines.contains("X-Odd: 1\n"),
        "{lines}"
    );
}

#[test]
fn tls_is_checked_against_the_certificates_that_are_trusted() {
    let place = Place::new("tls");
    let certificates = place.path("certificates");
    let made = places::host()
        .args(["cert", "self-signed", &certificates, "localhost"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let pem = only_certificate(Path::new(&certificates));
    let listen = format!("tls://127.0.0.1:0?cert={certificates}");
    let host = place.run().listen(&listen).start();
    let url = format!("https://localhost:{}/a.txt", host.address().port());
    let trusting = get(&["--tls-ca", &pem], &[&url]);
    assert_code(&trusting, 0);
    assert_eq!(trusting.stdout, b"hello");
    assert_code(&get(&[], &[&url]), 35);
}

/// The certificate that `nethost cert self-signed` wrote.
fn only_certificate(folder: &Path) -> String {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut certificates = files.filter(|path| {
        fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN CERTIFICATE"))
    });
    certificates.next().unwrap().to_str().unwrap().to_owned()
}

/// Python's `http.server` on a port of its own.
struct Python(Child, u16);

impl Python {
    fn serving(folder: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line
            .split("port ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        Self(child, port.unwrap().parse().unwrap())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pythons_server_is_understood() {
    let place = Place::new("python");
    let server = Python::serving(&place.path("site"));
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.1);
    let output = get(&[], &[&url("/folder")]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"index"[..])
    );
    let big = get(&[], &[&url("/big")]);
    assert_code(&big, 0);
    assert_eq!(big.stdout.len(), 10_000_000);
    assert_code(&get(&[], &[&url("/none")]), 22);
    assert_code(&get(&[], &["-d", "a", &url("/")]), 22);
}
