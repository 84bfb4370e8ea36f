//! Zones, as they are served: compact, built once, never changed.
//!
//! Every name that a zone speaks of is a node with a number: its owners, the names between them, and the names in the data of records. A node knows the one above
//! it, so a name is compressed by going up until a number is in the message already. Sets of records lie in one piece of memory, those without names as
//! they will be in messages. Nothing is sorted: a hash of each suffix of a question finds a name with one look per label. What DNSSEC proofs will need
//! (the order of names) can be added beside.

mod answer;
mod build;
mod saved;
mod transfer;

pub use answer::{Found, Outcome};
pub use build::{Builder, Fault};
pub(crate) use saved::{put, take};
pub use transfer::Transfer;

use crate::{
    codec::{Question, Section, Writer},
    types::{Name, RecordType},
};

/// A zone.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    apex_node: u32,
    nodes: Vec<Node>,
    sets: Vec<Set>,
    /// For each node its name in wire form, in the case that it was first seen in, and the data of its sets right behind it: what one answer needs is in one place.
    data: Vec<u8>,
    index: Index,
    records: u32,
}

/// A name.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The node above; the root's is itself. Always a lower number.
    parent: u32,
    /// Where its name is in the data.
    name: u32,
    /// The first of its sets.
    sets: u32,
    set_count: u16,
    /// Labels, without the root's.
    labels: u8,
    flags: u8,
    /// The node at or above it where another zone, or a DNAME, begins; [`NONE`] without one.
    cut: u32,
    /// The child `*`; [`NONE`] without one.
    wildcard: u32,
    /// The first of its sets once more, as most have no other: a look at the list of sets less. Of no records without one.
    first: Set,
}

/// The zone has this name: an owner, or above one. A node without it is in the data of records only.
const EXISTS: u8 = 1;
/// It is the apex, or below it.
const WITHIN: u8 = 2;
/// Its `cut` is a DNAME above it, and not another zone.
const RENAMED: u8 = 4;

/// The records of one name and type.
#[derive(Clone, Copy, Debug)]
struct Set {
    rtype: RecordType,
    count: u16,
    ttl: u32,
    data: u32,
    length: u32,
}

impl Set {
    /// No records.
    const EMPTY: Self = Self {
        rtype: RecordType(0),
        count: 0,
        ttl: 0,
        data: 0,
        length: 0,
    };
}

/// Where the owner of a set's records is in the message.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// There, and every record points to it.
    At(u16),
    /// There, at the end of the message: the first record follows it, and the others point to it.
    Written(u16),
}

impl Owner {
    /// What the next record points to; none if the name before it is its own.
    fn take(&mut self) -> Option<u16> {
        match *self {
            Self::At(place) => Some(place),
            Self::Written(place) => {
                *self = Self::At(place);
                None
            }
        }
    }
}

/// How the records of a type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they are sent, with an owner that is a pointer to the question.
    Whole,
    /// A node's number (NS, CNAME, PTR).
    Name,
    /// A preference and a node's number.
    Mx,
    /// Two nodes' numbers and five numbers.
    Soa,
    /// A node's number, for the addresses to add, and the data with their length before them; so many bytes of those are before the name (SRV, SVCB, HTTPS).
    Target(usize),
}

impl Form {
    fn of(rtype: RecordType) -> Self {
        match rtype {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => Self::Name,
            RecordType::MX => Self::Mx,
            RecordType::SOA => Self::Soa,
            RecordType::SRV => Self::Target(6),
            RecordType::SVCB | RecordType::HTTPS => Self::Target(2),
            _ => Self::Whole,
        }
    }
}

/// No node.
const NONE: u32 = u32::MAX;

const ROOT: u32 = 0;

