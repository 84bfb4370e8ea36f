//! `nethost build`: from a plugin's source folder to a component that fits this host.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    inspect::{self, Unfit},
    manifest::{InvalidManifest, Manifest},
};

mod cargo;
pub(crate) mod encode;
mod toolchain;

pub(crate) use cargo::{CargoError, Profile};
pub(crate) use toolchain::NoToolchain;

/// Builds plugins, and remembers between them where the standard library comes from.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    profile: Profile,
    toolchains: toolchain::Toolchains,
}

impl Builder {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// Makes the component of a source, and leaves it at `output` only if it fits this host.
    pub(crate) fn build(&mut self, source: &Source, output: &Path) -> Result<Built, BuildError> {
        let text = source.manifest()?;
        let component = match &source.kind {
            Kind::RustFolder => {
                let plugin = cargo::Crate::find(&source.path)?;
                let toolchain = self.toolchains.find(&source.path, &plugin.target_dir)?;
                let module = plugin.compile(&toolchain, self.profile)?;
                let bytes = fs::read(&module).map_err(|error| BuildError::file(&module, error))?;
                encode::component(&bytes).map_err(BuildError::Encode)?
            }
            Kind::Module(bytes) => encode::component(bytes).map_err(BuildError::Encode)?,
            Kind::Component(bytes) => bytes.clone(),
        };
        let carried = inspect::describe(&component)?.manifest;
        let component = match text {
            Some(_) if carried.is_some() => return Err(BuildError::TwoManifests),
            Some(text) => encode::with_manifest(component, &text),
            None => component,
        };
        inspect::describe(&component)?;
        Ok(Built {
            outcome: write(output, &component).map_err(|error| BuildError::file(output, error))?,
            size: component.len(),
        })
    }
}

/// What a plugin is made of.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    kind: Kind,
    manifest: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    RustFolder,
    /// A core module that another language's compiler made.
    Module(Vec<u8>),
    /// A component that another language's toolchain made, to which the manifest is added.
    Component(Vec<u8>),
}

impl Source {
    /// Finds out what is at `path`. `manifest` is the `plugin.toml` to use; without one it is looked for in the folder, or beside the file.
    pub(crate) fn find(path: &Path, manifest: Option<&Path>) -> Result<Self, BuildError> {
        let metadata = fs::metadata(path).map_err(BuildError::Source)?;
        let (kind, folder) = if metadata.is_dir() {
            (Kind::RustFolder, path)
        } else {
            let bytes = fs::read(path).map_err(BuildError::Source)?;
            let kind = match bytes.get(..8) {
                Some(b"\0asm\x01\0\0\0") => Kind::Module(bytes),
                Some([b'\0', b'a', b's', b'm', ..]) => Kind::Component(bytes),
                _ => return Err(BuildError::NotASource),
            };
            (kind, path.parent().unwrap_or_else(|| Path::new("")))
        };
        let beside = folder.join("plugin.toml");
        let manifest = match manifest {
            Some(manifest) => Some(manifest.to_owned()),
            None => Some(beside).filter(|beside| beside.is_file()),
        };
        if kind == Kind::RustFolder {
            if !folder.join("Cargo.toml").is_file() {
                return Err(BuildError::NotARustFolder);
            }
            if manifest.is_none() {
                return Err(BuildError::NoManifest);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            kind,
            manifest,
        })
    }

    /// Where the component goes if nobody says: beside the folder, and named like it.
    ///
    /// None for a file, whose component would overwrite it.
    pub(crate) fn default_output(&self) -> Option<PathBuf> {
        if self.kind != Kind::RustFolder {
            return None;
        }
        let mut folder = self.path.clone();
        if folder.file_name().is_none() {
            folder = folder.canonicalize().ok()?;
        }
        let name = file_name(&folder)?;
        Some(folder.with_file_name(name))
    }

    /// Where the component goes in the folder `output`.
    pub(crate) fn output_in(&self, output: &Path) -> Option<PathBuf> {
        let path = self.path.canonicalize().ok()?;
        Some(output.join(file_name(&path)?))
    }

    /// The text of `plugin.toml`, checked.
    fn manifest(&self) -> Result<Option<String>, BuildError> {
        let Some(path) = &self.manifest else {
            return Ok(None);
        };
        let text = fs::read_to_string(path).map_err(|error| BuildError::file(path, error))?;
        Manifest::parse(&text, &path.display().to_string())?;
        Ok(Some(text))
    }
}

/// A component that was made.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) outcome: Outcome,
    /// In bytes.
    pub(crate) size: usize,
}

