//! TLS that begins in the middle of a dialogue, and what must not survive it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nethost_sdk::{
    CloseReason, Config, Connection, ConnectionId, Context, ErrorCode, Factory, MAX_BUFFERED,
    Origin, Protocol, Serve, Served, Stream, TlsInfo, TlsRole,
    framing::Lines,
    testing::{Host, Transcript, play_directory},
    with_factory,
};

#[test]
fn what_was_injected_before_tls_does_not_run() {
    // However it is cut, also within the command: the held part of a line is forgotten as well.
    let injected = b"STARTTLS\r\nEVIL\r\nEV";
    for at in 0..=injected.len() {
        let (mut host, ann) = started();
        host.send(ann, &injected[..at]);
        host.send(ann, &injected[at..]);
        assert_eq!(host.received(ann), b"220 go ahead\r\n", "cut at {at}");
        host.secure(ann, TlsInfo::default());
        host.send(ann, b"IL\r\n");
        assert_eq!(notes(), ["secured", "IL"], "cut at {at}");
    }
}

#[test]
fn a_session_that_goes_on_with_its_loop_runs_what_was_injected() {
    // What the test above would see.
    let (mut host, ann) = started();
    host.send(ann, b"CARELESS\r\nEVIL\r\n");
    assert_eq!(notes(), ["EVIL"]);
}

#[test]
fn a_stream_throws_away_what_it_had_not_read() {
    let mut host = Host::<Served<Task>>::start("{}").unwrap();
    let ann = host.connect();
    host.send(ann, b"STARTTLS\nEVIL\n");
    assert_eq!(host.received(ann), b"go\n");
    host.secure(ann, TlsInfo::default());
    host.send(ann, b"good\n");
    assert_eq!(notes(), ["good"]);
}

#[test]
fn a_full_stream_is_resumed_when_tls_starts() {
    let mut host = Host::<Served<Task>>::start("{}").unwrap();
    let ann = host.connect();
    host.send(ann, b"sleep\n");
    host.send(ann, &[b'x'; MAX_BUFFERED]);
    assert!(host.is_paused(ann));
    host.advance(std::time::Duration::from_secs(1));
    assert!(!host.is_paused(ann));
    host.secure(ann, TlsInfo::default());
    host.send(ann, b"good\n");
    assert_eq!(notes(), ["good"]);
}

#[test]
fn what_tls_led_to_is_told_while_it_lasts() {
    let (mut host, ann) = started();
    host.send(ann, b"TLS\r\nSTARTTLS\r\n");
    let info = TlsInfo {
        alpn: Some(b"smtp".to_vec()),
        server_name: Some("mail.example.net".into()),
        peer_certificates: vec![vec![0x30, 0x03]],
        resumed: true,
        resumed_from: Some(ConnectionId::from(7)),
        ..TlsInfo::default()
    };
    host.secure(ann, info.clone());
    host.send(ann, b"TLS\r\n");
    host.reset(ann);
    assert_eq!(
        notes(),
        [
            "None".to_owned(),
            "secured".into(),
            format!("{:?}", Some(info)),
            "lost connection reset by peer, None".into(),
        ]
    );
}

#[test]
fn what_is_written_later_waits_for_the_handshake() {
    let (mut host, ann) = started();
    host.stall(ann);
    host.send(ann, b"CLIENT example.net\r\n");
    // The word before it has not left.
    assert_eq!(host.handshakes(), []);
    assert_eq!(host.unsent(ann), 11);
    host.take(ann);
    assert_eq!(host.received(ann), b"begin\n");
    let handshakes = host.handshakes();
    assert_eq!(handshakes.len(), 1);
    assert_eq!(
        (handshakes[0].1, &handshakes[0].2),
        (ann, &TlsRole::client("example.net"))
    );
    host.secure(ann, TlsInfo::default());
    assert_eq!(host.received(ann), b"EHLO\n");
    assert_eq!(host.handshakes(), []);
}

#[test]
fn a_handshake_that_fails_ends_the_connection() {
    for (code, words) in [
        (ErrorCode::Other("tls".into()), "tls"),
        (ErrorCode::Timeout, "timeout"),
    ] {
        let (mut host, ann) = started();
        host.send(ann, b"STARTTLS\r\n");
        let handshake = host.handshakes()[0].0;
        host.fail(handshake, code.clone());
        assert_eq!(host.close_reason(ann), Some(CloseReason::Tls(words.into())));
        let lost = format!("lost TLS failed: {words}, None");
        assert_eq!(notes(), [format!("failed {code}"), lost]);
    }
}

#[test]
fn a_connection_that_cannot_be_secured_stays_as_it_is() {
    let (mut host, ann) = started();
    host.send(ann, b"STARTTLS\r\nEVIL\r\n");
    let handshake = host.handshakes()[0].0;
    host.fail(handshake, ErrorCode::Unsupported);
    host.send(ann, b"go on\r\n");
    assert_eq!(notes(), ["failed unsupported", "go on"]);
    assert_eq!(host.close_reason(ann), None);
}

