//! The contract's exports in terms of [`instance`]: what `export_plugin!` makes of a [`Protocol`].

use std::marker::PhantomData;

use crate::{
    bindings::{
        exports::nethost::plugin::{deferred_handler, handler, session_swap_handler, swap_handler},
        nethost::plugin::{
            deferred::Value,
            transport::Connection,
            types::{CloseReason, Error, Origin},
        },
    },
    instance,
    protocol::{Protocol, Refusal, Swap},
};

/// Exports a protocol; named by `export_plugin!` only.
#[derive(Debug)]
pub struct Plugin<P>(PhantomData<P>);

impl<P: Protocol> handler::Guest for Plugin<P> {
    type Session = Session<P>;

    fn configure(config: String) -> Result<(), String> {
        instance::configure::<P>(config)
    }

    fn draining(deadline: u64) {
        instance::draining::<P>(deadline);
    }

    fn connection_made(connection: Connection, origin: Origin) -> Option<handler::Session> {
        instance::Session::<P>::made(connection, origin)
            .map(|session| handler::Session::new(Session(session)))
    }
}

/// Exports a session; named by `export_plugin!` only.
pub struct Session<P: Protocol>(instance::Session<P>);

impl<P: Protocol> handler::GuestSession for Session<P> {
    fn data_received(&self, data: Vec<u8>) {
        self.0.data_received(&data);
    }

    fn writable(&self) {
        self.0.writable();
    }

    fn read_closed(&self) {
        self.0.read_closed();
    }

    fn connection_lost(&self, reason: CloseReason) {
        self.0.connection_lost(reason);
    }
}

impl<P: Protocol> deferred_handler::Guest for Plugin<P> {
    fn completed(id: u64, outcome: Result<Value, Error>) {
        instance::completed(id, outcome.map_err(Into::into));
    }
}

impl<P: Swap> swap_handler::Guest for Plugin<P> {
    fn formats() -> Vec<String> {
        P::FORMATS
            .iter()
            .map(|format| (*format).to_owned())
            .collect()
    }

    fn save(format: String) -> Result<Vec<u8>, swap_handler::Refusal> {
        instance::save::<P>(&format).map_err(Refusal::into_contract)
    }

    fn restore(format: String, state: Vec<u8>) -> Result<(), String> {
        instance::restore::<P>(&format, &state)
    }
}

impl<P: Swap> session_swap_handler::Guest for Plugin<P> {
    fn save_session(
        session: handler::SessionBorrow<'_>,
        format: String,
    ) -> Result<Vec<u8>, swap_handler::Refusal> {
        session
            .get::<Session<P>>()
            .0
            .save(&format)
            .map_err(Refusal::into_contract)
    }

    fn restore_session(
        connection: Connection,
        format: String,
        state: Vec<u8>,
    ) -> Result<handler::Session, String> {
        let session = instance::Session::<P>::restore(connection, &format, &state)?;
        Ok(handler::Session::new(Session(session)))
    }
}

impl Refusal {
    fn into_contract(self) -> swap_handler::Refusal {
        match self {
            Self::Busy => swap_handler::Refusal::Busy,
            Self::Failed(why) => swap_handler::Refusal::Failed(why),
        }
    }
}
