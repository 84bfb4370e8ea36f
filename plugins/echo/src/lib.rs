//! Echo: sends back what it receives ([RFC 862](https://www.rfc-editor.org/rfc/rfc862)).
//!
//! The smallest useful plugin, and the tutorial: read it from top to bottom. (`client.rs` is the other side, for later.) A plugin is a [`Protocol`], one value per connection, and a
//! [`Factory`], one value that all connections of an instance share. The host calls them; they never see a socket, never wait and never
//! touch anything but their [`Context`]. `plugin.toml` beside `src` says what the plugin is called, where it listens and what can be
//! configured. `nethost build plugins/echo` makes the component, `nethost run plugins/echo.wasm` serves it.

mod client;

use std::cell::Cell;

pub use client::Client;
use nethost_sdk::{
    CloseReason, Config, Context, DatagramContext, DatagramProtocol, Datagrams, Factory, Migrate,
    Origin, Protocol, Refusal, Snapshot, export_plugin, log,
    metrics::{Counter, Metric},
};
use serde::Deserialize;

/// One connection.
#[derive(Debug)]
pub struct Echo {
    /// Bytes sent back to this peer.
    echoed: u64,
}

impl Protocol for Echo {
    type Factory = Echoes;

    /// The host has accepted a connection. `None` would refuse it.
    fn connection_made(cx: &mut Context<'_, Echoes>, _origin: Origin) -> Option<Self> {
        if !cx.factory.config.greeting.is_empty() {
            let greeting = format!("{}\r\n", cx.factory.config.greeting);
            cx.connection.write(greeting.as_bytes());
        }
        Some(Self { echoed: 0 })
    }

    /// The peer has sent something. `write` queues and returns at once. A peer that sends and never reads is no danger: the host does not read from it
    /// while 64 KiB wait to be sent.
    fn data_received(&mut self, cx: &mut Context<'_, Echoes>, data: &[u8]) {
        cx.connection.write(data);
        self.echoed += data.len() as u64;
        cx.factory.count(data.len());
    }

    // `read_closed` is not here: by default the connection closes when the peer will send no more, after what is queued has been sent.

    /// The last callback. The host drops the session after it.
    fn connection_lost(&mut self, cx: &mut Context<'_, Echoes>, reason: CloseReason) {
        cx.factory.record();
        let (peer, total) = (cx.connection.peer(), cx.factory.total);
        log::debug!(
            "{peer}: echoed {} bytes, {total} in all; ended: {reason}",
            self.echoed
        );
    }
}

/// One UDP socket: RFC 862's "UDP Based Echo Service". Without this a plugin serves streams only.
#[derive(Debug)]
pub struct EchoDatagrams;

impl DatagramProtocol for EchoDatagrams {
    type Factory = Echoes;

    /// The host listens on a socket, one for each worker.
    fn endpoint_made(_cx: &mut DatagramContext<'_, Echoes>, _origin: Origin) -> Self {
        Self
    }

    /// Datagrams came, from any peers: what is sent back goes to each one's own, from the address that it asked.
    fn datagrams_received(&mut self, cx: &mut DatagramContext<'_, Echoes>, datagrams: &Datagrams) {
        cx.socket.send(datagrams);
        cx.factory.count(datagrams.bytes());
        cx.factory.record();
    }
}

/// What connections and sockets share.
#[derive(Debug)]
pub struct Echoes {
    config: Settings,
    /// Bytes sent back to all peers.
    total: u64,
    /// The same for the operator's monitoring (`--metrics`), where all instances are added up.
    metric: Counter,
    /// Bytes that the metric has not been told of.
    unrecorded: Cell<u64>,
}

impl Echoes {
    /// To record is a call of the host, which takes a fifth of the time of everything else in `data_received`. So it is done now and then.
    fn count(&mut self, bytes: usize) {
        self.total += bytes as u64;
        *self.unrecorded.get_mut() += bytes as u64;
        if self.unrecorded.get() >= RECORDED_AT_ONCE {
            self.record();
        }
    }

    fn record(&self) {
        self.metric.add(self.unrecorded.take());
    }
}

/// The keys of `plugin.toml`, as the operator has set them.
#[derive(Debug, Deserialize)]
struct Settings {
    greeting: String,
}

impl Factory for Echoes {
    /// Called once, first of all. An error here keeps the service from starting.
    fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            config: config.parse()?,
            total: 0,
            metric: ECHOED.counter()?,
            unrecorded: Cell::new(0),
        })
    }
}

/// Hot swap: the counters move to the next version of this plugin, and the connections stay open. A plugin without this is
/// drained instead: old connections finish on the old version. What is shared and what a session has can be any types that serde knows.
impl Snapshot for Echo {
    /// Another number when one of the types below changes; then `Before` says how to come from one to the other.
    const FORMAT: &'static str = "echo/2";

    type Before = (Fixed,);

    type Shared = u64;

    type Session = u64;

    fn save(factory: &Echoes) -> Result<u64, Refusal> {
        factory.record();
        Ok(factory.total)
    }

    fn restore(factory: &mut Echoes, total: u64) -> Result<(), String> {
        factory.total = total;
        Ok(())
    }

    fn save_session(&self) -> Result<u64, Refusal> {
        Ok(self.echoed)
    }

    fn restore_session(_cx: &mut Context<'_, Echoes>, echoed: u64) -> Result<Self, String> {
        Ok(Self { echoed })
    }
}

/// The first format: a counter was 8 bytes, the most significant first.
#[derive(Debug)]
pub struct Fixed;

impl Migrate<Echo> for Fixed {
    const FORMAT: &'static str = "echo/1";

    type Shared = [u8; 8];

    type Session = [u8; 8];

    fn migrate(total: [u8; 8]) -> Result<u64, String> {
        Ok(u64::from_be_bytes(total))
    }

    fn migrate_session(echoed: [u8; 8]) -> Result<u64, String> {
        Ok(u64::from_be_bytes(echoed))
    }

    fn revert(total: u64) -> Result<[u8; 8], String> {
        Ok(total.to_be_bytes())
    }

    fn revert_session(echoed: u64) -> Result<[u8; 8], String> {
        Ok(echoed.to_be_bytes())
    }
}

/// Bytes that a connection may echo before the metric is told: 64 KiB.
const RECORDED_AT_ONCE: u64 = 64 << 10;

/// The host makes `echo_echoed_bytes_total` of it.
const ECHOED: Metric<'_> = Metric::new("echoed", "Bytes sent back").unit("bytes");

// What makes this crate a plugin. Without `swap` for a protocol that does not implement it, without `datagrams` for one that has none, and without `command` for one that is no
// client.
export_plugin!(Echo, swap, datagrams: EchoDatagrams, command: Client);
