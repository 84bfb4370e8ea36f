//! Domain names.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// A domain name in wire form, uncompressed, with the case that it came in. Compared without regard to case ([RFC 4343](https://www.rfc-editor.org/rfc/rfc4343)).
#[derive(Clone, Copy)]
pub struct Name {
    length: u8,
    bytes: [u8; MAX_NAME],
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has two dots in a row, or begins with one.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label is longer than 63 bytes.
    #[error("a label is longer than 63 bytes")]
    LongLabel,
    /// The name is longer than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    LongName,
    /// A backslash is followed by nothing, or by a number over 255.
    #[error("a wrong escape: after a backslash comes a character, or three digits up to 255")]
    Escape,
    /// It does not end with a dot, and there is no origin.
    #[error("the name is relative, and there is no $ORIGIN")]
    Relative,
}

impl Name {
    /// The root.
    pub const ROOT: Self = Self {
        length: 1,
        bytes: [0; MAX_NAME],
    };

    /// Takes a name that is whole and uncompressed, and nothing else.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut rest = wire;
        loop {
            let (length, after) = rest.split_first()?;
            if usize::from(*length) > MAX_LABEL {
                return None;
            }
            if *length == 0 {
                break (after.is_empty() && wire.len() <= MAX_NAME).then_some(())?;
            }
            rest = after.get(usize::from(*length)..)?;
        }
        Some(Self::whole(wire))
    }

    /// Reads a name as users write it; relative to the root if it does not end with a dot.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::parse_within(text.as_bytes(), Some(&Self::ROOT))
    }

    /// Reads a name as a master file has it ([RFC 1035 section 5.1](https://www.rfc-editor.org/rfc/rfc1035#section-5.1)); `@` is the origin.
    pub fn parse_within(text: &[u8], origin: Option<&Self>) -> Result<Self, NameError> {
        match text {
            b"@" => return origin.copied().ok_or(NameError::Relative),
            b"." => return Ok(Self::ROOT),
            _ => {}
        }
        let mut name = Self {
            length: 0,
            bytes: [0; MAX_NAME],
        };
        // Where the length of the label is that is being read.
        let mut start = 0_usize;
        let mut end = 1_usize;
        let mut rest = text.iter();
        let mut absolute = false;
        while let Some(byte) = rest.next() {
            let byte = match byte {
                b'.' => {
                    name.end_label(start, end)?;
                    start = end;
                    end = start + 1;
                    absolute = rest.as_slice().is_empty();
                    continue;
                }
                b'\\' => unescape(&mut rest).ok_or(NameError::Escape)?,
                byte => *byte,
            };
            *name.bytes.get_mut(end).ok_or(NameError::LongName)? = byte;
            end += 1;
        }
        if absolute {
            // The root's own label.
            *name.bytes.get_mut(start).ok_or(NameError::LongName)? = 0;
            name.length = byte(start + 1)?;
            return Ok(name);
        }
        name.end_label(start, end)?;
        let origin = origin.ok_or(NameError::Relative)?.as_wire();
        let place = name.bytes.get_mut(end..end + origin.len());
        place.ok_or(NameError::LongName)?.copy_from_slice(origin);
        name.length = byte(end + origin.len())?;
        Ok(name)
    }

    /// Makes a name of labels and a name that they stand before.
    pub fn join<'a>(
        labels: impl IntoIterator<Item = &'a [u8]>,
        suffix: &Self,
    ) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        let mut end = 0;
        for label in labels {
            let place = name.bytes.get_mut(end + 1..end + 1 + label.len());
            place.ok_or(NameError::LongName)?.copy_from_slice(label);
            let next = end + 1 + label.len();
            name.end_label(end, next)?;
            end = next;
        }
        let place = name.bytes.get_mut(end..end + suffix.as_wire().len());
        place
            .ok_or(NameError::LongName)?
            .copy_from_slice(suffix.as_wire());
        name.length = byte(end + suffix.as_wire().len())?;
        Ok(name)
    }

    /// Its bytes, the root's 0 included.
    pub fn as_wire(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// Its labels, from the left, without the root's.
    pub fn labels(&self) -> Labels<'_> {
        Labels(self.as_wire())
    }

    /// The name without its first label; none of the root.
    pub fn parent(&self) -> Option<Self> {
        let mut labels = self.labels();
        labels.next()?;
        Some(Self::whole(labels.0))
    }

    /// Whether it is that name or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut labels = self.labels();
        loop {
            if labels.0.eq_ignore_ascii_case(other.as_wire()) {
                return true;
            }
            if labels.next().is_none() {
                return false;
            }
        }
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.length == 1
    }

    /// The same in lower case.
    #[must_use]
    pub fn to_lowercase(mut self) -> Self {
        // Lengths are below 64, which is no letter.
        self.bytes.make_ascii_lowercase();
        self
    }

    /// A label ends: sets its length.
    fn end_label(&mut self, start: usize, end: usize) -> Result<(), NameError> {
        let length = end.saturating_sub(start + 1);
        if length == 0 {
            return Err(NameError::EmptyLabel);
        }
        if length > MAX_LABEL {
            return Err(NameError::LongLabel);
        }
        *self.bytes.get_mut(start).ok_or(NameError::LongName)? = byte(length)?;
        Ok(())
    }

    fn whole(wire: &[u8]) -> Self {
        let mut bytes = [0; MAX_NAME];
        let length = wire.len().min(MAX_NAME);
        if let (Some(place), Some(wire)) = (bytes.get_mut(..length), wire.get(..length)) {
            place.copy_from_slice(wire);
        }
        Self {
            length: u8::try_from(length).unwrap_or(u8::MAX),
            bytes,
        }
    }
}