impl Zone {
    /// The zone's name.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// How many records it has.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.sets.as_slice())
            + size_of_val(self.index.slots.as_slice())
            + self.data.len()
    }

    /// The serial number of its SOA.
    pub fn serial(&self) -> u32 {
        let numbers = self.soa().and_then(|soa| self.data_of(soa).get(8..12));
        let serial = numbers.and_then(|serial| serial.try_into().ok());
        u32::from_be_bytes(serial.unwrap_or_default())
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn sets_of(&self, node: &Node) -> &[Set] {
        let start = node.sets as usize;
        self.sets
            .get(start..start + usize::from(node.set_count))
            .unwrap_or_default()
    }

    fn set<'a>(&'a self, node: &'a Node, rtype: RecordType) -> Option<&'a Set> {
        if node.set_count < 2 {
            return Some(&node.first).filter(|set| set.count > 0 && set.rtype == rtype);
        }
        self.sets_of(node).iter().find(|set| set.rtype == rtype)
    }

    fn soa(&self) -> Option<&Set> {
        self.set(self.node(self.apex_node)?, RecordType::SOA)
    }

    fn data_of(&self, set: &Set) -> &[u8] {
        let start = set.data as usize;
        self.data
            .get(start..start + set.length as usize)
            .unwrap_or_default()
    }

    /// A name in wire form.
    fn wire(&self, node: &Node) -> &[u8] {
        wire_at(&self.data, node.name)
    }

    /// The name with this number, however deep: the node that exists and has it, or none.
    fn find(&self, question: &Question, labels: usize) -> Option<u32> {
        let number = self.index.find(question.hash(labels), |number| {
            self.node(number).is_some_and(|node| {
                usize::from(node.labels) == labels
                    && self
                        .wire(node)
                        .eq_ignore_ascii_case(question.suffix(labels))
            })
        })?;
        let exists = self.node(number)?.flags & EXISTS != 0;
        exists.then_some(number)
    }

    /// Writes the records of a set with this TTL (of [`Form::Whole`] it is the set's own).
    fn put_set(
        &self,
        out: &mut Writer,
        section: Section,
        set: &Set,
        owner: Owner,
        ttl: u32,
    ) -> Option<()> {
        let data = self.data_of(set);
        let mut owner = owner;
        match Form::of(set.rtype) {
            Form::Whole => {
                let (place, start) = match owner {
                    Owner::At(place) => {
                        let start = out.len();
                        out.put_records(section, data, set.count)?;
                        (place, start)
                    }
                    Owner::Written(place) => {
                        let start = out.len().checked_sub(2)?;
                        out.put_records(section, data.get(2..)?, set.count)?;
                        (place, start)
                    }
                };
                if place != QUESTION_NAME {
                    let mut at = 0;
                    for index in 0..set.count {
                        if index > 0 || matches!(owner, Owner::At(_)) {
                            out.patch(start + at, 0xc000 | place);
                        }
                        at += whole_length(data.get(at..)?)?;
                    }
                }
            }
            Form::Name => {
                for number in data.chunks_exact(4) {
                    let record = out.begin_record(owner.take(), set.rtype, ttl)?;
                    self.put_name(out, node_number(number))?;
                    out.end_record(section, record)?;
                }
            }
            Form::Mx => {
                for mx in data.chunks_exact(6) {
                    let (preference, number) = mx.split_at_checked(2)?;
                    let record = out.begin_record(owner.take(), set.rtype, ttl)?;
                    out.put(preference)?;
                    self.put_name(out, node_number(number))?;
                    out.end_record(section, record)?;
                }
            }
            Form::Soa => {
                let (names, numbers) = data.split_at_checked(8)?;
                let record = out.begin_record(owner.take(), set.rtype, ttl)?;
                for number in names.chunks_exact(4) {
                    self.put_name(out, node_number(number))?;
                }
                out.put(numbers)?;
                out.end_record(section, record)?;
            }
            Form::Target(before) => {
                let mut rest = data;
                while let Some((number, data, after)) = next_target(rest) {
                    let record = out.begin_record(owner.take(), set.rtype, ttl)?;
                    // The name is not compressed, but can be pointed to.
                    out.hint(number, out.len() + before);
                    out.put(data)?;
                    out.end_record(section, record)?;
                    rest = after;
                }
            }
        }
        Some(())
    }

    /// Writes a name, or as much of it as is not in the message yet.
    fn put_name(&self, out: &mut Writer, number: u32) -> Option<()> {
        let mut number = number;
        loop {
            if number == ROOT {
                return out.put(&[0]);
            }
            if let Some(offset) = out.offset_of(number) {
                return out.put(&(0xc000 | offset).to_be_bytes());
            }
            let node = self.node(number)?;
            out.hint(number, out.len());
            let wire = self.wire(node);
            let length = 1 + usize::from(*wire.first()?);
            out.put(wire.get(..length)?)?;
            number = node.parent;
        }
    }

    /// Where the name is in the message, for an owner; none if it is not there.
    fn place(&self, out: &Writer, number: u32) -> Option<u16> {
        out.offset_of(number)
    }

    /// As [`put_set`](Self::put_set), all or nothing; the owner is at this place in the message.
    fn try_set(&self, out: &mut Writer, section: Section, set: &Set, owner: u16) -> Option<()> {
        let mark = out.mark();
        let done = self.put_set(out, section, set, Owner::At(owner), set.ttl);
        if done.is_none() {
            out.undo(mark);
        }
        done
    }

    /// The nodes that a set's records name, for which addresses are added.
    fn targets<'a>(&'a self, set: &Set) -> impl Iterator<Item = u32> + use<'a> {
        let form = Form::of(set.rtype);
        let mut rest = self.data_of(set);
        let wanted =
            form == Form::Mx || matches!(form, Form::Target(_)) || set.rtype == RecordType::NS;
        std::iter::from_fn(move || {
            if !wanted {
                return None;
            }
            let (number, after) = match form {
                Form::Name => (rest.get(..4)?, rest.get(4..)?),
                Form::Mx => (rest.get(2..6)?, rest.get(6..)?),
                Form::Target(_) => {
                    let (number, _, after) = next_target(rest)?;
                    rest = after;
                    return Some(number);
                }
                Form::Soa | Form::Whole => return None,
            };
            rest = after;
            Some(node_number(number))
        })
    }
}

