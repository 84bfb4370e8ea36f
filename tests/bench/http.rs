//! `bench http`: requests and bytes a second against nginx, and Twisted web; latency at a rate that nginx can do; memory of idle connections.
//!
//! Every server has one core, the load the other. Rounds of the servers take turns.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nethost_tests::{
    host::{Host, Run},
    places,
};
use socket2::{Domain, Socket, Type};

use crate::{
    paced,
    send_file::{Nginx, Scratch},
    server::pin,
    stats::Rounds,
};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each server and row
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only rows with this in their name
    #[arg(long, default_value = "")]
    only: String,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What is asked for, and how.
struct Row {
    name: &'static str,
    path: &'static str,
    connections: usize,
    unit: Unit,
    goal: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Requests,
    Bytes,
}

const ROWS: &[Row] = &[
    Row {
        name: "13 bytes",
        path: "/hello",
        connections: 64,
        unit: Unit::Requests,
        goal: 1.0,
    },
    Row {
        name: "13 bytes, 1000 connections",
        path: "/hello",
        connections: 1000,
        unit: Unit::Requests,
        goal: 0.95,
    },
    Row {
        name: "file of 10 KiB",
        path: "/10k",
        connections: 64,
        unit: Unit::Requests,
        goal: 1.0,
    },
    Row {
        name: "file of 1 MiB",
        path: "/1m",
        connections: 64,
        unit: Unit::Bytes,
        goal: 0.95,
    },
    Row {
        name: "file of 1 GiB",
        path: "/1g",
        connections: 64,
        unit: Unit::Bytes,
        goal: 0.95,
    },
];

#[derive(Debug, Default, serde::Serialize)]
struct Report {
    rows: Vec<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_bytes: Option<f64>,
}

#[derive(Debug, serde::Serialize)]
struct Measured {
    name: &'static str,
    unit: &'static str,
    goal: f64,
    nethost: Rounds,
    nginx: Rounds,
    twisted: Option<Rounds>,
    ratio: Rounds,
}

/// At half of nginx's rate, in microseconds.
#[derive(Debug, serde::Serialize)]
struct Latency {
    rate: f64,
    nethost: Rounds,
    nginx: Rounds,
    ratio: Rounds,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = Scratch(places::scratch("http"));
    for (name, bytes) in [("10k", 10 << 10), ("1m", 1 << 20), ("1g", 1 << 30)] {
        write_file(&folder.0.join(name), bytes)?;
    }
    // Servers inherit the core of who starts them.
    pin(SERVER_CORE)?;
    let servers = Servers::start(&folder.0)?;
    pin(CLIENT_CORE)?;
    let mut report = Report::default();
    for row in ROWS.iter().filter(|row| row.name.contains(&options.only)) {
        report.rows.push(measure(row, &servers, options)?);
        if let (false, Some(row)) = (options.json, report.rows.last()) {
            row.print();
        }
    }
    if "latency".contains(&options.only) {
        let latency = latency(&servers, options)?;
        if !options.json {
            println!("p99 of 13 bytes at {:.0} requests/s, µs:", latency.rate);
            println!(
                "  nethost {}\n  nginx   {}\n  ratio   {} (goal: at most 1.2)",
                latency.nethost, latency.nginx, latency.ratio
            );
        }
        report.latency = Some(latency);
    }
    if "idle".contains(&options.only) {
        let bytes = idle_bytes()?;
        if !options.json {
            println!(
                "resident memory of an idle keep-alive connection, of 10,000: {bytes:.0} bytes (goal: at most 6144)"
            );
        }
        report.idle_bytes = Some(bytes);
    }
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

struct Servers {
    hello: Host,
    files: Host,
    nginx: Nginx,
    twisted: Option<Twisted>,
}

impl Servers {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let twisted = Twisted::start(folder)?;
        if twisted.is_none() {
            eprintln!("without Twisted: `cargo xtask setup` installs it");
        }
        Ok(Self {
            hello: hello(),
            files: Run::of(crate::plugin("http")?)
                .arguments(["--workers", "1", "--dir"])
                .arguments([format!("root={}", folder.display())])
                .listen(LISTEN)
                .start(),
            nginx: Nginx::start(folder)?,
            twisted,
        })
    }

    fn nethost(&self, row: &Row) -> SocketAddr {
        if row.path == "/hello" {
            self.hello.address()
        } else {
            self.files.address()
        }
    }
}

fn hello() -> Host {
    Run::of(places::plugin("examples/http-hello"))
        .arguments(["--workers", "1"])
        .listen(LISTEN)
        .start()
}

fn measure(row: &Row, servers: &Servers, options: &Options) -> anyhow::Result<Measured> {
    let (mut nethost, mut nginx, mut twisted, mut ratio) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let ours = wrk(servers.nethost(row), row, options.seconds)?;
        let theirs = wrk(servers.nginx.address, row, options.seconds)?;
        nethost.push(ours);
        nginx.push(theirs);
        ratio.push(ours / theirs);
        // It is far behind: a round in three says so as well.
        if let Some(server) = servers.twisted.as_ref().filter(|_| round % 3 == 0) {
            twisted.push(wrk(server.address, row, options.seconds)?);
        }
    }
    Ok(Measured {
        name: row.name,
        unit: match row.unit {
            Unit::Requests => "requests/s",
            Unit::Bytes => "MiB/s",
        },
        goal: row.goal,
        nethost: Rounds::of(nethost),
        nginx: Rounds::of(nginx),
        twisted: (!twisted.is_empty()).then(|| Rounds::of(twisted)),
        ratio: Rounds::of(ratio),
    })
}

