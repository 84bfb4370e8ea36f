//! Files that are wrong, each with what is said of it beside it.

use std::{env, fs, path::Path};

/// Calls `said` with every `.toml` of a folder, and compares what it returns with the `.err` beside it. `NETHOST_BLESS=1` writes those.
///
/// # Panics
///
/// If one differs, or if there are fewer than `least`: the files are elsewhere.
pub fn every_mistake(folder: &Path, least: usize, said: impl Fn(&Path) -> String) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_toml = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    };
    let mut count = 0;
    for path in paths.filter(|path| is_toml(path)) {
        count += 1;
        let said = said(&path);
        let golden = path.with_extension("err");
        if env::var_os("NETHOST_BLESS").is_some() {
            fs::write(&golden, &said).unwrap_or_else(|error| panic!("{golden:?}: {error}"));
        }
        let expected = fs::read_to_string(&golden);
        let expected = expected.unwrap_or_else(|error| panic!("{golden:?}: {error}"));
        assert_eq!(said, expected, "{}", path.display());
    }
    assert!(count >= least, "{count} files in {}", folder.display());
}
