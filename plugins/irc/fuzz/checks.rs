//! What must hold for any input. Used by the crate `nethost-fuzz` and, with inputs from a seeded generator, by `tests/properties.rs`.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use nethost_irc::{
    codec::{MAX_MESSAGE, decode::decode, encode::encode},
    config::Config,
    session::{
        Network,
        event::{ChannelId, ClientId, Loss, Now, Transmit},
    },
    types::{
        command::{Cap, Command, InitialModes, Message, Query, Verb, WhoFilter},
        mode::{ChannelChange, ChannelFlag, Privilege, Sign, UserChange, UserFlag},
        name::{ChannelName, Host, Key, Mask, Nick, UserName},
        text::{List, Text, Word},
    },
};

/// A line that decodes, encodes to one message that decodes to the same.
pub(crate) fn decode_any(line: &[u8]) {
    if let Ok(message) = decode(line) {
        round_trip(&message);
    }
}

/// A command that can be built, encodes to one message that decodes to the same.
pub(crate) fn encode_decode(data: &[u8]) {
    if let Some(message) = message(&mut Source(data)) {
        round_trip(&message);
    }
}

/// Whatever clients do in whatever order: nothing panics, every line is whole and short enough, and what is to be done can be done.
pub(crate) fn session(data: &[u8]) {
    let mut source = Source(data);
    let json = match source.byte() % 4 {
        0 => r#"{"flood": true, "flood-burst": 3, "flood-rate": 5}"#,
        1 => r#"{"channels-per-user": 2, "channel-modes": "nt", "motd": ["x"], "nick-length": 4}"#,
        2 => {
            r#"{"oper-name": "a", "oper-password": "b", "ping-interval": "3s", "ping-timeout": "1s"}"#
        }
        _ => "{}",
    };
    let mut now = Now {
        monotonic: Duration::from_secs(1),
        wall: Duration::from_secs(1_000_000_000),
    };
    let Ok(config) = Config::from_json(json) else {
        panic!("the configuration is wrong")
    };
    let mut world = World {
        network: Network::new(config, now),
        open: HashSet::new(),
        groups: HashMap::new(),
    };
    let mut last = 0;
    for _ in 0..500 {
        if source.0.is_empty() {
            break;
        }
        let id = ClientId(u64::from(source.byte() % 6));
        match source.byte() % 32 {
            0 => {
                now.monotonic += Duration::from_millis(u64::from(source.byte()) * 97);
                world.network.handle_timeout(now);
                let next = world.network.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > now.monotonic),
                    "a timeout is due and was not handled"
                );
            }
            1 => {
                let loss = [
                    Loss::Closed,
                    Loss::Reset,
                    Loss::Idle,
                    Loss::Limit,
                    Loss::Tls,
                    Loss::Draining,
                    Loss::Other,
                ];
                let loss = loss
                    .into_iter()
                    .nth(usize::from(source.byte()) % 7)
                    .unwrap_or(Loss::Closed);
                world.network.handle_lost(id, loss, now);
                world.transmit();
                world.open.remove(&id);
            }
            2 => world.network.handle_overlong(id, now),
            3 if source.byte() == 0 => world.network.handle_draining(),
            _ => {
                // Ids are never used again, but six are enough to meet each other: the same one is a new client once it is closed.
                if world.open.insert(id) {
                    last += 1;
                    world.network.handle_connected(id, Host::local(), now);
                    for line in [
                        format!(
                            "NICK {}{last}",
                            char::from(b'a' + u8::try_from(id.0).unwrap_or(0))
                        ),
                        "USER u 0 * r".into(),
                    ] {
                        world.network.handle_line(id, line.as_bytes(), now);
                    }
                }
                let line = line(&mut source);
                world.network.handle_line(id, &line, now);
            }
        }
        world.transmit();
    }
}

fn round_trip(message: &Message<'_>) {
    let mut out = b"kept".to_vec();
    encode(&mut out, message);
    let Some(line) = out
        .strip_prefix(b"kept")
        .and_then(|line| line.strip_suffix(b"\r\n"))
    else {
        panic!("no line was appended: {}", out.escape_ascii());
    };
    assert!(line.len() <= MAX_MESSAGE - 2);
    // One that is just as long as it may be may have been cut.
    if line.len() < MAX_MESSAGE - 5 {
        assert_eq!(
            decode(line).as_ref(),
            Ok(message),
            "{}",
            line.escape_ascii()
        );
    }
}

/// The host's side: who is connected, and who is in which group.
struct World {
    network: Network,
    open: HashSet<ClientId>,
    groups: HashMap<ChannelId, HashSet<ClientId>>,
}

