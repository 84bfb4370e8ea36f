//! Compares what a service is told with its plugin and with this machine, and opens what it was granted.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{DirectoryConfig, Part, ServiceConfig};
use crate::{
    accounts::Accounts,
    chain,
    daemon::confinement,
    endpoint::{Direction, Endpoint},
    engine::Engine,
    files::{FileGrant, FileMode, HostFile, open_regular},
    grants::Grants,
    inspect,
    instance::StartError,
    manifest::{DirectoryRequest, Isolation, Manifest},
    plugin::Plugin,
    reactor::Program,
    service::{Protocol, ServiceError, ServiceSpec},
    storage::{Directory, Quota},
    tls::{ClientTls, ClientTlsSettings, server::ServerTls},
};

/// How much is done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// The service starts: what it may write to is made.
    Serve,
    /// Nothing is changed; certificates, which a start loads by itself, are looked at.
    Check,
}

/// What it takes to start a service.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) spec: ServiceSpec,
    pub(crate) plugin: Arc<Plugin>,
    /// What the plugin asks for and was not granted.
    pub(crate) lacking: Vec<Fault>,
    /// Whether everything that the service would have at a start is open: a check makes nothing.
    pub(crate) is_complete: bool,
}

/// What is wrong with a part of a description.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) part: Part,
    pub(crate) message: String,
    pub(crate) mend: Option<Mend>,
}

/// What to do about it, where the service was described by flags, and where it was by a file.
#[derive(Clone, Debug)]
pub(crate) struct Mend {
    pub(crate) flag: String,
    pub(crate) key: String,
}

impl Fault {
    pub(crate) fn new(part: Part, message: String) -> Self {
        Self {
            part,
            message,
            mend: None,
        }
    }

    fn mended(part: Part, message: String, flag: &str, key: &str) -> Self {
        let mend = Mend {
            flag: flag.to_owned(),
            key: key.to_owned(),
        };
        Self {
            part,
            message,
            mend: Some(mend),
        }
    }

    /// A listener is where another service listens, because the manifest of one of them says so.
    pub(crate) fn taken(endpoint: &Endpoint, other: &str) -> Self {
        Self::mended(
            Part::Service,
            format!("listener `{endpoint}` is taken by service `{other}`"),
            "say where with --listen",
            "say where with listen = [\"tcp://127.0.0.1:7000\"]",
        )
    }

    /// Says it to who typed the description.
    pub(crate) fn typed(&self) -> String {
        let flag = self.part.flag();
        let flag = flag.map_or_else(String::new, |flag| format!("{flag}: "));
        match &self.mend {
            Some(mend) => format!("{flag}{}; {}", self.message, mend.flag),
            None => format!("{flag}{}", self.message),
        }
    }
}

/// Compares a description with its plugin and with this machine. Tells everything that is wrong.
pub(crate) fn prepare(
    engine: &Engine,
    config: &ServiceConfig,
    effort: Effort,
) -> Result<Prepared, Vec<Fault>> {
    prepare_with(engine, config, effort, None)
}

/// As [`prepare`], with a plugin that is loaded already in the place of the one in the file.
pub(crate) fn prepare_with(
    engine: &Engine,
    config: &ServiceConfig,
    effort: Effort,
    plugin: Option<&Arc<Plugin>>,
) -> Result<Prepared, Vec<Fault>> {
    let plugin = match plugin {
        Some(plugin) => Ok(plugin.clone()),
        None => Plugin::load_within(engine, &config.plugin, &config.limits).map(Arc::new),
    };
    let plugin = match plugin {
        Ok(plugin) => plugin,
        Err(error) => {
            // The rest can be looked at even so.
            let mut faults = vec![Fault::new(Part::Plugin, chain(&error))];
            let name = config.name.as_deref().unwrap_or_default();
            let _ = open(config, name, None, effort, &mut faults);
            return Err(faults);
        }
    };
    let manifest = &plugin.manifest;
    let service = config.name.as_ref().unwrap_or(&manifest.name).clone();
    let mut faults = Vec::new();
    let isolation = isolation(config, manifest, &mut faults);
    let listen = listeners(
        config,
        manifest,
        plugin.takes_datagrams(),
        effort,
        &mut faults,
    );
    let settings = manifest.settings(&config.settings);
    let settings = settings.map_err(|wrong| faults.extend(wrong.into_iter().map(setting_fault)));
    let opened = open(config, &service, Some(manifest), effort, &mut faults);
    let lacking = settings
        .as_ref()
        .map(|settings| lacking(manifest, settings, &opened.grants));
    let lacking = lacking.unwrap_or_default();
    let settings = settings.map(|settings| serde_json::Value::Object(settings).to_string());
    if let Ok(settings) = &settings {
        faults.extend(too_long(settings, config));
    }
    let (Ok(settings), true) = (settings, faults.is_empty()) else {
        return Err(faults);
    };
    Ok(Prepared {
        lacking,
        is_complete: opened.is_complete,
        plugin: plugin.clone(),
        spec: ServiceSpec {
            program: Program {
                service,
                limits: config.limits.clone(),
                grants: opened.grants,
                tls: opened.tls,
                name_servers: config.name_servers.clone(),
                secrets: config.secrets(),
            },
            protocol: Protocol::Plugin {
                plugin,
                config: settings.into(),
            },
            listen,
            isolation,
        },
    })
}

