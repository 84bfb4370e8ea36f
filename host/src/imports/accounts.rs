//! `accounts`: users that a service was granted.

use wasmtime::component::Resource;

use crate::{
    bindings::nethost::plugin::accounts::{Account, Host, Id},
    instance::State,
    reactor::{self, Connection},
};

impl Host for State {
    fn verify(
        &mut self,
        connection: Resource<Connection>,
        user: String,
        password: String,
    ) -> wasmtime::Result<Id> {
        let connection = self.connection(&connection)?.clone();
        self.begin(user.len() + password.len(), move |holdings, id| {
            holdings.verify(id, &connection, user, password);
        })
    }

    fn external(
        &mut self,
        connection: Resource<Connection>,
        authorization: Option<String>,
    ) -> wasmtime::Result<Id> {
        let connection = self.connection(&connection)?.clone();
        let size = authorization.as_ref().map_or(0, String::len);
        self.begin(size, move |holdings, id| {
            holdings.external(id, &connection, authorization);
        })
    }

    fn scram_first(
        &mut self,
        connection: Resource<Connection>,
        message: Vec<u8>,
    ) -> wasmtime::Result<Id> {
        let connection = self.connection(&connection)?.clone();
        self.begin(message.len(), move |holdings, id| {
            holdings.scram_first(id, &connection, &message);
        })
    }

    fn scram_final(
        &mut self,
        connection: Resource<Connection>,
        message: Vec<u8>,
    ) -> wasmtime::Result<Id> {
        let connection = self.connection(&connection)?.clone();
        self.begin(message.len(), move |holdings, id| {
            holdings.scram_final(id, &connection, message);
        })
    }

    fn take_account(&mut self, id: Id) -> wasmtime::Result<Option<Account>> {
        let account = self.holdings.account(reactor::Id(id));
        self.perform(0, move |holdings| holdings.forget_account(reactor::Id(id)))?;
        Ok(account.map(|account| Account {
            name: account.name,
            groups: account.groups,
            home: account.home,
        }))
    }

    fn anonymous_granted(&mut self) -> wasmtime::Result<bool> {
        Ok(self.holdings.program().grants.anonymous)
    }
}
