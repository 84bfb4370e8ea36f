//! `plugin.toml`: what a plugin says about itself, and the check of the operator's settings against it.
//!
//! ```toml
//! [plugin]
//! name = "irc"
//! version = "0.1.0"
//! description = "An IRC server"
//! listen = ["tcp://127.0.0.1:6667"]
//! isolation = ["service"]           # kinds it permits, the default first
//! independent-sessions = false      # whether one that is busy at a swap may stay behind while the others move
//!
//! [grants]
//! connect = "to dial the upstream"  # what it asks for, and why: connect, users, anonymous
//!
//! [grants.directories.logs]
//! mode = "rw"                       # or "ro"
//! reason = "to keep what was said"
//!
//! [command]                         # what `nethost exec` must know of the client side, if there is one
//! usage = "get URL [-o FILE]"
//! reads = ["-d@", "put 1"]          # where arguments name files: `CommandManifest` says how
//! writes = ["-o", "--output"]
//! values = ["-H"]                   # other options that take a value
//! name-servers = "to look up MX"    # that it asks name servers itself, and why
//!
//! [config.network]
//! type = "string"                   # string, integer, boolean, duration, list
//! default = "ExampleNet"            # without one the operator has to set it
//! description = "The name of the network"
//! needs = "connect"                 # the grant is for this key: nobody misses it who does not set the key
//! ```

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    config::{
        Setting, Text,
        text::{list, nearest},
    },
    endpoint::Endpoint,
    files::FileMode,
    imports::log::escape,
};

mod command;
mod duration;
#[cfg(test)]
mod tests;

pub use command::{CommandManifest, FileArgument};
pub use duration::{InvalidDuration, parse_duration, show_duration};

/// The custom section of the component that carries the text of `plugin.toml`.
pub const SECTION: &str = "nethost:manifest";

/// What a plugin says about itself, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The plugin's name: lower-case letters, digits and dashes. A service is named after it.
    pub name: String,
    /// The plugin's own version (not the contract's), such as `0.1.0`.
    pub version: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// The listeners that a service has if the operator names none.
    pub listen: Vec<String>,
    /// The kinds of isolation that it permits, the default first. Never empty.
    pub isolation: Vec<Isolation>,
    /// Whether its sessions have nothing in common, so that at a swap one that is busy stays with the old version for a while, and the others move.
    pub independent_sessions: bool,
    /// What it asks for beyond its connections, and why.
    pub grants: BTreeMap<String, String>,
    /// The directories that it asks for, by the names that it knows them by.
    pub directories: BTreeMap<String, DirectoryRequest>,
    /// What it says of its command, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandManifest>,
    /// The keys of its configuration.
    pub config: BTreeMap<String, ConfigKey>,
    #[serde(skip)]
    source: Source,
}

impl Manifest {
    /// Checks the text of a manifest. `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, InvalidManifest> {
        let raw: RawManifest =
            toml::from_str(text).map_err(|error| InvalidManifest::syntax(text, file, &error))?;
        raw.check().map_err(|(key, reason)| InvalidManifest::Key {
            file: file.to_owned(),
            key: escape(&key),
            reason: escape(&reason),
        })
    }

    /// What is assumed of a component that carries no manifest: its file's name, isolation `worker`, no listeners and no config keys. What cannot be in a
    /// service's name becomes a dash.
    pub fn assumed(file_stem: &str) -> Self {
        Self {
            name: file_stem
                .chars()
                .map(|it| if is_service_name_char(it) { it } else { '-' })
                .collect(),
            version: None,
            description: None,
            listen: Vec::new(),
            isolation: vec![Isolation::Worker],
            independent_sessions: false,
            grants: BTreeMap::new(),
            directories: BTreeMap::new(),
            command: None,
            config: BTreeMap::new(),
            source: Source::Assumed,
        }
    }

    /// The isolation of a service whose operator chose none.
    pub fn default_isolation(&self) -> Isolation {
        self.isolation.first().copied().unwrap_or_default()
    }

    /// Merges what the operator set into the defaults, each value checked against its key's type.
    ///
    /// A list is set once per element, and the first one replaces the default (`--set k=a --set k=b` is `["a", "b"]`); a single empty value is
    /// the empty list. Any other key is set at most once. A duration becomes a number of nanoseconds.
    pub fn config(&self, sets: &[(String, String)]) -> Result<Map<String, Value>, InvalidConfig> {
        self.settings(&typed(sets)).map_err(|mut wrong| {
            let (_, first) = wrong.swap_remove(0);
            first
        })
    }

    /// As [`Self::config`], from flags or from a file; what is wrong is told of every key, and of those that are missing together.
    pub(crate) fn settings(
        &self,
        given: &BTreeMap<String, Setting>,
    ) -> Result<Map<String, Value>, Vec<WrongSetting>> {
        let unknown = given.keys().filter(|key| !self.config.contains_key(*key));
        let mut wrong: Vec<WrongSetting> = unknown
            .map(|key| (Some(key.clone()), self.unknown(key)))
            .collect();
        let mut merged = Map::new();
        let mut missing = Vec::new();
        for (key, declared) in &self.config {
            let value = match given.get(key) {
                Some(setting) => declared.kind.read(key, setting).map(Some),
                None => Ok(declared.default.clone()),
            };
            match value {
                Ok(Some(value)) => drop(merged.insert(key.clone(), value)),
                Ok(None) => missing.push(key.as_str()),
                Err(error) => wrong.push((Some(key.clone()), error)),
            }
        }
        if !missing.is_empty() {
            let missing = InvalidConfig::Missing {
                plugin: self.name.clone(),
                keys: list(missing),
            };
            wrong.push((None, missing));
        }
        if wrong.is_empty() {
            Ok(merged)
        } else {
            Err(wrong)
        }
    }

    fn unknown(&self, key: &str) -> InvalidConfig {
        let plugin = self.name.clone();
        let key = key.to_owned();
        if self.source == Source::Assumed {
            return InvalidConfig::NoManifest { plugin, key };
        }
        if self.config.is_empty() {
            return InvalidConfig::NoKeys { plugin, key };
        }
        let known = || self.config.keys().map(String::as_str);
        let near = nearest(&key, known());
        InvalidConfig::Unknown {
            plugin,
            hint: near.map_or_else(String::new, |near| format!(", did you mean `{near}`?")),
            known: list(known()),
            key,
        }
    }
}

