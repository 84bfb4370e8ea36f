//! Core dumps: what a plugin's memory and stack were when it broke, written to a folder that the operator names.
//!
//! The format is that of <https://github.com/WebAssembly/tool-conventions/blob/main/Coredump.md>: a module with custom sections `core` and `corestack`. A dump is made on the worker,
//! because an instance cannot leave it, so it is bounded: none of an instance with more than [`LARGEST_MEMORY`], and one in [`PAUSE`]. It is written by a thread of its own.
//! As long as nothing breaks it costs nothing: wasmtime looks for it only on the way out of a trap.

use std::{
    fmt,
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, accessat, openat,
    renameat_with, statat, unlinkat,
};
use thiserror::Error;
use wasmtime::Store;

use crate::{instance::State, manifest::Manifest};

/// A folder for core dumps, and the thread that writes them.
pub struct Dumps {
    path: PathBuf,
    queue: Mutex<Queue>,
}

struct Queue {
    /// None once [`Dumps::finish`] was called.
    sender: Option<SyncSender<Dump>>,
    /// Says when the thread has ended.
    ended: Receiver<()>,
    last: Option<Instant>,
    count: u64,
}

/// A dump that is to be written.
struct Dump {
    name: String,
    bytes: Vec<u8>,
}

/// What became of a dump, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dumped {
    /// It is being written here.
    To(PathBuf),
    /// There is none.
    LeftOut(String),
}

/// Why there can be no core dumps.
#[derive(Debug, Error)]
pub enum DumpsError {
    /// The folder is not there, is a link, or cannot be written to.
    #[error("core dumps cannot go to {}: {error}{}", path.display(), mend(error))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The thread that would write them cannot be started.
    #[error("starting the thread for core dumps")]
    Thread(#[source] io::Error),
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make it with `mkdir -m 700`",
        io::ErrorKind::NotADirectory => "; it has to be a directory, and no link to one",
        _ => "",
    }
}

impl Dumps {
    /// Opens a folder, which must be there and be no link, and starts the thread. Called as whom the process will be.
    pub fn open(path: &Path) -> Result<Arc<Self>, DumpsError> {
        let wrong = |error: rustix::io::Errno| DumpsError::Folder {
            path: path.to_owned(),
            error: error.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty()).map_err(wrong)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        accessat(&folder, ".", access, AtFlags::EACCESS).map_err(wrong)?;
        // One waits while another is written.
        let (sender, dumps) = sync_channel(1);
        let (end, ended) = channel();
        let shown = path.to_owned();
        thread::Builder::new()
            .name("nethost-dumps".to_owned())
            .spawn(move || {
                for dump in dumps {
                    store(&folder, &shown, &dump);
                }
                // Nobody waits for it unless the process ends.
                let _nobody = end.send(());
            })
            .map_err(DumpsError::Thread)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            queue: Mutex::new(Queue {
                sender: Some(sender),
                ended,
                last: None,
                count: 0,
            }),
        }))
    }

    /// Makes the dump of an instance that broke and hands it to the thread; none if the error has no dump.
    pub(crate) fn take(
        &self,
        manifest: &Manifest,
        store: &mut Store<State>,
        error: &wasmtime::Error,
    ) -> Option<Dumped> {
        let dump = found(error)?;
        let memory = store.data().memory();
        if memory > LARGEST_MEMORY {
            return Some(Dumped::LeftOut(format!(
                "it has {} of memory, and a dump holds at most {}",
                mebibytes(memory),
                mebibytes(LARGEST_MEMORY)
            )));
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if queue.last.is_some_and(|last| now - last < PAUSE) {
            return Some(Dumped::LeftOut(format!(
                "the last one is less than {PAUSE:?} old"
            )));
        }
        let sender = queue.sender.clone()?;
        queue.last = Some(now);
        queue.count += 1;
        let name = name(manifest, SystemTime::now(), queue.count);
        drop(queue);
        let path = self.path.join(&name);
        let bytes = dump.serialize(store, &manifest.name);
        Some(match sender.try_send(Dump { name, bytes }) {
            Ok(()) => Dumped::To(path),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                Dumped::LeftOut("the disk is still busy with others".to_owned())
            }
        })
    }

    /// Waits until what was taken is written, but not forever: the process ends.
    pub fn finish(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.sender.take().is_some() && queue.ended.recv_timeout(LAST_WAIT).is_err() {
            tracing::warn!("a core dump is not written: the disk takes too long");
        }
    }
}

impl fmt::Debug for Dumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dumps").field("path", &self.path).finish()
    }
}

impl fmt::Display for Dumped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(path) => path.display().fmt(f),
            Self::LeftOut(why) => write!(f, "left out: {why}"),
        }
    }
}

fn found(error: &wasmtime::Error) -> Option<&wasmtime::WasmCoreDump> {
    error.downcast_ref()
}

fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// `echo-0.1.0-1795387152345-1.coredump`: plugin, version, milliseconds since 1970, and the how-manieth of the process.
fn name(manifest: &Manifest, time: SystemTime, count: u64) -> String {
    let version = manifest.version.as_deref().unwrap_or("0");
    let plain = |text: &str| -> String {
        let plain = text.chars().take(LONGEST_PART);
        let plain = plain.map(|it| match it {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => it,
            _ => '-',
        });
        // No file is hidden, and none is an option.
        let plain: String = plain.collect();
        plain.trim_start_matches(['.', '-']).to_owned()
    };
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    let time = time.unwrap_or_default().as_millis();
    let (name, version) = (plain(&manifest.name), plain(version));
    format!("{name}-{version}-{time:013}-{count}{SUFFIX}")
}

