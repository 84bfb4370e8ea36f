//! Connection registration ([RFC 2812 section 3.1](https://www.rfc-editor.org/rfc/rfc2812#section-3.1)): PASS, NICK, USER, CAP, OPER, QUIT, PING.

use super::{
    Network,
    event::{ClientId, Now},
    user::{Negotiation, User},
    world::Claim,
};
use crate::{
    codec::encode::encode,
    types::{
        command::{Cap, Command, Message, Query, Verb},
        mode::{Sign, UserChange, UserFlag},
        name::Nick,
        reply::{CapReply, Reply},
        text::{Text, Word},
    },
};

/// What a client may send before it has registered.
pub(super) const ALLOWED: [Verb; 8] = [
    Verb::Pass,
    Verb::Nick,
    Verb::User,
    Verb::Cap,
    Verb::Quit,
    Verb::Ping,
    Verb::Pong,
    Verb::Error,
];

impl Network {
    pub(super) fn handle_unregistered(&mut self, id: ClientId, command: Command<'_>, now: Now) {
        let Some(client) = self.world.unregistered.get_mut(&id) else {
            return;
        };
        match command {
            Command::Pass(password) => client.password = Some(password.as_bytes().into()),
            Command::Nick(nick) => return self.first_nick(id, nick, now),
            Command::User(name, modes, real_name) => {
                client.user = Some((
                    name,
                    modes,
                    real_name.cut(REAL_NAME_LENGTH).as_bytes().into(),
                ));
            }
            Command::Cap(cap) => return self.cap(id, cap, now),
            Command::Quit(message) => return self.quit(id, message, now),
            Command::Ping(token) => return self.ping(id, token),
            Command::Pong(..) | Command::Error(_) => return,
            _ => return self.reply(id, Reply::NotRegistered),
        }
        self.try_register(id, now);
    }

