//! Channels from the inside and the outside ([RFC 2812 section 3.2](https://www.rfc-editor.org/rfc/rfc2812#section-3.2)): JOIN, PART, TOPIC, INVITE,
//! KICK.

use super::{
    Network,
    channel::{Channel, Membership, Topic},
    event::{ChannelId, ClientId, Now},
    lists::tell_names,
    not_a_channel,
    outbox::{Outbox, To},
    user::{Invitation, Inviter, User},
    world::World,
};
use crate::types::{
    command::Command,
    mode::{ChannelChange, ChannelFlag, Flags, Sign},
    name::ChannelName,
    reply::Reply,
    text::{List, Text, Word},
};

impl Network {
    /// JOIN. What the user is in already is passed over.
    pub(super) fn join(
        &mut self,
        id: ClientId,
        channels: List<'_>,
        keys: Option<List<'_>>,
        now: Now,
    ) {
        let mut keys = keys.into_iter().flat_map(List::places);
        for name in channels.items() {
            self.join_one(id, name, keys.next().unwrap_or_default(), now);
        }
    }

    /// `JOIN 0`: "a special request to leave all channels the user is currently a member of"
    /// ([RFC 2812 section 3.2.1](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.1)).
    pub(super) fn leave_all(&mut self, id: ClientId) {
        let channels = self
            .world
            .user(id)
            .map(|user| user.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            self.part_one(id, channel, None);
        }
    }

    /// PART.
    pub(super) fn part(&mut self, id: ClientId, channels: List<'_>, message: Option<Text<'_>>) {
        for name in channels.items() {
            match self.world.visible_channel(id, name.as_bytes()) {
                None => self.reply(id, Reply::NoSuchChannel { channel: name }),
                Some(channel) if !channel.has_member(id) => {
                    self.reply(id, Reply::NotOnChannel { channel: name })
                }
                Some(channel) => self.part_one(id, channel.id, message),
            }
        }
    }

    /// TOPIC: tells the topic, or sets it; an empty one removes it.
    pub(super) fn topic(
        &mut self,
        id: ClientId,
        name: Word<'_>,
        topic: Option<Text<'_>>,
        now: Now,
    ) {
        let World { users, .. } = &self.world;
        let Some(user) = users.get(&id) else { return };
        let Some(channel) = self.world.visible_channel(id, name.as_bytes()) else {
            return self
                .out
                .reply(user.to(), Reply::NoSuchChannel { channel: name });
        };
        let Some(text) = topic else {
            return tell_topic(&mut self.out, user.to(), channel, Silence::Told);
        };
        let text = text.cut(TOPIC_LENGTH);
        if !channel.has_member(id) {
            return self.out.reply(
                user.to(),
                Reply::NotOnChannel {
                    channel: channel.name.as_word(),
                },
            );
        }
        if channel.flags.has(ChannelFlag::TopicLocked) && !channel.is_operator(id) {
            return self.out.reply(
                user.to(),
                Reply::ChanOpPrivsNeeded {
                    channel: channel.name.as_word(),
                },
            );
        }
        self.out.broadcast(
            channel.id,
            None,
            user.prefix(),
            Command::Topic(channel.name.as_word(), Some(text)),
        );
        let who = user.prefix().as_bytes().into();
        let topic = Topic {
            text: text.as_bytes().into(),
            who,
            at: now.seconds(),
        };
        let channel = channel.id;
        if let Some(channel) = self.world.channels.get_mut(&channel) {
            channel.topic = Some(topic).filter(|topic| !topic.text.is_empty());
        }
    }

