//! A plugin that breaks leaves a core dump, where the operator asked for it.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nethost_tests::{
    DEADLINE,
    host::{Host, Run, nethost},
    places::{guest, scratch},
};
use wasmparser::{KnownCustom, Parser, Payload, Validator};

/// A folder with one service in a file of its own beside it.
struct Folder {
    config: PathBuf,
    dumps: PathBuf,
}

fn folder(name: &str, plugin: &str, more: &str) -> Folder {
    let folder = scratch(&format!("coredump-{name}"));
    let dumps = folder.join("dumps");
    fs::create_dir(&dumps).unwrap();
    let config = folder.join("nethost.toml");
    let plugin = guest(plugin);
    let text = format!(
        "[host]\nworkers = 1\ncoredump = \"dumps\"\n[[service]]\nname = \"bad\"\nplugin = {plugin:?}\nlisten = [\"tcp://127.0.0.1:0\"]\n{more}\n"
    );
    fs::write(&config, text).unwrap();
    Folder { config, dumps }
}

/// Sends what the guests misbehave at, and waits for the end of the connection.
fn provoke(host: &Host) {
    let mut client = host.connect();
    client.send("secret of a client!");
    client.rest();
}

/// The path that the log names.
fn named(line: &str) -> PathBuf {
    let (_, rest) = line
        .split_once("coredump=")
        .unwrap_or_else(|| panic!("no dump in {line}"));
    rest.split(' ')
        .next()
        .unwrap_or_default()
        .trim_matches('"')
        .into()
}

/// It is renamed to its name when it is whole.
fn wait_for(file: &Path) -> Vec<u8> {
    let deadline = Instant::now() + DEADLINE;
    while !file.exists() {
        assert!(
            Instant::now() < deadline,
            "{} does not come",
            file.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::read(file).unwrap()
}

/// Sees that it is a module with what a core dump has, and returns the functions on the stack.
fn check_dump(bytes: &[u8]) -> Vec<u32> {
    Validator::new().validate_all(bytes).unwrap();
    let mut process = None;
    let mut frames = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CustomSection(section) = payload.unwrap() {
            match section.as_known() {
                KnownCustom::CoreDump(core) => process = Some(core.name.to_owned()),
                KnownCustom::CoreDumpStack(stack) => {
                    frames = stack.frames.iter().map(|frame| frame.funcidx).collect();
                }
                _ => {}
            }
        }
    }
    assert_eq!(process.as_deref(), Some("traps"));
    frames
}

#[test]
fn a_trap_leaves_a_dump_that_only_its_owner_can_read() {
    for isolation in ["service", "connection"] {
        let Folder { config, dumps } =
            folder(isolation, "traps", &format!("isolation = \"{isolation}\""));
        let host = Host::serve(&config, [""; 0], 1);
        provoke(&host);
        let line = host.logged(&["data-received trapped", "unreachable"]);
        let file = named(&line);
        assert_eq!(file.parent(), Some(&*dumps), "{line}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("traps-") && name.ends_with("-1.coredump"),
            "{name}"
        );
        // The backtrace is still there.
        assert!(line.contains("nethost_guest_traps::trap"), "{line}");
        let bytes = wait_for(&file);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(check_dump(&bytes).len() > 3, "a stack");
        // What it is for, and why it is not for everybody.
        let secret = b"secret of a client!";
        assert!(bytes.windows(secret.len()).any(|it| it == secret));
        // A second one at once is one too many.
        provoke(&host);
        let again = host.logged_times(&["data-received trapped"], 2);
        let taken = again.contains("-2.coredump");
        assert!(taken || again.contains("left out: the last one"), "{again}");
    }
}

#[test]
fn an_instance_with_much_memory_is_not_dumped_and_the_log_says_so() {
    let Folder { config, dumps } = folder("large", "grows", "isolation = \"service\"");
    let host = Host::serve(&config, [""; 0], 1);
    provoke(&host);
    let line = host.logged(&["its memory would have grown", "left out: it has"]);
    assert!(line.contains("at most 16 MiB"), "{line}");
    assert_eq!(fs::read_dir(dumps).unwrap().count(), 0);
}

#[test]
fn without_a_folder_nothing_is_dumped() {
    let host = Run::of(guest("traps")).start();
    provoke(&host);
    let line = host.logged(&["data-received trapped"]);
    assert!(!line.contains("coredump"), "{line}");
}

#[test]
fn a_folder_that_is_not_there_is_the_operators_mistake() {
    let missing = scratch("coredump-missing").join("none");
    let plugin = guest("traps");
    for command in ["run", "exec"] {
        let arguments = [
            command.as_ref(),
            "--coredump".as_ref(),
            missing.as_os_str(),
            plugin.as_os_str(),
        ];
        let ended = nethost(arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(ended.log.contains("mkdir -m 700"), "{}", ended.log);
    }
}
