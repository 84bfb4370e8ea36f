//! IRC over sockets: its dialogues, clients that talk, one that does not read, and a client library of others.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use nethost_sdk::testing::{Chunking, Transcript};
use nethost_tests::{
    DEADLINE,
    client::Client,
    dialogue::{arguments, play_over_tcp, transcripts},
    host::{Host, Run},
    places::{plugin, python, root},
    random::Random,
};

#[test]
fn dialogues_go_as_written_however_their_bytes_are_cut() {
    let all = transcripts(&root().join("plugins/irc/tests/transcripts"));
    let played: Vec<&Transcript> = all.iter().filter(|it| !it.moves_clock()).collect();
    assert!(
        played.len() > 10,
        "only {} do not move the clock",
        played.len()
    );
    let mut random = Random::new(7);
    let mut plays = Vec::new();
    for transcript in played {
        let ways: Vec<Chunking> = Chunking::all(transcript).collect();
        let splits = (0..3).filter_map(|_| ways.get(random.up_to(ways.len()) - 1).copied());
        for chunking in [Chunking::Whole, Chunking::Bytes].into_iter().chain(splits) {
            plays.push((transcript, chunking));
        }
    }
    // One network each; four at a time.
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((transcript, chunking)) =
                    plays.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let host = irc().arguments(arguments(transcript)).start();
                    play_over_tcp(transcript, *chunking, &host);
                }
            });
        }
    });
}

fn irc() -> Run {
    Run::of(plugin("irc"))
}