impl World {
    fn transmit(&mut self) {
        while let Some(transmit) = self.network.poll_transmit() {
            match transmit {
                Transmit::Send { to, bytes } => {
                    assert!(self.open.contains(&to), "{to:?} is not there");
                    check_lines(bytes);
                }
                Transmit::Broadcast { to, bytes, .. } => {
                    assert!(
                        self.groups.get(&to).is_some_and(|group| !group.is_empty()),
                        "nobody is in {to:?}"
                    );
                    check_lines(bytes);
                }
                Transmit::Join { channel, client } => {
                    assert!(self.open.contains(&client));
                    assert!(
                        self.groups.entry(channel).or_default().insert(client),
                        "{client:?} is in {channel:?} already"
                    );
                }
                Transmit::Leave { channel, client } => {
                    assert!(
                        self.groups
                            .get_mut(&channel)
                            .is_some_and(|group| group.remove(&client))
                    );
                }
                Transmit::Dissolve { channel } => {
                    assert_eq!(
                        self.groups.remove(&channel).map(|group| group.len()),
                        Some(0)
                    );
                }
                Transmit::Close { client } => {
                    assert!(self.open.remove(&client));
                    // When the service drains, groups end with it.
                    self.groups
                        .values_mut()
                        .for_each(|group| _ = group.remove(&client));
                }
            }
        }
    }
}

fn check_lines(bytes: &[u8]) {
    let Some(bytes) = bytes.strip_suffix(b"\r\n") else {
        panic!("not a whole line: {}", bytes.escape_ascii())
    };
    for line in bytes.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(
            !line.is_empty() && line.len() <= MAX_MESSAGE - 2,
            "{}",
            line.escape_ascii()
        );
        assert!(
            !line.iter().any(|b| matches!(b, 0 | b'\r')),
            "{}",
            line.escape_ascii()
        );
    }
}

/// A line that means something more often than not.
fn line(source: &mut Source<'_>) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "#a",
        "#a",
        "#b",
        "&c",
        "#a,#b",
        "a1",
        "b2",
        "c3",
        "a1,b2",
        "*",
        "*!*@*",
        "+o",
        "-o",
        "+v",
        "+b",
        "-b",
        "+k",
        "-k",
        "+l",
        "3",
        "+imnst",
        "-s",
        "+bbkkllx",
        "o",
        "k",
        "irc.example.net",
        "0",
        ":",
        ":two words",
        "+iw",
        "a",
        "b",
    ];
    if source.byte().is_multiple_of(16) {
        let length = usize::from(source.byte()) * 3;
        return source.take(length).to_vec();
    }
    let verb = Verb::ALL
        .get(usize::from(source.byte()) % Verb::ALL.len())
        .map_or("JOIN", |verb| verb.name());
    let mut line = verb.to_owned();
    for _ in 0..source.byte() % 5 {
        let word = WORDS
            .get(usize::from(source.byte()) % WORDS.len())
            .copied()
            .unwrap_or_default();
        line.push(' ');
        line.push_str(word);
    }
    line.into_bytes()
}

fn message<'d>(source: &mut Source<'d>) -> Option<Message<'d>> {
    let prefix = match source.byte() % 2 {
        0 => None,
        _ => Some(source.word()?),
    };
    Some(Message {
        prefix,
        command: command(source)?,
    })
}

