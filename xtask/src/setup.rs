//! What is installed, and why. Nothing here is done twice: what is there is not asked for again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    command::{Cmd, program, say},
    places::Places,
};

/// The Debian packages without which something does not work.
const PACKAGES: &[Package] = &[
    Package {
        name: "rustc-web",
        why: "a compiler of the same version as rust-web-src's standard library",
        purpose: Purpose::WasmStd,
    },
    Package {
        name: "rust-web-src",
        why: "the standard library's source, for wasm32-wasip1",
        purpose: Purpose::WasmStd,
    },
    Package {
        name: "wasi-libc",
        why: "the C library under the standard library of wasm32-wasip1",
        purpose: Purpose::WasmStd,
    },
    Package {
        name: "g++",
        why: "libFuzzer, which looks for inputs that break something, is C++",
        purpose: Purpose::Cpp,
    },
    Package {
        name: "nginx-light",
        why: "`bench send-file` is compared with it",
        purpose: Purpose::Benches,
    },
    Package {
        name: "wrk",
        why: "`bench http` loads servers with it",
        purpose: Purpose::Benches,
    },
    Package {
        name: "curl",
        why: "HTTP is spoken by the client that everybody has",
        purpose: Purpose::Tests,
    },
    Package {
        name: "chromium",
        why: "a browser shows listings and downloads",
        purpose: Purpose::Tests,
    },
    Package {
        name: "openssl",
        why: "certificates are read, and TLS is spoken, by another implementation",
        purpose: Purpose::Tests,
    },
    Package {
        name: "gnutls-bin",
        why: "TLS is spoken by a third implementation",
        purpose: Purpose::Tests,
    },
    Package {
        name: "testssl.sh",
        why: "looks for weaknesses of TLS listeners",
        purpose: Purpose::Tests,
    },
    Package {
        name: "systemd",
        why: "its systemd-analyze looks at the unit in dist/",
        purpose: Purpose::Tests,
    },
    Package {
        name: "knot",
        why: "the plugin dns is compared with it, and it transfers zones",
        purpose: Purpose::Tests,
    },
    Package {
        name: "knot-dnsutils",
        why: "its kdig asks the plugin dns",
        purpose: Purpose::Tests,
    },
    Package {
        name: "bind9-dnsutils",
        why: "its dig asks the plugin dns",
        purpose: Purpose::Tests,
    },
    Package {
        name: "ldnsutils",
        why: "its drill asks the plugin dns",
        purpose: Purpose::Tests,
    },
    Package {
        name: "knot",
        why: "`bench dns` is compared with it",
        purpose: Purpose::Benches,
    },
    Package {
        name: "nsd",
        why: "`bench dns` is compared with it",
        purpose: Purpose::Benches,
    },
    Package {
        name: "dnsperf",
        why: "`bench dns` asks with it",
        purpose: Purpose::Benches,
    },
    Package {
        name: "prometheus",
        why: "its promtool looks for faults in metrics",
        purpose: Purpose::Tests,
    },
    Package {
        name: "python3-venv",
        why: "the tests' own Python packages, apart from the system's",
        purpose: Purpose::Venv,
    },
    Package {
        name: "nodejs",
        why: "the guest in JavaScript is built with it",
        purpose: Purpose::Node,
    },
    Package {
        name: "npm",
        why: "what the guest in JavaScript is built with comes from npm",
        purpose: Purpose::Node,
    },
];

struct Package {
    name: &'static str,
    why: &'static str,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To compile plugins, where rustup cannot provide the target.
    WasmStd,
    /// To test with other implementations' clients.
    Tests,
    /// Where there is no C++ compiler.
    Cpp,
    /// To measure against.
    Benches,
    /// Where `python3 -m venv` does not work without it.
    Venv,
    /// Where there is no Node.js.
    Node,
}

/// The Python packages for tests and for guests in C and Python, with their versions.
const PYTHON_PACKAGES: &str = include_str!("../requirements.txt");

/// The npm packages for guests in JavaScript, with their versions.
const NPM_PACKAGES: &str = include_str!("../package.json");

/// What those packages need in turn, each with its checksum.
const NPM_LOCK: &str = include_str!("../package-lock.json");

/// Makes sure that there is a standard library for plugins. The ways are those of `nethost build`, which takes the same one.
pub(crate) fn wasm_std() -> anyhow::Result<()> {
    if has_wasm_target() || is_installed(Purpose::WasmStd) {
        return Ok(());
    }
    say("adding the target wasm32-wasip1 with rustup");
    // A network that swallows packets must not hang the set-up.
    let rustup = Cmd::new("timeout")
        .args(["120", "rustup", "target", "add", "wasm32-wasip1"])
        .env("RUSTUP_MAX_RETRIES", "0")
        .env("RUST_BACKTRACE", "0");
    if rustup.answer().is_some() && has_wasm_target() {
        return Ok(());
    }
    say("rustup cannot add it: Debian's compiler will build its standard library");
    install(Purpose::WasmStd)
}

/// Installs the programs that tests talk to the host with.
pub(crate) fn test_clients() -> anyhow::Result<()> {
    install(Purpose::Tests)
}

/// Makes sure that there is a C++ compiler, whichever.
pub(crate) fn cpp() -> anyhow::Result<()> {
    let is_there = ["c++", "g++", "clang++"]
        .iter()
        .any(|name| program(name).is_some());
    match is_there {
        true => Ok(()),
        false => install(Purpose::Cpp),
    }
}

