//! Listeners beside TCP: abstract names, sockets that somebody else opened, standard input and output; and the PROXY protocol on all of them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

mod proxy;

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nethost::limits::Limits;
use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Ended, Host, Run, nethost},
    places::{guest, plugin, root, scratch},
    scripted::Scripted,
    service::Running,
};
use rustix::process::{Pid, Signal, kill_process};

/// As the scripted guest tells an address.
fn mapped(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => {
            format!("[::ffff:{}%0]:{}", address.ip(), address.port())
        }
        SocketAddr::V6(address) => format!("[{}%0]:{}", address.ip(), address.port()),
    }
}

fn echoes(client: &mut Client) {
    client.send("echo this");
    client.expect("echo this");
}

fn last_line(ended: &Ended) -> &str {
    ended.log.lines().last().unwrap_or_default()
}

/// What `nethost` says that cannot listen.
fn refusal(run: Run) -> String {
    let ended = run.ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert_eq!(ended.output, "");
    let line = last_line(&ended).strip_prefix("nethost: listening on ");
    line.unwrap_or_else(|| panic!("{}", ended.log)).to_owned()
}

// Abstract names.

fn abstract_name(name: &str) -> String {
    format!("nethost-tests-{}-{name}", std::process::id())
}

fn abstract_client(name: &str) -> Client {
    let address = UnixAddress::from_abstract_name(name).unwrap();
    Client::connected(UnixStream::connect_addr(&address).unwrap())
}

#[test]
fn an_abstract_name_is_listened_on_by_all_workers_and_by_one_host_at_a_time() {
    let name = abstract_name("listen");
    let run = || Run::of(plugin("echo")).listen(&format!("unix:@{name}"));
    let host = run().arguments(["--workers", "2"]).start();
    assert_eq!(host.listening(), [format!("unix:@{name}")]);
    for _ in 0..4 {
        echoes(&mut abstract_client(&name));
    }
    let second = refusal(run());
    assert!(second.contains("in use"), "{second}");
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
    let again = run().start();
    echoes(&mut abstract_client(&name));
    drop(again);
    let url = format!("unix:@{name}?mode=600");
    let ended = Run::of(plugin("echo")).listen(&url).ended();
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("and so no `mode`"), "{}", ended.log);
}

// Connecting to UNIX sockets.

#[test]
fn a_unix_socket_is_connected_to_if_exactly_it_is_granted() {
    let folder = scratch("dial-unix");
    let path = folder.join("a b.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let name = abstract_name("dial");
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    let abstract_listener = UnixListener::bind_addr(&address).unwrap();
    let url = format!("unix://{}/a%20b.sock", folder.display());
    let grant = format!("unix:{}/a%20b.sock", folder.display());
    let mut plugin = Scripted::start_with(|run| {
        run.arguments(["--allow-connect", &grant])
            .arguments(["--allow-connect", &format!("unix:@{name}")])
    });
    for (url, listener, told) in [
        (url.clone(), &listener, path.display().to_string()),
        (
            format!("unix:@{name}?timeout=5s"),
            &abstract_listener,
            format!("@{name}"),
        ),
    ] {
        let operation = plugin.started(&format!("connect {url}"));
        let id = plugin.made();
        assert_eq!(plugin.event(&format!("completed {operation}")), "ok");
        assert_eq!(plugin.ask(&format!("@{id} peer")), format!("path {told}"));
        assert_eq!(plugin.ask(&format!("@{id} local")), "unnamed");
        plugin.run(&format!("@{id} write hello"));
        Client::connected(listener.accept().unwrap().0).expect("hello\n");
    }
    let parent = folder.display();
    for (url, outcome) in [
        (format!("unix://{parent}/other.sock"), "denied"),
        (format!("unix:@{name}2"), "denied"),
        (format!("unix://{parent}/./a%20b.sock"), "invalid"),
        (format!("unix://{parent}/x/../a%20b.sock"), "invalid"),
        (format!("unix://{parent}/x/%2e%2e/a%20b.sock"), "invalid"),
        (format!("unix://{parent}/x%2F..%2Fa%20b.sock"), "invalid"),
        (format!("unix://{parent}//a%20b.sock"), "invalid"),
        (format!("{url}?mode=600"), "invalid"),
    ] {
        let id = plugin.started(&format!("connect {url}"));
        let completed = plugin.event(&format!("completed {id}"));
        let expected = format!("error {outcome} ");
        assert!(completed.starts_with(&expected), "{url}: {completed}");
    }
    drop(listener);
    let id = plugin.started(&format!("connect {url}"));
    let completed = plugin.event(&format!("completed {id}"));
    assert!(completed.starts_with("error refused "), "{completed}");
    assert!(completed.contains("a%20b.sock"), "{completed}");
}

// Sockets of a service manager.

const AS_WEB: &str = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;";

#[test]
fn a_socket_of_the_service_manager_is_served_by_all_workers_and_stays_the_managers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A client that came before there was a host.
    let mut early = Client::tcp(address);
    let host = Run::of(plugin("echo"))
        .listen("systemd://web")
        .arguments(["--workers", "2", "--isolation", "worker", "--log", "debug"])
        .passing(listener.try_clone().unwrap(), AS_WEB)
        .start();
    assert_eq!(host.output(), "listening echo systemd://web");
    echoes(&mut early);
    drop(early);
    for _ in 0..9 {
        echoes(&mut Client::tcp(address));
    }
    host.logged_times(&["echoed 9 bytes"], 10);
    // Each worker's instance counts for itself.
    let log = host.log();
    assert!(log.contains("45 in all"), "{log}");
    assert!(!log.contains("90 in all"), "{log}");
    host.terminate();
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    // It still listens, and who comes now waits for the next host.
    let _client = Client::tcp(address);
    listener.accept().unwrap();
}

