//! The server about itself ([RFC 2812 section 3.4](https://www.rfc-editor.org/rfc/rfc2812#section-3.4)): the welcome, MOTD, LUSERS, VERSION, TIME, ADMIN,
//! INFO, LINKS.

use super::{
    Network,
    event::{ClientId, Now},
    message::{AWAY_LENGTH, MAX_TARGETS},
    mode::{MAX_BANS, MAX_PARAMETER_MODES},
    outbox::To,
    rooms::{KICK_LENGTH, TOPIC_LENGTH},
    world::count,
};
use crate::types::{
    command::Query,
    name::{ChannelName, Key, UserName, matches},
    reply::Reply,
    text::{Text, Word},
};

impl Network {
    /// 001 to 005: "The server sends Replies 001 to 004 to a user upon successful registration"
    /// ([RFC 2812 section 5.1](https://www.rfc-editor.org/rfc/rfc2812#section-5.1)).
    pub(super) fn welcome(&mut self, id: ClientId) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let (server, version) = (
            Word::quote(self.config.server.as_bytes()),
            Word::quote(VERSION.as_bytes()),
        );
        let network = Word::quote(self.config.network.as_bytes());
        self.out.reply(
            user.to(),
            Reply::Welcome {
                network,
                prefix: user.prefix(),
            },
        );
        self.out
            .reply(user.to(), Reply::YourHost { server, version });
        let started = utc(self.started.seconds());
        self.out.reply(
            user.to(),
            Reply::Created {
                date: Text::until(started.as_bytes()),
            },
        );
        self.out.reply(
            user.to(),
            Reply::MyInfo {
                server,
                version,
                user_modes: Word::quote(b"iow"),
                channel_modes: Word::quote(b"biklmnostv"),
                with_parameter: Word::quote(b"bklov"),
            },
        );
        let to = user.to();
        self.tell_support(to);
    }

    /// Answers a question about the server; 402 if it was put to another.
    pub(super) fn query(&mut self, id: ClientId, query: Query, server: Option<Word<'_>>, now: Now) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let to = user.to();
        if let Some(server) = server.filter(|server| !self.is_this_server(server.as_bytes())) {
            return self.out.reply(to, Reply::NoSuchServer { server });
        }
        let server = Word::quote(self.config.server.as_bytes());
        match query {
            Query::Motd => self.motd(to),
            Query::Lusers => self.lusers(to),
            Query::Version => {
                let comments = Text::until(SERVER_INFO.as_bytes());
                self.out.reply(
                    to,
                    Reply::Version {
                        version: Word::quote(VERSION.as_bytes()),
                        server,
                        comments,
                    },
                );
                self.tell_support(to);
            }
            Query::Time => {
                let time = utc(now.seconds());
                self.out.reply(
                    to,
                    Reply::Time {
                        server,
                        time: Text::until(time.as_bytes()),
                    },
                );
            }
            Query::Admin => match &self.config.admin {
                None => self.out.reply(to, Reply::NoAdminInfo { server }),
                Some([location_1, location_2, email]) => {
                    self.out.reply(to, Reply::AdminMe { server });
                    self.out.reply(
                        to,
                        Reply::AdminLocation1 {
                            text: Text::until(location_1.as_bytes()),
                        },
                    );
                    self.out.reply(
                        to,
                        Reply::AdminLocation2 {
                            text: Text::until(location_2.as_bytes()),
                        },
                    );
                    self.out.reply(
                        to,
                        Reply::AdminEmail {
                            text: Text::until(email.as_bytes()),
                        },
                    );
                }
            },
            Query::Info => {
                let started = format!("On-line since {}", utc(self.started.seconds()));
                for line in [VERSION, SERVER_INFO, started.as_str()] {
                    self.out.reply(
                        to,
                        Reply::Info {
                            text: Text::until(line.as_bytes()),
                        },
                    );
                }
                self.out.reply(to, Reply::EndOfInfo);
            }
        }
    }

    /// LINKS: this server is alone.
    pub(super) fn links(&mut self, id: ClientId, mask: Option<Word<'_>>) {
        let Some(user) = self.world.user(id) else {
            return;
        };
        let server = Word::quote(self.config.server.as_bytes());
        let mask = mask.unwrap_or(Word::STAR);
        if matches(mask.as_bytes(), server.as_bytes()) {
            self.out.reply(
                user.to(),
                Reply::Links {
                    mask: server,
                    server,
                    info: Text::until(SERVER_INFO.as_bytes()),
                },
            );
        }
        self.out.reply(user.to(), Reply::EndOfLinks { mask });
    }

    /// Whether a server parameter means this one: its name, a mask that covers it, or a user, who is on it.
    pub(super) fn is_this_server(&self, name: &[u8]) -> bool {
        matches(name, self.config.server.as_bytes()) || self.world.user_named(name).is_some()
    }

    fn motd(&mut self, to: To) {
        if self.config.motd.is_empty() {
            return self.out.reply(to, Reply::NoMotd);
        }
        self.out.reply(
            to,
            Reply::MotdStart {
                server: Word::quote(self.config.server.as_bytes()),
            },
        );
        for line in &self.config.motd {
            self.out.reply(
                to,
                Reply::Motd {
                    text: Text::until(line.as_bytes()),
                },
            );
        }
        self.out.reply(to, Reply::EndOfMotd);
    }

    /// "When replying, a server MUST send back RPL_LUSERCLIENT and RPL_LUSERME. The other replies are only sent back if a non-zero count is
    /// found for them" ([RFC 2812 section 5.1](https://www.rfc-editor.org/rfc/rfc2812#section-5.1)).
    fn lusers(&mut self, to: To) {
        let world = &self.world;
        let users = count(world.users.len());
        self.out.reply(
            to,
            Reply::LuserClient {
                users: users - world.invisible,
                invisible: world.invisible,
            },
        );
        if world.operators > 0 {
            self.out.reply(
                to,
                Reply::LuserOp {
                    count: world.operators,
                },
            );
        }
        if !world.unregistered.is_empty() {
            self.out.reply(
                to,
                Reply::LuserUnknown {
                    count: count(world.unregistered.len()),
                },
            );
        }
        if !world.channels.is_empty() {
            self.out.reply(
                to,
                Reply::LuserChannels {
                    count: count(world.channels.len()),
                },
            );
        }
        self.out.reply(to, Reply::LuserMe { clients: users });
        self.out.reply(
            to,
            Reply::LocalUsers {
                now: users,
                max: world.peak,
            },
        );
        self.out.reply(
            to,
            Reply::GlobalUsers {
                now: users,
                max: world.peak,
            },
        );
    }

    /// 005, as <https://modern.ircdocs.horse/#rplisupport-parameters> describes it. Every limit that is told is kept.
    fn tell_support(&mut self, to: To) {
        let config = &self.config;
        let tokens = [
            "CASEMAPPING=rfc1459".to_owned(),
            format!("CHANLIMIT=#&:{}", config.channels_per_user),
            "CHANMODES=b,k,l,imnst".to_owned(),
            format!("CHANNELLEN={}", ChannelName::MAX),
            "CHANTYPES=#&".to_owned(),
            "PREFIX=(ov)@+".to_owned(),
            format!("MAXLIST=b:{MAX_BANS}"),
            format!("MODES={MAX_PARAMETER_MODES}"),
            format!("NETWORK={}", config.network),
            format!("NICKLEN={}", config.nick_length),
            format!("USERLEN={}", UserName::MAX),
            format!("AWAYLEN={AWAY_LENGTH}"),
            format!("KEYLEN={}", Key::MAX),
            format!("KICKLEN={KICK_LENGTH}"),
            format!("TOPICLEN={TOPIC_LENGTH}"),
            format!(
                "TARGMAX=JOIN:,KICK:,LIST:,NAMES:{MAX_TARGETS},NOTICE:{MAX_TARGETS},PART:,PRIVMSG:{MAX_TARGETS},WHOIS:{MAX_TARGETS},WHOWAS:{MAX_TARGETS}"
            ),
        ];
        for tokens in tokens.chunks(TOKENS_PER_LINE) {
            let tokens: Vec<_> = tokens
                .iter()
                .map(|token| Word::quote(token.as_bytes()))
                .collect();
            self.out.reply(to, Reply::Isupport { tokens: &tokens });
        }
    }
}

