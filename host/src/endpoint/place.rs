//! What listeners cannot share.

use super::{Endpoint, HostName, UnixName};

/// Where an endpoint listens, whatever its options: two listeners of one place are one too many, or one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(HostName, u16),
    Udp(HostName, u16),
    Unix(UnixName),
    Systemd(String),
    Fd(i32),
    Stdio,
}

impl Place {
    /// Returns where an endpoint listens.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp(it) => Self::Tcp(it.host.clone(), it.port),
            Endpoint::Udp(it) => Self::Udp(it.host.clone(), it.port),
            Endpoint::Unix(it) => Self::Unix(it.address.clone()),
            Endpoint::Systemd(it) => Self::Systemd(it.which.clone()),
            Endpoint::Fd(it) => Self::Fd(it.which),
            Endpoint::Stdio => Self::Stdio,
        }
    }

    /// Returns whether the system finds a free one for everybody who asks: port 0.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self, Self::Tcp(_, 0) | Self::Udp(_, 0))
    }
}
