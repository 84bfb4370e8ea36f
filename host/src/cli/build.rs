//! `nethost build`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, bail};

use super::{OrMistake as _, size};
use crate::build::{Builder, Outcome, Profile, Source};

/// Build plugins: each source folder becomes a component beside it
///
/// A Rust plugin is a folder with a Cargo.toml (crate-type cdylib) and a plugin.toml; `plugins/irc` becomes `plugins/irc.wasm`. The standard library for
/// wasm32-wasip1 comes from the active toolchain, else rustup adds it, else the system's compiler builds it once.
///
/// A core module that another language's compiler made is encoded, and a component that another toolchain made gets its manifest: name the file, and
/// the result with --out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost build                                the plugin in this folder
  nethost build plugins/irc plugins/echo       several
  nethost build echo-c.wasm --manifest echo-c/plugin.toml --out plugins/echo-c.wasm")]
pub(crate) struct Build {
    /// Source folders, or WebAssembly files that other toolchains made
    #[arg(value_name = "DIR", default_value = ".")]
    sources: Vec<PathBuf>,

    /// Where the component goes: a file if it ends in .wasm, else a folder
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// The plugin.toml to put in, instead of the one in DIR
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Compile faster, with overflow checks and line numbers in backtraces
    #[arg(long)]
    debug: bool,
}

impl Build {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        self.check().or_mistake()?;
        let profile = if self.debug {
            Profile::Debug
        } else {
            Profile::Release
        };
        let mut builder = Builder::new(profile);
        for path in &self.sources {
            let start = Instant::now();
            let context = || path.display().to_string();
            let source = Source::find(path, self.manifest.as_deref())
                .or_mistake()
                .with_context(context)?;
            let output = self.output(&source).or_mistake().with_context(context)?;
            let built = match builder.build(&source, &output) {
                Err(error) if error.is_runtime_failure() => {
                    return Err(error).with_context(context);
                }
                result => result.or_mistake().with_context(context)?,
            };
            let size = size(built.size);
            let shown = output.display();
            let elapsed = start.elapsed().as_secs_f32();
            let mut out = io::stdout().lock();
            match built.outcome {
                Outcome::Written => writeln!(out, "built {shown} ({size}) in {elapsed:.1}s")?,
                Outcome::UpToDate => writeln!(out, "{shown} is up to date ({size})")?,
            }
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        let several = self.sources.len() > 1;
        if several && self.manifest.is_some() {
            bail!(
                "--manifest is for one plugin, and {} are named",
                self.sources.len()
            );
        }
        if several && self.out_file().is_some() {
            bail!(
                "--out names a file, and {} plugins are named: name a folder",
                self.sources.len()
            );
        }
        Ok(())
    }

    fn out_file(&self) -> Option<&PathBuf> {
        let is_file = |path: &&PathBuf| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        };
        self.out.as_ref().filter(is_file)
    }

    fn output(&self, source: &Source) -> anyhow::Result<PathBuf> {
        let output = match (self.out_file(), &self.out) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(folder)) => source.output_in(folder),
            (None, None) => source.default_output(),
        };
        output.context("say with --out where its component goes")
    }
}
