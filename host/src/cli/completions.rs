//! `nethost completions`.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  nethost completions bash > ~/.local/share/bash-completion/completions/nethost")]
pub(crate) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        // Generated into memory first: the generator panics when its output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "nethost", &mut script);
        io::stdout().lock().write_all(&script)?;
        Ok(())
    }
}
