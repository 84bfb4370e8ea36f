//! What a zone answers ([RFC 1034 section 4.3.2](https://www.rfc-editor.org/rfc/rfc1034#section-4.3.2), with the wildcards of [RFC 4592](https://www.rfc-editor.org/rfc/rfc4592)).

use super::{EXISTS, Form, NONE, Node, Owner, QUESTION_NAME, RENAMED, Set, WITHIN, Zone};
use crate::{
    codec::{HEADER, Question, Section, Writer},
    types::{Name, Rcode, RecordType},
};

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The code.
    pub rcode: Rcode,
    /// Whether the answer is the zone's own, and not a referral.
    pub authoritative: bool,
    /// Whether something did not fit that has to be there.
    pub truncated: bool,
}

/// Where a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The node of that name.
    Node(u32),
    /// The node `*` that stands for it.
    Wildcard(u32),
    /// Another zone, which begins at this node.
    Cut(u32),
    /// A DNAME at this node, above the name.
    Renamed(u32),
    /// There is no such name, and the last one above it that there is has this node.
    Nothing(u32),
    /// It is not in the zone.
    Outside,
}

/// The name that is being answered for.
#[expect(clippy::large_enum_variant, reason = "there is one, on the stack")]
enum Current {
    Question,
    Node(u32),
    Made(Name),
}

struct Answer<'a> {
    zone: &'a Zone,
    question: &'a Question,
    /// A second name, which a DNAME made.
    made: &'a mut Question,
    out: &'a mut Writer,
    qtype: RecordType,
    /// The last node that the question's name and the zone have in common, until the message has its numbers.
    unhinted: Option<u32>,
    /// Sets that are in the message, to be there once.
    added: Added,
}

/// Sets in a message, up to 32: more addresses than that are not added.
#[derive(Default)]
struct Added {
    sets: [u32; 32],
    count: usize,
}

impl Zone {
    /// Answers a question of class IN for a name within the zone. `out` has the header and the question; `made` is memory for another name.
    pub fn answer(
        &self,
        question: &Question,
        qtype: RecordType,
        made: &mut Question,
        out: &mut Writer,
    ) -> Outcome {
        let mut answer = Answer {
            zone: self,
            question,
            made,
            out,
            qtype,
            unhinted: None,
            added: Added::default(),
        };
        answer.run()
    }

    fn locate(&self, question: &Question) -> Found {
        if let Some(number) = self.find(question, question.labels()) {
            return self.at(number);
        }
        let mut labels = question.labels();
        while labels > 0 {
            labels -= 1;
            if let Some(number) = self.find(question, labels) {
                return self.below(number);
            }
        }
        Found::Outside
    }

    /// What is at a node that exists.
    fn at(&self, number: u32) -> Found {
        match self.node(number) {
            Some(node) if node.flags & WITHIN == 0 => Found::Outside,
            Some(node) if node.cut != NONE => self.cut(node),
            Some(_) => Found::Node(number),
            None => Found::Outside,
        }
    }

    /// What is below a node that exists, where no other node is.
    fn below(&self, number: u32) -> Found {
        let Some(node) = self.node(number).filter(|node| node.flags & WITHIN != 0) else {
            return Found::Outside;
        };
        if node.cut != NONE {
            self.cut(node)
        } else if self.set(node, RecordType::DNAME).is_some() {
            Found::Renamed(number)
        } else if node.wildcard != NONE {
            Found::Wildcard(node.wildcard)
        } else {
            Found::Nothing(number)
        }
    }

    fn cut(&self, node: &Node) -> Found {
        if node.flags & RENAMED != 0 {
            Found::Renamed(node.cut)
        } else {
            Found::Cut(node.cut)
        }
    }

    /// Where a node leads to that is in the data of records, and may not exist.
    fn locate_node(&self, number: u32) -> Found {
        let Some(node) = self.node(number) else {
            return Found::Outside;
        };
        if node.flags & EXISTS != 0 {
            return self.at(number);
        }
        let mut above = node.parent;
        while let Some(node) = self.node(above) {
            if node.flags & EXISTS != 0 {
                return self.below(above);
            }
            if above == node.parent {
                break;
            }
            above = node.parent;
        }
        Found::Outside
    }

