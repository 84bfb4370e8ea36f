//! Commands, as clients send them and as the server relays them.

use serde::{Deserialize, Serialize};

use super::{
    mode::{ChannelChange, UserChange},
    name::{ChannelName, Nick, UserName},
    text::{List, Text, Word},
};

/// A message: who says it, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The origin: a server's name or `nick!user@host`. Clients leave it out.
    pub prefix: Option<Word<'a>>,
    /// What is said.
    pub command: Command<'a>,
}

/// A command with its parameters.
///
/// The syntax beside each is that of RFC 2812 section 3, where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `PASS <password>`
    Pass(Text<'a>),
    /// `NICK <nickname>`
    Nick(Nick),
    /// `USER <user> <mode> <unused> <realname>`
    User(UserName, InitialModes, Text<'a>),
    /// `CAP <subcommand> [<parameters>]`
    Cap(Cap<'a>),
    /// `OPER <name> <password>`
    Oper(Word<'a>, Text<'a>),
    /// `QUIT [<message>]`
    Quit(Option<Text<'a>>),
    /// `ERROR <message>`
    Error(Text<'a>),
    /// `PING <token>`
    Ping(Text<'a>),
    /// `PONG [<server>] <token>`
    Pong(Option<Word<'a>>, Text<'a>),

    /// `JOIN <channel>{,<channel>} [<key>{,<key>}]`
    Join(List<'a>, Option<List<'a>>),
    /// `JOIN 0`: leaves every channel.
    LeaveAll,
    /// `PART <channel>{,<channel>} [<message>]`
    Part(List<'a>, Option<Text<'a>>),
    /// `MODE <channel> [<modes> [<parameters>]]`; no change asks for the modes.
    ChannelMode(ChannelName, Vec<ChannelChange<'a>>),
    /// `MODE <nickname> [<modes>]`; no change asks for the modes.
    UserMode(Word<'a>, Vec<UserChange>),
    /// `TOPIC <channel> [<topic>]`
    Topic(Word<'a>, Option<Text<'a>>),
    /// `NAMES [<channel>{,<channel>}]`
    Names(Option<List<'a>>),
    /// `LIST [<channel>{,<channel>}]`
    List(Option<List<'a>>),
    /// `INVITE <nickname> <channel>`
    Invite(Word<'a>, Word<'a>),
    /// `KICK <channel>{,<channel>} <user>{,<user>} [<comment>]`
    Kick(List<'a>, List<'a>, Option<Text<'a>>),

    /// `PRIVMSG <target>{,<target>} <text>`
    Privmsg(List<'a>, Text<'a>),
    /// `NOTICE <target>{,<target>} <text>`
    Notice(List<'a>, Text<'a>),
    /// `AWAY [<text>]`; none, or an empty one, is back.
    Away(Option<Text<'a>>),
    /// `WALLOPS <text>`
    Wallops(Text<'a>),
    /// `KILL <nickname> <comment>`
    Kill(Word<'a>, Text<'a>),

    /// `WHO [<mask> [o]]`
    Who(Option<Word<'a>>, WhoFilter),
    /// `WHOIS [<server>] <nickname>{,<nickname>}`
    Whois(Option<Word<'a>>, List<'a>),
    /// `WHOWAS <nickname>{,<nickname>} [<count>]`; no count is all.
    Whowas(List<'a>, Option<u32>),
    /// `ISON <nickname>{ <nickname>}`
    Ison(Vec<Word<'a>>),
    /// `USERHOST <nickname>{ <nickname>}`
    Userhost(Vec<Word<'a>>),

    /// A question about the server, put to this one or the named one.
    Server(Query, Option<Word<'a>>),
    /// `LINKS [[<server>] <mask>]`
    Links(Option<Word<'a>>),
    /// `SUMMON`, `USERS`: known, and switched off.
    Disabled(Verb),
}

/// What USER's second parameter asks for: "bit 2 ... mode 'w' ... bit 3 ... mode 'i'"
/// ([RFC 2812 section 3.1.3](https://www.rfc-editor.org/rfc/rfc2812#section-3.1.3)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialModes {
    /// Whether to set `w`.
    pub wallops: bool,
    /// Whether to set `i`.
    pub invisible: bool,
}

/// A step of [capability negotiation](https://ircv3.net/specs/extensions/capability-negotiation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap<'a> {
    /// `LS [<version>]`: asks what there is, and holds registration.
    Ls,
    /// `LIST`: asks what is switched on.
    List,
    /// `REQ :<names>`: asks to switch on, and holds registration.
    Req(Text<'a>),
    /// `END`: registration goes on.
    End,
    /// No subcommand that a client may send.
    Unknown(Word<'a>),
}

/// Whom WHO shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhoFilter {
    /// Everybody.
    Everybody,
    /// Operators of the server only (`o`).
    Operators,
}

/// Questions about the server, all `<QUERY> [<server>]` or `LUSERS [<mask> [<server>]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// `MOTD`
    Motd,
    /// `LUSERS`
    Lusers,
    /// `VERSION`
    Version,
    /// `TIME`
    Time,
    /// `ADMIN`
    Admin,
    /// `INFO`
    Info,
}

macro_rules! verbs {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// The first word of a command that this server knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Verb {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The verb in upper case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The verb with this name; case does not matter.
            pub fn from_name(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|verb| verb.name().as_bytes().eq_ignore_ascii_case(name))
            }
        }
    };
}

// The most frequent come first: `from_name` compares in this order.
verbs! {
    Privmsg "PRIVMSG", Notice "NOTICE", Ping "PING", Pong "PONG", Join "JOIN", Part "PART", Mode "MODE", Who "WHO", Whois "WHOIS",
    Ison "ISON", Userhost "USERHOST", Topic "TOPIC", Names "NAMES", List "LIST", Away "AWAY", Nick "NICK", User "USER", Pass "PASS",
    Cap "CAP", Quit "QUIT", Kick "KICK", Invite "INVITE", Oper "OPER", Kill "KILL", Wallops "WALLOPS", Whowas "WHOWAS", Motd "MOTD",
    Lusers "LUSERS", Version "VERSION", Time "TIME", Admin "ADMIN", Info "INFO", Links "LINKS", Summon "SUMMON", Users "USERS",
    Error "ERROR",
}
