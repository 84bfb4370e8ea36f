//! What Rust cannot do: core modules by hand, encoded as components. Each is the least plugin that echoes, with one thing changed.

use std::{fs, path::PathBuf, time::Instant};

use nethost_tests::{
    client::Client,
    host::Run,
    misbehaviour::{GOAL, Pair},
    places::{root, scratch},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A module that misbehaves.
struct Module {
    name: &'static str,
    /// What replaces what in [`ECHO`].
    change: &'static [(&'static str, &'static str)],
    /// Words that a line of the log must have.
    words: &'static [&'static str],
}

const fn module(
    name: &'static str,
    change: &'static [(&'static str, &'static str)],
    words: &'static [&'static str],
) -> Module {
    Module {
        name,
        change,
        words,
    }
}

/// Misbehave as soon as a client has sent something, or is there. What `cabi_realloc` does it does when the connection is there: before, it would not start.
const MODULES: &[Module] = &[
    // Loops of other kinds.
    module(
        "tail-calls",
        &[
            (";;data", "(call $tail)"),
            (";;more", "(func $tail (return_call $tail))"),
        ],
        &["data-received took more than"],
    ),
    module(
        "slow-realloc",
        &[(
            ";;realloc",
            "(if (global.get $c) (then (loop $on (br $on))))",
        )],
        &["took more than"],
    ),
    module(
        "slow-post-return",
        &[(";;post", "(loop $on (br $on))")],
        &["connection-made took more than"],
    ),
    // Tables.
    module(
        "table-growth",
        &[
            (
                ";;data",
                "(loop $on (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $on))",
            ),
            (";;more", "(table $t 0 funcref)"),
        ],
        &[
            "data-received",
            "its tables would have grown past 100000 elements",
        ],
    ),
    // Handles.
    module(
        "dropped-handle",
        &[(";;data", "(call $drop (global.get $c))")],
        &["data-received", "handle"],
    ),
    module(
        "dropped-twice",
        &[(
            ";;data",
            "(call $drop (global.get $c)) (call $drop (global.get $c))",
        )],
        &["data-received", "handle"],
    ),
    module(
        "guessed-handle",
        &[(
            ";;data",
            "(drop (call $write (i32.const 77) (i32.const 0) (i32.const 1)))",
        )],
        &["data-received", "handle"],
    ),
    module(
        "guessed-session",
        &[("(call $new (i32.const 7))", "(i32.const 99)")],
        &["connection-made", "handle"],
    ),
    // Pointers and lengths.
    module(
        "length-of-all",
        &[(
            ";;data",
            "(drop (call $write (global.get $c) (i32.const 16) (i32.const -1)))",
        )],
        &["data-received", "bounds"],
    ),
    module(
        "pointer-past-all",
        &[(
            ";;data",
            "(drop (call $write (global.get $c) (i32.const -8) (i32.const 8)))",
        )],
        &["data-received", "bounds"],
    ),
    module(
        "string-past-all",
        &[(
            ";;data",
            "(call $log (i32.const 2) (i32.const 16) (i32.const -16))",
        )],
        &["data-received", "bounds"],
    ),
    module(
        "result-past-all",
        &[(";;data", "(call $local (global.get $c) (i32.const -16))")],
        &["data-received", "bounds"],
    ),
    module(
        "result-misaligned",
        &[(";;data", "(call $local (global.get $c) (i32.const 13))")],
        &["data-received", "align"],
    ),
    module(
        "returned-past-all",
        &[(";;made", "(return (i32.const -8))")],
        &["connection-made"],
    ),
    module(
        "returned-misaligned",
        &[(";;made", "(return (i32.const 17))")],
        &["connection-made", "align"],
    ),
    module(
        "realloc-past-all",
        &[(
            ";;realloc",
            "(if (global.get $c) (then (return (i32.const -16))))",
        )],
        &["realloc"],
    ),
    // Values.
    module(
        "no-utf8",
        &[(
            ";;data",
            "(i32.store8 (i32.const 64) (i32.const 255)) (call $log (i32.const 2) (i32.const 64) (i32.const 1))",
        )],
        &["data-received", "utf-8"],
    ),
    module(
        "no-such-level",
        &[(
            ";;data",
            "(call $log (i32.const 77) (i32.const 64) (i32.const 1))",
        )],
        &["data-received", "discriminant"],
    ),
    module(
        "no-such-case",
        &[(
            ";;made",
            "(i32.store8 (i32.const 32) (i32.const 9)) (return (i32.const 32))",
        )],
        &["connection-made", "discriminant"],
    ),
    // Calls of the host where none is allowed.
    module(
        "host-from-realloc",
        &[(
            ";;realloc",
            "(if (global.get $c) (then (drop (call $wall))))",
        )],
        &["cannot leave component instance"],
    ),
    module(
        "host-from-post-return",
        &[(";;post", "(drop (call $wall))")],
        &["connection-made", "cannot leave component instance"],
    ),
    module(
        "host-from-destructor",
        &[
            (
                "(func $unused)",
                "(func (export \"nethost:plugin/handler@0.1.0#[dtor]session\") (param i32) (unreachable))",
            ),
            (";;data", "(call $abort (global.get $c))"),
        ],
        &["the session's destructor trapped"],
    ),
    module(
        "trap-in-realloc",
        &[(";;realloc", "(if (global.get $c) (then (unreachable)))")],
        &["trapped", "unreachable"],
    ),
    module(
        "trap-in-post-return",
        &[(";;post", "(unreachable)")],
        &["connection-made trapped", "unreachable"],
    ),
    // Long single instructions: nobody looks at the time in one, and two in a row have no loop between them.
    module(
        "fills",
        &[
            (
                "(memory (export \"memory\") 2)",
                "(memory (export \"memory\") 1024)",
            ),
            (
                ";;data",
                "(loop $on (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x3ff0000)) (br $on))",
            ),
        ],
        &["data-received took more than"],
    ),
];