/// As a master file has it: absolute, with escapes.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(*byte))?;
                    }
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_wire().eq_ignore_ascii_case(other.as_wire())
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.as_wire() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

/// The labels of a name, from the left.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        if *length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(label)
    }
}

/// What stands behind a backslash: a byte in three digits, or a character that stands for itself.
pub(crate) fn unescape(rest: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
    let first = *rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = rest.next().filter(|digit| digit.is_ascii_digit())?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

fn byte(length: usize) -> Result<u8, NameError> {
    u8::try_from(length).map_err(|_| NameError::LongName)
}

/// The most bytes of a name ([RFC 1035 section 3.1](https://www.rfc-editor.org/rfc/rfc1035#section-3.1)).
pub const MAX_NAME: usize = 255;

/// The most bytes of a label.
pub const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        let origin = Name::parse("example.com").unwrap();
        for (text, expected) in [
            ("www", "www.example.com."),
            ("www.", "www."),
            ("@", "example.com."),
            (".", "."),
            ("a.b", "a.b.example.com."),
            ("*", "*.example.com."),
            (r"a\.b", r"a\.b.example.com."),
            (r"\097\065.", "aA."),
            (r"\@.", r"\@."),
            (r"\000\255.", r"\000\255."),
        ] {
            let name = Name::parse_within(text.as_bytes(), Some(&origin)).unwrap();
            assert_eq!(name.to_string(), expected);
            assert_eq!(Name::from_wire(name.as_wire()), Some(name));
            assert_eq!(Name::parse(expected), Ok(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(Name::parse(&longest).unwrap().as_wire().len(), MAX_NAME);
        for (text, expected) in [
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("", NameError::EmptyLabel),
            (long.as_str(), NameError::LongLabel),
            (&format!("{longest}b"), NameError::LongName),
            (&format!("{longest}.b"), NameError::LongName),
            ("\\", NameError::Escape),
            (r"\25", NameError::Escape),
            (r"\256", NameError::Escape),
            (r"\2a5", NameError::Escape),
        ] {
            assert_eq!(Name::parse(text), Err(expected), "{text}");
        }
        assert_eq!(Name::parse_within(b"a", None), Err(NameError::Relative));
        assert_eq!(Name::from_wire(b"\x01a"), None);
        assert_eq!(Name::from_wire(b"\x01a\0\0"), None);
        assert_eq!(Name::from_wire(b"\xc0\x0c"), None);
    }

    #[test]
    fn case_does_not_matter() {
        let name = |text| Name::parse(text).unwrap();
        assert_eq!(name("A.b"), name("a.B"));
        assert_ne!(name("a.b"), name("a.c"));
        assert!(name("x.Example.com").is_within(&name("example.COM")));
        assert!(name("example.com").is_within(&name("example.com")));
        assert!(!name("xexample.com").is_within(&name("example.com")));
        assert!(name("a").is_within(&Name::ROOT));
        assert_eq!(name("a.b").parent(), Some(name("b")));
        assert_eq!(Name::ROOT.parent(), None);
    }
}