/// How many instances serve a plugin's connections, and so what one fault ends.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Deserialize, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// One instance per worker: for protocols whose connections do not know of each other.
    #[default]
    Worker,
    /// One instance for the service: for protocols whose connections share state.
    Service,
    /// One instance per connection: a fault ends that connection only.
    Connection,
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Worker => "worker",
            Self::Service => "service",
            Self::Connection => "connection",
        })
    }
}

/// A directory that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRequest {
    /// What it does there.
    pub mode: FileMode,
    /// Why, for people.
    pub reason: String,
}

/// One key of a plugin's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigKey {
    /// What a value of it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The value if the operator sets none, as the plugin gets it. None: the operator has to set it.
    pub default: Option<Value>,
    /// One line for people.
    pub description: String,
    /// The grant that the plugin asks for because of this key only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

/// The type of a config key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Any text.
    String,
    /// A whole number of 64 bits, with a sign.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A length of time such as `30s`; the plugin gets nanoseconds, as everywhere in the contract.
    Duration,
    /// Any number of texts.
    List,
}

impl Kind {
    /// A value as the operator would write it.
    pub fn show(self, value: &Value) -> String {
        match (self, value) {
            (Self::Duration, value) => value.as_u64().map(show_duration).unwrap_or_default(),
            (Self::String, Value::String(text)) => format!("{text:?}"),
            (_, value) => value.to_string(),
        }
    }

    /// Reads what the operator set.
    fn read(self, key: &str, setting: &Setting) -> Result<Value, InvalidConfig> {
        let value = match (self, setting) {
            (_, Setting::Typed(values)) => {
                let values: Vec<_> = values.iter().map(String::as_str).collect();
                return self.parse(key, &values);
            }
            (Self::Integer, Setting::Integer(number)) => Some((*number).into()),
            (Self::Boolean, Setting::Boolean(truth)) => Some((*truth).into()),
            (Self::String | Self::Duration, Setting::Text(text)) => self.parse_one(text.expose()),
            // A secret is a text, whatever it stands for.
            (Self::Integer | Self::Boolean, Setting::Text(Text::Secret(secret))) => {
                self.parse_one(secret.expose())
            }
            (Self::List, Setting::List(texts)) => Some(texts.iter().map(Text::expose).collect()),
            _ => None,
        };
        value.ok_or_else(|| InvalidConfig::WrongType {
            key: key.to_owned(),
            value: setting.to_string(),
            expected: self.expected(),
        })
    }

    fn parse(self, key: &str, values: &[&str]) -> Result<Value, InvalidConfig> {
        if self == Self::List {
            return Ok(match values {
                [""] => Value::Array(Vec::new()),
                elements => elements.iter().copied().collect(),
            });
        }
        let [text] = *values else {
            return Err(InvalidConfig::Repeated {
                key: key.to_owned(),
                kind: self,
            });
        };
        self.parse_one(text)
            .ok_or_else(|| InvalidConfig::WrongType {
                key: key.to_owned(),
                value: text.to_owned(),
                expected: self.expected(),
            })
    }

