//! Where the host's program, the plugins and the guests are; each missing one is a panic that names the command that makes it.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Returns a call of the host's program: `NETHOST_BIN`, else the one that cargo built beside this test.
pub fn host() -> Command {
    let program = match env::var_os("NETHOST_BIN") {
        Some(program) => PathBuf::from(program),
        None => profile_folder().join("nethost"),
    };
    assert!(
        program.is_file(),
        "the host is not built: {} is missing; run `cargo xtask test`",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").env_remove("NETHOST_LOG");
    // Who runs the tests may have a host of their own there.
    command.env_remove("XDG_RUNTIME_DIR");
    command
}

/// Returns the root of this checkout.
pub fn root() -> &'static Path {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.expect("`tests` lies in the checkout")
}

/// Returns the component of a stock plugin.
pub fn plugin(name: &str) -> PathBuf {
    let path = root().join("plugins").join(name).with_extension("wasm");
    assert!(
        path.is_file(),
        "{} is missing: run `nethost build plugins/{name}`, or `cargo xtask test`",
        path.display()
    );
    path
}

/// Returns every stock plugin: the folders of `plugins` with a `plugin.toml`, and their components.
pub fn stock_plugins() -> Vec<PathBuf> {
    let names = folders(&root().join("plugins"));
    names.iter().map(|name| plugin(name)).collect()
}

/// Returns the component of a guest of `tests/guests`.
///
/// In the folder `NETHOST_GUESTS` it was built before, by `cargo xtask test`. Otherwise a guest in Rust is built now.
pub fn guest(name: &str) -> PathBuf {
    let component = |folder: &Path| folder.join(name).with_extension("wasm");
    if let Some(folder) = env::var_os("NETHOST_GUESTS") {
        let path = component(Path::new(&folder));
        assert!(
            path.is_file(),
            "{} is missing: run `cargo xtask test`",
            path.display()
        );
        return path;
    }
    let path = component(&target_folder().join("guests"));
    let once = {
        static BUILDS: OnceLock<Mutex<HashMap<String, Arc<OnceLock<()>>>>> = OnceLock::new();
        let builds = BUILDS.get_or_init(Mutex::default).lock();
        let mut builds = builds.unwrap_or_else(PoisonError::into_inner);
        builds.entry(name.to_owned()).or_default().clone()
    };
    once.get_or_init(|| build(name, &path));
    path
}

/// Returns the component of a guest in another language, which only `cargo xtask test` builds. None if it is not there and `NETHOST_GUESTS` does not
/// say that it must be.
pub fn foreign_guest(name: &str) -> Option<PathBuf> {
    if env::var_os("NETHOST_GUESTS").is_some() {
        return Some(guest(name));
    }
    let path = target_folder()
        .join("guests")
        .join(name)
        .with_extension("wasm");
    path.is_file().then_some(path)
}

/// Returns the Python that has what `xtask/requirements.txt` pins: `NETHOST_PYTHON`, else the one in `~/.cache/nethost/venv`. None if it is not
/// there and `NETHOST_PYTHON` does not say that it must be.
pub fn python() -> Option<PathBuf> {
    let folder = |name| {
        let value = env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(python) = folder("NETHOST_PYTHON") {
        assert!(
            python.is_file(),
            "{} is missing: run `cargo xtask test`",
            python.display()
        );
        return Some(python);
    }
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let python = cache?.join("nethost/venv/bin/python");
    python.is_file().then_some(python)
}

/// Returns the names of the folders in `folder` that are plugins, in order.
pub fn folders(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir();
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("plugin.toml").is_file())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Returns a folder of the test's own for sockets and files; it is emptied first.
pub fn scratch(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("nethost-tests-{}-{name}", std::process::id()));
    // There is none to remove the first time.
    let _ = std::fs::remove_dir_all(&folder);
    let made = std::fs::create_dir_all(&folder);
    made.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

fn build(name: &str, path: &Path) {
    let source = root().join("tests/guests").join(name);
    let target = target_folder();
    let output = host()
        .arg("build")
        .arg(&source)
        .arg("--out")
        .arg(path)
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("nethost build: {error}"));
    assert!(
        output.status.success(),
        "nethost build {}\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The folder of the profile that this test was built in: `target/release`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().unwrap_or_else(|error| panic!("where this test is: {error}"));
    let deps = test.parent().filter(|folder| folder.ends_with("deps"));
    let profile = deps.and_then(Path::parent).or_else(|| test.parent());
    profile.expect("a test lies in a folder").to_owned()
}

fn target_folder() -> PathBuf {
    let profile = profile_folder();
    let target = profile.parent();
    target
        .expect("the profile's folder lies in another")
        .to_owned()
}
