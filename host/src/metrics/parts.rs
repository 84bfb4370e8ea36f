//! Gauges of instances that share a table: what each says is its part of a sum, and goes when it goes.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use super::plugin::{Series, Table};

/// The parts of one instance.
#[derive(Debug, Default)]
pub struct Parts(HashMap<*const Series, Rc<Part>>);

/// What one instance says of a gauge.
#[derive(Debug)]
pub struct Part {
    table: Rc<Table>,
    /// The sum.
    series: Rc<Series>,
    own: Cell<f64>,
}

impl Parts {
    /// Finds or makes the part of a series. None if the instances have too many together.
    pub fn of(&mut self, table: &Rc<Table>, series: &Rc<Series>) -> Option<Rc<Part>> {
        // The part keeps the series, so no other one has its address.
        let key = Rc::as_ptr(series);
        if let Some(part) = self.0.get(&key) {
            return Some(part.clone());
        }
        if !table.has_room_for_part() {
            return None;
        }
        table.count_parts(1);
        series.join();
        let part = Rc::new(Part {
            table: table.clone(),
            series: series.clone(),
            own: Cell::new(0.0),
        });
        self.0.insert(key, part.clone());
        Some(part)
    }
}

impl Part {
    /// Says what it is now. Returns whether it is a number that can be summed.
    pub fn set(&self, value: f64) -> bool {
        let recorded = self.series.add(value - self.own.get());
        if recorded {
            self.own.set(value);
        }
        recorded
    }

    /// Adds. Returns whether there is still a number that can be summed.
    pub fn add(&self, difference: f64) -> bool {
        self.set(self.own.get() + difference)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.table.count_parts(-1);
        self.series.leave(self.own.get());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        limits::METRIC_PARTS,
        metrics::plugin::{Declaration, Family, Gauges, Kind, Value},
    };

    fn table(most_series: usize) -> Rc<Table> {
        Rc::new(Table::shared("irc", "test", most_series, Arc::default()))
    }

    fn gauge(table: &Table) -> Rc<Family> {
        let declared = table.declare(Declaration {
            name: "g".to_owned(),
            help: "G".to_owned(),
            unit: None,
            labels: vec!["who".to_owned()],
            kind: Kind::Gauge,
        });
        declared.unwrap()
    }

    fn told(table: &Table) -> Vec<Value> {
        let snapshot = table.snapshot(Gauges::True);
        let values = snapshot.families.into_iter().flat_map(|(_, series)| series);
        values.map(|(_, value)| value).collect()
    }

    #[test]
    fn a_gauge_is_the_sum_of_what_living_instances_say() {
        let table = table(10);
        let series = table.series(&gauge(&table), &["a".to_owned()]).unwrap();
        let (mut one, mut other) = (Parts::default(), Parts::default());
        let (first, second) = (one.of(&table, &series), other.of(&table, &series));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.set(0.1) && second.set(5.0) && second.set(0.2) && first.add(0.3));
        assert!(!first.set(f64::NAN) && !first.add(f64::INFINITY));
        // Another handle of the same gauge says it for the same instance.
        assert!(one.of(&table, &series).unwrap().add(1.0));
        let [Value::Gauge(sum)] = told(&table)[..] else {
            panic!("one gauge");
        };
        assert!((sum - 1.6).abs() < 1e-9, "{sum}");
        drop((first, one, second));
        assert!(matches!(told(&table)[..], [Value::Gauge(sum)] if (sum - 0.2).abs() < 1e-9));
        // Nothing of the rounding stays.
        drop(other);
        assert_eq!(told(&table), [Value::Gauge(0.0)]);
    }

    #[test]
    fn instances_have_only_so_many_parts_together() {
        let table = table(1);
        let series = table.series(&gauge(&table), &["a".to_owned()]).unwrap();
        let mut instances: Vec<_> = (0..METRIC_PARTS)
            .map(|_| {
                let mut parts = Parts::default();
                assert!(parts.of(&table, &series).is_some());
                parts
            })
            .collect();
        assert!(Parts::default().of(&table, &series).is_none());
        instances.pop();
        assert!(Parts::default().of(&table, &series).is_some());
    }
}
