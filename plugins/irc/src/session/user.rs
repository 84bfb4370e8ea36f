//! Clients: those that have registered and those that have not yet.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    event::{ChannelId, ClientId},
    outbox::To,
};
use crate::types::{
    command::InitialModes,
    name::{Host, Nick, UserName},
    text::Word,
};

/// What every client has, registered or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) id: ClientId,
    pub(super) host: Host,
    /// When the connection was made.
    pub(super) connected: Duration,
    /// When the last line came.
    pub(super) heard: Duration,
    /// When a PING was sent that nothing has answered.
    pub(super) pinged: Option<Duration>,
    /// When the client is next looked at; its entry among the deadlines.
    pub(super) wake: Duration,
    /// When the token bucket will be full (the bucket as one number).
    pub(super) bucket_full: Duration,
    /// Lines that wait for a token.
    pub(super) backlog: VecDeque<Box<[u8]>>,
    pub(super) backlog_bytes: usize,
}

impl Link {
    pub(super) fn new(id: ClientId, host: Host, now: Duration) -> Self {
        Self {
            id,
            host,
            connected: now,
            heard: now,
            pinged: None,
            wake: now,
            bucket_full: now,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }
}

/// A client that has not registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) link: Link,
    pub(super) password: Option<Box<[u8]>>,
    pub(super) nick: Option<Nick>,
    pub(super) user: Option<(UserName, InitialModes, Box<[u8]>)>,
    pub(super) capabilities: Negotiation,
}

/// Where a client is in capability negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Negotiation {
    /// Not begun, or ended.
    Idle,
    /// Begun by CAP LS or CAP REQ: registration waits for CAP END.
    Open,
}

impl Registration {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            password: None,
            nick: None,
            user: None,
            capabilities: Negotiation::Idle,
        }
    }

    pub(super) fn to(&self) -> To {
        To {
            id: self.link.id,
            nick: self.nick,
        }
    }
}

/// A client that has registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) link: Link,
    pub(super) nick: Nick,
    pub(super) name: UserName,
    pub(super) real_name: Box<[u8]>,
    pub(super) invisible: bool,
    pub(super) operator: bool,
    pub(super) wallops: bool,
    pub(super) away: Option<Box<[u8]>>,
    /// In the order of joining.
    pub(super) channels: Vec<ChannelId>,
    /// Channels that someone invited the user to.
    pub(super) invites: VecDeque<Invitation>,
    /// When the user last said something.
    pub(super) active: Duration,
    /// When the user registered, since 1970.
    pub(super) signon: Duration,
    /// The last relay that reached this user.
    pub(super) mark: u64,
    #[serde(skip)]
    prefix: Box<[u8]>,
}

/// An invitation to a channel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Invitation {
    pub(super) channel: ChannelId,
    pub(super) from: Inviter,
}

/// Who invited; an operator's invitation also goes past a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Inviter {
    Operator,
    Member,
}

impl User {
    pub(super) fn new(
        link: Link,
        nick: Nick,
        name: UserName,
        modes: InitialModes,
        real_name: Box<[u8]>,
        signon: Duration,
    ) -> Self {
        let mut user = Self {
            active: link.heard,
            link,
            nick,
            name,
            real_name,
            invisible: modes.invisible,
            operator: false,
            wallops: modes.wallops,
            away: None,
            channels: Vec::new(),
            invites: VecDeque::new(),
            signon,
            mark: 0,
            prefix: Box::default(),
        };
        user.rename(nick);
        user
    }

    pub(super) fn rename(&mut self, nick: Nick) {
        self.nick = nick;
        let parts = [
            nick.as_bytes(),
            b"!",
            self.name.as_bytes(),
            b"@",
            self.link.host.as_word().as_bytes(),
        ];
        self.prefix = parts.concat().into_boxed_slice();
    }

    pub(super) fn id(&self) -> ClientId {
        self.link.id
    }

    pub(super) fn to(&self) -> To {
        To {
            id: self.link.id,
            nick: Some(self.nick),
        }
    }

    /// `nick!user@host`
    pub(super) fn prefix(&self) -> Word<'_> {
        Word::quote(&self.prefix)
    }

    /// Records an invitation in place of an older one to the same channel; the oldest of too many is forgotten.
    pub(super) fn invite(&mut self, invitation: Invitation) {
        self.invites.retain(|i| i.channel != invitation.channel);
        if self.invites.len() == MAX_INVITES {
            self.invites.pop_front();
        }
        self.invites.push_back(invitation);
    }

    /// The user's modes, as MODE tells them.
    pub(super) fn modes(&self) -> Vec<u8> {
        let letters = [
            (self.invisible, b'i'),
            (self.operator, b'o'),
            (self.wallops, b'w'),
        ];
        let set = letters
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter));
        std::iter::once(b'+').chain(set).collect()
    }
}

/// How many open invitations a user can have.
const MAX_INVITES: usize = 32;
