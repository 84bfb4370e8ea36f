//! All targets in one program, so that the host is linked once. `NETHOST_FUZZ_TARGET` says which of them runs, and `--list` in its place lists them; `cargo xtask fuzz` sets it.

#![no_main]

use std::{env, process, sync::OnceLock};

use nethost_fuzz::{TARGETS, Target};

#[allow(unsafe_code, reason = "the macro's functions are called from C++")]
mod entry {
    libfuzzer_sys::fuzz_target!(init: { super::target(); }, |data: &[u8]| super::run(data));
}

fn run(data: &[u8]) {
    (target().check)(data);
}

/// What is to be run, which is the same as long as the process lives.
fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = env::var("NETHOST_FUZZ_TARGET").unwrap_or_default();
        if name == "--list" {
            list();
        }
        Target::find(&name).unwrap_or_else(|| {
            eprintln!("NETHOST_FUZZ_TARGET=`{name}` is no target");
            process::exit(2)
        })
    })
}

fn list() -> ! {
    for Target {
        name,
        longest,
        seeds,
        ..
    } in TARGETS
    {
        println!("{name} {longest} {}", seeds.join(","));
    }
    process::exit(0)
}
