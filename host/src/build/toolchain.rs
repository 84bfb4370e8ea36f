//! Where a standard library for `wasm32-wasip1` comes from.
//!
//! Three ways, in this order: the active toolchain has the target; rustup adds it; Debian's compiler builds it from source, once per target folder.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo is called with so that it can compile for `wasm32-wasip1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Toolchain {
    /// Arguments of `cargo build`.
    pub(super) arguments: Vec<&'static str>,
    /// Environment variables of cargo.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

/// Finds the toolchain once per run and folder of cargo's results.
#[derive(Debug, Default)]
pub(super) struct Toolchains {
    found: Vec<(PathBuf, Toolchain)>,
    /// Whether rustup was asked for the target, in vain.
    rustup_refused: bool,
}

impl Toolchains {
    /// The toolchain for the crate in `source`, whose results go to `target_dir`.
    pub(super) fn find(
        &mut self,
        source: &Path,
        target_dir: &Path,
    ) -> Result<Toolchain, NoToolchain> {
        let sysroot = PathBuf::from(rustc(source, "sysroot")?);
        if let Some((_, toolchain)) = self.found.iter().find(|(known, _)| *known == sysroot) {
            return Ok(toolchain.clone());
        }
        let toolchain = self.choose(source, target_dir, &sysroot)?;
        self.found.push((sysroot, toolchain.clone()));
        Ok(toolchain)
    }

    fn choose(
        &mut self,
        source: &Path,
        target_dir: &Path,
        sysroot: &Path,
    ) -> Result<Toolchain, NoToolchain> {
        if has_target(sysroot) {
            return Ok(Toolchain::default());
        }
        let system = System::at(Path::new("/"), sysroot, &rustc(source, "host-tuple")?);
        let stamp = target_dir.join(DEBIAN_STAMP);
        // Once the library was built here there is no reason to ask the network again, and to build everything anew if it answers.
        if stamp.is_file()
            && let Ok(toolchain) = system.toolchain()
        {
            return Ok(toolchain);
        }
        if !self.rustup_refused {
            match add_target(source) {
                Ok(()) if has_target(sysroot) => return Ok(Toolchain::default()),
                Ok(()) => {
                    eprintln!("rustup added {TARGET} to another toolchain than the active one")
                }
                Err(refusal) => eprintln!("rustup cannot add {TARGET}: {refusal}"),
            }
            self.rustup_refused = true;
        }
        let toolchain = system.toolchain().map_err(|missing| NoToolchain::Nothing {
            debian: missing,
            advice: advice(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        })?;
        eprintln!(
            "using the system's rustc, which builds the standard library for {TARGET}: the first time takes about a minute"
        );
        // A stamp that cannot be written costs the next run a question to rustup, nothing else.
        let _ = fs::create_dir_all(target_dir).and_then(|()| fs::write(stamp, ""));
        Ok(toolchain)
    }
}

/// Why no standard library for `wasm32-wasip1` was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoToolchain {
    /// There is no working Rust compiler at all.
    #[error("cannot run `rustc`: is Rust installed?")]
    NoRustc(#[source] io::Error),
    /// The compiler does not answer.
    #[error("`rustc --print {what}` failed: {reason}")]
    Rustc {
        /// What it was asked.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// None of the three ways works. What rustup said was printed already.
    #[error(
        "no standard library for {TARGET}: the active toolchain has none, rustup cannot add it, and the system's compiler cannot build it ({debian}). {advice}"
    )]
    Nothing {
        /// What the system lacks.
        debian: String,
        /// What to install.
        advice: &'static str,
    },
}

/// The files of Debian's packages by which the standard library is built.
#[derive(Debug)]
struct System {
    rustc: PathBuf,
    library: PathBuf,
    libc: PathBuf,
    linkers: [PathBuf; 3],
}

impl System {
    fn at(root: &Path, sysroot: &Path, host: &str) -> Self {
        let tools = |sysroot: &Path| sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
        Self {
            rustc: root.join("usr/bin/rustc"),
            library: root.join("usr/lib/rustlib/src/rust/library/std/Cargo.toml"),
            libc: root.join("usr/lib/wasm32-wasi"),
            linkers: [
                tools(sysroot),
                tools(&root.join("usr")),
                root.join("usr/bin/wasm-ld"),
            ],
        }
    }

    /// The toolchain of what is there, or what is not, in words.
    fn toolchain(&self) -> Result<Toolchain, String> {
        let startup = self.libc.join("crt1-reactor.o");
        let linker = self.linkers.iter().find(|linker| linker.is_file());
        let mut missing = Vec::new();
        for (file, package) in [
            (&self.rustc, "rustc-web"),
            (&self.library, "rust-web-src"),
            (&startup, "wasi-libc"),
        ] {
            if !file.is_file() {
                missing.push(format!("`{}` of the package {package}", file.display()));
            }
        }
        let Some(linker) = linker.filter(|_| missing.is_empty()) else {
            if linker.is_none() {
                missing.push("a linker (`rust-lld` or `wasm-ld`)".to_owned());
            }
            return Err(format!("missing: {}", missing.join(", ")));
        };
        // The user's own flags for this target stay, and ours come after them.
        let mut flags = std::env::var_os(FLAGS).unwrap_or_default();
        flags.push(" -L");
        flags.push(&self.libc);
        flags.push(" -Clink-self-contained=no -Clink-arg=");
        flags.push(&startup);
        Ok(Toolchain {
            arguments: vec!["-Zbuild-std=std,panic_abort"],
            environment: vec![
                ("RUSTC", self.rustc.clone().into()),
                ("RUSTC_BOOTSTRAP", "1".into()),
                ("CARGO_TARGET_WASM32_WASIP1_LINKER", linker.into()),
                (FLAGS, flags),
            ],
        })
    }
}

