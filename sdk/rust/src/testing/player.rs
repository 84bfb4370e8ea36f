//! Plays transcripts.

use std::{collections::HashMap, error::Error, fmt, fs, path::Path, time::Duration};

use serde_json::{Map, Value};

use super::{
    host::Host,
    transcript::{Action, Step, Transcript},
};
use crate::{connection::ConnectionId, protocol::Protocol, tls::TlsInfo};

/// Plays every `.txt` in a directory against a protocol, natively, in every [chunking](Chunking). `config` is a JSON object with every key that
/// the plugin's manifest has.
///
/// # Panics
///
/// With file, line, and what was expected and came, if a dialogue does not go as written; and if there is none.
pub fn play_directory<P: Protocol>(directory: impl AsRef<Path>, config: &str) {
    let directory = directory.as_ref();
    let mut played = 0;
    let outcome = transcripts(directory).and_then(|transcripts| {
        for transcript in transcripts {
            let config = merged(config, transcript.config.as_deref())?;
            for chunking in Chunking::all(&transcript) {
                let mut native = Native::<P> {
                    host: Host::start(&config)?,
                    clients: HashMap::new(),
                };
                play(&transcript, chunking, &mut native)?;
            }
            played += 1;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(played > 0, "no transcript in {}", directory.display());
}

/// Plays a transcript once against whatever a [`Peer`] reaches.
pub fn play(
    transcript: &Transcript,
    chunking: Chunking,
    peer: &mut impl Peer,
) -> Result<(), Failure> {
    let mut player = Player {
        transcript,
        chunking,
        peer,
        sent: 0,
        clients: HashMap::new(),
    };
    let mut steps = transcript.steps.iter().peekable();
    while let Some(step) = steps.next() {
        player.connect(step)?;
        match &step.action {
            Action::Send(bytes) => {
                let mut bytes = bytes.clone();
                // What a client says in one go is one piece: servers must cope with pipelining.
                while let Some(next) =
                    steps.next_if(|next| next.client == step.client && is_send(next))
                {
                    if let Action::Send(more) = &next.action {
                        bytes.extend(more);
                    }
                }
                player.send(step, &bytes)?;
            }
            Action::ExpectLine(pattern) => {
                player.expect_line(step, |line| pattern.matches(line), pattern)?
            }
            Action::ExpectBytes(bytes) => player.expect_bytes(step, bytes)?,
            Action::ExpectEnd => player.expect_end(step)?,
            Action::Close => player
                .peer
                .close(&step.client)
                .map_err(|error| player.failure(step, "to close", error))?,
            Action::Secure => player
                .peer
                .secure(&step.client)
                .map_err(|error| player.failure(step, "a handshake", error))?,
            Action::Advance(time) => {
                player
                    .peer
                    .advance(*time)
                    .map_err(|error| player.failure(step, "time to pass", error))?;
            }
        }
    }
    player.expect_nothing_more()
}

/// How the clients' bytes are cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// Each client's turn in one piece.
    Whole,
    /// Cut once, after this many of all clients' bytes.
    SplitAt(usize),
    /// One byte at a time.
    Bytes,
}

impl Chunking {
    /// Every way to play a transcript: whole, split in two at every byte, byte by byte.
    pub fn all(transcript: &Transcript) -> impl Iterator<Item = Self> + use<> {
        let total = transcript.steps.iter().map(|step| match &step.action {
            Action::Send(bytes) => bytes.len(),
            _ => 0,
        });
        let splits = (1..total.sum()).map(Self::SplitAt);
        std::iter::once(Self::Whole)
            .chain(splits)
            .chain(std::iter::once(Self::Bytes))
    }
}

impl fmt::Display for Chunking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("sent whole"),
            Self::SplitAt(at) => write!(f, "split after byte {at}"),
            Self::Bytes => f.write_str("sent byte by byte"),
        }
    }
}

/// What a transcript is played against. Clients are known by their names.
pub trait Peer {
    /// A client connects.
    fn connect(&mut self, client: &str) -> Result<(), String>;

    /// A client sends one piece.
    fn send(&mut self, client: &str, data: &[u8]) -> Result<(), String>;

    /// What the server has sent to a client since the last call. Where that takes time this waits for something, and then fails.
    fn receive(&mut self, client: &str) -> Result<Received, String>;

    /// A client closes its writing half.
    fn close(&mut self, client: &str) -> Result<(), String>;

    /// A client's TLS handshake succeeds. Fails unless overridden.
    fn secure(&mut self, client: &str) -> Result<(), String> {
        let _ = client;
        Err("TLS cannot be begun here".to_owned())
    }

