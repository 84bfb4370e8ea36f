//! `log`: the plugin's lines, at most so many a second.

use std::{sync::Arc, time::Instant};

use crate::{
    bindings::nethost::plugin::log::{Host, Level},
    command::Output,
    instance::State,
    metrics::meters::{Limit, Meters},
};

/// An instance's way to the log.
#[derive(Debug)]
pub(crate) struct Lines {
    meters: Arc<Meters>,
    service: String,
    /// What was printed since the last end of line.
    partial: Vec<u8>,
    rate: f64,
    /// Lines that may be written now: a token bucket.
    tokens: f64,
    filled: Instant,
    dropped: u64,
}

impl Lines {
    /// Makes an empty one that lets `rate` lines a second pass.
    pub(crate) fn new(service: &str, rate: u32, meters: Arc<Meters>) -> Self {
        let rate = f64::from(rate);
        Self {
            meters,
            service: service.to_owned(),
            partial: Vec::new(),
            rate,
            tokens: rate * BURST,
            filled: Instant::now(),
            dropped: 0,
        }
    }

    fn write(&mut self, level: Level, message: &str) {
        if !self.admit(Instant::now()) {
            return;
        }
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(target: TARGET, service = self.service, dropped, "log lines over the limit were dropped");
        }
        let message = escape(message);
        let service = self.service.as_str();
        match level {
            Level::Trace => tracing::trace!(target: TARGET, service, "{message}"),
            Level::Debug => tracing::debug!(target: TARGET, service, "{message}"),
            Level::Info => tracing::info!(target: TARGET, service, "{message}"),
            Level::Warn => tracing::warn!(target: TARGET, service, "{message}"),
            Level::Error => tracing::error!(target: TARGET, service, "{message}"),
        }
    }

    fn print(&mut self, mut data: &[u8]) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = data.split_at(end);
            self.append(line);
            self.end_line();
            data = rest.get(1..).unwrap_or_default();
        }
        self.append(data);
    }

    fn append(&mut self, data: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(data.get(..room).unwrap_or(data));
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.write(Level::Info, &String::from_utf8_lossy(&line));
    }

    fn admit(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + elapsed * self.rate).min(self.rate * BURST);
        if self.tokens < 1.0 {
            self.dropped += 1;
            self.meters.limits.count(Limit::LogLines);
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A panic's last words have no end of line when the instance ends in their midst.
        if !self.partial.is_empty() {
            self.end_line();
        }
        if self.dropped > 0 {
            tracing::warn!(target: TARGET, service = self.service, dropped = self.dropped, "log lines over the limit were dropped");
        }
    }
}

impl Host for State {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.lines.write(level, &message);
        Ok(())
    }

    fn print(&mut self, data: Vec<u8>) -> wasmtime::Result<()> {
        match self.holdings.console() {
            // A panic's last words are for who runs the command.
            Some(console) => drop(console.write(Output::Error, &data)),
            None => self.lines.print(&data),
        }
        Ok(())
    }
}

/// A plugin cannot forge a line of the log, or send commands to the operator's terminal.
pub(crate) fn escape(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(LONGEST_LINE));
    for character in message.chars() {
        if line.len() + character.len_utf8() > LONGEST_LINE {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// What tracing calls the origin of these lines.
const TARGET: &str = "nethost::plugin";

/// A line's bytes, as the contract says: 8 KiB.
const LONGEST_LINE: usize = 8 << 10;

/// Seconds of the rate that may come at once.
const BURST: f64 = 10.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(escape("a\x1b[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(escape("grün"), "grün");
    }

    #[test]
    fn a_line_is_cut_at_its_longest() {
        let line = escape(&"x".repeat(LONGEST_LINE + 1));
        assert_eq!(line.len(), LONGEST_LINE + '…'.len_utf8());
    }

    #[test]
    fn lines_over_the_rate_are_counted_and_dropped() {
        let mut lines = Lines::new("test", 10, Arc::default());
        let start = lines.filled;
        let admitted = (0..150).filter(|_| lines.admit(start)).count();
        assert_eq!((admitted, lines.dropped), (100, 50));
        let later = start + Duration::from_secs(1);
        let admitted = (0..50).filter(|_| lines.admit(later)).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn printed_pieces_are_joined_into_lines() {
        let mut lines = Lines::new("test", 10, Arc::default());
        lines.print(b"one ");
        lines.print(b"two\nthree");
        assert_eq!(lines.partial, b"three");
        lines.print(&vec![b'x'; 3 * LONGEST_LINE]);
        assert_eq!(lines.partial.len(), LONGEST_LINE);
        lines.print(b"\n");
        assert!(lines.partial.is_empty());
    }
}
