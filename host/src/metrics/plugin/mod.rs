//! What a plugin counts itself: the metrics that it declared, and their series.
//!
//! A [`Table`] belongs to one thread, and to one instance or, with isolation `connection`, to all of a service; its numbers are plain cells. It passes what it counted on to its successor, so no counter goes back when
//! an instance is replaced or swapped.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use thiserror::Error;

use super::meters::{Limit, Meters};
use crate::limits::{
    METRIC_BUCKETS, METRIC_HELP, METRIC_LABEL_VALUE, METRIC_LABELS, METRIC_NAME, METRIC_PARTS,
    METRICS,
};

/// What a metric is.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// How it is called in the output, without what counters and histograms append.
    pub name: String,
    /// What it says, for people.
    pub help: String,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// The kind of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram(
        /// The bounds of the buckets, ascending.
        Vec<f64>,
    ),
}

/// The metrics of one instance, or of those that share them.
#[derive(Debug)]
pub struct Table {
    /// What its names begin with.
    prefix: String,
    service: String,
    most_series: usize,
    meters: Arc<Meters>,
    families: RefCell<HashMap<String, Rc<Family>>>,
    series: Cell<usize>,
    /// Somebody was told that there are too many.
    warned: Cell<bool>,
    /// How many values of gauges its instances add up; none if it is one instance's.
    parts: Option<Cell<usize>>,
}

/// One metric of a table, and its series.
#[derive(Debug)]
pub struct Family {
    about: Arc<About>,
    series: RefCell<HashMap<Labels, Rc<Series>>>,
}

/// The values of a series' labels, in the metric's order.
pub type Labels = Arc<[Box<str>]>;

/// One series: what is recorded to.
#[derive(Debug)]
pub struct Series {
    kind: Kind,
    /// A counter's value, or a histogram's count above all bounds.
    count: Cell<u64>,
    /// A gauge's value, or a histogram's sum.
    value: Cell<f64>,
    /// By the bucket.
    buckets: RefCell<Box<[u64]>>,
    /// Something was recorded.
    is_touched: Cell<bool>,
    /// Instances that say a part of it.
    parts: Cell<usize>,
}

/// Why a metric cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetricError {
    /// It is described wrongly.
    #[error("{0}")]
    Invalid(String),
    /// Another one has its name.
    #[error("`{0}` is declared already, as another kind or with other labels, buckets or words")]
    Exists(String),
    /// There are too many.
    #[error("{METRICS} metrics are declared")]
    TooMany,
}

/// Who comes after an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// It broke: what was true of it (gauges) is true no longer.
    Replaced,
    /// Its sessions moved to a new version.
    Swapped,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The name, without prefix, unit and `_total`.
    pub name: String,
    /// What it says.
    pub help: String,
    /// What its numbers are of.
    pub unit: Option<String>,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// Its kind.
    pub kind: Kind,
}

/// What a table has at one moment, for other threads.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The metrics, each with its series.
    pub families: Vec<(Arc<About>, Values)>,
}

/// The values of one metric, by its series.
pub type Values = Vec<(Labels, Value)>;

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A counter's.
    Counter(u64),
    /// A gauge's.
    Gauge(f64),
    /// A histogram's.
    Histogram {
        /// The bounds of the buckets.
        bounds: Vec<f64>,
        /// How many were in each, one more than there are bounds.
        counts: Vec<u64>,
        /// All of them together.
        sum: f64,
    },
}

impl Table {
    /// Makes one without metrics, for an instance of this plugin. The troubles with it are counted in `meters`.
    pub fn new(plugin: &str, service: &str, most_series: usize, meters: Arc<Meters>) -> Self {
        Self {
            prefix: prefix(plugin),
            service: service.to_owned(),
            most_series,
            meters,
            families: RefCell::default(),
            series: Cell::new(0),
            warned: Cell::new(false),
            parts: None,
        }
    }

    /// As [`Self::new`], for all instances of a service on a worker: they count together, and their gauges are [`Parts`](super::parts::Parts) of a sum.
    pub fn shared(plugin: &str, service: &str, most_series: usize, meters: Arc<Meters>) -> Self {
        Self {
            parts: Some(Cell::new(0)),
            ..Self::new(plugin, service, most_series, meters)
        }
    }

    /// Returns whether several instances count here.
    pub fn is_shared(&self) -> bool {
        self.parts.is_some()
    }

