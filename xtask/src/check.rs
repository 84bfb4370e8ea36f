//! `cargo xtask check`: what has to hold beside the tests.

use crate::{
    command::{Cmd, say},
    places::Places,
    setup,
};

/// Formatting, lints, documentation, licences; the first that fails ends it.
pub(crate) fn run(places: &Places) -> anyhow::Result<()> {
    say("formatting");
    places.cargo().args(["fmt", "--all", "--check"]).run()?;
    say("lints");
    places
        .cargo()
        .args([
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--locked",
        ])
        .args(["--", "--deny", "warnings"])
        .run()?;
    say("documentation");
    places
        .cargo()
        .args([
            "doc",
            "--release",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--locked",
        ])
        .env("RUSTDOCFLAGS", "--deny warnings")
        .run()?;
    licences(places)
}

/// Checks licences and sources of all dependencies, if the tool can be installed.
fn licences(places: &Places) -> anyhow::Result<()> {
    let tools = places.cache.join("tools");
    let install = setup::once(&tools, CARGO_DENY, || {
        say("installing cargo-deny, which takes some minutes, once");
        places
            .cargo()
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                CARGO_DENY,
                "--root",
            ])
            .arg(&tools)
            .run()
    });
    if let Err(error) = install {
        say(format_args!("licences are not checked: {error:#}"));
        return Ok(());
    }
    say("licences");
    Cmd::new(tools.join("bin/cargo-deny"))
        .args(["--locked", "check", "licenses", "bans", "sources"])
        .current_dir(&places.root)
        .run()
}

/// The version of cargo-deny that is installed.
const CARGO_DENY: &str = "0.20.2";
