//! What transcripts do not show: in which outputs the network says what it says, and its limits.

use std::time::Duration;

use super::*;
use crate::config::Flood;

const ANN: ClientId = ClientId(1);
const BOB: ClientId = ClientId(2);
const CAT: ClientId = ClientId(3);

#[test]
fn a_channel_message_is_one_broadcast_however_many_listen() {
    let mut test = Test::with(Config::default());
    for id in 1..=200 {
        test.register(ClientId(id));
        test.line(ClientId(id), "JOIN #a");
    }
    let said = test.line(ANN, "PRIVMSG #a :hello");
    assert_eq!(said, ["to 1 but 1: :n1!u@localhost PRIVMSG #a :hello"]);
}

#[test]
fn a_member_is_added_before_it_hears_its_own_join() {
    let mut test = Test::three();
    let expected = [
        "1 joins 1",
        "to 1: :n1!u@localhost JOIN #a",
        "1: :irc.example.net 353 n1 = #a :@n1|:irc.example.net 366 n1 #a :End of NAMES list",
    ];
    assert_eq!(test.line(ANN, "JOIN #a"), expected);
    let expected = ["to 1: :n1!u@localhost PART #a", "1 leaves 1", "1 dissolves"];
    assert_eq!(test.line(ANN, "PART #a"), expected);
}

#[test]
fn peers_in_several_channels_hear_a_quit_once() {
    let mut test = Test::three();
    for id in [ANN, BOB, CAT] {
        test.line(id, "JOIN #a");
    }
    test.line(ANN, "JOIN #b,#c");
    test.line(BOB, "JOIN #b");
    let (dan, eve) = (ClientId(4), ClientId(5));
    test.register(dan);
    test.register(eve);
    test.line(eve, "JOIN #a");
    test.line(dan, "JOIN #b,#c");
    let expected = [
        "to 1 but 1: :n1!u@localhost QUIT :Connection reset by peer",
        "4: :n1!u@localhost QUIT :Connection reset by peer",
        "1 leaves 1",
        "1 leaves 2",
        "1 leaves 3",
    ];
    test.network.handle_lost(ANN, Loss::Reset, test.now);
    assert_eq!(test.said(), expected);
}

#[test]
fn pipelined_messages_go_out_as_one_write() {
    let mut test = Test::three();
    test.line(ANN, "JOIN #a");
    test.network.handle_line(BOB, b"PRIVMSG #a :1", test.now);
    test.network.handle_line(BOB, b"PRIVMSG #a :2", test.now);
    let said = test.said();
    assert_eq!(
        said,
        ["to 1 but 2: :n2!u@localhost PRIVMSG #a :1|:n2!u@localhost PRIVMSG #a :2"]
    );
}

#[test]
fn a_slow_reader_quits_with_a_reason() {
    let mut test = Test::three();
    test.line(ANN, "JOIN #a");
    test.line(BOB, "JOIN #a");
    test.network.handle_lost(BOB, Loss::Limit, test.now);
    let said = test.said();
    assert_eq!(said[0], "to 1 but 2: :n2!u@localhost QUIT :SendQ exceeded");
}

#[test]
fn draining_tells_everybody_and_lets_nobody_in() {
    let mut test = Test::with(Config::default());
    test.register(ANN);
    test.line(ANN, "JOIN #a");
    test.network.handle_connected(BOB, Host::local(), test.now);
    test.network.handle_draining();
    let expected = [
        "1: :irc.example.net NOTICE n1 :Server shutting down|ERROR :Closing Link: localhost (Server shutting down)",
        "1 closes",
        "2: :irc.example.net NOTICE * :Server shutting down|ERROR :Closing Link: localhost (Server shutting down)",
        "2 closes",
    ];
    assert_eq!(test.said(), expected);
    assert_eq!(test.network.poll_timeout(), None);
    test.network.handle_connected(CAT, Host::local(), test.now);
    assert_eq!(test.said(), ["3: ERROR :Server shutting down", "3 closes"]);
}

