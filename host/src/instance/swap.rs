//! Moving an instance's state to another version's: saving, restoring, and the moment in which the new one takes over.

use std::{collections::HashMap, rc::Rc};

use wasmtime::Store;

use super::{Instance, StartError, State, staging::Staging};
use crate::{
    bindings::exports::nethost::plugin::swap_handler::Refusal,
    files::HostFile,
    imports::{convert, log},
    metrics::meters::Call,
    reactor::{CloseReason, Connection, EndpointKey, Fallback, Id, Returned, SessionKey, Socket},
};

/// What an instance saved. It has changed nothing by it.
#[derive(Debug)]
pub(crate) struct Saved {
    format: String,
    shared: Vec<u8>,
    sessions: Vec<(Rc<Connection>, Vec<u8>)>,
    /// Sessions that cannot move now.
    busy: Vec<Rc<Connection>>,
    /// Sessions that never will.
    refused: Vec<Rc<Connection>>,
    bytes: u64,
}

/// What a new instance made: sessions from the state of an old one's, and endpoints for its sockets.
#[derive(Debug)]
pub(crate) struct Restored {
    sessions: Vec<(Rc<Connection>, SessionKey)>,
    endpoints: Vec<(Rc<Socket>, EndpointKey)>,
    format: String,
    stays: Vec<Rc<Connection>>,
    refused: usize,
    bytes: u64,
}

/// Whether one session can move without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// One that is busy stays where it is, for a while.
    Independent,
    /// They have a state in common: all move, or none.
    Together,
}

impl Restored {
    pub(crate) fn moved(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    pub(crate) fn left_behind(&self) -> usize {
        self.stays.len() - self.refused
    }

    pub(crate) fn state_bytes(&self) -> u64 {
        self.bytes
    }
}

impl Instance {
    /// Asks for the state formats that the plugin can read and write. Nobody depends on the instance yet, so a trap costs nobody a connection; at a swap it would.
    pub(super) fn learn_formats(&self) -> Result<(), StartError> {
        if let Some((shared, _)) = &self.swap {
            let formats = self.setup(Call::Formats, None, |store| {
                let formats = shared.call_formats(store)?;
                // They are kept as long as the instance is there.
                Ok(if formats.iter().map(|it| it.len()).sum::<usize>() > FORMATS_SIZE
                    || formats.len() > MOST_FORMATS
                {
                    Err(format!(
                        "more than {MOST_FORMATS} state formats, or names of more than {FORMATS_SIZE} bytes together"
                    ))
                } else {
                    Ok(formats)
                })
            })?;
            *self.formats.borrow_mut() = formats;
        }
        Ok(())
    }

    /// Returns the state formats that the plugin can read and write, best first; none if it cannot be swapped.
    pub fn formats(&self) -> Vec<String> {
        self.formats.borrow().clone()
    }

    /// Returns the state of the instance and of its sessions, which together may be as large as its memory.
    pub(crate) fn save(
        &self,
        format: &str,
        sessions: Sessions,
        is_over: impl Fn() -> bool,
    ) -> Result<Saved, StartError> {
        let Some((shared, _)) = &self.swap else {
            return Err(cannot_swap());
        };
        if !self.holdings.staying().is_empty() {
            // They are of the version before this one still, which alone can save them.
            return Err(StartError::Busy);
        }
        let state = self.setup(Call::Save, None, |store| {
            self.lift_state(store, |store| shared.call_save(store, format))
        })?;
        let mut saved = Saved {
            format: format.to_owned(),
            shared: state.map_err(|refusal| refused("save", refusal))?,
            sessions: Vec::new(),
            busy: Vec::new(),
            refused: Vec::new(),
            bytes: 0,
        };
        saved.count(saved.shared.len(), self)?;
        for connection in self.holdings.connections() {
            if is_over() {
                return Err(StartError::TookTooLong);
            }
            let Some(session) = connection.session() else {
                continue;
            };
            match self.save_session(session, format)? {
                None => {}
                Some(Ok(state)) => {
                    saved.count(state.len(), self)?;
                    saved.sessions.push((connection, state));
                }
                Some(Err(refusal)) if sessions == Sessions::Together => {
                    return Err(refused("save-session", refusal));
                }
                Some(Err(Refusal::Busy)) => saved.busy.push(connection),
                Some(Err(Refusal::Failed(why))) => {
                    tracing::warn!(
                        service = self.holdings.program().service,
                        connection = connection.id().0,
                        peer = %connection.peer(),
                        why = log::escape(&why),
                        "a session stays with the old version"
                    );
                    saved.refused.push(connection);
                }
            }
        }
        Ok(saved)
    }

