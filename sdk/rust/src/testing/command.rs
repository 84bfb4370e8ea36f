//! A command's surroundings, natively.

use std::collections::{BTreeMap, VecDeque};

use super::{
    bulk::{self, Access, refused},
    disk::{self, Found},
    reactor,
};
use crate::{
    bindings::nethost::plugin::{
        command::{Output, StandardStream},
        deferred::Value,
        progress::Unit,
        storage::Opening,
        types::{self, ErrorCode},
    },
    connection::Address,
};

pub(crate) fn read_input(most: u32) -> u64 {
    if most == 0 {
        return refused(ErrorCode::Invalid, "a read of 0 bytes");
    }
    let id = reactor::with(|reactor| {
        let id = reactor.next_id();
        let most = (most as usize).min(READ_SIZE);
        reactor.console.reads.push_back((id, most));
        id
    });
    feed();
    id
}

/// Answers the reads that there is input for.
pub(crate) fn feed() {
    reactor::with(|reactor| {
        let console = &mut reactor.console;
        while !console.input.is_empty() || console.input_ended {
            let Some((id, most)) = console.reads.pop_front() else {
                return;
            };
            let count = most.min(console.input.len());
            let data = console.input.drain(..count).collect();
            reactor.finished.push_back((id, Ok(Value::Bytes(data))));
        }
    });
}

pub(crate) fn write_output(to: Output, data: &[u8]) -> u32 {
    reactor::with(|reactor| {
        let console = &mut reactor.console;
        if console.exit.is_some() {
            return 0;
        }
        let output = console.output(to);
        if output.stalls {
            output.unwritten.extend_from_slice(data);
        } else {
            output.written.extend_from_slice(data);
        }
        assert!(
            output.unwritten.len() <= MAX_UNWRITTEN,
            "more than 1 MiB unwritten, which ends the command"
        );
        u32::try_from(output.unwritten.len()).unwrap_or(u32::MAX)
    })
}

pub(crate) fn written(to: Output, unwritten: u32) -> u64 {
    let id = reactor::with(|reactor| {
        let id = reactor.next_id();
        reactor.console.output(to).waits.insert(id, unwritten);
        id
    });
    drain();
    id
}

/// Writes what may be written, and tells those who wait for it.
pub(crate) fn drain() {
    reactor::with(|reactor| {
        for output in &mut reactor.console.outputs {
            if !output.stalls {
                output.written.append(&mut output.unwritten);
            }
            let unwritten = output.unwritten.len();
            let over: Vec<_> = output
                .waits
                .extract_if(.., |_, most| unwritten <= *most as usize)
                .collect();
            for (id, _) in over {
                reactor.finished.push_back((id, Ok(Value::Nothing)));
            }
        }
    });
}

pub(crate) fn open_named(name: &str, opening: Opening) -> u64 {
    let Ok(file) = bulk::named_file(name) else {
        return refused(ErrorCode::Denied, "the arguments name no such file");
    };
    let stored = file.stored();
    if opening != Opening::Read && stored.access == Access::Read {
        return refused(ErrorCode::Denied, "the arguments name it to be read only");
    }
    if opening == Opening::CreateNew {
        return refused(ErrorCode::Exists, "it exists already");
    }
    if opening == Opening::Replace {
        stored.contents.borrow_mut().clear();
    }
    let id = disk::finished(Ok(Value::Ready));
    reactor::with(|reactor| reactor.found.insert(id, Found::File(file)));
    id
}

pub(crate) fn exit(code: u8) {
    reactor::with(|reactor| {
        reactor.console.exit.get_or_insert(code);
    });
}

/// A test configures its plugin before it runs a command, as for one that is served.
pub(crate) fn is_command() -> bool {
    false
}

pub(crate) fn is_terminal(_of: StandardStream) -> bool {
    reactor::with(|reactor| reactor.console.terminal.is_some())
}

pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    reactor::with(|reactor| reactor.console.terminal)
}

pub(crate) fn wants_colour(_to: Output) -> bool {
    reactor::with(|reactor| reactor.console.terminal.is_some())
}

pub(crate) fn name_servers() -> Vec<types::Address> {
    reactor::with(|reactor| {
        let servers = reactor.console.name_servers.iter();
        servers
            .map(|server| Address::Socket(*server).to_contract())
            .collect()
    })
}

/// Forgets an operation.
pub(crate) fn cancel(console: &mut Console, id: u64) {
    console.reads.retain(|(read, _)| *read != id);
    for output in &mut console.outputs {
        output.waits.remove(&id);
    }
}

/// A plugin's handle of a bar.
#[derive(Debug)]
pub(crate) struct Bar(u64);

impl Bar {
    pub(crate) fn new(_unit: Unit, total: Option<u64>) -> Self {
        reactor::with(|reactor| {
            let id = reactor.next_id();
            reactor.console.bars.insert(id, (0, total, String::new()));
            Self(id)
        })
    }

    pub(crate) fn set(&self, done: u64) {
        self.change(|bar| bar.0 = done);
    }

    pub(crate) fn set_total(&self, total: Option<u64>) {
        self.change(|bar| bar.1 = total);
    }

    pub(crate) fn set_message(&self, message: &str) {
        self.change(|bar| bar.2 = message.to_owned());
    }

    /// It stays as it is, which here is as good as nothing.
    pub(crate) fn finish(&self) {}

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        reactor::with(|reactor| reactor.console.bars.get_mut(&self.0).map(change));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        reactor::with(|reactor| reactor.console.bars.remove(&self.0));
    }
}

/// How much is done, of how much, and what is said beside it.
pub(crate) type Progress = (u64, Option<u64>, String);

/// What surrounds a command.
#[derive(Debug, Default)]
pub(crate) struct Console {
    pub(crate) input: VecDeque<u8>,
    pub(crate) input_ended: bool,
    reads: VecDeque<(u64, usize)>,
    outputs: [Outlet; 2],
    pub(crate) exit: Option<u8>,
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) name_servers: Vec<std::net::SocketAddr>,
    pub(crate) bars: BTreeMap<u64, Progress>,
}

#[derive(Debug, Default)]
pub(crate) struct Outlet {
    pub(crate) written: Vec<u8>,
    pub(crate) unwritten: Vec<u8>,
    pub(crate) stalls: bool,
    waits: BTreeMap<u64, u32>,
}

impl Console {
    pub(crate) fn output(&mut self, output: Output) -> &mut Outlet {
        let [standard, error] = &mut self.outputs;
        match output {
            Output::Standard => standard,
            Output::Error => error,
        }
    }

    /// Whether a read waits for input.
    pub(crate) fn is_reading(&self) -> bool {
        !self.reads.is_empty()
    }
}

/// The contract's numbers.
const READ_SIZE: usize = 64 * 1024;
const MAX_UNWRITTEN: usize = 1024 * 1024;
