//! Bulk: files and connections that the host moves by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nethost_tests::{
    places,
    scripted::{Scripted, pattern},
    tls::Authority,
};

/// A folder with a file of known bytes, granted as `in`, and one to write, granted as `out`.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str, size: usize) -> Self {
        let folder = places::scratch(name);
        fs::write(folder.join("in"), pattern(0, size)).expect("a scratch file");
        Self { folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    fn start(&self) -> Scripted {
        Scripted::start_with(|run| {
            run.arguments(["--file", &self.grant("in", "")])
                .arguments(["--file", &self.grant("out", ":rw")])
        })
    }

    fn grant(&self, name: &str, mode: &str) -> String {
        format!("{name}={}{mode}", self.folder.join(name).display())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("a scratch folder");
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a scratch file")
}

// Files to connections.

#[test]
fn a_file_has_its_place_among_what_is_written() {
    let files = Files::new("place", 5_000_000);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!(
        "@{id} write head; @{id} send-file in 0 - -; @{id} write between; @{id} send-file in 4999990 10 -; @{id} write tail"
    ));
    client.expect("head\n");
    assert!(client.bytes(5_000_000) == pattern(0, 5_000_000));
    client.expect("between\n");
    client.expect(pattern(4_999_990, 10));
    client.expect("tail\n");
    let (first, second) = (plugin.event("completed"), plugin.event("completed"));
    assert!(first.ends_with(" number 5000000"), "{first}");
    assert!(second.ends_with(" number 10"), "{second}");
}

#[test]
fn nothing_of_an_empty_extent_is_sent_and_it_completes() {
    let files = Files::new("empty", 10);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect();
    let operation = plugin.started(&format!("@{id} send-file in 10 - -"));
    assert_eq!(plugin.event(&format!("completed {operation}")), "number 0");
    plugin.run(&format!("@{id} write after"));
    client.expect("after\n");
}

#[test]
fn more_than_the_file_has_is_invalid_and_nothing_is_sent() {
    let files = Files::new("short", 10);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect();
    for extent in ["11 - -", "0 11 -", "5 18446744073709551615 -"] {
        let operation = plugin.started(&format!("@{id} send-file in {extent}"));
        let outcome = plugin.event(&format!("completed {operation}"));
        assert!(outcome.starts_with("error invalid"), "{extent}: {outcome}");
    }
    plugin.run(&format!("@{id} write only this; @{id} close"));
    client.expect("only this\n");
    client.end();
}

#[test]
fn what_the_operator_did_not_name_is_denied() {
    let files = Files::new("names", 10);
    let mut plugin = files.start();
    assert_eq!(plugin.ask("size in"), "10");
    assert_eq!(plugin.ask("size /etc/passwd"), "denied");
    assert_eq!(plugin.ask("size ../in"), "denied");
}

#[test]
fn close_waits_for_the_file() {
    let files = Files::new("close", 20_000_000);
    let mut plugin = files.start();
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    plugin.run(&format!(
        "@{id} send-file in 0 - -; @{id} write end; @{id} close"
    ));
    plugin.settle();
    assert!(!plugin.has_event(&format!("lost {id}")));
    assert!(client.bytes(20_000_000) == pattern(0, 20_000_000));
    client.expect("end\n");
    client.end();
    assert_eq!(plugin.event(&format!("lost {id}")), "closed-here");
}

#[test]
fn progress_is_told_and_a_cancel_stops_it_where_it_is() {
    let files = Files::new("cancel", 50_000_000);
    let mut plugin = files.start();
    let (client, id) = plugin.connect();
    let mut client = client.with_small_buffer();
    let operation = plugin.started(&format!("@{id} send-file in 0 - -"));
    // The client reads nothing: what has moved is what the kernel holds.
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    while plugin.number(&format!("progress {operation}")) == 0 {
        assert!(Instant::now() < deadline, "nothing moves");
    }
    plugin.run(&format!(
        "cancel {operation}; @{id} write stopped; @{id} close"
    ));
    let (received, _) = client.rest();
    assert!(received.ends_with(b"stopped\n"));
    let sent = received.len() - 8;
    assert!(sent > 0 && sent < 50_000_000, "{sent}");
    assert!(received[..sent] == pattern(0, sent));
    assert_eq!(plugin.ask(&format!("progress {operation}")), "none");
    plugin.settle();
    assert!(!plugin.has_event(&format!("completed {operation}")));
}

#[test]
fn a_rate_is_kept() {
    let files = Files::new("rate", 300_000);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect();
    let start = Instant::now();
    plugin.run(&format!("@{id} send-file in 0 - 500000"));
    assert!(client.bytes(300_000) == pattern(0, 300_000));
    let time = start.elapsed();
    // 0.6 s, less the bucket of a twentieth of a second.
    assert!(time > Duration::from_millis(500), "{time:?}");
    assert!(time < Duration::from_secs(6), "{time:?}");
}

