//! What the host counts of one service on one worker.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{health::Notice, spread::Spread};
use crate::reactor::{CloseReason, ErrorKind};

/// A number that only grows. One thread adds, which costs no more than adding to a plain number; every thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only ever called by the one thread that writes.
    pub(crate) fn add(&self, count: u64) {
        let value = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns what was counted.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What tells the counters of one kind apart: the value of a label.
pub trait Label: Copy {
    /// How each is called in the output, by its index.
    const NAMES: &'static [&'static str];

    /// Returns which it is.
    fn index(self) -> usize;
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L, const N: usize>([Counter; N], PhantomData<fn(L)>);

impl<L: Label, const N: usize> Counters<L, N> {
    /// Counts one.
    pub(crate) fn count(&self, label: L) {
        self.add(label, 1);
    }

    /// Adds. Only ever called by the one thread that writes.
    pub(crate) fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.0.get(label.index()) {
            counter.add(count);
        }
    }

    /// Returns what was counted.
    pub fn value(&self, label: L) -> u64 {
        self.0.get(label.index()).map_or(0, Counter::value)
    }

    /// Adds what another one counted, which nobody else reads as a part of this.
    fn absorb(&self, other: &Self) {
        for (counter, other) in self.0.iter().zip(&other.0) {
            counter.add(other.value());
        }
    }

    /// Returns the names and what was counted under each.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::NAMES
            .iter()
            .copied()
            .zip(self.0.iter().map(Counter::value))
    }
}

impl<L, const N: usize> Default for Counters<L, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()), PhantomData)
    }
}

/// An enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$what])* $variant,)* }

        impl Label for $name {
            const NAMES: &'static [&'static str] = &[$($text),*];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// A call into a guest.
    Call {
        /// It is made.
        Instantiation = "instantiation",
        /// It gets its config.
        Configure = "configure",
        /// A connection is there.
        ConnectionMade = "connection-made",
        /// Bytes came.
        DataReceived = "data-received",
        /// There is room for more.
        Writable = "writable",
        /// The peer sends no more.
        ReadClosed = "read-closed",
        /// A connection is gone.
        ConnectionLost = "connection-lost",
        /// A session goes.
        SessionDestructor = "session-destructor",
        /// A socket is there.
        EndpointConstructor = "endpoint-constructor",
        /// Datagrams came.
        DatagramsReceived = "datagrams-received",
        /// A socket is gone.
        EndpointClosed = "closed",
        /// An endpoint goes.
        EndpointDestructor = "endpoint-destructor",
        /// An operation is done.
        Completed = "completed",
        /// The service goes away.
        Draining = "draining",
        /// A command starts.
        Start = "start",
        /// A command is told of a signal.
        Signalled = "signalled",
        /// Which states it knows.
        Formats = "formats",
        /// Its state is wanted.
        Save = "save",
        /// A session's state is wanted.
        SaveSession = "save-session",
        /// It gets a state.
        Restore = "restore",
        /// It gets a session's state.
        RestoreSession = "restore-session",
    }
}

impl Call {
    /// Returns what the log says.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SessionDestructor => "the session's destructor",
            Self::EndpointConstructor => "the endpoint's constructor",
            Self::EndpointDestructor => "the endpoint's destructor",
            other => Self::NAMES.get(other.index()).copied().unwrap_or_default(),
        }
    }

    /// Returns whether there can be many thousands a second.
    fn is_frequent(self) -> bool {
        matches!(
            self,
            Self::DataReceived | Self::DatagramsReceived | Self::Completed | Self::Writable
        )
    }
}

label! {
    /// Why an accepted stream did not become a connection, or one without a session.
    Refused {
        /// The service has as many as it may.
        Limit = "limit",
        /// There is no instance: the last ones broke soon.
        NoInstance = "no-instance",
        /// Its PROXY header or TLS handshake failed.
        Handshake = "handshake",
        /// It was not established in time.
        HandshakeTime = "handshake-time",
        /// The service is going away.
        Draining = "draining",
        /// The plugin did not want it.
        Plugin = "plugin",
    }
}

