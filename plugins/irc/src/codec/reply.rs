//! Encoding of numeric replies: the table from [`Reply`] to bytes.

use super::encode::{Line, decimal};
use crate::types::{
    command::Verb,
    reply::{CapReply, Reply},
    text::Word,
};

/// Appends a reply from this server to a client, cut to the length of a message.
pub fn encode_reply(out: &mut Vec<u8>, server: Word<'_>, to: Word<'_>, reply: &Reply<'_>) {
    let line = Line::new(out).prefix(server);
    let line = match reply {
        Reply::Welcome { network, prefix } => line.numeric(*b"001", to).text(&[
            b"Welcome to the ",
            network.as_bytes(),
            b" Internet Relay Chat Network ",
            prefix.as_bytes(),
        ]),
        Reply::YourHost { server, version } => line.numeric(*b"002", to).text(&[
            b"Your host is ",
            server.as_bytes(),
            b", running version ",
            version.as_bytes(),
        ]),
        Reply::Created { date } => line
            .numeric(*b"003", to)
            .text(&[b"This server was created ", date.as_bytes()]),
        Reply::MyInfo {
            server,
            version,
            user_modes,
            channel_modes,
            with_parameter,
        } => line
            .numeric(*b"004", to)
            .word(*server)
            .word(*version)
            .word(*user_modes)
            .word(*channel_modes)
            .word(*with_parameter),
        Reply::Isupport { tokens } => line
            .numeric(*b"005", to)
            .tokens(tokens)
            .text(&[b"are supported by this server"]),
        Reply::UserModeIs { modes } => line.numeric(*b"221", to).word(*modes),
        Reply::LuserClient { users, invisible } => line.numeric(*b"251", to).text(&[
            b"There are ",
            &decimal(*users),
            b" users and ",
            &decimal(*invisible),
            b" invisible on 1 servers",
        ]),
        Reply::LuserOp { count } => line
            .numeric(*b"252", to)
            .number(*count)
            .text(&[b"operator(s) online"]),
        Reply::LuserUnknown { count } => line
            .numeric(*b"253", to)
            .number(*count)
            .text(&[b"unknown connection(s)"]),
        Reply::LuserChannels { count } => line
            .numeric(*b"254", to)
            .number(*count)
            .text(&[b"channels formed"]),
        Reply::LuserMe { clients } => line.numeric(*b"255", to).text(&[
            b"I have ",
            &decimal(*clients),
            b" clients and 1 servers",
        ]),
        Reply::AdminMe { server } => line
            .numeric(*b"256", to)
            .word(*server)
            .text(&[b"Administrative info"]),
        Reply::AdminLocation1 { text } => line.numeric(*b"257", to).text(&[text.as_bytes()]),
        Reply::AdminLocation2 { text } => line.numeric(*b"258", to).text(&[text.as_bytes()]),
        Reply::AdminEmail { text } => line.numeric(*b"259", to).text(&[text.as_bytes()]),
        Reply::LocalUsers { now, max } => {
            line.numeric(*b"265", to).number(*now).number(*max).text(&[
                b"Current local users ",
                &decimal(*now),
                b", max ",
                &decimal(*max),
            ])
        }
        Reply::GlobalUsers { now, max } => {
            line.numeric(*b"266", to).number(*now).number(*max).text(&[
                b"Current global users ",
                &decimal(*now),
                b", max ",
                &decimal(*max),
            ])
        }
        Reply::Away { nick, message } => line
            .numeric(*b"301", to)
            .word(*nick)
            .text(&[message.as_bytes()]),
        Reply::Userhost { replies } => line.numeric(*b"302", to).text(&[replies.as_bytes()]),
        Reply::Ison { nicks } => line.numeric(*b"303", to).text(&[nicks.as_bytes()]),
        Reply::Unaway => line
            .numeric(*b"305", to)
            .text(&[b"You are no longer marked as being away"]),
        Reply::NowAway => line
            .numeric(*b"306", to)
            .text(&[b"You have been marked as being away"]),
        Reply::WhoisUser {
            nick,
            user,
            host,
            real_name,
        } => line
            .numeric(*b"311", to)
            .word(*nick)
            .word(*user)
            .word(*host)
            .word(Word::STAR)
            .text(&[real_name.as_bytes()]),
        Reply::WhoisServer { nick, server, info } => line
            .numeric(*b"312", to)
            .word(*nick)
            .word(*server)
            .text(&[info.as_bytes()]),
        Reply::WhoisOperator { nick } => line
            .numeric(*b"313", to)
            .word(*nick)
            .text(&[b"is an IRC operator"]),
        Reply::WhowasUser {
            nick,
            user,
            host,
            real_name,
        } => line
            .numeric(*b"314", to)
            .word(*nick)
            .word(*user)
            .word(*host)
            .word(Word::STAR)
            .text(&[real_name.as_bytes()]),
        Reply::EndOfWho { mask } => line
            .numeric(*b"315", to)
            .word(*mask)
            .text(&[b"End of WHO list"]),
        Reply::WhoisIdle { nick, idle, signon } => line
            .numeric(*b"317", to)
            .word(*nick)
            .number(*idle)
            .number(*signon)
            .text(&[b"seconds idle, signon time"]),
        Reply::EndOfWhois { nicks } => line
            .numeric(*b"318", to)
            .word(*nicks)
            .text(&[b"End of WHOIS list"]),
        Reply::WhoisChannels { nick, channels } => line
            .numeric(*b"319", to)
            .word(*nick)
            .text(&[channels.as_bytes()]),
        Reply::ListStart => line
            .numeric(*b"321", to)
            .word(Word::quote(b"Channel"))
            .text(&[b"Users  Name"]),
        Reply::List {
            channel,
            members,
            topic,
        } => line
            .numeric(*b"322", to)
            .word(*channel)
            .number(*members)
            .text(&[topic.as_bytes()]),
        Reply::ListEnd => line.numeric(*b"323", to).text(&[b"End of LIST"]),
        Reply::ChannelModeIs { channel, modes } => {
            line.numeric(*b"324", to).word(*channel).tokens(modes)
        }
        Reply::CreationTime { channel, time } => {
            line.numeric(*b"329", to).word(*channel).number(*time)
        }
        Reply::NoTopic { channel } => line
            .numeric(*b"331", to)
            .word(*channel)
            .text(&[b"No topic is set"]),
        Reply::Topic { channel, topic } => line
            .numeric(*b"332", to)
            .word(*channel)
            .text(&[topic.as_bytes()]),
        Reply::TopicWhoTime { channel, who, time } => line
            .numeric(*b"333", to)
            .word(*channel)
            .word(*who)
            .number(*time),
        Reply::Inviting { nick, channel } => line.numeric(*b"341", to).word(*nick).word(*channel),
        Reply::Version {
            version,
            server,
            comments,
        } => line
            .numeric(*b"351", to)
            .word(*version)
            .word(*server)
            .text(&[comments.as_bytes()]),
        Reply::WhoReply {
            channel,
            user,
            host,
            server,
            nick,
            flags,
            real_name,
        } => line
            .numeric(*b"352", to)
            .word(*channel)
            .word(*user)
            .word(*host)
            .word(*server)
            .word(*nick)
            .word(*flags)
            .text(&[b"0 ", real_name.as_bytes()]),
        Reply::NameReply {
            symbol,
            channel,
            names,
        } => line
            .numeric(*b"353", to)
            .word(*symbol)
            .word(*channel)
            .text(&[names.as_bytes()]),
        Reply::Links { mask, server, info } => line
            .numeric(*b"364", to)
            .word(*mask)
            .word(*server)
            .text(&[b"0 ", info.as_bytes()]),
        Reply::EndOfLinks { mask } => line
            .numeric(*b"365", to)
            .word(*mask)
            .text(&[b"End of LINKS list"]),
        Reply::EndOfNames { channel } => line
            .numeric(*b"366", to)
            .word(*channel)
            .text(&[b"End of NAMES list"]),
        Reply::BanList {
            channel,
            mask,
            who,
            time,
        } => line
            .numeric(*b"367", to)
            .word(*channel)
            .word(*mask)
            .word(*who)
            .number(*time),
        Reply::EndOfBanList { channel } => line
            .numeric(*b"368", to)
            .word(*channel)
            .text(&[b"End of channel ban list"]),
        Reply::EndOfWhowas { nick } => line
            .numeric(*b"369", to)
            .word(*nick)
            .text(&[b"End of WHOWAS"]),
        Reply::Info { text } => line.numeric(*b"371", to).text(&[text.as_bytes()]),
        Reply::Motd { text } => line.numeric(*b"372", to).text(&[b"- ", text.as_bytes()]),
        Reply::EndOfInfo => line.numeric(*b"374", to).text(&[b"End of INFO list"]),
        Reply::MotdStart { server } => {
            line.numeric(*b"375", to)
                .text(&[b"- ", server.as_bytes(), b" Message of the day - "])
        }
        Reply::EndOfMotd => line.numeric(*b"376", to).text(&[b"End of MOTD command"]),
        Reply::YoureOper => line
            .numeric(*b"381", to)
            .text(&[b"You are now an IRC operator"]),
        Reply::Time { server, time } => line
            .numeric(*b"391", to)
            .word(*server)
            .text(&[time.as_bytes()]),
        Reply::UnknownError { command, reason } => line
            .numeric(*b"400", to)
            .word(*command)
            .text(&[reason.as_bytes()]),
        Reply::NoSuchNick { name } => line
            .numeric(*b"401", to)
            .word(*name)
            .text(&[b"No such nick/channel"]),
        Reply::NoSuchServer { server } => line
            .numeric(*b"402", to)
            .word(*server)
            .text(&[b"No such server"]),
        Reply::NoSuchChannel { channel } => line
            .numeric(*b"403", to)
            .word(*channel)
            .text(&[b"No such channel"]),
        Reply::CannotSendToChan { channel } => line
            .numeric(*b"404", to)
            .word(*channel)
            .text(&[b"Cannot send to channel"]),
        Reply::TooManyChannels { channel } => line
            .numeric(*b"405", to)
            .word(*channel)
            .text(&[b"You have joined too many channels"]),
        Reply::WasNoSuchNick { nick } => line
            .numeric(*b"406", to)
            .word(*nick)
            .text(&[b"There was no such nickname"]),
        Reply::TooManyTargets { target } => line
            .numeric(*b"407", to)
            .word(*target)
            .text(&[b"Too many targets; nothing was done for this one and those after it"]),
        Reply::NoOrigin => line.numeric(*b"409", to).text(&[b"No origin specified"]),
        Reply::InvalidCapCmd { subcommand } => line
            .numeric(*b"410", to)
            .word(*subcommand)
            .text(&[b"Invalid CAP command"]),
        Reply::NoRecipient { command } => {
            line.numeric(*b"411", to)
                .text(&[b"No recipient given (", command.as_bytes(), b")"])
        }
        Reply::NoTextToSend => line.numeric(*b"412", to).text(&[b"No text to send"]),
        Reply::TooManyMatches { command } => line
            .numeric(*b"416", to)
            .word(*command)
            .text(&[b"Output too large, truncated"]),
        Reply::InputTooLong => line
            .numeric(*b"417", to)
            .text(&[b"Input line was too long"]),
        Reply::UnknownCommand { command } => line
            .numeric(*b"421", to)
            .word(*command)
            .text(&[b"Unknown command"]),
        Reply::NoMotd => line.numeric(*b"422", to).text(&[b"MOTD File is missing"]),
        Reply::NoAdminInfo { server } => line
            .numeric(*b"423", to)
            .word(*server)
            .text(&[b"No administrative info available"]),
        Reply::NoNicknameGiven => line.numeric(*b"431", to).text(&[b"No nickname given"]),
        Reply::ErroneousNickname { nick } => line
            .numeric(*b"432", to)
            .word(*nick)
            .text(&[b"Erroneous nickname"]),
        Reply::NicknameInUse { nick } => line
            .numeric(*b"433", to)
            .word(*nick)
            .text(&[b"Nickname is already in use"]),
        Reply::UserNotInChannel { nick, channel } => line
            .numeric(*b"441", to)
            .word(*nick)
            .word(*channel)
            .text(&[b"They aren't on that channel"]),
        Reply::NotOnChannel { channel } => line
            .numeric(*b"442", to)
            .word(*channel)
            .text(&[b"You're not on that channel"]),
        Reply::UserOnChannel { nick, channel } => line
            .numeric(*b"443", to)
            .word(*nick)
            .word(*channel)
            .text(&[b"is already on channel"]),
        Reply::SummonDisabled => line
            .numeric(*b"445", to)
            .text(&[b"SUMMON has been disabled"]),
        Reply::UsersDisabled => line
            .numeric(*b"446", to)
            .text(&[b"USERS has been disabled"]),
        Reply::NotRegistered => line
            .numeric(*b"451", to)
            .text(&[b"You have not registered"]),
        Reply::NeedMoreParams { command } => line
            .numeric(*b"461", to)
            .word(*command)
            .text(&[b"Not enough parameters"]),
        Reply::AlreadyRegistered => line.numeric(*b"462", to).text(&[b"You may not reregister"]),
        Reply::PasswdMismatch => line.numeric(*b"464", to).text(&[b"Password incorrect"]),
        Reply::KeySet { channel } => line
            .numeric(*b"467", to)
            .word(*channel)
            .text(&[b"Channel key already set"]),
        Reply::InvalidUsername => line
            .numeric(*b"468", to)
            .text(&[b"Your user name is not valid"]),
        Reply::ChannelIsFull { channel } => line
            .numeric(*b"471", to)
            .word(*channel)
            .text(&[b"Cannot join channel (+l)"]),
        Reply::UnknownMode { letter, channel } => line
            .numeric(*b"472", to)
            .word(*letter)
            .text(&[b"is unknown mode char to me for ", channel.as_bytes()]),
        Reply::InviteOnlyChan { channel } => line
            .numeric(*b"473", to)
            .word(*channel)
            .text(&[b"Cannot join channel (+i)"]),
        Reply::BannedFromChan { channel } => line
            .numeric(*b"474", to)
            .word(*channel)
            .text(&[b"Cannot join channel (+b)"]),
        Reply::BadChannelKey { channel } => line
            .numeric(*b"475", to)
            .word(*channel)
            .text(&[b"Cannot join channel (+k)"]),
        Reply::BadChanMask { channel } => line
            .numeric(*b"476", to)
            .word(*channel)
            .text(&[b"Bad Channel Mask"]),
        Reply::BanListFull { channel, mask } => line
            .numeric(*b"478", to)
            .word(*channel)
            .word(*mask)
            .text(&[b"Channel list is full"]),
        Reply::NoPrivileges => line
            .numeric(*b"481", to)
            .text(&[b"Permission Denied- You're not an IRC operator"]),
        Reply::ChanOpPrivsNeeded { channel } => line
            .numeric(*b"482", to)
            .word(*channel)
            .text(&[b"You're not channel operator"]),
        Reply::CantKillServer => line
            .numeric(*b"483", to)
            .text(&[b"You can't kill a server!"]),
        Reply::NoOperHost => line
            .numeric(*b"491", to)
            .text(&[b"No O-lines for your host"]),
        Reply::UmodeUnknownFlag => line.numeric(*b"501", to).text(&[b"Unknown MODE flag"]),
        Reply::UsersDontMatch => line
            .numeric(*b"502", to)
            .text(&[b"Cannot change mode for other users"]),
        Reply::InvalidKey { channel } => line
            .numeric(*b"525", to)
            .word(*channel)
            .text(&[b"Key is not well-formed"]),
        Reply::InvalidModeParam {
            target,
            letter,
            parameter,
            reason,
        } => line
            .numeric(*b"696", to)
            .word(*target)
            .word(*letter)
            .word(*parameter)
            .text(&[reason.as_bytes()]),
    };
    line.finish();
}

/// Appends an answer to CAP.
pub fn encode_cap_reply(out: &mut Vec<u8>, server: Word<'_>, to: Word<'_>, reply: &CapReply<'_>) {
    let line = Line::new(out).prefix(server).verb(Verb::Cap).word(to);
    let line = match reply {
        CapReply::Ls => line.word(Word::quote(b"LS")).text(&[]),
        CapReply::List => line.word(Word::quote(b"LIST")).text(&[]),
        CapReply::Nak(names) => line.word(Word::quote(b"NAK")).text(&[names.as_bytes()]),
    };
    line.finish();
}
