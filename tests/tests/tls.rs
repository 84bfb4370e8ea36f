//! TLS listeners, with the clients of others: openssl, GnuTLS, Python, and testssl.sh.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use nethost_tests::{
    client::Client,
    host::{Host, Run, nethost},
    places::{plugin, scratch},
    scripted::Scripted,
    tls::{Authority, Python, Talker, replace, run},
};
use rustix::process::Signal;
use serde_json::{Value, json};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// A folder with an authority that clients trust, and a certificate of it for `localhost`.
struct Place {
    folder: PathBuf,
    authority: Authority,
    ca: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = scratch(&format!("tls-{name}"));
        fs::create_dir(folder.join("certs")).unwrap();
        let authority = Authority::new("tests");
        let ca = authority.write(&folder.join("ca.pem"));
        let this = Self {
            folder,
            authority,
            ca,
        };
        this.issue("localhost.pem", &["localhost", "127.0.0.1"]);
        this
    }

    /// Issues a certificate into the folder that is served.
    fn issue(&self, file: &str, names: &[&str]) {
        let path = self.folder.join("certs").join(file);
        self.authority.issue_to(&path, names);
    }

    /// Serves echo with the certificates of the folder, and more options.
    fn host(&self, options: &str) -> Host {
        Run::of(plugin("echo")).listen(&self.url(options)).start()
    }

    fn url(&self, options: &str) -> String {
        let certs = self.folder.join("certs");
        format!("tls://127.0.0.1:0?cert={}{options}", certs.display())
    }

    fn ca(&self) -> &str {
        self.ca.to_str().unwrap()
    }

    fn openssl(&self, host: &Host, arguments: &[&str]) -> Talker {
        let mut all = vec!["-CAfile", self.ca(), "-verify_return_error"];
        all.extend(arguments);
        Talker::openssl(host.address(), &all)
    }

    fn python(&self, host: &Host) -> Python {
        Python::connecting(host.address(), &self.ca)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn openssl_version(version: &str) -> &'static str {
    match version {
        "TLSv1.2" => "-tls1_2",
        _ => "-tls1_3",
    }
}

/// Returns the names of the certificate that a new connection gets.
fn shown(place: &Place, host: &Host) -> Value {
    let told = place.python(host).once();
    assert_eq!(told["echoed"], true, "{told}");
    told["names"].clone()
}

#[test]
fn the_ready_line_says_tls_and_the_log_names_the_certificates() {
    let place = Place::new("ready");
    let host = place.host("");
    let address = host.address();
    assert_eq!(host.listening(), [format!("tls://{address}")]);
    host.logged(&["loaded the certificates of localhost (until 20"]);
}

#[test]
fn openssl_talks_in_both_versions() {
    let place = Place::new("openssl");
    let host = place.host("");
    for version in VERSIONS {
        let mut talker = place.openssl(&host, &[openssl_version(version)]);
        for line in ["hello", "and more"] {
            assert!(talker.echoes(line), "{}", talker.text());
        }
        let said = talker.ended();
        assert!(said.success, "{}", said.text);
        for part in [
            format!("New, {version}, Cipher is "),
            "Verify return code: 0 (ok)".to_owned(),
            "subject=CN = localhost".to_owned(),
        ] {
            assert!(said.text.contains(&part), "no {part} in {}", said.text);
        }
    }
    // What came before is refused.
    for old in ["-tls1", "-tls1_1"] {
        let said = place
            .openssl(&host, &[old, "-cipher", "ALL:@SECLEVEL=0"])
            .ended();
        assert!(!said.success, "{}", said.text);
        assert!(said.text.contains("SSL alert number"), "{}", said.text);
    }
}

