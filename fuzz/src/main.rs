//! All targets in one program, so that the host is linked once. `NETHOST_FUZZ_TARGET` says which of them runs; `cargo xtask fuzz` sets it.

#![no_main]

use std::{env, sync::OnceLock};

use nethost_fuzz::Target;

#[expect(unsafe_code, reason = "the macro's functions are called from C++")]
mod entry {
    libfuzzer_sys::fuzz_target!(|data: &[u8]| super::run(data));
}

fn run(data: &[u8]) {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = env::var("NETHOST_FUZZ_TARGET").unwrap_or_default();
        match Target::find(&name) {
            Some(target) => target,
            None => panic!("NETHOST_FUZZ_TARGET=`{name}` is no target"),
        }
    });
    (target.check)(data);
}