/// Installs the programs that benchmarks are compared with.
pub(crate) fn bench_peers() -> anyhow::Result<()> {
    install(Purpose::Benches)
}

/// Installs the pinned Python packages apart from the system's, and returns the folder with their programs.
pub(crate) fn python(places: &Places) -> anyhow::Result<PathBuf> {
    let venv = places.cache.join("venv");
    let version = Cmd::new("python3").arg("--version").answer();
    let version = version.context("python3 is not installed")?;
    once(&venv, &format!("{version}\n{PYTHON_PACKAGES}"), || {
        let works = Cmd::new("python3")
            .args(["-c", "import ensurepip, venv"])
            .answer()
            .is_some();
        if !works {
            install(Purpose::Venv)?;
        }
        say("installing Python packages");
        Cmd::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv)
            .run()?;
        let list = venv.join("requirements.txt");
        fs::write(&list, PYTHON_PACKAGES)?;
        Cmd::new(venv.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(&list)
            .run()
    })?;
    Ok(venv.join("bin"))
}

/// Installs the pinned npm packages, and returns the folder that holds `node_modules`.
pub(crate) fn node(places: &Places) -> anyhow::Result<PathBuf> {
    let folder = places.cache.join("npm");
    if program("node").is_none() || program("npm").is_none() {
        install(Purpose::Node)?;
    }
    let version = Cmd::new("node").arg("--version").answer();
    let version = version.context("node does not run")?;
    let reason = format!("{version}\n{NPM_PACKAGES}\n{NPM_LOCK}");
    once(&folder, &reason, || {
        say("installing npm packages");
        fs::write(folder.join("package.json"), NPM_PACKAGES)?;
        fs::write(folder.join("package-lock.json"), NPM_LOCK)?;
        Cmd::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&folder)
            .run()
    })?;
    Ok(folder)
}

/// Does something into a folder, unless it was done for the same `reason` before.
pub(crate) fn once(
    folder: &Path,
    reason: &str,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = folder.join(".nethost-stamp");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == reason) {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    work()?;
    fs::write(&stamp, reason).with_context(|| format!("writing {}", stamp.display()))
}

fn has_wasm_target() -> bool {
    Cmd::new("rustc")
        .args(["--print", "sysroot"])
        .answer()
        .is_some_and(|sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/wasm32-wasip1/lib")
                .is_dir()
        })
}

fn packages(purpose: Purpose) -> impl Iterator<Item = &'static Package> {
    PACKAGES
        .iter()
        .filter(move |package| package.purpose == purpose)
}

fn is_installed(purpose: Purpose) -> bool {
    packages(purpose).all(|package| {
        Cmd::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package.name])
            .answer()
            .is_some_and(|status| status == "installed")
    })
}

/// Installs the Debian packages of a kind that are missing; who may not, is told the command.
fn install(purpose: Purpose) -> anyhow::Result<()> {
    if is_installed(purpose) {
        return Ok(());
    }
    let names: Vec<&str> = packages(purpose).map(|package| package.name).collect();
    for package in packages(purpose) {
        say(format_args!(
            "needed: Debian's {} ({})",
            package.name, package.why
        ));
    }
    let command = format!("apt-get install {}", names.join(" "));
    if program("apt-get").is_none() {
        bail!(
            "this is not Debian: install what it calls {}",
            names.join(", ")
        );
    }
    if Cmd::new("id").arg("-u").answer().as_deref() != Some("0") {
        bail!("only root can install packages: run `sudo {command}`, then this again");
    }
    let _quiet = NoDaemons::begin();
    let apt = |arguments: &[&str]| {
        Cmd::new("apt-get")
            .args(["--quiet", "--yes", "--no-install-recommends"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
    };
    let install: Vec<&str> = std::iter::once("install").chain(names).collect();
    if apt(&install).run().is_err() {
        say("package lists may be old: updating them");
        apt(&["update"]).run()?;
        apt(&install).run()?;
    }
    Ok(())
}

/// While it lives, packages do not start their daemons.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    /// A policy that is there already is the administrator's, and stays.
    fn begin() -> Self {
        let policy = Path::new(POLICY);
        let ours = !policy.exists() && fs::write(policy, "#!/bin/sh\nexit 101\n").is_ok();
        if ours {
            use std::os::unix::fs::PermissionsExt as _;
            // Without the bit the policy is ignored, which is no reason not to install.
            let _ = fs::set_permissions(policy, fs::Permissions::from_mode(0o755));
        }
        Self { ours }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// What Debian's packages ask before they start a daemon.
const POLICY: &str = "/usr/sbin/policy-rc.d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_per_reason() {
        let folder = std::env::temp_dir().join(format!("nethost-xtask-{}", std::process::id()));
        let mut times = 0;
        for (reason, expected) in [("a 1", 1), ("a 1", 1), ("a 2", 2)] {
            once(&folder, reason, || {
                times += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(times, expected);
        }
        // What failed is tried again.
        assert!(once(&folder, "a 3", || bail!("no network")).is_err());
        once(&folder, "a 3", || Ok(())).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn every_version_is_pinned() {
        for line in PYTHON_PACKAGES
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            assert!(line.contains("=="), "{line}");
        }
        for line in NPM_PACKAGES.lines().filter(|line| line.contains('@')) {
            assert!(!line.contains(['^', '~', '*']), "{line}");
        }
    }
}
