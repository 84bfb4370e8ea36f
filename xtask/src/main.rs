//! What `cargo xtask` does: set-up, run, test, check, bench, fuzz. Everything that it installs is in `setup.rs`.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod build;
mod check;
mod command;
mod fuzz;
mod guests;
mod places;
mod setup;
mod test;

use crate::{build::Profile, command::Cmd, places::Places};

/// Tasks around the source code
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask run plugins/irc.wasm     set up, build, and serve IRC on 127.0.0.1:6667
  cargo xtask test                     set up, build, and run every test
  cargo xtask test irc                 only the tests with `irc` in their name
  cargo xtask fuzz --seconds 60        every fuzz target, a minute each
  cargo xtask soak --seconds 60        every bad guest at once, next to a good one
  cargo xtask check                    formatting, lints, documentation, licences

What is downloaded or built outside of this folder goes to $XDG_CACHE_HOME/nethost (~/.cache/nethost)."
)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing needs; a second time takes a second
    Setup,
    /// Build the host and the plugin, then `nethost run PLUGIN ARGS`
    Run {
        /// The plugin, such as plugins/irc.wasm
        plugin: PathBuf,
        /// What `nethost run` takes beside it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build everything and run every test; the last line counts them
    Test {
        /// Run only the tests with this in their name
        filter: Option<String>,
    },
    /// Check formatting, lints, documentation and licences
    Check,
    Fuzz(fuzz::Fuzz),
    /// Every guest that misbehaves at once, next to a good one, for ten minutes; `--help` says what is measured
    #[command(disable_help_flag = true)]
    Soak {
        /// What it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build everything and run a benchmark, such as `boundary`
    Bench {
        /// The benchmark
        name: OsString,
        /// What it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_compiler() {
        return code;
    }
    let result = Places::find().and_then(|places| match Xtask::parse().task {
        Task::Setup => setup(&places),
        Task::Run { plugin, args } => run(&places, &plugin, &args),
        Task::Test { filter } => test::run(&places, filter.as_deref()),
        Task::Fuzz(fuzz) => fuzz::run(&places, &fuzz),
        Task::Check => check::run(&places),
        Task::Soak { args } => soak(&places, &args),
        Task::Bench { name, args } => bench(&places, &name, &args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn setup(places: &Places) -> anyhow::Result<()> {
    setup::wasm_std()?;
    setup::test_clients()?;
    setup::python(places)?;
    setup::node(places)?;
    eprintln!("everything is installed");
    Ok(())
}

/// Replaces this process by the host, so that a signal reaches it directly.
fn run(places: &Places, plugin: &Path, args: &[OsString]) -> anyhow::Result<()> {
    let host = build::host(places, Profile::Dist)?;
    let source = plugin.with_extension("");
    let has_source = |folder: &Path| folder.join("plugin.toml").is_file();
    // As `nethost` does, a path is relative to where the command was given.
    if plugin.extension().is_some_and(|end| end == "wasm") && has_source(&source) {
        setup::wasm_std()?;
        build::plugins(places, &host, &[source])?;
    }
    let error = Cmd::new(&host)
        .arg("run")
        .arg(plugin)
        .args(args)
        .into_inner()
        .exec();
    Err(error).with_context(|| format!("running {}", host.display()))
}

fn soak(places: &Places, args: &[OsString]) -> anyhow::Result<()> {
    setup::wasm_std()?;
    let host = build::host(places, Profile::Dist)?;
    build::stock_plugins(places, &host)?;
    let guests = places.target.join("guests");
    build::plugins_into(places, &host, &places.root.join("tests/guests"), &guests)?;
    places
        .cargo()
        .args(["run", "--quiet", "--profile", Profile::Dist.name()])
        .args(["--package", "nethost-tests", "--bin", "soak", "--"])
        .args(args)
        .env("NETHOST_BIN", &host)
        .env("NETHOST_GUESTS", &guests)
        .run()
}

fn bench(places: &Places, name: &OsString, args: &[OsString]) -> anyhow::Result<()> {
    setup::wasm_std()?;
    setup::bench_peers()?;
    let host = build::host(places, Profile::Dist)?;
    build::stock_plugins(places, &host)?;
    places
        .cargo()
        .args([
            "run",
            "--quiet",
            "--profile",
            Profile::Dist.name(),
            "--package",
            "nethost-tests",
            "--bin",
            "bench",
            "--",
        ])
        .arg(name)
        .args(args)
        .env("NETHOST_BIN", &host)
        .run()
}
