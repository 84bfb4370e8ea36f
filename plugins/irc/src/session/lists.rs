//! Who and what is there ([RFC 2812 sections 3.2.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.5) and 3.2.6): NAMES, LIST.

use super::{
    ClientId, Network,
    channel::Channel,
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
        for name in channels.items() {
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
        let channels = match channels {
            Some(names) => names
                .items()
                .filter_map(|name| self.world.visible_channel(id, name.as_bytes()))
                .collect(),
            None => self.world.visible_channels(id),
        };
        self.out.reply(user.to(), Reply::ListStart);
        for channel in channels {
            if self.out.len() > MAX_ANSWER {
                self.out.reply(
                    user.to(),
                    Reply::TooManyMatches {
                        command: Word::quote(b"LIST"),
                    },
                );
                break;
            }
            let topic = channel
                .topic
                .as_ref()
                .map(|topic| &*topic.text)
                .unwrap_or_default();
            let members = count(channel.members.len());
            self.out.reply(
                user.to(),
                Reply::List {
                    channel: channel.name.as_word(),
                    members,
                    topic: Text::until(topic),
                },
            );
        }
        self.out.reply(user.to(), Reply::ListEnd);
    }

    /// "If no <channel> parameter is given, a list of all channels and their occupants is returned. At the end of this list, a list of users who
    /// are visible but either not on any channel or not on a visible channel are listed as being on `channel` "*""
    /// ([RFC 2812 section 3.2.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.2.5)).
    fn all_names(&mut self, id: ClientId) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let nowhere = Word::STAR;
        for channel in self.world.visible_channels(id) {
            if self.out.len() > MAX_ANSWER {
                self.out.reply(
                    user.to(),
                    Reply::TooManyMatches {
                        command: Word::quote(b"NAMES"),
                    },
                );
                return self
                    .out
                    .reply(user.to(), Reply::EndOfNames { channel: nowhere });
            }
            tell_names(&mut self.out, user, channel, &self.world);
        }
        let others = self.world.visible_users(user).into_iter();
        let others = others.filter(|other| {
            !self
                .world
                .channels_of(other)
                .any(|channel| channel.is_visible_to(id))
        });
        let overhead = self.config.server.len() + user.nick.as_bytes().len();
        for names in pack(overhead, others.map(|other| other.nick.as_bytes().to_vec())) {
            self.out.reply(
                user.to(),
                Reply::NameReply {
                    symbol: nowhere,
                    channel: nowhere,
                    names: Text::until(&names),
                },
            );
        }
        self.out
            .reply(user.to(), Reply::EndOfNames { channel: nowhere });
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

/// "= for others (public channels)", "@ is used for secret channels" (RFC 2812 section 5.1).
pub(super) fn tell_names(out: &mut Outbox, asker: &User, channel: &Channel, world: &World) {
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
