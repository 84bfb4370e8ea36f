//! Names, and masks over them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::text::{Word, is_line_breaking};

/// A nickname.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Nick(Short<{ Self::MAX }>);

impl Nick {
    /// The longest that can be built, in bytes. RFC 2812 says 9; networks today allow up to about 30.
    pub const MAX: usize = 32;

    /// Checks a nickname.
    ///
    /// `nickname = ( letter / special ) *8( letter / digit / special / "-" )`
    /// ([RFC 2812 section 2.3.1](https://www.rfc-editor.org/rfc/rfc2812#section-2.3.1)), here with [`Nick::MAX`] instead of 9.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let valid = is_nick_start(*first)
            && rest
                .iter()
                .all(|b| is_nick_start(*b) || b.is_ascii_digit() || *b == b'-');
        Short::new(bytes).filter(|_| valid).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The nickname as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(self.as_bytes())
    }

    /// The key that all spellings of this nickname share.
    pub fn folded(&self) -> Folded {
        Folded::new(self.as_bytes())
    }
}

impl fmt::Debug for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nick({:?})", self.0)
    }
}

/// The name of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct ChannelName(Short<{ Self::MAX }>);

impl ChannelName {
    /// The longest that can be built, in bytes: "of length up to fifty (50) characters"
    /// ([RFC 2812 section 1.3](https://www.rfc-editor.org/rfc/rfc2812#section-1.3)).
    pub const MAX: usize = 50;

    /// Checks a channel name.
    ///
    /// ```text
    /// channel    = ( "#" / "+" / ( "!" channelid ) / "&" ) chanstring [ ":" chanstring ]
    /// chanstring = any octet except NUL, BELL, CR, LF, " ", "," and ":"
    /// ```
    /// Of the prefixes only `#` and `&` are served, which on one server mean the same.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let valid = is_channel_prefix(*first)
            && !rest.is_empty()
            && !rest
                .iter()
                .any(|b| matches!(b, 0x07 | b' ' | b',' | b':') || is_line_breaking(*b));
        Short::new(bytes).filter(|_| valid).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(self.as_bytes())
    }

    /// The key that all spellings of this name share.
    pub fn folded(&self) -> Folded {
        Folded::new(self.as_bytes())
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelName({:?})", self.0)
    }
}

/// A name in the one spelling that all its spellings fold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folded(Short<64>);

impl Folded {
    /// Folds a name; what is too long to be one is cut, which is harmless as no name is that long.
    fn new(bytes: &[u8]) -> Self {
        let mut short = Short::<64>::cut(bytes);
        short.bytes.iter_mut().for_each(|b| *b = fold(*b));
        Self(short)
    }
}

/// A user's name on their own system, as they told it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct UserName(Short<{ Self::MAX }>);

impl UserName {
    /// The longest that is kept, in bytes (ISUPPORT `USERLEN`). RFC 2812 sets none; 10 to 18 are usual.
    pub const MAX: usize = 16;

    /// Checks a user name, and cuts one that is too long.
    ///
    /// `user = 1*( %x01-09 / %x0B-0C / %x0E-1F / %x21-3F / %x41-FF )`, any octet except NUL, CR, LF, " " and "@"
    /// ([RFC 2812 section 2.3.1](https://www.rfc-editor.org/rfc/rfc2812#section-2.3.1)). Control characters and `!` are refused
    /// as well: they would make hostmasks that nobody can read or ban.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let word = Word::new(bytes)?.as_bytes();
        let valid = !word
            .iter()
            .any(|b| b.is_ascii_control() || matches!(b, b'@' | b'!'));
        valid.then(|| Self(Short::cut(word)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(self.as_bytes())
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserName({:?})", self.0)
    }
}

/// Where a client is connected from, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Host(Box<[u8]>);

impl Host {
    /// The host of a client on this machine that has no address.
    pub fn local() -> Self {
        Self(Box::from(*b"localhost"))
    }

    /// Checks a host as [`Self::as_word`] has it.
    fn new(bytes: &[u8]) -> Option<Self> {
        Word::new(bytes).map(|word| Self(word.as_bytes().into()))
    }

    /// The host as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(&self.0)
    }
}

