//! Decoding: a line to a [`Message`].

use super::{MAX_MESSAGE, MAX_PARAMS, MAX_TAGS};
use crate::types::{
    command::{Cap, Command, InitialModes, Message, Query, Verb, WhoFilter},
    mode::{ChannelChange, ChannelFlag, Privilege, Sign, UserChange, UserFlag},
    name::{ChannelName, Key, Mask, Nick, UserName, is_channel_prefix},
    text::{List, Text, Word},
};

/// What was wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError<'a> {
    /// Nothing but spaces. "Empty messages are silently ignored" (RFC 2812 section 2.3.1).
    #[error("empty message")]
    Empty,
    /// The message, or the tags before it, is longer than allowed.
    #[error("line too long")]
    TooLong,
    /// A NUL or a CR within the line.
    #[error("control character within the line")]
    Forbidden,
    /// No command is called this.
    #[error("unknown command `{}`", .0.as_bytes().escape_ascii())]
    UnknownCommand(Word<'a>),
    /// Parameters are missing.
    #[error("{} needs more parameters", .0.name())]
    NeedMoreParams(Verb),
    /// NICK, WHOIS or WHOWAS without a nickname.
    #[error("{} without a nickname", .0.name())]
    NoNickname(Verb),
    /// PING or PONG without a token.
    #[error("{} without a token", .0.name())]
    NoOrigin(Verb),
    /// PRIVMSG or NOTICE without a recipient.
    #[error("{} without a recipient", .0.name())]
    NoRecipient(Verb),
    /// PRIVMSG or NOTICE without a text.
    #[error("{} without a text", .0.name())]
    NoText(Verb),
    /// NICK with what is no nickname.
    #[error("`{}` is no nickname", .0.as_bytes().escape_ascii())]
    ErroneousNickname(Word<'a>),
    /// USER with what is no user name.
    #[error("not a user name")]
    InvalidUserName,
    /// A parameter that names something cannot be a name.
    #[error("`{}` names nothing", .1.as_bytes().escape_ascii())]
    BadName(Verb, Word<'a>),
}

impl DecodeError<'_> {
    /// The command that the line was meant to be, if that far it was right.
    pub fn verb(&self) -> Option<Verb> {
        match self {
            Self::NeedMoreParams(verb)
            | Self::NoNickname(verb)
            | Self::NoOrigin(verb)
            | Self::NoRecipient(verb)
            | Self::NoText(verb)
            | Self::BadName(verb, _) => Some(*verb),
            Self::ErroneousNickname(_) => Some(Verb::Nick),
            Self::InvalidUserName => Some(Verb::User),
            Self::Empty | Self::TooLong | Self::Forbidden | Self::UnknownCommand(_) => None,
        }
    }
}

/// Decodes one line, without its CR LF. Message tags are passed over.
///
/// ```text
/// message  = [ ":" prefix SPACE ] command [ params ] crlf
/// command  = 1*letter / 3digit
/// ```
pub fn decode(line: &[u8]) -> Result<Message<'_>, DecodeError<'_>> {
    let body = skip_tags(line)?;
    if body.len() > MAX_MESSAGE - 2 {
        return Err(DecodeError::TooLong);
    }
    if Text::new(body).is_none() {
        return Err(DecodeError::Forbidden);
    }
    let body = body.trim_ascii_start();
    let (prefix, body) = match body.strip_prefix(b":") {
        Some(rest) => {
            let (prefix, rest) = split_word(rest);
            (Word::new(prefix), rest)
        }
        None => (None, body),
    };
    let (name, rest) = split_word(body);
    if name.is_empty() {
        return Err(DecodeError::Empty);
    }
    let verb =
        Verb::from_name(name).ok_or_else(|| DecodeError::UnknownCommand(Word::quote(name)))?;
    let params = Params::new(verb, rest);
    Ok(Message {
        prefix,
        command: command(verb, params)?,
    })
}

/// `message = [ "@" tags SPACE ] ...` ([message tags](https://ircv3.net/specs/extensions/message-tags#format))
fn skip_tags(line: &[u8]) -> Result<&[u8], DecodeError<'_>> {
    if !line.starts_with(b"@") {
        return Ok(line);
    }
    let (tags, rest) = split_word(line);
    if tags.len() >= MAX_TAGS {
        return Err(DecodeError::TooLong);
    }
    Ok(rest)
}

