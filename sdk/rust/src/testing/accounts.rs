//! Accounts, natively.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{
    bulk::{error, refused},
    reactor::{self, Connection, Ending},
};
use crate::{
    bindings::nethost::plugin::{accounts::Account, deferred::Value, types::ErrorCode},
    connection::ConnectionId,
    types::Error,
};

/// The users that a test grants.
///
/// Everything is decided at once: nothing is held back, and nobody fails too often. In SCRAM the salt, 4,096 iterations and the server's part of the nonce are
/// those of [RFC 7677, section 3](https://www.rfc-editor.org/rfc/rfc7677.html#section-3), always: with the user `user` and the password `pencil` a
/// transcript can have the example there.
#[derive(Clone, Debug, Default)]
pub struct Users {
    users: Vec<User>,
    anonymous: bool,
}

#[derive(Clone, Debug, Default)]
struct User {
    name: String,
    password: String,
    aliases: Vec<String>,
    groups: Vec<String>,
    home: Option<String>,
    certificates: Vec<Vec<u8>>,
}

impl Users {
    /// No users; who asks for one is told that it is wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user with a password. What follows is about it.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push(User {
            name: name.to_owned(),
            password: password.to_owned(),
            ..User::default()
        });
        self
    }

    /// Gives the last user another name to log in with.
    pub fn alias(self, alias: &str) -> Self {
        self.change(|user| user.aliases.push(alias.to_owned()))
    }

    /// Puts the last user into a group.
    pub fn group(self, group: &str) -> Self {
        self.change(|user| user.groups.push(group.to_owned()))
    }

    /// Says where the last user's files are.
    pub fn home(self, home: &str) -> Self {
        self.change(|user| user.home = Some(home.to_owned()))
    }

    /// Has a certificate, of which only the bytes count, stand for the last user.
    pub fn certificate(self, der: &[u8]) -> Self {
        self.change(|user| user.certificates.push(der.to_vec()))
    }

    /// Lets people in who do not say who they are.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    fn change(mut self, change: impl FnOnce(&mut User)) -> Self {
        match self.users.last_mut() {
            Some(user) => change(user),
            None => panic!("there is no user yet"),
        }
        self
    }

    fn find(&self, name: &str) -> Option<&User> {
        let is_name = |user: &&User| user.name == name || user.aliases.iter().any(|it| it == name);
        self.users.iter().find(is_name)
    }
}

/// What of this is in the reactor.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// None if the service was granted none.
    pub(crate) users: Option<Users>,
    found: HashMap<u64, Account>,
    exchanges: HashMap<ConnectionId, Exchange>,
}

/// What a server has said.
#[derive(Debug)]
struct Exchange {
    user: Option<User>,
    header: String,
    nonce: String,
    signed: String,
}

impl Logins {
    /// Forgets a connection that is lost.
    pub(crate) fn lost(&mut self, connection: ConnectionId) {
        self.exchanges.remove(&connection);
    }
}

pub(crate) fn verify(connection: &Connection, name: &str, password: &str) -> u64 {
    let Some(users) = users(connection) else {
        return unavailable(connection);
    };
    if password.len() > LONGEST_PASSWORD {
        return refused(ErrorCode::Invalid, "the password is too long");
    }
    let found = users.find(name).filter(|user| user.password == password);
    conclude(found, Value::Ready)
}

pub(crate) fn external(connection: &Connection, authorization: Option<&str>) -> u64 {
    let Some(users) = users(connection) else {
        return unavailable(connection);
    };
    let shown = connection.tls().map(|info| info.peer_certificates);
    let Some(certificate) = shown.and_then(|all| all.into_iter().next()) else {
        return refused(ErrorCode::Unsupported, "the peer has shown no certificate");
    };
    let mut all = users.users.iter();
    let found = all.find(|user| user.certificates.contains(&certificate));
    let authorization = authorization.filter(|name| !name.is_empty());
    conclude(
        found.filter(|user| user.may_be(&users, authorization)),
        Value::Ready,
    )
}

pub(crate) fn scram_first(connection: &Connection, message: &[u8]) -> u64 {
    let Some(users) = users(connection) else {
        return unavailable(connection);
    };
    let id = connection.wire().id;
    reactor::with(|reactor| reactor.logins.exchanges.remove(&id));
    let Some((exchange, answer)) = begin(&users, message) else {
        return refused(ErrorCode::Invalid, "not a message of SCRAM");
    };
    reactor::with(|reactor| reactor.logins.exchanges.insert(id, exchange));
    finished(Ok(Value::Bytes(answer.into_bytes())))
}

pub(crate) fn scram_final(connection: &Connection, message: &[u8]) -> u64 {
    if users(connection).is_none() {
        return unavailable(connection);
    }
    let id = connection.wire().id;
    let exchange = reactor::with(|reactor| reactor.logins.exchanges.remove(&id));
    let Some(exchange) = exchange else {
        return refused(
            ErrorCode::Invalid,
            "no exchange was begun on this connection",
        );
    };
    match exchange.finish(message) {
        Some((user, answer)) => conclude(user, Value::Bytes(answer.into_bytes())),
        None => refused(ErrorCode::Invalid, "not a message of SCRAM"),
    }
}