/// What happened to the component's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is new, or has changed.
    Written,
    /// It was the same already, and was not touched.
    UpToDate,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was named cannot be read.
    #[error("cannot read it")]
    Source(#[source] io::Error),
    /// What was named is neither a folder nor WebAssembly.
    #[error("neither a plugin's source folder nor a WebAssembly file")]
    NotASource,
    /// The folder is not a Rust crate.
    #[error(
        "not a Rust plugin: it has no Cargo.toml (plugins in other languages: build their module or component, then name that file)"
    )]
    NotARustFolder,
    /// The folder is a crate, and nothing says that it is a plugin.
    #[error(
        "not a plugin: it has no plugin.toml (the least one is `[plugin]` with `name` and `version`)"
    )]
    NoManifest,
    /// There would be two manifests in the component.
    #[error("it carries a manifest already")]
    TwoManifests,
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// Cargo failed.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// There is nothing to compile with.
    #[error(transparent)]
    Toolchain(#[from] NoToolchain),
    /// The core module cannot become a component.
    #[error("cannot make a component of its module")]
    Encode(#[source] anyhow::Error),
    /// The component would not run on this host.
    #[error("its component does not fit this host")]
    Unfit(#[from] Unfit),
}

impl BuildError {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether it failed while running, rather than because of what it was given.
    pub(crate) const fn is_runtime_failure(&self) -> bool {
        matches!(
            self,
            Self::Cargo(CargoError::Run(_) | CargoError::Answer(_) | CargoError::Build)
        )
    }
}

fn file_name(path: &Path) -> Option<PathBuf> {
    let name = path
        .file_stem()
        .filter(|_| path.extension().is_some_and(|end| end == "wasm"));
    let mut name = name.or_else(|| path.file_name())?.to_owned();
    name.push(".wasm");
    Some(name.into())
}

/// Writes the file whole or not at all, and leaves one that is the same already as it is, so that nobody who watches it wakes up.
fn write(path: &Path, bytes: &[u8]) -> io::Result<Outcome> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(Outcome::UpToDate);
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
    Ok(Outcome::Written)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nethost-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            self
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const MANIFEST: &str = "[plugin]\nname = \"x\"\nversion = \"0.1.0\"\n";

    #[test]
    fn a_source_is_recognised_or_refused_with_the_reason() {
        let folder = Folder::new("sources")
            .with("rust/Cargo.toml", "")
            .with("rust/plugin.toml", MANIFEST)
            .with("crate/Cargo.toml", "")
            .with("c/plugin.toml", MANIFEST)
            .with("c/module.wasm", b"\0asm\x01\0\0\0")
            .with("component.wasm", b"\0asm\x0d\0\x01\0")
            .with("notes.txt", "hello");
        for (name, expected) in [
            ("rust", "RustFolder with a manifest"),
            ("crate", "not a plugin: it has no plugin.toml"),
            ("c", "not a Rust plugin: it has no Cargo.toml"),
            ("c/module.wasm", "Module with a manifest"),
            ("component.wasm", "Component without a manifest"),
            (
                "notes.txt",
                "neither a plugin's source folder nor a WebAssembly file",
            ),
            ("nowhere", "cannot read it"),
        ] {
            let found = match Source::find(&folder.0.join(name), None) {
                Ok(source) => {
                    let kind = match source.kind {
                        Kind::RustFolder => "RustFolder",
                        Kind::Module(_) => "Module",
                        Kind::Component(_) => "Component",
                    };
                    let with = if source.manifest.is_some() {
                        "with"
                    } else {
                        "without"
                    };
                    format!("{kind} {with} a manifest")
                }
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "got {found}\nwant {expected}");
        }
    }

    #[test]
    fn a_component_lies_beside_its_folder_and_is_named_like_it() {
        let source = |path: &str, kind| Source {
            path: path.into(),
            kind,
            manifest: None,
        };
        for (path, expected) in [
            ("plugins/irc", "plugins/irc.wasm"),
            ("plugins/irc/", "plugins/irc.wasm"),
            ("irc", "irc.wasm"),
            ("/srv/irc-1.2", "/srv/irc-1.2.wasm"),
        ] {
            let output = source(path, Kind::RustFolder).default_output();
            assert_eq!(output, Some(expected.into()));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            source(".", Kind::RustFolder).default_output(),
            Some(format!("{}.wasm", here.display()).into())
        );
        assert_eq!(
            source("irc.wasm", Kind::Module(Vec::new())).default_output(),
            None
        );
    }

    #[test]
    fn a_module_becomes_a_component_and_the_same_one_is_not_written_twice() {
        let folder = Folder::new("module")
            .with("echo.wasm", encode::tests::module("stream-plugin", ""))
            .with("plugin.toml", MANIFEST);
        let output = folder.0.join("out/echo.wasm");
        let source = Source::find(&folder.0.join("echo.wasm"), None).unwrap();
        assert_eq!(
            source.output_in(&folder.0.join("out")),
            Some(output.clone())
        );
        let mut builder = Builder::default();
        for expected in [Outcome::Written, Outcome::UpToDate] {
            assert_eq!(builder.build(&source, &output).unwrap().outcome, expected);
        }
        let bytes = fs::read(&output).unwrap();
        assert_eq!(
            inspect::describe(&bytes).unwrap().manifest.unwrap().name,
            "x"
        );
        assert_eq!(fs::read_dir(folder.0.join("out")).unwrap().count(), 1);

        // What was built is a component, and has a manifest.
        let again = Source::find(&output, Some(&folder.0.join("plugin.toml"))).unwrap();
        let error = builder
            .build(&again, &folder.0.join("again.wasm"))
            .unwrap_err();
        assert_eq!(error.to_string(), "it carries a manifest already");
    }

    #[test]
    fn an_unfit_component_is_not_left_behind() {
        let folder = Folder::new("unfit").with(
            "x.wasm",
            wat::parse_str(r#"(component (import "wasi:io/poll@0.2.0" (instance)))"#).unwrap(),
        );
        let output = folder.0.join("out.wasm");
        let source = Source::find(&folder.0.join("x.wasm"), None).unwrap();
        let error = Builder::default().build(&source, &output).unwrap_err();
        assert!(
            matches!(error, BuildError::Unfit(Unfit::MissingExport { .. })),
            "{error}"
        );
        assert!(!output.exists());
    }
}
