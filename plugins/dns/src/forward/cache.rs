//! Answers, until their time is over, and a little longer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    codec::{Message, Query},
    types::{Class, Name, RecordType},
    zone::{put, take},
};

/// What an answer is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The name, in lower case.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// With DNSSEC records.
    pub dnssec: bool,
    /// Not checked by who answered.
    pub checking_disabled: bool,
}

/// Answers of other servers, up to a number of bytes; the oldest go first.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order that they came; one that was replaced has another number in its entry.
    order: VecDeque<(u64, Key)>,
    next: u64,
    size: usize,
    limit: usize,
    /// How long after its time an answer may still be given.
    stale: Duration,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    message: Message,
    since: Duration,
    ttl: u32,
    size: usize,
    /// Somebody asks again already.
    is_asked: bool,
    /// Until when nobody asks again, because nobody answered.
    failed_until: Duration,
}

/// How good an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It holds.
    Fresh,
    /// It holds, but not for long: it is time to ask again.
    Waning,
    /// It holds no more, and is better than nothing ([RFC 8767](https://www.rfc-editor.org/rfc/rfc8767)).
    Stale,
    /// The same, and a moment ago nobody answered: to ask again now is of no use.
    Hopeless,
}

/// An answer from the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// With the TTLs that it has now.
    pub message: Message,
    /// How good it is.
    pub freshness: Freshness,
}

impl Cache {
    /// An empty one.
    pub fn new(limit: usize, stale: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            size: 0,
            limit,
            stale,
        }
    }

    /// Bytes of answers, more or less.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many answers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks an answer up. What is told to be [`Waning`](Freshness::Waning) is told so once.
    pub fn find(&mut self, key: &Key, now: Duration) -> Option<Cached> {
        let entry = self.entries.get_mut(key)?;
        let age = now.saturating_sub(entry.since);
        let life = Duration::from_secs(entry.ttl.into());
        if age >= life + self.stale {
            return None;
        }
        let freshness = if age < life {
            let wanes = age >= life / 10 * 9 && !entry.is_asked;
            entry.is_asked |= wanes;
            if wanes {
                Freshness::Waning
            } else {
                Freshness::Fresh
            }
        } else if now < entry.failed_until {
            Freshness::Hopeless
        } else {
            Freshness::Stale
        };
        let mut message = entry.message.clone();
        let passed = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let sections = [
            &mut message.answers,
            &mut message.authority,
            &mut message.additional,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = if age < life {
                record.ttl.saturating_sub(passed)
            } else {
                STALE_TTL
            };
        }
        Some(Cached { message, freshness })
    }

    /// Keeps an answer, if it says for how long it holds.
    pub fn keep(&mut self, key: Key, message: &Message, now: Duration) {
        let Some(ttl) = lifetime(message) else {
            return;
        };
        let mut message = message.clone();
        message.questions.clear();
        message
            .additional
            .retain(|record| record.rtype != RecordType::OPT);
        let sections = [
            &mut message.answers,
            &mut message.authority,
            &mut message.additional,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(MAX_TTL);
        }
        self.insert(key, message, now, ttl);
    }

    fn insert(&mut self, key: Key, message: Message, since: Duration, ttl: u32) {
        let records = message.records();
        let size = OVERHEAD
            + records
                .map(|record| RECORD + record.data.len())
                .sum::<usize>();
        let number = self.next;
        self.next += 1;
        let entry = Entry {
            number,
            message,
            since,
            ttl,
            size,
            is_asked: false,
            failed_until: Duration::ZERO,
        };
        self.size += size;
        self.order.push_back((number, key.clone()));
        if let Some(before) = self.entries.insert(key, entry) {
            self.size -= before.size;
        }
        self.shrink();
    }

    /// Nobody answered: for a while what there is is given at once.
    pub fn failed(&mut self, key: &Key, now: Duration) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.is_asked = false;
            entry.failed_until = now + RECHECK;
        }
    }

    /// Appends every answer, for the next version of this plugin.
    pub fn save(&self, out: &mut Vec<u8>) {
        for (_, key) in &self.order {
            let Some(entry) = self.entries.get(key) else {
                continue;
            };
            let mut message = entry.message.clone();
            message.questions.push(Query {
                name: key.name,
                rtype: key.rtype,
                class: Class::IN,
            });
            let Some(bytes) = message.encode() else {
                continue;
            };
            out.extend([u8::from(key.dnssec), u8::from(key.checking_disabled)]);
            out.extend(entry.ttl.to_le_bytes());
            let since = u64::try_from(entry.since.as_nanos()).unwrap_or(u64::MAX);
            out.extend(since.to_le_bytes());
            put(out, &bytes);
        }
    }

    /// Takes over what another version saved.
    pub fn restore(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some(([dnssec, checking_disabled], after)) = rest.split_first_chunk() {
            let (ttl, after) = after.split_first_chunk()?;
            let (since, after) = after.split_first_chunk()?;
            rest = after;
            let mut message = Message::decode(take(&mut rest)?).ok()?;
            let query = message.questions.pop()?;
            let key = Key {
                name: query.name,
                rtype: query.rtype,
                dnssec: *dnssec != 0,
                checking_disabled: *checking_disabled != 0,
            };
            let since = Duration::from_nanos(u64::from_le_bytes(*since));
            self.insert(key, message, since, u32::from_le_bytes(*ttl));
        }
        Some(())
    }

    /// Removes the oldest until the rest fits.
    fn shrink(&mut self) {
        let many = self.entries.len() * 2 + 64;
        while self.size > self.limit || self.order.len() > many {
            let Some((number, key)) = self.order.pop_front() else {
                return;
            };
            let is_current = self
                .entries
                .get(&key)
                .is_some_and(|entry| entry.number == number);
            if !is_current {
                continue;
            }
            if self.size > self.limit {
                if let Some(entry) = self.entries.remove(&key) {
                    self.size -= entry.size;
                }
            } else {
                self.order.push_back((number, key));
            }
        }
    }
}

