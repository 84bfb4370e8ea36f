//! What a connection has besides its session, and what its instance has, survives a swap.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    thread,
    time::Duration,
};

use nethost::{files::FileGrant, limits::Limits, manifest::Isolation};
use nethost_tests::{
    client::Client,
    places::{guest, plugin, scratch},
    scripted::pattern,
    service::{Running, program},
    tls::{Authority, Python},
};

use super::{ECHO, says};

const ONE: &str = r#"{"version": "1"}"#;
const TWO: &str = r#"{"version": "2"}"#;

fn keeps(isolation: Isolation) -> Running {
    Running::start(&guest("keeps"), ONE, isolation, 1)
}

#[test]
fn connections_with_tls_come_back_whole() {
    const CLIENTS: usize = 4;
    const SIZE: usize = 30_000_000;
    let folder = scratch("swap-tls");
    let authority = Authority::new("swap");
    let ca = authority.write(&folder.join("ca.pem"));
    let cert = authority.issue_to(&folder.join("localhost.pem"), &["localhost"]);
    let listen = format!("tls://127.0.0.1:0?cert={}", cert.display());
    let running = Running::start_on(&[&listen], &plugin("echo"), ECHO, Isolation::Worker, 2);
    let address = running.address_of(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = Python::connecting(address, &ca).with("size", SIZE);
                scope.spawn(move || client.once())
            })
            .collect();
        let mut moved = 0;
        while clients.iter().any(|client| !client.is_finished()) {
            moved += running.swap(&plugin("echo"), ECHO).unwrap().sessions;
        }
        for client in clients {
            let told = client.join().unwrap();
            assert_eq!(told["echoed"], true, "{told}");
        }
        assert!(moved > CLIENTS, "{moved}");
    });
}

#[test]
fn connections_that_it_dialed_go_on() {
    for isolation in [Isolation::Service, Isolation::Connection] {
        let running = keeps(isolation);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = running.connect();
        client.command(&format!("dial {port}"));
        let mut dialed = Client::accepted(listener.accept().unwrap().0);
        dialed.expect("1 hello\n");
        says(&mut dialed, "abc\n", "1 abc\n");
        for (version, config) in [(2, TWO), (1, ONE), (2, TWO)] {
            let swapped = running.swap(&guest("keeps"), config).unwrap();
            assert_eq!(swapped.sessions, 2);
            says(&mut dialed, "abc\n", &format!("{version} abc\n"));
            says(&mut client, "abc\n", &format!("{version} abc\n"));
        }
    }
}

#[test]
fn sockets_that_it_dialed_go_on() {
    for isolation in [Isolation::Service, Isolation::Connection] {
        let running = keeps(isolation);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(nethost_tests::DEADLINE))
            .unwrap();
        let port = peer.local_addr().unwrap().port();
        let mut client = running.connect();
        client.command(&format!("dial-udp {port}"));
        let receive = || {
            let mut datagram = [0; 100];
            let (count, from) = peer.recv_from(&mut datagram).unwrap();
            (
                String::from_utf8_lossy(&datagram[..count]).into_owned(),
                from,
            )
        };
        let (hello, dialed) = receive();
        assert_eq!(hello, "1 hello");
        for (version, config) in [(2, TWO), (1, ONE)] {
            running.swap(&guest("keeps"), config).unwrap();
            assert_eq!(receive(), (format!("{version} hello"), dialed));
            peer.send_to(b"abc", dialed).unwrap();
            assert_eq!(receive(), (format!("{version} abc"), dialed));
        }
    }
}

#[test]
fn a_timer_that_runs_completes_for_the_next_version() {
    for isolation in [Isolation::Service, Isolation::Connection] {
        let running = keeps(isolation);
        let mut clients: Vec<Client> = (0..3).map(|_| running.connect()).collect();
        for client in &mut clients {
            // Longer than the swaps take on a loaded machine.
            says(client, "timer 3000\nabc\n", "1 abc\n");
        }
        for config in [TWO, ONE, TWO] {
            running.swap(&guest("keeps"), config).unwrap();
        }
        for client in &mut clients {
            client.expect("2 timer\n");
        }
    }
}

/// `keeps` with a file `in` of these bytes, and one named `out` that is written.
fn with_files(name: &str, content: &[u8]) -> (Running, PathBuf) {
    let folder = scratch(name);
    fs::write(folder.join("in"), content).unwrap();
    let mut program = program(Limits {
        unsent: 64 << 20,
        // Megabytes are made in one callback.
        callback_time: Duration::from_secs(5),
        ..Limits::default()
    });
    for (name, mode) in [("in", "ro"), ("out", "rw")] {
        let grant: FileGrant = format!("{name}={}:{mode}", folder.join(name).display())
            .parse()
            .unwrap();
        let file = grant.open().unwrap();
        program.grants.files.insert(name.to_owned(), file);
    }
    let running = Running::granted(program, &guest("keeps"), ONE, Isolation::Service, 1);
    (running, folder)
}

#[test]
fn an_open_file_goes_over() {
    let (running, _folder) = with_files("swap-file", b"0123456789abcdefghij");
    let mut client = running.connect();
    says(&mut client, "open\nread 0\n", "1 0123456789\n");
    for (version, config) in [(2, TWO), (1, ONE)] {
        // The state has the id alone, and without the file it is not restored.
        running.swap(&guest("keeps"), config).unwrap();
        says(&mut client, "read 10\n", &format!("{version} abcdefghij\n"));
    }
}

#[test]
fn a_file_that_is_being_sent_goes_on() {
    let content = pattern(0, 30_000_000);
    let (running, _folder) = with_files("swap-send", &content);
    let mut client = running.connect().with_small_buffer();
    client.command("send");
    let mut got = client.bytes(100_000);
    for config in [TWO, ONE, TWO] {
        assert_eq!(running.swap(&guest("keeps"), config).unwrap().sessions, 1);
        got.extend(client.bytes(1_000_000));
    }
    got.extend(client.bytes(content.len() - got.len()));
    assert!(got == content);
    client.expect("2 moved 30000000\n");
}

#[test]
fn a_file_that_is_being_received_goes_on() {
    let (running, folder) = with_files("swap-receive", b"");
    let content = pattern(0, 5_000_000);
    let mut client = running.connect();
    says(&mut client, "receive 5000000\n", "1 go on\n");
    let mut parts = content.chunks(1_500_000);
    client.send(parts.next().unwrap());
    for config in [TWO, ONE, TWO] {
        assert_eq!(running.swap(&guest("keeps"), config).unwrap().sessions, 1);
        client.send(parts.next().unwrap());
    }
    client.expect("2 moved 5000000\n");
    assert!(fs::read(folder.join("out")).unwrap() == content);
    says(&mut client, "abc\n", "2 abc\n");
}

#[test]
fn what_a_slow_reader_has_not_read_is_sent_in_order() {
    let (running, _folder) = with_files("swap-slow", b"");
    let mut client = running.connect().with_small_buffer();
    // More than the kernel takes.
    for _ in 0..256 {
        client.command("fill 65000");
    }
    client.wait_until_read();
    for config in [TWO, ONE, TWO] {
        assert_eq!(running.swap(&guest("keeps"), config).unwrap().sessions, 1);
    }
    client.command("abc");
    let letters: Vec<u8> = (b'a'..=b'z').cycle().take(65_000).collect();
    for _ in 0..256 {
        client.expect(&letters);
    }
    client.expect("2 abc\n");
}
