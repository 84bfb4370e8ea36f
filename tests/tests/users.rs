//! `nethost user`, and the file that it changes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    thread,
};

use nethost_tests::{
    golden::every_mistake,
    host::{Ended, Run, help_tells, nethost_reading},
    places::{self, guest, root, scratch},
    pty::{Step, on_terminal},
};
use serde_json::{Value, json};

fn user(file: &Path, command: &str, input: &str) -> Ended {
    let words = ["user"].into_iter().chain(command.split(' '));
    nethost_reading(words.chain(["--file", file.to_str().unwrap()]), input)
}

#[track_caller]
fn done(file: &Path, command: &str, input: &str) -> String {
    let ended = user(file, command, input);
    assert_eq!(ended.code, Some(0), "{command}: {}", ended.log);
    assert_eq!(ended.log, "", "{command}");
    ended.output
}

#[track_caller]
fn refused(file: &Path, command: &str, input: &str, part: &str) {
    let before = fs::read(file).ok();
    let ended = user(file, command, input);
    assert_eq!(ended.code, Some(2), "{command}: {}", ended.log);
    assert!(ended.log.contains(part), "{command}: {}", ended.log);
    assert_eq!(fs::read(file).ok(), before, "{command}");
}

fn list(file: &Path) -> Value {
    serde_json::from_str(&done(file, "list --json", "")).unwrap()
}

fn names(file: &Path) -> Vec<String> {
    let listed = list(file);
    let users = listed["users"].as_array().unwrap();
    users
        .iter()
        .map(|user| user["name"].as_str().unwrap().to_owned())
        .collect()
}

fn good() -> PathBuf {
    root().join("tests/users/good.toml")
}

#[test]
fn a_user_is_added_changed_and_removed() {
    let file = scratch("users-life").join("users.toml");
    let said = done(
        &file,
        "add ann --group staff --group admin --alias ann@example.net --home people/ann",
        "secret\n",
    );
    assert_eq!(said, format!("added ann to {}", file.display()));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("password = \"$argon2id$v=19$m=19456,t=2,p=1$"),
        "{text}"
    );
    assert!(
        text.contains("scram-sha-256 = \"SCRAM-SHA-256$100000:"),
        "{text}"
    );
    // Without the end of the line, and with that of another system.
    done(&file, "add bob --no-scram", "builder");
    assert_eq!(
        done(&file, "list", ""),
        "ann  alias ann@example.net  group staff  group admin  home people/ann\nbob  no SCRAM"
    );
    let before = fs::read_to_string(&file).unwrap();
    let said = done(&file, "passwd bob", "breaker\r\n");
    assert_eq!(
        said,
        format!("changed the password of bob in {}", file.display())
    );
    let changed = |text: &str| {
        let lines = before.lines().filter(|line| !text.contains(*line));
        lines.count()
    };
    assert_eq!(changed(&fs::read_to_string(&file).unwrap()), 1);
    assert_eq!(list(&file)["users"][1]["scram"], true);
    done(&file, "passwd bob --no-scram", "breaker\n");
    assert_eq!(list(&file)["users"][1]["scram"], false);
    done(&file, "remove ann", "");
    assert_eq!(names(&file), ["bob"]);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn what_is_in_the_file_stays_as_it_is() {
    let file = scratch("users-comments").join("users.toml");
    let text = fs::read_to_string(good()).unwrap();
    fs::write(&file, &text).unwrap();
    done(&file, "add eve", "secret\n");
    done(&file, "remove eve", "");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    done(&file, "passwd bob --no-scram", "secret\n");
    let after = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = after.lines().filter(|line| !text.contains(*line)).collect();
    assert_eq!(lines.len(), 1, "{after}");
    assert!(lines[0].starts_with("password = "), "{after}");
    done(&file, "remove ann", "");
    let after = fs::read_to_string(&file).unwrap();
    assert!(
        after.contains("# He has nothing.") && !after.contains("She is everything"),
        "{after}"
    );
    // A link stays one.
    let link = file.with_file_name("link.toml");
    symlink(&file, &link).unwrap();
    done(&link, "remove bob", "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&file), ["c=d,\"e\""]);
}

#[test]
fn json_has_everything_but_hashes() {
    let listed = list(&good());
    assert_eq!(
        listed["users"][0],
        json!({
            "name": "ann",
            "aliases": ["ann@example.net", "a"],
            "groups": ["staff", "admin"],
            "home": "people/ann",
            "certificates": 1,
            "password": true,
            "scram": true,
        })
    );
    assert_eq!(listed["users"][1]["password"], false);
    assert!(!listed.to_string().contains("argon2"));
}

