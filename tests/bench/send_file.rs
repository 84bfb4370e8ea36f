//! `bench send-file`: a file through `send-file`, against nginx's sendfile, to the same reader.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nethost_tests::{
    host::{Host, Run},
    places,
};

use crate::{server::pin, stats::Rounds};

/// What to send.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds of each server
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Size of the file in MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, serde::Serialize)]
struct Report {
    bytes: u64,
    /// MiB a second.
    nethost: Rounds,
    nginx: Rounds,
    /// nethost's rate by nginx's, round by round.
    ratio: Rounds,
}

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = Scratch(places::scratch("send-file"));
    let bytes = options.mib << 20;
    write_file(&folder.0.join("big"), bytes)?;
    // Servers inherit the core of who starts them.
    pin(SERVER_CORE)?;
    let nginx = Nginx::start(&folder.0)?;
    let nethost = start_nethost(&folder.0.join("big"));
    pin(CLIENT_CORE)?;
    let mut rates = Vec::new();
    for _ in 0..options.rounds {
        let ours = fetch(
            nethost.address(),
            b"stay; send-file big 0 - -; close\n",
            bytes,
        )?;
        let request = b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let theirs = fetch(nginx.address, request, bytes)?;
        rates.push((ours, theirs));
    }
    let report = Report {
        bytes,
        nethost: Rounds::of(rates.iter().map(|(ours, _)| *ours)),
        nginx: Rounds::of(rates.iter().map(|(_, theirs)| *theirs)),
        ratio: Rounds::of(rates.iter().map(|(ours, theirs)| ours / theirs)),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "send-file of {} MiB over loopback, MiB/s, median (least to most):",
            options.mib
        );
        println!("  nethost  {}", report.nethost);
        println!("  nginx    {}", report.nginx);
        println!("  ratio    {} (goal: at least 0.95)", report.ratio);
    }
    Ok(())
}

fn write_file(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    for _ in 0..bytes >> 20 {
        file.write_all(&block)?;
    }
    Ok(())
}

fn start_nethost(file: &Path) -> Host {
    Run::of(places::guest("scripted"))
        .arguments(["--isolation", "service", "--workers", "1", "--file"])
        .arguments([format!("big={}", file.display())])
        .start()
}

/// Asks for the file, and returns the rate in MiB a second at which it came. What comes before the file's bytes is little beside them.
fn fetch(address: SocketAddr, request: &[u8], bytes: u64) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let start = Instant::now();
    stream.write_all(request)?;
    let mut buffer = vec![0; 256 << 10];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        received += count as u64;
    }
    let time = start.elapsed();
    anyhow::ensure!(
        (bytes..bytes + 1024).contains(&received),
        "received {received} bytes of {bytes}"
    );
    Ok(bytes as f64 / f64::from(1 << 20) / time.as_secs_f64())
}

/// nginx with one process, on a free port; it ends when this is dropped.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    pub(crate) fn start(root: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = root.join("nginx.conf");
        // The settings that its documentation recommends for files.
        let text = format!(
            "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
             events {{ worker_connections 4096; }}
             http {{
               access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;
               client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
               uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
               server {{ listen {address} backlog=4096; root {root}; location = /hello {{ default_type text/plain; return 200 'Hello, World!'; }} }}
             }}",
            root = root.display()
        );
        fs::write(&config, text)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(root)
            .arg("-c")
            .arg(&config)
            .args(["-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .context("starting nginx; `cargo xtask bench send-file` installs it")?;
        let nginx = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It is this program's own child, and has nothing to save.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A folder that is removed in the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