#[test]
fn sockets_go_to_the_endpoints_that_name_them_and_the_rest_to_the_one_that_names_none() {
    let folder = scratch("activate");
    let path = |name: &str| folder.join(name);
    let script = root().join("tests/clients/activate.py");
    let started_by = |run: Run, names: &[&str]| {
        let sockets = names.iter().map(|name| {
            let (name, file) = name.split_once('=').unwrap();
            // The host never removes them; this test does.
            let _ = fs::remove_file(path(file));
            format!("{name}={}", path(file).display()).into()
        });
        let python = ["python3".into(), script.clone().into_os_string()];
        let all = python.into_iter().chain(sockets);
        run.started_by(all.chain(["--".into()]))
    };
    let run = Scripted::start_with(|run| {
        let run = run
            .listen("tcp://127.0.0.1:0")
            .listen("systemd:?proxy=v1")
            .listen("fd://5")
            .listen("systemd://web");
        started_by(run, &["web=a", "rest=b", "five=c", "web=d"])
    });
    let mut plugin = run;
    let listening = plugin.host.listening();
    assert_eq!(
        listening.get(1..).unwrap(),
        ["systemd://rest", "fd://5", "systemd://web"]
    );
    for (file, origin, header) in [
        ("a", "systemd://web", ""),
        ("b", "systemd://rest", "PROXY UNKNOWN\r\n"),
        ("c", "fd://5", ""),
        ("d", "systemd://web", ""),
    ] {
        let mut client = Client::unix(path(file));
        client.send(header);
        let made = plugin.event("made ");
        assert!(made.ends_with(&format!(" configured {origin}")), "{made}");
        let id = made.split(' ').next().unwrap();
        let local = path(file).display().to_string();
        assert_eq!(plugin.ask(&format!("@{id} local")), format!("path {local}"));
        client.command("write served");
        client.expect("served\n");
    }
    plugin.host.terminate();
    plugin.control.close_write();
    let ended = plugin.host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(path("a").exists(), "the file is the manager's");

    let echo = || Run::of(crate::plugin("echo"));
    let two = &["web=a", "admin=b"];
    for (urls, said) in [
        (
            &["systemd://irc"][..],
            "systemd://irc: no socket is named `irc`; the service manager passed: web (fd 3), admin (fd 4)",
        ),
        (
            &["systemd:", "systemd://web", "fd://4"],
            "systemd:: every socket has another listener; the service manager passed: web (fd 3), admin (fd 4)",
        ),
        (
            &["systemd://web", "fd://3"],
            "fd://3: file descriptor 3 is taken by another listener",
        ),
        (
            &["systemd:", "systemd:"],
            "systemd:: file descriptor 3 is taken by another listener",
        ),
    ] {
        let run = urls.iter().fold(echo(), |run, url| run.listen(url));
        assert_eq!(refusal(started_by(run, two)), said);
    }
}

