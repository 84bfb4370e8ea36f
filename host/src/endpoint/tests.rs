use proptest::prelude::*;

use super::*;

fn parse(url: &str) -> Endpoint {
    url.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_spelling_survives_a_round_trip() {
    for url in [
        "tcp://127.0.0.1:6667",
        "tcp://[::]:6667",
        "tcp://[::1]:0",
        "tcp://irc.example.net:6667",
        "tcp://127.0.0.1:25?backlog=7",
        "tcp://127.0.0.1:25?nodelay=off&keepalive=60s",
        "tcp://127.0.0.1:25?proxy=auto&proxy-from=10.0.0.0/8,::1/128",
        "tcp://192.0.2.1:25?bind=192.0.2.9&timeout=1500ms",
        "tcp://127.0.0.1:25?cert=/etc/a+b%3F.pem&key=/etc/a.key&tls-min=1.3",
        "tls://0.0.0.0:6697?cert=a.pem&key=a.key&cert=certs&alpn=h2,http/1.1",
        "tls://[::]:443?cert=a.pem&client-auth=require&ca=ca.pem",
        "tls://192.0.2.1:443?server-name=example.net",
        "udp://127.0.0.1:53",
        "udp://[::]:53?receive-buffer=8388608&send-buffer=2048",
        "udp://example.net:53?bind=::1",
        "unix:///run/x.sock",
        "unix:///run/a%20b%3F%25.sock?mode=660&backlog=5",
        "unix:@name",
        "unix:@a%2520b",
        "systemd:",
        "systemd://web",
        "systemd://web.socket?tls=on&cert=a.pem",
        "fd://3",
        "fd://17?nodelay=off&proxy=v2",
        "stdio:",
    ] {
        let endpoint = parse(url);
        assert_eq!(endpoint.to_string(), url);
        assert_eq!(parse(&endpoint.to_string()), endpoint);
    }
}

#[test]
fn only_four_decimal_parts_are_an_ipv4_address() {
    for name in [
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "1.2.3.256",
    ] {
        for scheme in ["tcp", "tls", "udp"] {
            let error = format!("{scheme}://{name}:1")
                .parse::<Endpoint>()
                .unwrap_err();
            assert!(
                error.to_string().contains("neither a name nor an address"),
                "{error}"
            );
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (url, message) in [
        ("6667", "`6667` is not an endpoint"),
        (
            "http://127.0.0.1:1",
            "unknown transport `http`; known are tcp, tls, udp, unix, systemd, fd, stdio",
        ),
        ("tcp://127.0.0.1", "the port is missing"),
        ("tcp://:1", "not an endpoint"),
        ("tcp://127.0.0.1:1/x", "no path after its port"),
        ("tcp://127.0.0.1:66667", "invalid port number"),
        ("tcp://u@127.0.0.1:1", "neither a user nor a fragment"),
        ("tcp://127.0.0.1:1 ", "spaces and control characters"),
        (
            "tcp://127.0.\n0.1:1",
            "tcp://127.0.\\n0.1:1`: spaces and control characters",
        ),
        (
            "tcp://a\u{9b}2J:1",
            "`tcp://a\\u{9b}2J:1`: spaces and control characters",
        ),
        (
            "udp://127.0.0.1:1?mode=1",
            "unknown option `mode`; `udp` has bind, receive-buffer, send-buffer",
        ),
        ("stdio:?x=1", "unknown option `x`; `stdio` has none"),
        ("stdio:x", "write `stdio:` and nothing else"),
        (
            "tcp://127.0.0.1:1?backlog=0",
            "option `backlog` cannot be `0`",
        ),
        ("tcp://127.0.0.1:1?nodelay=1", "expected `on` or `off`"),
        (
            "tcp://127.0.0.1:1?nodelay=on&nodelay=off",
            "option `nodelay` cannot be `off`; expected it once",
        ),
        (
            "tcp://127.0.0.1:1?keepalive=1",
            "option `keepalive` cannot be `1`",
        ),
        ("tcp://127.0.0.1:1?proxy=v3", "`v1`, `v2` or `auto`"),
        (
            "tcp://127.0.0.1:1?proxy-from=10.0.0.0/33",
            "networks such as",
        ),
        (
            "tcp://127.0.0.1:1?bind=localhost",
            "an IPv4 or IPv6 address",
        ),
        ("tcp://127.0.0.1:1?timeout=0s", "a time from `1ms` to `10m`"),
        ("tls://127.0.0.1:1?alpn=h2,", "names of 1 to 255 bytes"),
        (
            "tls://127.0.0.1:1?cert=",
            "the path of a file or a directory",
        ),
        (
            "tls://127.0.0.1:1?key=a&cert=b",
            "the `cert` that it is of before it",
        ),
        (
            "tls://127.0.0.1:1?cert=a&key=b&key=c",
            "the `cert` that it is of before it",
        ),
        (
            "tls://127.0.0.1:1?client-auth=require",
            "`client-auth` needs `ca=FILE`",
        ),
        (
            "tls://127.0.0.1:1?ca=a.pem",
            "`ca` needs `client-auth=request`",
        ),
        ("tls://127.0.0.1:1?tls-min=1.1", "`1.2` or `1.3`"),
        (
            "tls://127.0.0.1:1?server-name=127.1",
            "a host's name or address",
        ),
        ("udp://127.0.0.1:1?receive-buffer=1", "bytes from 2048"),
        (
            "unix://run/x.sock",
            "a UNIX socket has an absolute path, `unix:///run/x.sock`",
        ),
        ("unix:@", "or an abstract name, `unix:@name`"),
        ("unix:///x?mode=999", "octal permission bits"),
        ("unix:///x?mode=+7", "octal permission bits"),
        ("unix:///x%00", "without NUL"),
        ("unix:///run/../x", "no `.`, `..` and empty parts"),
        ("unix:///run/%2E%2e/x", "no `.`, `..` and empty parts"),
        ("unix:///run/..%2Fx", "no `.`, `..` and empty parts"),
        ("unix:/run/./x", "no `.`, `..` and empty parts"),
        ("unix:///run//x", "no `.`, `..` and empty parts"),
        ("unix:////run/x", "no `.`, `..` and empty parts"),
        ("unix:///run/x/", "no `.`, `..` and empty parts"),
        ("unix:///x/..", "or an abstract name"),
        ("unix:///x?nodelay=on", "`unix` has mode, backlog, proxy,"),
        ("systemd://a:1", "write `systemd://NAME`"),
        ("systemd://a/b", "write `systemd://NAME`"),
        ("fd://2", "the number of an open socket, 3 or more"),
        ("fd://-1", "the number of an open socket, 3 or more"),
        ("fd:", "the number of an open socket, 3 or more"),
        ("fd://3?tls=yes", "expected `on` or `off`"),
    ] {
        let error = url.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains(message), "{url}: {error}");
    }
}

#[test]
fn what_means_nothing_in_a_direction_is_named() {
    use Direction::{Connecting, Listening};
    for (url, direction, message) in [
        (
            "tcp://a:1?bind=::1",
            Listening,
            "`bind` is not for listening",
        ),
        (
            "tcp://a:1?timeout=1s",
            Listening,
            "`tcp` has backlog, nodelay,",
        ),
        ("tls://a:1", Listening, "TLS needs a certificate"),
        ("fd://3?tls=on", Listening, "TLS needs a certificate"),
        (
            "unix:@x?mode=600",
            Listening,
            "an abstract name has no file, and so no `mode`",
        ),
        (
            "tcp://a:1?backlog=1",
            Connecting,
            "`backlog` is not for connecting",
        ),
        (
            "tls://a:1?cert=x",
            Connecting,
            "`cert` is not for connecting",
        ),
        (
            "tls://a:1?client-auth=request&ca=x",
            Connecting,
            "`client-auth` is not for connecting",
        ),
        (
            "tcp://a:1?proxy=auto",
            Connecting,
            "a connection sends `v1` or `v2`",
        ),
        ("tcp://a:0", Connecting, "nothing at port 0"),
        ("tls://a:0", Connecting, "nothing at port 0"),
        ("udp://a:0", Connecting, "nothing at port 0"),
        ("stdio:", Connecting, "nothing to connect to"),
        ("fd://3", Connecting, "nothing to connect to"),
        ("systemd://x", Connecting, "nothing to connect to"),
    ] {
        let error = parse(url).check(direction).unwrap_err().to_string();
        assert!(error.contains(message), "{url}: {error}");
    }
    for (url, direction) in [
        ("tcp://a:1?backlog=1&cert=x", Listening),
        ("tls://a:1?cert=x&alpn=h2", Listening),
        ("tls://a:1?alpn=h2&server-name=b&bind=::1", Connecting),
        ("udp://a:1?bind=::1&send-buffer=4096", Connecting),
        ("stdio:", Listening),
    ] {
        parse(url).check(direction).unwrap();
    }
}

/// Texts that look like endpoints more often than chance has it.
fn like_an_endpoint() -> impl Strategy<Value = String> {
    let scheme = "(tcp|tls|udp|unix|systemd|fd|stdio|http|)";
    let host = "(127\\.0\\.0\\.1|\\[::1?\\]|[a-z0-9.-]{0,6}|@[a-z%0-9]{0,4}|/[a-z%/ ?0-9é]{0,8}|[0-9]{1,3})";
    let port = "(:[0-9]{0,6})?";
    let name = "(backlog|nodelay|keepalive|proxy|proxy-from|bind|timeout|cert|key|alpn|client-auth|ca|tls-min|server-name|mode|tls|receive-buffer|send-buffer|[a-z]{0,3})";
    let value = "(on|off|v1|auto|[0-9]{1,6}(s|ms)?|::1|10\\.0\\.0\\.0/8|1\\.[23]|request|none|[a-zé%+,./:&=]{0,8})";
    let options = format!("(\\?{name}={value}(&{name}={value}){{0,3}})?");
    proptest::string::string_regex(&format!("{scheme}:(//)?{host}{port}{options}"))
        .unwrap()
        .prop_union(proptest::string::string_regex("[ -~\\x00é]{0,40}").unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_parsed_survives_a_round_trip(text in like_an_endpoint()) {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            let shown = endpoint.to_string();
            let again = shown.parse::<Endpoint>();
            prop_assert_eq!(again.as_ref(), Ok(&endpoint), "{}", shown);
            for direction in [Direction::Listening, Direction::Connecting] {
                prop_assert_eq!(endpoint.check(direction), again.clone().unwrap().check(direction));
            }
        }
    }
}