#[test]
fn a_peer_that_goes_away_ends_it() {
    let files = Files::new("reset", 50_000_000);
    let mut plugin = files.start();
    let (client, id) = plugin.connect();
    let operation = plugin.started(&format!(
        "@{id} send-file in 0 - -; @{id} send-file in 0 - -"
    ));
    client.kill();
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error closed"), "{outcome}");
    let second = plugin.event("completed");
    assert!(second.contains("error closed"), "{second}");
    plugin.event(&format!("lost {id} reset"));
}

// Connections to files.

#[test]
fn what_comes_goes_to_the_file_and_what_comes_after_it_to_the_session() {
    let files = Files::new("receive", 0);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect_with("mode traced");
    let operation = plugin.started(&format!("@{id} receive-file out 0 1000000 -"));
    client.send(pattern(0, 1_000_005));
    assert_eq!(
        plugin.event(&format!("completed {operation}")),
        "number 1000000"
    );
    assert_eq!(plugin.event(&format!("data {id}")), "5");
    assert!(read(&files.out()) == pattern(0, 1_000_000));
    // Again, to another place.
    let operation = plugin.started(&format!("@{id} receive-file out 1000000 7 -"));
    client.send("seven.!");
    assert_eq!(plugin.event(&format!("completed {operation}")), "number 7");
    assert_eq!(&read(&files.out())[1_000_000..], b"seven.!");
}

#[test]
fn without_a_length_it_receives_until_the_end() {
    let files = Files::new("to-end", 0);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect_with("mode traced & stay");
    let operation = plugin.started(&format!("@{id} receive-file out 0 - -"));
    client.send(pattern(0, 3_000_000));
    client.close_write();
    assert_eq!(
        plugin.event(&format!("completed {operation}")),
        "number 3000000"
    );
    plugin.event(&format!("read-closed {id}"));
    assert!(!plugin.has_event(&format!("data {id}")));
    assert!(read(&files.out()) == pattern(0, 3_000_000));
}

#[test]
fn only_a_granted_mode_and_one_taker_at_a_time() {
    let files = Files::new("modes", 10);
    let mut plugin = files.start();
    let (_client, id) = plugin.connect();
    let operation = plugin.started(&format!("@{id} receive-file in 0 - -"));
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error denied"), "{outcome}");
    plugin.started(&format!("@{id} receive-file out 0 - -"));
    for second in [
        "receive-file out 0 - -".to_owned(),
        format!("splice {id} 0 - -"),
    ] {
        let operation = plugin.started(&format!("@{id} {second}"));
        let outcome = plugin.event(&format!("completed {operation}"));
        assert!(outcome.starts_with("error busy"), "{outcome}");
    }
}

#[test]
fn a_connection_that_is_reset_ends_it() {
    let files = Files::new("receive-reset", 0);
    let mut plugin = files.start();
    let (client, id) = plugin.connect();
    let operation = plugin.started(&format!("@{id} receive-file out 0 - -"));
    client.kill();
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error reset"), "{outcome}");
}

#[test]
fn a_cancelled_receive_gives_the_bytes_to_the_session_again() {
    let files = Files::new("receive-cancel", 0);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect_with("mode traced");
    let operation = plugin.started(&format!("@{id} receive-file out 0 - -"));
    client.send("to the file");
    let deadline = Instant::now() + nethost_tests::DEADLINE;
    while plugin.number(&format!("progress {operation}")) < 11 {
        assert!(Instant::now() < deadline, "nothing moves");
    }
    plugin.run(&format!("cancel {operation}"));
    plugin.settle();
    client.send("to the session");
    assert_eq!(plugin.event(&format!("data {id}")), "14");
    assert_eq!(read(&files.out()), b"to the file");
}

// Connections to connections.

#[test]
fn two_connections_are_joined_in_both_directions() {
    let mut plugin = Scripted::start();
    let (mut left, a) = plugin.connect_with("mode traced & stay");
    let (mut right, b) = plugin.connect_with("mode traced & stay");
    let there = plugin.started(&format!("@{a} splice {b} 0 - -"));
    let back = plugin.started(&format!("@{b} splice {a} 0 - -"));
    let sender = {
        let mut left = left.another();
        std::thread::spawn(move || {
            left.send(pattern(0, 3_000_000));
            left.close_write();
        })
    };
    right.send(pattern(7, 2_000_000));
    right.close_write();
    assert!(right.bytes(3_000_000) == pattern(0, 3_000_000));
    assert!(left.bytes(2_000_000) == pattern(7, 2_000_000));
    sender.join().unwrap();
    assert_eq!(
        plugin.event(&format!("completed {there}")),
        "number 3000000"
    );
    assert_eq!(plugin.event(&format!("completed {back}")), "number 2000000");
    plugin.event(&format!("read-closed {a}"));
    plugin.event(&format!("read-closed {b}"));
    assert!(!plugin.has_event(&format!("data {a}")));
    // Nothing was closed by itself.
    plugin.run(&format!(
        "@{a} write bye; @{b} write bye; @{a} close; @{b} close"
    ));
    for client in [&mut left, &mut right] {
        client.expect("bye\n");
        client.end();
    }
}

