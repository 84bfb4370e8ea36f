//! What a client asks: read where it lies.

use super::{HEADER, QR, edns::Edns};
use crate::types::{Class, MAX_NAME, Name, Opcode, RecordType};

/// A request, as far as an answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The message.
    pub message: &'a [u8],
    /// The header's flags.
    pub flags: u16,
    /// Where the question ends; the header alone if there is none.
    pub question_end: usize,
    /// The type that is asked for.
    pub qtype: RecordType,
    /// The class that is asked for.
    pub qclass: Class,
    /// What it says with EDNS.
    pub edns: Option<Edns<'a>>,
}

/// Why a message is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not to be answered: it has no header, or is an answer itself.
    Ignore,
    /// It is to be answered with FORMERR, and the question in it up to there, if it could be read.
    FormErr(usize),
}

/// A name that is asked for, prepared to be looked up: in lower case, with where its labels begin, and a hash of every suffix.
#[derive(Clone, Debug)]
pub struct Question {
    wire: [u8; MAX_NAME],
    length: usize,
    starts: [u8; MAX_LABELS],
    hashes: [u32; MAX_LABELS],
    labels: usize,
}

impl<'a> Request<'a> {
    /// Reads a request, and its name into `question`.
    pub fn decode(message: &'a [u8], question: &mut Question) -> Result<Self, Malformed> {
        let header: &[u8; HEADER] = message.first_chunk().ok_or(Malformed::Ignore)?;
        let [_, _, flags_high, flags_low, counts @ ..] = *header;
        let flags = u16::from_be_bytes([flags_high, flags_low]);
        if flags & QR != 0 {
            return Err(Malformed::Ignore);
        }
        let [q1, q2, a1, a2, n1, n2, r1, r2] = counts;
        let mut request = Self {
            message,
            flags,
            question_end: HEADER,
            qtype: RecordType(0),
            qclass: Class::IN,
            edns: None,
        };
        if request.opcode() != Opcode::QUERY {
            // Other operations have other messages; what is in them does not matter to who does not do them.
            if let Some((end, ..)) = question.read(message) {
                request.question_end = end;
            }
            return Ok(request);
        }
        match u16::from_be_bytes([q1, q2]) {
            1 => {
                let (end, qtype, qclass) =
                    question.read(message).ok_or(Malformed::FormErr(HEADER))?;
                request.question_end = end;
                (request.qtype, request.qclass) = (qtype, qclass);
            }
            // Asks for a cookie alone (RFC 7873 section 5.4).
            0 => {}
            _ => return Err(Malformed::FormErr(HEADER)),
        }
        let malformed = Malformed::FormErr(request.question_end);
        let before =
            u32::from(u16::from_be_bytes([a1, a2])) + u32::from(u16::from_be_bytes([n1, n2]));
        let additional = u32::from(u16::from_be_bytes([r1, r2]));
        let mut at = request.question_end;
        for index in 0..before + additional {
            at = request.record(at, index >= before).ok_or(malformed)?;
        }
        let asks =
            request.question_end > HEADER || request.edns.is_some_and(|edns| edns.cookie.is_some());
        if at != message.len() || !asks {
            return Err(malformed);
        }
        Ok(request)
    }

    /// What is to be done.
    pub fn opcode(&self) -> Opcode {
        Opcode((self.flags >> 11 & 15) as u8)
    }

    /// Reads one record behind the question, and says where it ends.
    fn record(&mut self, start: usize, is_additional: bool) -> Option<usize> {
        let message = self.message;
        let owner_end = skip_name(message, start)?;
        let fixed: &[u8; 10] = message.get(owner_end..)?.first_chunk()?;
        let [t1, t2, c1, c2, ttl @ .., l1, l2] = *fixed;
        let data_start = owner_end + fixed.len();
        let end = data_start + usize::from(u16::from_be_bytes([l1, l2]));
        let data = message.get(data_start..end)?;
        if RecordType(u16::from_be_bytes([t1, t2])) == RecordType::OPT {
            // One, of the root, in the additional section.
            if !is_additional || self.edns.is_some() || message.get(start) != Some(&0) {
                return None;
            }
            let (class, ttl) = (u16::from_be_bytes([c1, c2]), u32::from_be_bytes(ttl));
            self.edns = Some(Edns::decode(class, ttl, data)?);
        }
        Some(end)
    }
}