/// A table of nodes by the hashes of their names: open addressing, at most half full.
#[derive(Debug, Default)]
struct Index {
    /// The hash above, the node's number and one below; 0 is free.
    slots: Vec<u64>,
    used: usize,
}

impl Index {
    fn with_capacity(names: usize) -> Self {
        let slots = (names * 2).next_power_of_two().max(16);
        Self {
            slots: vec![0; slots],
            used: 0,
        }
    }

    fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return None;
            }
            let number = (slot as u32).wrapping_sub(1);
            if (slot >> 32) as u32 == hash && is_it(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, hash: u32, number: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            let slots = vec![0; (self.slots.len() * 2).max(16)];
            for slot in std::mem::replace(&mut self.slots, slots) {
                if slot != 0 {
                    self.place(slot);
                }
            }
        }
        self.used += 1;
        self.place(u64::from(hash) << 32 | u64::from(number + 1));
    }

    fn place(&mut self, slot: u64) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = (slot >> 32) as usize & mask;
        while self.slots.get(at).is_some_and(|other| *other != 0) {
            at = (at + 1) & mask;
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = slot;
        }
    }
}

/// The name that begins there, with the root's label.
fn wire_at(names: &[u8], start: u32) -> &[u8] {
    let rest = names.get(start as usize..).unwrap_or_default();
    let mut at = 0;
    while let Some(length) = rest.get(at) {
        at += 1 + usize::from(*length);
        if *length == 0 {
            break;
        }
    }
    rest.get(..at).unwrap_or_default()
}

fn node_number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(NONE, u32::from_be_bytes)
}

/// The length of the record in [`Form::Whole`] that begins here.
fn whole_length(record: &[u8]) -> Option<usize> {
    let length = record.get(10..12)?.try_into().ok()?;
    Some(12 + usize::from(u16::from_be_bytes(length)))
}

/// The first record in [`Form::Target`]: its target, its data, and what is behind it.
fn next_target(rest: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (data, rest) = rest.split_at_checked(length)?;
    Some((u32::from_be_bytes(*number), data, rest))
}

/// Where the name of the question is in every message.
const QUESTION_NAME: u16 = crate::codec::HEADER as u16;

#[cfg(test)]
mod tests;