/// Looks at what can be compared before the plugin is compiled.
pub(crate) fn check(
    config: &ServiceConfig,
    manifest: &Manifest,
    takes_datagrams: bool,
) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    isolation(config, manifest, &mut faults);
    let effort = Effort::Serve;
    listeners(config, manifest, takes_datagrams, effort, &mut faults);
    if let Err(wrong) = manifest.settings(&config.settings) {
        faults.extend(wrong.into_iter().map(setting_fault));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults),
    }
}

/// Says which part of the description kept a service from starting.
pub(crate) fn start_fault(config: &ServiceConfig, error: &ServiceError) -> Fault {
    let listener = |endpoint: &str| {
        let mut listen = config.listen.iter();
        let index = listen.position(|it| it.to_string() == endpoint);
        index.map_or(Part::Service, Part::Listen)
    };
    let part = match error {
        ServiceError::Listen { endpoint, .. }
        | ServiceError::Tls { endpoint, .. }
        | ServiceError::NoDatagrams { endpoint, .. } => listener(endpoint),
        ServiceError::Pool { .. } => Part::Isolation,
        ServiceError::Start {
            error: StartError::Refused { .. },
            ..
        } => Part::Settings,
        ServiceError::Start { .. } => Part::Plugin,
        ServiceError::WorkerEnded => Part::Service,
    };
    Fault::new(part, chain(error))
}

/// Compares what a service is told of its plugin's own keys with another version of the plugin, and returns it as JSON.
pub(crate) fn settings(
    config: &ServiceConfig,
    manifest: &Manifest,
) -> Result<Arc<str>, Vec<Fault>> {
    let settings = manifest.settings(&config.settings);
    let settings = settings.map_err(|wrong| wrong.into_iter().map(setting_fault));
    let settings = settings.map_err(|faults| faults.collect::<Vec<_>>())?;
    Ok(serde_json::Value::Object(settings).to_string().into())
}

/// What the files say that a service is made of and that nobody else watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The component.
    pub(crate) plugin: [u8; 32],
    /// What it uses for outbound TLS.
    pub(crate) tls: [u8; 32],
}

/// Returns the digest of a component.
pub(crate) fn digest_of(component: &[u8]) -> [u8; 32] {
    Sha256::digest(component).into()
}

/// Returns a digest of the files that a service is made of. None if one cannot be read, which its start will tell.
pub(crate) fn digest(config: &ServiceConfig) -> Option<Digest> {
    let ClientTlsSettings { ca, certificate } = &config.tls;
    let certificate = certificate.iter();
    let tls = certificate.flat_map(|it| [Some(&it.path), it.key.as_ref()]);
    let mut digest = Sha256::new();
    for file in [ca.as_ref()].into_iter().chain(tls).flatten() {
        digest.update(digest_of_file(file)?);
    }
    Some(Digest {
        plugin: digest_of_file(&config.plugin)?,
        tls: digest.finalize().into(),
    })
}

fn digest_of_file(path: &Path) -> Option<[u8; 32]> {
    let mut content = Vec::new();
    let mut file = open_regular(path).ok()?.take(inspect::LARGEST + 1);
    file.read_to_end(&mut content).ok()?;
    Some(digest_of(&content))
}

/// Returns what is wrong with a config that the plugin gets, if it is longer than the limit.
fn too_long(settings: &str, config: &ServiceConfig) -> Option<Fault> {
    let most = config.limits.config_bytes;
    let message = format!(
        "the plugin's config has {} bytes; `config-bytes` allows {most}",
        settings.len()
    );
    (settings.len() > most).then(|| Fault::new(Part::Settings, message))
}

fn isolation(config: &ServiceConfig, manifest: &Manifest, faults: &mut Vec<Fault>) -> Isolation {
    let isolation = config
        .isolation
        .unwrap_or_else(|| manifest.default_isolation());
    if !manifest.isolation.contains(&isolation) {
        let permitted: Vec<_> = manifest.isolation.iter().map(ToString::to_string).collect();
        let name = &manifest.name;
        let permitted = permitted.join(", ");
        let message = format!("{name} does not permit isolation `{isolation}`, only {permitted}");
        faults.push(Fault::new(Part::Isolation, message));
    }
    isolation
}