#[test]
fn a_module_by_hand_ends_alone() {
    let folder = scratch("modules");
    // To look at one of them alone.
    let only = std::env::var("NETHOST_DEED").ok();
    for Module {
        name,
        change,
        words,
    } in MODULES
    {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let component = write(&folder, name, change);
        let pair = Pair::of(&component, ONE_LISTENER);
        let neighbour = pair.neighbour();
        for round in 1..=3 {
            let mut client = pair.bad();
            // It may have ended before.
            drop(client.try_send("x"));
            client.rest();
            pair.host.logged_times(words, round);
        }
        let noticed = neighbour.stop();
        println!("{name}: {noticed:?}");
        assert!(noticed.worst < 10 * GOAL, "{name}: {noticed:?}");
    }
}

/// A component without a manifest has isolation `worker`, of which there is one here.
const ONE_LISTENER: &str = "listen = [\"tcp://127.0.0.1:0\"]";

#[test]
fn a_thousand_long_instructions_in_a_row_take_no_longer_than_a_call_may() {
    let fills = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x3ff0000))".repeat(2000);
    let change = [
        (
            "(memory (export \"memory\") 2)",
            "(memory (export \"memory\") 1024)",
        ),
        (";;data", &fills),
    ];
    let folder = scratch("straight");
    let pair = Pair::of(&write(&folder, "straight", &change), ONE_LISTENER);
    let neighbour = pair.neighbour();
    let mut client = pair.bad();
    client.send("x");
    client.rest();
    pair.host.logged(&["data-received took more than 50ms"]);
    let noticed = neighbour.stop();
    println!("straight: {noticed:?}");
    assert!(noticed.worst < 10 * GOAL, "{noticed:?}");
}

#[test]
fn the_module_that_is_changed_echoes() {
    let component = write(&scratch("echoes"), "echo", &[]);
    let host = Run::of(component).start();
    let mut client: Client = host.connect();
    client.send("x");
    client.expect("x");
}

#[test]
fn a_start_function_that_never_returns_ends_the_start() {
    let change = [(";;more", "(func $start (loop $on (br $on))) (start $start)")];
    let component = write(&scratch("start"), "start", &change);
    let started = Instant::now();
    let ended = Run::of(component).ended();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended
            .log
            .contains("instantiation took more than 5s of processor time"),
        "{}",
        ended.log
    );
    assert!(started.elapsed() < 4 * std::time::Duration::from_secs(5));
}

