//! `nethost exec`: a plugin's command.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    host::{Host, Run, help_tells},
    names::{Names, addresses},
    places::{self, guest, plugin, scratch},
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

// The terminal.

#[test]
fn without_a_terminal_there_are_no_colours_unless_they_are_wanted() {
    for (options, environment, expected) in [
        (&[] as &[&str], &[] as &[(&str, &str)], "false false"),
        (&["--color", "always"], &[], "true true"),
        (
            &["--color", "never"],
            &[("CLICOLOR_FORCE", "1")],
            "false false",
        ),
        (&[], &[("CLICOLOR_FORCE", "1")], "true true"),
        (&[], &[("CLICOLOR_FORCE", "0")], "false false"),
        (
            &[],
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
            "false false",
        ),
        (&["--color", "always"], &[("NO_COLOR", "1")], "true true"),
    ] {
        let exec = Exec::script_with(options, &["terminal"]).environment(environment);
        let output = exec.run().output;
        let expected = format!("terminal [false, false, false] size None colour {expected}\n");
        assert_eq!(output, expected, "{options:?} {environment:?}");
    }
}

#[test]
fn on_a_terminal_its_size_is_known_and_colours_are_wanted() {
    for (environment, colour) in [
        (&[] as &[(&str, &str)], "true"),
        (&[("NO_COLOR", "1")], "false"),
        (&[("NO_COLOR", "")], "true"),
        (&[("TERM", "dumb")], "false"),
    ] {
        let shown = on_terminal(&["terminal", "exit 3"], &[], environment, "");
        let expected =
            format!("terminal [true, true, true] size Some((93, 31)) colour {colour} {colour}\n");
        assert_eq!(shown, format!("{expected}exit 3"));
    }
}

#[test]
fn a_change_of_the_terminals_size_is_told() {
    let shown = on_terminal(&["signals 1"], &[], &[], "resize");
    assert_eq!(shown, "ready\nresized Some((120, 40))\nexit 0");
}

#[test]
fn the_terminals_interrupt_is_a_signal() {
    let shown = on_terminal(&["signals 1", "exit 4"], &[], &[], "interrupt");
    assert!(shown.contains("interrupt\nexit 4"), "{shown}");
}

#[test]
fn progress_is_drawn_on_a_terminal_and_nowhere_else() {
    let shown = on_terminal(&["progress finish", "say done"], &[], &[], "");
    for part in ["half", "50%", "512.00 KiB/1.00 MiB", "done"] {
        assert!(shown.contains(part), "no {part} in {shown:?}");
    }
    assert!(!shown.contains("way"), "{shown:?}");
    // One that is finished stays above what is written later.
    assert!(shown.rfind("half") < shown.rfind("done"), "{shown:?}");
    assert!(shown.ends_with("done\nexit 0"), "{shown:?}");
    for (options, environment) in [
        (&["--quiet"] as &[&str], &[] as &[(&str, &str)]),
        (&[], &[("TERM", "dumb")]),
    ] {
        let shown = on_terminal(&["progress finish", "say done"], options, environment, "");
        assert_eq!(shown, "done\nexit 0");
    }
    let ended = Exec::script(&["progress", "progress finish", "say done"]).run();
    assert_eq!(
        (ended.output.as_str(), ended.error.as_str()),
        ("done\n", "")
    );
}

#[test]
fn progress_erases_nothing_that_was_written() {
    let shown = on_terminal(&["print name: ", "progress"], &[], &[], "");
    assert_eq!(shown, "name: exit 0");
    let shown = on_terminal(&["print name: ", "progress finish", "say x"], &[], &[], "");
    // A `\r` of the terminal is a space here.
    assert!(shown.starts_with("name:  \nhalf  50% "), "{shown:?}");
    assert!(shown.ends_with("\nx\nexit 0"), "{shown:?}");
    let shown = on_terminal(&["bar", "say one", "progress", "say two"], &[], &[], "");
    assert!(shown.contains("here"), "{shown:?}");
    assert_eq!(
        (shown.matches("one").count(), shown.matches("two").count()),
        (1, 1)
    );
}

