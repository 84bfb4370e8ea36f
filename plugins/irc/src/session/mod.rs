//! The network: every client's state and what they share. Sans-IO: commands and time go in, [`Transmit`]s come out; it reads no clock, holds
//! no socket and draws no random number.
//!
//! ```text
//! handle_connected, handle_line, handle_lost, handle_timeout, handle_draining  ->  poll_transmit until None, poll_timeout
//! ```
//!
//! One message costs no more work for more clients: names are looked up by hash, and what a channel hears is one
//! [`Transmit::Broadcast`], which the host fans out.

pub mod event;

mod world;

mod user;

mod channel;

mod outbox;

mod timers;

mod registration;

mod rooms;

mod lists;

mod mode;

mod message;

mod query;

mod server;

mod whowas;

mod tally;

pub mod state;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use self::{
    event::{ChannelId, ClientId, Loss, Now, Transmit},
    outbox::{Outbox, To},
    tally::Tally,
    user::{Link, Registration},
    whowas::Whowas,
    world::{Left, World},
};
use crate::{
    codec::{
        decode::{DecodeError, decode},
        encode::encode,
    },
    config::Config,
    types::{
        command::{Command, Message, Verb},
        name::{Host, eq, is_channel_prefix},
        reply::Reply,
        text::{Text, Word},
    },
};

/// Whether the server takes part in the network or is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
}

/// One network of one server.
#[derive(Debug)]
pub struct Network {
    config: Config,
    phase: Phase,
    started: Now,
    world: World,
    whowas: Whowas,
    /// When to look at each client, exactly once per client.
    deadlines: BTreeSet<(Duration, ClientId)>,
    /// Numbers the relays that go to the peers of a user, so that each peer gets them once.
    relays: u64,
    out: Outbox,
    tally: Tally,
}

