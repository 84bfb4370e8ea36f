//! MODE, of channels ([RFC 2811 section 4](https://www.rfc-editor.org/rfc/rfc2811#section-4)) and of users
//! ([RFC 2812 section 3.1.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.1.5)).

use super::{
    Network,
    channel::{Ban, Channel},
    event::{ChannelId, ClientId, Now},
};
use crate::types::{
    command::Command,
    mode::{ChannelChange, Privilege, Sign, UserChange, UserFlag},
    name::{ChannelName, Mask, Nick},
    reply::Reply,
    text::{Text, Word},
};

impl Network {
    /// MODE of a channel: tells the modes, lists bans, or changes what it is asked to, in order.
    pub(super) fn channel_mode(
        &mut self,
        id: ClientId,
        name: ChannelName,
        changes: Vec<ChannelChange<'_>>,
        now: Now,
    ) {
        let Some(channel) = self.world.visible_channel(id, name.as_bytes()) else {
            return self.reply(
                id,
                Reply::NoSuchChannel {
                    channel: name.as_word(),
                },
            );
        };
        let (channel, name, member) = (channel.id, channel.name, channel.has_member(id));
        if changes.is_empty() {
            return self.tell_channel_modes(id, channel);
        }
        let mut done = Vec::new();
        let mut parameters = 0;
        let (mut listed, mut refused) = (false, false);
        for change in changes {
            if change == ChannelChange::BanList {
                if !std::mem::replace(&mut listed, true) {
                    self.tell_bans(id, channel);
                }
                continue;
            }
            if let ChannelChange::Unknown(letter) = change {
                self.reply(
                    id,
                    Reply::UnknownMode {
                        letter: Word::quote(&[letter]),
                        channel: name.as_word(),
                    },
                );
                continue;
            }
            if !self
                .world
                .channel(channel)
                .is_some_and(|channel| channel.is_operator(id))
            {
                if !std::mem::replace(&mut refused, true) {
                    let channel = name.as_word();
                    let reply = if member {
                        Reply::ChanOpPrivsNeeded { channel }
                    } else {
                        Reply::NotOnChannel { channel }
                    };
                    self.reply(id, reply);
                }
                continue;
            }
            parameters += usize::from(takes_parameter(&change));
            if takes_parameter(&change) && parameters > MAX_PARAMETER_MODES {
                continue;
            }
            done.extend(self.apply(id, channel, change, now));
        }
        self.tell_channel_changes(id, channel, name, done);
    }