impl Question {
    /// None yet.
    pub fn new() -> Self {
        Self {
            wire: [0; MAX_NAME],
            length: 1,
            starts: [0; MAX_LABELS],
            hashes: [0; MAX_LABELS],
            labels: 0,
        }
    }

    /// Takes a name.
    pub fn set(&mut self, name: &Name) {
        self.take(name.as_wire());
    }

    /// Its bytes, in lower case.
    pub fn wire(&self) -> &[u8] {
        self.wire.get(..self.length).unwrap_or_default()
    }

    /// How many labels it has, without the root's.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Where the suffix of so many labels begins.
    pub fn start(&self, labels: usize) -> usize {
        let skipped = self.labels.saturating_sub(labels);
        match self.starts.get(skipped) {
            Some(start) if skipped < self.labels => usize::from(*start),
            _ => self.length.saturating_sub(1),
        }
    }

    /// The suffix of so many labels.
    pub fn suffix(&self, labels: usize) -> &[u8] {
        self.wire
            .get(self.start(labels)..self.length)
            .unwrap_or_default()
    }

    /// The hash of the suffix of so many labels.
    pub fn hash(&self, labels: usize) -> u32 {
        self.hashes.get(labels).copied().unwrap_or_default()
    }

    /// Reads the question of a message: where it ends, its type and its class.
    fn read(&mut self, message: &[u8]) -> Option<(usize, RecordType, Class)> {
        let rest = message.get(HEADER..)?;
        let length = self.take(rest)?;
        let [t1, t2, c1, c2] = *rest.get(length..)?.first_chunk()?;
        let rtype = RecordType(u16::from_be_bytes([t1, t2]));
        let class = Class(u16::from_be_bytes([c1, c2]));
        Some((HEADER + length + 4, rtype, class))
    }

    /// Takes the name that these bytes begin with, and says how long it is. None if it is none, or compressed.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        let mut labels = 0;
        loop {
            let length = *bytes.get(at)?;
            if length == 0 {
                break;
            }
            if usize::from(length) > crate::types::MAX_LABEL {
                return None;
            }
            *self.starts.get_mut(labels)? = u8::try_from(at).ok()?;
            labels += 1;
            at += 1 + usize::from(length);
        }
        let length = at + 1;
        let place = self.wire.get_mut(..length)?;
        place.copy_from_slice(bytes.get(..length)?);
        place.make_ascii_lowercase();
        self.length = length;
        self.labels = labels;
        let mut hash = HASH_START;
        *self.hashes.first_mut()? = fold(hash);
        let mut end = at;
        for depth in 1..=labels {
            let start = usize::from(*self.starts.get(labels - depth)?);
            hash = hash_label(hash, self.wire.get(start..end)?);
            *self.hashes.get_mut(depth)? = fold(hash);
            end = start;
        }
        Some(length)
    }
}

impl Default for Question {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds a label, with its length before it and in lower case, to the hash of what is right of it.
pub(crate) fn hash_label(hash: u64, label: &[u8]) -> u64 {
    let mut hash = hash;
    let mut chunks = label.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        hash = mix(hash ^ word);
    }
    let mut word = 0;
    for byte in chunks.remainder() {
        word = word << 8 | u64::from(*byte);
    }
    mix(hash ^ word)
}

fn mix(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 29
}

/// The bits of a hash that a table has.
pub(crate) fn fold(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

/// Where the name ends that begins here. Only its end matters, so where a pointer goes to is not looked at.
fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length if length <= crate::types::MAX_LABEL => at += length + 1,
            length if length >= 0xc0 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Labels of a name of 255 bytes, and the root.
const MAX_LABELS: usize = 128;

/// The hash of the root.
pub(crate) const HASH_START: u64 = 0x243f_6a88_85a3_08d3;
