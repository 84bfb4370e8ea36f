//! Changes a users file, and leaves the rest of it as it is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::{
    InvalidUsers,
    file::{Users, random},
    password::PasswordHash,
    scram::{self, ScramKeys},
};

/// A users file that is being changed. Whoever else wants to change it waits.
#[derive(Debug)]
pub(crate) struct Editing {
    path: PathBuf,
    document: DocumentMut,
    users: Users,
    /// Of the folder: the file itself is replaced.
    _lock: File,
}

/// Why a file was not changed.
#[derive(Debug, Error)]
pub(crate) enum EditError {
    /// It is not a users file.
    #[error(transparent)]
    Invalid(#[from] InvalidUsers),
    /// The system refused.
    #[error("{path}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The user is there already, or is not.
    #[error("{0}")]
    User(String),
    /// The password cannot be hashed.
    #[error("hashing the password: {0}")]
    Hash(String),
}

/// A password as a users file keeps it.
#[derive(Debug)]
pub(crate) struct Secrets {
    password: PasswordHash,
    scram: Option<ScramKeys>,
}

/// Whether a password is kept for SCRAM as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scram {
    Keep,
    LeaveOut,
}

impl Secrets {
    /// Hashes a password.
    pub(crate) fn of(password: &str, scram: Scram) -> Result<Self, EditError> {
        Ok(Self {
            password: PasswordHash::of(password).map_err(EditError::Hash)?,
            scram: (scram == Scram::Keep)
                .then(|| ScramKeys::of(password, &random::<{ scram::SALT }>(), scram::ITERATIONS)),
        })
    }
}

impl Editing {
    /// Opens a file, which need not be there yet.
    pub(crate) fn open(path: &Path) -> Result<Self, EditError> {
        // What a symbolic link points to is changed, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let failed = |error| EditError::Io {
            path: path.clone(),
            error,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let lock = File::open(folder.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
            Err(error) => return Err(failed(error)),
        };
        let invalid = |line, message| InvalidUsers::new(&path, line, message);
        let users = Users::parse(&text).map_err(|wrong| invalid(wrong.line, wrong.message))?;
        let document = text
            .parse()
            .map_err(|error: toml_edit::TomlError| invalid(1, error.message().to_owned()))?;
        Ok(Self {
            path,
            document,
            users,
            _lock: lock,
        })
    }

    /// Checks that no user has one of these names.
    pub(crate) fn check_free(&self, name: &str, aliases: &[String]) -> Result<(), EditError> {
        for wanted in aliases.iter().map(String::as_str).chain([name]) {
            if let Some((user, _)) = self.users.find(wanted) {
                let message = if user == wanted {
                    format!(
                        "user `{user}` is there already; `nethost user passwd` changes its password"
                    )
                } else {
                    format!("`{wanted}` is an alias of user `{user}`")
                };
                return Err(EditError::User(message));
            }
        }
        Ok(())
    }

    /// Adds a user.
    pub(crate) fn add(
        &mut self,
        name: &str,
        secrets: &Secrets,
        aliases: &[String],
        groups: &[String],
        home: Option<&str>,
    ) -> Result<(), EditError> {
        self.check_free(name, aliases)?;
        let mut user = Table::new();
        secrets.write(&mut user);
        let list = |values: &[String]| value(values.iter().collect::<Array>());
        if !aliases.is_empty() {
            user.insert("aliases", list(aliases));
        }
        if !groups.is_empty() {
            user.insert("groups", list(groups));
        }
        if let Some(home) = home {
            user.insert("home", value(home));
        }
        let users = self.document.entry("users").or_insert_with(|| {
            let mut users = Table::new();
            users.set_implicit(true);
            Item::Table(users)
        });
        if let Some(users) = users.as_table_mut() {
            users.insert(name, Item::Table(user));
        }
        Ok(())
    }

    /// Gives a user another password.
    pub(crate) fn set_password(&mut self, name: &str, secrets: &Secrets) -> Result<(), EditError> {
        self.check_user(name)?;
        let users = self.document.get_mut("users");
        let user = users.and_then(|users| users.get_mut(name));
        if let Some(user) = user.and_then(Item::as_table_like_mut) {
            user.insert("password", value(secrets.password.to_phc()));
            match &secrets.scram {
                Some(keys) => drop(user.insert("scram-sha-256", value(keys.to_text()))),
                None => drop(user.remove("scram-sha-256")),
            }
        }
        Ok(())
    }

    /// Removes a user.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), EditError> {
        self.check_user(name)?;
        if let Some(users) = self.document.get_mut("users").and_then(Item::as_table_mut) {
            users.remove(name);
        }
        Ok(())
    }

    /// Checks that there is such a user.
    pub(crate) fn check_user(&self, name: &str) -> Result<(), EditError> {
        match self.users.find(name) {
            Some((user, _)) if user == name => Ok(()),
            Some((user, _)) => {
                let message = format!("`{name}` is an alias of user `{user}`");
                Err(EditError::User(message))
            }
            None => Err(EditError::User(format!("there is no user `{name}`"))),
        }
    }

    /// Writes the file beside its place, with mode 600 from the start, and moves it there: a host that reads it at this moment finds the old or the
    /// new one, whole.
    pub(crate) fn save(mut self) -> Result<(), EditError> {
        if !self.document.contains_key("secret") {
            let secret = BASE64_STANDARD.encode(random::<32>());
            self.document.insert("secret", value(secret));
        }
        let text = self.document.to_string();
        // What is written can be read again.
        Users::parse(&text)
            .map_err(|wrong| InvalidUsers::new(&self.path, wrong.line, wrong.message))?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = self.path.with_file_name(name);
        let written = write(&new, &self.path, &text).and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&new);
        }
        written.map_err(|error| EditError::Io {
            path: self.path,
            error,
        })
    }
}

impl Secrets {
    fn write(&self, user: &mut Table) {
        user.insert("password", value(self.password.to_phc()));
        if let Some(keys) = &self.scram {
            user.insert("scram-sha-256", value(keys.to_text()));
        }
    }
}

fn write(new: &Path, old: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    if let Ok(old) = fs::metadata(old) {
        let mine = file.metadata()?;
        if (old.uid(), old.gid()) != (mine.uid(), mine.gid()) {
            // The host may run as whom it belongs to, and root changes it.
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What a new file begins with.
const HEAD: &str = "\
# Users of nethost. `nethost user` changes this file and leaves comments alone; hosts take changes over by themselves.
#
# [users.NAME]
# password, scram-sha-256   what `nethost user add` and `passwd` write
# aliases = [\"...\"]         other names to log in with
# groups = [\"...\"]          for the plugin
# home = \"...\"              a path within a directory that the plugin was granted
# certificates = [\"...\"]    SHA-256 fingerprints: openssl x509 -noout -fingerprint -sha256 -in FILE
";
