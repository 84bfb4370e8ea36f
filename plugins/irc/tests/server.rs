//! The plugin under a host's control: what dialogues cannot say.

use std::{net::IpAddr, time::Duration};

use nethost_irc::Irc;
use nethost_sdk::{CloseReason, ConnectionId, testing::Host};

#[test]
fn a_lost_connection_is_told_with_its_reason() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let [ann, bob] = ["ann", "bob"].map(|nick| register(&mut host, nick));
    host.send(ann, b"JOIN #a\r\n");
    host.send(bob, b"JOIN #a\r\n");
    host.received(ann);
    host.reset(bob);
    assert_eq!(
        text(&mut host, ann),
        ":bob!u@127.0.0.1 QUIT :Connection reset by peer\r\n"
    );
}

#[test]
fn who_does_not_read_is_closed_and_the_others_lose_nothing() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|nick| register(&mut host, nick));
    for id in [ann, bob, cat] {
        host.send(id, b"JOIN #a\r\n");
    }
    for id in [ann, bob, cat] {
        host.received(id);
    }
    host.stall(bob);
    let line = format!("PRIVMSG #a :{}\r\n", "x".repeat(400));
    for _ in 0..3000 {
        host.send(ann, line.as_bytes());
    }
    assert!(matches!(
        host.close_reason(bob),
        Some(CloseReason::Limit(_))
    ));
    assert_eq!(
        text(&mut host, ann),
        ":bob!u@127.0.0.1 QUIT :SendQ exceeded\r\n"
    );
    let heard = text(&mut host, cat);
    assert_eq!(
        heard
            .lines()
            .filter(|line| line.contains("PRIVMSG"))
            .count(),
        3000
    );
}

#[test]
fn draining_says_goodbye() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let ann = register(&mut host, "ann");
    host.draining(Duration::from_secs(5));
    let goodbye = ":irc.example.net NOTICE ann :Server shutting down\r\nERROR :Closing Link: 127.0.0.1 (Server shutting down)\r\n";
    assert_eq!(text(&mut host, ann), goodbye);
    assert!(host.is_ended(ann));
}

#[test]
fn long_lines_are_answered_and_skipped() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let ann = register(&mut host, "ann");
    let too_long = ":irc.example.net 417 ann :Input line was too long\r\n";
    let pong = ":irc.example.net PONG irc.example.net :1\r\n";
    for (before, answer) in [
        (format!("@{} ", "t".repeat(4094)), pong.to_owned()),
        (format!("@{} ", "t".repeat(4095)), too_long.to_owned()),
        (
            format!("{}\r\n", "y".repeat(600)),
            format!("{too_long}{pong}"),
        ),
        (
            format!("{}\r\n", "y".repeat(100_000)),
            format!("{too_long}{pong}"),
        ),
    ] {
        host.send(ann, format!("{before}PING 1\r\n").as_bytes());
        assert_eq!(text(&mut host, ann), answer);
    }
}

#[test]
fn what_is_too_much_for_one_callback_is_handled_in_order() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let ann = register(&mut host, "ann");
    let lines: String = (0..7000).map(|i| format!("PING {i}\r\n")).collect();
    host.send(ann, lines.as_bytes());
    let answers: String = (0..7000)
        .map(|i| format!(":irc.example.net PONG irc.example.net :{i}\r\n"))
        .collect();
    assert_eq!(text(&mut host, ann), answers);
    host.close_write(ann);
    assert!(host.is_ended(ann));
}

#[test]
fn one_timer_serves_the_whole_network() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let clients: Vec<_> = (0..50)
        .map(|i| register(&mut host, &format!("n{i}")))
        .collect();
    assert_eq!(host.timers(), 1);
    host.advance(Duration::from_secs(180));
    for id in clients {
        let said = text(&mut host, id);
        assert_eq!(
            said,
            "PING :irc.example.net\r\nERROR :Closing Link: 127.0.0.1 (Ping timeout: 180 seconds)\r\n"
        );
    }
}

#[test]
fn the_host_of_a_user_is_its_address() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    for (address, shown) in [
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "0::1"),
        ("2001:db8::2", "2001:db8::2"),
    ] {
        let id = host.connect_from(address.parse::<IpAddr>().unwrap());
        host.send(id, b"QUIT\r\n");
        assert_eq!(
            text(&mut host, id),
            format!("ERROR :Closing Link: {shown} (Quit: )\r\n")
        );
    }
}