    fn save_session(
        &self,
        session: SessionKey,
        format: &str,
    ) -> Result<Option<Result<Vec<u8>, Refusal>>, StartError> {
        let (Some(session), Some((_, sessions))) = (self.session(session), &self.swap) else {
            return Ok(None);
        };
        let state = self.setup(Call::SaveSession, None, |store| {
            self.lift_state(store, |store| {
                sessions.call_save_session(store, session, format)
            })
        })?;
        Ok(Some(state))
    }

    /// Takes what the old instance saved. Neither instance has done anything to the world when it returns.
    pub(crate) fn restore(
        &self,
        old: &Self,
        saved: Saved,
        is_over: impl Fn() -> bool,
    ) -> Result<Restored, StartError> {
        let Some((shared, _)) = &self.swap else {
            return Err(cannot_swap());
        };
        let Saved {
            format,
            shared: state,
            sessions,
            busy,
            refused,
            bytes,
        } = saved;
        self.holdings.double_memberships();
        self.store.borrow_mut().data_mut().adoptable = old.open_files();
        self.setup(Call::Restore, None, |store| {
            shared.call_restore(store, &format, &state)
        })?;
        let mut restored = Restored {
            sessions: Vec::with_capacity(sessions.len()),
            endpoints: Vec::new(),
            refused: refused.len(),
            stays: refused,
            format,
            bytes,
        };
        restored.stays.extend(busy);
        for (connection, state) in sessions {
            if is_over() {
                return Err(StartError::TookTooLong);
            }
            let session = self.restore_session(&connection, &restored.format, &state)?;
            restored.sessions.push((connection, session));
        }
        self.restore_endpoints(&mut restored)?;
        Ok(restored)
    }

    fn restore_session(
        &self,
        connection: &Rc<Connection>,
        format: &str,
        state: &[u8],
    ) -> Result<SessionKey, StartError> {
        let Some((_, sessions)) = &self.swap else {
            return Err(cannot_swap());
        };
        let session = self.setup(Call::RestoreSession, Some(connection), |store| {
            let handle = store.data_mut().own(connection);
            sessions.call_restore_session(store, handle, format, state)
        })?;
        Ok(self.keep(session))
    }

    /// Makes an endpoint for every socket. Dialed ones end if the new version has no use for datagrams; for a listener that is an error.
    fn restore_endpoints(&self, restored: &mut Restored) -> Result<(), StartError> {
        for socket in self.holdings.sockets() {
            if socket.is_ended() {
                continue;
            }
            let Some(handler) = &self.datagram_handler else {
                if socket.is_dialed() {
                    continue;
                }
                return Err(StartError::Refused {
                    call: "swap",
                    message: "it exports no `datagram-handler`, and the service has a UDP listener"
                        .to_owned(),
                });
            };
            let endpoint = self.setup(Call::EndpointConstructor, None, |store| {
                let handle = store.data_mut().own_socket(&socket);
                let origin = convert::origin(socket.origin());
                let endpoint = handler.endpoint().call_constructor(store, handle, &origin);
                endpoint.map(Ok)
            })?;
            let endpoint = self.keep_endpoint(endpoint);
            restored.endpoints.push((socket, endpoint));
        }
        Ok(())
    }

