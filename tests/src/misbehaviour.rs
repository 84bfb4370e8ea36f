//! What `tests/guests/misbehaves` can be told to do, how each deed ends, and a neighbour that measures what it notices.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    DEADLINE,
    client::Client,
    host::Host,
    metrics::Endpoint,
    places::{guest, plugin, scratch},
};

/// Something that a guest does in a callback.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// Its name, as the guest has it.
    pub name: &'static str,
    /// The callback.
    pub callback: &'static str,
    /// How it ends.
    pub ends: Ending,
}

/// How a deed ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// The instance ends, and a line of the log has these words.
    Fault(&'static [&'static str]),
    /// Its connection ends, and a line of the log at level debug has these words.
    Connection(&'static [&'static str]),
    /// It is done, and has done nothing; this sample of the metrics says what was refused.
    Bounded(Option<&'static str>),
    /// It goes on for ever, at a pace that leaves the others theirs.
    Paced,
}

use Ending::{Bounded, Connection, Fault, Paced};

const fn deed(name: &'static str, callback: &'static str, ends: Ending) -> Deed {
    Deed {
        name,
        callback,
        ends,
    }
}

const SLOW: &str = "took more than 50ms of processor time; this instance ends";

const TOO_MUCH: &str = "fuel allocated for hostcalls has been exhausted";