#[test]
fn a_length_is_kept_and_the_rest_is_the_sessions() {
    let mut plugin = Scripted::start();
    let (mut source, a) = plugin.connect_with("mode traced");
    let (mut sink, b) = plugin.connect();
    let operation = plugin.started(&format!(
        "@{b} write before; @{a} splice {b} 0 100000 -; @{b} write after"
    ));
    source.send(pattern(0, 100_009));
    sink.expect("before\n");
    assert!(sink.bytes(100_000) == pattern(0, 100_000));
    sink.expect("after\n");
    assert_eq!(
        plugin.event(&format!("completed {operation}")),
        "number 100000"
    );
    assert_eq!(plugin.event(&format!("data {a}")), "9");
}

#[test]
fn a_reader_that_stands_still_holds_the_source() {
    let mut plugin = Scripted::start();
    let (mut source, a) = plugin.connect();
    let (sink, b) = plugin.connect();
    let mut sink = sink.with_small_buffer();
    plugin.started(&format!("@{a} splice {b} 0 - -"));
    let sent = source.send_until_blocked(64 << 20);
    assert!(sent < 64 << 20, "somebody took everything");
    source.close_write();
    let received = sink.bytes(sent);
    assert!(received.iter().all(|byte| *byte == b'.'));
}

#[test]
fn a_destination_that_goes_away_gives_the_bytes_to_the_session_again() {
    let mut plugin = Scripted::start();
    let (mut source, a) = plugin.connect_with("mode traced");
    let (sink, b) = plugin.connect();
    let operation = plugin.started(&format!("@{a} splice {b} 0 - -"));
    sink.kill();
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error closed"), "{outcome}");
    source.send("mine again");
    assert_eq!(plugin.event(&format!("data {a}")), "10");
}

#[test]
fn a_source_that_is_reset_ends_it_and_the_destination_goes_on() {
    let mut plugin = Scripted::start();
    let (source, a) = plugin.connect();
    let (mut sink, b) = plugin.connect();
    let operation = plugin.started(&format!("@{a} splice {b} 0 - -"));
    source.kill();
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error reset"), "{outcome}");
    plugin.run(&format!("@{b} write still here"));
    sink.expect("still here\n");
}

#[test]
fn a_splice_keeps_its_rate() {
    let mut plugin = Scripted::start();
    let (mut source, a) = plugin.connect();
    let (mut sink, b) = plugin.connect();
    plugin.started(&format!("@{a} splice {b} 0 - 500000"));
    let start = Instant::now();
    source.send(pattern(0, 300_000));
    assert!(sink.bytes(300_000) == pattern(0, 300_000));
    let time = start.elapsed();
    assert!(time > Duration::from_millis(500), "{time:?}");
}

#[test]
fn a_destination_that_breaks_while_it_is_behind_frees_the_source() {
    let mut plugin = Scripted::start();
    let (mut source, a) = plugin.connect_with("mode traced");
    let (sink, b) = plugin.connect();
    let sink = sink.with_small_buffer();
    let operation = plugin.started(&format!("@{a} splice {b} 0 - -"));
    source.send_until_blocked(64 << 20);
    sink.kill();
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error closed"), "{outcome}");
    // What waited in the kernel is the session's.
    plugin.event(&format!("data {a}"));
}

#[test]
fn a_connection_is_not_spliced_to_itself() {
    let mut plugin = Scripted::start();
    let (_client, id) = plugin.connect();
    let operation = plugin.started(&format!("@{id} splice {id} 0 - -"));
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error invalid"), "{outcome}");
}

#[test]
fn what_was_cancelled_does_not_stand_in_the_way() {
    let files = Files::new("again", 0);
    let mut plugin = files.start();
    let (mut client, id) = plugin.connect_with("mode traced & pause");
    let operation = plugin.started(&format!("@{id} receive-file out 0 - -"));
    let again = plugin.started(&format!(
        "cancel {operation}; @{id} resume; @{id} receive-file out 0 5 -"
    ));
    client.send("again");
    assert_eq!(plugin.event(&format!("completed {again}")), "number 5");
    assert_eq!(read(&files.out()), b"again");
}

