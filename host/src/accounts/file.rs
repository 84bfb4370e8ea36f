//! What a users file says.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};
use toml_edit::{Document, Item, Key, TableLike};

use super::{
    password::PasswordHash,
    scram::{self, ScramKeys},
};
use crate::config::text::{Position, list, nearest};

/// The users of a file, checked.
#[derive(Debug)]
pub(crate) struct Users {
    by_name: BTreeMap<String, User>,
    /// What a user may log in as, and its name.
    names: HashMap<String, String>,
    certificates: HashMap<Fingerprint, String>,
    /// Who has a password, in order: one of them stands in for each user that is not there.
    pub(super) with_password: Vec<String>,
    /// How often the passwords of most users are hashed for SCRAM.
    pub(super) usual_iterations: u32,
    /// What is told of users that are not there derives from it.
    pub(super) secret: [u8; 32],
}

/// One user.
#[derive(Debug, Default)]
pub(crate) struct User {
    pub(crate) password: Option<PasswordHash>,
    pub(crate) scram: Option<ScramKeys>,
    pub(crate) aliases: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) home: Option<String>,
    certificates: Vec<Fingerprint>,
}

impl User {
    /// Returns how many certificates it may show.
    pub(crate) fn certificate_count(&self) -> usize {
        self.certificates.len()
    }
}

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

/// What is wrong with a file, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Users {
    /// Reads and checks a file.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let reader = Reader { text };
        let document = Document::parse(text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            reader.wrong(error.span(), message)
        })?;
        let mut users = Self {
            by_name: BTreeMap::new(),
            names: HashMap::new(),
            certificates: HashMap::new(),
            with_password: Vec::new(),
            usual_iterations: scram::ITERATIONS,
            secret: random(),
        };
        for (key, item) in reader.entries(document.as_table(), ROOT_KEYS, "the file")? {
            if key.get() == "secret" {
                let secret = reader.string(key, item)?;
                let secret = BASE64_STANDARD.decode(secret).ok();
                let secret = secret.and_then(|secret| secret.try_into().ok());
                users.secret = secret.ok_or_else(|| {
                    reader.wrong(item.span(), "`secret` is not 32 bytes in base64")
                })?;
            } else {
                let table = item.as_table().ok_or_else(|| {
                    reader.wrong(key.span(), "`users` is not a table: write [users.NAME]")
                })?;
                for (name, _) in table.iter() {
                    if let Some((key, item)) = table.get_key_value(name) {
                        users.add(&reader, key, item)?;
                    }
                }
            }
        }
        users.prepare();
        Ok(users)
    }

    /// Finds out what an attempt to log in would otherwise take the longer for, the more users there are.
    fn prepare(&mut self) {
        let with_password = self.by_name.iter().filter(|(_, it)| it.password.is_some());
        self.with_password = with_password.map(|(name, _)| name.clone()).collect();
        let keys = self.by_name.values().filter_map(|it| it.scram.as_ref());
        let mut all: Vec<_> = keys.map(ScramKeys::iterations).collect();
        all.sort_unstable();
        if let Some(usual) = all.get(all.len() / 2) {
            self.usual_iterations = *usual;
        }
    }

    fn add(&mut self, reader: &Reader<'_>, key: &Key, item: &Item) -> Result<(), Wrong> {
        let name = key.get();
        check_name(name).map_err(|reason| {
            reader.wrong(
                key.span(),
                format!("user `{}`: {reason}", name.escape_debug()),
            )
        })?;
        let table = item.as_table_like().ok_or_else(|| {
            reader.wrong(
                key.span(),
                format!("user `{name}` is not a table: write [users.{name}]"),
            )
        })?;
        self.claim(reader, key.span(), name, name)?;
        let mut user = User::default();
        for (key, item) in reader.entries(table, USER_KEYS, &format!("user `{name}`"))? {
            let wrong = |reason: String| {
                reader.wrong(
                    item.span(),
                    format!("user `{name}`: `{}`: {reason}", key.get()),
                )
            };
            match key.get() {
                "password" => {
                    let hash = PasswordHash::parse(reader.string(key, item)?);
                    user.password = Some(hash.map_err(|reason| {
                        wrong(format!(
                            "not an argon2id hash such as `nethost user passwd` writes: {reason}"
                        ))
                    })?);
                }
                "scram-sha-256" => {
                    let keys = ScramKeys::parse(reader.string(key, item)?);
                    user.scram = Some(keys.map_err(wrong)?);
                }
                "home" => {
                    let home = reader.string(key, item)?;
                    check_home(home).map_err(wrong)?;
                    user.home = Some(home.to_owned());
                }
                "aliases" => {
                    for (alias, span) in reader.strings(key, item)? {
                        let reason = |reason| {
                            format!("user `{name}`: alias `{}`: {reason}", alias.escape_debug())
                        };
                        check_name(alias).map_err(|it| reader.wrong(span.clone(), reason(it)))?;
                        self.claim(reader, span, alias, name)?;
                        user.aliases.push(alias.to_owned());
                    }
                }
                "groups" => {
                    for (group, span) in reader.strings(key, item)? {
                        let reason = |reason| {
                            format!("user `{name}`: group `{}`: {reason}", group.escape_debug())
                        };
                        check_name(group).map_err(|it| reader.wrong(span, reason(it)))?;
                        user.groups.push(group.to_owned());
                    }
                }
                _ => {
                    for (text, span) in reader.strings(key, item)? {
                        let fingerprint = Fingerprint::parse(text).ok_or_else(|| {
                            let message = format!(
                                "user `{name}`: certificate `{}` is not a SHA-256 fingerprint, 64 hexadecimal digits with or without colons",
                                text.escape_debug()
                            );
                            reader.wrong(span.clone(), message)
                        })?;
                        if let Some(other) = self.certificates.insert(fingerprint, name.to_owned())
                        {
                            let message =
                                format!("user `{name}`: user `{other}` has the same certificate");
                            return Err(reader.wrong(span, message));
                        }
                        user.certificates.push(fingerprint);
                    }
                }
            }
        }
        self.by_name.insert(name.to_owned(), user);
        Ok(())
    }

    fn claim(
        &mut self,
        reader: &Reader<'_>,
        span: Option<Range<usize>>,
        name: &str,
        owner: &str,
    ) -> Result<(), Wrong> {
        match self.names.insert(name.to_owned(), owner.to_owned()) {
            None => Ok(()),
            Some(other) if other == owner => {
                Err(reader.wrong(span, format!("user `{owner}` has the name `{name}` twice")))
            }
            Some(other) => {
                let message = format!("`{name}` is a name of user `{other}` and of user `{owner}`");
                Err(reader.wrong(span, message))
            }
        }
    }

    /// Returns how many users there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns the users by name, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &User)> {
        self.by_name
            .iter()
            .map(|(name, user)| (name.as_str(), user))
    }

    /// Returns whom a name or an alias means.
    pub(crate) fn find(&self, name: &str) -> Option<(&str, &User)> {
        let (name, user) = self.by_name.get_key_value(self.names.get(name)?)?;
        Some((name, user))
    }

    /// Returns whose certificate this is.
    pub(crate) fn find_certificate(&self, der: &[u8]) -> Option<(&str, &User)> {
        let fingerprint = Fingerprint(Sha256::digest(der).into());
        let (name, user) = self
            .by_name
            .get_key_value(self.certificates.get(&fingerprint)?)?;
        Some((name, user))
    }
}

