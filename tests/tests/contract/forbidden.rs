//! Ways to reach an address that was not granted, each refused. Where something can listen on that address, something does, and sees nobody.

use std::net::TcpListener;

use nethost_tests::{
    full::full_listener,
    names::{Answer, Names, addresses, lasting},
    scripted::Scripted,
};

use crate::names::{plugin, port, start};

#[test]
fn a_name_that_resolves_to_this_machine() {
    for grant in ["x.test:*", "*:*", "x.test:*,*:*,localhost:*"] {
        let forbidden = Forbidden::new();
        let names = Names::start();
        names.set("x.test", addresses("127.0.0.1 ::1 127.0.0.2"));
        let mut plugin = plugin(&names, grant);
        plugin.denies(&forbidden.at("x.test"));
        assert_eq!(names.asked("x.test"), 1);
        forbidden.saw_nobody();
    }
}

#[test]
fn a_name_that_changes_its_answer_after_it_was_looked_up() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    names.in_turn(
        "x.test",
        [lasting(0, "192.0.2.77"), lasting(0, "127.0.0.1")],
    );
    let mut plugin = plugin(&names, "x.test:*");
    let id = plugin.started("resolve x.test");
    assert_eq!(plugin.event(&format!("completed {id}")), "ready");
    assert_eq!(plugin.ask(&format!("take {id}")), "[::ffff:192.0.2.77%0]:0");
    plugin.denies(&forbidden.at("x.test"));
    assert_eq!(names.asked("x.test"), 2);
    forbidden.saw_nobody();
}

#[test]
fn a_name_that_changes_its_answer_between_check_and_use() {
    let forbidden = Forbidden::new();
    let allowed = TcpListener::bind(("127.0.0.2", forbidden.port)).unwrap();
    let names = Names::start();
    // Whoever asked twice would check the first answer and use the second.
    names.in_turn("x.test", [lasting(0, "127.0.0.2"), lasting(0, "127.0.0.1")]);
    let mut plugin = plugin(&names, "127.0.0.2/31:*");
    let id = plugin.started(&format!("connect {}", forbidden.at("x.test")));
    assert_eq!(plugin.event(&format!("completed {id}")), "ok");
    allowed.accept().unwrap();
    assert_eq!(names.asked("x.test"), 1);
    plugin.events();
    // And now that it has changed, it is refused.
    plugin.denies(&forbidden.at("x.test"));
    forbidden.saw_nobody();
}

#[test]
fn a_second_answer_after_one_that_is_granted() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    // Nobody listens on the first.
    names.set(
        "x.test",
        addresses("127.0.0.2 127.0.0.1 ::1 ::ffff:127.0.0.1"),
    );
    let mut plugin = plugin(&names, "127.0.0.2/31:*");
    let outcome = plugin.outcome(&forbidden.at("x.test"));
    assert!(outcome.starts_with("error refused"), "{outcome}");
    assert!(outcome.contains("127.0.0.2:"), "{outcome}");
    assert!(outcome.contains("2 not granted"), "{outcome}");
    forbidden.saw_nobody();
}

#[test]
fn an_answer_that_comes_late() {
    let forbidden = Forbidden::on("::1");
    let (_full, _waiting) = full_listener("127.0.0.2", forbidden.port);
    let names = Names::start();
    let both = addresses("127.0.0.2 ::1");
    names.set("x.test", Answer::HeldForV6(Box::new(both)));
    let mut plugin = plugin(&names, "127.0.0.2/31:*");
    let endpoint = format!("{}?timeout=1s", forbidden.at("x.test"));
    let id = plugin.started(&format!("connect {endpoint}"));
    names.wait_until_asked("x.test");
    names.release("x.test");
    let outcome = plugin.event(&format!("completed {id}"));
    assert!(outcome.starts_with("error timeout"), "{outcome}");
    assert!(outcome.contains("1 not granted"), "{outcome}");
    forbidden.saw_nobody();
}

