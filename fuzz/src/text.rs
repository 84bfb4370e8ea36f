//! What the host reads: URLs, config files, manifests, components, PROXY headers.

use std::path::Path;

use nethost::{
    checks,
    config::Config,
    endpoint::{Direction, Endpoint},
    inspect,
    manifest::{Manifest, SECTION},
};

/// An endpoint that is parsed is shown as a URL that is parsed to the same, and may be used for the same.
pub(crate) fn endpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let endpoint = match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            // What is wrong is told on one line of a terminal.
            let told = error.to_string();
            assert!(!told.contains(is_unprintable), "{told:?}");
            return;
        }
    };
    let shown = endpoint.to_string();
    let again = shown.parse::<Endpoint>();
    assert_eq!(again.as_ref(), Ok(&endpoint), "{shown}");
    for direction in [Direction::Listening, Direction::Connecting] {
        let other = again.as_ref().map(|again| again.check(direction));
        assert_eq!(other, Ok(endpoint.check(direction)), "{shown}");
    }
}

/// A config file is taken, or all that is wrong with it is told, where it is.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Secrets are read from files and variables that it names, and none of those shall be found.
    let lines = text.split('\n').count();
    match Config::parse(text, Path::new("/nonexistent/nethost.toml")) {
        Ok(config) => {
            assert!(!config.services.is_empty());
            for warning in &config.warnings {
                assert!((1..=lines).contains(&warning.line), "{warning}");
            }
        }
        Err(problems) => {
            assert!(
                !problems.0.is_empty(),
                "nothing is wrong, and it is refused"
            );
            for problem in &problems.0 {
                assert!((1..=lines).contains(&problem.line), "{problem}");
                assert!(problem.column > 0, "{problem}");
                let line = problem.line();
                assert!(!line.contains(is_unprintable), "{line:?}");
            }
        }
    }
}

/// A manifest is taken or refused, and says the same in a component; what it says goes to a terminal.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Manifest::parse(text, "plugin.toml") {
        Ok(manifest) => {
            assert!(!manifest.name.is_empty() && !manifest.isolation.is_empty());
            // Its own defaults are values of its own types.
            if let Err(error) = manifest.config(&[]) {
                let told = error.to_string();
                assert!(!told.contains(is_unprintable), "{told:?}");
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(
                !told.contains(|it| is_unprintable(it) && it != '\n'),
                "{told:?}"
            );
        }
    }
    let described = inspect::describe(&with_section(data));
    assert!(described.is_err(), "it exports nothing");
}

/// Whatever file is named as a plugin, it is described or refused.
pub(crate) fn component(data: &[u8]) {
    if let Err(error) = inspect::describe(data) {
        // All of it goes to a terminal.
        let _told = error.to_string();
    }
}

/// A PROXY header is read without a byte too many, and written as it was read.
pub(crate) fn proxy(data: &[u8]) {
    checks::proxy_header(data);
}

fn is_unprintable(it: char) -> bool {
    it.is_control()
}

/// A component that has nothing but a manifest.
fn with_section(manifest: &[u8]) -> Vec<u8> {
    let mut section = leb128(SECTION.len());
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(manifest);
    let mut bytes = b"\0asm\x0d\0\x01\0\0".to_vec();
    bytes.extend(leb128(section.len()));
    bytes.extend(section);
    bytes
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
