//! Accounts: who is let in, and what guessing costs.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    client::Client,
    host::nethost_reading,
    places::scratch,
    scripted::Scripted,
    tls::{Authority, Talker, replace, run},
};
use rustix::process::Signal;

/// A folder with a users file.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        Self {
            folder: scratch(&format!("accounts-{name}")),
        }
    }

    /// One with the user `ann`, whose password is `secret`.
    fn with_ann(name: &str) -> Self {
        let this = Self::new(name);
        this.user(
            "add ann --group staff --group admin --alias ann@example.net --home people/ann",
            "secret\n",
        );
        this
    }

    fn users(&self) -> PathBuf {
        self.folder.join("users.toml")
    }

    /// Runs `nethost user ...`.
    fn user(&self, command: &str, input: &str) {
        let file = self.users();
        let words = ["user"].into_iter().chain(command.split(' '));
        let words = words.chain(["--file", file.to_str().expect("a path in UTF-8")]);
        let ended = nethost_reading(words, input);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }

    /// A host with a second listener that believes PROXY headers.
    fn start(&self) -> Scripted {
        Scripted::start_with(|run| {
            run.listen("tcp://127.0.0.1:0")
                .listen("tcp://127.0.0.1:0?proxy=v1")
                .arguments(["--users".as_ref(), self.users().as_os_str()])
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).expect("a scratch folder");
    }
}

/// Opens a connection from this address, as the host sees it.
fn connect_from(plugin: &mut Scripted, address: &str) -> (Client, u64) {
    let mut client = Client::tcp(plugin.host.address_of(1));
    let family = if address.contains(':') {
        "TCP6"
    } else {
        "TCP4"
    };
    let local = if address.contains(':') {
        "::1"
    } else {
        "127.0.0.1"
    };
    client.send(format!("PROXY {family} {address} {local} 4000 25\r\n"));
    let id = plugin.made();
    (client, id)
}

/// Starts an operation and returns its id and what came of it.
fn outcome(plugin: &mut Scripted, command: &str) -> (u64, String) {
    let operation = plugin.started(command);
    let outcome = plugin.event(&format!("completed {operation}"));
    (operation, outcome)
}

#[track_caller]
fn is_wrong(plugin: &mut Scripted, command: &str) {
    let (operation, outcome) = outcome(plugin, command);
    assert_eq!(
        outcome,
        "error other(credentials) no such user, or not its password or certificate"
    );
    assert_eq!(plugin.ask(&format!("take-account {operation}")), "none");
}

#[track_caller]
fn is_taken(plugin: &mut Scripted, command: &str, account: &str) {
    let (operation, outcome) = outcome(plugin, command);
    assert_eq!(outcome, "ready");
    assert_eq!(plugin.ask(&format!("take-account {operation}")), account);
    // Once.
    assert_eq!(plugin.ask(&format!("take-account {operation}")), "none");
}

#[test]
fn the_right_password_is_right_by_name_and_alias() {
    let place = Place::with_ann("verify");
    let mut plugin = place.start();
    let (_client, id) = plugin.connect();
    let ann = "ann staff,admin people/ann";
    is_taken(&mut plugin, &format!("@{id} verify ann secret"), ann);
    is_taken(
        &mut plugin,
        &format!("@{id} verify ann@example.net secret"),
        ann,
    );
    is_wrong(&mut plugin, &format!("@{id} verify ann Secret"));
    let (_, long) = outcome(&mut plugin, &format!("@{id} verify-long 1025"));
    assert!(long.starts_with("error invalid"), "{long}");
    assert_eq!(plugin.ask("anonymous"), "false");
    // What is in the log names no password, and no user.
    let line = plugin.host.logged(&["login failed"]);
    assert!(line.contains("peer=127.0.0.1"), "{line}");
    assert!(!line.contains("ann"), "{line}");
    let log = plugin.host.log();
    assert!(!log.contains("ecret"), "{log}");
}

#[test]
fn who_is_not_there_takes_as_long_as_a_wrong_password() {
    let place = Place::with_ann("time");
    let mut plugin = place.start();
    let mut least = [Duration::MAX; 2];
    for round in 0..3 {
        for (at, user) in ["ann", "nobody"].into_iter().enumerate() {
            // The first failure of each address is held back for one second.
            let address = format!("192.0.2.{}", round * 2 + at);
            let (_client, id) = connect_from(&mut plugin, &address);
            let start = Instant::now();
            is_wrong(&mut plugin, &format!("@{id} verify {user} wrong"));
            let time = start.elapsed();
            assert!(time >= Duration::from_secs(1), "{user}: {time:?}");
            least[at] = least[at].min(time - Duration::from_secs(1));
        }
    }
    let [wrong, unknown] = least;
    // A hash takes some 20 ms; what is not hashed is answered within one.
    assert!(wrong < unknown * 3 && unknown < wrong * 3, "{least:?}");
    assert!(unknown > Duration::from_millis(4), "{least:?}");
}

