//! `bench dns`: the plugin dns against Knot and NSD, asked by dnsperf.
//!
//! Each server has one worker on one core, dnsperf the other core. All three run at the same time and are asked in turn, so that what else the machine does
//! hits them alike. How long a zone takes to load is from the program's start to the first answer, less the same with the smaller zone: so a program's own
//! start is not in it.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nethost_tests::places;

use crate::{plugin, server::pin, stats::Rounds};

/// How long to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each measurement, at least five to be worth a median
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load in a round
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Names of the zones
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100_000])]
    names: Vec<usize>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Udp, Part::Tcp, Part::Latency, Part::Load])]
    parts: Vec<Part>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Queries a second over UDP
    Udp,
    /// Queries a second over TCP
    Tcp,
    /// p99 over UDP; it needs the rates over UDP, which are measured too
    Latency,
    /// How long the largest zone takes to load; it needs a smaller zone, too
    Load,
}

impl Options {
    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

#[derive(Debug, serde::Serialize)]
struct Report {
    zones: Vec<Zone>,
    /// Seconds that the largest zone takes to load, less those of the smallest: nethost, Knot, NSD.
    load: Option<[Rounds; 3]>,
    /// MiB of memory with the largest zone (PSS of all processes): nethost, Knot, NSD.
    memory: [f64; 3],
}

/// What was measured with one zone.
#[derive(Debug, serde::Serialize)]
struct Zone {
    names: usize,
    /// Queries a second: nethost, Knot, NSD.
    udp: Option<Compared>,
    tcp: Option<Compared>,
    /// Queries a second at which the times were taken: half of the rate of the slower peer.
    rate: f64,
    /// Milliseconds.
    p99: Option<Compared>,
}

#[derive(Debug, serde::Serialize)]
struct Compared {
    /// nethost, Knot, NSD.
    values: [Rounds; 3],
    /// nethost by Knot and by NSD, round by round.
    ratios: [Rounds; 2],
}

impl Compared {
    fn of(values: &[Vec<f64>; 3]) -> Self {
        let [ours, knot, nsd] = values;
        let by = |theirs: &[f64]| {
            Rounds::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
        };
        Self {
            values: values
                .each_ref()
                .map(|values| Rounds::of(values.iter().copied())),
            ratios: [by(knot), by(nsd)],
        }
    }
}

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const NAMES: [&str; 3] = ["nethost", "Knot", "NSD"];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = Scratch(places::scratch("bench-dns"));
    let mut zones = Vec::new();
    let mut loads = Vec::new();
    let mut memory = [0.0; 3];
    for names in &options.names {
        let place = folder.0.join(names.to_string());
        fs::create_dir_all(&place)?;
        write_zone(&place.join("bench.test.zone"), *names)?;
        write_queries(&place.join("queries"), *names)?;
        let mut rounds = Vec::new();
        let loads_wanted = if options.has(Part::Load) { LOADS } else { 0 };
        if zones.is_empty() {
            // The first start compiles the plugin.
            drop(start_nethost(&place)?);
        }
        for _ in 0..loads_wanted {
            rounds.push(start_all(&place)?.map(|server| server.loaded.as_secs_f64()));
        }
        loads.push(rounds);
        let servers = start_all(&place)?;
        pin(CLIENT_CORE)?;
        zones.push(measure(options, &servers, &place, *names)?);
        memory = servers.each_ref().map(Server::memory);
    }
    let (first, last) = (
        loads.first().context("a zone")?,
        loads.last().context("a zone")?,
    );
    let load = |at: usize| {
        let pairs = first.iter().zip(last);
        let of = |round: &[f64; 3]| round.get(at).copied().unwrap_or(f64::NAN);
        Rounds::of(pairs.map(|(small, large)| of(large) - of(small)))
    };
    let report = Report {
        zones,
        load: options.has(Part::Load).then(|| [load(0), load(1), load(2)]),
        memory,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, options);
    }
    Ok(())
}

fn print(report: &Report, options: &Options) {
    println!(
        "median (least to most) of {} rounds of {} s; servers on core {SERVER_CORE}, dnsperf on core {CLIENT_CORE}",
        options.rounds, options.seconds
    );
    let rows = |what: &str, values: &[Rounds; 3]| {
        println!("  {what}");
        for (name, value) in NAMES.iter().zip(values) {
            println!("    {name:<20}{value}");
        }
    };
    let compared = |what: &str, goal: &str, compared: &Option<Compared>| {
        if let Some(Compared { values, ratios }) = compared {
            let [knot, nsd] = ratios;
            rows(what, values);
            println!(
                "    nethost / Knot      {knot}\n    nethost / NSD       {nsd}   (goal: {goal})"
            );
        }
    };
    for zone in &report.zones {
        println!("\n{} names", zone.names);
        compared("UDP, queries a second", "1.0 of both", &zone.udp);
        compared("TCP, queries a second", "1.0 of NSD", &zone.tcp);
        let what = format!("p99 in ms at {:.0} queries a second", zone.rate);
        compared(&what, "at most 1.2", &zone.p99);
    }
    if let Some(load) = &report.load {
        rows("\nthe largest zone: seconds to load", load);
    }
    println!("  MiB of memory with the largest zone");
    for (name, value) in NAMES.iter().zip(&report.memory) {
        println!("    {name:<20}{value:.1}");
    }
}

