//! What a service is told: the same description from the flags of `nethost run` and from a file.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::secret::{Secret, Secrets};
use crate::{
    endpoint::Endpoint, files::FileGrant, grants::ConnectGrant, limits::Limits,
    manifest::Isolation, storage::DirectoryGrant, tls::ClientTlsSettings,
};

/// What a service is told, not yet compared with its plugin. Two that are equal are the same service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// Its name. None: the plugin's.
    pub name: Option<String>,
    /// The component.
    pub plugin: PathBuf,
    /// Where it listens. Empty: where the plugin's manifest says.
    pub listen: Vec<Endpoint>,
    /// How many instances there are. None: the manifest's first kind.
    pub isolation: Option<Isolation>,
    /// Where it may connect to.
    pub connect: Vec<ConnectGrant>,
    /// The files that it may use, each name once.
    pub files: Vec<FileGrant>,
    /// The directories that it may use, each name once.
    pub directories: Vec<DirectoryConfig>,
    /// Users whose passwords it may have verified.
    pub users: Option<PathBuf>,
    /// Whether it may let people in who do not say who they are.
    pub anonymous: bool,
    /// Whom it trusts when it connects with TLS, and what it shows.
    pub tls: ClientTlsSettings,
    /// The plugin's own keys.
    pub settings: BTreeMap<String, Setting>,
    /// Its limits.
    pub limits: Limits,
    /// Who is asked for names. Empty: the servers of the system.
    pub name_servers: Vec<SocketAddr>,
    /// Whether the plugin is swapped when its file changes.
    pub watch: bool,
}

/// A directory that a service may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Its name, its path and its mode.
    pub grant: DirectoryGrant,
    /// Bytes that its files may have together. None: as many as the disk has.
    pub quota: Option<u64>,
}

/// The value of one of the plugin's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Typed on the command line, once for each `--set`.
    Typed(Vec<String>),
    /// A number of the file.
    Integer(i64),
    /// A truth of the file.
    Boolean(bool),
    /// A text of the file, or a secret.
    Text(Text),
    /// A list of the file.
    List(Vec<Text>),
}

/// A text that is written down, or one that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// It is in the file.
    Plain(String),
    /// It is not.
    Secret(Secret),
}

impl ServiceConfig {
    /// Describes a service that is told nothing but its plugin.
    pub fn new(plugin: PathBuf) -> Self {
        Self {
            name: None,
            plugin,
            listen: Vec::new(),
            isolation: None,
            connect: Vec::new(),
            files: Vec::new(),
            directories: Vec::new(),
            users: None,
            anonymous: false,
            tls: ClientTlsSettings::default(),
            settings: BTreeMap::new(),
            limits: Limits::default(),
            name_servers: Vec::new(),
            watch: false,
        }
    }

    /// Returns the secrets among the settings.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::of(self.each_secret().map(|(_, secret)| secret))
    }

    /// Returns the files that secrets are in, with the settings' keys.
    pub(super) fn secret_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.each_secret()
            .filter_map(|(key, secret)| Some((key, secret.file()?)))
    }

    fn each_secret(&self) -> impl Iterator<Item = (&str, &Secret)> {
        let texts = self.settings.iter().flat_map(|(key, setting)| {
            let texts = match setting {
                Setting::Text(text) => std::slice::from_ref(text),
                Setting::List(texts) => texts,
                Setting::Typed(_) | Setting::Integer(_) | Setting::Boolean(_) => &[],
            };
            texts.iter().map(move |text| (key.as_str(), text))
        });
        texts.filter_map(|(key, text)| match text {
            Text::Secret(secret) => Some((key, secret)),
            Text::Plain(_) => None,
        })
    }
}

impl Text {
    /// Returns the text itself.
    pub(crate) fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// For messages: a secret does not show.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "{text:?}"),
            Self::Secret(_) => f.write_str("(secret)"),
        }
    }
}

/// For messages.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(values) => f.write_str(&values.join(", ")),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(texts) => {
                let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// A part of a description, for what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Plugin,
    /// One of the listeners, by its place in the list.
    Listen(usize),
    Isolation,
    Connect,
    /// By the name that the plugin knows it by.
    File(String),
    Directory(String),
    Users,
    Anonymous,
    /// The certificates to trust.
    Trust,
    /// What is shown.
    Certificate,
    /// One of the plugin's own keys.
    Setting(String),
    /// One that is not there.
    Settings,
    /// The service as a whole.
    Service,
}

impl Part {
    /// Returns the flag that says it, if the message alone does not tell.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        match self {
            Self::File(_) => Some("--file"),
            Self::Directory(_) => Some("--dir"),
            Self::Users => Some("--users"),
            Self::Trust => Some("--tls-ca"),
            Self::Certificate => Some("--tls-cert"),
            Self::Plugin
            | Self::Listen(_)
            | Self::Isolation
            | Self::Connect
            | Self::Anonymous
            | Self::Setting(_)
            | Self::Settings
            | Self::Service => None,
        }
    }
}