impl From<IpAddr> for Host {
    /// Writes the address out. One that starts with a colon gets a `0` in front, or it would not be a [`Word`].
    fn from(ip: IpAddr) -> Self {
        let text = ip.to_canonical().to_string();
        let text = if text.starts_with(':') {
            format!("0{text}")
        } else {
            text
        };
        Self(text.into_bytes().into_boxed_slice())
    }
}

/// The key of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Key(Short<{ Self::MAX }>);

impl Key {
    /// The longest, in bytes ([RFC 2812 section 2.3.1](https://www.rfc-editor.org/rfc/rfc2812#section-2.3.1)).
    pub const MAX: usize = 23;

    /// Checks a key.
    ///
    /// `key = 1*23( %x01-05 / %x07-08 / %x0C / %x0E-1F / %x21-7F )`, any 7-bit US_ASCII character, except NUL, CR, LF, FF, h/v TABs,
    /// and " ". A comma is refused too, as JOIN separates keys with it; so is a leading colon, which could not be sent.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let word = Word::new(bytes)?.as_bytes();
        let valid = word.iter().all(|b| b.is_ascii_graphic() && *b != b',');
        Short::new(word).filter(|_| valid).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The key as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(self.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0)
    }
}

/// A pattern over `nick!user@host`, always with all three parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Mask(Box<[u8]>);

impl Mask {
    /// The longest, in bytes: a nickname, a user name and a host of 63, with room for wildcards.
    pub const MAX: usize = 128;

    /// Checks a pattern and completes it: `nick` means `nick!*@*`, `user@host` means `*!user@host`.
    ///
    /// `mask = *( nowild / noesc wildone / noesc wildmany )` ([RFC 2812 section 2.5](https://www.rfc-editor.org/rfc/rfc2812#section-2.5)).
    /// There is no escape: `?` and `*` are in no nickname, so nobody needs one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let word = Word::new(bytes)?.as_bytes();
        let (left, host) = split_once(word, b'@').unwrap_or((word, b""));
        let (nick, user) = match split_once(left, b'!') {
            Some(parts) => parts,
            None if left.len() < word.len() => (&b""[..], left),
            None => (left, &b""[..]),
        };
        let or_any = |part| if part == b"" { &b"*"[..] } else { part };
        let mask = [or_any(nick), b"!", or_any(user), b"@", or_any(host)].concat();
        let valid = mask.len() <= Self::MAX && !mask.starts_with(b":");
        valid.then(|| Self(mask.into_boxed_slice()))
    }

    /// The mask as a parameter.
    pub fn as_word(&self) -> Word<'_> {
        Word(&self.0)
    }

    /// Whether the pattern covers this `nick!user@host`.
    pub fn matches(&self, prefix: &[u8]) -> bool {
        matches(&self.0, prefix)
    }

    /// Whether two masks are spellings of one.
    pub fn same(&self, other: &Self) -> bool {
        eq(&self.0, &other.0)
    }
}

/// Names in a state that moves at a swap: the bytes, checked again when they are read.
macro_rules! moves_as_bytes {
    ($($name:ident: $what:literal),*) => {$(
        impl TryFrom<Vec<u8>> for $name {
            type Error = String;

            fn try_from(bytes: Vec<u8>) -> Result<Self, String> {
                Self::new(&bytes).ok_or_else(|| format!("`{}` is no {}", bytes.escape_ascii(), $what))
            }
        }

        impl From<$name> for Vec<u8> {
            fn from(name: $name) -> Self {
                name.as_word().as_bytes().to_vec()
            }
        }
    )*};
}

moves_as_bytes!(Nick: "nickname", ChannelName: "channel name", UserName: "user name", Key: "key", Mask: "mask", Host: "host");

/// Whether a pattern with `*` (any bytes) and `?` (any one byte) covers a text, by IRC's rules of case.
///
/// Takes at most pattern times text steps: on a mismatch only the last `*` is tried again, one byte further on.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut retry = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, text));
                pattern = after;
            }
            (Some((p, pattern_rest)), Some((t, text_rest)))
                if *p == b'?' || fold(*p) == fold(*t) =>
            {
                (pattern, text) = (pattern_rest, text_rest);
            }
            (None, None) => return true,
            _ => {
                let Some((after, from)) = retry else {
                    return false;
                };
                let Some((_, from)) = from.split_first() else {
                    return false;
                };
                retry = Some((after, from));
                (pattern, text) = (after, from);
            }
        }
    }
}

/// Whether two names are spellings of one.
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold(*a) == fold(*b))
}

