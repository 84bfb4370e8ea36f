//! What the instances of all services counted for their plugins, added up.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    plugin::{About, Kind, Labels, Snapshot, Value, overflow},
    registry::View,
};

/// Which series were told before: only so many of a service are, and those stay, or what is counted in the series of the others would go back.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// By the service: the metric's name in the output and the values.
    series: HashMap<String, HashSet<(String, Labels)>>,
    /// Services and metrics that somebody was warned of.
    warned: HashSet<(String, String)>,
}

/// A metric of all services that have it.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) kind: &'static str,
    pub(super) help: String,
    /// By the service and the values.
    pub(super) series: BTreeMap<(String, Labels), (Arc<About>, Value)>,
}

/// Adds up, by the metric's name in the output. Where services differ about a metric's kind, the first one's is told, and a warning is logged once: a plugin names itself, and so can take
/// a name from another one whose service is started later, never from the host.
pub(super) fn merge(views: &[View], admitted: &mut Admitted) -> BTreeMap<String, Family> {
    let is_there = |service: &String| views.iter().any(|view| view.name == *service);
    admitted.series.retain(|service, _| is_there(service));
    admitted.warned.retain(|(service, _)| is_there(service));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for view in views {
        for sample in view.counted() {
            for (about, series) in in_order(&sample.plugin) {
                let (name, kind) = told_as(about);
                let family = families.entry(name.clone()).or_insert_with(|| Family {
                    kind,
                    help: about.help.clone(),
                    series: BTreeMap::new(),
                });
                if family.kind != kind {
                    admitted.warn(
                        &view.name,
                        &name,
                        "another service has a metric of that name and another kind, which is told",
                    );
                    continue;
                }
                for (labels, value) in series {
                    let labels = admitted.admit(&view.name, view.most_series, &name, labels);
                    family.add(view, about, labels, value);
                }
            }
        }
    }
    families
}

/// A metric and its series.
pub(super) type InOrder<'a> = (&'a Arc<About>, Vec<&'a (Labels, Value)>);

/// Returns the metrics and their series in order, so that those who are told first do not depend on chance.
pub(super) fn in_order(snapshot: &Snapshot) -> Vec<InOrder<'_>> {
    let mut families: Vec<_> = Vec::new();
    for (about, values) in &snapshot.families {
        let mut series: Vec<_> = values.iter().collect();
        series.sort_by(|(one, _), (other, _)| one.cmp(other));
        families.push((about, series));
    }
    families.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    families
}

/// Returns a metric's name in the output, and the word for its kind.
pub(super) fn told_as(about: &About) -> (String, &'static str) {
    match about.kind {
        Kind::Counter => (format!("{}_total", about.name), "counter"),
        Kind::Gauge => (about.name.clone(), "gauge"),
        Kind::Histogram(_) => (about.name.clone(), "histogram"),
    }
}

impl Admitted {
    /// Returns the values under which a series is told: its own, unless there are too many.
    pub(super) fn admit(
        &mut self,
        service: &str,
        most_series: usize,
        name: &str,
        labels: &Labels,
    ) -> Labels {
        let shared: Labels = overflow(labels.len()).into();
        let told = self.series.entry(service.to_owned()).or_default();
        let key = (name.to_owned(), labels.clone());
        if *labels == shared || told.contains(&key) {
            return labels.clone();
        }
        if told.len() < most_series {
            told.insert(key);
            return labels.clone();
        }
        self.warn(
            service,
            "",
            "its plugin has more series than are told; further ones are added up",
        );
        shared
    }

    fn warn(&mut self, service: &str, metric: &str, what: &str) {
        if self.warned.insert((service.to_owned(), metric.to_owned())) {
            tracing::warn!(service, metric, "{what}");
        }
    }
}

impl Family {
    fn add(&mut self, view: &View, about: &Arc<About>, labels: Labels, value: &Value) {
        let key = (view.name.clone(), labels);
        match self.series.get_mut(&key) {
            None => {
                self.series.insert(key, (about.clone(), value.clone()));
            }
            // While a swap is on its way, two workers may have different labels or buckets of one name.
            Some((known, total)) if known.labels == about.labels => add(total, value),
            Some(_) => {}
        }
    }
}