fn command<'a>(verb: Verb, mut params: Params<'a>) -> Result<Command<'a>, DecodeError<'a>> {
    Ok(match verb {
        Verb::Pass => Command::Pass(params.needed()?),
        Verb::Nick => Command::Nick(nick(&mut params)?),
        Verb::User => user(&mut params)?,
        Verb::Cap => Command::Cap(cap(&mut params)?),
        Verb::Oper => Command::Oper(params.needed_name()?, params.needed()?),
        Verb::Quit => Command::Quit(params.next()),
        Verb::Error => Command::Error(params.next().unwrap_or(Text::EMPTY)),
        Verb::Ping => Command::Ping(params.filled().ok_or(DecodeError::NoOrigin(verb))?),
        Verb::Pong => pong(&mut params)?,

        Verb::Join => match params.needed()? {
            zero if zero.as_bytes() == b"0" => Command::LeaveAll,
            channels => Command::Join(
                List::new(params.name(channels)?),
                params
                    .next()
                    .and_then(|t| Word::new(t.as_bytes()))
                    .map(List::new),
            ),
        },
        Verb::Part => Command::Part(params.needed_list()?, params.next()),
        Verb::Mode => mode(&mut params)?,
        Verb::Topic => Command::Topic(params.needed_name()?, params.next()),
        Verb::Names => Command::Names(params.optional_name()?.map(List::new)),
        Verb::List => Command::List(params.optional_name()?.map(List::new)),
        Verb::Invite => Command::Invite(params.needed_name()?, params.needed_name()?),
        Verb::Kick => Command::Kick(params.needed_list()?, params.needed_list()?, params.next()),

        Verb::Privmsg => {
            let (targets, text) = targets_and_text(verb, &mut params)?;
            Command::Privmsg(targets, text)
        }
        Verb::Notice => {
            let (targets, text) = targets_and_text(verb, &mut params)?;
            Command::Notice(targets, text)
        }
        Verb::Away => Command::Away(params.filled()),
        Verb::Wallops => Command::Wallops(params.needed()?),
        Verb::Kill => Command::Kill(params.needed_name()?, params.needed()?),

        Verb::Who => {
            let mask = params.optional_name()?;
            let filter = match params.next() {
                Some(o) if o.as_bytes() == b"o" => WhoFilter::Operators,
                _ => WhoFilter::Everybody,
            };
            Command::Who(mask, filter)
        }
        Verb::Whois => whois(&mut params)?,
        Verb::Whowas => {
            let nicks = params.nicknames()?;
            // "If a non-positive number is passed as being <count>, then a full search is done" (RFC 2812 section 3.6.3).
            let count = params
                .next()
                .and_then(|t| number(t.as_bytes()))
                .filter(|n| *n > 0);
            Command::Whowas(nicks, count)
        }
        Verb::Ison => Command::Ison(words(&mut params)?),
        Verb::Userhost => Command::Userhost(words(&mut params)?),

        Verb::Motd => Command::Server(Query::Motd, params.optional_name()?),
        Verb::Version => Command::Server(Query::Version, params.optional_name()?),
        Verb::Time => Command::Server(Query::Time, params.optional_name()?),
        Verb::Admin => Command::Server(Query::Admin, params.optional_name()?),
        Verb::Info => Command::Server(Query::Info, params.optional_name()?),
        Verb::Lusers => {
            params.next();
            Command::Server(Query::Lusers, params.optional_name()?)
        }
        Verb::Links => {
            let first = params.optional_name()?;
            Command::Links(params.optional_name()?.or(first))
        }
        Verb::Summon | Verb::Users => Command::Disabled(verb),
    })
}

/// `Command: NICK, Parameters: <nickname>`
fn nick<'a>(params: &mut Params<'a>) -> Result<Nick, DecodeError<'a>> {
    let name = params
        .filled()
        .ok_or(DecodeError::NoNickname(Verb::Nick))?
        .as_bytes();
    Nick::new(name).ok_or_else(|| DecodeError::ErroneousNickname(Word::quote(name)))
}

