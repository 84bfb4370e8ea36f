//! Files, in memory: what is sent of them, to whom, and what is not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod common;

use std::time::Duration;

use nethost_http::{Http, site::Files};
use nethost_sdk::{
    ConnectionId,
    testing::{Access, Grants, Host},
};

const CONFIG: &str = r#"{"index": ["index.html"], "listing": true, "precompressed": true, "cache": 16777216, "cache-time": 1000000000,
    "hosts": [], "headers": [], "redirects": [], "error-pages": [], "protect": [], "realm": "files", "access-log": "", "request-line": 8192,
    "header-bytes": 32768, "header-count": 100, "head-timeout": 20000000000, "idle-timeout": 75000000000, "send-timeout": 60000000000}"#;

/// A site and one client.
struct Site {
    host: Host<Http<Files>>,
    client: ConnectionId,
}

/// An answer, in parts.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.split("\r\n");
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn has(&self, name: &str) -> bool {
        self.head
            .split("\r\n")
            .any(|line| line.starts_with(&format!("{name}:")))
    }
}

impl Site {
    fn new(changes: &[(&str, &str)], files: &[(&str, &[u8])]) -> Self {
        Self::granted(
            changes,
            Grants::new().directory("root", Access::Read, files.iter().copied()),
        )
    }

    fn granted(changes: &[(&str, &str)], grants: Grants) -> Self {
        let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
        for (key, value) in changes {
            config[*key] = serde_json::from_str(value).unwrap();
        }
        let mut host = Host::start_with(&config.to_string(), grants).unwrap();
        let client = host.connect();
        Self { host, client }
    }

    fn get(&mut self, path: &str, headers: &str) -> Answer {
        self.ask("GET", path, headers)
    }

    #[track_caller]
    fn ask(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        let host = if headers.contains("Host: ") {
            ""
        } else {
            "Host: a\r\n"
        };
        let request = format!("{method} {path} HTTP/1.1\r\n{host}{headers}\r\n");
        self.host.send(self.client, request.as_bytes());
        let received = self.host.received(self.client);
        let end = received
            .windows(4)
            .position(|it| it == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8(received[..end].to_vec()).unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: received[end + 4..].to_vec(),
        }
    }
}

