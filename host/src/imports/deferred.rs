//! `deferred`: what plugins start, and cancel.

use std::{rc::Rc, time::Duration};

use crate::{
    bindings::nethost::plugin::deferred::{Address, Host, Id, Nanoseconds},
    imports::convert,
    instance::State,
    reactor::{self, Holdings},
};

impl Host for State {
    fn cancel(&mut self, id: Id) -> wasmtime::Result<()> {
        self.perform(0, move |holdings| holdings.cancel(reactor::Id(id)))
    }

    fn keep(&mut self, id: Id) -> wasmtime::Result<()> {
        self.perform(0, move |holdings| holdings.keep(reactor::Id(id)))
    }

    fn after(&mut self, delay: Nanoseconds) -> wasmtime::Result<Id> {
        let delay = Duration::from_nanos(delay);
        self.begin(0, move |holdings, id| holdings.after(id, delay))
    }

    fn connect(&mut self, endpoint: String) -> wasmtime::Result<Id> {
        self.begin(endpoint.len(), move |holdings, id| {
            holdings.connect(id, &endpoint);
        })
    }

    fn resolve(&mut self, name: String) -> wasmtime::Result<Id> {
        self.begin(name.len(), move |holdings, id| holdings.resolve(id, &name))
    }

    fn take_addresses(&mut self, id: Id) -> wasmtime::Result<Vec<Address>> {
        let addresses = self.holdings.addresses(reactor::Id(id));
        self.perform(0, move |holdings| {
            holdings.forget_addresses(reactor::Id(id))
        })?;
        Ok(addresses.iter().map(convert::address).collect())
    }
}

impl State {
    /// Gives an operation its id at once, and starts it now or at the commit.
    pub(super) fn begin(
        &mut self,
        size: usize,
        start: impl FnOnce(&Rc<Holdings>, reactor::Id) + 'static,
    ) -> wasmtime::Result<Id> {
        // Each operation over the limit completes with an error, and that has to be remembered too.
        if self.holdings.is_overrun() {
            wasmtime::bail!("too many operations in flight");
        }
        let id = self.holdings.next_id();
        self.perform(size, move |holdings| start(holdings, id))?;
        Ok(id.0)
    }
}
