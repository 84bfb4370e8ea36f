//! DNS: an authoritative server, a forwarding cache, a client, and a library for all of them.
//!
//! * [RFC 1034](https://www.rfc-editor.org/rfc/rfc1034), [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035): concepts, messages, master files
//! * [RFC 2181](https://www.rfc-editor.org/rfc/rfc2181), [RFC 2308](https://www.rfc-editor.org/rfc/rfc2308), [RFC 4592](https://www.rfc-editor.org/rfc/rfc4592),
//!   [RFC 6672](https://www.rfc-editor.org/rfc/rfc6672), [RFC 8482](https://www.rfc-editor.org/rfc/rfc8482): sets, negative answers, wildcards, DNAME, ANY
//! * [RFC 3597](https://www.rfc-editor.org/rfc/rfc3597): types that are not known
//! * [RFC 6891](https://www.rfc-editor.org/rfc/rfc6891), [RFC 5001](https://www.rfc-editor.org/rfc/rfc5001), [RFC 7873](https://www.rfc-editor.org/rfc/rfc7873),
//!   [RFC 9018](https://www.rfc-editor.org/rfc/rfc9018), [RFC 8914](https://www.rfc-editor.org/rfc/rfc8914): EDNS, NSID, cookies, extended errors
//! * [RFC 7766](https://www.rfc-editor.org/rfc/rfc7766), [RFC 5936](https://www.rfc-editor.org/rfc/rfc5936): TCP, AXFR
//!
//! | module | what |
//! |---|---|
//! | [`types`] | names, types, codes |
//! | [`codec`] | messages: bytes to questions, answers to bytes |
//! | [`rdata`] | the data of records, in messages and in text |
//! | [`zonefile`] | master files to records |
//! | [`zone`] | a zone, and what it answers |
//! | [`config`] | the operator's keys, checked once |
//! | [`server`] | which zone, who may, EDNS: a request and time to a reply |
//! | [`forward`] | the cache of other servers' answers, the hosts file |
//! | [`resolver`] | asks name servers: for the cache, the client, and other plugins |
//! | [`client`] | `nethost exec plugins/dns.wasm query` |
//! | `loader` | keeps the zones as the files are |
//! | this file | the glue: what the host calls; no decisions |

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod types;

pub mod codec;
pub mod rdata;

pub mod zone;
pub mod zonefile;

pub mod config;
pub mod server;

pub mod forward;
pub mod resolver;

pub mod client;

mod forwarder;
mod loader;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use nethost_sdk::{
    CloseReason, Context, DatagramContext, DatagramProtocol, Datagrams, Directory, Factory,
    HIGH_WATER, Origin, Protocol, Refusal, Swap, after, clock, log,
    metrics::{Counter, Family, Gauge, Metric},
    random, spawn_for_instance, with_factory,
};

use crate::{
    config::Config,
    forwarder::{Back, Forwarder},
    server::{Reply, Served, Server, Transport},
    zone::Transfer,
};

/// What connections and sockets share.
#[derive(Debug)]
pub struct Dns {
    server: Server,
    forwarder: Forwarder,
    /// Every question is logged.
    logs: bool,
    /// Answers to a batch.
    answers: Datagrams,
    /// Answers to what came over a connection, each with its length before it.
    stream: Vec<u8>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Metrics {
    queries: Family<Counter, 2>,
    zones: Gauge,
    /// A timer will tell what was counted.
    waits: bool,
}

impl Factory for Dns {
    fn configure(config: &nethost_sdk::Config) -> Result<Self, String> {
        let config = Config::new(config)?;
        let mut secret = [0; 16];
        for (place, byte) in secret.iter_mut().zip(random::bytes(16)) {
            *place = byte;
        }
        // Without the grant there are no zones: the host has said so.
        if let Ok(directory) = Directory::named("zones") {
            spawn_for_instance(loader::run(directory)).detach();
        }
        let queries = Metric::new("queries", "Questions that were answered, by type and code");
        Ok(Self {
            forwarder: Forwarder::new(&config),
            logs: config.query_log,
            server: Server::new(config, secret),
            answers: Datagrams::new(),
            stream: Vec::new(),
            metrics: Metrics {
                queries: queries.labels(["type", "rcode"]).counter()?,
                zones: Metric::new("zones", "Zones that are served").gauge()?,
                waits: false,
            },
        })
    }
}

impl Dns {
    /// Tells what was counted, a little later: it is more than one call of the host.
    fn tell_later(&mut self) {
        if self.metrics.waits || !self.server.has_tally() {
            return;
        }
        self.metrics.waits = true;
        let tell = async {
            let _told = after(TOLD_EVERY).await;
            with_factory(|dns: &mut Self| dns.tell());
        };
        spawn_for_instance(tell).detach();
    }