    /// Returns whether its instances may have one more part of a gauge.
    pub(super) fn has_room_for_part(&self) -> bool {
        let most = self.most_series.saturating_mul(METRIC_PARTS);
        let has_room = self.parts.as_ref().is_some_and(|parts| parts.get() < most);
        if !has_room {
            self.overflow();
        }
        has_room
    }

    /// There are so many parts more.
    pub(super) fn count_parts(&self, more: isize) {
        if let Some(parts) = &self.parts {
            parts.set(parts.get().saturating_add_signed(more));
        }
    }

    /// Makes a metric, or finds the one that was declared before in the same words.
    pub fn declare(&self, declaration: Declaration) -> Result<Rc<Family>, MetricError> {
        check(&declaration).map_err(MetricError::Invalid)?;
        let about = About {
            name: full_name(&self.prefix, &declaration),
            help: declaration.help,
            kind: declaration.kind,
            labels: declaration.labels,
        };
        // A counter's name ends differently, so it is another metric than a gauge of the same name.
        let key = match about.kind {
            Kind::Counter => format!("{}_total", about.name),
            _ => about.name.clone(),
        };
        let mut families = self.families.borrow_mut();
        if let Some(family) = families.get(&key) {
            return if *family.about == about {
                Ok(family.clone())
            } else {
                Err(MetricError::Exists(key))
            };
        }
        if families.len() >= METRICS {
            self.overflow();
            return Err(MetricError::TooMany);
        }
        let family = Rc::new(Family {
            about: Arc::new(about),
            series: RefCell::default(),
        });
        families.insert(key, family.clone());
        Ok(family)
    }

    /// Finds or makes the series of a metric with these values of its labels; beyond the limit the one that all others share. None if there are more or
    /// fewer values than labels.
    pub fn series(&self, family: &Family, values: &[String]) -> Option<Rc<Series>> {
        if values.len() != family.about.labels.len() {
            return None;
        }
        let (series, place) = self.place(family, values);
        if place == Place::Shared {
            self.overflow();
        }
        Some(series)
    }

    fn place(&self, family: &Family, values: &[impl AsRef<str>]) -> (Rc<Series>, Place) {
        let values: Vec<Box<str>> = values
            .iter()
            .map(|value| clean(value.as_ref()).into())
            .collect();
        let mut all = family.series.borrow_mut();
        if let Some(series) = all.get(values.as_slice()) {
            return (series.clone(), Place::Own);
        }
        // One for each metric, and so limited too. A predecessor's would otherwise take the place of one that has counted by itself up to now.
        let takes_none = values.iter().all(|value| **value == *OVERFLOW);
        let (values, place) = if takes_none {
            (values, Place::Own)
        } else if self.series.get() < self.most_series {
            self.series.set(self.series.get() + 1);
            (values, Place::Own)
        } else {
            (overflow(values.len()), Place::Shared)
        };
        let series = all
            .entry(values.into())
            .or_insert_with(|| Rc::new(Series::new(&family.about.kind)));
        (series.clone(), place)
    }

    /// Notes that a value was no number to record.
    pub fn ignore(&self) {
        self.meters.values_ignored.add(1);
    }

    fn overflow(&self) {
        self.meters.limits.count(Limit::Metrics);
        if !self.warned.replace(true) {
            tracing::warn!(
                service = self.service,
                series = self.most_series,
                metrics = METRICS,
                "the plugin has more metrics or series than it may; further series are recorded as one"
            );
        }
    }

    /// Takes over what a predecessor counted. Its gauges stay as they are only if the sessions moved here, this version still has the metric, and has not said
    /// anything else.
    pub fn succeed(&self, old: &Self, how: Succession) {
        for (name, before) in &*old.families.borrow() {
            let known = self.families.borrow().get(name).cloned();
            let is_gauge = before.about.kind == Kind::Gauge;
            if is_gauge && (how == Succession::Replaced || known.is_none()) {
                continue;
            }
            let family = match known {
                Some(family) => family,
                None if self.families.borrow().len() < METRICS => {
                    let family = Rc::new(Family {
                        about: before.about.clone(),
                        series: RefCell::default(),
                    });
                    let mut families = self.families.borrow_mut();
                    families.insert(name.clone(), family.clone());
                    family
                }
                None => continue,
            };
            let same = family.about.kind == before.about.kind;
            if !same || family.about.labels != before.about.labels {
                continue;
            }
            for (labels, series) in &*before.series.borrow() {
                // What was over the limit was told before.
                let (successor, _) = self.place(&family, labels);
                successor.absorb(series);
            }
        }
    }