    /// MODE of a user, who must be the one who asks.
    pub(super) fn user_mode(&mut self, id: ClientId, nick: Word<'_>, changes: Vec<UserChange>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        match self.world.user_named(nick.as_bytes()) {
            None => return self.out.reply(user.to(), Reply::NoSuchNick { name: nick }),
            Some(other) if other.id() != id => {
                return self.out.reply(user.to(), Reply::UsersDontMatch);
            }
            Some(_) if changes.is_empty() => {
                let modes = user.modes();
                return self.out.reply(
                    user.to(),
                    Reply::UserModeIs {
                        modes: Word::quote(&modes),
                    },
                );
            }
            Some(_) => {}
        }
        let unknown = changes
            .iter()
            .any(|change| matches!(change, UserChange::Unknown(_)));
        let mut done = Vec::new();
        for change in changes {
            // "If a user attempts to make themselves an operator using the "+o" flag, the attempt SHOULD be ignored."
            let UserChange::Flag(sign, flag) = change else {
                continue;
            };
            let granted = sign == Sign::Clear || flag != UserFlag::Operator;
            if granted && self.world.set_user_flag(id, flag, sign == Sign::Set) {
                done.push(change);
            }
        }
        if !done.is_empty() {
            self.tell_user_modes(id, done);
        }
        if unknown {
            self.reply(id, Reply::UmodeUnknownFlag);
        }
    }

    /// Tells a user what became of their modes.
    pub(super) fn tell_user_modes(&mut self, id: ClientId, changes: Vec<UserChange>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        self.out.send(
            id,
            Some(user.prefix()),
            Command::UserMode(user.nick.as_word(), changes),
        );
    }

    fn tell_channel_modes(&mut self, id: ClientId, channel: ChannelId) {
        let (Some(user), Some(channel)) = (self.world.user(id), self.world.channel(channel)) else {
            return;
        };
        let modes = channel.modes(id);
        let modes: Vec<_> = modes.iter().map(|mode| Word::quote(mode)).collect();
        self.out.reply(
            user.to(),
            Reply::ChannelModeIs {
                channel: channel.name.as_word(),
                modes: &modes,
            },
        );
        self.out.reply(
            user.to(),
            Reply::CreationTime {
                channel: channel.name.as_word(),
                time: channel.created,
            },
        );
    }

    fn tell_bans(&mut self, id: ClientId, channel: ChannelId) {
        let (Some(user), Some(channel)) = (self.world.user(id), self.world.channel(channel)) else {
            return;
        };
        let name = channel.name.as_word();
        for ban in &channel.bans {
            let who = Word::quote(&ban.who);
            self.out.reply(
                user.to(),
                Reply::BanList {
                    channel: name,
                    mask: ban.mask.as_word(),
                    who,
                    time: ban.at,
                },
            );
        }
        self.out
            .reply(user.to(), Reply::EndOfBanList { channel: name });
    }

    /// Makes one change that an operator asked for, and gives it back as others are to be told it; none if nothing changed.
    fn apply<'a>(
        &mut self,
        id: ClientId,
        channel: ChannelId,
        change: ChannelChange<'a>,
        now: Now,
    ) -> Option<ChannelChange<'a>> {
        let user = self.world.users.get(&id)?;
        let who = user.prefix().as_bytes();
        let room = self.world.channels.get_mut(&channel)?;
        let changed = match &change {
            ChannelChange::Flag(sign, flag) => room.flags.apply(*sign, *flag),
            ChannelChange::Privilege(sign, privilege, nick) => {
                return self.apply_privilege(id, channel, *sign, *privilege, *nick);
            }
            ChannelChange::SetKey(_) if room.key.is_some() => {
                self.out.reply(
                    user.to(),
                    Reply::KeySet {
                        channel: room.name.as_word(),
                    },
                );
                false
            }
            ChannelChange::SetKey(key) => room.key.replace(*key).is_none(),
            ChannelChange::ClearKey => room.key.take().is_some(),
            ChannelChange::SetLimit(limit) => room.limit.replace(*limit) != Some(*limit),
            ChannelChange::ClearLimit => room.limit.take().is_some(),
            ChannelChange::Ban(Sign::Set, mask) => {
                if room.bans.len() >= MAX_BANS && !room.bans.iter().any(|ban| ban.mask.same(mask)) {
                    self.out.reply(
                        user.to(),
                        Reply::BanListFull {
                            channel: room.name.as_word(),
                            mask: mask.as_word(),
                        },
                    );
                    return None;
                }
                add_ban(room, mask, who, now)
            }
            ChannelChange::Ban(Sign::Clear, mask) => {
                let at = room.bans.iter().position(|ban| ban.mask.same(mask))?;
                // Told as it was set, by which clients find it in their lists.
                return Some(ChannelChange::Ban(Sign::Clear, room.bans.remove(at).mask));
            }
            ChannelChange::Incomplete(..) => {
                self.out.reply(
                    user.to(),
                    Reply::NeedMoreParams {
                        command: Word::quote(b"MODE"),
                    },
                );
                false
            }
            ChannelChange::Unfit(_, letter, parameter) => {
                let (target, quoted) = (room.name.as_word(), Word::quote(parameter.as_bytes()));
                let reply = match letter {
                    b'k' => Reply::InvalidKey { channel: target },
                    b'o' | b'v' => Reply::NoSuchNick { name: quoted },
                    _ => {
                        let reason = Text::until(if *letter == b'l' {
                            b"Not a positive number"
                        } else {
                            b"Not a mask"
                        });
                        Reply::InvalidModeParam {
                            target,
                            letter: Word::quote(std::slice::from_ref(letter)),
                            parameter: quoted,
                            reason,
                        }
                    }
                };
                self.out.reply(user.to(), reply);
                false
            }
            ChannelChange::BanList | ChannelChange::Unknown(_) => false,
        };
        changed.then_some(change)
    }

    fn apply_privilege(
        &mut self,
        id: ClientId,
        channel: ChannelId,
        sign: Sign,
        privilege: Privilege,
        nick: Nick,
    ) -> Option<ChannelChange<'static>> {
        let user = self.world.user(id)?;
        let Some(other) = self.world.user_named(nick.as_bytes()) else {
            self.out.reply(
                user.to(),
                Reply::NoSuchNick {
                    name: nick.as_word(),
                },
            );
            return None;
        };
        let (to, other, nick) = (user.to(), other.id(), other.nick);
        let room = self.world.channels.get_mut(&channel)?;
        let Some(member) = room.members.get_mut(&other) else {
            self.out.reply(
                to,
                Reply::UserNotInChannel {
                    nick: nick.as_word(),
                    channel: room.name.as_word(),
                },
            );
            return None;
        };
        let slot = match privilege {
            Privilege::Operator => &mut member.operator,
            Privilege::Voice => &mut member.voice,
        };
        let value = sign == Sign::Set;
        let changed = std::mem::replace(slot, value) != value;
        changed.then_some(ChannelChange::Privilege(sign, privilege, nick))
    }

    /// Tells a channel what was changed, in as many messages as that takes.
    fn tell_channel_changes(
        &mut self,
        id: ClientId,
        channel: ChannelId,
        name: ChannelName,
        changes: Vec<ChannelChange<'_>>,
    ) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let room =
            512_usize.saturating_sub(user.prefix().as_bytes().len() + name.as_bytes().len() + 16);
        let mut length = 0;
        let mut part = Vec::new();
        for change in changes {
            let cost = cost(&change);
            if length + cost > room {
                self.out.broadcast(
                    channel,
                    None,
                    user.prefix(),
                    Command::ChannelMode(name, std::mem::take(&mut part)),
                );
                length = 0;
            }
            length += cost;
            part.push(change);
        }
        if !part.is_empty() {
            self.out.broadcast(
                channel,
                None,
                user.prefix(),
                Command::ChannelMode(name, part),
            );
        }
    }
}

