//! What the plugin counts, for the operator's monitoring: with `--metrics URL` the host tells it to Prometheus.
//!
//! A metric is declared once, in [`Factory::configure`](crate::Factory::configure), and kept there; to record is one call to the host with one number,
//! some 100 ns. A plugin that counts every byte of a busy connection adds up, and records now and then. Every
//! combination of the values of its labels is a series of its own, and there may be 1,000 of all metrics together: a label says which command or
//! which kind of error, never which peer or user.
//!
//! The host makes the name: `messages` of the plugin `irc` is told as `irc_messages_total`, with the service as a label, and all instances added up. So a
//! gauge says what this instance has, and never what all have.
//!
//! ```
//! use nethost_sdk::{
//!     Config, Context, Factory, Origin, Protocol,
//!     metrics::{Counter, Family, Gauge, Histogram, Metric},
//!     testing::Host,
//! };
//!
//! struct Counts {
//!     sessions: Gauge,
//!     lengths: Histogram,
//!     commands: Family<Counter, 1>,
//! }
//!
//! impl Factory for Counts {
//!     fn configure(_config: &Config) -> Result<Self, String> {
//!         let lengths = Metric::new("command", "How long commands are").unit("bytes");
//!         let commands = Metric::new("commands", "Commands, by their name").labels(["command"]);
//!         Ok(Self {
//!             sessions: Metric::new("sessions", "Sessions that are open").gauge()?,
//!             lengths: lengths.histogram(&[8.0, 64.0, 512.0])?,
//!             commands: commands.counter()?,
//!         })
//!     }
//! }
//!
//! struct Session;
//!
//! impl Protocol for Session {
//!     type Factory = Counts;
//!
//!     fn connection_made(cx: &mut Context<'_, Counts>, _origin: Origin) -> Option<Self> {
//!         cx.factory.sessions.add(1.0);
//!         Some(Self)
//!     }
//!
//!     fn data_received(&mut self, cx: &mut Context<'_, Counts>, data: &[u8]) {
//!         cx.factory.lengths.observe(data.len() as f64);
//!         let command = if data.starts_with(b"QUIT") { "quit" } else { "other" };
//!         cx.factory.commands.with([command]).increment();
//!     }
//! }
//!
//! # fn main() -> Result<(), String> {
//! let mut host = Host::<Session>::start("{}")?;
//! let peer = host.connect();
//! host.send(peer, b"QUIT\r\n");
//! assert_eq!(host.counter("commands", &["quit"]), 1);
//! assert_eq!(host.gauge("sessions", &[]), 1.0);
//! assert_eq!(host.observed("command", &[]), [6.0]);
//! # Ok(())
//! # }
//! ```

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
};

use crate::{bindings::nethost::plugin::metrics::Description, host, types::Error};

/// A metric to be. Names have the letters a to z, digits and `_`; what the host adds (the plugin's name, the unit, `_total`) is not a part of them.
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    name: &'a str,
    help: &'a str,
    unit: Option<&'a str>,
}

impl<'a> Metric<'a> {
    /// Its name, and a sentence for the operator.
    pub const fn new(name: &'a str, help: &'a str) -> Self {
        Self {
            name,
            help,
            unit: None,
        }
    }

