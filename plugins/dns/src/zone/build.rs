//! From records to a zone.

use super::{EXISTS, Form, Index, NONE, Node, RENAMED, ROOT, Set, WITHIN, Zone, wire_at};
use crate::{
    codec::{HASH_START, fold, hash_label},
    types::{Class, Name, RecordType},
    zonefile::Record,
};

/// A zone in the making. It takes records in any order, and is finished in pieces, so that queries are answered meanwhile.
#[derive(Debug)]
pub struct Builder {
    zone: Zone,
    /// The nodes' names in wire form: where they are until all are finished.
    names: Vec<u8>,
    /// Where the names of the nodes that are finished are in the zone's data.
    places: Vec<u32>,
    /// The first and last record of each node, as numbers in `records`.
    chains: Vec<(u32, u32)>,
    records: Vec<Pending>,
    data: Vec<u8>,
    /// The node of the last record: most have the same owner as the one before, or one beside it.
    last: Option<(Name, u32)>,
    /// How many nodes are finished.
    finished: u32,
}

/// A record that waits for the others of its set.
#[derive(Clone, Copy, Debug)]
struct Pending {
    next: u32,
    line: u32,
    ttl: u32,
    start: u32,
    length: u16,
    rtype: RecordType,
}

/// What records say that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record of another zone.
    #[error("{0} is not in the zone")]
    Outside(String),
    /// No SOA.
    #[error("the zone has no SOA record")]
    NoSoa,
    /// More than one SOA, or one below the apex.
    #[error("a second SOA record, or one that is not at the zone's name")]
    StraySoa,
    /// No name server.
    #[error("the zone's name has no NS record")]
    NoNs,
    /// A CNAME beside other data ([RFC 2181 section 10.1](https://www.rfc-editor.org/rfc/rfc2181#section-10.1)).
    #[error("{0} has a CNAME record and other records")]
    CnameAndOther(String),
    /// More than one CNAME or DNAME of a name.
    #[error("{0} has more than one {1} record")]
    Several(String, RecordType),
    /// More than a zone here can have.
    #[error(
        "too large: the records of one name and type are longer than a message, or the zone has more than 4 GiB"
    )]
    TooLarge,
}

impl Builder {
    /// Begins a zone; `records` is how many there will be, more or less.
    pub fn new(apex: Name, records: usize) -> Self {
        let mut builder = Self {
            zone: Zone {
                apex,
                apex_node: ROOT,
                nodes: Vec::new(),
                sets: Vec::new(),
                data: Vec::new(),
                index: Index::with_capacity(records.min(MOST_EXPECTED)),
                records: 0,
            },
            names: Vec::new(),
            places: Vec::new(),
            chains: Vec::new(),
            records: Vec::new(),
            data: Vec::new(),
            last: None,
            finished: 0,
        };
        builder.push(ROOT, &[0], 0, HASH_START);
        let apex_node = builder.intern(apex.as_wire());
        builder.zone.apex_node = apex_node.unwrap_or(ROOT);
        if let Some(node) = builder.zone.nodes.get_mut(builder.zone.apex_node as usize) {
            node.flags |= EXISTS | WITHIN;
        }
        builder
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        let node = match &self.last {
            Some((name, node)) if name.as_wire() == record.owner.as_wire() => *node,
            _ => {
                let node = self.intern(record.owner.as_wire()).ok_or(Fault::TooLarge)?;
                self.own(node, record.owner)?;
                self.last = Some((*record.owner, node));
                node
            }
        };
        if record.rtype == RecordType::SOA && node != self.zone.apex_node {
            return Err(Fault::StraySoa);
        }
        let number = u32::try_from(self.records.len()).map_err(|_| Fault::TooLarge)?;
        let start = u32::try_from(self.data.len()).map_err(|_| Fault::TooLarge)?;
        self.data.extend_from_slice(record.data);
        self.records.push(Pending {
            next: NONE,
            line: record.line,
            ttl: record.ttl,
            start,
            length: u16::try_from(record.data.len()).map_err(|_| Fault::TooLarge)?,
            rtype: record.rtype,
        });
        if let Some((first, last)) = self.chains.get_mut(node as usize) {
            match self.records.get_mut(*last as usize) {
                Some(before) => before.next = number,
                None => *first = number,
            }
            *last = number;
        }
        Ok(())
    }

