//! More than the host can do: who is there goes on being served, and what is too much waits, or ends with its reason.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nethost::limits::Limits;
use nethost_tests::{
    DEADLINE,
    client::Client,
    disk::Disk,
    host::{Host, Run},
    metrics::Endpoint,
    places::{guest, plugin, scratch},
    scripted::{Scripted, Serves as _},
    service::Running,
};
use socket2::{Domain, Socket, Type};

/// The worst that an echo may take beside an overload, on a machine that has other things to do: far less than the time that a peer gives up after.
const BOUNDED: Duration = Duration::from_secs(2);

/// Connects from an address of its own.
fn from(ip: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::from(ip), 0).into())?;
    socket.connect_timeout(&to.into(), DEADLINE)?;
    Ok(socket.into())
}

fn echoes(client: &mut Client) {
    client.send("one");
    client.expect("one");
}

/// Echoes until told to stop, and returns how often, and what the longest took.
fn measure(mut client: Client, stop: &AtomicBool) -> (usize, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        echoes(&mut client);
        longest = longest.max(start.elapsed());
        count += 1;
    }
    (count, longest)
}

/// Echoes on a connection that was there before, while something else goes on, and sees that nothing takes long.
fn beside(client: Client, overload: impl FnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let echoing = thread::spawn(move || measure(client, &asked));
    overload();
    stop.store(true, Ordering::Relaxed);
    let (count, longest) = echoing.join().unwrap();
    assert!(
        count > 0 && longest < BOUNDED,
        "{count} echoes, {longest:?}"
    );
}

/// Processor time of the host, in hundredths of a second.
fn ticks(host: &Host) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid())).unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn with_descriptors(run: Run, count: u32) -> Run {
    let script = format!("ulimit -n {count} && exec \"$@\"");
    run.started_by(["sh", "-c", &script, "sh"])
}

/// Has the plugin write to a client that does not read: more than the kernel takes, which is up to 4 MB (tcp_wmem), and less than a limit of 16 MiB.
fn stuffed(client: Client) -> Client {
    let mut client = client.with_small_buffer();
    client.command("fill 3000000;fill 3000000");
    client
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn who_drips_bytes_keeps_his_own_places_and_nobody_elses() {
    let service = Running::limited(
        Limits {
            connections_per_peer: Some(8),
            first_byte_time: Duration::from_millis(300),
            ..Limits::default()
        },
        &guest("scripted"),
    );
    let address = service.address();
    // A header that never ends, a byte at a time; the plugin has what came of it, and a time of its own.
    let mut dripping: Vec<TcpStream> = (0..30)
        .map(|_| from([127, 0, 0, 2], address).unwrap())
        .collect();
    // As many say nothing at all.
    let silent: Vec<_> = (0..8)
        .map(|_| from([127, 0, 0, 3], address).unwrap())
        .collect();
    let mut good = service.connect();
    let end = Instant::now() + Duration::from_millis(600);
    while Instant::now() < end {
        for stream in &mut dripping {
            // Those that were refused are closed.
            let _sent = std::io::Write::write(stream, b"x");
        }
        let start = Instant::now();
        good.command("write here");
        good.expect("here\n");
        assert!(start.elapsed() < BOUNDED);
    }
    assert!(service.connections() <= 8 + 1, "{}", service.connections());
    for stream in silent {
        Client::accepted(stream).rest();
    }
    // A plugin sets a time that bytes do not prolong: a timer.
    let mut plugin = Scripted::on(service);
    let (mut slow, id) = plugin.connect();
    plugin.run(&format!("after 200ms @{id} close"));
    slow.send("w");
    slow.rest();
}

#[test]
fn a_flood_of_connections_holds_up_nobody_who_is_there() {
    let host = Run::of(plugin("echo")).start();
    let address = host.address();
    let mut first = host.connect();
    echoes(&mut first);
    let made = AtomicUsize::new(0);
    beside(first, || {
        thread::scope(|scope| {
            for source in 2..5 {
                let made = &made;
                scope.spawn(move || {
                    let end = Instant::now() + Duration::from_secs(1);
                    while Instant::now() < end {
                        // Ports of this machine run out, too.
                        if let Ok(stream) = from([127, 0, 0, source], address) {
                            made.fetch_add(1, Ordering::Relaxed);
                            // A reset leaves no port behind.
                            let _set =
                                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                        }
                    }
                });
            }
        });
    });
    assert!(made.into_inner() > 100);
    echoes(&mut host.connect());
}

#[test]
fn a_peer_that_vanished_is_looked_for_by_the_kernel_and_closed_when_idle() {
    let run = Run::of(plugin("echo")).listen("tcp://127.0.0.1:0?keepalive=30s");
    let host = run.start();
    let mut client = host.connect();
    echoes(&mut client);
    // A segment that is not acknowledged has another timer.
    let port = |address: SocketAddr| format!("{:04X}", address.port());
    let (here, there) = (port(host.address()), port(client.local()));
    until("no keepalive timer", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|line| line[1].ends_with(&here) && line[2].ends_with(&there));
        // proc_pid_net(5): 02 is the timer of SO_KEEPALIVE.
        line.is_some_and(|line| line[5].starts_with("02:"))
    });
    // Without it there is `idle-time` (`door`, `who_stops_talking_is_closed`).
    assert!(Limits::default().idle_time <= Duration::from_secs(3600));
}