/// Registers a client, and reads all that it is told then.
fn registered(host: &Host, nick: &str) -> Client {
    let mut client = host.connect();
    client.send(format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n"));
    client.line_with(&format!(" 422 {nick} "));
    client
}

fn joined(host: &Host, nick: &str, channel: &str) -> Client {
    let mut client = registered(host, nick);
    client.say(&format!("JOIN {channel}"));
    client.line_with(&format!(" 366 {nick} "));
    client
}

#[test]
fn two_clients_talk_and_killing_one_tells_the_other() {
    let host = irc().start();
    for (kill, reason) in [
        (Client::kill as fn(Client), "Connection reset by peer"),
        (drop, "Remote host closed the connection"),
    ] {
        let mut ann = joined(&host, "ann", "#tea");
        let mut bob = joined(&host, "bob", "#tea");
        assert_eq!(ann.line(), ":bob!bob@127.0.0.1 JOIN #tea");
        bob.say("PRIVMSG #tea :hello ann");
        assert_eq!(ann.line(), ":bob!bob@127.0.0.1 PRIVMSG #tea :hello ann");
        ann.say("PRIVMSG #tea :hello bob");
        assert_eq!(bob.line(), ":ann!ann@127.0.0.1 PRIVMSG #tea :hello bob");
        kill(bob);
        assert_eq!(ann.line(), format!(":bob!bob@127.0.0.1 QUIT :{reason}"));
        // The name is free again.
        let mut bob = registered(&host, "bob");
        bob.say("QUIT :bye");
        ann.say("QUIT :bye");
        bob.rest();
        ann.rest();
    }
}

#[test]
fn silence_before_registration_ends_with_a_reason() {
    let host = irc().set("registration-timeout", "1s").start();
    let mut client = host.connect();
    client.line_with("ERROR :Closing Link");
    client.end();
}

#[test]
fn who_does_not_answer_a_ping_is_closed_and_who_does_is_not() {
    let host = irc()
        .set("ping-interval", "1s")
        .set("ping-timeout", "2s")
        .start();
    let (mut dumb, mut polite) = (registered(&host, "dumb"), registered(&host, "polite"));
    let start = Instant::now();
    let mut pongs = 0;
    while start.elapsed().as_secs() < 4 {
        let ping = polite.line();
        let token = ping
            .strip_prefix("PING ")
            .unwrap_or_else(|| panic!("{ping}"));
        polite.say(&format!("PONG {token}"));
        pongs += 1;
    }
    assert!(pongs >= 2);
    dumb.line_with("PING");
    dumb.line_with("ERROR :Closing Link");
    dumb.end();
    polite.say("PING :still here");
    polite.line_with("PONG irc.example.net :still here");
}

/// In a channel of 200 with a flood, one client never reads. The others lose nothing, and the memory of the process stays bounded.
#[test]
fn a_client_that_never_reads_is_closed_and_the_others_lose_nothing() {
    const MEMBERS: usize = 200;
    let host = irc().start();
    let slow = joined(&host, "slow", "#flood").with_small_buffer();
    let mut flooder = joined(&host, "flooder", "#flood");
    let mut readers: Vec<Client> = Vec::new();
    for number in 0..MEMBERS - 2 {
        readers.push(joined(&host, &format!("r{number}"), "#flood"));
    }
    let before = host.memory();
    let slow_is_gone = AtomicBool::new(false);
    let text = "x".repeat(400);
    let sent = thread::scope(|scope| {
        let watches: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let slow_is_gone = &slow_is_gone;
                scope.spawn(move || {
                    let mut expected = 0;
                    loop {
                        let line = reader.line();
                        if line.starts_with(":slow!") {
                            assert_eq!(line, ":slow!slow@127.0.0.1 QUIT :SendQ exceeded");
                            slow_is_gone.store(true, Ordering::Relaxed);
                            continue;
                        }
                        let Some((_, said)) = line.split_once(" PRIVMSG #flood :") else {
                            // Those who came later.
                            assert!(line.contains(" JOIN "), "{line}");
                            continue;
                        };
                        let (number, rest) = said.split_once(' ').unwrap();
                        if number == "end" {
                            assert_eq!(rest, expected.to_string());
                            return expected;
                        }
                        assert_eq!(number, expected.to_string());
                        assert_eq!(rest.len(), 400);
                        expected += 1;
                    }
                })
            })
            .collect();
        let start = Instant::now();
        let mut sent = 0;
        while !slow_is_gone.load(Ordering::Relaxed) {
            assert!(
                start.elapsed() < 3 * DEADLINE,
                "after {sent} lines nobody is closed"
            );
            flooder.say(&format!("PRIVMSG #flood :{sent} {text}"));
            sent += 1;
        }
        flooder.say(&format!("PRIVMSG #flood :end {sent}"));
        for watch in watches {
            assert_eq!(watch.join().unwrap(), sent);
        }
        sent
    });
    let grown = host.peak_memory().saturating_sub(before);
    eprintln!("{sent} lines to {MEMBERS} members, {grown} bytes more at most");
    assert!(grown < 64 << 20, "{grown} bytes more after {sent} lines");
    // What the kernel held for it comes, and then the end.
    let mut slow = slow;
    slow.rest();
    flooder.say("PING :still here");
    flooder.line_with("PONG irc.example.net :still here");
}

#[test]
fn a_client_library_gets_along() {
    let Some(python) = python() else {
        eprintln!("not run: `cargo xtask test` installs the library");
        return;
    };
    let host = irc().set("network", "TeaNet").start();
    let address = host.address();
    let output = Command::new(python)
        .arg(root().join("tests/clients/irc_talk.py"))
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "\
ann is welcome as ann
network TeaNet
ann sees ann join #tea
mode +t
topic tea at five
bob cannot be Ann
bob is welcome as bob
ann sees bob join #tea
bob sees bob join #tea
bob reads #tea tea at five
bob hears ann say hello bob
ann is told by bob in private: grüße
ann sees bob quit: Connection reset by peer
";
    // Events of two connections have no order between them.
    let split = |text: &str| -> (Vec<String>, Vec<String>) {
        let lines = text.lines().map(str::to_owned);
        lines.partition(|line| line.starts_with("bob "))
    };
    assert_eq!(
        split(&said),
        split(expected),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