    /// The node that a name's compression begins with.
    fn base(&self, found: Found) -> u32 {
        match found {
            Found::Node(number)
            | Found::Cut(number)
            | Found::Renamed(number)
            | Found::Nothing(number) => number,
            Found::Wildcard(number) => self.node(number).map_or(NONE, |node| node.parent),
            Found::Outside => NONE,
        }
    }

    fn target(&self, set: &Set) -> Option<u32> {
        self.data_of(set).get(..4).map(super::node_number)
    }
}

impl Answer<'_> {
    fn run(&mut self) -> Outcome {
        let mut found = self.zone.locate(self.question);
        self.unhinted = Some(self.zone.base(found));
        let mut current = Current::Question;
        let mut place = QUESTION_NAME;
        let done = |rcode| Outcome {
            rcode,
            authoritative: true,
            truncated: false,
        };
        let cut = Outcome {
            truncated: true,
            ..done(Rcode::NOERROR)
        };
        let (mut seen, mut length) = ([NONE; MAX_CHAIN], 0);
        if let (Found::Node(number), Some(slot)) = (found, seen.first_mut()) {
            *slot = number;
            length = 1;
        }
        for _ in 0..MAX_CHAIN {
            let node = match found {
                Found::Node(number) | Found::Wildcard(number) => number,
                Found::Cut(number) => {
                    // The DS of the zone below is of this zone, and the only thing that is.
                    if self.qtype == RecordType::DS && self.is_at(&current, number) {
                        number
                    } else {
                        return self.refer(number, &current);
                    }
                }
                Found::Renamed(number) => {
                    match self.rename(number, &current, place) {
                        Renaming::Truncated => return cut,
                        Renaming::TooLong => return done(Rcode::YXDOMAIN),
                        Renaming::Away => return done(Rcode::NOERROR),
                        Renaming::To(name, offset) => {
                            found = self.zone.locate(self.made);
                            let base = self.zone.base(found);
                            self.hint_suffixes(base, offset, Source::Made);
                            current = Current::Made(name);
                            place = offset;
                        }
                    }
                    continue;
                }
                Found::Nothing(_) => return self.negative(Rcode::NXDOMAIN),
                Found::Outside => return done(Rcode::NOERROR),
            };
            let Some(node) = self.zone.node(node) else {
                return done(Rcode::SERVFAIL);
            };
            let wanted = if self.qtype == RecordType::ANY {
                self.zone.sets_of(node).first()
            } else {
                self.zone.set(node, self.qtype)
            };
            if let Some(set) = wanted {
                return match self.put(Section::Answer, set, place) {
                    Some(()) => {
                        self.add_addresses(set, None);
                        done(Rcode::NOERROR)
                    }
                    None => cut,
                };
            }
            // The proofs of a name with a CNAME are its own (RFC 4035 section 2.5): they are not looked for where it points.
            let is_proof = matches!(self.qtype, RecordType::RRSIG | RecordType::NSEC);
            let alias = self.zone.set(node, RecordType::CNAME);
            let Some(alias) = alias.filter(|_| !is_proof) else {
                return self.negative(Rcode::NOERROR);
            };
            // A name that was answered for already is a loop. A wildcard may stand for several names, but for each once.
            let said = match &current {
                Current::Node(number) => seen.contains(number),
                Current::Question | Current::Made(_) => self.added.contains(alias),
            };
            if said {
                return done(Rcode::NOERROR);
            }
            if self.put(Section::Answer, alias, place).is_none() {
                return cut;
            }
            if let (Some(slot), Current::Node(number)) = (seen.get_mut(length), &current) {
                *slot = *number;
                length += 1;
            }
            let target = self.zone.target(alias).unwrap_or(NONE);
            let (Some(offset), next) = (self.out.offset_of(target), self.zone.locate_node(target))
            else {
                return done(Rcode::NOERROR);
            };
            found = next;
            current = Current::Node(target);
            place = offset;
        }
        done(Rcode::NOERROR)
    }

    /// Whether the name that is being answered for is this node's.
    fn is_at(&self, current: &Current, number: u32) -> bool {
        match current {
            Current::Question => self
                .zone
                .node(number)
                .is_some_and(|node| usize::from(node.labels) == self.question.labels()),
            Current::Node(other) => *other == number,
            Current::Made(_) => self
                .zone
                .node(number)
                .is_some_and(|node| usize::from(node.labels) == self.made.labels()),
        }
    }

    fn put(&mut self, section: Section, set: &Set, place: u16) -> Option<()> {
        if section != Section::Answer || Form::of(set.rtype) != Form::Whole {
            self.hint_question();
        }
        self.zone.try_set(self.out, section, set, place)?;
        self.added.push(set);
        Some(())
    }

    /// From now on names of the question are pointed to.
    fn hint_question(&mut self) {
        if let Some(base) = self.unhinted.take() {
            self.hint_suffixes(base, QUESTION_NAME, Source::Question);
        }
    }

    /// The suffixes of a name that is at `place`, from a node on.
    fn hint_suffixes(&mut self, base: u32, place: u16, source: Source) {
        let name = match source {
            Source::Question => self.question,
            Source::Made => &*self.made,
        };
        let mut number = base;
        while let Some(node) = self.zone.node(number).filter(|node| node.labels > 0) {
            let start = name.start(usize::from(node.labels));
            self.out.hint(number, usize::from(place) + start);
            number = node.parent;
        }
    }

    /// No such data, or no such name: the SOA says for how long that holds ([RFC 2308 section 3](https://www.rfc-editor.org/rfc/rfc2308#section-3)).
    fn negative(&mut self, rcode: Rcode) -> Outcome {
        let outcome = Outcome {
            rcode,
            authoritative: true,
            truncated: false,
        };
        self.hint_question();
        let zone = self.zone;
        let (Some(soa), Some(place)) = (zone.soa(), self.out.offset_of(zone.apex_node)) else {
            return outcome;
        };
        let minimum = zone.data_of(soa).last_chunk().copied();
        let ttl = soa.ttl.min(u32::from_be_bytes(minimum.unwrap_or_default()));
        let mark = self.out.mark();
        let put = zone.put_set(self.out, Section::Authority, soa, Owner::At(place), ttl);
        if put.is_none() {
            self.out.undo(mark);
        }
        Outcome {
            truncated: put.is_none(),
            ..outcome
        }
    }

    /// Tells who has the zone below.
    fn refer(&mut self, cut: u32, current: &Current) -> Outcome {
        // What was answered before a chain led here is this zone's own.
        let is_first = matches!(current, Current::Question);
        let mut outcome = Outcome {
            rcode: Rcode::NOERROR,
            authoritative: !is_first,
            truncated: false,
        };
        self.hint_question();
        let zone = self.zone;
        let servers = zone
            .node(cut)
            .and_then(|node| zone.set(node, RecordType::NS));
        let (Some(servers), Some(place)) = (servers, self.out.offset_of(cut)) else {
            outcome.rcode = Rcode::SERVFAIL;
            return outcome;
        };
        if self.put(Section::Authority, servers, place).is_none() {
            outcome.truncated = true;
            return outcome;
        }
        outcome.truncated = self.add_addresses(servers, Some(cut)) == Addresses::Missing;
        outcome
    }

    /// Adds the addresses of the names in a set. `cut` is where a referral leads to: addresses below it are needed to go there.
    fn add_addresses(&mut self, set: &Set, cut: Option<u32>) -> Addresses {
        let mut missing = Addresses::Enough;
        let zone = self.zone;
        for needed in [true, false] {
            for target in zone.targets(set) {
                let Some(node) = zone.node(target) else {
                    continue;
                };
                let is_needed = cut.is_some_and(|cut| node.cut == cut);
                if is_needed != needed {
                    continue;
                }
                let source = match zone.locate_node(target) {
                    Found::Node(number) | Found::Wildcard(number) => number,
                    // Glue is for who is referred; below another cut it may be as well.
                    Found::Cut(_) if node.flags & EXISTS != 0 => target,
                    _ => continue,
                };
                let (Some(source), Some(place)) = (zone.node(source), zone.place(self.out, target))
                else {
                    continue;
                };
                for rtype in [RecordType::A, RecordType::AAAA] {
                    let Some(addresses) = zone.set(source, rtype) else {
                        continue;
                    };
                    if self.added.contains(addresses) {
                        continue;
                    }
                    let put = self.put(Section::Additional, addresses, place);
                    if put.is_none() && needed {
                        missing = Addresses::Missing;
                    }
                }
            }
        }
        missing
    }

    /// Puts a DNAME and the CNAME that follows from it ([RFC 6672 section 3.2](https://www.rfc-editor.org/rfc/rfc6672#section-3.2)).
    fn rename(&mut self, number: u32, current: &Current, place: u16) -> Renaming {
        let zone = self.zone;
        self.hint_question();
        let (Some(node), Some(owner)) = (zone.node(number), self.out.offset_of(number)) else {
            return Renaming::Away;
        };
        let Some(set) = zone.set(node, RecordType::DNAME) else {
            return Renaming::Away;
        };
        if self.added.contains(set) {
            return Renaming::Away;
        }
        if self.put(Section::Answer, set, owner).is_none() {
            return Renaming::Truncated;
        }
        let name = match current {
            Current::Question => {
                let bytes = self.out.bytes().get(HEADER..);
                let length = self.question.wire().len();
                bytes
                    .and_then(|bytes| bytes.get(..length))
                    .and_then(Name::from_wire)
            }
            Current::Node(number) => zone
                .node(*number)
                .and_then(|node| Name::from_wire(zone.wire(node))),
            Current::Made(name) => Some(*name),
        };
        // Behind the owner, type, class, TTL and length.
        let target = zone.data_of(set).get(12..).and_then(Name::from_wire);
        let (Some(name), Some(target)) = (name, target) else {
            return Renaming::Away;
        };
        let kept = name
            .labels()
            .count()
            .saturating_sub(usize::from(node.labels));
        let Ok(made) = Name::join(name.labels().take(kept), &target) else {
            return Renaming::TooLong;
        };
        let mark = self.out.mark();
        let start = self
            .out
            .begin_record(Some(place), RecordType::CNAME, set.ttl);
        let written = start.and_then(|start| {
            self.out.put(made.as_wire())?;
            self.out.end_record(Section::Answer, start)?;
            u16::try_from(start).ok()
        });
        let Some(start) = written else {
            self.out.undo(mark);
            return Renaming::Truncated;
        };
        self.made.set(&made);
        Renaming::To(made, start)
    }
}

/// Which name's suffixes.
enum Source {
    Question,
    Made,
}

/// What a DNAME does.
#[expect(clippy::large_enum_variant, reason = "there is one, on the stack")]
enum Renaming {
    To(Name, u16),
    /// It was there before: a loop, or a name of which nothing is known.
    Away,
    TooLong,
    Truncated,
}

/// Whether the addresses are there without which a referral leads nowhere ([RFC 9471](https://www.rfc-editor.org/rfc/rfc9471)).
#[derive(PartialEq, Eq)]
enum Addresses {
    Enough,
    Missing,
}

impl Added {
    fn contains(&self, set: &Set) -> bool {
        self.sets
            .get(..self.count)
            .is_some_and(|sets| sets.contains(&set.data))
    }

    fn push(&mut self, set: &Set) {
        if let Some(place) = self.sets.get_mut(self.count) {
            *place = set.data;
            self.count += 1;
        }
    }
}

/// CNAME and DNAME records that one answer follows: 16, as many as any resolver goes along with.
const MAX_CHAIN: usize = 16;
