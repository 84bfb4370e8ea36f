//! `nethost build`.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{OrMistake as _, size};
use crate::{
    build::{Builder, Outcome, Profile, Source},
    watch::Snapshot,
};

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
  nethost build --watch plugins/irc            again, whenever a file is saved
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

    /// Build again whenever something in a source folder changes, until Ctrl-C; what does not build is told, and waited for
    ///
    /// `target`, hidden files and what is linked to are not looked at, nor are other crates that the plugin is made of. `nethost run --watch` swaps what comes out.
    #[arg(long)]
    watch: bool,
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
        if self.watch {
            return self.watch(&mut builder);
        }
        self.sources
            .iter()
            .try_for_each(|path| self.build(&mut builder, path))
    }

    /// Builds what has changed, again and again.
    fn watch(&self, builder: &mut Builder) -> anyhow::Result<()> {
        let mut built: Vec<Option<Snapshot>> = self.sources.iter().map(|_| None).collect();
        let mut seen = built.clone();
        loop {
            for ((path, built), seen) in self.sources.iter().zip(&mut built).zip(&mut seen) {
                let now = Some(self.look(path));
                // An editor writes several files, one after the other: they are waited for. At first there is nothing to wait for.
                let is_settled = built.is_none() || *seen == now;
                if *built != now && is_settled {
                    if let Err(error) = self.build(builder, path) {
                        writeln!(io::stderr().lock(), "nethost: {error:#}")?;
                    }
                    // What changed meanwhile is built next.
                    *built = now.clone();
                }
                *seen = now;
            }
            thread::sleep(PERIOD);
        }
    }

    fn look(&self, source: &Path) -> Snapshot {
        let mut snapshot = Snapshot::default();
        add(&mut snapshot, source, DEEPEST);
        if let Some(manifest) = &self.manifest {
            snapshot.add(manifest);
        }
        snapshot
    }

    fn build(&self, builder: &mut Builder, path: &Path) -> anyhow::Result<()> {
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

/// Adds a file, or the files of a folder that are sources.
fn add(snapshot: &mut Snapshot, path: &Path, depth: usize) {
    snapshot.add(path);
    let Ok(entries) = path.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_source = !name.starts_with('.') && name != "target" && name != "node_modules";
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && is_source && depth > 0 => {
                add(snapshot, &entry.path(), depth - 1);
            }
            Ok(kind) if kind.is_file() && is_source => snapshot.add(&entry.path()),
            _ => {}
        }
    }
}

/// How often sources are looked at: every 200 ms.
const PERIOD: Duration = Duration::from_millis(200);

/// Folders within folders that are looked into: 16.
const DEEPEST: usize = 16;