fn takes_parameter(change: &ChannelChange<'_>) -> bool {
    !matches!(change, ChannelChange::Flag(..) | ChannelChange::ClearLimit)
}

/// How many bytes a change takes at most in a MODE message: sign, letter, space and parameter.
fn cost(change: &ChannelChange<'_>) -> usize {
    3 + match change {
        ChannelChange::Privilege(_, _, nick) => nick.as_bytes().len(),
        ChannelChange::SetKey(key) => key.as_bytes().len(),
        ChannelChange::SetLimit(_) => 10,
        ChannelChange::Ban(_, mask) => mask.as_word().as_bytes().len(),
        _ => 1,
    }
}

fn add_ban(channel: &mut Channel, mask: &Mask, who: &[u8], now: Now) -> bool {
    if channel.bans.iter().any(|ban| ban.mask.same(mask)) {
        return false;
    }
    channel.bans.push(Ban {
        mask: mask.clone(),
        who: who.into(),
        at: now.seconds(),
    });
    true
}

/// How many changes with a parameter one MODE makes (ISUPPORT `MODES`); RFC 2812 says three. The rest is passed over.
pub(super) const MAX_PARAMETER_MODES: usize = 6;

/// How many bans a channel holds (ISUPPORT `MAXLIST`). Each is tried for each message of a member without voice.
pub(super) const MAX_BANS: usize = 100;
