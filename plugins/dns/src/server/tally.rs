//! What was asked and answered, for the operator's monitoring.

use crate::types::{Rcode, RecordType};

/// Counts by type and code, until they are told: to tell each answer would cost more than to make it.
#[derive(Debug)]
pub struct Tally {
    counts: Box<[[u64; RCODES]; TYPES.len() + 1]>,
    dirty: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: Box::new([[0; RCODES]; TYPES.len() + 1]),
            dirty: false,
        }
    }
}

impl Tally {
    pub(super) fn count(&mut self, rtype: RecordType, rcode: Rcode) {
        let row = TYPES.iter().position(|other| *other == rtype);
        let row = self.counts.get_mut(row.unwrap_or(TYPES.len()));
        if let Some(count) = row.and_then(|row| row.get_mut(usize::from(rcode.0))) {
            *count += 1;
            self.dirty = true;
        }
    }

    pub(super) fn poll(&mut self) -> Option<(Option<RecordType>, Rcode, u64)> {
        if !self.dirty {
            return None;
        }
        for (index, row) in self.counts.iter_mut().enumerate() {
            for (rcode, count) in (0..).zip(row) {
                if *count > 0 {
                    return Some((
                        TYPES.get(index).copied(),
                        Rcode(rcode),
                        std::mem::take(count),
                    ));
                }
            }
        }
        self.dirty = false;
        None
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }
}

/// Types that are counted by themselves; the others are `other`, so that nobody makes series at will. The most frequent first.
const TYPES: [RecordType; 18] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::NS,
    RecordType::MX,
    RecordType::TXT,
    RecordType::SOA,
    RecordType::PTR,
    RecordType::CNAME,
    RecordType::SRV,
    RecordType::HTTPS,
    RecordType::SVCB,
    RecordType::DS,
    RecordType::DNSKEY,
    RecordType::CAA,
    RecordType::TLSA,
    RecordType::NAPTR,
    RecordType::ANY,
    RecordType::AXFR,
];

/// Codes up to BADCOOKIE.
const RCODES: usize = 24;
