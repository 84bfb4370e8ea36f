//! What plugins count, natively: in place of the imports, kept by the test reactor.

use std::collections::{BTreeMap, BTreeSet};

use super::{metric_rules as rules, reactor};
use crate::bindings::nethost::plugin::{
    metrics::Description,
    types::{Error, ErrorCode},
};

/// Everything that was declared and recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    declared: BTreeMap<String, (Kind, Description)>,
    /// Those with labels that have a place of their own.
    series: BTreeSet<(String, Vec<String>)>,
    /// By the metric and the values of its labels.
    recorded: BTreeMap<(String, Vec<String>), Recorded>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) count: u64,
    pub(crate) value: f64,
    pub(crate) observed: Vec<f64>,
    /// It is the old version's, and the new one has not recorded to it.
    is_inherited: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram(Vec<f64>),
}

impl Metrics {
    /// A new version declares for itself, and goes on with what was recorded.
    pub(crate) fn renew(&mut self) {
        self.declared.clear();
        for recorded in self.recorded.values_mut() {
            recorded.is_inherited = true;
        }
    }

    /// The new version is in charge.
    pub(crate) fn commit(&mut self) {
        for recorded in self.recorded.values_mut() {
            recorded.is_inherited = false;
        }
    }

    /// Returns what was recorded, if anything was.
    pub(crate) fn recorded(&self, name: &str, values: &[&str]) -> Recorded {
        let declared = self.declared.get(name);
        let (_, description) = declared.unwrap_or_else(|| panic!("no metric `{name}` is declared"));
        assert_eq!(
            description.labels.len(),
            values.len(),
            "the labels of `{name}` are {:?}",
            description.labels
        );
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let recorded = self.recorded.get(&(name.to_owned(), values));
        recorded.cloned().unwrap_or_default()
    }

    fn declare(&mut self, description: &Description, kind: Kind) -> Result<(), Error> {
        let refused = |code, message: String| Err(Error { code, message });
        let name = &description.name;
        if let Err(message) = rules::check(description, &kind) {
            return refused(ErrorCode::Invalid, message);
        }
        let new = (kind, description.clone());
        match self.declared.get(name) {
            Some(known) if *known == new => Ok(()),
            Some(_) => refused(ErrorCode::Exists, format!("`{name}` is declared already")),
            None if self.is_told(description, &new.0) => {
                let message = format!("another metric is told under the name of `{name}`");
                refused(ErrorCode::Exists, message)
            }
            None if self.declared.len() >= rules::MOST_METRICS => {
                let message = format!("{} metrics are declared", rules::MOST_METRICS);
                refused(ErrorCode::Limit, message)
            }
            None => {
                self.declared.insert(name.clone(), new);
                Ok(())
            }
        }
    }

    fn is_told(&self, description: &Description, kind: &Kind) -> bool {
        let told = rules::told_as(description, kind);
        let mut declared = self.declared.values();
        declared.any(|(kind, other)| rules::told_as(other, kind) == told)
    }

    /// Returns the values under which a series is recorded: its own, unless there are too many.
    fn place(&mut self, name: &str, values: &[String]) -> Vec<String> {
        let values: Vec<_> = values.iter().map(|value| rules::clean(value)).collect();
        let shared = vec![rules::OVERFLOW.to_owned(); values.len()];
        let key = (name.to_owned(), values);
        if key.1 == shared || self.series.contains(&key) {
            return key.1;
        }
        if self.series.len() >= rules::MOST_SERIES {
            return shared;
        }
        self.series.insert(key.clone());
        key.1
    }
}

/// A plugin's handle of a metric or a series.
#[derive(Debug)]
struct Handle {
    name: String,
    labels: usize,
    values: Vec<String>,
}

impl Handle {
    fn declare(description: &Description, kind: Kind) -> Result<Self, Error> {
        reactor::with(|reactor| reactor.metrics.declare(description, kind))?;
        Ok(Self {
            name: description.name.clone(),
            labels: description.labels.len(),
            values: Vec::new(),
        })
    }

    fn labelled(&self, values: &[String]) -> Result<Self, Error> {
        if values.len() != self.labels {
            return Err(Error {
                code: ErrorCode::Invalid,
                message: format!("{} values for {} labels", values.len(), self.labels),
            });
        }
        let values = reactor::with(|reactor| reactor.metrics.place(&self.name, values));
        Ok(Self {
            name: self.name.clone(),
            labels: self.labels,
            values,
        })
    }

