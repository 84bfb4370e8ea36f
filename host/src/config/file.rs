//! The grammar of the file.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    num::NonZeroUsize,
    path::Path,
    time::Duration,
};

use clap::ValueEnum as _;
use toml_edit::{Document, Item, TableLike, Value};

use super::{
    Config, HostConfig, Part, ServiceConfig, Setting, Source, Text, WrittenService, keys, limits,
    name_server,
    problem::{Problems, Severity},
    reader::{Field, Reader, Section, Span, called, called_value},
    secret::{Origin, Secret},
    service::DirectoryConfig,
    service_name,
    text::nearest,
};
use crate::{
    admin::{self, Admin, Taken},
    daemon::{confinement::Confinement, identity},
    endpoint::{Certificate, Direction, Endpoint, EndpointError, Place},
    files::{FileGrant, FileMode},
    logging::{self, LogFormat},
    manifest::Isolation,
    storage::DirectoryGrant,
    tls::ClientTlsSettings,
};

/// Says where a file stops to be text.
pub(super) fn not_text(good: &str, path: &Path) -> Problems {
    let reader = Reader::new(good, path);
    let mend = "save it in that encoding".to_owned();
    reader.wrong(
        &(good.len()..good.len()),
        "what follows is not UTF-8",
        Some(mend),
    );
    Problems(reader.finish())
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    let reader = Reader::new(text, path);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let mend = syntax_mend(text, &at, &message);
            reader.wrong(&at, message, mend.map(str::to_owned));
            return Err(Problems(reader.finish()));
        }
    };
    let (host, services) = read_root(&reader, document.as_table());
    let (errors, warnings): (Vec<_>, Vec<_>) = reader
        .finish()
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(Problems(errors));
    }
    Ok(Config {
        host,
        services,
        warnings,
        source: Source {
            file: path.display().to_string(),
            text: text.to_owned(),
        },
    })
}

/// What the parser does not say of the two mistakes that are made most.
fn syntax_mend(text: &str, at: &Span, message: &str) -> Option<&'static str> {
    if message.contains("duplicate key") {
        return Some("it is there already: leave one of them");
    }
    let before = text.get(..at.start)?.trim_end();
    let is_letter = |rest: &str| rest.starts_with(|first: char| first.is_alphabetic());
    let is_word = text.get(at.start..).is_some_and(is_letter);
    (before.ends_with('=') && is_word).then_some("a text is in quotes: \"...\"")
}

fn read_root(reader: &Reader<'_>, table: &dyn TableLike) -> (HostConfig, Vec<WrittenService>) {
    let root = reader.section("the file", table, 0..0, keys::ROOT);
    let mut host = HostConfig::default();
    let mut name_servers = Vec::new();
    if let Some(section) = root
        .field("host")
        .and_then(|field| field.table("[host]", keys::HOST))
    {
        (host, name_servers) = read_host(&section);
    }
    let mut services = Vec::new();
    let Some(field) = root.field("service") else {
        reader.wrong(
            &(0..0),
            "there is no service in the file",
            Some("write [[service]], and under it name = \"irc\" and plugin = \"irc.wasm\"".into()),
        );
        return (host, services);
    };
    match field.item {
        Item::ArrayOfTables(tables) => {
            for table in tables {
                let at = table.span().unwrap_or_else(|| field.at.clone());
                let section = reader.section("[[service]]", table, at, keys::SERVICE);
                services.extend(read_service(&section, &name_servers));
            }
        }
        item => {
            let mend = "write [[service]], in two pairs of brackets: there may be several";
            let message = format!("`service` is {}, not a list of tables", called(item));
            reader.wrong(&field.at, message, Some(mend.to_owned()));
        }
    }
    check_together(reader, &host, &services);
    (host, services)
}