    /// INVITE. "There is no requirement that the channel ... must exist or be a valid channel", and "Only the user inviting and the user being
    /// invited will receive notification" ([RFC 2812 section 3.2.7](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.7)).
    pub(super) fn invite(&mut self, id: ClientId, nick: Word<'_>, name: Word<'_>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let Some(guest) = self.world.user_named(nick.as_bytes()) else {
            return self.out.reply(user.to(), Reply::NoSuchNick { name: nick });
        };
        let mut invitation = None;
        if let Some(channel) = self.world.channel_named(name.as_bytes()) {
            let operator = channel.is_operator(id);
            let error = if !channel.has_member(id) {
                Some(Reply::NotOnChannel { channel: name })
            } else if channel.has_member(guest.id()) {
                Some(Reply::UserOnChannel {
                    nick: guest.nick.as_word(),
                    channel: name,
                })
            } else if channel.flags.has(ChannelFlag::InviteOnly) && !operator {
                Some(Reply::ChanOpPrivsNeeded { channel: name })
            } else {
                None
            };
            if let Some(error) = error {
                return self.out.reply(user.to(), error);
            }
            let from = if operator {
                Inviter::Operator
            } else {
                Inviter::Member
            };
            invitation = Some(Invitation {
                channel: channel.id,
                from,
            });
        }
        self.out.reply(
            user.to(),
            Reply::Inviting {
                nick: guest.nick.as_word(),
                channel: name,
            },
        );
        if let Some(away) = &guest.away {
            self.out.reply(
                user.to(),
                Reply::Away {
                    nick: guest.nick.as_word(),
                    message: Text::until(away),
                },
            );
        }
        self.out.send(
            guest.id(),
            Some(user.prefix()),
            Command::Invite(guest.nick.as_word(), name),
        );
        let guest = guest.id();
        if let (Some(invitation), Some(guest)) = (invitation, self.world.users.get_mut(&guest)) {
            guest.invite(invitation);
        }
    }

    /// KICK: "there MUST be either one channel parameter and multiple user parameter, or as many channel parameters as there are user
    /// parameters" ([RFC 2812 section 3.2.8](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.8)).
    pub(super) fn kick(
        &mut self,
        id: ClientId,
        channels: List<'_>,
        nicks: List<'_>,
        comment: Option<Text<'_>>,
    ) {
        let channel_count = channels.items().count();
        if channel_count == 1 {
            let Some(channel) = channels.items().next() else {
                return;
            };
            nicks
                .items()
                .for_each(|nick| self.kick_one(id, channel, nick, comment));
        } else if channel_count == nicks.items().count() {
            channels
                .items()
                .zip(nicks.items())
                .for_each(|(channel, nick)| self.kick_one(id, channel, nick, comment));
        } else {
            self.reply(
                id,
                Reply::NeedMoreParams {
                    command: Word::quote(b"KICK"),
                },
            );
        }
    }

