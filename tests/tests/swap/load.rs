//! Swaps under load: nothing is lost, doubled or out of order.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nethost::manifest::Isolation;
use nethost_tests::{
    chat::{Chat, Facts},
    places::{guest, plugin},
    random::Random,
    scripted::Serves as _,
    service::Running,
};

use super::ECHO;

#[test]
fn a_thousand_clients_chat_through_twenty_swaps() {
    const CLIENTS: usize = 1000;
    const ROOMS: usize = 50;
    let running = Running::start(&plugin("irc"), "{}", Isolation::Service, 1);
    let period = Duration::from_secs(1);
    let chat = Chat::begin(running.address(), CLIENTS, ROOMS, period);
    for swap in 0..20 {
        chat.hear(1000);
        let next = if swap % 2 == 0 {
            guest("irc-next")
        } else {
            plugin("irc")
        };
        let swapped = running.swap(&next, "{}");
        let swapped = swapped.unwrap_or_else(|error| panic!("swap {swap}: {error:?}"));
        assert_eq!(swapped.sessions, CLIENTS);
        assert_eq!((swapped.refused, swapped.left_behind), (0, 0));
        eprintln!("{swapped:?}");
    }
    let facts = chat.end().unwrap();
    assert_eq!(facts.len(), ROOMS);
    for (room, known) in facts.into_iter().map(|facts| (room(&facts), facts)) {
        let Facts {
            channel,
            topic,
            modes,
            names,
        } = known;
        let ids = (0..CLIENTS).filter(|id| id % ROOMS == room);
        let first = room;
        let mut expected: Vec<String> = ids
            .map(|id| {
                if id == first {
                    format!("@c{id}")
                } else {
                    format!("c{id}")
                }
            })
            .collect();
        expected.sort();
        assert_eq!(names, expected, "{channel}");
        assert!(
            topic.ends_with(&format!(" {channel} :what c{room} likes")),
            "{topic}"
        );
        assert!(
            modes.ends_with(&format!(" {channel} +ntl {}", 500 + room)),
            "{modes}"
        );
    }
    running
        .scrape()
        .has(&[(r#"nethost_instance_swaps_total{service="test"}"#, 20.0)]);
}

fn room(facts: &Facts) -> usize {
    let number = facts.channel.strip_prefix("#room");
    number.and_then(|it| it.parse().ok()).unwrap()
}

#[test]
fn two_hundred_echoes_come_back_whole_through_fifty_swaps() {
    const CLIENTS: usize = 200;
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Worker, 2);
    let ends = Arc::new(AtomicBool::new(false));
    let echoed = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let stream = TcpStream::connect(running.address()).unwrap();
            let (ends, echoed) = (ends.clone(), echoed.clone());
            thread::spawn(move || echo(stream, seed as u64 + 1, &ends, &echoed))
        })
        .collect();
    // Both versions are the same plugin here: what comes back is what was sent, to the byte.
    for _ in 0..50 {
        let before = echoed.load(Ordering::Relaxed);
        while echoed.load(Ordering::Relaxed) < before + 300 && !clients[0].is_finished() {
            thread::yield_now();
        }
        let swapped = running.swap(&plugin("echo"), ECHO).unwrap();
        assert_eq!(swapped.sessions, CLIENTS);
    }
    ends.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

/// Sends chunks of random lengths, some of which wait for their echo, and compares every byte.
fn echo(mut stream: TcpStream, seed: u64, ends: &AtomicBool, echoed: &AtomicU64) {
    stream
        .set_read_timeout(Some(nethost_tests::DEADLINE))
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let mut random = Random::new(seed);
    let mut waiting: Vec<u8> = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        for _ in 0..random.up_to(4) {
            let chunk: Vec<u8> = (0..random.up_to(700))
                .map(|_| random.up_to(256) as u8)
                .collect();
            stream.write_all(&chunk).unwrap();
            waiting.extend(chunk);
        }
        let count = random.up_to(waiting.len());
        let mut got = vec![0; count];
        stream.read_exact(&mut got).unwrap();
        assert!(waiting.starts_with(&got), "another byte came back");
        waiting.drain(..count);
        echoed.fetch_add(1, Ordering::Relaxed);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest == waiting, "{} of {} bytes", rest.len(), waiting.len());
}
