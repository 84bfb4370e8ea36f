//! Storage: what can be done in a directory that was granted, and how much of it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
};

use nethost_tests::{
    disk::{Disk, exists},
    places,
    scripted::{Scripted, pattern},
};

#[test]
fn what_was_written_is_read() {
    let mut disk = Disk::new("write");
    assert_eq!(disk.open("a", "create-new", "f"), "file");
    assert_eq!(disk.done("file-read f 0 10"), "bytes 0");
    assert_eq!(disk.done("file-write f 3 abc"), "ok");
    assert_eq!(disk.done("file-read f 0 10"), r"bytes 6 \0\0\0abc");
    assert_eq!(disk.done("file-read f 4 1"), "bytes 1 b");
    assert_eq!(disk.done("file-read f 6 1"), "bytes 0");
    assert_eq!(disk.done("file-read f 18446744073709551615 1"), "bytes 0");
    assert_eq!(disk.done("file-append f def"), "ok");
    assert_eq!(disk.done("file-sync f"), "ok");
    assert_eq!(disk.contents("a"), b"\0\0\0abcdef");
    assert_eq!(disk.plugin.ask("file-size f"), "9");
    assert_eq!(disk.done("file-set-size f 4"), "ok");
    assert_eq!(disk.done("file-set-size f 5"), "ok");
    assert_eq!(disk.contents("a"), b"\0\0\0a\0");
    assert_eq!(disk.done("file-set-size f 18446744073709551615"), "invalid");
}

