//! IRC: a server for the core of the protocol.
//!
//! * [RFC 1459](https://www.rfc-editor.org/rfc/rfc1459), Internet Relay Chat Protocol
//! * [RFC 2811](https://www.rfc-editor.org/rfc/rfc2811), Channel Management
//! * [RFC 2812](https://www.rfc-editor.org/rfc/rfc2812), Client Protocol
//! * <https://modern.ircdocs.horse>, where the RFCs are silent: 005, 329, 333, 417 and the like
//! * [capability negotiation](https://ircv3.net/specs/extensions/capability-negotiation), with nothing to offer
//!
//! Three things that never meet in one function, and the shape that every stock plugin has:
//!
//! | module | what |
//! |---|---|
//! | [`types`] | names, commands and replies; an invalid one cannot be built |
//! | [`codec`] | bytes to types and back; no state |
//! | [`session`] | commands and time to decisions; no bytes from the network, no host calls |
//! | [`config`] | the operator's keys, checked once |
//! | this file | the glue: what the host calls and is called for; no decisions |
//!
//! The network is a library of its own, without a host:
//!
//! ```
//! use nethost_irc::{config::Config, session::{Network, event::{ClientId, Now, Transmit}}, types::name::Host};
//!
//! let mut network = Network::new(Config::default(), Now::default());
//! let ann = ClientId(1);
//! network.handle_connected(ann, Host::local(), Now::default());
//! network.handle_line(ann, b"PING :are you there?", Now::default());
//! let expected = b":irc.example.net PONG irc.example.net :are you there?\r\n";
//! assert_eq!(network.poll_transmit(), Some(Transmit::Send { to: ann, bytes: expected }));
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod types;

pub mod codec;

pub mod session;

pub mod config;

use std::{collections::HashMap, time::Duration};

use nethost_sdk::{
    CloseReason, Connection, ConnectionId, Context, Factory, Group, Origin, Protocol, Refusal,
    Snapshot, Task, after, clock, export_plugin,
    framing::Lines,
    metrics::{Counter, Family, Gauge, Metric},
    spawn_for_instance, with_factory, with_session,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::MAX_LINE,
    config::Config,
    session::{
        Network,
        event::{ChannelId, ClientId, Loss, Now, Transmit},
        state::State,
    },
    types::{command::Verb, name::Host},
};

/// One client's connection: where its lines begin and end.
#[derive(Debug)]
pub struct Irc {
    client: ClientId,
    reading: Reading,
    /// Has the connection with this id [resume](Self::resume).
    resume: fn(ConnectionId),
}

/// How far a client's bytes have been read: the session's part of what moves at a swap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// The beginning of a line.
    pub lines: Lines,
    /// Bytes that came with others which were enough for one callback. Nothing more is read while there are any.
    pub held: Vec<u8>,
}

impl Protocol for Irc {
    type Factory = Server;

