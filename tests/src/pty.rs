//! Programs on a terminal.

use std::process::{Command, Stdio};

use crate::places::python;

/// What is done to a terminal once it shows something, since the last such thing.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What it has to show.
    pub shows: &'a str,
    /// What is typed then.
    pub types: &'a str,
    /// The columns and rows that it has from then on; none: as before.
    pub size: Option<(u16, u16)>,
}

impl<'a> Step<'a> {
    /// Types something.
    pub fn typing(shows: &'a str, types: &'a str) -> Self {
        Self {
            shows,
            types,
            size: None,
        }
    }

    /// Changes the size.
    pub fn resizing(shows: &'a str, columns: u16, rows: u16) -> Self {
        Self {
            shows,
            types: "",
            size: Some((columns, rows)),
        }
    }
}

/// What a terminal showed.
#[derive(Debug)]
pub struct Shown {
    /// Everything that was written to it, with the sequences for the terminal in it.
    pub text: String,
    /// The exit code; negative: the signal that ended it.
    pub code: i32,
    /// Whether the terminal echoes what is typed and edits lines again, as it did before.
    pub is_as_before: bool,
}

/// Runs a program on a terminal of this many columns and rows, with these variables, to its end. None if there is no Python to hold the terminal.
///
/// # Panics
///
/// If a step's text is not shown within 20 s.
pub fn on_terminal(
    command: &Command,
    (columns, rows): (u16, u16),
    steps: &[Step<'_>],
) -> Option<Shown> {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| serde_json::json!([step.shows, step.types, step.size]))
        .collect();
    let steps = serde_json::Value::from(steps).to_string();
    let mut held = Command::new(python()?);
    held.args([
        "-c",
        TERMINAL,
        &format!("{columns}"),
        &format!("{rows}"),
        &steps,
    ]);
    held.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => held.env(name, value),
            None => held.env_remove(name),
        };
    }
    let output = held.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("a terminal: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let (text, last) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{text}"));
    let mut words = last.split(' ');
    let code = words.next().and_then(|code| code.parse().ok());
    Some(Shown {
        text: text.to_owned(),
        code: code.unwrap_or_else(|| panic!("no exit code: {last}")),
        is_as_before: words.next() == Some("same"),
    })
}

const TERMINAL: &str = "\
import fcntl, json, os, pty, signal, struct, sys, termios
columns, rows, steps, command = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4:]
def size(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
terminal, other = pty.openpty()
size(terminal, columns, rows)
before = termios.tcgetattr(other)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(other, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(other, descriptor)
    os.execvp(command[0], command)
shown, seen = b'', 0
signal.alarm(20)
def read():
    global shown
    shown += os.read(terminal, 65536)
for text, typed, resized in steps:
    try:
        while shown.find(text.encode(), seen) < 0:
            signal.alarm(20)
            read()
    except OSError:
        sys.exit('ended before it showed ' + text + ':\\n' + shown.decode())
    seen = shown.find(text.encode(), seen) + len(text.encode())
    if resized:
        size(terminal, *resized)
    os.write(terminal, typed.encode())
os.set_blocking(terminal, False)
while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    try:
        while True:
            read()
    except OSError:
        pass
    if done:
        break
    import time; time.sleep(0.01)
same = 'same' if termios.tcgetattr(other)[:4] == before[:4] else 'other'
sys.stdout.write(shown.decode() + '\\n' + str(os.waitstatus_to_exitcode(status)) + ' ' + same)
";