#[test]
fn a_terminal_that_goes_away_or_takes_nothing_is_survived() {
    let shown = on_terminal(&["bar", "progress", "say x"], &[], &[], "go away");
    assert!(shown.ends_with("exit 1"), "{shown:?}");
    let shown = on_terminal(&["bar", "say ready", "stream 10000000"], &[], &[], "stop");
    assert!(shown.ends_with("exit 143"), "{shown:?}");
}

/// Runs a script on a terminal of 93 columns and 31 rows, and returns what it shows, and `exit CODE`. When the command is `ready`, something is done to the terminal.
fn on_terminal(
    steps: &[&str],
    options: &[&str],
    environment: &[(&str, &str)],
    done: &str,
) -> String {
    let exec = Exec::script_with(options, steps);
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, done]);
    python
        .arg(exec.command.get_program())
        .args(exec.command.get_args());
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_LOG"] {
        python.env_remove(name);
    }
    python
        .env("TERM", "xterm")
        .envs(environment.iter().copied());
    let output = python.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

const TERMINAL: &str = "\
import fcntl, os, pty, signal, struct, sys, termios
done, command = sys.argv[1], sys.argv[2:]
def size(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
pid, terminal = pty.fork()
if pid == 0:
    size(0, 93, 31)
    if done == 'go away':
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execvp(command[0], command)
shown = b''
while True:
    try:
        data = os.read(terminal, 1000)
    except OSError:
        data = b''
    if not data:
        break
    shown += data
    if done == 'go away' and b'half' in shown:
        os.close(terminal)
        break
    if done == 'stop' and b'ready' in shown:
        os.kill(pid, signal.SIGTERM)
        break
    if done in ('resize', 'interrupt') and b'ready' in shown:
        if done == 'resize':
            size(terminal, 120, 40)
        else:
            os.write(terminal, b'\\x03')
        done = ''
signal.alarm(20)
_, status = os.waitpid(pid, 0)
print(shown.decode().replace('\\r\\n', '\\n').replace('\\r', ' ') + 'exit', os.waitstatus_to_exitcode(status))
";

// Hosts.

#[test]
fn hosts_that_arguments_mention_may_be_connected_to_and_no_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = format!("tcp://127.0.0.1:{port}");
    let (this, other) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{}", port ^ 1),
    );
    let url = format!("http://{this}/path?query");
    let at = format!("user@{this}");
    for (arguments, outcome) in [
        (&["127.0.0.1"] as &[&str], "connected"),
        (&["@127.0.0.1", "x"], "connected"),
        (&[&this], "connected"),
        (&[&url], "connected"),
        (&[&at], "connected"),
        (&["[::ffff:127.0.0.1]"], "connected"),
        (&[], "denied"),
        (&[&other], "denied"),
        (&["127.0.0.2"], "denied"),
        (&["127.0.0.11", "1127.0.0.1"], "denied"),
        (&["localhost"], "denied"),
        (&["127.0.0.1.example.org"], "denied"),
        (&["0.0.0.0", "*", "*:*", "127.0.0.0/8"], "denied"),
    ] {
        let ended = Exec::script(&[&format!("connect {here}")])
            .arguments(arguments)
            .run();
        let said = ended.output.split(':').next().unwrap().trim();
        assert_eq!(said, outcome, "{arguments:?}: {}", ended.output);
        let told = format!("nethost: tcp://{this} is not granted");
        let flag = format!("--allow-connect {this}\n");
        assert_eq!(
            ended.error.contains(&told),
            outcome == "denied",
            "{}",
            ended.error
        );
        assert_eq!(
            ended.error.contains(&flag),
            outcome == "denied",
            "{}",
            ended.error
        );
    }
    let allowed = Exec::script_with(&["--allow-connect", &this], &[&format!("connect {here}")]);
    assert_eq!(allowed.run().output, "connected\n");
    let quiet = Exec::script_with(&["--quiet"], &[&format!("connect {here}")]).run();
    assert_eq!(quiet.error, "");
}

