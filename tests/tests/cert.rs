//! `nethost cert self-signed`: what it writes, and that other implementations take it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nethost_tests::{
    host::{Ended, help_tells, nethost},
    places::scratch,
};
use serde_json::Value;

/// Runs `nethost cert self-signed DIR ARGUMENTS`.
fn self_signed(dir: &Path, arguments: &[&str]) -> Ended {
    let command = ["cert", "self-signed", dir.to_str().unwrap()];
    nethost(command.iter().chain(arguments))
}

#[track_caller]
fn made(dir: &Path, arguments: &[&str]) -> Ended {
    let ended = self_signed(dir, arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(ended.log, "");
    ended
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `cargo xtask setup`"))
}

/// Returns what openssl says of a certificate.
fn openssl(certificate: &Path, arguments: &[&str]) -> String {
    let mut all = vec!["x509", "-noout", "-in", certificate.to_str().unwrap()];
    all.extend(arguments);
    let output = run("openssl", &all);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn openssl_reads_what_was_asked_for() {
    let dir = scratch("cert-openssl");
    let names = ["irc.Example.net", "*.irc.example.net", "127.0.0.1", "::1"];
    let ended = made(&dir, &names);
    let certificate = dir.join("irc.example.net.pem");
    let key = dir.join("irc.example.net.key");
    let lines: Vec<_> = ended.output.lines().collect();
    assert!(
        lines[0].starts_with(&format!("wrote {} (certificate for", certificate.display())),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with(&format!("wrote {} ", key.display())),
        "{}",
        lines[1]
    );
    assert_eq!(
        lines[2],
        format!(
            "use it with: --listen 'tls://127.0.0.1:6697?cert={}'",
            dir.display()
        )
    );
    let text = openssl(&certificate, &["-text"]);
    for part in [
        "DNS:irc.example.net, DNS:*.irc.example.net, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
        "Public-Key: (256 bit)",
        "prime256v1",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Server Authentication",
        "Subject: CN = irc.example.net",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // 90 days: valid in 89, not in 91.
    for (days, expected) in [(89, "will not expire"), (91, "will expire")] {
        let seconds = (days * 86_400).to_string();
        let output = run(
            "openssl",
            &[
                "x509",
                "-noout",
                "-checkend",
                &seconds,
                "-in",
                certificate.to_str().unwrap(),
            ],
        );
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains(expected), "{days}: {told}");
    }
    // The key is the certificate's.
    let public = run(
        "openssl",
        &["pkey", "-pubout", "-in", key.to_str().unwrap()],
    );
    assert_eq!(
        String::from_utf8_lossy(&public.stdout),
        openssl(&certificate, &["-pubkey"])
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn it_is_its_own_trust_anchor() {
    let dir = scratch("cert-trust");
    made(&dir, &["localhost", "127.0.0.1"]);
    let certificate = dir.join("localhost.pem");
    let path = certificate.to_str().unwrap();
    for names in [
        ["-verify_hostname", "localhost"],
        ["-verify_ip", "127.0.0.1"],
    ] {
        let mut arguments = vec!["verify", "-x509_strict", "-purpose", "sslserver"];
        arguments.extend(names);
        arguments.extend(["-CAfile", path, path]);
        let output = run("openssl", &arguments);
        assert!(output.status.success(), "{output:?}");
    }
    // Python's own checks, and those that its newer versions switch on.
    let output = run(
        "python3",
        &[
            "-c",
            PYTHON,
            path,
            dir.join("localhost.key").to_str().unwrap(),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_key_is_its_owners_alone() {
    let dir = scratch("cert-mode").join("made/for/it");
    made(&dir, &["localhost"]);
    let mode = |name: &str| {
        let metadata = fs::metadata(dir.join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("localhost.key"), 0o600);
    assert_eq!(mode("localhost.pem") & 0o400, 0o400);
    // Whatever the old one's mode was.
    fs::set_permissions(dir.join("localhost.key"), fs::Permissions::from_mode(0o644)).unwrap();
    made(&dir, &["localhost", "--force"]);
    assert_eq!(mode("localhost.key"), 0o600);
    let names: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_is_there_is_replaced_only_by_force() {
    let dir = scratch("cert-force");
    for lost in ["localhost.pem", "localhost.key"] {
        made(&dir, &["localhost", "--force"]);
        fs::remove_file(dir.join(lost)).unwrap();
        let kept = if lost.ends_with("pem") {
            "localhost.key"
        } else {
            "localhost.pem"
        };
        let before = fs::read(dir.join(kept)).unwrap();
        let ended = self_signed(&dir, &["localhost"]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.log.contains(kept), "{}", ended.log);
        assert!(ended.log.contains("--force"), "{}", ended.log);
        assert_eq!(fs::read(dir.join(kept)).unwrap(), before);
        assert!(!dir.join(lost).exists());
    }
    made(&dir, &["localhost", "--force"]);
    let before = fs::read(dir.join("localhost.pem")).unwrap();
    made(&dir, &["localhost", "--force"]);
    assert_ne!(fs::read(dir.join("localhost.pem")).unwrap(), before);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn json_has_the_same() {
    let dir = scratch("cert json");
    let ended = made(&dir, &["*.example.net", "--json", "--days", "1"]);
    let told: Value = serde_json::from_str(&ended.output).unwrap();
    let certificate = dir.join("_.example.net.pem");
    assert_eq!(told["certificate"], certificate.to_str().unwrap());
    assert_eq!(told["key"], dir.join("_.example.net.key").to_str().unwrap());
    assert_eq!(told["names"], serde_json::json!(["*.example.net"]));
    assert_eq!(
        told["listen"],
        format!("tls://127.0.0.1:6697?cert={}", dir.display()).replace(' ', "+")
    );
    let until = openssl(&certificate, &["-enddate", "-dateopt", "iso_8601"]);
    let until = until.trim().strip_prefix("notAfter=").unwrap();
    assert!(
        until.starts_with(told["not_after"].as_str().unwrap()),
        "{until}"
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn mistakes_exit_2_and_name_it() {
    let dir = scratch("cert-mistakes");
    fs::write(dir.join("file"), "").unwrap();
    let file = dir.join("file");
    let cases: &[(&Path, &[&str], &str)] = &[
        (&dir, &[], "<NAME>"),
        (&dir, &["a b"], "a b"),
        (&dir, &["../x"], "../x"),
        (&dir, &["127.1"], "127.1"),
        (&dir, &["localhost", "--days", "0"], "--days"),
        (&dir, &["localhost", "--days", "4000"], "--days"),
        (&dir, &["localhost", "--dayz", "4"], "--dayz"),
        (&file, &["localhost"], "file"),
    ];
    for (dir, arguments, part) in cases {
        let ended = self_signed(dir, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.log);
        assert!(ended.log.contains(part), "{arguments:?}: {}", ended.log);
    }
    let ended = nethost(["cert"]);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("self-signed"), "{}", ended.log);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn help_tells_how_to_use_it() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--help"], &["cert"]),
        (&["cert", "--help"], &["self-signed"]),
        (
            &["cert", "self-signed", "--help"],
            &[
                "--days",
                "--force",
                "--json",
                "Examples",
                "?cert=certs",
                "mode 600",
                "90",
            ],
        ),
    ];
    help_tells(cases);
    let ended = nethost(["completions", "bash"]);
    assert!(ended.output.contains("self-signed"));
}

/// Shakes hands with itself in memory, as strictly as Python 3.13 does by default.
const PYTHON: &str = "\
import ssl, sys
certificate, key = sys.argv[1:]
server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server.load_cert_chain(certificate, key)
for name in 'localhost', '127.0.0.1':
    client = ssl.create_default_context(cafile=certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    done = set()
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    assert len(done) == 2, name
";
