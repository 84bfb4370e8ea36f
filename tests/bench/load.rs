//! A load of echo connections: each sends a message, waits until all of it is back, and sends the next.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

/// A load by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The echo server's address
    server: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::server::pin(1)?;
    let mut load = Load::connect(options.server, options.connections, options.bytes)?;
    let rate = load.run(Duration::from_secs_f64(options.seconds))?;
    println!("{rate:.0} echoes a second");
    Ok(())
}

/// Many connections on this thread.
#[derive(Debug)]
pub(crate) struct Load {
    poll: Poll,
    connections: Vec<Exchange>,
    message: Vec<u8>,
}

#[derive(Debug)]
struct Exchange {
    stream: TcpStream,
    /// Bytes of the message that are not yet sent.
    to_send: usize,
    /// Bytes of the message that are not yet back.
    to_receive: usize,
}

impl Load {
    /// Connects.
    pub(crate) fn connect(server: SocketAddr, count: usize, size: usize) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for index in 0..count {
            let stream = std::net::TcpStream::connect(server).context("connecting")?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(index), interest)?;
            connections.push(Exchange {
                stream,
                to_send: 0,
                to_receive: 0,
            });
        }
        Ok(Self {
            poll,
            connections,
            message: vec![b'x'; size],
        })
    }

    /// Runs for a time, and returns the messages that came back, a second.
    pub(crate) fn run(&mut self, time: Duration) -> anyhow::Result<f64> {
        let mut buffer = vec![0; 64 << 10];
        let mut events = Events::with_capacity(1024);
        for connection in &mut self.connections {
            if connection.to_receive == 0 {
                connection.start(&self.message)?;
            }
        }
        let start = Instant::now();
        let mut answered = start;
        let mut done = 0_u64;
        while start.elapsed() < time {
            // The client has a core to itself and never sleeps. If it did, the server's every write would pay for waking it, and pay more
            // often the slower the server is: that would be measured in place of the server.
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                answered = Instant::now();
            } else if answered.elapsed() > Duration::from_secs(5) {
                bail!("the server did not answer for 5 s");
            }
            for event in &events {
                let Some(connection) = self.connections.get_mut(event.token().0) else {
                    continue;
                };
                connection.send(&self.message)?;
                while connection.receive(&mut buffer)? {
                    done += 1;
                    connection.start(&self.message)?;
                }
            }
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    }
}

impl Exchange {
    fn start(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.to_send = message.len();
        self.to_receive = message.len();
        self.send(message)
    }

    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        while self.to_send > 0 {
            let rest = message.len() - self.to_send;
            match self.stream.write(message.get(rest..).unwrap_or_default()) {
                Ok(count) => self.to_send -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what there is; true when the message is back.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        while self.to_receive > 0 {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) if count > self.to_receive => bail!("more came back than was sent"),
                Ok(count) => {
                    self.to_receive -= count;
                    if self.to_receive > 0 && count < buffer.len() {
                        // A short read: the rest is not there yet, and asking again would cost a system call.
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