#[test]
fn a_component_of_ten_thousand_instances_is_refused() {
    let folder = scratch("instances");
    let path = write(&folder, "echo", &[]);
    let mut component = fs::read(&path).unwrap();
    let modules = section_count(&component, 1);
    // One more module, and many instances of it.
    let extra = wat::parse_str("(module (global (mut i32) (i32.const 0)))").unwrap();
    section(&mut component, 1, &extra);
    let mut instances = leb(10_000);
    for _ in 0..10_000 {
        instances.push(0);
        instances.extend(leb(modules));
        instances.push(0);
    }
    section(&mut component, 2, &instances);
    let many = folder.join("many.wasm");
    fs::write(&many, component).unwrap();
    let ended = Run::of(many).ended();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    let reason = "instances count exceeds limit of 1000";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

/// Returns how many sections of this kind the component has.
fn section_count(component: &[u8], kind: u8) -> usize {
    let (mut rest, mut count) = (component.get(8..).unwrap(), 0);
    while let Some((id, after)) = rest.split_first() {
        count += usize::from(*id == kind);
        let (mut size, mut shift, mut length) = (0_usize, 0, 0);
        loop {
            let byte = after.get(length).unwrap();
            size |= usize::from(byte & 0x7f) << shift;
            (shift, length) = (shift + 7, length + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = after.get(length + size..).unwrap();
    }
    count
}

fn section(component: &mut Vec<u8>, id: u8, content: &[u8]) {
    component.push(id);
    component.extend(leb(content.len()));
    component.extend(content);
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Writes the module with its changes as a component.
pub(super) fn write(folder: &std::path::Path, name: &str, change: &[(&str, &str)]) -> PathBuf {
    let mut text = ECHO.to_owned();
    for (old, new) in change {
        assert!(text.contains(old), "{old} is not in the module");
        text = text.replace(old, new);
    }
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).unwrap();
    let world = resolve
        .select_world(&[package], Some("stream-plugin"))
        .unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let component = ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode();
    let path = folder.join(name).with_extension("wasm");
    fs::write(
        &path,
        component.unwrap_or_else(|error| panic!("{name}: {error:?}")),
    )
    .unwrap();
    path
}

/// Echoes to the connection that was made last.
const ECHO: &str = r#"(module
    (import "nethost:plugin/clock@0.1.0" "wall" (func $wall (result i64)))
    (import "nethost:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (import "nethost:plugin/transport@0.1.0" "[resource-drop]connection" (func $drop (param i32)))
    (import "nethost:plugin/transport@0.1.0" "[method]connection.write" (func $write (param i32 i32 i32) (result i32)))
    (import "nethost:plugin/transport@0.1.0" "[method]connection.local" (func $local (param i32 i32)))
    (import "nethost:plugin/transport@0.1.0" "[method]connection.abort" (func $abort (param i32)))
    (import "[export]nethost:plugin/handler@0.1.0" "[resource-new]session" (func $new (param i32) (result i32)))
    (memory (export "memory") 2)
    (global $c (mut i32) (i32.const 0))
    (func $unused)
    ;;more
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        ;;realloc
        (i32.const 65536))
    (func (export "nethost:plugin/handler@0.1.0#configure") (param i32 i32) (result i32)
        (i32.const 16))
    (func (export "nethost:plugin/handler@0.1.0#draining") (param i64))
    (func (export "nethost:plugin/handler@0.1.0#connection-made") (param i32 i32 i64 i32) (result i32)
        (global.set $c (local.get 0))
        ;;made
        (i32.store8 (i32.const 32) (i32.const 1))
        (i32.store (i32.const 36) (call $new (i32.const 7)))
        (i32.const 32))
    (func (export "cabi_post_nethost:plugin/handler@0.1.0#connection-made") (param i32)
        ;;post
    )
    (func (export "nethost:plugin/handler@0.1.0#[method]session.data-received") (param i32 i32 i32)
        ;;data
        (drop (call $write (global.get $c) (local.get 1) (local.get 2))))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.writable") (param i32))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.read-closed") (param i32))
    (func (export "nethost:plugin/handler@0.1.0#[method]session.connection-lost") (param i32 i32 i32 i32)))
"#;
