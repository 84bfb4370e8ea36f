//! HTTP's client over sockets: `nethost exec plugins/http.wasm get`, with this server and with Python's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use nethost_tests::{
    host::{Host, Run},
    places::{self, plugin, scratch},
    pty,
};

/// Runs `get` with these options of nethost and these arguments.
fn get(options: &[&str], arguments: &[&str]) -> Output {
    getting(options, arguments).output().unwrap()
}

fn getting(options: &[&str], arguments: &[&str]) -> Command {
    let mut command = places::host();
    command.arg("exec").args(options).arg(plugin("http"));
    command.arg("get").args(["-m", "20s"]).args(arguments);
    command.stdin(Stdio::null());
    command
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

#[test]
fn methods_headers_and_standard_input_are_sent() {
    let host = Run::of(plugin("examples/http-hello"))
        .arguments(["--workers", "1"])
        .start();
    let mut command = getting(&[], &["-X", "POST", "-d", "@-", &url(&host, "/")]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"piped");
    let refused = get(&[], &["-i", "-X", "DELETE", &url(&host, "/")]);
    assert_code(&refused, 22);
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(
        text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && text.contains("\r\nAllow: "),
        "{text}"
    );
}

#[test]
fn what_is_compressed_is_decoded() {
    let place = Place::new("compressed");
    // `hello`, as each of them stores it.
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x05\0\xfa\xffhello\x86\xa6\x10\x36\x05\0\0\0";
    let brotli = b"\x0b\x02\x80hello\x03";
    let zstd = b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello";
    for (extension, coding, bytes) in [
        ("gz", "gzip", &gzip[..]),
        ("br", "br", brotli),
        ("zst", "zstd", zstd),
    ] {
        let path = place.path(&format!("site/{coding}.txt"));
        fs::write(&path, "hello").unwrap();
        fs::write(format!("{path}.{extension}"), bytes).unwrap();
    }
    let host = place.run().start();
    for coding in ["gzip", "br", "zstd"] {
        let url = url(&host, &format!("/{coding}.txt"));
        let decoded = get(&[], &["-i", &url]);
        assert_code(&decoded, 0);
        let text = String::from_utf8_lossy(&decoded.stdout);
        assert!(text.ends_with("\r\n\r\nhello"), "{coding}: {text}");
        assert!(
            text.contains("Vary: Accept-Encoding\r\n"),
            "{coding}: {text}"
        );
        // Somebody who asks for it gets it as it is.
        let asked = format!("Accept-Encoding: {coding}");
        let raw = get(&[], &["-H", &asked, &url]);
        assert_ne!(raw.stdout, b"hello", "{coding}");
        let file = place.path(&format!("{coding}.out"));
        assert_code(&get(&[], &["-o", &file, &url]), 0);
        assert_eq!(fs::read(file).unwrap(), b"hello");
    }
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    assert_code(&get(&[], &["-m", "200ms", &url]), 28);
    assert_code(&get(&[], &["--silence-time", "200ms", &url]), 28);
    drop(silent);
    assert_code(&get(&[], &[&url]), 7);
}

#[test]
fn what_is_no_whole_answer_has_its_code() {
    for (answer, code) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", 8),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 18),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            18,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
            61,
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
            3,
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            47,
        ),
        ("HTTP/1.0 200 OK\r\n\r\nhello", 0),
    ] {
        let server = Saying::this(answer);
        let output = get(&[], &[&format!("http://{}/", server.0)]);
        assert_code(&output, code);
        if code == 0 {
            assert_eq!(output.stdout, b"hello");
        }
    }
}

/// Answers every request with the same bytes, and ends the connection.
struct Saying(SocketAddr);

impl Saying {
    fn this(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if head(&mut BufReader::new(stream.try_clone().unwrap())).is_some() {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self(address)
    }
}

/// A request's head, if one comes.
fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A proxy that tells the heads that it gets, connects for CONNECT, and answers everything else itself.
struct Proxying(SocketAddr, Receiver<String>);

impl Proxying {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heads) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Some(head) = head(&mut reader) else {
                    continue;
                };
                let target = head
                    .strip_prefix("CONNECT ")
                    .and_then(|rest| rest.split(' ').next())
                    .map(ToOwned::to_owned);
                tell.send(head).unwrap();
                let Some(target) = target else {
                    let _ = stream.write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nproxied",
                    );
                    continue;
                };
                let server = TcpStream::connect(target.replace("localhost", "127.0.0.1")).unwrap();
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let (mut up, mut down) = (server.try_clone().unwrap(), stream.try_clone().unwrap());
                let _up = thread::spawn(move || {
                    let _ = io::copy(&mut reader, &mut up);
                    let _ = up.shutdown(Shutdown::Write);
                });
                let _down = thread::spawn(move || {
                    let mut server = server;
                    let _ = io::copy(&mut server, &mut down);
                    let _ = down.shutdown(Shutdown::Write);
                });
            }
        });
        Self(address, heads)
    }
}

#[test]
fn a_proxy_is_asked_and_connects_for_tls() {
    let proxy = Proxying::start();
    let by = format!("http://user:password@{}", proxy.0);
    let plain = get(&[], &["-x", &by, "http://nowhere.invalid/a?b"]);
    assert_code(&plain, 0);
    assert_eq!(plain.stdout, b"proxied");
    let head = proxy.1.recv().unwrap();
    assert!(
        head.starts_with("GET http://nowhere.invalid/a?b HTTP/1.1\r\nHost: nowhere.invalid\r\n")
            && head.contains("Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n"),
        "{head}"
    );

    let place = Place::new("proxy");
    let certificates = place.path("certificates");
    let made = places::host()
        .args(["cert", "self-signed", &certificates, "localhost"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let host = place
        .run()
        .listen(&format!("tls://127.0.0.1:0?cert={certificates}"))
        .start();
    let certificate = only_certificate(Path::new(&certificates));
    let url = format!("https://localhost:{}/a.txt", host.address().port());
    let secure = get(&["--tls-ca", &certificate], &["-x", &by, &url]);
    assert_code(&secure, 0);
    assert_eq!(secure.stdout, b"hello");
    let head = proxy.1.recv().unwrap();
    assert!(
        head.starts_with(&format!(
            "CONNECT localhost:{} HTTP/1.1\r\n",
            host.address().port()
        )),
        "{head}"
    );
}

#[test]
fn a_terminal_sees_how_far_it_is() {
    let place = Place::new("terminal");
    let host = place.run().start();
    let (file, url) = (place.path("download"), url(&host, "/big"));
    let command = getting(&[], &["-o", &file, &url]);
    let Some(shown) = pty::on_terminal(&command, (100, 30), &[]) else {
        eprintln!("skipped: run `cargo xtask setup`");
        return;
    };
    assert_eq!(shown.code, 0, "{}", shown.text);
    assert!(
        shown.text.contains("9.54 MiB") && shown.text.contains('%'),
        "{:?}",
        shown.text
    );
    assert_eq!(fs::metadata(&file).unwrap().len(), 10_000_000);
    // Where the terminal shows the body, no bar is drawn into it.
    let command = getting(&[], &[&self::url(&host, "/a.txt")]);
    let shown = pty::on_terminal(&command, (100, 30), &[]).unwrap();
    assert_eq!((shown.code, shown.text.trim()), (0, "hello"));
}
