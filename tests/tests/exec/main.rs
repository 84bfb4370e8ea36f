//! `nethost exec`: a plugin's command.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

mod reaching;
mod terminal;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    host::{Host, Run, help_tells},
    places::{self, guest, plugin},
};
use rustix::process::{Pid, Signal, kill_process};

/// A `nethost exec` to be.
struct Exec {
    command: Command,
}

/// What came of it.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    output: String,
    error: String,
}

impl Exec {
    /// Of a plugin, with options of nethost's.
    fn of(plugin: &Path, options: &[&str]) -> Self {
        let mut command = places::host();
        command.arg("exec").args(options).arg(plugin);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command }
    }

    /// Of the scripted guest, which does these steps.
    fn script(steps: &[&str]) -> Self {
        Self::script_with(&[], steps)
    }

    fn script_with(options: &[&str], steps: &[&str]) -> Self {
        let mut all = options.to_vec();
        let settings: Vec<_> = steps.iter().map(|step| format!("script={step}")).collect();
        for setting in &settings {
            all.extend(["--set", setting]);
        }
        Self::of(&guest("commands"), &all)
    }

    fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    fn environment(mut self, variables: &[(&str, &str)]) -> Self {
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "TERM"] {
            self.command.env_remove(name);
        }
        self.command.envs(variables.iter().copied());
        self
    }

    fn start(mut self) -> Child {
        self.command.spawn().unwrap()
    }

    fn run(self) -> Ended {
        ended(self.start())
    }

    /// Runs it with this as its standard input.
    fn reading(mut self, input: Vec<u8>) -> Ended {
        self.command.stdin(Stdio::piped());
        let mut child = self.start();
        let mut stdin = child.stdin.take().unwrap();
        thread::spawn(move || stdin.write_all(&input));
        ended(child)
    }
}

/// Waits for its end, in time.
fn ended(mut child: Child) -> Ended {
    let read = |source: Option<Box<dyn std::io::Read + Send>>| {
        thread::spawn(move || {
            let mut data = Vec::new();
            if let Some(mut source) = source {
                source.read_to_end(&mut data).unwrap();
            }
            String::from_utf8_lossy(&data).into_owned()
        })
    };
    let output = read(child.stdout.take().map(|it| Box::new(it) as _));
    let error = read(child.stderr.take().map(|it| Box::new(it) as _));
    let code = wait(&mut child);
    Ended {
        code,
        output: output.join().unwrap(),
        error: error.join().unwrap(),
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn echo_server() -> Host {
    Run::of(plugin("echo"))
        .listen("tcp://127.0.0.1:0")
        .listen("udp://127.0.0.1:0")
        .start()
}

// The echo client.

#[test]
fn echo_sends_its_arguments_and_prints_what_comes_back() {
    let server = echo_server();
    let (tcp, udp) = (
        server.address().to_string(),
        server.address_of(1).to_string(),
    );
    let localhost = format!("localhost:{}", server.address().port());
    for arguments in [
        vec![tcp.as_str(), "hello", "world"],
        vec![&localhost, "hello", "world"],
        vec!["--udp", &udp, "hello", "world"],
    ] {
        let ended = Exec::of(&plugin("echo"), &[]).arguments(&arguments).run();
        assert_eq!(
            (ended.code, ended.output.as_str()),
            (Some(0), "hello world\n")
        );
        assert_eq!(ended.error, "");
    }
}

#[test]
fn echo_sends_standard_input_however_long_in_constant_memory() {
    let server = echo_server();
    let input: Vec<u8> = (0..10_000_000_u32)
        .map(|at| b'a' + (at % 23) as u8)
        .collect();
    let address = server.address().to_string();
    let mut exec = Exec::of(&plugin("echo"), &[]).arguments(&[&address]);
    exec.command.stdin(Stdio::piped());
    let mut child = exec.start();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = input.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    // What is on its way is all that it takes, however much has passed.
    let mut output = vec![0; 100_000];
    stdout.read_exact(&mut output).unwrap();
    let before = memory(&child);
    output.resize(input.len() - 100_000, 0);
    stdout.read_exact(&mut output[100_000..]).unwrap();
    let after = memory(&child);
    stdout.read_to_end(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    assert!(output == input);
    assert_eq!(ended(child).code, Some(0));
    assert!(
        after < before + (4 << 20),
        "{before} bytes of memory, then {after}"
    );
}

fn memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kilobytes: u64 = line
        .unwrap()
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap();
    kilobytes << 10
}

#[test]
fn echo_over_udp_sends_standard_input_in_datagrams() {
    let server = echo_server();
    let address = server.address_of(1).to_string();
    let input: String = (0..5000).map(|number| format!("{number}\n")).collect();
    let exec = Exec::of(&plugin("echo"), &[]).arguments(&["--udp", &address]);
    let ended = exec.reading(input.clone().into_bytes());
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    assert!(ended.output == input);
}

#[test]
fn everything_after_the_plugin_is_the_plugins() {
    let ended = Exec::of(&plugin("echo"), &[]).arguments(&["--help"]).run();
    assert_eq!(ended.code, Some(0));
    assert!(ended.output.contains("usage: echo"), "{}", ended.output);
    let arguments = ["--quiet", "-x", "--", "--log", "", "grün"];
    let ended = Exec::script(&["arguments", "environment"])
        .arguments(&arguments)
        .run();
    let expected = format!("{arguments:?}\n0\n");
    assert_eq!(ended.output, expected);
}

// Standard input and output, and the end.

#[test]
fn the_exit_code_is_the_plugins_and_what_it_wrote_comes_first() {
    for code in [0, 1, 7, 255] {
        let exit = format!("exit {code}");
        let ended = Exec::script(&["say one", "error two", &exit, "say three"]).run();
        assert_eq!(ended.code, Some(code));
        assert_eq!(
            (ended.output.as_str(), ended.error.as_str()),
            ("one\n", "two\n")
        );
    }
    let ended = Exec::script(&["stream 900000"]).run();
    assert_eq!((ended.code, ended.output.len()), (Some(0), 900_000));
    let ended = Exec::script(&["fail no such luck"]).run();
    assert_eq!(
        (ended.code, ended.error.as_str()),
        (Some(1), "error: no such luck\n")
    );
}

#[test]
fn standard_input_is_read_to_its_end() {
    let ended = Exec::script(&["input", "input"]).reading(vec![b'x'; 300_000]);
    assert_eq!(ended.output, "300000 bytes\n0 bytes\n");
    let ended = Exec::script(&["input"]).run();
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), "0 bytes\n"));
}

