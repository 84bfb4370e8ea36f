//! nethost: network protocol servers as WebAssembly components.
//!
//! The host owns sockets, transports and time; every protocol is a component behind the contract in `wit/`. This crate is the program `nethost` and,
//! for its tests and benchmarks, a library. In reading order:
//!
//! * [`cli`]: what the program's user types.
//! * [`endpoint`], [`grants`], [`limits`], [`manifest`]: what a service is told, checked once into types that cannot be wrong.
//! * [`config`]: the config file, and the description of a service from a file or from flags.
//! * [`serve`]: the services of a process, started, changed and stopped together.
//! * [`service`]: a service's life: start, swap, drain.
//! * [`reactor`]: worker threads; the connections that they pump; timers, outbound connections, look-ups. Knows no wasm.
//! * [`transport`]: the streams and datagrams below.
//! * [`tls`]: certificates, keys and trust; what TLS listeners and connections are set up with.
//! * `command`: a plugin's client side, run as a program.
//! * [`files`], [`storage`]: files and directories that the operator granted.
//! * [`accounts`]: users that the operator named, and how their passwords are verified.
//! * `http`: the host's own, for those two that follow.
//! * [`metrics`]: what is counted, and the endpoint that tells it, with health and readiness.
//! * [`admin`]: the socket that an operator's commands speak to.
//! * [`dumps`]: core dumps of plugins that broke.
//! * [`engine`], [`plugin`], [`instance`]: a component compiled, linked, and called. Knows no sockets. `checkpoints`: where the time is looked at in its code.
//! * `imports`: the host side of the contract, where the two meet.
//! * `watch`: what came from files (certificates, users) is loaded again when they change.
//! * `daemon`: readiness, giving up root, pid file: what a service manager expects; and what the kernel confines the process to.
//! * [`checks`]: what must hold for any input, for the fuzzer.
//! * `memory`: how much the host uses, all services together.
//! * `build`, [`inspect`], [`contract`]: from a plugin's source to a component, and what a component says of itself.

pub mod cli;

pub mod endpoint;

pub mod grants;

pub mod accounts;

pub mod limits;

pub mod manifest;

pub mod config;

pub mod logging;

pub mod serve;

pub mod service;

pub mod reactor;

pub mod transport;

pub mod tls;

pub mod files;

mod command;

pub mod storage;

mod http;

pub mod metrics;

pub mod admin;

pub mod dumps;

pub mod engine;

pub mod plugin;

mod checkpoints;

pub mod instance;

mod imports;

mod bindings;

mod build;

pub mod inspect;

pub mod contract;

mod watch;

mod daemon;

pub mod checks;
mod memory;

/// Writes an error and its causes as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