#[test]
fn whoever_fails_too_often_is_refused_for_a_time() {
    let place = Place::with_ann("limit");
    let mut plugin = place.start();
    let (_client, id) = connect_from(&mut plugin, "2001:db8::1");
    let wrong = format!("@{id} verify ann wrong");
    let right = format!("@{id} verify ann secret");
    let start = Instant::now();
    let attempts: Vec<_> = (0..8).map(|_| plugin.started(&wrong)).collect();
    let (_, busy) = outcome(&mut plugin, &right);
    assert!(busy.starts_with("error busy"), "{busy}");
    // Their answers come after 1 and 2 seconds; the others later.
    for seconds in [1, 2] {
        let event = plugin.event("completed");
        let (operation, outcome) = event.split_once(' ').unwrap();
        assert!(attempts.contains(&operation.parse().unwrap()), "{event}");
        assert!(outcome.starts_with("error other(credentials)"), "{event}");
        let time = start.elapsed();
        assert!(time >= Duration::from_secs(seconds), "{time:?}");
    }
    // Cancelled, they count all the same.
    for _ in 0..2 {
        let operation = plugin.started(&wrong);
        plugin.started(&format!("after 2000 cancel {operation}"));
    }
    let deadline = Instant::now() + DEADLINE;
    let limit = loop {
        let (_, outcome) = outcome(&mut plugin, &right);
        if !outcome.starts_with("error busy") || Instant::now() > deadline {
            break outcome;
        }
    };
    assert!(
        limit.starts_with("error limit too many failures of this peer; it may try again in "),
        "{limit}"
    );
    // So is its neighbour in the same /64, and SCRAM; nobody else is.
    let (_client, neighbour) = connect_from(&mut plugin, "2001:db8::2");
    let (_, limit) = outcome(&mut plugin, &format!("@{neighbour} verify ann secret"));
    assert!(limit.starts_with("error limit"), "{limit}");
    let (_, limit) = outcome(&mut plugin, &format!("@{id} scram-first n,,n=ann,r=x"));
    assert!(limit.starts_with("error limit"), "{limit}");
    let (_client, other) = connect_from(&mut plugin, "2001:db8:0:1::1");
    let account = "ann staff,admin people/ann";
    is_taken(&mut plugin, &format!("@{other} verify ann secret"), account);
}

/// Ten peers guess eight times each, more than may wait, and all at once.
#[test]
fn a_flood_of_guesses_keeps_nobody_else_out() {
    let place = Place::with_ann("flood");
    let mut plugin = place.start();
    let peers: Vec<_> = (1..=10)
        .map(|peer| connect_from(&mut plugin, &format!("192.0.2.{peer}")))
        .collect();
    let (_client, ann) = connect_from(&mut plugin, "192.0.2.99");
    let guesses = peers
        .iter()
        .flat_map(|(_, id)| vec![format!("@{id} verify ann wrong"); 8])
        .collect::<Vec<_>>();
    plugin.run(&format!("{}; @{ann} verify ann secret", guesses.join("; ")));
    let ids: Vec<u64> = (0..=guesses.len())
        .map(|_| plugin.event("started ").parse().unwrap())
        .collect();
    let right = ids.last().unwrap();
    assert_eq!(plugin.event(&format!("completed {right}")), "ready");
    // One of those who waited made way for her, and the others over the limit had their answer at once.
    let busy = plugin
        .events()
        .iter()
        .filter(|event| event.contains("error busy too many passwords wait"))
        .count();
    // Fewer than these if some were hashed before the last came.
    assert!((1..=13).contains(&busy), "{busy}");
    let account = plugin.ask(&format!("take-account {right}"));
    assert_eq!(account, "ann staff,admin people/ann");
}

