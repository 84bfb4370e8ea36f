//! `datagram`: what plugins do with sockets.

use std::{net::IpAddr, rc::Rc};

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, WasmList},
};

use super::convert;
use crate::{
    bindings::nethost::plugin::datagram::{Address, Error, Host, HostSocket, Packet},
    instance::State,
    limits::DATAGRAMS_UNSENT,
    reactor::{self, BadBatch, ErrorKind, OperationError, Socket, check_batch},
};

/// Replaces the function that carries payloads by one that copies them straight from the guest's memory into the queue.
pub(super) fn add_send(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("nethost:plugin/datagram@0.1.0")?
        .func_wrap(
        "[method]socket.send",
        |mut store: StoreContextMut<'_, State>,
         (handle, packets, payloads): (Resource<Socket>, WasmList<Packet>, WasmList<u8>)| {
            if packets.len() > DATAGRAMS_UNSENT {
                return Err(BadBatch::TooMany(packets.len()).into());
            }
            let socket = store.data().socket(&handle)?.clone();
            let mut batch = std::mem::take(&mut store.data_mut().batch);
            batch.clear();
            for packet in packets.iter(&mut store)? {
                batch.push(convert::packet_of(&packet?));
            }
            if store.data().is_live() {
                socket.send(&batch, payloads.as_le_slice(&store))?;
            } else {
                let payloads = payloads.as_le_slice(&store).to_vec();
                store
                    .data_mut()
                    .hold_batch(socket, batch.clone(), payloads)?;
            }
            store.data_mut().batch = batch;
            Ok(())
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Host for State {}

impl HostSocket for State {
    fn id(&mut self, handle: Resource<Socket>) -> wasmtime::Result<u64> {
        Ok(self.socket(&handle)?.id().0)
    }

    fn local(&mut self, handle: Resource<Socket>) -> wasmtime::Result<Address> {
        let local = self.socket(&handle)?.local();
        Ok(convert::address(&crate::transport::Address::Socket(local)))
    }

    fn send(
        &mut self,
        handle: Resource<Socket>,
        packets: Vec<Packet>,
        payloads: Vec<u8>,
    ) -> wasmtime::Result<()> {
        let socket = self.socket(&handle)?.clone();
        let packets = packets.iter().map(convert::packet_of).collect();
        self.hold_batch(socket, packets, payloads)
    }

    fn close(&mut self, handle: Resource<Socket>) -> wasmtime::Result<()> {
        let socket = self.socket(&handle)?.clone();
        self.perform(0, move |_| socket.close())
    }

    fn join(
        &mut self,
        handle: Resource<Socket>,
        group: Address,
        interface: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.with_group(&handle, &group, move |socket, group| {
            socket.join(group, interface)
        })
    }

    fn leave(
        &mut self,
        handle: Resource<Socket>,
        group: Address,
        interface: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.with_group(&handle, &group, move |socket, group| {
            socket.leave(group, interface)
        })
    }

    fn set_multicast_ttl(&mut self, handle: Resource<Socket>, hops: u8) -> wasmtime::Result<()> {
        let socket = self.socket(&handle)?.clone();
        self.perform(0, move |_| socket.set_multicast_ttl(hops))
    }

    fn set_multicast_loop(&mut self, handle: Resource<Socket>, on: bool) -> wasmtime::Result<()> {
        let socket = self.socket(&handle)?.clone();
        self.perform(0, move |_| socket.set_multicast_loop(on))
    }

    fn drop(&mut self, handle: Resource<Socket>) -> wasmtime::Result<()> {
        let index = usize::try_from(handle.rep())?;
        if let Some(socket) = self.sockets.try_remove(index) {
            self.perform(0, move |_| socket.close())?;
        }
        Ok(())
    }
}

impl State {
    /// Sends a batch, now or at the commit.
    fn hold_batch(
        &mut self,
        socket: Rc<Socket>,
        packets: Vec<reactor::Packet>,
        payloads: Vec<u8>,
    ) -> wasmtime::Result<()> {
        // Wrong is wrong now, not at the commit.
        check_batch(&packets, payloads.len())?;
        let size = payloads.len() + size_of_val(packets.as_slice());
        self.perform(size, move |_| {
            if let Err(error) = socket.send(&packets, &payloads) {
                tracing::debug!(%error, "sending a batch that was held");
            }
        })
    }

    /// Does something about a multicast group. What is not yet in charge learns whether it may; it is done at the commit.
    fn with_group(
        &mut self,
        handle: &Resource<Socket>,
        group: &Address,
        effect: impl FnOnce(&Socket, IpAddr) -> Result<(), OperationError> + 'static,
    ) -> wasmtime::Result<Result<(), Error>> {
        let socket = self.socket(handle)?.clone();
        let Some(group) = convert::ip(group) else {
            let error = OperationError::new(ErrorKind::Invalid, "a group is an IP address");
            return Ok(Err(convert::error(error)));
        };
        if self.is_live() {
            return Ok(effect(&socket, group).map_err(convert::error));
        }
        if let Err(error) = socket.check_group(group) {
            return Ok(Err(convert::error(error)));
        }
        self.perform(0, move |_| {
            if let Err(error) = effect(&socket, group) {
                tracing::warn!(error = error.message, "a group at the commit of a swap");
            }
        })?;
        Ok(Ok(()))
    }
}
