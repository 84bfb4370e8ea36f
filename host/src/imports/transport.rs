//! `transport`: what plugins do with connections and groups.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, WasmList},
};

use super::convert;
use crate::{
    bindings::nethost::plugin::transport::{
        Address, Host, HostConnection, HostGroup, Nanoseconds, TlsInfo, TlsRole as WitTlsRole,
    },
    instance::State,
    reactor::{Admission, Connection, Group, TlsRole},
};

/// Replaces the two functions that carry payload by ones that copy it straight from the guest's memory into the queue.
pub(super) fn add_writes(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut transport = linker.instance("nethost:plugin/transport@0.1.0")?;
    transport.func_wrap(
        "[method]connection.write",
        |mut store: StoreContextMut<'_, State>,
         (handle, data): (Resource<Connection>, WasmList<u8>)| {
            if !store.data().is_live() {
                let data = data.as_le_slice(&store).to_vec();
                return Ok((HostConnection::write(store.data_mut(), handle, data)?,));
            }
            let connection = store.data().connection(&handle)?.clone();
            let unsent = connection.write(data.as_le_slice(&store));
            Ok((u32::try_from(unsent).unwrap_or(u32::MAX),))
        },
    )?;
    transport.func_wrap(
        "[method]group.write",
        |mut store: StoreContextMut<'_, State>,
         (handle, data, skip): (
            Resource<Group>,
            WasmList<u8>,
            Option<Resource<Connection>>,
        )| {
            let data = Bytes::copy_from_slice(data.as_le_slice(&store));
            store.data_mut().write_group(&handle, data, skip)
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Host for State {}

impl HostConnection for State {
    fn id(&mut self, handle: Resource<Connection>) -> wasmtime::Result<u64> {
        Ok(self.connection(&handle)?.id().0)
    }

    fn write(&mut self, handle: Resource<Connection>, data: Vec<u8>) -> wasmtime::Result<u32> {
        let connection = self.connection(&handle)?.clone();
        let unsent = connection.unsent().saturating_add(data.len());
        self.perform(data.len(), move |_| {
            connection.write(&data);
        })?;
        Ok(u32::try_from(unsent).unwrap_or(u32::MAX))
    }

    fn close(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        self.with_connection(&handle, |connection| connection.close())
    }

    fn shutdown_write(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        self.with_connection(&handle, |connection| connection.shutdown_write())
    }

    fn abort(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        self.with_connection(&handle, |connection| connection.abort())
    }

    fn pause_reading(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        self.with_connection(&handle, |connection| connection.pause_reading())
    }

    fn resume_reading(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        self.with_connection(&handle, |connection| connection.resume_reading())
    }

    fn set_idle_timeout(
        &mut self,
        handle: Resource<Connection>,
        timeout: Option<Nanoseconds>,
    ) -> wasmtime::Result<()> {
        self.with_connection(&handle, move |connection| {
            connection.set_idle_timeout(timeout.map(Duration::from_nanos));
        })
    }

    fn local(&mut self, handle: Resource<Connection>) -> wasmtime::Result<Address> {
        Ok(convert::address(self.connection(&handle)?.local()))
    }

    fn peer(&mut self, handle: Resource<Connection>) -> wasmtime::Result<Address> {
        Ok(convert::address(self.connection(&handle)?.peer()))
    }

    fn can_start_tls(&mut self, handle: Resource<Connection>) -> wasmtime::Result<bool> {
        Ok(self.connection(&handle)?.can_start_tls())
    }

    fn start_tls(
        &mut self,
        handle: Resource<Connection>,
        role: WitTlsRole,
    ) -> wasmtime::Result<u64> {
        let connection = self.connection(&handle)?.clone();
        let (size, role) = match role {
            WitTlsRole::Server => (0, TlsRole::Server),
            WitTlsRole::Client(name) => (name.len(), TlsRole::Client(name)),
        };
        self.begin(size, move |_, id| connection.start_tls(id, role))
    }

    fn tls(&mut self, handle: Resource<Connection>) -> wasmtime::Result<Option<TlsInfo>> {
        Ok(self.connection(&handle)?.tls().map(convert::tls_info))
    }

    fn drop(&mut self, handle: Resource<Connection>) -> wasmtime::Result<()> {
        let index = usize::try_from(handle.rep())?;
        if let Some(connection) = self.connections.try_remove(index) {
            self.perform(0, move |_| connection.close())?;
        }
        Ok(())
    }
}

impl HostGroup for State {
    fn new(&mut self) -> wasmtime::Result<Resource<Group>> {
        let index = self.groups.insert(Rc::default());
        Ok(Resource::new_own(u32::try_from(index)?))
    }

    fn add(
        &mut self,
        handle: Resource<Group>,
        member: Resource<Connection>,
    ) -> wasmtime::Result<()> {
        // Membership harms nobody before the commit: until then nothing is written to the group.
        match self.group(&handle)?.add(self.connection(&member)?) {
            Admission::Admitted => Ok(()),
            Admission::Full => wasmtime::bail!("too many memberships in groups"),
        }
    }

    fn remove(
        &mut self,
        handle: Resource<Group>,
        member: Resource<Connection>,
    ) -> wasmtime::Result<()> {
        self.group(&handle)?.remove(self.connection(&member)?);
        Ok(())
    }

    fn write(
        &mut self,
        handle: Resource<Group>,
        data: Vec<u8>,
        skip: Option<Resource<Connection>>,
    ) -> wasmtime::Result<()> {
        self.write_group(&handle, data.into(), skip)
    }

    fn drop(&mut self, handle: Resource<Group>) -> wasmtime::Result<()> {
        self.groups.try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}

impl State {
    fn with_connection(
        &mut self,
        handle: &Resource<Connection>,
        effect: impl FnOnce(&Rc<Connection>) + 'static,
    ) -> wasmtime::Result<()> {
        let connection = self.connection(handle)?.clone();
        self.perform(0, move |_| effect(&connection))
    }

    fn write_group(
        &mut self,
        handle: &Resource<Group>,
        data: Bytes,
        skip: Option<Resource<Connection>>,
    ) -> wasmtime::Result<()> {
        let skip = match skip {
            Some(skip) => Some(self.connection(&skip)?.id()),
            None => None,
        };
        let group = self.group(handle)?.clone();
        self.perform(data.len(), move |_| group.write(data, skip))
    }
}
