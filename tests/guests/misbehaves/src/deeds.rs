//! The deeds, by their names.

use std::{cell::RefCell, hint::black_box};

use super::{
    GOES_ON,
    bindings::nethost::plugin::{
        accounts, bulk, command, deferred, log,
        metrics::{Counter, Description, Gauge, Histogram},
        progress::{Bar, Unit},
        random, storage,
        transport::{Connection, Group, TlsRole},
    },
};

thread_local! {
    static GROUPS: RefCell<Vec<Group>> = RefCell::default();
    static COUNTERS: RefCell<Vec<Counter>> = RefCell::default();
    static BARS: RefCell<Vec<Bar>> = RefCell::default();
    static DIRECTORIES: RefCell<Vec<storage::Directory>> = RefCell::default();
}

/// Does one. Those that a host must bound, and not end, say so in a line when they are done.
pub(super) fn perform(deed: &str, connection: Option<&Connection>) {
    match deed {
        "loop" => spin(),
        "trap" => trap(),
        "recursion" => assert_ne!(deeper(1), 0),
        "memory" => grow(),
        // 2 MiB; then the panic's own message, once more.
        "giant-panic" => panic!("{}", "giant ".repeat(350_000)),
        "fill" => fill(),
        "huge-write" => drop(connection.map(|connection| connection.write(&giant(64 << 20)))),
        "small-writes" => loop {
            connection.map(|connection| connection.write(b"."));
        },
        "group-small-writes" => {
            let group = Group::new();
            connection.inspect(|connection| group.add(connection));
            loop {
                group.write(b".", None);
            }
        }
        "group-huge-write" => {
            let group = Group::new();
            connection.inspect(|connection| group.add(connection));
            group.write(&giant(64 << 20), None);
        }
        "write-after-close" => bounded(deed, connection, |connection| {
            connection.shutdown_write();
            for _ in 0..1000 {
                connection.write(b"too late");
                connection.shutdown_write();
            }
            connection.close();
            for _ in 0..1000 {
                connection.write(b"too late");
                connection.close();
                connection.abort();
            }
        }),
        "groups" => loop {
            GROUPS.with_borrow_mut(|groups| groups.push(Group::new()));
        },
        "metric-handles" => loop {
            if let Ok(counter) = Counter::declare(&description("c", "C")) {
                COUNTERS.with_borrow_mut(|counters| counters.push(counter));
            }
        },
        "directories" => loop {
            let directory = storage::named_directory("d");
            DIRECTORIES.with_borrow_mut(|directories| directories.extend(directory));
        },
        "bars" => loop {
            BARS.with_borrow_mut(|bars| bars.push(Bar::new(Unit::Bytes, None)));
        },
        "closed-group" => bounded(deed, connection, |connection| {
            let group = Group::new();
            group.add(connection);
            group.add(connection);
            group.write(b"twice a member\n", None);
            connection.close();
            for _ in 0..100 {
                group.write(b"too late", Some(connection));
                group.write(b"too late", None);
                group.remove(connection);
                group.add(connection);
            }
        }),
        "memberships" => {
            let groups = (0..).map(|_| {
                let group = Group::new();
                connection.inspect(|connection| group.add(connection));
                group
            });
            GROUPS.with_borrow_mut(|all| groups.for_each(|group| all.push(group)));
        }
        "timers" => loop {
            deferred::after(3_600_000_000_000);
        },
        "ticks" | "connects" | "giant-connects" => {
            GOES_ON.set(true);
            start(deed);
        }
        "looks-up" => loop {
            deferred::resolve("nowhere.invalid");
        },
        "cancels" => bounded(deed, connection, |_| {
            for id in (0..50_000).chain(u64::MAX - 1000..=u64::MAX) {
                deferred::cancel(id);
                deferred::keep(id);
                deferred::take_addresses(id);
                bulk::progress(id);
                accounts::take_account(id);
            }
        }),
        "forbidden" => bounded(deed, connection, |_| {
            for endpoint in FORBIDDEN {
                deferred::connect(endpoint);
            }
        }),
        "logs" => bounded(deed, connection, |_| {
            for turn in 0..20_000 {
                log::write(log::Level::Error, &format!("flood {turn}"));
            }
        }),
        "prints" => bounded(deed, connection, |_| {
            for _ in 0..200 {
                log::print(&b"flood\n".repeat(100));
            }
        }),
        "giant-logs" => loop {
            log::write(log::Level::Error, &"giant ".repeat(100_000));
        },
        "series" => bounded(deed, connection, |_| {
            let description = Description {
                labels: vec!["who".to_owned()],
                ..description("s", "S")
            };
            if let Ok(counter) = Counter::declare(&description) {
                for turn in 0..3_000 {
                    if let Ok(counter) = counter.labelled(&[turn.to_string()]) {
                        counter.add(u64::MAX);
                    }
                }
            }
        }),
        "metrics" => bounded(deed, connection, |_| {
            for turn in 0..3_000 {
                let name = format!("m{turn}");
                drop(Counter::declare(&description(&name, "M")));
            }
        }),
        "random" => loop {
            random::get_bytes(u32::MAX);
        },
        other => {
            if let Some(which) = other.strip_prefix("giant-string-") {
                bounded(deed, connection, |connection| {
                    giant_string(which.parse().unwrap_or(usize::MAX), connection);
                });
            }
        }
    }
}

