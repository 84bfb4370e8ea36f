use super::{decode::*, encode::*, reply::*, *};
use crate::types::{
    command::*,
    mode::*,
    name::{ChannelName, Key, Mask, Nick, UserName},
    reply::Reply,
    text::{List, Text, Word},
};

#[test]
fn lines_are_decoded() {
    for (line, command) in [
        ("PASS secret", Command::Pass(text("secret"))),
        ("NICK wiz", Command::Nick(nick("wiz"))),
        ("nick :wiz", Command::Nick(nick("wiz"))),
        (
            "USER guest tolmoon tolsun :Ronnie Reagan",
            Command::User(
                user("guest"),
                InitialModes::default(),
                text("Ronnie Reagan"),
            ),
        ),
        (
            "USER guest 8 * :Ronnie Reagan",
            Command::User(
                user("guest"),
                InitialModes {
                    wallops: false,
                    invisible: true,
                },
                text("Ronnie Reagan"),
            ),
        ),
        (
            "USER a-name-that-is-too-long 0 * x",
            Command::User(user("a-name-that-is-t"), InitialModes::default(), text("x")),
        ),
        ("CAP LS 302", Command::Cap(Cap::Ls)),
        ("CAP req :a b", Command::Cap(Cap::Req(text("a b")))),
        ("OPER foo bar", Command::Oper(word("foo"), text("bar"))),
        ("QUIT", Command::Quit(None)),
        ("QUIT :", Command::Quit(Some(text("")))),
        (
            "PING :irc.example.net",
            Command::Ping(text("irc.example.net")),
        ),
        ("PONG a b", Command::Pong(Some(word("a")), text("b"))),
        ("PONG a", Command::Pong(None, text("a"))),
        (
            "JOIN #a,&b k",
            Command::Join(list("#a,&b"), Some(list("k"))),
        ),
        ("JOIN 0", Command::LeaveAll),
        ("PART #a :bye", Command::Part(list("#a"), Some(text("bye")))),
        ("TOPIC #a", Command::Topic(word("#a"), None)),
        ("TOPIC #a :", Command::Topic(word("#a"), Some(text("")))),
        ("NAMES", Command::Names(None)),
        ("LIST #a,#b", Command::List(Some(list("#a,#b")))),
        ("INVITE wiz #a", Command::Invite(word("wiz"), word("#a"))),
        ("KICK #a wiz", Command::Kick(list("#a"), list("wiz"), None)),
        (
            "PRIVMSG #a,wiz ::)",
            Command::Privmsg(list("#a,wiz"), text(":)")),
        ),
        ("NOTICE wiz x", Command::Notice(list("wiz"), text("x"))),
        ("AWAY :", Command::Away(None)),
        ("WHO", Command::Who(None, WhoFilter::Everybody)),
        (
            "WHO *.fi o",
            Command::Who(Some(word("*.fi")), WhoFilter::Operators),
        ),
        ("WHOIS a,b", Command::Whois(None, list("a,b"))),
        (
            "WHOIS irc.example.net a",
            Command::Whois(Some(word("irc.example.net")), list("a")),
        ),
        ("WHOWAS a 9", Command::Whowas(list("a"), Some(9))),
        ("WHOWAS a -1", Command::Whowas(list("a"), None)),
        ("ISON a b", Command::Ison(vec![word("a"), word("b")])),
        ("ISON :a  b ", Command::Ison(vec![word("a"), word("b")])),
        (
            "LUSERS * x",
            Command::Server(Query::Lusers, Some(word("x"))),
        ),
        ("LINKS a b", Command::Links(Some(word("b")))),
        ("SUMMON x", Command::Disabled(Verb::Summon)),
    ] {
        let expected = Message {
            prefix: None,
            command,
        };
        assert_eq!(decode(line.as_bytes()), Ok(expected), "{line}");
    }
}

