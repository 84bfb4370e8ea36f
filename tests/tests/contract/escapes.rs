//! Storage: the ways out of a directory that was granted, each tried with everything that takes a path.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nethost_tests::disk::{Disk, exists};

/// Tries everything at a path, and returns what came of it: nothing may have.
fn all(disk: &mut Disk, path: &str) -> Vec<(String, String)> {
    disk.put("own", "own");
    let mut outcomes = Vec::new();
    for opening in ["read", "update", "create", "create-new", "replace"] {
        outcomes.push((opening.to_owned(), disk.open(path, opening, "f")));
    }
    for command in ["stat", "mkdir", "remove", "rmdir", "sync", "watch"] {
        let outcome = disk.done(&format!("dir-{command} d {path}"));
        outcomes.push((command.to_owned(), outcome));
    }
    for (command, arguments) in [
        ("list", format!("{path} 0")),
        ("rename", format!("own {path}")),
        ("rename", format!("{path} taken")),
        ("link", format!("own {path}")),
        ("link", format!("{path} taken")),
    ] {
        let outcome = disk.done(&format!("dir-{command} d {arguments}"));
        outcomes.push((format!("{command} {arguments}"), outcome));
    }
    outcomes
}

/// Asserts that nothing can be done at a path, and that nothing was.
fn refused(name: &str, path: &str, prepare: impl FnOnce(&Disk), code: &str) {
    let mut disk = Disk::new(name);
    prepare(&disk);
    for (what, outcome) in all(&mut disk, path) {
        assert_eq!(outcome, code, "{what} of {path}");
    }
    untouched(&disk);
}