fn read_host(section: &Section<'_>) -> (HostConfig, Vec<SocketAddr>) {
    let mut host = HostConfig::default();
    if let Some(field) = section.field("workers") {
        let count = field.number(1..=MOST_WORKERS);
        host.workers = count
            .and_then(|count| usize::try_from(count).ok())
            .and_then(NonZeroUsize::new);
    }
    host.admin = read_admin(section);
    if let Some(field) = section.field("metrics") {
        host.metrics = field.read("\"tcp://127.0.0.1:9464\"", metrics);
    }
    if let Some(field) = section.field("user") {
        host.user = field.read("\"nethost\"", user);
    }
    if let Some(field) = section.field("group") {
        host.group = field.read("\"nethost\"", group);
    }
    if let Some(field) = section.field("coredump") {
        host.coredump = field.path("\"/var/lib/nethost/dumps\"");
    }
    if let Some(field) = section.field("pid-file") {
        host.pid_file = field.path("\"/run/nethost.pid\"");
    }
    if let Some(field) = section.field("confinement")
        && let Some(confinement) = field.read("\"on\"", |text| {
            Confinement::from_str(text, false)
                .map_err(|_| format!("`{}` is neither `on` nor `off`", text.escape_debug()))
        })
    {
        host.confinement = confinement;
    }
    if let Some(field) = section.field("memory") {
        host.memory = field.size(LEAST_MEMORY..=u64::MAX);
    }
    let name_servers = section.field("name-servers");
    let name_servers = name_servers.map(|field| field.list("\"192.0.2.1\"", name_server));
    if let Some(field) = section.field("drain-timeout")
        && let Some(time) = field.duration(Duration::ZERO..=LONGEST_DRAIN)
    {
        host.drain_timeout = time;
    }
    if let Some(field) = section.field("log") {
        host.log = field.read("\"info\"", |text| {
            logging::filter(Some(text)).map(|_| text.to_owned())
        });
    }
    if let Some(field) = section.field("log-format") {
        host.log_format = field.read("\"text\"", |text| {
            LogFormat::from_str(text, false)
                .map_err(|_| format!("`{}` is neither `text` nor `json`", text.escape_debug()))
        });
    }
    let name_servers = name_servers.into_iter().flatten();
    (host, name_servers.map(|(server, _)| server).collect())
}

fn read_service(section: &Section<'_>, name_servers: &[SocketAddr]) -> Option<WrittenService> {
    let mut places = HashMap::from([(Part::Service, section.at.clone())]);
    let name = section.required("name", "\"irc\"");
    let name = name.and_then(|field| field.read("\"irc\"", service_name));
    let plugin = section.required("plugin", "\"plugins/irc.wasm\"");
    let plugin = plugin.and_then(|field| {
        places.insert(Part::Plugin, field.value_at());
        field.path("\"plugins/irc.wasm\"")
    });
    // What follows is looked at even so.
    let mut config = ServiceConfig::new(plugin.clone().unwrap_or_default());
    config.name_servers = name_servers.to_vec();
    if let Some(field) = section.field("listen") {
        read_listeners(&field, &mut config, &mut places);
    }
    if let Some(field) = section.field("watch") {
        config.watch = field.boolean().unwrap_or_default();
    }
    if let Some(field) = section.field("isolation") {
        places.insert(Part::Isolation, field.value_at());
        config.isolation = field.read("\"worker\"", |text| {
            Isolation::from_str(text, false).map_err(|_| {
                format!(
                    "`{}` is not a kind of isolation: `worker`, `service`, `connection`",
                    text.escape_debug()
                )
            })
        });
    }
    if let Some(field) = section.field("grants")
        && let Some(section) = field.table("[service.grants]", keys::GRANTS)
    {
        read_grants(&section, &mut config, &mut places);
    }
    if let Some(field) = section.field("limits")
        && let Some(section) = field.table("[service.limits]", &limits::keys())
    {
        config.limits = limits::read(&section);
    }
    if let Some(field) = section.field("config")
        && let Some(section) = field.any_table("[service.config]")
    {
        places.insert(Part::Settings, section.at.clone());
        for field in section.fields() {
            if let Some(setting) = read_setting(&field) {
                let key = field.name().to_owned();
                places.insert(Part::Setting(key.clone()), field.at.clone());
                config.settings.insert(key, setting);
            }
        }
    }
    plugin?;
    config.name = Some(name?);
    Some(WrittenService { config, places })
}

