//! The config file: what `nethost check` says of good and of bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nethost_tests::{
    golden::every_mistake,
    host::{Ended, help_tells, nethost},
    places::{guest, plugin, root, scratch},
};
use serde_json::Value;

fn check(file: &Path, arguments: &[&str]) -> Ended {
    let words = ["check".as_ref(), file.as_os_str()];
    nethost(words.into_iter().chain(arguments.iter().map(AsRef::as_ref)))
}

fn write(name: &str, text: &str) -> PathBuf {
    let file = scratch(name).join("nethost.toml");
    fs::write(&file, text).unwrap();
    file
}

fn service(name: &str, plugin: &Path, rest: &str) -> String {
    let plugin = plugin.display();
    format!("[[service]]\nname = \"{name}\"\nplugin = \"{plugin}\"\n{rest}\n")
}

/// Every file of `tests/config/invalid` is refused with what the `.err` beside it says. `NETHOST_BLESS=1` writes those.
#[test]
fn every_mistake_is_told_with_file_line_and_mend() {
    // The plugins that the files name.
    let _ = (plugin("irc"), plugin("echo"));
    let folder = root().join("tests/config/invalid");
    let secret = folder.join("two-words.secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    every_mistake(&folder, 50, |path| {
        let ended = check(path, &[]);
        assert_eq!(ended.code, Some(2), "{}: {}", path.display(), ended.log);
        assert_eq!(ended.output, "", "{}", path.display());
        ended.log.replace(&format!("{}/", folder.display()), "") + "\n"
    });
}

#[test]
fn serve_refuses_what_check_refuses() {
    for name in ["service-key", "config-key", "plugin-not-there", "many"] {
        let path = root().join(format!("tests/config/invalid/{name}.toml"));
        let checked = check(&path, &[]);
        let served = nethost(["serve".as_ref(), path.as_os_str()]);
        assert_eq!(served.code, Some(2), "{}", served.log);
        let problem = checked.log.lines().next().unwrap();
        assert!(served.log.contains(problem), "{problem}\n{}", served.log);
    }
}

#[test]
fn a_good_file_is_told_service_by_service() {
    let text = service("chat", &plugin("irc"), "")
        + &service("back", &plugin("echo"), "listen = [\"tcp://127.0.0.1:7\"]");
    let file = write("config-good", &text);
    let ended = check(&file, &[]);
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    assert_eq!(
        ended.output,
        "chat: irc 0.1.0, isolation service, tcp://127.0.0.1:6667\n\
         back: echo 0.1.0, isolation worker, tcp://127.0.0.1:7"
    );
    let ended = check(&file, &["--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let told: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!(told["problems"], serde_json::json!([]));
    assert_eq!(told["services"][0]["name"], "chat");
    assert_eq!(told["services"][1]["listen"][0], "tcp://127.0.0.1:7");
    assert_eq!(told["services"][1]["limits"]["callback-time"], "50ms");
}

#[test]
fn machines_are_told_in_json() {
    let file = root().join("tests/config/invalid/service-key.toml");
    let ended = check(&file, &["--json"]);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    let told: Value = serde_json::from_str(&ended.output).unwrap();
    let problem = &told["problems"][0];
    assert_eq!(problem["line"], 4);
    assert_eq!(problem["column"], 1);
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["mend"], "did you mean `listen`?");
}

#[test]
fn what_is_asked_for_and_not_granted_is_a_warning_with_its_key() {
    let listen = "listen = [\"tcp://127.0.0.1:0\"]";
    let file = write("config-lacking", &service("s", &guest("scripted"), listen));
    let ended = check(&file, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for part in [
        ":1:1: warning: not granted: connect (to test outbound connections)",
        "connect = [\"HOST:PORT\"] in [service.grants] grants it",
        "not granted: directory asked",
        "directories.asked = { path = \"PATH\", mode = \"rw\" }",
    ] {
        assert!(ended.log.contains(part), "no {part} in {}", ended.log);
    }
}

#[test]
fn a_check_makes_nothing() {
    let folder = scratch("config-makes");
    let file = folder.join("nethost.toml");
    let listen = "listen = [\"unix:///nowhere/at/all.sock\"]";
    let grants = "[service.grants.directories.asked]\npath = \"new/dir\"\nmode = \"rw\"\n\
         [service.grants.files.log]\npath = \"new.log\"\nmode = \"rw\"";
    let text = service("s", &guest("scripted"), &format!("{listen}\n{grants}"));
    fs::write(&file, text).unwrap();
    let ended = check(&file, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let file = scratch("config-missing").join("nethost.toml");
    for command in ["check", "serve"] {
        let ended = nethost([command.as_ref(), file.as_os_str()]);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(
            ended.log.contains("nethost.toml: No such file"),
            "{}",
            ended.log
        );
    }
    // The default is the one in the folder.
    let ended = nethost(["check"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("reading nethost.toml"), "{}", ended.log);
}

#[test]
fn help_tells_how_to_use_it() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--help"], &["serve", "check"]),
        (
            &["serve", "--help"],
            &[
                "SIGHUP",
                "nethost.example.toml",
                "nethost.toml",
                "Examples",
                "[[service]]",
            ],
        ),
        (
            &["check", "--help"],
            &[
                "--json",
                "nethost.example.toml",
                "nethost.toml",
                "Examples",
                "Exit codes",
            ],
        ),
    ];
    help_tells(cases);
    for shell in ["bash", "zsh", "fish"] {
        let ended = nethost(["completions", shell]);
        for word in ["serve", "check"] {
            assert!(ended.output.contains(word), "{shell}");
        }
    }
}