#[test]
fn one_that_breaks_ends_with_1_and_the_reason() {
    for (steps, parts) in [
        (
            ["trap out of luck"].as_slice(),
            ["out of luck", "commands: start trapped"].as_slice(),
        ),
        (
            &["say x", "loop"],
            &["commands: completed took more than 50ms of processor time"],
        ),
        (
            &["hang"],
            &["commands: it has not exited, and waits for nothing any more"],
        ),
        (&["loop"], &["commands: start took more than 50ms"]),
    ] {
        let mut exec = Exec::script(steps);
        if steps == ["say x", "loop"] {
            // So that it is in a later callback.
            exec = Exec::script(&["input", "loop"]);
        }
        let ended = exec.run();
        assert_eq!(ended.code, Some(1), "{steps:?}: {}", ended.error);
        for part in parts {
            assert!(ended.error.contains(part), "no {part} in {}", ended.error);
        }
    }
}

#[test]
fn a_slow_reader_stops_one_that_waits_and_ends_one_that_does_not() {
    let mut child = Exec::script(&["stream 50000000"]).start();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = vec![0; 100_000];
    stdout.read_exact(&mut first).unwrap();
    assert!(memory(&child) < 64 << 20, "{} bytes", memory(&child));
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 49_900_000);
    assert_eq!(ended(child).code, Some(0));

    let mut child = Exec::script(&["flood"]).start();
    // It is kept, and not read until it has ended.
    let mut stdout = child.stdout.take().unwrap();
    let mut error = String::new();
    let mut stderr = child.stderr.take().unwrap();
    // What was written still goes out, so somebody has to take it in the end.
    let reader = thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(&mut stdout).read_line(&mut line);
        line.len()
    });
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(wait(&mut child), Some(1));
    assert!(
        error.contains("more than 1048576 bytes are unwritten"),
        "{error}"
    );
    assert!(reader.join().unwrap() >= 1 << 20);
}

