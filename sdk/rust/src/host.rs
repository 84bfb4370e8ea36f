//! The one place that knows whether the host is real: in a component these are the contract's imports, natively they are the test
//! reactor's. Both sides have the same names, so that calls are static.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::nethost::plugin::{
    accounts::{anonymous_granted, external, scram_final, scram_first, take_account, verify},
    bulk::{progress, receive_file, send_file, splice},
    clock::{monotonic, wall},
    command::{
        exit, is_command, is_terminal, name_servers, open as open_named, read_input, terminal_size,
        wants_colour, write as write_output, written,
    },
    datagram::Socket,
    deferred::{after, cancel, connect, keep, resolve, take_addresses},
    log::write as log,
    metrics::{Counter, Gauge, Histogram},
    progress::Bar,
    random::{get_bytes as random_bytes, get_u64 as random_u64},
    storage::{
        Directory, File, adopt_file, named_directory, named_file, take_file, take_metadata,
        take_page,
    },
    transport::{Connection, Group},
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::accounts::{
    anonymous_granted, external, scram_final, scram_first, take_account, verify,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::bulk::{
    File, adopt_file, named_file, progress, receive_file, send_file, splice,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::command::{
    Bar, exit, is_command, is_terminal, name_servers, open_named, read_input, terminal_size,
    wants_colour, write_output, written,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::disk::{
    Directory, named_directory, take_file, take_metadata, take_page,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::metrics::{Counter, Gauge, Histogram};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::reactor::{
    Connection, Group, Socket, after, cancel, connect, keep, log, monotonic, random_bytes,
    random_u64, resolve, take_addresses, wall,
};

/// A duration as the contract has it. More than 584 years is as good as that.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