    fn connection_made(cx: &mut Context<'_, Server>, _origin: Origin) -> Option<Self> {
        let client = ClientId(cx.id().as_u64());
        let host = cx
            .connection
            .peer()
            .ip()
            .map_or_else(Host::local, Host::from);
        cx.factory.connections.insert(client, cx.connection.clone());
        cx.factory.network.handle_connected(client, host, now());
        cx.factory.transmit();
        Some(Self {
            client,
            reading: Reading {
                lines: Lines::new(MAX_LINE),
                held: Vec::new(),
            },
            resume,
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, Server>, data: &[u8]) {
        if self.reading.held.is_empty() {
            self.handle(cx, data);
        } else {
            self.reading.held.extend_from_slice(data);
        }
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Server>) {
        cx.factory.lose(self.client, Loss::Closed);
        cx.connection.close();
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Server>, reason: CloseReason) {
        let loss = match reason {
            CloseReason::Done | CloseReason::ClosedHere => Loss::Closed,
            CloseReason::Reset => Loss::Reset,
            CloseReason::Idle => Loss::Idle,
            CloseReason::Limit(_) => Loss::Limit,
            CloseReason::Tls(_) => Loss::Tls,
            CloseReason::Draining => Loss::Draining,
            CloseReason::AbortedHere | CloseReason::Trapped | CloseReason::Other(_) => Loss::Other,
        };
        cx.factory.lose(self.client, loss);
    }
}

impl Irc {
    /// Tells how to find a session whose bytes wait, for a plugin that has this one within its own session: it calls [`Self::resume`].
    pub fn resumed_by(mut self, resume: fn(ConnectionId)) -> Self {
        self.resume = resume;
        self
    }

    /// Handles lines until there are no more, or the network has done enough for one callback. The rest is handled in the next.
    fn handle(&mut self, cx: &mut Context<'_, Server>, mut data: &[u8]) {
        let now = now();
        while let Some(line) = self.reading.lines.next(&mut data) {
            match line {
                Ok(line) => cx.factory.network.handle_line(self.client, line, now),
                Err(_) => cx.factory.network.handle_overlong(self.client, now),
            }
            if cx.factory.network.is_congested() {
                break;
            }
        }
        cx.factory.transmit();
        if !data.is_empty() {
            self.reading.held = data.to_vec();
            cx.connection.pause_reading();
            self.resume_later(cx.id());
        }
    }

    fn resume_later(&self, id: ConnectionId) {
        let resume = self.resume;
        after(Duration::ZERO).map(move |()| resume(id)).detach();
    }

    /// Handles the bytes that were too many for one callback.
    pub fn resume(&mut self, cx: &mut Context<'_, Server>) {
        cx.connection.resume_reading();
        let held = std::mem::take(&mut self.reading.held);
        self.handle(cx, &held);
    }
}

fn resume(id: ConnectionId) {
    with_session(id, Irc::resume);
}

impl Snapshot for Irc {
    const FORMAT: &'static str = "irc/1";

    type Before = ();

    type Shared = State;

    type Session = Reading;

    fn save(server: &Server) -> Result<State, Refusal> {
        server.network.state().ok_or(Refusal::Busy)
    }

    fn restore(server: &mut Server, state: State) -> Result<(), String> {
        server.network.restore(state);
        server.metrics.record(&mut server.network);
        server.set_timer();
        Ok(())
    }

    fn save_session(&self) -> Result<Reading, Refusal> {
        Ok(self.reading.clone())
    }

    fn restore_session(cx: &mut Context<'_, Server>, reading: Reading) -> Result<Self, String> {
        Ok(Self::restored(cx, reading, resume))
    }
}

impl Irc {
    /// Makes a session again after a swap; `resume` is as for [`Self::resumed_by`].
    pub fn restored(
        cx: &mut Context<'_, Server>,
        reading: Reading,
        resume: fn(ConnectionId),
    ) -> Self {
        let client = ClientId(cx.id().as_u64());
        let Server {
            network,
            connections,
            groups,
            ..
        } = &mut *cx.factory;
        if network.knows(client) {
            connections.insert(client, cx.connection.clone());
        }
        for channel in network.channels_of(client) {
            groups.entry(channel).or_default().add(cx.connection);
        }
        let session = Self {
            client,
            reading,
            resume,
        };
        if !session.reading.held.is_empty() {
            session.resume_later(cx.id());
        }
        session
    }
}

/// The network, and the host's side of what it speaks of.
#[derive(Debug)]
pub struct Server {
    network: Network,
    connections: HashMap<ClientId, Connection>,
    groups: HashMap<ChannelId, Group>,
    /// The one timer, and when it fires.
    timer: Option<(Duration, Task)>,
    metrics: Metrics,
}

/// What the operator's monitoring is told.
#[derive(Debug)]
struct Metrics {
    users: Gauge,
    channels: Gauge,
    commands: Family<Counter, 1>,
    /// The users and channels that were told last.
    told: (usize, usize),
}

impl Factory for Server {
    fn configure(config: &nethost_sdk::Config) -> Result<Self, String> {
        let config = Config::from_json(config.as_str()).map_err(|error| error.to_string())?;
        let network = Network::new(config, now());
        Ok(Self {
            network,
            connections: HashMap::new(),
            groups: HashMap::new(),
            timer: None,
            metrics: Metrics::declare()?,
        })
    }

    fn draining(&mut self, _deadline: Duration) {
        self.network.handle_draining();
        self.transmit();
    }
}

impl Server {
    fn lose(&mut self, client: ClientId, loss: Loss) {
        self.network.handle_lost(client, loss, now());
        self.transmit();
        self.connections.remove(&client);
    }

    /// Does what the network wants done.
    fn transmit(&mut self) {
        while let Some(transmit) = self.network.poll_transmit() {
            match transmit {
                Transmit::Send { to, bytes } => {
                    if let Some(connection) = self.connections.get(&to) {
                        connection.write(bytes);
                    }
                }
                Transmit::Broadcast { to, skip, bytes } => {
                    if let Some(group) = self.groups.get(&to) {
                        group.write(bytes, skip.and_then(|skip| self.connections.get(&skip)));
                    }
                }
                Transmit::Join { channel, client } => {
                    if let Some(connection) = self.connections.get(&client) {
                        self.groups.entry(channel).or_default().add(connection);
                    }
                }
                Transmit::Leave { channel, client } => {
                    if let (Some(group), Some(connection)) =
                        (self.groups.get(&channel), self.connections.get(&client))
                    {
                        group.remove(connection);
                    }
                }
                Transmit::Dissolve { channel } => drop(self.groups.remove(&channel)),
                Transmit::Close { client } => {
                    if let Some(connection) = self.connections.remove(&client) {
                        connection.close();
                    }
                }
            }
        }
        self.metrics.record(&mut self.network);
        self.set_timer();
    }

    /// Sees to it that the timer fires no later than the network needs it. Earlier does no harm: then it is set again.
    fn set_timer(&mut self) {
        let Some(at) = self.network.poll_timeout() else {
            return;
        };
        if self.timer.as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        let wait = after(at.saturating_sub(clock::monotonic()));
        let fire = async move {
            if wait.await.is_ok() {
                with_factory(|server: &mut Self| {
                    if let Some((_, task)) = server.timer.take() {
                        task.detach();
                    }
                    server.network.handle_timeout(now());
                    server.transmit();
                });
            }
        };
        self.timer = Some((at, spawn_for_instance(fire)));
    }
}

impl Metrics {
    fn declare() -> Result<Self, nethost_sdk::Error> {
        let commands = Metric::new("commands", "Commands from clients, by their first word");
        Ok(Self {
            users: Metric::new("users", "Users that are registered").gauge()?,
            channels: Metric::new("channels", "Channels").gauge()?,
            commands: commands.labels(["command"]).counter()?,
            told: (0, 0),
        })
    }

    fn record(&mut self, network: &mut Network) {
        while let Some((verb, count)) = network.poll_tally() {
            let command = verb.map_or("unknown", Verb::name);
            self.commands.with([command]).add(count);
        }
        let (users, channels) = network.size();
        if self.told != (users, channels) {
            self.told = (users, channels);
            self.users.set(users as f64);
            self.channels.set(channels as f64);
        }
    }
}

fn now() -> Now {
    Now {
        monotonic: clock::monotonic(),
        wall: clock::wall(),
    }
}

// Another plugin that builds on this one exports its own.
#[cfg(feature = "export")]
export_plugin!(Irc, swap);
