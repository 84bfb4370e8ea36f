//! Does what it is told, on the contract's raw bindings: whoever connects sends commands, a line each.
//!
//! Several commands of one line, separated by `;`, run in one callback. `@7 write x` does it to connection 7. A connection that said `watch` is told of
//! everything that happens (`lost 7 reset`). An answer to who asked begins with `= `. `nethost_tests::scripted` is the other end.
//!
//! What a command keeps for later (`after`, `next`, `on-lost`, ...) is separated by `&` in place of `;`.

#![allow(
    clippy::indexing_slicing,
    reason = "a command that is wrong shall be seen"
)]

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });
}

use std::{cell::RefCell, collections::HashMap, net::Ipv6Addr};

use bindings::{
    exports::nethost::plugin::{deferred_handler, handler},
    nethost::plugin::{
        bulk,
        bulk::Extent,
        clock, deferred,
        deferred::Value,
        log, random, storage,
        storage::File,
        transport::{Connection, Group, TlsRole},
        types::{Address, CloseReason, Error, ErrorCode, Origin},
    },
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

impl deferred_handler::Guest for Plugin {
    fn completed(id: u64, outcome: Result<Value, Error>) {
        STATE.with_borrow_mut(|state| {
            let outcome = match outcome {
                Ok(Value::Nothing) => "ok".to_owned(),
                Ok(Value::Ready) => "ready".to_owned(),
                Ok(Value::Number(number)) => format!("number {number}"),
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
    watchers: Vec<u64>,
    /// Commands for the next connection, within `connection-made`.
    next: String,
    on_draining: String,
    /// Commands for the completion of an operation, and who sent them.
    later: HashMap<u64, (u64, String)>,
    refused: bool,
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
        let origin = match origin {
            Origin::Configured(url) => format!("configured {url}"),
            Origin::Opened(id) => format!("opened {id}"),
            Origin::Dialed(id) => format!("dialed {id}"),
            Origin::Other(words) => format!("other {words}"),
        };
        self.tell(&format!("made {id} {origin}"));
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
        if self.step_of_instance(sender, word, rest) {
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
        if self.step_of_bulk(sender, target, word, rest) {
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
                bulk::send_file(to, &file(name), extent_of(extent))
            }
            ("receive-file", Some(from)) => {
                let (name, extent) = rest.split_once(' ').expect("receive-file NAME EXTENT");
                bulk::receive_file(from, &file(name), extent_of(extent))
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

/// Bytes of which every position is known.
fn pattern(start: u64, count: u64) -> Vec<u8> {
    (start..start + count).map(|at| (at % 251) as u8).collect()
}

fn number(text: &str) -> u64 {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `OFFSET LENGTH RATE`; `-` for none.
fn extent_of(text: &str) -> Extent {
    let mut words = text
        .split(' ')
        .map(|word| (word != "-").then(|| number(word)));
    Extent {
        offset: words.next().flatten().unwrap_or(0),
        length: words.next().flatten(),
        rate: words.next().flatten(),
    }
}

fn file(name: &str) -> File {
    storage::named_file(name).unwrap_or_else(|error| panic!("{}", error.message))
}

fn milliseconds(text: &str) -> u64 {
    number(text) * 1_000_000
}

fn address_in_words(address: &Address) -> String {
    match address {
        Address::Socket(socket) => {
            let (high, low) = socket.ip;
            let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
            format!("[{ip}%{}]:{}", socket.scope, socket.port)
        }
        Address::Path(Some(path)) => format!("path {path}"),
        Address::Path(None) => "unnamed".to_owned(),
        Address::Other(words) => format!("other {words}"),
    }
}

fn reason_in_words(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Done => "done".to_owned(),
        CloseReason::ClosedHere => "closed-here".to_owned(),
        CloseReason::AbortedHere => "aborted-here".to_owned(),
        CloseReason::Reset => "reset".to_owned(),
        CloseReason::Idle => "idle".to_owned(),
        CloseReason::Limit(text) => format!("limit {text}"),
        CloseReason::Tls(text) => format!("tls {text}"),
        CloseReason::Draining => "draining".to_owned(),
        CloseReason::Trapped => "trapped".to_owned(),
        CloseReason::Other(text) => format!("other {text}"),
    }
}

fn code_in_words(code: &ErrorCode) -> String {
    match code {
        ErrorCode::Denied => "denied".to_owned(),
        ErrorCode::Refused => "refused".to_owned(),
        ErrorCode::Timeout => "timeout".to_owned(),
        ErrorCode::Unreachable => "unreachable".to_owned(),
        ErrorCode::Reset => "reset".to_owned(),
        ErrorCode::Closed => "closed".to_owned(),
        ErrorCode::NameNotFound => "name-not-found".to_owned(),
        ErrorCode::Limit => "limit".to_owned(),
        ErrorCode::Invalid => "invalid".to_owned(),
        ErrorCode::Unsupported => "unsupported".to_owned(),
        ErrorCode::Busy => "busy".to_owned(),
        ErrorCode::Io => "io".to_owned(),
        ErrorCode::Other(words) => format!("other({words})"),
        other => format!("{other:?}"),
    }
}

/// As the contract says.
const HIGH_WATER: u32 = 64 << 10;
