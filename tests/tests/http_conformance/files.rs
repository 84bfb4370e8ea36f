//! Conditions and ranges of the server for files.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use nethost_tests::{
    host::Run,
    places::{plugin, scratch},
};

use crate::{Answer, asked};

/// A folder with a site, of files that were changed at a known time.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let folder = scratch(&format!("http-conformance-{name}"));
        fs::create_dir_all(folder.join("list")).unwrap();
        let digits = "0123456789".repeat(30_000);
        for (name, contents) in [
            ("index.html", "<p>index"),
            ("a.txt", "0123456789"),
            ("list/a", "a"),
            ("empty", ""),
            ("large", &digits),
        ] {
            let path = folder.join(name);
            fs::write(&path, contents).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            // 1994-11-06 08:49:37, and not on the second.
            file.set_modified(UNIX_EPOCH + Duration::new(784_111_777, 5))
                .unwrap();
        }
        Self(folder)
    }

    pub(crate) fn run(&self) -> Run {
        let root = format!("root={}", self.0.display());
        Run::of(plugin("http")).arguments(["--dir", &root, "--workers", "1"])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn conditions_are_what_caches_expect() {
    let place = Place::new("conditions");
    let host = place.run().start();
    // One that is kept in memory and one that the host sends have the same rules.
    for path in ["/", "/a.txt", "/large"] {
        let get = |method: &str, lines: &str| {
            asked(
                host.address(),
                &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
            )
        };
        let first = get("GET", "");
        assert_eq!(first.header("Last-Modified"), Some(SAME));
        let tag = first.header("ETag").unwrap().to_owned();
        let bare = tag.trim_matches('"');
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        for (lines, status) in [
            (format!("If-None-Match: {tag}\r\n"), 304),
            (format!("If-None-Match: W/{tag}\r\n"), 304),
            (format!("If-None-Match: \"x\", {tag}\r\n"), 304),
            (
                format!("If-None-Match: \"x\"\r\nIf-None-Match: {tag}\r\n"),
                304,
            ),
            ("If-None-Match: *\r\n".into(), 304),
            (format!("If-None-Match: {bare}\r\n"), 200),
            ("If-None-Match: \"x\"\r\n".into(), 200),
            (
                format!(
                    "If-None-Match: {tag}\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                ),
                304,
            ),
            (
                format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {SAME}\r\n"),
                200,
            ),
            (format!("If-Modified-Since: {SAME}\r\n"), 304),
            (
                "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n".into(),
                304,
            ),
            (
                "If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n".into(),
                304,
            ),
            (format!("If-Modified-Since: {BEFORE}\r\n"), 200),
            (
                "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT\r\n".into(),
                200,
            ),
            ("If-Modified-Since: not-a-date\r\n".into(), 200),
            (format!("If-Match: {tag}\r\n"), 200),
            (format!("If-Match: W/{tag}\r\n"), 412),
            ("If-Match: \"x\"\r\n".into(), 412),
            ("If-Match: *\r\n".into(), 200),
            (format!("If-Unmodified-Since: {SAME}\r\n"), 200),
            (format!("If-Unmodified-Since: {BEFORE}\r\n"), 412),
            (
                format!("If-Match: {tag}\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
                200,
            ),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = get(method, &lines);
                assert_eq!(answer.status, status, "{method} {path} {lines}");
                if status == 304 {
                    assert_eq!(answer.header("ETag"), Some(&*tag));
                    assert_eq!(answer.header("Content-Length"), None);
                    assert_eq!(answer.header("Content-Type"), None);
                }
                answer.check(&lines);
            }
        }
    }
    let missing = asked(
        host.address(),
        "GET /none HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n",
    );
    assert_eq!(missing.status, 404);
}

#[test]
fn ranges_are_what_downloads_expect() {
    let place = Place::new("ranges");
    let host = place.run().start();
    let get = |method: &str, path: &str, lines: &str| -> Answer {
        asked(
            host.address(),
            &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
        )
    };
    let first = get("GET", "/a.txt", "");
    assert_eq!(first.header("Accept-Ranges"), Some("bytes"));
    let tag = first.header("ETag").unwrap().to_owned();
    for (lines, status, body, range) in [
        ("Range: bytes=0-4", 206, "01234", "bytes 0-4/10"),
        ("Range: bytes=5-", 206, "56789", "bytes 5-9/10"),
        ("Range: bytes=-3", 206, "789", "bytes 7-9/10"),
        ("Range: bytes=-30", 206, "0123456789", "bytes 0-9/10"),
        ("Range: bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("Range: bytes=9-9", 206, "9", "bytes 9-9/10"),
        ("Range: bytes=10-", 416, "", "bytes */10"),
        ("Range: bytes=-0", 416, "", "bytes */10"),
        ("Range: bytes=4-2", 200, "0123456789", ""),
        ("Range: bytes=x", 200, "0123456789", ""),
        ("Range: lines=1-2", 200, "0123456789", ""),
        ("Range: bytes=0-,0-", 200, "0123456789", ""),
        (
            &format!("Range: bytes=1-2\r\nIf-Range: {tag}"),
            206,
            "12",
            "bytes 1-2/10",
        ),
        (
            &format!("Range: bytes=1-2\r\nIf-Range: W/{tag}"),
            200,
            "0123456789",
            "",
        ),
        ("Range: bytes=1-2\r\nIf-Range: \"x\"", 200, "0123456789", ""),
        (
            &format!("Range: bytes=1-2\r\nIf-Range: {SAME}"),
            206,
            "12",
            "bytes 1-2/10",
        ),
        (
            &format!("Range: bytes=1-2\r\nIf-Range: {BEFORE}"),
            200,
            "0123456789",
            "",
        ),
        (
            &format!("Range: bytes=1-2\r\nIf-None-Match: {tag}"),
            304,
            "",
            "",
        ),
        ("Range: bytes=1-2\r\nIf-Match: \"x\"", 412, "", ""),
    ] {
        let answer = get("GET", "/a.txt", &format!("{lines}\r\n"));
        assert_eq!(answer.status, status, "{lines}");
        assert_eq!(
            answer.header("Content-Range").unwrap_or_default(),
            range,
            "{lines}"
        );
        if status < 400 {
            assert_eq!(answer.text(), body, "{lines}");
        }
        answer.check(lines);
    }
    // Range is for GET.
    assert_eq!(get("HEAD", "/a.txt", "Range: bytes=0-4\r\n").status, 200);
    assert_eq!(get("GET", "/empty", "Range: bytes=0-\r\n").status, 416);
    let several = get("GET", "/large", "Range: bytes=0-1,-2\r\n");
    assert_eq!(
        (several.status, several.header("Content-Range")),
        (206, None)
    );
    let kind = several.header("Content-Type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, bytes: &str| {
        format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/300000\r\n\r\n{bytes}\r\n"
        )
    };
    assert_eq!(
        several.text(),
        format!(
            "{}{}--{boundary}--\r\n",
            part("0-1", "01"),
            part("299998-299999", "89")
        )
    );
}