#[test]
fn each_opening_does_what_it_says() {
    let mut disk = Disk::new("opening");
    for opening in ["read", "update"] {
        assert_eq!(disk.open("a", opening, "f"), "not-found", "{opening}");
    }
    assert_eq!(disk.open("a", "create", "f"), "file");
    assert_eq!(disk.done("file-write f 0 abc"), "ok");
    assert_eq!(disk.open("a", "create", "f"), "file");
    assert_eq!(disk.open("a", "update", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 3 abc");
    assert_eq!(disk.open("a", "create-new", "f"), "exists");
    assert_eq!(disk.open("a", "read", "f"), "file");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 3 abc");
    for change in ["write f 0 x", "append f x", "set-size f 0"] {
        assert_eq!(disk.done(&format!("file-{change}")), "denied", "{change}");
    }
    assert_eq!(disk.contents("a"), b"abc");
    assert_eq!(disk.open("a", "replace", "f"), "file");
    assert_eq!(disk.contents("a"), b"");
}

#[test]
fn what_comes_from_the_disk_is_the_same_as_what_is_in_memory() {
    let mut disk = Disk::new("cold");
    let data = pattern(0, 3_000_000);
    disk.put("big", &data);
    let file = fs::File::open(disk.inside().join("big")).expect("a scratch file");
    file.sync_all().expect("a disk");
    // What the kernel keeps it may forget; whether it does is its own affair, and the answer must be the same.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
    assert_eq!(disk.open("big", "read", "f"), "file");
    for offset in [2_000_000, 0, 2_999_999, 2_000_000] {
        let count = 1_048_576.min(3_000_000 - offset);
        let start = String::from_utf8_lossy(&data[offset..][..count.min(400)]).into_owned();
        assert_eq!(
            disk.done(&format!("file-read f {offset} 1048576")),
            format!("bytes {count} {}", start.escape_debug())
        );
    }
    assert_eq!(disk.done("file-read f 0 1048577"), "invalid");
}

#[test]
fn writes_of_one_handle_happen_in_order() {
    let mut disk = Disk::new("order");
    assert_eq!(disk.open("log", "create", "f"), "file");
    let numbers: Vec<_> = (0..200).map(|number| format!("{number:03}")).collect();
    let commands: Vec<_> = numbers
        .iter()
        .map(|number| format!("file-append f {number}"))
        .collect();
    disk.plugin.run(&commands.join(";"));
    for _ in &numbers {
        assert!(disk.plugin.event("completed").ends_with(" ok"));
    }
    assert_eq!(disk.contents("log"), numbers.concat().as_bytes());
}

#[test]
fn a_completion_comes_after_the_callback() {
    let mut disk = Disk::new("after");
    disk.put("a", "abc");
    // The second time everything is in memory.
    for _ in 0..2 {
        disk.plugin.run("dir-stat d a; tell still-in-the-callback");
        let events: Vec<_> = std::iter::repeat_with(|| disk.plugin.events())
            .flatten()
            .take(3)
            .collect();
        assert!(events[0].starts_with("started "), "{events:?}");
        assert_eq!(events[1], "still-in-the-callback");
        assert!(events[2].starts_with("completed "), "{events:?}");
    }
}

#[test]
fn names_are_made_changed_and_removed() {
    let mut disk = Disk::new("names");
    assert_eq!(disk.done("dir-mkdir d sub"), "ok");
    assert_eq!(disk.done("dir-mkdir d sub"), "exists");
    assert_eq!(disk.done("dir-mkdir d no/sub"), "not-found");
    disk.put("a", "a");
    assert_eq!(disk.done("dir-rename d a sub/b"), "ok");
    assert_eq!(disk.done("dir-link d sub/b c"), "ok");
    assert_eq!(disk.done("dir-link d sub/b c"), "exists");
    assert_eq!(disk.done("dir-link d sub e"), "denied");
    assert_eq!(disk.contents("c"), b"a");
    disk.put("f", "f");
    assert_eq!(disk.done("dir-rename d f c"), "ok");
    assert_eq!(disk.contents("c"), b"f");
    assert_eq!(disk.done("dir-rename d f c"), "not-found");
    assert_eq!(disk.done("dir-rmdir d sub"), "exists");
    assert_eq!(disk.done("dir-remove d sub"), "invalid");
    assert_eq!(disk.done("dir-rmdir d c"), "not-found");
    assert_eq!(disk.done("dir-remove d sub/b"), "ok");
    assert_eq!(disk.done("dir-rmdir d sub"), "ok");
    assert_eq!(disk.done("dir-sync d ."), "ok");
    assert_eq!(disk.done("dir-sync d c"), "not-found");
    assert!(!exists(&disk.inside().join("sub")));
    assert_eq!(disk.open("c/d", "create", "f"), "not-found");
}

#[test]
fn stat_tells_kind_and_size_and_follows_links() {
    let mut disk = Disk::new("stat");
    disk.put("a", "abc");
    symlink("a", disk.inside().join("l")).expect("a link");
    for _ in 0..2 {
        assert_eq!(disk.stat("a"), "file 3");
        assert_eq!(disk.stat("l"), "file 3");
        assert!(disk.stat(".").starts_with("directory "));
        assert_eq!(disk.stat("b"), "not-found");
        assert_eq!(disk.stat("a/b"), "not-found");
    }
    let number = |disk: &mut Disk, path: &str| {
        let operation = disk.plugin.started(&format!("dir-stat d {path}"));
        assert_eq!(disk.outcome(operation), "ready");
        let metadata = disk.plugin.ask(&format!("dir-metadata {operation}"));
        // A result is taken once.
        assert_eq!(
            disk.plugin.ask(&format!("dir-metadata {operation}")),
            "none"
        );
        metadata.split(' ').next_back().map(str::to_owned)
    };
    let before = number(&mut disk, "a");
    assert_eq!(disk.done("dir-rename d a b"), "ok");
    assert_eq!(number(&mut disk, "b"), before);
}

#[test]
fn a_directory_is_listed_in_pages() {
    let mut disk = Disk::new("list");
    let mut expected: Vec<_> = (0..600).map(|number| format!("n{number}")).collect();
    for name in &expected {
        disk.put(name, name);
    }
    expected.sort();
    let (mut start, mut pages, mut names) = ("0".to_owned(), 0, Vec::new());
    while start != "-" {
        let (next, _, entries) = disk.list(".", &start);
        assert!(entries.len() <= 256);
        for entry in entries {
            let parts: Vec<_> = entry.split(':').collect();
            assert_eq!(parts[1..], ["file", &parts[0].len().to_string()]);
            names.push(parts[0].to_owned());
        }
        (start, pages) = (next, pages + 1);
    }
    names.sort();
    assert_eq!(names, expected);
    assert_eq!(pages, 3);
}

#[test]
fn a_listing_tells_what_things_are_themselves_and_counts_what_no_text_names() {
    let mut disk = Disk::new("kinds");
    disk.put("file", "abc");
    fs::create_dir(disk.inside().join("directory")).expect("a folder");
    symlink("file", disk.inside().join("link")).expect("a link");
    fifo(&disk, "other");
    for name in [b"\xff".as_slice(), b"a\xc3"] {
        fs::write(disk.inside().join(OsStr::from_bytes(name)), "").expect("a scratch file");
    }
    let (next, unnameable, entries) = disk.list(".", "0");
    assert_eq!((next.as_str(), unnameable.as_str()), ("-", "2"));
    let mut kinds: Vec<_> = entries
        .iter()
        .map(|entry| entry.rsplit_once(':').expect("NAME:KIND:SIZE").0)
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "directory:directory",
            "file:file",
            "link:link",
            "other:other"
        ]
    );
    assert_eq!(disk.done("dir-list d file 0"), "not-found");
}

