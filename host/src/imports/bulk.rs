//! `bulk`: files and connections that the host moves by itself.

use std::num::NonZeroU64;

use wasmtime::component::Resource;

use crate::{
    bindings::nethost::plugin::bulk::{Extent as WitExtent, Host, Id},
    files::HostFile,
    instance::State,
    reactor::{self, Connection, Extent},
};

impl Host for State {
    fn send_file(
        &mut self,
        to: Resource<Connection>,
        file: Resource<HostFile>,
        extent: WitExtent,
    ) -> wasmtime::Result<Id> {
        let (to, file) = (self.connection(&to)?.clone(), self.file(&file)?.clone());
        self.begin(0, move |_, id| to.send_file(id, file, convert(extent)))
    }

    fn receive_file(
        &mut self,
        from: Resource<Connection>,
        file: Resource<HostFile>,
        extent: WitExtent,
    ) -> wasmtime::Result<Id> {
        let (from, file) = (self.connection(&from)?.clone(), self.file(&file)?.clone());
        self.begin(0, move |_, id| from.receive_file(id, file, convert(extent)))
    }

    fn splice(
        &mut self,
        from: Resource<Connection>,
        to: Resource<Connection>,
        extent: WitExtent,
    ) -> wasmtime::Result<Id> {
        let (from, to) = (
            self.connection(&from)?.clone(),
            self.connection(&to)?.clone(),
        );
        self.begin(0, move |_, id| from.splice(id, &to, convert(extent)))
    }

    fn progress(&mut self, id: Id) -> wasmtime::Result<Option<u64>> {
        Ok(self.holdings.progress(reactor::Id(id)))
    }
}

fn convert(extent: WitExtent) -> Extent {
    Extent {
        offset: extent.offset,
        length: extent.length,
        rate: extent
            .rate
            .map(|rate| NonZeroU64::new(rate).unwrap_or(NonZeroU64::MIN)),
    }
}
