//! What services have counted that left while others of their name stay: a service that is restarted takes no counter back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    merge::{self, Admitted},
    meters::Meters,
    plugin::{About, Labels, Snapshot, Value},
    registry::Sample,
};
use crate::limits::METRICS;

/// By the service's name. Of each no more is kept than is told anyway: the series that were admitted, and the listeners that are still there.
#[derive(Debug, Default)]
pub(super) struct Retired(HashMap<String, Remains>);

#[derive(Debug, Default)]
struct Remains {
    meters: Arc<Meters>,
    accepted: Vec<(Arc<str>, u64)>,
    families: Vec<(Arc<About>, BTreeMap<Labels, Value>)>,
}

/// One that leaves.
pub(super) struct Leaving<'a> {
    pub(super) name: &'a str,
    pub(super) most_series: usize,
    /// Of each worker.
    pub(super) meters: Vec<Arc<Meters>>,
    /// The last ones, without gauges.
    pub(super) samples: Vec<Sample>,
}

impl Retired {
    /// Keeps what it has counted, beside what others of its name have before.
    pub(super) fn keep(
        &mut self,
        leaving: &Leaving<'_>,
        listeners: &[Arc<str>],
        admitted: &mut Admitted,
    ) {
        let remains = self.0.entry(leaving.name.to_owned()).or_default();
        // Not added to those of before: a scrape may be reading them.
        let meters = Meters::default();
        meters.absorb(&remains.meters);
        for more in &leaving.meters {
            meters.absorb(more);
        }
        remains.meters = Arc::new(meters);
        for sample in &leaving.samples {
            remains.accept(sample);
            remains.count(leaving, sample, admitted);
        }
        remains
            .accepted
            .retain(|(listener, _)| listeners.contains(listener));
    }

    /// Nobody has this name any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns what was counted under a name.
    pub(super) fn of(&self, name: &str) -> Option<(Arc<Meters>, Sample)> {
        let remains = self.0.get(name)?;
        let families = remains.families.iter().map(|(about, series)| {
            let series = series.iter();
            let values = series.map(|(labels, value)| (labels.clone(), value.clone()));
            (about.clone(), values.collect())
        });
        let sample = Sample {
            accepted: remains.accepted.clone(),
            plugin: Snapshot {
                families: families.collect(),
            },
            ..Sample::default()
        };
        Some((remains.meters.clone(), sample))
    }
}

impl Remains {
    fn accept(&mut self, sample: &Sample) {
        for (listener, more) in &sample.accepted {
            match self.accepted.iter_mut().find(|(url, _)| url == listener) {
                Some((_, count)) => *count = count.saturating_add(*more),
                None => self.accepted.push((listener.clone(), *more)),
            }
        }
    }

    fn count(&mut self, leaving: &Leaving<'_>, sample: &Sample, admitted: &mut Admitted) {
        for (about, series) in merge::in_order(&sample.plugin) {
            let is_same = |(known, _): &(Arc<About>, _)| {
                known.name == about.name && known.kind == about.kind && known.labels == about.labels
            };
            let index = match self.families.iter().position(is_same) {
                Some(index) => index,
                None if self.families.len() < METRICS => {
                    self.families.push((about.clone(), BTreeMap::new()));
                    self.families.len() - 1
                }
                // As an instance has only so many, and its successor with it.
                None => continue,
            };
            let Some((_, kept)) = self.families.get_mut(index) else {
                continue;
            };
            let (name, _) = merge::told_as(about);
            for (labels, value) in series {
                let labels = admitted.admit(leaving.name, leaving.most_series, &name, labels);
                match kept.get_mut(&labels) {
                    Some(total) => merge::add(total, value),
                    None => {
                        kept.insert(labels, value.clone());
                    }
                }
            }
        }
    }
}
