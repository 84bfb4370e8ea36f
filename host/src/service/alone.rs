//! Isolation `connection`: the instances of one worker that have one connection each.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use slab::Slab;

use super::{
    pool::{Admission, Place},
    slot::Running,
};
use crate::reactor::CloseReason;

/// Instances that live as long as the connection that they were made for.
#[derive(Debug)]
pub(super) struct Alone {
    admission: Arc<Admission>,
    instances: RefCell<Slab<Running>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct One {
    among: Rc<Alone>,
    key: usize,
    running: Running,
    _place: Place,
}

impl Alone {
    pub(super) fn new(admission: Arc<Admission>) -> Rc<Self> {
        Rc::new(Self {
            admission,
            instances: RefCell::default(),
        })
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns those that live.
    pub(super) fn all(&self) -> Vec<Running> {
        let instances = self.instances.borrow();
        instances
            .iter()
            .map(|(_, running)| running.clone())
            .collect()
    }

    /// Takes one in.
    pub(super) fn keep(self: &Rc<Self>, running: Running, place: Place) -> One {
        let key = self.instances.borrow_mut().insert(running.clone());
        One {
            among: self.clone(),
            key,
            running,
            _place: place,
        }
    }
}

impl One {
    /// Its connection has ended: waits for those that it made itself, and ends it.
    pub(super) async fn outlive(self) {
        self.running.holdings.closed().await;
        self.running.holdings.settled().await;
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.among.instances.borrow_mut().try_remove(self.key);
        // Nobody is left to be told why: this takes the instance from the holdings, so that its memory goes back.
        self.running.holdings.finish(&CloseReason::Trapped);
    }
}
