//! A whole zone, message by message (AXFR, [RFC 5936](https://www.rfc-editor.org/rfc/rfc5936)).

use std::rc::Rc;

use super::{EXISTS, Owner, QUESTION_NAME, Zone};
use crate::{
    codec::{Section, Writer},
    types::RecordType,
};

/// A transfer that is under way. The zone that it began with is what it tells, whatever becomes of it meanwhile.
#[derive(Clone, Debug)]
pub struct Transfer {
    zone: Rc<Zone>,
    /// The header and the question of the request.
    question: Vec<u8>,
    node: usize,
    set: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Middle,
    End,
}

impl Transfer {
    /// Begins one. `question` is the request's header and question, which is the zone's name.
    pub fn new(zone: Rc<Zone>, question: &[u8]) -> Self {
        Self {
            zone,
            question: question.to_vec(),
            node: 0,
            set: 0,
            place: Place::Start,
        }
    }

    /// Writes the next message's records into `out`, some 16 KiB of them. False if there are no more.
    pub fn next(&mut self, out: &mut Writer) -> bool {
        if self.place == Place::End {
            return false;
        }
        out.begin(&self.question, MESSAGE);
        let zone = Rc::clone(&self.zone);
        let mut number = zone.apex_node;
        let mut offset = usize::from(QUESTION_NAME);
        while let Some(node) = zone.node(number).filter(|node| node.labels > 0) {
            out.hint(number, offset);
            offset += 1 + usize::from(*zone.wire(node).first().unwrap_or(&0));
            number = node.parent;
        }
        if self.place == Place::Start {
            self.put_soa(&zone, out);
            self.place = Place::Middle;
        }
        while let Some(node) = zone.nodes.get(self.node) {
            let number = u32::try_from(self.node).unwrap_or(u32::MAX);
            let sets = zone.sets_of(node);
            if node.flags & EXISTS != 0 {
                while let Some(set) = sets.get(self.set) {
                    // The SOA is the first and the last, and not between.
                    if set.rtype != RecordType::SOA && put_owned(&zone, out, number, set).is_none()
                    {
                        if out.count(Section::Answer) > 0 {
                            return true;
                        }
                        // A set that no message of that size holds gets one of the greatest.
                        out.begin(&self.question, usize::from(u16::MAX));
                        let _too_large = put_owned(&zone, out, number, set);
                        self.set += 1;
                        return true;
                    }
                    self.set += 1;
                }
            }
            self.node += 1;
            self.set = 0;
        }
        if self.put_soa(&zone, out) {
            self.place = Place::End;
        }
        true
    }

    fn put_soa(&self, zone: &Zone, out: &mut Writer) -> bool {
        zone.soa().is_some_and(|soa| {
            zone.try_set(out, Section::Answer, soa, QUESTION_NAME)
                .is_some()
        })
    }
}

/// Writes a set with its owner: the first record has the name, if the message has not, and the others point to it.
fn put_owned(zone: &Zone, out: &mut Writer, number: u32, set: &super::Set) -> Option<()> {
    if let Some(place) = zone.place(out, number) {
        return zone.try_set(out, Section::Answer, set, place);
    }
    let mark = out.mark();
    let start = out.len();
    let done = zone.put_name(out, number).and_then(|()| {
        let place = u16::try_from(start).ok().filter(|place| *place < 0x4000)?;
        zone.put_set(out, Section::Answer, set, Owner::Written(place), set.ttl)
    });
    if done.is_none() {
        out.undo(mark);
    }
    done
}

/// Bytes of a message: pointers reach 16 KiB.
const MESSAGE: usize = 16_383;
