//! Who was here.

use std::collections::VecDeque;

use super::{event::Now, user::User};
use crate::types::name::{Folded, Host, Nick, UserName};

/// The last users who left or took another nickname.
#[derive(Debug, Default)]
pub(super) struct Whowas {
    entries: VecDeque<Entry>,
}

/// A user as they were.
#[derive(Debug)]
pub(super) struct Entry {
    key: Folded,
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
            key: user.nick.folded(),
            nick: user.nick,
            name: user.name,
            host: user.link.host.clone(),
            real_name: user.real_name.clone(),
            at: now.seconds(),
        });
    }

    /// Those who had a nickname, the latest first.
    pub(super) fn find(&self, nick: &[u8]) -> impl Iterator<Item = &Entry> {
        let key = Nick::new(nick).map(|nick| nick.folded());
        self.entries
            .iter()
            .filter(move |entry| Some(entry.key) == key)
    }
}

/// How many are remembered. All are looked through for a WHOWAS.
const MAX_ENTRIES: usize = 512;
