//! The client side: `nethost exec plugins/echo.wasm HOST:PORT [TEXT]...`.
//!
//! A plugin's client is one `async` function. It may connect to the hosts that its arguments mention, and to no others.

use std::time::Duration;

use nethost_sdk::{
    DatagramPeer, Stream,
    command::{Command, ExitCode, Failure, Input, Io, Output},
    try_join,
};

use crate::Echoes;

/// Sends its arguments, or standard input, and prints what comes back.
#[derive(Debug)]
pub struct Client;

impl Command for Client {
    type Factory = Echoes;

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let mut arguments = arguments.iter().map(String::as_str).peekable();
        let transport = arguments.next_if_eq(&"--udp");
        let server = match arguments.next() {
            Some("--help") => {
                io.output.print(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            Some(server) if !server.starts_with('-') => server,
            _ => {
                io.error.print(USAGE);
                return Ok(ExitCode::USAGE);
            }
        };
        let text = arguments.collect::<Vec<_>>().join(" ");
        let source = if text.is_empty() {
            Source::Input(io.input)
        } else {
            Source::Text(Some(text + "\n"))
        };
        match transport {
            None => over_tcp(server, source, io.output).await?,
            Some(_) => over_udp(server, source, io.output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is sent.
enum Source {
    Text(Option<String>),
    Input(Input),
}

impl Source {
    /// The next piece; empty at the end.
    async fn next(&mut self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Text(text) => Ok(text.take().unwrap_or_default().into_bytes()),
            Self::Input(input) => Ok(input.read().await?),
        }
    }
}

/// Sends and prints at the same time: a server that echoes much while nobody reads it would stop reading.
async fn over_tcp(server: &str, mut source: Source, mut output: Output) -> Result<(), Failure> {
    let mut stream = Stream::connect(&format!("tcp://{server}")).await?;
    let (mut reader, mut writer) = stream.split();
    let send = async move {
        loop {
            let piece = source.next().await?;
            if piece.is_empty() {
                writer.shutdown();
                return Ok(());
            }
            writer.write_all(&piece).await?;
        }
    };
    let print = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = reader.read(&mut buffer).await?;
            let Some(echo) = buffer.get(..count).filter(|echo| !echo.is_empty()) else {
                return Ok(());
            };
            output.write_all(echo).await?;
        }
    };
    try_join(send, print).await.map(drop)
}

/// Sends one datagram after the other, each until it comes back.
async fn over_udp(server: &str, mut source: Source, mut output: Output) -> Result<(), Failure> {
    let mut peer = DatagramPeer::connect(&format!("udp://{server}")).await?;
    loop {
        let piece = source.next().await?;
        if piece.is_empty() {
            return Ok(());
        }
        for payload in piece.chunks(DATAGRAM) {
            output.write_all(&echo(&mut peer, payload).await?).await?;
        }
    }
}

async fn echo(peer: &mut DatagramPeer, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    for _ in 0..ATTEMPTS {
        peer.send(payload);
        // One that comes late is the echo of what was sent before.
        while let Some(echo) = peer.receive_within(PATIENCE).await? {
            if echo == payload {
                return Ok(echo);
            }
        }
    }
    Err(format!("no answer to {ATTEMPTS} datagrams").into())
}

const USAGE: &str = "\
usage: echo [--udp] HOST:PORT [TEXT]...

Sends TEXT, or standard input, to an echo server (RFC 862), and prints what comes back.
";

/// Bytes of a datagram: few enough for every path.
const DATAGRAM: usize = 1024;

/// How often a datagram is sent.
const ATTEMPTS: usize = 3;

/// How long each is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
