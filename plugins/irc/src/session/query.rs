//! Questions about users ([RFC 2812 section 3.6](https://www.rfc-editor.org/rfc/rfc2812#section-3.6) and 4.8, 4.9): WHO, WHOIS, WHOWAS, ISON, USERHOST.

use super::{
    Network,
    channel::Channel,
    event::{ClientId, Now},
    lists::{MAX_ANSWER, pack},
    message::MAX_TARGETS,
    outbox::Outbox,
    server::{SERVER_INFO, utc},
    user::User,
};
use crate::types::{
    command::WhoFilter,
    name::matches,
    reply::Reply,
    text::{List, Text, Word},
};

impl Network {
    /// WHO of a channel, a nickname, or all who match a mask: "matched against users' host, server, real name and nickname if the channel
    /// &lt;mask&gt; cannot be found" ([RFC 2812 section 3.6.1](https://www.rfc-editor.org/rfc/rfc2812#section-3.6.1)); against the user name, too.
    pub(super) fn who(&mut self, id: ClientId, mask: Option<Word<'_>>, filter: WhoFilter) {
        let Some(asker) = self.world.user(id) else {
            return;
        };
        let asked = mask.unwrap_or(Word::STAR);
        let pattern = match asked.as_bytes() {
            b"0" => b"*",
            bytes => bytes,
        };
        let wanted = |user: &User| filter == WhoFilter::Everybody || user.operator;
        let (world, server) = (&self.world, &self.config.server);
        let mut large = false;
        if let Some(channel) = world.visible_channel(id, pattern) {
            self.out.spend(channel.members.len() / 2);
            let inside = channel.has_member(id);
            for user in channel
                .members
                .keys()
                .filter_map(|member| world.user(*member))
            {
                if (inside || world.is_visible(asker, user))
                    && wanted(user)
                    && self.out.len() <= MAX_ANSWER
                {
                    tell_who(&mut self.out, asker, user, Some(channel), server);
                }
            }
        } else if let Some(user) = world.user_named(pattern) {
            // Who knows the nickname also gets this from WHOIS, so mode `i` does not hide it.
            if wanted(user) {
                let channel = world
                    .channels_of(user)
                    .find(|channel| channel.is_visible_to(id));
                tell_who(&mut self.out, asker, user, channel, server);
            }
        } else {
            self.out.spend(world.users.len());
            for user in world.visible_users(asker).filter(|user| wanted(user)) {
                if is_meant(pattern, user, server) && self.out.len() <= MAX_ANSWER {
                    let channel = world
                        .channels_of(user)
                        .find(|channel| channel.is_visible_to(id));
                    tell_who(&mut self.out, asker, user, channel, server);
                }
            }
            large = world.is_large();
        }
        if large || self.out.len() > MAX_ANSWER {
            let command = Word::quote(b"WHO");
            self.out
                .reply(asker.to(), Reply::TooManyMatches { command });
        }
        self.out.reply(asker.to(), Reply::EndOfWho { mask: asked });
    }

    /// WHOIS. Nicknames only: masks would cost a look at every user.
    pub(super) fn whois(
        &mut self,
        id: ClientId,
        server: Option<Word<'_>>,
        nicks: List<'_>,
        now: Now,
    ) {
        let Some(asker) = self.world.user(id) else {
            return;
        };
        if let Some(server) = server.filter(|server| !self.is_this_server(server.as_bytes())) {
            return self.out.reply(asker.to(), Reply::NoSuchServer { server });
        }
        let to = asker.to();
        for nick in nicks.items().take(MAX_TARGETS) {
            match self.world.user_named(nick.as_bytes()) {
                None => self.out.reply(to, Reply::NoSuchNick { name: nick }),
                Some(_) => self.whois_one(id, nick, now),
            }
        }
        self.out.reply(
            to,
            Reply::EndOfWhois {
                nicks: nicks.as_word(),
            },
        );
    }

    /// WHOWAS.
    pub(super) fn whowas(&mut self, id: ClientId, nicks: List<'_>, limit: Option<u32>) {
        let Some(asker) = self.world.user(id) else {
            return;
        };
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .map_or(MAX_WHOWAS, |limit| limit.min(MAX_WHOWAS));
        for nick in nicks.items().take(MAX_TARGETS) {
            let mut found = false;
            for entry in self.whowas.find(nick.as_bytes()).take(limit) {
                found = true;
                let (who, user, host) = (
                    entry.nick.as_word(),
                    entry.name.as_word(),
                    entry.host.as_word(),
                );
                let real_name = Text::until(&entry.real_name);
                self.out.reply(
                    asker.to(),
                    Reply::WhowasUser {
                        nick: who,
                        user,
                        host,
                        real_name,
                    },
                );
                let at = utc(entry.at);
                let info = Text::until(at.as_bytes());
                self.out.reply(
                    asker.to(),
                    Reply::WhoisServer {
                        nick: who,
                        server: Word::quote(self.config.server.as_bytes()),
                        info,
                    },
                );
            }
            if !found {
                self.out.reply(asker.to(), Reply::WasNoSuchNick { nick });
            }
        }
        self.out.reply(
            asker.to(),
            Reply::EndOfWhowas {
                nick: nicks.as_word(),
            },
        );
    }

