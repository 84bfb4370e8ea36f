//! Numeric replies.

use super::text::{Text, Word};

/// A numeric reply, without the server's name and the client's that stand before its parameters.
///
/// Beside each is its form; numbers and parameter order are those of [RFC 2812 section 5](https://www.rfc-editor.org/rfc/rfc2812#section-5), and
/// of <https://modern.ircdocs.horse/#numerics> where the RFC has none (265, 266, 317's sign-on time, 329, 333, 341's order, 400, 410, 416, 417, 468, 525,
/// 696).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the form beside each reply explains its fields"
)]
pub enum Reply<'a> {
    /// `001 :Welcome to the <network> Internet Relay Chat Network <prefix>`
    Welcome { network: Word<'a>, prefix: Word<'a> },
    /// `002 :Your host is <server>, running version <version>`
    YourHost { server: Word<'a>, version: Word<'a> },
    /// `003 :This server was created <date>`
    Created { date: Text<'a> },
    /// `004 <server> <version> <user_modes> <channel_modes> <with_parameter>`
    MyInfo {
        server: Word<'a>,
        version: Word<'a>,
        user_modes: Word<'a>,
        channel_modes: Word<'a>,
        with_parameter: Word<'a>,
    },
    /// `005 <tokens> :are supported by this server`
    Isupport { tokens: &'a [Word<'a>] },
    /// `221 <modes>`
    UserModeIs { modes: Word<'a> },
    /// `251 :There are <users> users and <invisible> invisible on 1 servers`
    LuserClient { users: u64, invisible: u64 },
    /// `252 <count> :operator(s) online`
    LuserOp { count: u64 },
    /// `253 <count> :unknown connection(s)`
    LuserUnknown { count: u64 },
    /// `254 <count> :channels formed`
    LuserChannels { count: u64 },
    /// `255 :I have <clients> clients and 1 servers`
    LuserMe { clients: u64 },
    /// `256 <server> :Administrative info`
    AdminMe { server: Word<'a> },
    /// `257 :<text>`
    AdminLocation1 { text: Text<'a> },
    /// `258 :<text>`
    AdminLocation2 { text: Text<'a> },
    /// `259 :<text>`
    AdminEmail { text: Text<'a> },
    /// `265 <now> <max> :Current local users <now>, max <max>`
    LocalUsers { now: u64, max: u64 },
    /// `266 <now> <max> :Current global users <now>, max <max>`
    GlobalUsers { now: u64, max: u64 },
    /// `301 <nick> :<message>`
    Away { nick: Word<'a>, message: Text<'a> },
    /// `302 :<replies>`
    Userhost { replies: Text<'a> },
    /// `303 :<nicks>`
    Ison { nicks: Text<'a> },
    /// `305 :You are no longer marked as being away`
    Unaway,
    /// `306 :You have been marked as being away`
    NowAway,
    /// `311 <nick> <user> <host> * :<real_name>`
    WhoisUser {
        nick: Word<'a>,
        user: Word<'a>,
        host: Word<'a>,
        real_name: Text<'a>,
    },
    /// `312 <nick> <server> :<info>`
    WhoisServer {
        nick: Word<'a>,
        server: Word<'a>,
        info: Text<'a>,
    },
    /// `313 <nick> :is an IRC operator`
    WhoisOperator { nick: Word<'a> },
    /// `314 <nick> <user> <host> * :<real_name>`
    WhowasUser {
        nick: Word<'a>,
        user: Word<'a>,
        host: Word<'a>,
        real_name: Text<'a>,
    },
    /// `315 <mask> :End of WHO list`
    EndOfWho { mask: Word<'a> },
    /// `317 <nick> <idle> <signon> :seconds idle, signon time`
    WhoisIdle {
        nick: Word<'a>,
        idle: u64,
        signon: u64,
    },
    /// `318 <nicks> :End of WHOIS list`
    EndOfWhois { nicks: Word<'a> },
    /// `319 <nick> :<channels>`
    WhoisChannels { nick: Word<'a>, channels: Text<'a> },
    /// `321 Channel :Users  Name`
    ListStart,
    /// `322 <channel> <members> :<topic>`
    List {
        channel: Word<'a>,
        members: u64,
        topic: Text<'a>,
    },
    /// `323 :End of LIST`
    ListEnd,
    /// `324 <channel> <modes>`
    ChannelModeIs {
        channel: Word<'a>,
        modes: &'a [Word<'a>],
    },
    /// `329 <channel> <time>`
    CreationTime { channel: Word<'a>, time: u64 },
    /// `331 <channel> :No topic is set`
    NoTopic { channel: Word<'a> },
    /// `332 <channel> :<topic>`
    Topic { channel: Word<'a>, topic: Text<'a> },
    /// `333 <channel> <who> <time>`
    TopicWhoTime {
        channel: Word<'a>,
        who: Word<'a>,
        time: u64,
    },
    /// `341 <nick> <channel>`
    Inviting { nick: Word<'a>, channel: Word<'a> },
    /// `351 <version> <server> :<comments>`
    Version {
        version: Word<'a>,
        server: Word<'a>,
        comments: Text<'a>,
    },
    /// `352 <channel> <user> <host> <server> <nick> <flags> :0 <real_name>`
    WhoReply {
        channel: Word<'a>,
        user: Word<'a>,
        host: Word<'a>,
        server: Word<'a>,
        nick: Word<'a>,
        flags: Word<'a>,
        real_name: Text<'a>,
    },
    /// `353 <symbol> <channel> :<names>`
    NameReply {
        symbol: Word<'a>,
        channel: Word<'a>,
        names: Text<'a>,
    },
    /// `364 <mask> <server> :0 <info>`
    Links {
        mask: Word<'a>,
        server: Word<'a>,
        info: Text<'a>,
    },
    /// `365 <mask> :End of LINKS list`
    EndOfLinks { mask: Word<'a> },
    /// `366 <channel> :End of NAMES list`
    EndOfNames { channel: Word<'a> },
    /// `367 <channel> <mask> <who> <time>`
    BanList {
        channel: Word<'a>,
        mask: Word<'a>,
        who: Word<'a>,
        time: u64,
    },
    /// `368 <channel> :End of channel ban list`
    EndOfBanList { channel: Word<'a> },
    /// `369 <nick> :End of WHOWAS`
    EndOfWhowas { nick: Word<'a> },
    /// `371 :<text>`
    Info { text: Text<'a> },
    /// `372 :- <text>`
    Motd { text: Text<'a> },
    /// `374 :End of INFO list`
    EndOfInfo,
    /// `375 :- <server> Message of the day - `
    MotdStart { server: Word<'a> },
    /// `376 :End of MOTD command`
    EndOfMotd,
    /// `381 :You are now an IRC operator`
    YoureOper,
    /// `391 <server> :<time>`
    Time { server: Word<'a>, time: Text<'a> },
    /// `400 <command> :<reason>`
    UnknownError { command: Word<'a>, reason: Text<'a> },
    /// `401 <name> :No such nick/channel`
    NoSuchNick { name: Word<'a> },
    /// `402 <server> :No such server`
    NoSuchServer { server: Word<'a> },
    /// `403 <channel> :No such channel`
    NoSuchChannel { channel: Word<'a> },
    /// `404 <channel> :Cannot send to channel`
    CannotSendToChan { channel: Word<'a> },
    /// `405 <channel> :You have joined too many channels`
    TooManyChannels { channel: Word<'a> },
    /// `406 <nick> :There was no such nickname`
    WasNoSuchNick { nick: Word<'a> },
    /// `407 <target> :Too many targets; nothing was done for this one and those after it`
    TooManyTargets { target: Word<'a> },
    /// `409 :No origin specified`
    NoOrigin,
    /// `410 <subcommand> :Invalid CAP command`
    InvalidCapCmd { subcommand: Word<'a> },
    /// `411 :No recipient given (<command>)`
    NoRecipient { command: Word<'a> },
    /// `412 :No text to send`
    NoTextToSend,
    /// `416 <command> :Output too large, truncated`
    TooManyMatches { command: Word<'a> },
    /// `417 :Input line was too long`
    InputTooLong,
    /// `421 <command> :Unknown command`
    UnknownCommand { command: Word<'a> },
    /// `422 :MOTD File is missing`
    NoMotd,
    /// `423 <server> :No administrative info available`
    NoAdminInfo { server: Word<'a> },
    /// `431 :No nickname given`
    NoNicknameGiven,
    /// `432 <nick> :Erroneous nickname`
    ErroneousNickname { nick: Word<'a> },
    /// `433 <nick> :Nickname is already in use`
    NicknameInUse { nick: Word<'a> },
    /// `441 <nick> <channel> :They aren't on that channel`
    UserNotInChannel { nick: Word<'a>, channel: Word<'a> },
    /// `442 <channel> :You're not on that channel`
    NotOnChannel { channel: Word<'a> },
    /// `443 <nick> <channel> :is already on channel`
    UserOnChannel { nick: Word<'a>, channel: Word<'a> },
    /// `445 :SUMMON has been disabled`
    SummonDisabled,
    /// `446 :USERS has been disabled`
    UsersDisabled,
    /// `451 :You have not registered`
    NotRegistered,
    /// `461 <command> :Not enough parameters`
    NeedMoreParams { command: Word<'a> },
    /// `462 :You may not reregister`
    AlreadyRegistered,
    /// `464 :Password incorrect`
    PasswdMismatch,
    /// `467 <channel> :Channel key already set`
    KeySet { channel: Word<'a> },
    /// `468 :Your user name is not valid`
    InvalidUsername,
    /// `471 <channel> :Cannot join channel (+l)`
    ChannelIsFull { channel: Word<'a> },
    /// `472 <letter> :is unknown mode char to me for <channel>`
    UnknownMode { letter: Word<'a>, channel: Word<'a> },
    /// `473 <channel> :Cannot join channel (+i)`
    InviteOnlyChan { channel: Word<'a> },
    /// `474 <channel> :Cannot join channel (+b)`
    BannedFromChan { channel: Word<'a> },
    /// `475 <channel> :Cannot join channel (+k)`
    BadChannelKey { channel: Word<'a> },
    /// `476 <channel> :Bad Channel Mask`
    BadChanMask { channel: Word<'a> },
    /// `478 <channel> <mask> :Channel list is full`
    BanListFull { channel: Word<'a>, mask: Word<'a> },
    /// `481 :Permission Denied- You're not an IRC operator`
    NoPrivileges,
    /// `482 <channel> :You're not channel operator`
    ChanOpPrivsNeeded { channel: Word<'a> },
    /// `483 :You can't kill a server!`
    CantKillServer,
    /// `491 :No O-lines for your host`
    NoOperHost,
    /// `501 :Unknown MODE flag`
    UmodeUnknownFlag,
    /// `502 :Cannot change mode for other users`
    UsersDontMatch,
    /// `525 <channel> :Key is not well-formed`
    InvalidKey { channel: Word<'a> },
    /// `696 <target> <letter> <parameter> :<reason>`
    InvalidModeParam {
        target: Word<'a>,
        letter: Word<'a>,
        parameter: Word<'a>,
        reason: Text<'a>,
    },
}

/// The server's side of [capability negotiation](https://ircv3.net/specs/extensions/capability-negotiation). This server has none to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapReply<'a> {
    /// `CAP <nick> LS :`
    Ls,
    /// `CAP <nick> LIST :`
    List,
    /// `CAP <nick> NAK :<names>`
    Nak(Text<'a>),
}
