//! Does what it is told, on the contract's raw bindings: whoever connects sends commands, a line each.
//!
//! Several commands of one line, separated by `;`, run in one callback. `@7 write x` does it to connection 7. A connection that said `watch` is told of
//! everything that happens (`lost 7 reset`). An answer to who asked begins with `= `. `nethost_tests::scripted` is the other end.
//!
//! Sockets for datagrams send everything back unless told otherwise (`udp-mode 3 traced`).
//!
//! What a command keeps for later (`after`, `next`, `on-lost`, ...) is separated by `&` in place of `;`.

#![allow(
    clippy::indexing_slicing,
    reason = "a command that is wrong shall be seen"
)]

mod accounts;
mod disk;
mod words;

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({ path: "../../../wit", world: "datagram-plugin" });
}

use std::{cell::RefCell, collections::HashMap};

use bindings::{
    exports::nethost::plugin::{datagram_handler, deferred_handler, handler},
    nethost::plugin::{
        bulk, clock,
        datagram::{Packet, Socket},
        deferred,
        deferred::Value,
        log, random, storage,
        transport::{Connection, Group, TlsRole},
        types::{Address, CloseReason, Error, Origin},
    },
};

use words::{
    address_in_words, address_of, bytes_in_words, code_in_words, extent_of, ip_of, milliseconds,
    number, origin_in_words, packet, pattern, reason_in_words, socket_address,
};

struct Plugin;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Plugin with_types_in bindings);
};

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

struct Session(u64);

impl handler::Guest for Plugin {
    type Session = Session;

    fn configure(_config: String) -> Result<(), String> {
        Ok(())
    }

    fn draining(deadline: u64) {
        STATE.with_borrow_mut(|state| {
            state.tell(&format!("draining {deadline}"));
            let commands = std::mem::take(&mut state.on_draining);
            state.run(0, &commands);
        });
    }

    fn connection_made(connection: Connection, origin: Origin) -> Option<handler::Session> {
        STATE.with_borrow_mut(|state| state.made(connection, &origin))
    }
}

impl handler::GuestSession for Session {
    fn data_received(&self, data: Vec<u8>) {
        STATE.with_borrow_mut(|state| state.received(self.0, &data));
    }

    fn writable(&self) {
        STATE.with_borrow_mut(|state| {
            state.tell(&format!("writable {}", self.0));
            state.feed(self.0, 0);
        });
    }

    fn read_closed(&self) {
        STATE.with_borrow_mut(|state| {
            state.tell(&format!("read-closed {}", self.0));
            let peer = state.peer(self.0);
            if peer.stays == Stays::UntilClosed {
                peer.connection().close();
            }
        });
    }