    /// Does a part of what is left when all records were added, some thousand names. None if there is more to do. A fault comes with the line of a record.
    pub fn finish_some(&mut self) -> Result<Option<Zone>, (u32, Fault)> {
        let mut pending = Vec::new();
        for _ in 0..AT_ONCE {
            if self.finished as usize >= self.chains.len() {
                return self.end().map(Some);
            }
            self.finish_node(self.finished, &mut pending)?;
            self.finished += 1;
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Zone, (u32, Fault)> {
        let apex = self.zone.node(self.zone.apex_node);
        let has = |rtype| apex.is_some_and(|apex| self.zone.set(apex, rtype).is_some());
        if !has(RecordType::SOA) {
            return Err((0, Fault::NoSoa));
        }
        if !has(RecordType::NS) {
            return Err((0, Fault::NoNs));
        }
        let empty = Zone {
            apex: self.zone.apex,
            apex_node: 0,
            nodes: Vec::new(),
            sets: Vec::new(),
            data: Vec::new(),
            index: Index::default(),
            records: 0,
        };
        let mut zone = std::mem::replace(&mut self.zone, empty);
        for (node, place) in zone.nodes.iter_mut().zip(&self.places) {
            node.name = *place;
        }
        zone.nodes.shrink_to_fit();
        zone.sets.shrink_to_fit();
        zone.data.shrink_to_fit();
        Ok(zone)
    }

    /// Makes the sets of a node, and what it needs to know of those above it, which are finished.
    fn finish_node(&mut self, number: u32, pending: &mut Vec<Pending>) -> Result<(), (u32, Fault)> {
        self.chain(number, pending);
        let line = pending.first().map_or(0, |record| record.line);
        self.place_name(number).ok_or((line, Fault::TooLarge))?;
        let first_set = self.zone.sets.len();
        let types = |rtype| pending.iter().filter(move |record| record.rtype == rtype);
        for rtype in [RecordType::CNAME, RecordType::DNAME] {
            if let Some(second) = types(rtype).nth(1) {
                let name = self.shown(number);
                return Err((second.line, Fault::Several(name, rtype)));
            }
        }
        // The proofs of DNSSEC may stand beside a CNAME.
        let beside = |rtype: RecordType| {
            !matches!(
                rtype,
                RecordType::CNAME | RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3
            )
        };
        if types(RecordType::CNAME).next().is_some()
            && let Some(other) = pending.iter().find(|record| beside(record.rtype))
        {
            return Err((other.line, Fault::CnameAndOther(self.shown(number))));
        }
        if let Some(second) = types(RecordType::SOA).nth(1) {
            return Err((second.line, Fault::StraySoa));
        }
        let has_ns = types(RecordType::NS).next().is_some();
        for set in pending.chunk_by(|a, b| a.rtype == b.rtype) {
            let line = set.first().map_or(0, |record| record.line);
            self.make_set(set).ok_or((line, Fault::TooLarge))?;
        }
        let set_count = self.zone.sets.len() - first_set;
        let is_apex = number == self.zone.apex_node;
        let Some(parent) = self.zone.node(number).map(|node| node.parent) else {
            return Ok(());
        };
        let above = self
            .zone
            .node(parent)
            .filter(|_| !is_apex && number != parent);
        let (cut, renamed) = above.map_or((NONE, 0), |above| {
            let own = self.zone.set(above, RecordType::DNAME).is_some();
            if above.cut != NONE {
                (above.cut, above.flags & RENAMED)
            } else if own {
                (parent, RENAMED)
            } else {
                (NONE, 0)
            }
        });
        let flags_above = above.map_or(0, |above| above.flags & WITHIN);
        let is_wildcard = self
            .zone
            .node(number)
            .is_some_and(|node| self.wire(node).starts_with(b"\x01*"));
        let first = self.zone.sets.get(first_set).copied();
        let mut exists = false;
        if let Some(node) = self.zone.nodes.get_mut(number as usize) {
            node.sets = u32::try_from(first_set).map_err(|_| (line, Fault::TooLarge))?;
            node.set_count = u16::try_from(set_count).map_err(|_| (line, Fault::TooLarge))?;
            node.first = first.unwrap_or(Set::EMPTY);
            node.flags |= renamed | flags_above;
            node.cut = if cut == NONE && has_ns && !is_apex {
                number
            } else {
                cut
            };
            exists = node.flags & EXISTS != 0;
        }
        if is_wildcard
            && exists
            && let Some(above) = self.zone.nodes.get_mut(parent as usize)
        {
            above.wildcard = number;
        }
        Ok(())
    }

    /// Puts a node's name where the data of its sets follow.
    fn place_name(&mut self, number: u32) -> Option<()> {
        let place = u32::try_from(self.zone.data.len()).ok()?;
        let name = self.zone.node(number)?.name;
        let wire = wire_at(&self.names, name);
        self.zone.data.extend_from_slice(wire);
        self.places.push(place);
        Some(())
    }

    /// A name in wire form.
    fn wire(&self, node: &Node) -> &[u8] {
        wire_at(&self.names, node.name)
    }

    /// The records of a node: by type, each once, SOA first.
    fn chain(&self, number: u32, pending: &mut Vec<Pending>) {
        pending.clear();
        let (mut at, _) = self
            .chains
            .get(number as usize)
            .copied()
            .unwrap_or((NONE, NONE));
        while let Some(record) = self.records.get(at as usize) {
            pending.push(*record);
            at = record.next;
        }
        if pending.len() < 2 {
            return;
        }
        let data = |record: &Pending| {
            let start = record.start as usize;
            self.data
                .get(start..start + usize::from(record.length))
                .unwrap_or_default()
        };
        // Stable: within a set the file's order stays, but for those that are there twice.
        let same = |a: &Pending, b: &Pending| a.rtype == b.rtype && data(a) == data(b);
        if pending.len() <= FEW {
            let mut kept = 0;
            for index in 0..pending.len() {
                let Some(record) = pending.get(index).copied() else {
                    break;
                };
                let earlier = pending.get(..kept).unwrap_or_default();
                if !earlier.iter().any(|other| same(other, &record)) {
                    if let Some(place) = pending.get_mut(kept) {
                        *place = record;
                    }
                    kept += 1;
                }
            }
            pending.truncate(kept);
        } else {
            pending.sort_by(|a, b| (a.rtype, data(a)).cmp(&(b.rtype, data(b))));
            pending.dedup_by(|a, b| same(a, b));
        }
        pending.sort_by_key(|record| (record.rtype != RecordType::SOA, record.rtype));
    }

    fn make_set(&mut self, records: &[Pending]) -> Option<()> {
        let rtype = records.first()?.rtype;
        let lengths = records.iter().map(|record| 12 + usize::from(record.length));
        if lengths.sum::<usize>() > MAX_SET {
            return None;
        }
        // Those of a set have one TTL (RFC 2181 section 5.2): the lowest is true for all.
        let ttl = records.iter().map(|record| record.ttl).min()?;
        let start = self.zone.data.len();
        for record in records {
            let from = record.start as usize;
            let to = from + usize::from(record.length);
            match Form::of(rtype) {
                Form::Whole => {
                    let [t1, t2] = rtype.0.to_be_bytes();
                    let [c1, c2] = Class::IN.0.to_be_bytes();
                    let out = &mut self.zone.data;
                    out.extend([0xc0, 12, t1, t2, c1, c2]);
                    out.extend(ttl.to_be_bytes());
                    out.extend(record.length.to_be_bytes());
                    out.extend_from_slice(self.data.get(from..to)?);
                }
                Form::Name => {
                    let number = self.intern_data(from, to)?;
                    self.zone.data.extend(number.to_be_bytes());
                }
                Form::Mx => {
                    let number = self.intern_data(from + 2, to)?;
                    let preference = self.data.get(from..from + 2)?;
                    self.zone.data.extend_from_slice(preference);
                    self.zone.data.extend(number.to_be_bytes());
                }
                Form::Soa => {
                    let middle = from + wire_at(self.data.get(from..to)?, 0).len();
                    for name in [(from, middle), (middle, to - 20)] {
                        let number = self.intern_data(name.0, name.1)?;
                        self.zone.data.extend(number.to_be_bytes());
                    }
                    self.zone
                        .data
                        .extend_from_slice(self.data.get(to - 20..to)?);
                }
                Form::Target(before) => {
                    let start = from + before;
                    let length = wire_at(self.data.get(start..to)?, 0).len();
                    let number = self.intern_data(start, start + length)?;
                    let out = &mut self.zone.data;
                    out.extend(number.to_be_bytes());
                    out.extend(record.length.to_be_bytes());
                    out.extend_from_slice(self.data.get(from..to)?);
                }
            }
        }
        let count = u16::try_from(records.len()).ok()?;
        self.zone.records += u32::from(count);
        self.zone.sets.push(Set {
            rtype,
            count,
            ttl,
            data: u32::try_from(start).ok()?,
            length: u32::try_from(self.zone.data.len() - start).ok()?,
        });
        Some(())
    }

    fn intern_data(&mut self, from: usize, to: usize) -> Option<u32> {
        let name = Name::from_wire(self.data.get(from..to)?)?;
        self.intern(name.as_wire())
    }

    /// The node of a name, which is made if there is none, with those above it.
    fn intern(&mut self, wire: &[u8]) -> Option<u32> {
        let mut starts = [0_u8; 128];
        let mut labels = 0;
        let mut at = 0;
        while let Some(length) = wire.get(at).filter(|length| **length != 0) {
            *starts.get_mut(labels)? = u8::try_from(at).ok()?;
            labels += 1;
            at += 1 + usize::from(*length);
        }
        let mut lower = [0; crate::types::MAX_NAME];
        let lower = lower.get_mut(..wire.len())?;
        lower.copy_from_slice(wire);
        lower.make_ascii_lowercase();
        let mut hashes = [HASH_START; 129];
        let mut end = at;
        for depth in 1..=labels {
            let start = usize::from(*starts.get(labels - depth)?);
            let hash = hash_label(*hashes.get(depth - 1)?, lower.get(start..end)?);
            *hashes.get_mut(depth)? = hash;
            end = start;
        }
        // From the whole name up to the first that is there, and down again.
        let mut depth = labels;
        let mut number = ROOT;
        while depth > 0 {
            let start = usize::from(*starts.get(labels - depth)?);
            let found = self.find(*hashes.get(depth)?, wire.get(start..)?, depth);
            if let Some(found) = found {
                number = found;
                break;
            }
            depth -= 1;
        }
        while depth < labels {
            depth += 1;
            let start = usize::from(*starts.get(labels - depth)?);
            let hash = *hashes.get(depth)?;
            number = self.push(number, wire.get(start..)?, depth, hash)?;
        }
        Some(number)
    }

    fn find(&self, hash: u64, wire: &[u8], labels: usize) -> Option<u32> {
        self.zone.index.find(fold(hash), |number| {
            self.zone.node(number).is_some_and(|node| {
                usize::from(node.labels) == labels && self.wire(node).eq_ignore_ascii_case(wire)
            })
        })
    }

    fn push(&mut self, parent: u32, wire: &[u8], labels: usize, hash: u64) -> Option<u32> {
        let number = u32::try_from(self.zone.nodes.len()).ok()?;
        let node = Node {
            parent,
            name: u32::try_from(self.names.len()).ok()?,
            sets: 0,
            set_count: 0,
            labels: u8::try_from(labels).ok()?,
            flags: 0,
            cut: NONE,
            wildcard: NONE,
            first: Set::EMPTY,
        };
        self.names.extend_from_slice(wire);
        self.zone.nodes.push(node);
        self.zone.index.insert(fold(hash), number);
        self.chains.push((NONE, NONE));
        Some(number)
    }

    /// Marks the node of an owner, and those between it and the apex.
    fn own(&mut self, node: u32, owner: &Name) -> Result<(), Fault> {
        if !owner.is_within(&self.zone.apex) {
            return Err(Fault::Outside(owner.to_string()));
        }
        let mut number = node;
        while let Some(node) = self.zone.nodes.get_mut(number as usize) {
            if node.flags & EXISTS != 0 {
                break;
            }
            node.flags |= EXISTS | WITHIN;
            number = node.parent;
        }
        Ok(())
    }

    fn shown(&self, number: u32) -> String {
        let node = self.zone.node(number);
        let name = node.and_then(|node| Name::from_wire(self.wire(node)));
        name.map(|name| name.to_string()).unwrap_or_default()
    }
}

/// Bytes of the records of one name and type: what fits a message beside everything else.
const MAX_SET: usize = 64_000;

/// Names that are finished in one piece: some milliseconds.
const AT_ONCE: usize = 4096;

/// Names for which the table is made large enough from the start.
const MOST_EXPECTED: usize = 1 << 22;

/// Records of a name that are compared one with the other; more are sorted.
const FEW: usize = 16;
