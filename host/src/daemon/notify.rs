//! Telling the service manager how the process is doing: sd_notify(3), `Type=notify-reload` and `WatchdogSec=` of systemd.service(5).
//!
//! Without a manager that wants to know (`NOTIFY_SOCKET` is not set) nothing happens.

use std::{fmt, time::Duration};

use sd_notify::NotifyState;

/// Says that everything listens, at the start or after a reload.
pub(crate) fn ready(status: impl fmt::Display) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status.to_string())]);
}

/// Says that a reload begins; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "reading the clock for the service manager"),
    }
}

/// Says that connections are being drained.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the process is alive.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the manager wants to hear that the process is alive: half the time after which it would kill it, as sd_watchdog_enabled(3) recommends.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|limit| limit / 2)
        .filter(|period| !period.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "telling the service manager");
    }
}
