//! Other implementations' servers.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nethost_dns::{
    codec::Message,
    types::{Rcode, RecordType},
};
use nethost_tests::{
    DEADLINE,
    host::{Host, Run},
    places::{plugin, scratch},
};

/// Knot DNS; it ends when this is dropped.
pub(crate) struct Knot {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Knot {
    /// Serves the zones of a folder.
    pub(crate) fn primary(zones: &Path, names: &[&str]) -> Self {
        let list: String = names
            .iter()
            .map(|name| format!("  - domain: {name}\n"))
            .collect();
        let template = format!(
            "    storage: {}\n    zonefile-load: whole\n",
            zones.display()
        );
        Self::start("dns-knot", &template, "", &list)
    }

    /// Transfers a zone from somebody.
    pub(crate) fn secondary(name: &str, primary: SocketAddr) -> Self {
        let remote = format!(
            "remote:\n  - id: primary\n    address: {}@{}\n",
            primary.ip(),
            primary.port()
        );
        let list = format!("  - domain: {name}\n    master: primary\n");
        Self::start("dns-knot-secondary", "", &remote, &list)
    }

    fn start(name: &str, template: &str, remote: &str, zones: &str) -> Self {
        let folder = scratch(name);
        let address = free_address();
        let config = format!(
            "server:\n    listen: {}@{}\n    rundir: {folder}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
             database:\n    storage: {folder}\n\
             log:\n  - target: stderr\n    any: warning\n\
             {remote}template:\n  - id: default\n    file: \"%s.zone\"\n    zonefile-sync: -1\n    journal-content: none\n    semantic-checks: off\n{template}\
             zone:\n{zones}",
            address.ip(),
            address.port(),
            folder = folder.display(),
        );
        let file = folder.join("knot.conf");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("knotd")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("knotd: {error}; run `cargo xtask test`"));
        Self {
            child,
            folder,
            address,
        }
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A host with UDP and TCP at the same port, which clients that turn to TCP want.
pub(crate) fn both_ports(zones: &Path) -> Host {
    let address = free_address();
    Run::of(plugin("dns"))
        .listen(&format!("udp://{address}"))
        .listen(&format!("tcp://{address}"))
        .arguments(["--workers", "1"])
        .arguments(["--dir", &format!("zones={}", zones.display())])
        .set("allow-transfer", "127.0.0.1")
        .start()
}

/// An address at which neither TCP nor UDP is listened: for programs that want to be told.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until a server has the zone.
pub(crate) fn until_served(server: SocketAddr, zone: &str) {
    let question = crate::query(zone, RecordType::SOA);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = try_ask(server, &question, Duration::from_millis(200));
        if answer.is_some_and(|answer| answer.rcode() == Rcode::NOERROR) {
            return;
        }
        assert!(Instant::now() < deadline, "{server} does not serve {zone}");
    }
}

/// Asks over UDP, again if nothing comes.
pub(crate) fn ask(server: SocketAddr, question: &Message) -> Message {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = try_ask(server, question, Duration::from_secs(2)) {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "{server} does not answer {question:?}"
        );
    }
}

fn try_ask(server: SocketAddr, question: &Message, patience: Duration) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(server).unwrap();
    socket.send(&question.encode().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    let answer = Message::decode(&buffer[..length]);
    Some(answer.unwrap_or_else(|error| panic!("{server}: {error}: {:x?}", &buffer[..length])))
}