label! {
    /// Why a connection ended.
    Closed {
        /// In order, by both sides.
        Done = "done",
        /// By the plugin.
        ClosedHere = "closed-here",
        /// By the plugin, at once.
        AbortedHere = "aborted-here",
        /// By the peer or the network.
        Reset = "reset",
        /// Nothing moved.
        Idle = "idle",
        /// A limit.
        Limit = "limit",
        /// TLS failed.
        Tls = "tls",
        /// The service went away.
        Draining = "draining",
        /// The instance broke.
        Trapped = "trapped",
        /// An operator closed it.
        Kicked = "kicked",
    }
}

impl From<&CloseReason> for Closed {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Done => Self::Done,
            CloseReason::ClosedHere => Self::ClosedHere,
            CloseReason::AbortedHere => Self::AbortedHere,
            CloseReason::Reset => Self::Reset,
            CloseReason::Idle => Self::Idle,
            CloseReason::Limit(_) => Self::Limit,
            CloseReason::Tls(_) => Self::Tls,
            CloseReason::Draining => Self::Draining,
            CloseReason::Trapped => Self::Trapped,
            CloseReason::Kicked => Self::Kicked,
        }
    }
}

label! {
    /// How an instance ended itself.
    Trap {
        /// `unreachable`, a wrong memory access, ...
        Trap = "trap",
        /// A call took too long.
        Deadline = "deadline",
        /// Its memory or its tables would have grown past the limit.
        Memory = "memory",
        /// A host function refused to go on.
        Refused = "refused",
        /// It was entered twice.
        Reentered = "reentered",
    }
}

label! {
    /// A limit of the service.
    Limit {
        /// Connections and sockets.
        Connections = "connections",
        /// Connections of one peer, or of its network.
        ConnectionsOfPeer = "connections-per-peer",
        /// Memory of the host.
        HostMemory = "host-memory",
        /// Memory or tables of an instance.
        Memory = "memory",
        /// Processor time of a call.
        CallTime = "call-time",
        /// Unsent bytes of a connection.
        Unsent = "unsent",
        /// The time to close.
        CloseTime = "close-time",
        /// The time until a stream is a connection.
        HandshakeTime = "handshake-time",
        /// Operations in flight.
        Operations = "operations",
        /// Timers.
        Timers = "timers",
        /// Outbound connections that are being made.
        Connects = "connects",
        /// Outbound connections in a second.
        ConnectRate = "connect-rate",
        /// Memberships in groups.
        Memberships = "memberships",
        /// Open files and directories.
        OpenFiles = "open-files",
        /// Bytes of file operations.
        StorageBytes = "storage-bytes",
        /// Log lines a second.
        LogLines = "log-lines",
        /// Metrics, and their series.
        Metrics = "metrics",
    }
}

label! {
    /// What came of an outbound connection.
    Connected {
        /// It is there.
        Connected = "connected",
        /// No grant covers it.
        Denied = "denied",
        /// The peer refused.
        Refused = "refused",
        /// No answer came in time.
        Timeout = "timeout",
        /// No route.
        Unreachable = "unreachable",
        /// The name has no address.
        NameNotFound = "name-not-found",
        /// Too many connections or operations.
        Limit = "limit",
        /// TLS failed.
        Tls = "tls",
        /// Anything else.
        Other = "other",
    }
}

impl From<Option<ErrorKind>> for Connected {
    fn from(error: Option<ErrorKind>) -> Self {
        match error {
            None => Self::Connected,
            Some(ErrorKind::Denied) => Self::Denied,
            Some(ErrorKind::Refused) => Self::Refused,
            Some(ErrorKind::Timeout) => Self::Timeout,
            Some(ErrorKind::Unreachable) => Self::Unreachable,
            Some(ErrorKind::NameNotFound) => Self::NameNotFound,
            Some(ErrorKind::Limit) => Self::Limit,
            Some(ErrorKind::Tls) => Self::Tls,
            Some(_) => Self::Other,
        }
    }
}

label! {
    /// What came of a login.
    Login {
        /// They are who they say.
        Accepted = "accepted",
        /// They are not.
        Credentials = "credentials",
        /// The peer, or the user, failed too often.
        Limited = "limited",
        /// Too many at a time.
        Busy = "busy",
        /// The request was wrong.
        Invalid = "invalid",
        /// Nobody could find out.
        Failed = "failed",
    }
}