#[test]
fn what_is_wrong_with_the_service_managers_variables_is_said() {
    let run = || Run::of(plugin("echo")).listen("systemd://web");
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    let none = "systemd://web: the service manager passed no socket: LISTEN_PID is not set";
    assert_eq!(refusal(run().passing(socket(), "")), none);
    let others = refusal(run().passing(socket(), "export LISTEN_PID=1 LISTEN_FDS=1;"));
    let start =
        "systemd://web: the service manager's sockets are for process 1, and this is process ";
    assert!(others.starts_with(start), "{others}");
    for (assignments, said) in [
        (
            "export LISTEN_PID=$$;",
            "the service manager passed no socket: LISTEN_FDS is not set",
        ),
        (
            "export LISTEN_PID=$$ LISTEN_FDS=x;",
            "LISTEN_FDS is `x`, not a number from 1 to 4096",
        ),
        (
            "export LISTEN_PID=$$ LISTEN_FDS=1;",
            "no socket is named `web`; the service manager passed: unknown (fd 3)",
        ),
        (
            "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:web;",
            "LISTEN_FDNAMES has 2 names for 1 sockets",
        ),
        (
            "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:web; exec 4<&-;",
            "file descriptor 4 was not passed to this process: it is one of its own",
        ),
    ] {
        let said = format!("systemd://web: {said}");
        assert_eq!(refusal(run().passing(socket(), assignments)), said);
    }
}

// Sockets of the parent.

#[test]
fn a_udp_socket_of_the_parent_is_served() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let run = Run::of(plugin("echo")).listen("fd://3");
    let host = run.passing(socket, "").start();
    assert_eq!(host.listening(), ["fd://3"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send_to(b"hello", address).unwrap();
    let mut answer = [0; 16];
    let (count, from) = client.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..count], from), (&b"hello"[..], address));

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let run = Run::of(plugin("irc")).listen("fd://3");
    let ended = run.passing(socket, "").ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("datagram-handler"), "{}", ended.log);
}

#[test]
fn a_descriptor_that_cannot_be_served_is_named() {
    let run = || Run::of(plugin("echo")).listen("fd://3");
    let file = File::open(root().join("README.md")).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let cases: Vec<(OwnedFd, &str)> = vec![
        (file.into(), "is a regular file, not a socket"),
        (pipe.into(), "is a pipe, not a socket"),
        (
            UnixDatagram::unbound().unwrap().into(),
            "is a socket for datagrams other than UDP's, not a socket for streams or UDP",
        ),
        (
            unbound.unwrap().into(),
            "is a stream socket that neither listens nor is connected",
        ),
    ];
    for (fd, said) in cases {
        let said = format!("fd://3: file descriptor 3 {said}");
        assert_eq!(refusal(run().passing(fd, "")), said);
    }
    let closed = Run::of(plugin("echo")).listen("fd://100");
    assert_eq!(refusal(closed), "fd://100: file descriptor 100 is not open");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        refusal(run().listen("fd://3").passing(socket, "")),
        "fd://3: file descriptor 3 is taken by another listener"
    );
}

#[test]
fn the_hosts_own_descriptors_are_not_to_be_had() {
    // One of these is its runtime's, whatever this test was started with.
    let closing: String = (3..10).map(|fd| format!("exec {fd}<&-; ")).collect();
    for fd in 3..10 {
        let run = Run::of(plugin("echo")).listen(&format!("fd://{fd}"));
        let said = refusal(run.started_by(["sh", "-c", &format!("{closing} exec \"$@\""), "sh"]));
        let own = format!(
            "fd://{fd}: file descriptor {fd} was not passed to this process: it is one of its own"
        );
        let closed = format!("fd://{fd}: file descriptor {fd} is not open");
        assert!(said == own || said == closed, "{said}");
    }
}

#[test]
fn a_listening_descriptor_is_served() {
    let path = scratch("fd").join("x.sock");
    let sockets: [(OwnedFd, Box<dyn Fn() -> Client>); 2] = {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let path = path.clone();
        [
            (tcp.into(), Box::new(move || Client::tcp(address))),
            (unix.into(), Box::new(move || Client::unix(&path))),
        ]
    };
    for (socket, connect) in sockets {
        let host = Run::of(plugin("echo"))
            .listen("fd://3?nodelay=off")
            .passing(socket, "")
            .start();
        assert_eq!(host.output(), "listening echo fd://3");
        echoes(&mut connect());
        host.terminate();
        assert_eq!(host.ended().code, Some(0));
    }
    assert!(path.exists(), "the file is not the host's");
}

