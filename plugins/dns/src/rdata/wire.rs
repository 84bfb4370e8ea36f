//! Data of records as messages have them.

use super::{Field, fields};
use crate::{
    codec::read_name,
    types::{Name, RecordType},
};

/// Copies the data of a record out of a message, with names that are compressed there written out. None if they are not what the type has.
pub fn expand(
    rtype: RecordType,
    message: &[u8],
    start: usize,
    length: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let end = start.checked_add(length)?;
    let data = message.get(start..end)?;
    let Some(fields) = fields(rtype) else {
        out.extend_from_slice(data);
        return Some(());
    };
    let mut at = start;
    for field in fields {
        let rest = message.get(at..end)?;
        at += if *field == Field::Name {
            let (name, length) = read_name(message, at)?;
            out.extend_from_slice(name.as_wire());
            length
        } else {
            let length = span(*field, rest)?;
            out.extend_from_slice(rest.get(..length)?);
            length
        };
    }
    (at == end).then_some(())
}

/// Whether data in wire form, with no name compressed, are what the type has. What is not known is.
pub fn verify(rtype: RecordType, data: &[u8]) -> bool {
    let Some(fields) = fields(rtype) else {
        return true;
    };
    let mut rest = data;
    for field in fields {
        let Some(after) = span(*field, rest).and_then(|length| rest.get(length..)) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

/// The parts of a record's data that are names.
pub fn names(rtype: RecordType, data: &[u8]) -> impl Iterator<Item = Name> {
    let mut rest = data;
    let fields = fields(rtype).unwrap_or_default().iter();
    fields.filter_map(move |field| {
        let length = span(*field, rest)?;
        let (part, after) = rest.split_at_checked(length)?;
        rest = after;
        (*field == Field::Name).then(|| Name::from_wire(part))?
    })
}

/// How many bytes a part has that begins here; none if it is not whole, or not right.
pub(super) fn span(field: Field, rest: &[u8]) -> Option<usize> {
    let length = match field {
        Field::U8 | Field::Algorithm => 1,
        Field::U16 | Field::Type | Field::CertificateType => 2,
        Field::U32 | Field::Seconds | Field::Time | Field::Ipv4 => 4,
        Field::Ipv6 => 16,
        Field::Eui(length) => length,
        Field::Name => name_length(rest)?,
        Field::Text | Field::Salt => 1 + usize::from(*rest.first()?),
        Field::Tag | Field::Hash => match rest.first()? {
            0 => return None,
            length => 1 + usize::from(*length),
        },
        Field::Texts => {
            let mut at = 0;
            while let Some(length) = rest.get(at) {
                at += 1 + usize::from(*length);
            }
            (at == rest.len() && at > 0).then_some(at)?
        }
        Field::Rest | Field::Hex | Field::Base64 => rest.len(),
        Field::Types => types_length(rest)?,
        Field::Location => (rest.first() == Some(&0)).then_some(16)?,
        Field::Params => super::params::length(rest)?,
    };
    (length <= rest.len()).then_some(length)
}

fn name_length(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        at += 1 + length;
        if length > crate::types::MAX_LABEL || at > crate::types::MAX_NAME {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// Windows in ascending order, each with 1 to 32 bytes.
fn types_length(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut before = None;
    while let Some([window, length]) = rest.get(at..at + 2) {
        let ascends = before.is_none_or(|before| before < *window);
        if !ascends || !(1..=32).contains(length) {
            return None;
        }
        before = Some(*window);
        at += 2 + usize::from(*length);
    }
    (at == rest.len()).then_some(at)
}