/// Whether a name is one of ours, of this process or of another: nothing else is ever removed.
fn is_ours(name: &str) -> bool {
    let name = name
        .strip_prefix('.')
        .and_then(|it| it.strip_suffix(PART))
        .unwrap_or(name);
    let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    let mut parts = name
        .strip_suffix(SUFFIX)
        .unwrap_or_default()
        .rsplitn(3, '-');
    let (count, time, rest) = (parts.next(), parts.next(), parts.next());
    count.is_some_and(|it| !it.is_empty() && is_number(it))
        && time.is_some_and(|it| it.len() >= 13 && is_number(it))
        && rest.is_some()
}

fn store(folder: &OwnedFd, path: &Path, dump: &Dump) {
    let file = path.join(&dump.name);
    if let Err(error) = write(folder, dump) {
        tracing::error!(file = %file.display(), %error, "a core dump was not written");
    }
    if let Err(error) = prune(folder) {
        tracing::error!(folder = %path.display(), %error, "old core dumps were not removed");
    }
}

/// Nobody sees a part of one under its name.
fn write(folder: &OwnedFd, Dump { name, bytes }: &Dump) -> io::Result<()> {
    let part = format!(".{name}{PART}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, &part, flags, Mode::RUSR | Mode::WUSR)?;
    let written = File::from(file).write_all(bytes).and_then(|()| {
        renameat_with(folder, &part, folder, name, RenameFlags::NOREPLACE).map_err(io::Error::from)
    });
    if written.is_err() {
        // What is wrong is told already.
        let _also_wrong = unlinkat(folder, &part, AtFlags::empty());
    }
    written
}

/// Removes the oldest, so that at most [`MOST_FILES`] and [`MOST_BYTES`] are there.
fn prune(folder: &OwnedFd) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            continue;
        }
        let stat = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            found.push((stat.st_mtime, stat.st_mtime_nsec, name, size));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    let mut bytes = 0_u64;
    for (index, (.., name, size)) in found.iter().enumerate() {
        bytes = bytes.saturating_add(*size);
        if index >= MOST_FILES || bytes > MOST_BYTES {
            unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Bytes of linear memory that a dump may hold: 16 MiB. To copy that takes a worker some 20 ms; a plugin in Rust begins with one or two.
pub const LARGEST_MEMORY: usize = 16 << 20;

/// A crash that comes again and again is dumped once in this time: 1 s.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Dumps in the folder, of all processes that share it: the newest 8.
pub const MOST_FILES: usize = 8;

/// Bytes of all of them: 64 MiB.
pub const MOST_BYTES: u64 = 64 << 20;

/// How long the end of the process waits for the last one: 5 s.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Characters of a plugin's name or version in a file's name.
const LONGEST_PART: usize = 64;

const SUFFIX: &str = ".coredump";

/// A file that is being written, which has a dot before its name.
const PART: &str = ".part";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn names_say_which_plugin_and_when_and_are_known_again() {
        let mut manifest = Manifest::assumed("echo");
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_387_152_345);
        for (version, expected) in [
            (Some("0.1.0"), "echo-0.1.0-1795387152345-7.coredump"),
            (None, "echo-0-1795387152345-7.coredump"),
            (Some("../x+y"), "echo-x-y-1795387152345-7.coredump"),
        ] {
            manifest.version = version.map(str::to_owned);
            let name = name(&manifest, time, 7);
            assert_eq!(name, expected);
            assert!(is_ours(&name), "{name}");
            assert!(is_ours(&format!(".{name}.part")), "{name}");
        }
        for other in [
            "echo.coredump",
            "core",
            "notes-2026-1.coredump",
            "x-1795387152345-1.coredump.gz",
            "1795387152345-1.coredump",
            "x-1795387152345-.coredump",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn the_newest_are_kept_and_nothing_else_is_touched() {
        let path = std::env::temp_dir().join(format!("nethost-dumps-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for other in ["notes.txt", "echo.coredump"] {
            fs::write(path.join(other), "").unwrap();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = openat(CWD, &path, flags, Mode::empty()).unwrap();
        for count in 0..MOST_FILES + 4 {
            let dump = Dump {
                name: format!("echo-0-{:013}-{count}.coredump", 5),
                bytes: vec![7; 100],
            };
            store(&folder, &path, &dump);
            let mode = fs::metadata(path.join(&dump.name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
            // The kernel's clock for files is coarse.
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(count as u64 + 1);
            let file = File::options()
                .write(true)
                .open(path.join(&dump.name))
                .unwrap();
            file.set_modified(time).unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), MOST_FILES + 2, "{left:?}");
        assert!(left.contains(&"notes.txt".to_owned()));
        assert!(left.contains(&format!("echo-0-{:013}-{}.coredump", 5, MOST_FILES + 3)));
        // A link that lies where one would be written is not followed.
        let target = path.join("target");
        let name = format!("echo-0-{:013}-99.coredump", 5);
        std::os::unix::fs::symlink(&target, path.join(format!(".{name}.part"))).unwrap();
        let error = write(
            &folder,
            &Dump {
                name,
                bytes: vec![1],
            },
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!target.exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_or_is_a_link_is_refused() {
        let path = std::env::temp_dir().join(format!("nethost-nodumps-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let link = path.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (folder, says) in [
            (path.join("none"), "make it with"),
            (link, "no link to one"),
        ] {
            let error = Dumps::open(&folder).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
