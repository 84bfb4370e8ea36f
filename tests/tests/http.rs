//! HTTP over sockets: the example application and the server for files, with clients of others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    host::{Host, Run, nethost_reading},
    places::{plugin, python, root, scratch},
};

/// A folder with a site.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = scratch(&format!("http-{name}"));
        for (path, contents) in [
            ("site/index.txt", "no index"),
            ("site/folder/index.html", "<p>index"),
            ("site/list/<b>&.txt", "listed"),
            ("site/list/.hidden", "hidden"),
            ("site/list/data.bin", "downloaded"),
            ("site/a.css", "a{color:red}"),
            ("site/private/a.txt", "for ann"),
            ("outside.txt", "outside"),
        ] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        fs::create_dir(folder.join("logs")).unwrap();
        fs::write(folder.join("site/big"), "0123456789".repeat(300_000)).unwrap();
        std::os::unix::fs::symlink("../outside.txt", folder.join("site/link.txt")).unwrap();
        Self(folder)
    }

    fn site(&self) -> PathBuf {
        self.0.join("site")
    }

    fn run(&self) -> Run {
        let root = format!("root={}", self.site().display());
        let logs = format!("logs={}:rw", self.0.join("logs").display());
        Run::of(plugin("http")).arguments(["--dir", &root, "--dir", &logs, "--workers", "1"])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A browser that was killed may still be leaving things behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn hello() -> Host {
    Run::of(plugin("examples/http-hello"))
        .arguments(["--workers", "1"])
        .start()
}

fn url(host: &Host, path: &str) -> String {
    format!("http://{}{path}", host.address())
}

/// Runs curl, and returns what it printed.
#[track_caller]
fn curl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_example_says_what_it_should() {
    let host = hello();
    assert_eq!(curl([url(&host, "/").as_str()]), "OK");
    assert_eq!(curl(["-d", "a=b", &url(&host, "/")]), "a=b");
    assert_eq!(
        curl([
            "-H",
            "Transfer-Encoding: chunked",
            "-d",
            "a=b",
            &url(&host, "/")
        ]),
        "a=b"
    );
    assert_eq!(
        curl(["-b", "a=1; b=\"2\"", &url(&host, "/cookie")]),
        "a=1\nb=2\n"
    );
    let echo = curl(["-A", "me", "-H", "X-oDD: 1", &url(&host, "/echo")]);
    assert_eq!(
        echo,
        format!(
            "Host: {}\nUser-Agent: me\nAccept: */*\nX-oDD: 1\n",
            host.address()
        )
    );
    let lines = fs::read_to_string(root().join("plugins/examples/http-hello/src/lib.rs")).unwrap();
    assert!(
        lines.lines().count() < 60,
        "the example has {} lines",
        lines.lines().count()
    );
}

#[test]
fn curl_gets_files_and_parts_of_them() {
    let place = Place::new("curl");
    let host = place.run().start();
    let big = url(&host, "/big");
    assert_eq!(curl([big.as_str()]).len(), 3_000_000);
    assert_eq!(curl(["-r", "10-14", &big]), "01234");
    let several = curl(["-i", "-r", "0-1,2999998-", &big]);
    assert!(
        several.contains("multipart/byteranges")
            && several.contains("Content-Range: bytes 2999998-2999999/3000000\r\n\r\n89\r\n"),
        "{several}"
    );
    let head = curl(["-I", &big]);
    assert!(
        head.contains("Content-Length: 3000000\r\n")
            && head.contains("Content-Type: application/octet-stream"),
        "{head}"
    );
    // A download that is gone on with.
    let part = place.0.join("part");
    fs::write(&part, "0123456789".repeat(100_000)).unwrap();
    curl(["-C", "-", "-o", part.to_str().unwrap(), &big]);
    assert_eq!(
        fs::read(&part).unwrap(),
        fs::read(place.site().join("big")).unwrap()
    );
    let status = |path: &str| {
        curl([
            "-o",
            "/dev/null",
            "--path-as-is",
            "-w",
            "%{http_code}",
            &url(&host, path),
        ])
    };
    for (path, expected) in [
        ("/", "200"),
        ("/link.txt", "403"),
        ("/../outside.txt", "400"),
        ("/%2e%2e/outside.txt", "400"),
        ("/..%2foutside.txt", "404"),
        ("/list/.hidden", "404"),
        ("/none", "404"),
        ("/folder", "301"),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
    assert_eq!(
        curl(["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}", &big]),
        "405"
    );
}

#[test]
fn an_access_log_is_written_to_its_folder() {
    let place = Place::new("log");
    let host = place.run().set("access-log", "json").start();
    curl(["-A", "me", &url(&host, "/a.css?q")]);
    let log = place.0.join("logs/access.log");
    let deadline = Instant::now() + DEADLINE;
    while fs::read(&log).map_or(0, |log| log.len()) == 0 {
        assert!(Instant::now() < deadline, "no access log: {}", host.log());
        thread::yield_now();
    }
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(line["request"], "GET /a.css?q HTTP/1.1");
    assert_eq!(
        (&line["status"], &line["bytes"], &line["user_agent"]),
        (&200.into(), &12.into(), &"me".into())
    );
}

#[test]
fn requests_of_python_work() {
    let Some(python) = python() else {
        eprintln!("skipped: run `cargo xtask setup`");
        return;
    };
    let place = Place::new("requests");
    let gzip = "import gzip, sys; open(sys.argv[1] + '.gz', 'wb').write(gzip.compress(open(sys.argv[1], 'rb').read()))";
    let css = place.site().join("a.css");
    assert!(
        Command::new(&python)
            .args(["-c", gzip])
            .arg(&css)
            .status()
            .unwrap()
            .success()
    );
    let users = place.0.join("users.toml");
    let added = nethost_reading(
        ["user", "add", "ann", "--file", users.to_str().unwrap()],
        "secret\n",
    );
    assert_eq!(added.code, Some(0), "{}", added.log);
    let site = place
        .run()
        .set("protect", "/private")
        .arguments(["--users".as_ref(), users.as_os_str()])
        .start();
    let hello = hello();
    let output = Command::new(python)
        .arg(root().join("tests/clients/http_requests.py"))
        .args([url(&hello, ""), url(&site, "")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "hello\nchunked upload\nlarge upload and streamed download\ncookies\n405\nredirect\ngzip\npassword\nrange\n";
    assert_eq!(
        said,
        expected,
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        site.log()
    );
}

#[test]
fn a_browser_shows_a_listing_and_downloads() {
    let place = Place::new("browser");
    let host = place.run().start();
    let mut dump = chromium(&place.0);
    let dom = dump
        .args(["--dump-dom", &url(&host, "/list/")])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&dom.stdout);
    assert!(
        dom.contains("&lt;b&gt;&amp;.txt") && dom.contains("data.bin") && !dom.contains(".hidden"),
        "{dom}"
    );
    let downloads = place.0.join("downloads");
    let preferences = serde_json::json!({ "download": { "default_directory": &downloads, "prompt_for_download": false } });
    fs::create_dir_all(place.0.join("profile/Default")).unwrap();
    fs::write(
        place.0.join("profile/Default/Preferences"),
        preferences.to_string(),
    )
    .unwrap();
    let child = chromium(&place.0)
        .args(["--remote-debugging-port=0", &url(&host, "/list/data.bin")])
        .spawn()
        .unwrap();
    let _browser = Killed(child);
    let file = downloads.join("data.bin");
    let deadline = Instant::now() + 3 * DEADLINE;
    while fs::read_to_string(&file).ok().as_deref() != Some("downloaded") {
        assert!(
            Instant::now() < deadline,
            "nothing was downloaded to {}",
            downloads.display()
        );
        thread::yield_now();
    }
}

fn chromium(folder: &Path) -> Command {
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A program that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It is this test's own child.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_large_upload_takes_no_memory() {
    // What is not read waits with the client: two GiB take what ten take.
    const SIZE: usize = 2 << 30;
    let host = hello();
    let mut up = TcpStream::connect(host.address()).unwrap();
    up.set_read_timeout(Some(DEADLINE)).unwrap();
    up.set_write_timeout(Some(DEADLINE)).unwrap();
    let mut down = up.try_clone().unwrap();
    let before = host.memory();
    let sending = thread::spawn(move || {
        write!(
            up,
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n"
        )
        .unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            up.write_all(&piece).unwrap();
        }
    });
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = down.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        received += count;
    }
    sending.join().unwrap();
    assert!(received > SIZE && received < SIZE + 1000, "{received}");
    let grown = host.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "the host grew by {grown} bytes");
}