pub(crate) fn take_account(id: u64) -> Option<Account> {
    reactor::with(|reactor| reactor.logins.found.remove(&id))
}

pub(crate) fn anonymous_granted() -> bool {
    reactor::with(|reactor| {
        let users = reactor.logins.users.as_ref();
        users.is_some_and(|users| users.anonymous)
    })
}

/// The users, if there are any for this connection.
fn users(connection: &Connection) -> Option<Users> {
    let users = reactor::with(|reactor| reactor.logins.users.clone());
    users.filter(|_| connection.wire().ending.get() != Ending::Lost)
}

fn unavailable(connection: &Connection) -> u64 {
    match connection.wire().ending.get() {
        Ending::Lost => refused(ErrorCode::Closed, "the connection is lost"),
        _ => refused(ErrorCode::Denied, "no users are granted"),
    }
}

fn conclude(found: Option<&User>, value: Value) -> u64 {
    let Some(user) = found else {
        let code = ErrorCode::Other("credentials".to_owned());
        return finished(Err(error(
            code,
            "no such user, or not its password or certificate",
        )));
    };
    let account = Account {
        name: user.name.clone(),
        groups: user.groups.clone(),
        home: user.home.clone(),
    };
    let id = finished(Ok(value));
    reactor::with(|reactor| reactor.logins.found.insert(id, account));
    id
}

fn finished(outcome: Result<Value, Error>) -> u64 {
    reactor::with(|reactor| {
        let id = reactor.next_id();
        reactor.finished.push_back((id, outcome));
        id
    })
}

impl User {
    fn may_be(&self, users: &Users, authorization: Option<&str>) -> bool {
        authorization.is_none_or(|name| users.find(name).is_some_and(|it| it.name == self.name))
    }
}

/// Reads the client's first message, and answers it.
fn begin(users: &Users, message: &[u8]) -> Option<(Exchange, String)> {
    let message = std::str::from_utf8(message).ok()?;
    let (binding, rest) = message.split_once(',')?;
    let (authorization, bare) = rest.split_once(',')?;
    let header = message.strip_suffix(bare)?;
    let authorization = match authorization.strip_prefix("a=") {
        Some(name) => Some(unescape(name)),
        None if authorization.is_empty() => None,
        None => return None,
    };
    let mut attributes = bare.split(',');
    let name = unescape(attributes.next()?.strip_prefix("n=")?);
    let nonce = attributes.next()?.strip_prefix("r=")?;
    if !matches!(binding, "n" | "y") || nonce.is_empty() || name.is_empty() {
        return None;
    }
    let user = users.find(&name);
    let user = user.filter(|user| user.may_be(users, authorization.as_deref()));
    let nonce = format!("{nonce}{SERVER_NONCE}");
    let answer = format!("r={nonce},s={SALT},i={ITERATIONS}");
    let exchange = Exchange {
        user: user.cloned(),
        header: BASE64_STANDARD.encode(header),
        nonce,
        signed: format!("{bare},{answer}"),
    };
    Some((exchange, answer))
}

impl Exchange {
    /// Reads the client's final message: who it is, and what the server says then. None if it is not one.
    fn finish(&self, message: &[u8]) -> Option<(Option<&User>, String)> {
        let message = std::str::from_utf8(message).ok()?;
        let (unproven, proof) = message.rsplit_once(",p=")?;
        let mut attributes = unproven.split(',');
        let header = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let mut proof = BASE64_STANDARD.decode(proof).ok()?;
        if header != self.header || nonce != self.nonce || proof.len() != 32 {
            return None;
        }
        let Some(user) = &self.user else {
            return Some((None, String::new()));
        };
        let signed = format!("{},{unproven}", self.signed);
        let salted = salted(&user.password);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
        for (byte, with) in proof.iter_mut().zip(signature) {
            *byte ^= with;
        }
        let server_key = hmac(&salted, b"Server Key");
        let answer = BASE64_STANDARD.encode(hmac(&server_key, signed.as_bytes()));
        let user = (proof == client_key).then_some(user);
        Some((user, format!("v={answer}")))
    }
}

fn unescape(name: &str) -> String {
    name.replace("=2C", ",").replace("=3D", "=")
}

/// `SaltedPassword`: PBKDF2 with HMAC-SHA-256 and one block of output.
fn salted(password: &str) -> [u8; 32] {
    let salt = BASE64_STANDARD.decode(SALT).unwrap_or_default();
    let mut block = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let mut result = block;
    for _ in 1..ITERATIONS {
        block = hmac(password.as_bytes(), &block);
        for (byte, with) in result.iter_mut().zip(block) {
            *byte ^= with;
        }
    }
    result
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(data).finalize().into_bytes().into(),
        Err(error) => panic!("HMAC takes keys of any length: {error}"),
    }
}

/// The contract's number.
const LONGEST_PASSWORD: usize = 1024;

// RFC 7677, section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const ITERATIONS: u32 = 4096;
