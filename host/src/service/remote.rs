//! A service as who administers it sees it: its connections, which are asked for on every worker.

use std::collections::BTreeMap;

use super::{ServiceId, slot::Slot};
use crate::{
    reactor::{CloseReason, ConnectionReport, Id, WorkerHandle},
    service::Service,
};

/// Asks the workers about a service, which may be gone by then.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    id: ServiceId,
    workers: BTreeMap<usize, WorkerHandle>,
}

/// What tells a connection from every other one that the process has, or had. Shown as `3-17`: its instance's holdings, and the connection among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionKey {
    holdings: u64,
    id: u64,
}

/// A connection, and what it tells.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: ConnectionKey,
    pub(crate) worker: usize,
    pub(crate) report: ConnectionReport,
}

/// Some of a service's connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// In the order of their keys.
    pub(crate) connections: Vec<Listed>,
    /// There are more, behind the last of these.
    pub(crate) has_more: bool,
}

impl Service {
    /// Returns what asks the workers about it.
    pub(crate) fn remote(&self) -> Remote {
        Remote {
            id: self.id,
            workers: self.workers.clone(),
        }
    }
}

impl Remote {
    /// Returns the connections that come after this one: at most so many.
    pub(crate) async fn connections(&self, after: Option<ConnectionKey>, most: usize) -> Page {
        let id = self.id;
        let mut page = Page::default();
        for (index, worker) in &self.workers {
            let index = *index;
            let listed = worker.call(move |_, listed| {
                let slot = Slot::find(id);
                // One more, so that it is known whether there are any.
                let found = slot.map(|slot| slot.list(index, after, most.saturating_add(1)));
                // Who waits for it is gone only if it gave up.
                let _gone = listed.send(found.unwrap_or_default());
            });
            page.connections.extend(listed.await.unwrap_or_default());
        }
        page.connections.sort_unstable_by_key(|listed| listed.key);
        page.has_more = page.connections.len() > most;
        page.connections.truncate(most);
        page
    }

    /// Closes a connection, and returns its peer; none if it is not this service's.
    pub(crate) async fn kick(&self, key: ConnectionKey) -> Option<String> {
        let id = self.id;
        for worker in self.workers.values() {
            let kicked = worker.call(move |_, kicked| {
                let peer = Slot::find(id).and_then(|slot| slot.kick(key));
                // Who waits for it is gone only if it gave up.
                let _gone = kicked.send(peer);
            });
            if let Some(peer) = kicked.await.flatten() {
                return Some(peer);
            }
        }
        None
    }
}

impl Slot {
    fn list(&self, worker: usize, after: Option<ConnectionKey>, most: usize) -> Vec<Listed> {
        let all = self.all();
        let mut keys: Vec<_> = all
            .iter()
            .enumerate()
            .flat_map(|(place, running)| {
                let holdings = running.holdings.serial();
                let ids = running.holdings.connection_ids().into_iter();
                ids.map(move |Id(id)| (ConnectionKey { holdings, id }, place))
            })
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .collect();
        if keys.len() > most {
            keys.select_nth_unstable(most);
            keys.truncate(most);
        }
        let listed = keys.into_iter().filter_map(|(key, place)| {
            let connection = all.get(place)?.holdings.connection_of(Id(key.id))?;
            Some(Listed {
                key,
                worker,
                report: connection.report(),
            })
        });
        listed.collect()
    }

    fn kick(&self, key: ConnectionKey) -> Option<String> {
        let all = self.all();
        let mut all = all.iter().map(|running| &running.holdings);
        let holdings = all.find(|holdings| holdings.serial() == key.holdings)?;
        let connection = holdings.connection_of(Id(key.id))?;
        let peer = connection.peer().to_string();
        connection.end(CloseReason::Kicked);
        Some(peer)
    }
}

impl std::fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.holdings, self.id)
    }
}

impl std::str::FromStr for ConnectionKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = text.split_once('-').and_then(|(holdings, id)| {
            let (holdings, id) = (holdings.parse().ok()?, id.parse().ok()?);
            Some(Self { holdings, id })
        });
        key.ok_or("a connection is two numbers, such as 3-17")
    }
}
