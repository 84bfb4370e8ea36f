//! From a core module to a component.

use std::borrow::Cow;

use wasm_encoder::{CustomSection, Encode as _, Section as _};
use wit_component::{ComponentEncoder, StringEncoding};

use crate::{contract::Contract, manifest};

/// Encodes the core module that a compiler made, which says in a custom section what world it is of.
///
/// What its standard library asks of WASI preview 1 goes through our adapter to the contract. Only what is used is imported.
pub(super) fn component(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .adapter("wasi_snapshot_preview1", &adapter()?)?
        .encode()
}

/// Puts the text of `plugin.toml` into the component (not into the module inside).
pub(super) fn with_manifest(mut component: Vec<u8>, text: &str) -> Vec<u8> {
    let section = CustomSection {
        name: Cow::Borrowed(manifest::SECTION),
        data: Cow::Borrowed(text.as_bytes()),
    };
    component.push(section.id());
    section.encode(&mut component);
    component
}

/// The adapter as a module that says what world it is of.
fn adapter() -> anyhow::Result<Vec<u8>> {
    let contract = Contract::parse();
    let mut module = wat::parse_str(ADAPTER)?;
    let world = contract.world("preview1-adapter");
    wit_component::embed_component_metadata(
        &mut module,
        &contract.resolve,
        world,
        StringEncoding::UTF8,
    )?;
    Ok(module)
}

const ADAPTER: &str = include_str!("preview1-adapter.wat");

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inspect;

    /// A module as a compiler leaves it: `functions` beside what every plugin exports, of the world `world`.
    pub(crate) fn module(world: &str, functions: &str) -> Vec<u8> {
        let contract = Contract::parse();
        let mut module = wat::parse_str(format!("(module {functions} {HANDLER})")).unwrap();
        let world = contract.world(world);
        wit_component::embed_component_metadata(
            &mut module,
            &contract.resolve,
            world,
            StringEncoding::UTF8,
        )
        .unwrap();
        module
    }

    const HANDLER: &str = r#"
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "nethost:plugin/handler@0.1.0#configure") (param i32 i32) (result i32) unreachable)
        (func (export "nethost:plugin/handler@0.1.0#draining") (param i64))
        (func (export "nethost:plugin/handler@0.1.0#connection-made") (param i32 i32 i64 i32) (result i32) unreachable)
        (func (export "nethost:plugin/handler@0.1.0#[method]session.data-received") (param i32 i32 i32))
        (func (export "nethost:plugin/handler@0.1.0#[method]session.writable") (param i32))
        (func (export "nethost:plugin/handler@0.1.0#[method]session.read-closed") (param i32))
        (func (export "nethost:plugin/handler@0.1.0#[method]session.connection-lost") (param i32 i32 i32 i32))
    "#;

    #[test]
    fn a_component_imports_only_what_the_module_uses() {
        let used = r#"(import "nethost:plugin/transport@0.1.0" "[method]connection.close" (func (param i32)))"#;
        let bytes = component(&module("stream-plugin", used)).unwrap();
        let description = inspect::describe(&bytes).unwrap();
        assert_eq!(
            description.imports,
            [
                "nethost:plugin/types@0.1.0",
                "nethost:plugin/transport@0.1.0"
            ]
        );
        assert_eq!(description.exports, ["nethost:plugin/handler@0.1.0"]);
        assert_eq!(description.contract_version, "0.1.0");
        assert!(description.manifest.is_none());
    }

    #[test]
    fn what_std_asks_of_wasi_becomes_calls_of_the_contract() {
        let used = r#"
            (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
        let bytes = component(&module("stream-plugin", used)).unwrap();
        let imports = inspect::describe(&bytes).unwrap().imports;
        for interface in ["clock", "random", "log"] {
            assert!(
                imports.contains(&format!("nethost:plugin/{interface}@0.1.0")),
                "{imports:?}"
            );
        }
        assert!(
            imports
                .iter()
                .all(|name| name.starts_with("nethost:plugin/")),
            "{imports:?}"
        );
    }

    #[test]
    fn the_manifest_travels_in_the_component() {
        let text = "[plugin]\nname = \"x\"\nversion = \"1.2.3\"\n";
        let bytes = with_manifest(component(&module("stream-plugin", "")).unwrap(), text);
        let manifest = inspect::describe(&bytes).unwrap().manifest.unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.version.as_deref()),
            ("x", Some("1.2.3"))
        );
    }
}
