//! nethost
mod build;
mod contract;
pub mod inspect;
pub mod manifest;
