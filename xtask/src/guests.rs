//! The test guests: tiny components, most in Rust, and one per other language.

use std::path::{Path, PathBuf};

use crate::{build, places::Places};

/// Builds every guest of `tests/guests`, and returns the folder with their components.
pub(crate) fn build_all(places: &Places, host: &Path) -> anyhow::Result<PathBuf> {
    let output = places.target.join("guests");
    let sources = places.root.join("tests/guests");
    if sources.is_dir() {
        build::plugins_into(places, host, &sources, &output)?;
    }
    Ok(output)
}