fn command<'d>(source: &mut Source<'d>) -> Option<Command<'d>> {
    Some(match source.byte() % 34 {
        0 => Command::Pass(source.filled()?),
        1 => Command::Nick(source.nick()?),
        2 => {
            let modes = InitialModes {
                wallops: source.byte() % 2 == 1,
                invisible: source.byte() % 2 == 1,
            };
            let length = usize::from(source.byte());
            Command::User(UserName::new(source.take(length))?, modes, source.filled()?)
        }
        3 => Command::Cap(Cap::Req(source.text())),
        4 => Command::Cap(
            [Cap::Ls, Cap::List, Cap::End]
                .into_iter()
                .nth(usize::from(source.byte()) % 3)?,
        ),
        5 => Command::Oper(source.word()?, source.filled()?),
        6 => Command::Quit(source.optional()),
        7 => Command::Error(source.text()),
        8 => Command::Ping(source.filled()?),
        9 => Command::Pong(Some(source.word()?), source.text()),
        10 => Command::Pong(None, source.text()),
        11 => Command::Join(
            source
                .list()
                .filter(|list| list.as_word().as_bytes() != b"0")?,
            source.list(),
        ),
        12 => Command::LeaveAll,
        13 => Command::Part(source.list()?, source.optional()),
        14 => Command::ChannelMode(source.channel()?, source.channel_changes()),
        15 => {
            let nick = source.word().filter(|nick| {
                !nick.as_bytes().starts_with(b"#") && !nick.as_bytes().starts_with(b"&")
            })?;
            let change = |source: &mut Source<'d>| {
                let flag = UserFlag::ALL
                    .into_iter()
                    .nth(usize::from(source.byte()) % 3)?;
                Some(UserChange::Flag(source.sign(), flag))
            };
            Command::UserMode(
                nick,
                (0..source.byte() % 8)
                    .filter_map(|_| change(source))
                    .collect(),
            )
        }
        16 => Command::Topic(source.word()?, source.optional()),
        17 => Command::Names(source.list()),
        18 => Command::List(source.list()),
        19 => Command::Invite(source.word()?, source.word()?),
        20 => Command::Kick(source.list()?, source.list()?, source.optional()),
        21 => Command::Privmsg(source.list()?, source.filled()?),
        22 => Command::Notice(source.list()?, source.filled()?),
        23 => Command::Away(source.filled()),
        24 => Command::Wallops(source.filled()?),
        25 => Command::Kill(source.word()?, source.filled()?),
        26 => Command::Who(source.word(), WhoFilter::Everybody),
        27 => Command::Who(Some(source.word()?), WhoFilter::Operators),
        28 => Command::Whois(source.word(), source.list()?),
        29 => Command::Whowas(
            source.list()?,
            Some(u32::from(source.byte())).filter(|count| *count > 0),
        ),
        30 => Command::Ison(
            (0..=source.byte() % 20)
                .map(|_| source.word())
                .collect::<Option<_>>()?,
        ),
        31 => Command::Userhost(
            (0..=source.byte() % 20)
                .map(|_| source.word())
                .collect::<Option<_>>()?,
        ),
        32 => {
            let queries = [
                Query::Motd,
                Query::Lusers,
                Query::Version,
                Query::Time,
                Query::Admin,
                Query::Info,
            ];
            Command::Server(
                queries.into_iter().nth(usize::from(source.byte()) % 6)?,
                source.word(),
            )
        }
        _ => Command::Links(source.word()),
    })
}

/// Bytes to make things of, as long as there are any; zeros after that.
struct Source<'d>(&'d [u8]);

impl<'d> Source<'d> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at_checked(count).unwrap_or((self.0, b""));
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> Option<Word<'d>> {
        let length = usize::from(self.byte() % 24);
        Word::new(self.take(length))
    }

    fn list(&mut self) -> Option<List<'d>> {
        self.word().map(List::new)
    }

    fn text(&mut self) -> Text<'d> {
        let length = usize::from(self.byte());
        Text::until(self.take(length))
    }

    fn filled(&mut self) -> Option<Text<'d>> {
        Some(self.text()).filter(|text| !text.as_bytes().is_empty())
    }

    fn optional(&mut self) -> Option<Text<'d>> {
        match self.byte() % 2 {
            0 => None,
            _ => Some(self.text()),
        }
    }

    fn nick(&mut self) -> Option<Nick> {
        let length = usize::from(self.byte() % 8);
        Nick::new(self.take(length))
    }

    fn channel(&mut self) -> Option<ChannelName> {
        let length = usize::from(self.byte() % 8);
        ChannelName::new(&[b"#", self.take(length)].concat())
    }

    fn sign(&mut self) -> Sign {
        match self.byte() % 2 {
            0 => Sign::Set,
            _ => Sign::Clear,
        }
    }

    fn channel_changes(&mut self) -> Vec<ChannelChange<'d>> {
        let count = self.byte() % 8;
        (0..count).filter_map(|_| self.channel_change()).collect()
    }

    fn channel_change(&mut self) -> Option<ChannelChange<'d>> {
        Some(match self.byte() % 7 {
            0 => ChannelChange::Flag(
                self.sign(),
                ChannelFlag::ALL
                    .into_iter()
                    .nth(usize::from(self.byte()) % 5)?,
            ),
            1 => ChannelChange::Privilege(self.sign(), Privilege::Operator, self.nick()?),
            2 => ChannelChange::Privilege(self.sign(), Privilege::Voice, self.nick()?),
            3 => {
                let length = usize::from(self.byte() % 24);
                ChannelChange::SetKey(Key::new(self.take(length))?)
            }
            4 => ChannelChange::ClearKey,
            5 => ChannelChange::SetLimit(u32::from(self.byte()) + 1),
            _ => ChannelChange::Ban(self.sign(), Mask::new(self.word()?.as_bytes())?),
        })
    }
}