#[test]
fn gnutls_talks_in_both_versions() {
    let place = Place::new("gnutls");
    let host = place.host("");
    for (priority, version) in [
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "(TLS1.2-"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "(TLS1.3-"),
    ] {
        let arguments = ["--priority", priority];
        let mut talker = Talker::gnutls(host.address(), &place.ca, &arguments);
        assert!(talker.echoes("hello"), "{}", talker.text());
        let said = talker.ended();
        assert!(said.success, "{}", said.text);
        for part in ["- Status: The certificate is trusted.", version] {
            assert!(said.text.contains(part), "no {part} in {}", said.text);
        }
        // The same again, resumed.
        let arguments = ["--priority", priority, "--resume", "--waitresumption"];
        let mut talker = Talker::gnutls(host.address(), &place.ca, &arguments);
        assert!(talker.echoes("hello"), "{}", talker.text());
        let said = talker.ended();
        assert!(
            said.text.contains("*** This is a resumed session"),
            "{}",
            said.text
        );
    }
}

#[test]
fn python_moves_much_in_both_versions_and_says_goodbye() {
    let place = Place::new("python");
    let host = place.host("");
    for version in VERSIONS {
        // Both sides are busy at once, and records are cut anywhere.
        for size in [0, 1, 16_384, 16_385, 5_000_000] {
            let told = place
                .python(&host)
                .with("version", version)
                .with("size", size)
                .once();
            assert_eq!(told["echoed"], true, "{size}: {told}");
            assert_eq!(told["version"], version);
            assert_eq!(told["names"], json!(["localhost", "127.0.0.1"]));
        }
    }
}

#[test]
fn the_name_chooses_the_certificate() {
    let place = Place::new("sni");
    place.issue("other.pem", &["other.example", "*.wild.example"]);
    fs::create_dir(place.folder.join("certs/live")).unwrap();
    place.issue("live/fullchain.pem", &["live.example"]);
    let live = place.folder.join("certs/live");
    fs::copy(live.join("fullchain.pem"), live.join("privkey.pem")).unwrap();
    let host = place.host("");
    // The first is the default; `live/fullchain.pem` comes before `localhost.pem`.
    for (arguments, subject) in [
        (&["-servername", "localhost"][..], "localhost"),
        (&["-servername", "other.example"], "other.example"),
        (&["-servername", "OTHER.example"], "other.example"),
        (&["-servername", "a.wild.example"], "other.example"),
        (&["-servername", "live.example"], "live.example"),
        (&["-servername", "a.b.wild.example"], "live.example"),
        (&["-servername", "unknown.example"], "live.example"),
        (&["-noservername"], "live.example"),
    ] {
        for version in VERSIONS {
            let mut arguments = arguments.to_vec();
            arguments.push(openssl_version(version));
            let mut talker = place.openssl(&host, &arguments);
            assert!(talker.echoes("hello"), "{}", talker.text());
            let said = talker.ended();
            let expected = format!("subject=CN = {subject}\n");
            assert!(
                said.text.contains(&expected),
                "{arguments:?}: {}",
                said.text
            );
        }
    }
}

#[test]
fn sessions_are_resumed() {
    let place = Place::new("resumption");
    let host = place.host("");
    for version in VERSIONS {
        let session = place.folder.join("session");
        let session = session.to_str().unwrap();
        for (option, expected) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
            let mut talker = place.openssl(&host, &[openssl_version(version), option, session]);
            assert!(talker.echoes("hello"), "{}", talker.text());
            let said = talker.ended();
            let expected = format!("{expected}{version}, ");
            assert!(said.text.contains(&expected), "{}", said.text);
        }
        let told = place
            .python(&host)
            .with("version", version)
            .with("times", 3)
            .run();
        let resumed: Vec<_> = told.iter().map(|one| one["resumed"].clone()).collect();
        assert_eq!(
            resumed,
            [json!(false), json!(true), json!(true)],
            "{told:?}"
        );
    }
    // Without tickets, by the session's id: TLS 1.2 alone has it.
    let session = place.folder.join("session");
    let session = session.to_str().unwrap();
    for (option, expected) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
        let mut talker = place.openssl(&host, &["-tls1_2", "-no_ticket", option, session]);
        assert!(talker.echoes("hello"), "{}", talker.text());
        let said = talker.ended();
        assert!(said.text.contains(expected), "{}", said.text);
    }
}

