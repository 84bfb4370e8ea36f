//! The forwarding cache: what other servers said, and for how long it holds. No bytes come or go here; the glue asks, and tells what came.

mod cache;
mod hosts;

pub use cache::{Cache, Cached, Freshness, Key};
pub use hosts::Hosts;

use crate::{
    codec::{AD, CD, EDNS_PAYLOAD, Message, OptionCode, QR, Query, RA, RD, TC},
    types::{Name, Opcode, Rcode, RecordType},
};

/// A client's question, with what its answer depends on.
#[derive(Clone, Debug)]
pub struct Question {
    message: Message,
    longest: usize,
}

impl Question {
    /// Reads a question that the server wants passed on. `longest` is how long an answer may be without EDNS, or over a connection.
    pub fn decode(bytes: &[u8], over_tcp: bool) -> Option<Self> {
        let message = Message::decode(bytes).ok()?;
        message.questions.first()?;
        let longest = match (over_tcp, message.opt()) {
            (true, _) => usize::from(u16::MAX),
            (false, None) => PLAIN,
            (false, Some(opt)) => usize::from(opt.class.0.min(EDNS_PAYLOAD)).max(PLAIN),
        };
        Some(Self { message, longest })
    }

    /// What is asked.
    pub fn query(&self) -> Query {
        self.message.questions.first().copied().unwrap_or(Query {
            name: Name::ROOT,
            rtype: RecordType(0),
            class: crate::types::Class::IN,
        })
    }

    /// What the answer is kept under.
    pub fn key(&self) -> Key {
        let query = self.query();
        Key {
            name: query.name.to_lowercase(),
            rtype: query.rtype,
            dnssec: self.wants_dnssec(),
            checking_disabled: self.message.flags & CD != 0,
        }
    }

    /// The client wants DNSSEC records.
    pub fn wants_dnssec(&self) -> bool {
        self.message.opt().is_some_and(|opt| opt.ttl & 0x8000 != 0)
    }

    /// Writes the answer for this client: its number, its letters, its limit. `error` is an extended error, for clients with EDNS.
    pub fn answer(&self, kept: &Message, error: Option<u16>) -> Vec<u8> {
        let flags = self.message.flags;
        let mut answer = Message {
            id: self.message.id,
            flags: QR | RA | flags & (RD | CD) | kept.flags & 15,
            questions: self.message.questions.clone(),
            answers: kept.answers.clone(),
            authority: kept.authority.clone(),
            additional: kept.additional.clone(),
        };
        if kept.flags & AD != 0 && (self.wants_dnssec() || flags & AD != 0) {
            answer.flags |= AD;
        }
        if self.message.opt().is_some() {
            let dnssec = if self.wants_dnssec() { 0x8000 } else { 0 };
            let code = error.map(u16::to_be_bytes);
            let options: Vec<(OptionCode, &[u8])> = code
                .iter()
                .map(|code| (OptionCode::EXTENDED_ERROR, code.as_slice()))
                .collect();
            answer.set_edns(EDNS_PAYLOAD, dnssec, &options);
        }
        if let Some(bytes) = answer.encode_compressed()
            && bytes.len() <= self.longest
        {
            return bytes;
        }
        answer.answers.clear();
        answer.authority.clear();
        answer.additional.retain(|it| it.rtype == RecordType::OPT);
        answer.flags |= TC;
        answer.encode().unwrap_or_default()
    }

    /// An answer that is nothing but a code.
    pub fn fail(&self, rcode: Rcode, error: u16) -> Vec<u8> {
        let empty = Message {
            id: 0,
            flags: rcode.0 & 15,
            questions: Vec::new(),
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        };
        self.answer(&empty, Some(error))
    }
}

/// Whether another server's answer is one to go by.
pub fn is_useful(message: &Message) -> bool {
    let is_known = matches!(message.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN);
    message.opcode() == Opcode::QUERY && is_known && message.flags & QR != 0
}

/// The code that the header of an answer has.
pub fn code_of(answer: &[u8]) -> Rcode {
    Rcode(answer.get(3).map_or(0, |flags| u16::from(flags & 15)))
}

const PLAIN: usize = 512;

#[cfg(test)]
mod tests;