    /// ISON.
    pub(super) fn ison(&mut self, id: ClientId, nicks: &[Word<'_>]) {
        let Some(asker) = self.world.user(id) else {
            return;
        };
        let present = nicks
            .iter()
            .filter_map(|nick| self.world.user_named(nick.as_bytes()));
        let overhead = self.config.server.len() + asker.nick.as_bytes().len();
        let mut texts = pack(overhead, present.map(|user| user.nick.as_bytes().to_vec()));
        if texts.is_empty() {
            texts.push(Vec::new());
        }
        for nicks in texts {
            self.out.reply(
                asker.to(),
                Reply::Ison {
                    nicks: Text::until(&nicks),
                },
            );
        }
    }

    /// USERHOST: `reply = nickname [ "*" ] "=" ( "+" / "-" ) hostname`, for up to five.
    pub(super) fn userhost(&mut self, id: ClientId, nicks: &[Word<'_>]) {
        let Some(asker) = self.world.user(id) else {
            return;
        };
        let found = nicks
            .iter()
            .take(5)
            .filter_map(|nick| self.world.user_named(nick.as_bytes()));
        let replies: Vec<_> = found
            .map(|user| {
                let operator: &[u8] = if user.operator { b"*" } else { b"" };
                let here: &[u8] = if user.away.is_some() { b"=-" } else { b"=+" };
                let host = user.link.host.as_word();
                [
                    user.nick.as_bytes(),
                    operator,
                    here,
                    user.name.as_bytes(),
                    b"@",
                    host.as_bytes(),
                ]
                .concat()
            })
            .collect();
        self.out.reply(
            asker.to(),
            Reply::Userhost {
                replies: Text::until(&replies.join(&b' ')),
            },
        );
    }

    fn whois_one(&mut self, id: ClientId, nick: Word<'_>, now: Now) {
        let (Some(asker), Some(user)) =
            (self.world.user(id), self.world.user_named(nick.as_bytes()))
        else {
            return;
        };
        let (to, nick) = (asker.to(), user.nick.as_word());
        let (name, host, real_name) = (
            user.name.as_word(),
            user.link.host.as_word(),
            Text::until(&user.real_name),
        );
        self.out.reply(
            to,
            Reply::WhoisUser {
                nick,
                user: name,
                host,
                real_name,
            },
        );
        let shown = self
            .world
            .channels_of(user)
            .filter(|channel| channel.is_visible_to(id));
        let marked = shown.map(|channel| {
            let symbol = channel
                .members
                .get(&user.id())
                .map(|member| member.symbol())
                .unwrap_or_default();
            [symbol, channel.name.as_bytes()].concat()
        });
        let overhead =
            self.config.server.len() + asker.nick.as_bytes().len() + nick.as_bytes().len();
        for channels in pack(overhead, marked) {
            self.out.reply(
                to,
                Reply::WhoisChannels {
                    nick,
                    channels: Text::until(&channels),
                },
            );
        }
        let server = Word::quote(self.config.server.as_bytes());
        self.out.reply(
            to,
            Reply::WhoisServer {
                nick,
                server,
                info: Text::until(SERVER_INFO.as_bytes()),
            },
        );
        if let Some(away) = &user.away {
            self.out.reply(
                to,
                Reply::Away {
                    nick,
                    message: Text::until(away),
                },
            );
        }
        if user.operator {
            self.out.reply(to, Reply::WhoisOperator { nick });
        }
        let idle = now.monotonic.saturating_sub(user.active).as_secs();
        self.out.reply(
            to,
            Reply::WhoisIdle {
                nick,
                idle,
                signon: user.signon.as_secs(),
            },
        );
    }
}

/// Whether WHO's mask covers a user.
fn is_meant(pattern: &[u8], user: &User, server: &str) -> bool {
    let host = user.link.host.as_word().as_bytes();
    let fields = [
        user.nick.as_bytes(),
        user.name.as_bytes(),
        host,
        server.as_bytes(),
        &user.real_name,
    ];
    fields.into_iter().any(|field| matches(pattern, field))
}

/// `"<channel> <user> <host> <server> <nick> ( "H" / "G" > ["*"] [ ( "@" / "+" ) ] :<hopcount> <real name>"`
fn tell_who(out: &mut Outbox, asker: &User, user: &User, channel: Option<&Channel>, server: &str) {
    let symbol = channel
        .and_then(|channel| channel.members.get(&user.id()))
        .map(|member| member.symbol());
    let here: &[u8] = if user.away.is_some() { b"G" } else { b"H" };
    let operator: &[u8] = if user.operator { b"*" } else { b"" };
    let flags = [here, operator, symbol.unwrap_or_default()].concat();
    out.reply(
        asker.to(),
        Reply::WhoReply {
            channel: channel.map_or(Word::STAR, |channel| channel.name.as_word()),
            user: user.name.as_word(),
            host: user.link.host.as_word(),
            server: Word::quote(server.as_bytes()),
            nick: user.nick.as_word(),
            flags: Word::quote(&flags),
            real_name: Text::until(&user.real_name),
        },
    );
}

/// How many entries WHOWAS tells of one nickname.
const MAX_WHOWAS: usize = 16;
