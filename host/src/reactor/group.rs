//! Groups: one write reaches many connections, and its bytes are held once.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::Bytes;

use super::{connection::Connection, handler::Id};

/// A set of connections of one worker.
#[derive(Debug, Default)]
pub struct Group {
    members: RefCell<Members>,
}

/// Whether a connection may be added to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It is a member.
    Admitted,
    /// The instance has as many memberships as it may have.
    Full,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Rc<Connection>>,
    position: HashMap<Id, usize>,
}

impl Group {
    /// Adds a connection; does nothing if it is a member, or lost. Returns whether the instance may have another membership.
    pub fn add(self: &Rc<Self>, connection: &Rc<Connection>) -> Admission {
        if connection.is_lost() {
            return Admission::Admitted;
        }
        let members = &mut *self.members.borrow_mut();
        let position = members.list.len();
        if let std::collections::hash_map::Entry::Vacant(entry) =
            members.position.entry(connection.id())
        {
            if !connection.admit_membership() {
                return Admission::Full;
            }
            entry.insert(position);
            members.list.push(connection.clone());
            connection.joined(self);
        }
        Admission::Admitted
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
        members.list.swap_remove(position).left_group();
        if let Some(moved) = members.list.get(position) {
            members.position.insert(moved.id(), position);
        }
        true
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let members = std::mem::take(&mut self.members.get_mut().list);
        for member in members {
            member.left_group();
            member.left(self);
        }
    }
}
