//! The contract as this host offers it: the files of `wit/`, carried in the binary so that an installed `nethost` builds and judges plugins anywhere.

use std::collections::{BTreeMap, BTreeSet};

use wit_parser::{InterfaceId, PackageId, Resolve, SourceMap, WorldId, WorldItem};

/// The contract's package, without its version.
pub const PACKAGE: &str = "nethost:plugin";

/// The version of the contract that this host offers. A plugin built against any version with the same major and minor number fits, as
/// long as it uses nothing that came later.
pub const VERSION: &str = "0.1.0";

/// The exported interfaces without which a component is not a plugin.
pub(crate) const REQUIRED_EXPORTS: &[&str] = &["handler"];

/// The contract, parsed.
pub(crate) struct Contract {
    pub(crate) resolve: Resolve,
    package: PackageId,
}

impl Contract {
    /// Parses the files that the binary carries; about a millisecond.
    pub(crate) fn parse() -> Self {
        let mut sources = SourceMap::new();
        for (name, text) in FILES {
            sources.push_str(name, *text);
        }
        let mut resolve = Resolve::new();
        let package = sources
            .parse()
            .map_err(|(_, error)| anyhow::Error::new(error))
            .and_then(|group| resolve.push_group(group).map_err(anyhow::Error::new))
            .expect("the contract in the binary is well-formed: a unit test parses it");
        Self { resolve, package }
    }

    /// The world of this name.
    pub(crate) fn world(&self, name: &str) -> WorldId {
        self.resolve
            .select_world(&[self.package], Some(name))
            .expect("the contract has the worlds that this crate names: a unit test asks for each")
    }

    /// What a plugin may import: the functions of each interface.
    pub(crate) fn offered(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let world = self.resolve.worlds.get(self.world("imports"));
        let items = world.into_iter().flat_map(|world| world.imports.values());
        self.functions(items.filter_map(|item| match item {
            WorldItem::Interface { id, .. } => Some(*id),
            WorldItem::Function(_) | WorldItem::Type { .. } => None,
        }))
    }

    /// Every interface of the contract with its functions, those that plugins export included.
    pub(crate) fn interfaces(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let package = self.resolve.packages.get(self.package);
        let ids = package
            .into_iter()
            .flat_map(|package| package.interfaces.values());
        self.functions(ids.copied())
    }

    fn functions(
        &self,
        interfaces: impl Iterator<Item = InterfaceId>,
    ) -> BTreeMap<&str, BTreeSet<&str>> {
        interfaces
            .filter_map(|id| {
                let interface = self.resolve.interfaces.get(id)?;
                let functions = interface.functions.keys().map(String::as_str).collect();
                Some((interface.name.as_deref()?, functions))
            })
            .collect()
    }
}

/// One version of the contract, as written in an import or export: `0.1.0`.
///
/// Two are compatible when they have the same major and minor number (the major alone, from 1 on).
pub(crate) fn is_compatible(version: &str) -> bool {
    track(version).is_some_and(|found| Some(found) == track(VERSION))
}

/// Splits `nethost:plugin/handler@0.1.0` into interface and version; none for a name of another package.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    let (interface, version) = name
        .strip_prefix(PACKAGE)?
        .strip_prefix('/')?
        .split_once('@')?;
    Some((interface, version))
}

fn track(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    let patch = numbers.next()?;
    let plain = numbers.next().is_none() && patch.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some((major, if major == 0 { minor } else { 0 }))
}

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../wit/", $name)))),*]
    };
}

/// Every file of `wit/`.
const FILES: &[(&str, &str)] = files! {
    "accounts.wit"
    "bulk.wit"
    "clock.wit"
    "command-handler.wit"
    "command.wit"
    "datagram-handler.wit"
    "datagram.wit"
    "deferred-handler.wit"
    "deferred.wit"
    "handler.wit"
    "log.wit"
    "metrics.wit"
    "progress.wit"
    "random.wit"
    "session-swap-handler.wit"
    "storage.wit"
    "swap-handler.wit"
    "transport.wit"
    "types.wit"
    "worlds.wit"
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_carries_every_file_of_the_contract() {
        let mut there: Vec<String> =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".wit"))
                .collect();
        there.sort();
        let carried: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(carried, there);
    }

    #[test]
    fn the_contract_parses_and_is_of_this_version() {
        let contract = Contract::parse();
        let name = &contract.resolve.packages[contract.package].name;
        assert_eq!(name.to_string(), format!("{PACKAGE}@{VERSION}"));
        contract.world("preview1-adapter");
        let offered = contract.offered();
        assert!(offered["transport"].contains("[method]connection.write"));
        assert!(offered.contains_key("types"));
        assert!(!offered.contains_key("handler"));
        let interfaces = contract.interfaces();
        for required in REQUIRED_EXPORTS {
            assert!(!interfaces[required].is_empty());
        }
    }

    #[test]
    fn versions_of_one_track_are_compatible() {
        for (version, expected) in [
            ("0.1.0", true),
            ("0.1.7", true),
            ("0.2.0", false),
            ("1.1.0", false),
            ("0.1", false),
            ("0.1.0-rc.1", false),
            ("", false),
        ] {
            assert_eq!(is_compatible(version), expected, "{version}");
        }
    }

    #[test]
    fn names_split_into_interface_and_version() {
        for (name, expected) in [
            ("nethost:plugin/handler@0.1.0", Some(("handler", "0.1.0"))),
            ("nethost:plugin/handler", None),
            ("nethost:plugins/handler@0.1.0", None),
            ("wasi:io/streams@0.2.0", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }
}
