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
    instances: RefCell<Slab<(Running, Option<Rc<Table>>)>>,
    /// Where what they counted goes when they end.
    remains: Rc<RefCell<Option<Rc<Table>>>>,
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
    pub(super) fn new(
        admission: Arc<Admission>,
        remains: Rc<RefCell<Option<Rc<Table>>>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            admission,
            instances: RefCell::default(),
            remains,
        })
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns those that live.
    pub(super) fn all(&self) -> Vec<Running> {
        let instances = self.instances.borrow();
        let running = instances.iter().map(|(_, (running, _))| running);
        running.cloned().collect()
    }

    /// Returns what each of them has counted up to now.
    pub(super) fn snapshots(&self) -> Vec<Snapshot> {
        let instances = self.instances.borrow();
        let tables = instances
            .iter()
            .filter_map(|(_, (_, table))| table.as_ref());
        tables.map(|table| table.snapshot(Gauges::True)).collect()
    }

    /// Takes one in.
    pub(super) fn keep(self: &Rc<Self>, running: Running, place: Place) -> One {
        let holdings = running.holdings.clone();
        // It outlives an instance that breaks.
        let table = running.instance.upgrade().map(|it| it.table().clone());
        One {
            among: self.clone(),
            key: self.instances.borrow_mut().insert((running, table)),
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
        let ended = self.among.instances.borrow_mut().try_remove(self.key);
        if let (Some((_, Some(table))), Some(remains)) = (ended, &*self.among.remains.borrow()) {
            remains.succeed(&table, Succession::Replaced);
        }
        // Nobody is left to be told why: this takes the instance from the holdings, so that its memory goes back.
        self.holdings.finish(&CloseReason::Trapped);
    }
}
