//! Who was here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{event::Now, user::User};
use crate::types::name::{Folded, Host, Nick, UserName};

/// The last users who left or took another nickname.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Whowas {
    entries: VecDeque<Entry>,
}

/// A user as they were.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(skip, default)]
    key: Option<Folded>,
    pub(super) nick: Nick,
    pub(super) name: UserName,
    pub(super) host: Host,
    pub(super) real_name: Box<[u8]>,
    /// When, in seconds since 1970.
    pub(super) at: u64,
}

impl Whowas {
    pub(super) fn record(&mut self, user: &User, now: Now) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_back();
        }
        self.entries.push_front(Entry {
            key: Some(user.nick.folded()),
            nick: user.nick,
            name: user.name,
            host: user.link.host.clone(),
            real_name: user.real_name.clone(),
            at: now.seconds(),
        });
    }

    /// Makes what is not a part of its state at a swap.
    pub(super) fn index(&mut self) {
        for entry in &mut self.entries {
            entry.key = Some(entry.nick.folded());
        }
    }

    /// Those who had a nickname, the latest first.
    pub(super) fn find(&self, nick: &[u8]) -> impl Iterator<Item = &Entry> {
        let key = Nick::new(nick).map(|nick| nick.folded());
        let known = key.is_some();
        self.entries
            .iter()
            .filter(move |entry| known && entry.key == key)
    }
}

/// How many are remembered. All are looked through for a WHOWAS.
const MAX_ENTRIES: usize = 512;