label! {
    /// What became of a datagram.
    Datagram {
        /// It came.
        Received = "received",
        /// The kernel took it.
        Sent = "sent",
        /// The kernel took no more, or refused it.
        Dropped = "dropped",
        /// The peer had not asked, and no grant covers it.
        Refused = "refused",
        /// An error came back by ICMP.
        Returned = "returned",
    }
}

/// The counters of one service on one worker. They outlive its instances. Aligned so that no two workers write to one cache line, or to its neighbour, which
/// processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Meters {
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) calls: Counters<Call, { Call::NAMES.len() }>,
    call_nanoseconds: Counters<Call, { Call::NAMES.len() }>,
    /// By the bucket; the last is above all bounds.
    call_times: [Counter; CALL_TIMES.len() + 1],
    /// The same, finer: for quantiles.
    pub(crate) call_spread: Spread,
    lots: Counter,
    pub(crate) datagrams: Counters<Datagram, { Datagram::NAMES.len() }>,
    pub(crate) refused: Counters<Refused, { Refused::NAMES.len() }>,
    pub(crate) closed: Counters<Closed, { Closed::NAMES.len() }>,
    pub(crate) traps: Counters<Trap, { Trap::NAMES.len() }>,
    pub(crate) limits: Counters<Limit, { Limit::NAMES.len() }>,
    pub(crate) connects: Counters<Connected, { Connected::NAMES.len() }>,
    pub(crate) logins: Counters<Login, { Login::NAMES.len() }>,
    pub(crate) instances_made: Counter,
    pub(crate) swaps: Counter,
    /// New versions that broke on probation.
    pub(crate) swaps_undone: Counter,
    pub(crate) swap_moved: Counter,
    pub(crate) swap_refused: Counter,
    pub(crate) swap_left_behind: Counter,
    pub(crate) swap_state_bytes: Counter,
    pub(crate) swap_pause_nanoseconds: Counter,
    /// Instances that could not be made because the plugin refused.
    pub(crate) refusals: Counter,
    /// Why the service has no instance on the worker, if it has none.
    pub(crate) notice: Notice,
    /// Values of a plugin's metrics that are not numbers to sum, or would take a sum back.
    pub(crate) values_ignored: Counter,
}

/// A call that began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    call: Call,
    /// When, and for how many calls it stands; none if it is not timed.
    started: Option<(Instant, u64)>,
}

impl Meters {
    /// Counts a call, and times it. To look at the clock twice takes a tenth of the time of the shortest call, so of the frequent kinds only the first thousand
    /// are all timed; later ones are drawn by lot, and stand for those that are not.
    pub(crate) fn begin(&self, call: Call) -> Timing {
        let before = self.calls.value(call);
        self.calls.count(call);
        let weight = if call.is_frequent() && before >= ALL_TIMED {
            LOTS
        } else {
            1
        };
        let timed = weight == 1 || self.draw() < u64::MAX / LOTS;
        Timing {
            call,
            started: timed.then(|| (Instant::now(), weight)),
        }
    }

    /// The call returned.
    pub(crate) fn end(&self, timing: Timing) {
        if let Some((started, weight)) = timing.started {
            self.took(timing.call, started.elapsed(), weight);
        }
    }

