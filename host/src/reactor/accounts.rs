//! What an instance asks about its users.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use super::{
    connection::Connection,
    handler::{ErrorKind, Id, OperationError, Outcome, Value},
    holdings::Holdings,
};
use crate::{
    accounts::{Account, Accounts, Refusal, ScramExchange},
    metrics::meters::Login,
};

/// Who was found out, and exchanges that wait for the client.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// By the operation that found it out.
    accounts: RefCell<HashMap<Id, Account>>,
    /// By the connection.
    exchanges: RefCell<HashMap<Id, ScramExchange>>,
}

impl Logins {
    /// Returns how many results wait to be taken.
    pub(super) fn count(&self) -> usize {
        self.accounts.borrow().len()
    }

    /// Forgets what an operation found out.
    pub(super) fn forget(&self, operation: Id) {
        self.accounts.borrow_mut().remove(&operation);
    }

    /// Forgets a connection that is lost.
    pub(super) fn lost(&self, connection: Id) {
        self.exchanges.borrow_mut().remove(&connection);
    }
}

impl Holdings {
    /// Starts to verify a password.
    pub fn verify(
        self: &Rc<Self>,
        id: Id,
        connection: &Rc<Connection>,
        user: String,
        password: String,
    ) {
        let Some(accounts) = self.accounts_for(id, connection) else {
            return;
        };
        let (holdings, connection) = (self.clone(), connection.clone());
        self.start_task(id, async move {
            let verified = accounts.verify(connection.peer(), &user, password).await;
            holdings.conclude(
                id,
                &connection,
                verified.map(|account| (account, Value::Ready)),
            );
        });
    }

    /// Starts to find out whose certificate the peer has shown.
    pub fn external(
        self: &Rc<Self>,
        id: Id,
        connection: &Rc<Connection>,
        authorization: Option<String>,
    ) {
        let Some(accounts) = self.accounts_for(id, connection) else {
            return;
        };
        let shown = connection.tls().and_then(|(info, _)| {
            let certificate = info.peer_certificates.into_iter().next();
            // To a server that it dialed this host is the client.
            certificate.filter(|_| connection.relayed().is_some())
        });
        let Some(certificate) = shown else {
            let message = "the peer has shown no certificate";
            return self.refuse(id, OperationError::new(ErrorKind::Unsupported, message));
        };
        let authorization = authorization.filter(|name| !name.is_empty());
        let (holdings, connection) = (self.clone(), connection.clone());
        self.start_task(id, async move {
            let peer = connection.peer();
            let found = accounts.external(peer, &certificate, authorization.as_deref());
            let found = found.await;
            holdings.conclude(
                id,
                &connection,
                found.map(|account| (account, Value::Ready)),
            );
        });
    }

    /// Begins a SCRAM exchange.
    pub fn scram_first(self: &Rc<Self>, id: Id, connection: &Rc<Connection>, message: &[u8]) {
        let Some(accounts) = self.accounts_for(id, connection) else {
            return;
        };
        self.logins.lost(connection.id());
        match accounts.scram_first(connection.peer(), message) {
            Ok((exchange, message)) => {
                let mut exchanges = self.logins.exchanges.borrow_mut();
                exchanges.insert(connection.id(), exchange);
                self.settle(id, Ok(Value::Bytes(message)));
            }
            Err(refusal) => {
                self.meters().logins.count(Login::from(&refusal));
                self.refuse(id, refusal.into());
            }
        }
    }

    /// Ends a SCRAM exchange.
    pub fn scram_final(self: &Rc<Self>, id: Id, connection: &Rc<Connection>, message: Vec<u8>) {
        let Some(accounts) = self.accounts_for(id, connection) else {
            return;
        };
        let exchange = self.logins.exchanges.borrow_mut().remove(&connection.id());
        let Some(exchange) = exchange else {
            let message = "no exchange was begun on this connection";
            return self.refuse(id, OperationError::new(ErrorKind::Invalid, message));
        };
        let (holdings, connection) = (self.clone(), connection.clone());
        self.start_task(id, async move {
            let peer = connection.peer();
            let ended = accounts.scram_final(peer, exchange, &message).await;
            let ended = ended.map(|(account, message)| (account, Value::Bytes(message)));
            holdings.conclude(id, &connection, ended);
        });
    }

    /// Returns the account that an operation found out.
    pub fn account(&self, id: Id) -> Option<Account> {
        self.logins.accounts.borrow().get(&id).cloned()
    }

    /// Forgets the account that an operation found out.
    pub fn forget_account(&self, id: Id) {
        self.logins.forget(id);
    }

    /// Returns the service's accounts, or completes the operation with why not.
    fn accounts_for(&self, id: Id, connection: &Connection) -> Option<Arc<Accounts>> {
        let Some(users) = &self.program().grants.users else {
            let message = "no users are granted; the operator may grant them with --users FILE";
            self.refuse(id, OperationError::new(ErrorKind::Denied, message));
            return None;
        };
        if connection.is_lost() {
            let message = "the connection is lost";
            self.refuse(id, OperationError::new(ErrorKind::Closed, message));
            return None;
        }
        Some(users.clone())
    }

    fn conclude(&self, id: Id, connection: &Connection, result: Result<(Account, Value), Refusal>) {
        let service = &self.program().service;
        let peer = connection.peer();
        let outcome: Outcome = match result {
            Ok((account, value)) => {
                self.meters().logins.count(Login::Accepted);
                tracing::debug!(service, %peer, user = account.name, "logged in");
                self.logins.accounts.borrow_mut().insert(id, account);
                Ok(value)
            }
            Err(refusal) => {
                self.meters().logins.count(Login::from(&refusal));
                // No name: it may be a password that was typed in the wrong place. And only what is limited.
                if refusal == Refusal::Credentials {
                    tracing::info!(service, %peer, "login failed");
                } else {
                    tracing::debug!(service, %peer, "login refused: {refusal}");
                }
                Err(refusal.into())
            }
        };
        self.deliver(id, outcome);
    }
}

impl From<Refusal> for OperationError {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Credentials => ErrorKind::Credentials,
            Refusal::Limited(_) => ErrorKind::Limit,
            Refusal::Busy(_) => ErrorKind::Busy,
            Refusal::Invalid(_) => ErrorKind::Invalid,
            Refusal::Failed(_) => ErrorKind::Io,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<&Refusal> for Login {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Credentials => Self::Credentials,
            Refusal::Limited(_) => Self::Limited,
            Refusal::Busy(_) => Self::Busy,
            Refusal::Invalid(_) => Self::Invalid,
            Refusal::Failed(_) => Self::Failed,
        }
    }
}