#[test]
fn an_alias_of_a_forbidden_name() {
    for target in ["y.test", "localhost", "a.localhost"] {
        let forbidden = Forbidden::new();
        let names = Names::start();
        names.set("x.test", Answer::Alias(target.to_owned()));
        names.set("y.test", addresses("127.0.0.1 ::1"));
        let mut plugin = plugin(&names, "x.test:*,localhost:*");
        plugin.denies(&forbidden.at("x.test"));
        forbidden.saw_nobody();
    }
}

#[test]
fn an_ipv4_address_mapped_to_ipv6() {
    let forbidden = Forbidden::new();
    let mut plugin = start("*:*");
    for host in [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::FFFF:127.0.0.1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::ffff:169.254.169.254]",
        "[::ffff:0.0.0.0]",
    ] {
        plugin.denies(&forbidden.at(host));
    }
    forbidden.saw_nobody();
}

#[test]
fn an_ipv4_address_mapped_to_ipv6_in_an_answer() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    names.set("x.test", addresses("::ffff:127.0.0.1 ::ffff:0.0.0.0"));
    let mut plugin = plugin(&names, "x.test:*,*:*,[::/0]:*");
    plugin.denies(&forbidden.at("x.test"));
    forbidden.saw_nobody();
}

#[test]
fn an_ipv4_address_carried_in_ipv6() {
    let names = Names::start();
    let mut plugin = plugin(&names, "x.test:*,*:*");
    for address in [
        // NAT64, with the well-known prefix and a local one.
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::127.0.0.1",
        // IPv4-compatible, and translated.
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        // 6to4, and Teredo (the client's address inverted).
        "2002:7f00:1::1",
        "2001:0:808:808::80ff:fffe",
    ] {
        plugin.denies(&format!("tcp://[{address}]:7"));
        names.set("x.test", lasting(0, address));
        plugin.denies("tcp://x.test:7");
    }
}

#[test]
fn the_unspecified_address_of_ipv4() {
    // Where the kernel connects to 127.0.0.1.
    let forbidden = Forbidden::new();
    let names = Names::start();
    names.set("x.test", addresses("0.0.0.0"));
    let mut plugin = plugin(&names, "x.test:*,*:*,0.0.0.0/8:*");
    plugin.denies(&forbidden.at("0.0.0.0"));
    plugin.denies(&forbidden.at("x.test"));
    forbidden.saw_nobody();
}

#[test]
fn the_unspecified_address_of_ipv6() {
    let forbidden = Forbidden::on("::1");
    let names = Names::start();
    names.set("x.test", addresses("::"));
    let mut plugin = plugin(&names, "x.test:*,*:*,[::/128]:*");
    plugin.denies(&forbidden.at("[::]"));
    plugin.denies(&forbidden.at("x.test"));
    forbidden.saw_nobody();
}

#[test]
fn a_decimal_number() {
    spellings(&["2130706433", "2130706433.", "4294967296"]);
}

#[test]
fn octal_parts() {
    spellings(&["0177.0.0.1", "017700000001", "0177.1", "127.0.0.01"]);
}

#[test]
fn hexadecimal_parts() {
    spellings(&["0x7f000001", "0x7f.0.0.1", "0X7F.1", "0x7f.0x0.0x0.0x1"]);
}

#[test]
fn fewer_or_more_parts_than_four() {
    spellings(&["127.1", "127.0.1", "127.0.0.1.", "127.0.0.1..", "0"]);
}

#[test]
fn digits_that_are_not_ascii() {
    spellings(&["１２７.０.０.１", "①②⑦.0.0.1", "ⓛocalhost", "127。0。0。1"]);
}

#[test]
fn a_host_that_is_percent_encoded() {
    let forbidden = Forbidden::new();
    let mut plugin = start("*:*");
    for host in [
        "%31%32%37.0.0.1",
        "127.0.0.%31",
        "%6cocalhost",
        "x.test%00.localhost",
    ] {
        plugin.refuses_as("invalid", &forbidden.at(host));
    }
    forbidden.saw_nobody();
}

