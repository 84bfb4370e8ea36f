//! The fuzz targets' checks with inputs from a seeded generator: the same on every machine, and without a fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

#[path = "../fuzz/checks.rs"]
mod checks;

#[test]
fn what_is_taken_for_a_head_httparse_takes_for_the_same() {
    let mut random = Random(1);
    for _ in 0..40_000 {
        checks::head(&random.mutated(HEADS));
    }
}

#[test]
fn chunks_are_the_same_however_they_are_cut() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        checks::chunked(&random.mutated(BODIES));
    }
}

#[test]
fn requests_are_the_same_however_they_are_cut() {
    let mut random = Random(3);
    for _ in 0..10_000 {
        let mut data = random.mutated(HEADS);
        data.extend(random.mutated(BODIES));
        data.extend(random.mutated(HEADS));
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

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 11).unwrap() % limit
    }

    /// One of them, with up to three bytes changed, put in or left out.
    fn mutated(&mut self, of: &[&[u8]]) -> Vec<u8> {
        let mut data = of[self.below(of.len())].to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(data.len());
            let byte = BYTES[self.below(BYTES.len())];
            match self.below(3) {
                0 => data[at] = byte,
                1 => data.insert(at, byte),
                _ => drop(data.remove(at)),
            }
        }
        data
    }
}

const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nPOST /a/b?c=%20 HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 5\r\nX-Y:\t z  \r\n\r\nhello",
    b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"PUT http://a/b HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nEmpty:\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nExpect: 100-continue\r\n\r\n",
];

const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"1;a=\"b\"\r\nx\r\n0A\r\n0123456789\r\n00\r\nX: y\r\nHost: z\r\n\r\n",
    b"0\r\n\r\n",
];

const BYTES: &[u8] = b"\r\n\t\0 :;,0129afgZ/\\*?#%\"\x7f\x80\xff\x0b-+_";
