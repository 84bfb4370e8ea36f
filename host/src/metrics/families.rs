//! The families of the output, and where their numbers come from.

use std::collections::BTreeMap;

use super::{
    merge,
    meters::{CALL_TIMES, Datagram, Limit, Meters},
    plugin::Value,
    process,
    registry::{Registry, Sample, View, lock},
    text::Text,
};
use crate::contract;

/// Writes everything: the host's, the process's, and what plugins count.
pub(super) fn write(registry: &Registry, views: &[View], answered: &[bool]) -> String {
    let mut text = Text::default();
    host(&mut text, answered);
    let mut services = Services {
        text: &mut text,
        views,
    };
    services.connections();
    services.traffic();
    services.guests();
    services.holdings();
    process::write(&mut text, registry.started());
    let families = merge::merge(views, &mut lock(&registry.admitted));
    plugins(&mut text, &families);
    text.finish()
}

fn host(text: &mut Text, answered: &[bool]) {
    text.family(
        "nethost_build_info",
        "gauge",
        "The host's version, and that of the contract with plugins.",
    )
    .sample(
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("contract", contract::VERSION),
        ],
        1_u64,
    );
    text.family("nethost_workers", "gauge", "Worker threads.")
        .sample(&[], answered.len());
    let mut samples = text.family(
        "nethost_worker_responsive",
        "gauge",
        "Whether the worker answered this scrape. What is told of one that did not is what it told last.",
    );
    for (index, answered) in answered.iter().enumerate() {
        samples.sample(&[("worker", &index.to_string())], u64::from(*answered));
    }
}

/// Writes families with a sample for each service, or several.
struct Services<'a> {
    text: &'a mut Text,
    views: &'a [View],
}