pub(super) fn add(total: &mut Value, value: &Value) {
    match (total, value) {
        (Value::Counter(total), Value::Counter(value)) => *total = total.saturating_add(*value),
        (Value::Gauge(total), Value::Gauge(value)) => *total += value,
        (
            Value::Histogram {
                bounds,
                counts,
                sum,
            },
            Value::Histogram {
                bounds: same,
                counts: more,
                sum: plus,
            },
        ) if bounds == same => {
            for (count, more) in counts.iter_mut().zip(more) {
                *count = count.saturating_add(*more);
            }
            *sum += plus;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{
        plugin::{Declaration, Gauges, Table},
        registry::Sample,
    };

    fn table(most_series: usize) -> Table {
        Table::new("irc", "test", most_series, Arc::default())
    }

    fn declare(table: &Table, name: &str, kind: Kind, labels: &[&str]) {
        let declared = table.declare(Declaration {
            name: name.to_owned(),
            help: format!("Help of {name}"),
            unit: None,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            kind,
        });
        declared.unwrap();
    }

    fn count(table: &Table, name: &str, label: &str, count: u64) {
        let family = table.declare(Declaration {
            name: name.to_owned(),
            help: format!("Help of {name}"),
            unit: None,
            labels: vec!["who".to_owned()],
            kind: Kind::Counter,
        });
        let series = table.series(&family.unwrap(), &[label.to_owned()]);
        series.unwrap().count(count);
    }

    fn view(name: &str, most_series: usize, tables: &[Table]) -> View {
        let samples = tables.iter().enumerate().map(|(worker, table)| {
            let sample = Sample {
                plugin: table.snapshot(Gauges::True),
                ..Sample::default()
            };
            (worker, sample)
        });
        View {
            name: name.to_owned(),
            most_series,
            plugins: BTreeSet::new(),
            is_listening: true,
            meters: Vec::new(),
            samples: samples.collect(),
            retired: None,
        }
    }

    fn counts(families: &BTreeMap<String, Family>, name: &str) -> Vec<(String, String, u64)> {
        let series = families.get(name).unwrap().series.iter();
        let values = series.map(|((service, labels), (_, value))| match value {
            Value::Counter(count) => (service.clone(), labels.join(","), *count),
            other => panic!("{other:?}"),
        });
        values.collect()
    }

    #[test]
    fn instances_add_up_and_services_do_not() {
        let tables = [table(10), table(10)];
        let kind = || Kind::Histogram(vec![1.0, 2.0]);
        for (index, table) in tables.iter().enumerate() {
            count(table, "c", "ann", 1 + index as u64);
            for (name, kind) in [("g", Kind::Gauge), ("h", kind())] {
                declare(table, name, kind, &[]);
            }
            let family = |name, kind| {
                table
                    .declare(Declaration {
                        name: String::from(name),
                        help: format!("Help of {name}"),
                        unit: None,
                        labels: Vec::new(),
                        kind,
                    })
                    .unwrap()
            };
            table
                .series(&family("g", Kind::Gauge), &[])
                .unwrap()
                .set(1.5);
            table
                .series(&family("h", kind()), &[])
                .unwrap()
                .observe(1.5);
        }
        count(&tables[0], "c", "bob", 7);
        let other = table(10);
        count(&other, "c", "ann", 100);
        let views = [view("one", 10, &tables), view("two", 10, &[other])];
        let families = merge(&views, &mut Admitted::default());
        let series = |service: &str, who: &str, count| (service.to_owned(), who.to_owned(), count);
        assert_eq!(
            counts(&families, "irc_c_total"),
            [
                series("one", "ann", 3),
                series("one", "bob", 7),
                series("two", "ann", 100)
            ]
        );
        let only = |name: &str| families.get(name).unwrap().series.values().next().unwrap();
        assert_eq!(only("irc_g").1, Value::Gauge(3.0));
        let histogram = Value::Histogram {
            bounds: vec![1.0, 2.0],
            counts: vec![0, 2, 0],
            sum: 3.0,
        };
        assert_eq!(only("irc_h").1, histogram);
    }

    #[test]
    fn of_two_kinds_of_one_name_the_first_is_told() {
        let (one, two) = (table(10), table(10));
        for (table, kind) in [(&one, Kind::Gauge), (&two, Kind::Histogram(vec![1.0]))] {
            declare(table, "x", kind.clone(), &[]);
            let family = table.declare(Declaration {
                name: "x".to_owned(),
                help: "Help of x".to_owned(),
                unit: None,
                labels: Vec::new(),
                kind,
            });
            table.series(&family.unwrap(), &[]).unwrap();
        }
        let views = [view("one", 10, &[one]), view("two", 10, &[two])];
        let families = merge(&views, &mut Admitted::default());
        let family = families.get("irc_x").unwrap();
        assert_eq!((family.kind, family.series.len()), ("gauge", 1));
    }

    #[test]
    fn all_workers_together_have_so_many_series_and_none_goes_back() {
        let tables = [table(3), table(3)];
        for who in ["a", "b", "c"] {
            count(&tables[0], "c", who, 1);
        }
        for who in ["a", "y", "z"] {
            count(&tables[1], "c", who, 10);
        }
        let mut admitted = Admitted::default();
        let first = merge(&[view("one", 4, &tables)], &mut admitted);
        let series = |who: &str, count| ("one".to_owned(), who.to_owned(), count);
        let expected = [
            series("(overflow)", 10),
            series("a", 11),
            series("b", 1),
            series("c", 1),
            series("y", 10),
        ];
        assert_eq!(counts(&first, "irc_c_total"), expected);
        // The next one goes to the same places, whichever worker answers first.
        let tables = {
            let [one, two] = tables;
            [two, one]
        };
        let again = merge(&[view("one", 4, &tables)], &mut admitted);
        assert_eq!(counts(&again, "irc_c_total"), expected);
        // A service that is gone leaves nothing behind.
        merge(&[], &mut admitted);
        assert!(admitted.series.is_empty() && admitted.warned.is_empty());
    }
}
