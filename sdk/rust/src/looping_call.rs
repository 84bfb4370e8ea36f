//! Something to do again and again.

use std::time::Duration;

use crate::{
    clock,
    deferred::after,
    executor::{self, Kind, Task},
};

/// Calls a function at an interval until it is dropped: Twisted's LoopingCall.
///
/// It does not drift: calls lie at multiples of the interval after the start, and those that were missed are left out, not made up for. Like a
/// [task](crate::spawn) it belongs to the session in whose callback it was started, else to the instance; unlike one it does not keep its
/// session from moving to another version of the plugin, where the session starts it again.
#[must_use = "a looping call that is dropped ends"]
#[derive(Debug)]
pub struct LoopingCall(Task);

impl LoopingCall {
    /// Starts it; the first call comes after one interval. An interval of 0 is taken as 1 ms.
    pub fn start(interval: Duration, mut call: impl FnMut() + 'static) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let looping = async move {
            let mut due = clock::monotonic().saturating_add(interval);
            while after(due.saturating_sub(clock::monotonic())).await.is_ok() {
                call();
                let late = clock::monotonic().saturating_sub(due).as_nanos();
                let missed = u32::try_from(late / interval.as_nanos()).unwrap_or(u32::MAX - 1);
                due = due.saturating_add(interval.saturating_mul(missed + 1));
            }
        };
        Self(executor::start(
            looping,
            executor::owner(),
            Kind::Restartable,
        ))
    }

    /// Lets it run for as long as what it belongs to.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Ends it. The same as dropping it, with a name.
    pub fn cancel(self) {}
}