fn read_listeners(field: &Field<'_>, config: &mut ServiceConfig, places: &mut HashMap<Part, Span>) {
    let listeners = field.list("\"tcp://127.0.0.1:6667\"", |url| {
        let mut endpoint: Endpoint = url.parse().map_err(|error| told(&error))?;
        endpoint
            .check(Direction::Listening)
            .map_err(|error| told(&error))?;
        if endpoint == Endpoint::Stdio {
            return Err("standard input and output are one connection: `nethost run --listen stdio:` serves it".to_owned());
        }
        place_files(field.reader, &mut endpoint);
        Ok(endpoint)
    });
    if listeners.is_empty() && field.item.as_array().is_some_and(|list| list.is_empty()) {
        field.wrong(
            "the list is empty",
            Some("leave it out for the listeners that the plugin names".to_owned()),
        );
    }
    for (index, (endpoint, at)) in listeners.into_iter().enumerate() {
        config.listen.push(endpoint);
        places.insert(Part::Listen(index), at);
    }
}

/// Paths in a URL begin where the others do.
fn place_files(reader: &Reader<'_>, endpoint: &mut Endpoint) {
    let options = match endpoint {
        Endpoint::Tcp(endpoint) => &mut endpoint.options,
        Endpoint::Unix(endpoint) => &mut endpoint.options,
        Endpoint::Systemd(endpoint) => &mut endpoint.options,
        Endpoint::Fd(endpoint) => &mut endpoint.options,
        Endpoint::Udp(_) | Endpoint::Stdio => return,
    };
    let tls = &mut options.tls;
    let keys = tls.certificates.iter_mut();
    let paths = keys.flat_map(|it| [Some(&mut it.path), it.key.as_mut()]);
    for path in paths.flatten().chain(tls.ca.as_mut()) {
        *path = reader.path(path);
    }
}

fn read_grants(
    section: &Section<'_>,
    config: &mut ServiceConfig,
    places: &mut HashMap<Part, Span>,
) {
    if let Some(field) = section.field("connect") {
        places.insert(Part::Connect, field.at.clone());
        let grants = field.list("\"db.example.net:5432\"", str::parse);
        config.connect = grants.into_iter().map(|(grant, _)| grant).collect();
    }
    for (field, name) in named(section, "files", "[service.grants.files]") {
        let title = format!("[service.grants.files.{name}]");
        let Some(section) = field.table(&title, keys::FILE) else {
            continue;
        };
        let path = section.required("path", "\"/var/log/irc.log\"");
        let path = path.and_then(|field| field.path("\"/var/log/irc.log\""));
        let mode = section.field("mode").and_then(|field| read_mode(&field));
        places.insert(Part::File(name.to_owned()), field.at.clone());
        config.files.extend(path.map(|path| FileGrant {
            name: name.to_owned(),
            path,
            mode: mode.unwrap_or(FileMode::ReadOnly),
        }));
    }
    for (field, name) in named(section, "directories", "[service.grants.directories]") {
        let title = format!("[service.grants.directories.{name}]");
        let Some(section) = field.table(&title, keys::DIRECTORY) else {
            continue;
        };
        let path = section.required("path", "\"/srv/www\"");
        let path = path.and_then(|field| field.path("\"/srv/www\""));
        let mode = section.field("mode").and_then(|field| read_mode(&field));
        let quota = section.field("quota");
        let quota = quota.and_then(|field| field.size(0..=u64::MAX));
        places.insert(Part::Directory(name.to_owned()), field.at.clone());
        config.directories.extend(path.map(|path| DirectoryConfig {
            grant: DirectoryGrant {
                name: name.to_owned(),
                path,
                mode,
            },
            quota,
        }));
    }
    if let Some(field) = section.field("users") {
        places.insert(Part::Users, field.value_at());
        config.users = field.path("\"users.toml\"");
    }
    if let Some(field) = section.field("anonymous") {
        places.insert(Part::Anonymous, field.value_at());
        config.anonymous = field.boolean().unwrap_or_default();
    }
    if let Some(field) = section.field("tls")
        && let Some(section) = field.table("[service.grants.tls]", keys::TLS)
    {
        config.tls = read_tls(&section, places);
    }
}

fn read_tls(section: &Section<'_>, places: &mut HashMap<Part, Span>) -> ClientTlsSettings {
    let path = |name: &str| section.field(name).and_then(|it| it.path("\"ca.pem\""));
    if let Some(field) = section.field("ca") {
        places.insert(Part::Trust, field.value_at());
    }
    let key = path("key");
    if let Some(field) = section.field("cert") {
        places.insert(Part::Certificate, field.value_at());
    } else if let Some(field) = section.field("key") {
        field.wrong(
            "it is the key of a certificate, and there is none",
            Some("add cert = \"cert.pem\"".to_owned()),
        );
    }
    ClientTlsSettings {
        ca: path("ca"),
        certificate: path("cert").map(|path| Certificate { path, key }),
    }
}