fn measure(
    options: &Options,
    servers: &[Server; 3],
    place: &Path,
    names: usize,
) -> anyhow::Result<Zone> {
    let queries = place.join("queries");
    let rates = |arguments: &[&str]| -> anyhow::Result<[Vec<f64>; 3]> {
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..=options.rounds {
            for (server, rates) in servers.iter().zip(&mut rates) {
                let said = dnsperf(server, &queries, options.seconds, arguments)?;
                // The first round warms up.
                if round > 0 {
                    rates.push(number_after(&said, "Queries per second:")?);
                }
            }
        }
        Ok(rates)
    };
    let measured = |part: bool, arguments: &[&str]| part.then(|| rates(arguments)).transpose();
    let wants_p99 = options.has(Part::Latency);
    let udp = measured(
        options.has(Part::Udp) || wants_p99,
        &["-c", "16", "-q", "512"],
    )?;
    let tcp = measured(
        options.has(Part::Tcp),
        &["-m", "tcp", "-c", "8", "-q", "256"],
    )?;
    let udp = udp.as_ref().map(Compared::of);
    let rate = udp.as_ref().map_or(0.0, |udp| {
        let [_, knot, nsd] = &udp.values;
        (knot.median.min(nsd.median) / 2.0).floor()
    });
    let mut p99 = [const { Vec::new() }; 3];
    for _ in 0..if wants_p99 { options.rounds } else { 0 } {
        for (server, p99) in servers.iter().zip(&mut p99) {
            let arguments = ["-v", "-c", "16", "-q", "512", "-Q", &rate.to_string()];
            let said = dnsperf(server, &queries, options.seconds, &arguments)?;
            p99.push(percentile(&said)? * 1e3);
        }
    }
    Ok(Zone {
        names,
        udp,
        tcp: tcp.as_ref().map(Compared::of),
        rate,
        p99: wants_p99.then(|| Compared::of(&p99)),
    })
}

fn dnsperf(
    server: &Server,
    queries: &Path,
    seconds: u32,
    arguments: &[&str],
) -> anyhow::Result<String> {
    // Into a file: whoever read a pipe would take time of dnsperf's core.
    let file = queries.with_extension("said");
    let status = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &server.address.port().to_string()])
        .args(["-l", &seconds.to_string(), "-d"])
        .arg(queries)
        .args(arguments)
        .stdout(fs::File::create(&file)?)
        .stderr(Stdio::null())
        .status()
        .context("starting dnsperf; `cargo xtask bench dns` installs it")?;
    let said = fs::read_to_string(&file)?;
    if !status.success() {
        bail!("dnsperf failed: {said}");
    }
    let lost = number_after(&said, "Queries lost:")?;
    let sent = number_after(&said, "Queries sent:")?;
    if lost > sent / 100.0 {
        bail!("{} lost {lost} of {sent} queries", server.name);
    }
    Ok(said)
}

fn number_after(said: &str, label: &str) -> anyhow::Result<f64> {
    let rest = said.split_once(label).map(|(_, rest)| rest);
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    let number = word.and_then(|word| word.parse().ok());
    number.with_context(|| format!("dnsperf says nothing about `{label}`:\n{said}"))
}

/// The 99th percentile of the times that `dnsperf -v` prints last on the line of each answer. What was lost took forever.
fn percentile(said: &str) -> anyhow::Result<f64> {
    let lines = said.lines().filter(|line| line.starts_with("> "));
    let time = |line: &str| match line.starts_with("> T ") {
        true => Some(f64::INFINITY),
        false => line.split_whitespace().last()?.parse().ok(),
    };
    let times = lines.filter_map(time);
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    let time = times.get(times.len() * 99 / 100);
    time.copied().context("dnsperf -v printed no times")
}

/// A server with one worker; it ends when this is dropped.
struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// From the start to the first answer.
    loaded: Duration,
}

/// One after the other: nethost, Knot, NSD.
fn start_all(place: &Path) -> anyhow::Result<[Server; 3]> {
    // Servers inherit the core of who starts them.
    pin(SERVER_CORE)?;
    Ok([start_nethost(place)?, start_knot(place)?, start_nsd(place)?])
}

fn start_nethost(place: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = places::host();
    command
        .arg("run")
        .arg(plugin("dns")?)
        .args(["--workers", "1", "--log", "warn"])
        .arg("--dir")
        .arg(format!("zones={}:ro", place.display()))
        .args([
            "--listen",
            &format!("udp://{address}?receive-buffer=4000000"),
        ])
        .args(["--listen", &format!("tcp://{address}")]);
    Server::start("nethost", command, address)
}

