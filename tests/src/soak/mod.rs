//! The soak: one host process with every guest that misbehaves, a service each and all at once, next to an echo service under load, and what became of the good one.
//!
//! * [`run`]: starts everything, waits, and reports.
//! * `offend`: the clients that make the bad ones misbehave, again and again.
//! * `load`: the good one's clients, which compare every byte.
//! * `memory`: what the host's memory does.

mod load;
mod memory;
mod offend;

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use load::Load;
use memory::Memory;
use nethost::limits::Limits;
use offend::Offender;
use serde::Serialize;

use crate::{
    START_DEADLINE,
    places::{self, guest, plugin, scratch},
};

/// How long, and how good it has to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long everything runs.
    pub time: Duration,
    /// How often better than the goals is enough: a machine that also compiles is slow.
    pub slack: u32,
    /// Whether to say how far it is, on standard error.
    pub shows_progress: bool,
}

/// What became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What is promised, and what was seen.
    pub goals: Vec<Goal>,
    /// Each service that misbehaves, and how often it was made to.
    pub offences: Vec<(String, u64)>,
    /// Round trips of the good one.
    pub echoes: u64,
    /// Half of them took no longer, in milliseconds.
    pub median: f64,
    /// Instances that the log says ended.
    pub faults: u64,
    /// Resident memory in MiB: at the end of the warm-up, at most afterwards, and at the end.
    pub memory: [f64; 3],
    /// The first thing that went wrong with a connection of the good one.
    pub wrong: Option<String>,
}

/// Something that is promised.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What.
    pub what: &'static str,
    /// At most this.
    pub most: f64,
    /// What was seen.
    pub seen: f64,
}

impl Goal {
    /// Returns whether it is reached.
    pub fn is_reached(&self) -> bool {
        self.seen <= self.most
    }
}

impl Report {
    /// Returns whether every goal is reached.
    pub fn is_good(&self) -> bool {
        self.goals.iter().all(Goal::is_reached)
    }
}

/// Runs it.
///
/// # Panics
///
/// If the host does not start.
pub fn run(options: &Options) -> Report {
    let offenders = Offender::all();
    let mut process = Process::start(&offenders);
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let load = Load::start(process.good, &stop);
    let memory = Memory::watch(process.child.id(), options.time, &stop);
    let running: Vec<_> = offenders
        .iter()
        .zip(&process.bad)
        .map(|(offender, address)| offender.start(*address, &stop))
        .collect();
    let mut is_alive = true;
    while is_alive && begin.elapsed() < options.time {
        thread::sleep(Duration::from_millis(200).min(options.time));
        is_alive = matches!(process.child.try_wait(), Ok(None));
        if options.shows_progress {
            let seconds = begin.elapsed().as_secs();
            let (echoes, resident) = (load.count(), memory.last());
            eprint!("\r  {seconds} s, {echoes} echoes, {resident:.0} MiB \u{1b}[K");
        }
    }
    if options.shows_progress {
        eprintln!();
    }
    stop.store(true, Ordering::Relaxed);
    let load = load.finish();
    let memory = memory.finish();
    let offences = offenders.iter().zip(running);
    let offences =
        offences.map(|(offender, count)| (offender.service.clone(), offend::finish(count)));
    let slack = f64::from(options.slack);
    Report {
        goals: vec![
            Goal {
                what: "host processes that ended",
                most: 0.0,
                seen: f64::from(u8::from(!is_alive)),
            },
            Goal {
                what: "bytes lost or changed",
                most: 0.0,
                seen: load.wrong_bytes,
            },
            Goal {
                what: "p99 in ms",
                most: P99 * slack,
                seen: load.p99,
            },
            Goal {
                what: "longest stall in ms",
                most: longest_stall() * slack,
                seen: load.longest,
            },
            Goal {
                what: "growth of memory in MiB a minute",
                most: SLOPE * slack,
                seen: memory.slope,
            },
            Goal {
                what: "memory above the warm-up's peak in MiB",
                most: ABOVE * slack,
                seen: memory.above,
            },
        ],
        offences: offences.collect(),
        echoes: load.echoes,
        median: load.median,
        faults: process.faults.load(Ordering::Relaxed),
        memory: memory.resident,
        wrong: load.wrong,
    }
}