#[test]
fn a_changed_file_is_taken_over_and_a_bad_one_is_not() {
    let place = Place::with_ann("change");
    let mut plugin = place.start();
    let (_client, id) = plugin.connect();
    // By itself.
    place.user("add bob", "builder\n");
    plugin.host.logged(&["the users file was loaded: 2 users"]);
    let bob = format!("@{id} verify bob builder");
    is_taken(&mut plugin, &bob, "bob  -");
    let good = fs::read_to_string(place.users()).unwrap();
    replace(&place.users(), &format!("{good}hmoe = \"x\"\n"));
    let line = plugin.host.logged(&["the users stay as they were"]);
    let count = good.lines().count() + 1;
    let part = format!("users.toml:{count}: user `bob` has no key `hmoe`; did you mean `home`?");
    assert!(line.contains(&part), "no {part} in {line}");
    is_taken(&mut plugin, &bob, "bob  -");
    // At a signal at once.
    let beside = Place::new("change-beside");
    replace(&beside.users(), &good);
    beside.user("passwd bob", "breaker\n");
    replace(&place.users(), &fs::read_to_string(beside.users()).unwrap());
    plugin.host.signal(Signal::HUP);
    plugin
        .host
        .logged_times(&["the users file was loaded: 2 users"], 2);
    is_wrong(&mut plugin, &bob);
    is_taken(&mut plugin, &format!("@{id} verify bob breaker"), "bob  -");
}

#[test]
fn nothing_is_granted_by_default() {
    let mut plugin = Scripted::start();
    let (_client, id) = plugin.connect();
    for command in [
        "verify ann secret",
        "external -",
        "scram-first n,,n=ann,r=x",
        "scram-final x",
    ] {
        let (_, outcome) = outcome(&mut plugin, &format!("@{id} {command}"));
        assert!(outcome.starts_with("error denied"), "{command}: {outcome}");
        assert!(outcome.contains("--users"), "{command}: {outcome}");
    }
    assert_eq!(plugin.ask("anonymous"), "false");
    let mut plugin = Scripted::start_with(|run| run.arguments(["--anonymous"]));
    assert_eq!(plugin.ask("anonymous"), "true");
}

#[test]
fn a_connection_that_is_lost_is_nobodys() {
    let place = Place::with_ann("lost");
    let mut plugin = place.start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!("@{id} close"));
    client.end();
    plugin.event(&format!("lost {id}"));
    for command in ["verify ann secret", "scram-first n,,n=ann,r=x"] {
        let (_, outcome) = outcome(&mut plugin, &format!("@{id} {command}"));
        assert!(outcome.starts_with("error closed"), "{command}: {outcome}");
    }
}

/// What a client says last, and what it expects to hear then.
fn scram_client(password: &str, bare: &str, server_first: &str) -> (String, String) {
    let said = run("python3", ["-c", SCRAM, password, bare, server_first]);
    assert!(said.success, "{}", said.text);
    let (last, verifier) = said.text.trim().split_once(' ').expect("two words");
    (last.to_owned(), verifier.to_owned())
}

/// Goes through SCRAM up to what the client says last, and returns that and what it expects to hear.
fn scram(plugin: &mut Scripted, id: u64, user: &str, password: &str) -> (String, String) {
    let bare = format!("n={user},r=clientnonce");
    let (_, first) = outcome(plugin, &format!("@{id} scram-first n,,{bare}"));
    let first = first
        .strip_prefix("bytes ")
        .and_then(|first| Some(first.split_once(' ')?.1))
        .unwrap_or_else(|| panic!("{first}"));
    assert!(first.starts_with("r=clientnonce"), "{first}");
    scram_client(password, &bare, first)
}

#[test]
fn scram_lets_in_who_knows_the_password() {
    let place = Place::with_ann("scram");
    let mut plugin = place.start();
    let (_client, id) = plugin.connect();
    for user in ["ann", "ann@example.net"] {
        let (last, expected) = scram(&mut plugin, id, user, "secret");
        let (operation, heard) = outcome(&mut plugin, &format!("@{id} scram-final {last}"));
        assert_eq!(heard, format!("bytes {} {expected}", expected.len()));
        assert_eq!(
            plugin.ask(&format!("take-account {operation}")),
            "ann staff,admin people/ann"
        );
        // It is over.
        let (_, again) = outcome(&mut plugin, &format!("@{id} scram-final {last}"));
        assert!(again.starts_with("error invalid"), "{again}");
    }
    let (last, _) = scram(&mut plugin, id, "ann", "Secret");
    is_wrong(&mut plugin, &format!("@{id} scram-final {last}"));
}