    fn join_one(&mut self, id: ClientId, name: Word<'_>, key: &[u8], now: Now) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let Some(valid) = ChannelName::new(name.as_bytes()) else {
            return self.out.reply(user.to(), not_a_channel(name));
        };
        let existing = self.world.channel_named(name.as_bytes());
        if existing.is_some_and(|channel| channel.has_member(id)) {
            return;
        }
        if user.channels.len() >= self.config.channels_per_user {
            return self
                .out
                .reply(user.to(), Reply::TooManyChannels { channel: name });
        }
        if let Some(refusal) = existing.and_then(|channel| refusal(channel, user, key)) {
            return self.out.reply(user.to(), refusal);
        }
        match existing.map(|channel| channel.id) {
            Some(channel) => self.enter(id, channel, Membership::default()),
            None => {
                let modes = self.config.channel_modes;
                let channel = self.world.create_channel(valid, now.seconds(), modes);
                self.enter(
                    id,
                    channel,
                    Membership {
                        operator: true,
                        voice: false,
                    },
                );
                if modes != Flags::default() {
                    let set = ChannelFlag::ALL.into_iter().filter(|flag| modes.has(*flag));
                    let changes = set
                        .map(|flag| ChannelChange::Flag(Sign::Set, flag))
                        .collect();
                    self.out
                        .broadcast_as_server(channel, Command::ChannelMode(valid, changes));
                }
            }
        }
        let (Some(user), Some(channel)) = (
            self.world.user(id),
            self.world.channel_named(name.as_bytes()),
        ) else {
            return;
        };
        tell_topic(&mut self.out, user.to(), channel, Silence::Kept);
        tell_names(&mut self.out, user, channel, &self.world);
        self.out.reply(
            user.to(),
            Reply::EndOfNames {
                channel: channel.name.as_word(),
            },
        );
    }

    fn enter(&mut self, id: ClientId, channel: ChannelId, membership: Membership) {
        self.world.enter(id, channel, membership);
        self.out.join(channel, id);
        let (Some(user), Some(channel)) = (self.world.user(id), self.world.channel(channel)) else {
            return;
        };
        self.out.broadcast(
            channel.id,
            None,
            user.prefix(),
            Command::Join(channel.name.as_word().into(), None),
        );
    }

    fn part_one(&mut self, id: ClientId, channel: ChannelId, message: Option<Text<'_>>) {
        let (Some(user), Some(room)) = (self.world.user(id), self.world.channel(channel)) else {
            return;
        };
        self.out.broadcast(
            channel,
            None,
            user.prefix(),
            Command::Part(room.name.as_word().into(), message),
        );
        self.leave_channel(id, channel);
    }

    fn kick_one(
        &mut self,
        id: ClientId,
        name: Word<'_>,
        nick: Word<'_>,
        comment: Option<Text<'_>>,
    ) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let Some(channel) = self.world.visible_channel(id, name.as_bytes()) else {
            return self
                .out
                .reply(user.to(), Reply::NoSuchChannel { channel: name });
        };
        let name = channel.name.as_word();
        if !channel.has_member(id) {
            return self
                .out
                .reply(user.to(), Reply::NotOnChannel { channel: name });
        }
        if !channel.is_operator(id) {
            return self
                .out
                .reply(user.to(), Reply::ChanOpPrivsNeeded { channel: name });
        }
        let Some(victim) = self
            .world
            .user_named(nick.as_bytes())
            .filter(|victim| channel.has_member(victim.id()))
        else {
            return self.out.reply(
                user.to(),
                Reply::UserNotInChannel {
                    nick,
                    channel: name,
                },
            );
        };
        let comment = comment
            .map(|comment| comment.cut(KICK_LENGTH))
            .unwrap_or_else(|| Text::until(user.nick.as_bytes()));
        let kick = Command::Kick(name.into(), victim.nick.as_word().into(), Some(comment));
        self.out.broadcast(channel.id, None, user.prefix(), kick);
        let (victim, channel) = (victim.id(), channel.id);
        self.leave_channel(victim, channel);
    }
}

/// Why a user may not join a channel, if they may not.
fn refusal<'a>(channel: &'a Channel, user: &User, key: &[u8]) -> Option<Reply<'a>> {
    let name = channel.name.as_word();
    let invitation = user
        .invites
        .iter()
        .find(|invitation| invitation.channel == channel.id);
    if channel.flags.has(ChannelFlag::InviteOnly) && invitation.is_none() {
        return Some(Reply::InviteOnlyChan { channel: name });
    }
    // "A user who is banned from a channel and who carries an invitation sent by a channel operator is allowed to join the channel"
    // (RFC 2811 section 4.3.1).
    let pardoned = invitation.is_some_and(|invitation| invitation.from == Inviter::Operator);
    if !pardoned && channel.is_banned(user) {
        return Some(Reply::BannedFromChan { channel: name });
    }
    if channel
        .key
        .is_some_and(|expected| expected.as_bytes() != key)
    {
        return Some(Reply::BadChannelKey { channel: name });
    }
    channel
        .is_full()
        .then_some(Reply::ChannelIsFull { channel: name })
}

/// Whether to say that there is no topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    Told,
    Kept,
}

fn tell_topic(out: &mut Outbox, to: To, channel: &Channel, silence: Silence) {
    let name = channel.name.as_word();
    match &channel.topic {
        Some(topic) => {
            out.reply(
                to,
                Reply::Topic {
                    channel: name,
                    topic: Text::until(&topic.text),
                },
            );
            out.reply(
                to,
                Reply::TopicWhoTime {
                    channel: name,
                    who: Word::quote(&topic.who),
                    time: topic.at,
                },
            );
        }
        None if silence == Silence::Told => out.reply(to, Reply::NoTopic { channel: name }),
        None => {}
    }
}

/// Longest topic, in bytes (ISUPPORT `TOPICLEN`).
pub(super) const TOPIC_LENGTH: usize = 307;

/// Longest kick comment, in bytes (ISUPPORT `KICKLEN`).
pub(super) const KICK_LENGTH: usize = 255;