#[test]
fn a_large_download_takes_no_memory() {
    const SIZE: u64 = 3 << 30;
    let place = Place::new("download");
    // A hole, which takes no room on the disk.
    let file = fs::File::create(place.site().join("large")).unwrap();
    file.set_len(SIZE).unwrap();
    let host = place.run().start();
    let before = host.memory();
    let mut client = TcpStream::connect(host.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = client.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        received += count as u64;
    }
    assert!(received > SIZE && received < SIZE + 1000, "{received}");
    let grown = host.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "the host grew by {grown} bytes");
}

#[test]
fn who_takes_nothing_makes_nothing_grow() {
    let host = hello();
    let before = host.memory();
    // The answer is the body: as it is not taken, no more of the body is read.
    let mut client = host.connect();
    let size = 1_usize << 30;
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    ));
    let taken = client.send_until_blocked(size);
    assert!(taken < 64 << 20, "{taken} bytes were read");
    let grown = host.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "the host grew by {grown} bytes");
}

#[test]
fn an_error_is_read_though_more_was_sent() {
    let host = hello();
    let mut client = TcpStream::connect(host.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        .unwrap();
    // Without lingering the host would reset the connection at these, and the answer would be gone with it.
    client.write_all(&vec![b'x'; 200_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

#[test]
fn idle_clients_stay_when_the_service_goes_on_and_leave_when_it_ends() {
    let host = hello();
    let mut client = TcpStream::connect(host.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nOK") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    let start = Instant::now();
    host.terminate();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "an idle connection held the service up"
    );
}