#[test]
fn modes_are_decoded() {
    use ChannelChange::*;
    use Sign::{Clear, Set};
    for (line, changes) in [
        ("MODE #a", vec![]),
        ("MODE #a +", vec![]),
        (
            "MODE #a ts-n",
            vec![
                Flag(Set, ChannelFlag::TopicLocked),
                Flag(Set, ChannelFlag::Secret),
                Flag(Clear, ChannelFlag::NoOutside),
            ],
        ),
        (
            "MODE #a +o-v+l wiz ann 10",
            vec![
                Privilege(Set, crate::types::mode::Privilege::Operator, nick("wiz")),
                Privilege(Clear, crate::types::mode::Privilege::Voice, nick("ann")),
                SetLimit(10),
            ],
        ),
        (
            "MODE #a +k-kl oulu x",
            vec![SetKey(Key::new(b"oulu").unwrap()), ClearKey, ClearLimit],
        ),
        (
            "MODE #a +bb wiz",
            vec![Ban(Set, Mask::new(b"wiz!*@*").unwrap()), BanList],
        ),
        ("MODE #a -o", vec![Incomplete(Clear, b'o')]),
        ("MODE #a +o-k", vec![Incomplete(Set, b'o'), ClearKey]),
        ("MODE #a +b-k", vec![BanList, ClearKey]),
        (
            "MODE #a -b-k :! b",
            vec![Unfit(Clear, b'b', text("! b")), ClearKey],
        ),
        (
            "MODE #a +ly 0",
            vec![Unfit(Set, b'l', text("0")), Unknown(b'y')],
        ),
        (
            "MODE #a +l 4294967296",
            vec![Unfit(Set, b'l', text("4294967296"))],
        ),
        ("MODE #a +l +5", vec![Unfit(Set, b'l', text("+5"))]),
        ("MODE #a +k :a b", vec![Unfit(Set, b'k', text("a b"))]),
        ("MODE #a +o :1a", vec![Unfit(Set, b'o', text("1a"))]),
    ] {
        let command = Command::ChannelMode(ChannelName::new(b"#a").unwrap(), changes);
        let expected = Message {
            prefix: None,
            command,
        };
        assert_eq!(decode(line.as_bytes()), Ok(expected), "{line}");
    }
    let expected = [
        UserChange::Flag(Set, UserFlag::Invisible),
        UserChange::Flag(Clear, UserFlag::Operator),
        UserChange::Unknown(b'x'),
    ];
    assert_eq!(
        decode(b"MODE wiz +i-ox").unwrap().command,
        Command::UserMode(word("wiz"), expected.to_vec())
    );
}

#[test]
fn what_is_wrong_is_told() {
    for (line, error) in [
        ("", DecodeError::Empty),
        ("   ", DecodeError::Empty),
        (":wiz", DecodeError::Empty),
        ("@a=b", DecodeError::Empty),
        ("PING a\rb", DecodeError::Forbidden),
        ("PING a\0b", DecodeError::Forbidden),
        ("HELP", DecodeError::UnknownCommand(word("HELP"))),
        ("001 a", DecodeError::UnknownCommand(word("001"))),
        ("USER a b c", DecodeError::NeedMoreParams(Verb::User)),
        ("JOIN :", DecodeError::NeedMoreParams(Verb::Join)),
        ("ISON : ", DecodeError::NeedMoreParams(Verb::Ison)),
        ("NICK", DecodeError::NoNickname(Verb::Nick)),
        ("WHOIS", DecodeError::NoNickname(Verb::Whois)),
        ("PING", DecodeError::NoOrigin(Verb::Ping)),
        ("PRIVMSG", DecodeError::NoRecipient(Verb::Privmsg)),
        ("NOTICE wiz", DecodeError::NoText(Verb::Notice)),
        ("NICK 1a", DecodeError::ErroneousNickname(word("1a"))),
        ("NICK :a b", DecodeError::ErroneousNickname(word("a"))),
        ("USER a!b 0 * x", DecodeError::InvalidUserName),
        ("JOIN :#a b", DecodeError::BadName(Verb::Join, word("#a"))),
        ("MODE #", DecodeError::BadName(Verb::Mode, word("#"))),
    ] {
        assert_eq!(decode(line.as_bytes()), Err(error), "{line}");
    }
}

