//! A line that decodes survives a round trip. `cargo +nightly fuzz run decode` in `plugins/irc`.

#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target uses one check")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::decode_any(data));
