//! Does what plugins must not do, on the contract's raw bindings.
//!
//! It echoes until it is told otherwise. The config keys `deed` and `in` say which deed of `deeds` it does in which callback; so does a client's line,
//! `!DEED IN`, from then on for the whole instance. `!DEED` alone is done at once, in `data-received`. What sets a callback off:
//!
//! | `in` | what to do |
//! |---|---|
//! | `configure`, `start` | only by the config |
//! | `connection-made` | connect |
//! | `data-received` | send a line that begins with `!` |
//! | `writable` | send the line, and then read: it has written 512 KiB |
//! | `read-closed` | close the sending side |
//! | `connection-lost`, `destructor` | close the connection |
//! | `completed` | send the line: it has started a timer |
//! | `draining` | terminate the host |
//! | `datagrams-received`, `endpoint`, `endpoint-closed`, `endpoint-destructor` | send a datagram, to a UDP listener of the service |
//! | `signalled` | interrupt the command (`nethost exec misbehaves.wasm`) |
//! | `formats`, `save`, `save-session`, `restore`, `restore-session` | swap; the state is nothing |
//!
//! A deed that the host bounds and does not end is followed by a line `done DEED ...` to whoever asked for it.

mod deeds;

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({ path: "../../../wit", world: "everything" });
}

use std::cell::{Cell, RefCell};

use bindings::{
    exports::nethost::plugin::{
        command_handler::{self, Reaction},
        datagram_handler, deferred_handler, handler, session_swap_handler,
        swap_handler::{self, Refusal},
    },
    nethost::plugin::{
        command::Signal,
        datagram::{Packet, Socket},
        deferred::{self, Value},
        transport::Connection,
        types::{CloseReason, Error, Origin},
    },
};

struct Plugin;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Plugin with_types_in bindings);
};

thread_local! {
    /// The deed, and the callback that it is done in.
    static ORDER: RefCell<(String, String)> = RefCell::default();
    /// The deed goes on in every completion.
    static GOES_ON: Cell<bool> = const { Cell::new(false) };
}

/// Does the deed if it is the time for it.
fn callback(name: &str, connection: Option<&Connection>) {
    let deed = ORDER.with_borrow(|(deed, callback)| (callback == name).then(|| deed.clone()));
    if let Some(deed) = deed {
        deeds::perform(&deed, connection);
    }
}

struct Session {
    connection: RefCell<Option<Connection>>,
    line: RefCell<Vec<u8>>,
}

impl Session {
    fn with<T>(&self, act: impl FnOnce(&Connection) -> T) -> Option<T> {
        self.connection.borrow().as_ref().map(act)
    }

    fn obey(&self, line: &str) {
        let mut words = line.trim_start_matches('!').split_whitespace();
        let deed = words.next().unwrap_or("nothing").to_owned();
        let name = words.next().unwrap_or("data-received").to_owned();
        ORDER.set((deed, name.clone()));
        match name.as_str() {
            "writable" => drop(self.with(|connection| connection.write(&[b'.'; 512 << 10]))),
            "completed" => drop(deferred::after(1)),
            "data-received" => drop(self.with(|connection| callback(&name, Some(connection)))),
            _ => drop(self.with(|connection| connection.write(b"ready\n"))),
        }
    }
}

impl handler::Guest for Plugin {
    type Session = Session;

    fn configure(config: String) -> Result<(), String> {
        let key = |name: &str| {
            let (_, rest) = config.split_once(&format!("\"{name}\":"))?;
            Some(
                rest.trim_start()
                    .trim_start_matches('"')
                    .split('"')
                    .next()?
                    .to_owned(),
            )
        };
        let order = (
            key("deed").unwrap_or_default(),
            key("in").unwrap_or_default(),
        );
        ORDER.set(order);
        callback("configure", None);
        Ok(())
    }

    fn draining(_deadline: u64) {
        callback("draining", None);
    }

    fn connection_made(connection: Connection, _origin: Origin) -> Option<handler::Session> {
        callback("connection-made", Some(&connection));
        Some(handler::Session::new(Session {
            connection: RefCell::new(Some(connection)),
            line: RefCell::default(),
        }))
    }
}

impl handler::GuestSession for Session {
    fn data_received(&self, data: Vec<u8>) {
        if self.line.borrow().is_empty() && data.first() != Some(&b'!') {
            self.with(|connection| connection.write(&data));
            return;
        }
        self.line.borrow_mut().extend(data);
        loop {
            let end = self.line.borrow().iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                return;
            };
            let line: Vec<u8> = self.line.borrow_mut().drain(..=end).collect();
            self.obey(&String::from_utf8_lossy(&line));
        }
    }

    fn writable(&self) {
        self.with(|connection| callback("writable", Some(connection)));
    }

    fn read_closed(&self) {
        self.with(|connection| callback("read-closed", Some(connection)));
        // Whoever does not want to hear of it has said so.
        self.with(Connection::close);
    }

    fn connection_lost(&self, _reason: CloseReason) {
        self.with(|connection| callback("connection-lost", Some(connection)));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        callback("destructor", None);
    }
}

impl deferred_handler::Guest for Plugin {
    fn completed(_id: u64, _outcome: Result<Value, Error>) {
        if GOES_ON.get() {
            deeds::go_on();
        }
        callback("completed", None);
    }
}

struct Endpoint(Socket);

impl datagram_handler::Guest for Plugin {
    type Endpoint = Endpoint;
}

impl datagram_handler::GuestEndpoint for Endpoint {
    fn new(socket: Socket, _origin: Origin) -> Self {
        callback("endpoint", None);
        Self(socket)
    }

    fn datagrams_received(&self, packets: Vec<Packet>, payloads: Vec<u8>) {
        callback("datagrams-received", None);
        self.0.send(&packets, &payloads);
    }

    fn closed(&self, _reason: CloseReason) {
        callback("endpoint-closed", None);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        callback("endpoint-destructor", None);
    }
}

impl command_handler::Guest for Plugin {
    fn start(arguments: Vec<String>) {
        if let Some(deed) = arguments.first() {
            deeds::perform(deed, None);
        }
    }

    fn signalled(_signal: Signal) -> Reaction {
        callback("signalled", None);
        Reaction::Ends
    }
}

impl swap_handler::Guest for Plugin {
    fn formats() -> Vec<String> {
        callback("formats", None);
        vec!["nothing".to_owned()]
    }

    fn save(_format: String) -> Result<Vec<u8>, Refusal> {
        callback("save", None);
        Ok(Vec::new())
    }

    fn restore(_format: String, _state: Vec<u8>) -> Result<(), String> {
        callback("restore", None);
        Ok(())
    }
}

impl session_swap_handler::Guest for Plugin {
    fn save_session(
        _session: handler::SessionBorrow<'_>,
        _format: String,
    ) -> Result<Vec<u8>, Refusal> {
        callback("save-session", None);
        Ok(Vec::new())
    }

    fn restore_session(
        connection: Connection,
        _format: String,
        _state: Vec<u8>,
    ) -> Result<handler::Session, String> {
        callback("restore-session", Some(&connection));
        Ok(handler::Session::new(Session {
            connection: RefCell::new(Some(connection)),
            line: RefCell::default(),
        }))
    }
}
