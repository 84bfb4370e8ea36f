//! `bench udp`: packets a second through the sandbox.
//!
//! Three servers take turns on one core: a plain loop of tokio, `recvmmsg` and `sendmmsg`, which shares no code with the host; the host's reactor with
//! native Rust in the place of the plugin; and the plugin echo. The client has the other core: some sockets, each with a window of packets on their way,
//! so that nothing is dropped. It sends each window with one call (`UDP_SEGMENT`), because it must be faster than what it measures; the
//! server's share of its core is printed, and says whether it was.

use std::{
    array,
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use tokio::io::Interest;

use crate::{
    plugin,
    server::{Kind, Server, pin},
    stats::Rounds,
};

/// How long to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each measurement, at least five to be worth a median
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// A load by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadOptions {
    /// The echo server's address
    server: SocketAddr,
    #[arg(long, default_value_t = 8)]
    flows: usize,
    #[arg(long, default_value_t = 32)]
    window: usize,
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Debug, serde::Serialize)]
struct Report {
    /// By bytes of payload, and by sockets of the client and packets of each that are on their way.
    sizes: Vec<Size>,
    /// The worst of the medians of `sandboxed / plain`.
    ratio: f64,
}

#[derive(Debug, serde::Serialize)]
struct Size {
    bytes: usize,
    flows: usize,
    window: usize,
    plain: Server_,
    reactor: Server_,
    sandboxed: Server_,
    /// Round by round: sandboxed over plain, and over the reactor with native code.
    ratio: Rounds,
    sandbox: Rounds,
    /// Round by round: processor time for a packet, plain over sandboxed.
    processor: Rounds,
}

#[derive(Debug, serde::Serialize)]
struct Server_ {
    /// Packets there and back, a second.
    packets: Rounds,
    /// Its share of its core.
    busy: Rounds,
    /// Processor time for each packet, in nanoseconds: what counts when others use the machine as well.
    nanoseconds: Rounds,
}

const SIZES: [usize; 2] = [64, 1200];

/// Sockets and windows: many packets in a row to one peer, where segmentation helps; and no two in a row.
const SHAPES: [(usize, usize); 2] = [(8, 32), (128, 1)];

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// Bytes of the receive buffers: the largest that Linux grants without privilege on the machines that this runs on, and far more than the windows.
pub(crate) const BUFFER: usize = 4_000_000;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    pin(CLIENT_CORE)?;
    let sizes = SHAPES
        .iter()
        .flat_map(|shape| SIZES.map(|bytes| measure(options, bytes, *shape)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let ratio = sizes
        .iter()
        .map(|size| size.ratio.median)
        .fold(f64::INFINITY, f64::min);
    let report = Report { sizes, ratio };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "median (least to most) of {} rounds; server on core {SERVER_CORE}, client on core {CLIENT_CORE}\n",
        options.rounds
    );
    println!(
        "packets echoed a second, the server's share of its core, and its processor time for a packet in ns"
    );
    for size in &report.sizes {
        println!(
            "{} B, {} sockets with {} on their way each",
            size.bytes, size.flows, size.window
        );
        for (name, server) in [
            ("plain recvmmsg and sendmmsg", &size.plain),
            ("reactor, native", &size.reactor),
            ("plugin", &size.sandboxed),
        ] {
            println!(
                "    {name:<28}{:<32}{:<28}{}",
                server.packets.to_string(),
                server.busy.to_string(),
                server.nanoseconds
            );
        }
        println!("    plugin / plain           {}", size.ratio);
        println!("    plugin / reactor, native {}", size.sandbox);
        println!("    plain / plugin, by processor time {}", size.processor);
    }
    println!(
        "\nplugin / plain, the worst of the four: {:.3} (goal: 0.9)",
        report.ratio
    );
    Ok(())
}

/// Loads a server that runs already.
pub(crate) fn load(options: &LoadOptions) -> anyhow::Result<()> {
    pin(CLIENT_CORE)?;
    let mut load = Load::new(options.server, options.flows, options.window, options.bytes)?;
    let rate = load.run(Duration::from_secs_f64(options.seconds))?;
    println!("{rate:.0} packets a second");
    Ok(())
}

