//! The paths and ports that a service's description names: what the process is confined to.

use std::{fs, path::PathBuf};

use super::{
    Part, ServiceConfig,
    prepare::{Fault, check},
};
use crate::{
    daemon::confinement::{self, Access, OUTSIDE, Reach},
    endpoint::{Direction, Endpoint},
    files::FileMode,
    inspect,
    manifest::Manifest,
};

/// Whether what is loaded once may be loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loading {
    /// Flags: the plugin stays as it is.
    Once,
    /// A file, which SIGHUP reads again, and takes up what was replaced; or a plugin that is watched.
    Again,
}

/// A plugin's manifest, before it is compiled. None if there is none, or something is wrong, which its start tells.
pub(crate) fn manifest(config: &ServiceConfig) -> Option<(Manifest, bool)> {
    let bytes = inspect::read(&config.plugin).ok()?;
    let description = inspect::describe(&bytes).ok()?;
    let mut exports = description.exports.iter();
    let takes_datagrams = exports.any(|it| it.contains("/datagram-handler@"));
    let name = config.plugin.file_stem().unwrap_or_default();
    let assumed = || Manifest::assumed(&name.to_string_lossy());
    let manifest = description.manifest.unwrap_or_else(assumed);
    Some((manifest, takes_datagrams))
}

/// Makes the files and directories to be written to that are not there: once the process is confined it cannot. Nothing is made where something is wrong; the
/// start tells it, and why something could not be made.
pub(crate) fn make(config: &ServiceConfig, manifest: &Manifest, takes_datagrams: bool) {
    if check(config, manifest, takes_datagrams).is_err() {
        return;
    }
    for grant in &config.files {
        if grant.mode == FileMode::ReadWrite && !grant.path.exists() {
            let _made = grant.open();
        }
    }
    for directory in config.directories.iter().map(|it| &it.grant) {
        let asked = manifest.directories.get(&directory.name);
        let mode = directory.mode.or_else(|| asked.map(|asked| asked.mode));
        if mode == Some(FileMode::ReadWrite) && !directory.path.exists() {
            let _made = fs::create_dir_all(&directory.path);
        }
    }
}

/// Adds what a service needs.
pub(crate) fn allow(
    reach: &mut Reach,
    config: &ServiceConfig,
    manifest: Option<&Manifest>,
    loading: Loading,
) {
    for (_, path, access) in paths(config, manifest, loading) {
        reach.allow(&path, access);
    }
    connections(reach, config, manifest);
}

/// Returns what of a service lies outside of what the process was confined to.
pub(crate) fn outside(config: &ServiceConfig) -> Vec<Fault> {
    let manifest = manifest(config);
    let manifest = manifest.as_ref().map(|(manifest, _)| manifest);
    let mut faults = Vec::new();
    for (part, path, access) in paths(config, manifest, Loading::Again) {
        // What is not there, and is not made, is another mistake.
        let is_made = matches!(access, Access::Write | Access::Socket);
        if (is_made || path.exists()) && confinement::excludes(&path, access) {
            faults.push(Fault::new(part, format!("{}{OUTSIDE}", path.display())));
        }
    }
    let mut reach = Reach::default();
    connections(&mut reach, config, manifest);
    if confinement::excludes_connections(&reach) {
        let message = format!("a port to connect to{OUTSIDE}");
        faults.push(Fault::new(Part::Connect, message));
    }
    faults
}

fn connections(reach: &mut Reach, config: &ServiceConfig, manifest: Option<&Manifest>) {
    for grant in &config.connect {
        reach.allow_connect(grant);
    }
    if !config.connect.is_empty() {
        for server in &config.name_servers {
            reach.allow_port(server.port());
        }
    }
    for (_, endpoint) in listeners(config, manifest) {
        reach.allow_listener(&endpoint);
    }
}

fn paths(
    config: &ServiceConfig,
    manifest: Option<&Manifest>,
    loading: Loading,
) -> Vec<(Part, PathBuf, Access)> {
    let loaded = match loading {
        Loading::Once => Access::Read,
        Loading::Again => Access::Reread,
    };
    let plugin = if config.watch { Access::Reread } else { loaded };
    let mut paths = vec![(Part::Plugin, config.plugin.clone(), plugin)];
    let access = |mode| match mode {
        FileMode::ReadOnly => Access::Read,
        FileMode::ReadWrite => Access::Write,
    };
    for grant in &config.files {
        let part = Part::File(grant.name.clone());
        paths.push((part, grant.path.clone(), access(grant.mode)));
    }
    for grant in config.directories.iter().map(|it| &it.grant) {
        let asked = manifest.and_then(|manifest| manifest.directories.get(&grant.name));
        let mode = grant.mode.or_else(|| asked.map(|asked| asked.mode));
        let access = access(mode.unwrap_or(FileMode::ReadOnly));
        let part = Part::Directory(grant.name.clone());
        paths.push((part, grant.path.clone(), access));
    }
    let users = config.users.iter();
    paths.extend(users.map(|path| (Part::Users, path.clone(), Access::Reread)));
    let tls = confinement::tls_files(&config.tls);
    paths.extend(tls.map(|path| (Part::Certificate, path.to_owned(), loaded)));
    for (key, path) in config.secret_files() {
        let part = Part::Setting(key.to_owned());
        paths.push((part, path.to_owned(), Access::Reread));
    }
    for (part, endpoint) in listeners(config, manifest) {
        let files = confinement::listener_files(&endpoint).into_iter();
        paths.extend(files.map(|(path, access)| (part.clone(), path.to_owned(), access)));
    }
    paths
}

fn listeners(config: &ServiceConfig, manifest: Option<&Manifest>) -> Vec<(Part, Endpoint)> {
    let named = config.listen.iter().cloned().enumerate();
    let mut all: Vec<_> = named.map(|(index, it)| (Part::Listen(index), it)).collect();
    if let (true, Some(manifest)) = (all.is_empty(), manifest) {
        let endpoints = manifest.listen.iter().filter_map(|url| url.parse().ok());
        let endpoints = endpoints.filter(|it: &Endpoint| it.check(Direction::Listening).is_ok());
        all.extend(endpoints.map(|endpoint| (Part::Plugin, endpoint)));
    }
    all
}
