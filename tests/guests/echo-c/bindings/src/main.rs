//! `echo-c-bindings WIT OUTPUT`: what `wit-bindgen c` makes of the world `stream-plugin` in the folder `WIT`.
//!
//! It does what `wit-bindgen c WIT --world stream-plugin --rename ...` does; building that program takes several times as long.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;
use wit_bindgen_c::Opts;
use wit_bindgen_core::{
    Files,
    wit_parser::{Resolve, WorldId},
};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let wit = arguments
        .next()
        .context("the folder of the contract is missing")?;
    let output = arguments
        .next()
        .context("the folder for the result is missing")?;

    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(&wit)
        .with_context(|| format!("reading {}", wit.display()))?;
    let world = resolve.select_world(&[package], Some("stream-plugin"))?;
    let options = Opts {
        rename: short_names(&resolve, world),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;

    for (name, contents) in files.iter() {
        let path = output.join(name);
        fs::write(&path, contents).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// `transport` for `nethost:plugin/transport@0.1.0`: every name in C begins with its interface's.
fn short_names(resolve: &Resolve, world: WorldId) -> Vec<(String, String)> {
    let world = &resolve.worlds[world];
    let names = world
        .imports
        .keys()
        .chain(world.exports.keys())
        .map(|key| resolve.name_world_key(key));
    names
        .filter_map(|name| {
            let short = name
                .strip_prefix("nethost:plugin/")?
                .split('@')
                .next()?
                .replace('-', "_");
            Some((name, short))
        })
        .collect()
}