#[test]
fn application_protocols_are_agreed_upon() {
    let place = Place::new("alpn");
    let host = place.host("&alpn=h2,http/1.1");
    for version in VERSIONS {
        let python = place.python(&host).with("version", version);
        assert_eq!(python.once()["alpn"], Value::Null);
        for (offered, expected) in [
            (json!(["http/1.1", "h2"]), Some("h2")),
            (json!(["http/1.1"]), Some("http/1.1")),
            (json!(["irc", "http/1.1"]), Some("http/1.1")),
            (json!(["irc"]), None),
        ] {
            let python = place.python(&host).with("version", version);
            let told = python.with("alpn", offered).once();
            match expected {
                Some(expected) => assert_eq!(told["alpn"], expected, "{told}"),
                // RFC 7301, section 3.2: no_application_protocol.
                None => {
                    let error = told["error"].as_str().unwrap_or_default();
                    assert!(error.to_lowercase().contains("alert"), "{told}");
                }
            }
        }
    }
}

#[test]
fn an_oldest_version_is_kept() {
    let place = Place::new("min");
    let host = place.host("&tls-min=1.3");
    let told = place.python(&host).once();
    assert_eq!(told["version"], "TLSv1.3", "{told}");
    let told = place.python(&host).with("version", "TLSv1.2").once();
    let error = told["error"].as_str().unwrap_or_default();
    assert!(error.contains("alert protocol version"), "{told}");
}

#[test]
fn clients_show_certificates_as_they_are_told() {
    let place = Place::new("client-auth");
    let (known, stranger) = (Authority::new("known"), Authority::new("stranger"));
    let clients = known.write(&place.folder.join("clients.pem"));
    let good = known.issue_to(&place.folder.join("good.pem"), &["ann"]);
    let bad = stranger.issue_to(&place.folder.join("bad.pem"), &["ann"]);
    let host = |auth: &str| place.host(&format!("&client-auth={auth}&ca={}", clients.display()));
    let (requesting, requiring) = (host("request"), host("require"));
    for version in VERSIONS {
        for (host, certificate, is_taken) in [
            (&requesting, None, true),
            (&requesting, Some(&good), true),
            (&requesting, Some(&bad), false),
            (&requiring, None, false),
            (&requiring, Some(&good), true),
            (&requiring, Some(&bad), false),
        ] {
            let mut python = place.python(host).with("version", version);
            if let Some(certificate) = certificate {
                python = python.with("cert", certificate.to_str().unwrap());
            }
            let told = python.once();
            if is_taken {
                assert_eq!(told["echoed"], true, "{certificate:?}: {told}");
            } else {
                // In TLS 1.3 the client learns it only when it reads.
                let error = told["error"].as_str().unwrap_or_default();
                assert!(error.contains("alert"), "{certificate:?}: {told}");
            }
        }
    }
    let mut talker = place.openssl(&requiring, &["-cert", good.to_str().unwrap()]);
    assert!(talker.echoes("hello"), "{}", talker.text());
    let said = talker.ended();
    assert!(
        said.text
            .contains("Acceptable client certificate CA names\nCN = known\n"),
        "{}",
        said.text
    );
}