#[test]
fn lengths_have_limits() {
    let fits = [b"PING ".to_vec(), vec![b'x'; MAX_MESSAGE - 7]].concat();
    assert!(decode(&fits).is_ok());
    assert_eq!(
        decode(&[fits.clone(), b"x".to_vec()].concat()),
        Err(DecodeError::TooLong)
    );
    let tags = [b"@".to_vec(), vec![b't'; MAX_TAGS - 2], b" ".to_vec()].concat();
    assert!(decode(&[tags.clone(), fits.clone()].concat()).is_ok());
    assert_eq!(
        decode(&[b"@t".to_vec(), tags[1..].to_vec(), fits].concat()),
        Err(DecodeError::TooLong)
    );
}

#[test]
fn a_message_has_fifteen_parameters() {
    let line = b"USERHOST 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 :17";
    // The fifteenth is the rest, and `:17` is no word.
    let words: Vec<_> = (1..=16).map(|i| i.to_string()).collect();
    let words = words.iter().map(|i| word(i)).collect();
    assert_eq!(decode(line).unwrap().command, Command::Userhost(words));
}

#[test]
fn prefixes_are_kept_and_tags_are_not() {
    let message = decode(b"@time=now :wiz!u@h PRIVMSG #a x").unwrap();
    assert_eq!(message.prefix, Some(word("wiz!u@h")));
}

#[test]
fn bytes_that_are_no_utf8_pass_through() {
    let line = b"PRIVMSG #\xe4 :\xff\xfe \x01\x02";
    let mut out = Vec::new();
    encode(&mut out, &decode(line).unwrap());
    assert_eq!(out, [&line[..], b"\r\n"].concat());
}

#[test]
fn commands_survive_a_round_trip() {
    for line in [
        "PASS :x y",
        "USER u 12 * :r n",
        "CAP REQ :a",
        "OPER a :b",
        "JOIN #a,#b ,k",
        "JOIN 0",
        "PART #a",
        "MODE #a +ov-k+l-l+bi-x a b * 5 *!*@h",
        "MODE #a b",
        "MODE a -i+w",
        "KICK #a,#b a,b :",
        "AWAY",
        "WHO * o",
        "WHOIS a b",
        "WHOWAS a 3",
        "ISON 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
        "LUSERS * x",
        "USERS",
    ] {
        let message = decode(line.as_bytes()).unwrap();
        let mut out = Vec::new();
        encode(&mut out, &message);
        let encoded = out.strip_suffix(b"\r\n").unwrap();
        assert_eq!(decode(encoded), Ok(message), "{}", encoded.escape_ascii());
    }
}

#[test]
fn messages_are_cut_to_their_maximum() {
    let long = format!("x{}", "é".repeat(300));
    let mut out = b"before".to_vec();
    encode(
        &mut out,
        &Message {
            prefix: None,
            command: Command::Away(Some(text(&long))),
        },
    );
    assert_eq!(
        out.len() - 6,
        MAX_MESSAGE - 1,
        "one byte of a character does not fit"
    );
    assert!(out.ends_with("é\r\n".as_bytes()));
}

#[test]
fn replies_have_their_form() {
    for (reply, expected) in [
        (Reply::EndOfMotd, ":s 376 wiz :End of MOTD command\r\n"),
        (
            Reply::LuserOp { count: 3 },
            ":s 252 wiz 3 :operator(s) online\r\n",
        ),
        (
            Reply::NameReply {
                symbol: word("="),
                channel: word("#a"),
                names: text("@a b"),
            },
            ":s 353 wiz = #a :@a b\r\n",
        ),
        (
            Reply::UnknownMode {
                letter: word("x"),
                channel: word("#a"),
            },
            ":s 472 wiz x :is unknown mode char to me for #a\r\n",
        ),
        (
            Reply::ChannelModeIs {
                channel: word("#a"),
                modes: &[word("+kl"), word("k"), word("5")],
            },
            ":s 324 wiz #a +kl k 5\r\n",
        ),
    ] {
        let mut out = Vec::new();
        encode_reply(&mut out, word("s"), word("wiz"), &reply);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

fn word(word: &str) -> Word<'_> {
    Word::new(word.as_bytes()).unwrap()
}

fn list(list: &str) -> List<'_> {
    List::new(word(list))
}

fn text(text: &str) -> Text<'_> {
    Text::new(text.as_bytes()).unwrap()
}

fn nick(nick: &str) -> Nick {
    Nick::new(nick.as_bytes()).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::new(name.as_bytes()).unwrap()
}
