//! Numbers that look random and are the same at every run.

/// A xorshift generator ([Marsaglia 2003](https://doi.org/10.18637/jss.v008.i14)).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number from 1 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        let number = usize::try_from(self.number() >> 33).unwrap_or(0);
        1 + number % most.max(1)
    }

    /// Returns that many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| self.number().to_le_bytes());
        let mut bytes: Vec<u8> = words.collect();
        bytes.truncate(count);
        bytes
    }

    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Cuts bytes into pieces of at most `most` bytes.
    pub fn pieces<'a>(&mut self, mut data: &'a [u8], most: usize) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !data.is_empty() {
            let (piece, rest) = data.split_at(self.up_to(most).min(data.len()));
            pieces.push(piece);
            data = rest;
        }
        pieces
    }
}
