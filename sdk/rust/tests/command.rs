//! Commands, natively.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::time::Duration;

use nethost_sdk::{
    DatagramContext, DatagramPeer, DatagramProtocol, Datagrams, FileOpening, HIGH_WATER, Origin,
    Stream, after,
    command::{
        self, Command, CommandOnly, ExitCode, Failure, Io, OutputKind, Progress, Signal, Signals,
        Unit,
    },
    testing::{Access, Grants, Host},
    try_join,
};

#[expect(unreachable_pub, reason = "the example is a crate of its own")]
#[path = "../examples/ask.rs"]
mod ask;

type Runs<C> = Host<CommandOnly<C>>;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_example_asks_and_prints_the_answer() {
    let mut host = Runs::<ask::Ask>::start("{}").unwrap();
    host.set_terminal(Some((80, 24)));
    host.run::<ask::Ask>(&["finger.example.org:79", "ann"]);
    let (dial, endpoint) = host.dials().remove(0);
    assert_eq!(endpoint, "tcp://finger.example.org:79");
    let peer = host.accept(dial);
    assert_eq!(host.received(peer), b"ann\r\n");
    assert_eq!(text(host.error_output()), "connected\n");
    host.send(peer, b"ann: writes servers\r\n");
    assert_eq!(text(host.output()), "ann: writes servers\r\n");
    assert_eq!(host.exit_code(), None);
    host.close_write(peer);
    assert_eq!(host.exit_code(), Some(0));
}

#[test]
fn the_example_fails_with_a_message() {
    let mut host = Runs::<ask::Ask>::start("{}").unwrap();
    host.run::<ask::Ask>(&["finger.example.org:79"]);
    assert_eq!(host.exit_code(), Some(2));
    assert!(text(host.error_output()).starts_with("usage: ask"));

    let mut host = Runs::<ask::Ask>::start("{}").unwrap();
    host.run::<ask::Ask>(&["finger.example.org:79", "ann"]);
    let (dial, _) = host.dials().remove(0);
    host.fail(dial, nethost_sdk::ErrorCode::Refused);
    assert_eq!(host.exit_code(), Some(1));
    assert_eq!(text(host.error_output()), "error: refused\n");
}

/// Copies standard input to standard output.
struct Cat;

impl Command for Cat {
    type Factory = ();

    async fn run(_arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        loop {
            let data = io.input.read().await?;
            if data.is_empty() {
                io.output.flush().await?;
                return Ok(ExitCode(7));
            }
            io.output.write_all(&data).await?;
        }
    }
}

#[test]
fn input_is_read_when_it_is_asked_for_and_output_waits_for_its_reader() {
    let mut host = Runs::<Cat>::start("{}").unwrap();
    host.input(b"one ");
    host.run::<Cat>(&[]);
    host.input(b"two");
    assert_eq!(host.output(), b"one two");
    assert!(host.is_reading_input());

    host.stall_output(OutputKind::Standard);
    host.input(&[b'x'; 3 * HIGH_WATER]);
    assert_eq!(host.unwritten(OutputKind::Standard), HIGH_WATER);
    assert!(!host.is_reading_input());
    host.end_input();
    host.resume_output(OutputKind::Standard);
    assert_eq!(host.output().len(), 3 * HIGH_WATER);
    assert_eq!(host.exit_code(), Some(7));
}

/// Copies a file to another, and shows how far it has come.
struct Copy;

impl Command for Copy {
    type Factory = ();

    async fn run(arguments: Vec<String>, _io: Io) -> Result<ExitCode, Failure> {
        let [from, to] = arguments.as_slice() else {
            return Err("two files are needed".into());
        };
        let from = command::open(from, FileOpening::Read).await?;
        let to = command::open(to, FileOpening::Replace).await?;
        let bar = Progress::new(Unit::Bytes, Some(from.size()?));
        bar.set_message("copying");
        let data = from.read_at(0, 1000).await?;
        to.append(&data).await?;
        bar.set(data.len() as u64);
        after(Duration::from_secs(1)).await?;
        bar.finish();
        Ok(ExitCode::SUCCESS)
    }
}

#[test]
fn files_that_arguments_name_are_opened_as_they_may_be() {
    let grants = || {
        Grants::new().file("in", Access::Read, b"inside").file(
            "out",
            Access::Write,
            b"something longer",
        )
    };
    let mut host = Runs::<Copy>::start_with("{}", grants()).unwrap();
    host.run::<Copy>(&["in", "out"]);
    assert_eq!(host.progress(), [(6, Some(6), "copying".to_owned())]);
    host.advance(Duration::from_secs(1));
    assert_eq!(host.exit_code(), Some(0));
    assert_eq!(host.file("out"), b"inside");
    assert_eq!(host.progress(), []);

    for (arguments, error) in [
        (["out", "in"], "to be read only"),
        (["in", "else"], "name no such file"),
        (["./in", "out"], "name no such file"),
    ] {
        let mut host = Runs::<Copy>::start_with("{}", grants()).unwrap();
        host.run::<Copy>(&arguments);
        let said = text(host.error_output());
        assert!(said.contains(error), "{arguments:?}: {said}");
    }
}