/// Does the same again, until the host ends it, or for ever at the pace that the host has.
pub(super) fn go_on() {
    super::ORDER.with_borrow(|(deed, _)| start(deed));
}

/// Starts some, each of which starts as many again.
fn start(deed: &str) {
    for _ in 0..8 {
        match deed {
            "ticks" => deferred::after(0),
            "connects" => deferred::connect("tcp://127.0.0.1:1"),
            _ => deferred::connect(&"x".repeat(3 << 20)),
        };
    }
}

fn bounded(deed: &str, connection: Option<&Connection>, act: impl FnOnce(&Connection)) {
    if let Some(connection) = connection {
        act(connection);
        connection.write(format!("done {deed}\n").as_bytes());
    }
}

/// Passes a string of 3 MiB where a string goes, one place after the other: less than one host call may bring.
fn giant_string(which: usize, connection: &Connection) {
    // What an error would quote grows when it is escaped.
    let giant = "\u{1}".repeat(3 << 20);
    match which {
        0 => drop(accounts::verify(connection, &giant, "")),
        1 => drop(accounts::verify(connection, "", &giant)),
        2 => drop(accounts::external(connection, Some(&giant))),
        3 => drop(accounts::scram_first(connection, giant.as_bytes())),
        4 => drop(accounts::scram_final(connection, giant.as_bytes())),
        5 => drop(command::open(&giant, storage::Opening::Read)),
        6 => drop(deferred::connect(&giant)),
        7 => drop(deferred::resolve(&giant)),
        8 => log::write(log::Level::Error, &giant),
        9 => log::print(giant.as_bytes()),
        10 => drop(Counter::declare(&description(&giant, "C"))),
        11 => drop(Counter::declare(&description("c", &giant))),
        12 => drop(Counter::declare(&Description {
            unit: Some(giant),
            ..description("c", "C")
        })),
        13 => drop(Gauge::declare(&Description {
            labels: vec![giant],
            ..description("g", "G")
        })),
        14 => {
            let gauge = Gauge::declare(&Description {
                labels: vec!["a".to_owned()],
                ..description("h", "H")
            });
            drop(gauge.and_then(|gauge| gauge.labelled(&[giant])));
        }
        15 => {
            let bounds: Vec<f64> = (0..300_000_u32).map(f64::from).collect();
            drop(Histogram::declare(&description("i", "I"), &bounds));
        }
        16 => Bar::new(Unit::Items, None).set_message(&giant),
        17 => drop(storage::named_file(&giant)),
        18 => drop(storage::named_directory(&giant)),
        19 => drop(connection.start_tls(&TlsRole::Client(giant))),
        20 => drop(command::write(command::Output::Standard, giant.as_bytes())),
        21.. => directory_string(which, &giant),
    }
}

/// As before, for the functions of a directory, which must be granted as `d`.
fn directory_string(which: usize, giant: &str) {
    let Ok(directory) = storage::named_directory("d") else {
        return;
    };
    match which {
        21 => drop(directory.open(giant, storage::Opening::Create)),
        22 => drop(directory.stat(giant)),
        23 => drop(directory.list_page(giant, 0)),
        24 => drop(directory.make_directory(giant)),
        25 => drop(directory.rename(giant, "b")),
        26 => drop(directory.rename("a", giant)),
        27 => drop(directory.link(giant, "b")),
        28 => drop(directory.link("a", giant)),
        29 => drop(directory.remove_file(giant)),
        30 => drop(directory.remove_directory(giant)),
        31 => drop(directory.sync(giant)),
        _ => drop(directory.watch(giant)),
    }
}

fn description(name: &str, help: &str) -> Description {
    Description {
        name: name.to_owned(),
        help: help.to_owned(),
        unit: None,
        labels: Vec::new(),
    }
}

fn giant(size: usize) -> Vec<u8> {
    vec![b'.'; size]
}

/// The name that the backtrace must have.
#[inline(never)]
fn spin() {
    let mut turns = 0_u64;
    while black_box(turns) < u64::MAX {
        turns += 1;
    }
}

/// As before.
#[inline(never)]
fn trap() {
    panic!("told to trap");
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "it shall overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    deeper(depth + 1) + here.iter().sum::<u64>()
}

/// Takes memory in steps of 1 MiB and keeps it. To touch it would take more time than there is.
fn grow() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

/// Fills 200 MiB again and again: each time it is one instruction, in which nobody looks at the time.
fn fill() {
    let mut memory = vec![0_u8; 200 << 20];
    loop {
        memory.fill(1);
        black_box(&mut memory);
    }
}

/// Hosts that no grant covers, written in every way that might get past one.
const FORBIDDEN: [&str; 12] = [
    "tcp://10.0.0.1:80",
    "tcp://169.254.169.254:80",
    "tcp://[::ffff:10.0.0.1]:80",
    "tcp://0.0.0.0:22",
    "tcp://[::]:22",
    "tcp://localhost:22",
    "tcp://2130706433:22",
    "tcp://0x7f.1:22",
    "udp://224.0.0.1:53",
    "unix:///run/systemd/private",
    "fd://3",
    "stdio:",
];
