//! Time: registration and ping timeouts, and the token bucket against floods.

use std::time::Duration;

use super::{
    Network,
    event::{ClientId, Now},
    user::Link,
};
use crate::{
    config::{Config, Flood},
    types::{command::Command, text::Text},
};

impl Network {
    /// The time that `poll_timeout` told has come. What is due and too much for one callback is left for the next.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now.monotonic || self.is_congested() {
                return;
            }
            self.out.spend(1);
            self.deadlines.remove(&(at, id));
            self.look_at(id, now);
            self.schedule(id);
        }
    }

    /// Takes note that a client lives.
    pub(super) fn heard(&mut self, id: ClientId, now: Now) {
        if let Some(link) = self.link_mut(id) {
            link.heard = now.monotonic;
            link.pinged = None;
        }
    }

    /// Puts a client among the deadlines, in place of its earlier one.
    pub(super) fn schedule(&mut self, id: ClientId) {
        let registered = self.world.user(id).is_some();
        let config = self.config.timeouts();
        let Some(link) = self.link_mut(id) else {
            return;
        };
        let timeout = if registered {
            ping_deadline(link, config)
        } else {
            link.connected + config.registration
        };
        let wake = match config.flood {
            Some(flood) if !link.backlog.is_empty() => timeout.min(next_token(link, flood)),
            _ => timeout,
        };
        let old = std::mem::replace(&mut link.wake, wake);
        self.deadlines.remove(&(old, id));
        self.deadlines.insert((wake, id));
    }

    /// Whether a line may be executed now. One that may not has been kept, or was one too many.
    pub(super) fn admit(&mut self, id: ClientId, line: &[u8], now: Now) -> bool {
        let Some(flood) = self.config.flood else {
            return true;
        };
        let Some(link) = self.link_mut(id) else {
            return false;
        };
        if link.backlog.is_empty() && take_token(link, flood, now.monotonic) {
            return true;
        }
        link.backlog_bytes += line.len() + LINE_COST;
        if link.backlog_bytes > MAX_BACKLOG {
            self.close(id, b"Excess Flood", now);
            return false;
        }
        link.backlog.push_back(line.into());
        self.schedule(id);
        false
    }

    /// Does for a client what is due.
    fn look_at(&mut self, id: ClientId, now: Now) {
        self.run_backlog(id, now);
        let registered = self.world.user(id).is_some();
        let timeouts = self.config.timeouts();
        let Some(link) = self.link_mut(id) else {
            return;
        };
        let silence = now.monotonic.saturating_sub(link.heard);
        if !registered {
            if now.monotonic >= link.connected + timeouts.registration {
                self.close(id, b"Registration timed out", now);
            }
        } else if let Some(pinged) = link.pinged {
            if now.monotonic >= pinged + timeouts.ping {
                let reason = format!("Ping timeout: {} seconds", silence.as_secs());
                self.close(id, reason.as_bytes(), now);
            }
        } else if silence >= timeouts.interval {
            link.pinged = Some(now.monotonic);
            let server = self.config.server.as_bytes();
            self.out.send(id, None, Command::Ping(Text::until(server)));
        }
    }

    fn run_backlog(&mut self, id: ClientId, now: Now) {
        let Some(flood) = self.config.flood else {
            return;
        };
        while let Some(link) = self.link_mut(id) {
            if link.backlog.is_empty() || !take_token(link, flood, now.monotonic) {
                return;
            }
            let Some(line) = link.backlog.pop_front() else {
                return;
            };
            link.backlog_bytes = link.backlog_bytes.saturating_sub(line.len() + LINE_COST);
            self.execute(id, &line, now);
        }
    }
}

/// The part of the configuration that is about time, copied out so that a client can be changed meanwhile.
#[derive(Clone, Copy)]
struct Timeouts {
    registration: Duration,
    interval: Duration,
    ping: Duration,
    flood: Option<Flood>,
}

impl Config {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            registration: self.registration_timeout,
            interval: self.ping_interval,
            ping: self.ping_timeout,
            flood: self.flood,
        }
    }
}

fn ping_deadline(link: &Link, timeouts: Timeouts) -> Duration {
    match link.pinged {
        Some(pinged) => pinged + timeouts.ping,
        None => link.heard + timeouts.interval,
    }
}

/// Takes a token if there is one.
///
/// The bucket is kept as the time at which it will be full: each token that is missing puts that off by the time a token takes to come.
fn take_token(link: &mut Link, flood: Flood, now: Duration) -> bool {
    let full = link.bucket_full.max(now) + token_time(flood);
    let admitted = full <= now + token_time(flood) * flood.burst;
    if admitted {
        link.bucket_full = full;
    }
    admitted
}

fn next_token(link: &Link, flood: Flood) -> Duration {
    (link.bucket_full + token_time(flood)).saturating_sub(token_time(flood) * flood.burst)
}

fn token_time(flood: Flood) -> Duration {
    Duration::from_secs(1) / flood.rate.max(1)
}

/// How many bytes of lines may wait for tokens; a client that sends more is closed. Enough for a paste of some hundred lines.
const MAX_BACKLOG: usize = 32 * 1024;

/// What a waiting line costs besides its bytes.
const LINE_COST: usize = 32;
