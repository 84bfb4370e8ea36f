//! Words and texts: what parameters are made of.

use std::fmt;

/// A parameter that fits anywhere in a message: not empty, no space, no leading colon.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word<'a>(pub(super) &'a [u8]);

impl<'a> Word<'a> {
    /// `*`: nobody, nowhere or everything.
    pub const STAR: Self = Self(b"*");

    /// Checks a parameter.
    ///
    /// `middle = nospcrlfcl *( ":" / nospcrlfcl )` ([RFC 2812 section 2.3.1](https://www.rfc-editor.org/rfc/rfc2812#section-2.3.1))
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let fits = !bytes.is_empty()
            && !bytes.starts_with(b":")
            && !bytes.iter().any(|b| *b == b' ' || is_line_breaking(*b));
        fits.then_some(Self(bytes))
    }

    /// Makes a word of whatever a peer sent, to quote it in an error reply: what stands before the first space, or `*`.
    pub fn quote(bytes: &'a [u8]) -> Self {
        bytes
            .split(|b| *b == b' ' || is_line_breaking(*b))
            .next()
            .and_then(Self::new)
            .unwrap_or(Self::STAR)
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word(\"{}\")", self.0.escape_ascii())
    }
}

/// A last parameter: any bytes that do not end a line, possibly none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Nothing.
    pub const EMPTY: Self = Self(b"");

    /// Checks a text.
    ///
    /// `trailing = *( ":" / " " / nospcrlfcl )` ([RFC 2812 section 2.3.1](https://www.rfc-editor.org/rfc/rfc2812#section-2.3.1))
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (!bytes.iter().copied().any(is_line_breaking)).then_some(Self(bytes))
    }

    /// Takes what stands before the first byte that no text may hold.
    pub fn until(bytes: &'a [u8]) -> Self {
        Self(
            bytes
                .split(|b| is_line_breaking(*b))
                .next()
                .unwrap_or_default(),
        )
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, cut to at most this many bytes and not within a UTF-8 character.
    pub fn cut(self, max: usize) -> Self {
        Self(cut(self.0, max))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text(\"{}\")", self.0.escape_ascii())
    }
}

/// A parameter that holds several, separated by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct List<'a>(Word<'a>);

impl<'a> From<Word<'a>> for List<'a> {
    fn from(word: Word<'a>) -> Self {
        Self(word)
    }
}

impl<'a> List<'a> {
    /// Takes a parameter as a list.
    pub fn new(word: Word<'a>) -> Self {
        Self(word)
    }

    /// The list as it was written.
    pub fn as_word(self) -> Word<'a> {
        self.0
    }

    /// The places of the list, also empty ones.
    pub fn places(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.as_bytes().split(|b| *b == b',')
    }

    /// What the list holds; empty places are passed over.
    pub fn items(self) -> impl Iterator<Item = Word<'a>> {
        self.places().filter_map(Word::new)
    }
}

/// Cuts bytes to a length; where they are UTF-8, not within a character.
pub(crate) fn cut(bytes: &[u8], max: usize) -> &[u8] {
    let Some(head) = bytes.get(..max) else {
        return bytes;
    };
    let is_continuation = |b: &u8| b & 0xC0 == 0x80;
    if !bytes.get(max).is_some_and(is_continuation) {
        return head;
    }
    // At most three continuation bytes belong to one character; more than that is no UTF-8 and is cut where it stands.
    let tail = head
        .iter()
        .rev()
        .take(3)
        .take_while(|b| is_continuation(b))
        .count();
    let boundary = max.saturating_sub(tail + 1);
    match head.get(boundary) {
        Some(lead) if *lead >= 0xC0 => head.get(..boundary).unwrap_or(head),
        _ => head,
    }
}

/// "any octet except NUL, CR, LF": what can be in no parameter.
pub(super) fn is_line_breaking(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_characters_whole() {
        for (text, max, expected) in [
            (&b"abc"[..], 2, &b"ab"[..]),
            (b"abc", 3, b"abc"),
            ("aé".as_bytes(), 2, b"a"),
            ("aé".as_bytes(), 3, "aé".as_bytes()),
            ("a😀".as_bytes(), 4, b"a"),
            (b"\x80\x80\x80\x80\x80", 4, b"\x80\x80\x80\x80"),
        ] {
            assert_eq!(cut(text, max), expected);
        }
    }

    #[test]
    fn quoting_always_gives_a_word() {
        for (bytes, quoted) in [
            (&b""[..], &b"*"[..]),
            (b":a", b"*"),
            (b"a b", b"a"),
            (b" b", b"*"),
            (b"#x", b"#x"),
        ] {
            assert_eq!(Word::quote(bytes).as_bytes(), quoted);
        }
    }
}
