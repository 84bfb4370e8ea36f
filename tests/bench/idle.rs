//! What an idle connection costs in memory.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::server::{Kind, Server};

/// Opens many connections that say nothing, and returns the server's resident bytes for each, kernel memory not included.
pub(crate) fn bytes_per_connection(
    plugin: &Path,
    core: usize,
    count: usize,
) -> anyhow::Result<f64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    if let Some(most) = limit.maximum {
        let needed = u64::try_from(count)? + 100;
        anyhow::ensure!(
            most >= needed,
            "{count} connections need {needed} open files, and the limit is {most}"
        );
    }
    let server = Server::start(Kind::Tcp, Some(plugin), core)?;
    // What is allocated once is not a connection's: buffers, the first pages of everything.
    let warm = open(&server, 100)?;
    let before = server.resident()?;
    let connections = open(&server, count)?;
    let after = server.resident()?;
    drop((warm, connections));
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// Opens connections from several loopback addresses and waits until the last one is echoed, and so every one is accepted.
fn open(server: &Server, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for index in 0..count {
        let address = server
            .addresses
            .get(index % server.addresses.len())
            .copied()
            .context("the server has no address")?;
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(index % 8)?);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket
            .connect(&address.into())
            .with_context(|| format!("connection {index}"))?;
        streams.push(TcpStream::from(socket));
    }
    // One exchange on each: a connection that was never used would be cheaper than one that is idle.
    let start = Instant::now();
    for stream in &mut streams {
        use std::io::{Read as _, Write as _};
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"hello")?;
        stream.read_exact(&mut [0; 5])?;
        anyhow::ensure!(
            start.elapsed() < Duration::from_secs(120),
            "the connections were not served within two minutes"
        );
    }
    Ok(streams)
}
