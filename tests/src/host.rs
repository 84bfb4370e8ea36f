//! A host as a process of its own.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{DEADLINE, START_DEADLINE, client::Client, places};

/// A `nethost run` to be.
#[derive(Debug)]
pub struct Run {
    plugin: PathBuf,
    arguments: Vec<OsString>,
    listeners: usize,
    /// What starts it, if not this process itself.
    starter: Vec<OsString>,
    stdin: Option<OwnedFd>,
}

impl Run {
    /// Runs a plugin; unless told otherwise on a free port of 127.0.0.1.
    pub fn of(plugin: impl AsRef<Path>) -> Self {
        Self {
            plugin: plugin.as_ref().to_owned(),
            arguments: Vec::new(),
            listeners: 0,
            starter: Vec::new(),
            stdin: None,
        }
    }

    /// Has a program start the host, which gets the host's program and arguments as its last arguments.
    pub fn started_by(mut self, starter: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let starter = starter.into_iter();
        self.starter = starter.map(|part| part.as_ref().to_owned()).collect();
        self
    }

    /// Passes a descriptor as number 3, after these assignments of a shell; `$$` there is the host's process.
    pub fn passing(self, fd: impl Into<OwnedFd>, assignments: &str) -> Self {
        let script = format!("exec 3<&0 </dev/null; {assignments} exec \"$@\"");
        let mut this = self.started_by(["sh", "-c", &script, "sh"]);
        this.stdin = Some(fd.into());
        this
    }

    /// Adds a listener.
    pub fn listen(mut self, url: &str) -> Self {
        self.listeners += 1;
        self.arguments.extend(["--listen".into(), url.into()]);
        self
    }

    /// Sets a key of the plugin's config.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.arguments(["--set", &format!("{key}={value}")])
    }

    /// Adds arguments as they are.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Starts the host and waits until it listens.
    ///
    /// # Panics
    ///
    /// With the host's log if it does not.
    pub fn start(self) -> Host {
        let mut this = self.with_listener();
        let host = Host::spawn(this.command(), this.stdin.take());
        host.wait_for_listeners(this.listeners);
        host
    }

    /// Runs the host, which is expected to end by itself at once.
    pub fn ended(self) -> Ended {
        let mut this = self.with_listener();
        Host::spawn(this.command(), this.stdin.take()).ended()
    }

    fn with_listener(self) -> Self {
        if self.listeners == 0 {
            self.listen("tcp://127.0.0.1:0")
        } else {
            self
        }
    }

    /// Returns the call, for a test that has its own standard input and output for it.
    pub fn command(&self) -> Command {
        let mut command = places::host();
        if let Some((program, arguments)) = self.starter.split_first() {
            let host = std::mem::replace(&mut command, Command::new(program));
            command.args(arguments).arg(host.get_program());
            command.env_remove("RUST_LOG").env_remove("NETHOST_LOG");
        }
        command.arg("run").arg(&self.plugin).args(&self.arguments);
        command
    }
}

