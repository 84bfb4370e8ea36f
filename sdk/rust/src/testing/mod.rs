//! Testing.

pub(crate) mod reactor;