/// `Command: USER, Parameters: <user> <mode> <unused> <realname>`; "The &lt;mode&gt; parameter should be a numeric", and RFC 1459 clients
/// send a host name there, which asks for nothing.
fn user<'a>(params: &mut Params<'a>) -> Result<Command<'a>, DecodeError<'a>> {
    let (user, mode, _unused, real_name) = (
        params.needed()?,
        params.needed()?,
        params.needed()?,
        params.needed()?,
    );
    let user = UserName::new(user.as_bytes()).ok_or(DecodeError::InvalidUserName)?;
    let bits = number(mode.as_bytes()).unwrap_or(0);
    let modes = InitialModes {
        wallops: bits & 4 != 0,
        invisible: bits & 8 != 0,
    };
    Ok(Command::User(user, modes, real_name))
}

/// `Command: CAP, Parameters: <subcommand> [:<capabilities>]`
fn cap<'a>(params: &mut Params<'a>) -> Result<Cap<'a>, DecodeError<'a>> {
    let subcommand = Word::quote(params.needed()?.as_bytes());
    Ok(
        match subcommand.as_bytes().to_ascii_uppercase().as_slice() {
            b"LS" => Cap::Ls,
            b"LIST" => Cap::List,
            b"REQ" => Cap::Req(params.next().unwrap_or(Text::EMPTY)),
            b"END" => Cap::End,
            _ => Cap::Unknown(subcommand),
        },
    )
}

/// `Command: PONG, Parameters: <server> [ <server2> ]`; what a client answers with is the last of them.
fn pong<'a>(params: &mut Params<'a>) -> Result<Command<'a>, DecodeError<'a>> {
    let first = params.next().ok_or(DecodeError::NoOrigin(Verb::Pong))?;
    Ok(match (Word::new(first.as_bytes()), params.next()) {
        (Some(server), Some(token)) => Command::Pong(Some(server), token),
        _ => Command::Pong(None, first),
    })
}

/// `Command: PRIVMSG, Parameters: <msgtarget> <text to be sent>`
fn targets_and_text<'a>(
    verb: Verb,
    params: &mut Params<'a>,
) -> Result<(List<'a>, Text<'a>), DecodeError<'a>> {
    let targets = params.filled().ok_or(DecodeError::NoRecipient(verb))?;
    let text = params.filled().ok_or(DecodeError::NoText(verb))?;
    Ok((List::new(params.name(targets)?), text))
}

/// `Command: WHOIS, Parameters: [ <target> ] <mask> *( "," <mask> )`
fn whois<'a>(params: &mut Params<'a>) -> Result<Command<'a>, DecodeError<'a>> {
    let first = params.nicknames()?;
    Ok(match params.optional_name()? {
        Some(nicks) => Command::Whois(Some(first.as_word()), List::new(nicks)),
        None => Command::Whois(None, first),
    })
}

/// `Command: ISON, Parameters: <nickname> *( SPACE <nickname> )`; clients send the list as one parameter as often as as several.
fn words<'a>(params: &mut Params<'a>) -> Result<Vec<Word<'a>>, DecodeError<'a>> {
    let mut words = Vec::new();
    while let Some(parameter) = params.next() {
        words.extend(
            parameter
                .as_bytes()
                .split(|b| *b == b' ')
                .filter_map(Word::new),
        );
    }
    if words.is_empty() {
        return Err(DecodeError::NeedMoreParams(params.verb));
    }
    Ok(words)
}

/// ```text
/// Command: MODE, Parameters: <nickname> *( ( "+" / "-" ) *( "i" / "w" / "o" / "O" / "r" ) )
/// Command: MODE, Parameters: <channel> *( ( "-" / "+" ) *<modes> *<modeparams> )
/// ```
fn mode<'a>(params: &mut Params<'a>) -> Result<Command<'a>, DecodeError<'a>> {
    let target = params.needed_name()?;
    let (letters, _) = split_word(params.next().map(Text::as_bytes).unwrap_or_default());
    if !target
        .as_bytes()
        .first()
        .is_some_and(|b| is_channel_prefix(*b))
    {
        let changes = signed(letters).map(|(sign, letter)| match UserFlag::from_letter(letter) {
            Some(flag) => UserChange::Flag(sign, flag),
            None => UserChange::Unknown(letter),
        });
        return Ok(Command::UserMode(target, changes.collect()));
    }
    let channel =
        ChannelName::new(target.as_bytes()).ok_or(DecodeError::BadName(Verb::Mode, target))?;
    let changes = signed(letters)
        .map(|(sign, letter)| channel_change(sign, letter, params))
        .collect();
    Ok(Command::ChannelMode(channel, changes))
}