impl Services<'_> {
    fn connections(&mut self) {
        let mut samples = self.text.family(
            "nethost_service_listening",
            "gauge",
            "Whether the service listens: not while it starts or drains.",
        );
        for view in self.views {
            samples.sample(&[("service", &view.name)], u64::from(view.is_listening));
        }
        let mut samples = self.text.family(
            "nethost_service_info",
            "gauge",
            "The plugin that new connections get, and its version.",
        );
        for view in self.views {
            for (plugin, version) in &view.plugins {
                let labels = [
                    ("service", &*view.name),
                    ("plugin", plugin),
                    ("version", version),
                ];
                samples.sample(&labels, 1_u64);
            }
        }
        let mut samples = self.text.family(
            "nethost_service_degraded",
            "gauge",
            "Workers on which the service has no instance, because the last ones broke or could not be made. Connections are closed there at once until the next try.",
        );
        for view in self.views {
            let notices = view.meters.iter().filter(|it| it.notice.is_set());
            samples.sample(&[("service", &view.name)], notices.count());
        }
        self.gauge("nethost_connections", "Open connections.", |sample| {
            sample.connections
        });
        self.gauge(
            "nethost_connections_establishing",
            "Accepted streams whose PROXY header or TLS handshake is not done.",
            |sample| sample.establishing,
        );
        let mut samples = self.text.family(
            "nethost_connections_accepted_total",
            "counter",
            "Connections that came to a listener and were taken, with what comes before the protocol done.",
        );
        for view in self.views {
            let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
            for sample in view.counted() {
                for (listener, count) in &sample.accepted {
                    *totals.entry(listener).or_default() += count;
                }
            }
            for (listener, count) in totals {
                samples.sample(&[("service", &view.name), ("listener", listener)], count);
            }
        }
        self.by_label(
            "nethost_connections_refused_total",
            "Streams that were accepted and did not become connections, and connections that the plugin refused.",
            "reason",
            |meters| meters.refused.values().collect(),
        );
        self.by_label(
            "nethost_connections_closed_total",
            "Connections that ended, accepted and outbound ones.",
            "reason",
            |meters| meters.closed.values().collect(),
        );
        self.by_label(
            "nethost_connects_total",
            "Outbound connections, by what came of them.",
            "result",
            |meters| meters.connects.values().collect(),
        );
        self.by_label(
            "nethost_logins_total",
            "Logins, by what came of them.",
            "result",
            |meters| meters.logins.values().collect(),
        );
    }

    fn traffic(&mut self) {
        self.counter(
            "nethost_received_bytes_total",
            "Bytes of the protocol received from peers, over streams and in datagrams.",
            |meters| meters.received.value(),
        );
        self.counter(
            "nethost_sent_bytes_total",
            "Bytes of the protocol that the system took for peers, over streams and in datagrams.",
            |meters| meters.sent.value(),
        );
        self.gauge(
            "nethost_datagram_sockets",
            "Open datagram sockets.",
            |sample| sample.sockets,
        );
        for (datagram, name, help) in [
            (
                Datagram::Received,
                "nethost_datagrams_received_total",
                "Datagrams received.",
            ),
            (
                Datagram::Sent,
                "nethost_datagrams_sent_total",
                "Datagrams that the system took.",
            ),
            (
                Datagram::Dropped,
                "nethost_datagrams_dropped_total",
                "Datagrams not sent because the system took no more, or refused them.",
            ),
            (
                Datagram::Refused,
                "nethost_datagrams_refused_total",
                "Datagrams not sent because the peer had not asked and no grant covers it.",
            ),
            (
                Datagram::Returned,
                "nethost_datagrams_returned_total",
                "Errors that came back by ICMP to outbound sockets.",
            ),
        ] {
            self.counter(name, help, |meters| meters.datagrams.value(datagram));
        }
    }

    fn guests(&mut self) {
        self.by_label(
            "nethost_guest_calls_total",
            "Calls into the plugin's instances.",
            "callback",
            |meters| meters.calls.values().collect(),
        );
        let mut samples = self.text.family(
            "nethost_guest_seconds_total",
            "counter",
            "Time in the plugin's instances by the clock on the wall. Of frequent callbacks one call in 16 is timed and stands for the others.",
        );
        for view in self.views {
            for (callback, nanoseconds) in sum(view, |meters| meters.call_seconds().collect()) {
                let labels = [("service", view.name.as_str()), ("callback", callback)];
                samples.sample(&labels, seconds(nanoseconds));
            }
        }
        let mut samples = self.text.family(
            "nethost_guest_call_duration_seconds",
            "histogram",
            "How long calls into the plugin's instances take. Of frequent callbacks one call in 16 is timed and stands for the others.",
        );
        let bounds = CALL_TIMES.map(seconds);
        for view in self.views {
            let mut counts = [0_u64; CALL_TIMES.len() + 1];
            let mut total = 0_u64;
            for meters in &view.meters {
                for (count, more) in counts.iter_mut().zip(meters.call_times()) {
                    *count += more;
                }
                total += meters.call_seconds().map(|(_, time)| time).sum::<u64>();
            }
            samples.histogram(&[("service", &view.name)], &bounds, &counts, seconds(total));
        }
        self.by_label(
            "nethost_traps_total",
            "Instances that ended by a fault of the plugin.",
            "kind",
            |meters| meters.traps.values().collect(),
        );
        self.by_label(
            "nethost_limits_hit_total",
            "Times that a limit of the service was hit.",
            "limit",
            |meters| meters.limits.values().collect(),
        );
        self.counter(
            "nethost_log_lines_dropped_total",
            "Lines of the plugin that were over the limit and not logged.",
            |meters| meters.limits.value(Limit::LogLines),
        );
        self.counter(
            "nethost_metric_values_ignored_total",
            "Values of the plugin's metrics that are not finite numbers, or negative ones in a histogram, and were not recorded.",
            |meters| meters.values_ignored.value(),
        );
        self.counter(
            "nethost_instances_made_total",
            "Instances made: the first ones, those in place of broken ones, and new versions.",
            |meters| meters.instances_made.value(),
        );
        self.counter(
            "nethost_instances_failed_total",
            "Instances that broke, or could not be made.",
            Meters::failures,
        );
        self.counter(
            "nethost_instance_swaps_total",
            "Instances that a new version took over.",
            |meters| meters.swaps.value(),
        );
        self.counter(
            "nethost_instance_swaps_undone_total",
            "New versions' instances that broke on probation, and gave way to the version before.",
            |meters| meters.swaps_undone.value(),
        );
        self.by_label(
            "nethost_swap_sessions_total",
            "Sessions at swaps: moved at once, left behind for a while, or refused to move.",
            "result",
            |meters| {
                vec![
                    ("moved", meters.swap_moved.value()),
                    ("left behind", meters.swap_left_behind.value()),
                    ("refused", meters.swap_refused.value()),
                ]
            },
        );
        self.counter(
            "nethost_swap_state_bytes_total",
            "Bytes of state that were saved and restored.",
            |meters| meters.swap_state_bytes.value(),
        );
        let mut samples = self.text.family(
            "nethost_swap_pause_seconds_total",
            "counter",
            "Time that workers stood still for swaps.",
        );
        for view in self.views {
            let pauses = view.meters.iter();
            let pauses = pauses.map(|it| it.swap_pause_nanoseconds.value());
            samples.sample(&[("service", &view.name)], seconds(pauses.sum()));
        }
    }

    fn holdings(&mut self) {
        self.gauge("nethost_instances", "Instances that serve.", |sample| {
            sample.instances
        });
        let mut samples = self.text.family(
            "nethost_instance_memory_bytes",
            "gauge",
            "Linear memory of the service's instance on each worker.",
        );
        for view in self.views {
            let mut workers: BTreeMap<usize, usize> = BTreeMap::new();
            for (worker, sample) in &view.samples {
                *workers.entry(*worker).or_default() += sample.memory;
            }
            for (worker, memory) in workers {
                let worker = worker.to_string();
                samples.sample(&[("service", &view.name), ("worker", &worker)], memory);
            }
        }
        self.gauge(
            "nethost_operations",
            "Operations in flight, timers included.",
            |sample| sample.operations,
        );
        self.gauge("nethost_timers", "Timers that run.", |sample| sample.timers);
        self.gauge(
            "nethost_open_files",
            "Files that the plugin has open.",
            |sample| sample.open_files,
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&Meters) -> u64) {
        let mut samples = self.text.family(name, "counter", help);
        for view in self.views {
            let total: u64 = view.meters.iter().map(|meters| value(meters)).sum();
            samples.sample(&[("service", &view.name)], total);
        }
    }

    fn by_label(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Fn(&Meters) -> Vec<(&'static str, u64)>,
    ) {
        let mut samples = self.text.family(name, "counter", help);
        for view in self.views {
            for (value, total) in sum(view, &values) {
                samples.sample(&[("service", &view.name), (label, value)], total);
            }
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&Sample) -> usize) {
        let mut samples = self.text.family(name, "gauge", help);
        for view in self.views {
            let total: usize = view.samples.iter().map(|(_, sample)| value(sample)).sum();
            samples.sample(&[("service", &view.name)], total);
        }
    }
}

fn sum(
    view: &View,
    values: impl Fn(&Meters) -> Vec<(&'static str, u64)>,
) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    for meters in &view.meters {
        for (name, value) in values(meters) {
            *totals.entry(name).or_default() += value;
        }
    }
    totals
}

fn plugins(text: &mut Text, families: &BTreeMap<String, merge::Family>) {
    for (name, family) in families {
        if family.series.is_empty() {
            continue;
        }
        let mut samples = text.family(name, family.kind, &family.help);
        for ((service, values), (about, value)) in &family.series {
            let own = about.labels.iter().zip(values.iter());
            let own = own.map(|(name, value)| (name.as_str(), &**value));
            let labels: Vec<_> = [("service", service.as_str())]
                .into_iter()
                .chain(own)
                .collect();
            match value {
                Value::Counter(count) => samples.sample(&labels, *count),
                Value::Gauge(value) => samples.sample(&labels, *value),
                Value::Histogram {
                    bounds,
                    counts,
                    sum,
                } => samples.histogram(&labels, bounds, counts, *sum),
            }
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