fn has_target(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib")
        .is_dir()
}

fn rustc(source: &Path, what: &'static str) -> Result<String, NoToolchain> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .args(["--print", what])
        .current_dir(source)
        .output()
        .map_err(NoToolchain::NoRustc)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(NoToolchain::Rustc {
        what,
        reason: last_line(&output.stderr),
    })
}

/// Asks rustup for the target; without a network it says no within seconds.
fn add_target(source: &Path) -> Result<(), String> {
    eprintln!("asking rustup for {TARGET}");
    let output = Command::new("rustup")
        .args(["target", "add", TARGET])
        .env("RUSTUP_MAX_RETRIES", "0")
        .env("RUST_BACKTRACE", "0")
        .current_dir(source)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it is not installed".to_owned(),
            _ => error.to_string(),
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(last_line(&output.stderr))
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let line = line.unwrap_or("it said nothing");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// What to install on the system of this `/etc/os-release`.
fn advice(os_release: &str) -> &'static str {
    let is = |name: &str| {
        os_release
            .lines()
            .filter_map(|line| {
                line.strip_prefix("ID=")
                    .or_else(|| line.strip_prefix("ID_LIKE="))
            })
            .any(|ids| ids.trim_matches('"').split(' ').any(|id| id == name))
    };
    if is("debian") {
        "Install it with `rustup target add wasm32-wasip1`, or without rustup's server: `apt-get install rustc-web rust-web-src wasi-libc`"
    } else if is("fedora") {
        "Install it with `rustup target add wasm32-wasip1`, or for Fedora's own Rust: `dnf install rust-std-static-wasm32-wasip1`"
    } else if is("arch") {
        "Install it with `rustup target add wasm32-wasip1`, or for Arch's own Rust: `pacman -S rust-wasm`"
    } else {
        "Install it with `rustup target add wasm32-wasip1`"
    }
}

/// The target that plugins are compiled for.
pub(super) const TARGET: &str = "wasm32-wasip1";

const FLAGS: &str = "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS";

/// Its presence says that the target folder holds a standard library that the system's compiler built.
const DEBIAN_STAMP: &str = ".nethost-std-from-system";

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn the_system_is_complete_only_with_all_its_parts() {
        let root = std::env::temp_dir().join(format!("nethost-toolchain-{}", std::process::id()));
        let sysroot = root.join("rustup");
        let system = || System::at(&root, &sysroot, "x86_64-unknown-linux-gnu").toolchain();
        for (file, missing) in [
            ("usr/bin/rustc", "rustc-web"),
            (
                "usr/lib/rustlib/src/rust/library/std/Cargo.toml",
                "rust-web-src",
            ),
            ("usr/lib/wasm32-wasi/crt1-reactor.o", "wasi-libc"),
            ("usr/bin/wasm-ld", "a linker"),
        ] {
            let reason = system().unwrap_err();
            assert!(reason.contains(missing), "{reason}");
            touch(root.join(file));
        }
        let toolchain = system().unwrap();
        assert_eq!(toolchain.arguments, ["-Zbuild-std=std,panic_abort"]);
        assert!(toolchain.environment.contains(&(
            "CARGO_TARGET_WASM32_WASIP1_LINKER",
            root.join("usr/bin/wasm-ld").into()
        )));

        // The linker of the active toolchain comes first.
        let linker = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
        touch(linker.clone());
        assert!(
            system()
                .unwrap()
                .environment
                .contains(&("CARGO_TARGET_WASM32_WASIP1_LINKER", linker.into()))
        );

        assert!(!has_target(&sysroot));
        touch(sysroot.join("lib/rustlib/wasm32-wasip1/lib/self-contained/libc.a"));
        assert!(has_target(&sysroot));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn advice_names_the_packages_of_the_system() {
        for (os_release, expected) in [
            (
                "ID=debian\n",
                "apt-get install rustc-web rust-web-src wasi-libc",
            ),
            ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", "apt-get install"),
            ("ID=fedora\n", "dnf install rust-std-static-wasm32-wasip1"),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                "dnf install",
            ),
            ("ID=arch\n", "pacman -S rust-wasm"),
            ("ID=nixos\n", "rustup target add wasm32-wasip1"),
            ("", "rustup target add wasm32-wasip1"),
        ] {
            assert!(advice(os_release).contains(expected), "{os_release}");
        }
    }

    #[test]
    fn the_last_line_of_a_tools_complaint_is_kept() {
        assert_eq!(
            last_line(b"info: syncing\nerror: no network\n\n"),
            "no network"
        );
        assert_eq!(last_line(b""), "it said nothing");
    }
}
