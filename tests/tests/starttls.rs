//! STARTTLS over real sockets, in both roles, with Python's ssl and with openssl; and files through the SDK.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nethost::limits::Limits;
use nethost_tests::{
    client::Client,
    host::{Host, Run, nethost},
    places::{guest, plugin, root, scratch},
    service::Running,
};

/// A folder with `localhost.pem` and `localhost.key`.
fn certificate(name: &str) -> PathBuf {
    let folder = scratch(name);
    let ended = nethost(["cert", "self-signed", folder.to_str().unwrap(), "localhost"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    folder
}

fn server(certificate: &Path, options: &str) -> Host {
    let listen = format!("tcp://127.0.0.1:0?cert={}{options}", certificate.display());
    one_instance().listen(&listen).start()
}

fn one_instance() -> Run {
    Run::of(guest("starttls")).arguments(["--isolation", "service"])
}

fn python(mode: &str) -> Command {
    let mut command = Command::new("python3");
    let script = root().join("tests/clients/starttls.py");
    command.arg(script).arg(mode).stdin(Stdio::null());
    command
}

/// The script's `client` or `resume`, with the certificate as its trust.
fn python_client(
    mode: &str,
    host: &Host,
    certificate: &Path,
    options: &[&str],
    commands: &[&str],
) -> Command {
    let mut command = python(mode);
    command
        .args(options)
        .arg(host.address().port().to_string())
        .arg(certificate.join("localhost.pem"))
        .arg("localhost")
        .args(commands);
    command
}

/// Runs it, and returns the lines that it printed.
fn lines_of(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(str::to_owned).collect()
}

/// Has a connection in clear up to where the handshake would begin.
fn about_to_begin(host: &Host) -> Client {
    let mut client = host.connect();
    client.expect("220 starttls\r\n");
    client.say("STARTTLS");
    client.expect("220 go ahead\r\n");
    client
}

/// The value after `key=`.
fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let mut values = line
        .split(' ')
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    values
        .next()
        .unwrap_or_else(|| panic!("no {key} in `{line}`"))
}

// The server's side.

#[test]
fn python_secures_a_connection_and_the_plugin_knows_how() {
    let certificate = certificate("starttls-python");
    let host = server(&certificate, "&alpn=smtp");
    for (options, version, alpn) in [
        (&["-a", "smtp", "-v", "1.3"][..], "TLSv1.3", "smtp"),
        (&["-v", "1.2"], "TLSv1.2", "-"),
    ] {
        let commands = ["INFO", "ECHO hello", "COUNT"];
        let command = python_client("client", &host, &certificate, options, &commands);
        let lines = lines_of(command);
        for (key, expected) in [
            ("version", version),
            ("alpn", alpn),
            ("sni", "localhost"),
            ("resumed", "false"),
            ("from", "-"),
            ("certificates", "0"),
        ] {
            assert_eq!(value(&lines[0], key), expected, "{lines:?}");
        }
        // EHLO, STARTTLS, INFO and ECHO.
        assert_eq!(lines[1..], ["250 hello", "250 4"]);
    }
}

#[test]
fn openssl_secures_a_connection() {
    let certificate = certificate("starttls-openssl");
    let host = server(&certificate, "");
    let mut child = Command::new("openssl")
        .args(["s_client", "-starttls", "smtp", "-quiet", "-connect"])
        .arg(host.address().to_string())
        .args(["-servername", "localhost", "-verify_hostname", "localhost"])
        .args(["-verify_return_error", "-CAfile"])
        .arg(certificate.join("localhost.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"INFO\nECHO hello\nQUIT\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (printed, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{printed}{errors}");
    let info = printed.lines().find(|line| line.starts_with("250 id="));
    let info = info.unwrap_or_else(|| panic!("{printed}{errors}"));
    assert_eq!(value(info, "sni"), "localhost");
    assert!(
        printed.ends_with("250 hello\r\n221 bye\r\n"),
        "{printed}{errors}"
    );
    drop(stdin);
}

#[test]
fn a_session_that_is_resumed_is_known() {
    let certificate = certificate("starttls-resume");
    let host = server(&certificate, "");
    // As the contract says: rustls 0.23 keeps the ticket's data only in TLS 1.3, so that with 1.2 it is known that a session was resumed, and not whose.
    for (version, is_from_known) in [("1.3", true), ("1.2", false)] {
        let options = ["-v", version];
        let command = python_client("resume", &host, &certificate, &options, &[]);
        let lines = lines_of(command);
        assert_eq!(value(&lines[0], "resumed"), "false", "{version}");
        assert_eq!(value(&lines[1], "resumed"), "true", "{version}");
        let first = if is_from_known {
            value(&lines[0], "id")
        } else {
            "-"
        };
        assert_eq!(value(&lines[1], "from"), first, "{version}");
    }
}

#[test]
fn what_was_injected_before_tls_does_not_run() {
    let certificate = certificate("starttls-injection");
    let host = server(&certificate, "");
    let injected = ["-i", "ECHO evil\r\nECHO ev"];
    let commands = ["COUNT", "ECHO good", "COUNT"];
    let command = python_client("client", &host, &certificate, &injected, &commands);
    let lines = lines_of(command);
    // EHLO and STARTTLS: had the injected command run there would be one more, and `evil` before it.
    assert_eq!(lines, ["250 2", "250 good", "250 4"]);
}

#[test]
fn garbage_in_place_of_a_handshake_ends_the_connection() {
    let certificate = certificate("starttls-garbage");
    let host = server(&certificate, "");
    let mut client = about_to_begin(&host);
    // A command that comes too late to be discarded is no handshake.
    client.say("ECHO evil");
    let (rest, _) = client.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!rest.contains("evil"), "{rest}");
    host.logged(&["lost: TLS failed"]);
}

#[test]
fn who_never_begins_the_handshake_is_closed() {
    let certificate = certificate("starttls-silent");
    let limits = Limits {
        handshake_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let listen = format!("tcp://127.0.0.1:0?cert={}", certificate.display());
    let service = Running::limited_on(limits, &[&listen], &guest("starttls"));
    let mut client = service.connect();
    client.expect("220 starttls\r\n");
    client.say("STARTTLS");
    client.expect("220 go ahead\r\n");
    let start = Instant::now();
    client.rest();
    let waited = start.elapsed();
    let expected = Duration::from_millis(200)..Duration::from_secs(8);
    assert!(expected.contains(&waited), "closed after {waited:?}");
}

#[test]
fn a_listener_without_a_certificate_cannot_secure() {
    let host = one_instance().start();
    let mut client = about_to_begin(&host);
    client.end();
    host.logged(&["not secured: unsupported", "cert="]);
}

#[test]
fn a_connection_is_secured_once() {
    let certificate = certificate("starttls-twice");
    let host = server(&certificate, "");
    let command = python_client("client", &host, &certificate, &[], &["STARTTLS"]);
    assert_eq!(lines_of(command), ["220 go ahead"]);
    host.logged(&["not secured: invalid"]);
}

// The client's side.

/// A host that may dial, and trusts this certificate.
fn dialer(certificate: Option<&Path>) -> Host {
    let mut run = one_instance().arguments(["--allow-connect", "127.0.0.1:*"]);
    if let Some(certificate) = certificate {
        let file = certificate.join("localhost.pem");
        run = run.arguments(["--tls-ca", file.to_str().unwrap()]);
    }
    run.start()
}

fn dial(host: &Host, port: u16, name: &str) -> String {
    let mut client = host.connect();
    client.expect("220 starttls\r\n");
    client.say(&format!("DIAL tcp://127.0.0.1:{port} {name}"));
    client.line()
}

#[test]
fn a_host_dials_another_and_checks_its_name() {
    let certificate = certificate("starttls-dial");
    let server = server(&certificate, "");
    let port = server.address().port();
    let trusting = dialer(Some(&certificate));
    let line = dial(&trusting, port, "localhost");
    assert!(line.starts_with("250 version=TLSv1.3 "), "{line}");
    assert!(line.ends_with(" 250 hello"), "{line}");
    assert_eq!(value(&line, "certificates"), "1");
    assert_ne!(value(&line, "first"), "0");
    // A name that the certificate has not, one that is none, and a host that does not trust it.
    for (host, name) in [
        (&trusting, "example.net"),
        (&trusting, "not a name"),
        (&dialer(None), "localhost"),
    ] {
        let line = dial(host, port, name);
        assert!(line.starts_with("550 "), "{name}: {line}");
        assert!(!line.contains("hello"), "{name}: {line}");
    }
    // It is still there.
    let line = dial(&trusting, port, "localhost");
    assert!(line.ends_with(" 250 hello"), "{line}");
}

/// The script's server; killed when this is dropped.
struct PythonServer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl PythonServer {
    fn start(certificate: &Path) -> Self {
        let mut command = python("server");
        for file in ["localhost.pem", "localhost.key"] {
            command.arg(certificate.join(file));
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        // It ends only so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_host_dials_python_and_checks_its_name() {
    let certificate = certificate("starttls-dial-python");
    let mut server = PythonServer::start(&certificate);
    let port = server.line().parse().unwrap();
    let host = dialer(Some(&certificate));
    let line = dial(&host, port, "localhost");
    assert!(line.ends_with(" 250 hello"), "{line}");
    assert_eq!(server.line(), "ECHO hello");
    let line = dial(&host, port, "example.net");
    assert!(line.starts_with("550 tls: "), "{line}");
    // It was told why, and nothing came through.
    let failed = server.line();
    assert!(failed.starts_with("failed: "), "{failed}");
}

// Files, through the SDK.

#[test]
fn files_are_sent_and_received_by_name() {
    let folder = scratch("starttls-files");
    fs::write(folder.join("data"), "0123456789").unwrap();
    let grant = |name: &str, mode: &str| {
        let path = folder.join(name);
        format!("{name}={}{mode}", path.display())
    };
    let host = one_instance()
        .arguments(["--file", &grant("data", "")])
        .arguments(["--file", &grant("log", ":rw")])
        .start();
    let mut client = host.connect();
    client.expect("220 starttls\r\n");
    client.say("SEND data");
    client.expect("250 10\r\n0123456789250 sent 10\r\n");
    client.say("RECEIVE log 5");
    client.expect("250 go ahead\r\n");
    client.send("abcdeECHO after\r\n");
    let mut answers = [client.line(), client.line()];
    answers.sort();
    assert_eq!(answers, ["250 after", "250 received 5"]);
    assert_eq!(fs::read(folder.join("log")).unwrap(), b"abcde");
    client.say("SEND other");
    let line = client.line();
    assert!(line.starts_with("550 denied: "), "{line}");
    client.say("RECEIVE data 5");
    client.expect("250 go ahead\r\n");
    let line = client.line();
    assert!(line.starts_with("550 denied: "), "{line}");
}

#[test]
fn a_plugin_imports_only_what_it_uses() {
    let imports = |component: &Path| {
        let ended = nethost(["inspect", component.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ["storage", "bulk"].map(|name| ended.output.contains(&format!("plugin/{name}@")))
    };
    assert_eq!(imports(&plugin("echo")), [false, false]);
    assert_eq!(imports(&guest("timers")), [false, false]);
    assert_eq!(imports(&guest("starttls")), [true, true]);
}