    /// Copies everything; without gauges if there is no instance any more for which they could be true.
    pub fn snapshot(&self, gauges: Gauges) -> Snapshot {
        let mut families = Vec::new();
        for family in self.families.borrow().values() {
            if family.about.kind == Kind::Gauge && gauges == Gauges::Gone {
                continue;
            }
            let series = family.series.borrow();
            let values = series
                .iter()
                .map(|(labels, series)| (labels.clone(), series.value()));
            families.push((family.about.clone(), values.collect()));
        }
        Snapshot { families }
    }
}

/// Where a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    /// With all others that are over the limit.
    Shared,
}

/// Whether gauges are still true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauges {
    /// The instance is there.
    True,
    /// It is not.
    Gone,
}

impl Family {
    /// Returns whether it goes up and down.
    pub fn is_gauge(&self) -> bool {
        self.about.kind == Kind::Gauge
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels = self.about.labels.len();
        write!(f, "the {labels} labels of `{}`", self.about.name)
    }
}

impl Series {
    fn new(kind: &Kind) -> Self {
        let bounds = match kind {
            Kind::Histogram(bounds) => bounds.len(),
            _ => 0,
        };
        Self {
            kind: kind.clone(),
            count: Cell::new(0),
            value: Cell::new(0.0),
            buckets: RefCell::new(vec![0; bounds].into()),
            is_touched: Cell::new(false),
            parts: Cell::new(0),
        }
    }

    /// An instance says a part of it from now on.
    pub(super) fn join(&self) {
        self.parts.set(self.parts.get() + 1);
    }

    /// An instance is gone that said this.
    pub(super) fn leave(&self, part: f64) {
        self.parts.set(self.parts.get().saturating_sub(1));
        if self.parts.get() == 0 {
            // What the rounding of sums has left.
            self.value.set(0.0);
        } else {
            self.add(-part);
        }
    }

    /// Adds to a counter.
    pub fn count(&self, count: u64) {
        self.count.set(self.count.get().saturating_add(count));
    }

    /// Sets a gauge. Returns whether it is a number that can be summed.
    pub fn set(&self, value: f64) -> bool {
        if value.is_finite() {
            self.is_touched.set(true);
            self.value.set(value);
        }
        value.is_finite()
    }

    /// Adds to a gauge. Returns whether there is still a number that can be summed.
    pub fn add(&self, difference: f64) -> bool {
        self.set(self.value.get() + difference)
    }

    /// Counts a value in a histogram. Returns whether it can be counted: a negative one would take the sum back.
    pub fn observe(&self, value: f64) -> bool {
        let sum = self.value.get() + value;
        if !sum.is_finite() || value < 0.0 {
            return false;
        }
        self.value.set(sum);
        let Kind::Histogram(bounds) = &self.kind else {
            return true;
        };
        let bucket = bounds.partition_point(|bound| *bound < value);
        match self.buckets.borrow_mut().get_mut(bucket) {
            Some(count) => *count += 1,
            None => self.count(1),
        }
        true
    }

    fn absorb(&self, old: &Self) {
        match self.kind {
            Kind::Counter => self.count(old.count.get()),
            Kind::Gauge if self.is_touched.get() => {}
            Kind::Gauge => self.value.set(old.value.get()),
            Kind::Histogram(_) => {
                self.count(old.count.get());
                let sum = self.value.get() + old.value.get();
                if sum.is_finite() {
                    self.value.set(sum);
                }
                let mut buckets = self.buckets.borrow_mut();
                for (count, old) in buckets.iter_mut().zip(&*old.buckets.borrow()) {
                    *count = count.saturating_add(*old);
                }
            }
        }
    }

    fn value(&self) -> Value {
        match &self.kind {
            Kind::Counter => Value::Counter(self.count.get()),
            Kind::Gauge => Value::Gauge(self.value.get()),
            Kind::Histogram(bounds) => {
                let mut counts = self.buckets.borrow().to_vec();
                counts.push(self.count.get());
                Value::Histogram {
                    bounds: bounds.clone(),
                    counts,
                    sum: self.value.get(),
                }
            }
        }
    }
}

/// The values of the labels of the series that all others share when there are too many.
pub(super) fn overflow(labels: usize) -> Vec<Box<str>> {
    vec![OVERFLOW.into(); labels]
}

