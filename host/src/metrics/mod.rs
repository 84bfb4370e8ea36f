//! What the host and its plugins count, and the endpoint that tells: Prometheus' text, health and readiness.
//!
//! Nothing is locked or shared on the path of a byte. The host's counters are per worker and service, written by that worker alone and read by whoever
//! scrapes; what a plugin counts, and what is true only for a moment, a worker copies when it is asked. A worker that does not answer in time holds up nobody:
//! what it told last is told again.
//!
//! The text is written by `text`, some hundred lines: `prometheus-client` and the `metrics` crates keep counters that threads share (atomic
//! read-modify-write, or a lock around a family), and here there is nothing left to keep once the numbers are summed.

pub mod meters;

pub mod plugin;

pub mod parts;

pub mod registry;

pub mod health;

pub(crate) mod overview;

pub(crate) mod spread;

mod retired;

mod merge;

mod families;

mod process;

mod text;

pub mod endpoint;
