//! Whatever fails, the clients see nothing of it, and the operator is told why.

use std::{fs, time::Duration};

use nethost::{limits::Limits, manifest::Isolation, plugin::Plugin, service::SwapOptions};
use nethost_tests::{
    client::Client,
    places::{guest, plugin, scratch},
    service::{Running, engine},
};

use super::{ECHO, chain, next, says};

/// Fails at once, and not after 5 s of processor time.
fn hasty() -> Limits {
    Limits {
        setup_time: Duration::from_millis(300),
        memory: 32 << 20,
        ..Limits::default()
    }
}

#[test]
fn nothing_that_a_new_version_does_wrong_reaches_a_client() {
    for isolation in [Isolation::Service, Isolation::Worker, Isolation::Connection] {
        let running = Running::limited_as(hasty(), &plugin("echo"), ECHO, isolation, 2);
        let mut clients: Vec<Client> = (0..10).map(|_| running.connect()).collect();
        for client in &mut clients {
            says(client, "before", "before");
        }
        for (does, part) in [
            ("configure", "told to fail in configure"),
            ("trap-in-configure", "configure trapped"),
            ("loop-in-configure", "configure took more than 300ms"),
            ("grow-in-configure", "configure"),
            ("restore", "told to fail in restore"),
            ("trap-in-restore", "restore trapped"),
            ("loop-in-restore", "restore took more than 300ms"),
            ("grow-in-restore", "restore"),
            ("restore-session", "told to fail in restore-session"),
            ("trap-in-restore-session", "restore-session trapped"),
            (
                "loop-in-restore-session",
                "restore-session took more than 300ms",
            ),
            ("write", "it did too much before it was in charge"),
        ] {
            let error = running.swap(&guest("echo-next"), &next(does)).unwrap_err();
            let said = chain(&error);
            assert!(said.contains(part), "{does}: {said}");
            for client in &mut clients {
                says(client, "still small", "still small");
            }
            says(&mut running.connect(), "new", "new");
        }
        running.swap(&guest("echo-next"), &next("")).unwrap();
        let echoed = "before".len() + 12 * "still small".len();
        for client in &mut clients {
            client.expect(format!("restored {echoed} from echo/1\n"));
        }
    }
}

#[test]
fn nothing_that_an_old_version_refuses_reaches_a_client() {
    for (does, part) in [
        ("save", "told to fail in save"),
        ("save-session", "told to fail in save-session"),
        ("busy", "it was busy for 200ms"),
        ("big", "its state has more than"),
    ] {
        let running = Running::limited_as(
            hasty(),
            &guest("echo-next"),
            &next(does),
            Isolation::Service,
            1,
        );
        let mut clients: Vec<Client> = (0..10).map(|_| running.connect()).collect();
        for client in &mut clients {
            says(client, "abc", "ABC");
        }
        let options = SwapOptions {
            deadline: Duration::from_millis(200),
            ..SwapOptions::default()
        };
        let error = running.swap_as(&plugin("echo"), ECHO, options).unwrap_err();
        assert!(chain(&error).contains(part), "{does}: {}", chain(&error));
        for client in &mut clients {
            says(client, "def", "DEF");
        }
        says(&mut running.connect(), "new", "NEW");
    }
}

#[test]
fn what_does_not_compile_or_link_never_comes_to_a_swap() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Service, 1);
    let mut client = running.connect();
    says(&mut client, "abc", "abc");
    let folder = scratch("swap-unfit");
    let whole = fs::read(plugin("echo")).unwrap();
    for (name, bytes) in [
        ("no component", b"this is no component".to_vec()),
        ("half-written", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        let path = folder.join("bad.wasm");
        fs::write(&path, bytes).unwrap();
        let refused = Plugin::load(engine(), &path);
        assert!(refused.is_err(), "{name}");
        says(&mut client, "still", "still");
    }
}
