//! `deferred`: what plugins start, and cancel.

use std::{rc::Rc, time::Duration};

use crate::{
    bindings::nethost::plugin::deferred::{Address, Host, Id, Nanoseconds},
    imports::convert,
    instance::State,
    reactor::{self, Found, Holdings},
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
        let addresses = self.take(id, |found| match found {
            Found::Addresses(addresses) => Some(addresses),
            _ => None,
        })?;
        let addresses = addresses.unwrap_or_default();
        Ok(addresses.iter().map(convert::address).collect())
    }
}

impl State {
    /// Takes what an operation found, if it is of the right kind; it is there no longer then.
    pub(super) fn take<T>(
        &mut self,
        id: Id,
        pick: impl FnOnce(Found) -> Option<T>,
    ) -> wasmtime::Result<Option<T>> {
        let id = reactor::Id(id);
        let picked = self.holdings.found(id).and_then(pick);
        if picked.is_some() {
            self.perform(0, move |holdings| holdings.forget_found(id))?;
        }
        Ok(picked)
    }

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
