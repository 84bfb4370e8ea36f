//! Users that the operator named (`--users FILE`): who is on the other side of a connection. A plugin never sees a hash.
//!
//! A failure that is the peer's, [`is_wrong`], comes late, and later each time; the host refuses a peer that fails too often (`limit`), and one that
//! tries too much at once (`busy`). To all of them the answer is the protocol's "no"; `denied` is the operator's to mend, and is worth a line in the log.
//!
//! ```
//! use nethost_sdk::{Context, Deferred, Origin, Protocol, accounts, testing::{Host, Users}};
//!
//! /// Says hello to whoever sends `NAME PASSWORD`.
//! struct Door;
//!
//! impl Protocol for Door {
//!     type Factory = ();
//!
//!     fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
//!         Some(Self)
//!     }
//!
//!     fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
//!         let text = String::from_utf8_lossy(data);
//!         let (user, password) = text.trim_end().split_once(' ').unwrap_or_default();
//!         let connection = cx.connection.clone();
//!         let verified = accounts::verify(&connection, user, password);
//!         let answered = Deferred::new(async move {
//!             match verified.await {
//!                 Ok(account) => connection.write(format!("hello {}\n", account.name).as_bytes()),
//!                 Err(_) => connection.write(b"no\n"),
//!             };
//!             Ok(())
//!         });
//!         answered.detach();
//!     }
//! }
//!
//! # fn main() -> Result<(), String> {
//! let users = Users::new().user("ann", "secret");
//! let mut host = Host::<Door>::start_with_users("{}", users)?;
//! let peer = host.connect();
//! host.send(peer, b"ann secret\n");
//! host.send(peer, b"ann public\n");
//! assert_eq!(host.received(peer), b"hello ann\nno\n");
//! # Ok(())
//! # }
//! ```

use crate::{
    bindings::nethost::plugin::{accounts, deferred::Value, types::ErrorCode},
    connection::Connection,
    deferred::{self, Deferred, OperationId},
    host,
    types::Error,
};

/// A user that has shown who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its name: always the same, whichever alias it logged in with.
    pub name: String,
    /// The groups that it is in, in the operator's order.
    pub groups: Vec<String>,
    /// Where its files are: a path within a directory that was granted, without `..` and empty parts. None if the operator named none.
    pub home: Option<String>,
}

/// Checks a password (SASL's PLAIN and LOGIN, `USER` and `PASS`). The user is a name or an alias.
///
/// Errors: [wrong](is_wrong), `limit`, `busy`, `invalid` (a password of more than 1,024 bytes), `denied` (no users are granted), `closed`, `io`.
pub fn verify(connection: &Connection, user: &str, password: &str) -> Deferred<Account> {
    account(host::verify(connection.raw(), user, password))
}

/// Finds out whose certificate the peer has shown (SASL's EXTERNAL). An authorization identity has to be a name of the same user.
///
/// Errors: as for [`verify`], and `unsupported` (it has shown none).
pub fn external(connection: &Connection, authorization: Option<&str>) -> Deferred<Account> {
    account(host::external(connection.raw(), authorization))
}

/// Begins SCRAM-SHA-256 with the client's first message, decoded from base64; gives the server's first message.
///
/// Errors: as for [`verify`]; `invalid` is a message that is not SCRAM's.
pub fn scram_first(connection: &Connection, message: &[u8]) -> Deferred<Vec<u8>> {
    let id = host::scram_first(connection.raw(), message);
    deferred::made(id, |_, value| bytes(value))
}

/// Ends the exchange with the client's final message, decoded from base64; gives the user, and the server's final message, which the client has to
/// see.
///
/// Errors: as for [`scram_first`]; `invalid` as well if there is no exchange.
pub fn scram_final(connection: &Connection, message: &[u8]) -> Deferred<(Account, Vec<u8>)> {
    let id = host::scram_final(connection.raw(), message);
    deferred::made(id, |id, value| Ok((take(id)?, bytes(value)?)))
}

/// Whether the operator lets people in who do not say who they are (`--anonymous`).
pub fn anonymous_granted() -> bool {
    host::anonymous_granted()
}

/// Whether an error of this module says that somebody is not who it says, rather than that nobody could find out.
pub fn is_wrong(error: &Error) -> bool {
    error.code == ErrorCode::Other("credentials".to_owned())
}

/// A [`verify`] or an [`external`] that was started before a swap, by the id that the saved state has.
pub fn adopt(id: OperationId) -> Deferred<Account> {
    account(id.as_u64())
}

fn account(id: u64) -> Deferred<Account> {
    deferred::made(id, |id, _| take(id))
}

fn take(id: u64) -> Result<Account, Error> {
    let taken = host::take_account(id);
    let accounts::Account { name, groups, home } = taken.ok_or_else(|| Error {
        code: ErrorCode::Closed,
        message: "the account was taken already".to_owned(),
    })?;
    Ok(Account { name, groups, home })
}

fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        other => Err(Error {
            code: ErrorCode::Unsupported,
            message: format!("the host completed it with {other:?}, which is no message"),
        }),
    }
}
