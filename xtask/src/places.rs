//! Where things are: this checkout, and the cache outside of it.

use std::{env, path::PathBuf};

use anyhow::Context as _;

use crate::command::Cmd;

/// The folders that tasks work with.
#[derive(Debug)]
pub(crate) struct Places {
    /// This checkout.
    pub(crate) root: PathBuf,
    /// What is downloaded or built once and outlives a checkout: `$XDG_CACHE_HOME/nethost`, else `~/.cache/nethost`.
    pub(crate) cache: PathBuf,
    /// Where cargo's results go. Outside of the checkout under CI, so that a fresh clone builds on what the last one left.
    pub(crate) target: PathBuf,
}

impl Places {
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Cargo says where this program's source is now; it may have been compiled for another checkout with the same target folder.
        let root = folder("CARGO_MANIFEST_DIR");
        let root = root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = root
            .parent()
            .context("xtask has no parent folder")?
            .to_owned();
        let cache = match (folder("XDG_CACHE_HOME"), folder("HOME")) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join(".cache"),
            (None, None) => anyhow::bail!(
                "neither XDG_CACHE_HOME nor HOME is set: there is no place for the cache"
            ),
        }
        .join("nethost");
        let target = match folder("CARGO_TARGET_DIR") {
            Some(target) => env::current_dir()?.join(target),
            None if env::var_os("CI").is_some_and(|ci| ci == "true") => cache.join("target"),
            None => root.join("target"),
        };
        Ok(Self {
            root,
            cache,
            target,
        })
    }

    /// A call of the cargo that called us, at the root of this checkout.
    pub(crate) fn cargo(&self) -> Cmd {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Cmd::new(cargo)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
    }
}

fn folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
