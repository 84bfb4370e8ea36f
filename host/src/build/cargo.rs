//! Calls of cargo: where a crate's results go, and its core module.

use std::{
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::toolchain::{TARGET, Toolchain};

/// How a plugin is compiled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Optimised; functions keep their names, for backtraces.
    #[default]
    Release,
    /// Compiles faster, checks overflow, and backtraces have line numbers.
    Debug,
}

/// A crate that can become a plugin.
#[derive(Debug)]
pub(super) struct Crate {
    /// Its `Cargo.toml`.
    manifest: PathBuf,
    /// Where cargo puts what it makes for plugins: one folder for all of a workspace, so that the standard library is built once.
    pub(super) target_dir: PathBuf,
}

impl Crate {
    /// Asks cargo about the crate in `folder`.
    pub(super) fn find(folder: &Path) -> Result<Self, CargoError> {
        let manifest = folder
            .join("Cargo.toml")
            .canonicalize()
            .map_err(CargoError::Run)?;
        let output = cargo("metadata", folder)
            .args(["--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .stderr(Stdio::inherit())
            .output()
            .map_err(CargoError::Run)?;
        if !output.status.success() {
            return Err(CargoError::Metadata);
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(CargoError::Answer)?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest)
            .ok_or(CargoError::Virtual)?;
        if !package.targets.iter().any(Target::is_cdylib) {
            return Err(CargoError::NoCdylib(package.name));
        }
        Ok(Self {
            manifest,
            target_dir: metadata.target_directory.join("plugins"),
        })
    }

    /// Compiles the crate, and returns where its core module is.
    pub(super) fn compile(
        &self,
        toolchain: &Toolchain,
        profile: Profile,
    ) -> Result<PathBuf, CargoError> {
        let mut command = cargo(
            "build",
            self.manifest.parent().unwrap_or_else(|| Path::new(".")),
        );
        command
            .args([
                "--lib",
                "--target",
                TARGET,
                "--message-format",
                "json-render-diagnostics",
            ])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .arg("--manifest-path")
            .arg(&self.manifest)
            .args(profile.arguments())
            .args(&toolchain.arguments)
            .envs(
                toolchain
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdout(Stdio::piped());
        // Flags for the machine's own compiler (`target-cpu=native`) make no sense here.
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
        ] {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(CargoError::Run)?;
        let mut module = None;
        if let Some(answers) = child.stdout.take() {
            for line in BufReader::new(answers).lines() {
                let line = line.map_err(CargoError::Run)?;
                module = self.module_of(&line).or(module);
            }
        }
        let status = child.wait().map_err(CargoError::Run)?;
        match module {
            Some(module) if status.success() => Ok(module),
            _ => Err(CargoError::Build),
        }
    }

    /// The core module, if this line of cargo's says that it is made.
    fn module_of(&self, line: &str) -> Option<PathBuf> {
        let message: Message = serde_json::from_str(line).ok()?;
        let ours = message.reason == "compiler-artifact"
            && message.manifest_path.as_ref() == Some(&self.manifest)
            && message.target.is_some_and(|target| target.is_cdylib());
        let is_module = |file: &PathBuf| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        };
        message
            .filenames
            .into_iter()
            .find(is_module)
            .filter(|_| ours)
    }
}

impl Profile {
    /// The profile is given on the command line, so that a workspace's own profiles stay as they are for the machine.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Release => &[
                "--release",
                "--config",
                "profile.release.opt-level=3",
                "--config",
                "profile.release.lto=\"fat\"",
                "--config",
                "profile.release.codegen-units=1",
                "--config",
                "profile.release.panic=\"abort\"",
                "--config",
                "profile.release.strip=\"debuginfo\"",
            ],
            Self::Debug => &[
                "--config",
                "profile.dev.opt-level=1",
                "--config",
                "profile.dev.debug=\"line-tables-only\"",
                "--config",
                "profile.dev.panic=\"abort\"",
            ],
        }
    }
}

/// What went wrong with cargo. It has told the details itself, on standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CargoError {
    /// Cargo could not be started or listened to.
    #[error("cannot run cargo")]
    Run(#[source] io::Error),
    /// Cargo does not understand the crate's `Cargo.toml`.
    #[error("cargo cannot read its Cargo.toml")]
    Metadata,
    /// Cargo answered in a format that this program does not know.
    #[error("cargo's answer cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The `Cargo.toml` is of a workspace only.
    #[error("its Cargo.toml describes a workspace, not a package")]
    Virtual,
    /// The crate makes no core module.
    #[error(
        "the crate `{0}` makes no module: its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`"
    )]
    NoCdylib(String),
    /// The crate does not compile.
    #[error("it does not compile")]
    Build,
}

/// A call of the cargo that called us, if one did.
fn cargo(command: &str, folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.arg(command).current_dir(folder);
    cargo
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_module_is_told_from_cargos_other_messages() {
        let plugin = Crate {
            manifest: "/w/irc/Cargo.toml".into(),
            target_dir: "/w/target/plugins".into(),
        };
        let artifact = |manifest: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"kind":["{kind}"],"crate_types":["{kind}","rlib"]}},"filenames":["/t/libirc.rlib","/t/irc.wasm"],"fresh":true}}"#
            )
        };
        for (line, expected) in [
            (artifact("/w/irc/Cargo.toml", "cdylib"), Some("/t/irc.wasm")),
            (artifact("/w/irc/Cargo.toml", "lib"), None),
            (artifact("/w/sdk/Cargo.toml", "cdylib"), None),
            (
                r#"{"reason":"build-finished","success":true}"#.to_owned(),
                None,
            ),
            ("Compiling".to_owned(), None),
        ] {
            assert_eq!(
                plugin.module_of(&line).as_deref(),
                expected.map(Path::new),
                "{line}"
            );
        }
    }
}
