//! x
pub mod types;
pub mod codec;
