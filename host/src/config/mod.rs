//! The config file of `nethost serve` and `nethost check`, and the description of a service that `nethost run` makes from its flags too.
//!
//! `nethost.example.toml` in the root of the sources explains every key. In reading order:
//!
//! * [`ServiceConfig`]: what a service is told, whoever tells it.
//! * `keys`, `limits`: every key of the file. One that is to be added goes there, into `file` and into the example; a test compares them.
//! * `file`: the file, read into a [`Config`]. Everything that is wrong is told at once, each with its line and the mend.
//! * `prepare`: a description compared with its plugin and with this machine, and what it takes to start the service.
//! * `reach`: what a description needs of the machine, which the process is confined to.
//! * `secret`: values that are not in the file.

mod service;

mod keys;

pub(crate) mod limits;

mod file;

mod reader;

mod secret;

mod problem;

pub(crate) mod prepare;

pub(crate) mod reach;

pub(crate) mod text;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use file::LEAST_MEMORY;
pub use problem::{Problem, Problems, Severity};
use reader::Span;
pub use secret::{Secret, Secrets};
pub(crate) use service::Part;
pub use service::{DirectoryConfig, ServiceConfig, Setting, Text};
use text::Position;

pub use crate::daemon::confinement::Confinement;
use crate::{admin::Admin, endpoint::Endpoint, logging::LogFormat, manifest::is_service_name_char};

/// A config file, checked as far as that is possible without plugins.
#[derive(Debug)]
pub struct Config {
    /// What concerns all services.
    pub host: HostConfig,
    /// The services, in the file's order; each has a name of its own.
    pub services: Vec<WrittenService>,
    /// What may not be meant.
    pub warnings: Vec<Problem>,
    source: Source,
}

/// `[host]`: what concerns the process and all services.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// Worker threads. None: as many as cores.
    pub workers: Option<NonZeroUsize>,
    /// Where the host is administered. None by default.
    pub admin: Option<Admin>,
    /// Where metrics are served: TCP or a UNIX socket. None by default.
    pub metrics: Option<Endpoint>,
    /// Whom the process becomes once it listens. None: it stays who it is.
    pub user: Option<String>,
    /// The group that it becomes. None: the user's.
    pub group: Option<String>,
    /// The folder for core dumps of plugins. None by default.
    pub coredump: Option<PathBuf>,
    /// Where the process's id is written.
    pub pid_file: Option<PathBuf>,
    /// Whether the kernel keeps the process from what it was not granted. On by default.
    pub confinement: Confinement,
    /// Bytes of memory that the host may use, all services together. None: four fifths of what is free when it starts.
    pub memory: Option<u64>,
    /// How long connections may go on after a service was told to stop. Default 5 s.
    pub drain_timeout: Duration,
    /// What is logged, if the command line and RUST_LOG do not say it.
    pub log: Option<String>,
    /// How the log is written, if the command line does not say it.
    pub log_format: Option<LogFormat>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            workers: None,
            admin: None,
            metrics: None,
            user: None,
            group: None,
            coredump: None,
            pid_file: None,
            confinement: Confinement::On,
            memory: None,
            drain_timeout: DRAIN_TIMEOUT,
            log: None,
            log_format: None,
        }
    }
}

/// A service of a file, and where each part of it is written.
#[derive(Debug)]
pub struct WrittenService {
    /// What it is told.
    pub config: ServiceConfig,
    places: HashMap<Part, Span>,
}

/// A file's name and text.
#[derive(Debug)]
struct Source {
    file: String,
    text: String,
}

impl Config {
    /// Reads and checks a file; what is wrong with it is all told at once. Secrets are read too.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        file::parse(text, path)
    }

    /// As [`Self::parse`], from the disk.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path).map_err(|error| ConfigError::Io {
            path: path.to_owned(),
            error,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let good = error.as_bytes().get(..valid).unwrap_or_default();
            file::not_text(&String::from_utf8_lossy(good), path)
        })?;
        Ok(Self::parse(&text, path)?)
    }

    /// Tells of a part of a service.
    pub(crate) fn problem(
        &self,
        service: &WrittenService,
        fault: &prepare::Fault,
        severity: Severity,
    ) -> Problem {
        let place = |part| service.places.get(part);
        let place = place(&fault.part).or_else(|| place(&Part::Service));
        self.problem_at(place, fault, severity)
    }

    /// Tells of what is nowhere in the file.
    pub(crate) fn problem_of_file(&self, fault: &prepare::Fault) -> Problem {
        self.problem_at(None, fault, Severity::Error)
    }

    fn problem_at(
        &self,
        place: Option<&Span>,
        fault: &prepare::Fault,
        severity: Severity,
    ) -> Problem {
        let Position { line, column } = Position::of(&self.source.text, place);
        Problem {
            file: self.source.file.clone(),
            line,
            column,
            severity,
            message: fault.message.clone(),
            mend: fault.mend.as_ref().map(|mend| mend.key.clone()),
        }
    }
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// It is not in order.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// Reads the address of a name server; its port is 53 if it is left out.
pub(crate) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = |ip: IpAddr| SocketAddr::new(ip, 53);
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) => text.parse().map(with_port).map_err(|_| {
            format!("`{}` is not the address of a name server; expected an address such as 192.0.2.1, 192.0.2.1:5353 or [::1]:53", text.escape_debug())
        })?,
    };
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err("no server has the port 0, or the address 0.0.0.0 or ::".to_owned());
    }
    Ok(address)
}

/// Reads a service's name.
pub(crate) fn service_name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.chars().all(is_service_name_char) {
        return Err("a name has letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

/// How long connections may go on after a service was told to stop, unless the operator says it: 5 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