#[test]
fn a_connected_descriptor_is_served_to_its_end_and_then_the_host_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        (Client::accepted(ours), OwnedFd::from(client))
    };
    let unix = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::connected(ours), theirs.into())
    };
    for ((mut client, theirs), header) in [(tcp(), ""), (unix(), ""), (tcp(), "PROXY UNKNOWN\r\n")]
    {
        let url = if header.is_empty() {
            "fd://3"
        } else {
            "fd://3?proxy=auto"
        };
        let host = Run::of(plugin("echo"))
            .listen(url)
            .passing(theirs, "")
            .start();
        assert_eq!(host.output(), "listening echo fd://3");
        client.send(header);
        echoes(&mut client);
        client.close_write();
        client.end();
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
    // A signal drains it like any other.
    let (mut client, theirs) = unix();
    let host = Run::of(plugin("irc"))
        .listen("fd://3")
        .passing(theirs, "")
        .start();
    client.say("NICK ann");
    client.say("USER ann 0 * :Ann");
    client.line_with(" 001 ann ");
    host.terminate();
    client.line_with("ERROR :Closing Link");
    assert_eq!(host.ended().code, Some(0));
}

// Standard input and output.

/// A host on the test's own standard input and output; it is killed when this is dropped.
struct OnStdio(Child);

