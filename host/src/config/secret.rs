//! Values that are not in the file itself: `{ file = "..." }` and `{ env = "..." }`.

use std::{
    env, fmt, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{daemon::confinement, files::open_regular};

/// A text that is nobody's business: it shows where it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    origin: Origin,
    content: String,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    Environment(String),
}

impl Secret {
    /// Reads one from a file.
    pub(crate) fn of_file(path: PathBuf) -> Result<Self, String> {
        Self::read(Origin::File(path))
    }

    /// Reads it. A file's last line end is not a part of it.
    pub(super) fn read(origin: Origin) -> Result<Self, String> {
        let content = match &origin {
            Origin::File(path) => read_file(path).map_err(|error| {
                let hint = confinement::hint(path, &error);
                format!("reading {}: {error}{hint}", path.display())
            })?,
            Origin::Environment(name) => env::var(name).map_err(|error| match error {
                env::VarError::NotPresent => {
                    format!("the environment has no variable `{name}`")
                }
                env::VarError::NotUnicode(_) => {
                    format!("the variable `{name}` of the environment is not text in UTF-8")
                }
            })?,
        };
        Ok(Self { origin, content })
    }

    /// Returns what others may do with the secret's file that only its owner should: its mode.
    pub(super) fn others_mode(&self) -> Option<(&Path, u32)> {
        let Origin::File(path) = &self.origin else {
            return None;
        };
        let mode = fs::metadata(path).ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then_some((path, mode))
    }

    /// Returns the file that it is in.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Environment(_) => None,
        }
    }

    /// Returns the text itself.
    pub(crate) fn expose(&self) -> &str {
        &self.content
    }
}

/// What must not be told of a service.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl Secrets {
    /// Each secret, and each line of it: what a plugin says of a key may be of one line.
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut all: Vec<String> = secrets
            .flat_map(|secret| {
                let lines = secret.content.lines().map(str::trim);
                let lines = lines.filter(|line| line.len() >= SHORTEST_LINE);
                lines.chain([secret.content.as_str()])
            })
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect();
        // A part of another one must not leave the rest of that.
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(all.into())
    }

    /// Puts a word in the place of every secret in a text: what a plugin says of its config goes to the log.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &*self.0 {
            text = text.replace(secret, "(secret)");
        }
        text
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
impl Secret {
    pub(super) fn of_text(text: &str) -> Self {
        Self {
            origin: Origin::Environment("TEST".to_owned()),
            content: text.to_owned(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.origin).finish()
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let file = open_regular(path)?;
    let mut content = String::new();
    file.take(LONGEST + 1).read_to_string(&mut content)?;
    if content.len() as u64 > LONGEST {
        let message = format!("it is longer than {LONGEST} bytes, the most a secret may have");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let end = content.strip_suffix('\n').unwrap_or(&content);
    let end = end.strip_suffix('\r').unwrap_or(end).len();
    content.truncate(end);
    Ok(content)
}

/// Bytes of the shortest line of a secret that is hidden by itself: 4; a brace alone is no secret.
const SHORTEST_LINE: usize = 4;

/// Bytes of the longest secret: 64 KiB, several private keys.
const LONGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("nethost-secret-{}-{name}", std::process::id());
            let path = env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_last_line_end_of_a_file_is_not_a_part_of_it() {
        let folder = Folder::new("end");
        for (content, expected) in [
            ("hush", "hush"),
            ("hush\n", "hush"),
            ("hush\r\n", "hush"),
            ("hush\n\n", "hush\n"),
            (" a\nb \n", " a\nb "),
            ("", ""),
        ] {
            let path = folder.write("secret", content);
            let secret = Secret::read(Origin::File(path)).unwrap();
            assert_eq!(secret.expose(), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let folder = Folder::new("read");
        let long = "x".repeat((64 << 10) + 1);
        for (path, part) in [
            (folder.write("long", &long), "longer than 65536"),
            (folder.write("long", &long).with_file_name("none"), "none"),
            (
                folder.write("a", "").parent().unwrap().to_owned(),
                "not a regular file",
            ),
        ] {
            let error = Secret::read(Origin::File(path)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let error = Secret::read(Origin::Environment("NETHOST_NOT_SET".to_owned())).unwrap_err();
        assert!(error.contains("`NETHOST_NOT_SET`"), "{error}");
    }

    #[test]
    fn debug_shows_where_it_is_and_not_what_it_is() {
        let folder = Folder::new("debug");
        let path = folder.write("place", "hush");
        let shown = format!("{:?}", Secret::read(Origin::File(path)).unwrap());
        assert!(
            shown.contains("place") && !shown.contains("hush"),
            "{shown}"
        );
    }
}
