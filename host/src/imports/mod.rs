//! The host side of the contract's imported interfaces, one file each.
//!
//! Every function here only queues: none blocks, and none calls back into the guest.

mod transport;

mod datagram;

mod deferred;

mod storage;

mod bulk;

mod accounts;

mod command;

mod progress;

pub(crate) mod log;

pub(crate) mod metrics;

mod clock;

mod random;

pub(crate) mod convert;

use wasmtime::component::{HasSelf, Linker};

use crate::{
    bindings::{Everything, nethost::plugin::types},
    instance::State,
};

/// Offers the contract to components.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Everything::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    transport::add_writes(linker)?;
    datagram::add_send(linker)
}

impl types::Host for State {}
