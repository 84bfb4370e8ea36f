//! What a command (`nethost exec`) asks for: its input, its outputs, and the files that its arguments name.

use std::{io, rc::Rc, time::Duration};

use super::{
    connection::Connection,
    disk::Done,
    handler::{
        CloseReason, ErrorKind, Handler, Id, OperationError, Origin, Outcome, SessionKey, Value,
    },
    holdings::Holdings,
};
use crate::{
    command::{Console, End, Output, named},
    limits::READ_SIZE,
    storage::{Opening, failure},
};

impl Holdings {
    /// Makes the instance to be a command's. Must be called before there is one.
    pub(crate) fn set_console(&self, console: Rc<Console>) {
        // There is none yet.
        let _kept = self.console.set(console);
    }

    /// Returns what surrounds the command; none if this is none.
    pub(crate) fn console(&self) -> Option<&Rc<Console>> {
        self.console.get()
    }

    /// Returns whether nothing is left that could call the instance.
    pub(crate) fn is_idle(&self) -> bool {
        self.operation_count() == 0 && self.connections().is_empty() && self.sockets().is_empty()
    }

    /// The command ends, and its plugin is not called any more.
    pub(crate) fn exit_command(&self, code: u8) {
        if let Some(console) = self.console() {
            console.finish(End::Exited(code));
            self.silence();
        }
    }

    /// Calls nobody any more, whatever comes.
    pub(crate) fn silence(&self) {
        self.set_handler(Rc::new(Silent));
    }

    /// Reads standard input.
    pub(crate) fn read_input(self: &Rc<Self>, id: Id, most: u32) {
        let Some(console) = self.console_for(id) else {
            return;
        };
        if most == 0 {
            let error = OperationError::new(ErrorKind::Invalid, "a read of 0 bytes");
            return self.refuse(id, error);
        }
        let most = usize::try_from(most).unwrap_or(READ_SIZE).min(READ_SIZE);
        let holdings = self.clone();
        self.start_task(id, async move {
            let read = console.read(most).await;
            let failed = |error: io::Error| OperationError::new(ErrorKind::Io, error.to_string());
            holdings.deliver(id, read.map(Value::Bytes).map_err(failed));
        });
    }

    /// Completes once at most so many bytes are unwritten.
    pub(crate) fn written(self: &Rc<Self>, id: Id, output: Output, unwritten: u32) {
        let Some(console) = self.console_for(id) else {
            return;
        };
        let unwritten = usize::try_from(unwritten).unwrap_or(usize::MAX);
        let holdings = self.clone();
        self.start_task(id, async move {
            console.written(output, unwritten).await;
            holdings.deliver(id, Ok(Value::Nothing));
        });
    }

    /// Opens a file that the arguments name.
    pub(crate) fn open_named(self: &Rc<Self>, id: Id, name: String, opening: Opening) {
        let Some(console) = self.console_for(id) else {
            return;
        };
        let files = &console.surroundings().files;
        if let Err(refusal) = files.check(&name, opening) {
            return self.refuse(id, OperationError::new(ErrorKind::Denied, refusal));
        }
        let limit = self.program().limits.open_files;
        let slot = match console.space.slot(self.disk.open_files(), limit) {
            Ok(slot) => slot,
            Err(message) => return self.refuse(id, OperationError::new(ErrorKind::Limit, message)),
        };
        let Some(held) = self.hold(id, name.len()) else {
            return;
        };
        self.in_thread(id, held, None, move || {
            let opened = named::open(&name, opening, slot);
            opened.map(Done::File).map_err(|error| {
                let mut error = failure(error);
                error.message = format!("{name}: {}", error.message);
                error
            })
        });
    }

    fn console_for(&self, id: Id) -> Option<Rc<Console>> {
        let console = self.console().cloned();
        if console.is_none() {
            let message = "the plugin is served, and no command";
            self.refuse(id, OperationError::new(ErrorKind::Unsupported, message));
        }
        console
    }
}

/// What is called in the place of a plugin whose command has ended.
struct Silent;

impl Handler for Silent {
    fn connection_made(&self, _: &Rc<Connection>, _: &Origin) -> Option<SessionKey> {
        None
    }

    fn data_received(&self, _: &Rc<Connection>, _: SessionKey, _: &[u8]) {}

    fn writable(&self, _: &Rc<Connection>, _: SessionKey) {}

    fn read_closed(&self, _: &Rc<Connection>, _: SessionKey) {}

    fn connection_lost(&self, _: &Rc<Connection>, _: SessionKey, _: &CloseReason) {}

    fn completed(&self, _: Option<&Rc<Connection>>, _: Id, _: Outcome) {}

    fn draining(&self, _: Duration) {}
}