    fn tell(&mut self) {
        self.metrics.waits = false;
        self.server.refill();
        while let Some((rtype, rcode, count)) = self.server.poll_tally() {
            let rtype = rtype.and_then(types::RecordType::name).unwrap_or("other");
            let rcode = rcode.name().unwrap_or("other");
            self.metrics.queries.with([rtype, rcode]).add(count);
        }
    }

    fn count_zones(&mut self) {
        let zones = self.server.zones().iter();
        let served = zones.filter(|(_, served)| matches!(served, Served::Zone(_)));
        self.metrics.zones.set(served.count() as f64);
    }
}

/// One UDP socket.
#[derive(Debug)]
pub struct DnsDatagrams;

impl DatagramProtocol for DnsDatagrams {
    type Factory = Dns;

    fn endpoint_made(_cx: &mut DatagramContext<'_, Dns>, _origin: Origin) -> Self {
        Self
    }

    fn datagrams_received(&mut self, cx: &mut DatagramContext<'_, Dns>, datagrams: &Datagrams) {
        let dns = &mut *cx.factory;
        dns.answers.clear();
        for datagram in datagrams {
            let client = datagram.peer().ip();
            if dns.logs {
                log_query(datagram.payload(), client, Transport::Udp);
            }
            let reply = dns
                .server
                .handle(datagram.payload(), client, Transport::Udp, wall);
            match reply {
                Reply::Answer(bytes) => dns.answers.reply(&datagram, bytes),
                Reply::Forward => {
                    let mut asked = Datagrams::new();
                    asked.reply(&datagram, &[]);
                    let back = Back::Datagram(cx.socket.clone(), asked);
                    dns.forward(datagram.payload(), back);
                }
                Reply::Transfer(_) | Reply::Silence => {}
            }
        }
        if !dns.answers.is_empty() {
            cx.socket.send(&dns.answers);
        }
        dns.tell_later();
    }
}

/// One TCP connection: messages with their lengths, and the transfers that are under way.
#[derive(Debug)]
pub struct DnsStream {
    client: IpAddr,
    transfers: VecDeque<Transfer>,
    /// A message that is not whole; and what came when enough answers waited to be sent: at most what one read brings.
    held: Vec<u8>,
    congested: bool,
    /// The client will send no more.
    ended: bool,
}

impl Protocol for DnsStream {
    type Factory = Dns;

