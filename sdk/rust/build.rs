//! Encodes the worlds of the contract that a plugin can choose between, for `export_plugin!` to embed the one that it exports.
//!
//! `wit_bindgen::generate!` would embed them too, but names its macros after the interfaces: two worlds with an interface in common
//! cannot both be exported from one crate.

use std::{env, error::Error, fs, path::Path};

use wit_component::{StringEncoding, metadata};
use wit_parser::Resolve;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={WIT}");
    let out = env::var("OUT_DIR")?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(WIT)?;
    let mut source = String::new();
    for (name, world) in WORLDS {
        let world = resolve.select_world(&[package], Some(world))?;
        let section = metadata::encode(&resolve, world, StringEncoding::UTF8, None)?;
        let file = Path::new(&out).join(name);
        fs::write(&file, &section)?;
        source += &format!(
            "/// One world of the contract, encoded.\npub const {name}: [u8; {}] = *include_bytes!({:?});\n",
            section.len(),
            file.display().to_string(),
        );
    }
    fs::write(Path::new(&out).join("sections.rs"), source)?;
    Ok(())
}

const WIT: &str = "../../wit";
const WORLDS: [(&str, &str); 5] = [
    ("PLUGIN", "plugin"),
    ("SWAPPABLE_PLUGIN", "swappable-plugin"),
    ("DATAGRAM_PLUGIN", "datagram-plugin"),
    ("DATAGRAM_SWAPPABLE_PLUGIN", "datagram-swappable-plugin"),
    ("COMMAND_PART", "command-part"),
];
