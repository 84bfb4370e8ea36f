//! `metrics`: what a plugin counts. Nothing of it waits for the commit of a swap: a version that is not in charge yet counts in its own table, which is forgotten
//! if it never is.

use std::rc::Rc;

use slab::Slab;
use wasmtime::component::Resource;

use super::convert;
use crate::{
    bindings::nethost::plugin::metrics::{
        Counter, Description, Error, Gauge, Histogram, Host, HostCounter, HostGauge, HostHistogram,
    },
    instance::State,
    metrics::{
        parts::{Part, Parts},
        plugin::{Declaration, Family, Kind, MetricError, Series},
    },
    reactor::{ErrorKind, OperationError},
};

/// What the handles of an instance mean. The contract's types see to it that a counter's handle is a counter's.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    handles: Slab<Handle>,
    /// What it says of gauges, if others count in its table.
    parts: Parts,
}

#[derive(Debug)]
struct Handle {
    family: Rc<Family>,
    /// None for a metric that has labels.
    series: Option<Recorded>,
}

/// Where a handle records to.
#[derive(Debug)]
enum Recorded {
    Series(Rc<Series>),
    /// Of a gauge that several instances have.
    Part(Rc<Part>),
}

impl Recorded {
    fn count(&self, count: u64) {
        if let Self::Series(series) = self {
            series.count(count);
        }
    }

    fn observe(&self, value: f64) -> bool {
        match self {
            Self::Series(series) => series.observe(value),
            Self::Part(_) => false,
        }
    }

    fn set(&self, value: f64) -> bool {
        match self {
            Self::Series(series) => series.set(value),
            Self::Part(part) => part.set(value),
        }
    }

    fn add(&self, difference: f64) -> bool {
        match self {
            Self::Series(series) => series.add(difference),
            Self::Part(part) => part.add(difference),
        }
    }
}

impl Host for State {}

impl HostCounter for State {
    fn declare(
        &mut self,
        description: Description,
    ) -> wasmtime::Result<Result<Resource<Counter>, Error>> {
        self.declare_metric(description, Kind::Counter)
    }

    fn labelled(
        &mut self,
        handle: Resource<Counter>,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<Resource<Counter>, Error>> {
        self.resolve_series(&handle, &values)
    }

    fn add(&mut self, handle: Resource<Counter>, count: u64) -> wasmtime::Result<()> {
        if let Some(series) = self.series(&handle)? {
            series.count(count);
        }
        Ok(())
    }

    fn drop(&mut self, handle: Resource<Counter>) -> wasmtime::Result<()> {
        self.forget_metric(&handle)
    }
}

impl HostGauge for State {
    fn declare(
        &mut self,
        description: Description,
    ) -> wasmtime::Result<Result<Resource<Gauge>, Error>> {
        self.declare_metric(description, Kind::Gauge)
    }

    fn labelled(
        &mut self,
        handle: Resource<Gauge>,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<Resource<Gauge>, Error>> {
        self.resolve_series(&handle, &values)
    }

    fn set(&mut self, handle: Resource<Gauge>, value: f64) -> wasmtime::Result<()> {
        self.record(&handle, |series| series.set(value))
    }

    fn add(&mut self, handle: Resource<Gauge>, difference: f64) -> wasmtime::Result<()> {
        self.record(&handle, |series| series.add(difference))
    }

    fn drop(&mut self, handle: Resource<Gauge>) -> wasmtime::Result<()> {
        self.forget_metric(&handle)
    }
}

impl HostHistogram for State {
    fn declare(
        &mut self,
        description: Description,
        bounds: Vec<f64>,
    ) -> wasmtime::Result<Result<Resource<Histogram>, Error>> {
        self.declare_metric(description, Kind::Histogram(bounds))
    }

    fn labelled(
        &mut self,
        handle: Resource<Histogram>,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<Resource<Histogram>, Error>> {
        self.resolve_series(&handle, &values)
    }

    fn observe(&mut self, handle: Resource<Histogram>, value: f64) -> wasmtime::Result<()> {
        self.record(&handle, |series| series.observe(value))
    }

    fn drop(&mut self, handle: Resource<Histogram>) -> wasmtime::Result<()> {
        self.forget_metric(&handle)
    }
}

impl State {
    fn declare_metric<T: 'static>(
        &mut self,
        description: Description,
        kind: Kind,
    ) -> wasmtime::Result<Result<Resource<T>, Error>> {
        let Description {
            name,
            help,
            unit,
            labels,
        } = description;
        let declared = self.table.declare(Declaration {
            name,
            help,
            unit,
            labels,
            kind,
        });
        let family = match declared {
            Ok(family) => family,
            Err(error) => return Ok(Err(refused(&error))),
        };
        let series = self.table.series(&family, &[]);
        Ok(Ok(self.own_metric(family, series)?))
    }

    fn resolve_series<T: 'static>(
        &mut self,
        handle: &Resource<T>,
        values: &[String],
    ) -> wasmtime::Result<Result<Resource<T>, Error>> {
        let family = self.metric(handle)?.family.clone();
        let Some(series) = self.table.series(&family, values) else {
            let message = format!("{} values for {family}", values.len());
            let error = OperationError::new(ErrorKind::Invalid, message);
            return Ok(Err(convert::error(error)));
        };
        Ok(Ok(self.own_metric(family, Some(series))?))
    }

    fn record<T: 'static>(
        &mut self,
        handle: &Resource<T>,
        record: impl FnOnce(&Recorded) -> bool,
    ) -> wasmtime::Result<()> {
        let recorded = self.series(handle)?.is_none_or(record);
        if !recorded {
            self.table.ignore();
        }
        Ok(())
    }

    fn series<T: 'static>(&self, handle: &Resource<T>) -> wasmtime::Result<Option<&Recorded>> {
        Ok(self.metric(handle)?.series.as_ref())
    }

    fn metric<T: 'static>(&self, handle: &Resource<T>) -> wasmtime::Result<&Handle> {
        usize::try_from(handle.rep())
            .ok()
            .and_then(|index| self.metrics.handles.get(index))
            .ok_or_else(|| wasmtime::format_err!("a metric's handle that the host never gave"))
    }

    fn own_metric<T: 'static>(
        &mut self,
        family: Rc<Family>,
        series: Option<Rc<Series>>,
    ) -> wasmtime::Result<Resource<T>> {
        let series = match series {
            Some(series) if family.is_gauge() && self.table.is_shared() => {
                // One too many says nothing.
                let part = self.metrics.parts.of(&self.table, &series);
                part.map(Recorded::Part)
            }
            series => series.map(Recorded::Series),
        };
        let index = self.metrics.handles.insert(Handle { family, series });
        Ok(Resource::new_own(u32::try_from(index)?))
    }

    fn forget_metric<T: 'static>(&mut self, handle: &Resource<T>) -> wasmtime::Result<()> {
        self.metrics
            .handles
            .try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}

fn refused(error: &MetricError) -> Error {
    let kind = match error {
        MetricError::Invalid(_) => ErrorKind::Invalid,
        MetricError::Exists(_) => ErrorKind::Exists,
        MetricError::TooMany => ErrorKind::Limit,
    };
    convert::error(OperationError::new(kind, error.to_string()))
}
