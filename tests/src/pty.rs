//! Programs on a terminal.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::places::python;

/// What is done to a terminal once it shows something, since the last such thing.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    shows: &'a str,
    act: Act<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Act<'a> {
    Type(&'a str),
    Resize(u16, u16),
    Signal(Signal),
    Close,
}

impl<'a> Step<'a> {
    /// Types something.
    pub fn typing(shows: &'a str, types: &'a str) -> Self {
        let act = Act::Type(types);
        Self { shows, act }
    }

    /// Changes the size.
    pub fn resizing(shows: &'a str, columns: u16, rows: u16) -> Self {
        let act = Act::Resize(columns, rows);
        Self { shows, act }
    }

    /// Sends the program a signal, and reads nothing any more.
    pub fn signalling(shows: &'a str, signal: Signal) -> Self {
        let act = Act::Signal(signal);
        Self { shows, act }
    }

    /// Takes the terminal away, from a program that ignores SIGHUP.
    pub fn closing(shows: &'a str) -> Self {
        let act = Act::Close;
        Self { shows, act }
    }

    fn told(&self) -> serde_json::Value {
        match self.act {
            Act::Type(text) => serde_json::json!([self.shows, "type", text]),
            Act::Resize(columns, rows) => {
                serde_json::json!([self.shows, "resize", [columns, rows]])
            }
            Act::Signal(signal) => serde_json::json!([self.shows, "signal", signal.as_raw()]),
            Act::Close => serde_json::json!([self.shows, "close", null]),
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
    /// Whether the terminal is there still, and echoes what is typed and edits lines as it did before.
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
    let steps: Vec<_> = steps.iter().map(Step::told).collect();
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
    if any(act == 'close' for _, act, _ in steps):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execvp(command[0], command)
shown, seen, reads = b'', 0, True
signal.alarm(20)
def read():
    global shown
    shown += os.read(terminal, 65536)
for text, act, value in steps:
    try:
        while shown.find(text.encode(), seen) < 0:
            signal.alarm(20)
            read()
    except OSError:
        sys.exit('ended before it showed ' + text + ':\\n' + shown.decode())
    seen = shown.find(text.encode(), seen) + len(text.encode())
    if act == 'type':
        os.write(terminal, value.encode())
    elif act == 'resize':
        size(terminal, *value)
    else:
        reads = False
        if act == 'signal':
            os.kill(pid, value)
        else:
            os.close(terminal)
            os.close(other)
if reads:
    os.set_blocking(terminal, False)
while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    try:
        while reads:
            read()
    except OSError:
        pass
    if done:
        break
    import time; time.sleep(0.01)
try:
    is_same = termios.tcgetattr(other)[:4] == before[:4]
except (OSError, termios.error):
    is_same = False
same = 'same' if is_same else 'other'
sys.stdout.write(shown.decode() + '\\n' + str(os.waitstatus_to_exitcode(status)) + ' ' + same)
";