#[test]
fn names_resolve_where_they_are_mentioned_and_never_to_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Names::start();
    names.set("public.test", addresses("127.0.0.1"));
    names.set("far.test", addresses("192.0.2.7"));
    let server = names.address().to_string();
    let connect = format!("connect tcp://public.test:{port}");
    for (arguments, steps, expected) in [
        (
            &["http://public.test/"] as &[&str],
            &[connect.as_str()] as &[&str],
            "denied",
        ),
        (&["far.test"], &["resolve far.test"], "[192.0.2.7]"),
        (&["FAR.test."], &["resolve far.TEST"], "[192.0.2.7]"),
        (&["x.far.test", "far.tes"], &["resolve far.test"], "denied"),
        (&["192.0.2.7"], &["resolve far.test"], "denied"),
        (&["none.test"], &["resolve none.test"], "name not found"),
    ] {
        let options = ["--nameserver", &server];
        let ended = Exec::script_with(&options, steps)
            .arguments(arguments)
            .run();
        assert!(
            ended.output.starts_with(expected),
            "{arguments:?}: {}",
            ended.output
        );
    }
    // The name `localhost` is this machine, wherever it is mentioned.
    let connect = format!("connect tcp://localhost:{port}");
    let ended = Exec::script(&[&connect])
        .arguments(&["http://LOCALHOST/"])
        .run();
    assert_eq!(ended.output, "connected\n");
}

#[test]
fn tls_trusts_whom_the_command_line_says() {
    let folder = scratch("exec-tls");
    let certificate = folder.join("localhost.pem");
    let mut cert = places::host();
    cert.args(["cert", "self-signed"])
        .arg(&folder)
        .arg("localhost");
    assert!(cert.output().unwrap().status.success());
    let listen = format!("tls://127.0.0.1:0?cert={}", folder.display());
    let server = Run::of(plugin("echo")).listen(&listen).start();
    let url = server.listening().remove(0);
    let port = url.rsplit(':').next().unwrap().split('?').next().unwrap();
    let connect = format!("connect tls://localhost:{port}");
    let ca = certificate.to_str().unwrap();
    for (options, expected) in [(&["--tls-ca", ca] as &[&str], "connected"), (&[], "tls: ")] {
        let exec = Exec::script_with(options, &[&connect]);
        let output = exec.arguments(&["https://localhost/"]).run().output;
        assert!(output.starts_with(expected), "{output}");
    }
}

#[test]
fn datagrams_and_name_servers_go_the_same_way() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((count, from)) = peer.recv_from(&mut buffer) {
            peer.send_to(&buffer[..count], from).unwrap();
        }
    });
    let udp = format!("udp udp://{address}");
    let hello = "Ok(Some([104, 101, 108, 108, 111]))\n";
    let ended = Exec::script(&[&udp]).arguments(&[&address]).run();
    assert_eq!(ended.output, hello, "{}", ended.error);
    let ended = Exec::script(&[&udp]).run();
    assert!(ended.output.starts_with("denied"), "{}", ended.output);
    // As a name server it may be asked, at that port.
    let ended = Exec::script_with(&["--nameserver", &address], &["servers", &udp]).run();
    assert_eq!(ended.output, format!("[{address}]\n{hello}"));
    let other = "udp udp://127.0.0.1:9";
    let ended = Exec::script_with(&["--nameserver", &address], &[other]).run();
    assert!(ended.output.starts_with("denied"), "{}", ended.output);
}

// Files.

fn folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::write(folder.join("in"), "inside").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/deep"), "deep").unwrap();
    folder
}

