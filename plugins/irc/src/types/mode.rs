//! Modes of users and channels.

use serde::{Deserialize, Serialize};

use super::{
    name::{Key, Mask, Nick},
    text::Text,
};

/// Whether a mode is set or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    /// `+`
    Set,
    /// `-`
    Clear,
}

impl Sign {
    /// The sign as it is written.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Set => b'+',
            Self::Clear => b'-',
        }
    }
}

/// A mode of a channel that is on or off ([RFC 2811 section 4.2](https://www.rfc-editor.org/rfc/rfc2811#section-4.2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelFlag {
    /// `i`: one joins only when invited.
    InviteOnly,
    /// `m`: only members with `o` or `v` may speak.
    Moderated,
    /// `n`: only members may speak.
    NoOutside,
    /// `s`: outsiders do not learn that the channel exists.
    Secret,
    /// `t`: only operators set the topic.
    TopicLocked,
}

impl ChannelFlag {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::InviteOnly,
        Self::Moderated,
        Self::NoOutside,
        Self::Secret,
        Self::TopicLocked,
    ];

    /// The letter.
    pub fn letter(self) -> u8 {
        match self {
            Self::InviteOnly => b'i',
            Self::Moderated => b'm',
            Self::NoOutside => b'n',
            Self::Secret => b's',
            Self::TopicLocked => b't',
        }
    }

    /// The flag with this letter.
    pub fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.letter() == letter)
    }
}

/// What a member of a channel may do more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// `o`, shown as `@`.
    Operator,
    /// `v`, shown as `+`.
    Voice,
}

impl Privilege {
    /// The letter.
    pub fn letter(self) -> u8 {
        match self {
            Self::Operator => b'o',
            Self::Voice => b'v',
        }
    }
}

/// One change that a MODE command asks of a channel, or tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelChange<'a> {
    /// `+i`, `-m` and so on.
    Flag(Sign, ChannelFlag),
    /// `+o nick`, `-v nick`.
    Privilege(Sign, Privilege, Nick),
    /// `+k key`.
    SetKey(Key),
    /// `-k`; the key that clients send with it does not matter.
    ClearKey,
    /// `+l number`.
    SetLimit(u32),
    /// `-l`.
    ClearLimit,
    /// `+b mask`, `-b mask`.
    Ban(Sign, Mask),
    /// `b` without a mask: asks for the list.
    BanList,
    /// A letter that is no mode.
    Unknown(u8),
    /// A mode whose parameter is missing.
    Incomplete(Sign, u8),
    /// A mode whose parameter cannot be: the letter and what was sent.
    Unfit(Sign, u8, Text<'a>),
}

/// A mode of a user ([RFC 2812 section 3.1.5](https://www.rfc-editor.org/rfc/rfc2812#section-3.1.5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserFlag {
    /// `i`: strangers do not find the user in lists.
    Invisible,
    /// `o`: the user is an operator of the server.
    Operator,
    /// `w`: the user gets WALLOPS.
    Wallops,
}

impl UserFlag {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Invisible, Self::Operator, Self::Wallops];

    /// The letter.
    pub fn letter(self) -> u8 {
        match self {
            Self::Invisible => b'i',
            Self::Operator => b'o',
            Self::Wallops => b'w',
        }
    }

    /// The flag with this letter.
    pub fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.letter() == letter)
    }
}

/// One change that a MODE command asks of a user, or tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// `+i`, `-w` and so on.
    Flag(Sign, UserFlag),
    /// A letter that is no mode.
    Unknown(u8),
}

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags(u8);

impl Flags {
    /// Whether a flag of a channel is set.
    pub fn has(self, flag: ChannelFlag) -> bool {
        self.0 & Self::bit(flag) != 0
    }

    /// Sets or clears a flag of a channel; whether that changed anything.
    pub fn apply(&mut self, sign: Sign, flag: ChannelFlag) -> bool {
        let before = self.0;
        match sign {
            Sign::Set => self.0 |= Self::bit(flag),
            Sign::Clear => self.0 &= !Self::bit(flag),
        }
        self.0 != before
    }

    fn bit(flag: ChannelFlag) -> u8 {
        match flag {
            ChannelFlag::InviteOnly => 1,
            ChannelFlag::Moderated => 2,
            ChannelFlag::NoOutside => 4,
            ChannelFlag::Secret => 8,
            ChannelFlag::TopicLocked => 16,
        }
    }
}
