//! Isolation `connection`: the instances of one worker that have one connection each.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use slab::Slab;

use super::{
    pool::{Admission, Place},
    slot::Running,
};
use crate::{
    metrics::plugin::{Gauges, Snapshot, Succession, Table},
    reactor::{CloseReason, Holdings},
};

/// Instances that live as long as the connection that they were made for.
#[derive(Debug)]
pub(super) struct Alone {
    admission: Arc<Admission>,
    instances: RefCell<Slab<Running>>,
    /// What versions of before count, as long as they have instances.
    earlier: RefCell<Vec<Rc<Table>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct One {
    among: Rc<Alone>,
    key: usize,
    holdings: Rc<Holdings>,
    _place: Place,
}

impl Alone {
    pub(super) fn new(admission: Arc<Admission>) -> Rc<Self> {
        Rc::new(Self {
            admission,
            instances: RefCell::default(),
            earlier: RefCell::default(),
        })
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns those that live.
    pub(super) fn all(&self) -> Vec<Running> {
        let instances = self.instances.borrow();
        let running = instances.iter().map(|(_, running)| running);
        running.cloned().collect()
    }

    /// A new version counts for itself; instances of the one before go on with this.
    pub(super) fn retire(&self, table: Rc<Table>) {
        self.earlier.borrow_mut().push(table);
    }

    /// Returns what versions of before have counted. Of one that has no instance any more it goes to the current one.
    pub(super) fn earlier(&self, current: &Table, gauges: Gauges) -> Vec<Snapshot> {
        let mut earlier = self.earlier.borrow_mut();
        earlier.retain(|table| {
            let is_counting = Rc::strong_count(table) > 1;
            if !is_counting {
                current.succeed(table, Succession::Replaced);
            }
            is_counting
        });
        earlier.iter().map(|table| table.snapshot(gauges)).collect()
    }

    /// Takes one in.
    pub(super) fn keep(self: &Rc<Self>, running: Running, place: Place) -> One {
        let holdings = running.holdings.clone();
        One {
            among: self.clone(),
            key: self.instances.borrow_mut().insert(running),
            holdings,
            _place: place,
        }
    }
}

impl One {
    pub(super) fn holdings(&self) -> &Rc<Holdings> {
        &self.holdings
    }

    /// Its connection has ended: waits for those that it made itself, and ends it.
    pub(super) async fn outlive(self) {
        self.holdings.closed().await;
        self.holdings.settled().await;
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.among.instances.borrow_mut().try_remove(self.key);
        // Nobody is left to be told why: this takes the instance from the holdings, so that its memory goes back.
        self.holdings.finish(&CloseReason::Trapped);
    }
}