    fn parse_one(self, text: &str) -> Option<Value> {
        match self {
            Self::String | Self::List => Some(text.into()),
            Self::Integer => text.parse::<i64>().ok().map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            Self::Duration => parse_duration(text).ok().map(Value::from),
        }
    }

    /// Turns the default of a manifest into what the plugin gets.
    fn check_default(self, default: &toml::Value) -> Option<Value> {
        match (self, default) {
            (Self::String, toml::Value::String(text)) => Some(text.as_str().into()),
            (Self::Integer, toml::Value::Integer(number)) => Some((*number).into()),
            (Self::Boolean, toml::Value::Boolean(truth)) => Some((*truth).into()),
            (Self::Duration, toml::Value::String(text)) => {
                parse_duration(text).ok().map(Value::from)
            }
            (Self::List, toml::Value::Array(elements)) => elements
                .iter()
                .map(|element| element.as_str().map(Value::from))
                .collect(),
            _ => None,
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "`true` or `false`",
            Self::Duration => "a duration such as `30s` (ms, s, m, h, d)",
            Self::List => "a list of strings",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::List => "list",
        })
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// It is not TOML, or has a key or a type that the format does not have.
    #[error("{file}:{line}: {reason}")]
    Syntax {
        /// The manifest.
        file: String,
        /// Where, counted from 1.
        line: usize,
        /// What.
        reason: String,
    },
    /// A key's value cannot be.
    #[error("{file}: `{key}`: {reason}")]
    Key {
        /// The manifest.
        file: String,
        /// The key, with its table.
        key: String,
        /// What.
        reason: String,
    },
}

impl InvalidManifest {
    fn syntax(text: &str, file: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start));
        Self::Syntax {
            file: file.to_owned(),
            line: before.map_or(1, |before| before.matches('\n').count() + 1),
            reason: escape(&error.message().trim().replace('\n', ", ")),
        }
    }
}

/// What is wrong with the operator's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// The component carries no manifest, so nothing is known of its keys.
    #[error("cannot set `{key}`: `{plugin}` carries no manifest, so it has no config keys")]
    NoManifest {
        /// The plugin.
        plugin: String,
        /// The key that was set.
        key: String,
    },
    /// The plugin has no config keys at all.
    #[error("unknown config key `{key}`: `{plugin}` has none")]
    NoKeys {
        /// The plugin.
        plugin: String,
        /// The key that was set.
        key: String,
    },
    /// The plugin does not have this key.
    #[error("unknown config key `{key}`{hint} (the keys of `{plugin}`: {known})")]
    Unknown {
        /// The plugin.
        plugin: String,
        /// The key that was set.
        key: String,
        /// The nearest key, in words, if one is near.
        hint: String,
        /// All keys of the plugin.
        known: String,
    },
    /// A key that holds one value was set more than once.
    #[error("config key `{key}` is set twice, and holds one {kind}")]
    Repeated {
        /// The key.
        key: String,
        /// Its type.
        kind: Kind,
    },
    /// The value is not of the key's type.
    #[error("config key `{key}`: `{value}` is not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it was set to.
        value: String,
        /// What it can be set to.
        expected: &'static str,
    },
    /// Keys without a default were not set.
    #[error("`{plugin}` needs a value for {keys}")]
    Missing {
        /// The plugin.
        plugin: String,
        /// The keys.
        keys: String,
    },
}

/// A key, or none for those that are missing, and what is wrong with it.
pub(crate) type WrongSetting = (Option<String>, InvalidConfig);