    /// Time passes. Fails unless overridden.
    fn advance(&mut self, time: Duration) -> Result<(), String> {
        Err(format!("the clock cannot be moved by {time:?} here"))
    }

    /// What the server has sent that nobody waited for, without waiting. Nothing unless overridden.
    fn unexpected(&mut self, client: &str) -> Result<Vec<u8>, String> {
        let _ = client;
        Ok(Vec::new())
    }
}

/// What a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing, and nothing will come before the client does something.
    Nothing,
    /// The end of the stream.
    End,
}

/// A dialogue did not go as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The transcript.
    pub file: String,
    /// The step's line; the last one's if the server sent too much.
    pub line: usize,
    /// How the bytes were cut.
    pub chunking: Chunking,
    /// What the transcript says.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            chunking,
            expected,
            got,
        } = self;
        write!(
            f,
            "{file}:{line} ({chunking})\n  expected {expected}\n  got      {got}"
        )
    }
}

impl Error for Failure {}

struct Player<'a, P> {
    transcript: &'a Transcript,
    chunking: Chunking,
    peer: &'a mut P,
    /// How many bytes all clients have sent.
    sent: usize,
    /// What each client has received and no step has expected yet.
    clients: HashMap<&'a str, Vec<u8>>,
}

impl<'a, P: Peer> Player<'a, P> {
    fn connect(&mut self, step: &'a Step) -> Result<(), Failure> {
        if matches!(step.action, Action::Advance(_))
            || self.clients.contains_key(step.client.as_str())
        {
            return Ok(());
        }
        self.peer
            .connect(&step.client)
            .map_err(|error| self.failure(step, "a connection", error))?;
        self.clients.insert(&step.client, Vec::new());
        Ok(())
    }

    fn send(&mut self, step: &Step, bytes: &[u8]) -> Result<(), Failure> {
        let size = match self.chunking {
            Chunking::Whole => bytes.len(),
            Chunking::Bytes => 1,
            Chunking::SplitAt(at) => match at.checked_sub(self.sent) {
                Some(first) if first > 0 && first < bytes.len() => first,
                _ => bytes.len(),
            },
        };
        self.sent += bytes.len();
        let (first, rest) = bytes.split_at_checked(size).unwrap_or((bytes, &[]));
        let rest = rest.chunks(if self.chunking == Chunking::Bytes {
            1
        } else {
            rest.len().max(1)
        });
        for piece in std::iter::once(first).chain(rest) {
            self.peer
                .send(&step.client, piece)
                .map_err(|error| self.failure(step, "to send", error))?;
        }
        Ok(())
    }

