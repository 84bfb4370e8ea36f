use std::{
    env, fs,
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Output},
};

use super::*;
use crate::grants::ConnectGrant;

/// A folder of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("nethost-confined-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// Says to the test, when it runs itself as another process, what to try.
const TRY: &str = "NETHOST_TEST_CONFINED";

/// Runs one test of this module as a process of its own, told to try something.
fn tries(test: &str, what: &str) -> Output {
    let test = format!("daemon::confinement::tests::{test}");
    let mut this = Command::new(env::current_exe().unwrap());
    this.args(["--exact", &test, "--nocapture"]).env(TRY, what);
    this.output().unwrap()
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported];
    result.is_err_and(|error| kinds.contains(&error.kind()))
}

#[test]
fn what_was_not_granted_cannot_be_reached() {
    if env::var_os(TRY).is_none() {
        let output = tries("what_was_not_granted_cannot_be_reached", "all");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let folder = Folder::new("reach");
    let (granted, readable, other) = (
        folder.0.join("granted"),
        folder.0.join("readable"),
        folder.0.join("other"),
    );
    for folder in [&granted, &readable, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "text").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut reach = Reach::default();
    reach.allow_system();
    reach.allow(&granted, Access::Write);
    reach.allow(&readable, Access::Read);
    reach.allow_connect(&format!("127.0.0.1:{}", address.port()).parse().unwrap());
    let mut outcome = enter(reach);
    limit_calls(&mut outcome);
    if !outcome.missing.is_empty() {
        // The host says so, and starts.
        writeln!(io::stderr(), "not tested: {outcome:?}").unwrap();
        return;
    }
    fs::rename(granted.join("file"), granted.join("moved")).unwrap();
    fs::write(granted.join("new"), "text").unwrap();
    fs::create_dir(granted.join("folder")).unwrap();
    fs::rename(granted.join("new"), granted.join("folder/new")).unwrap();
    assert_eq!(fs::read(readable.join("file")).unwrap(), b"text");
    assert!(is_refused(fs::write(readable.join("file"), "other")));
    assert!(is_refused(fs::remove_file(readable.join("file"))));
    assert!(is_refused(fs::read(other.join("file"))));
    assert!(is_refused(fs::write(other.join("new"), "text")));
    assert!(is_refused(fs::read("/etc/passwd")));
    assert!(is_refused(fs::read_dir("/")));
    assert!(fs::read_to_string("/proc/self/status").is_ok());
    TcpStream::connect(address).unwrap();
    let elsewhere = elsewhere.local_addr().unwrap();
    assert!(is_refused(TcpStream::connect(elsewhere)));
    // No process is made, so that none can run a program.
    assert!(is_refused(Command::new("/bin/true").status()));
    let raw = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::DGRAM, None);
    assert!(is_refused(raw));
    std::thread::spawn(|| ()).join().unwrap();
    assert!(excludes(&other.join("file"), Access::Read));
    assert!(!excludes(&granted.join("not/there/yet"), Access::Write));
    let error = fs::read(other.join("file")).unwrap_err();
    assert!(hint(&other.join("file"), &error).contains("start it anew"));
}

#[test]
fn what_nobody_calls_by_mistake_ends_the_process() {
    let Ok(what) = env::var(TRY) else {
        for what in ["execve", "chroot", "setns"] {
            let output = tries("what_nobody_calls_by_mistake_ends_the_process", what);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() || text.contains("not tested"),
                "{what}: {output:?}"
            );
            assert!(!text.contains("is still here"), "{what}: {text}");
        }
        return;
    };
    let namespace = fs::File::open("/proc/self/ns/net").unwrap();
    let mut outcome = Outcome::default();
    limit_calls(&mut outcome);
    if !outcome.missing.is_empty() {
        writeln!(io::stderr(), "not tested: {outcome:?}").unwrap();
        return;
    }
    match what.as_str() {
        "execve" => drop(Command::new("/bin/true").exec()),
        "chroot" => drop(rustix::process::chroot("/")),
        _ => {
            use std::os::fd::AsFd as _;
            let _refused = rustix::thread::move_into_link_name_space(namespace.as_fd(), None);
        }
    }
    writeln!(io::stderr(), "{what} is still here").unwrap();
}

#[test]
fn what_is_replaced_is_reached_through_its_folders_and_links() {
    let folder = Folder::new("links");
    let (live, archive) = (folder.0.join("live/name"), folder.0.join("archive/name"));
    fs::create_dir_all(&live).unwrap();
    fs::create_dir_all(&archive).unwrap();
    fs::write(archive.join("key1.pem"), "key").unwrap();
    std::os::unix::fs::symlink("../../archive/name/key1.pem", live.join("key.pem")).unwrap();
    let mut reach = Reach::default();
    reach.allow(&folder.0.join("live"), Access::Certificates);
    // As certbot leaves it after a renewal.
    assert!(reach.covers(&archive.join("key2.pem"), Access::Read));
    assert!(!reach.covers(&folder.0.join("archive/other"), Access::Read));
    let mut reach = Reach::default();
    reach.allow(&live.join("key.pem"), Access::Read);
    assert!(reach.covers(&archive.join("key1.pem"), Access::Read));
    assert!(!reach.covers(&archive.join("key2.pem"), Access::Read));
    assert!(!reach.covers(&archive.join("key1.pem"), Access::Write));
    // What lies in the root does not open all of the machine.
    let mut reach = Reach::default();
    reach.allow(Path::new("/bin"), Access::Reread);
    assert!(!reach.covers(Path::new("/etc"), Access::Read));
}

#[test]
fn connections_are_covered_by_their_ports() {
    let of = |grants: &[&str]| {
        let mut reach = Reach::default();
        for grant in grants {
            reach.allow_connect(&grant.parse::<ConnectGrant>().unwrap());
        }
        reach
    };
    let one = of(&["10.0.0.1:25"]);
    for (other, covered) in [
        (&[][..], true),
        (&["192.0.2.1:25"], true),
        (&["10.0.0.1:26"], false),
        (&["10.0.0.1:*"], false),
        (&["unix:/run/x.sock"], true),
        (&["unix:@x"], false),
    ] {
        assert_eq!(one.covers_connections(&of(other)), covered, "{other:?}");
    }
    assert!(of(&["*:*"]).covers_connections(&one));
    assert!(of(&["*:*"]).ports().is_none());
}
