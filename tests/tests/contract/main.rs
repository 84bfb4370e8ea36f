//! Every sentence of the contract, over sockets: what a plugin does and is told, and what its peers see.

mod closing;

mod flow;

mod groups;

mod timers;

mod outbound;

mod forbidden;

mod names;

mod surroundings;

mod bulk;

mod storage;

mod escapes;

mod accounts;

use std::net::{IpAddr, SocketAddr};

/// As the guest tells it.
fn mapped(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    format!("[{ip}%0]:{}", address.port())
}
