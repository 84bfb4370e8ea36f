//! Channels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    event::{ChannelId, ClientId},
    user::User,
};
use crate::types::{
    mode::{ChannelFlag, Flags},
    name::{ChannelName, Key, Mask},
};

/// A channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: ChannelName,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    pub(super) topic: Option<Topic>,
    pub(super) flags: Flags,
    pub(super) key: Option<Key>,
    pub(super) limit: Option<u32>,
    pub(super) bans: Vec<Ban>,
    /// Ordered, so that NAMES and WHO tell the same order each time.
    pub(super) members: BTreeMap<ClientId, Membership>,
}

/// A topic, and who set it when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) text: Box<[u8]>,
    pub(super) who: Box<[u8]>,
    pub(super) at: u64,
}

/// An entry of the ban list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ban {
    pub(super) mask: Mask,
    pub(super) who: Box<[u8]>,
    pub(super) at: u64,
}

/// What a member is besides a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Membership {
    pub(super) operator: bool,
    pub(super) voice: bool,
}

impl Membership {
    /// The mark before the member's nickname: the higher one, if there are two.
    pub(super) fn symbol(self) -> &'static [u8] {
        match self {
            Self { operator: true, .. } => b"@",
            Self { voice: true, .. } => b"+",
            Self { .. } => b"",
        }
    }
}

impl Channel {
    pub(super) fn new(id: ChannelId, name: ChannelName, created: u64, flags: Flags) -> Self {
        Self {
            id,
            name,
            created,
            topic: None,
            flags,
            key: None,
            limit: None,
            bans: Vec::new(),
            members: BTreeMap::new(),
        }
    }

    pub(super) fn has_member(&self, id: ClientId) -> bool {
        self.members.contains_key(&id)
    }

    pub(super) fn is_operator(&self, id: ClientId) -> bool {
        self.members.get(&id).is_some_and(|member| member.operator)
    }

    /// Whether a user may know of the channel.
    pub(super) fn is_visible_to(&self, id: ClientId) -> bool {
        !self.flags.has(ChannelFlag::Secret) || self.has_member(id)
    }

    pub(super) fn is_banned(&self, user: &User) -> bool {
        self.bans
            .iter()
            .any(|ban| ban.mask.matches(user.prefix().as_bytes()))
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit
            .is_some_and(|limit| self.members.len() >= usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Whether a user may speak here.
    ///
    /// "Servers MUST NOT allow a channel member who is banned from the channel to speak on the channel, unless this member is a channel
    /// operator or has voice privilege" ([RFC 2811 section 4.3.1](https://www.rfc-editor.org/rfc/rfc2811#section-4.3.1)).
    pub(super) fn may_speak(&self, user: &User) -> bool {
        match self.members.get(&user.id()) {
            Some(Membership { operator: true, .. } | Membership { voice: true, .. }) => true,
            None if self.flags.has(ChannelFlag::NoOutside) => false,
            _ => !self.flags.has(ChannelFlag::Moderated) && !self.is_banned(user),
        }
    }

    /// The modes and their parameters, as MODE tells them; the key only to those who know it.
    pub(super) fn modes(&self, asker: ClientId) -> Vec<Vec<u8>> {
        let mut letters = vec![b'+'];
        letters.extend(
            ChannelFlag::ALL
                .into_iter()
                .filter(|flag| self.flags.has(*flag))
                .map(ChannelFlag::letter),
        );
        let mut parameters = Vec::new();
        if let Some(key) = self.key {
            letters.push(b'k');
            parameters.push(if self.has_member(asker) {
                key.as_bytes().to_vec()
            } else {
                b"*".to_vec()
            });
        }
        if let Some(limit) = self.limit {
            letters.push(b'l');
            parameters.push(limit.to_string().into_bytes());
        }
        parameters.insert(0, letters);
        parameters
    }
}