#[test]
fn a_host_that_is_hidden_behind_another() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    let mut plugin = plugin(&names, "x.test:*");
    let port = forbidden.port;
    for endpoint in [
        format!("tcp://x.test@127.0.0.1:{port}"),
        format!("tcp://x.test:7@127.0.0.1:{port}"),
        format!("tcp://127.0.0.1:{port}#@x.test:7"),
        format!("tcp://127.0.0.1:{port}\\@x.test:7"),
        format!("tcp://127.0.0.1:{port}/x.test:7"),
    ] {
        plugin.refuses_as("invalid", &endpoint);
    }
    assert_eq!(names.asked_at_all(), 0);
    forbidden.saw_nobody();
}

#[test]
fn link_local_addresses() {
    let names = Names::start();
    names.set("x.test", addresses("169.254.169.254 fe80::1"));
    let mut plugin = plugin(&names, "x.test:*,*:*,localhost:*");
    for host in ["169.254.169.254", "[fe80::1]", "[febf::1]", "x.test"] {
        plugin.denies(&format!("tcp://{host}:80"));
    }
    plugin.refuses_as("invalid", "tcp://[fe80::1%25eth0]:80");
}

#[test]
fn private_addresses_under_any() {
    let names = Names::start();
    names.set("x.test", addresses("10.0.0.1 fd00::1"));
    let mut plugin = plugin(&names, "*:*");
    for host in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fd00::1]",
        "x.test",
    ] {
        plugin.denies(&format!("tcp://{host}:7"));
    }
}

#[test]
fn a_port_that_was_not_granted() {
    let forbidden = Forbidden::new();
    let other = forbidden.port ^ 1;
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1"));
    let grants = format!("127.0.0.1:{other},x.test:{other},localhost:{other},*:{other}");
    let mut plugin = plugin(&names, &grants);
    for host in ["127.0.0.1", "localhost", "x.test"] {
        plugin.denies(&forbidden.at(host));
    }
    // Not even looked up.
    assert_eq!(names.asked_at_all(), 0);
    forbidden.saw_nobody();
}

#[test]
fn another_spelling_of_a_granted_name() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1"));
    let mut plugin = plugin(&names, "x.test:*");
    for host in ["X.TEST", "x.test.", "X.Test."] {
        plugin.denies(&forbidden.at(host));
    }
    for host in ["x.test..", ".x.test", "x..test"] {
        plugin.refuses_as("invalid", &forbidden.at(host));
    }
    assert!(names.asked("x.test") > 0);
    forbidden.saw_nobody();
}

#[test]
fn a_name_beside_a_granted_one() {
    let names = Names::start();
    let mut plugin = plugin(&names, "x.test:*,127.0.0.1:*");
    for host in [
        "a.x.test",
        "test",
        "xx.test",
        "x.test.a",
        "secret-in-a-name.test",
    ] {
        plugin.denies(&format!("tcp://{host}:7"));
        let outcome = plugin.resolved(host);
        assert!(outcome.starts_with("error denied"), "{host}: {outcome}");
    }
    // The servers heard nothing of it.
    assert_eq!(names.asked_at_all(), 0);
}

#[test]
fn names_of_this_machine() {
    let forbidden = Forbidden::new();
    let names = Names::start();
    for grants in ["x.test:*", "*:*", "a.localhost:*", "localhost.test:*"] {
        let mut plugin = plugin(&names, grants);
        for host in [
            "localhost",
            "localhost.",
            "LOCALHOST",
            "a.localhost",
            "a.b.localhost.",
        ] {
            plugin.denies(&forbidden.at(host));
        }
    }
    // They are nobody's to answer.
    assert_eq!(names.asked_at_all(), 0);
    forbidden.saw_nobody();
}

