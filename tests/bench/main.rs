//! Benchmarks: the cost of the boundary, and later the peers of each protocol. `cargo xtask bench NAME` runs them.
//!
//! Server and client run on different cores; what is compared takes turns within one run, and the median of the rounds is printed with their
//! spread. A benchmark is not a test: it prints, and fails only when it cannot measure.

mod boundary;
mod disk;
mod idle;
mod load;
mod misbehaviour;
mod send_file;
mod server;
mod stats;
mod swap;
mod udp;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measure nethost
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The cost of the sandbox: calls, instances, echo over loopback against the same reactor with native sessions, memory of idle connections
    Boundary(boundary::Options),
    /// How long an echo takes beside a plugin on the same worker that moves 100 MB/s to and from files
    Disk(disk::Options),
    /// The worst delay of an echo beside a guest on the same worker that does what it must not
    Misbehaviour(misbehaviour::Options),
    /// A file through `send-file`, against nginx's sendfile
    SendFile(send_file::Options),
    /// A swap of IRC under load: how long it stands still
    Swap(swap::Options),
    /// UDP: packets a second of the echo plugin against a plain native echo with recvmmsg and sendmmsg
    Udp(udp::Options),
    /// Serve until standard input closes; the other benchmarks start this
    #[command(hide = true)]
    Serve(server::Options),
    /// Load an echo server from core 1, for a profiler to look at it
    #[command(hide = true)]
    Load(load::Options),
    /// Load a UDP echo server from core 1, for a profiler to look at it
    #[command(hide = true)]
    UdpLoad(udp::LoadOptions),
}

fn main() -> anyhow::Result<()> {
    match Bench::parse().what {
        What::Boundary(options) => boundary::run(&options),
        What::Disk(options) => disk::run(&options),
        What::Misbehaviour(options) => misbehaviour::run(&options),
        What::SendFile(options) => send_file::run(&options),
        What::Swap(options) => swap::run(&options),
        What::Udp(options) => udp::run(&options),
        What::Serve(options) => server::run(&options),
        What::Load(options) => load::run(&options),
        What::UdpLoad(options) => udp::load(&options),
    }
}

/// Returns a stock plugin's component.
fn plugin(name: &str) -> anyhow::Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("plugins").join(format!("{name}.wasm"));
    anyhow::ensure!(
        path.is_file(),
        "{} is not built; run `cargo xtask bench`, or `nethost build plugins/{name}`",
        path.display()
    );
    Ok(path)
}