    /// NICK of a registered client.
    pub(super) fn nick(&mut self, id: ClientId, nick: Nick, now: Now) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let old = user.nick;
        if nick == old {
            return;
        }
        let Some(claimed) = self.claim(id, Some(old), nick) else {
            return;
        };
        let Some(user) = self.world.user(id) else {
            return;
        };
        let mut line = Vec::new();
        encode(
            &mut line,
            &Message {
                prefix: Some(user.prefix()),
                command: Command::Nick(claimed),
            },
        );
        if old.folded() != nick.folded() {
            self.whowas.record(user, now);
        }
        self.out.send_line(id, &line);
        self.relay_to_peers(id, &line);
        if let Some(user) = self.world.users.get_mut(&id) {
            user.rename(nick);
        }
    }

    /// CAP: there is nothing to switch on, but modern clients wait for the answer.
    pub(super) fn cap(&mut self, id: ClientId, cap: Cap<'_>, now: Now) {
        let Some((to, _)) = self.addressee(id) else {
            return;
        };
        let negotiation = match cap {
            Cap::Ls | Cap::Req(_) => Negotiation::Open,
            Cap::End => Negotiation::Idle,
            Cap::List | Cap::Unknown(_) => {
                match cap {
                    Cap::Unknown(subcommand) => {
                        self.out.reply(to, Reply::InvalidCapCmd { subcommand })
                    }
                    _ => self.out.cap(to, CapReply::List),
                }
                return;
            }
        };
        match cap {
            Cap::Ls => self.out.cap(to, CapReply::Ls),
            Cap::Req(names) => self.out.cap(to, CapReply::Nak(names)),
            _ => {}
        }
        if let Some(client) = self.world.unregistered.get_mut(&id) {
            client.capabilities = negotiation;
            self.try_register(id, now);
        }
    }

    /// OPER. A wrong name and a wrong password are answered alike.
    pub(super) fn oper(&mut self, id: ClientId, name: Word<'_>, password: Text<'_>) {
        let Some(oper) = &self.config.oper else {
            return self.reply(id, Reply::NoOperHost);
        };
        let name_fits = same_secret(oper.name.as_bytes(), name.as_bytes());
        if !(same_secret(oper.password.as_bytes(), password.as_bytes()) && name_fits) {
            return self.reply(id, Reply::PasswdMismatch);
        }
        self.reply(id, Reply::YoureOper);
        if self.world.set_user_flag(id, UserFlag::Operator, true) {
            self.tell_user_modes(id, vec![UserChange::Flag(Sign::Set, UserFlag::Operator)]);
        }
    }

    /// QUIT. Others see `Quit: message`, by which they know that the user wrote it; "the default message, the nickname" (RFC 1459
    /// section 4.1.6) stands in for none.
    pub(super) fn quit(&mut self, id: ClientId, message: Option<Text<'_>>, now: Now) {
        let nick = self.addressee(id).and_then(|(to, _)| to.nick);
        let message = match (message, &nick) {
            (Some(message), _) => message.cut(QUIT_LENGTH).as_bytes(),
            (None, Some(nick)) => nick.as_bytes(),
            (None, None) => b"",
        };
        self.close(id, &[b"Quit: ", message].concat(), now);
    }

    /// PING: the token goes back as it came.
    pub(super) fn ping(&mut self, id: ClientId, token: Text<'_>) {
        let server = self.config.server.clone();
        self.out
            .send_as_server(id, Command::Pong(Word::new(server.as_bytes()), token));
    }

    fn first_nick(&mut self, id: ClientId, nick: Nick, now: Now) {
        let old = self
            .world
            .unregistered
            .get(&id)
            .and_then(|client| client.nick);
        let Some(claimed) = self.claim(id, old, nick) else {
            return;
        };
        if let Some(client) = self.world.unregistered.get_mut(&id) {
            client.nick = Some(claimed);
        }
        self.try_register(id, now);
    }

    fn claim(&mut self, id: ClientId, old: Option<Nick>, nick: Nick) -> Option<Nick> {
        if nick.as_bytes().len() > self.config.nick_length {
            self.reply(
                id,
                Reply::ErroneousNickname {
                    nick: nick.as_word(),
                },
            );
            return None;
        }
        match self.world.claim(id, old, nick) {
            Claim::Taken => Some(nick),
            Claim::InUse => {
                self.reply(
                    id,
                    Reply::NicknameInUse {
                        nick: nick.as_word(),
                    },
                );
                None
            }
        }
    }

    /// Makes a user of a client that has given all that is needed.
    fn try_register(&mut self, id: ClientId, now: Now) {
        let Some(client) = self.world.unregistered.get(&id) else {
            return;
        };
        if client.nick.is_none()
            || client.user.is_none()
            || client.capabilities == Negotiation::Open
        {
            return;
        }
        if let Some(password) = &self.config.password {
            let given = client.password.as_deref().unwrap_or_default();
            if !same_secret(password.as_bytes(), given) {
                self.reply(id, Reply::PasswdMismatch);
                return self.close(id, b"Bad Password", now);
            }
        }
        let Some(client) = self.world.unregistered.remove(&id) else {
            return;
        };
        let (Some(nick), Some((name, modes, real_name))) = (client.nick, client.user) else {
            return;
        };
        self.world.insert_user(User::new(
            client.link,
            nick,
            name,
            modes,
            real_name,
            now.wall,
        ));
        self.schedule(id);
        self.welcome(id);
        self.query(id, Query::Lusers, None, now);
        self.query(id, Query::Motd, None, now);
        let asked = [
            (modes.invisible, UserFlag::Invisible),
            (modes.wallops, UserFlag::Wallops),
        ];
        let changes: Vec<_> = asked
            .into_iter()
            .filter_map(|(set, flag)| set.then_some(UserChange::Flag(Sign::Set, flag)))
            .collect();
        if !changes.is_empty() {
            self.tell_user_modes(id, changes);
        }
    }
}

/// Compares without telling by its time where the difference is.
fn same_secret(expected: &[u8], given: &[u8]) -> bool {
    let difference = expected
        .iter()
        .zip(given)
        .fold(0, |all, (a, b)| all | (a ^ b));
    expected.len() == given.len() && difference == 0
}

/// How much of a real name is kept, in bytes; RFC 2812 sets no limit.
const REAL_NAME_LENGTH: usize = 128;

/// How much of a quit message is kept, in bytes.
const QUIT_LENGTH: usize = 255;
