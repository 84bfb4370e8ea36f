//! The test guests: tiny components, most in Rust, and one per other language.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    build,
    command::{Cmd, say},
    places::Places,
    setup,
};

/// Builds every guest of `tests/guests`, and returns the folder with their components.
pub(crate) fn build_all(places: &Places, host: &Path) -> anyhow::Result<PathBuf> {
    let output = places.target.join("guests");
    let sources = places.root.join("tests/guests");
    if sources.is_dir() {
        build::plugins_into(places, host, &sources, &output)?;
        build_foreign(places, host, &sources, &output)?;
    }
    Ok(output)
}

/// The guests that cargo does not build, and what does.
const FOREIGN: &[(&str, Language)] = &[
    ("echo-c", c),
    ("echo-js", javascript),
    ("echo-python", python),
];

/// Makes a core module or a component without a manifest of the guest's sources, and returns where it is.
type Language = fn(&Guest<'_>) -> anyhow::Result<PathBuf>;

/// Builds the guests in other languages, side by side; one whose sources, tools and contract are the same as before is not looked at again.
fn build_foreign(
    places: &Places,
    host: &Path,
    sources: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (name, language) in FOREIGN {
        let guest = Guest {
            places,
            host,
            name,
            source: sources.join(name),
            work: output.join(name),
            component: output.join(name).with_extension("wasm"),
        };
        let reason = guest.fingerprint()?;
        if !guest.is_built_for(&reason) {
            stale.push((guest, language, reason));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    // The one set-up that more than one of them needs.
    setup::python(places)?;
    thread::scope(|scope| {
        let running: Vec<_> = stale
            .iter()
            .map(|(guest, language, reason)| scope.spawn(|| guest.build(**language, reason)))
            .collect();
        running.into_iter().try_for_each(|guest| {
            let result = guest.join();
            result.unwrap_or_else(|_| Err(anyhow!("building a guest panicked")))
        })
    })
}

/// One guest in another language than Rust.
struct Guest<'a> {
    places: &'a Places,
    host: &'a Path,
    name: &'a str,
    source: PathBuf,
    /// Where its build leaves what it needs on the way.
    work: PathBuf,
    component: PathBuf,
}

impl Guest<'_> {
    fn build(&self, language: Language, reason: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let context = || format!("building the test guest {}", self.name);
        fs::create_dir_all(&self.work).with_context(context)?;
        let made = language(self).with_context(context)?;
        let encode = Cmd::new(self.host)
            .arg("build")
            .arg(made)
            .arg("--manifest")
            .arg(self.source.join("plugin.toml"))
            .arg("--out")
            .arg(&self.component);
        quiet(encode).with_context(context)?;
        fs::write(self.stamp(), reason).with_context(context)?;
        let elapsed = start.elapsed().as_secs_f32();
        say(format_args!("built {} in {elapsed:.1}s", self.name));
        Ok(())
    }

    fn is_built_for(&self, reason: &str) -> bool {
        self.component.is_file()
            && fs::read_to_string(self.stamp()).is_ok_and(|done| done == reason)
    }

    fn stamp(&self) -> PathBuf {
        self.work.join(".nethost-stamp")
    }

    /// Changes with everything that the component is made of: its sources, the contract, the tools' versions, and how they are called.
    fn fingerprint(&self) -> anyhow::Result<String> {
        let mut hasher = DefaultHasher::new();
        TOOLS.hash(&mut hasher);
        for folder in [&self.source, &self.wit()] {
            hash_folder(folder, &mut hasher)?;
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn wit(&self) -> PathBuf {
        self.places.root.join("wit")
    }
}

/// C: bindings from the generator behind `wit-bindgen c`, zig's clang and its C library.
fn c(guest: &Guest<'_>) -> anyhow::Result<PathBuf> {
    let target = guest.places.cache.join("c-bindings");
    let bindings = guest
        .places
        .cargo()
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(guest.source.join("bindings/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target);
    quiet(bindings)?;
    let generator = target.join("debug/echo-c-bindings");
    quiet(Cmd::new(generator).arg(guest.wit()).arg(&guest.work))?;

    let module = guest.work.join("core.wasm");
    let compile = Cmd::new(setup::python(guest.places)?.join("python"))
        .args(["-m", "ziglang", "cc", "-target", "wasm32-wasi"])
        .args(["-mexec-model=reactor", "-Os", "-Wall", "-Wextra"])
        .args(["-Wno-unused-parameter", "-I"])
        .arg(&guest.work)
        .arg(guest.source.join("echo.c"))
        .arg(guest.work.join("stream_plugin.c"))
        // The contract, in a custom section that `nethost build` reads.
        .arg(guest.work.join("stream_plugin_component_type.o"))
        .arg("-o")
        .arg(&module)
        // zig compiles its C library at the first use and keeps it there.
        .env("ZIG_GLOBAL_CACHE_DIR", guest.places.cache.join("zig"));
    quiet(compile)?;
    Ok(module)
}

/// Python: the interpreter, with the guest imported already.
fn python(guest: &Guest<'_>) -> anyhow::Result<PathBuf> {
    // A copy, because the interpreter leaves its `__pycache__` beside what it imports.
    let copy = guest.work.join("source");
    fs::create_dir_all(&copy)?;
    fs::copy(guest.source.join("echo.py"), copy.join("echo.py"))?;
    let component = guest.work.join("component.wasm");
    let componentize = Cmd::new(setup::python(guest.places)?.join("componentize-py"))
        .arg("--quiet")
        .arg("--wit-path")
        .arg(guest.wit())
        .args(["--world", "stream-plugin", "componentize", "--stub-wasi"])
        .arg("--python-path")
        .arg(copy)
        .arg("--output")
        .arg(&component)
        .arg("echo");
    quiet(componentize)?;
    Ok(component)
}

/// JavaScript: the engine, with the guest loaded already.
fn javascript(guest: &Guest<'_>) -> anyhow::Result<PathBuf> {
    let component = guest.work.join("component.wasm");
    let componentize = Cmd::new("node")
        .args(["--input-type=module", "--eval", COMPONENTIZE])
        .arg(guest.source.join("echo.js"))
        .arg(guest.wit())
        .arg(&component)
        // Packages are looked for from here.
        .current_dir(setup::node(guest.places)?);
    quiet(componentize)?;
    Ok(component)
}

/// Each feature that is not disabled would import something of WASI.
const COMPONENTIZE: &str = "
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';
const [sourcePath, witPath, output] = process.argv.slice(1);
const disableFeatures = ['stdio', 'random', 'clocks', 'http', 'fetch-event'];
const { component } = await componentize({ sourcePath, witPath, worldName: 'stream-plugin', disableFeatures });
await writeFile(output, component);
";

/// What decides which tools make the guests, and how.
const TOOLS: [&str; 4] = [
    include_str!("guests.rs"),
    include_str!("../requirements.txt"),
    include_str!("../package.json"),
    include_str!("../package-lock.json"),
];

/// Runs a program whose output matters only if it fails: more than one runs at a time.
fn quiet(cmd: Cmd) -> anyhow::Result<()> {
    let shown = cmd.shown();
    let output = cmd
        .into_inner()
        .output()
        .with_context(|| format!("running `{shown}`"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        bail!("`{shown}` failed ({}):\n{}", output.status, said.trim());
    }
    Ok(())
}

/// Names and contents of all files, in order.
fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) -> anyhow::Result<()> {
    let context = || format!("reading {}", folder.display());
    let entries = fs::read_dir(folder).with_context(context)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(context)?;
    paths.sort();
    for path in paths {
        path.file_name().hash(hasher);
        if path.is_dir() {
            hash_folder(&path, hasher)?;
        } else {
            let contents = fs::read(&path);
            contents
                .with_context(|| format!("reading {}", path.display()))?
                .hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_built_again_only_for_what_it_is_made_of() {
        let root = std::env::temp_dir().join(format!("nethost-guests-{}", std::process::id()));
        let source = root.join("tests/guests/echo-c");
        for folder in [&source, &root.join("wit")] {
            fs::create_dir_all(folder).unwrap();
        }
        let places = Places {
            cache: root.join("cache"),
            target: root.join("target"),
            root: root.clone(),
        };
        let guest = Guest {
            places: &places,
            host: Path::new("nethost"),
            name: "echo-c",
            work: root.join("target"),
            component: root.join("echo-c.wasm"),
            source: source.clone(),
        };
        let mut before = String::new();
        for (file, contents, changes) in [
            (source.join("echo.c"), "a", true),
            (source.join("echo.c"), "b", true),
            (source.join("echo.c"), "b", false),
            (root.join("wit/handler.wit"), "b", true),
            (root.join("README.md"), "b", false),
        ] {
            fs::write(&file, contents).unwrap();
            let now = guest.fingerprint().unwrap();
            assert_eq!(now != before, changes, "{}", file.display());
            before = now;
        }
        fs::remove_dir_all(root).unwrap();
    }
}
