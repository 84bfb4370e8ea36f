//! Calls the host as bytes say, on the contract's raw bindings, for the fuzz target `contract`.
//!
//! The first connection begins with a length of two bytes and a script as long. A script is a row of calls, each a byte and what it takes; `State::step` is the list.
//! What does not fit into one callback waits for the next one (`yield`), whichever that is, until a connection is lost: from then on nothing waits, and at the script's end all that is
//! left is closed. A connection that was made out has no limit of its own, so a script that waited for it and for nothing else would keep it forever. Handles are chosen from
//! those that are there, by a number; some are made up.

#![allow(
    clippy::indexing_slicing,
    reason = "a trap of this guest is one more thing that the host has to take"
)]

mod calls;
mod script;

mod bindings {
    #![allow(missing_docs, reason = "generated")]
    wit_bindgen::generate!({ path: "../../../wit", world: "datagram-plugin" });
}

use std::cell::RefCell;

use bindings::{
    exports::nethost::plugin::{datagram_handler, deferred_handler, handler},
    nethost::plugin::{
        datagram::{Packet, Socket},
        deferred::Value,
        metrics::{Counter, Gauge, Histogram},
        storage::{Directory, File},
        transport::{Connection, Group},
        types::{CloseReason, Error, Origin},
    },
};
use script::Script;

struct Plugin;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Plugin with_types_in bindings);
};

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// What the instance has, each kind by the number of its coming.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) script: Script,
    /// What came of the script's length and bytes so far; none once it runs.
    received: Option<Vec<u8>>,
    began: bool,
    pub(crate) connections: Vec<Option<Connection>>,
    pub(crate) groups: Vec<Option<Group>>,
    pub(crate) sockets: Vec<Option<Socket>>,
    pub(crate) files: Vec<Option<File>>,
    pub(crate) directories: Vec<Option<Directory>>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) histograms: Vec<Histogram>,
    /// Operations, and what the script took for one.
    pub(crate) ids: Vec<u64>,
    /// Calls of all callbacks together.
    calls: u32,
    /// A connection was lost: nothing waits any more.
    is_ending: bool,
}

/// What a call of the script means for those after it.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    /// They are made in the same callback.
    Now,
    /// They wait for another callback.
    Later,
}

struct Session;

struct Endpoint;

impl handler::Guest for Plugin {
    type Session = Session;

    fn configure(_config: String) -> Result<(), String> {
        Ok(())
    }

    fn draining(_deadline: u64) {
        go_on();
    }

    fn connection_made(connection: Connection, _origin: Origin) -> Option<handler::Session> {
        STATE.with_borrow_mut(|state| {
            state.connections.push(Some(connection));
            state.run();
        });
        Some(handler::Session::new(Session))
    }
}

impl handler::GuestSession for Session {
    fn data_received(&self, data: Vec<u8>) {
        STATE.with_borrow_mut(|state| state.take(&data));
    }

    fn writable(&self) {
        go_on();
    }

    fn read_closed(&self) {
        go_on();
    }

    fn connection_lost(&self, _reason: CloseReason) {
        STATE.with_borrow_mut(|state| {
            // Of a script that never came whole nothing is run.
            state.is_ending = true;
            state.run();
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        go_on();
    }
}

impl deferred_handler::Guest for Plugin {
    fn completed(id: u64, _outcome: Result<Value, Error>) {
        STATE.with_borrow_mut(|state| state.ids.push(id));
        go_on();
    }
}

impl datagram_handler::Guest for Plugin {
    type Endpoint = Endpoint;
}

impl datagram_handler::GuestEndpoint for Endpoint {
    fn new(socket: Socket, _origin: Origin) -> Self {
        STATE.with_borrow_mut(|state| {
            state.sockets.push(Some(socket));
            state.run();
        });
        Self
    }

    fn datagrams_received(&self, _packets: Vec<Packet>, _payloads: Vec<u8>) {
        go_on();
    }

    fn closed(&self, _reason: CloseReason) {
        go_on();
    }
}

fn go_on() {
    STATE.with_borrow_mut(State::run);
}

impl State {
    fn take(&mut self, data: &[u8]) {
        if self.began {
            return self.run();
        }
        let received = self.received.get_or_insert_default();
        received.extend_from_slice(data);
        let Some((length, rest)) = received.split_first_chunk::<2>() else {
            return;
        };
        if let Some(script) = rest.get(..usize::from(u16::from_le_bytes(*length))) {
            self.script = Script::new(script.to_vec());
            self.began = true;
            self.run();
        }
    }

    /// Makes the calls that come next. At the end of the script all connections are closed, so that whoever waits for the end need not wait long.
    fn run(&mut self) {
        if !self.began {
            return;
        }
        while !self.script.is_over() && self.calls < MOST_CALLS {
            self.calls += 1;
            if self.step() == Next::Later && !self.is_ending {
                return;
            }
        }
        for connection in self.connections.iter().flatten() {
            connection.close();
        }
    }
}

/// A script of a few bytes could make a call for each of them in each of many callbacks; this is plenty.
const MOST_CALLS: u32 = 4096;