    fn connection_made(cx: &mut Context<'_, Dns>, _origin: Origin) -> Option<Self> {
        let idle = cx.factory.server.config().tcp_idle;
        cx.connection.set_idle_timeout(Some(idle));
        Some(Self {
            client: client_of(cx),
            transfers: VecDeque::new(),
            held: Vec::new(),
            congested: false,
            ended: false,
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, Dns>, data: &[u8]) {
        if self.congested {
            self.held.extend_from_slice(data);
            return;
        }
        self.handle(cx, data);
        cx.factory.tell_later();
    }

    fn writable(&mut self, cx: &mut Context<'_, Dns>) {
        self.congested = false;
        self.transfer(cx);
        if !self.congested {
            self.handle(cx, &[]);
        }
        self.end_if_done(cx);
        cx.factory.tell_later();
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Dns>) {
        // What is asked is still answered (RFC 7766 section 6.2.4).
        self.ended = true;
        self.end_if_done(cx);
    }

    fn connection_lost(&mut self, _cx: &mut Context<'_, Dns>, _reason: CloseReason) {}
}

impl DnsStream {
    /// Closes when nothing is left to say to a client that asks no more.
    fn end_if_done(&self, cx: &Context<'_, Dns>) {
        if self.ended && self.transfers.is_empty() && !self.congested {
            cx.connection.close();
        }
    }

    /// Handles messages until there are no more, or enough answers wait to be sent.
    fn handle(&mut self, cx: &mut Context<'_, Dns>, data: &[u8]) {
        // Most of the time nothing is held, and nothing is copied.
        let mut held = std::mem::take(&mut self.held);
        let mut rest = if held.is_empty() {
            data
        } else {
            held.extend_from_slice(data);
            &held
        };
        let dns = &mut *cx.factory;
        dns.stream.clear();
        while !self.congested {
            let Some(message) = next_message(&mut rest) else {
                break;
            };
            if dns.logs {
                log_query(message, self.client, Transport::Tcp);
            }
            match dns
                .server
                .handle(message, self.client, Transport::Tcp, wall)
            {
                Reply::Answer(bytes) => push(&mut dns.stream, bytes),
                Reply::Transfer(transfer) => {
                    if self.transfers.len() < MAX_TRANSFERS {
                        self.transfers.push_back(transfer);
                    }
                }
                Reply::Forward => {
                    dns.forward(message, Back::Stream(cx.connection.clone()));
                }
                Reply::Silence => {}
            }
            if dns.stream.len() >= HIGH_WATER {
                self.congested = cx.connection.write(&dns.stream) >= HIGH_WATER;
                dns.stream.clear();
            }
        }
        self.held = rest.to_vec();
        if !dns.stream.is_empty() {
            self.congested |= cx.connection.write(&dns.stream) >= HIGH_WATER;
        }
        self.transfer(cx);
    }

    /// Goes on with the transfers, the first first.
    fn transfer(&mut self, cx: &mut Context<'_, Dns>) {
        let dns = &mut *cx.factory;
        while !self.congested
            && let Some(transfer) = self.transfers.front_mut()
        {
            dns.stream.clear();
            match dns.server.transfer_message(transfer) {
                Some(message) => push(&mut dns.stream, message),
                None => {
                    self.transfers.pop_front();
                    continue;
                }
            }
            self.congested = cx.connection.write(&dns.stream) >= HIGH_WATER;
        }
    }
}

/// Zones, the cache and connections move to the next version. Zones are read again from their files there, and served as they were until that is done.
impl Swap for DnsStream {
    const FORMATS: &'static [&'static str] = &["dns/2"];

    fn save(dns: &Dns, _format: &str) -> Result<Vec<u8>, Refusal> {
        if dns.forwarder.is_busy() {
            return Err(Refusal::Busy);
        }
        let mut zones = Vec::new();
        for (_, served) in dns.server.zones().iter() {
            if let Served::Zone(zone) = served {
                zone.save(&mut zones);
            }
        }
        let mut cache = Vec::new();
        dns.forwarder.save_cache(&mut cache);
        let mut out = dns.server.secret().to_vec();
        zone::put(&mut out, &zones);
        zone::put(&mut out, &cache);
        Ok(out)
    }

    fn restore(dns: &mut Dns, _format: &str, state: &[u8]) -> Result<(), String> {
        let wrong = || "the state is not that of a server".to_owned();
        let (secret, mut rest) = state.split_first_chunk().ok_or_else(wrong)?;
        dns.server.set_secret(*secret);
        let mut zones = zone::take(&mut rest).ok_or_else(wrong)?;
        while !zones.is_empty() {
            let zone = zone::Zone::restore(&mut zones).ok_or_else(wrong)?;
            let apex = *zone.apex();
            let zones = dns.server.zones_mut();
            zones.set(&apex, Served::Zone(std::rc::Rc::new(zone)));
        }
        let cache = zone::take(&mut rest).ok_or_else(wrong)?;
        let restored = dns.forwarder.cache().restore(cache);
        restored.ok_or_else(wrong)?;
        dns.count_zones();
        Ok(())
    }

    fn save_session(&self, _format: &str) -> Result<Vec<u8>, Refusal> {
        if !self.transfers.is_empty() {
            return Err(Refusal::Busy);
        }
        let mut out = vec![u8::from(self.congested), u8::from(self.ended)];
        out.extend_from_slice(&self.held);
        Ok(out)
    }

    fn restore_session(
        cx: &mut Context<'_, Dns>,
        _format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        let ([congested, ended], held) = state
            .split_first_chunk()
            .ok_or("the state is not that of a connection")?;
        Ok(Self {
            client: client_of(cx),
            transfers: VecDeque::new(),
            held: held.to_vec(),
            congested: *congested != 0,
            ended: *ended != 0,
        })
    }
}

/// Who is on the other side; over a UNIX socket somebody on this machine.
fn client_of(cx: &Context<'_, Dns>) -> IpAddr {
    let peer = cx.connection.peer();
    peer.ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// One line for a question, for an operator who wants it.
fn log_query(message: &[u8], client: IpAddr, transport: Transport) {
    if let Some((query, _)) = codec::question_of(message) {
        let (name, class, rtype) = (query.name, query.class, query.rtype);
        log::info!("query {name} {class} {rtype} from {client} over {transport}");
    }
}

/// The first message of a stream's bytes, if it is whole.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (message, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(message)
}

/// A message as streams have it: its length before it ([RFC 1035 section 4.2.2](https://www.rfc-editor.org/rfc/rfc1035#section-4.2.2)).
fn push(out: &mut Vec<u8>, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(message);
}

fn wall() -> u32 {
    u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX)
}

/// Transfers that wait on one connection; further ones are not answered.
const MAX_TRANSFERS: usize = 4;

/// How often is told what was counted.
const TOLD_EVERY: Duration = Duration::from_secs(1);

#[cfg(feature = "plugin")]
nethost_sdk::export_plugin!(DnsStream, swap, datagrams: DnsDatagrams, command: client::Client);
