//! The bytes of a script, taken apart. Where it ends there are zeroes.

/// What is left of a script.
#[derive(Default)]
pub(crate) struct Script {
    bytes: Vec<u8>,
    at: usize,
}

impl Script {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// Small numbers, and those at the edges of types.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => u64::from(small),
            200..216 => u64::MAX - u64::from(self.byte()),
            216..232 => (1 << 32) - 128 + u64::from(self.byte()),
            232..240 => (1 << 63) - 128 + u64::from(self.byte()),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    pub(crate) fn option(&mut self) -> Option<u64> {
        self.flag().then(|| self.number())
    }

    /// A few bytes, or many of one.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        match self.byte() {
            length @ 0..128 => (0..length % 32).map(|_| self.byte()).collect(),
            length => vec![self.byte(); 1 << (length % 21)],
        }
    }

    /// As [`Self::bytes`], and not always UTF-8, as a plugin that means harm would have it.
    #[allow(unsafe_code, reason = "the host has to find it out")]
    pub(crate) fn text(&mut self) -> String {
        let bytes = self.bytes();
        // SAFETY: the text is passed to the host and is not looked at here.
        unsafe { String::from_utf8_unchecked(bytes) }
    }

    /// A word of these, or whatever.
    pub(crate) fn word(&mut self, known: &[&str]) -> String {
        let which = usize::from(self.byte());
        match known.get(which % (known.len() + 1)) {
            Some(word) => (*word).to_owned(),
            None => self.text(),
        }
    }
}