#[test]
fn a_new_certificate_is_taken_while_connections_stay_open() {
    let place = Place::new("reload");
    let host = place.host("");
    let mut old = place.openssl(&host, &[]);
    assert!(old.echoes("before"), "{}", old.text());

    // By itself, once its file has settled.
    place.issue("localhost.pem", &["localhost", "second.example"]);
    host.logged(&["new connections get the certificates of localhost, second.example"]);
    assert_eq!(shown(&place, &host), json!(["localhost", "second.example"]));
    assert!(old.echoes("after the second"), "{}", old.text());

    // At a signal, whether the files differ or not.
    host.signal(Signal::HUP);
    host.logged(&["the certificates are the same"]);
    place.issue("localhost.pem", &["localhost", "third.example"]);
    host.signal(Signal::HUP);
    host.logged(&["new connections get the certificates of localhost, third.example"]);
    assert_eq!(shown(&place, &host), json!(["localhost", "third.example"]));

    // A bad one changes nothing and is said.
    let path = place.folder.join("certs/localhost.pem");
    replace(&path, "hello");
    host.logged(&[
        "the certificates stay as they were",
        "localhost.pem",
        "no certificate",
    ]);
    assert_eq!(shown(&place, &host), json!(["localhost", "third.example"]));
    fs::remove_file(&path).unwrap();
    host.logged(&[
        "the certificates stay as they were",
        "has no certificate with its key",
    ]);
    assert_eq!(shown(&place, &host), json!(["localhost", "third.example"]));

    // Another one more.
    place.issue("localhost.pem", &["localhost", "fourth.example"]);
    host.logged(&["new connections get the certificates of localhost, fourth.example"]);
    assert_eq!(shown(&place, &host), json!(["localhost", "fourth.example"]));
    assert!(old.echoes("at last"), "{}", old.text());
    let said = old.ended();
    assert!(said.success, "{}", said.text);
    // Each was said once.
    assert_eq!(
        host.log().matches("stay as they were").count(),
        2,
        "{}",
        host.log()
    );
}

#[test]
fn a_session_outlives_its_certificate() {
    let place = Place::new("ticket");
    let host = place.host("");
    let session = place.folder.join("session");
    let session = session.to_str().unwrap();
    let mut talker = place.openssl(&host, &["-sess_out", session]);
    assert!(talker.echoes("hello"), "{}", talker.text());
    talker.ended();
    place.issue("localhost.pem", &["localhost", "second.example"]);
    host.signal(Signal::HUP);
    host.logged(&["new connections get the certificates of localhost, second.example"]);
    let mut talker = place.openssl(&host, &["-sess_in", session]);
    assert!(talker.echoes("hello"), "{}", talker.text());
    let said = talker.ended();
    assert!(said.text.contains("Reused, TLSv1.3"), "{}", said.text);
}

#[test]
fn an_authority_that_is_removed_counts_no_more() {
    let place = Place::new("new-ca");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let clients = old.write(&place.folder.join("clients.pem"));
    let ann = old.issue_to(&place.folder.join("ann.pem"), &["ann"]);
    let bob = new.issue_to(&place.folder.join("bob.pem"), &["bob"]);
    let host = place.host(&format!("&client-auth=require&ca={}", clients.display()));
    let session = place.folder.join("session");
    let session = session.to_str().unwrap();
    let ann = ann.to_str().unwrap();
    let mut talker = place.openssl(&host, &["-cert", ann, "-sess_out", session]);
    assert!(talker.echoes("hello"), "{}", talker.text());
    talker.ended();
    new.write(&clients);
    host.signal(Signal::HUP);
    host.logged(&["new connections get the certificates of localhost"]);
    // Not even with a ticket from before.
    let mut talker = place.openssl(&host, &["-cert", ann, "-sess_in", session]);
    assert!(!talker.echoes("hello"), "{}", talker.text());
    let told = place
        .python(&host)
        .with("cert", bob.to_str().unwrap())
        .once();
    assert_eq!(told["echoed"], true, "{told}");
}

#[test]
fn a_stream_that_is_cut_is_told_from_one_that_ends() {
    let place = Place::new("cut");
    let mut plugin =
        Scripted::start_with(|run| run.listen("tcp://127.0.0.1:0").listen(&place.url("")));
    let address = plugin.host.address_of(1);
    for version in VERSIONS {
        for (end, expected) in [("close", "done"), ("cut", "tls ")] {
            let python = Python::connecting(address, &place.ca)
                .with("version", version)
                .with("size", 0)
                .with("end", end);
            let told = python.once();
            assert_eq!(told["echoed"], true, "{told}");
            let id = plugin.made();
            let reason = plugin.event(&format!("lost {id}"));
            assert!(reason.starts_with(expected), "{version} {end}: {reason}");
        }
    }
}

