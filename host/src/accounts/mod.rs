//! Accounts: who users are, from a file that the operator writes. A plugin asks whether a password is right, and never sees a hash.
//!
//! # The file
//!
//! ```toml
//! secret = "..."                        # 32 random bytes in base64; keeps the salts of users that are not there
//!
//! [users.ann]
//! password = "$argon2id$v=19$..."       # a PHC string; none: no password is right
//! scram-sha-256 = "SCRAM-SHA-256$..."   # SCRAM's keys as PostgreSQL writes them; none: SCRAM fails
//! aliases = ["ann@example.net"]         # other names to log in with
//! groups = ["staff"]                    # for the plugin
//! home = "people/ann"                   # for the plugin: a path within a directory that it was granted
//! certificates = ["9F:86:D0:..."]       # SHA-256 of client certificates that stand for her
//! ```
//!
//! Everything is optional. Names are compared byte for byte; each is one user's, and has 1 to 255 bytes, no white space and no control characters.
//! SCRAM's keys are as good as a hash with PBKDF2, which is easier to guess against than argon2: who has no client that uses SCRAM had better leave them out.
//! Passwords are not prepared (SASLprep, RFC 4013), which changes nothing in ASCII.
//!
//! # Against guessing
//!
//! A password is verified for every name, whether there is such a user or not: then against the hash of another user, always the same one, so that the
//! time tells nothing. The answer to a failure is held back for 1, 2, 4, 8 and then 16 seconds; after ten failures a peer is refused until one is forgiven,
//! which is one a minute; and it may have eight attempts under way. A guess counts, too, if nobody waits for its answer. A peer is an IPv4 address or a /64 of IPv6; all connections without an
//! address are one. The table is of this service, and has 65,536 peers.
//!
//! A hash takes 19 MiB and some 20 ms on a thread of its own; [`HASHES`] at a time in the whole process, and [`WAITING`] may wait for their turn. The
//! next turn is the peer's that hashes least, and when too many wait the peer that waits with most makes way, so that one that guesses much, or
//! from few addresses, is in nobody's way.

mod file;

mod password;

mod scram;

mod failures;

mod turns;

pub(crate) mod edit;

mod watch;

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use failures::{Attempt, Failures, NotNow, Peer};
use file::User;
pub(crate) use file::{Users, check_home, check_name};
use password::PasswordHash;
use scram::{ClientFirst, Exchange, Malformed, ScramKeys};
use thiserror::Error;
use turns::{Turn, Turns};

use crate::{
    files::open_regular,
    transport::Address,
    watch::{Snapshot, Watch},
};

/// The accounts of a service.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    loaded: Mutex<Loaded>,
    failures: Arc<Failures>,
    watch: Mutex<Option<Watch>>,
}

#[derive(Debug)]
struct Loaded {
    users: Arc<Users>,
    /// What the file looked like before it was read.
    snapshot: Snapshot,
}

/// Who somebody turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name, never an alias.
    pub name: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// A path within a directory that the plugin was granted.
    pub home: Option<String>,
}

/// Why a file is not a users file.
#[derive(Debug, Error)]
#[error("{path}:{line}: {message}")]
pub struct InvalidUsers {
    path: String,
    line: usize,
    message: String,
}

/// Why users were not loaded.
#[derive(Debug, Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("reading {path}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is not a users file.
    #[error(transparent)]
    Invalid(InvalidUsers),
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not the user's password, key or certificate, or no such user.
    Credentials,
    /// Too many failures of this peer; one is forgiven in this time.
    Limited(Duration),
    /// Too much at once.
    Busy(&'static str),
    /// What came is not what it should be.
    Invalid(String),
    /// The host failed.
    Failed(String),
}

/// A SCRAM exchange of which the last message is to come.
#[derive(Debug)]
pub(crate) struct ScramExchange {
    exchange: Exchange,
    /// None if there is no such user, or it may not act as whom it wants to.
    account: Option<Account>,
}

impl InvalidUsers {
    fn new(path: &Path, line: usize, message: String) -> Self {
        Self {
            path: path.display().to_string(),
            line,
            message,
        }
    }
}