/// Twice the deadline of a call, in milliseconds.
fn longest_stall() -> f64 {
    Limits::default().callback_time.as_secs_f64() * 2000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<42} {:>10} {:>10}", "goal", "at most", "seen")?;
        for goal in &self.goals {
            let Goal { what, most, seen } = goal;
            let missed = if goal.is_reached() { "" } else { "  missed" };
            writeln!(f, "{what:<42} {most:>10.1} {seen:>10.2}{missed}")?;
        }
        let [warm, most, last] = self.memory;
        writeln!(f, "\n{} echoes, median {:.2} ms", self.echoes, self.median)?;
        writeln!(
            f,
            "{warm:.0} MiB after the warm-up, at most {most:.0}, {last:.0} at the end"
        )?;
        writeln!(
            f,
            "{} instances ended; how often each was made to misbehave:",
            self.faults
        )?;
        for (service, count) in &self.offences {
            writeln!(f, "    {service:<28} {count:>9}")?;
        }
        match &self.wrong {
            Some(wrong) => writeln!(f, "the good one: {wrong}"),
            None => Ok(()),
        }
    }
}

/// The host, which ends with this.
struct Process {
    child: Child,
    good: SocketAddr,
    /// Where each offender listens.
    bad: Vec<SocketAddr>,
    /// Lines of the log about instances that ended.
    faults: Arc<AtomicU64>,
}

impl Process {
    fn start(offenders: &[Offender]) -> Self {
        let file = scratch("soak").join("nethost.toml");
        let written = std::fs::write(&file, config(offenders));
        written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut child = places::host()
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the host: {error}"));
        let faults = Arc::new(AtomicU64::new(0));
        if let Some(log) = child.stderr.take() {
            let faults = faults.clone();
            thread::spawn(move || {
                for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
                    if line.windows(ENDS.len()).any(|part| part == ENDS) {
                        faults.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut addresses = listening(&mut child, offenders.len() + 1).into_iter();
        let good = addresses.next();
        Self {
            child,
            good: good.unwrap_or_else(|| panic!("the good service does not listen")),
            bad: addresses.collect(),
            faults,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already if something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads where the services listen, in their order.
fn listening(child: &mut Child, count: usize) -> Vec<SocketAddr> {
    let deadline = Instant::now() + START_DEADLINE;
    let Some(output) = child.stdout.take() else {
        return Vec::new();
    };
    let mut lines = BufReader::new(output).lines();
    let mut found = Vec::new();
    while found.len() < count && Instant::now() < deadline {
        let Some(Ok(line)) = lines.next() else {
            panic!("the host did not start");
        };
        found.extend(
            line.rsplit_once("://")
                .and_then(|(_, address)| address.parse::<SocketAddr>().ok()),
        );
    }
    // What comes later must not fill the pipe.
    thread::spawn(move || for _line in lines {});
    found
}

fn config(offenders: &[Offender]) -> String {
    let service = |name: &str, plugin: &Path, more: &str| {
        format!(
            "[[service]]\nname = {name:?}\nplugin = {plugin:?}\nlisten = [\"tcp://127.0.0.1:0\"]\n{more}\n"
        )
    };
    let mut text = "[host]\nworkers = 2\nlog = \"error\"\n".to_owned();
    text += &service("good", &plugin("echo"), "isolation = \"worker\"");
    for Offender {
        service: name,
        guest: component,
        ..
    } in offenders
    {
        text += &service(name, &guest(component), "isolation = \"worker\"");
    }
    text
}

/// What the log says of an instance that broke.
const ENDS: &[u8] = b"this instance ends";

/// Milliseconds that 99 of 100 round trips take at most.
const P99: f64 = 100.0;

/// MiB a minute: what is flat, within what can be measured.
const SLOPE: f64 = 1.0;

/// MiB: bad guests take memory and give it back, and do not always meet.
const ABOVE: f64 = 64.0;
