//! A zone as bytes, for the next version of this plugin: it is served from the first moment, and read again from its file meanwhile.

use super::{Index, Node, Set, Zone, wire_at};
use crate::{
    codec::{HASH_START, fold, hash_label},
    types::{Name, RecordType},
};

impl Zone {
    /// Appends the zone.
    pub fn save(&self, out: &mut Vec<u8>) {
        let apex = self.apex.as_wire();
        put(out, apex);
        for number in [self.apex_node, self.records] {
            out.extend(number.to_le_bytes());
        }
        let mut nodes = Vec::with_capacity(self.nodes.len() * NODE);
        for node in &self.nodes {
            for number in [node.parent, node.name, node.sets, node.cut, node.wildcard] {
                nodes.extend(number.to_le_bytes());
            }
            nodes.extend(node.set_count.to_le_bytes());
            nodes.extend([node.labels, node.flags]);
        }
        put(out, &nodes);
        let mut sets = Vec::with_capacity(self.sets.len() * SET);
        for set in &self.sets {
            for number in [set.ttl, set.data, set.length] {
                sets.extend(number.to_le_bytes());
            }
            sets.extend(set.rtype.0.to_le_bytes());
            sets.extend(set.count.to_le_bytes());
        }
        put(out, &sets);
        put(out, &self.data);
    }

    /// Takes a zone from the start of these bytes. None if there is none, or one that cannot be.
    pub fn restore(rest: &mut &[u8]) -> Option<Self> {
        let apex = Name::from_wire(take(rest)?)?;
        let apex_node = number(rest)?;
        let records = number(rest)?;
        let mut nodes = Vec::new();
        let mut bytes = take(rest)?;
        while !bytes.is_empty() {
            let node = Node {
                parent: number(&mut bytes)?,
                name: number(&mut bytes)?,
                sets: number(&mut bytes)?,
                cut: number(&mut bytes)?,
                wildcard: number(&mut bytes)?,
                set_count: half(&mut bytes)?,
                labels: byte(&mut bytes)?,
                flags: byte(&mut bytes)?,
                first: Set::EMPTY,
            };
            // Whoever goes up comes to the root.
            if node.parent as usize >= nodes.len().max(1) {
                return None;
            }
            nodes.push(node);
        }
        let mut sets = Vec::new();
        let mut bytes = take(rest)?;
        while !bytes.is_empty() {
            sets.push(Set {
                ttl: number(&mut bytes)?,
                data: number(&mut bytes)?,
                length: number(&mut bytes)?,
                rtype: RecordType(half(&mut bytes)?),
                count: half(&mut bytes)?,
            });
        }
        for node in &mut nodes {
            let first = sets.get(node.sets as usize).copied();
            node.first = first.filter(|_| node.set_count > 0).unwrap_or(Set::EMPTY);
        }
        let data = take(rest)?.to_vec();
        let mut index = Index::with_capacity(nodes.len());
        let mut hashes: Vec<u64> = Vec::with_capacity(nodes.len());
        for (node, place) in nodes.iter().zip(0..) {
            let wire = wire_at(&data, node.name);
            let length = 1 + usize::from(*wire.first()?);
            let label = wire.get(..length)?.to_ascii_lowercase();
            let hash = match hashes.get(node.parent as usize) {
                Some(above) => hash_label(*above, &label),
                None => HASH_START,
            };
            hashes.push(hash);
            index.insert(fold(hash), place);
        }
        Some(Self {
            apex,
            apex_node,
            nodes,
            sets,
            data,
            index,
            records,
        })
    }
}

/// Appends bytes with their length before them.
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes what [`put`] appended.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

fn half(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_le_bytes(*bytes))
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

/// Bytes of a node and of a set.
const NODE: usize = 24;
const SET: usize = 16;