impl Measured {
    fn print(&self) {
        println!("{}, {}, median (least to most):", self.name, self.unit);
        println!("  nethost {}\n  nginx   {}", self.nethost, self.nginx);
        if let Some(twisted) = &self.twisted {
            println!("  Twisted {twisted}");
        }
        println!("  ratio   {} (goal: at least {})", self.ratio, self.goal);
    }
}

/// One round of wrk, which runs on this thread's core.
fn wrk(server: SocketAddr, row: &Row, seconds: u64) -> anyhow::Result<f64> {
    let output = Command::new("wrk")
        .args([
            "-t1",
            &format!("-c{}", row.connections),
            &format!("-d{seconds}s"),
        ])
        .arg(format!("http://{server}{}", row.path))
        .stdin(Stdio::null())
        .output()
        .context("running wrk; `cargo xtask bench http` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .map(str::trim)
    };
    anyhow::ensure!(
        !text.contains("Non-2xx"),
        "{} of {server} is no success:\n{text}",
        row.path
    );
    match row.unit {
        Unit::Requests => Ok(field("Requests/sec:")
            .context("wrk said no rate")?
            .parse()?),
        Unit::Bytes => mebibytes(field("Transfer/sec:").context("wrk said no rate")?),
    }
}

/// `1.23GB`, by which wrk means powers of 1024.
fn mebibytes(text: &str) -> anyhow::Result<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let factor = match text.strip_prefix(digits) {
        Some("GB") => 1024.0,
        Some("MB") => 1.0,
        Some("KB") => 1.0 / 1024.0,
        _ => anyhow::bail!("wrk's rate is {text}"),
    };
    Ok(digits.parse::<f64>()? * factor)
}

fn latency(servers: &Servers, options: &Options) -> anyhow::Result<Latency> {
    let row = ROWS.first().context("a row")?;
    let rate = wrk(servers.nginx.address, row, options.seconds)? / 2.0;
    let request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let time = Duration::from_secs(options.seconds);
    let (mut nethost, mut nginx, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let p99 = |server| paced::p99(server, request, rate, row.connections, time);
        let ours = p99(servers.nethost(row))?.as_secs_f64() * 1e6;
        let theirs = p99(servers.nginx.address)?.as_secs_f64() * 1e6;
        nethost.push(ours);
        nginx.push(theirs);
        ratio.push(ours / theirs);
    }
    Ok(Latency {
        rate,
        nethost: Rounds::of(nethost),
        nginx: Rounds::of(nginx),
        ratio: Rounds::of(ratio),
    })
}

/// Opens many connections, asks once on each, and returns what one takes.
fn idle_bytes() -> anyhow::Result<f64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    use std::io::{Read as _, Write as _};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let host = hello();
    let open = |count: usize| -> anyhow::Result<Vec<std::net::TcpStream>> {
        let mut streams = Vec::with_capacity(count);
        for index in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Several sources: one has only 28,000 ports.
            let source = std::net::Ipv4Addr::new(127, 0, 1, u8::try_from(index % 8)?);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket
                .connect(&host.address().into())
                .with_context(|| format!("connection {index}"))?;
            let mut stream = std::net::TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nOK") {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer)?;
                anyhow::ensure!(count > 0, "the server closed connection {index}");
                answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
            }
            streams.push(stream);
        }
        Ok(streams)
    };
    // What is allocated once is not a connection's.
    let warm = open(100)?;
    let before = host.memory();
    let idle = open(IDLE)?;
    let after = host.memory();
    drop((warm, idle));
    Ok(after.saturating_sub(before) as f64 / IDLE as f64)
}

fn write_file(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = fs::File::create(path).with_context(|| path.display().to_string())?;
    // A hole is as good as bytes: what is measured is how they are sent.
    file.set_len(bytes)?;
    Ok(())
}

/// Twisted web; it ends when this is dropped.
struct Twisted {
    child: Child,
    address: SocketAddr,
}

impl Twisted {
    fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(python) = places::python() else {
            return Ok(None);
        };
        let has_it = Command::new(&python)
            .args(["-c", "import twisted.web"])
            .stderr(Stdio::null())
            .status()?;
        if !has_it.success() {
            return Ok(None);
        }
        let mut child = Command::new(python)
            .arg(places::root().join("tests/bench/twisted_web.py"))
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting Twisted")?;
        let mut line = String::new();
        let start = Instant::now();
        BufReader::new(child.stdout.take().context("Twisted's output")?).read_line(&mut line)?;
        let port: u16 = line
            .trim()
            .parse()
            .with_context(|| format!("Twisted's port, after {:?}", start.elapsed()))?;
        Ok(Some(Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
        }))
    }
}

impl Drop for Twisted {
    fn drop(&mut self) {
        // It is this program's own child, and has nothing to save.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const IDLE: usize = 10_000;
const LISTEN: &str = "tcp://127.0.0.1:0?backlog=4096";
