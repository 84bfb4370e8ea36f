//! `nethost serve`: several services in one host, and what SIGHUP makes of a changed file.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use nethost_tests::{
    DEADLINE,
    client::Client,
    host::{Host, nethost},
    metrics::Endpoint,
    places::{guest, plugin, root, scratch},
};
use rustix::process::Signal;

/// A config file in a folder of its own.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let this = Self(scratch(name).join("nethost.toml"));
        this.write(text);
        this
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.0.with_file_name(name)
    }

    fn serve(&self, listeners: usize) -> Host {
        Host::serve(&self.0, ["--log", "debug"], listeners)
    }
}

/// Two workers, and a drain that a test does not outlive.
const HOST: &str = "[host]\nworkers = 2\ndrain-timeout = \"1h\"\n";

fn service(name: &str, plugin: &Path, listen: &str, rest: &str) -> String {
    let plugin = plugin.display();
    format!(
        "[[service]]\nname = \"{name}\"\nplugin = \"{plugin}\"\nlisten = [\"{listen}\"]\n{rest}\n"
    )
}

fn echo(name: &str, greeting: &str) -> String {
    let config = format!("[service.config]\ngreeting = \"{greeting}\"");
    service(name, &plugin("echo"), TCP, &config)
}

const TCP: &str = "tcp://127.0.0.1:0";

fn reload(host: &Host) {
    host.signal(Signal::HUP);
}

/// Connects to an echo, and receives its greeting.
fn greeted(address: SocketAddr, greeting: &str) -> Client {
    let mut client = Client::tcp(address);
    client.expect(format!("{greeting}\r\n"));
    client
}

#[track_caller]
fn echoes(client: &mut Client) {
    client.send("ping");
    client.expect("ping");
}

/// What is answered on the config of before, or on that of now.
fn greeting(address: SocketAddr) -> String {
    Client::tcp(address).line()
}

fn wait_for_greeting(address: SocketAddr, expected: &str) {
    let deadline = Instant::now() + DEADLINE;
    while greeting(address) != expected {
        assert!(Instant::now() < deadline, "it never says {expected}");
    }
}

#[test]
fn several_services_are_served_and_drained_together() {
    let chat = service(
        "chat",
        &plugin("irc"),
        TCP,
        "[service.config]\nnetwork = \"TestNet\"",
    );
    let file = File::new(
        "serve-several",
        &(HOST.to_owned() + &echo("back", "hello") + &chat),
    );
    let host = file.serve(2);
    let output = host.output();
    let lines: Vec<_> = output.lines().collect();
    assert!(
        lines[0].starts_with("listening back tcp://127.0.0.1:"),
        "{output}"
    );
    assert!(
        lines[1].starts_with("listening chat tcp://127.0.0.1:"),
        "{output}"
    );
    let mut client = greeted(host.address_of(0), "hello");
    echoes(&mut client);
    let mut user = Client::tcp(host.address_of(1));
    user.say("NICK ann");
    user.say("USER ann 0 * :Ann");
    user.line_with("NETWORK=TestNet");
    host.terminate();
    user.line_with("ERROR :Closing Link");
    client.close_write();
    client.end();
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for name in ["back", "chat"] {
        assert!(
            ended.log.contains(&format!("stopped service=\"{name}\"")),
            "{}",
            ended.log
        );
    }
}