#[test]
fn mistakes_exit_2_and_change_nothing() {
    let file = scratch("users-mistakes").join("users.toml");
    for command in ["passwd ann", "remove ann"] {
        refused(&file, command, "x\n", "there is no users file");
    }
    let ended = user(&file, "list", "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("users.toml"), "{}", ended.log);
    done(&file, "add ann --alias a", "secret\n");
    let long = format!("{}\n", "x".repeat(1025));
    for (command, input, part) in [
        (
            "add ann",
            "x\n",
            "user `ann` is there already; `nethost user passwd`",
        ),
        ("add a", "x\n", "`a` is an alias of user `ann`"),
        ("add bob --alias ann", "x\n", "user `ann` is there already"),
        ("add bob --alias b --alias b", "x\n", "`b` twice"),
        ("add bob --alias bob", "x\n", "`bob` twice"),
        ("add bob --home /home/bob", "x\n", "--home"),
        ("add bob --home ../bob", "x\n", "--home"),
        ("add bob\t", "x\n", "a name has no"),
        ("add bob", "", "the password is empty"),
        ("add bob", "\n", "the password is empty"),
        ("add bob", "a\tb\n", "control character"),
        ("add bob", &long, "longer than 1024 bytes"),
        ("add bob --groop x", "x\n", "--groop"),
        ("passwd bob", "x\n", "there is no user `bob`"),
        ("passwd a", "x\n", "`a` is an alias of user `ann`"),
        ("remove bob", "", "there is no user `bob`"),
    ] {
        refused(&file, command, input, part);
    }
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn two_who_change_the_file_at_once_wait_for_each_other() {
    let file = scratch("users-lock").join("users.toml");
    thread::scope(|scope| {
        for number in 0..6 {
            let file = &file;
            scope.spawn(move || done(file, &format!("add user{number} --no-scram"), "secret\n"));
        }
    });
    assert_eq!(names(&file).len(), 6);
}

#[test]
fn a_password_is_asked_for_twice_and_not_shown() {
    let file = scratch("users-terminal").join("users.toml");
    for (again, code) in [("secret\n", 0), ("Secret\n", 2)] {
        let mut command = places::host();
        command.args(["user", "add", "ann", "--file"]).arg(&file);
        let steps = [
            Step::typing("Password: ", "secret\n"),
            Step::typing("Again: ", again),
        ];
        let Some(shown) = on_terminal(&command, (80, 24), &steps) else {
            return;
        };
        assert_eq!((shown.code, shown.is_as_before), (code, true));
        let shown = shown.text;
        assert!(!shown.contains("ecret"), "{shown}");
        if code == 2 {
            assert!(shown.contains("the two passwords differ"), "{shown}");
        } else {
            done(&file, "remove ann", "");
        }
    }
}

/// Every file of `tests/users/invalid` is refused with what the `.err` beside it says. `NETHOST_BLESS=1` writes those.
#[test]
fn every_mistake_in_a_file_is_told_with_its_line() {
    let folder = root().join("tests/users/invalid");
    every_mistake(&folder, 25, |path| {
        let ended = user(path, "list", "");
        assert_eq!(ended.code, Some(2), "{}: {}", path.display(), ended.log);
        ended.log.replace(folder.to_str().unwrap(), "") + "\n"
    });
}

#[test]
fn a_service_with_a_bad_file_does_not_start() {
    let bad = root().join("tests/users/invalid/key-of-user.toml");
    let missing = scratch("users-missing").join("users.toml");
    for (file, part) in [
        (&bad, "key-of-user.toml:3: user `ann` has no key `pasword`"),
        (&missing, "users.toml"),
    ] {
        let run = Run::of(guest("scripted")).arguments(["--users", file.to_str().unwrap()]);
        let ended = run.ended();
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        assert!(ended.log.contains(part), "{}", ended.log);
    }
}

#[test]
fn a_file_that_others_may_read_is_warned_of() {
    let file = scratch("users-mode").join("users.toml");
    fs::copy(good(), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let run = Run::of(guest("scripted")).arguments(["--users", file.to_str().unwrap()]);
    run.start().logged(&["WARN", "(mode 640)", "chmod 600"]);
}

#[test]
fn help_tells_how_to_use_it() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--help"], &["user"]),
        (
            &["run", "--help"],
            &["--users", "--anonymous", "nethost user"],
        ),
        (
            &["user", "--help"],
            &["add", "passwd", "remove", "list", "Examples", "argon2id"],
        ),
        (
            &["user", "add", "--help"],
            &[
                "--file",
                "--group",
                "--alias",
                "--home",
                "--no-scram",
                "users.toml",
            ],
        ),
        (&["user", "list", "--help"], &["--json"]),
    ];
    help_tells(cases);
}
