//! Isolation `connection`: the instances of one worker that have one connection each.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
};

use slab::Slab;

use super::{
    pool::{Admission, Place},
    slot::Running,
};
use crate::{
    instance::Instance,
    metrics::plugin::{Gauges, Snapshot, Succession, Table},
    reactor::{CloseReason, Holdings},
};

/// Instances that live as long as the connection that they were made for.
#[derive(Debug)]
pub(super) struct Alone {
    admission: RefCell<Arc<Admission>>,
    instances: RefCell<Slab<(Running, Place)>>,
    /// What versions of before count, as long as they have instances.
    earlier: RefCell<Vec<Rc<Table>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct One {
    among: Rc<Alone>,
    key: usize,
    holdings: Rc<Holdings>,
}

impl Alone {
    pub(super) fn new(admission: Arc<Admission>) -> Rc<Self> {
        Rc::new(Self {
            admission: RefCell::new(admission),
            instances: RefCell::default(),
            earlier: RefCell::default(),
        })
    }

    pub(super) fn admission(&self) -> Arc<Admission> {
        self.admission.borrow().clone()
    }

    /// Another version has another pool.
    pub(super) fn admit_by(&self, admission: Arc<Admission>) {
        self.admission.replace(admission);
    }

    pub(super) fn has(&self, holdings: &Rc<Holdings>) -> bool {
        let instances = self.instances.borrow();
        let mut instances = instances.iter();
        instances.any(|(_, (running, _))| Rc::ptr_eq(&running.holdings, holdings))
    }

    /// Notes which instance has these holdings now, and returns the place of the one before.
    pub(super) fn rebind(
        &self,
        holdings: &Rc<Holdings>,
        instance: Weak<Instance>,
        place: Place,
    ) -> Option<Place> {
        let mut instances = self.instances.borrow_mut();
        let mut instances = instances.iter_mut();
        let is_it = |(_, (running, _)): &(usize, &mut (Running, Place))| {
            Rc::ptr_eq(&running.holdings, holdings)
        };
        let (_, (running, taken)) = instances.find(is_it)?;
        running.instance = instance;
        Some(std::mem::replace(taken, place))
    }

    /// The version before counts again; what the one since has counted is told as long as it has instances.
    pub(super) fn reinstate(&self, table: &Rc<Table>, since: Rc<Table>) {
        let mut earlier = self.earlier.borrow_mut();
        earlier.retain(|it| !Rc::ptr_eq(it, table));
        earlier.push(since);
    }

    /// Returns those that live.
    pub(super) fn all(&self) -> Vec<Running> {
        let instances = self.instances.borrow();
        let running = instances.iter().map(|(_, (running, _))| running);
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
            key: self.instances.borrow_mut().insert((running, place)),
            holdings,
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
        let gone = self.among.instances.borrow_mut().try_remove(self.key);
        drop(gone);
        // Nobody is left to be told why: this takes the instance from the holdings, so that its memory goes back.
        self.holdings.finish(&CloseReason::Trapped);
    }
}