#[test]
fn users_channels_and_commands_are_counted() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let [ann, bob] = ["ann", "bob"].map(|nick| register(&mut host, nick));
    for line in [
        "JOIN #a",
        "join #b",
        "PRIVMSG #a :hello",
        "MODE #a",
        "PRIVMSG",
        "JUMP",
        ":x",
    ] {
        host.send(ann, format!("{line}\r\n").as_bytes());
    }
    host.send(bob, "y".repeat(600).as_bytes());
    host.send(bob, b"\r\n");
    for (command, count) in [
        ("NICK", 2),
        ("USER", 2),
        ("JOIN", 2),
        ("MODE", 1),
        ("PRIVMSG", 2),
        ("PART", 0),
        ("unknown", 3),
    ] {
        assert_eq!(host.counter("commands", &[command]), count, "{command}");
    }
    assert_eq!(host.gauge("users", &[]), 2.0);
    assert_eq!(host.gauge("channels", &[]), 2.0);
    host.reset(ann);
    assert_eq!(host.gauge("users", &[]), 1.0);
    assert_eq!(host.gauge("channels", &[]), 0.0);
}

#[test]
fn a_wrong_key_keeps_the_service_from_starting() {
    let error = Host::<Irc>::start(r#"{"nick-length": 99}"#).err();
    assert_eq!(
        error.as_deref(),
        Some("nick-length: `99` is not a number from 1 to 32")
    );
}

fn register(host: &mut Host<Irc>, nick: &str) -> ConnectionId {
    let id = host.connect();
    host.send(id, format!("NICK {nick}\r\nUSER u 0 * :r\r\n").as_bytes());
    let welcome = text(host, id);
    assert!(
        welcome.starts_with(&format!(":irc.example.net 001 {nick} ")),
        "{welcome}"
    );
    id
}

fn text(host: &mut Host<Irc>, id: ConnectionId) -> String {
    String::from_utf8_lossy(&host.received(id)).into_owned()
}

#[test]
fn everything_is_as_it_was_after_a_swap() {
    let mut host = Host::<Irc>::start("{}").unwrap();
    let [ann, bob] = ["ann", "bob"].map(|nick| register(&mut host, nick));
    let late = host.connect();
    host.send(late, b"NICK cat\r\n");
    host.send(
        ann,
        b"JOIN #a secret\r\nMODE #a +ntklb key 7 x!*@*\r\nTOPIC #a :tea\r\nINVITE bob #a\r\nAWAY :out\r\n",
    );
    host.send(bob, b"JOIN #a key\r\nNICK bobby\r\nNICK bob\r\nWHOIS ");
    let ask = |host: &mut Host<Irc>| {
        for id in [ann, bob] {
            host.received(id);
        }
        host.send(
            ann,
            b"TOPIC #a\r\nMODE #a\r\nMODE #a b\r\nNAMES #a\r\nLUSERS\r\nWHOWAS bobby\r\nWHOIS ann\r\n",
        );
        text(host, ann)
    };
    let before = ask(&mut host);
    assert!(before.contains("332 ann #a :tea"), "{before}");
    let mut host: Host<Irc> = host.swap("{}").unwrap();
    assert_eq!(ask(&mut host), before);
    // A line that had begun goes on, a nickname that was claimed stays so, and the channel hears.
    host.send(bob, b"ann\r\nPRIVMSG #a :hello\r\n");
    let whois = text(&mut host, bob);
    assert!(whois.contains("301 bob ann :out"), "{whois}");
    assert_eq!(
        text(&mut host, ann),
        ":bob!u@127.0.0.1 PRIVMSG #a :hello\r\n"
    );
    host.send(ann, b"NICK cat\r\n");
    assert!(text(&mut host, ann).contains(" 433 "));
    host.send(late, b"USER u 0 * :u\r\n");
    assert!(text(&mut host, late).contains(" 001 cat "));
    // So does time: ann is asked whether she is there.
    host.advance(Duration::from_secs(120));
    assert!(text(&mut host, ann).contains("PING :"));
}
