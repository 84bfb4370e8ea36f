//! What a script can call: everything that the contract has.

use std::mem::ManuallyDrop;

use super::{Next, State};
use crate::bindings::nethost::plugin::{
    accounts, bulk,
    bulk::Extent,
    clock, command,
    command::{Output, StandardStream},
    datagram::Packet,
    deferred, log,
    metrics::{Counter, Description, Gauge, Histogram},
    progress, random, storage,
    storage::{Lock, Opening},
    transport::{Connection, Group, TlsRole},
    types::{Address, SocketAddress},
};

impl State {
    /// Makes one call.
    pub(crate) fn step(&mut self) -> Next {
        match self.script.byte() % 32 {
            0..8 => self.call_connection(),
            8..11 => self.call_group(),
            11..15 => self.call_deferred(),
            15..19 => self.call_storage(),
            19..21 => self.call_bulk(),
            21 => self.call_accounts(),
            22 | 23 => self.call_metrics(),
            24 => self.call_log(),
            25 => self.call_datagram(),
            26 => self.call_command(),
            27 => self.call_with_what_is_not_there(),
            28 => self.misbehave(),
            29 => _ = (clock::monotonic(), clock::wall()),
            _ => return Next::Later,
        }
        Next::Now
    }

    fn call_connection(&mut self) {
        let which = usize::from(self.script.byte());
        let what = self.script.byte() % 16;
        let data = if what < 4 {
            self.script.bytes()
        } else {
            Vec::new()
        };
        let timeout = (what == 9).then(|| self.script.option()).flatten();
        let name = if what == 13 {
            self.script.word(HOSTS)
        } else {
            String::new()
        };
        let count = self.connections.len();
        let Some(Some(connection)) = self.connections.get(which % count.max(1)) else {
            return;
        };
        match what {
            0..3 => _ = connection.write(&data),
            3 => (0..100).for_each(|_| _ = connection.write(&data[..data.len().min(3)])),
            4 => connection.close(),
            5 => connection.shutdown_write(),
            6 => connection.abort(),
            7 => connection.pause_reading(),
            8 => connection.resume_reading(),
            9 => connection.set_idle_timeout(timeout),
            10 => _ = (connection.id(), connection.local(), connection.peer()),
            11 => _ = (connection.can_start_tls(), connection.tls()),
            12 => self.ids.push(connection.start_tls(&TlsRole::Server)),
            13 => self.ids.push(connection.start_tls(&TlsRole::Client(name))),
            _ => drop(self.connections[which % count].take()),
        }
    }

    fn call_group(&mut self) {
        let (which, member) = (
            usize::from(self.script.byte()),
            usize::from(self.script.byte()),
        );
        let what = self.script.byte() % 8;
        if what < 2 || self.groups.is_empty() {
            return self.groups.push(Some(Group::new()));
        }
        let at = which % self.groups.len();
        let data = if what > 5 {
            self.script.bytes()
        } else {
            Vec::new()
        };
        let Some(group) = &self.groups[at] else {
            return;
        };
        let count = self.connections.len().max(1);
        let member = self
            .connections
            .get(member % count)
            .and_then(Option::as_ref);
        match (what, member) {
            (2 | 3, Some(member)) => group.add(member),
            (4, Some(member)) => group.remove(member),
            (5, _) => drop(self.groups[at].take()),
            (6, member) => group.write(&data, member),
            _ => group.write(&data, None),
        }
    }

    fn call_deferred(&mut self) {
        let id = self.id();
        match self.script.byte() % 8 {
            0 | 1 => {
                let delay = self.script.number();
                self.ids.push(deferred::after(delay));
            }
            2 => deferred::cancel(id),
            3 => deferred::keep(id),
            4 | 5 => {
                let endpoint = match self.own_address() {
                    Some(own) if self.script.flag() => own,
                    _ => self.script.word(ENDPOINTS),
                };
                self.ids.push(deferred::connect(&endpoint));
            }
            6 => {
                let name = self.script.word(HOSTS);
                self.ids.push(deferred::resolve(&name));
            }
            _ => _ = deferred::take_addresses(id),
        }
    }

