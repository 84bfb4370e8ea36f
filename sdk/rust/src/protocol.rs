//! What a plugin implements.

use std::time::Duration;

use crate::{
    bindings::nethost::plugin::types::{self, CloseReason},
    clock,
    config::Config,
    connection::{Connection, ConnectionId},
    deferred::OperationId,
};

/// One connection's protocol state: Twisted's Protocol, the contract's session.
///
/// Callbacks are short and never wait: what takes time is a [`Deferred`](crate::Deferred) or a [task](crate::spawn). One connection gets its
/// callbacks one at a time and in order.
pub trait Protocol: Sized + 'static {
    /// What all sessions of an instance share; `()` if nothing.
    type Factory: Factory;

    /// A connection is there: makes its session. None refuses it; what was written to it is sent, and it closes.
    fn connection_made(cx: &mut Context<'_, Self::Factory>, origin: Origin) -> Option<Self>;

    /// Bytes came, 1 to 65,536. Where one call ends and the next begins means nothing; see [`framing`](crate::framing).
    fn data_received(&mut self, cx: &mut Context<'_, Self::Factory>, data: &[u8]);

    /// [`Connection::write`] had returned [`HIGH_WATER`](crate::HIGH_WATER) or more, and less than 16 KiB are unsent now.
    fn writable(&mut self, cx: &mut Context<'_, Self::Factory>) {
        let _ = cx;
    }

    /// The peer will send no more; it can still be written to. Closes the connection unless overridden.
    fn read_closed(&mut self, cx: &mut Context<'_, Self::Factory>) {
        cx.connection.close();
    }

    /// The connection is gone. The last callback of a session; its tasks are dropped after it.
    fn connection_lost(&mut self, cx: &mut Context<'_, Self::Factory>, reason: CloseReason) {
        let _ = (cx, reason);
    }
}

/// What the sessions of an instance share: Twisted's Factory.
///
/// Sessions reach it as [`Context::factory`], tasks with [`with_factory`](crate::with_factory).
pub trait Factory: Sized + 'static {
    /// Called once, before anything else. An error keeps the service from starting and is shown to the operator.
    fn configure(config: &Config) -> Result<Self, String>;

    /// The service goes away in this much time: say goodbye in the protocol's words. What is open then is closed by the host.
    fn draining(&mut self, deadline: Duration) {
        let _ = deadline;
    }
}

/// Nothing is shared, and nothing is configured.
impl Factory for () {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(())
    }
}

/// A protocol whose state moves to another version of the plugin while its connections stay open; exported with
/// `export_plugin!(Name, swap)`.
///
/// Saving changes nothing: when the swap fails, everything goes on. A session that owns a running [task](crate::spawn) is busy by itself, so
/// state that is to move stays outside tasks.
pub trait Swap: Protocol {
    /// The state formats that this version reads and writes, best first, each a name and a version: `irc/2`.
    const FORMATS: &'static [&'static str];

    /// Saves what the sessions share.
    fn save(factory: &Self::Factory, format: &str) -> Result<Vec<u8>, Refusal>;

    /// Takes over what the sessions share. `factory` is configured already; no session is restored yet.
    fn restore(factory: &mut Self::Factory, format: &str, state: &[u8]) -> Result<(), String>;

    /// Saves one session.
    fn save_session(&self, format: &str) -> Result<Vec<u8>, Refusal>;

    /// Makes a session again, on the same connection. Groups are rebuilt here; what is written is held until the swap is certain.
    fn restore_session(
        cx: &mut Context<'_, Self::Factory>,
        format: &str,
        state: &[u8],
    ) -> Result<Self, String>;
}

/// Why nothing was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not now: something is in progress that cannot move. The host tries again.
    Busy,
    /// Never; the text says why, to the operator.
    Failed(String),
}

/// What a callback may touch.
#[derive(Debug)]
pub struct Context<'a, F> {
    /// The connection that the callback is about.
    pub connection: &'a Connection,
    /// What all sessions of the instance share.
    pub factory: &'a mut F,
}

impl<F> Context<'_, F> {
    /// Time since the host started; sessions are given it as an argument.
    pub fn now(&self) -> Duration {
        clock::monotonic()
    }

    /// The connection's id.
    pub fn id(&self) -> ConnectionId {
        self.connection.id()
    }
}

/// Where a connection came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Accepted on a listener of the service's configuration: its URL, with the real port.
    Configured(String),
    /// Accepted on a listener that this instance opened.
    Opened(OperationId),
    /// Made by [`connect`](crate::connect); the id is the [`Deferred::id`](crate::Deferred::id) that it had returned.
    Dialed(OperationId),
    /// A way that came after this version of the contract, in words.
    Other(String),
}

impl Origin {
    pub(crate) fn from_contract(origin: types::Origin) -> Self {
        match origin {
            types::Origin::Configured(url) => Self::Configured(url),
            types::Origin::Opened(id) => Self::Opened(id.into()),
            types::Origin::Dialed(id) => Self::Dialed(id.into()),
            types::Origin::Other(words) => Self::Other(words),
        }
    }
}
