use super::*;
use crate::build::encode::tests::module;

/// A component that exports a whole `handler`, wrapped so that it imports what `imports` says.
fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text})")).unwrap()
}

fn unfit(bytes: &[u8]) -> String {
    let error = anyhow::Error::new(describe(bytes).unwrap_err());
    format!("{error:#}")
}

/// Encodes a module that exports a handler and imports `functions`.
fn plugin(functions: &str) -> Vec<u8> {
    let module = module("stream-plugin", functions);
    wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

#[test]
fn every_way_to_be_unfit_has_its_own_error() {
    let cut = plugin("");
    let cut = &cut[..cut.len() - 9];
    for (bytes, expected) in [
        (&b""[..], "not WebAssembly: it begins with ``"),
        (
            b"\x7fELF\x02\x01\x01\x00\x00",
            r"not WebAssembly: it begins with `\x7fELF\x02\x01\x01\x00`",
        ),
        (b"(component)", "WebAssembly text"),
        (b";; a plugin\n(module)", "WebAssembly text"),
        (
            &wat::parse_str("(module)").unwrap(),
            "a core module, not a component: encode it with `nethost build",
        ),
        (
            b"\0asm\x0d\0\x01\0\xff",
            "damaged, or made by a faulty tool: ",
        ),
        (cut, "damaged, or made by a faulty tool: "),
        (
            &component(""),
            "not a plugin: it does not export `nethost:plugin/handler@0.1.0` (it exports nothing)",
        ),
        (
            &component(r#"(instance $i) (export "wasi:cli/run@0.2.0" (instance $i))"#),
            "it does not export `nethost:plugin/handler@0.1.0` (it exports `wasi:cli/run@0.2.0`)",
        ),
        (
            &component(r#"(instance $i) (export "nethost:plugin/handler@0.1.0" (instance $i))"#),
            "it does not export `nethost:plugin/handler@0.1.0#[method]session.connection-lost`",
        ),
        (
            &component(r#"(instance $i) (export "nethost:plugin/handler@0.2.0" (instance $i))"#),
            "built against another contract: it exports `nethost:plugin/handler@0.2.0`, this host offers nethost:plugin 0.1.x",
        ),
        (
            &component(r#"(import "nethost:plugin/transport@1.0.0" (instance))"#),
            "built against another contract: it imports `nethost:plugin/transport@1.0.0`, this host offers nethost:plugin 0.1.x",
        ),
    ] {
        let error = unfit(bytes);
        assert!(
            error.starts_with(expected) || error.contains(expected),
            "got {error}\nwant {expected}"
        );
    }
}

#[test]
fn an_import_that_the_host_does_not_offer_is_named() {
    for (import, expected) in [
        (
            r#"(import "wasi:io/streams@0.2.0" (instance))"#,
            "it imports `wasi:io/streams@0.2.0`, which this host does not offer: a plugin gets no WASI",
        ),
        (
            r#"(import "wasi:sockets/tcp@0.2.0" (instance))"#,
            "it imports `wasi:sockets/tcp@0.2.0`, which this host does not offer: a plugin never sees a socket",
        ),
        (
            r#"(import "nethost:plugin/telepathy@0.1.3" (instance))"#,
            "it imports `nethost:plugin/telepathy@0.1.3`, which this host does not offer: it came with a later version",
        ),
        (
            r#"(import "nethost:plugin/clock@0.1.3" (instance (export "lunar" (func (result u64)))))"#,
            "it imports `nethost:plugin/clock@0.1.3#lunar`, which this host does not offer: it came with a later version",
        ),
        (
            r#"(import "log" (func))"#,
            "it imports `log`, which this host does not offer",
        ),
    ] {
        let outline = Outline::read(&component(import)).unwrap();
        let error = check_imports(&outline, &Contract::parse())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "got {error}\nwant {expected}");
    }
}

#[test]
fn a_later_version_that_uses_nothing_new_fits() {
    let import = r#"(import "nethost:plugin/clock@0.1.9" (instance (export "monotonic" (func (result u64)))))"#;
    let outline = Outline::read(&component(import)).unwrap();
    check_versions(&outline).unwrap();
    check_imports(&outline, &Contract::parse()).unwrap();
}

#[test]
fn a_plugin_is_described() {
    let used = r#"(import "nethost:plugin/log@0.1.0" "write" (func (param i32 i32 i32)))"#;
    let bytes = plugin(used);
    let description = describe(&bytes).unwrap();
    assert_eq!(
        description.imports,
        [
            "nethost:plugin/types@0.1.0",
            "nethost:plugin/transport@0.1.0",
            "nethost:plugin/log@0.1.0"
        ]
    );
    assert_eq!(description.size, bytes.len());
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let folder = std::env::temp_dir().join(format!("nethost-inspect-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("irc")).unwrap();
    std::fs::write(folder.join("irc/plugin.toml"), "").unwrap();
    let shown = folder.display();
    for (name, expected) in [
        ("ftp.wasm", "no such file".to_owned()),
        (
            "irc.wasm",
            format!(
                "not built yet, and `{shown}/irc` is its source: run `nethost build {shown}/irc`"
            ),
        ),
        (
            "irc",
            format!(
                "a plugin's source folder, not a plugin: run `nethost build {shown}/irc`, then name `{shown}/irc.wasm`"
            ),
        ),
        ("", "cannot read it".to_owned()),
    ] {
        assert_eq!(read(&folder.join(name)).unwrap_err().to_string(), expected);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let unfit = read(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(
        unfit.to_string(),
        "larger than 128 MiB, the most that a plugin may have"
    );
}