    /// Where this plugin itself listens.
    fn own_address(&self) -> Option<String> {
        let connection = self.connections.first()?.as_ref()?;
        match connection.local() {
            Address::Socket(SocketAddress { port, .. }) => Some(format!("tcp://127.0.0.1:{port}")),
            _ => None,
        }
    }

    fn call_storage(&mut self) {
        let what = self.script.byte() % 32;
        let id = self.id();
        match what {
            0 | 1 => {
                let name = self.script.word(&["d"]);
                self.directories
                    .extend(storage::named_directory(&name).ok().map(Some));
            }
            2 => {
                let name = self.script.word(&["f"]);
                self.files.extend(storage::named_file(&name).ok().map(Some));
            }
            3..6 => self.files.extend(storage::take_file(id).map(Some)),
            6 => _ = storage::take_metadata(id),
            7 => _ = storage::take_page(id),
            8..22 => self.call_directory(what),
            _ => self.call_file(what),
        }
    }

    fn call_directory(&mut self, what: u8) {
        let (path, other) = (self.script.word(PATHS), self.script.word(PATHS));
        let (which, number) = (usize::from(self.script.byte()), self.script.number());
        let count = self.directories.len().max(1);
        let Some(directory) = self.directories.get_mut(which % count) else {
            return;
        };
        let Some(open) = directory else {
            return;
        };
        let opening = [
            Opening::Read,
            Opening::Update,
            Opening::Create,
            Opening::CreateNew,
            Opening::Replace,
        ];
        let id = match what {
            8..12 => open.open(&path, opening[which % 5]),
            12 => open.stat(&path),
            13 => open.list_page(&path, number),
            14 => open.make_directory(&path),
            15 => open.rename(&path, &other),
            16 => open.link(&path, &other),
            17 => open.remove_file(&path),
            18 => open.remove_directory(&path),
            19 => open.sync(&path),
            20 => open.watch(&path),
            _ => {
                let _mode = open.is_writable();
                return *directory = None;
            }
        };
        self.ids.push(id);
    }

    fn call_file(&mut self, what: u8) {
        let (which, number) = (usize::from(self.script.byte()), self.script.number());
        let data = if what < 26 {
            self.script.bytes()
        } else {
            Vec::new()
        };
        let count = self.files.len().max(1);
        let Some(file) = self.files.get_mut(which % count) else {
            return;
        };
        let Some(open) = file else {
            return;
        };
        let locks = [Lock::Shared, Lock::Exclusive, Lock::Released];
        let id = match what {
            22 | 23 => open.write_at(number, &data),
            24 | 25 => open.append(&data),
            26 => open.read_at(number, u32::try_from(number >> 8).unwrap_or(u32::MAX)),
            27 => open.read_at(0, 100),
            28 => open.set_size(number),
            29 => open.sync(),
            30 => open.lock(locks[which % 3]),
            _ => {
                let _size = open.size();
                return *file = None;
            }
        };
        self.ids.push(id);
    }

    fn call_bulk(&mut self) {
        let what = self.script.byte() % 4;
        let places: [usize; 3] = std::array::from_fn(|_| usize::from(self.script.byte()));
        let extent = Extent {
            offset: self.script.number(),
            length: self.script.option(),
            // A byte a second would be a connection that goes on for hours.
            rate: self.script.option().map(|rate| rate.max(SLOWEST)),
        };
        let id = self.id();
        let connection = |at: usize| {
            let count = self.connections.len().max(1);
            self.connections
                .get(places[at] % count)
                .and_then(Option::as_ref)
        };
        let file = self.files.get(places[2] % self.files.len().max(1));
        let started = match (
            what,
            connection(0),
            file.and_then(Option::as_ref),
            connection(1),
        ) {
            (0, Some(connection), Some(file), _) => bulk::send_file(connection, file, extent),
            (1, Some(connection), Some(file), _) => bulk::receive_file(connection, file, extent),
            (2, Some(source), _, Some(destination)) => bulk::splice(source, destination, extent),
            _ => {
                _ = bulk::progress(id);
                return;
            }
        };
        self.ids.push(started);
    }

