//! Connections as streams, and plugins that are one `async` function.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{future::poll_fn, pin::Pin, time::Duration};

use nethost_sdk::{
    CloseReason, Config, Context, ErrorCode, Factory, HIGH_WATER, MAX_BUFFERED, Origin, Protocol,
    Serve, Served, Stream, after, spawn_for_instance, testing::Host, with_factory,
};

#[test]
fn an_async_function_serves_a_connection() {
    let (mut host, ann) = started();
    host.send(ann, b"hel");
    host.send(ann, b"lo\n");
    assert_eq!(host.received(ann), b"HELLO\n");
    host.close_write(ann);
    assert_eq!(host.received(ann), b"bye\n");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
    assert_eq!(notes(), ["end"]);
}

#[test]
fn a_lost_connection_is_an_error_to_the_reader() {
    let (mut host, ann) = started();
    host.reset(ann);
    assert_eq!(notes(), ["connection reset by peer"]);
}

#[test]
fn what_waits_for_something_else_is_dropped_with_the_connection() {
    let (mut host, ann) = started();
    host.send(ann, b"sleep\n");
    assert_eq!(host.timers(), 1);
    host.reset(ann);
    assert_eq!(host.timers(), 0);
    assert_eq!(notes(), ["dropped"]);
}

#[test]
fn a_reader_that_sleeps_pauses_its_peer() {
    let (mut host, ann) = started();
    host.send(ann, b"sleep\n");
    host.send(ann, &[b'x'; MAX_BUFFERED - 1]);
    assert!(!host.is_paused(ann));
    host.send(ann, b"y");
    assert!(host.is_paused(ann));
    host.send(ann, b"\n");
    host.advance(Duration::from_secs(60));
    assert!(!host.is_paused(ann));
    assert_eq!(
        host.received(ann),
        [&[b'X'; MAX_BUFFERED - 1][..], b"Y\n"].concat()
    );
}

#[test]
fn a_writer_waits_for_a_slow_peer() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"flood\n");
    assert_eq!(host.unsent(ann), HIGH_WATER);
    assert_eq!(notes(), [""; 0]);
    host.take(ann);
    assert_eq!(host.received(ann).len(), 1_000_000);
    assert_eq!(notes(), ["flooded"]);
}

#[test]
fn a_dialed_stream_goes_to_who_dialed_it() {
    let (mut host, ann) = started();
    host.send(ann, b"dial\n");
    let dial = host.dials()[0].0;
    let peer = host.accept(dial);
    assert_eq!(host.received(peer), b"PING\n");
    host.send(peer, b"PONG");
    host.close_write(peer);
    assert_eq!(notes(), ["PONG"]);
    assert_eq!(host.close_reason(peer), Some(CloseReason::ClosedHere));
}

#[test]
fn a_dial_that_fails_is_an_error_to_who_dialed() {
    let (mut host, ann) = started();
    host.send(ann, b"dial\n");
    let dial = host.dials()[0].0;
    host.fail(dial, ErrorCode::Denied);
    assert_eq!(notes(), ["denied"]);
}

#[test]
fn a_callback_protocol_dials_streams_too() {
    let mut host = Host::<Dialer>::start("{}").unwrap();
    let dial = host.dials()[0].0;
    let peer = host.accept(dial);
    assert_eq!(host.received(peer), b"PING\n");
    host.send(peer, b"PONG");
    host.reset(peer);
    assert_eq!(notes(), ["connection reset by peer"]);
}

#[test]
fn both_halves_are_used_through_the_traits_of_tokio_and_futures() {
    let (mut host, ann) = started();
    host.send(ann, b"traits\n");
    host.send(ann, b"abc");
    assert_eq!(host.received(ann), b"abc");
    assert!(host.is_ended(ann));
    assert_eq!(host.close_reason(ann), None);
}

struct Upper;

impl Serve for Upper {
    type Factory = Notes;

    async fn serve(mut stream: Stream, _origin: Origin) {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) if buffer[..read] == *b"sleep\n" => {
                    let _guard = OnDrop;
                    let _ = after(Duration::from_secs(60)).await;
                }
                Ok(read) if buffer[..read] == *b"flood\n" => {
                    stream.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
                    note("flooded");
                }
                Ok(read) if buffer[..read] == *b"dial\n" => dial().await,
                Ok(read) if buffer[..read] == *b"traits\n" => return traits(stream).await,
                Ok(read) => stream
                    .write_all(&buffer[..read].to_ascii_uppercase())
                    .await
                    .unwrap(),
                Err(error) => return note(&error.to_string()),
            }
        }
        stream.write_all(b"bye\n").await.unwrap();
        note("end");
    }
}

async fn dial() {
    match Stream::connect("tcp://example.net:1").await {
        Ok(mut stream) => {
            stream.write_all(b"PING\n").await.unwrap();
            let mut answer = Vec::new();
            let mut buffer = [0; 2];
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => break note(std::str::from_utf8(&answer).unwrap()),
                    Ok(read) => answer.extend_from_slice(&buffer[..read]),
                    Err(error) => break note(&error.to_string()),
                }
            }
        }
        Err(error) => note(&error.code.to_string()),
    }
}

/// Reads as futures do, writes as tokio does, and ends as futures do.
async fn traits(mut stream: Stream) {
    let mut buffer = [0; 16];
    let read =
        poll_fn(|cx| futures_io::AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut buffer))
            .await
            .unwrap();
    let written =
        poll_fn(|cx| tokio::io::AsyncWrite::poll_write(Pin::new(&mut stream), cx, &buffer[..read]))
            .await
            .unwrap();
    assert_eq!(written, read);
    poll_fn(|cx| futures_io::AsyncWrite::poll_close(Pin::new(&mut stream), cx))
        .await
        .unwrap();
    let mut left = tokio::io::ReadBuf::new(&mut buffer);
    poll_fn(|cx| tokio::io::AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut left))
        .await
        .unwrap();
}

/// A protocol that serves nobody, and dials when it is configured.
struct Dialer;

impl Protocol for Dialer {
    type Factory = Notes;

    fn connection_made(_cx: &mut Context<'_, Notes>, _origin: Origin) -> Option<Self> {
        panic!("a dialed stream is no session of the protocol");
    }

    fn data_received(&mut self, _cx: &mut Context<'_, Notes>, _data: &[u8]) {}
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Factory for Notes {
    fn configure(config: &Config) -> Result<Self, String> {
        if config.as_str() == "{}" {
            spawn_for_instance(dial()).detach();
        }
        Ok(Self::default())
    }
}

struct OnDrop;

impl Drop for OnDrop {
    fn drop(&mut self) {
        note("dropped");
    }
}

fn note(text: &str) {
    with_factory(|notes: &mut Notes| notes.0.push(text.to_owned()));
}

fn notes() -> Vec<String> {
    with_factory(|notes: &mut Notes| notes.0.clone())
}

fn started() -> (Host<Served<Upper>>, nethost_sdk::ConnectionId) {
    let mut host = Host::start("null").unwrap();
    let ann = host.connect();
    (host, ann)
}
