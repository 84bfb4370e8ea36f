//! From a file's bytes to a description of the plugin in them, or to the reason why there is none that this host can run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use wasmparser::{
    Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures,
    component_types::{ComponentEntityType, ComponentItem},
    types::TypesRef,
};

use crate::{
    contract::{self, Contract},
    manifest::{self, InvalidManifest, Manifest},
};

#[cfg(test)]
mod tests;

/// What a component says and needs, without running or compiling it.
#[derive(Debug, Clone)]
pub struct Description {
    /// The version of the contract that it was built against: its `handler`'s.
    pub contract_version: String,
    /// Every interface that it imports, with package and version, in order.
    pub imports: Vec<String>,
    /// Every interface that it exports, with package and version, in order.
    pub exports: Vec<String>,
    /// What it says about itself; none if another toolchain made it.
    pub manifest: Option<Manifest>,
    /// The component's size in bytes.
    pub size: usize,
}

/// Reads a plugin's file.
///
/// Errors do not name the file; the caller does. When the component is missing and its source folder is beside it, the error says how to build it.
pub fn read(path: &Path) -> Result<Vec<u8>, Unfit> {
    let bytes = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = bytes.map_err(|error| {
        let source = path.with_extension("");
        let display = |path: &Path| path.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound if is_source_of(path, &source) => {
                Unfit::NotBuilt(display(&source))
            }
            io::ErrorKind::NotFound => Unfit::Missing,
            io::ErrorKind::IsADirectory if path.join("plugin.toml").is_file() => {
                Unfit::SourceFolder {
                    component: display(&path.with_extension("wasm")),
                    folder: display(path),
                }
            }
            _ => Unfit::Unreadable(error),
        }
    })?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size <= LARGEST) {
        Ok(bytes)
    } else {
        Err(Unfit::TooLarge)
    }
}

/// Bytes of the largest component: 128 MiB. One made from Python has 18 MB.
pub const LARGEST: u64 = 128 << 20;

/// Describes a component, and checks that it fits this host: a few milliseconds for a plugin in Rust or C, 30 for one in Python.
pub fn describe(bytes: &[u8]) -> Result<Description, Unfit> {
    check_kind(bytes)?;
    let outline = Outline::read(bytes)?;
    check_versions(&outline)?;
    let contract = Contract::parse();
    let contract_version = check_exports(&outline, &contract)?;
    check_imports(&outline, &contract)?;
    let manifest = outline
        .manifest
        .map(|text| Manifest::parse(&text, "the manifest in it"))
        .transpose()
        .map_err(Unfit::Manifest)?;
    let names = |externs: Vec<Extern>| externs.into_iter().map(|item| item.name).collect();
    Ok(Description {
        contract_version,
        imports: names(outline.imports),
        exports: names(outline.exports),
        manifest,
        size: bytes.len(),
    })
}