    fn call_accounts(&mut self) {
        let what = self.script.byte() % 6;
        let (user, password) = (self.script.word(&["ann"]), self.script.text());
        let message = self.script.bytes();
        let id = self.id();
        let Some(Some(connection)) = self.connections.first() else {
            return;
        };
        let started = match what {
            0 => accounts::verify(connection, &user, &password),
            1 => accounts::external(connection, (message.len() > 2).then_some(&user)),
            2 => accounts::scram_first(connection, &message),
            3 => accounts::scram_final(connection, &message),
            4 => {
                _ = accounts::take_account(id);
                return;
            }
            _ => {
                _ = accounts::anonymous_granted();
                return;
            }
        };
        self.ids.push(started);
    }

    fn call_metrics(&mut self) {
        let what = self.script.byte() % 12;
        if what > 8 {
            return self.count(what);
        }
        if (3..6).contains(&what) {
            return self.label(what);
        }
        let count = usize::from(self.script.byte() % 10);
        let description = Description {
            name: self.script.word(METRICS),
            help: self.script.word(&["help"]),
            unit: self
                .script
                .flag()
                .then(|| self.script.word(&["seconds", "bytes"])),
            labels: (0..count / 3)
                .map(|_| self.script.word(&["a", "b", "le"]))
                .collect(),
        };
        let bounds: Vec<f64> = (0..count)
            .map(|_| f64::from_bits(self.script.number() << 48))
            .collect();
        match what {
            0 | 6 => self.counters.extend(Counter::declare(&description)),
            1 | 7 => self.gauges.extend(Gauge::declare(&description)),
            _ => self
                .histograms
                .extend(Histogram::declare(&description, &bounds)),
        }
    }

    fn label(&mut self, what: u8) {
        let count = self.script.byte() % 4;
        let values: Vec<String> = (0..count).map(|_| self.script.word(&["x", "y"])).collect();
        let which = usize::from(self.script.byte());
        match what {
            3 => {
                let made = pick(&self.counters, which).map(|it| it.labelled(&values));
                self.counters.extend(made.and_then(Result::ok));
            }
            4 => {
                let made = pick(&self.gauges, which).map(|it| it.labelled(&values));
                self.gauges.extend(made.and_then(Result::ok));
            }
            _ => {
                let made = pick(&self.histograms, which).map(|it| it.labelled(&values));
                self.histograms.extend(made.and_then(Result::ok));
            }
        }
    }

    fn count(&mut self, what: u8) {
        let which = usize::from(self.script.byte());
        let number = self.script.number();
        let value = f64::from_bits(number);
        match what {
            9 => pick(&self.counters, which).map_or((), |it| it.add(number)),
            10 => pick(&self.gauges, which).map_or((), |it| {
                it.set(value);
                it.add(value);
            }),
            _ => pick(&self.histograms, which).map_or((), |it| it.observe(value)),
        }
    }

    fn call_log(&mut self) {
        let level = [
            log::Level::Trace,
            log::Level::Debug,
            log::Level::Info,
            log::Level::Warn,
            log::Level::Error,
        ];
        let which = usize::from(self.script.byte());
        match which % 6 {
            5 => log::print(&self.script.bytes()),
            at => log::write(level[at], &self.script.text()),
        }
    }

    fn call_datagram(&mut self) {
        let what = self.script.byte() % 10;
        let which = usize::from(self.script.byte());
        let count = usize::from(self.script.byte());
        let address = Address::Socket(SocketAddress {
            ip: (0, 0xffff_0000_0000 | self.script.number()),
            port: self.script.byte().into(),
            scope: 0,
        });
        let packets: Vec<Packet> = (0..count).map(|_| self.packet()).collect();
        let payloads = self.script.bytes();
        let sockets = self.sockets.len().max(1);
        let Some(Some(socket)) = self.sockets.get(which % sockets) else {
            return;
        };
        match what {
            0..4 => socket.send(&packets, &payloads),
            4 => _ = (socket.id(), socket.local()),
            5 => _ = socket.join(&address, 0),
            6 => _ = socket.leave(&address, 0),
            7 => socket.set_multicast_ttl(u8::try_from(count % 256).unwrap_or(0)),
            8 => socket.set_multicast_loop(count % 2 == 0),
            _ => {
                socket.close();
                self.sockets[which % sockets] = None;
            }
        }
    }