fn untouched(disk: &Disk) {
    let outside: Vec<_> = fs::read_dir(disk.outside())
        .expect("a scratch folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(outside, ["secret"]);
    let secret = fs::read(disk.outside().join("secret")).expect("a scratch file");
    assert_eq!(secret, b"secret");
    assert!(exists(&disk.inside().join("own")));
    assert!(!exists(&disk.inside().join("taken")));
}

fn nothing(_: &Disk) {}

/// A text alone says that it is wrong.
macro_rules! texts {
    ($($name:ident: $path:expr;)*) => {
        $(#[test]
        fn $name() {
            refused(stringify!($name), $path, nothing, "invalid");
        })*
    };
}

texts! {
    two_dots_lead_nowhere: "..";
    two_dots_at_the_start: "../outside/secret";
    two_dots_within: "a/../../outside/secret";
    two_dots_at_the_end: "a/..";
    two_dots_that_would_stay_inside: "a/../own";
    one_dot_at_the_start: "./own";
    one_dot_at_the_end: "a/.";
    one_dot_within: "a/./own";
    an_absolute_path: "/etc/passwd";
    the_root: "/";
    two_slashes_at_the_start: "//etc/passwd";
    the_process_itself: "/proc/self/root/etc/passwd";
    two_slashes_within: "a//own";
    a_slash_at_the_end: "own/";
    an_empty_path: "\\e";
    a_nul: "own\\0";
    a_nul_before_more: "own\\0/../../outside/secret";
    a_name_that_is_too_long: "\\x256,";
    a_path_that_is_too_long: "a/\\x4096,";
}

/// What follows a link, and what is about the link itself.
fn link_is_refused(name: &str, target: &str) {
    let mut disk = Disk::new(name);
    let target = match target.strip_prefix("OUTSIDE") {
        Some(rest) => format!("{}{rest}", disk.outside().display()),
        None => target.to_owned(),
    };
    symlink(target, disk.inside().join("l")).expect("a link");
    disk.put("own", "own");
    for opening in ["read", "update", "create", "replace"] {
        assert_eq!(disk.open("l", opening, "f"), "denied", "{opening}");
    }
    assert_eq!(disk.open("l", "create-new", "f"), "exists");
    for command in ["stat d l", "list d l 0", "sync d l", "watch d l"] {
        assert_eq!(disk.done(&format!("dir-{command}")), "denied", "{command}");
    }
    // Below it nothing is reached either.
    for (what, outcome) in all(&mut disk, "l/secret") {
        assert_eq!(outcome, "denied", "{what} of l/secret");
    }
    assert_eq!(disk.done("dir-mkdir d l"), "exists");
    // Renaming and removing are about the link itself.
    assert_eq!(disk.done("dir-rename d l m"), "ok");
    assert_eq!(disk.done("dir-remove d m"), "ok");
    untouched(&disk);
}

#[test]
fn a_relative_link_that_leads_out() {
    link_is_refused("link-relative", "../outside");
}

#[test]
fn an_absolute_link_that_leads_out() {
    link_is_refused("link-absolute", "OUTSIDE");
}

#[test]
fn a_link_to_the_folder_above() {
    let mut disk = Disk::new("link-above");
    symlink("..", disk.inside().join("l")).expect("a link");
    for (what, outcome) in all(&mut disk, "l/outside/secret") {
        assert_eq!(outcome, "denied", "{what}");
    }
    untouched(&disk);
}

#[test]
fn a_link_to_the_root() {
    let mut disk = Disk::new("link-root");
    symlink("/", disk.inside().join("l")).expect("a link");
    for (what, outcome) in all(&mut disk, "l/etc/passwd") {
        assert_eq!(outcome, "denied", "{what}");
    }
    untouched(&disk);
}

#[test]
fn an_absolute_link_that_would_stay_inside() {
    let mut disk = Disk::new("link-absolute-inside");
    disk.put("own", "own");
    symlink(disk.inside().join("own"), disk.inside().join("l")).expect("a link");
    assert_eq!(disk.open("l", "read", "f"), "denied");
    assert_eq!(disk.stat("l"), "denied");
}

#[test]
fn a_link_to_the_process_itself() {
    for target in [
        "/proc/self/root",
        "/proc/self/cwd",
        "/proc/self/fd",
        "/dev/fd",
        "/dev/stdin",
    ] {
        let mut disk = Disk::new(&format!("link-{}", target.replace('/', "-")));
        symlink(target, disk.inside().join("l")).expect("a link");
        for path in ["l", "l/0", "l/etc/passwd"] {
            assert_eq!(disk.open(path, "read", "f"), "denied", "{target} {path}");
        }
    }
}

#[test]
fn a_chain_of_links_that_leads_out_in_the_end() {
    let mut disk = Disk::new("link-chain");
    for (target, name) in [("b", "a"), ("c", "b"), ("../outside/secret", "c")] {
        symlink(target, disk.inside().join(name)).expect("a link");
    }
    for name in ["a", "b", "c"] {
        assert_eq!(disk.open(name, "read", "f"), "denied", "{name}");
        assert_eq!(disk.open(name, "replace", "f"), "denied", "{name}");
    }
    let secret = fs::read(disk.outside().join("secret")).expect("a scratch file");
    assert_eq!(secret, b"secret");
}

#[test]
fn a_link_that_leads_nowhere_outside_makes_nothing_there() {
    let mut disk = Disk::new("link-dangling");
    symlink("../outside/new", disk.inside().join("l")).expect("a link");
    for opening in ["create", "create-new", "replace"] {
        let outcome = disk.open("l", opening, "f");
        assert!(
            ["denied", "exists"].contains(&outcome.as_str()),
            "{opening}: {outcome}"
        );
    }
    assert!(!exists(&disk.outside().join("new")));
}

#[test]
fn links_in_a_circle() {
    let mut disk = Disk::new("link-circle");
    symlink("b", disk.inside().join("a")).expect("a link");
    symlink("a", disk.inside().join("b")).expect("a link");
    assert_eq!(disk.open("a", "read", "f"), "invalid");
    assert_eq!(disk.stat("a/c"), "invalid");
}

#[test]
fn links_that_stay_inside_are_followed() {
    let mut disk = Disk::new("link-inside");
    fs::create_dir_all(disk.inside().join("a/b")).expect("a folder");
    disk.put("own", "own");
    symlink("../../own", disk.inside().join("a/b/l")).expect("a link");
    symlink("a", disk.inside().join("m")).expect("a link");
    assert_eq!(disk.open("m/b/l", "read", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 3 own");
    assert_eq!(disk.stat("m/b/l"), "file 3");
    // Up too far on the way is out, though it would come back.
    symlink("../inside/own", disk.inside().join("n")).expect("a link");
    assert_eq!(disk.open("n", "read", "f"), "denied");
}

#[test]
fn a_hard_link_is_a_file_like_others() {
    let mut disk = Disk::new("hard-link");
    fs::hard_link(disk.outside().join("secret"), disk.inside().join("h")).expect("a hard link");
    assert_eq!(disk.open("h", "read", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 6 secret");
}

#[test]
fn a_hard_link_of_a_link_is_one_of_the_link_itself() {
    let mut disk = Disk::new("hard-link-link");
    symlink("../outside/secret", disk.inside().join("l")).expect("a link");
    assert_eq!(disk.done("dir-link d l m"), "ok");
    let metadata = disk.inside().join("m").symlink_metadata();
    assert!(metadata.expect("a link").is_symlink());
    assert_eq!(disk.open("m", "read", "f"), "denied");
}

#[test]
fn a_device_is_no_file() {
    let mut disk = Disk::new("device");
    let device = disk.inside().join("null");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    );
    // Only root makes devices.
    if made.is_ok() {
        for opening in ["read", "update", "replace"] {
            assert_eq!(disk.open("null", opening, "f"), "denied", "{opening}");
        }
    }
    assert_eq!(disk.open("no", "read", "f"), "not-found");
}

#[test]
fn a_directory_that_was_moved_out_is_still_the_one_that_was_granted() {
    let mut disk = Disk::new("moved");
    disk.put("own", "own");
    let moved = disk.outside().join("moved");
    fs::rename(disk.inside(), &moved).expect("a rename");
    symlink(disk.outside(), disk.inside()).expect("a link");
    assert_eq!(disk.open("secret", "read", "f"), "not-found");
    assert_eq!(disk.open("own", "read", "f"), "file");
    fs::remove_file(disk.inside()).expect("a link");
    fs::rename(moved, disk.inside()).expect("a rename");
}

/// Everything that names an entry, and not the directory that it is in.
#[test]
fn the_directory_itself_is_no_entry() {
    let mut disk = Disk::new("itself");
    disk.put("own", "own");
    for opening in ["read", "update", "create", "create-new", "replace"] {
        assert_eq!(disk.open(".", opening, "f"), "invalid", "{opening}");
    }
    for command in [
        "mkdir d .",
        "remove d .",
        "rmdir d .",
        "rename d . taken",
        "rename d own .",
        "link d . taken",
        "link d own .",
    ] {
        let outcome = disk.done(&format!("dir-{command}"));
        assert_eq!(outcome, "invalid", "{command}");
    }
    assert!(disk.stat(".").starts_with("directory "));
    untouched(&disk);
}

/// What is an escape elsewhere (URLs, Windows, look-alikes) is a name like others here.
#[test]
fn what_only_looks_like_dots_and_slashes_is_a_name() {
    for (number, path) in [
        "..%2foutside%2fsecret",
        "%2e%2e",
        "..\\outside\\own",
        "C:\\",
        "\u{ff0e}\u{ff0e}\u{ff0f}outside\u{ff0f}secret",
        "\u{2024}\u{2024}",
        "..\u{200b}",
        "...",
        "~",
        "-rf",
    ]
    .into_iter()
    .enumerate()
    {
        let mut disk = Disk::new(&format!("looks-{number}"));
        assert_eq!(disk.open(path, "read", "f"), "not-found", "{path}");
        assert_eq!(disk.open(path, "create-new", "f"), "file", "{path}");
        assert!(exists(&disk.inside().join(path)), "{path}");
        disk.put("own", "own");
        untouched(&disk);
    }
}

#[test]
fn a_name_is_its_bytes_and_no_other_spelling() {
    let mut disk = Disk::new("spelling");
    for name in ["own", "caf\u{e9}"] {
        disk.put(name, "");
    }
    // As the listing of another program may show the file below.
    let raw = OsStr::from_bytes(b"raw\xff");
    fs::write(disk.inside().join(raw), "").expect("a scratch file");
    for path in [
        "OWN",
        "own\u{200d}",
        "cafe\u{301}",
        "raw\u{fffd}",
        "raw\u{ff}",
    ] {
        assert_eq!(disk.stat(path), "not-found", "{path}");
    }
    assert_eq!(disk.stat("caf\u{e9}"), "file 0");
}

#[test]
fn a_path_of_more_names_than_there_are_directories() {
    let mut disk = Disk::new("deep");
    disk.put("own", "own");
    let deep = "n/".repeat(2046);
    assert_eq!(disk.open(&format!("{deep}n"), "read", "f"), "not-found");
    assert_eq!(disk.open("own/n", "create", "f"), "not-found");
    assert_eq!(disk.stat("own/n/n"), "not-found");
    let few = "n/".repeat(300);
    fs::create_dir_all(disk.inside().join(&few)).expect("folders");
    assert_eq!(disk.open(&format!("{few}x"), "create", "f"), "file");
    assert!(exists(&disk.inside().join(few).join("x")));
    untouched(&disk);
}

#[test]
fn a_link_into_another_granted_directory() {
    let mut disk = Disk::prepared("second", ":rw", |run, folder| {
        let second = format!("e={}:rw", folder.join("outside").display());
        run.arguments(["--dir", &second])
    });
    assert_eq!(disk.plugin.ask("dir-grant e"), "rw");
    disk.put("own", "own");
    symlink("../outside", disk.inside().join("l")).expect("a link");
    for (what, outcome) in all(&mut disk, "l/secret") {
        assert_eq!(outcome, "denied", "{what}");
    }
    // A path is within one of them: nothing is renamed or linked from one to another.
    for (what, outcome) in all(&mut disk, "../outside/secret") {
        assert_eq!(outcome, "invalid", "{what}");
    }
    untouched(&disk);
}

/// Whoever may not see what is outside does not learn either whether it is there.
#[test]
fn a_link_tells_nothing_of_what_is_or_is_not_outside() {
    let mut disk = Disk::new("oracle");
    for (name, target) in [
        ("to-file", "../outside/secret"),
        ("to-folder", "../outside"),
        ("to-nothing", "../outside/nothing"),
        ("to-far-nothing", "../nowhere/nothing"),
        ("absolute", "/etc/passwd"),
        ("absolute-nothing", "/nowhere/nothing"),
    ] {
        symlink(target, disk.inside().join(name)).expect("a link");
    }
    for command in [
        "stat d NAME",
        "open d NAME read f",
        "open d NAME update f",
        "open d NAME create f",
        "open d NAME replace f",
        "list d NAME 0",
        "watch d NAME",
        "sync d NAME",
        "stat d NAME/x",
        "mkdir d NAME/x",
        "remove d NAME/x",
    ] {
        // With its words: they are the same, too.
        let outcomes: Vec<_> = ["to-file", "to-folder", "to-nothing", "to-far-nothing"]
            .into_iter()
            .chain(["absolute", "absolute-nothing"])
            .map(|name| {
                let command = format!("dir-{}", command.replace("NAME", name));
                let operation = disk.plugin.started(&command);
                disk.plugin.event(&format!("completed {operation}"))
            })
            .collect();
        assert!(outcomes[0].starts_with("error denied"), "{outcomes:?}");
        let is_same = outcomes.iter().all(|it| *it == outcomes[0]);
        assert!(is_same, "{command}: {outcomes:?}");
    }
}

#[test]
fn a_listing_tells_of_a_link_and_not_of_what_it_leads_to() {
    let mut disk = Disk::new("list-link");
    let target = "../outside/secret";
    symlink(target, disk.inside().join("l")).expect("a link");
    let (_, _, entries) = disk.list(".", "0");
    assert_eq!(entries, [format!("l:link:{}", target.len())]);
}

/// The plugin makes no hard link to what is outside; whoever did makes it a file of the directory, which nothing tells from others.
#[test]
fn a_hard_link_to_the_outside_is_not_the_plugins_to_make() {
    let mut disk = Disk::new("hard-link-out");
    disk.put("own", "own");
    symlink("../outside", disk.inside().join("l")).expect("a link");
    for command in [
        "link d ../outside/secret taken",
        "link d own ../outside/new",
        "link d l/secret taken",
        "link d own l/new",
    ] {
        let outcome = disk.done(&format!("dir-{command}"));
        assert!(
            ["invalid", "denied"].contains(&outcome.as_str()),
            "{command}: {outcome}"
        );
    }
    untouched(&disk);
}

#[test]
fn nothing_gets_out_of_a_directory_that_is_to_be_read() {
    let mut disk = Disk::with("ro", ":ro", |run| run);
    disk.put("own", "own");
    fs::create_dir(disk.inside().join("folder")).expect("a folder");
    // Emptying is a change as well, and is not done before it is refused.
    for opening in ["replace", "update", "create", "create-new"] {
        assert_eq!(disk.open("own", opening, "f"), "denied", "{opening}");
    }
    for command in [
        "link d own taken",
        "rename d own taken",
        "mkdir d taken",
        "remove d own",
        "rmdir d folder",
    ] {
        let outcome = disk.done(&format!("dir-{command}"));
        assert_eq!(outcome, "denied", "{command}");
    }
    assert_eq!(disk.open("own", "read", "f"), "file");
    for command in ["write f 0 x", "append f x", "set-size f 0"] {
        let outcome = disk.done(&format!("file-{command}"));
        assert_eq!(outcome, "denied", "{command}");
    }
    assert_eq!(disk.contents("own"), b"own");
    untouched(&disk);
}

#[test]
fn a_directory_that_was_removed_is_not_the_one_that_comes_in_its_place() {
    let mut disk = Disk::new("removed");
    fs::remove_dir(disk.inside()).expect("a folder");
    fs::create_dir(disk.inside()).expect("a folder");
    disk.put("own", "own");
    assert_eq!(disk.open("own", "read", "f"), "not-found");
    assert_eq!(disk.open("new", "create", "f"), "not-found");
    assert_eq!(disk.done("dir-mkdir d new"), "not-found");
    assert!(!exists(&disk.inside().join("new")));
}

/// A host in a mount namespace of its own, in which `SCRIPT` mounted something in the directory (`$0` is the scratch folder). None where that is not allowed.
fn with_mount(name: &str, script: &str) -> Option<Disk> {
    let may = Command::new("unshare").args(["-m", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("this test needs a mount namespace, which this user may not have");
        return None;
    }
    let script = format!("set -e; {script}; exec \"$@\"");
    Some(Disk::prepared(name, ":rw", |run, folder| {
        fs::create_dir(folder.join("inside/m")).expect("a folder");
        let folder = folder.to_str().expect("a path in UTF-8");
        run.started_by(["unshare", "-m", "sh", "-c", &script, folder])
    }))
}

/// It is the operator who mounts: what is mounted there is a part of the directory, and what has links to the outside is none.
#[test]
fn a_mount_point_is_a_part_and_no_way_out() {
    let script = "mount --bind \"$0/outside\" \"$0/inside/m\"";
    let Some(mut disk) = with_mount("mount", script) else {
        return;
    };
    disk.put("own", "own");
    assert_eq!(disk.open("m/secret", "read", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 6 secret");
    assert_eq!(disk.open("m/../own", "read", "f"), "invalid");
    assert_eq!(disk.done("dir-rename d own m/own"), "unsupported");
    assert_eq!(disk.done("dir-link d m/secret taken"), "unsupported");
    assert_eq!(disk.done("dir-rmdir d m"), "busy");
    // Up from where it is mounted, and not from where it comes from.
    symlink("../own", disk.outside().join("up")).expect("a link");
    symlink("../../outside/secret", disk.outside().join("out")).expect("a link");
    assert_eq!(disk.open("m/up", "read", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 3 own");
    assert_eq!(disk.open("m/out", "read", "f"), "denied");
}

/// Even an operator who grants a directory with `/proc` in it grants no more than what is in it.
#[test]
fn links_of_proc_lead_nowhere() {
    let Some(mut disk) = with_mount("proc", "mount --bind /proc \"$0/inside/m\"") else {
        return;
    };
    for path in [
        "m/self/root/etc/passwd",
        "m/self/cwd",
        "m/self/exe",
        "m/self/fd/0",
        "m/thread-self/root",
    ] {
        for _ in 0..2 {
            assert_eq!(disk.open(path, "read", "f"), "invalid", "{path}");
            assert_eq!(disk.stat(path), "invalid", "{path}");
        }
    }
    assert_eq!(disk.open("m/version", "read", "f"), "file");
}

/// One directory and a link to the outside change places all the time.
fn racing(name: &str, mut check: impl FnMut(&mut Disk)) {
    let mut disk = Disk::new(name);
    let (real, link) = (disk.inside().join("real"), disk.inside().join("link"));
    fs::create_dir(&real).expect("a folder");
    fs::write(real.join("secret"), "harmless").expect("a scratch file");
    symlink("../outside", &link).expect("a link");
    let is_over = AtomicBool::new(false);
    let swap = |a: &Path, b: &Path| {
        let cwd = rustix::fs::CWD;
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(cwd, a, cwd, b, flags).expect("an exchange");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                swap(&real, &link);
            }
        });
        // Also when the check fails.
        let _over = Over(&is_over);
        check(&mut disk);
    });
    let outside = fs::read_dir(disk.outside()).expect("a scratch folder");
    assert_eq!(outside.count(), 1);
    let secret = fs::read(disk.outside().join("secret")).expect("a scratch file");
    assert_eq!(secret, b"secret");
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_link_that_comes_in_the_place_of_a_directory_while_a_file_is_opened() {
    racing("race-open", |disk| {
        for _ in 0..300 {
            match disk.open("real/secret", "read", "f").as_str() {
                "file" => assert_eq!(disk.done("file-read f 0 9"), "bytes 8 harmless"),
                other => assert_eq!(other, "denied"),
            }
        }
    });
}

#[test]
fn a_link_that_comes_in_the_place_of_a_directory_while_it_is_looked_at() {
    racing("race-look", |disk| {
        for _ in 0..200 {
            // The file outside is shorter.
            let stat = disk.stat("real/secret");
            assert!(["file 8", "denied"].contains(&stat.as_str()), "{stat}");
            let operation = disk.plugin.started("dir-list d real 0");
            match disk.outcome(operation).as_str() {
                "ready" => {
                    let page = disk.plugin.ask(&format!("dir-page {operation}"));
                    assert_eq!(page, "- 0 secret:file:8");
                }
                other => assert_eq!(other, "denied"),
            }
        }
    });
}

/// A directory is moved out and back all the time; a link in it goes up, which ends elsewhere from there.
#[test]
fn a_directory_that_is_moved_out_while_a_link_in_it_is_followed() {
    let mut disk = Disk::new("race-parent");
    disk.put("own", "harmless");
    let inner = disk.inside().join("a/b");
    fs::create_dir_all(&inner).expect("folders");
    symlink("../../own", inner.join("up")).expect("a link");
    let away = disk.outside().join("x");
    fs::create_dir(&away).expect("a folder");
    fs::write(disk.outside().join("own"), "secret").expect("a scratch file");
    let away = away.join("b");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::rename(&inner, &away).expect("a rename");
                fs::rename(&away, &inner).expect("a rename");
            }
        });
        let _over = Over(&is_over);
        for _ in 0..300 {
            match disk.open("a/b/up", "read", "f").as_str() {
                "file" => assert_eq!(disk.done("file-read f 0 9"), "bytes 8 harmless"),
                // The kernel says that it cannot tell any more (`EAGAIN`).
                other => assert!(["denied", "not-found", "busy"].contains(&other), "{other}"),
            }
        }
    });
}

#[test]
fn a_link_that_comes_in_the_place_of_a_directory_while_something_is_changed() {
    racing("race-change", |disk| {
        for _ in 0..100 {
            for command in [
                "mkdir d real/new",
                "rmdir d real/new",
                "rename d real/secret real/moved",
                "rename d real/moved real/secret",
                "link d real/secret real/linked",
                "remove d real/linked",
            ] {
                let outcome = disk.done(&format!("dir-{command}"));
                let expected = ["ok", "denied", "not-found", "exists"];
                assert!(expected.contains(&outcome.as_str()), "{command}: {outcome}");
            }
            match disk.open("real/made", "replace", "f").as_str() {
                "file" => {}
                other => assert_eq!(other, "denied"),
            }
        }
    });
}