    /// Makes this the instance of its connections and sockets, and lets out what was held since [`Self::stage`]. With `returned` the old one is kept, until
    /// the end of its probation, for the case that this one breaks.
    pub(crate) fn commit(self: &Rc<Self>, restored: Restored, returned: Option<Returned>) {
        let fallback: Option<Fallback> =
            returned.and_then(|returned| self.holdings.fallback(returned));
        self.holdings
            .succeed(self.clone(), fallback, &restored.stays);
        let connections = self.holdings.connections();
        let had_session = connections.into_iter();
        let had_session = had_session.filter(|it| it.session().is_some() && !it.stays());
        // The old version's keys mean nothing here.
        let had_session: Vec<_> = had_session.collect();
        for connection in &had_session {
            connection.set_session(None);
        }
        for (connection, session) in restored.sessions {
            connection.set_session(Some(session));
        }
        for connection in had_session {
            if connection.session().is_none() {
                connection.end(CloseReason::Trapped);
            }
        }
        for socket in self.holdings.sockets() {
            socket.set_endpoint(None);
        }
        for (socket, endpoint) in restored.endpoints {
            socket.set_endpoint(Some(endpoint));
        }
        for socket in self.holdings.sockets() {
            if socket.endpoint().is_none() {
                socket.end(CloseReason::Trapped);
            }
        }
        self.holdings.meters().swaps.add(1);
        let mut store = self.store.borrow_mut();
        store.data_mut().adoptable.clear();
        store.data_mut().release();
    }

    /// Makes this the handler of holdings that are new, and lets out what was held since [`Self::stage`].
    pub(crate) fn take_charge(self: &Rc<Self>) {
        self.holdings.set_handler(self.clone());
        self.store.borrow_mut().data_mut().release();
    }

    /// Takes over a session that had stayed with the old version. This one is in charge already; what fails changes nothing.
    pub(crate) fn follow(
        &self,
        old: &Self,
        connection: &Rc<Connection>,
        format: &str,
    ) -> Result<Followed, StartError> {
        let state = match connection.session() {
            Some(session) => old.save_session(session, format)?,
            None => None,
        };
        let state = match state {
            Some(Ok(state)) => state,
            Some(Err(Refusal::Busy)) => return Ok(Followed::Busy),
            Some(Err(refusal)) => return Err(refused("save-session", refusal)),
            None => return Ok(Followed::Gone),
        };
        self.store.borrow_mut().data_mut().staging = Staging::held();
        let session = self.restore_session(connection, format, &state);
        let mut store = self.store.borrow_mut();
        match session {
            Ok(session) => {
                self.holdings.followed(connection, session);
                store.data_mut().release();
                Ok(Followed::Moved)
            }
            Err(error) => {
                store.data_mut().staging = Staging::Live;
                Err(error)
            }
        }
    }

    fn open_files(&self) -> HashMap<Id, HostFile> {
        let store = self.store.borrow();
        let files = store.data().files.iter();
        files.map(|(_, (id, file))| (*id, file.clone())).collect()
    }

    /// Calls for a state, which may be as large as the memory that it was in.
    fn lift_state<T>(
        &self,
        store: &mut Store<State>,
        call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<Result<T, String>> {
        let limits = &self.holdings.program().limits;
        store.set_hostcall_fuel(limits.memory);
        let state = call(store);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        state.map(Ok)
    }
}

/// What came of a session that had stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    Moved,
    Busy,
    Gone,
}

impl Saved {
    /// Adds to the bytes that the host holds of it, which may not be more than an instance has.
    fn count(&mut self, bytes: usize, of: &Instance) -> Result<(), StartError> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let most = of.holdings.program().limits.memory;
        if self.bytes > u64::try_from(most).unwrap_or(u64::MAX) {
            return Err(StartError::TooBig {
                bytes: self.bytes,
                most,
            });
        }
        Ok(())
    }
}

/// State formats of one version: 64, of which most have two.
const MOST_FORMATS: usize = 64;

/// Bytes of their names: 4 KiB.
const FORMATS_SIZE: usize = 4 << 10;

fn cannot_swap() -> StartError {
    StartError::Refused {
        call: "formats",
        message: "the plugin cannot be swapped".to_owned(),
    }
}

fn refused(call: &'static str, refusal: Refusal) -> StartError {
    match refusal {
        Refusal::Busy => StartError::Busy,
        Refusal::Failed(message) => StartError::Refused {
            call,
            message: log::escape(&message),
        },
    }
}
