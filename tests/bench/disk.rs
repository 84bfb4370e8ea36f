//! `bench disk`: how long an echo takes while a plugin on the same worker moves bytes to and from files, against how long it takes in quiet.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nethost_tests::places;

use crate::{
    server::{Server, pin},
    stats::Rounds,
};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each load
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Megabytes a second that a load moves
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Bytes of one `append`, `write-at` or `read-at`
    #[arg(long, default_value_t = 64 << 10)]
    size: usize,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What goes on beside the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
enum Load {
    /// Nothing.
    Quiet,
    /// `append`.
    Append,
    /// `write-at`.
    Write,
    /// `receive-file`, from a client.
    Receive,
    /// `read-at` of what the kernel was told to forget.
    ColdRead,
}

/// One load's rounds.
#[derive(Debug, serde::Serialize)]
struct Row {
    load: Load,
    /// Megabytes a second that were moved.
    rate: Rounds,
    /// Microseconds.
    p50: Rounds,
    p99: Rounds,
    /// This round's p99 by that of the quiet round beside it.
    ratio: Rounds,
}

#[derive(Debug, Default)]
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
}

const LOADS: [Load; 5] = [
    Load::Quiet,
    Load::Append,
    Load::Write,
    Load::Receive,
    Load::ColdRead,
];

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// Between two messages of the echo: as its client does not wait for the answer before it counts the next one's time, a stall counts for everything that
/// would have been sent meanwhile.
const INTERVAL: Duration = Duration::from_micros(200);

/// Bytes of a message.
const MESSAGE: usize = 64;

/// Bytes of the file that is read.
const COLD: usize = 256 << 20;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = Scratch(places::scratch("bench-disk"));
    write_cold(&folder.0.join("cold"))?;
    let server = Server::start_with_disk(
        &crate::plugin("echo")?,
        (&places::guest("disk"), &folder.0),
        SERVER_CORE,
    )?;
    let [echo, .., disk] = server.addresses.as_slice() else {
        bail!("the server has one service");
    };
    pin(CLIENT_CORE)?;
    let mut rounds: Vec<Vec<Round>> = LOADS.iter().map(|_| Vec::new()).collect();
    // The first is to warm up.
    for number in 0..=options.rounds {
        for (load, rounds) in LOADS.into_iter().zip(&mut rounds) {
            let round = round(load, options, *echo, *disk, &folder.0)
                .with_context(|| format!("{load:?}"))?;
            if number > 0 {
                rounds.push(round);
            }
        }
    }
    let Some(quiet) = rounds.first() else {
        bail!("nothing was measured");
    };
    let rows: Vec<_> = LOADS
        .into_iter()
        .zip(&rounds)
        .map(|(load, rounds)| Row {
            load,
            rate: Rounds::of(rounds.iter().map(|round| round.rate)),
            p50: Rounds::of(rounds.iter().map(|round| round.p50)),
            p99: Rounds::of(rounds.iter().map(|round| round.p99)),
            ratio: Rounds::of(
                rounds
                    .iter()
                    .zip(quiet)
                    .map(|(round, quiet)| round.p99 / quiet.p99),
            ),
        })
        .collect();
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(());
    }
    println!(
        "echo of {MESSAGE} bytes every {} µs, beside files on the same worker; median (least to most) of {} rounds of {} s:",
        INTERVAL.as_micros(),
        options.rounds,
        options.seconds
    );
    for row in rows {
        println!("  {:?}", row.load);
        println!("    MB/s     {}", row.rate);
        println!("    p50, µs  {}", row.p50);
        println!("    p99, µs  {}", row.p99);
        if row.load != Load::Quiet {
            println!("    p99 by that of quiet  {} (goal: at most 3)", row.ratio);
        }
    }
    let (shallow, deep) = (open(*disk, "cold")?, {
        fs::create_dir_all(folder.0.join("a/b/c"))?;
        fs::write(folder.0.join("a/b/c/file"), "x")?;
        open(*disk, "a/b/c/file")?
    });
    println!(
        "  open of what is in memory, from the call to its completion: {shallow} ns; four names deep {deep} ns"
    );
    Ok(())
}