/// Returns the tables of a table, by the names that the plugin knows them by.
fn named<'t>(section: &Section<'t>, key: &str, title: &str) -> Vec<(Field<'t>, &'t str)> {
    let fields = section.field(key).and_then(|field| field.any_table(title));
    let fields = fields.map(|section| section.fields()).unwrap_or_default();
    let fields = fields.into_iter().filter(|field| {
        let is_name = !field.name().is_empty();
        if !is_name {
            field.wrong("the plugin knows it by a name, and this is none", None);
        }
        is_name
    });
    fields
        .map(|field| {
            let name = field.name();
            (field, name)
        })
        .collect()
}

fn read_mode(field: &Field<'_>) -> Option<FileMode> {
    field.read("\"rw\"", |text| match text {
        "ro" => Ok(FileMode::ReadOnly),
        "rw" => Ok(FileMode::ReadWrite),
        other => Err(format!(
            "`{}` is neither `ro` (to read) nor `rw` (to write too)",
            other.escape_debug()
        )),
    })
}

fn read_setting(field: &Field<'_>) -> Option<Setting> {
    let wrong = |at: &Span, called: &str| {
        let message = format!("`{}`: no key of a plugin is {called}", field.name());
        let mend = "write a text, a number, `true` or `false`, or a list of texts";
        field.reader.wrong(at, message, Some(mend.to_owned()));
    };
    if let Some(table) = field.item.as_table_like() {
        return read_secret(field, table, &field.value_at())
            .map(|secret| Setting::Text(Text::Secret(secret)));
    }
    match field.item.as_value() {
        Some(Value::String(text)) => Some(Setting::Text(Text::Plain(text.value().clone()))),
        Some(Value::Integer(number)) => Some(Setting::Integer(*number.value())),
        Some(Value::Boolean(truth)) => Some(Setting::Boolean(*truth.value())),
        Some(Value::Array(array)) => {
            let mut texts = Vec::new();
            for value in array {
                let at = value.span().unwrap_or_else(|| field.value_at());
                match value {
                    Value::String(text) => texts.push(Text::Plain(text.value().clone())),
                    Value::InlineTable(table) => {
                        let secret = read_secret(field, table, &at);
                        texts.extend(secret.map(Text::Secret));
                    }
                    other => {
                        let message = format!(
                            "`{}`: {} is not a text in quotes",
                            field.name(),
                            called_value(other)
                        );
                        field.reader.wrong(&at, message, None);
                    }
                }
            }
            Some(Setting::List(texts))
        }
        _ => {
            wrong(&field.value_at(), called(field.item));
            None
        }
    }
}

fn read_secret(field: &Field<'_>, table: &dyn TableLike, at: &Span) -> Option<Secret> {
    let reader = field.reader;
    let mend = || Some("write { file = \"PATH\" } or { env = \"NAME\" }".to_owned());
    let title = format!("the secret `{}`", field.name());
    let section = reader.section(&title, table, at.clone(), keys::SECRET);
    let origin = match (section.field("file"), section.field("env")) {
        (Some(file), None) => Origin::File(file.path("\"/etc/nethost/password\"")?),
        (None, Some(variable)) => Origin::Environment(variable.string("\"PASSWORD\"")?.to_owned()),
        (None, None) if section.fields().is_empty() => {
            reader.wrong(at, format!("{title} is nowhere"), mend());
            return None;
        }
        // Its key is unknown, which is told.
        (None, None) => return None,
        (Some(_), Some(_)) => {
            reader.wrong(at, format!("{title} is in two places"), mend());
            return None;
        }
    };
    match Secret::read(origin) {
        Ok(secret) => {
            if let Some((path, mode)) = secret.others_mode() {
                let path = path.display();
                reader.warn(
                    at,
                    format!("{title}: others than its owner may use {path} (mode {mode:o})"),
                    Some(format!("chmod 600 {path}")),
                );
            }
            Some(secret)
        }
        Err(message) => {
            reader.wrong(at, format!("{title}: {message}"), None);
            None
        }
    }
}