    fn connection_lost(&self, reason: CloseReason) {
        STATE.with_borrow_mut(|state| {
            let id = self.0;
            state.tell(&format!("lost {id} {}", reason_in_words(&reason)));
            state.watchers.retain(|watcher| *watcher != id);
            let commands = std::mem::take(&mut state.peer(id).on_lost);
            state.run(id, &commands);
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        STATE.with_borrow_mut(|state| state.tell(&format!("dropped {}", self.0)));
    }
}

struct Endpoint(u64);

impl datagram_handler::Guest for Plugin {
    type Endpoint = Endpoint;
}

impl datagram_handler::GuestEndpoint for Endpoint {
    fn new(socket: Socket, origin: Origin) -> Self {
        STATE.with_borrow_mut(|state| {
            let id = socket.id();
            state.sockets.insert(
                id,
                Port {
                    handle: Some(socket),
                    mode: PortMode::Echo,
                },
            );
            state.tell(&format!("bound {id} {}", origin_in_words(&origin)));
            Self(id)
        })
    }

    fn datagrams_received(&self, packets: Vec<Packet>, payloads: Vec<u8>) {
        STATE.with_borrow_mut(|state| state.datagrams(self.0, &packets, &payloads));
    }

    fn closed(&self, reason: CloseReason) {
        STATE.with_borrow_mut(|state| {
            let event = format!("closed {} {}", self.0, reason_in_words(&reason));
            // When the service ends nobody is left to be told.
            log::write(log::Level::Info, &event);
            state.tell(&event);
        });
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        STATE.with_borrow_mut(|state| state.tell(&format!("unbound {}", self.0)));
    }
}

impl deferred_handler::Guest for Plugin {
    fn completed(id: u64, outcome: Result<Value, Error>) {
        STATE.with_borrow_mut(|state| {
            let outcome = match outcome {
                Ok(Value::Nothing) => "ok".to_owned(),
                Ok(Value::Ready) => "ready".to_owned(),
                Ok(Value::Number(number)) => format!("number {number}"),
                Ok(Value::Bytes(bytes)) => format!("bytes {}", bytes_in_words(&bytes)),
                Ok(other) => format!("unexpected {other:?}"),
                Err(Error { code, message }) => format!("error {} {message}", code_in_words(&code)),
            };
            state.tell(&format!("completed {id} {outcome}"));
            if let Some((sender, commands)) = state.later.remove(&id) {
                state.run(sender, &commands);
            }
        });
    }
}

/// What the instance knows.
#[derive(Default)]
struct State {
    peers: HashMap<u64, Peer>,
    groups: HashMap<String, Group>,
    sockets: HashMap<u64, Port>,
    watchers: Vec<u64>,
    /// Commands for the next connection, within `connection-made`.
    next: String,
    on_draining: String,
    /// Commands for the completion of an operation, and who sent them.
    later: HashMap<u64, (u64, String)>,
    refused: bool,
    disk: disk::Disk,
}

/// One connection; it stays here after it is lost.
struct Peer {
    /// None after `drop`.
    handle: Option<Connection>,
    mode: Mode,
    stays: Stays,
    partial: Vec<u8>,
    received: u64,
    /// Bytes of the pattern that were written.
    written: u64,
    /// Bytes of the pattern that `feed` has yet to write.
    hungry: u64,
    on_lost: String,
}

/// One socket; it stays here after it is closed.
struct Port {
    /// None after `udp-drop`.
    handle: Option<Socket>,
    mode: PortMode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PortMode {
    /// Sends everything back.
    Echo,
    /// Tells the watchers of every packet.
    Traced,
    /// Breaks.
    Trap,
}

impl Port {
    fn socket(&self) -> &Socket {
        self.handle.as_ref().expect("its handle was dropped")
    }
}

#[derive(Clone, Copy)]
enum Mode {
    /// Runs every line.
    Commands,
    /// Counts what comes.
    Sink,
    /// Counts, and tells the watchers of every callback.
    Traced,
    /// Sends back what comes.
    Echo,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stays {
    /// Closes when the peer will send no more.
    UntilClosed,
    /// Stays open.
    Open,
}

impl Peer {
    fn connection(&self) -> &Connection {
        self.handle.as_ref().expect("its handle was dropped")
    }
}

impl State {
    fn made(&mut self, connection: Connection, origin: &Origin) -> Option<handler::Session> {
        let id = connection.id();
        self.peers.insert(
            id,
            Peer {
                handle: Some(connection),
                mode: Mode::Commands,
                stays: Stays::UntilClosed,
                partial: Vec::new(),
                received: 0,
                written: 0,
                hungry: 0,
                on_lost: String::new(),
            },
        );
        self.tell(&format!("made {id} {}", origin_in_words(origin)));
        self.refused = false;
        let commands = std::mem::take(&mut self.next);
        self.run(id, &commands);
        (!self.refused).then(|| handler::Session::new(Session(id)))
    }

    fn received(&mut self, id: u64, data: &[u8]) {
        let peer = self.peer(id);
        peer.received += data.len() as u64;
        match peer.mode {
            Mode::Sink => {}
            Mode::Traced => self.tell(&format!("data {id} {}", data.len())),
            Mode::Echo => {
                peer.connection().write(data);
            }
            Mode::Commands => {
                peer.partial.extend_from_slice(data);
                while let Some(end) = self.peer(id).partial.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.peer(id).partial.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    self.run_all(id, line.split(';'));
                }
            }
        }
    }

    /// Runs what was kept for later.
    fn run(&mut self, sender: u64, commands: &str) {
        self.run_all(sender, commands.split('&'));
    }

    fn run_all<'a>(&mut self, sender: u64, commands: impl Iterator<Item = &'a str>) {
        for command in commands
            .map(str::trim)
            .filter(|command| !command.is_empty())
        {
            let (target, command) = match command.strip_prefix('@') {
                Some(rest) => {
                    let (target, command) = rest.split_once(' ').unwrap_or((rest, ""));
                    (number(target), command)
                }
                None => (sender, command),
            };
            self.step(sender, target, command);
        }
    }

    fn step(&mut self, sender: u64, target: u64, command: &str) {
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        if self.step_of_instance(sender, word, rest)
            || self.step_of_socket(sender, word, rest)
            || self.step_of_disk(sender, word, rest)
        {
            return;
        }
        let peer = self.peer(target);
        let answer = match word {
            "write" => Some(peer.connection().write(format!("{rest}\n").as_bytes())),
            "fill" => {
                let data = pattern(peer.written, number(rest));
                peer.written += data.len() as u64;
                Some(peer.connection().write(&data))
            }
            _ => None,
        };
        if let Some(unsent) = answer {
            // Who tells others to write wants to know what came of it; who writes itself, nothing but the bytes.
            if target != sender {
                self.answer(sender, &unsent.to_string());
            }
            return;
        }
        if self.step_of_bulk(sender, target, word, rest)
            || self.step_of_accounts(sender, target, word, rest)
        {
            return;
        }
        let peer = self.peer(target);
        match word {
            "close" => peer.connection().close(),
            "abort" => peer.connection().abort(),
            "shutdown" => peer.connection().shutdown_write(),
            "pause" => peer.connection().pause_reading(),
            "resume" => peer.connection().resume_reading(),
            "drop" => drop(peer.handle.take()),
            "idle" => {
                let timeout = (rest != "none").then(|| milliseconds(rest));
                peer.connection().set_idle_timeout(timeout);
            }
            "stay" => peer.stays = Stays::Open,
            "on-lost" => rest.clone_into(&mut peer.on_lost),
            "mode" => {
                peer.mode = match rest {
                    "commands" => Mode::Commands,
                    "sink" => Mode::Sink,
                    "traced" => Mode::Traced,
                    "echo" => Mode::Echo,
                    _ => panic!("unknown mode `{rest}`"),
                }
            }
            "feed" => self.feed(target, number(rest)),
            "mark" => {
                peer.connection().write(format!("mark {rest}\n").as_bytes());
            }
            "watch" => self.watchers.push(target),
            "id" => self.answer(sender, &target.to_string()),
            "handle-id" => {
                let id = peer.connection().id();
                self.answer(sender, &id.to_string());
            }
            "count" => {
                let received = peer.received;
                self.answer(sender, &received.to_string());
            }
            "local" => {
                let address = peer.connection().local();
                self.answer(sender, &address_in_words(&address));
            }
            "peer" => {
                let address = peer.connection().peer();
                self.answer(sender, &address_in_words(&address));
            }
            "join" => {
                let member = self.peers[&target].connection();
                self.groups
                    .entry(rest.to_owned())
                    .or_insert_with(Group::new)
                    .add(member);
            }
            "leave" => self.groups[rest].remove(self.peers[&target].connection()),
            "say" => {
                let (group, text) = rest.split_once(' ').expect("say GROUP TEXT");
                self.groups[group].write(format!("{text}\n").as_bytes(), None);
            }
            "say-others" => {
                let (group, text) = rest.split_once(' ').expect("say-others GROUP TEXT");
                let skip = self.peers[&target].connection();
                self.groups[group].write(format!("{text}\n").as_bytes(), Some(skip));
            }
            "say-fill" => {
                let (group, count) = rest.split_once(' ').expect("say-fill GROUP N");
                self.groups[group].write(&pattern(0, number(count)), None);
            }
            "disband" => drop(self.groups.remove(rest)),
            _ => panic!("unknown command `{command}`"),
        }
    }

    /// Does what is about TLS and bulk, and says whether it was that.
    fn step_of_bulk(&mut self, sender: u64, target: u64, word: &str, rest: &str) -> bool {
        let connection = self.peers[&target].handle.as_ref();
        let id = match (word, connection) {
            ("start-tls", Some(connection)) => connection.start_tls(&match rest {
                "server" => TlsRole::Server,
                name => TlsRole::Client(name.to_owned()),
            }),
            ("send-file", Some(to)) => {
                let (name, extent) = rest.split_once(' ').expect("send-file NAME EXTENT");
                self.disk
                    .with_file(name, |file| bulk::send_file(to, file, extent_of(extent)))
            }
            ("receive-file", Some(from)) => {
                let (name, extent) = rest.split_once(' ').expect("receive-file NAME EXTENT");
                self.disk.with_file(name, |file| {
                    bulk::receive_file(from, file, extent_of(extent))
                })
            }
            ("splice", Some(from)) => {
                let (to, extent) = rest.split_once(' ').expect("splice TO EXTENT");
                bulk::splice(
                    from,
                    self.peers[&number(to)].connection(),
                    extent_of(extent),
                )
            }
            ("tls", Some(connection)) => {
                let info = connection.tls().map_or_else(
                    || "none".to_owned(),
                    |info| {
                        let alpn = info
                            .alpn
                            .map(|alpn| String::from_utf8_lossy(&alpn).into_owned());
                        format!(
                            "{} {} alpn={} name={} certificates={} resumed={} from={}",
                            info.version,
                            info.cipher_suite,
                            alpn.as_deref().unwrap_or("-"),
                            info.server_name.as_deref().unwrap_or("-"),
                            info.peer_certificates.len(),
                            info.resumed,
                            info.resumed_from
                                .map_or_else(|| "-".to_owned(), |id| id.to_string()),
                        )
                    },
                );
                self.answer(sender, &info);
                return true;
            }
            _ => return false,
        };
        self.started(sender, id, "");
        true
    }

    /// Does what is about no connection, and says whether it was that.
    fn step_of_instance(&mut self, sender: u64, word: &str, rest: &str) -> bool {
        match word {
            "next" => rest.clone_into(&mut self.next),
            "on-draining" => rest.clone_into(&mut self.on_draining),
            "refuse" => self.refused = true,
            "tell" => self.tell(rest),
            "after" => {
                let (delay, commands) = rest.split_once(' ').unwrap_or((rest, ""));
                let id = deferred::after(milliseconds(delay));
                self.started(sender, id, commands);
            }
            "connect" => {
                let (endpoint, commands) = rest.split_once(' ').unwrap_or((rest, ""));
                let id = deferred::connect(endpoint);
                self.started(sender, id, commands);
            }
            "resolve" => {
                let id = deferred::resolve(rest);
                self.started(sender, id, "");
            }
            "take" => {
                let addresses = deferred::take_addresses(number(rest));
                let words: Vec<_> = addresses.iter().map(address_in_words).collect();
                self.answer(sender, &words.join(" "));
            }
            "cancel" => deferred::cancel(number(rest)),
            "progress" => {
                let moved = bulk::progress(number(rest));
                let words = moved.map_or_else(|| "none".to_owned(), |moved| moved.to_string());
                self.answer(sender, &words);
            }
            "size" => match storage::named_file(rest).and_then(|file| file.size()) {
                Ok(size) => self.answer(sender, &size.to_string()),
                Err(error) => self.answer(sender, &code_in_words(&error.code)),
            },
            "keep-last" => {
                let last = self.later.keys().max().copied();
                deferred::keep(last.expect("nothing was started"));
            }
            "cancel-last" => {
                let last = self.later.keys().max().copied();
                deferred::cancel(last.expect("nothing was started"));
            }
            "log" => {
                let (level, text) = rest.split_once(' ').expect("log LEVEL TEXT");
                let level = match level {
                    "trace" => log::Level::Trace,
                    "debug" => log::Level::Debug,
                    "info" => log::Level::Info,
                    "warn" => log::Level::Warn,
                    "error" => log::Level::Error,
                    _ => panic!("unknown level `{level}`"),
                };
                log::write(level, &text.replace("\\n", "\n").replace("\\e", "\x1b"));
            }
            "log-long" => log::write(log::Level::Info, &"x".repeat(number(rest) as usize)),
            "print" => log::print(rest.replace("\\n", "\n").as_bytes()),
            "now" => {
                let (monotonic, wall) = (clock::monotonic(), clock::wall());
                self.answer(sender, &format!("{monotonic} {wall}"));
            }
            "random" => {
                let (number, bytes) = (random::get_u64(), random::get_bytes(16));
                self.answer(sender, &format!("{number} {bytes:?}"));
            }
            "random-length" => {
                let length = u32::try_from(number(rest)).expect("a length");
                let bytes = random::get_bytes(length);
                self.answer(sender, &bytes.len().to_string());
            }
            _ => return false,
        }
        true
    }

    fn datagrams(&mut self, id: u64, packets: &[Packet], payloads: &[u8]) {
        let port = &self.sockets[&id];
        match port.mode {
            PortMode::Echo => port.socket().send(packets, payloads),
            PortMode::Trap => panic!("told to"),
            PortMode::Traced => {
                let mut rest = payloads;
                for packet in packets {
                    let (payload, after) = rest.split_at(packet.length as usize);
                    rest = after;
                    let cut = if packet.truncated { "cut" } else { "whole" };
                    self.tell(&format!(
                        "datagram {id} {} {} {cut} {} {}",
                        address_of(packet.peer, packet.port, packet.scope),
                        ip_of(packet.local),
                        payload.len(),
                        String::from_utf8_lossy(&payload[..payload.len().min(40)])
                    ));
                }
            }
        }
    }

    /// Does what is about the socket whose id is the first argument, and says whether it was that.
    fn step_of_socket(&mut self, sender: u64, word: &str, rest: &str) -> bool {
        let Some(word) = word.strip_prefix("udp-") else {
            return false;
        };
        let (id, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let port = self.sockets.get_mut(&number(id)).expect("such a socket");
        let words: Vec<&str> = rest.split(' ').collect();
        match word {
            "mode" => {
                port.mode = match rest {
                    "echo" => PortMode::Echo,
                    "traced" => PortMode::Traced,
                    "trap" => PortMode::Trap,
                    _ => panic!("unknown mode `{rest}`"),
                }
            }
            // udp-send ID ADDRESS TEXT [TIMES]
            "send" => {
                let times = words.get(2).map_or(1, |times| number(times));
                let (packet, payload) = packet(words[0], words[1]);
                let packets = vec![packet; times as usize];
                port.socket()
                    .send(&packets, &payload.repeat(times as usize));
            }
            // One byte less than its packets have.
            "send-short" => {
                let (packet, payload) = packet(words[0], words[1]);
                port.socket().send(&[packet], &payload[1..]);
            }
            // udp-send-group ID ADDRESS TEXT INTERFACE
            "send-group" => {
                let (mut packet, payload) = packet(words[0], words[1]);
                packet.scope = u32::try_from(number(words[2])).expect("an interface");
                port.socket().send(&[packet], &payload);
            }
            "local" => {
                let address = port.socket().local();
                self.answer(sender, &address_in_words(&address));
            }
            "close" => port.socket().close(),
            "drop" => drop(port.handle.take()),
            "join" | "leave" => {
                let address = Address::Socket(socket_address(&format!("{}:0", words[0])));
                let interface = u32::try_from(number(words[1])).expect("an interface");
                let done = match word {
                    "join" => port.socket().join(&address, interface),
                    _ => port.socket().leave(&address, interface),
                };
                let answer = match done {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => format!("error {} {}", code_in_words(&error.code), error.message),
                };
                self.answer(sender, &answer);
            }
            "ttl" => port
                .socket()
                .set_multicast_ttl(u8::try_from(number(rest)).expect("a number of hops")),
            "loop" => port.socket().set_multicast_loop(rest == "on"),
            _ => panic!("unknown command `udp-{word}`"),
        }
        true
    }

    /// Answers the id of an operation, and keeps what is to be done when it completes.
    fn started(&mut self, sender: u64, id: u64, commands: &str) {
        self.later.insert(id, (sender, commands.to_owned()));
        if self
            .peers
            .get(&sender)
            .is_some_and(|peer| peer.handle.is_some())
        {
            self.tell(&format!("started {id}"));
        }
    }

    /// Writes the pattern as fast as the peer takes it.
    fn feed(&mut self, id: u64, more: u64) {
        let peer = self.peer(id);
        peer.hungry += more;
        if peer.hungry == 0 {
            return;
        }
        while peer.hungry > 0 {
            let data = pattern(peer.written, peer.hungry.min(10_000));
            peer.hungry -= data.len() as u64;
            peer.written += data.len() as u64;
            if peer.connection().write(&data) >= HIGH_WATER {
                return;
            }
        }
        self.tell(&format!("fed {id}"));
    }

    fn tell(&self, event: &str) {
        for watcher in &self.watchers {
            if let Some(connection) = self
                .peers
                .get(watcher)
                .and_then(|peer| peer.handle.as_ref())
            {
                connection.write(format!("{event}\n").as_bytes());
            }
        }
    }

    fn answer(&self, sender: u64, text: &str) {
        if let Some(connection) = self
            .peers
            .get(&sender)
            .and_then(|peer| peer.handle.as_ref())
        {
            connection.write(format!("= {text}\n").as_bytes());
        }
    }

    fn peer(&mut self, id: u64) -> &mut Peer {
        self.peers
            .get_mut(&id)
            .expect("there was such a connection")
    }
}

/// As the contract says.
const HIGH_WATER: u32 = 64 << 10;