impl Accounts {
    /// Loads a file, and looks at it every second from now on.
    pub fn load(path: &Path, service: &str) -> Result<Arc<Self>, UsersError> {
        let snapshot = Snapshot::of(path);
        let users = read(path)?;
        warn_of_readers(path, service);
        let this = Arc::new(Self {
            path: path.to_owned(),
            loaded: Mutex::new(Loaded {
                users: Arc::new(users),
                snapshot,
            }),
            failures: Arc::default(),
            watch: Mutex::new(None),
        });
        match Watch::start(service, [&this]) {
            Ok(watch) => *this.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch),
            Err(error) => tracing::error!(
                service,
                %error,
                "the users file will not be loaded again: no thread can be started"
            ),
        }
        Ok(this)
    }

    /// Loads the file again without waiting until it looks different. Returns at once; the log says what came of it.
    pub fn reload(&self) {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = &*watch {
            watch.reload();
        }
    }

    /// Loads the file now; returns how many users there are. If it cannot be loaded, those that were loaded before stay.
    fn load_again(&self) -> Result<usize, UsersError> {
        let snapshot = Snapshot::of(&self.path);
        let users = Arc::new(read(&self.path)?);
        let count = users.len();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = Loaded { users, snapshot };
        Ok(count)
    }

    fn has_loaded_other(&self, snapshot: &Snapshot) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.snapshot != *snapshot
    }

    fn users(&self) -> Arc<Users> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.users.clone()
    }

    /// Checks a password. Must be called on a worker.
    pub(crate) async fn verify(
        &self,
        peer: &Address,
        user: &str,
        password: String,
    ) -> Result<Account, Refusal> {
        if password.len() > LONGEST_PASSWORD {
            let message = format!("the password is longer than {LONGEST_PASSWORD} bytes");
            return Err(Refusal::Invalid(message));
        }
        let attempt = self.begin(peer)?;
        let users = self.users();
        let turn = turn(attempt.peer()).await?;
        let (found, hash) = match users.find(user) {
            Some((name, it)) if it.password.is_some() => (Some((name, it)), it.password.clone()),
            _ => (None, users.stand_in(user).cloned()),
        };
        let hash = match hash {
            Some(hash) => hash,
            None => default_hash()?,
        };
        let is_known = found.is_some();
        // What is cancelled meanwhile goes on, has its place until it ends, and was an attempt: who hangs up before the answer has guessed as well.
        let hashing = tokio::task::spawn_blocking(move || {
            let verified = hash.verify(&password) && is_known;
            drop(turn);
            let delay = (!verified).then(|| attempt.failed(Instant::now()));
            (attempt, delay)
        });
        let (attempt, delay) = hashing
            .await
            .map_err(|error| Refusal::Failed(error.to_string()))?;
        match (delay, found) {
            (None, Some((name, user))) => Ok(Account::of(name, user)),
            (delay, _) => Err(hold_back(attempt, delay.unwrap_or_default()).await),
        }
    }

    /// Finds out whose certificate a peer has shown, which was verified. Must be called on a worker.
    pub(crate) async fn external(
        &self,
        peer: &Address,
        certificate: &[u8],
        authorization: Option<&str>,
    ) -> Result<Account, Refusal> {
        let attempt = self.begin(peer)?;
        let users = self.users();
        let found = users.find_certificate(certificate);
        let found = found.filter(|(name, _)| is_same(&users, name, authorization));
        let account = found.map(|(name, user)| Account::of(name, user));
        conclude(attempt, account).await
    }

    /// Begins a SCRAM exchange: returns what the server says first.
    pub(crate) fn scram_first(
        &self,
        peer: &Address,
        message: &[u8],
    ) -> Result<(ScramExchange, Vec<u8>), Refusal> {
        // Whoever may not try learns nothing.
        drop(self.begin(peer)?);
        let first = ClientFirst::parse(message)?;
        let users = self.users();
        let found = users.find(&first.user);
        let keys = found.and_then(|(_, user)| user.scram.clone());
        let account = found
            .filter(|(name, _)| {
                keys.is_some() && is_same(&users, name, first.authorization.as_deref())
            })
            .map(|(name, user)| Account::of(name, user));
        let keys = keys.unwrap_or_else(|| {
            ScramKeys::seeming(&users.secret, &first.user, users.usual_iterations)
        });
        let nonce = BASE64_STANDARD_NO_PAD.encode(file::random::<18>());
        let (exchange, message) = Exchange::begin(&first, keys, &nonce);
        Ok((ScramExchange { exchange, account }, message))
    }

    /// Ends a SCRAM exchange: returns what the server says last. Must be called on a worker.
    pub(crate) async fn scram_final(
        &self,
        peer: &Address,
        exchange: ScramExchange,
        message: &[u8],
    ) -> Result<(Account, Vec<u8>), Refusal> {
        let attempt = self.begin(peer)?;
        let proven = exchange.exchange.finish(message)?;
        let message = proven
            .as_ref()
            .filter(|_| exchange.account.is_some())
            .cloned();
        let account = exchange.account.filter(|_| proven.is_some());
        let account = conclude(attempt, account).await?;
        Ok((account, message.unwrap_or_default()))
    }

    fn begin(&self, peer: &Address) -> Result<Attempt, Refusal> {
        let attempt = self.failures.begin(Peer::of(peer), Instant::now());
        attempt.map_err(|why| match why {
            NotNow::Busy => Refusal::Busy("this peer has too many attempts under way"),
            NotNow::Limited(left) => Refusal::Limited(left),
        })
    }
}

