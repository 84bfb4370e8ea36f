//! A directory that is granted to the scripted guest.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{DEADLINE, host::Run, places, scripted::Scripted};

/// A scratch folder with the granted directory `inside` and, beside it, what nobody must reach: `outside` with the file `secret`.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// The guest, which knows the directory as `d`.
    pub plugin: Scripted,
}

impl Disk {
    /// Makes one that may be written to.
    pub fn new(name: &str) -> Self {
        Self::with(name, ":rw", |run| run)
    }

    /// Makes one with this mode, and more arguments.
    pub fn with(name: &str, mode: &str, change: impl FnOnce(Run) -> Run) -> Self {
        Self::prepared(name, mode, |run, _| change(run))
    }

    /// As before; what changes the run knows the scratch folder as well.
    pub fn prepared(name: &str, mode: &str, change: impl FnOnce(Run, &Path) -> Run) -> Self {
        let folder = places::scratch(&format!("disk-{name}"));
        for part in ["inside", "outside"] {
            fs::create_dir(folder.join(part)).expect("a scratch folder");
        }
        fs::write(folder.join("outside/secret"), "secret").expect("a scratch file");
        let grant = format!("d={}{mode}", folder.join("inside").display());
        let mut plugin =
            Scripted::start_with(|run| change(run.arguments(["--dir", &grant]), &folder));
        plugin.ask("dir-grant d");
        Self { folder, plugin }
    }

    /// Returns the granted directory.
    pub fn inside(&self) -> PathBuf {
        self.folder.join("inside")
    }

    /// Returns the folder beside it.
    pub fn outside(&self) -> PathBuf {
        self.folder.join("outside")
    }

    /// Puts a file there.
    pub fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.inside().join(path), contents).expect("a scratch file");
    }

    /// Returns what is in a file.
    pub fn contents(&self, path: &str) -> Vec<u8> {
        fs::read(self.inside().join(path)).expect("a scratch file")
    }

    /// Runs a command and returns what its operation came to, without the words for people.
    pub fn done(&mut self, command: &str) -> String {
        let operation = self.plugin.started(command);
        self.outcome(operation)
    }

    /// Returns what an operation came to.
    pub fn outcome(&mut self, operation: u64) -> String {
        let outcome = self.plugin.event(&format!("completed {operation}"));
        let outcome = outcome.trim_end().to_owned();
        match outcome.strip_prefix("error ") {
            Some(error) => error.split(' ').next().unwrap_or_default().to_owned(),
            None => outcome,
        }
    }

    /// Opens a file and keeps it under a name.
    pub fn open(&mut self, path: &str, opening: &str, name: &str) -> String {
        let operation = self
            .plugin
            .started(&format!("dir-open d {path} {opening} {name}"));
        let outcome = self.outcome(operation);
        if outcome == "ready" {
            self.plugin.ask(&format!("dir-take {operation}"))
        } else {
            outcome
        }
    }

    /// Tells kind and size of what is there, or the error.
    pub fn stat(&mut self, path: &str) -> String {
        let operation = self.plugin.started(&format!("dir-stat d {path}"));
        let outcome = self.outcome(operation);
        if outcome != "ready" {
            return outcome;
        }
        let metadata = self.plugin.ask(&format!("dir-metadata {operation}"));
        let words: Vec<_> = metadata.split(' ').take(2).collect();
        words.join(" ")
    }

    /// Waits until the host watches a directory.
    pub fn until_watching(&self) {
        let descriptors = format!("/proc/{}/fdinfo", self.plugin.host.pid());
        let deadline = Instant::now() + DEADLINE;
        loop {
            let descriptors = fs::read_dir(&descriptors).expect("the host runs");
            let is_watching = descriptors
                .flatten()
                .filter_map(|entry| fs::read_to_string(entry.path()).ok())
                .any(|info| info.contains("inotify wd:"));
            if is_watching {
                return;
            }
            assert!(Instant::now() < deadline, "nothing is watched");
        }
    }

    /// Lists a page: where to go on, how many names there were that no text has, and the entries.
    pub fn list(&mut self, path: &str, start: &str) -> (String, String, Vec<String>) {
        let operation = self.plugin.started(&format!("dir-list d {path} {start}"));
        assert_eq!(self.outcome(operation), "ready");
        let page = self.plugin.ask(&format!("dir-page {operation}"));
        let mut words = page.split(' ').map(str::to_owned);
        let (next, unnameable) = (words.next(), words.next());
        (
            next.unwrap_or_default(),
            unnameable.unwrap_or_default(),
            words.collect(),
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("a scratch folder");
    }
}

/// Returns whether there is anything at a path, a link that leads nowhere included.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