#[test]
fn a_plugin_trusts_and_shows_what_the_operator_says() {
    let place = Place::new("outbound");
    let clients = Authority::new("clients");
    let ca = clients.write(&place.folder.join("clients.pem"));
    let ann = clients.issue_to(&place.folder.join("ann.pem"), &["ann"]);
    let echo = place.host(&format!("&client-auth=require&ca={}", ca.display()));
    let (port, ann) = (echo.address().port(), ann.to_str().unwrap());
    let dialing = |arguments: &[&str]| {
        Scripted::start_with(|run| {
            run.arguments(["--allow-connect", "127.0.0.1:*"])
                .arguments(arguments)
        })
    };
    let connect = |plugin: &mut Scripted, options: &str| {
        let id = plugin.started(&format!("connect tls://127.0.0.1:{port}{options}"));
        plugin.event(&format!("completed {id}"))
    };

    let mut plugin = dialing(&["--tls-ca", place.ca(), "--tls-cert", ann]);
    // By the address in the certificate, and by a name that is given.
    for options in ["", "?server-name=localhost", "?tls-min=1.3"] {
        let outcome = connect(&mut plugin, options);
        assert!(!outcome.starts_with("error"), "{options}: {outcome}");
        let id = plugin.made();
        // What the guest receives it does.
        plugin.run(&format!("@{id} write tell it came back"));
        plugin.event("it came back");
    }
    let outcome = connect(&mut plugin, "?server-name=other.example");
    assert!(outcome.starts_with("error"), "{outcome}");
    assert!(outcome.contains("other.example"), "{outcome}");

    // Whom the system trusts does not include the tests.
    let outcome = connect(&mut dialing(&["--tls-cert", ann]), "");
    assert!(outcome.starts_with("error"), "{outcome}");

    // Without a certificate: the client of TLS 1.3 is told after its own handshake is over (RFC 8446, section 4.4.2.4).
    let mut plugin = dialing(&["--tls-ca", place.ca()]);
    let outcome = connect(&mut plugin, "");
    if !outcome.starts_with("error") {
        let id = plugin.made();
        let reason = plugin.event(&format!("lost {id}"));
        assert!(reason.starts_with("tls "), "{reason}");
    }
}

#[test]
fn what_does_not_speak_tls_does_not_disturb_who_does() {
    let place = Place::new("plain");
    let host = place.host("");
    let mut waiting = Client::tcp(host.address());
    let mut plain = Client::tcp(host.address());
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (answer, _) = plain.rest();
    // An alert (RFC 8446, section 6), and nothing of the plugin's.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(answer.len() < 16, "{answer:?}");
    // One that is cut within the handshake.
    waiting.send([22, 3, 1, 2]);
    waiting.close_write();
    waiting.rest();
    assert_eq!(shown(&place, &host), json!(["localhost", "127.0.0.1"]));
}

#[test]
fn what_is_wrong_with_certificates_exits_2_and_names_the_file() {
    let place = Place::new("mistakes");
    let path = |name: &str| place.folder.join(name).display().to_string();
    fs::create_dir(place.folder.join("empty")).unwrap();
    fs::write(place.folder.join("text"), "hello").unwrap();
    let echo = plugin("echo");
    let echo = echo.to_str().unwrap();
    let listen =
        |options: String| vec!["--listen".to_owned(), format!("tls://127.0.0.1:0{options}")];
    let cases = [
        (listen(String::new()), "cert=FILE".to_owned()),
        (listen(format!("?cert={}", path("none"))), path("none")),
        (listen(format!("?cert={}", path("empty"))), path("empty")),
        (listen(format!("?cert={}", path("text"))), path("text")),
        (listen(format!("?cert={}", path("ca.pem"))), path("ca.pem")),
        (
            listen(format!(
                "?cert={}&client-auth=require&ca={}",
                path("certs"),
                path("text")
            )),
            path("text"),
        ),
        // Outbound.
        (vec!["--tls-ca".to_owned(), path("text")], path("text")),
        (
            vec!["--tls-cert".to_owned(), path("ca.pem")],
            path("ca.pem"),
        ),
        (
            vec!["--tls-key".to_owned(), path("certs/localhost.pem")],
            "--tls-cert".to_owned(),
        ),
    ];
    for (arguments, part) in cases {
        let all = ["run", echo]
            .into_iter()
            .map(str::to_owned)
            .chain(arguments.clone());
        let ended = nethost(all);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.log);
        assert!(ended.log.contains(&part), "{arguments:?}: {}", ended.log);
        assert_eq!(ended.output, "");
    }
}

