//! The client, with a test's own servers and clock.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::time::Duration;

use http::{Request, Response};
use nethost_http::{
    Application, Body, Http, Reply, Router,
    client::{Client, Get, Options},
    site::Files,
    text,
};
use nethost_sdk::{
    Config, ConnectionId, ErrorCode,
    testing::{Access, Grants, Host},
};

const CONFIG: &str = r#"{"index": [], "listing": true, "precompressed": true, "cache": 0, "cache-time": 0,
    "hosts": [], "headers": [], "redirects": [], "error-pages": [], "protect": [], "realm": "files", "access-log": "", "request-line": 8192,
    "header-bytes": 32768, "header-count": 100, "head-timeout": 20000000000, "idle-timeout": 75000000000, "send-timeout": 60000000000}"#;

type Command = Host<Http<Files>>;

fn started(arguments: &[&str]) -> Command {
    let grants = Grants::new()
        .directory("root", Access::Read, [])
        .file("in", Access::Read, b"from a file")
        .file("out", Access::Write, b"what was there before");
    let mut host = Host::start_with(CONFIG, grants).unwrap();
    host.run::<Get>(arguments);
    host
}

/// Takes the only dial.
#[track_caller]
fn accepted<P: nethost_sdk::Protocol>(host: &mut Host<P>, endpoint: &str) -> ConnectionId {
    let dials = host.dials();
    assert_eq!(dials.len(), 1, "{dials:?}");
    assert_eq!(dials[0].1, endpoint);
    host.accept(dials[0].0)
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_response_is_written_as_it_comes() {
    let mut host = started(&["get", "http://a.test:81/x?y#z"]);
    let server = accepted(&mut host, "tcp://a.test:81");
    let request = text_of(host.received(server));
    assert!(
        request.starts_with("GET /x?y HTTP/1.1\r\nHost: a.test:81\r\n"),
        "{request}"
    );
    host.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none");
    assert_eq!(host.output(), b"one");
    assert_eq!(host.exit_code(), None);
    host.send(server, b"two");
    assert_eq!(
        (host.output(), host.exit_code()),
        (b"two".to_vec(), Some(0))
    );
}

#[test]
fn options_say_what_is_sent_and_where_the_response_goes() {
    let mut host = started(&[
        "get",
        "-iXPUT",
        "-H",
        "X-A: b",
        "-d",
        "@in",
        "-o",
        "out",
        "https://a.test/",
    ]);
    let server = accepted(&mut host, "tls://a.test:443?alpn=http/1.1");
    let request = text_of(host.received(server));
    assert!(
        request.starts_with("PUT / HTTP/1.1\r\nHost: a.test\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nX-A: b\r\n"), "{request}");
    assert!(request.contains("\r\nContent-Length: 11\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nfrom a file"), "{request}");
    host.send(
        server,
        b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    );
    let written = text_of(host.file("out"));
    assert_eq!(
        written,
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nno"
    );
    assert_eq!(host.exit_code(), Some(22));
}

#[test]
fn standard_input_is_sent_in_chunks() {
    let mut host = started(&["get", "-d@-", "http://u:p@a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    let request = text_of(host.received(server));
    assert!(request.starts_with("POST / "), "{request}");
    assert!(
        request.contains("\r\nAuthorization: Basic dTpw\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{request}"
    );
    host.input(b"one");
    assert_eq!(host.received(server), b"3\r\none\r\n");
    // The answer may begin before the request ends.
    host.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\non");
    assert_eq!(host.output(), b"on");
    host.end_input();
    assert_eq!(host.received(server), b"0\r\n\r\n");
    host.send(server, b"e!");
    assert_eq!((host.output(), host.exit_code()), (b"e!".to_vec(), Some(0)));
}

#[test]
fn redirects_are_followed_on_the_same_connection_and_without_secrets_elsewhere() {
    let mut host = started(&["get", "-H", "Cookie: a=b", "-dx", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    assert!(text_of(host.received(server)).ends_with("\r\n\r\nx"));
    host.send(
        server,
        b"HTTP/1.1 307 Go\r\nLocation: /there\r\nContent-Length: 3\r\n\r\nold",
    );
    let second = text_of(host.received(server));
    assert!(second.starts_with("POST /there HTTP/1.1\r\n"), "{second}");
    assert!(second.contains("Cookie: a=b") && second.ends_with("\r\n\r\nx"));
    host.send(
        server,
        b"HTTP/1.1 303 Go\r\nLocation: http://b.test/\r\nContent-Length: 0\r\n\r\n",
    );
    let other = accepted(&mut host, "tcp://b.test:80");
    let third = text_of(host.received(other));
    assert!(
        third.starts_with("GET / HTTP/1.1\r\nHost: b.test\r\n"),
        "{third}"
    );
    assert!(
        !third.contains("Cookie") && !third.contains("Content-"),
        "{third}"
    );
    host.send(other, b"HTTP/1.1 204 No\r\n\r\n");
    assert_eq!(host.exit_code(), Some(0));

    let mut host = started(&["get", "--max-redirects=1", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    for code in [None, Some(47)] {
        host.send(
            server,
            b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(host.exit_code(), code);
    }
}

#[test]
fn every_way_to_fail_has_its_exit_code() {
    for (code, exit) in [
        (ErrorCode::Refused, 7),
        (ErrorCode::Denied, 7),
        (ErrorCode::NameNotFound, 6),
        (ErrorCode::Timeout, 28),
        (ErrorCode::Other("tls".to_owned()), 35),
    ] {
        let mut host = started(&["get", "https://a.test/"]);
        let (dial, _) = host.dials().remove(0);
        host.fail(dial, code);
        assert_eq!(host.exit_code(), Some(exit));
        assert!(host.error_output().starts_with(b"error: https://a.test: "));
    }
    for (answer, exit) in [
        ("SSH-2.0-x\r\n", 8),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", 18),
        ("HTTP/1.1 302 Go\r\nLocation: ftp://a/\r\n\r\n", 3),
        ("", 18),
    ] {
        let mut host = started(&["get", "http://a.test/"]);
        let server = accepted(&mut host, "tcp://a.test:80");
        host.send(server, answer.as_bytes());
        host.close_write(server);
        assert_eq!(host.exit_code(), Some(exit), "{answer}");
    }
    let mut host = started(&["get", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    host.reset(server);
    assert_eq!(host.exit_code(), Some(56));
    for arguments in [
        &[] as &[&str],
        &["get"],
        &["put", "http://a/"],
        &["get", "a.test"],
        &["get", "-z", "http://a/"],
        &["get", "-H", "Content-Length: 1", "http://a/"],
        &["get", "-H", "a", "http://a/"],
        &["get", "-X", "CONNECT", "http://a/"],
        &["get", "http://a/", "http://b/"],
    ] {
        let mut host = started(arguments);
        assert_eq!(host.exit_code(), Some(2), "{arguments:?}");
        assert!(text_of(host.error_output()).contains("usage: http get"));
    }
}

#[test]
fn who_is_silent_is_not_waited_for() {
    let mut host = started(&["get", "--silence-time", "2s", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    host.advance(Duration::from_millis(1900));
    host.send(server, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    host.advance(Duration::from_millis(1900));
    assert_eq!(host.exit_code(), None);
    host.advance(Duration::from_millis(200));
    assert_eq!(host.exit_code(), Some(28));

    let mut host = started(&["get", "-m3", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    host.send(server, b"HTTP/1.1 200 OK\r\n\r\na");
    for _ in 0..2 {
        host.advance(Duration::from_secs(1));
        host.send(server, b"a");
        assert_eq!(host.exit_code(), None);
    }
    host.advance(Duration::from_secs(1));
    assert_eq!(host.exit_code(), Some(28));
}

#[test]
fn a_proxy_is_told_the_whole_url_and_connects_for_https() {
    let proxied = |url: &str| started(&["get", "-x", "http://u:p@proxy.test:3128", url]);
    let mut host = proxied("http://a.test/x");
    let proxy = accepted(&mut host, "tcp://proxy.test:3128");
    let request = text_of(host.received(proxy));
    assert!(
        request.starts_with("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nProxy-Authorization: Basic dTpw\r\n"));

    let mut host = proxied("https://a.test/x");
    let proxy = accepted(&mut host, "tcp://proxy.test:3128");
    assert_eq!(
        text_of(host.received(proxy)),
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    );
    host.send(proxy, b"HTTP/1.1 200 Go ahead\r\n\r\n");
    assert_eq!(host.handshakes().len(), 1);
    host.secure(proxy, nethost_sdk::TlsInfo::default());
    let request = text_of(host.received(proxy));
    assert!(
        request.starts_with("GET /x HTTP/1.1\r\nHost: a.test\r\n"),
        "{request}"
    );
    assert!(!request.contains("Proxy-"), "{request}");
    host.send(proxy, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(host.exit_code(), Some(0));

    let mut host = proxied("https://a.test/x");
    let proxy = accepted(&mut host, "tcp://proxy.test:3128");
    host.send(proxy, b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(host.exit_code(), Some(7));
}

/// An application that answers with what another server says.
struct Gateway;

impl Application for Gateway {
    type Service = Router;

    fn configure(_config: &Config) -> Result<Router, String> {
        let client = Client::new(Options::default());
        Ok(Router::new().get("/", move |_, _| {
            let client = client.clone();
            Reply::later(async move {
                let request = Request::get("http://back.test/").body(Body::empty());
                let answer = match client.send(request.unwrap()).await {
                    Ok(answer) => answer.into_body().collect(100).await,
                    Err(error) => Ok(format!("error: {error}").into()),
                };
                Ok::<Response<Body>, nethost_http::BodyError>(text(
                    String::from_utf8(answer?.to_vec()).unwrap(),
                ))
            })
        }))
    }
}

#[test]
fn connections_are_kept_for_the_next_request_until_they_are_closed() {
    let mut host = Host::<Http<Gateway>>::start("{}").unwrap();
    let client = host.connect();
    let ask = |host: &mut Host<_>| {
        host.received(client);
        host.send(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    };
    ask(&mut host);
    let first = accepted(&mut host, "tcp://back.test:80");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    host.send(first, answer);
    assert!(host.received(client).ends_with(b"\r\n\r\nhi"));
    host.received(first);

    // The same connection; and when the server closes it instead of answering, another one.
    ask(&mut host);
    assert!(host.dials().is_empty());
    assert!(host.received(first).starts_with(b"GET / "));
    host.close_write(first);
    let second = accepted(&mut host, "tcp://back.test:80");
    host.send(second, answer);
    assert!(host.received(client).ends_with(b"\r\n\r\nhi"));

    // One that was closed while nobody used it is not tried.
    host.close_write(second);
    ask(&mut host);
    let third = accepted(&mut host, "tcp://back.test:80");
    host.send(third, answer);
    assert!(host.received(client).ends_with(b"\r\n\r\nhi"));

    // Nor is one on which something came that nobody asked for.
    host.send(third, answer);
    ask(&mut host);
    accepted(&mut host, "tcp://back.test:80");
}

#[test]
fn compressed_bodies_are_decoded_unless_somebody_asked_for_them() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n\x0b\x02\x80hello\x03";
    for (arguments, expected) in [
        (&["get", "http://a.test/"] as &[&str], &b"hello"[..]),
        (
            &["get", "-H", "Accept-Encoding: br", "http://a.test/"],
            b"\x0b\x02\x80hello\x03",
        ),
    ] {
        let mut host = started(arguments);
        let server = accepted(&mut host, "tcp://a.test:80");
        assert!(text_of(host.received(server)).contains("\r\nAccept-Encoding: "));
        host.send(server, answer);
        assert_eq!(
            (host.output(), host.exit_code()),
            (expected.to_vec(), Some(0))
        );
    }
    let mut host = started(&["get", "http://a.test/"]);
    let server = accepted(&mut host, "tcp://a.test:80");
    host.send(
        server,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(host.exit_code(), Some(61));
}
