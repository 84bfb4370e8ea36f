//! The program: reads the command line, does what it says, and prints an error once.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use nethost::cli::{self, Cli};

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            // There is nobody to tell if standard error is gone.
            let _told = writeln!(io::stderr(), "nethost: {error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
