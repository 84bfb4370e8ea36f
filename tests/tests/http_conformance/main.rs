//! HTTP/1.1 as outside suites check it (Http11Probe, h1spec and the like): the example application and the server for files, over sockets.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod answer;
mod files;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use answer::{Answer, answers};
use nethost_tests::{
    DEADLINE,
    host::{Host, Run},
    places::plugin,
};

fn hello() -> Host {
    Run::of(plugin("examples/http-hello"))
        .arguments(["--workers", "1"])
        .start()
}

/// What a client does after it has sent everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It waits for the server to end the connection.
    Waits,
    /// It ends its half.
    Ends,
}

/// Sends this, and returns everything that comes back.
#[track_caller]
fn exchanged(server: SocketAddr, request: &[u8], after: After) -> Vec<u8> {
    let mut client = TcpStream::connect(server).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    client.write_all(request).unwrap();
    if after == After::Ends {
        client.shutdown(Shutdown::Write).unwrap();
    }
    let mut received = Vec::new();
    client
        .read_to_end(&mut received)
        .expect("the server does not end the connection");
    received
}

/// Sends a request, and returns its one answer.
#[track_caller]
fn asked(server: SocketAddr, request: &str) -> Answer {
    let is_head = request.starts_with("HEAD ");
    let received = exchanged(server, request.as_bytes(), After::Ends);
    let mut answers = answers(&received, is_head);
    assert_eq!(answers.len(), 1, "{request}");
    answers.remove(0)
}

/// A line of `cases.txt`.
struct Case<'a> {
    asks: &'a str,
    /// The statuses of the answers, and whether the last one ends the connection by itself.
    statuses: Vec<u16>,
    after: After,
    name: &'a str,
    request: Vec<u8>,
}

fn case(line: &str) -> Option<Case<'_>> {
    if line.starts_with('#') || line.is_empty() {
        return None;
    }
    let parts: Vec<&str> = line.splitn(4, " |").collect();
    let [asks, statuses, name, request] = parts[..] else {
        panic!("no case: {line}");
    };
    let statuses = statuses.trim();
    Some(Case {
        asks,
        after: if statuses.contains('!') {
            After::Waits
        } else {
            After::Ends
        },
        statuses: statuses
            .split(',')
            .filter(|it| *it != "-")
            .map(|it| it.trim_start_matches('!').parse().unwrap())
            .collect(),
        name: name.trim(),
        request: unescaped(request.strip_prefix(' ').unwrap_or(request)),
    })
}

/// `\*COUNT{TEXT}` is that text so many times; the rest is as in the corpus of smuggling.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let (byte, length) = match escape.as_bytes() {
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'0', ..] => (0, 2),
            [b'\\', b'\\', ..] => (b'\\', 2),
            [b'\\', b'x', ..] => (u8::from_str_radix(&escape[2..4], 16).unwrap(), 4),
            [b'\\', b'*', ..] => {
                let (count, repeated) = escape[2..].split_once('{').unwrap();
                let (repeated, after) = repeated.split_once('}').unwrap();
                bytes.extend(unescaped(repeated).repeat(count.parse().unwrap()));
                rest = after;
                continue;
            }
            _ => panic!("an escape that is none: {text}"),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[track_caller]
fn plays(who: &str, server: SocketAddr, case: &Case<'_>) {
    let received = exchanged(server, &case.request, case.after);
    let answers = answers(&received, false);
    let statuses: Vec<u16> = answers.iter().map(|it| it.status).collect();
    let text = String::from_utf8_lossy(&received);
    assert_eq!(statuses, case.statuses, "{who}: {}: {text}", case.name);
    for answer in &answers {
        answer.check(&format!("{who}: {}", case.name));
    }
    if let (After::Waits, Some(last)) = (case.after, answers.last()) {
        assert_eq!(last.header("Connection"), Some("close"), "{text}");
    }
}

#[test]
fn what_suites_ask_is_answered() {
    let hello = hello();
    let site = files::Place::new("cases");
    let files = site.run().start();
    let cases: Vec<_> = include_str!("cases.txt").lines().filter_map(case).collect();
    assert!(cases.len() > 80);
    for case in &cases {
        if case.asks != "files" {
            plays("hello", hello.address(), case);
        }
        if case.asks != "hello" {
            plays("files", files.address(), case);
        }
    }
}

