//! The other end of `tests/guests/scripted`.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    client::Client,
    host::{Host, Run},
    places,
};

/// A host that runs the scripted guest, and a connection that tells it what to do.
#[derive(Debug)]
pub struct Scripted<H = Host> {
    /// The host.
    pub host: H,
    /// The connection that commands come from.
    pub control: Client,
    lines: VecDeque<String>,
    marks: u32,
}

impl Scripted {
    /// Starts one with all defaults.
    pub fn start() -> Self {
        Self::start_with(|run| run)
    }

    /// Starts one with more arguments. There is one instance.
    pub fn start_with(change: impl FnOnce(Run) -> Run) -> Self {
        let run = Run::of(places::guest("scripted")).arguments(["--isolation", "service"]);
        Self::on(change(run).start())
    }
}

impl<H: Serves> Scripted<H> {
    /// Takes a host that runs already; its first listener must be TCP.
    pub fn on(host: H) -> Self {
        let mut control = host.connect();
        control.command("watch");
        let mut this = Self {
            host,
            control,
            lines: VecDeque::new(),
            marks: 0,
        };
        this.settle();
        this
    }

    /// Sends commands, separated by `;`, which run in one callback.
    pub fn run(&mut self, commands: &str) {
        self.control.command(commands);
    }

    /// Sends commands and returns the last answer to them.
    pub fn ask(&mut self, commands: &str) -> String {
        self.ask_all(commands).pop().unwrap_or_default()
    }

    /// Sends commands and returns the answers to them.
    pub fn ask_all(&mut self, commands: &str) -> Vec<String> {
        let (start, end) = (self.marks, self.marks + 1);
        self.marks += 2;
        self.run(&format!("mark {start}; {commands}; mark {end}"));
        let (start, end) = (format!("mark {start}"), format!("mark {end}"));
        let mut answers = Vec::new();
        loop {
            let line = self.control.line();
            if line == end {
                return answers;
            } else if line == start {
                // What came before was the answer to something else.
                answers.clear();
            } else if let Some(answer) = line.strip_prefix("= ") {
                answers.push(answer.to_owned());
            } else {
                self.lines.push_back(line);
            }
        }
    }

    /// Sends a command whose answer is a number, and returns it.
    pub fn number(&mut self, command: &str) -> usize {
        let answer = self.ask(command);
        answer
            .parse()
            .unwrap_or_else(|_| panic!("`{answer}`, the answer to `{command}`, is no number"))
    }

    /// Waits for an event that begins like this, and returns what follows. Others wait for their turn.
    pub fn event(&mut self, start: &str) -> String {
        self.line(start).trim_start().to_owned()
    }

    /// Returns whether such an event has come; call [`Self::settle`] before.
    pub fn has_event(&self, start: &str) -> bool {
        self.lines.iter().any(|line| begins(line, start))
    }

    /// Waits until the instance has done what it was told, and what the host had to do then.
    pub fn settle(&mut self) {
        for _ in 0..5 {
            self.ask("id");
        }
    }

    /// Returns the events that wait, in order, and forgets them.
    pub fn events(&mut self) -> Vec<String> {
        self.settle();
        self.lines.drain(..).collect()
    }

    /// Opens a connection, and returns it with its id.
    pub fn connect(&mut self) -> (Client, u64) {
        let client = self.host.connect();
        let id = self.made();
        (client, id)
    }

    /// Opens a connection that does something within its `connection-made`; commands are separated by `&`.
    pub fn connect_with(&mut self, commands: &str) -> (Client, u64) {
        self.run(&format!("next {commands}"));
        self.settle();
        self.connect()
    }

    /// Waits for a connection and returns its id.
    pub fn made(&mut self) -> u64 {
        let event = self.event("made ");
        let id = event.split(' ').next().and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("`made {event}` has no id"))
    }

    /// Sends commands of which the last starts an operation, and returns its id.
    pub fn started(&mut self, commands: &str) -> u64 {
        self.run(commands);
        let id = self.event("started ");
        id.parse().unwrap_or_else(|_| panic!("`{id}` is no id"))
    }

    fn line(&mut self, start: &str) -> String {
        let mut looked_at = 0;
        loop {
            let mut unseen = self.lines.iter().skip(looked_at);
            if let Some(at) = unseen.position(|line| begins(line, start)) {
                let line = self.lines.remove(looked_at + at).unwrap_or_default();
                return line.strip_prefix(start).unwrap_or(&line).to_owned();
            }
            looked_at = self.lines.len();
            let line = self.control.line();
            if !line.starts_with("= ") {
                self.lines.push_back(line);
            }
        }
    }
}

/// Something that listens on TCP.
pub trait Serves {
    /// Returns where.
    fn address(&self) -> SocketAddr;

    /// Connects to it.
    fn connect(&self) -> Client {
        Client::tcp(self.address())
    }
}

impl Serves for Host {
    fn address(&self) -> SocketAddr {
        self.address()
    }
}

/// Whether a line begins with these words, and not only with a part of the last.
fn begins(line: &str, start: &str) -> bool {
    line.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' ') || start.ends_with(' '))
}

/// Returns the bytes that the guest's `fill` and `feed` write, from this position on.
pub fn pattern(start: usize, count: usize) -> Vec<u8> {
    (start..start + count)
        .map(|at| u8::try_from(at % 251).unwrap_or_default())
        .collect()
}