impl Users {
    /// Returns the hash to verify for a user that is not there, or has none: another user's, always the same one.
    fn stand_in(&self, user: &str) -> Option<&PasswordHash> {
        let hash = scram::hmac(&self.secret, &[b"stand-in ", user.as_bytes()]);
        let number = hash
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let at = number.checked_rem(u64::try_from(self.with_password.len()).ok()?)?;
        let name = self.with_password.get(usize::try_from(at).ok()?)?;
        self.find(name)?.1.password.as_ref()
    }
}

impl Account {
    fn of(name: &str, user: &User) -> Self {
        Self {
            name: name.to_owned(),
            groups: user.groups.clone(),
            home: user.home.clone(),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed(how): Malformed) -> Self {
        Self::Invalid(format!("not a message of SCRAM: {how}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("no such user, or not its password or certificate"),
            Self::Limited(left) => write!(
                f,
                "too many failures of this peer; it may try again in {} s",
                left.as_secs() + 1
            ),
            Self::Busy(what) => f.write_str(what),
            Self::Invalid(how) => f.write_str(how),
            Self::Failed(how) => write!(f, "verifying a password failed: {how}"),
        }
    }
}

/// Lets somebody in, or counts a failure and holds the answer back.
async fn conclude(attempt: Attempt, account: Option<Account>) -> Result<Account, Refusal> {
    if let Some(account) = account {
        return Ok(account);
    }
    let delay = attempt.failed(Instant::now());
    Err(hold_back(attempt, delay).await)
}

/// Returns the answer to a failure when it is time. The attempt is under way until then, even if nobody waits for the answer any more.
async fn hold_back(attempt: Attempt, delay: Duration) -> Refusal {
    let held = tokio::task::spawn_local(async move {
        tokio::time::sleep(delay).await;
        drop(attempt);
    });
    match held.await {
        Ok(()) => Refusal::Credentials,
        Err(error) => Refusal::Failed(error.to_string()),
    }
}

/// Returns whether somebody may act as this user: as itself alone.
fn is_same(users: &Users, name: &str, authorization: Option<&str>) -> bool {
    authorization.is_none_or(|wanted| users.find(wanted).is_some_and(|(wanted, _)| wanted == name))
}

/// Waits for a place to hash.
async fn turn(peer: Peer) -> Result<Turn, Refusal> {
    static TURNS: LazyLock<Arc<Turns>> = LazyLock::new(|| Turns::new(HASHES, WAITING));
    let turn = TURNS.wait(peer).await;
    turn.map_err(|_| Refusal::Busy("too many passwords wait to be verified"))
}

/// The hash to verify when no user has one.
fn default_hash() -> Result<PasswordHash, Refusal> {
    static HASH: LazyLock<Result<PasswordHash, String>> =
        LazyLock::new(|| PasswordHash::parse(DEFAULT_HASH));
    HASH.clone().map_err(Refusal::Failed)
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Users, UsersError> {
    let text = open_regular(path).and_then(|mut file| {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    });
    let text = text.map_err(|error| UsersError::Io {
        path: path.display().to_string(),
        error,
    })?;
    Users::parse(&text)
        .map_err(|wrong| UsersError::Invalid(InvalidUsers::new(path, wrong.line, wrong.message)))
}

fn warn_of_readers(path: &Path, service: &str) {
    use std::os::unix::fs::MetadataExt as _;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            service,
            "others than its owner may use {} (mode {:o}): chmod 600",
            path.display(),
            mode & 0o777
        );
    }
}

/// Hashes that are verified at a time, in the whole process: 4, which take 76 MiB as `nethost user` makes them.
pub const HASHES: usize = 4;

/// Passwords that wait for their turn: 64, a third of a second's work. A further one is refused as `busy`.
pub const WAITING: usize = 64;

/// Bytes of the longest password.
pub(crate) const LONGEST_PASSWORD: usize = 1024;

/// Of a password that nobody knows, with the parameters of `nethost user`.
const DEFAULT_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$bmV0aG9zdC1kZWZhdWx0$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

#[cfg(test)]
mod tests;