impl Network {
    /// A network without clients.
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            out: Outbox::new(config.server.clone()),
            config,
            phase: Phase::Serving,
            started: now,
            world: World::default(),
            whowas: Whowas::default(),
            deadlines: BTreeSet::new(),
            relays: 0,
            tally: Tally::default(),
        }
    }

    /// A client connected. It must register before the registration timeout.
    pub fn handle_connected(&mut self, id: ClientId, host: Host, now: Now) {
        if self.phase == Phase::Draining {
            self.out.send(
                id,
                None,
                Command::Error(Text::until(b"Server shutting down")),
            );
            self.out.close(id);
            return;
        }
        let link = Link::new(id, host, now.monotonic);
        self.world.unregistered.insert(id, Registration::new(link));
        self.schedule(id);
    }

    /// A client sent a line; `line` is without its end. Lines of clients that are unknown, or told to go, are passed over.
    pub fn handle_line(&mut self, id: ClientId, line: &[u8], now: Now) {
        if self.admit(id, line, now) {
            self.execute(id, line, now);
        }
    }

    /// A client sent more bytes without a line end than a line can have; they were thrown away.
    pub fn handle_overlong(&mut self, id: ClientId, now: Now) {
        if self.admit(id, b"", now) {
            self.heard(id, now);
            self.tally.count(None);
            self.handle_error(id, DecodeError::TooLong);
        }
    }

    /// A client sent a command.
    pub fn handle_command(&mut self, id: ClientId, command: Command<'_>, now: Now) {
        if self.world.user(id).is_some() {
            self.handle_registered(id, command, now);
        } else if self.world.unregistered.contains_key(&id) {
            self.handle_unregistered(id, command, now);
        }
    }

    /// A client's connection is gone, or its peer will send no more.
    pub fn handle_lost(&mut self, id: ClientId, loss: Loss, now: Now) {
        self.remove(id, loss.words().as_bytes(), now);
    }

    /// The server is going away: every client is told and closed, and no new one is let in.
    pub fn handle_draining(&mut self) {
        self.phase = Phase::Draining;
        let mut clients: Vec<_> = self
            .world
            .unregistered
            .keys()
            .chain(self.world.users.keys())
            .copied()
            .collect();
        clients.sort_unstable();
        for id in clients {
            let Some((to, host)) = self.addressee(id) else {
                continue;
            };
            let closing = closing_link(host, b"Server shutting down");
            let nick = to.nick.as_ref().map_or(Word::STAR, |nick| nick.as_word());
            self.out.send_as_server(
                id,
                Command::Notice(nick.into(), Text::until(b"Server shutting down")),
            );
            self.out
                .send(id, None, Command::Error(Text::until(&closing)));
            self.out.close(id);
        }
        self.world = World::default();
        self.deadlines.clear();
    }

    /// Whether enough was done since everything was last transmitted: no other line should be handled in this callback, which has
    /// little time. Up to that, lines that arrived together may be handled together, and what they say in the same place is one write.
    pub fn is_congested(&self) -> bool {
        self.out.len() >= MAX_WAITING || self.out.work() >= MAX_WORK
    }

    /// The next thing to do. To be called until there is none, after `handle_*`.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.out.poll()
    }

    /// When `handle_timeout` must be called, in [`Now::monotonic`]. May change with each `handle_*`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next command that came since this was last asked, and how often; none is a line that is no command. To be called until there is none.
    pub fn poll_tally(&mut self) -> Option<(Option<Verb>, u64)> {
        self.tally.poll()
    }

    /// How many users there are, and how many channels.
    pub fn size(&self) -> (usize, usize) {
        (self.world.users.len(), self.world.channels.len())
    }

    fn execute(&mut self, id: ClientId, line: &[u8], now: Now) {
        self.out.spend(1);
        self.heard(id, now);
        let decoded = decode(line);
        self.tally.count(match &decoded {
            Ok(message) => Some(message.command.verb()),
            Err(error) => error.verb(),
        });
        match decoded {
            Ok(message) if self.is_foreign(id, message.prefix) => {}
            Ok(message) => self.handle_command(id, message.command, now),
            Err(error) => self.handle_error(id, error),
        }
    }

    /// Whether a message claims to be from someone else.
    ///
    /// "if they use a prefix, the only valid prefix is the registered nickname associated with the client"; any other message "the server
    /// must ignore ... silently" ([RFC 1459 section 2.3](https://www.rfc-editor.org/rfc/rfc1459#section-2.3)).
    fn is_foreign(&self, id: ClientId, prefix: Option<Word<'_>>) -> bool {
        let (Some(user), Some(prefix)) = (self.world.user(id), prefix) else {
            return false;
        };
        let nick = prefix
            .as_bytes()
            .split(|b| *b == b'!')
            .next()
            .unwrap_or_default();
        !eq(nick, user.nick.as_bytes())
    }

    fn handle_registered(&mut self, id: ClientId, command: Command<'_>, now: Now) {
        match command {
            Command::Pass(_) | Command::User(..) => self.reply(id, Reply::AlreadyRegistered),
            Command::Nick(nick) => self.nick(id, nick, now),
            Command::Cap(cap) => self.cap(id, cap, now),
            Command::Oper(name, password) => self.oper(id, name, password),
            Command::Quit(message) => self.quit(id, message, now),
            Command::Ping(token) => self.ping(id, token),
            // What a server says, and the answer to PING, which was taken note of when the line came.
            Command::Error(_) | Command::Pong(..) => {}

            Command::Join(channels, keys) => self.join(id, channels, keys, now),
            Command::LeaveAll => self.leave_all(id),
            Command::Part(channels, message) => self.part(id, channels, message),
            Command::ChannelMode(channel, changes) => self.channel_mode(id, channel, changes, now),
            Command::UserMode(nick, changes) => self.user_mode(id, nick, changes),
            Command::Topic(channel, topic) => self.topic(id, channel, topic, now),
            Command::Names(channels) => self.names(id, channels),
            Command::List(channels) => self.list(id, channels),
            Command::Invite(nick, channel) => self.invite(id, nick, channel),
            Command::Kick(channels, nicks, comment) => self.kick(id, channels, nicks, comment),

            Command::Privmsg(targets, text) => self.privmsg(id, targets, text, now),
            Command::Notice(targets, text) => self.notice(id, targets, text),
            Command::Away(message) => self.away(id, message),
            Command::Wallops(text) => self.wallops(id, text),
            Command::Kill(nick, comment) => self.kill(id, nick, comment, now),

            Command::Who(mask, filter) => self.who(id, mask, filter),
            Command::Whois(server, nicks) => self.whois(id, server, nicks, now),
            Command::Whowas(nicks, count) => self.whowas(id, nicks, count),
            Command::Ison(nicks) => self.ison(id, &nicks),
            Command::Userhost(nicks) => self.userhost(id, &nicks),

            Command::Server(query, server) => self.query(id, query, server, now),
            Command::Links(mask) => self.links(id, mask),
            Command::Disabled(Verb::Summon) => self.reply(id, Reply::SummonDisabled),
            Command::Disabled(_) => self.reply(id, Reply::UsersDisabled),
        }
    }

    fn handle_error(&mut self, id: ClientId, error: DecodeError<'_>) {
        let registered = self.world.user(id).is_some();
        let allowed = match error.verb() {
            Some(verb) => registration::ALLOWED.contains(&verb),
            None => !matches!(error, DecodeError::UnknownCommand(_)),
        };
        let reply = match error {
            DecodeError::Empty => return,
            _ if !registered && !allowed => Reply::NotRegistered,
            DecodeError::TooLong => Reply::InputTooLong,
            DecodeError::Forbidden => Reply::UnknownError {
                command: Word::STAR,
                reason: Text::until(b"Control character within the line"),
            },
            DecodeError::UnknownCommand(command) => Reply::UnknownCommand { command },
            DecodeError::NeedMoreParams(verb) => Reply::NeedMoreParams {
                command: Word::quote(verb.name().as_bytes()),
            },
            DecodeError::NoNickname(_) => Reply::NoNicknameGiven,
            DecodeError::NoOrigin(_) => Reply::NoOrigin,
            // "automatic replies MUST NEVER be sent in response to a NOTICE message" (RFC 2812 section 3.3.2).
            DecodeError::NoRecipient(Verb::Notice)
            | DecodeError::NoText(Verb::Notice)
            | DecodeError::BadName(Verb::Notice, _) => return,
            DecodeError::NoRecipient(verb) => Reply::NoRecipient {
                command: Word::quote(verb.name().as_bytes()),
            },
            DecodeError::NoText(_) => Reply::NoTextToSend,
            DecodeError::ErroneousNickname(nick) => Reply::ErroneousNickname { nick },
            DecodeError::InvalidUserName => Reply::InvalidUsername,
            DecodeError::BadName(
                Verb::Join
                | Verb::Part
                | Verb::Mode
                | Verb::Topic
                | Verb::Names
                | Verb::List
                | Verb::Kick,
                name,
            ) => not_a_channel(name),
            DecodeError::BadName(
                Verb::Motd
                | Verb::Version
                | Verb::Time
                | Verb::Admin
                | Verb::Info
                | Verb::Lusers
                | Verb::Links,
                server,
            ) => Reply::NoSuchServer { server },
            DecodeError::BadName(_, name) => Reply::NoSuchNick { name },
        };
        self.reply(id, reply);
    }

    /// Replies to a client, registered or not.
    fn reply(&mut self, id: ClientId, reply: Reply<'_>) {
        if let Some((to, _)) = self.addressee(id) {
            self.out.reply(to, reply);
        }
    }

    fn addressee(&self, id: ClientId) -> Option<(To, &Host)> {
        let user = self.world.user(id).map(|user| (user.to(), &user.link.host));
        user.or_else(|| {
            self.world
                .unregistered
                .get(&id)
                .map(|client| (client.to(), &client.link.host))
        })
    }

    fn link_mut(&mut self, id: ClientId) -> Option<&mut Link> {
        match self.world.users.get_mut(&id) {
            Some(user) => Some(&mut user.link),
            None => self
                .world
                .unregistered
                .get_mut(&id)
                .map(|client| &mut client.link),
        }
    }

    /// Ends a client from this side: `ERROR :Closing Link`, then as when the connection is lost.
    fn close(&mut self, id: ClientId, reason: &[u8], now: Now) {
        let Some((_, host)) = self.addressee(id) else {
            return;
        };
        let closing = closing_link(host, reason);
        self.out
            .send(id, None, Command::Error(Text::until(&closing)));
        self.remove(id, reason, now);
        self.out.close(id);
    }

    /// Takes a client out of everything, and tells its peers.
    fn remove(&mut self, id: ClientId, reason: &[u8], now: Now) {
        if let Some(client) = self.world.unregistered.remove(&id) {
            self.world.release(client.nick);
            self.deadlines.remove(&(client.link.wake, id));
            return;
        }
        let Some(user) = self.world.user(id) else {
            return;
        };
        let mut line = Vec::new();
        encode(
            &mut line,
            &Message {
                prefix: Some(user.prefix()),
                command: Command::Quit(Some(Text::until(reason))),
            },
        );
        self.relay_to_peers(id, &line);
        let channels = self
            .world
            .user(id)
            .map(|user| user.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            self.leave_channel(id, channel);
        }
        if let Some(user) = self.world.remove_user(id) {
            self.deadlines.remove(&(user.link.wake, id));
            self.whowas.record(&user, now);
        }
    }

    /// Sends a line once to everybody who shares a channel with a user, but not to the user.
    ///
    /// The largest channel gets it as one broadcast; only who is in another and not in that one is written to alone.
    fn relay_to_peers(&mut self, id: ClientId, line: &[u8]) {
        self.relays += 1;
        let World {
            users, channels, ..
        } = &mut self.world;
        let Some(user) = users.get(&id) else { return };
        let joined: Vec<_> = user
            .channels
            .iter()
            .filter_map(|channel| channels.get(channel))
            .collect();
        let Some(largest) = joined.iter().max_by_key(|channel| channel.members.len()) else {
            return;
        };
        self.out
            .spend(joined.iter().map(|channel| channel.members.len() / 8).sum());
        self.out.broadcast_line(largest.id, Some(id), line);
        for channel in joined.iter().filter(|channel| channel.id != largest.id) {
            for member in channel
                .members
                .keys()
                .filter(|member| **member != id && !largest.has_member(**member))
            {
                let Some(peer) = users.get_mut(member) else {
                    continue;
                };
                if std::mem::replace(&mut peer.mark, self.relays) != self.relays {
                    self.out.send_line(*member, line);
                }
            }
        }
    }

    fn leave_channel(&mut self, id: ClientId, channel: ChannelId) {
        self.out.leave(channel, id);
        if self.world.leave(id, channel) == Left::Empty {
            self.out.dissolve(channel);
        }
    }
}

/// What a name that is no channel's is answered with.
fn not_a_channel(name: Word<'_>) -> Reply<'_> {
    match name.as_bytes().first() {
        Some(first) if is_channel_prefix(*first) => Reply::BadChanMask { channel: name },
        _ => Reply::NoSuchChannel { channel: name },
    }
}

fn closing_link(host: &Host, reason: &[u8]) -> Vec<u8> {
    [
        b"Closing Link: ",
        host.as_word().as_bytes(),
        b" (",
        reason,
        b")",
    ]
    .concat()
}

/// How many bytes may wait before they must be transmitted: what a host reads at a time.
const MAX_WAITING: usize = 64 * 1024;

/// How many units of work may be done before everything must be transmitted: about as many microseconds in the sandbox, a tenth of what a
/// callback has by default.
const MAX_WORK: usize = 5_000;