/// Why a file is not a plugin that this host can run. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no such file.
    #[error("no such file")]
    Missing,
    /// The component is not there, but its source folder is.
    #[error("not built yet, and `{0}` is its source: run `nethost build {0}`")]
    NotBuilt(String),
    /// The source folder was named in place of the component.
    #[error(
        "a plugin's source folder, not a plugin: run `nethost build {folder}`, then name `{component}`"
    )]
    SourceFolder {
        /// What was named.
        folder: String,
        /// What it builds to.
        component: String,
    },
    /// The file cannot be read.
    #[error("cannot read it")]
    Unreadable(#[source] io::Error),
    /// The file is larger than any plugin should be.
    #[error("larger than {} MiB, the most that a plugin may have", LARGEST >> 20)]
    TooLarge,
    /// The file holds something else.
    #[error("not WebAssembly: it begins with `{0}`")]
    NotWasm(String),
    /// The file holds the text format, which only tools for people read.
    #[error(
        "WebAssembly text: a plugin is a binary component (`wasm-tools parse` makes one of it)"
    )]
    Text,
    /// The module inside a component, without the component around it.
    #[error(
        "a core module, not a component: encode it with `nethost build FILE --out PLUGIN.wasm`"
    )]
    CoreModule,
    /// The component is not valid: cut short, or made by a faulty tool.
    #[error("damaged, or made by a faulty tool: {0}")]
    Damaged(String),
    /// The component was built against a contract that this host does not offer.
    #[error(
        "built against another contract: it {verb} `{name}`, this host offers {} {}",
        contract::PACKAGE,
        offered_track()
    )]
    WrongVersion {
        /// `imports` or `exports`.
        verb: &'static str,
        /// The interface, with the version that was found.
        name: String,
    },
    /// The component does not export what the host calls.
    #[error("not a plugin: it does not export `{name}` (it exports {exports})")]
    MissingExport {
        /// The interface, or the function in it.
        name: String,
        /// What it exports.
        exports: String,
    },
    /// The component needs something that this host does not have.
    #[error("it imports `{name}`, which this host does not offer{hint}")]
    UnknownImport {
        /// The import.
        name: String,
        /// What to do about it, in words.
        hint: &'static str,
    },
    /// The manifest in the component is wrong.
    #[error(transparent)]
    Manifest(InvalidManifest),
}

/// The outside of a component: the names at its border, and the manifest.
struct Outline {
    imports: Vec<Extern>,
    exports: Vec<Extern>,
    manifest: Option<String>,
}

struct Extern {
    name: String,
    /// The functions of an interface; none for what is not an interface.
    functions: Option<BTreeSet<String>>,
}

impl Outline {
    /// Checks everything but the bodies of functions, which the compiler checks anyway.
    fn read(bytes: &[u8]) -> Result<Self, Unfit> {
        let mut outline = Self {
            imports: Vec::new(),
            exports: Vec::new(),
            manifest: None,
        };
        outline
            .fill(bytes)
            .map_err(|error| Unfit::Damaged(error.to_string()))?;
        Ok(outline)
    }

    fn fill(&mut self, bytes: &[u8]) -> wasmparser::Result<()> {
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut depth = 0u32;
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section.clone() {
                        imports.push(import?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section.clone() {
                        exports.push(export?.name.name);
                    }
                }
                Payload::CustomSection(section)
                    if depth == 1 && section.name() == manifest::SECTION =>
                {
                    self.manifest = Some(String::from_utf8_lossy(section.data()).into_owned());
                }
                _ => {}
            }
            if let ValidPayload::End(types) = validator.payload(&payload)?
                && depth == 0
            {
                let types = types.as_ref();
                let import = |name: &&str| types.component_item_for_import(name);
                let export = |name: &&str| types.component_item_for_export(name);
                self.imports = externs(&imports, import, types);
                self.exports = externs(&exports, export, types);
            }
        }
        Ok(())
    }
}

fn externs<'a>(
    names: &[&str],
    item: impl Fn(&&str) -> Option<&'a ComponentItem>,
    types: TypesRef<'_>,
) -> Vec<Extern> {
    names
        .iter()
        .filter_map(|name| Some(Extern::new(name, item(name)?, types)))
        .collect()
}

impl Extern {
    fn new(name: &str, item: &ComponentItem, types: TypesRef<'_>) -> Self {
        let functions = match item.ty {
            ComponentEntityType::Instance(id) => types.get(id).map(|instance| {
                let is_function =
                    |item: &ComponentItem| matches!(item.ty, ComponentEntityType::Func(_));
                instance
                    .exports
                    .iter()
                    .filter(|(_, item)| is_function(item))
                    .map(|(name, _)| name.to_string())
                    .collect()
            }),
            _ => None,
        };
        Self {
            name: name.to_owned(),
            functions,
        }
    }
}

fn is_source_of(component: &Path, source: &Path) -> bool {
    component
        .extension()
        .is_some_and(|extension| extension == "wasm")
        && source.join("plugin.toml").is_file()
}

