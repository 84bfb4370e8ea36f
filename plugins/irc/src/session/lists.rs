//! Who and what is there ([RFC 2812 sections 3.2.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.5) and 3.2.6): NAMES, LIST.

use super::{
    Network,
    channel::Channel,
    event::ClientId,
    message::MAX_TARGETS,
    outbox::Outbox,
    user::User,
    world::{World, count},
};
use crate::types::{
    mode::ChannelFlag,
    reply::Reply,
    text::{List, Text, Word},
};

impl Network {
    /// NAMES of these channels, or of everything that can be seen.
    pub(super) fn names(&mut self, id: ClientId, channels: Option<List<'_>>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let Some(channels) = channels else {
            return self.all_names(id);
        };
        for (i, name) in channels.items().enumerate() {
            if i == MAX_TARGETS {
                return self
                    .out
                    .reply(user.to(), Reply::TooManyTargets { target: name });
            }
            if let Some(channel) = self.world.visible_channel(id, name.as_bytes()) {
                tell_names(&mut self.out, user, channel, &self.world);
            }
            self.out
                .reply(user.to(), Reply::EndOfNames { channel: name });
        }
    }

    /// LIST of these channels, or of all that can be seen.
    pub(super) fn list(&mut self, id: ClientId, channels: Option<List<'_>>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        self.out.reply(user.to(), Reply::ListStart);
        if let Some(names) = channels {
            for name in names.items() {
                if let Some(channel) = self.world.visible_channel(id, name.as_bytes()) {
                    tell_channel(&mut self.out, user, channel);
                }
            }
        } else {
            self.out.spend(self.world.channels.len() / 4);
            for channel in self.world.visible_channels(id) {
                if self.out.len() > MAX_ANSWER {
                    break;
                }
                tell_channel(&mut self.out, user, channel);
            }
            if self.out.len() > MAX_ANSWER || self.world.is_large() {
                let command = Word::quote(b"LIST");
                self.out.reply(user.to(), Reply::TooManyMatches { command });
            }
        }
        self.out.reply(user.to(), Reply::ListEnd);
    }

    /// "If no &lt;channel&gt; parameter is given, a list of all channels and their occupants is returned. At the end of this list, a list of users who
    /// are visible but either not on any channel or not on a visible channel are listed as being on `channel` "*""
    /// ([RFC 2812 section 3.2.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.5)).
    fn all_names(&mut self, id: ClientId) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        for channel in self.world.visible_channels(id) {
            if self.out.len() > MAX_ANSWER {
                break;
            }
            tell_names(&mut self.out, user, channel, &self.world);
        }
        self.out.spend(self.world.users.len() / 2);
        let world = &self.world;
        let is_placed = |other: &User| {
            world
                .channels_of(other)
                .any(|channel| channel.is_visible_to(id))
        };
        let others = world.visible_users(user).filter(|other| !is_placed(other));
        let overhead = self.config.server.len() + user.nick.as_bytes().len();
        for names in pack(overhead, others.map(|other| other.nick.as_bytes().to_vec())) {
            let (symbol, channel, names) = (Word::STAR, Word::STAR, Text::until(&names));
            self.out.reply(
                user.to(),
                Reply::NameReply {
                    symbol,
                    channel,
                    names,
                },
            );
        }
        if self.out.len() > MAX_ANSWER || world.is_large() {
            let command = Word::quote(b"NAMES");
            self.out.reply(user.to(), Reply::TooManyMatches { command });
        }
        let channel = Word::STAR;
        self.out.reply(user.to(), Reply::EndOfNames { channel });
    }
}

/// Joins names with spaces to texts that fit into a message beside so many bytes of other parameters.
pub(super) fn pack(overhead: usize, names: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    // Beside them stand `:`, ` 353 `, ` = `, ` `, ` :` and CR LF.
    let room = 512_usize.saturating_sub(overhead + 20);
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for name in names {
        match texts.last_mut() {
            Some(text) if text.len() + 1 + name.len() <= room => {
                text.push(b' ');
                text.extend_from_slice(&name);
            }
            _ => texts.push(name),
        }
    }
    texts
}

fn tell_channel(out: &mut Outbox, asker: &User, channel: &Channel) {
    let topic = channel.topic.as_ref().map(|topic| &*topic.text);
    let topic = Text::until(topic.unwrap_or_default());
    let (name, members) = (channel.name.as_word(), count(channel.members.len()));
    out.reply(
        asker.to(),
        Reply::List {
            channel: name,
            members,
            topic,
        },
    );
}

/// "= for others (public channels)", "@ is used for secret channels" (RFC 2812 section 5.1).
pub(super) fn tell_names(out: &mut Outbox, asker: &User, channel: &Channel, world: &World) {
    out.spend(channel.members.len() / 4);
    let inside = channel.has_member(asker.id());
    let members = channel
        .members
        .iter()
        .filter_map(|(member, membership)| Some((world.user(*member)?, membership)));
    let seen = members.filter(|(member, _)| inside || world.is_visible(asker, member));
    let names =
        seen.map(|(member, membership)| [membership.symbol(), member.nick.as_bytes()].concat());
    let symbol = Word::quote(if channel.flags.has(ChannelFlag::Secret) {
        b"@"
    } else {
        b"="
    });
    let overhead =
        out.server_length() + asker.nick.as_bytes().len() + channel.name.as_bytes().len();
    for names in pack(overhead, names) {
        out.reply(
            asker.to(),
            Reply::NameReply {
                symbol,
                channel: channel.name.as_word(),
                names: Text::until(&names),
            },
        );
    }
}

/// How many bytes of answer LIST, NAMES and WHO give at most: half of what may be unsent by the host's default.
pub(super) const MAX_ANSWER: usize = 512 * 1024;
