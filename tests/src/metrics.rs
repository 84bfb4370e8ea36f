//! The endpoint for metrics and health, and what its text says.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{DEADLINE, host::Host};

/// Where a host tells its metrics.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint(SocketAddr);

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header, in lower case.
    pub header: String,
    /// Its body.
    pub body: String,
}

impl Endpoint {
    /// Finds it in a host's log; the host was started with `--metrics`.
    pub fn of(host: &Host) -> Self {
        let line = host.logged(&["metrics", "http://"]);
        let (_, rest) = line.split_once("http://").expect("it was looked for");
        let (address, _) = rest.split_once('/').expect("the URL has a path");
        Self(address.parse().expect("the URL has an address"))
    }

    /// Takes the URL of one.
    pub fn at(url: &str) -> Self {
        let address = url
            .strip_prefix("http://")
            .and_then(|it| it.split_once('/'));
        let (address, _) = address.expect("the URL has a host and a path");
        Self(address.parse().expect("the URL has an address"))
    }

    /// Connects, and says nothing.
    pub fn connect(self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.0, DEADLINE);
        let stream = stream.unwrap_or_else(|error| panic!("connecting to {}: {error}", self.0));
        let limited = stream.set_read_timeout(Some(DEADLINE));
        limited.unwrap_or_else(|error| panic!("a deadline: {error}"));
        stream
    }

    /// Asks.
    pub fn request(self, method: &str, path: &str) -> Answer {
        let mut stream = self.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let sent = stream.write_all(request.as_bytes());
        sent.unwrap_or_else(|error| panic!("sending: {error}"));
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        read.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (header, body) = answer
            .split_once("\r\n\r\n")
            .expect("an answer has a header");
        let status = header
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("an answer has a status"),
            header: header.to_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Asks for a page.
    pub fn get(self, path: &str) -> Answer {
        self.request("GET", path)
    }

    /// Returns the metrics.
    pub fn scrape(self) -> Scrape {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        Scrape(answer.body)
    }

    /// Scrapes until a sample has this value.
    pub fn await_value(self, sample: &str, value: f64) -> Scrape {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let scrape = self.scrape();
            if scrape.value(sample) == Some(value) {
                return scrape;
            }
            assert!(
                Instant::now() < deadline,
                "{sample} does not become {value}:\n{}",
                scrape.0
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Metrics as text.
#[derive(Clone, Debug)]
pub struct Scrape(pub String);

impl Scrape {
    /// Returns the value of a sample, which is named as in the text.
    pub fn value(&self, sample: &str) -> Option<f64> {
        let rest = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(rest)
    }

    /// Sees that samples have these values.
    ///
    /// # Panics
    ///
    /// With the text if one has not.
    pub fn has(&self, samples: &[(&str, f64)]) {
        for (sample, value) in samples {
            assert_eq!(self.value(sample), Some(*value), "{sample} in\n{}", self.0);
        }
    }

    /// Sees that Prometheus' own tool has nothing to say about it.
    pub fn is_clean(&self) {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("promtool (Debian's prometheus; `cargo xtask test` installs it): {error}")
        });
        let mut stdin = child.stdin.take().expect("it is piped");
        let written = stdin.write_all(self.0.as_bytes());
        written.unwrap_or_else(|error| panic!("writing to promtool: {error}"));
        drop(stdin);
        let output = child.wait_with_output();
        let output = output.unwrap_or_else(|error| panic!("promtool: {error}"));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            output.status.success() && said.is_empty(),
            "promtool says {said} of\n{}",
            self.0
        );
    }
}