#[test]
fn a_file_is_sent_with_what_is_known_of_it() {
    let mut site = Site::new(
        &[],
        &[("a/b.html", b"<p>hello"), ("big", &[b'x'; 300 << 10])],
    );
    let answer = site.get("/a/b.html?q", "");
    assert_eq!((answer.status, &*answer.body), (200, &b"<p>hello"[..]));
    assert_eq!(answer.header("Content-Type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("Accept-Ranges"), "bytes");
    assert!(answer.has("Last-Modified") && answer.header("ETag").starts_with('"'));
    let head = site.ask("HEAD", "/a/b.html", "");
    assert_eq!(
        (head.status, head.header("Content-Length"), head.body.len()),
        (200, "8", 0)
    );
    assert_eq!(site.get("/big", "").body.len(), 300 << 10);
    assert_eq!(site.get("/a/b.html", "").body, b"<p>hello");
}

#[test]
fn what_is_not_there_or_not_for_all_is_not_found() {
    let mut site = Site::new(
        &[("listing", "false")],
        &[
            ("a/b", b"1"),
            (".secret", b"2"),
            ("a/.git/c", b"3"),
            ("c/index.html", b"4"),
        ],
    );
    for (path, status) in [
        ("/x", 404),
        ("/a/b/", 404),
        ("/.secret", 404),
        ("/%2esecret", 404),
        ("/a/.git/c", 404),
        ("/a/", 404),
        ("/", 404),
        ("/a%2fb", 404),
        ("/a%5cb", 404),
        ("/%c0%ae%c0%ae/b", 404),
        ("/../a/b", 400),
        ("/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/%zz", 400),
        ("/a/./x/../b", 200),
        ("/c/", 200),
    ] {
        assert_eq!(site.get(path, "").status, status, "{path}");
    }
    for (method, status) in [
        ("POST", 405),
        ("DELETE", 405),
        ("TRACE", 405),
        ("BREW", 501),
        ("OPTIONS", 204),
    ] {
        let answer = site.ask(method, "/a/b", "");
        assert_eq!(
            (answer.status, answer.header("Allow")),
            (status, "GET, HEAD, OPTIONS"),
            "{method}"
        );
    }
}

#[test]
fn a_directory_is_redirected_to_indexed_or_listed() {
    let mut site = Site::new(
        &[],
        &[
            ("a/index.html", b"index"),
            ("l/<x>.txt", b"1"),
            ("l/.h", b"2"),
            ("l/z/y", b"3"),
        ],
    );
    let answer = site.get("/a?q=1", "");
    assert_eq!((answer.status, answer.header("Location")), (301, "/a/?q=1"));
    assert_eq!(site.get("//a", "").header("Location"), "/a/");
    assert_eq!(site.get("/a/", "").body, b"index");
    let listing = site.get("/l/", "");
    let html = String::from_utf8(listing.body.clone()).unwrap();
    assert_eq!(listing.header("Content-Type"), "text/html; charset=utf-8");
    assert!(
        html.contains("&lt;x&gt;.txt")
            && html.contains("./%3Cx%3E.txt")
            && html.contains("width=device-width"),
        "{html}"
    );
    assert!(!html.contains("<x>") && !html.contains(".h<"), "{html}");
    assert!(
        html.find("z/").unwrap() < html.find("&lt;x").unwrap(),
        "directories come first"
    );
}

#[test]
fn conditions_and_ranges_are_answered() {
    let mut site = Site::new(&[], &[("a.txt", b"0123456789")]);
    let first = site.get("/a.txt", "");
    let (etag, modified) = (
        first.header("ETag").to_owned(),
        first.header("Last-Modified").to_owned(),
    );
    let not_modified = site.get("/a.txt", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(
        (
            not_modified.status,
            not_modified.header("ETag"),
            not_modified.body.len()
        ),
        (304, etag.as_str(), 0)
    );
    assert!(!not_modified.has("Content-Type") && !not_modified.has("Content-Length"));
    for (headers, status) in [
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n"), 206),
        ("Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".to_owned(), 200),
    ] {
        assert_eq!(site.get("/a.txt", &headers).status, status, "{headers}");
    }
    let range = site.get("/a.txt", "Range: bytes=2-4\r\n");
    assert_eq!(
        (range.status, &*range.body, range.header("Content-Range")),
        (206, &b"234"[..], "bytes 2-4/10")
    );
    let beyond = site.get("/a.txt", "Range: bytes=10-\r\n");
    assert_eq!(
        (beyond.status, beyond.header("Content-Range")),
        (416, "bytes */10")
    );
    let head = site.ask("HEAD", "/a.txt", "Range: bytes=2-4\r\n");
    assert_eq!((head.status, head.header("Content-Length")), (200, "10"));
    let several = site.get("/a.txt", "Range: bytes=0-1,-2\r\n");
    let boundary = several
        .header("Content-Type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(several.body.clone()).unwrap(), expected);
    assert_eq!(several.header("Content-Length"), expected.len().to_string());
}

#[test]
fn a_compressed_file_stands_for_the_plain_one() {
    let mut site = Site::new(
        &[],
        &[
            ("a.css", b"plain"),
            ("a.css.br", b"br"),
            ("a.css.gz", b"gz"),
            ("b.css", b"alone"),
        ],
    );
    for (accept, status, body) in [
        ("", 200, &b"plain"[..]),
        ("Accept-Encoding: gzip, br\r\n", 200, b"br"),
        ("Accept-Encoding: gzip;q=1, br;q=0.5\r\n", 200, b"gz"),
        ("Accept-Encoding: zstd\r\n", 200, b"plain"),
        (
            "Accept-Encoding: zstd, identity;q=0\r\n",
            406,
            b"406 Not Acceptable\n",
        ),
        ("Accept-Encoding: *;q=0\r\n", 406, b"406 Not Acceptable\n"),
    ] {
        let answer = site.get("/a.css", accept);
        assert_eq!((answer.status, &*answer.body), (status, body), "{accept}");
        if status == 200 {
            assert_eq!(answer.header("Vary"), "Accept-Encoding");
            assert_eq!(answer.header("Content-Type"), "text/css; charset=utf-8");
            assert_eq!(answer.has("Content-Encoding"), body.len() == 2);
        }
    }
    assert!(!site.get("/b.css", "Accept-Encoding: br\r\n").has("Vary"));
}

#[test]
fn a_file_that_changes_is_seen_after_a_second() {
    let grants = Grants::new().directory("root", Access::Write, [("a", &b"one"[..])]);
    let mut site = Site::granted(&[], grants);
    assert_eq!(site.get("/a", "").body, b"one");
    site.host.advance(Duration::from_secs(2));
    site.host.write_in("root", "a", b"other");
    assert_eq!(site.get("/a", "").body, b"other");
}

#[test]
fn what_the_operator_wants_is_around_it() {
    let changes = [
        ("headers", r#"["X-Frame-Options: DENY"]"#),
        (
            "redirects",
            r#"["/old/* https://b.example/* 301", "/gone /a"]"#,
        ),
        ("error-pages", r#"["404 /e.html"]"#),
        ("hosts", r#"["B.example,www.b.example root/b"]"#),
        ("access-log", r#""combined""#),
    ];
    let grants = Grants::new()
        .directory(
            "root",
            Access::Read,
            [("a", &b"a"[..]), ("b/a", b"b"), ("e.html", b"<p>lost")],
        )
        .directory("logs", Access::Write, []);
    let mut site = Site::granted(&changes, grants);
    assert_eq!(site.get("/a", "").header("X-Frame-Options"), "DENY");
    assert_eq!(site.get("/a", "Host: b.example:80\r\n").body, b"b");
    assert_eq!(site.get("/a", "Host: WWW.b.example\r\n").body, b"b");
    let moved = site.get("/old/x?y", "");
    assert_eq!(
        (moved.status, moved.header("Location")),
        (301, "https://b.example/x?y")
    );
    assert_eq!(site.get("/gone", "").status, 308);
    let lost = site.get("/x", "User-Agent: \"me\"\r\n");
    assert_eq!(
        (lost.status, &*lost.body, lost.header("Content-Type")),
        (404, &b"<p>lost"[..], "text/html; charset=utf-8")
    );
    site.host.advance(Duration::from_secs(2));
    let log = String::from_utf8(site.host.file_in("logs", "access.log").unwrap()).unwrap();
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with("127.0.0.1 - - [01/Jan/2026:00:00:0"),
        "{log}"
    );
    assert!(
        last.ends_with(r#""GET /x HTTP/1.1" 404 7 "-" "\x22me\x22""#),
        "{log}"
    );
    assert_eq!(log.lines().count(), 6);
}

#[test]
fn a_password_is_asked_for() {
    let mut site = Site::new(
        &[("protect", r#"["/private staff"]"#)],
        &[("private/a", b"1"), ("a", b"2")],
    );
    let answer = site.get("/private/a", "");
    assert_eq!(
        (answer.status, answer.header("Www-Authenticate")),
        (401, "Basic realm=\"files\", charset=\"UTF-8\"")
    );
    assert_eq!(site.get("/%70rivate/../private//a", "").status, 401);
    assert_eq!(site.get("/a", "").status, 200);
}

#[test]
fn what_is_set_wrongly_is_named() {
    let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
    let error = Host::<Http<Files>>::start(CONFIG).unwrap_err();
    assert!(error.contains("--dir root=PATH"), "{error}");
    for (key, value) in [
        ("headers", r#"["nonsense"]"#),
        ("redirects", r#"["/a"]"#),
        ("error-pages", r#"["404"]"#),
        ("protect", r#"["a"]"#),
        ("access-log", r#""apache""#),
        ("hosts", r#"["a"]"#),
        ("cache", "-1"),
        ("request-line", "1"),
        ("header-count", "0"),
        ("index", r#"["a/b"]"#),
    ] {
        let before = config[key].take();
        config[key] = serde_json::from_str(value).unwrap();
        let grants = Grants::new().directory("root", Access::Read, []);
        let error = Host::<Http<Files>>::start_with(&config.to_string(), grants).unwrap_err();
        assert!(error.starts_with(key), "{key}: {error}");
        config[key] = before;
    }
}