#[test]
fn only_so_much_is_queued_and_cancelling_makes_no_room() {
    let files = Files::new("queue", 50_000_000);
    let mut plugin = files.start();
    let (client, id) = plugin.connect();
    let _client = client.with_small_buffer();
    // The peer reads nothing, and so the first is not done.
    plugin.started(&format!("@{id} send-file in 0 - -"));
    for _ in 1..64 {
        let operation = plugin.started(&format!("@{id} send-file in 0 - -"));
        plugin.run(&format!("cancel {operation}"));
    }
    let operation = plugin.started(&format!("@{id} send-file in 0 - -"));
    let outcome = plugin.event(&format!("completed {operation}"));
    assert!(outcome.starts_with("error limit"), "{outcome}");
}

// Under TLS.

/// A host whose guest dials the host's own TLS listener: both ends of one connection are the guest's, and each is spliced or filled as a test likes.
struct Secured {
    plugin: Scripted,
    /// The server's end.
    server: u64,
    /// The client's end.
    client: u64,
}

impl Secured {
    fn start(files: &Files) -> Self {
        let authority = Authority::new("bulk");
        let ca = authority.write(&files.folder.join("ca.pem"));
        let cert = authority.issue_to(&files.folder.join("localhost.pem"), &["localhost"]);
        let mut plugin = Scripted::start_with(|run| {
            run.listen("tcp://127.0.0.1:0")
                .listen(&format!("tls://127.0.0.1:0?cert={}", cert.display()))
                .arguments(["--allow-connect", "localhost:*", "--tls-ca"])
                .arguments([ca])
                .arguments(["--file", &files.grant("in", "")])
                .arguments(["--file", &files.grant("out", ":rw")])
        });
        let port = plugin.host.address_of(1).port();
        let operation = plugin.started(&format!("connect tls://localhost:{port} "));
        let (one, other) = (plugin.event("made "), plugin.event("made "));
        assert_eq!(plugin.event(&format!("completed {operation}")), "ok");
        let id = |made: &str| {
            made.split(' ')
                .next()
                .and_then(|id| id.parse().ok())
                .expect("an id")
        };
        let (server, client) = if one.contains("dialed") {
            (id(&other), id(&one))
        } else {
            (id(&one), id(&other))
        };
        Self {
            plugin,
            server,
            client,
        }
    }
}

#[test]
fn a_file_goes_through_tls_and_close_waits_for_all_of_it() {
    let files = Files::new("tls-send", 20_000_000);
    let Secured {
        mut plugin,
        server,
        client,
    } = Secured::start(&files);
    let (reader, plain) = plugin.connect();
    let mut reader = reader.with_small_buffer();
    let spliced = plugin.started(&format!("@{client} splice {plain} 0 - -"));
    let sent = plugin.started(&format!(
        "@{server} write head; @{server} send-file in 0 - -; @{server} write tail; @{server} close"
    ));
    plugin.settle();
    assert!(!plugin.has_event(&format!("lost {server}")));
    reader.expect("head\n");
    assert!(reader.bytes(20_000_000) == pattern(0, 20_000_000));
    reader.expect("tail\n");
    assert_eq!(
        plugin.event(&format!("completed {sent}")),
        "number 20000000"
    );
    assert_eq!(
        plugin.event(&format!("completed {spliced}")),
        "number 20000010"
    );
    // Both ends were closed in order: TLS's own end came, and the stream was not cut.
    assert_eq!(plugin.event(&format!("lost {client}")), "done");
    assert_eq!(plugin.event(&format!("lost {server}")), "closed-here");
}

#[test]
fn a_file_is_received_through_tls() {
    let files = Files::new("tls-receive", 0);
    let Secured {
        mut plugin,
        server,
        client,
    } = Secured::start(&files);
    let (mut writer, plain) = plugin.connect();
    let spliced = plugin.started(&format!("@{plain} splice {client} 0 - -"));
    let received = plugin.started(&format!("@{server} receive-file out 0 5000000 -"));
    writer.send(pattern(0, 5_000_003));
    writer.close_write();
    assert_eq!(
        plugin.event(&format!("completed {received}")),
        "number 5000000"
    );
    assert_eq!(
        plugin.event(&format!("completed {spliced}")),
        "number 5000003"
    );
    assert!(read(&files.out()) == pattern(0, 5_000_000));
}

#[test]
fn two_tls_ends_are_joined() {
    let files = Files::new("tls-both", 3_000_000);
    let Secured {
        mut plugin,
        server,
        client,
    } = Secured::start(&files);
    // What the server sends comes back to it, through its client.
    let (mut reader, plain) = plugin.connect();
    plugin.started(&format!("@{server} splice {plain} 0 - -"));
    plugin.run(&format!("@{client} mode echo"));
    plugin.started(&format!("@{server} send-file in 0 - -"));
    assert!(reader.bytes(3_000_000) == pattern(0, 3_000_000));
}
