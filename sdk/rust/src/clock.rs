//! Time. Sessions are given it by their glue and do not ask for it, so that tests can set it.

use std::time::Duration;

use crate::host;

/// Time since the host started. Never goes back, also across a swap.
pub fn monotonic() -> Duration {
    Duration::from_nanos(host::monotonic())
}

/// Time since 1970-01-01T00:00:00Z without leap seconds. May jump.
pub fn wall() -> Duration {
    Duration::from_nanos(host::wall())
}