    fn expect_line(
        &mut self,
        step: &'a Step,
        matches: impl Fn(&[u8]) -> bool,
        expected: &impl fmt::Display,
    ) -> Result<(), Failure> {
        let end = self.receive_until(step, expected, |received| {
            received
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| at + 1)
        })?;
        let received = self.clients.entry(&step.client).or_default();
        let line: Vec<u8> = received.drain(..end.min(received.len())).collect();
        match line.strip_suffix(b"\r\n") {
            Some(text) if matches(text) => Ok(()),
            _ => Err(self.failure(step, expected, line.escape_ascii())),
        }
    }

    fn expect_bytes(&mut self, step: &'a Step, bytes: &[u8]) -> Result<(), Failure> {
        let expected = bytes.escape_ascii();
        let end = self.receive_until(step, &expected, |received| {
            let is_different = received
                .iter()
                .zip(bytes)
                .any(|(got, expected)| got != expected);
            (is_different || received.len() >= bytes.len())
                .then_some(received.len().min(bytes.len()))
        })?;
        let received = self.clients.entry(&step.client).or_default();
        if received.starts_with(bytes) {
            received.drain(..end);
            return Ok(());
        }
        let got = received.escape_ascii().to_string();
        Err(self.failure(step, expected, got))
    }

    fn expect_end(&mut self, step: &'a Step) -> Result<(), Failure> {
        let received = self.clients.entry(&step.client).or_default();
        if received.is_empty() {
            match self.peer.receive(&step.client) {
                Ok(Received::End) => return Ok(()),
                Ok(Received::Nothing) => {
                    return Err(self.failure(step, "the end", "nothing, and it is open"));
                }
                Ok(Received::Bytes(bytes)) => received.extend(bytes),
                Err(error) => return Err(self.failure(step, "the end", error)),
            }
        }
        let got = received.escape_ascii().to_string();
        Err(self.failure(step, "the end", got))
    }

    fn expect_nothing_more(&mut self) -> Result<(), Failure> {
        let Some(last) = self.transcript.steps.last() else {
            return Ok(());
        };
        for client in self.transcript.clients() {
            let mut left = self.clients.remove(client).unwrap_or_default();
            let more = self
                .peer
                .unexpected(client)
                .map_err(|error| self.failure(last, "nothing more", error))?;
            left.extend(more);
            if !left.is_empty() {
                let name = if client.is_empty() {
                    String::new()
                } else {
                    format!(" to {client}")
                };
                return Err(self.failure(
                    last,
                    format_args!("nothing more{name}"),
                    left.escape_ascii(),
                ));
            }
        }
        Ok(())
    }

    /// Receives until `enough` says how many bytes are meant.
    fn receive_until(
        &mut self,
        step: &'a Step,
        expected: &impl fmt::Display,
        enough: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<usize, Failure> {
        let received = self.clients.entry(&step.client).or_default();
        loop {
            if let Some(end) = enough(received) {
                return Ok(end);
            }
            let how = match self.peer.receive(&step.client) {
                Ok(Received::Bytes(bytes)) => {
                    received.extend(bytes);
                    continue;
                }
                Ok(Received::Nothing) => "nothing more".to_owned(),
                Ok(Received::End) => "the end".to_owned(),
                Err(error) => error,
            };
            let got = if received.is_empty() {
                how
            } else {
                format!("{}, then {how}", received.escape_ascii())
            };
            return Err(self.failure(step, expected, got));
        }
    }

    fn failure(&self, step: &Step, expected: impl fmt::Display, got: impl fmt::Display) -> Failure {
        Failure {
            file: self.transcript.file.clone(),
            line: step.line,
            chunking: self.chunking,
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

/// Plays against a protocol in this process.
struct Native<P: Protocol> {
    host: Host<P>,
    clients: HashMap<String, ConnectionId>,
}

impl<P: Protocol> Native<P> {
    fn id(&self, client: &str) -> Result<ConnectionId, String> {
        self.clients
            .get(client)
            .copied()
            .ok_or_else(|| format!("no client `{client}`"))
    }
}

impl<P: Protocol> Peer for Native<P> {
    fn connect(&mut self, client: &str) -> Result<(), String> {
        let id = self.host.connect();
        self.clients.insert(client.to_owned(), id);
        Ok(())
    }

    fn send(&mut self, client: &str, data: &[u8]) -> Result<(), String> {
        self.host.send(self.id(client)?, data);
        Ok(())
    }

    fn receive(&mut self, client: &str) -> Result<Received, String> {
        let id = self.id(client)?;
        let received = self.host.received(id);
        Ok(match (received.is_empty(), self.host.is_ended(id)) {
            (false, _) => Received::Bytes(received),
            (true, true) => Received::End,
            (true, false) => Received::Nothing,
        })
    }

    fn close(&mut self, client: &str) -> Result<(), String> {
        self.host.close_write(self.id(client)?);
        Ok(())
    }

    fn advance(&mut self, time: Duration) -> Result<(), String> {
        self.host.advance(time);
        Ok(())
    }

    fn secure(&mut self, client: &str) -> Result<(), String> {
        let id = self.id(client)?;
        let mut waiting = self.host.handshakes().into_iter();
        if !waiting.any(|(_, connection, _)| connection == id) {
            return Err("no handshake, the server has not begun TLS".to_owned());
        }
        self.host.secure(id, TlsInfo::default());
        Ok(())
    }

    fn unexpected(&mut self, client: &str) -> Result<Vec<u8>, String> {
        let id = self.id(client)?;
        Ok(self.host.received(id))
    }
}

fn transcripts(directory: &Path) -> Result<Vec<Transcript>, Box<dyn Error>> {
    let mut paths = Vec::new();
    let entries =
        fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let parse = |path: &std::path::PathBuf| {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Transcript::parse(&path.display().to_string(), &text)?)
    };
    paths.iter().map(parse).collect()
}

/// A JSON object with another's keys set.
fn merged(base: &str, changes: Option<&str>) -> Result<String, Box<dyn Error>> {
    let Some(changes) = changes else {
        return Ok(base.to_owned());
    };
    let mut base: Map<String, Value> = serde_json::from_str(base)?;
    base.extend(serde_json::from_str::<Map<String, Value>>(changes)?);
    Ok(Value::Object(base).to_string())
}

fn is_send(step: &Step) -> bool {
    matches!(step.action, Action::Send(_))
}
