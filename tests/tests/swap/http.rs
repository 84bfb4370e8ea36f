//! HTTP: connections between two requests move at once, a request that is in progress is finished by the version that began it, and under load nothing is lost.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nethost::{
    manifest::Isolation,
    service::{Policy, SwapOptions},
};
use nethost_tests::{
    DEADLINE,
    client::{Client, End},
    places::{guest, plugin},
    scripted::Serves as _,
    service::Running,
};

use super::chain;

fn hello(isolation: Isolation, workers: usize) -> Running {
    Running::start(&plugin("examples/http-hello"), "{}", isolation, workers)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads an answer, and returns its body.
fn answer(client: &mut Client) -> String {
    assert_eq!(client.line(), "HTTP/1.1 200 OK");
    let mut length = 0;
    loop {
        let line = client.line();
        if line.is_empty() {
            break;
        }
        if let Some(digits) = line.strip_prefix("Content-Length: ") {
            length = digits.parse().unwrap();
        }
    }
    String::from_utf8(client.bytes(length)).unwrap()
}

fn got(client: &mut Client) -> String {
    client.send(GET);
    answer(client)
}

#[test]
fn idle_connections_move() {
    for isolation in [Isolation::Service, Isolation::Worker, Isolation::Connection] {
        let running = hello(isolation, 2);
        let mut clients: Vec<Client> = (0..10).map(|_| running.connect()).collect();
        for client in &mut clients {
            assert_eq!(got(client), "OK");
        }
        // What has come of the next request goes along.
        let (begin, end) = GET.split_at(20);
        clients[0].send(begin);
        clients[0].wait_until_read();
        let swapped = running.swap(&guest("http-next"), "{}").unwrap();
        assert_eq!(
            (swapped.sessions, swapped.refused, swapped.left_behind),
            (10, 0, 0),
            "{isolation:?}"
        );
        clients[0].send(end);
        assert_eq!(answer(&mut clients[0]), "NEXT");
        for client in &mut clients {
            assert_eq!(got(client), "NEXT");
        }
        assert_eq!(got(&mut running.connect()), "NEXT");
    }
}

#[test]
fn a_request_in_progress_is_finished_first() {
    for isolation in [Isolation::Service, Isolation::Worker] {
        let running = hello(isolation, 1);
        let (mut busy, mut idle) = (running.connect(), running.connect());
        assert_eq!(got(&mut idle), "OK");
        busy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello");
        busy.wait_until_read();
        let swapped = running.swap(&guest("http-next"), "{}").unwrap();
        assert_eq!((swapped.sessions, swapped.left_behind), (1, 1));
        // Who waits for nothing has the next version while the request goes on with the one before.
        assert_eq!(got(&mut idle), "NEXT");
        busy.send(" world");
        assert_eq!(answer(&mut busy), "hello world");
        // Asked every 20 ms, it has moved at some time.
        let deadline = Instant::now() + DEADLINE;
        while got(&mut busy) != "NEXT" {
            assert!(Instant::now() < deadline, "it did not move");
        }
    }
}

#[test]
fn a_request_that_does_not_end_holds_nothing_up() {
    let running = hello(Isolation::Worker, 1);
    let mut stuck = running.connect();
    stuck.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello");
    stuck.wait_until_read();
    let options = SwapOptions {
        policy: Policy::Migrate,
        deadline: Duration::from_millis(200),
    };
    let swapped = running
        .swap_as(&guest("http-next"), "{}", options)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!((swapped.sessions, swapped.left_behind), (0, 1));
    assert_eq!(got(&mut running.connect()), "NEXT");
    assert_eq!(stuck.rest(), (Vec::new(), End::Closed));
}

#[test]
fn under_load_every_request_is_answered_once() {
    const CLIENTS: usize = 64;
    let running = hello(Isolation::Worker, 2);
    let ends = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let stream = TcpStream::connect(running.address()).unwrap();
            let (ends, answered) = (ends.clone(), answered.clone());
            thread::spawn(move || asks(stream, number, &ends, &answered))
        })
        .collect();
    for swap in 0..20 {
        let before = answered.load(Ordering::Relaxed);
        let deadline = Instant::now() + DEADLINE;
        while answered.load(Ordering::Relaxed) < before + 500 {
            assert!(Instant::now() < deadline, "swap {swap}: it stands still");
            thread::yield_now();
        }
        let next = if swap % 2 == 0 {
            guest("http-next")
        } else {
            plugin("examples/http-hello")
        };
        let swapped = running.swap(&next, "{}").unwrap();
        assert_eq!(
            (swapped.sessions + swapped.left_behind, swapped.refused),
            (CLIENTS, 0),
            "swap {swap}: {swapped:?}"
        );
    }
    ends.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

/// Sends bodies, two requests at a time, and compares what comes back: each answer is that of its request, in order.
fn asks(mut stream: TcpStream, number: usize, ends: &AtomicBool, answered: &AtomicU64) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    for round in 0.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let mut expected = String::new();
        let mut requests = String::new();
        for part in 0..2 {
            let body = format!("client {number}, round {round}, part {part};");
            requests += &format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            expected += &body;
        }
        // A request is cut where it likes.
        let (first, second) = requests.split_at(round % requests.len());
        stream.write_all(first.as_bytes()).unwrap();
        stream.write_all(second.as_bytes()).unwrap();
        let (mut text, mut bodies) = (Vec::new(), String::new());
        while bodies.len() < expected.len() {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection ended: {bodies}");
            text.extend_from_slice(&buffer[..count]);
            while let Some((body, length)) = whole(&text) {
                bodies += &body;
                text.drain(..length);
            }
        }
        assert_eq!((bodies, text.len()), (expected, 0));
        answered.fetch_add(2, Ordering::Relaxed);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "an answer came twice");
}

/// The body of the first answer, and the bytes that it takes, if all of it is there.
fn whole(text: &[u8]) -> Option<(String, usize)> {
    let end = text.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&text[..end]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let length = head
        .split("\r\n")
        .find_map(|it| it.strip_prefix("Content-Length: "));
    let length: usize = length.unwrap().parse().unwrap();
    let body = text.get(end..end + length)?;
    Some((String::from_utf8(body.to_vec()).unwrap(), end + length))
}