#[test]
fn files_that_arguments_name_are_read_and_written() {
    let folder = folder("exec-files");
    let absolute = folder.join("absolute");
    let absolute = absolute.to_str().unwrap();
    for (arguments, step, expected) in [
        (&["-r", "in"] as &[&str], "read in", "`inside`"),
        (&["-rin"], "read in", "`inside`"),
        (&["in", "sub/deep"], "read sub/deep", "`deep`"),
        (&["-r", "./sub/../in"], "read ./sub/../in", "`inside`"),
        (&["-w", "new"], "write new one", "`one`"),
        (&["-w", "new"], "append new two", "`onetwo`"),
        (&["-w", "new"], "make new x", "exists"),
        (&["-w", "new"], "write new three", "`three`"),
        (&["-w", "new"], "read new", "`three`"),
        (&["-w", absolute], &format!("write {absolute} x"), "`x`"),
        (&["-w", "sub/none/x"], "write sub/none/x y", "not found"),
        (&["-w", "/dev/null"], "write /dev/null x", "``"),
        (&["-r", "none"], "read none", "not found"),
        (&["-r", "sub"], "read sub", "invalid"),
    ] {
        let ended = Exec::script(&[step])
            .arguments(arguments)
            .within(&folder)
            .run();
        let output = &ended.output;
        assert!(
            output.starts_with(expected),
            "{arguments:?} {step}: {output}"
        );
    }
    // Nothing is made before it is opened.
    Exec::script(&[])
        .arguments(&["-w", "unopened", "-w", "in"])
        .within(&folder)
        .run();
    assert!(!folder.join("unopened").exists());
    assert_eq!(fs::read(folder.join("in")).unwrap(), b"inside");
}

#[test]
fn the_host_moves_bytes_from_and_to_the_files() {
    let folder = scratch("exec-bulk");
    let contents: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(folder.join("here"), &contents).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent = contents.clone();
    let server = thread::spawn(move || {
        listener.accept().unwrap().0.write_all(&sent).unwrap();
        let mut received = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut received)
            .unwrap();
        received
    });
    let (receive, send) = (
        format!("receive tcp://{address} there"),
        format!("send tcp://{address} here"),
    );
    let ended = Exec::script(&[&receive, &send])
        .arguments(&[&address, "-w", "there", "-r", "here"])
        .within(&folder)
        .run();
    assert_eq!(
        ended.output, "1000000 bytes\n1000000 bytes\n",
        "{}",
        ended.error
    );
    assert!(server.join().unwrap() == contents);
    assert!(fs::read(folder.join("there")).unwrap() == contents);
}

#[test]
fn files_that_arguments_do_not_name_so_are_refused() {
    let folder = folder("exec-refused");
    let fifo = folder.join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    for (arguments, step) in [
        (&[] as &[&str], "read in"),
        (&["in"], "read in"),
        (&["sub", "in"], "read in"),
        (&["-r", "in"], "write in x"),
        (&["-r", "in"], "append in x"),
        (&["-r", "in"], "read ./in"),
        (&["-r", "in"], "read sub/../in"),
        (&["-r", "./in"], "read in"),
        (&["-w", "sub/deep"], "read sub/../in"),
        (&["-w", "sub/deep"], "write sub/deep/../../in x"),
        (&["-w", "sub/deep"], "write deep x"),
        (&["-r", "sub/deep"], "read /etc/passwd"),
        (&["--", "-r", "in"], "read in"),
        (&["-x", "in"], "read in"),
        (&["-r", "-"], "read -"),
        (&["-r", "fifo"], "read fifo"),
        (&["-w", "fifo"], "write fifo x"),
    ] {
        let ended = Exec::script(&[step])
            .arguments(arguments)
            .within(&folder)
            .run();
        assert!(
            ended.output.starts_with("denied"),
            "{arguments:?} {step}: {}",
            ended.output
        );
        assert!(
            ended.error.starts_with("nethost: "),
            "{step}: {}",
            ended.error
        );
    }
    assert_eq!(fs::read(folder.join("in")).unwrap(), b"inside");
    assert_eq!(fs::read(folder.join("sub/deep")).unwrap(), b"deep");
}

#[test]
fn inspect_shows_what_arguments_may_grant() {
    let mut command = places::host();
    let output = command
        .arg("inspect")
        .arg(guest("commands"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "command    arguments          ARGUMENTS",
        "reads files        -r, in 1",
        "writes files       -w",
        "asks name servers  to test name servers",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}