impl OnStdio {
    fn start(mut command: Command) -> Self {
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs a step that may take long, with a deadline.
    fn within_deadline<T: Send + 'static>(
        &mut self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(step()));
        receiver.recv_timeout(DEADLINE).unwrap_or_else(|error| {
            let _ = self.0.kill();
            panic!("{error}: {}", self.log())
        })
    }

    fn log(&mut self) -> String {
        let mut log = String::new();
        let stderr = self.0.stderr.take();
        stderr.map(|mut stderr| stderr.read_to_string(&mut log));
        log
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the host does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for OnStdio {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn on_stdio(component: &Path) -> Command {
    let run = Run::of(component).listen("stdio:");
    let mut command = run.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn standard_input_is_answered_on_standard_output_and_nothing_else_is_written_there() {
    let mut host = OnStdio::start(on_stdio(&plugin("echo")));
    let mut input = host.0.stdin.take().unwrap();
    let mut output = host.0.stdout.take().unwrap();
    let got = host.within_deadline(move || {
        input.write_all(b"hello\n").unwrap();
        drop(input);
        let mut got = String::new();
        output.read_to_string(&mut got).unwrap();
        got
    });
    assert_eq!(got, "hello\n");
    assert_eq!(host.exit_code(), Some(0));
    let log = host.log();
    assert!(log.contains("listening echo stdio:\n"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_plugin_sees_that_a_connection_is_standard_input_and_output() {
    let mut host = OnStdio::start(on_stdio(&guest("scripted")));
    let mut input = host.0.stdin.take().unwrap();
    let mut output = host.0.stdout.take().unwrap();
    let got = host.within_deadline(move || {
        input.write_all(b"peer; local; close\n").unwrap();
        let mut got = String::new();
        output.read_to_string(&mut got).unwrap();
        // The plugin closed; standard input is still open.
        drop(input);
        got
    });
    assert_eq!(got, "= other stdio\n= other stdio\n");
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn a_hundred_mebibytes_go_through_standard_input_and_output_in_little_memory() {
    const SIZE: usize = 100 << 20;
    let mut command = on_stdio(&plugin("echo"));
    command.args(["--workers", "1"]);
    let mut host = OnStdio::start(command);
    let mut input = host.0.stdin.take().unwrap();
    let mut output = host.0.stdout.take().unwrap();
    let chunk: Vec<u8> = (0..SIZE >> 10).map(|at| (at % 251) as u8).collect();
    let sent = chunk.clone();
    let status = format!("/proc/{}/status", host.0.id());
    let peak = host.within_deadline(move || {
        let sender = thread::spawn(move || {
            for _ in 0..1024 {
                input.write_all(&sent).unwrap();
            }
            input
        });
        let mut got = vec![0; chunk.len()];
        for _ in 0..1024 {
            output.read_exact(&mut got).unwrap();
            assert!(got == chunk);
        }
        let status = fs::read_to_string(status).unwrap();
        drop(sender.join().unwrap());
        assert_eq!(output.read(&mut got).unwrap(), 0);
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
    });
    assert_eq!(host.exit_code(), Some(0));
    // A host without a connection has some 40 MiB.
    let peak = peak.unwrap();
    assert!(peak < 90 << 10, "{peak} kB");
}

#[test]
fn a_reader_that_is_slow_gets_everything_before_the_host_ends() {
    let mut host = OnStdio::start(on_stdio(&guest("scripted")));
    let mut input = host.0.stdin.take().unwrap();
    let mut output = host.0.stdout.take().unwrap();
    let count = host.within_deadline(move || {
        input.write_all(b"fill 500000; close\n").unwrap();
        drop(input);
        // More than what a closed socket is waited for.
        thread::sleep(Duration::from_millis(1500));
        let mut got = Vec::new();
        output.read_to_end(&mut got).unwrap();
        got.len()
    });
    assert_eq!(count, 500_000);
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn an_output_that_nobody_reads_ends_the_host() {
    let mut host = OnStdio::start(on_stdio(&plugin("echo")));
    let mut input = host.0.stdin.take().unwrap();
    drop(host.0.stdout.take());
    input.write_all(b"hello\n").unwrap();
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn a_signal_ends_a_host_whose_input_is_still_open() {
    let mut host = OnStdio::start(on_stdio(&plugin("irc")));
    let mut input = host.0.stdin.take().unwrap();
    let mut output = host.0.stdout.take().unwrap();
    let pid = i32::try_from(host.0.id()).ok().and_then(Pid::from_raw);
    let got = host.within_deadline(move || {
        input
            .write_all(b"NICK ann\r\nUSER ann 0 * :Ann\r\n")
            .unwrap();
        let mut got = vec![0; 1];
        output.read_exact(&mut got).unwrap();
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
        output.read_to_end(&mut got).unwrap();
        drop(input);
        String::from_utf8_lossy(&got).into_owned()
    });
    assert!(got.contains("ERROR :Closing Link"), "{got}");
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn files_serve_as_standard_input_and_output() {
    let folder = scratch("files");
    let (question, answer) = (folder.join("question"), folder.join("answer"));
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(&question, &data).unwrap();
    let mut command = on_stdio(&plugin("echo"));
    command
        .stdin(File::open(&question).unwrap())
        .stdout(File::create(&answer).unwrap());
    let mut host = OnStdio::start(command);
    assert_eq!(host.exit_code(), Some(0));
    assert!(fs::read(&answer).unwrap() == data);
}

#[test]
fn a_terminal_serves_as_standard_input_and_output() {
    let run = Run::of(plugin("echo")).listen("stdio:");
    let script = root().join("tests/clients/on_terminal.py");
    let ended = run
        .started_by(["python3".as_ref(), script.as_os_str()])
        .ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.output.contains("hello"), "{}", ended.output);
}

#[test]
fn a_socket_as_standard_input_and_output_is_served_as_the_socket_that_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let theirs = TcpStream::connect(address).unwrap();
    let their_address = theirs.local_addr().unwrap();
    let theirs = OwnedFd::from(theirs);
    let mut client = Client::accepted(listener.accept().unwrap().0);
    // As inetd does it, standard error included.
    let mut command = on_stdio(&guest("scripted"));
    command
        .args(["--log", "trace"])
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut host = OnStdio(command.spawn().unwrap());
    drop(command);
    client.command("peer; local");
    client.expect(format!(
        "= {}\n= {}\n",
        mapped(address),
        mapped(their_address)
    ));
    client.command("write x; close");
    client.expect("x\n");
    client.end();
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn standard_input_is_taken_once_and_only_if_it_is_a_connection() {
    let run = || Run::of(plugin("echo")).listen("stdio:");
    assert_eq!(
        refusal(run().listen("stdio:")),
        "stdio:: standard input and output are taken by another listener"
    );
    let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut command = run().command();
    command
        .stdin(listener.try_clone().unwrap())
        .stdout(listener);
    let mut host = OnStdio::start(command);
    assert_eq!(host.exit_code(), Some(1));
    let log = host.log();
    assert!(
        log.contains("stdio:: standard input is a socket, but not a connection"),
        "{log}"
    );
    let help = nethost(["run", "--help"]);
    for url in [
        "unix:@NAME",
        "systemd://NAME",
        "fd://N",
        "stdio:",
        "?proxy=",
    ] {
        assert!(help.output.contains(url), "{url}: {}", help.output);
    }
}