#[test]
fn an_output_that_nobody_reads_ends_it_quietly() {
    let mut child = Exec::script(&["stream 50000000"]).start();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let ended = ended(child);
    assert_eq!((ended.code, ended.error.as_str()), (Some(141), ""));
    let mut exec = Exec::script(&["say x", "forever"]);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    exec.command.stdout(full);
    let ended = exec.run();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("writing to standard output: No space"),
        "{}",
        ended.error
    );
}

#[test]
fn output_that_is_lost_after_the_end_is_no_success() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    let server = echo_server();
    let address = server.address().to_string();
    for mut exec in [
        Exec::script(&["say x"]),
        Exec::script(&["say x", "exit 7"]),
        Exec::of(&plugin("echo"), &[]).arguments(&[&address, "hello"]),
    ] {
        exec.command.stdout(full().unwrap());
        let ended = exec.run();
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.error.contains("writing to standard output: No space"),
            "{}",
            ended.error
        );
    }
    let mut exec = Exec::script(&["say x"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    exec.command.stdout(writer);
    let ended = exec.run();
    assert_eq!((ended.code, ended.error.as_str()), (Some(141), ""));
    // What is said besides may be lost.
    let mut exec = Exec::script(&["error x", "exit 7"]);
    exec.command.stderr(full().unwrap());
    assert_eq!(exec.run().code, Some(7));
}

#[test]
fn a_plugin_without_a_command_is_refused_and_so_are_wrong_options() {
    let refusals: [(&[&str], &str); 4] = [
        (&["plugins/irc.wasm"], "irc is no command"),
        (&["no-such.wasm"], "no such file"),
        (&["--colour", "x.wasm"], "--colour"),
        (&[], "PLUGIN"),
    ];
    for (arguments, part) in refusals {
        let mut command = places::host();
        command
            .arg("exec")
            .args(arguments)
            .current_dir(places::root());
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(part), "no {part} in {error}");
    }
    let ended = Exec::of(&plugin("echo"), &["--set", "greting=x"]).run();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.error.contains("did you mean `greeting`"),
        "{}",
        ended.error
    );
    help_tells(&[(
        &["exec", "--help"],
        &[
            "PLUGIN [ARGS]...",
            "--allow-connect",
            "--nameserver",
            "--tls-ca",
            "--color",
            "--quiet",
            "--set",
            "http://example.org:8080/x",
            "Exit codes",
        ],
    )]);
}

// Signals.

fn ready(steps: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Exec::script(steps).start();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

#[test]
fn a_signal_ends_a_command_that_does_not_care() {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        let (mut child, _stdout) = ready(&["say ready", "forever"]);
        signal(&child, sent);
        assert_eq!(wait(&mut child), Some(code));
    }
}

#[test]
fn a_signal_is_the_plugins_to_handle_and_a_second_one_ends_it() {
    let (mut child, mut stdout) = ready(&["signals 1", "say goodbye", "exit 5"]);
    signal(&child, Signal::INT);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(
        (rest.as_str(), wait(&mut child)),
        ("interrupt\ngoodbye\n", Some(5))
    );

    let (mut child, mut stdout) = ready(&["signals 9"]);
    signal(&child, Signal::TERM);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "terminate\n");
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child), Some(130));
}

#[test]
fn a_signal_does_not_wait_for_who_does_not_read() {
    // The plugin ends by the signal, or it has ended and its output is not taken.
    for steps in [
        &["say ready", "stream 50000000"],
        &["say ready", "stream 130000"],
    ] {
        let (mut child, _stdout) = ready(steps);
        signal(&child, Signal::TERM);
        assert_eq!(wait(&mut child), Some(143));
    }
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_so() {
    for (ignored, other, told) in [
        (Signal::HUP, Signal::INT, "interrupt\n"),
        (Signal::INT, Signal::TERM, "terminate\n"),
    ] {
        let exec = Exec::script(&["signals 1"]);
        let mut command = Command::new("sh");
        let number = ignored.as_raw().to_string();
        command.args(["-c", "trap '' $0; exec \"$@\"", &number]);
        command
            .arg(exec.command.get_program())
            .args(exec.command.get_args());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        signal(&child, ignored);
        signal(&child, other);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), wait(&mut child)), (told, Some(0)));
    }
}
