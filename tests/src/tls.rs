//! Certificates, and the TLS clients of others: openssl, gnutls-cli, Python.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;

use crate::{DEADLINE, host::Lines, places::root};

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = key().and_then(|key| CertifiedIssuer::self_signed(params, key));
        Self(made.unwrap_or_else(|error| panic!("making an authority: {error}")))
    }

    /// Writes its own certificate.
    pub fn write(&self, path: &Path) -> PathBuf {
        replace(path, &self.0.pem());
        path.to_owned()
    }

    /// Signs a certificate for DNS names and addresses, whose subject is the first of them; returns it in PEM, its key first.
    pub fn issue(&self, names: &[&str]) -> String {
        let subject = names.first().copied().unwrap_or_default();
        let mut params = params(subject, names);
        params.use_authority_key_identifier_extension = true;
        let issued = key().and_then(|key| {
            let certificate = params.signed_by(&key, &self.0)?;
            Ok(key.serialize_pem() + &certificate.pem())
        });
        issued.unwrap_or_else(|error| panic!("issuing a certificate: {error}"))
    }

    /// Issues a certificate into a file, key and all, in the place of the one that is there.
    pub fn issue_to(&self, path: &Path, names: &[&str]) -> PathBuf {
        replace(path, &self.issue(names));
        path.to_owned()
    }
}

/// Puts a file in its place whole, as operators' tools do.
pub fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    let replaced = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    replaced.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn params(subject: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names);
    let mut params = params.unwrap_or_else(|error| panic!("{subject}: {error}"));
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, subject);
    params.distinguished_name = name;
    // Some 90 days around now: what has a strange validity is a finding of testssl.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = rcgen::date_time_ymd(1970, 1, 1) + now.unwrap_or_default();
    params.not_before = now - Duration::from_secs(86_400);
    params.not_after = now + Duration::from_secs(90 * 86_400);
    params
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// A TLS client of another implementation, which sends the lines that it is given and prints what comes back. It is killed when this is dropped.
#[derive(Debug)]
pub struct Talker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    goodbye: &'static str,
}

/// What a client said until its end.
#[derive(Debug)]
pub struct Said {
    /// Standard output, then standard error.
    pub text: String,
    /// Whether it ended well.
    pub success: bool,
}

impl Talker {
    /// Connects with `openssl s_client`. Without `-servername` among the arguments it asks for `localhost`.
    pub fn openssl(address: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &address.to_string()])
            .args(arguments);
        let is_named = |argument: &&str| matches!(*argument, "-servername" | "-noservername");
        if !arguments.iter().any(is_named) {
            command.args(["-servername", "localhost"]);
        }
        // A line that begins with Q ends it.
        Self::spawn(command, "Q\n")
    }

    /// Connects with `gnutls-cli`, which asks for `localhost`.
    pub fn gnutls(address: SocketAddr, ca: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("gnutls-cli");
        command
            .args(["--port", &address.port().to_string()])
            .args(["--sni-hostname", "localhost"])
            .args(["--verify-hostname", "localhost", "--x509cafile"])
            .arg(ca)
            .args(arguments)
            .arg(address.ip().to_string());
        Self::spawn(command, "")
    }

    fn spawn(mut command: Command, goodbye: &'static str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; run `cargo xtask setup`"));
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
            goodbye,
        }
    }

    /// Sends a line and waits until it comes back. False if the client ended instead.
    pub fn echoes(&mut self, line: &str) -> bool {
        let before = self.count(line);
        let sent = self.stdin.as_mut().is_some_and(|stdin| {
            stdin
                .write_all(format!("{line}\n").as_bytes())
                .and_then(|()| stdin.flush())
                .is_ok()
        });
        let deadline = Instant::now() + DEADLINE;
        while sent && self.count(line) == before {
            if !self.stdout.wait(deadline) {
                assert!(
                    Instant::now() < deadline,
                    "`{line}` did not come back:\n{}",
                    self.text()
                );
                return false;
            }
        }
        sent
    }

    /// Says goodbye and waits for the end.
    pub fn ended(mut self) -> Said {
        if let Some(mut stdin) = self.stdin.take() {
            // Who has ended already hears nothing.
            let _ = stdin.write_all(self.goodbye.as_bytes());
        }
        let deadline = Instant::now() + DEADLINE;
        while self.stdout.wait(deadline) || self.stderr.wait(deadline) {}
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return Said {
                        text: self.text(),
                        success: status.success(),
                    };
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                _ => panic!("it does not end:\n{}", self.text()),
            }
        }
    }

    /// Returns what it said so far.
    pub fn text(&self) -> String {
        let mut lines = self.stdout.all();
        lines.extend(self.stderr.all());
        lines.join("\n")
    }

    fn count(&self, line: &str) -> usize {
        // openssl writes what came past its own buffer, so that it may follow upon half a line.
        let lines = self.stdout.all();
        lines.iter().filter(|there| there.ends_with(line)).count()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // It is gone already if the test let it end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `tests/clients/tls_client.py` is told, and how it is run.
#[derive(Debug)]
pub struct Python(Value);

impl Python {
    /// Connects, sends 64 bytes, waits for their echo, and closes.
    pub fn connecting(address: SocketAddr, ca: &Path) -> Self {
        Self(serde_json::json!({
            "host": address.ip().to_string(),
            "port": address.port(),
            "ca": ca,
            "name": "localhost",
        }))
    }

    /// Sets something else; the script says what there is.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(object) = self.0.as_object_mut() {
            object.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Runs it, and returns what it says of each connection.
    pub fn run(&self) -> Vec<Value> {
        let output = run(
            "python3",
            [
                root().join("tests/clients/tls_client.py").as_os_str(),
                self.0.to_string().as_ref(),
            ],
        );
        let line = output.text.lines().next().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", output.text))
    }

    /// Runs it with one connection.
    pub fn once(&self) -> Value {
        self.run().pop().unwrap_or_default()
    }
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `cargo xtask setup`"));
    let text = [output.stdout, output.stderr].concat();
    Said {
        text: String::from_utf8_lossy(&text).into_owned(),
        success: output.status.success(),
    }
}
