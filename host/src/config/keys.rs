//! Every key of the file, by its table: what the parser takes, what a misspelling is compared with, and what `nethost.example.toml` has to explain.

/// Returns the table that a key is of, for one that is in another.
pub(super) fn home_of(key: &str) -> Option<&'static str> {
    let tables = [
        ("[host]", HOST),
        ("[[service]]", SERVICE),
        ("[service.grants]", GRANTS),
    ];
    let home = tables.iter().find(|(_, keys)| keys.contains(&key));
    let is_limit = || super::limits::keys().contains(&key);
    home.map(|(table, _)| *table)
        .or_else(|| is_limit().then_some("[service.limits]"))
}

/// The tables of the file.
pub(super) const ROOT: &[&str] = &["host", "service"];

/// `[host]`.
pub(super) const HOST: &[&str] = &[
    "workers",
    "admin",
    "admin-token",
    "metrics",
    "user",
    "group",
    "coredump",
    "pid-file",
    "confinement",
    "memory",
    "name-servers",
    "drain-timeout",
    "log",
    "log-format",
];

/// `[[service]]`.
pub(super) const SERVICE: &[&str] = &[
    "name",
    "plugin",
    "watch",
    "listen",
    "isolation",
    "limits",
    "grants",
    "config",
];

/// `[service.grants]`.
pub(super) const GRANTS: &[&str] = &[
    "connect",
    "directories",
    "files",
    "users",
    "anonymous",
    "tls",
];

/// `[service.grants.directories.NAME]`.
pub(super) const DIRECTORY: &[&str] = &["path", "mode", "quota"];

/// `[service.grants.files.NAME]`.
pub(super) const FILE: &[&str] = &["path", "mode"];

/// `[service.grants.tls]`.
pub(super) const TLS: &[&str] = &["ca", "cert", "key"];

/// In the place of a value of `[service.config]`.
pub(super) const SECRET: &[&str] = &["file", "env"];
