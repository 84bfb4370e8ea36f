//! What users say ([RFC 2812 sections 3.3](https://www.rfc-editor.org/rfc/rfc2812#section-3.3) and 4): PRIVMSG, NOTICE, AWAY, WALLOPS, KILL.

use super::{
    Network,
    event::{ClientId, Now},
};
use crate::types::{
    command::Command,
    name::{is_channel_prefix, matches},
    reply::Reply,
    text::{List, Text, Word},
};

impl Network {
    /// PRIVMSG. To a channel that is not there it is answered as to a nickname that is not there: 401 is "No such nick/channel".
    pub(super) fn privmsg(&mut self, id: ClientId, targets: List<'_>, text: Text<'_>, now: Now) {
        if let Some(user) = self.world.users.get_mut(&id) {
            user.active = now.monotonic;
        }
        for (i, target) in targets.items().enumerate() {
            let Some(user) = self.world.user(id) else {
                return;
            };
            if i == MAX_TARGETS {
                return self.out.reply(user.to(), Reply::TooManyTargets { target });
            }
            if target
                .as_bytes()
                .first()
                .is_some_and(|b| is_channel_prefix(*b))
            {
                match self.world.channel_named(target.as_bytes()) {
                    None => self
                        .out
                        .reply(user.to(), Reply::NoSuchNick { name: target }),
                    Some(channel) if !channel.may_speak(user) => {
                        self.out.reply(
                            user.to(),
                            Reply::CannotSendToChan {
                                channel: channel.name.as_word(),
                            },
                        );
                    }
                    Some(channel) => {
                        let command = Command::Privmsg(channel.name.as_word().into(), text);
                        self.out.spend(channel.members.len() / 8);
                        self.out
                            .broadcast(channel.id, Some(id), user.prefix(), command);
                    }
                }
                continue;
            }
            let Some(other) = self.world.user_named(target.as_bytes()) else {
                self.out
                    .reply(user.to(), Reply::NoSuchNick { name: target });
                continue;
            };
            self.out.send(
                other.id(),
                Some(user.prefix()),
                Command::Privmsg(other.nick.as_word().into(), text),
            );
            if let Some(away) = &other.away {
                self.out.reply(
                    user.to(),
                    Reply::Away {
                        nick: other.nick.as_word(),
                        message: Text::until(away),
                    },
                );
            }
        }
    }

    /// NOTICE: like PRIVMSG, and never answered.
    pub(super) fn notice(&mut self, id: ClientId, targets: List<'_>, text: Text<'_>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        for target in targets.items().take(MAX_TARGETS) {
            if target
                .as_bytes()
                .first()
                .is_some_and(|b| is_channel_prefix(*b))
            {
                if let Some(channel) = self
                    .world
                    .channel_named(target.as_bytes())
                    .filter(|channel| channel.may_speak(user))
                {
                    let command = Command::Notice(channel.name.as_word().into(), text);
                    self.out.spend(channel.members.len() / 8);
                    self.out
                        .broadcast(channel.id, Some(id), user.prefix(), command);
                }
            } else if let Some(other) = self.world.user_named(target.as_bytes()) {
                self.out.send(
                    other.id(),
                    Some(user.prefix()),
                    Command::Notice(other.nick.as_word().into(), text),
                );
            }
        }
    }

    /// AWAY.
    pub(super) fn away(&mut self, id: ClientId, message: Option<Text<'_>>) {
        let Some(user) = self.world.users.get_mut(&id) else {
            return;
        };
        user.away = message.map(|message| message.cut(AWAY_LENGTH).as_bytes().into());
        let reply = if user.away.is_some() {
            Reply::NowAway
        } else {
            Reply::Unaway
        };
        self.out.reply(user.to(), reply);
    }

    /// WALLOPS, for operators of the server. Looks at every user, as only those few may say it.
    pub(super) fn wallops(&mut self, id: ClientId, text: Text<'_>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        if !user.operator {
            return self.out.reply(user.to(), Reply::NoPrivileges);
        }
        self.out.spend(self.world.users.len() / 16);
        let listeners: Vec<_> = self
            .world
            .users
            .values()
            .filter(|user| user.wallops)
            .map(|user| user.id())
            .collect();
        for listener in listeners {
            self.out
                .send(listener, Some(user.prefix()), Command::Wallops(text));
        }
    }

    /// KILL, for operators of the server.
    pub(super) fn kill(&mut self, id: ClientId, nick: Word<'_>, comment: Text<'_>, now: Now) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        if !user.operator {
            return self.out.reply(user.to(), Reply::NoPrivileges);
        }
        if matches(nick.as_bytes(), self.config.server.as_bytes()) {
            return self.out.reply(user.to(), Reply::CantKillServer);
        }
        let Some(victim) = self.world.user_named(nick.as_bytes()) else {
            return self.out.reply(user.to(), Reply::NoSuchNick { name: nick });
        };
        let comment = comment.cut(KILL_LENGTH);
        self.out.send(
            victim.id(),
            Some(user.prefix()),
            Command::Kill(victim.nick.as_word(), comment),
        );
        let reason = [
            b"Killed (",
            user.nick.as_bytes(),
            b" (",
            comment.as_bytes(),
            b"))",
        ]
        .concat();
        let victim = victim.id();
        self.close(victim, &reason, now);
    }
}

/// How many targets a PRIVMSG or NOTICE reaches (ISUPPORT `TARGMAX`).
pub(super) const MAX_TARGETS: usize = 4;

/// Longest away message, in bytes (ISUPPORT `AWAYLEN`).
pub(super) const AWAY_LENGTH: usize = 200;

/// Longest comment of a KILL, in bytes.
const KILL_LENGTH: usize = 255;