impl Fingerprint {
    /// Reads what `openssl x509 -fingerprint -sha256` says.
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits: Vec<u32> = text
            .chars()
            .filter(|it| *it != ':')
            .map(|it| it.to_digit(16))
            .collect::<Option<_>>()?;
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let value = pair.iter().fold(0, |value, digit| value * 16 + digit);
            *byte = u8::try_from(value).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Says where in a file something is.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Wrong {
        Wrong {
            line: Position::of(self.text, span.as_ref()).line,
            message: message.into(),
        }
    }

    /// Returns the entries of a table, if it has no keys but these.
    fn entries<'t>(
        &self,
        table: &'t dyn TableLike,
        known: &[&str],
        what: &str,
    ) -> Result<Vec<(&'t Key, &'t Item)>, Wrong> {
        let mut entries = Vec::new();
        for (name, _) in table.iter() {
            let Some((key, item)) = table.get_key_value(name) else {
                continue;
            };
            if !known.contains(&name) {
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => format!("; it may have {}", list(known.iter().copied())),
                };
                let message = format!("{what} has no key `{}`{hint}", name.escape_debug());
                return Err(self.wrong(key.span(), message));
            }
            entries.push((key, item));
        }
        Ok(entries)
    }

    fn string<'t>(&self, key: &Key, item: &'t Item) -> Result<&'t str, Wrong> {
        item.as_str().ok_or_else(|| {
            let message = format!("`{}` is not a text in quotes", key.get());
            self.wrong(key.span(), message)
        })
    }

    #[expect(clippy::type_complexity, reason = "a text and where it is")]
    fn strings<'t>(
        &self,
        key: &Key,
        item: &'t Item,
    ) -> Result<Vec<(&'t str, Option<Range<usize>>)>, Wrong> {
        let values = item.as_array().into_iter().flatten();
        let strings: Option<Vec<_>> = values
            .map(|value| Some((value.as_str()?, value.span())))
            .collect();
        strings.filter(|_| item.is_array()).ok_or_else(|| {
            let message = format!(
                "`{0}` is not a list of texts in quotes: {0} = [\"...\"]",
                key.get()
            );
            self.wrong(key.span(), message)
        })
    }
}

/// Checks the name of a user or a group.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name is not empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("a name has at most {LONGEST_NAME} bytes"));
    }
    match name
        .chars()
        .find(|it| it.is_whitespace() || it.is_control())
    {
        Some(it) => Err(format!("a name has no {it:?}")),
        None => Ok(()),
    }
}

/// Checks a home: the plugin finds it in a directory that it was granted.
pub(crate) fn check_home(home: &str) -> Result<(), String> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if home.split('/').all(is_part) {
        return Ok(());
    }
    Err("not a path within a directory: parts with `/` between them, none of them empty, `.` or `..`".to_owned())
}

/// 32 random bytes; zeros if the system has no randomness, which is the case on no system that Rust's own tables can be made on.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom(&mut bytes, GetRandomFlags::empty()) {
        tracing::error!(%error, "no randomness");
    }
    bytes
}

const ROOT_KEYS: &[&str] = &["secret", "users"];

const USER_KEYS: &[&str] = &[
    "password",
    "scram-sha-256",
    "aliases",
    "groups",
    "home",
    "certificates",
];

/// Bytes of the longest name.
pub(crate) const LONGEST_NAME: usize = 255;