/// For how long an answer holds: the least of its records' TTLs; one that has nothing holds as the SOA beside it says
/// ([RFC 2308 section 5](https://www.rfc-editor.org/rfc/rfc2308#section-5)). None if it is not to be kept.
fn lifetime(message: &Message) -> Option<u32> {
    let asked = message.questions.first()?.rtype;
    let has_answer = message
        .answers
        .iter()
        .any(|record| record.rtype == asked || asked == RecordType::ANY);
    let is_negative = message.rcode() != crate::types::Rcode::NOERROR || !has_answer;
    let least = message
        .records()
        .filter(|record| record.rtype != RecordType::OPT)
        .map(|record| record.ttl)
        .min();
    if !is_negative {
        return least.filter(|ttl| *ttl > 0).map(|ttl| ttl.min(MAX_TTL));
    }
    let soa = message
        .authority
        .iter()
        .find(|record| record.rtype == RecordType::SOA)?;
    let minimum = u32::from_be_bytes(*soa.data.last_chunk()?);
    let ttl = soa.ttl.min(minimum).min(least?);
    (ttl > 0).then_some(ttl.min(MAX_NEGATIVE_TTL))
}

/// The longest that an answer holds: a day.
const MAX_TTL: u32 = 86_400;

/// The longest that a negative one holds: three hours, as RFC 2308 section 5 has it.
const MAX_NEGATIVE_TTL: u32 = 10_800;

/// The TTL of what holds no more: 30 s, as RFC 8767 section 4 has it.
const STALE_TTL: u32 = 30;

/// For how long nobody is asked again who did not answer: 30 s, as RFC 8767 section 5 has it.
const RECHECK: Duration = Duration::from_secs(30);

/// Bytes of an entry beside its records: key, place in the order, tables.
const OVERHEAD: usize = 900;

/// Bytes of a record beside its data: a name has 256.
const RECORD: usize = 320;