fn write_cold(path: &Path) -> anyhow::Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let block = vec![b'c'; 1 << 20];
    for _ in 0..COLD >> 20 {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn round(
    load: Load,
    options: &Options,
    echo: SocketAddr,
    disk: SocketAddr,
    folder: &Path,
) -> anyhow::Result<Round> {
    let is_over = AtomicBool::new(false);
    let moved = AtomicU64::new(0);
    let time = Duration::from_secs_f64(options.seconds);
    thread::scope(|scope| {
        let working = scope.spawn(|| work(load, options, disk, folder, &is_over, &moved));
        // Until it works, or fails.
        while load != Load::Quiet && moved.load(Ordering::Relaxed) == 0 && !working.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let (before, start) = (moved.load(Ordering::Relaxed), Instant::now());
        let latencies = latencies(echo, time);
        let bytes = moved.load(Ordering::Relaxed) - before;
        let elapsed = start.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        match working.join() {
            Ok(worked) => worked?,
            Err(_) => bail!("the load panicked"),
        }
        let mut latencies = latencies?;
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            let time = latencies.get(index).copied().unwrap_or_default();
            time.as_secs_f64() * 1e6
        };
        Ok(Round {
            rate: bytes as f64 / elapsed / 1e6,
            p50: at(0.5),
            p99: at(0.99),
        })
    })
}

/// Sends a message at every interval, and tells how long after it should have been sent each came back.
fn latencies(server: SocketAddr, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut due = start;
    while start.elapsed() < time {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        stream.write_all(&[b'x'; MESSAGE])?;
        let mut rest = MESSAGE;
        while rest > 0 {
            let mut buffer = [0; MESSAGE];
            // It does not sleep, so that waking it is not what is measured.
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => rest = rest.saturating_sub(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        latencies.push(due.elapsed());
        due += INTERVAL;
    }
    Ok(latencies)
}

/// Has the plugin work until it is over, and counts the bytes.
fn work(
    load: Load,
    options: &Options,
    disk: SocketAddr,
    folder: &Path,
    is_over: &AtomicBool,
    moved: &AtomicU64,
) -> anyhow::Result<()> {
    let command = match load {
        Load::Quiet => return Ok(()),
        Load::Append => "append",
        Load::Write => "write",
        Load::ColdRead => "read",
        Load::Receive => return send(options, disk, folder, is_over, moved),
    };
    if load == Load::ColdRead {
        // No more is read in a round than the file has. It is not done meanwhile: it would take the measuring thread's time.
        let cold = File::open(folder.join("cold"))?;
        rustix::fs::fadvise(&cold, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    let rate = options.rate * 1_000_000;
    let mut stream = TcpStream::connect(disk)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{command} {rate} {}\n", options.size).as_bytes())?;
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        let bytes = line.parse().map_err(|_| anyhow::anyhow!("{line}"))?;
        moved.store(bytes, Ordering::Relaxed);
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    // The plugin's task ends with its connection.
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

/// Sends a file at the rate, as a client that uploads.
fn send(
    options: &Options,
    disk: SocketAddr,
    folder: &Path,
    is_over: &AtomicBool,
    moved: &AtomicU64,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(disk)?;
    stream.write_all(b"receive\n")?;
    let mut go = [0; 3];
    stream.read_exact(&mut go)?;
    anyhow::ensure!(go == *b"go\n", "the plugin said {go:?}");
    let block = vec![b'r'; options.size];
    let (start, mut sent) = (Instant::now(), 0_u64);
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(&block)?;
        sent += block.len() as u64;
        moved.store(sent, Ordering::Relaxed);
        let due = sent as f64 / (options.rate * 1_000_000) as f64;
        thread::sleep(Duration::from_secs_f64(due).saturating_sub(start.elapsed()));
    }
    stream.shutdown(Shutdown::Write)?;
    // The plugin closes when all of it is in the file.
    stream.read_to_end(&mut Vec::new())?;
    let length = fs::metadata(folder.join("received"))?.len();
    anyhow::ensure!(length == sent, "{length} bytes of {sent} were received");
    Ok(())
}

/// Returns the nanoseconds of opening and closing a file, as the plugin sees them.
fn open(disk: SocketAddr, path: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(disk)?;
    stream.write_all(format!("open 100000 {path}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    line.trim().parse().map_err(|_| anyhow::anyhow!("{line}"))
}

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
