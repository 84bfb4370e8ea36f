//! A load at a constant rate: requests begin when they are due, whether the server has answered the others or not, and how long one takes is counted from then. So a
//! stall counts for every request that it delays ("coordinated omission").

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

/// Asks for something at this rate, and returns the 99th percentile of how long answers took.
pub(crate) fn p99(
    server: SocketAddr,
    request: &[u8],
    rate: f64,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Duration> {
    let length = answer_length(server, request)?;
    let mut load = Paced::connect(server, connections)?;
    let mut latencies = load.run(request, length, rate, time)?;
    latencies.sort_unstable();
    let at = (latencies.len() * 99 / 100).min(latencies.len().saturating_sub(1));
    latencies.get(at).copied().context("nothing was answered")
}

/// How many bytes the answer has, which is the same each time: dates have one length.
fn answer_length(server: SocketAddr, request: &[u8]) -> anyhow::Result<usize> {
    let mut stream = std::net::TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 64 << 10];
    // It has ended when nothing comes any more.
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    anyhow::ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "not answered with 200"
    );
    Ok(answer.len())
}

struct Paced {
    poll: Poll,
    connections: Vec<Exchange>,
    idle: Vec<usize>,
}

struct Exchange {
    stream: TcpStream,
    due: Instant,
    to_receive: usize,
}

impl Paced {
    fn connect(server: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for index in 0..count {
            let stream = std::net::TcpStream::connect(server).context("connecting")?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)?;
            connections.push(Exchange {
                stream,
                due: Instant::now(),
                to_receive: 0,
            });
        }
        Ok(Self {
            poll,
            idle: (0..count).collect(),
            connections,
        })
    }

    fn run(
        &mut self,
        request: &[u8],
        length: usize,
        rate: f64,
        time: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut buffer = vec![0; 64 << 10];
        let mut events = Events::with_capacity(1024);
        let mut waiting: VecDeque<Instant> = VecDeque::new();
        let mut latencies = Vec::new();
        let start = Instant::now();
        let (mut begun, total) = (0_u64, (rate * time.as_secs_f64()) as u64);
        while (latencies.len() as u64) < total {
            let now = Instant::now();
            if now > start + time + Duration::from_secs(10) {
                bail!(
                    "the server answered {} of {total} requests",
                    latencies.len()
                );
            }
            // Those that are due are begun, or wait for a connection.
            while begun < total {
                let due = start + Duration::from_secs_f64(begun as f64 / rate);
                if due > now {
                    break;
                }
                waiting.push_back(due);
                begun += 1;
            }
            while let (Some(due), Some(index)) =
                (waiting.front().copied(), self.idle.last().copied())
            {
                waiting.pop_front();
                self.idle.pop();
                if let Some(exchange) = self.connections.get_mut(index) {
                    exchange.due = due;
                    exchange.to_receive = length;
                    // A request is small, and the connection's buffer empty.
                    exchange.stream.write_all(request)?;
                }
            }
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let Some(exchange) = self.connections.get_mut(event.token().0) else {
                    continue;
                };
                if exchange.receive(&mut buffer)? {
                    latencies.push(exchange.due.elapsed());
                    self.idle.push(event.token().0);
                }
            }
        }
        Ok(latencies)
    }
}

impl Exchange {
    /// Reads what there is; true when the answer is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        while self.to_receive > 0 {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) if count > self.to_receive => bail!("more came than an answer"),
                Ok(count) => self.to_receive -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
