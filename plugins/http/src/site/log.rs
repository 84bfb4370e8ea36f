//! The access log: a line for each request, in a file of a granted directory, and so not in the host's log, which has a limit.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    rc::Rc,
    time::Duration,
};

use http::StatusCode;
use nethost_sdk::{Directory, FileOpening, after, clock, log, spawn_for_instance};
use serde::Serialize;

use crate::service::Peer;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Apache's and nginx's `combined`.
    Combined,
    /// One JSON object.
    Json,
}

/// Lines that wait to be written, and where they are.
pub(super) struct AccessLog {
    format: Format,
    directory: Directory,
    lines: RefCell<String>,
    /// Lines that found no room.
    dropped: Cell<u64>,
    is_writing: Cell<bool>,
    is_draining: Cell<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    peer: String,
    user: Option<&'a str>,
    request: &'a str,
    host: Option<&'a str>,
    status: u16,
    bytes: u64,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
}

impl AccessLog {
    pub(super) fn new(format: Format) -> Result<Rc<Self>, String> {
        let directory = Directory::named("logs");
        let directory = directory.map_err(|error| {
            format!("access-log: {error}; grant a folder with --dir logs=PATH:rw")
        })?;
        Ok(Rc::new(Self {
            format,
            directory,
            lines: RefCell::default(),
            dropped: Cell::new(0),
            is_writing: Cell::new(false),
            is_draining: Cell::new(false),
        }))
    }

    /// Notes a request.
    pub(super) fn note(self: &Rc<Self>, peer: &Peer, status: StatusCode, bytes: u64) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= MAX_WAITING {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let text = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8_lossy(it).into_owned());
        let request = text(Some(peer.request_line())).unwrap_or_default();
        let [referer, user_agent, host] =
            ["referer", "user-agent", "host"].map(|name| text(peer.header(name)));
        let account = peer.account();
        let address = peer.address();
        let line = Line {
            time: timestamp(clock::wall()),
            peer: address
                .ip()
                .map_or_else(|| address.to_string(), |ip| ip.to_string()),
            user: account.as_ref().map(|it| it.name.as_str()),
            request: &request,
            host: host.as_deref(),
            status: status.as_u16(),
            bytes,
            referer: referer.as_deref(),
            user_agent: user_agent.as_deref(),
        };
        match self.format {
            Format::Combined => line.combined(&mut lines),
            Format::Json => {
                lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
                lines.push('\n');
            }
        }
        drop(lines);
        if !self.is_writing.replace(true) {
            spawn_for_instance(Rc::clone(self).write()).detach();
        }
    }

    /// The service goes away: nothing waits for a second any more.
    pub(super) fn drain(self: &Rc<Self>) {
        self.is_draining.set(true);
        let this = Rc::clone(self);
        spawn_for_instance(async move { this.append().await }).detach();
    }

    /// Writes what waits, a second later: one call for many lines.
    async fn write(self: Rc<Self>) {
        while !self.lines.borrow().is_empty() {
            if !self.is_draining.get() {
                // Only an instance that ends cancels it.
                let _elapsed = after(Duration::from_secs(1)).await;
            }
            self.append().await;
        }
        self.is_writing.set(false);
    }

    /// Writes what there is. The file is opened each time, so that it can be rotated by being renamed.
    async fn append(&self) {
        let lines = self.lines.take();
        if lines.is_empty() {
            return;
        }
        let file = self.directory.open("access.log", FileOpening::Create).await;
        let written = match file {
            Ok(file) => file.append(lines.as_bytes()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            log::warn!("access.log: {error}");
        }
        let dropped = self.dropped.take();
        if dropped > 0 {
            log::warn!(
                "access.log: {dropped} requests are missing, they came faster than they could be written"
            );
        }
    }
}

impl Line<'_> {
    fn combined(&self, output: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(output, "{} - ", self.peer);
        quoted(self.user.unwrap_or("-"), output);
        let _ = write!(output, " [{}] \"", self.time);
        quoted(self.request, output);
        let _ = write!(output, "\" {} {} \"", self.status, self.bytes);
        quoted(self.referer.unwrap_or("-"), output);
        output.push_str("\" \"");
        quoted(self.user_agent.unwrap_or("-"), output);
        output.push_str("\"\n");
    }
}

/// A text between quotation marks, as nginx writes it: what could end it, or the line, is `\xHH`.
fn quoted(text: &str, output: &mut String) {
    for char in text.chars() {
        if char.is_control() || matches!(char, '"' | '\\') {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                // Writing to a string does not fail.
                let _ = write!(output, "\\x{byte:02X}");
            }
        } else {
            output.push(char);
        }
    }
}

/// `06/Nov/1994:08:49:37 +0000`, of the parts of the date in a header.
fn timestamp(now: Duration) -> String {
    let date = crate::codec::date::show(now);
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, time) = (word(), word(), word(), word());
    format!("{day}/{month}/{year}:{time} +0000")
}

/// Bytes that wait to be written; more requests are counted only. A second of 5,000 requests.
const MAX_WAITING: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let line = Line {
            time: timestamp(Duration::from_secs(784_111_777)),
            peer: "192.0.2.1".to_owned(),
            user: None,
            request: "GET /\" HTTP/1.1",
            host: Some("a"),
            status: 200,
            bytes: 5,
            referer: None,
            user_agent: Some("x\n\\\"y"),
        };
        let mut output = String::new();
        line.combined(&mut output);
        assert_eq!(
            output,
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /\\x22 HTTP/1.1\" 200 5 \"-\" \"x\\x0A\\x5C\\x22y\"\n"
        );
    }
}
