//! The fuzz targets' checks with their seeds, and with what a seeded generator makes of them: the same on every machine, and without a fuzzer.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;

#[test]
fn what_is_read_survives_a_round_trip() {
    vary("decode", 20_000, checks::decode_any);
}

#[test]
fn what_is_made_survives_a_round_trip() {
    vary("encode", 20_000, checks::encode_decode);
}

#[test]
fn master_files_are_the_same_in_pieces() {
    vary("zone", 4_000, checks::zone_file);
}

#[test]
fn every_answer_is_a_message() {
    vary("answer", 20_000, checks::answer);
}

/// The seeds of a target, and as many changes of them.
fn vary(target: &str, times: usize, check: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(folder).unwrap();
    let seeds: Vec<Vec<u8>> = entries
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| check(seed));
    let mut random = 1_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % limit.max(1)
    };
    for _ in 0..times {
        let mut data = seeds[below(seeds.len())].clone();
        for _ in 0..=below(4) {
            let at = below(data.len() + 1);
            match below(4) {
                0 if at < data.len() => data[at] = u8::try_from(below(256)).unwrap(),
                1 if at < data.len() => drop(data.remove(at)),
                2 => data.insert(at, b"\0\xff\xc0\x0c$(\"\\;\n @1"[below(13)]),
                _ => {
                    let end = at + below(data.len() + 1 - at);
                    let part = data[at..end].to_vec();
                    data.splice(at..at, part);
                }
            }
        }
        check(&data);
    }
}
