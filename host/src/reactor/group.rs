//! Groups: one write reaches many connections, and its bytes are held once.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::Bytes;

use super::{connection::Connection, handler::Id};

/// A set of connections of one worker.
#[derive(Debug, Default)]
pub struct Group {
    members: RefCell<Members>,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Rc<Connection>>,
    position: HashMap<Id, usize>,
}

impl Group {
    /// Adds a connection; does nothing if it is a member, or lost.
    pub fn add(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.is_lost() {
            return;
        }
        let members = &mut *self.members.borrow_mut();
        let position = members.list.len();
        if let std::collections::hash_map::Entry::Vacant(entry) =
            members.position.entry(connection.id())
        {
            entry.insert(position);
            members.list.push(connection.clone());
            connection.joined(self);
        }
    }

    /// Removes a connection; does nothing if it is no member.
    pub fn remove(self: &Rc<Self>, connection: &Connection) {
        if self.forget(connection.id()) {
            connection.left(self);
        }
    }

    /// Queues the bytes for every member but `skip`.
    pub fn write(&self, data: Bytes, skip: Option<Id>) {
        for member in &self.members.borrow().list {
            if Some(member.id()) != skip {
                member.write_shared(&data);
            }
        }
    }

    /// Takes a member out without telling it, and returns whether it was one.
    pub(super) fn forget(&self, id: Id) -> bool {
        let members = &mut *self.members.borrow_mut();
        let Some(position) = members.position.remove(&id) else {
            return false;
        };
        members.list.swap_remove(position);
        if let Some(moved) = members.list.get(position) {
            members.position.insert(moved.id(), position);
        }
        true
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in self.members.get_mut().list.drain(..) {
            member.forget_dropped_groups();
        }
    }
}