/// What each service alone cannot know.
fn check_together(reader: &Reader<'_>, host: &HostConfig, services: &[WrittenService]) {
    let place = |service: &WrittenService, part| {
        let place = service.places.get(&part);
        place.cloned().unwrap_or(0..0)
    };
    let mut names = BTreeSet::new();
    let mut listeners: Vec<(Place, String)> = [
        (host.metrics.as_ref(), "`metrics` of [host]"),
        (
            host.admin.as_ref().map(|it| &it.endpoint),
            "`admin` of [host]",
        ),
    ]
    .into_iter()
    .filter_map(|(endpoint, owner)| Some((Place::of(endpoint?), owner.to_owned())))
    .collect();
    for service in services {
        let name = service.config.name.as_deref().unwrap_or_default();
        if !names.insert(name) {
            reader.wrong(
                &place(service, Part::Service),
                format!("there are two services `{name}`"),
                Some("give one of them another name".to_owned()),
            );
        }
        let owner = format!("service `{name}`");
        for (index, endpoint) in service.config.listen.iter().enumerate() {
            let here = Place::of(endpoint);
            let taken = listeners.iter().find(|(there, _)| there.meets(&here));
            if let Some((_, other)) = taken {
                let message = format!("`listen`: `{endpoint}` is taken by {other}");
                let mend = "each listener needs an address of its own".to_owned();
                reader.wrong(&place(service, Part::Listen(index)), message, Some(mend));
            }
            listeners.push((here, owner.clone()));
        }
    }
}

fn read_admin(section: &Section<'_>) -> Option<Admin> {
    let token = section.field("admin-token");
    let secret = token
        .as_ref()
        .and_then(|field| match field.item.as_table_like() {
            Some(table) => read_secret(field, table, &field.at),
            None => {
                let mend = "write { file = \"PATH\" } or { env = \"NAME\" }".to_owned();
                field.wrong(
                    "a token is not written into this file".to_owned(),
                    Some(mend),
                );
                None
            }
        });
    if let (Some(field), Some(secret)) = (&token, &secret)
        && let Err(message) = admin::check_token(secret.expose())
    {
        field.wrong(message, None);
    }
    let Some(field) = section.field("admin") else {
        if let Some(token) = &token {
            let mend = "add admin = \"tls://HOST:PORT?cert=FILE\"".to_owned();
            token.wrong("there is no `admin` that it is for".to_owned(), Some(mend));
        }
        return None;
    };
    let mut endpoint = field.read("\"unix:///run/nethost.sock\"", Admin::endpoint)?;
    place_files(field.reader, &mut endpoint);
    if token.is_none() && matches!(endpoint, Endpoint::Tcp(_)) {
        let mend = "add admin-token = { file = \"PATH\" }".to_owned();
        field.wrong(
            "administration over TLS needs a token".to_owned(),
            Some(mend),
        );
    }
    Some(Admin {
        endpoint,
        token: secret,
        taken: Taken::Fail,
    })
}

fn metrics(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text.parse().map_err(|error| told(&error))?;
    endpoint
        .check(Direction::Listening)
        .map_err(|error| told(&error))?;
    crate::metrics::endpoint::check(&endpoint).map_err(|error| error.to_string())?;
    Ok(endpoint)
}

/// An endpoint's error, and the option or the transport that was meant.
fn told(error: &EndpointError) -> String {
    let near = match error {
        EndpointError::UnknownOption { option, known, .. } => nearest(option, known.split(", ")),
        EndpointError::UnknownScheme { scheme, .. } => {
            nearest(scheme, ["tcp", "tls", "udp", "unix", "systemd", "fd"])
        }
        _ => None,
    };
    match near {
        Some(near) => format!("{error}; did you mean `{near}`?"),
        None => error.to_string(),
    }
}

fn user(name: &str) -> Result<String, String> {
    let found = identity::user_named(name).map_err(|error| crate::chain(&error));
    found.map(|_| name.to_owned())
}

fn group(name: &str) -> Result<String, String> {
    let found = identity::group_named(name).map_err(|error| crate::chain(&error));
    found.map(|_| name.to_owned())
}

/// Worker threads that a host may have, at most: as many as the largest machines have cores.
const MOST_WORKERS: u64 = 1024;

/// The least memory that the host can be given: 32 MiB, of which it takes most itself.
pub(crate) const LEAST_MEMORY: u64 = 32 << 20;

/// The longest time to drain in: a week.
const LONGEST_DRAIN: Duration = Duration::from_secs(7 * 24 * 3600);
