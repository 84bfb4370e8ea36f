//! What a connection tells an operator of itself.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::{Connection, Phase};

/// What was counted of one connection.
#[derive(Debug)]
pub(super) struct Tally {
    made: Instant,
    received: Cell<u64>,
    sent: Cell<u64>,
}

/// What is true of a connection at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionReport {
    pub(crate) local: String,
    pub(crate) peer: String,
    pub(crate) age: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Bytes that the kernel has not taken yet.
    pub(crate) unsent: usize,
    /// The version, if it is secured: `TLSv1.3`.
    pub(crate) tls: Option<&'static str>,
    /// It came to a listener, and was not dialed by the plugin.
    pub(crate) accepted: bool,
    pub(crate) closing: bool,
}

impl Connection {
    /// Counts bytes that came.
    pub(super) fn count_received(&self, bytes: u64) {
        self.holdings.meters().received.add(bytes);
        let received = &self.tally.received;
        received.set(received.get().wrapping_add(bytes));
    }

    /// Counts bytes that the kernel took.
    pub(super) fn count_sent(&self, bytes: u64) {
        self.holdings.meters().sent.add(bytes);
        let sent = &self.tally.sent;
        sent.set(sent.get().wrapping_add(bytes));
    }

    /// Tells an operator.
    pub(crate) fn report(&self) -> ConnectionReport {
        let tls = match &*self.transport.borrow() {
            Some(transport) => transport.tls().and_then(|tls| Some(tls.info()?.0.version)),
            None => None,
        };
        ConnectionReport {
            local: self.local.to_string(),
            peer: self.peer.to_string(),
            age: self.tally.made.elapsed(),
            received: self.tally.received.get(),
            sent: self.tally.sent.get(),
            unsent: self.unsent(),
            tls,
            accepted: self.accepted.get(),
            closing: self.phase.get() != Phase::Open,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }
}
