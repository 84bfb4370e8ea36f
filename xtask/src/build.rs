//! The host and the plugins.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};

use crate::{
    command::{Cmd, say},
    places::Places,
};

/// How much the compiler does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// For tests, which link the host many times.
    Release,
    /// For what is served and measured: optimized as a whole, which takes two minutes more.
    Dist,
}

impl Profile {
    /// What cargo calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// Builds the host, and returns where its program is.
pub(crate) fn host(places: &Places, profile: Profile) -> anyhow::Result<PathBuf> {
    say("building the host");
    let mut cargo = places
        .cargo()
        .args([
            "build",
            "--profile",
            profile.name(),
            "--locked",
            "--package",
            "nethost",
            "--bin",
            "nethost",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .into_inner();
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    let mut host = None;
    if let Some(messages) = child.stdout.take() {
        for line in BufReader::new(messages).lines() {
            host = executable(&line?).map(PathBuf::from).or(host);
        }
    }
    if !child.wait()?.success() {
        bail!("the host does not compile");
    }
    host.context("cargo did not say where the host's program is")
}

/// Builds plugins from their source folders; what has not changed takes a moment.
pub(crate) fn plugins(places: &Places, host: &Path, sources: &[PathBuf]) -> anyhow::Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    say("building plugins");
    Cmd::new(host)
        .arg("build")
        .args(sources)
        .env("CARGO_TARGET_DIR", &places.target)
        .run()
}

/// Builds every plugin of this repository to `plugins/<name>.wasm`.
pub(crate) fn stock_plugins(places: &Places, host: &Path) -> anyhow::Result<()> {
    let folder = places.root.join("plugins");
    let mut sources = rust_plugins(&folder)?;
    let examples = folder.join("examples");
    if examples.is_dir() {
        sources.extend(rust_plugins(&examples)?);
    }
    plugins(places, host, &sources)
}

/// Builds the plugins in `folder` that are written in Rust to components in `output`.
pub(crate) fn plugins_into(
    places: &Places,
    host: &Path,
    folder: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    let sources = rust_plugins(folder)?;
    if sources.is_empty() {
        return Ok(());
    }
    say("building test guests");
    Cmd::new(host)
        .arg("build")
        .args(sources)
        .arg("--out")
        .arg(output)
        .env("CARGO_TARGET_DIR", &places.target)
        .run()
}

/// The folders in `folder` that hold a plugin written in Rust, in order.
fn rust_plugins(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("reading {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.join("plugin.toml").is_file() && path.join("Cargo.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The path in a message of cargo's: `"executable":"/target/release/nethost"`.
fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    rest.split_once('"').map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        for (message, expected) in [
            (
                r#"{"reason":"compiler-artifact","executable":"/t/release/nethost","fresh":true}"#,
                Some("/t/release/nethost"),
            ),
            (
                r#"{"reason":"compiler-artifact","executable":null,"fresh":true}"#,
                None,
            ),
            (r#"{"reason":"build-finished","success":true}"#, None),
        ] {
            assert_eq!(executable(message), expected);
        }
    }
}
