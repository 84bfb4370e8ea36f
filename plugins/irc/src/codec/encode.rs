//! Encoding: a [`Message`] to a line.

use super::MAX_MESSAGE;
use crate::types::{
    command::{Cap, Command, InitialModes, Message, Query, Verb, WhoFilter},
    mode::{ChannelChange, Sign, UserChange},
    text::{List, Text, Word, cut},
};

/// Appends a message with its CR LF, cut to [`MAX_MESSAGE`].
///
/// The same function encodes what a client says and what the server relays: those differ only in the prefix.
pub fn encode(out: &mut Vec<u8>, message: &Message<'_>) {
    let line = Line::new(out);
    let line = match message.prefix {
        Some(prefix) => line.prefix(prefix),
        None => line,
    };
    command(line, &message.command).finish();
}

fn command<'o>(line: Line<'o>, command: &Command<'_>) -> Line<'o> {
    match command {
        Command::Pass(password) => line.verb(Verb::Pass).last(*password),
        Command::Nick(nick) => line.verb(Verb::Nick).word(nick.as_word()),
        Command::User(user, modes, real_name) => line
            .verb(Verb::User)
            .word(user.as_word())
            .number(bits(*modes))
            .word(Word::STAR)
            .last(*real_name),
        Command::Cap(cap) => encode_cap(line.verb(Verb::Cap), cap),
        Command::Oper(name, password) => line.verb(Verb::Oper).word(*name).last(*password),
        Command::Quit(message) => line.verb(Verb::Quit).optional(*message),
        Command::Error(message) => line.verb(Verb::Error).last(*message),
        Command::Ping(token) => line.verb(Verb::Ping).last(*token),
        Command::Pong(Some(server), token) => line.verb(Verb::Pong).word(*server).last(*token),
        Command::Pong(None, token) => line.verb(Verb::Pong).last(*token),

        Command::Join(channels, keys) => line
            .verb(Verb::Join)
            .list(*channels)
            .optional_word(keys.map(List::as_word)),
        Command::LeaveAll => line.verb(Verb::Join).word(Word::quote(b"0")),
        Command::Part(channels, message) => {
            line.verb(Verb::Part).list(*channels).optional(*message)
        }
        Command::ChannelMode(channel, changes) => {
            channel_changes(line.verb(Verb::Mode).word(channel.as_word()), changes)
        }
        Command::UserMode(nick, changes) => {
            user_changes(line.verb(Verb::Mode).word(*nick), changes)
        }
        Command::Topic(channel, topic) => line.verb(Verb::Topic).word(*channel).optional(*topic),
        Command::Names(channels) => line
            .verb(Verb::Names)
            .optional_word(channels.map(List::as_word)),
        Command::List(channels) => line
            .verb(Verb::List)
            .optional_word(channels.map(List::as_word)),
        Command::Invite(nick, channel) => line.verb(Verb::Invite).word(*nick).word(*channel),
        Command::Kick(channels, nicks, comment) => line
            .verb(Verb::Kick)
            .list(*channels)
            .list(*nicks)
            .optional(*comment),

        Command::Privmsg(targets, text) => line.verb(Verb::Privmsg).list(*targets).last(*text),
        Command::Notice(targets, text) => line.verb(Verb::Notice).list(*targets).last(*text),
        Command::Away(message) => line.verb(Verb::Away).optional(*message),
        Command::Wallops(text) => line.verb(Verb::Wallops).last(*text),
        Command::Kill(nick, comment) => line.verb(Verb::Kill).word(*nick).last(*comment),

        Command::Who(mask, filter) => {
            let line = line.verb(Verb::Who);
            match (mask, filter) {
                (mask, WhoFilter::Everybody) => line.optional_word(*mask),
                (mask, WhoFilter::Operators) => line
                    .word(mask.unwrap_or(Word::STAR))
                    .word(Word::quote(b"o")),
            }
        }
        Command::Whois(server, nicks) => line.verb(Verb::Whois).optional_word(*server).list(*nicks),
        Command::Whowas(nicks, None) => line.verb(Verb::Whowas).list(*nicks),
        Command::Whowas(nicks, Some(count)) => line
            .verb(Verb::Whowas)
            .list(*nicks)
            .number(u64::from(*count)),
        Command::Ison(nicks) => line.verb(Verb::Ison).all(nicks),
        Command::Userhost(nicks) => line.verb(Verb::Userhost).all(nicks),

        Command::Server(query, server) => {
            let line = match query {
                Query::Motd => line.verb(Verb::Motd),
                Query::Version => line.verb(Verb::Version),
                Query::Time => line.verb(Verb::Time),
                Query::Admin => line.verb(Verb::Admin),
                Query::Info => line.verb(Verb::Info),
                Query::Lusers => line
                    .verb(Verb::Lusers)
                    .optional_word(server.map(|_| Word::STAR)),
            };
            line.optional_word(*server)
        }
        Command::Links(mask) => line.verb(Verb::Links).optional_word(*mask),
        Command::Disabled(verb) => line.verb(*verb),
    }
}

fn encode_cap<'o>(line: Line<'o>, cap: &Cap<'_>) -> Line<'o> {
    match cap {
        Cap::Ls => line.word(Word::quote(b"LS")),
        Cap::List => line.word(Word::quote(b"LIST")),
        Cap::Req(names) => line.word(Word::quote(b"REQ")).last(*names),
        Cap::End => line.word(Word::quote(b"END")),
        Cap::Unknown(subcommand) => line.word(*subcommand),
    }
}

fn bits(modes: InitialModes) -> u64 {
    u64::from(modes.wallops) * 4 + u64::from(modes.invisible) * 8
}

