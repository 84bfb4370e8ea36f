//! `deferred`: what plugins start, and cancel.

use std::time::Duration;

use crate::{
    bindings::nethost::plugin::deferred::{Address, Host, Id, Nanoseconds},
    imports::convert,
    instance::State,
    reactor::{self, Holdings},
};

impl Host for State {
    fn cancel(&mut self, id: Id) -> wasmtime::Result<()> {
        self.perform(move |holdings| holdings.cancel(reactor::Id(id)));
        Ok(())
    }

    fn after(&mut self, delay: Nanoseconds) -> wasmtime::Result<Id> {
        let delay = Duration::from_nanos(delay);
        Ok(self.begin(move |holdings, id| holdings.after(id, delay)))
    }

    fn connect(&mut self, endpoint: String) -> wasmtime::Result<Id> {
        Ok(self.begin(move |holdings, id| holdings.connect(id, &endpoint)))
    }

    fn resolve(&mut self, name: String) -> wasmtime::Result<Id> {
        Ok(self.begin(move |holdings, id| holdings.resolve(id, &name)))
    }

    fn take_addresses(&mut self, id: Id) -> wasmtime::Result<Vec<Address>> {
        let addresses = self.holdings.take_addresses(reactor::Id(id));
        Ok(addresses.iter().map(convert::address).collect())
    }
}

impl State {
    /// Gives an operation its id at once, and starts it now or at the commit.
    fn begin(&mut self, start: impl FnOnce(&std::rc::Rc<Holdings>, reactor::Id) + 'static) -> Id {
        let id = self.holdings.next_id();
        self.perform(move |holdings| start(holdings, id));
        id.0
    }
}