/// Tells what the bytes are, before they are read as a component.
fn check_kind(bytes: &[u8]) -> Result<(), Unfit> {
    if !bytes.starts_with(b"\0asm") {
        let text = String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes));
        let text = text.trim_start();
        if ["(module", "(component", ";;", "(;"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            return Err(Unfit::Text);
        }
        let start = bytes.get(..8).unwrap_or(bytes);
        return Err(Unfit::NotWasm(start.escape_ascii().to_string()));
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version {
            encoding: Encoding::Module,
            ..
        })) => Err(Unfit::CoreModule),
        Some(Err(error)) => Err(Unfit::Damaged(error.to_string())),
        _ => Ok(()),
    }
}

fn check_versions(outline: &Outline) -> Result<(), Unfit> {
    let imports = outline.imports.iter().map(|item| ("imports", item));
    let exports = outline.exports.iter().map(|item| ("exports", item));
    for (verb, item) in exports.chain(imports) {
        if let Some((_, version)) = contract::split(&item.name)
            && !contract::is_compatible(version)
        {
            let name = item.name.clone();
            return Err(Unfit::WrongVersion { verb, name });
        }
    }
    Ok(())
}

/// Looks for the interfaces that a plugin must export, and in each one of the contract for all of its functions.
fn check_exports(outline: &Outline, contract: &Contract) -> Result<String, Unfit> {
    let missing = |name: String| {
        let names = outline
            .exports
            .iter()
            .map(|item| format!("`{}`", item.name));
        let names: Vec<String> = names.collect();
        let exports = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        Unfit::MissingExport { name, exports }
    };
    let interfaces = contract.interfaces();
    let mut versions = BTreeMap::new();
    for item in &outline.exports {
        let (Some((interface, version)), Some(functions)) =
            (contract::split(&item.name), &item.functions)
        else {
            continue;
        };
        let known = interfaces.get(interface);
        if let Some(absent) =
            known.and_then(|known| known.iter().find(|name| !functions.contains(**name)))
        {
            return Err(missing(format!("{}#{absent}", item.name)));
        }
        versions.insert(interface, version);
    }
    let mut found = None;
    for required in contract::REQUIRED_EXPORTS {
        let Some(version) = versions.get(required) else {
            let version = contract::VERSION;
            return Err(missing(format!(
                "{}/{required}@{version}",
                contract::PACKAGE
            )));
        };
        found.get_or_insert(*version);
    }
    Ok(found.unwrap_or(contract::VERSION).to_owned())
}

fn check_imports(outline: &Outline, contract: &Contract) -> Result<(), Unfit> {
    let offered = contract.offered();
    for item in &outline.imports {
        let unknown = |name: String| Unfit::UnknownImport {
            hint: hint_for(&item.name),
            name,
        };
        let interface =
            contract::split(&item.name).and_then(|(interface, _)| offered.get(interface));
        let (Some(known), Some(used)) = (interface, &item.functions) else {
            return Err(unknown(item.name.clone()));
        };
        if let Some(function) = used
            .iter()
            .find(|function| !known.contains(function.as_str()))
        {
            return Err(unknown(format!("{}#{function}", item.name)));
        }
    }
    Ok(())
}

fn hint_for(import: &str) -> &'static str {
    if import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/") {
        ": a plugin never sees a socket, the contract's `transport` and `deferred` are the way to the network"
    } else if import.starts_with("wasi:") {
        ": a plugin gets no WASI; `nethost build` turns clock, random and print into the contract's for Rust, and other toolchains have an \
         option to leave WASI out (`--stub-wasi` of componentize-py, `disableFeatures` of componentize-js)"
    } else if import.starts_with("nethost:plugin/") {
        ": it came with a later version of the contract"
    } else {
        ""
    }
}

/// The versions that fit, in words: `0.1.x`.
fn offered_track() -> String {
    let mut numbers = contract::VERSION.split('.');
    match (numbers.next(), numbers.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}.x"),
        (Some(major), _) => format!("{major}.x"),
        (None, _) => contract::VERSION.to_owned(),
    }
}
