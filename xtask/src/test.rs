//! `cargo xtask test`: every test of the workspace, counted.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use anyhow::{Context as _, bail};

use crate::{build, command::say, guests, places::Places, setup};

/// Builds what the tests run, then runs them. The last line of the output is `N passed, N failed`.
///
/// Tests find the host in `NETHOST_BIN`, the guests' components in the folder `NETHOST_GUESTS`, and a Python with the client libraries
/// of `requirements.txt` in `NETHOST_PYTHON`.
pub(crate) fn run(places: &Places, filter: Option<&str>) -> anyhow::Result<()> {
    setup::wasm_std()?;
    setup::test_clients()?;
    let host = build::host(places, build::Profile::Release)?;
    build::stock_plugins(places, &host)?;
    let guests = guests::build_all(places, &host)?;
    let python = setup::python(places)?;

    say("testing");
    let mut cargo = places
        .cargo()
        .args([
            "test",
            "--release",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ])
        .args(filter)
        .env("NETHOST_BIN", &host)
        .env("NETHOST_GUESTS", &guests)
        .env("NETHOST_PYTHON", python.join("python"))
        .into_inner();
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        let mut shown = io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            shown.write_all(&line)?;
            shown.write_all(b"\n")?;
            count.add(&String::from_utf8_lossy(&line));
        }
    }
    let status = child.wait()?;
    let Count { passed, failed } = count;
    println!("{passed} passed, {failed} failed");
    if !status.success() || failed > 0 {
        bail!("not every test passed");
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    /// Adds what one test program says in the end: `test result: ok. 3 passed; 0 failed; ...`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_programs_are_summed() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a_test ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "4 passed; 4 failed",
        ] {
            count.add(line);
        }
        assert_eq!(
            count,
            Count {
                passed: 13,
                failed: 2
            }
        );
    }
}