/// Gathers what was set on the command line by its key.
pub(crate) fn typed(sets: &[(String, String)]) -> BTreeMap<String, Setting> {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in sets {
        given.entry(key.clone()).or_default().push(value.clone());
    }
    let given = given.into_iter();
    given
        .map(|(key, values)| (key, Setting::Typed(values)))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Written,
    Assumed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    plugin: RawPlugin,
    #[serde(default)]
    grants: RawGrants,
    command: Option<command::RawCommand>,
    #[serde(default)]
    config: BTreeMap<String, RawConfigKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlugin {
    name: String,
    version: String,
    description: Option<String>,
    #[serde(default)]
    listen: Vec<String>,
    #[serde(default)]
    isolation: Vec<Isolation>,
    #[serde(default, rename = "independent-sessions")]
    independent_sessions: bool,
}

/// The grants that this host knows; a field each, so that a misspelling is refused.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrants {
    connect: Option<String>,
    #[serde(default)]
    directories: BTreeMap<String, DirectoryRequest>,
    users: Option<String>,
    anonymous: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfigKey {
    #[serde(rename = "type")]
    kind: Kind,
    default: Option<toml::Value>,
    description: String,
    needs: Option<String>,
}

/// A key of the manifest and what is wrong with it.
type Wrong = (String, String);

impl RawManifest {
    fn check(self) -> Result<Manifest, Wrong> {
        let RawPlugin {
            name,
            version,
            description,
            listen,
            mut isolation,
            independent_sessions,
        } = self.plugin;
        check_name("plugin.name", &name)?;
        if let Err(error) = semver::Version::parse(&version) {
            let reason = format!("`{version}` is not a version such as `0.1.0`: {error}");
            return Err(("plugin.version".to_owned(), reason));
        }
        if let Some(description) = &description {
            check_text("plugin.description", description)?;
        }
        for endpoint in &listen {
            check_text("plugin.listen", endpoint)?;
            check_listener(endpoint)?;
        }
        for (index, kind) in isolation.iter().enumerate() {
            if isolation.iter().skip(index + 1).any(|other| other == kind) {
                let reason = format!("`{kind}` is named twice");
                return Err(("plugin.isolation".to_owned(), reason));
            }
        }
        if isolation.is_empty() {
            isolation.push(Isolation::default());
        }
        let (grants, directories) = self.grants.check()?;
        let command = self.command.map(command::RawCommand::check).transpose()?;
        let mut config = BTreeMap::new();
        for (key, raw) in self.config {
            check_name(&format!("config.{key}"), &key)?;
            let declared = raw.check(&key)?;
            let asked = |needs: &&String| grants.contains_key(*needs);
            if let Some(needs) = declared.needs.as_ref().filter(|it| !asked(it)) {
                let reason = format!("`{needs}` is no grant that [grants] asks for");
                return Err((format!("config.{key}.needs"), reason));
            }
            config.insert(key, declared);
        }
        Ok(Manifest {
            name,
            version: Some(version),
            description,
            listen,
            isolation,
            independent_sessions,
            grants,
            directories,
            command,
            config,
            source: Source::Written,
        })
    }
}

/// The grants that a plugin asks for by a word, with the reasons, and the directories.
type Asked = (BTreeMap<String, String>, BTreeMap<String, DirectoryRequest>);

impl RawGrants {
    fn check(self) -> Result<Asked, Wrong> {
        let Self {
            connect,
            directories,
            users,
            anonymous,
        } = self;
        let mut grants = BTreeMap::new();
        for (name, why) in [
            ("connect", connect),
            ("users", users),
            ("anonymous", anonymous),
        ] {
            if let Some(why) = why {
                check_reason(&format!("grants.{name}"), &why)?;
                grants.insert(name.to_owned(), why);
            }
        }
        for (name, request) in &directories {
            let key = format!("grants.directories.{name}");
            check_name(&key, name)?;
            check_reason(&format!("{key}.reason"), &request.reason)?;
        }
        Ok((grants, directories))
    }
}

impl RawConfigKey {
    fn check(self, key: &str) -> Result<ConfigKey, Wrong> {
        let Self {
            kind,
            default,
            description,
            needs,
        } = self;
        check_text(&format!("config.{key}.description"), &description)?;
        let default = default
            .map(|default| {
                kind.check_default(&default).ok_or_else(|| {
                    let reason = format!("`{default}` is not {}", kind.expected());
                    (format!("config.{key}.default"), reason)
                })
            })
            .transpose()?;
        Ok(ConfigKey {
            kind,
            default,
            description,
            needs,
        })
    }
}

/// Returns whether a service's name may have this in it: whoever reads `listening NAME URL` splits it at the spaces.
pub(crate) fn is_service_name_char(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '-' | '_' | '.')
}

fn check_name(key: &str, name: &str) -> Result<(), Wrong> {
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        return Ok(());
    }
    let reason =
        format!("`{name}` is not a name: lower-case letters, digits and dashes, a letter first");
    Err((key.to_owned(), reason))
}

/// A text for people is one line, and does nothing to their terminal.
fn check_text(key: &str, text: &str) -> Result<(), Wrong> {
    if text.contains(char::is_control) {
        let reason = format!("`{text}` has a line end or another control character in it");
        return Err((key.to_owned(), reason));
    }
    Ok(())
}

fn check_reason(key: &str, reason: &str) -> Result<(), Wrong> {
    check_text(key, reason)?;
    if reason.trim().is_empty() {
        let reason = "says nothing about why the plugin needs it".to_owned();
        return Err((key.to_owned(), reason));
    }
    Ok(())
}

fn check_listener(endpoint: &str) -> Result<(), Wrong> {
    let checked: Result<Endpoint, _> = endpoint.parse();
    checked
        .map(drop)
        .map_err(|error| ("plugin.listen".to_owned(), error.to_string()))
}