/// What the names of a plugin's metrics begin with: its own name, in the letters that Prometheus has. It cannot be mistaken for the host's, nor for what every
/// exporter or Prometheus itself says.
fn prefix(plugin: &str) -> String {
    let mut prefix: String = plugin
        .chars()
        .take(METRIC_NAME)
        .map(|character| match character {
            'a'..='z' | '0'..='9' => character,
            'A'..='Z' => character.to_ascii_lowercase(),
            _ => '_',
        })
        .collect();
    let first = prefix.split('_').next().unwrap_or_default();
    let is_letter = first.starts_with(|first: char| first.is_ascii_lowercase());
    if !is_letter || RESERVED_PREFIXES.contains(&first) {
        prefix.insert_str(0, "plugin_");
    }
    prefix
}

fn full_name(prefix: &str, declaration: &Declaration) -> String {
    let mut name = format!("{prefix}_{}", declaration.name);
    if let Some(unit) = &declaration.unit
        && !declaration.name.ends_with(&format!("_{unit}"))
        && declaration.name != *unit
    {
        name.push('_');
        name.push_str(unit);
    }
    name
}

fn check(declaration: &Declaration) -> Result<(), String> {
    check_name("metric", &declaration.name)?;
    let (name, unit) = (&declaration.name, &declaration.unit);
    if let Some(unit) = unit {
        check_name("unit", unit)?;
    }
    for last in [Some(name), unit.as_ref()].into_iter().flatten() {
        let end = last.rsplit('_').next().unwrap_or_default();
        if RESERVED_ENDINGS.contains(&end) {
            return Err(format!(
                "`{last}` ends with `{end}`, which the host appends where it belongs"
            ));
        }
    }
    if declaration.help.trim().is_empty() || declaration.help.len() > METRIC_HELP {
        return Err(format!("the help of `{name}` has 1 to {METRIC_HELP} bytes"));
    }
    if declaration.labels.len() > METRIC_LABELS {
        return Err(format!("`{name}` has more than {METRIC_LABELS} labels"));
    }
    for (index, label) in declaration.labels.iter().enumerate() {
        check_name("label", label)?;
        if RESERVED_LABELS.contains(&label.as_str()) {
            return Err(format!("the label `{label}` is not a plugin's to give"));
        }
        if declaration.labels.iter().take(index).any(|it| it == label) {
            return Err(format!("`{name}` has the label `{label}` twice"));
        }
    }
    if let Kind::Histogram(bounds) = &declaration.kind {
        let ascend = bounds
            .windows(2)
            .all(|pair| matches!(pair, [one, next] if one < next));
        if bounds.is_empty() || bounds.len() > METRIC_BUCKETS {
            return Err(format!("`{name}` has 1 to {METRIC_BUCKETS} buckets"));
        }
        if !ascend || bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(format!("the buckets of `{name}` are not ascending numbers"));
        }
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(METRIC_NAME).collect();
    let shown = shown.escape_debug();
    let is_letter = |first: u8| first.is_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.bytes().next().is_some_and(is_letter)
        || !name.bytes().all(fits)
        || name.len() > METRIC_NAME
    {
        return Err(format!(
            "the {what} `{shown}`: a name has 1 to {METRIC_NAME} of a-z, 0-9 and _, the first of them a letter"
        ));
    }
    Ok(())
}

/// Cuts a label's value, and takes out what the output cannot say: two values that print alike would be one series twice.
fn clean(value: &str) -> String {
    let mut clean: String = cut(value)
        .chars()
        .map(|character| match character {
            // It is escaped.
            '\n' => character,
            other if other.is_control() => char::REPLACEMENT_CHARACTER,
            other => other,
        })
        .collect();
    clean.truncate(clean.floor_char_boundary(METRIC_LABEL_VALUE));
    clean
}

fn cut(value: &str) -> &str {
    value
        .get(..value.floor_char_boundary(METRIC_LABEL_VALUE))
        .unwrap_or(value)
}

/// The value of every label of the series that all others share; no name that a plugin would choose.
const OVERFLOW: &str = "(overflow)";

/// First words of names that others have: the host, what every process tells, and Prometheus itself.
const RESERVED_PREFIXES: [&str; 5] = ["nethost", "process", "scrape", "up", "alerts"];

/// Last words of names that mean something to Prometheus.
const RESERVED_ENDINGS: [&str; 6] = ["total", "bucket", "sum", "count", "created", "info"];

/// Labels that the host or Prometheus gives.
const RESERVED_LABELS: [&str; 5] = ["service", "le", "quantile", "job", "instance"];

#[cfg(test)]
mod tests;
