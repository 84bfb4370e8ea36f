//! `bench boundary`: the sandbox tax.

use std::{
    hint::black_box,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use nethost::{
    engine::Engine,
    instance::Instance,
    plugin::Plugin,
    reactor::{Handler as _, Holdings, Origin, Worker},
};
use tokio::runtime::{Builder, LocalOptions};

use crate::{
    idle,
    load::Load,
    plugin,
    server::{Kind, Server, pin, program},
    stats::Rounds,
};

/// How long to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each measurement, at least five to be worth a median
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Connections of the echo load
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Idle connections whose memory is measured
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, serde::Serialize)]
struct Report {
    /// ns per `data-received` and `write`, by bytes.
    call_ns: Vec<(usize, Rounds)>,
    instance_us: Rounds,
    /// By bytes: native and sandboxed echoes a second, and the tax, round by round.
    echo: Vec<Echo>,
    /// The worst of the three medians.
    sandbox_tax: f64,
    idle_bytes: f64,
}

#[derive(Debug, serde::Serialize)]
struct Echo {
    bytes: usize,
    native: Rounds,
    sandboxed: Rounds,
    tax: Rounds,
}

const SIZES: [usize; 3] = [64, 1 << 10, 16 << 10];
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // The servers first: they inherit nothing of this thread's pinning because they pin themselves.
    pin(CLIENT_CORE)?;
    let (call_ns, instance_us) = calls(options.rounds)?;
    let echo = SIZES
        .iter()
        .map(|bytes| echo(options, *bytes))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let sandbox_tax = echo.iter().map(|echo| echo.tax.median).fold(0.0, f64::max);
    let idle_bytes = idle::bytes_per_connection(&plugin("echo")?, SERVER_CORE, options.idle)?;
    let report = Report {
        call_ns,
        instance_us,
        echo,
        sandbox_tax,
        idle_bytes,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(options, &report);
    }
    Ok(())
}

fn show(options: &Options, report: &Report) {
    println!(
        "median (least to most) of {} rounds; server on core {SERVER_CORE}, client on core {CLIENT_CORE}\n",
        options.rounds
    );
    println!("data-received + write, limits and counters on");
    for (bytes, nanoseconds) in &report.call_ns {
        println!("  {bytes:>6} B  {nanoseconds} ns");
    }
    println!("instance of echo\n            {} us", report.instance_us);
    println!(
        "\necho over loopback, {} connections, a second",
        options.connections
    );
    println!(
        "  {:>8}  {:<28}{:<28}tax = native / sandboxed",
        "bytes", "native", "sandboxed"
    );
    for echo in &report.echo {
        println!(
            "  {:>8}  {:<28}{:<28}{}",
            echo.bytes,
            echo.native.to_string(),
            echo.sandboxed.to_string(),
            echo.tax
        );
    }
    println!(
        "\nsandbox tax, worst of the three: {:.3}",
        report.sandbox_tax
    );
    println!(
        "resident memory of an idle connection, at {}: {:.0} bytes",
        options.idle, report.idle_bytes
    );
}

/// Calls into an instance, without a socket.
fn calls(rounds: usize) -> anyhow::Result<(Vec<(usize, Rounds)>, Rounds)> {
    let engine = Engine::new().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let plugin = Arc::new(Plugin::load(&engine, &plugin("echo")?)?);
    let config = serde_json::Value::Object(plugin.manifest.config(&[])?).to_string();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Worker::start();
        let make = || {
            let holdings = Holdings::new(Arc::new(program()), worker.clone(), Arc::default());
            let instance = Instance::new(plugin.clone(), holdings.clone(), &config)?;
            anyhow::Ok((holdings, instance))
        };
        let (holdings, instance) = make()?;
        holdings.set_handler(instance.clone());
        let connection = holdings.detached();
        let origin = Origin::Configured("bench".into());
        let Some(session) = instance.connection_made(&connection, &origin) else {
            anyhow::bail!("echo refused a connection");
        };
        let mut by_size = Vec::new();
        for bytes in SIZES {
            let data = vec![b'x'; bytes];
            let round = || {
                let start = Instant::now();
                for _ in 0..CALLS {
                    instance.data_received(&connection, session, black_box(&data));
                    black_box(connection.discard_unsent());
                }
                start.elapsed().as_nanos() as f64 / f64::from(CALLS)
            };
            round();
            by_size.push((bytes, Rounds::of((0..rounds).map(|_| round()))));
        }
        let mut instances = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            for _ in 0..INSTANCES {
                let (holdings, instance): (Rc<Holdings>, Rc<Instance>) = make()?;
                drop(instance);
                holdings.fail();
            }
            instances.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(INSTANCES));
            // The tasks of the holdings end.
            tokio::task::yield_now().await;
        }
        Ok((by_size, Rounds::of(instances)))
    })
}

/// The same load on native and on sandboxed sessions, in turn.
fn echo(options: &Options, bytes: usize) -> anyhow::Result<Echo> {
    let native = Server::start(Kind::Tcp, None, SERVER_CORE)?;
    let sandboxed = Server::start(Kind::Tcp, Some(&plugin("echo")?), SERVER_CORE)?;
    let time = Duration::from_secs_f64(options.seconds);
    let (mut natives, mut sandboxeds) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        for (server, results) in [(&native, &mut natives), (&sandboxed, &mut sandboxeds)] {
            let address = server.addresses.first().copied();
            let address = address.ok_or_else(|| anyhow::anyhow!("the server has no address"))?;
            let rate = Load::connect(address, options.connections, bytes)?.run(time)?;
            // The first round warms up.
            if round > 0 {
                results.push(rate);
            }
        }
    }
    Ok(Echo {
        bytes,
        tax: Rounds::of(natives.iter().zip(&sandboxeds).map(|(n, s)| n / s)),
        native: Rounds::of(natives),
        sandboxed: Rounds::of(sandboxeds),
    })
}

/// Calls in one round: 200,000, some 0.1 s.
const CALLS: u32 = 200_000;

/// Instances in one round.
const INSTANCES: u32 = 100;
