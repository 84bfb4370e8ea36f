//! The transcript player: what it finds, and how it says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use nethost_sdk::{
    Context, Origin, Protocol, after,
    framing::Lines,
    testing::{Chunking, Peer, Received, Transcript, play, play_directory},
    with_session,
};

#[test]
fn a_dialogue_is_played_in_every_chunking() {
    let transcript = Transcript::parse("x.txt", "C: ab\nS: AB\nC[bob]! c\\n\nS[bob]: C\n").unwrap();
    let chunkings: Vec<_> = Chunking::all(&transcript).collect();
    let expected: Vec<_> = std::iter::once(Chunking::Whole)
        .chain((1..6).map(Chunking::SplitAt))
        .chain(std::iter::once(Chunking::Bytes))
        .collect();
    assert_eq!(chunkings, expected);
}

#[test]
fn pieces_are_cut_where_the_chunking_says() {
    let transcript = Transcript::parse("x.txt", "C: a\nC: b\nC[bob]: c\n").unwrap();
    let cases = [
        (Chunking::Whole, vec![": a\r\nb\r\n", "bob: c\r\n"]),
        (
            Chunking::SplitAt(2),
            vec![": a\r", ": \nb\r\n", "bob: c\r\n"],
        ),
        (Chunking::SplitAt(6), vec![": a\r\nb\r\n", "bob: c\r\n"]),
        (
            Chunking::SplitAt(8),
            vec![": a\r\nb\r\n", "bob: c\r", "bob: \n"],
        ),
        (
            Chunking::Bytes,
            vec![
                ": a", ": \r", ": \n", ": b", ": \r", ": \n", "bob: c", "bob: \r", "bob: \n",
            ],
        ),
    ];
    for (chunking, expected) in cases {
        let mut peer = Recorder::default();
        play(&transcript, chunking, &mut peer).unwrap();
        assert_eq!(peer.sent, expected, "{chunking}");
    }
}

#[test]
fn a_failure_shows_file_line_expected_and_got() {
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "S: hello",
            &["hallo\r\n"],
            "x.txt:1 (sent whole)\n  expected hello\n  got      hallo\\r\\n",
        ),
        (
            "S: {*} ok",
            &["a", " no\r\n"],
            "x.txt:1 (sent whole)\n  expected {*} ok\n  got      a no\\r\\n",
        ),
        (
            "S: hello",
            &["hello\n"],
            "x.txt:1 (sent whole)\n  expected hello\n  got      hello\\n",
        ),
        (
            "\nS: hello",
            &["hel"],
            "x.txt:2 (sent whole)\n  expected hello\n  got      hel, then nothing more",
        ),
        (
            "S: hello",
            &[],
            "x.txt:1 (sent whole)\n  expected hello\n  got      nothing more",
        ),
        (
            "S: hello",
            &["hel", ""],
            "x.txt:1 (sent whole)\n  expected hello\n  got      hel, then the end",
        ),
        (
            "S! a\\x00",
            &["a\u{1}b"],
            "x.txt:1 (sent whole)\n  expected a\\x00\n  got      a\\x01b",
        ),
        (
            "S! ab",
            &["a"],
            "x.txt:1 (sent whole)\n  expected ab\n  got      a, then nothing more",
        ),
        (
            "E:",
            &[],
            "x.txt:1 (sent whole)\n  expected the end\n  got      nothing, and it is open",
        ),
        (
            "E:",
            &["a"],
            "x.txt:1 (sent whole)\n  expected the end\n  got      a",
        ),
        (
            "S: a",
            &["a\r\nb\r\n"],
            "x.txt:1 (sent whole)\n  expected nothing more\n  got      b\\r\\n",
        ),
        (
            "T: 5s",
            &[],
            "x.txt:1 (sent whole)\n  expected time to pass\n  got      the clock cannot be moved by 5s here",
        ),
    ];
    for (text, received, expected) in cases {
        let transcript = Transcript::parse("x.txt", text).unwrap();
        let received = received.iter().map(|part| (*part).to_owned()).collect();
        let mut peer = Recorder {
            received,
            ..Recorder::default()
        };
        let failure = play(&transcript, Chunking::Whole, &mut peer).unwrap_err();
        assert_eq!(failure.to_string(), *expected);
    }
}

#[test]
fn a_directory_of_dialogues_is_played_natively() {
    play_directory::<Shout>(directory("good"), "{}");
}

#[test]
fn a_protocol_that_counts_on_whole_deliveries_is_found_out() {
    let message = panic_message(|| play_directory::<Careless>(directory("line"), "{}"));
    assert!(
        message.contains("hello.txt:3 (split after byte 1)\n  expected HELLO\n  got      H\\r\\n"),
        "{message}"
    );
}

#[test]
fn a_directory_without_dialogues_is_a_mistake() {
    let message = panic_message(|| play_directory::<Shout>(directory("good/nothing"), "{}"));
    assert!(message.contains("good/nothing: "), "{message}");
    let message = panic_message(|| play_directory::<Shout>(env!("CARGO_MANIFEST_DIR"), "{}"));
    assert!(message.starts_with("no transcript in "), "{message}");
}

/// Answers each line in capitals, and "late" a minute later.
struct Shout(Lines);

impl Protocol for Shout {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self(Lines::new(100)))
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, mut data: &[u8]) {
        let id = cx.id();
        while let Some(Ok(line)) = self.0.next(&mut data) {
            cx.connection
                .write(&[&line.to_ascii_uppercase(), &b"\r\n"[..]].concat());
            let late = after(Duration::from_secs(60));
            late.map(move |()| {
                with_session::<Self, _>(id, |_, cx| cx.connection.write(b"late\r\n"))
            })
            .detach();
        }
    }
}

/// Takes each delivery for a line.
struct Careless;

impl Protocol for Careless {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        cx.connection
            .write(&[&data.trim_ascii_end().to_ascii_uppercase(), &b"\r\n"[..]].concat());
    }
}

/// Records what is sent, and answers from a list; an empty answer is the end.
#[derive(Default)]
struct Recorder {
    sent: Vec<String>,
    received: VecDeque<String>,
}

impl Peer for Recorder {
    fn connect(&mut self, _client: &str) -> Result<(), String> {
        Ok(())
    }

    fn send(&mut self, client: &str, data: &[u8]) -> Result<(), String> {
        self.sent
            .push(format!("{client}: {}", std::str::from_utf8(data).unwrap()));
        Ok(())
    }

    fn receive(&mut self, _client: &str) -> Result<Received, String> {
        Ok(match self.received.pop_front() {
            None => Received::Nothing,
            Some(text) if text.is_empty() => Received::End,
            Some(text) => Received::Bytes(text.into_bytes()),
        })
    }

    fn close(&mut self, _client: &str) -> Result<(), String> {
        Ok(())
    }
}

fn panic_message(call: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

fn directory(name: &str) -> String {
    format!("{}/tests/transcripts/{name}", env!("CARGO_MANIFEST_DIR"))
}
