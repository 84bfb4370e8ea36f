//! The shared state: who is there, and in which channels. It knows no messages.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    channel::{Channel, Membership},
    event::{ChannelId, ClientId},
    user::{Registration, User},
};
use crate::types::{
    mode::{Flags, UserFlag},
    name::{ChannelName, Folded, Nick},
};

/// Users, channels, and the ways to find them. Names are looked up by hash; numbers are kept in order, so that
/// lists come out the same each time and a long one can stop anywhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct World {
    pub(super) unregistered: BTreeMap<ClientId, Registration>,
    pub(super) users: BTreeMap<ClientId, User>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// Whose nickname this is; also those of clients that have not registered.
    #[serde(skip)]
    nicks: HashMap<Folded, ClientId>,
    #[serde(skip)]
    names: HashMap<Folded, ChannelId>,
    last_channel: u64,
    pub(super) operators: u64,
    pub(super) invisible: u64,
    /// The most users there have been at a time.
    pub(super) peak: u64,
}

/// Whether a nickname could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Taken,
    InUse,
}

/// What became of a channel when a member left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others are still there.
    Lives,
    /// That was the last member.
    Empty,
}

impl World {
    /// Makes what is not a part of its state at a swap: the ways to find users and channels.
    pub(super) fn index(&mut self) {
        for user in self.users.values_mut() {
            user.rename(user.nick);
            self.nicks.insert(user.nick.folded(), user.id());
        }
        for client in self.unregistered.values() {
            if let Some(nick) = client.nick {
                self.nicks.insert(nick.folded(), client.link.id);
            }
        }
        for channel in self.channels.values() {
            self.names.insert(channel.name.folded(), channel.id);
        }
    }

    pub(super) fn user(&self, id: ClientId) -> Option<&User> {
        self.users.get(&id)
    }

    pub(super) fn user_named(&self, nick: &[u8]) -> Option<&User> {
        self.users.get(self.nicks.get(&Nick::new(nick)?.folded())?)
    }

    pub(super) fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    pub(super) fn channel_named(&self, name: &[u8]) -> Option<&Channel> {
        self.channels
            .get(self.names.get(&ChannelName::new(name)?.folded())?)
    }

    /// The channel, if this user may know of it.
    pub(super) fn visible_channel(&self, asker: ClientId, name: &[u8]) -> Option<&Channel> {
        self.channel_named(name)
            .filter(|channel| channel.is_visible_to(asker))
    }

    /// The channels that a user is in.
    pub(super) fn channels_of<'w>(&'w self, user: &'w User) -> impl Iterator<Item = &'w Channel> {
        user.channels.iter().filter_map(|id| self.channels.get(id))
    }

    /// The channels that a user may know of, oldest first; of those, what is looked at for one command.
    pub(super) fn visible_channels(&self, asker: ClientId) -> impl Iterator<Item = &Channel> {
        let looked_at = self.channels.values().take(MAX_SCAN);
        looked_at.filter(move |channel| channel.is_visible_to(asker))
    }

    /// The users that are visible to one, in the order in which they came; of those, what is looked at for one command.
    pub(super) fn visible_users<'w>(&'w self, asker: &'w User) -> impl Iterator<Item = &'w User> {
        let looked_at = self.users.values().take(MAX_SCAN);
        looked_at.filter(move |user| self.is_visible(asker, user))
    }

    /// Whether there is more than is looked at for one command.
    pub(super) fn is_large(&self) -> bool {
        self.users.len() > MAX_SCAN || self.channels.len() > MAX_SCAN
    }

    /// Whether one user sees another in lists: not one with mode `i` with whom no channel is shared.
    pub(super) fn is_visible(&self, asker: &User, user: &User) -> bool {
        !user.invisible
            || user.id() == asker.id()
            || self
                .channels_of(user)
                .any(|channel| channel.has_member(asker.id()))
    }

    /// Gives a nickname to a client, which gives up the one it had.
    pub(super) fn claim(&mut self, id: ClientId, old: Option<Nick>, new: Nick) -> Claim {
        match self.nicks.get(&new.folded()) {
            Some(owner) if *owner != id => return Claim::InUse,
            _ => {}
        }
        self.release(old);
        self.nicks.insert(new.folded(), id);
        Claim::Taken
    }

    pub(super) fn release(&mut self, nick: Option<Nick>) {
        if let Some(nick) = nick {
            self.nicks.remove(&nick.folded());
        }
    }

    pub(super) fn insert_user(&mut self, user: User) {
        self.invisible += u64::from(user.invisible);
        self.users.insert(user.id(), user);
        self.peak = self.peak.max(count(self.users.len()));
    }

    /// Removes a user, who must have left all channels.
    pub(super) fn remove_user(&mut self, id: ClientId) -> Option<User> {
        let user = self.users.remove(&id)?;
        self.release(Some(user.nick));
        self.invisible -= u64::from(user.invisible);
        self.operators -= u64::from(user.operator);
        Some(user)
    }

    /// Sets or clears a user's mode; whether that changed anything.
    pub(super) fn set_user_flag(&mut self, id: ClientId, flag: UserFlag, value: bool) -> bool {
        let Some(user) = self.users.get_mut(&id) else {
            return false;
        };
        let slot = match flag {
            UserFlag::Invisible => &mut user.invisible,
            UserFlag::Operator => &mut user.operator,
            UserFlag::Wallops => &mut user.wallops,
        };
        if std::mem::replace(slot, value) == value {
            return false;
        }
        let total = match flag {
            UserFlag::Invisible => &mut self.invisible,
            UserFlag::Operator => &mut self.operators,
            UserFlag::Wallops => return true,
        };
        *total = if value { *total + 1 } else { *total - 1 };
        true
    }

    /// Makes an empty channel, which someone must enter.
    pub(super) fn create_channel(
        &mut self,
        name: ChannelName,
        created: u64,
        flags: Flags,
    ) -> ChannelId {
        self.last_channel += 1;
        let id = ChannelId(self.last_channel);
        self.names.insert(name.folded(), id);
        self.channels
            .insert(id, Channel::new(id, name, created, flags));
        id
    }

    pub(super) fn enter(&mut self, id: ClientId, channel: ChannelId, membership: Membership) {
        let (Some(user), Some(room)) = (self.users.get_mut(&id), self.channels.get_mut(&channel))
        else {
            return;
        };
        user.invites
            .retain(|invitation| invitation.channel != channel);
        user.channels.push(channel);
        room.members.insert(id, membership);
    }

    pub(super) fn leave(&mut self, id: ClientId, channel: ChannelId) -> Left {
        if let Some(user) = self.users.get_mut(&id) {
            user.channels.retain(|c| *c != channel);
        }
        let Some(room) = self.channels.get_mut(&channel) else {
            return Left::Empty;
        };
        room.members.remove(&id);
        if !room.members.is_empty() {
            return Left::Lives;
        }
        self.names.remove(&room.name.folded());
        self.channels.remove(&channel);
        Left::Empty
    }
}

/// A length as the replies count.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// How many users, or channels, one LIST, NAMES or WHO looks at: some 10 ms of work in the sandbox, which has 50 ms for a callback by default.
const MAX_SCAN: usize = 10_000;
