//! Whatever fails, the clients see nothing of it, and the operator is told why.

use std::{fs, time::Duration};

use nethost::{
    limits::Limits,
    manifest::Isolation,
    plugin::Plugin,
    service::{Policy, SwapOptions},
};
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
        connections: 500,
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

/// Replaces a name by another one of the same length.
fn renamed(component: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut renamed = component.to_vec();
    for at in 0..component.len() {
        if component[at..].starts_with(old) {
            renamed[at..at + new.len()].copy_from_slice(new);
        }
    }
    renamed
}

#[test]
fn what_does_not_compile_or_link_never_comes_to_a_swap() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Service, 1);
    let mut client = running.connect();
    says(&mut client, "abc", "abc");
    let folder = scratch("swap-unfit");
    let whole = fs::read(plugin("echo")).unwrap();
    for (name, bytes) in [
        (
            "telepathy",
            renamed(&whole, b"plugin/transport", b"plugin/telepathy"),
        ),
        ("no component", b"this is no component".to_vec()),
        ("half-written", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ] {
        let path = folder.join("bad.wasm");
        fs::write(&path, bytes).unwrap();
        let refused = Plugin::load(engine(), &path).map(drop).unwrap_err();
        let said = chain(&refused);
        // What it asks for and does not get is named.
        assert!(name != "telepathy" || said.contains(name), "{said}");
        says(&mut client, "still", "still");
    }
}

/// The state that it would have given was in the memory of the instance that broke, and nothing can be kept of it: it ends as with any trap, and so do its connections.
#[test]
fn an_old_version_that_breaks_while_it_saves_ends_and_is_made_anew() {
    for (does, part) in [
        ("trap-in-save", "save trapped"),
        ("loop-in-save", "save took more than 300ms"),
        ("grow-in-save", "save"),
        ("trap-in-save-session", "save-session trapped"),
        ("loop-in-save-session", "save-session took more than 300ms"),
    ] {
        let running = Running::limited_as(
            hasty(),
            &guest("echo-next"),
            &next(does),
            Isolation::Service,
            1,
        );
        let mut clients: Vec<Client> = (0..5).map(|_| running.connect()).collect();
        for client in &mut clients {
            says(client, "abc", "ABC");
        }
        let error = running.swap(&plugin("echo"), ECHO).unwrap_err();
        assert!(chain(&error).contains(part), "{does}: {}", chain(&error));
        for client in &mut clients {
            assert_eq!(client.rest().0, b"", "{does}");
        }
        // The old version goes on, with a new instance.
        says(&mut running.connect(), "new", "NEW");
        // Without asking it for its state there is a way to the next one.
        let options = SwapOptions {
            policy: Policy::Close,
            ..SwapOptions::default()
        };
        running.swap_as(&plugin("echo"), ECHO, options).unwrap();
        says(&mut running.connect(), "new", "new");
    }
}

#[test]
fn with_an_instance_for_each_connection_the_one_that_breaks_ends_alone() {
    let running = Running::limited_as(
        hasty(),
        &guest("echo-next"),
        &next("trap-in-save-session"),
        Isolation::Connection,
        1,
    );
    let mut clients: Vec<Client> = (0..5).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "ABC");
    }
    running.swap(&plugin("echo"), ECHO).unwrap_err();
    let mut ended = 0;
    for mut client in clients {
        // One that has ended may take what is sent, or reset.
        let _sent = client.try_send("def");
        drop(client.try_close_write());
        match &*client.rest().0 {
            b"" => ended += 1,
            rest => assert_eq!(rest, b"DEF"),
        }
    }
    assert_eq!(ended, 1);
}

#[test]
fn one_that_breaks_while_it_saves_on_probation_gives_way_to_the_version_before() {
    let running = Running::start(&plugin("echo"), ECHO, Isolation::Service, 1);
    let mut clients: Vec<Client> = (0..5).map(|_| running.connect()).collect();
    for client in &mut clients {
        says(client, "abc", "abc");
    }
    running
        .swap(&guest("echo-next"), &next("trap-in-save"))
        .unwrap();
    for client in &mut clients {
        client.expect("restored 3 from echo/1\n");
    }
    let error = running.swap(&guest("echo-next"), &next("")).unwrap_err();
    assert!(chain(&error).contains("save trapped"), "{}", chain(&error));
    for client in &mut clients {
        says(client, "still", "still");
    }
    says(&mut running.connect(), "new", "new");
}
