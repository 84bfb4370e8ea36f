//! What plugins count, natively: in place of the imports, kept by the test reactor.

use std::collections::BTreeMap;

use super::reactor;
use crate::bindings::nethost::plugin::{
    metrics::Description,
    types::{Error, ErrorCode},
};

/// Everything that was declared and recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    declared: BTreeMap<String, (Kind, Description)>,
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
        let Description { name, labels, .. } = description;
        let is_name = |name: &String| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if let Some(wrong) = [name].into_iter().chain(labels).find(|name| !is_name(name)) {
            return refused(
                ErrorCode::Invalid,
                format!("`{wrong}` is no name of a metric or a label"),
            );
        }
        if description.help.is_empty() {
            return refused(ErrorCode::Invalid, format!("`{name}` has no help"));
        }
        let new = (kind, description.clone());
        match self.declared.get(name) {
            Some(known) if *known == new => Ok(()),
            Some(_) => refused(ErrorCode::Exists, format!("`{name}` is declared already")),
            None => {
                self.declared.insert(name.clone(), new);
                Ok(())
            }
        }
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
        Ok(Self {
            name: self.name.clone(),
            labels: self.labels,
            values: values.to_vec(),
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
        if value.is_finite() {
            self.0.record(|recorded| recorded.observed.push(value));
        }
    }
}