    fn packet(&mut self) -> Packet {
        Packet {
            length: u32::try_from(self.script.number()).unwrap_or(u32::MAX),
            port: self.script.byte().into(),
            truncated: false,
            peer: (0, 0xffff_7f00_0001),
            local: (0, 0),
            scope: 0,
        }
    }

    /// No service has a console: all of these are refused, one way or another.
    fn call_command(&mut self) {
        match self.script.byte() % 9 {
            0 => self.ids.push(command::read_input(
                u32::try_from(self.script.number()).unwrap_or(u32::MAX),
            )),
            1 => _ = command::write(Output::Standard, &self.script.bytes()),
            2 => self.ids.push(command::written(Output::Error, 0)),
            3 => self
                .ids
                .push(command::open(&self.script.text(), Opening::Read)),
            4 => command::exit(self.script.byte()),
            5 => _ = command::is_terminal(StandardStream::Input),
            6 => {
                _ = (
                    command::is_command(),
                    command::terminal_size(),
                    command::wants_colour(Output::Standard),
                )
            }
            7 => _ = command::name_servers(),
            _ => {
                let bar = progress::Bar::new(progress::Unit::Bytes, self.script.option());
                bar.set(self.script.number());
                bar.set_message(&self.script.text());
                bar.finish();
            }
        }
    }

    /// Handles that the host never gave, or gave for something else.
    #[allow(unsafe_code, reason = "the host has to find it out")]
    fn call_with_what_is_not_there(&mut self) {
        let what = self.script.byte() % 4;
        let handle = u32::try_from(self.script.number() % (1 << 32)).unwrap_or(0);
        // SAFETY: a handle is a number; nothing of this guest depends on it.
        let connection = unsafe { Connection::from_handle(handle) };
        // SAFETY: as above.
        let group = ManuallyDrop::new(unsafe { Group::from_handle(handle) });
        match what {
            0 => drop(connection),
            1 => {
                let connection = ManuallyDrop::new(connection);
                _ = connection.write(b"x");
            }
            2 => {
                let connection = ManuallyDrop::new(connection);
                group.add(&connection);
            }
            _ => {
                std::mem::forget(connection);
                group.write(b"x", None);
            }
        }
    }

    fn misbehave(&mut self) {
        match self.script.byte() % 8 {
            0 => panic!("as the script says"),
            1 => std::mem::forget(std::hint::black_box(Vec::<u8>::with_capacity(
                usize::try_from(self.script.number() % (1 << 28)).unwrap_or(0),
            ))),
            2 => std::mem::forget(Group::new()),
            3 => {
                _ = random::get_bytes(u32::try_from(self.script.number() % (1 << 32)).unwrap_or(0))
            }
            4 => {
                for _ in 0..self.script.byte() {
                    self.ids.push(deferred::after(self.script.number()));
                }
            }
            _ => _ = random::get_u64(),
        }
    }

    /// An operation that there was, or a number.
    fn id(&mut self) -> u64 {
        match self.script.byte() {
            made_up @ 240.. => u64::from(made_up) << 56 | self.script.number(),
            which => {
                let count = self.ids.len().max(1);
                // The last ones are those that are still there.
                let back = usize::from(which) % count + 1;
                let at = self.ids.len().checked_sub(back);
                at.map_or(0, |at| self.ids[at])
            }
        }
    }
}

fn pick<T>(all: &[T], which: usize) -> Option<&T> {
    all.get(which % all.len().max(1))
}

/// Bytes a second of what is moved: all that a client sends is through in a second.
const SLOWEST: u64 = 32 << 10;

const HOSTS: &[&str] = &["localhost", "127.0.0.1", "no-such.invalid", "[::1]", ""];

const ENDPOINTS: &[&str] = &[
    "tcp://127.0.0.1:1",
    "udp://127.0.0.1:9",
    "tls://127.0.0.1:1",
    "unix:@nethost-fuzz-none",
    "tcp://localhost:1?timeout=1ms&bind=127.0.0.2",
    "tcp://10.0.0.1:80",
];

const PATHS: &[&str] = &["a", "b", "a/b", "..", "/etc/passwd", ".", "", "a\0b"];

const METRICS: &[&str] = &["requests", "open", "seconds", "a_total"];