/// Whether a name with this first byte is a channel's (ISUPPORT `CHANTYPES`).
pub fn is_channel_prefix(byte: u8) -> bool {
    matches!(byte, b'#' | b'&')
}

/// Folds a byte by `CASEMAPPING=rfc1459`: "the characters `{}|^` are considered to be the lower case equivalents of the characters
/// `[]\~`" ([RFC 2812 section 2.2](https://www.rfc-editor.org/rfc/rfc2812#section-2.2)).
fn fold(byte: u8) -> u8 {
    match byte {
        b'[' => b'{',
        b']' => b'}',
        b'\\' => b'|',
        b'~' => b'^',
        _ => byte.to_ascii_lowercase(),
    }
}

/// `letter / special`, where `special = %x5B-60 / %x7B-7D`.
fn is_nick_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, 0x5B..=0x60 | 0x7B..=0x7D)
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |b| *b == at);
    Some((parts.next()?, parts.next()?))
}

/// A few bytes held in place, so that names are copied without allocating.
#[derive(Clone, Copy)]
struct Short<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= N).then(|| Self::cut(bytes))
    }

    fn cut(bytes: &[u8]) -> Self {
        let mut short = Self {
            len: 0,
            bytes: [0; N],
        };
        for (slot, byte) in short.bytes.iter_mut().zip(bytes) {
            *slot = *byte;
            short.len = short.len.saturating_add(1);
        }
        short
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<const N: usize> Hash for Short<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicknames_follow_the_grammar() {
        for (nick, valid) in [
            (&b"wiz"[..], true),
            (b"[]\\`_^{|}", true),
            (b"a-1", true),
            (b"", false),
            (b"1a", false),
            (b"-a", false),
            (b"a b", false),
            (b"a~b", false),
            (b"a!b", false),
            (b"caf\xC3\xA9", false),
            (&[b'a'; 32], true),
            (&[b'a'; 33], false),
        ] {
            assert_eq!(Nick::new(nick).is_some(), valid, "{}", nick.escape_ascii());
        }
    }

    #[test]
    fn channel_names_follow_the_grammar() {
        for (name, valid) in [
            (&b"#a"[..], true),
            (b"&local", true),
            (b"#\xFF\xFE", true),
            (b"##", true),
            (b"#", false),
            (b"a", false),
            (b"+a", false),
            (b"#a,b", false),
            (b"#a b", false),
            (b"#a:b", false),
            (b"#a\x07", false),
        ] {
            assert_eq!(
                ChannelName::new(name).is_some(),
                valid,
                "{}",
                name.escape_ascii()
            );
        }
    }

    #[test]
    fn case_is_that_of_rfc_1459() {
        let folded = |name: &[u8]| Nick::new(name).map(|n| n.folded());
        assert_eq!(folded(b"[Wiz]\\"), folded(b"{wIZ}|"));
        assert_ne!(folded(b"wiz_"), folded(b"wiz^"));
        assert!(eq(b"#A~", b"#a^"));
    }

    #[test]
    fn masks_are_completed() {
        for (given, mask) in [
            ("wiz", "wiz!*@*"),
            ("user@host", "*!user@host"),
            ("@host", "*!*@host"),
            ("nick!user", "nick!user@*"),
            ("*!*@*", "*!*@*"),
            ("!@", "*!*@*"),
        ] {
            assert_eq!(
                Mask::new(given.as_bytes()).unwrap().as_word().as_bytes(),
                mask.as_bytes()
            );
        }
        assert_eq!(Mask::new(b""), None);
        assert_eq!(Mask::new(&[b'a'; 126]), None);
    }

    #[test]
    fn patterns_match() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*!*@192.0.2.*", "n!u@192.0.2.7", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c", "xxaxxbxxcxx", false),
            ("WIZ[*", "wiz{!x@y", true),
            ("**?", "a", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn matching_is_not_exponential() {
        let pattern = b"*a".repeat(60);
        assert!(!matches(&pattern, &[b'a'; 59]));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &[b'a'; 4096]));
    }

    #[test]
    fn hosts_never_start_with_a_colon() {
        for (ip, host) in [
            ("::1", "0::1"),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(
                Host::from(ip.parse::<IpAddr>().unwrap())
                    .as_word()
                    .as_bytes(),
                host.as_bytes()
            );
        }
    }
}