#[test]
fn scram_tells_nobody_who_is_there() {
    let place = Place::with_ann("scram-unknown");
    place.user("add bob --no-scram", "builder\n");
    let mut plugin = place.start();
    let (_client, id) = plugin.connect();
    let salt = |plugin: &mut Scripted, user: &str| {
        let (_, first) = outcome(plugin, &format!("@{id} scram-first n,,n={user},r=x"));
        let (_, salt) = first.split_once(",s=").unwrap();
        assert!(salt.ends_with(",i=100000"), "{salt}");
        salt.to_owned()
    };
    for user in ["ann", "bob", "nobody"] {
        assert_eq!(salt(&mut plugin, user), salt(&mut plugin, user), "{user}");
    }
    // Also from one start to another.
    let mut other = place.start();
    let (_other_client, _) = other.connect();
    let nobody = salt(&mut plugin, "nobody");
    let mut again = outcome(&mut other, "scram-first n,,n=nobody,r=x").1;
    assert_eq!(again.split_off(again.find(",s=").unwrap() + 3), nobody);
    for (user, password) in [("nobody", "secret"), ("bob", "builder")] {
        let (last, _) = scram(&mut plugin, id, user, password);
        is_wrong(&mut plugin, &format!("@{id} scram-final {last}"));
    }
    for message in ["p=tls-unique,,n=ann,r=x", "hello"] {
        let (_, outcome) = outcome(&mut plugin, &format!("@{id} scram-first {message}"));
        assert!(
            outcome.starts_with("error invalid not a message of SCRAM"),
            "{outcome}"
        );
    }
}

#[test]
fn a_certificate_stands_for_whose_it_is() {
    let place = Place::new("external");
    let path = |name: &str| place.folder.join(name);
    let authority = Authority::new("tests");
    let ca = authority.write(&path("ca.pem"));
    let server = authority.issue_to(&path("server.pem"), &["localhost"]);
    let ann = authority.issue_to(&path("ann.pem"), &["whatever"]);
    // The name is nothing; who else is called so is not she.
    let other = authority.issue_to(&path("other.pem"), &["ann"]);
    let arguments = [
        "x509",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-in",
        ann.to_str().unwrap(),
    ];
    let said = run("openssl", arguments);
    let (_, fingerprint) = said.text.trim().split_once('=').unwrap();
    let text = format!(
        "[users.ann]\naliases = [\"a\"]\ngroups = [\"staff\"]\ncertificates = [\"{fingerprint}\"]\n[users.bob]\n"
    );
    replace(&place.users(), &text);
    let mut plugin = Scripted::start_with(|run| {
        let (server, ca) = (server.display(), ca.display());
        run.listen("tcp://127.0.0.1:0")
            .listen(&format!(
                "tls://127.0.0.1:0?cert={server}&client-auth=request&ca={ca}"
            ))
            .arguments(["--users", place.users().to_str().unwrap()])
    });
    let address = plugin.host.address_of(1);
    let _ann = Talker::openssl(address, &["-cert", ann.to_str().unwrap()]);
    let id = plugin.made();
    for authorization in ["-", "ann", "a"] {
        let command = format!("@{id} external {authorization}");
        is_taken(&mut plugin, &command, "ann staff -");
    }
    is_wrong(&mut plugin, &format!("@{id} external bob"));
    // She has no password.
    is_wrong(&mut plugin, &format!("@{id} verify ann secret"));
    let _other = Talker::openssl(address, &["-cert", other.to_str().unwrap()]);
    let id = plugin.made();
    is_wrong(&mut plugin, &format!("@{id} external -"));
    let _nobody = Talker::openssl(address, &[]);
    let (tls, (_client, clear)) = (plugin.made(), plugin.connect());
    for id in [tls, clear] {
        let (_, outcome) = outcome(&mut plugin, &format!("@{id} external -"));
        assert!(outcome.starts_with("error unsupported"), "{outcome}");
    }
}

/// A client of SCRAM-SHA-256, by RFC 5802.
const SCRAM: &str = "\
import sys, hashlib, hmac, base64
password, bare, first = sys.argv[1:]
parts = dict(part.split('=', 1) for part in first.split(','))
mac = lambda key, data: hmac.new(key, data.encode(), 'sha256').digest()
salted = hashlib.pbkdf2_hmac('sha256', password.encode(), base64.b64decode(parts['s']), int(parts['i']))
unproven = 'c=biws,r=' + parts['r']
signed = ','.join([bare, first, unproven])
key = mac(salted, 'Client Key')
signature = mac(hashlib.sha256(key).digest(), signed)
proof = bytes(a ^ b for a, b in zip(key, signature))
text = lambda data: base64.b64encode(data).decode()
print(unproven + ',p=' + text(proof), 'v=' + text(mac(mac(salted, 'Server Key'), signed)))
";
