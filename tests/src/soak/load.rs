//! The good service's clients: each sends a message at fixed times and compares every byte of what comes back. What a stall delays is counted from when it should have been sent.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::random::Random;

/// Clients that run.
pub(super) struct Load {
    running: Vec<JoinHandle<Seen>>,
    count: Arc<AtomicU64>,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    /// How many round trips took that many tenths of a millisecond.
    times: Vec<u64>,
    longest: Duration,
    wrong_bytes: u64,
    wrong: Option<String>,
}

/// What all of them saw; times are in milliseconds.
pub(super) struct Outcome {
    pub(super) echoes: u64,
    pub(super) median: f64,
    pub(super) p99: f64,
    pub(super) longest: f64,
    pub(super) wrong_bytes: f64,
    pub(super) wrong: Option<String>,
}

impl Load {
    pub(super) fn start(server: SocketAddr, stop: &Arc<AtomicBool>) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let client = |number: u64| {
            let (stop, count) = (stop.clone(), count.clone());
            thread::spawn(move || {
                let mut seen = Seen::default();
                if let Err(error) = talk(server, number, &stop, &count, &mut seen) {
                    seen.wrong
                        .get_or_insert_with(|| format!("connection {number}: {error}"));
                    // What was on its way is lost.
                    seen.wrong_bytes += MESSAGE as u64;
                }
                seen
            })
        };
        Self {
            running: (0..CONNECTIONS).map(client).collect(),
            count,
        }
    }

    /// Returns how many round trips there were.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn finish(self) -> Outcome {
        let mut all = Seen::default();
        for client in self.running {
            match client.join() {
                Ok(seen) => all.add(seen),
                Err(_) => all.wrong = Some("a client of the soak panicked".to_owned()),
            }
        }
        Outcome {
            echoes: all.times.iter().sum(),
            median: all.percentile(50),
            p99: all.percentile(99),
            longest: all.longest.as_secs_f64() * 1000.0,
            wrong_bytes: all.wrong_bytes as f64,
            wrong: all.wrong,
        }
    }
}

impl Seen {
    fn note(&mut self, time: Duration) {
        let tenths = usize::try_from(time.as_micros() / 100)
            .unwrap_or(LONGEST)
            .min(LONGEST);
        if self.times.len() <= tenths {
            self.times.resize(tenths + 1, 0);
        }
        if let Some(count) = self.times.get_mut(tenths) {
            *count += 1;
        }
        self.longest = self.longest.max(time);
    }

    fn add(&mut self, other: Self) {
        if self.times.len() < other.times.len() {
            self.times.resize(other.times.len(), 0);
        }
        for (sum, more) in self.times.iter_mut().zip(other.times) {
            *sum += more;
        }
        self.longest = self.longest.max(other.longest);
        self.wrong_bytes += other.wrong_bytes;
        self.wrong = self.wrong.take().or(other.wrong);
    }

    /// The time that this many of a hundred round trips do not exceed.
    fn percentile(&self, percent: u64) -> f64 {
        let all: u64 = self.times.iter().sum();
        let mut below = 0;
        let at = self.times.iter().position(|count| {
            below += count;
            below * 100 >= all * percent
        });
        at.map_or(0.0, |tenths| (tenths + 1) as f64 / 10.0)
    }
}

/// One connection from the beginning to the end: a new one would hide that the old one was lost. It sends whether or not the last answer has come, as many clients do
/// together.
fn talk(
    server: SocketAddr,
    number: u64,
    stop: &AtomicBool,
    count: &AtomicU64,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOST_AFTER))?;
    let writer = stream.try_clone()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(writer, number, begin, stop));
        let mut random = Random::new(number + 1);
        let mut back = vec![0; MESSAGE];
        let mut received = 0;
        let ended = loop {
            if let Err(error) = stream.read_exact(&mut back) {
                break error;
            }
            seen.note((begin + PERIOD * received).elapsed());
            received += 1;
            count.fetch_add(1, Ordering::Relaxed);
            let sent = random.bytes(MESSAGE);
            let differing = sent.iter().zip(&back).filter(|(a, b)| a != b).count() as u64;
            if differing > 0 {
                seen.wrong_bytes += differing;
                seen.wrong.get_or_insert_with(|| {
                    format!("connection {number}: {differing} bytes differ")
                });
            }
        };
        let sent = match sending.join() {
            Ok(sent) => sent?,
            Err(_) => return Err(io::Error::other("the sending thread panicked")),
        };
        if received == sent && ended.kind() == io::ErrorKind::UnexpectedEof {
            return Ok(());
        }
        let text = format!("{ended}, after {received} of {sent} messages");
        Err(io::Error::new(ended.kind(), text))
    })
}

/// Sends a message in every period until it is to stop, and returns how many.
fn send(mut stream: TcpStream, number: u64, begin: Instant, stop: &AtomicBool) -> io::Result<u32> {
    let mut random = Random::new(number + 1);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + PERIOD * sent;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&random.bytes(MESSAGE))?;
        sent += 1;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

const CONNECTIONS: u64 = 16;

/// Bytes of a message.
const MESSAGE: usize = 1024;

/// How often each connection sends one: 1,600 messages a second together.
const PERIOD: Duration = Duration::from_millis(10);

/// A connection that is silent for that long is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Tenths of a millisecond that are told apart: up to 10 s.
const LONGEST: usize = 100_000;