#[test]
fn nothing_is_smuggled_through_sockets_either() {
    let hello = hello();
    let site = files::Place::new("smuggling");
    let files = site.run().start();
    let corpus = include_str!("../../../plugins/http/tests/smuggling.txt");
    let mut count = 0;
    let lines = corpus.lines().map(|line| match line {
        "" => String::new(),
        comment if comment.starts_with('#') => String::new(),
        line => format!("both | {line}"),
    });
    for line in lines {
        let Some(mut case) = case(&line) else {
            continue;
        };
        let is_error = case.statuses.last().is_some_and(|status| *status >= 400);
        case.after = if is_error { After::Waits } else { After::Ends };
        plays("hello", hello.address(), &case);
        // What is no good request is none for files either.
        if case.statuses.first().is_some_and(|status| *status >= 400) {
            plays("files", files.address(), &case);
        }
        count += 1;
    }
    assert!(count > 130, "{count}");
}

#[test]
fn the_example_shows_headers_and_cookies_as_they_came() {
    let hello = hello();
    let asked = |request: &str| asked(hello.address(), request);
    let echo = asked(
        "POST /echo HTTP/1.1\r\nHost: a:1\r\nX-oDD:  two  words \r\nTRANSFER-ENCODING: chunked\r\nX-oDD: again\r\n\r\n0\r\n\r\n",
    );
    assert_eq!(
        echo.text(),
        "Host: a:1\nX-oDD: two  words\nTRANSFER-ENCODING: chunked\nX-oDD: again\n"
    );
    for (lines, expected) in [
        ("Cookie: foo=bar\r\n", "foo=bar\n"),
        ("Cookie: a=1; b=2; c=3\r\n", "a=1\nb=2\nc=3\n"),
        ("Cookie: a=1\r\nCookie: b=2\r\n", "a=1\nb=2\n"),
        ("Cookie: foo=\r\n", "foo=\n"),
        ("Cookie: a=hello world; b=x=y\r\n", "a=hello world\nb=x=y\n"),
        ("Cookie: a=\u{e9}; b=2\r\n", "a=\u{e9}\nb=2\n"),
        ("Cookie: \r\n", ""),
        ("Cookie: ;;;\r\n", ""),
        ("", ""),
    ] {
        let answer = asked(&format!("GET /cookie HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(
            (answer.status, answer.text()),
            (200, expected.into()),
            "{lines}"
        );
    }
    let many: String = (0..1000).map(|at| format!("k{at}=v{at}; ")).collect();
    let answer = asked(&format!(
        "GET /cookie HTTP/1.1\r\nHost: a\r\nCookie: {many}\r\n\r\n"
    ));
    assert_eq!(answer.text().lines().count(), 1000);
}

#[test]
fn bodies_come_back_as_they_were_sent() {
    let hello = hello();
    for (request, expected) in [
        ("Content-Length: 5\r\n\r\nhello", "hello"),
        ("\r\n", ""),
        (
            "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            "hello",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nA\r\nhelloworld\r\n0\r\n\r\n",
            "helloworld",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Checksum: abc\r\n\r\n",
            "hello world",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5 ; a = \"b;\\\"c\" ;d\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
    ] {
        let answer = asked(
            hello.address(),
            &format!("POST / HTTP/1.1\r\nHost: a\r\n{request}"),
        );
        assert_eq!(
            (answer.status, answer.text()),
            (200, expected.into()),
            "{request}"
        );
    }
}

#[test]
fn who_waits_to_be_told_to_go_on_is_told_in_time() {
    let hello = hello();
    let mut client = TcpStream::connect(hello.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .unwrap();
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; expected.len()];
    client.read_exact(&mut told).unwrap();
    assert_eq!(told, expected);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(answers(&rest, false)[0].text(), "hello");
}

#[test]
fn head_is_get_without_the_body() {
    let hello = hello();
    let site = files::Place::new("head");
    let files = site.run().start();
    for (server, path) in [
        (hello.address(), "/"),
        (hello.address(), "/none"),
        (files.address(), "/"),
        (files.address(), "/a.txt"),
        (files.address(), "/list/"),
        (files.address(), "/none"),
    ] {
        let get = asked(server, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = asked(server, &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let shown = |answer: &Answer| {
            let lines = answer.headers.iter().filter(|(name, _)| name != "Date");
            lines.cloned().collect::<Vec<_>>()
        };
        assert_eq!(get.status, head.status, "{path}");
        assert_eq!(shown(&get), shown(&head), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
}
