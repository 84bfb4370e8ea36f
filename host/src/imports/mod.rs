//! The host side of the contract's imported interfaces, one file each.
//!
//! Every function here only queues: none blocks, and none calls back into the guest.

mod transport;

mod deferred;

mod storage;

mod bulk;

pub(crate) mod log;

mod clock;

mod random;

pub(crate) mod convert;

use wasmtime::component::{HasSelf, Linker};

use crate::{
    bindings::{SwappablePlugin, nethost::plugin::types},
    instance::State,
};

/// Offers the contract to components.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    SwappablePlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    transport::add_writes(linker)
}

impl types::Host for State {}
