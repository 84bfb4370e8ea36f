//! Answers, written into memory that is used again and again.

use super::{HEADER, edns::ServerOptions};
use crate::types::{Class, Rcode, RecordType};

/// A section of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who knows.
    Authority,
    /// What helps.
    Additional,
}

/// One message in the making, at most 65,535 bytes. What does not fit is refused, and can be undone with a [`Mark`].
///
/// Names are written by number: a zone numbers its names, and a name that is in the message already becomes a pointer.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    /// Which numbers stand where, up to [`MAX_HINTS`].
    hints: Vec<(u32, u16)>,
}

/// A place to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    length: usize,
    counts: [u16; 3],
    hints: usize,
}

impl Writer {
    /// Makes one, with all of its memory.
    pub fn new() -> Self {
        Self {
            out: Vec::with_capacity(usize::from(u16::MAX)),
            limit: usize::from(u16::MAX),
            counts: [0; 3],
            hints: Vec::with_capacity(MAX_HINTS),
        }
    }

    /// Begins a message of at most `limit` bytes: with these, which are a header and a question.
    pub fn begin(&mut self, start: &[u8], limit: usize) {
        self.out.clear();
        self.out.extend_from_slice(start);
        self.out.resize(self.out.len().max(HEADER), 0);
        self.limit = limit.min(usize::from(u16::MAX));
        self.counts = [0; 3];
        self.hints.clear();
    }

    /// Ends the message: writes the header's flags, code and counts. `question` is 1 or 0.
    pub fn finish(&mut self, flags: u16, rcode: Rcode, question: u16) -> &[u8] {
        let [answer, authority, additional] = self.counts;
        let flags = flags & 0xfff0 | u16::from(rcode.low());
        let words = [flags, question, answer, authority, additional];
        if let Some(header) = self.out.get_mut(2..HEADER) {
            for (place, word) in header.chunks_exact_mut(2).zip(words) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        }
        &self.out
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Keeps room at the end, for an OPT record.
    pub fn reserve(&mut self, bytes: usize) {
        self.limit = self.limit.saturating_sub(bytes);
    }

    /// How many records a section has.
    pub fn count(&self, section: Section) -> u16 {
        let [answer, authority, additional] = self.counts;
        match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        }
    }

    /// Where it is.
    pub fn mark(&self) -> Mark {
        Mark {
            length: self.out.len(),
            counts: self.counts,
            hints: self.hints.len(),
        }
    }

    /// Goes back.
    pub fn undo(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        self.counts = mark.counts;
        self.hints.truncate(mark.hints);
    }

    /// Adds bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.len() > self.room() {
            return None;
        }
        self.out.extend_from_slice(bytes);
        Some(())
    }

    /// Adds bytes that are so many records.
    pub fn put_records(&mut self, section: Section, bytes: &[u8], count: u16) -> Option<()> {
        self.put(bytes)?;
        self.counted(section, count)
    }

    /// Overwrites two bytes.
    pub fn patch(&mut self, at: usize, value: u16) {
        if let Some(place) = self.out.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Begins a record whose owner is at `owner` in the message, or with none what was just written; its data end with [`end_record`](Self::end_record).
    pub fn begin_record(
        &mut self,
        owner: Option<u16>,
        rtype: RecordType,
        ttl: u32,
    ) -> Option<usize> {
        let [t1, t2] = rtype.0.to_be_bytes();
        let [c1, c2] = Class::IN.0.to_be_bytes();
        let [l1, l2, l3, l4] = ttl.to_be_bytes();
        let fixed = [t1, t2, c1, c2, l1, l2, l3, l4, 0, 0];
        match owner.map(|owner| (0xc000 | owner).to_be_bytes()) {
            None => self.put(&fixed)?,
            Some([o1, o2]) => self.put(&[o1, o2, t1, t2, c1, c2, l1, l2, l3, l4, 0, 0])?,
        }
        Some(self.out.len())
    }

    /// Ends a record that began there.
    pub fn end_record(&mut self, section: Section, data_start: usize) -> Option<()> {
        let length = u16::try_from(self.out.len() - data_start).ok()?;
        self.patch(data_start - 2, length);
        self.counted(section, 1)
    }

    /// Says that the name with this number is there.
    pub fn hint(&mut self, number: u32, offset: usize) {
        if let Ok(offset) = u16::try_from(offset)
            && offset < 0x4000
            && self.hints.len() < MAX_HINTS
        {
            self.hints.push((number, offset));
        }
    }

    /// Where the name with this number is.
    pub fn offset_of(&self, number: u32) -> Option<u16> {
        let found = self.hints.iter().find(|(other, _)| *other == number);
        found.map(|(_, offset)| *offset)
    }

    /// Adds the OPT record, for which there is room.
    pub fn put_options(&mut self, options: &ServerOptions<'_>) {
        let out = &mut self.out;
        options.encode(|bytes| out.extend_from_slice(bytes));
        self.counted(Section::Additional, 1);
    }

    fn counted(&mut self, section: Section, more: u16) -> Option<()> {
        let [answer, authority, additional] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
            Section::Additional => additional,
        };
        *count = count.checked_add(more)?;
        Some(())
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// Names of a message that pointers may go to: 64. A referral has some 30; what is above is written out.
const MAX_HINTS: usize = 64;
