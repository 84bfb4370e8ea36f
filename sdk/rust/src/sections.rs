//! The worlds of the contract that a plugin can export, as `build.rs` encoded them.

include!(concat!(env!("OUT_DIR"), "/sections.rs"));