fn channel_change<'a>(sign: Sign, letter: u8, params: &mut Params<'a>) -> ChannelChange<'a> {
    if let Some(flag) = ChannelFlag::from_letter(letter) {
        return ChannelChange::Flag(sign, flag);
    }
    match (letter, sign) {
        (b'k', Sign::Clear) => {
            params.next();
            return ChannelChange::ClearKey;
        }
        (b'l', Sign::Clear) => return ChannelChange::ClearLimit,
        (b'o' | b'v' | b'b' | b'k' | b'l', _) => {}
        _ => return ChannelChange::Unknown(letter),
    }
    let Some(parameter) = params.next() else {
        return if letter == b'b' {
            ChannelChange::BanList
        } else {
            ChannelChange::Incomplete(sign, letter)
        };
    };
    let bytes = parameter.as_bytes();
    let change = match letter {
        b'o' => {
            Nick::new(bytes).map(|nick| ChannelChange::Privilege(sign, Privilege::Operator, nick))
        }
        b'v' => Nick::new(bytes).map(|nick| ChannelChange::Privilege(sign, Privilege::Voice, nick)),
        b'b' => Mask::new(bytes).map(|mask| ChannelChange::Ban(sign, mask)),
        b'k' => Key::new(bytes).map(ChannelChange::SetKey),
        _ => number(bytes)
            .filter(|n| *n > 0)
            .map(ChannelChange::SetLimit),
    };
    change.unwrap_or(ChannelChange::Unfit(sign, letter, parameter))
}

/// The letters of a mode parameter, each with the sign that holds for it; without one that is `+`.
fn signed(letters: &[u8]) -> impl Iterator<Item = (Sign, u8)> {
    let mut sign = Sign::Set;
    letters.iter().filter_map(move |letter| {
        match letter {
            b'+' => sign = Sign::Set,
            b'-' => sign = Sign::Clear,
            _ => return Some((sign, *letter)),
        }
        None
    })
}

/// `1*digit`, as far as 32 bits go.
fn number(bytes: &[u8]) -> Option<u32> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| *b == b' ').unwrap_or(bytes.len());
    let (word, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
    (word, trim_spaces(rest))
}

fn trim_spaces(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b" ") {
        bytes = rest;
    }
    bytes
}

/// The parameters of a message, one after the other.
///
/// ```text
/// params = *14( SPACE middle ) [ SPACE ":" trailing ]
///        =/ 14( SPACE middle ) [ SPACE [ ":" ] trailing ]
/// ```
struct Params<'a> {
    verb: Verb,
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Params<'a> {
    fn new(verb: Verb, rest: &'a [u8]) -> Self {
        Self {
            verb,
            rest,
            taken: 0,
        }
    }

    fn next(&mut self) -> Option<Text<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.taken += 1;
        let parameter = if let Some(trailing) = self.rest.strip_prefix(b":") {
            self.rest = b"";
            trailing
        } else if self.taken == MAX_PARAMS {
            std::mem::take(&mut self.rest)
        } else {
            let (middle, rest) = split_word(self.rest);
            self.rest = rest;
            middle
        };
        Some(Text::until(parameter))
    }

    /// The next parameter, unless it is missing or empty.
    fn filled(&mut self) -> Option<Text<'a>> {
        self.next().filter(|text| !text.as_bytes().is_empty())
    }

    fn needed(&mut self) -> Result<Text<'a>, DecodeError<'a>> {
        self.filled().ok_or(DecodeError::NeedMoreParams(self.verb))
    }

    fn needed_name(&mut self) -> Result<Word<'a>, DecodeError<'a>> {
        let text = self.needed()?;
        self.name(text)
    }

    fn needed_list(&mut self) -> Result<List<'a>, DecodeError<'a>> {
        self.needed_name().map(List::new)
    }

    fn optional_name(&mut self) -> Result<Option<Word<'a>>, DecodeError<'a>> {
        self.filled().map(|text| self.name(text)).transpose()
    }

    /// WHOIS and WHOWAS have a numeric of their own for the missing nickname.
    fn nicknames(&mut self) -> Result<List<'a>, DecodeError<'a>> {
        let text = self.filled().ok_or(DecodeError::NoNickname(self.verb))?;
        self.name(text).map(List::new)
    }

    fn name(&self, text: Text<'a>) -> Result<Word<'a>, DecodeError<'a>> {
        Word::new(text.as_bytes())
            .ok_or_else(|| DecodeError::BadName(self.verb, Word::quote(text.as_bytes())))
    }
}
