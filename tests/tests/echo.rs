//! Echo: over every transport, in every language, and with the host's workers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::Path,
    thread,
};

use nethost_sdk::testing::Chunking;
use nethost_tests::{
    client::{Client, End},
    dialogue::{arguments, play_over_tcp, transcripts},
    host::{Host, Run},
    places::{foreign_guest, plugin, root, scratch},
    random::Random,
};

#[test]
fn dialogues_go_as_written_however_their_bytes_are_cut() {
    plays_the_dialogues(&plugin("echo"), Dialogues::All);
}

#[test]
fn echo_in_c_goes_as_written() {
    if let Some(component) = foreign_guest("echo-c") {
        plays_the_dialogues(&component, Dialogues::WithoutConfig);
    }
}

#[test]
fn echo_in_javascript_goes_as_written() {
    if let Some(component) = foreign_guest("echo-js") {
        plays_the_dialogues(&component, Dialogues::WithoutConfig);
    }
}

#[test]
fn echo_in_python_goes_as_written() {
    if let Some(component) = foreign_guest("echo-python") {
        plays_the_dialogues(&component, Dialogues::WithoutConfig);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialogues {
    All,
    /// The thirty lines in another language have no config keys.
    WithoutConfig,
}

fn plays_the_dialogues(component: &Path, dialogues: Dialogues) {
    for transcript in transcripts(&root().join("plugins/echo/tests/transcripts")) {
        if dialogues == Dialogues::WithoutConfig && transcript.config.is_some() {
            continue;
        }
        let host = Run::of(component).arguments(arguments(&transcript)).start();
        for chunking in Chunking::all(&transcript) {
            play_over_tcp(&transcript, chunking, &host);
        }
    }
}

#[test]
fn a_hundred_connections_get_the_same_answers_whatever_the_size_of_the_pieces() {
    let host = Run::of(plugin("echo"))
        .set("greeting", "hello")
        .arguments(["--workers", "2"])
        .start();
    let dialogue: Vec<u8> = (0..100_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let expected = [b"hello\r\n".as_slice(), &dialogue].concat();
    let mut random = Random::new(1);
    thread::scope(|scope| {
        for number in 0..100_u64 {
            let most = [1_000, 20_000, 200_000][random.up_to(3) - 1];
            let (host, dialogue, expected) = (&host, &dialogue, &expected);
            scope.spawn(move || {
                let mut random = Random::new(number + 2);
                let mut client = host.connect();
                let mut answer = client.bytes(7);
                // Each piece is answered before the next, so that the pieces are what the host reads.
                for piece in random.pieces(dialogue, most) {
                    client.send(piece);
                    answer.extend(client.bytes(piece.len()));
                }
                client.close_write();
                let (rest, end) = client.rest();
                answer.extend(rest);
                assert!(answer == *expected, "connection {number} got other bytes");
                assert_eq!(end, End::Closed);
            });
        }
    });
}

#[test]
fn every_kind_of_address_is_listened_on() {
    let cases = [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:", &["127.0.0.1"][..]),
        ("tcp://[::1]:0", "tcp://[::1]:", &["[::1]"]),
        ("tcp://0.0.0.0:0", "tcp://0.0.0.0:", &["127.0.0.1"]),
        ("tcp://[::]:0", "tcp://[::]:", &["127.0.0.1", "[::1]"]),
        ("tcp://localhost:0?nodelay=off", "tcp://", &[]),
    ];
    let run = Run::of(plugin("echo"));
    let host = cases
        .iter()
        .fold(run, |run, (url, ..)| run.listen(url))
        .start();
    for ((url, listening, dialed), listens) in cases.iter().zip(host.listening()) {
        let (start, port) = listens.rsplit_once(':').expect("a port");
        assert!(listens.starts_with(listening), "{url}: {listens}");
        assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{listens}");
        let own = start.trim_start_matches("tcp://");
        let dialed = if dialed.is_empty() {
            &[own][..]
        } else {
            dialed
        };
        for ip in dialed {
            let address = format!("{ip}:{port}").parse().expect("an address");
            let mut client = Client::tcp(address);
            client.send(url);
            client.expect(url);
            client.close_write();
            client.end();
        }
    }
}

#[test]
fn only_ipv6_is_listened_on_for_one_ipv6_address() {
    let host = Run::of(plugin("echo")).listen("tcp://[::1]:0").start();
    let port = host.address().port();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn both_workers_serve_a_shared_port_and_a_unix_socket() {
    let path = scratch("workers").join("echo.sock");
    let host = Run::of(plugin("echo"))
        .listen("tcp://127.0.0.1:0")
        .listen(&format!("unix://{}", path.display()))
        .arguments(["--workers", "2", "--isolation", "worker", "--log", "debug"])
        .start();
    let echoed = |mut client: Client| {
        client.send("12345678");
        client.expect("12345678");
        client.close_write();
        client.end();
    };
    // The kernel spreads over the sockets by a hash of the addresses: 40 connections to one of two are less likely than a broken disk.
    for _ in 0..40 {
        echoed(host.connect());
    }
    // Each worker has an instance with a counter of its own, which echo logs.
    host.logged_times(&["echoed 8 bytes"], 40);
    let most = |log: &str| {
        let totals = log.lines().filter_map(|line| {
            let (start, _) = line.split_once(" in all")?;
            start.rsplit_once(' ')?.1.parse::<u32>().ok()
        });
        totals.max().expect("a line")
    };
    let over_tcp = most(&host.log());
    assert!(
        over_tcp < 40 * 8,
        "one instance served all: {over_tcp} bytes"
    );
    for _ in 0..10 {
        echoed(Client::unix(&path));
    }
    host.logged_times(&["echoed 8 bytes"], 50);
    let added = most(&host.log()) - over_tcp;
    assert!(added < 10 * 8, "one instance served the socket: {added}");
}

#[test]
fn a_unix_socket_has_its_mode_and_its_file_goes_with_the_host() {
    let path = scratch("mode").join("echo.sock");
    let run = |query: &str| {
        Run::of(plugin("echo"))
            .listen(&format!("unix://{}{query}", path.display()))
            .start()
    };
    for mode in [0o600, 0o660, 0o777] {
        let host = run(&format!("?mode={mode:o}"));
        assert_eq!(host.listening(), [format!("unix://{}", path.display())]);
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        let mut client = Client::unix(&path);
        client.send("over a file");
        client.expect("over a file");
        host.terminate();
        client.close_write();
        client.end();
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(!path.exists(), "the socket's file is still there");
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced_and_any_other_file_is_refused() {
    let folder = scratch("stale");
    let path = folder.join("echo.sock");
    let run = || Run::of(plugin("echo")).listen(&format!("unix://{}", path.display()));

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let host = run().start();
    let mut client = Client::unix(&path);
    client.send("new");
    client.expect("new");

    let second = run().ended();
    assert_eq!(second.code, Some(1), "{}", second.log);
    assert!(second.log.contains("in use"), "{}", second.log);
    // The first one has lost nothing by it.
    client.send("still there");
    client.expect("still there");
    let mut another = Client::unix(&path);
    another.send("also");
    another.expect("also");
    drop(host);

    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let third = run().ended();
    assert_eq!(third.code, Some(1), "{}", third.log);
    assert!(third.log.contains("not a socket"), "{}", third.log);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn an_address_in_use_is_an_error_also_when_its_owner_shares_ports() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = Run::of(plugin("echo"))
        .arguments(["--workers", "2"])
        .start();
    for address in [other.local_addr().unwrap(), first.address()] {
        for workers in ["1", "2"] {
            let ended = Run::of(plugin("echo"))
                .listen(&format!("tcp://{address}"))
                .arguments(["--workers", workers])
                .ended();
            assert_eq!(ended.code, Some(1), "{}", ended.log);
            assert_eq!(ended.output, "");
            for part in [&format!("tcp://{address}"), "in use"] {
                assert!(ended.log.contains(part), "{part}: {}", ended.log);
            }
        }
    }
    let mut client = first.connect();
    client.send("undisturbed");
    client.expect("undisturbed");
}

#[test]
fn one_listener_in_use_keeps_all_from_listening() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = scratch("half").join("echo.sock");
    let ended = Run::of(plugin("echo"))
        .listen(&format!("unix://{}", path.display()))
        .listen(&format!("tcp://{}", other.local_addr().unwrap()))
        .ended();
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""));
    assert!(!path.exists());
}

#[test]
fn large_data_goes_through_whole() {
    let host = Run::of(plugin("echo")).start();
    let data: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut sender = host.connect();
    let mut receiver = sender.another();
    thread::scope(|scope| {
        scope.spawn(|| {
            sender.send(&data);
            sender.close_write();
        });
        let (got, end) = receiver.rest();
        assert!(
            got == data,
            "{} of {} bytes are right",
            common(&got, &data),
            data.len()
        );
        assert_eq!(end, End::Closed);
    });
}

fn common(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(l, r)| l == r).count()
}

#[test]
fn many_connections_at_once_are_all_served() {
    let host = Run::of(plugin("echo")).start();
    let mut clients: Vec<Client> = (0..500).map(|_| host.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("{number}\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), number.to_string());
    }
}

#[test]
fn an_idle_host_does_nothing() {
    let host = Run::of(plugin("echo")).start();
    let mut client = host.connect();
    client.send("x");
    client.expect("x");
    let before = processor_time(&host);
    // There is no event for nothing: a second of it is watched.
    assert!(client.is_silent_for(std::time::Duration::from_secs(1)));
    let spent = processor_time(&host) - before;
    assert!(spent <= 5, "{spent} hundredths of a second");
}

/// In hundredths of a second, as proc(5) has it.
fn processor_time(host: &Host) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
