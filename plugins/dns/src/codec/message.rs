//! Whole messages, for clients and caches.

use std::collections::HashMap;

use super::{HEADER, QR, edns::OptionCode, read_name};
use crate::{
    rdata,
    types::{Class, Name, Opcode, Rcode, RecordType},
};

/// A message, with everything in it written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number that question and answer have in common.
    pub id: u16,
    /// The header's flags, with operation and code.
    pub flags: u16,
    /// What was asked.
    pub questions: Vec<Query>,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Who knows.
    pub authority: Vec<Record>,
    /// What helps; OPT is among it.
    pub additional: Vec<Record>,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// The name.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// The class.
    pub class: Class,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// The class.
    pub class: Class,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// The data, with no name compressed.
    pub data: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Fewer than a header has.
    #[error("shorter than a header")]
    Header,
    /// A question is not whole.
    #[error("question {0} is malformed")]
    Question(u16),
    /// A record is not whole, or its data are not those of its type.
    #[error("record {0} is malformed")]
    Record(u32),
    /// Something is behind the last record.
    #[error("{0} bytes behind the last record")]
    Trailing(usize),
}

impl Message {
    /// Makes a question.
    pub fn query(id: u16, query: Query, flags: u16) -> Self {
        Self {
            id,
            flags,
            questions: vec![query],
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(MessageError::Header)?;
        let mut words = header
            .chunks_exact(2)
            .map(|word| word.try_into().map_or(0, u16::from_be_bytes));
        let mut word = || words.next().unwrap_or_default();
        let mut message = Self {
            id: word(),
            flags: word(),
            questions: Vec::new(),
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        };
        let (questions, answers, authority, additional) = (word(), word(), word(), word());
        let mut at = HEADER;
        for index in 0..questions {
            let (question, end) = Query::decode(bytes, at).ok_or(MessageError::Question(index))?;
            message.questions.push(question);
            at = end;
        }
        let sections = [
            (answers, &mut message.answers),
            (authority, &mut message.authority),
            (additional, &mut message.additional),
        ];
        let mut number = 0;
        for (count, records) in sections {
            for _ in 0..count {
                let (record, end) =
                    Record::decode(bytes, at).ok_or(MessageError::Record(number))?;
                records.push(record);
                number += 1;
                at = end;
            }
        }
        match bytes.len() - at {
            0 => Ok(message),
            more => Err(MessageError::Trailing(more)),
        }
    }

    /// Writes the message, with no name compressed. None if a section has more than 65,535 records, or it is longer than 65,535 bytes.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(512);
        out.extend(self.id.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for count in [
            self.questions.len(),
            self.answers.len(),
            self.authority.len(),
            self.additional.len(),
        ] {
            out.extend(u16::try_from(count).ok()?.to_be_bytes());
        }
        for question in &self.questions {
            out.extend_from_slice(question.name.as_wire());
            out.extend(question.rtype.0.to_be_bytes());
            out.extend(question.class.0.to_be_bytes());
        }
        for record in self.records() {
            out.extend_from_slice(record.owner.as_wire());
            out.extend(record.rtype.0.to_be_bytes());
            out.extend(record.class.0.to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            out.extend(u16::try_from(record.data.len()).ok()?.to_be_bytes());
            out.extend_from_slice(&record.data);
        }
        (out.len() <= usize::from(u16::MAX)).then_some(out)
    }

    /// Writes the message with names compressed where that is allowed ([RFC 3597 section 4](https://www.rfc-editor.org/rfc/rfc3597#section-4)). None as for [`encode`](Self::encode).
    pub fn encode_compressed(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(512);
        let mut places = HashMap::new();
        out.extend(self.id.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for count in [
            self.questions.len(),
            self.answers.len(),
            self.authority.len(),
            self.additional.len(),
        ] {
            out.extend(u16::try_from(count).ok()?.to_be_bytes());
        }
        for question in &self.questions {
            compress(&question.name, &mut places, &mut out);
            out.extend(question.rtype.0.to_be_bytes());
            out.extend(question.class.0.to_be_bytes());
        }
        for record in self.records() {
            compress(&record.owner, &mut places, &mut out);
            out.extend(record.rtype.0.to_be_bytes());
            out.extend(record.class.0.to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            let start = out.len();
            out.extend([0, 0]);
            compress_data(record, &mut places, &mut out);
            let length = u16::try_from(out.len() - start - 2).ok()?;
            out.get_mut(start..start + 2)?
                .copy_from_slice(&length.to_be_bytes());
        }
        (out.len() <= usize::from(u16::MAX)).then_some(out)
    }

    /// The records of all sections.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let sections = [&self.answers, &self.authority, &self.additional];
        sections.into_iter().flatten()
    }

    /// Whether it is an answer.
    pub fn is_answer(&self) -> bool {
        self.flags & QR != 0
    }

    /// The operation.
    pub fn opcode(&self) -> Opcode {
        Opcode((self.flags >> 11 & 15) as u8)
    }

    /// The OPT record.
    pub fn opt(&self) -> Option<&Record> {
        self.additional
            .iter()
            .find(|record| record.rtype == RecordType::OPT)
    }

    /// The options of the OPT record.
    pub fn options(&self) -> impl Iterator<Item = (OptionCode, &[u8])> {
        let mut rest = self.opt().map_or(&[][..], |opt| &opt.data);
        std::iter::from_fn(move || {
            let (code, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            Some((OptionCode(u16::from_be_bytes(*code)), value))
        })
    }

    /// The code, with the bits that EDNS has.
    pub fn rcode(&self) -> Rcode {
        let high = self.opt().map_or(0, |opt| opt.ttl >> 24);
        Rcode(self.flags & 15 | (high as u16) << 4)
    }

    /// Adds an OPT record.
    pub fn set_edns(&mut self, payload: u16, ttl: u32, options: &[(OptionCode, &[u8])]) {
        let mut data = Vec::new();
        for (code, value) in options {
            data.extend(code.0.to_be_bytes());
            data.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
            data.extend_from_slice(value);
        }
        self.additional.push(Record {
            owner: Name::ROOT,
            rtype: RecordType::OPT,
            class: Class(payload),
            ttl,
            data,
        });
    }
}

impl Query {
    fn decode(message: &[u8], start: usize) -> Option<(Self, usize)> {
        let (name, length) = read_name(message, start)?;
        let [t1, t2, c1, c2] = *message.get(start + length..)?.first_chunk()?;
        let query = Self {
            name,
            rtype: RecordType(u16::from_be_bytes([t1, t2])),
            class: Class(u16::from_be_bytes([c1, c2])),
        };
        Some((query, start + length + 4))
    }
}

impl Record {
    fn decode(message: &[u8], start: usize) -> Option<(Self, usize)> {
        let (owner, length) = read_name(message, start)?;
        let fixed: &[u8; 10] = message.get(start + length..)?.first_chunk()?;
        let [t1, t2, c1, c2, ttl @ .., l1, l2] = *fixed;
        let rtype = RecordType(u16::from_be_bytes([t1, t2]));
        let data_start = start + length + fixed.len();
        let data_length = usize::from(u16::from_be_bytes([l1, l2]));
        let mut data = Vec::new();
        rdata::expand(rtype, message, data_start, data_length, &mut data)?;
        let record = Self {
            owner,
            rtype,
            class: Class(u16::from_be_bytes([c1, c2])),
            ttl: u32::from_be_bytes(ttl),
            data,
        };
        Some((record, data_start + data_length))
    }
}

/// The first question of a message, in the case that it has there, and where it ends.
pub fn question_of(message: &[u8]) -> Option<(Query, usize)> {
    Query::decode(message, HEADER)
}

/// Writes a name, as much of it as is not in the message yet, and remembers where its suffixes are.
fn compress(name: &Name, places: &mut HashMap<Vec<u8>, u16>, out: &mut Vec<u8>) {
    let wire = name.to_lowercase();
    let wire = wire.as_wire();
    let mut at = 0;
    for label in name.labels() {
        let suffix = wire.get(at..).unwrap_or_default();
        if let Some(place) = places.get(suffix) {
            out.extend((0xc000 | place).to_be_bytes());
            return;
        }
        if let Ok(place) = u16::try_from(out.len())
            && place < 0x4000
        {
            places.insert(suffix.to_vec(), place);
        }
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label);
        at += 1 + label.len();
    }
    out.push(0);
}

/// Writes the data of a record: of the types of RFC 1035 with their names compressed.
fn compress_data(record: &Record, places: &mut HashMap<Vec<u8>, u16>, out: &mut Vec<u8>) {
    let before = match record.rtype {
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::SOA => 0,
        RecordType::MX => 2,
        _ => {
            out.extend_from_slice(&record.data);
            return;
        }
    };
    let (start, mut rest) = record.data.split_at_checked(before).unwrap_or_default();
    out.extend_from_slice(start);
    for name in rdata::names(record.rtype, &record.data) {
        compress(&name, places, out);
        rest = rest.get(name.as_wire().len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