fn measure(
    options: &Options,
    bytes: usize,
    (flows, window): (usize, usize),
) -> anyhow::Result<Size> {
    let servers = [
        Server::start(Kind::PlainUdp, None, SERVER_CORE)?,
        Server::start(Kind::Udp, None, SERVER_CORE)?,
        Server::start(Kind::Udp, Some(&plugin("echo")?), SERVER_CORE)?,
    ];
    let mut results = [const { Vec::new() }; 3];
    let mut loads = servers
        .iter()
        .map(|server| {
            let address = server.addresses.first().context("the server's address")?;
            Load::new(*address, flows, window, bytes)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let time = Duration::from_secs_f64(options.seconds);
    for round in 0..=options.rounds {
        for ((server, load), results) in servers.iter().zip(&mut loads).zip(&mut results) {
            let (used, start) = (server.processor_time()?, Instant::now());
            let rate = load.run(time)?;
            let used = server.processor_time()?.saturating_sub(used);
            // The first round warms up.
            if round > 0 {
                results.push((rate, used.as_secs_f64() / start.elapsed().as_secs_f64()));
            }
        }
    }
    let ratio = |a: &[(f64, f64)], b: &[(f64, f64)]| {
        Rounds::of(a.iter().zip(b).map(|((a, _), (b, _))| a / b))
    };
    let summed = |results: &[(f64, f64)]| Server_ {
        packets: Rounds::of(results.iter().map(|(rate, _)| *rate)),
        busy: Rounds::of(results.iter().map(|(_, busy)| *busy)),
        nanoseconds: Rounds::of(results.iter().map(|(rate, busy)| busy / rate * 1e9)),
    };
    let [plain, reactor, sandboxed] = &results;
    Ok(Size {
        bytes,
        flows,
        window,
        ratio: ratio(sandboxed, plain),
        sandbox: ratio(sandboxed, reactor),
        processor: Rounds::of(
            plain
                .iter()
                .zip(sandboxed)
                .map(|((plain, plain_busy), (rate, busy))| (plain_busy / plain) / (busy / rate)),
        ),
        plain: summed(plain),
        reactor: summed(reactor),
        sandboxed: summed(sandboxed),
    })
}

/// Windows of packets on their way to a server and back.
struct Load {
    flows: Vec<UdpSocket>,
    window: usize,
    /// As many payloads as a window has.
    payloads: Vec<u8>,
    bytes: usize,
    batch: Batch,
    /// Every flow has its window on the way.
    started: bool,
}

impl Load {
    fn new(server: SocketAddr, flows: usize, window: usize, bytes: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(window <= BATCH, "a window has at most {BATCH} packets");
        let flow = || -> anyhow::Result<UdpSocket> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server).context("connecting")?;
            socket.set_nonblocking(true)?;
            socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
            let segment = i32::try_from(bytes)?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &segment).context("UDP_SEGMENT")?;
            Ok(socket)
        };
        Ok(Self {
            flows: (0..flows).map(|_| flow()).collect::<Result<_, _>>()?,
            window,
            payloads: vec![b'x'; window * bytes],
            bytes,
            batch: Batch::new(),
            started: false,
        })
    }

    /// Runs for a time, and returns the packets that came back, a second.
    fn run(&mut self, time: Duration) -> anyhow::Result<f64> {
        if !std::mem::replace(&mut self.started, true) {
            for flow in &self.flows {
                self.send(flow, self.window)?;
            }
        }
        let start = Instant::now();
        let mut answered = start;
        let mut done = 0_u64;
        while start.elapsed() < time {
            let mut any = false;
            // As with streams, the client never sleeps.
            for flow in &self.flows {
                let count = match self.batch.receive(flow) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                };
                anyhow::ensure!(
                    self.batch
                        .lengths
                        .iter()
                        .all(|length| *length == self.bytes),
                    "a packet of another size came back"
                );
                any = true;
                done += count as u64;
                self.send(flow, count)?;
            }
            if any {
                answered = Instant::now();
            } else if answered.elapsed() > Duration::from_secs(2) {
                bail!("every packet is lost: the windows are too large for the receive buffers");
            }
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }

    fn send(&self, flow: &UdpSocket, count: usize) -> anyhow::Result<()> {
        let payloads = self.payloads.get(..count * self.bytes).unwrap_or_default();
        // One datagram over IP is what one call can carry.
        let most = (MOST_SEGMENTED / self.bytes).max(1) * self.bytes;
        for payloads in payloads.chunks(most) {
            let sent = flow.send(payloads)?;
            anyhow::ensure!(sent == payloads.len(), "not everything was sent");
        }
        Ok(())
    }
}

/// Echoes UDP until standard input closes: what a program without a host would do.
pub(crate) fn serve_plain() -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    let mut output = io::stdout().lock();
    writeln!(output, "{}\n", socket.local_addr()?)?;
    output.flush()?;
    std::thread::spawn(|| {
        // The benchmark that started this closes standard input when it is done, or dies.
        let _ended = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut batch = Batch::new();
        loop {
            socket.readable().await?;
            match socket.try_io(Interest::READABLE, || batch.receive(&socket)) {
                Ok(_) => batch.send_back(&socket)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// A batch of packets, as plain as can be.
struct Batch {
    buffer: Vec<u8>,
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    peers: Vec<Option<SockaddrStorage>>,
    lengths: Vec<usize>,
}

impl Batch {
    fn new() -> Self {
        Self {
            buffer: vec![0; BATCH * PLACE],
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            peers: Vec::new(),
            lengths: Vec::new(),
        }
    }

    fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.peers.clear();
        self.lengths.clear();
        let mut places = self.buffer.chunks_exact_mut(PLACE);
        let mut slices: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut self.incoming,
            &mut slices,
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        for message in received {
            self.peers.push(message.address);
            self.lengths.push(message.bytes);
        }
        Ok(self.lengths.len())
    }

    fn send_back(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let mut first = 0;
        while first < self.lengths.len() {
            let lengths = self.lengths.get(first..).unwrap_or_default();
            let mut places = self.buffer.chunks_exact(PLACE).skip(first).zip(lengths);
            let slices: [_; BATCH] = array::from_fn(|_| {
                let (place, length) = places.next().unwrap_or((&[], &0));
                [IoSlice::new(place.get(..*length).unwrap_or_default())]
            });
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.outgoing,
                slices.get(..lengths.len()).unwrap_or_default(),
                self.peers.get(first..).unwrap_or_default(),
                [],
                MsgFlags::MSG_DONTWAIT,
            );
            match sent {
                Ok(sent) => first += sent.count(),
                // Over loopback the kernel takes everything at once.
                Err(nix::errno::Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Packets of one call.
const BATCH: usize = 64;

/// Bytes of one packet's place.
const PLACE: usize = 2048;

/// Bytes that one call with `UDP_SEGMENT` takes, rounded down.
const MOST_SEGMENTED: usize = 65_000;