fn listeners(
    config: &ServiceConfig,
    manifest: &Manifest,
    takes_datagrams: bool,
    effort: Effort,
    faults: &mut Vec<Fault>,
) -> Vec<Endpoint> {
    let mut listen = config.listen.clone();
    if listen.is_empty() {
        for url in &manifest.listen {
            let endpoint: Result<Endpoint, _> = url.parse();
            let checked = endpoint.and_then(|it| it.check(Direction::Listening).map(|()| it));
            match checked {
                Ok(endpoint) => listen.push(endpoint),
                Err(error) => {
                    let message = format!("the manifest of {}: {error}", manifest.name);
                    faults.push(Fault::new(Part::Plugin, message));
                }
            }
        }
        if manifest.listen.is_empty() {
            faults.push(Fault::mended(
                Part::Service,
                format!("{} names no listener of its own", manifest.name),
                "say where with --listen, for example --listen tcp://127.0.0.1:0",
                "say where with listen = [\"tcp://127.0.0.1:7000\"]",
            ));
        }
    }
    let most = config.limits.listeners;
    if listen.len() > most {
        let message = format!("{} listeners; `listeners` allows {most}", listen.len());
        faults.push(Fault::new(Part::Service, message));
    }
    for (index, endpoint) in listen.iter().enumerate() {
        let part = match config.listen.is_empty() {
            true => Part::Plugin,
            false => Part::Listen(index),
        };
        if matches!(endpoint, Endpoint::Udp(_)) && !takes_datagrams {
            let error = ServiceError::NoDatagrams {
                service: manifest.name.clone(),
                endpoint: endpoint.to_string(),
            };
            faults.push(Fault::new(part.clone(), error.to_string()));
        }
        let tls = endpoint.stream_options().map(|options| &options.tls);
        if let (Effort::Check, Some(tls)) = (effort, tls.filter(|it| !it.certificates.is_empty()))
            && let Err(error) = ServerTls::load(tls)
        {
            let message = format!("the certificates of {endpoint}: {}", chain(&error));
            faults.push(Fault::new(part, message));
        }
    }
    listen
}

fn setting_fault((key, error): (Option<String>, crate::manifest::InvalidConfig)) -> Fault {
    match key {
        Some(key) => Fault::new(Part::Setting(key), error.to_string()),
        None => Fault::mended(
            Part::Settings,
            error.to_string(),
            "use --set KEY=VALUE",
            "add it to [service.config]",
        ),
    }
}

/// What was granted, open.
struct Opened {
    grants: Grants,
    tls: Arc<ClientTls>,
    is_complete: bool,
}

fn open(
    config: &ServiceConfig,
    service: &str,
    manifest: Option<&Manifest>,
    effort: Effort,
    faults: &mut Vec<Fault>,
) -> Opened {
    // What cannot start makes nothing.
    let effort = if faults.is_empty() {
        effort
    } else {
        Effort::Check
    };
    let mut is_complete = true;
    let mut files = BTreeMap::new();
    for grant in &config.files {
        match open_file(grant, effort) {
            Ok(Some(file)) => drop(files.insert(grant.name.clone(), file)),
            Ok(None) => is_complete = false,
            Err(error) => {
                let part = Part::File(grant.name.clone());
                faults.push(open_fault(
                    part,
                    &grant.path,
                    &error,
                    "--file NAME=PATH:rw makes it",
                ));
            }
        }
    }
    let mut directories = BTreeMap::new();
    for directory in &config.directories {
        let grant = &directory.grant;
        match open_directory(directory, manifest, effort) {
            Ok(Some(open)) => drop(directories.insert(grant.name.clone(), open)),
            Ok(None) => is_complete = false,
            Err(error) => {
                let part = Part::Directory(grant.name.clone());
                faults.push(open_fault(
                    part,
                    &grant.path,
                    &error,
                    "--dir NAME=PATH:rw makes it",
                ));
            }
        }
    }
    let users = config.users.as_ref();
    let users = users.and_then(|path| match Accounts::load(path, service) {
        Ok(accounts) => Some(accounts),
        Err(error) => {
            faults.push(Fault::new(Part::Users, chain(&error)));
            None
        }
    });
    Opened {
        grants: Grants {
            connect: config.connect.clone(),
            files,
            directories,
            users,
            anonymous: config.anonymous,
        },
        tls: load_tls(&config.tls, faults),
        is_complete,
    }
}

