//! The program: reads the command line, does what it says, and prints an error once.

use std::process::ExitCode;

use clap::Parser as _;
use nethost::cli::{self, Cli};

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nethost: {error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