/// A host that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Host {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Host {
    fn spawn(mut command: Command, stdin: Option<OwnedFd>) -> Self {
        let mut child = command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("running {command:?}: {error}"));
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Starts `nethost serve` with a config file and other arguments, and waits until it has printed that many listeners.
    ///
    /// # Panics
    ///
    /// With the host's log if it does not.
    pub fn serve(
        file: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        listeners: usize,
    ) -> Self {
        let mut command = places::host();
        command.arg("serve").arg(file).args(arguments);
        Self::start(command, listeners)
    }

    /// Starts a command that is a host, and waits until it has printed that many listeners.
    ///
    /// # Panics
    ///
    /// With the host's log if it does not.
    pub fn start(command: Command, listeners: usize) -> Self {
        let host = Self::spawn(command, None);
        host.wait_for_listeners(listeners);
        host
    }

    /// Waits until so many listeners were printed, all in all.
    ///
    /// # Panics
    ///
    /// With the host's log if that does not come.
    pub fn wait_for_listeners(&self, count: usize) {
        let deadline = Instant::now() + START_DEADLINE;
        while self.listening().len() < count {
            assert!(
                self.stdout.wait(deadline),
                "the host does not listen; it said:\n{}",
                self.log()
            );
        }
    }

    /// Returns the URLs after `listening NAME `, one for each listener.
    pub fn listening(&self) -> Vec<String> {
        let lines = self.stdout.all();
        let url = |line: &String| {
            let rest = line.strip_prefix("listening ")?;
            // A name may have spaces, a URL has none.
            Some(rest.rsplit_once(' ')?.1.to_owned())
        };
        lines.iter().filter_map(url).collect()
    }

    /// Returns where the first listener is.
    pub fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// Returns where a TCP or UDP listener is.
    pub fn address_of(&self, index: usize) -> SocketAddr {
        let urls = self.listening();
        let url = urls.get(index).expect("there is no such listener");
        url.split_once("://")
            .and_then(|(_, address)| address.parse().ok())
            .unwrap_or_else(|| panic!("`{url}` is not where TCP or UDP listens"))
    }

    /// Connects to the first listener.
    pub fn connect(&self) -> Client {
        Client::tcp(self.address())
    }

    /// Returns the process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the host has written to standard output.
    pub fn output(&self) -> String {
        self.stdout.all().join("\n")
    }

    /// Returns what the host has logged.
    pub fn log(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Waits for a line of the log with all of these parts, and returns it.
    ///
    /// # Panics
    ///
    /// With the log if there is none in time.
    pub fn logged(&self, parts: &[&str]) -> String {
        self.logged_times(parts, 1)
    }

    /// Waits until that many lines of the log have all of these parts, and returns the last.
    pub fn logged_times(&self, parts: &[&str], times: usize) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let lines = self.stderr.all();
            let found = lines
                .iter()
                .filter(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(line) = found.clone().nth(times.saturating_sub(1)) {
                return line.clone();
            }
            assert!(
                self.stderr.wait(deadline),
                "{} of {times} lines with {parts:?} in the log:\n{}",
                found.count(),
                lines.join("\n")
            );
        }
    }

    /// Returns the resident memory of the process, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the most resident memory that the process ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.unwrap_or_else(|| panic!("{path} has no {field}")) << 10
    }

    /// Returns whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process has an id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?}: {error}"));
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    ///
    /// With the log if it has not in time.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + DEADLINE;
        while self.stdout.wait(deadline) || self.stderr.wait(deadline) {}
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                _ => panic!("the host does not end; it said:\n{}", self.log()),
            }
        };
        Ended {
            code: status.code(),
            output: self.output(),
            log: self.log(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the host said:\n{}", self.log());
        }
        // It is gone already if the test let it end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub log: String,
}

/// Runs the host's program with these arguments to its end.
pub fn nethost(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    let mut command = places::host();
    command.args(arguments);
    Host::spawn(command, None).ended()
}

/// Runs `nethost` with each of the arguments, and sees that the help which it prints has these parts, and lines that fit a terminal.
pub fn help_tells(cases: &[(&[&str], &[&str])]) {
    for (arguments, parts) in cases {
        let ended = nethost(*arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        for part in *parts {
            let tells = ended.output.contains(part);
            assert!(tells, "no {part} in\n{}", ended.output);
        }
        for line in ended.output.lines() {
            assert!(line.chars().count() <= 100, "too long: {line}");
        }
    }
}

/// As [`nethost()`], with this as its standard input: at most what a pipe holds, 64 KiB.
pub fn nethost_reading(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: &str,
) -> Ended {
    let mut command = places::host();
    command.args(arguments);
    let (read, mut write) = std::io::pipe().unwrap_or_else(|error| panic!("a pipe: {error}"));
    let written = write.write_all(input.as_bytes());
    written.unwrap_or_else(|error| panic!("writing to a pipe: {error}"));
    drop(write);
    Host::spawn(command, Some(read.into())).ended()
}

/// Lines that a thread of their own reads.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<(Mutex<Read_>, Condvar)>);

#[derive(Debug, Default)]
struct Read_ {
    lines: Vec<String>,
    /// How many lines `wait` has told of.
    told: usize,
    ended: bool,
}

impl Lines {
    pub(crate) fn of(source: Option<impl Read + Send + 'static>) -> Self {
        let this = Self(Arc::default());
        let lines = this.clone();
        let source = source.expect("it is piped");
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                lines.change(|read| {
                    read.lines.push(String::from_utf8_lossy(&line).into_owned());
                });
            }
            lines.change(|read| read.ended = true);
        });
        this
    }

    fn change(&self, change: impl FnOnce(&mut Read_)) {
        let (read, changed) = &*self.0;
        change(&mut read.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let (read, _) = &*self.0;
        let read = read.lock().unwrap_or_else(PoisonError::into_inner);
        read.lines.clone()
    }

    /// Waits for a new line. False at the end, and when there is none in time.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let (read, changed) = &*self.0;
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if read.lines.len() > read.told {
                read.told = read.lines.len();
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return false;
            }
            read = changed
                .wait_timeout(read, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