#[test]
fn nothing_is_said_to_who_was_closed() {
    let mut test = Test::three();
    test.line(ANN, "QUIT");
    assert!(test.line(ANN, "PING x").is_empty());
    test.network.handle_lost(ANN, Loss::Closed, test.now);
    assert!(test.said().is_empty());
}

#[test]
fn the_ban_list_has_an_end() {
    let mut test = Test::three();
    test.line(ANN, "JOIN #a");
    for i in 0..mode::MAX_BANS {
        assert_eq!(test.line(ANN, &format!("MODE #a +b *!*@{i}")).len(), 1);
    }
    let full = "1: :irc.example.net 478 n1 #a *!*@x :Channel list is full";
    assert_eq!(test.line(ANN, "MODE #a +b *!*@x"), [full]);
    assert!(
        test.line(ANN, "MODE #a +b *!*@7").is_empty(),
        "is there already"
    );
}

#[test]
fn a_mode_change_that_is_too_long_is_told_in_parts() {
    let mut test = Test::three();
    test.line(ANN, "JOIN #a");
    let mask = "m".repeat(75);
    let masks: Vec<_> = (0..6).map(|i| format!("{i}{mask}")).collect();
    let said = test.line(ANN, &format!("MODE #a +bbbbbb {}", masks.join(" ")));
    let lines: Vec<_> = said[0].split('|').collect();
    assert_eq!(lines.len(), 2, "{said:?}");
    assert!(lines.iter().all(|line| line.len() <= 510));
    assert_eq!(lines.concat().matches("!*@*").count(), 6);
}

#[test]
fn names_are_told_in_as_many_lines_as_they_need() {
    let mut test = Test::with(Config::default());
    for id in 1..=100 {
        test.register(ClientId(id));
        test.line(
            ClientId(id),
            &format!("NICK a-nickname-of-some-length-{id}"),
        );
        test.line(ClientId(id), "JOIN #a");
    }
    let said = test.line(ANN, "NAMES #a");
    let lines: Vec<_> = said[0].split('|').collect();
    assert!(lines.len() > 5 && lines.iter().all(|line| line.len() <= 510));
    let names = lines.iter().filter_map(|line| line.split_once(" = #a :"));
    assert_eq!(
        names
            .map(|(_, names)| names.split(' ').count())
            .sum::<usize>(),
        100
    );
}

#[test]
fn a_long_list_is_cut() {
    let config = Config {
        channels_per_user: 20_000,
        ..Config::default()
    };
    let mut test = Test::with(config);
    test.register(ANN);
    for i in 0..2000 {
        test.line(ANN, &format!("JOIN #{i}"));
        test.line(ANN, &format!("TOPIC #{i} :{}", "t".repeat(300)));
    }
    let said = test.line(ANN, "LIST");
    let lines: Vec<_> = said[0].split('|').skip(2).collect();
    assert!(said[0].len() < lists::MAX_ANSWER + 2 * 512);
    assert!(
        lines[lines.len() - 2].contains(" 416 n1 LIST "),
        "{}",
        lines[lines.len() - 2]
    );
    assert!(lines[lines.len() - 1].contains(" 323 "));
}

#[test]
fn a_flood_is_slowed_and_then_ends_the_client() {
    let flood = Some(Flood { burst: 2, rate: 1 });
    let mut test = Test::with(Config {
        flood,
        ..Config::default()
    });
    test.network.handle_connected(ANN, Host::local(), test.now);
    assert_eq!(
        test.line(ANN, "PING 1").len() + test.line(ANN, "PING 2").len(),
        2
    );
    let mut sent = 0;
    let said = loop {
        sent += 1;
        assert!(sent < 1000);
        let said = test.line(ANN, "PING and-a-little-more-to-fill-the-backlog-with");
        if !said.is_empty() {
            break said;
        }
    };
    assert_eq!(
        said,
        [
            "1: ERROR :Closing Link: localhost (Excess Flood)",
            "1 closes"
        ]
    );
    assert_eq!(test.network.poll_timeout(), None);
}