/// Waits for a signal, if it has an argument.
struct Wait;

impl Command for Wait {
    type Factory = ();

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        if arguments.is_empty() {
            after(Duration::from_secs(60)).await?;
        }
        let mut signals = Signals::new();
        let signal = signals.next().await;
        io.output.print(&format!("{signal:?}"));
        Ok(ExitCode(9))
    }
}

#[test]
fn a_signal_is_handled_by_who_waits_for_it() {
    let mut host = Runs::<Wait>::start("{}").unwrap();
    host.run::<Wait>(&[]);
    assert!(!host.signal(Signal::Interrupt));
    host.advance(Duration::from_secs(60));
    assert!(host.signal(Signal::Terminate));
    assert_eq!(host.output(), b"Signal::Terminate");
    assert_eq!(host.exit_code(), Some(9));
    // The last one has gone with its command.
    let mut host = Runs::<Wait>::start("{}").unwrap();
    host.run::<Wait>(&["now"]);
    assert_eq!(host.exit_code(), None);
    assert!(host.signal(Signal::Interrupt));
    assert_eq!(host.exit_code(), Some(9));
}

/// Sends a datagram until it is answered.
struct Query;

struct NoDatagrams;

impl DatagramProtocol for NoDatagrams {
    type Factory = ();

    fn endpoint_made(_cx: &mut DatagramContext<'_, ()>, origin: Origin) -> Self {
        panic!("the command's sockets are its own: {origin:?}")
    }

    fn datagrams_received(&mut self, _cx: &mut DatagramContext<'_, ()>, _: &Datagrams) {}
}

impl Command for Query {
    type Factory = ();

    async fn run(_arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let server = command::name_servers()[0];
        let mut peer = DatagramPeer::connect(&format!("udp://{server}")).await?;
        loop {
            peer.send(b"question");
            if let Some(answer) = peer.receive_within(Duration::from_secs(5)).await? {
                io.output.write_all(&answer).await?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

#[test]
fn datagrams_are_awaited_and_not_for_ever() {
    let server = "192.0.2.53:53".parse().unwrap();
    let mut host = Runs::<Query>::start("{}").unwrap();
    host.set_name_servers(&[server]);
    host.run::<Query>(&[]);
    let (dial, endpoint) = host.dials().remove(0);
    assert_eq!(endpoint, "udp://192.0.2.53:53");
    let socket = host.accept_datagrams::<NoDatagrams>(dial);
    assert_eq!(host.sent_datagrams(socket).len(), 1);
    host.advance(Duration::from_secs(5));
    assert_eq!(host.sent_datagrams(socket).len(), 1);
    let mut answers = Datagrams::new();
    answers.push(server, b"answer");
    host.send_datagrams(socket, &answers);
    assert_eq!(
        (host.output(), host.exit_code()),
        (b"answer".to_vec(), Some(0))
    );
    assert!(host.is_closed(socket));
}

/// Sends its input and prints what comes, at the same time.
struct Both;

impl Command for Both {
    type Factory = ();

    async fn run(_arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let mut stream = Stream::connect("tcp://a.test:1").await?;
        let (mut reader, mut writer) = stream.split();
        let send = async {
            let data = io.input.read_to_end(10).await?;
            writer.write_all(&data).await?;
            writer.shutdown();
            Ok::<_, Failure>(())
        };
        let print = async {
            let mut buffer = [0; 100];
            let count = reader.read(&mut buffer).await?;
            io.output.write_all(&buffer[..count]).await?;
            Ok(())
        };
        try_join(send, print).await?;
        Ok(ExitCode::SUCCESS)
    }
}

#[test]
fn both_directions_of_a_stream_go_at_the_same_time() {
    for (input, code) in [(b"12345".as_slice(), 0), (b"12345678901", 1)] {
        let mut host = Runs::<Both>::start("{}").unwrap();
        host.run::<Both>(&[]);
        let (dial, _) = host.dials().remove(0);
        let peer = host.accept(dial);
        host.send(peer, b"hello");
        assert_eq!(host.output(), b"hello");
        host.input(input);
        host.end_input();
        assert_eq!(host.exit_code(), Some(code));
        if code == 0 {
            assert_eq!(host.received(peer), input);
            assert!(host.is_ended(peer));
        }
    }
}
