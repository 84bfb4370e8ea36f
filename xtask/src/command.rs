//! Other programs, and what is said when they fail.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, bail};

/// A program to call. Its output is shown unless it is asked for.
#[derive(Debug)]
pub(crate) struct Cmd(Command);

impl Cmd {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Command::new(program))
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.0.current_dir(folder);
        self
    }

    pub(crate) fn into_inner(self) -> Command {
        self.0
    }

    /// What is called, for messages.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end; anything but success is an error.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let shown = self.shown();
        let status = self
            .0
            .status()
            .with_context(|| format!("running `{shown}`"))?;
        if !status.success() {
            bail!("`{shown}` failed ({status})");
        }
        Ok(())
    }

    /// Runs it to its end, and returns what it wrote; none if it failed or is not there.
    pub(crate) fn answer(self) -> Option<String> {
        let Output { status, stdout, .. } = self.into_inner().output().ok()?;
        let text = String::from_utf8_lossy(&stdout).trim().to_owned();
        status.success().then_some(text)
    }
}

/// The path of a program on `PATH`.
pub(crate) fn program(name: &str) -> Option<OsString> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(Into::into)
}

/// Tells what is being done.
pub(crate) fn say(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}