#[test]
fn a_lock_excludes_other_handles() {
    let mut disk = Disk::new("lock");
    disk.put("a", "");
    for name in ["f", "g"] {
        assert_eq!(disk.open("a", "update", name), "file");
    }
    assert_eq!(disk.done("file-lock f shared"), "ok");
    assert_eq!(disk.done("file-lock g shared"), "ok");
    assert_eq!(disk.done("file-lock f exclusive"), "busy");
    assert_eq!(disk.done("file-lock g released"), "ok");
    assert_eq!(disk.done("file-lock f exclusive"), "ok");
    assert_eq!(disk.done("file-lock g shared"), "busy");
    let outside = fs::File::open(disk.inside().join("a")).expect("a scratch file");
    assert!(outside.try_lock().is_err());
    // The handle's end is the lock's.
    disk.plugin.run("file-close f");
    assert_eq!(disk.done("file-lock g exclusive"), "ok");
}

#[test]
fn a_watch_completes_at_the_next_change() {
    let mut disk = Disk::new("watch");
    disk.put("a", "abc");
    fs::create_dir(disk.inside().join("sub")).expect("a folder");
    type Change = fn(&Disk);
    let changes: [Change; 4] = [
        |disk| disk.put("b", ""),
        |disk| disk.put("a", "abcd"),
        |disk| fs::rename(disk.inside().join("a"), disk.inside().join("c")).expect("a rename"),
        |disk| fs::remove_file(disk.inside().join("c")).expect("a file"),
    ];
    for change in changes {
        let operation = disk.plugin.started("dir-watch d .");
        disk.until_watching();
        disk.put("sub/elsewhere", "");
        disk.plugin.settle();
        assert!(!disk.plugin.has_event(&format!("completed {operation}")));
        change(&disk);
        assert_eq!(disk.outcome(operation), "ok");
    }
    assert_eq!(disk.done("dir-watch d no"), "not-found");
    assert_eq!(disk.done("dir-watch d b"), "not-found");
}

#[test]
fn only_so_many_directories_are_watched() {
    let mut disk = Disk::new("watches");
    let started: Vec<_> = (0..16)
        .map(|_| disk.plugin.started("dir-watch d ."))
        .collect();
    assert_eq!(disk.done("dir-watch d ."), "limit");
    disk.plugin.run(&format!("cancel {}", started[0]));
    disk.plugin.settle();
    let operation = disk.plugin.started("dir-watch d .");
    let events = disk.plugin.events();
    let completed = format!("completed {operation}");
    assert!(
        !events.iter().any(|it| it.contains(&completed)),
        "{events:?}"
    );
}

#[test]
fn what_is_granted_to_be_read_is_not_changed() {
    let mut disk = Disk::with("mode", ":ro", |run| run);
    disk.put("a", "abc");
    assert_eq!(disk.plugin.ask("dir-grant d"), "ro");
    for opening in ["update", "create", "create-new", "replace"] {
        assert_eq!(disk.open("a", opening, "f"), "denied", "{opening}");
        assert_eq!(disk.open("b", opening, "f"), "denied", "{opening}");
    }
    for change in [
        "mkdir d b",
        "rename d a b",
        "link d a b",
        "remove d a",
        "rmdir d a",
    ] {
        assert_eq!(disk.done(&format!("dir-{change}")), "denied", "{change}");
    }
    assert_eq!(disk.open("a", "read", "f"), "file");
    assert_eq!(disk.done("file-lock f shared"), "ok");
    assert_eq!(disk.done("file-read f 0 9"), "bytes 3 abc");
    assert!(exists(&disk.inside().join("a")) && !exists(&disk.inside().join("b")));
}

#[test]
fn what_was_not_granted_is_denied() {
    let mut disk = Disk::new("grant");
    for name in ["e", "", "D", "../d", "/", "asked"] {
        assert_eq!(disk.plugin.ask(&format!("dir-grant {name}")), "denied");
    }
    assert!(disk.plugin.host.log().contains(
        "not granted: directory asked (to test what is asked for); --dir asked=PATH:rw grants it"
    ));
}

#[test]
fn without_a_mode_it_is_what_the_plugin_asks_for_and_the_folder_is_made() {
    let folder = places::scratch("disk-asked");
    let path = folder.join("not/yet");
    let mut plugin = Scripted::start_with(|run| {
        run.arguments(["--dir", &format!("asked={}", path.display())])
            .arguments(["--dir", &format!("other={}", folder.display())])
    });
    assert_eq!(plugin.ask("dir-grant asked"), "rw");
    assert_eq!(plugin.ask("dir-grant other"), "ro");
    assert!(path.is_dir());
    assert!(!plugin.host.log().contains("not granted: directory"));
    fs::remove_dir_all(folder).expect("a scratch folder");
}