fn start_knot(place: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let folder = place.join("knot");
    fs::create_dir_all(&folder)?;
    let config = format!(
        "server:\n    listen: 127.0.0.1@{port}\n    rundir: {folder}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: {folder}\n\
         template:\n  - id: default\n    storage: {place}\n    file: \"%s.zone\"\n    zonefile-sync: -1\n    journal-content: none\n    zonefile-load: whole\n    semantic-checks: off\n\
         zone:\n  - domain: bench.test\n",
        port = address.port(),
        folder = folder.display(),
        place = place.display(),
    );
    let file = folder.join("knot.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("knotd");
    command.arg("--config").arg(file);
    Server::start("Knot", command, address)
}

fn start_nsd(place: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let folder = place.join("nsd");
    fs::create_dir_all(&folder)?;
    let shown = folder.display();
    let config = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: {place}\n  database: \"\"\n  pidfile: {shown}/nsd.pid\n\
         \x20 xfrdfile: {shown}/xfrd.state\n  xfrdir: {shown}\n  zonelistfile: {shown}/zone.list\n  logfile: {shown}/nsd.log\n  rrl-ratelimit: 0\n  minimal-responses: yes\n\
         \x20 tcp-count: 100\nremote-control:\n  control-enable: no\nzone:\n  name: bench.test\n  zonefile: bench.test.zone\n",
        port = address.port(),
        place = place.display(),
    );
    let file = folder.join("nsd.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(file);
    Server::start("NSD", command, address)
}

impl Server {
    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {name}; `cargo xtask bench dns` installs it"))?;
        let mut server = Self {
            name,
            child,
            address,
            loaded: Duration::ZERO,
        };
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        socket.connect(address)?;
        // The SOA of bench.test: an answer without an error says that the zone is there.
        let question = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x05bench\x04test\0\0\x06\0\x01";
        let mut answer = [0; 512];
        while begun.elapsed() < PATIENCE {
            let _refused = socket.send(question);
            if let Ok(12..) = socket.recv(&mut answer)
                && let [0x12, 0x34, _, flags, ..] = answer
                && flags & 15 == 0
            {
                server.loaded = begun.elapsed();
                return Ok(server);
            }
        }
        bail!("{name} does not serve the zone")
    }

    /// MiB that its processes have for themselves, and their share of the rest.
    fn memory(&self) -> f64 {
        let mut processes = vec![self.child.id()];
        let mut total = 0.0;
        while let Some(process) = processes.pop() {
            let file = |name: &str| {
                fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default()
            };
            let children = file(&format!("task/{process}/children"));
            processes.extend(
                children
                    .split_whitespace()
                    .filter_map(|it| it.parse::<u32>().ok()),
            );
            total += number_after(&file("smaps_rollup"), "Pss:").unwrap_or(0.0);
        }
        total / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD's children end with it only if it is asked.
        if let Ok(id) = i32::try_from(self.child.id())
            && let Some(process) = rustix::process::Pid::from_raw(id)
        {
            let _gone = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ended = self.child.wait();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let address = tcp.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

/// A zone with so many names: hosts with addresses, and among them aliases, mail exchanges and delegations.
fn write_zone(path: &Path, names: usize) -> anyhow::Result<()> {
    let mut zone = String::from(
        "$TTL 3600\n$ORIGIN bench.test.\n@ SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n*.wild A 192.0.2.3\n",
    );
    for number in 0..names {
        let (a, b, c) = (number >> 16 & 255, number >> 8 & 255, number & 255);
        match number % 20 {
            0 => writeln!(zone, "host{number} CNAME host{}", number + 1)?,
            1 => writeln!(
                zone,
                "host{number} MX 10 host{}\nhost{number} A 10.{a}.{b}.{c}",
                number + 1
            )?,
            2 => writeln!(
                zone,
                "host{number} NS ns.host{number}\nns.host{number} A 10.{a}.{b}.{c}"
            )?,
            3 => writeln!(
                zone,
                "host{number} AAAA 2001:db8::{a:x}:{:x}\nhost{number} A 10.{a}.{b}.{c}",
                number & 0xffff
            )?,
            _ => writeln!(zone, "host{number} A 10.{a}.{b}.{c}")?,
        }
    }
    fs::write(path, zone)?;
    Ok(())
}

/// Questions in no order: most for addresses that are there; a tenth for names that are not, and some for everything else.
fn write_queries(path: &Path, names: usize) -> anyhow::Result<()> {
    let mut random = nethost_tests::random::Random::new(7);
    let mut queries = String::new();
    for _ in 0..QUERIES {
        let number = random.up_to(names) - 1;
        match random.up_to(20) {
            1 | 2 => writeln!(queries, "no{number}.bench.test A")?,
            3 => writeln!(queries, "host{number}.bench.test AAAA")?,
            4 => writeln!(queries, "host{number}.bench.test MX")?,
            5 => writeln!(queries, "x{number}.wild.bench.test A")?,
            6 => writeln!(queries, "www.host{}.bench.test A", number / 20 * 20 + 2)?,
            _ => writeln!(queries, "host{number}.bench.test A")?,
        }
    }
    fs::write(path, queries)?;
    Ok(())
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// Questions of a file, which dnsperf asks again and again.
const QUERIES: usize = 100_000;

/// How often each zone is loaded.
const LOADS: usize = 3;

const PATIENCE: Duration = Duration::from_secs(60);