#[test]
fn help_tells_of_tls() {
    let ended = nethost(["run", "--help"]);
    for part in ["--tls-ca", "--tls-cert", "--tls-key", "SIGHUP", "tls://"] {
        assert!(
            ended.output.contains(part),
            "no {part} in\n{}",
            ended.output
        );
    }
}

#[test]
fn a_hangup_does_not_end_a_host_without_certificates() {
    let mut host = Run::of(plugin("echo")).start();
    host.signal(Signal::HUP);
    host.logged(&["no listener has certificates"]);
    assert!(host.is_running());
    host.connect().send("x");
    host.terminate();
    assert_eq!(host.ended().code, Some(0));
}

/// Some two minutes long, of which most is waiting.
#[test]
fn testssl_finds_nothing() {
    let place = Place::new("testssl");
    let host = place.host("&alpn=h2,http/1.1");
    let findings = place.folder.join("findings.json");
    let said = run(
        "testssl",
        [
            "--quiet",
            "--color",
            "0",
            "--warnings",
            "off",
            "--ip",
            "127.0.0.1",
            "--connect-timeout",
            "20",
            "--openssl-timeout",
            "20",
            "--add-ca",
            place.ca(),
            "--jsonfile",
            findings.to_str().unwrap(),
            // Protocols, kinds of suites, forward secrecy, preferences, certificate, vulnerabilities, intolerance, every suite.
            "-p",
            "-s",
            "-f",
            "-P",
            "-S",
            "-U",
            "-g",
            "-E",
            &format!("localhost:{}", host.address().port()),
        ],
    );
    let findings = read(&findings, &said.text);
    let told = |id: &str| {
        let found = findings.iter().find(|finding| finding["id"] == id);
        found.map_or(Value::Null, |finding| finding["finding"].clone())
    };
    // It did look: these are what a listener that answers shows.
    assert_eq!(told("TLS1_2"), "offered", "{}", said.text);
    assert_eq!(told("TLS1_3"), "offered with final", "{}", said.text);
    let heartbleed = told("heartbleed").to_string();
    assert!(heartbleed.contains("not vulnerable"), "{heartbleed}");
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| {
            let field = |name: &str| finding[name].as_str().unwrap_or_default();
            let (id, severity) = (field("id"), field("severity"));
            let is_allowed =
                |(allowed, rated, _): &(&str, &str, &str)| (*allowed, *rated) == (id, severity);
            !matches!(severity, "OK" | "INFO" | "LOW" | "DEBUG") && !ALLOWED.iter().any(is_allowed)
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}\n{}", said.text);
}

/// Findings that concern the test's own certificate, or testssl itself, with their severity and the reason. WARN is a check that testssl could not do.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "cert_revocation",
        "HIGH",
        "the test's authority publishes neither a CRL nor OCSP",
    ),
    (
        "engine_problem",
        "WARN",
        "testssl misses an engine of the local openssl, not of the listener",
    ),
    (
        "sessionresumption_ticket",
        "WARN",
        "its openssl does not wait for the ticket of TLS 1.3, and so may have none; `sessions_are_resumed` looks",
    ),
];

/// Reads testssl's findings.
fn read(path: &Path, said: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}: {said}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{said}"))
}