#[test]
fn a_connection_is_secured_once() {
    let (mut host, ann) = started();
    host.send(ann, b"STARTTLS\r\n");
    host.secure(ann, TlsInfo::default());
    host.send(ann, b"STARTTLS\r\n");
    host.send(ann, b"go on\r\n");
    assert_eq!(notes(), ["secured", "failed invalid", "go on"]);
}

#[test]
fn a_connection_that_is_closing_is_not_secured() {
    let (mut host, ann) = started();
    host.send(ann, b"QUIT\r\n");
    assert_eq!(host.close_reason(ann), Some(CloseReason::ClosedHere));
    assert_eq!(notes(), ["failed closed", "lost closed here, None"]);
}

#[test]
fn dialogues_begin_tls() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/starttls");
    play_directory::<Session>(directory, "{}");
}

#[test]
fn a_dialogue_says_where_tls_is_not_begun() {
    let transcript = Transcript::parse("x.txt", "C: EHLO\nH:\n").unwrap();
    assert!(transcript.begins_tls());
    let folder = std::env::temp_dir().join(format!("nethost-sdk-starttls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("x.txt"), "C: EHLO\nS: 250 EHLO\nH:\n").unwrap();
    let played = std::panic::catch_unwind(|| play_directory::<Session>(&folder, "{}"));
    std::fs::remove_dir_all(&folder).unwrap();
    let message = played.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("x.txt:3") && message.contains("the server has not begun TLS"),
        "{message}"
    );
}

fn started() -> (Host<Session>, ConnectionId) {
    let mut host = Host::<Session>::start("{}").unwrap();
    let ann = host.connect();
    host.received(ann);
    (host, ann)
}

fn notes() -> Vec<String> {
    with_factory(|notes: &mut Notes| std::mem::take(&mut notes.0))
}

fn note(text: String) {
    with_factory(|notes: &mut Notes| notes.0.push(text));
}

struct Notes(Vec<String>);

impl Factory for Notes {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self(Vec::new()))
    }
}

struct Session {
    lines: Lines,
}

impl Protocol for Session {
    type Factory = Notes;

    fn connection_made(_cx: &mut Context<'_, Notes>, _origin: Origin) -> Option<Self> {
        Some(Self {
            lines: Lines::new(80),
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, Notes>, mut data: &[u8]) {
        while let Some(line) = self.lines.next(&mut data) {
            let line = String::from_utf8(line.unwrap().to_vec()).unwrap();
            match line.split_once(' ').unwrap_or((line.as_str(), "")) {
                ("STARTTLS", _) => {
                    cx.connection.write(b"220 go ahead\r\n");
                    secure(cx.connection, TlsRole::Server);
                    self.lines.clear();
                    return;
                }
                ("CARELESS", _) => secure(cx.connection, TlsRole::Server),
                ("CLIENT", name) => {
                    cx.connection.write(b"begin\n");
                    secure(cx.connection, TlsRole::client(name));
                    cx.connection.write(b"EHLO\n");
                    self.lines.clear();
                    return;
                }
                ("QUIT", _) => {
                    cx.connection.close();
                    secure(cx.connection, TlsRole::Server);
                }
                ("TLS", _) => cx.factory.0.push(format!("{:?}", cx.connection.tls())),
                ("EHLO", _) => {
                    cx.connection.write(b"250 EHLO\r\n");
                }
                _ => cx.factory.0.push(line),
            }
        }
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Notes>, reason: CloseReason) {
        let tls = cx.connection.tls();
        cx.factory.0.push(format!("lost {reason}, {tls:?}"));
    }
}

fn secure(connection: &Connection, role: TlsRole) {
    let secured = connection.start_tls(role);
    // It outlives the session, to tell what came of it.
    nethost_sdk::spawn_for_instance(async move {
        match secured.await {
            Ok(()) => note("secured".into()),
            Err(error) => note(format!("failed {}", error.code)),
        }
    })
    .detach();
}

struct Task;

impl Serve for Task {
    type Factory = Notes;

    async fn serve(mut stream: Stream, _origin: Origin) {
        let mut line = Vec::new();
        let mut byte = [0];
        while matches!(stream.read(&mut byte).await, Ok(1..)) {
            if byte != *b"\n" {
                line.push(byte[0]);
                continue;
            }
            match std::mem::take(&mut line).as_slice() {
                b"STARTTLS" => {
                    stream.write_all(b"go\n").await.unwrap();
                    stream.start_tls(TlsRole::Server).await.unwrap();
                }
                b"sleep" => {
                    let second = std::time::Duration::from_secs(1);
                    nethost_sdk::after(second).await.unwrap();
                    stream.start_tls(TlsRole::Server).await.unwrap();
                }
                other => note(String::from_utf8_lossy(other).into_owned()),
            }
        }
    }
}
