//! The newest lines of the log, kept for who asks.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{format::Writer, time::FormatTime as _, time::SystemTime as Clock},
    layer::Context,
    registry::LookupSpan,
};

use super::api::LogLine;

/// The last lines of the log: at most [`LINES`], each of at most [`LONGEST`] bytes.
#[derive(Debug)]
pub(crate) struct Ring {
    lines: Mutex<Lines>,
    /// How many lines there were in all.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Arc<LogLine>>,
    /// Of the first that is kept.
    first: u64,
}

/// What was there, and where to go on.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) lines: Vec<Arc<LogLine>>,
    /// Lines of any service that had gone before they were asked for.
    pub(crate) missed: u64,
    /// The number of the next line.
    pub(crate) next: u64,
}

impl Ring {
    /// Returns the one of this process.
    pub(crate) fn of_process() -> &'static Arc<Self> {
        static RING: OnceLock<Arc<Ring>> = OnceLock::new();
        RING.get_or_init(|| {
            Arc::new(Self {
                lines: Mutex::default(),
                count: watch::Sender::new(0),
            })
        })
    }

    fn push(&self, line: LogLine) {
        let mut lines = self.lock();
        if lines.kept.len() == LINES {
            lines.kept.pop_front();
            lines.first += 1;
        }
        lines.kept.push_back(Arc::new(line));
        let count = lines.first + u64::try_from(lines.kept.len()).unwrap_or_default();
        // Before the lock is let go, so that the numbers come in order.
        self.count.send_replace(count);
    }

    /// Returns the last lines about a service, or all of them.
    pub(crate) fn last(&self, service: Option<&str>, most: usize) -> Excerpt {
        let mut excerpt = self.since(0, service);
        let surplus = excerpt.lines.len().saturating_sub(most);
        excerpt.lines.drain(..surplus);
        // Nobody has asked for those before.
        excerpt.missed = 0;
        excerpt
    }

    /// Returns the lines that came since the one with this number, and that one.
    pub(crate) fn since(&self, number: u64, service: Option<&str>) -> Excerpt {
        let lines = self.lock();
        let skip = usize::try_from(number.saturating_sub(lines.first)).unwrap_or(usize::MAX);
        let is_asked_for = |line: &&Arc<LogLine>| {
            service.is_none_or(|service| line.service.as_deref() == Some(service))
        };
        let found = lines.kept.iter().skip(skip).filter(is_asked_for);
        Excerpt {
            lines: found.cloned().collect(),
            missed: lines.first.saturating_sub(number),
            next: lines.first + u64::try_from(lines.kept.len()).unwrap_or_default(),
        }
    }

    /// Returns what tells of new lines: how many there were in all.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what is logged into a ring.
#[derive(Debug)]
pub(crate) struct Keep(pub(crate) Arc<Ring>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields {
            service,
            mut message,
            rest,
        } = fields;
        message.push_str(&rest);
        if message.len() > LONGEST {
            let end = message.floor_char_boundary(LONGEST);
            message.truncate(end);
            message.push('…');
        }
        let metadata = event.metadata();
        self.0.push(LogLine {
            time: now(),
            level: metadata.level().to_string(),
            service,
            target: metadata.target().to_owned(),
            message,
            missed: 0,
        });
    }
}

/// An event's fields, as the log shows them.
#[derive(Default)]
struct Fields {
    service: Option<String>,
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "service" => self.service = Some(value.to_owned()),
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "service" => {
                self.service = Some(format!("{value:?}"));
                Ok(())
            }
            name => write!(self.rest, " {name}={value:?}"),
        };
        // A string takes everything.
        debug_assert!(written.is_ok());
    }
}

/// The time as the log itself writes it.
fn now() -> String {
    let mut text = String::new();
    let written = Clock.format_time(&mut Writer::new(&mut text));
    if written.is_err() {
        text = format!("{:?}", SystemTime::now());
    }
    text
}

/// Lines that are kept: 1,000, some screens full; 4 MiB at most.
pub(crate) const LINES: usize = 1_000;

/// Bytes of a line's text that are kept: 4 KiB.
const LONGEST: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring {
            lines: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    fn push(ring: &Ring, service: &str, message: &str) {
        ring.push(LogLine {
            time: String::new(),
            level: "INFO".to_owned(),
            service: (!service.is_empty()).then(|| service.to_owned()),
            target: String::new(),
            message: message.to_owned(),
            missed: 0,
        });
    }

    fn told(excerpt: &Excerpt) -> Vec<&str> {
        let lines = excerpt.lines.iter();
        lines.map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn the_last_lines_of_a_service_are_told_and_then_those_that_come() {
        let ring = ring();
        for (service, message) in [("a", "1"), ("b", "2"), ("a", "3"), ("", "4"), ("a", "5")] {
            push(&ring, service, message);
        }
        let last = ring.last(Some("a"), 2);
        assert_eq!(told(&last), ["3", "5"]);
        assert_eq!(told(&ring.last(None, 2)), ["4", "5"]);
        assert!(told(&ring.since(last.next, None)).is_empty());
        push(&ring, "b", "6");
        push(&ring, "a", "7");
        assert_eq!(told(&ring.since(last.next, Some("a"))), ["7"]);
        assert_eq!(*ring.watch().borrow(), 7);
    }

    #[test]
    fn who_is_slow_is_told_how_many_are_gone() {
        let ring = ring();
        for number in 0..LINES + 10 {
            push(&ring, "", &number.to_string());
        }
        let excerpt = ring.since(3, None);
        assert_eq!(excerpt.missed, 7);
        assert_eq!(excerpt.lines.len(), LINES);
        assert_eq!(told(&excerpt)[0], "10");
    }
}
