//! What is counted of each service, added up over its workers: for who administers the host.

use super::{
    meters::Meters,
    registry::{Registry, Sample, View},
    spread::Times,
};

/// What is true of a service at one moment, and what it has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    pub(crate) name: String,
    /// All workers together; what is by the listener, or the plugin's, is not in it.
    pub(crate) now: Sample,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) calls: u64,
    /// Times of calls in nanoseconds, and how many took about so long.
    pub(crate) call_times: Vec<(u64, u64)>,
    pub(crate) traps: u64,
}

impl Registry {
    /// Tells of every service, by its name. Workers that do not answer in time are told as they were last.
    pub(crate) async fn overview(&self) -> Vec<Overview> {
        self.ask_for_scrape().await;
        self.views().iter().map(Overview::of).collect()
    }
}

impl Overview {
    fn of(view: &View) -> Self {
        let mut this = Self {
            name: view.name.clone(),
            ..Self::default()
        };
        for (_, sample) in &view.samples {
            this.now.add(sample);
        }
        for sample in view.counted() {
            let accepted = sample.accepted.iter().map(|(_, count)| count);
            this.accepted += accepted.sum::<u64>();
        }
        let mut times = Times::default();
        for meters in &view.meters {
            this.add(meters);
            times.add(&meters.call_spread);
        }
        this.call_times = times.buckets();
        this
    }

    fn add(&mut self, meters: &Meters) {
        let sum = |values: &mut dyn Iterator<Item = (&'static str, u64)>| -> u64 {
            values.map(|(_, count)| count).sum()
        };
        self.received += meters.received.value();
        self.sent += meters.sent.value();
        self.calls += sum(&mut meters.calls.values());
        self.refused += sum(&mut meters.refused.values());
        self.traps += sum(&mut meters.traps.values());
    }
}
