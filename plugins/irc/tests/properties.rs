//! The fuzz targets' checks with inputs from a seeded generator: the same on every machine, and without the fuzzer.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../fuzz/checks.rs"]
mod checks;

#[test]
fn what_decodes_survives_a_round_trip() {
    let mut random = Random(1);
    for _ in 0..30_000 {
        let line = random.line();
        checks::decode_any(&line);
    }
}

#[test]
fn what_can_be_built_survives_a_round_trip() {
    let mut random = Random(2);
    for _ in 0..30_000 {
        let length = random.below(600);
        let data = random.bytes(length, ALPHABET);
        checks::encode_decode(&data);
    }
}

#[test]
fn sessions_never_panic() {
    let mut random = Random(3);
    for _ in 0..150 {
        let data: Vec<u8> = (0..3000).map(|_| random.byte()).collect();
        checks::session(&data);
    }
}

/// A generator of the xorshift family (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap()
    }

    fn bytes(&mut self, length: usize, alphabet: &[u8]) -> Vec<u8> {
        let limit = u64::try_from(alphabet.len()).unwrap();
        (0..length)
            .map(|_| match self.byte() {
                0..32 => self.byte(),
                _ => alphabet[self.below(limit)],
            })
            .collect()
    }

    /// Mostly a command with parameters that look like some.
    fn line(&mut self) -> Vec<u8> {
        let verbs = nethost_irc::types::command::Verb::ALL;
        let count = u64::try_from(verbs.len()).unwrap();
        let mut line = Vec::new();
        if self.byte() < 40 {
            line.extend_from_slice(b"@t=1 ");
        }
        if self.byte() < 40 {
            line.extend_from_slice(b":a!b@c ");
        }
        line.extend_from_slice(verbs[self.below(count)].name().as_bytes());
        for _ in 0..self.below(18) {
            line.extend_from_slice(b" ");
            if self.byte() < 128 {
                line.extend_from_slice(WORDS[self.below(8)].as_bytes());
            } else {
                let length = self.below(12);
                line.extend(self.bytes(length, ALPHABET));
            }
        }
        line
    }
}

/// What makes lines mean something.
const WORDS: [&str; 8] = ["#a", "ann", "*!*@h", "+oi-k+b", "-kl+ov", "3", "#a,&b", "b"];

/// What makes lines interesting.
const ALPHABET: &[u8] = b"abcXYZ019 :,#&!@*?+-ovbklimnst{}[]|\\^~\x07\xc3\xa9\xff";
