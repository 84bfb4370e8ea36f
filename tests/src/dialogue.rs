//! Transcripts, played over sockets.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    slice,
};

use nethost_sdk::testing::{Chunking, Peer, Received, Transcript, play};

use crate::{client::Client, host::Host};

/// Reads the transcripts in a folder, in order.
pub fn transcripts(folder: &Path) -> Vec<Transcript> {
    let shown = folder.display();
    let entries = folder.read_dir();
    let entries = entries.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no transcript in {shown}");
    let parse = |path: &PathBuf| {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Transcript::parse(&path.display().to_string(), &text)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    paths.iter().map(parse).collect()
}

/// Returns the changes of a transcript's `config:` as arguments: `--set KEY=VALUE`.
pub fn arguments(transcript: &Transcript) -> Vec<String> {
    let Some(config) = &transcript.config else {
        return Vec::new();
    };
    let config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(config)
        .unwrap_or_else(|error| panic!("{}: config: {error}", transcript.file));
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut arguments = Vec::new();
    for (key, value) in &config {
        // A list is set once for each element.
        let values = match value {
            serde_json::Value::Array(values) => values.as_slice(),
            single => slice::from_ref(single),
        };
        for value in values {
            arguments.extend(["--set".to_owned(), format!("{key}={}", text(value))]);
        }
    }
    arguments
}

/// Plays a transcript against a host over TCP.
///
/// # Panics
///
/// If it does not go as written.
pub fn play_over_tcp(transcript: &Transcript, chunking: Chunking, host: &Host) {
    let mut peer = Sockets {
        host,
        clients: HashMap::new(),
        spoke_last: String::new(),
    };
    play(transcript, chunking, &mut peer).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Each client of a transcript is a connection.
struct Sockets<'a> {
    host: &'a Host,
    clients: HashMap<String, Client>,
    spoke_last: String,
}

impl Sockets<'_> {
    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        self.clients
            .get_mut(name)
            .ok_or_else(|| format!("no client `{name}`"))
    }
}

impl Peer for Sockets<'_> {
    fn connect(&mut self, client: &str) -> Result<(), String> {
        self.clients.insert(client.to_owned(), self.host.connect());
        Ok(())
    }

    fn send(&mut self, client: &str, data: &[u8]) -> Result<(), String> {
        // What two clients send over two connections has no order, unless one waits for the other.
        if self.spoke_last != client {
            if let Some(last) = self.clients.get(&self.spoke_last) {
                last.wait_until_read();
            }
            client.clone_into(&mut self.spoke_last);
        }
        let sent = self.client(client)?.try_send(data);
        sent.map_err(|error| error.to_string())
    }

    fn receive(&mut self, client: &str) -> Result<Received, String> {
        let client = self.client(client)?;
        if client.receive() {
            Ok(Received::Bytes(client.take_received()))
        } else {
            Ok(Received::End)
        }
    }

    fn close(&mut self, client: &str) -> Result<(), String> {
        self.client(client)?.close_write();
        Ok(())
    }
}