#[test]
fn a_quota_is_for_what_all_files_have_together() {
    let mut disk = Disk::with("quota", ":rw", |run| {
        run.arguments(["--dir-quota", "d=1KiB"])
    });
    assert_eq!(disk.open("a", "create", "f"), "file");
    assert_eq!(disk.open("b", "create", "g"), "file");
    assert_eq!(disk.done("file-fill f 0 1000"), "ok");
    assert_eq!(disk.done("file-fill g 0 25"), "full");
    assert_eq!(disk.done("file-fill g 0 24"), "ok");
    assert_eq!(disk.done("file-append g x"), "full");
    assert_eq!(disk.done("file-set-size g 25"), "full");
    assert_eq!(disk.done("file-write g 30 x"), "full");
    assert_eq!(disk.plugin.ask("file-size g"), "24");
    // What is written over, cut, removed or replaced makes room.
    assert_eq!(disk.done("file-fill f 500 500"), "ok");
    assert_eq!(disk.done("file-set-size f 900"), "ok");
    assert_eq!(disk.done("file-fill g 0 124"), "ok");
    assert_eq!(disk.done("file-append g x"), "full");
    assert_eq!(disk.open("a", "replace", "f"), "file");
    assert_eq!(disk.done("file-fill f 0 900"), "ok");
    assert_eq!(disk.done("dir-rename d b a"), "ok");
    disk.plugin.run("file-close f");
    assert_eq!(disk.open("c", "create", "h"), "file");
    assert_eq!(disk.done("file-fill h 0 900"), "ok");
    assert_eq!(disk.done("file-append h x"), "full");
    assert_eq!(disk.done("dir-remove d c"), "ok");
    assert_eq!(disk.open("c", "create", "h"), "file");
    assert_eq!(disk.done("file-fill h 0 900"), "ok");
}

#[test]
fn a_file_that_was_removed_counts_until_it_is_closed() {
    let mut disk = Disk::with("quota-removed", ":rw", |run| {
        run.arguments(["--dir-quota", "d=1000"])
    });
    assert_eq!(disk.open("a", "create", "f"), "file");
    assert_eq!(disk.open("a", "read", "again"), "file");
    assert_eq!(disk.done("file-fill f 0 900"), "ok");
    assert_eq!(disk.done("dir-remove d a"), "ok");
    assert_eq!(disk.open("b", "create", "g"), "file");
    assert_eq!(disk.done("file-fill g 0 101"), "full");
    // It can grow all the same, and no further.
    assert_eq!(disk.done("file-fill f 0 950"), "ok");
    assert_eq!(disk.done("file-fill g 0 51"), "full");
    disk.plugin.run("file-close f");
    assert_eq!(disk.done("file-fill g 0 51"), "full");
    disk.plugin.run("file-close again");
    assert_eq!(disk.done("file-fill g 0 1000"), "ok");
    // So does one that was replaced.
    assert_eq!(disk.open("c", "create", "h"), "file");
    assert_eq!(disk.done("dir-rename d c b"), "ok");
    assert_eq!(disk.done("file-append h x"), "full");
    disk.plugin.run("file-close g");
    assert_eq!(disk.done("file-append h x"), "ok");
}

#[test]
fn directories_are_counted_without_being_open_all_at_once() {
    let descriptors = ["sh", "-c", "ulimit -n 100; exec \"$@\"", "sh"];
    let mut disk = Disk::prepared("quota-wide", ":rw", |run, folder| {
        for number in 0..300 {
            let below = folder.join(format!("inside/{number}/below"));
            fs::create_dir_all(&below).expect("a folder");
            fs::write(below.join("file"), "x").expect("a scratch file");
        }
        run.started_by(descriptors)
            .arguments(["--dir-quota", "d=310"])
    });
    assert_eq!(disk.open("a", "create", "f"), "file");
    assert_eq!(disk.done("file-fill f 0 11"), "full");
    assert_eq!(disk.done("file-fill f 0 10"), "ok");
}

#[test]
fn what_is_there_at_the_start_counts_and_so_does_what_is_received() {
    let mut disk = Disk::with("quota-start", ":rw", |run| {
        run.arguments(["--dir-quota", "d=1000"])
    });
    assert_eq!(disk.open("a", "create", "f"), "file");
    let (mut client, id) = disk.plugin.connect();
    let operation = disk
        .plugin
        .started(&format!("@{id} receive-file f 0 2000 -"));
    client.send(pattern(0, 2000));
    assert_eq!(disk.outcome(operation), "full");
    assert!(disk.contents("a").len() <= 1000);
}