#[test]
fn timeouts_do_not_pile_up() {
    let mut test = Test::three();
    for _ in 0..100 {
        test.now.monotonic += Duration::from_secs(1);
        test.line(ANN, "PING x");
    }
    assert_eq!(test.network.deadlines.len(), 3);
    for id in [ANN, BOB, CAT] {
        test.network.handle_lost(id, Loss::Closed, test.now);
    }
    assert_eq!(test.network.poll_timeout(), None);
}

#[test]
fn the_buffer_is_given_back_after_much_was_said() {
    let mut test = Test::three();
    for _ in 0..1000 {
        test.network.handle_line(ANN, b"VERSION", test.now);
    }
    assert!(test.network.is_congested());
    test.said();
    assert!(!test.network.is_congested());
    assert_eq!(test.network.poll_transmit(), None);
}

#[test]
fn work_that_says_little_also_ends_the_turn() {
    let mut test = Test::with(Config::default());
    for id in 1..=3000 {
        test.register(ClientId(id));
        test.line(ClientId(id), "JOIN #a");
    }
    let mut lines = 0;
    while !test.network.is_congested() {
        test.network.handle_line(ANN, b"WHO *nobody*", test.now);
        lines += 1;
    }
    assert_eq!(lines, 2);
    test.said();
    test.network
        .handle_line(ANN, b"NAMES #a,#a,#a,#a,#a,#a,#a", test.now);
    let said = test.said();
    assert_eq!(said[0].matches(" 366 ").count(), message::MAX_TARGETS);
    assert!(said[0].ends_with(
        " 407 n1 #a :Too many targets; nothing was done for this one and those after it"
    ));
}

#[test]
fn timeouts_of_many_are_handled_in_several_turns() {
    let mut test = Test::with(Config::default());
    for id in 1..=6000 {
        test.network
            .handle_connected(ClientId(id), Host::local(), test.now);
    }
    test.now.monotonic += Duration::from_secs(30);
    let mut turns = 0;
    while test.network.poll_timeout().is_some() {
        test.network.handle_timeout(test.now);
        test.said();
        turns += 1;
    }
    assert!((2..20).contains(&turns), "{turns}");
}

/// A network, and what it says in short: `to CHANNEL but CLIENT: line|line`, `CLIENT: line`.
struct Test {
    network: Network,
    now: Now,
}

impl Test {
    fn with(config: Config) -> Self {
        let now = Now {
            monotonic: Duration::from_secs(5),
            wall: Duration::from_secs(1_000_000_000),
        };
        Self {
            network: Network::new(config, now),
            now,
        }
    }

    fn three() -> Self {
        let mut test = Self::with(Config::default());
        [ANN, BOB, CAT].into_iter().for_each(|id| test.register(id));
        test
    }

    fn register(&mut self, id: ClientId) {
        self.network.handle_connected(id, Host::local(), self.now);
        self.line(id, &format!("NICK n{}", id.0));
        let said = self.line(id, "USER u 0 * :r");
        assert!(said[0].contains(" 001 "), "{said:?}");
    }

    fn line(&mut self, id: ClientId, line: &str) -> Vec<String> {
        self.network.handle_line(id, line.as_bytes(), self.now);
        self.said()
    }

    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(transmit) = self.network.poll_transmit() {
            said.push(match transmit {
                Transmit::Send { to, bytes } => format!("{}: {}", to.0, lines(bytes)),
                Transmit::Broadcast {
                    to,
                    skip: None,
                    bytes,
                } => format!("to {}: {}", to.0, lines(bytes)),
                Transmit::Broadcast {
                    to,
                    skip: Some(skip),
                    bytes,
                } => format!("to {} but {}: {}", to.0, skip.0, lines(bytes)),
                Transmit::Join { channel, client } => format!("{} joins {}", client.0, channel.0),
                Transmit::Leave { channel, client } => format!("{} leaves {}", client.0, channel.0),
                Transmit::Dissolve { channel } => format!("{} dissolves", channel.0),
                Transmit::Close { client } => format!("{} closes", client.0),
            });
        }
        said
    }
}

fn lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches("\r\n").replace("\r\n", "|")
}
