//! Clients that make a bad guest misbehave, again and again.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::places::root;

/// A service that misbehaves.
#[derive(Debug)]
pub(super) struct Offender {
    pub(super) service: String,
    /// Its component.
    pub(super) guest: &'static str,
    /// What sets it off.
    says: Vec<u8>,
    /// Whether the client reads what comes of it.
    reads: bool,
}

impl Offender {
    /// Every one that there is.
    pub(super) fn all() -> Vec<Self> {
        let by_name = GUESTS.iter().map(|guest| Self {
            service: (*guest).to_owned(),
            guest,
            says: b"hello!".to_vec(),
            // One that writes without end does so to a client that does not read, too.
            reads: *guest != "floods",
        });
        let has_deeds = root().join("tests/guests").join(MISBEHAVES).is_dir();
        let deeds = DEEDS.iter().filter(|_| has_deeds).map(|deed| Self {
            service: format!("{MISBEHAVES}-{deed}"),
            guest: MISBEHAVES,
            says: format!("!{deed}\n").into_bytes(),
            reads: true,
        });
        by_name.chain(deeds).collect()
    }

    /// Begins to provoke it, and returns how often that was done.
    pub(super) fn start(&self, address: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
        let (says, reads, stop) = (self.says.clone(), self.reads, stop.clone());
        thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += u64::from(provoke(address, &says, reads));
                // Refused or backed off: no use in trying without a pause.
                thread::sleep(PAUSE);
            }
            count
        })
    }
}

pub(super) fn finish(running: JoinHandle<u64>) -> u64 {
    running.join().unwrap_or(0)
}

/// Returns whether it was told.
fn provoke(address: SocketAddr, says: &[u8], reads: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
        return false;
    };
    let _unless_closed = stream.set_read_timeout(Some(PAUSE));
    if stream.write_all(says).is_err() {
        return false;
    }
    let begin = Instant::now();
    let mut buffer = [0; 16 << 10];
    while begin.elapsed() < PATIENCE {
        if !reads {
            thread::sleep(PAUSE);
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    true
}

/// The guests with one way to misbehave, which a `!` sets off.
const GUESTS: &[&str] = &[
    "loops", "traps", "grows", "hoards", "floods", "timers", "logs",
];

/// The guest with all the others.
const MISBEHAVES: &str = "misbehaves";

/// What it is told in `data-received`, as its `deeds.rs` has them.
const DEEDS: &[&str] = &[
    "loop",
    "trap",
    "recursion",
    "memory",
    "giant-panic",
    "fill",
    "huge-write",
    "small-writes",
    "group-small-writes",
    "group-huge-write",
    "write-after-close",
    "groups",
    "metric-handles",
    "directories",
    "bars",
    "closed-group",
    "memberships",
    "timers",
    "ticks",
    "connects",
    "giant-connects",
    "looks-up",
    "cancels",
    "forbidden",
    "logs",
    "prints",
    "giant-logs",
    "series",
    "metrics",
    "random",
];

/// How long one connection goes on.
const PATIENCE: Duration = Duration::from_millis(200);

const PAUSE: Duration = Duration::from_millis(10);
