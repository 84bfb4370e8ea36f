//! The kernel keeps the host from what it was not granted.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use nethost_tests::{
    client::Client,
    host::{Host, Run},
    places::{self, guest, plugin, scratch},
};
use nix::libc;
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Returns a field of all threads of a process.
fn of_threads(pid: u32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = threads.map(|it| fs::read_to_string(it.unwrap().path().join("status")).unwrap());
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap().trim().to_owned()
    };
    status.map(value).collect()
}

fn assert_confined(pid: u32) {
    for (field, expected) in [("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        let values = of_threads(pid, field);
        assert!(values.len() > 2);
        let all = values.iter().all(|value| value == expected);
        assert!(all, "{field} {values:?}");
    }
}

fn echoes(client: &mut Client) {
    client.send("one");
    client.expect("one");
}

fn config(folder: &Path, rest: &str) -> PathBuf {
    let path = folder.join("nethost.toml");
    let plugin = plugin("echo");
    let plugin = plugin.display();
    let text = format!(
        "[[service]]\nname = \"one\"\nplugin = \"{plugin}\"\nlisten = [\"tcp://127.0.0.1:0\"]\n{rest}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn every_thread_is_confined_and_the_log_says_so() {
    let host = Run::of(plugin("echo")).start();
    host.logged(&["INFO", "confined: no new privileges, files", "system calls"]);
    echoes(&mut host.connect());
    assert_confined(host.pid());
    let folder = scratch("confined-serve");
    let host = Host::serve(&config(&folder, ""), ["--log", "info"], 1);
    echoes(&mut host.connect());
    assert_confined(host.pid());
}

#[test]
fn a_command_is_confined() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut host = places::host();
    let mut child = host
        .arg("exec")
        .arg(plugin("echo"))
        .args([&address, "hello"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (_peer, _) = silent.accept().unwrap();
    assert_confined(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_can_be_switched_off() {
    let host = Run::of(plugin("echo"))
        .arguments(["--confinement", "off"])
        .start();
    host.logged(&["WARN", "confinement is off"]);
    let seccomp = of_threads(host.pid(), "Seccomp:");
    let own = of_threads(std::process::id(), "Seccomp:");
    assert!(seccomp.iter().all(|value| *value == own[0]), "{seccomp:?}");
}

#[test]
fn a_kernel_that_refuses_is_told_of_and_served_on() {
    // Only this thread, and what it starts.
    let host = thread::spawn(|| {
        let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_seccomp];
        let calls: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
        let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, missing, arch).unwrap();
        let filter: BpfProgram = filter.try_into().unwrap();
        apply_filter(&filter).unwrap();
        Run::of(plugin("echo")).start()
    });
    let host = host.join().unwrap();
    let line = host.logged(&["WARN", "not confined as far as it could be"]);
    assert!(
        line.contains("files and connections (") && line.contains("system calls ("),
        "{line}"
    );
    echoes(&mut host.connect());
}

#[test]
fn what_lies_outside_is_refused_at_sighup_and_the_old_goes_on() {
    let folder = scratch("confined-reload");
    let (inside, outside) = (folder.join("inside"), scratch("confined-outside"));
    fs::create_dir(&inside).unwrap();
    let grant = |path: &Path| {
        let path = path.display();
        format!("[service.grants.directories.site]\npath = \"{path}\"\nmode = \"ro\"")
    };
    let path = config(&folder, "");
    let host = Host::serve(&path, ["--log", "debug"], 1);
    let mut held = host.connect();
    echoes(&mut held);
    config(&folder, &grant(&outside));
    host.signal(Signal::HUP);
    let line = host.logged(&["ERROR", "outside of what nethost was confined to"]);
    assert!(
        line.contains("nethost.toml:5:") && line.contains("start it anew"),
        "{line}"
    );
    host.logged(&["ERROR", "nothing was changed"]);
    echoes(&mut held);
    config(&folder, "[service.grants]\nconnect = [\"127.0.0.1:9\"]");
    host.signal(Signal::HUP);
    host.logged(&[
        "ERROR",
        "nethost.toml:6:",
        "a port to connect to: it is outside",
    ]);
    echoes(&mut held);
    // Beside the file is inside.
    config(&folder, &grant(&inside));
    host.signal(Signal::HUP);
    host.logged(&["INFO", "restarted"]);
    host.wait_for_listeners(2);
    echoes(&mut held);
    echoes(&mut Client::tcp(host.address_of(1)));
}

#[test]
fn what_is_to_be_written_to_is_made_before_it_is_confined() {
    let folder = scratch("confined-made");
    let (made, log) = (folder.join("not/there"), folder.join("log"));
    let host = Run::of(guest("scripted"))
        .arguments(["--isolation", "service"])
        .arguments(["--dir", &format!("w={}:rw", made.display())])
        .arguments(["--file", &format!("f={}:rw", log.display())])
        .start();
    assert!(made.is_dir() && log.is_file());
    assert_confined(host.pid());
}