#[test]
fn files_are_sent_and_received() {
    let mut disk = Disk::new("bulk");
    disk.put("in", pattern(0, 300_000));
    assert_eq!(disk.open("in", "read", "f"), "file");
    assert_eq!(disk.open("out", "create", "g"), "file");
    let (mut client, id) = disk.plugin.connect();
    // The handle may go before the bytes do.
    let sent = disk
        .plugin
        .started(&format!("@{id} send-file f 0 - -; file-close f"));
    assert!(client.bytes(300_000) == pattern(0, 300_000));
    assert_eq!(disk.outcome(sent), "number 300000");
    let received = disk
        .plugin
        .started(&format!("@{id} receive-file g 0 300000 -"));
    client.send(pattern(7, 300_000));
    assert_eq!(disk.outcome(received), "number 300000");
    assert!(disk.contents("out") == pattern(7, 300_000));
}

#[test]
fn a_file_is_taken_once_and_counts_until_it_is_closed() {
    let mut disk = Disk::new("take");
    disk.put("a", "abc");
    let operation = disk.plugin.started("dir-open d a read f");
    assert_eq!(disk.outcome(operation), "ready");
    assert_eq!(
        disk.plugin.ask(&format!("dir-metadata {operation}")),
        "none"
    );
    assert_eq!(disk.plugin.ask(&format!("dir-take {operation}")), "file");
    assert_eq!(disk.plugin.ask(&format!("dir-take {operation}")), "none");
    let open: Vec<_> = (1..1024)
        .map(|_| disk.plugin.started("dir-open d a read g"))
        .collect();
    for operation in &open {
        assert_eq!(disk.outcome(*operation), "ready");
    }
    assert_eq!(disk.open("a", "read", "h"), "limit");
    assert_eq!(disk.open("a", "update", "h"), "limit");
    disk.plugin.run("file-close f");
    assert_eq!(disk.open("a", "update", "h"), "file");
    assert_eq!(disk.open("a", "read", "i"), "limit");
    // What nobody takes counts, until it is cancelled.
    disk.plugin.run(&format!("cancel {}", open[0]));
    assert_eq!(disk.open("a", "read", "i"), "file");
}

#[test]
fn operations_hold_so_many_bytes_at_a_time() {
    let mut disk = Disk::new("bytes");
    disk.put("a", "");
    assert_eq!(disk.open("a", "read", "f"), "file");
    // 1 MiB each and a little more: fifteen fit into 16 MiB.
    let reads = vec!["file-read f 0 1048576"; 20].join(";");
    disk.plugin.run(&reads);
    let outcomes: Vec<_> = (0..20).map(|_| disk.plugin.event("completed")).collect();
    let refused = outcomes.iter().filter(|it| it.contains(" error limit"));
    assert_eq!(refused.count(), 5);
    disk.plugin.events();
    // It is over with them.
    assert_eq!(disk.done("file-read f 0 1048576"), "bytes 0");
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_nobody_waits() {
    let mut disk = Disk::new("fifo");
    fifo(&disk, "pipe");
    let _socket =
        std::os::unix::net::UnixListener::bind(disk.inside().join("socket")).expect("a socket");
    for name in ["pipe", "socket"] {
        for opening in ["read", "update", "create", "replace"] {
            assert_eq!(disk.open(name, opening, "f"), "denied", "{name} {opening}");
        }
        assert_eq!(disk.stat(name), "other 0");
    }
    fs::create_dir(disk.inside().join("folder")).expect("a folder");
    for opening in ["read", "update", "create", "replace"] {
        assert_eq!(disk.open("folder", opening, "f"), "invalid", "{opening}");
    }
}

#[test]
fn what_a_lost_session_started_is_forgotten() {
    let mut disk = Disk::new("lost");
    let (client, id) = disk.plugin.connect();
    let mut client = client;
    client.send("dir-watch d .\n");
    disk.plugin.event("started");
    client.kill();
    disk.plugin.event(&format!("lost {id}"));
    disk.put("a", "");
    assert_eq!(disk.stat("a"), "file 0");
    disk.plugin.settle();
    assert_eq!(
        disk.plugin.events(),
        ["dropped ".to_owned() + &id.to_string()]
    );
}

fn fifo(disk: &Disk, name: &str) {
    let path = disk.inside().join(name);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
}