    /// What its numbers are of: `bytes`, `seconds`.
    #[must_use]
    pub const fn unit(self, unit: &'a str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    /// The names of its labels.
    pub const fn labels<const N: usize>(self, labels: [&'a str; N]) -> Labelled<'a, N> {
        Labelled {
            metric: self,
            labels,
        }
    }

    /// A number that only grows. Errors: `invalid`, `exists` (declared before, in other words), `limit`.
    pub fn counter(self) -> Result<Counter, Error> {
        let declared = host::Counter::declare(&self.describe(&[]))?;
        Ok(Counter(Some(Rc::new(declared))))
    }

    /// A number that goes up and down. Errors: as for [`counter`](Self::counter).
    pub fn gauge(self) -> Result<Gauge, Error> {
        let declared = host::Gauge::declare(&self.describe(&[]))?;
        Ok(Gauge(Some(Rc::new(declared))))
    }

    /// Counts by size, in buckets with these upper bounds: 1 to 32, ascending. Errors: as for [`counter`](Self::counter).
    pub fn histogram(self, bounds: &[f64]) -> Result<Histogram, Error> {
        let declared = host::Histogram::declare(&self.describe(&[]), bounds)?;
        Ok(Histogram(Some(Rc::new(declared))))
    }

    fn describe(self, labels: &[&str]) -> Description {
        Description {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            unit: self.unit.map(str::to_owned),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }
}

/// A metric with labels to be.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a, const N: usize> {
    metric: Metric<'a>,
    labels: [&'a str; N],
}

impl<const N: usize> Labelled<'_, N> {
    /// Numbers that only grow. Errors: as for [`Metric::counter`].
    pub fn counter(self) -> Result<Family<Counter, N>, Error> {
        let declared = host::Counter::declare(&self.metric.describe(&self.labels))?;
        Ok(Family::new(Counter(Some(Rc::new(declared)))))
    }

    /// Numbers that go up and down. Errors: as for [`Metric::counter`].
    pub fn gauge(self) -> Result<Family<Gauge, N>, Error> {
        let declared = host::Gauge::declare(&self.metric.describe(&self.labels))?;
        Ok(Family::new(Gauge(Some(Rc::new(declared)))))
    }

    /// Counts by size, as [`Metric::histogram`] does. Errors: as for [`Metric::counter`].
    pub fn histogram(self, bounds: &[f64]) -> Result<Family<Histogram, N>, Error> {
        let declared = host::Histogram::declare(&self.metric.describe(&self.labels), bounds)?;
        Ok(Family::new(Histogram(Some(Rc::new(declared)))))
    }
}

/// A metric with labels: a series for each combination of their values.
pub struct Family<S, const N: usize> {
    metric: S,
    /// By the hash of the values, so that to look one up allocates nothing.
    series: RefCell<HashMap<u64, Vec<Resolved<S, N>>>>,
}

type Resolved<S, const N: usize> = ([Box<str>; N], S);

impl<S: Series, const N: usize> Family<S, N> {
    fn new(metric: S) -> Self {
        Self {
            metric,
            series: RefCell::default(),
        }
    }

    /// The series with these values of the labels, in the order in which they were named. The first time the host is asked; where it is known which there will be, it is
    /// cheaper to keep what this returns.
    pub fn with(&self, values: [&str; N]) -> S {
        let mut hasher = DefaultHasher::new();
        values.hash(&mut hasher);
        let mut series = self.series.borrow_mut();
        let count = series.len();
        let known = series.get(&hasher.finish());
        let is_it = |(known, _): &&Resolved<S, N>| {
            known
                .iter()
                .zip(values)
                .all(|(known, value)| **known == *value)
        };
        if let Some((_, series)) = known.and_then(|known| known.iter().find(is_it)) {
            return series.clone();
        }
        let made = self.metric.labelled(&values.map(str::to_owned));
        if count < MAX_KEPT {
            let values = values.map(Box::from);
            let same_hash = series.entry(hasher.finish()).or_default();
            same_hash.push((values, made.clone()));
        }
        made
    }
}

impl<S: fmt::Debug, const N: usize> fmt::Debug for Family<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metric.fmt(f)
    }
}

/// What is recorded to: [`Counter`], [`Gauge`] and [`Histogram`].
pub trait Series: Clone {
    /// The series with these values of the labels; there are as many as labels.
    #[doc(hidden)]
    #[must_use]
    fn labelled(&self, values: &[String]) -> Self;
}

/// A number that only grows. The default one counts nothing.
#[derive(Clone, Default)]
pub struct Counter(Option<Rc<host::Counter>>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        if let Some(counter) = &self.0 {
            counter.add(count);
        }
    }
}

/// A number that goes up and down. The default one is nobody's.
///
/// In a swap it keeps its value, unless the new version sets it before the swap is done.
#[derive(Clone, Default)]
pub struct Gauge(Option<Rc<host::Gauge>>);

impl Gauge {
    /// Says what it is now. What is not finite is ignored.
    pub fn set(&self, value: f64) {
        if let Some(gauge) = &self.0 {
            gauge.set(value);
        }
    }

    /// Adds, or with a negative number takes away.
    pub fn add(&self, difference: f64) {
        if let Some(gauge) = &self.0 {
            gauge.add(difference);
        }
    }
}

/// Counts values by their size. The default one counts nothing.
#[derive(Clone, Default)]
pub struct Histogram(Option<Rc<host::Histogram>>);

impl Histogram {
    /// Counts a value. What is negative or not finite is ignored.
    pub fn observe(&self, value: f64) {
        if let Some(histogram) = &self.0 {
            histogram.observe(value);
        }
    }
}

macro_rules! series {
    ($($name:ident),*) => {$(
        impl Series for $name {
            fn labelled(&self, values: &[String]) -> Self {
                // There are as many values as labels, so nothing is refused.
                Self(self.0.as_ref().and_then(|metric| metric.labelled(values).ok()).map(Rc::new))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

series!(Counter, Gauge, Histogram);

/// Series of one metric that are kept, as many as the host has by default.
const MAX_KEPT: usize = 1_000;
