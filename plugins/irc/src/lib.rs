//! irc
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod types;

pub mod codec;

pub mod config;

pub mod session;