#[test]
fn if_one_cannot_start_none_does() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let text = echo("first", "") + &service("second", &plugin("irc"), &url, "");
    let file = File::new("serve-taken", &text);
    let ended = nethost(["serve".as_ref(), file.0.as_os_str()]);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert_eq!(ended.output, "");
    let place = format!("{}:10:11: listening on {url}", file.0.display());
    assert!(ended.log.contains(&place), "{}", ended.log);
    // What only the plugin knows to be wrong.
    let config = "[service.config]\nnick-length = 99";
    file.write(&(echo("first", "") + &service("second", &plugin("irc"), TCP, config)));
    let ended = nethost(["serve".as_ref(), file.0.as_os_str()]);
    assert_eq!(
        (ended.code, ended.output.as_str()),
        (Some(2), ""),
        "{}",
        ended.log
    );
    assert!(ended.log.contains("nick-length: `99`"), "{}", ended.log);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let good = HOST.to_owned() + &echo("back", "one");
    let file = File::new("serve-bad", &good);
    let host = file.serve(1);
    let mut held = greeted(host.address(), "one");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let changed = HOST.to_owned() + &echo("back", "two");
    for (count, (text, parts)) in [
        // Not TOML.
        ("[[service".to_owned(), ["nethost.toml:1:10: ", ""]),
        // A key that nobody knows.
        (
            changed.clone() + "lisen = 1\n",
            ["unknown config key `lisen`", ":10:1: "],
        ),
        // A service that is well, and one whose plugin is not there.
        (
            changed.clone() + &service("other", Path::new("/nowhere.wasm"), TCP, ""),
            [":12:10: ", "/nowhere.wasm: no such file"],
        ),
        // One whose plugin refuses its config, which is known last.
        (
            changed.clone()
                + &service(
                    "chat",
                    &plugin("irc"),
                    TCP,
                    "[service.config]\nnick-length = 99",
                ),
            [":14:10: ", "nick-length: `99`"],
        ),
        // One that cannot listen.
        (
            changed.clone() + &service("chat", &plugin("irc"), &taken, ""),
            [":13:11: ", "Address already in use"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        file.write(&text);
        reload(&host);
        host.logged_times(&["ERROR", "nothing was changed", "nethost.toml"], count + 1);
        let told = host.logged(&["ERROR", parts[0]]);
        assert!(told.contains(parts[1]), "{told}");
        echoes(&mut held);
        greeted(host.address(), "one");
    }
    fs::remove_file(&file.0).unwrap();
    reload(&host);
    host.logged(&["ERROR", "nothing was changed: reading", "No such file"]);
    greeted(host.address(), "one");
    // And then a good one.
    file.write(&changed);
    reload(&host);
    wait_for_greeting(host.address(), "two");
    echoes(&mut held);
}

#[test]
fn no_counter_goes_back_when_a_service_restarts() {
    let metrics = "metrics = \"tcp://127.0.0.1:0\"\n";
    let text = |greeting: &str| HOST.to_owned() + metrics + &echo("back", greeting);
    let file = File::new("serve-counters", &text("0"));
    let host = file.serve(1);
    let endpoint = Endpoint::of(&host);
    let listener = host.listening().first().cloned().unwrap();
    let accepted =
        format!(r#"nethost_connections_accepted_total{{service="back",listener="{listener}"}}"#);
    let address = host.address();
    for round in 0..3_u8 {
        let mut client = greeted(address, &round.to_string());
        echoes(&mut client);
        client.close_write();
        client.end();
        let next = (round + 1).to_string();
        file.write(&text(&next));
        reload(&host);
        host.logged_times(&["restarted"], usize::from(round) + 1);
        host.logged_times(&["stopped", "back"], usize::from(round) + 1);
        let count = f64::from(round) + 1.0;
        endpoint.scrape().has(&[
            (&accepted, count),
            // The greeting and "ping".
            (
                r#"nethost_received_bytes_total{service="back"}"#,
                4.0 * count,
            ),
            (r#"nethost_sent_bytes_total{service="back"}"#, 7.0 * count),
            (r#"echo_echoed_bytes_total{service="back"}"#, 4.0 * count),
            (r#"nethost_connections{service="back"}"#, 0.0),
        ]);
    }
}

#[test]
fn only_what_differs_restarts_and_connections_are_held_through_it() {
    let text = |first: &str| HOST.to_owned() + &echo("first", first) + &echo("second", "same");
    let file = File::new("serve-differs", &text("one"));
    let host = file.serve(2);
    let mut old = greeted(host.address_of(0), "one");
    let mut held = greeted(host.address_of(1), "same");
    file.write(&text("two"));
    reload(&host);
    host.logged(&["INFO", "restarted", "service=\"first\""]);
    host.logged(&["DEBUG", "unchanged", "service=\"second\""]);
    host.wait_for_listeners(3);
    // The same port, although it is any.
    let output = host.output();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], lines[2], "{output}");
    // Who is there stays, with what it knows; who comes gets the new.
    greeted(host.address_of(0), "two");
    echoes(&mut old);
    echoes(&mut held);
    // The same file again: nothing is restarted.
    reload(&host);
    host.logged(&["DEBUG", "unchanged", "service=\"first\""]);
    echoes(&mut old);
    assert_eq!(host.log().matches("restarted").count(), 1, "{}", host.log());
    // The old one ends with its last connection.
    old.close_write();
    old.end();
    host.logged(&["stopped", "service=\"first\""]);
    echoes(&mut held);
    // All of it is drained by a signal.
    host.terminate();
    held.close_write();
    held.end();
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn services_come_and_go() {
    let file = File::new("serve-come", &(HOST.to_owned() + &echo("first", "one")));
    let host = file.serve(1);
    let first = host.address();
    let mut held = greeted(first, "one");
    file.write(&(HOST.to_owned() + &echo("second", "two") + &echo("first", "one")));
    reload(&host);
    host.logged(&["INFO", "started", "service=\"second\""]);
    host.wait_for_listeners(2);
    let second = host.address_of(1);
    greeted(second, "two");
    echoes(&mut held);
    file.write(&(HOST.to_owned() + &echo("second", "two")));
    reload(&host);
    host.logged(&["INFO", "not in the file any more", "service=\"first\""]);
    // Nobody listens there any more; who is there goes on.
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(first).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
    echoes(&mut held);
    greeted(second, "two");
}

#[test]
fn a_renamed_service_takes_the_sockets_of_the_old_name() {
    let text = |name: &str| HOST.to_owned() + &echo(name, name);
    let file = File::new("serve-renamed", &text("before"));
    let host = file.serve(1);
    let address = host.address();
    let mut held = greeted(address, "before");
    file.write(&text("after"));
    reload(&host);
    host.wait_for_listeners(2);
    assert_eq!(host.address_of(1), address);
    wait_for_greeting(address, "after");
    echoes(&mut held);
}

/// Where the system chooses the port, listeners are alike.
#[test]
fn a_new_service_takes_no_socket_of_one_that_restarts() {
    let file = File::new("serve-alike", &(HOST.to_owned() + &echo("first", "one")));
    let host = file.serve(1);
    let text = HOST.to_owned() + &echo("a-new-one", "new") + &echo("first", "two");
    file.write(&text);
    reload(&host);
    host.wait_for_listeners(3);
    let output = host.output();
    let line = |start: &str| {
        let mut lines = output.lines().rev();
        lines
            .find(|line| line.starts_with(start))
            .unwrap()
            .to_owned()
    };
    let first = line("listening first ");
    assert_eq!(output.lines().next(), Some(first.as_str()), "{output}");
    let url = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
    assert_ne!(url(&first), url(&line("listening a-new-one ")), "{output}");
    wait_for_greeting(host.address(), "two");
    for _ in 0..20 {
        assert_eq!(greeting(host.address()), "two");
    }
}

#[test]
fn another_content_of_the_plugins_file_is_a_difference() {
    let file = File::new("serve-content", "");
    fs::copy(plugin("echo"), file.beside("p.wasm")).unwrap();
    let listen = format!("listen = [\"{TCP}\"]\n");
    file.write(&format!(
        "{HOST}[[service]]\nname = \"p\"\nplugin = \"p.wasm\"\n{listen}"
    ));
    let host = file.serve(1);
    let mut old = host.connect();
    echoes(&mut old);
    // The same content with another time is no difference.
    fs::copy(plugin("echo"), file.beside("p.wasm")).unwrap();
    reload(&host);
    host.logged(&["unchanged", "service=\"p\""]);
    fs::copy(plugin("irc"), file.beside("new.wasm")).unwrap();
    fs::rename(file.beside("new.wasm"), file.beside("p.wasm")).unwrap();
    reload(&host);
    host.logged(&["restarted", "service=\"p\""]);
    host.wait_for_listeners(2);
    let mut new = host.connect();
    new.say("NICK ann");
    new.say("USER ann 0 * :Ann");
    new.line_with(" 001 ann ");
    echoes(&mut old);
    // One that is gone is told, and changes nothing.
    fs::remove_file(file.beside("p.wasm")).unwrap();
    reload(&host);
    host.logged(&["ERROR", "p.wasm: no such file"]);
    new.say("PING x");
    new.line_with("PONG");
}

/// Connects over and over while the service restarts, from each isolation into each; not one connection may fail.
#[test]
fn no_client_is_refused_while_a_service_restarts() {
    // With as many sockets as workers, and with one.
    restart_under_load("worker", ["worker", "service", "service", "worker"]);
    restart_under_load("service", ["worker", "worker", "service", "worker"]);
}

fn restart_under_load(first: &str, then: [&str; 4]) {
    let socket = scratch("serve-restarts-socket").join("x.sock");
    let text = |greeting: &str, isolation: &str| {
        let listen = format!("{TCP}\", \"unix://{}", socket.display());
        let rest =
            format!("isolation = \"{isolation}\"\n[service.config]\ngreeting = \"{greeting}\"");
        HOST.to_owned() + &service("back", &plugin("echo"), &listen, &rest)
    };
    let file = File::new("serve-restarts", &text("0", first));
    let host = file.serve(2);
    let address = host.address();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|index| {
            let (stop, served, socket) = (stop.clone(), served.clone(), socket.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = match index % 2 {
                        0 => Client::tcp(address),
                        _ => Client::unix(&socket),
                    };
                    client.line();
                    echoes(&mut client);
                    client.close_write();
                    client.end();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for (count, isolation) in (1..=8).zip(then.into_iter().cycle()) {
        let before = served.load(Ordering::Relaxed);
        file.write(&text(&count.to_string(), isolation));
        reload(&host);
        host.logged_times(&["restarted", "service=\"back\""], count);
        wait_for_greeting(address, &count.to_string());
        let deadline = Instant::now() + DEADLINE;
        while served.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < deadline, "nobody is served");
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(served.load(Ordering::Relaxed) >= 160);
    assert!(socket.exists());
    host.terminate();
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!socket.exists());
}

/// What waits in a socket's queue while the service changes is served by the new one.
#[test]
fn who_waits_in_the_queue_is_served_by_the_new_one() {
    let text = |greeting: &str| HOST.to_owned() + &echo("back", greeting);
    let file = File::new("serve-queue", &text("one"));
    let host = file.serve(1);
    file.write(&text("two"));
    host.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..50).map(|_| Client::tcp(host.address())).collect();
    reload(&host);
    host.signal(Signal::CONT);
    for client in &mut clients {
        let greeting = client.line();
        assert!(greeting == "one" || greeting == "two", "{greeting}");
        echoes(client);
    }
    wait_for_greeting(host.address(), "two");
}

#[test]
fn datagrams_are_answered_all_the_time() {
    let text = |limit: u32| {
        let limits = format!("[service.limits]\nlog-lines = {limit}");
        HOST.to_owned() + &service("back", &plugin("echo"), "udp://127.0.0.1:0", &limits)
    };
    let file = File::new("serve-udp", &text(100));
    let host = file.serve(1);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(host.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let ask = |number: usize| {
        client.send(&number.to_be_bytes()).unwrap();
        let mut answer = [0; 8];
        client.recv(&mut answer).unwrap();
        assert_eq!(usize::from_be_bytes(answer), number);
    };
    let mut number = 0;
    for count in 1..=5_u32 {
        file.write(&text(100 + count));
        reload(&host);
        while host.log().matches("restarted").count() < count as usize {
            ask(number);
            number += 1;
        }
        ask(number);
        number += 1;
    }
    // The old ones have ended: nothing keeps them.
    host.logged_times(&["stopped", "service=\"back\""], 5);
    ask(number);
}

/// A service that still has connections leaves datagrams to its successor, which is known by its limit.
#[test]
fn datagrams_are_the_successors_alone() {
    let text = |limit: usize| {
        let listen = format!("{TCP}\", \"udp://127.0.0.1:0");
        let limits = format!("[service.limits]\ndatagram = {limit}");
        HOST.to_owned() + &service("back", &plugin("echo"), &listen, &limits)
    };
    let file = File::new("serve-udp-successor", &text(100));
    let host = file.serve(2);
    let mut held = host.connect();
    echoes(&mut held);
    let answer = || {
        // Each from a port of its own, so that every socket of the group is met.
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(host.address_of(1)).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send(b"12345678").unwrap();
        let mut answer = [0; 100];
        client.recv(&mut answer).unwrap()
    };
    assert_eq!(answer(), 8);
    file.write(&text(4));
    reload(&host);
    let deadline = Instant::now() + DEADLINE;
    while answer() == 8 {
        assert!(Instant::now() < deadline, "the old one answers");
    }
    host.wait_for_listeners(4);
    for _ in 0..40 {
        assert_eq!(answer(), 4);
    }
    echoes(&mut held);
}

#[test]
fn a_listener_changes_its_options_and_keeps_its_socket() {
    let file = File::new("serve-options", "");
    // Beside the file, which is what the process is confined to.
    let folder = file.beside("certs");
    fs::create_dir(&folder).unwrap();
    let ended = nethost(["cert", "self-signed", folder.to_str().unwrap(), "localhost"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let text = |url: &str| HOST.to_owned() + &service("back", &plugin("echo"), url, "");
    file.write(&text(&format!("tcp://{address}")));
    let host = file.serve(1);
    let mut held = host.connect();
    echoes(&mut held);
    let url = format!("tls://{address}?backlog=7&cert={}", folder.display());
    file.write(&text(&url));
    reload(&host);
    host.wait_for_listeners(2);
    assert_eq!(host.listening()[1], format!("tls://{address}"));
    // It speaks TLS now: what is no handshake is answered with an alert (RFC 8446, section 6).
    let mut client = Client::tcp(address);
    client.send("hello, this is no TLS");
    assert_eq!(client.bytes(1), [21]);
    echoes(&mut held);
}

#[test]
fn a_secret_reaches_the_plugin_and_a_changed_one_is_a_difference() {
    let file = File::new("serve-secret", "");
    let secret = file.beside("greeting");
    let write = |text: &str| {
        fs::write(&secret, text).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("hush-one\n");
    let config = "[service.config]\ngreeting = { file = \"greeting\" }";
    file.write(&(HOST.to_owned() + &service("back", &plugin("echo"), TCP, config)));
    let host = Host::serve(&file.0, ["--log", "trace"], 1);
    greeted(host.address(), "hush-one");
    write("hush-two\n");
    reload(&host);
    wait_for_greeting(host.address(), "hush-two");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    reload(&host);
    host.logged(&["WARN", "nethost.toml:9:12: ", "(mode 644)", "chmod 600"]);
    fs::remove_file(&secret).unwrap();
    reload(&host);
    host.logged(&["ERROR", "the secret `greeting`: reading"]);
    greeted(host.address(), "hush-two");
    host.terminate();
    let ended = host.ended();
    assert!(!ended.log.contains("hush"), "{}", ended.log);
}

#[test]
fn a_second_host_with_the_same_admin_socket_is_refused() {
    let socket = scratch("serve-admin").join("admin.sock");
    let text = format!("[host]\nadmin = \"unix://{}\"\n", socket.display()) + &echo("back", "");
    let file = File::new("serve-admin-file", &text);
    let host = file.serve(1);
    let ended = nethost(["serve".as_ref(), file.0.as_os_str()]);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert_eq!(ended.output, "");
    for part in [
        "another nethost has the admin socket",
        socket.to_str().unwrap(),
    ] {
        assert!(ended.log.contains(part), "no {part} in {}", ended.log);
    }
    // The file may be looked at, and the lock goes with whoever has it, in whatever way.
    let ended = nethost(["check".as_ref(), file.0.as_os_str()]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    host.signal(Signal::KILL);
    let _ = host.ended();
    file.serve(1);
}

#[test]
fn what_takes_a_new_start_is_said() {
    let file = File::new("serve-host", &(HOST.to_owned() + &echo("back", "one")));
    let host = file.serve(1);
    let changed = HOST.replace("workers = 2", "workers = 1\nlog = \"warn\"");
    file.write(&(changed + &echo("back", "two")));
    reload(&host);
    wait_for_greeting(host.address(), "two");
    for key in ["workers", "log"] {
        host.logged(&["WARN", &format!("`{key}` of [host]"), "new start"]);
    }
    assert!(!host.log().contains("`admin`"), "{}", host.log());
}

#[test]
fn the_file_says_what_the_log_is_unless_the_command_line_does() {
    let text = "[host]\nlog = \"debug\"\nlog-format = \"json\"\n".to_owned() + &echo("back", "");
    let file = File::new("serve-log", &text);
    let host = Host::serve(&file.0, [""; 0], 1);
    reload(&host);
    host.logged(&["{", "\"level\":\"DEBUG\"", "unchanged"]);
    let host = Host::serve(&file.0, ["--log", "info", "--log-format", "text"], 1);
    host.terminate();
    let ended = host.ended();
    assert!(
        !ended.log.contains('{') && !ended.log.contains("DEBUG"),
        "{}",
        ended.log
    );
}

#[test]
fn a_service_whose_plugin_breaks_leaves_the_others_alone() {
    let traps = service("traps", &guest("traps"), TCP, "");
    let file = File::new(
        "serve-traps",
        &(HOST.to_owned() + &traps + &echo("back", "hi")),
    );
    let host = file.serve(2);
    let mut held = greeted(host.address_of(1), "hi");
    let mut client = Client::tcp(host.address_of(0));
    let _ = client.try_send("trap\n");
    drop(client);
    echoes(&mut held);
}

#[test]
fn a_stale_lock_file_is_no_lock() {
    let socket = scratch("serve-stale").join("admin.sock");
    fs::write(socket.with_extension("sock.lock"), "").unwrap();
    let text = format!("[host]\nadmin = \"unix://{}\"\n", socket.display()) + &echo("back", "");
    File::new("serve-stale-file", &text).serve(1);
    assert!(root().join("nethost.example.toml").is_file());
}