fn open_fault(part: Part, path: &Path, error: &io::Error, makes: &str) -> Fault {
    let hint = confinement::hint(path, error);
    let message = format!("opening {}: {error}{hint}", path.display());
    if error.kind() == io::ErrorKind::NotFound {
        return Fault::mended(
            part,
            message,
            makes,
            "make it, or let mode = \"rw\" make it",
        );
    }
    Fault::new(part, message)
}

/// None: it is not there, and only a start would make it.
fn open_file(grant: &FileGrant, effort: Effort) -> io::Result<Option<HostFile>> {
    let is_made = effort == Effort::Check && grant.mode == FileMode::ReadWrite;
    if is_made && !grant.path.try_exists()? {
        return is_directory(grant.path.parent()).map(|()| None);
    }
    grant.open().map(Some)
}

fn open_directory(
    directory: &DirectoryConfig,
    manifest: Option<&Manifest>,
    effort: Effort,
) -> io::Result<Option<Directory>> {
    let grant = &directory.grant;
    let asked = manifest.and_then(|manifest| manifest.directories.get(&grant.name));
    let mode = grant.mode.or_else(|| asked.map(|asked| asked.mode));
    let mode = mode.unwrap_or(FileMode::ReadOnly);
    let quota = Quota {
        bytes: directory.quota,
        ..Quota::default()
    };
    let is_made = effort == Effort::Check && mode == FileMode::ReadWrite;
    if is_made && !grant.path.try_exists()? {
        let mut above = grant.path.ancestors().skip(1);
        let nearest = above.find(|path| path.exists() || path.as_os_str().is_empty());
        return is_directory(nearest).map(|()| None);
    }
    grant.open(mode, quota).map(Some)
}

/// An error if what would be made has no place.
fn is_directory(path: Option<&Path>) -> io::Result<()> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    match path.unwrap_or_else(|| Path::new(".")).metadata()?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

fn load_tls(settings: &ClientTlsSettings, faults: &mut Vec<Fault>) -> Arc<ClientTls> {
    let ClientTlsSettings { ca, certificate } = settings.clone();
    // One after the other, so that it is known whose fault it is.
    let trust = ClientTlsSettings {
        ca,
        certificate: None,
    };
    let whole = match ClientTls::load(&trust) {
        Ok(_) => settings.clone(),
        Err(error) => {
            faults.push(Fault::new(Part::Trust, chain(&error)));
            ClientTlsSettings {
                ca: None,
                certificate,
            }
        }
    };
    ClientTls::load(&whole).unwrap_or_else(|error| {
        faults.push(Fault::new(Part::Certificate, chain(&error)));
        Arc::default()
    })
}

/// Says what the plugin asks for and was not granted. What only some keys need is not missed if none of them says anything.
fn lacking(
    manifest: &Manifest,
    settings: &serde_json::Map<String, serde_json::Value>,
    grants: &Grants,
) -> Vec<Fault> {
    let mut lacking = Vec::new();
    let mut add = |what: &str, why: &str, flag: &str, key: &str| {
        let message = format!("not granted: {what} ({why})");
        lacking.push(Fault::mended(Part::Service, message, flag, key));
    };
    let is_needed = |grant: &str| {
        let keys = manifest.config.iter();
        let mut keys = keys
            .filter(|(_, key)| key.needs.as_deref() == Some(grant))
            .peekable();
        keys.peek().is_none() || keys.any(|(name, key)| settings.get(name) != key.default.as_ref())
    };
    for (grant, why) in manifest.grants.iter().filter(|(grant, _)| is_needed(grant)) {
        match grant.as_str() {
            "connect" if grants.connect.is_empty() => add(
                "connect",
                why,
                "--allow-connect HOST:PORT grants it",
                "connect = [\"HOST:PORT\"] in [service.grants] grants it",
            ),
            "users" if grants.users.is_none() => add(
                "users",
                why,
                "--users FILE grants them",
                "users = \"FILE\" in [service.grants] grants them",
            ),
            "anonymous" if !grants.anonymous => add(
                "anonymous",
                why,
                "--anonymous grants it",
                "anonymous = true in [service.grants] grants it",
            ),
            "connect" | "users" | "anonymous" => {}
            other => {
                let nothing = "this version of nethost cannot grant it";
                add(other, why, nothing, nothing);
            }
        }
    }
    for (name, DirectoryRequest { mode, reason }) in &manifest.directories {
        let what = match grants.directories.get(name) {
            None => format!("directory {name}"),
            Some(granted) if *mode == FileMode::ReadWrite && !granted.is_writable() => {
                format!("writing in directory {name}")
            }
            Some(_) => continue,
        };
        let flag = format!("--dir {name}=PATH:{mode} grants it");
        let key = format!(
            "directories.{name} = {{ path = \"PATH\", mode = \"{mode}\" }} in [service.grants] grants it"
        );
        add(&what, reason, &flag, &key);
    }
    lacking
}