    fn took(&self, call: Call, time: Duration, weight: u64) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.call_nanoseconds
            .add(call, nanoseconds.saturating_mul(weight));
        let bucket = CALL_TIMES.partition_point(|bound| *bound < nanoseconds);
        if let Some(counter) = self.call_times.get(bucket) {
            counter.add(weight);
        }
        self.call_spread.count(nanoseconds, weight);
    }

    /// The next number of Knuth's linear congruential generator, whose high bits are good enough to draw lots.
    fn draw(&self) -> u64 {
        let before = self.lots.value();
        let next = before
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.lots.add(next.wrapping_sub(before));
        next
    }

    /// Adds what others counted; no worker counts here.
    pub(crate) fn absorb(&self, other: &Self) {
        let Self {
            received,
            sent,
            calls,
            call_nanoseconds,
            call_times,
            call_spread,
            // No count, but where the generator is.
            lots: _,
            datagrams,
            refused,
            closed,
            traps,
            limits,
            connects,
            logins,
            instances_made,
            swaps,
            swaps_undone,
            swap_moved,
            swap_refused,
            swap_left_behind,
            swap_state_bytes,
            swap_pause_nanoseconds,
            refusals,
            // Who is gone waits for no instance.
            notice: _,
            values_ignored,
        } = other;
        self.received.add(received.value());
        self.sent.add(sent.value());
        self.calls.absorb(calls);
        self.call_nanoseconds.absorb(call_nanoseconds);
        for (counter, other) in self.call_times.iter().zip(call_times) {
            counter.add(other.value());
        }
        self.call_spread.absorb(call_spread);
        self.datagrams.absorb(datagrams);
        self.refused.absorb(refused);
        self.closed.absorb(closed);
        self.traps.absorb(traps);
        self.limits.absorb(limits);
        self.connects.absorb(connects);
        self.logins.absorb(logins);
        self.instances_made.add(instances_made.value());
        self.swaps.add(swaps.value());
        self.swaps_undone.add(swaps_undone.value());
        self.swap_moved.add(swap_moved.value());
        self.swap_refused.add(swap_refused.value());
        self.swap_left_behind.add(swap_left_behind.value());
        self.swap_state_bytes.add(swap_state_bytes.value());
        self.swap_pause_nanoseconds
            .add(swap_pause_nanoseconds.value());
        self.refusals.add(refusals.value());
        self.values_ignored.add(values_ignored.value());
    }

    /// Returns how many instances broke or could not be made.
    pub(crate) fn failures(&self) -> u64 {
        let broken: u64 = self.traps.values().map(|(_, count)| count).sum();
        broken.saturating_add(self.refusals.value())
    }

    /// Returns the time in the guest by the kind of call.
    pub(crate) fn call_seconds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.call_nanoseconds.values()
    }

    /// Returns the calls by the bucket of their time, not summed up.
    pub(crate) fn call_times(&self) -> impl Iterator<Item = u64> {
        self.call_times.iter().map(Counter::value)
    }
}

/// The bounds of the buckets of call times, in nanoseconds: from the shortest call there is to what `configure` may take.
pub(crate) const CALL_TIMES: [u64; 12] = [
    250,
    500,
    1_000,
    2_500,
    10_000,
    50_000,
    250_000,
    1_000_000,
    5_000_000,
    25_000_000,
    100_000_000,
    1_000_000_000,
];

/// Calls of each kind that are timed, whatever it costs.
const ALL_TIMED: u64 = 1_000;

/// Of the frequent calls after these, one in so many is timed.
const LOTS: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_counted_and_the_time_of_those_drawn_stands_for_the_others() {
        let meters = Meters::default();
        for _ in 0..100_000 {
            let timing = meters.begin(Call::DataReceived);
            if let Some((_, weight)) = timing.started {
                meters.took(timing.call, Duration::from_nanos(300), weight);
            }
        }
        assert_eq!(meters.calls.value(Call::DataReceived), 100_000);
        let timed: u64 = meters.call_times().sum();
        assert!((90_000..110_000).contains(&timed), "{timed}");
        let time = meters.call_nanoseconds.value(Call::DataReceived);
        assert_eq!(time, timed * 300);
        // All of them are in the bucket of up to 500 ns.
        assert_eq!(meters.call_times().nth(1), Some(timed));
    }

    #[test]
    fn a_rare_call_is_always_timed() {
        let meters = Meters::default();
        for _ in 0..2_000 {
            assert!(meters.begin(Call::ConnectionMade).started.is_some());
        }
    }

    #[test]
    fn a_time_that_is_a_bound_belongs_below_it() {
        let meters = Meters::default();
        for nanoseconds in [250, 251, 1_000_000_000, 1_000_000_001] {
            meters.took(Call::Save, Duration::from_nanos(nanoseconds), 1);
        }
        let times: Vec<_> = meters.call_times().collect();
        assert_eq!(times, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }
}