#[test]
fn a_name_that_is_too_long() {
    let names = Names::start();
    let mut plugin = plugin(&names, "*:*");
    let long = ["a"; 127].join(".");
    assert_eq!(long.len(), 253);
    for host in [
        format!("{long}b"),
        format!("{long}.b"),
        "a".repeat(64),
        format!("{}.test", "a".repeat(64)),
        "a".repeat(2000),
    ] {
        plugin.refuses_as("invalid", &format!("tcp://{host}:7"));
        let outcome = plugin.resolved(&host);
        assert!(outcome.starts_with("error invalid"), "{outcome}");
    }
    assert_eq!(names.asked_at_all(), 0);
    // The longest is a name like any other.
    assert!(plugin.resolved(&long).starts_with("error name-not-found"));
    assert_eq!(names.asked(&long), 1);
}

/// Spellings of an address that inet_aton(3) would read, and we do not.
fn spellings(hosts: &[&str]) {
    let forbidden = Forbidden::new();
    let names = Names::start();
    let mut plugin = plugin(&names, "*:*,x.test:*,10.0.0.0/8:*");
    for host in hosts {
        plugin.refuses_as("invalid", &forbidden.at(host));
        let outcome = plugin.resolved(host);
        assert!(outcome.starts_with("error invalid"), "{host}: {outcome}");
    }
    assert_eq!(names.asked_at_all(), 0);
    forbidden.saw_nobody();
}

/// A listener that nobody may reach.
struct Forbidden {
    listener: TcpListener,
    port: u16,
}

impl Forbidden {
    /// On 127.0.0.1.
    fn new() -> Self {
        Self::on("127.0.0.1")
    }

    fn on(ip: &str) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("loopback has a free port");
        let set = listener.set_nonblocking(true);
        set.expect("a listener can be told not to block");
        let port = port(&listener);
        Self { listener, port }
    }

    fn at(&self, host: &str) -> String {
        format!("tcp://{host}:{}", self.port)
    }

    fn saw_nobody(self) {
        assert!(self.listener.accept().is_err(), "somebody connected");
    }
}

trait Refuses {
    fn outcome(&mut self, endpoint: &str) -> String;
    fn resolved(&mut self, name: &str) -> String;
    fn refuses_as(&mut self, code: &str, endpoint: &str);
    fn denies(&mut self, endpoint: &str) {
        self.refuses_as("denied", endpoint);
    }
}

impl Refuses for Scripted {
    fn outcome(&mut self, endpoint: &str) -> String {
        let id = self.started(&format!("connect {endpoint}"));
        self.event(&format!("completed {id}"))
    }

    fn resolved(&mut self, name: &str) -> String {
        let id = self.started(&format!("resolve {name}"));
        self.event(&format!("completed {id}"))
    }

    fn refuses_as(&mut self, code: &str, endpoint: &str) {
        let outcome = self.outcome(endpoint);
        let refused = outcome.starts_with(&format!("error {code} "));
        assert!(refused, "{endpoint}: {outcome}");
        assert!(
            code != "denied" || outcome.contains("--allow-connect"),
            "{outcome}"
        );
        assert!(!self.has_event("made"), "{endpoint} made a connection");
    }
}

#[test]
fn every_spelling_of_this_machine_over_udp() {
    let names = Names::start();
    names.set("x.test", addresses("127.0.0.1 ::1"));
    let mut plugin = plugin(&names, "x.test:*,*:*");
    for host in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "localhost",
        "x.test",
    ] {
        plugin.denies(&format!("udp://{host}:9"));
    }
    for host in ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"] {
        plugin.refuses_as("invalid", &format!("udp://{host}:9"));
    }
}

#[test]
fn a_udp_socket_that_is_connected_to_nothing_and_so_could_send_anywhere() {
    let names = Names::start();
    let mut plugin = plugin(&names, "127.0.0.2:*");
    // Linux connects a socket to port 0, and then knows no peer.
    plugin.refuses_as("invalid", "udp://127.0.0.2:0");
}