/// A time since 1970 as people read it: `Sun Nov 22 2026 13:40:15 UTC`.
pub(super) fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = WEEKDAYS
        .get(usize::try_from(days % 7).unwrap_or_default())
        .copied()
        .unwrap_or_default();
    // Years that begin in March have the leap day at their end: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let month = MONTHS_FROM_MARCH
        .get(usize::try_from(month).unwrap_or_default())
        .copied()
        .unwrap_or_default();
    format!(
        "{weekday} {month} {day:02} {year} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// What the server is, in words.
pub(super) const SERVER_INFO: &str = "IRC in a sandbox, served by nethost";

const VERSION: &str = concat!("nethost-irc-", env!("CARGO_PKG_VERSION"));

/// A message has 15 parameters: the client's nickname, these, and the text.
const TOKENS_PER_LINE: usize = 13;

/// The first is that of 1970-01-01.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS_FROM_MARCH: [&str; 12] = [
    "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, date) in [
            (0, "Thu Jan 01 1970 00:00:00 UTC"),
            (951_782_399, "Mon Feb 28 2000 23:59:59 UTC"),
            (951_782_400, "Tue Feb 29 2000 00:00:00 UTC"),
            (1_795_354_815, "Sun Nov 22 2026 13:40:15 UTC"),
            (4_107_542_400, "Mon Mar 01 2100 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