    fn record(&self, record: impl FnOnce(&mut Recorded)) {
        if self.values.len() == self.labels {
            reactor::with(|reactor| {
                let key = (self.name.clone(), self.values.clone());
                record(reactor.metrics.recorded.entry(key).or_default());
            });
        }
    }
}

/// As the import.
#[derive(Debug)]
pub(crate) struct Counter(Handle);

impl Counter {
    pub(crate) fn declare(description: &Description) -> Result<Self, Error> {
        Ok(Self(Handle::declare(description, Kind::Counter)?))
    }

    pub(crate) fn labelled(&self, values: &[String]) -> Result<Self, Error> {
        Ok(Self(self.0.labelled(values)?))
    }

    pub(crate) fn add(&self, count: u64) {
        self.0
            .record(|recorded| recorded.count = recorded.count.saturating_add(count));
    }
}

/// As the import.
#[derive(Debug)]
pub(crate) struct Gauge(Handle);

impl Gauge {
    pub(crate) fn declare(description: &Description) -> Result<Self, Error> {
        Ok(Self(Handle::declare(description, Kind::Gauge)?))
    }

    pub(crate) fn labelled(&self, values: &[String]) -> Result<Self, Error> {
        Ok(Self(self.0.labelled(values)?))
    }

    pub(crate) fn set(&self, value: f64) {
        if value.is_finite() {
            self.0.record(|recorded| {
                recorded.value = value;
                recorded.is_inherited = false;
            });
        }
    }

    pub(crate) fn add(&self, difference: f64) {
        if difference.is_finite() {
            self.0.record(|recorded| {
                if std::mem::take(&mut recorded.is_inherited) {
                    recorded.value = 0.0;
                }
                recorded.value += difference;
            });
        }
    }
}

/// As the import.
#[derive(Debug)]
pub(crate) struct Histogram(Handle);

impl Histogram {
    pub(crate) fn declare(description: &Description, bounds: &[f64]) -> Result<Self, Error> {
        let kind = Kind::Histogram(bounds.to_vec());
        Ok(Self(Handle::declare(description, kind)?))
    }

    pub(crate) fn labelled(&self, values: &[String]) -> Result<Self, Error> {
        Ok(Self(self.0.labelled(values)?))
    }

    pub(crate) fn observe(&self, value: f64) {
        if value.is_finite() && value >= 0.0 {
            self.0.record(|recorded| recorded.observed.push(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, unit: Option<&str>, labels: &[&str]) -> Description {
        Description {
            name: name.to_owned(),
            help: "Help".to_owned(),
            unit: unit.map(str::to_owned),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    #[test]
    fn there_are_only_so_many_metrics_and_no_two_are_told_alike() {
        let mut metrics = Metrics::default();
        let mut declare = |name: &str, unit, kind| {
            let declared = metrics.declare(&description(name, unit, &[]), kind);
            declared.map_err(|error| error.code)
        };
        assert_eq!(declare("received", Some("bytes"), Kind::Gauge), Ok(()));
        assert_eq!(declare("received", Some("bytes"), Kind::Gauge), Ok(()));
        let alike = declare("received_bytes", None, Kind::Gauge);
        assert_eq!(alike, Err(ErrorCode::Exists));
        for number in 1..rules::MOST_METRICS {
            assert_eq!(declare(&format!("x{number}"), None, Kind::Counter), Ok(()));
        }
        let last = declare("y", None, Kind::Counter);
        assert_eq!(last, Err(ErrorCode::Limit));
        let wrong = declare("a_total", None, Kind::Counter);
        assert_eq!(wrong, Err(ErrorCode::Invalid));
    }

    #[test]
    fn series_over_the_limit_share_one_and_values_are_cut() {
        let mut metrics = Metrics::default();
        let mut place = |value: &str| metrics.place("x", &[value.to_owned()]).concat();
        assert_eq!(place("a\u{1}\n"), "a\u{fffd}\n");
        assert_eq!(place(&"v".repeat(1_000)), "v".repeat(128));
        for number in 2..rules::MOST_SERIES {
            let number = number.to_string();
            assert_eq!(place(&number), number);
        }
        assert_eq!(place("b"), rules::OVERFLOW);
        assert_eq!(place("2"), "2");
    }
}