/// Every deed that a client can set off.
pub const DEEDS: &[Deed] = &[
    // An infinite loop.
    deed(
        "loop",
        "connection-made",
        Fault(&["connection-made", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "data-received",
        Fault(&["data-received", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "writable",
        Fault(&["writable", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "read-closed",
        Fault(&["read-closed", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "connection-lost",
        Fault(&["connection-lost", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "destructor",
        Fault(&["the session's destructor", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "completed",
        Fault(&["completed", SLOW, "deeds::spin"]),
    ),
    deed(
        "loop",
        "datagrams-received",
        Fault(&["datagrams-received", SLOW, "deeds::spin"]),
    ),
    // A trap.
    deed(
        "trap",
        "connection-made",
        Fault(&["connection-made trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "data-received",
        Fault(&["data-received trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "writable",
        Fault(&["writable trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "read-closed",
        Fault(&["read-closed trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "connection-lost",
        Fault(&["connection-lost trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "destructor",
        Fault(&["the session's destructor trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "completed",
        Fault(&["completed trapped", "deeds::trap"]),
    ),
    deed(
        "trap",
        "datagrams-received",
        Fault(&["datagrams-received trapped", "deeds::trap"]),
    ),
    deed(
        "giant-panic",
        "data-received",
        Fault(&["data-received trapped", "panic"]),
    ),
    // Memory.
    deed(
        "recursion",
        "data-received",
        Fault(&[
            "data-received trapped",
            "call stack exhausted",
            "deeds::deeper",
        ]),
    ),
    deed(
        "memory",
        "data-received",
        Fault(&[
            "data-received",
            "its memory would have grown past 268435456 bytes",
        ]),
    ),
    deed(
        "memory",
        "connection-lost",
        Fault(&["connection-lost", "its memory would have grown past"]),
    ),
    deed("fill", "data-received", Fault(&["data-received", SLOW])),
    // Writes.
    deed(
        "huge-write",
        "data-received",
        Fault(&["data-received", TOO_MUCH]),
    ),
    deed(
        "small-writes",
        "data-received",
        Fault(&["data-received", SLOW]),
    ),
    deed(
        "group-huge-write",
        "data-received",
        Fault(&["data-received", TOO_MUCH]),
    ),
    deed(
        "group-small-writes",
        "data-received",
        Fault(&["data-received", SLOW]),
    ),
    deed(
        "write-after-close",
        "data-received",
        Connection(&["connection lost"]),
    ),
    deed(
        "closed-group",
        "data-received",
        Connection(&["connection lost"]),
    ),
    deed("memberships", "data-received", Fault(&["data-received"])),
    // Handles.
    deed("groups", "data-received", Fault(&["data-received"])),
    deed("metric-handles", "data-received", Fault(&["data-received"])),
    deed(
        "directories",
        "data-received",
        Fault(&["data-received", SLOW]),
    ),
    deed(
        "bars",
        "data-received",
        Fault(&["data-received", "progress bars at a time"]),
    ),
    // Operations.
    deed("timers", "data-received", Fault(&["data-received"])),
    deed("looks-up", "data-received", Fault(&["data-received"])),
    deed("ticks", "data-received", Paced),
    deed("connects", "data-received", Paced),
    deed("giant-connects", "data-received", Paced),
    deed("cancels", "data-received", Bounded(None)),
    deed(
        "forbidden",
        "data-received",
        Bounded(Some(
            r#"nethost_connects_total{service="bad",result="denied"}"#,
        )),
    ),
    // Floods.
    deed(
        "logs",
        "data-received",
        Bounded(Some(r#"nethost_log_lines_dropped_total{service="bad"}"#)),
    ),
    deed(
        "prints",
        "data-received",
        Bounded(Some(r#"nethost_log_lines_dropped_total{service="bad"}"#)),
    ),
    deed(
        "giant-logs",
        "data-received",
        Fault(&["data-received", SLOW]),
    ),
    deed(
        "series",
        "data-received",
        Bounded(Some(
            r#"nethost_limits_hit_total{service="bad",limit="metrics"}"#,
        )),
    ),
    deed(
        "metrics",
        "data-received",
        Bounded(Some(
            r#"nethost_limits_hit_total{service="bad",limit="metrics"}"#,
        )),
    ),
    deed("random", "data-received", Fault(&["data-received", SLOW])),
];

/// A host with one worker that serves a guest that misbehaves, `bad`, and the plugin echo, `good`.
#[derive(Debug)]
pub struct Pair {
    /// The host.
    pub host: Host,
    /// Its metrics.
    pub metrics: Endpoint,
}

impl Pair {
    /// Starts one with the guest `misbehaves`, and these lines of config for its service.
    pub fn start(lines: &str) -> Self {
        Self::of(&guest("misbehaves"), lines)
    }

    /// Starts one with this component in its place.
    pub fn of(component: &Path, lines: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = scratch(&format!("misbehaviour-{number}"));
        let file = folder.join("nethost.toml");
        let text = format!(
            "[host]\nworkers = 1\nmetrics = \"tcp://127.0.0.1:0\"\ndrain-timeout = \"2s\"\n\n\
             [[service]]\nname = \"good\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:0\"]\nisolation = \"service\"\n\n\
             [[service]]\nname = \"bad\"\nplugin = \"{}\"\n{lines}\n",
            plugin("echo").display(),
            component.display(),
        );
        fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let listeners = 1 + lines.matches("://").count();
        let host = Host::serve(&file, ["--log", "info,nethost=debug"], listeners);
        let metrics = Endpoint::of(&host);
        Self { host, metrics }
    }

    /// Returns where a service listens; of several listeners, the one with this scheme.
    pub fn address(&self, service: &str, scheme: &str) -> SocketAddr {
        let output = self.host.output();
        let start = format!("listening {service} {scheme}://");
        let address = output.lines().find_map(|line| line.strip_prefix(&start));
        let address = address.and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{start} is not in {output}"))
    }

    /// Connects to the guest that misbehaves.
    pub fn bad(&self) -> Client {
        Client::tcp(self.address("bad", "tcp"))
    }

    /// Begins to measure.
    pub fn neighbour(&self) -> Neighbour {
        Neighbour::start(self.address("good", "tcp"))
    }

    /// Has the guest do a deed, for the `round`-th time in this host, and sees that it ends as it must.
    pub fn perform(&self, deed: &Deed, round: usize) {
        let before = self.value(deed);
        let (mut client, others) = self.set_off(deed);
        match deed.ends {
            Fault(words) => {
                client.iter_mut().for_each(|client| drop(client.rest()));
                self.host.logged_times(words, round);
            }
            Connection(words) => {
                client.iter_mut().for_each(|client| drop(client.rest()));
                self.host.logged_times(words, round);
                self.serves();
            }
            Bounded(_) => {
                let client = client.as_mut();
                let client = client.unwrap_or_else(|| panic!("{deed:?} has nobody to tell"));
                client.line_with(&format!("done {}", deed.name));
                self.counts_more(deed, before);
                self.serves();
            }
            Paced => {
                // It has gone on for a while, and its own service answers others still.
                for _ in 0..20 {
                    self.serves();
                }
                // What it started is its session's, and ends with it.
                drop(client);
                self.host
                    .logged_times(&["connection lost", "service=\"bad\""], 1);
            }
        }
        drop(others);
    }

    /// Waits until a connection to the guest is served.
    pub fn serves(&self) {
        let mut client = self.bad();
        client.send("x");
        client.expect("x");
    }

    fn set_off(&self, deed: &Deed) -> (Option<Client>, Option<Client>) {
        let mut client = self.bad();
        client.command(&format!("!{} {}", deed.name, deed.callback));
        match deed.callback {
            "data-received" | "completed" | "writable" => return (Some(client), None),
            _ => client.line_with("ready"),
        };
        match deed.callback {
            "connection-made" => {
                let next = self.bad();
                return (Some(client), Some(next));
            }
            "read-closed" => client.close_write(),
            "connection-lost" | "destructor" => return (None, None),
            "datagrams-received" => {
                let socket = UdpSocket::bind("127.0.0.1:0");
                let socket = socket.unwrap_or_else(|error| panic!("a socket: {error}"));
                let sent = socket.send_to(b"x", self.address("bad", "udp"));
                sent.unwrap_or_else(|error| panic!("a datagram: {error}"));
            }
            other => panic!("no client sets {other} off"),
        }
        (Some(client), None)
    }

    fn value(&self, deed: &Deed) -> f64 {
        match deed.ends {
            Bounded(Some(sample)) => self.metrics.scrape().value(sample).unwrap_or(0.0),
            _ => 0.0,
        }
    }

    fn counts_more(&self, deed: &Deed, before: f64) {
        let deadline = Instant::now() + DEADLINE;
        while matches!(deed.ends, Bounded(Some(_))) && self.value(deed) <= before {
            assert!(Instant::now() < deadline, "{deed:?} is not counted");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A client of a good service that asks all the time.
#[derive(Debug)]
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    asks: JoinHandle<Noticed>,
}

/// What it noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noticed {
    /// The longest time that an answer took.
    pub worst: Duration,
    /// How many answers there were.
    pub answers: u64,
}

impl Neighbour {
    /// Connects, and asks until it is stopped.
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut client = Client::tcp(address);
        let asks = thread::spawn(move || {
            let mut noticed = Noticed::default();
            let mut is_last = false;
            while !is_last {
                // What comes after the deed counts as well.
                is_last = stopped.load(Ordering::Relaxed);
                let asked = Instant::now();
                client.send("neighbour");
                client.expect("neighbour");
                noticed.worst = noticed.worst.max(asked.elapsed());
                noticed.answers += 1;
                // So that the worker has something else to do than this.
                thread::sleep(Duration::from_micros(200));
            }
            noticed
        });
        Self { stop, asks }
    }

    /// Returns what it noticed.
    ///
    /// # Panics
    ///
    /// If an answer was wrong, or did not come.
    pub fn stop(self) -> Noticed {
        self.stop.store(true, Ordering::Relaxed);
        let noticed = self.asks.join();
        noticed.unwrap_or_else(|_| panic!("the neighbour was not served"))
    }
}

/// The longest delay of the neighbour that is in order: twice the time that a call may take.
pub const GOAL: Duration = Duration::from_millis(100);

/// The listeners and the isolation of the guest, for [`Pair::start`].
pub const LINES: &str =
    "listen = [\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"]\nisolation = \"service\"\n";