#[test]
fn who_does_not_read_costs_no_more_than_its_limit_and_goes_when_closed() {
    let service = Running::limited(
        Limits {
            unsent: 16 << 20,
            // To make what is written takes a while.
            callback_time: Duration::from_secs(1),
            close_time: Duration::from_millis(300),
            ..Limits::default()
        },
        &guest("scripted"),
    );
    let mut plugin = Scripted::on(service);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let (client, id) = plugin.connect();
        clients.push((stuffed(client), id));
    }
    plugin.settle();
    // Everybody else is served beside megabytes that nobody takes.
    let (mut good, _) = plugin.connect();
    good.command("write here");
    good.expect("here\n");
    // One more byte than may wait ends one of them.
    let (client, id) = clients.pop().unwrap();
    let fill = format!("@{id} fill 4000000");
    plugin.run(&vec![fill; 4].join(";"));
    assert_eq!(plugin.event(&format!("lost {id}")), "limit unsent bytes");
    drop(client);
    for (_, id) in &clients {
        plugin.run(&format!("@{id} close"));
    }
    for (_, id) in &clients {
        assert_eq!(plugin.event(&format!("lost {id}")), "limit time to close");
    }
    good.command("write there");
    good.expect("there\n");
}

#[test]
fn a_million_single_bytes_arrive_and_hold_up_nobody() {
    const COUNT: usize = 1_000_000;
    let host = Run::of(plugin("echo")).start();
    let other = host.connect();
    let mut client = host.connect();
    let mut writer = client.another();
    beside(other, || {
        let writing = thread::spawn(move || {
            for _ in 0..COUNT {
                writer.send("x");
            }
        });
        let mut left = COUNT;
        while left > 0 {
            let got = client.some();
            assert!(!got.is_empty() && got.iter().all(|byte| *byte == b'x'));
            left -= got.len();
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_hundred_thousand_small_writes_of_a_plugin_leave_together() {
    const COUNT: usize = 100_000;
    let host = Run::of(guest("scripted")).arguments(["--isolation", "worker", "--workers", "1"]);
    let host = host.start();
    let mut client = host.connect();
    let mut other = host.connect();
    let mut writer = client.another();
    let writing = thread::spawn(move || {
        let commands = "write x\n".repeat(100);
        for _ in 0..COUNT / 100 {
            writer.send(&commands);
        }
    });
    for round in 0..10 {
        let start = Instant::now();
        other.command("write here");
        other.expect("here\n");
        assert!(start.elapsed() < BOUNDED, "{round}");
        client.expect("x\n".repeat(COUNT / 10));
    }
    writing.join().unwrap();
}

#[test]
fn without_descriptors_accepting_pauses_and_resumes_and_nobody_is_hurt() {
    let run = Run::of(plugin("echo")).arguments(["--workers", "1"]);
    let run = run.arguments(["--metrics", "tcp://127.0.0.1:0"]);
    let host = with_descriptors(run, 128).start();
    let metrics = Endpoint::of(&host);
    let mut first = host.connect();
    echoes(&mut first);
    let mut clients: Vec<Client> = (0..150).map(|_| host.connect()).collect();
    host.logged(&["WARN", "accepting is paused", "ulimit -n"]);
    let mut last = clients.pop().unwrap();
    last.send("one");
    let (before, start) = (ticks(&host), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        echoes(&mut first);
        // What is kept for others than new connections is there.
        assert_eq!(metrics.request("GET", "/healthz").status, 200);
        thread::park_timeout(Duration::from_millis(50));
    }
    let used = ticks(&host) - before;
    assert!(used < 50, "it spins: {used} hundredths of a second");
    assert!(last.is_silent_for(Duration::from_millis(1)));
    drop(clients);
    last.expect("one");
    echoes(&mut host.connect());
    echoes(&mut first);
    let told = host.log().matches("accepting is paused").count();
    assert_eq!(told, 1, "{}", host.log());
}

#[test]
fn without_descriptors_a_plugin_gets_an_error_and_the_next_time_what_it_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut disk = Disk::with("descriptors", ":rw", |run| {
        let run = run.arguments(["--allow-connect", "127.0.0.1:*", "--workers", "1"]);
        with_descriptors(run, 100)
    });
    disk.put("file", "text");
    let (mut good, _) = disk.plugin.connect();
    let mut open = 0;
    loop {
        match disk.open("file", "read", &format!("f{open}")).as_str() {
            "file" => open += 1,
            error => {
                assert_eq!(error, "limit");
                break;
            }
        }
        assert!(open < 100);
    }
    assert!(open > 10, "{open}");
    let dial = |disk: &mut Disk| {
        let id = disk.plugin.started(&format!("connect tcp://{address}"));
        disk.plugin.event(&format!("completed {id}"))
    };
    let refused = dial(&mut disk);
    assert!(refused.starts_with("error "), "{refused}");
    good.command("write here");
    good.expect("here\n");
    for index in 0..open {
        disk.plugin.run(&format!("file-close f{index}"));
    }
    disk.plugin.settle();
    assert_eq!(dial(&mut disk), "ok");
    assert_eq!(disk.open("file", "read", "again"), "file");
}

#[test]
fn over_its_memory_the_host_takes_no_more_and_keeps_whom_it_has() {
    let file = scratch("overload-memory").join("nethost.toml");
    let guest = guest("scripted");
    let text = format!(
        "[host]\nmemory = \"64MiB\"\nworkers = 1\n[[service]]\nname = \"one\"\nplugin = \"{}\"\nlisten = [\"tcp://127.0.0.1:0\"]\nisolation = \"service\"\n[service.limits]\nunsent = \"16MiB\"\n",
        guest.display()
    );
    fs::write(&file, text).unwrap();
    let mut plugin = Scripted::on(Host::serve(&file, ["--log", "info"], 1));
    plugin.host.logged(&["at most 64 MiB of memory are used"]);
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(stuffed(Client::tcp(plugin.host.address())));
    }
    // Each within its own limit, all of them together not within the host's.
    plugin.host.logged(&["no memory grows until there is room"]);
    let address = plugin.host.address();
    until("it takes more", || {
        let mut client = Client::tcp(address);
        let _sent = client.try_send("write here\n");
        !client.rest_until(5)
    });
    // Who is there is served.
    assert_eq!(plugin.ask("id"), "1");
    for client in clients {
        client.kill();
    }
    plugin.host.logged(&["there is room again"]);
    let mut client = Client::tcp(address);
    client.send("write here\n");
    client.expect("here\n");
}

#[test]
fn instances_together_have_no_more_memory_than_the_host() {
    let run = Run::of(plugin("echo")).arguments(["--isolation", "connection"]);
    let host = run
        .arguments(["--host-memory", "64MiB", "--workers", "1"])
        .start();
    let served = |client: &mut Client| client.try_send("one").is_ok() && client.rest_until(3);
    let mut clients = Vec::new();
    loop {
        let mut client = host.connect();
        if !served(&mut client) {
            break;
        }
        clients.push(client);
        assert!(
            clients.len() < 1000,
            "{} instances in 64 MiB",
            clients.len()
        );
    }
    assert!(clients.len() > 5, "{}", clients.len());
    assert!(clients.iter_mut().all(|client| served(client)));
    clients.truncate(2);
    until("its memory does not come back", || {
        served(&mut host.connect())
    });
    assert!(clients.iter_mut().all(|client| served(client)));
}
