//! The contract's exports in terms of [`instance`]: what `export_plugin!` makes of a [`Protocol`].

use std::marker::PhantomData;

use crate::{
    bindings::{
        exports::nethost::plugin::{
            command_handler, datagram_handler, deferred_handler, handler, session_swap_handler,
            swap_handler,
        },
        nethost::plugin::{
            datagram::{Packet, Socket},
            deferred::Value,
            transport::Connection,
            types::{CloseReason, Error, Origin},
        },
    },
    command::{self, Command, Signal},
    datagram::{self, DatagramProtocol},
    instance,
    protocol::{Protocol, Refusal, Swap},
};

/// Exports a protocol, and its protocol for datagrams `D` and its command `C`, if it has them; named by `export_plugin!` only.
#[derive(Debug)]
pub struct Plugin<P, D, C>(PhantomData<(P, D, C)>);

impl<P: Protocol, D: 'static, C: 'static> handler::Guest for Plugin<P, D, C> {
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

impl<P: Protocol, D: DatagramProtocol<Factory = P::Factory>, C: 'static> datagram_handler::Guest
    for Plugin<P, D, C>
{
    type Endpoint = Endpoint<D>;
}

/// Exports an endpoint; named by `export_plugin!` only.
pub struct Endpoint<D: DatagramProtocol>(datagram::Endpoint<D>);

impl<D: DatagramProtocol> datagram_handler::GuestEndpoint for Endpoint<D> {
    fn new(socket: Socket, origin: Origin) -> Self {
        Self(datagram::Endpoint::made(socket, origin))
    }

    fn datagrams_received(&self, packets: Vec<Packet>, payloads: Vec<u8>) {
        self.0.datagrams_received(packets, payloads);
    }

    fn closed(&self, reason: CloseReason) {
        self.0.closed(reason);
    }
}

impl<P: Protocol, D: 'static, C: 'static> deferred_handler::Guest for Plugin<P, D, C> {
    fn completed(id: u64, outcome: Result<Value, Error>) {
        instance::completed(id, outcome.map_err(Into::into));
    }
}

impl<P: Swap, D: 'static, C: 'static> swap_handler::Guest for Plugin<P, D, C> {
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

impl<P: Swap, D: 'static, C: 'static> session_swap_handler::Guest for Plugin<P, D, C> {
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

impl<P: Protocol, D: 'static, C: Command<Factory = P::Factory>> command_handler::Guest
    for Plugin<P, D, C>
{
    fn start(arguments: Vec<String>) {
        command::start::<C>(arguments);
    }

    fn signalled(signal: Signal) -> command_handler::Reaction {
        if command::signalled(signal) {
            command_handler::Reaction::Handled
        } else {
            command_handler::Reaction::Ends
        }
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