/// Writes changes as `+ov-k nick nick *`: a sign only where it changes, then the parameters in the same order.
fn channel_changes<'o>(line: Line<'o>, changes: &[ChannelChange<'_>]) -> Line<'o> {
    let mut letters = Vec::new();
    let mut parameters: Vec<Vec<u8>> = Vec::new();
    let mut last = None;
    // A change that lacks its parameter would take that of one behind it, and nothing follows one that can only be the last.
    let mut has_more = true;
    for change in changes {
        has_more &= !matches!(
            change,
            ChannelChange::BanList | ChannelChange::Incomplete(..)
        );
        let (sign, letter, parameter) = match change {
            ChannelChange::Flag(sign, flag) => (*sign, flag.letter(), None),
            ChannelChange::Privilege(sign, privilege, nick) => {
                (*sign, privilege.letter(), Some(nick.as_bytes().to_vec()))
            }
            ChannelChange::SetKey(key) => (Sign::Set, b'k', Some(key.as_bytes().to_vec())),
            ChannelChange::ClearKey => (Sign::Clear, b'k', has_more.then(|| b"*".to_vec())),
            ChannelChange::SetLimit(limit) => (Sign::Set, b'l', Some(decimal(u64::from(*limit)))),
            ChannelChange::ClearLimit => (Sign::Clear, b'l', None),
            ChannelChange::Ban(sign, mask) => {
                (*sign, b'b', Some(mask.as_word().as_bytes().to_vec()))
            }
            ChannelChange::BanList => (Sign::Set, b'b', None),
            ChannelChange::Unknown(letter) => (Sign::Set, *letter, None),
            ChannelChange::Incomplete(sign, letter) => (*sign, *letter, None),
            ChannelChange::Unfit(sign, letter, parameter) => {
                (*sign, *letter, Some(parameter.as_bytes().to_vec()))
            }
        };
        push_signed(&mut letters, &mut last, sign, letter);
        has_more &= parameter
            .as_deref()
            .is_none_or(|it| Word::new(it).is_some());
        parameters.extend(parameter);
    }
    let mut line = line.optional_word(Word::new(&letters));
    let count = parameters.len();
    for (i, parameter) in parameters.iter().enumerate() {
        line = match Word::new(parameter) {
            Some(word) => line.word(word),
            // Only a last parameter can hold a space; none that was decoded does elsewhere.
            None if i + 1 == count => line.last(Text::until(parameter)),
            None => line.word(Word::quote(parameter)),
        };
    }
    line
}

fn user_changes<'o>(line: Line<'o>, changes: &[UserChange]) -> Line<'o> {
    let mut letters = Vec::new();
    let mut last = None;
    for change in changes {
        let (sign, letter) = match change {
            UserChange::Flag(sign, flag) => (*sign, flag.letter()),
            UserChange::Unknown(letter) => (Sign::Set, *letter),
        };
        push_signed(&mut letters, &mut last, sign, letter);
    }
    line.optional_word(Word::new(&letters))
}

fn push_signed(letters: &mut Vec<u8>, last: &mut Option<Sign>, sign: Sign, letter: u8) {
    if last.replace(sign) != Some(sign) {
        letters.push(sign.as_byte());
    }
    letters.push(letter);
}

/// A number as it is written.
pub(crate) fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// One message under construction at the end of a buffer.
pub(crate) struct Line<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Line<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    pub(crate) fn prefix(self, prefix: Word<'_>) -> Self {
        self.out.push(b':');
        self.out.extend_from_slice(prefix.as_bytes());
        self.out.push(b' ');
        self
    }

    pub(crate) fn verb(self, verb: Verb) -> Self {
        self.out.extend_from_slice(verb.name().as_bytes());
        self
    }

    /// The three digits of a reply, and the client that it is for.
    pub(crate) fn numeric(self, digits: [u8; 3], to: Word<'_>) -> Self {
        self.out.extend_from_slice(&digits);
        self.word(to)
    }

    pub(crate) fn word(self, word: Word<'_>) -> Self {
        self.out.push(b' ');
        self.out.extend_from_slice(word.as_bytes());
        self
    }

    pub(crate) fn tokens(self, words: &[Word<'_>]) -> Self {
        words.iter().fold(self, |line, word| line.word(*word))
    }

    pub(crate) fn number(self, number: u64) -> Self {
        self.out.push(b' ');
        self.out.extend_from_slice(&decimal(number));
        self
    }

    /// The last parameter, in pieces.
    pub(crate) fn text(self, pieces: &[&[u8]]) -> Self {
        self.out.extend_from_slice(b" :");
        pieces
            .iter()
            .for_each(|piece| self.out.extend_from_slice(piece));
        self
    }

    /// Cuts the message to its maximum and ends it.
    pub(crate) fn finish(self) {
        let message = self.out.get(self.start..).unwrap_or_default();
        let length = cut(message, MAX_MESSAGE - 2).len();
        self.out.truncate(self.start + length);
        self.out.extend_from_slice(b"\r\n");
    }

    fn last(self, text: Text<'_>) -> Self {
        self.text(&[text.as_bytes()])
    }

    fn optional(self, text: Option<Text<'_>>) -> Self {
        match text {
            Some(text) => self.last(text),
            None => self,
        }
    }

    fn optional_word(self, word: Option<Word<'_>>) -> Self {
        match word {
            Some(word) => self.word(word),
            None => self,
        }
    }

    fn list(self, list: List<'_>) -> Self {
        self.word(list.as_word())
    }

    fn all(self, words: &[Word<'_>]) -> Self {
        match words {
            // More would not fit as parameters of their own.
            [_, ..] if words.len() <= 14 => self.tokens(words),
            _ => {
                let joined: Vec<_> = words.iter().map(|w| w.as_bytes()).collect();
                self.text(&[&joined.join(&b' ')])
            }
        }
    }
}
