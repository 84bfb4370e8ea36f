//! What a manifest says of the plugin's command: where its arguments name files.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::Wrong;

/// What a plugin says of its command (`nethost exec`).
///
/// Example: `{ usage = "get URL [-o FILE]", reads = ["-d@"], writes = ["-o", "--output"], values = ["-H"] }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommandManifest {
    /// How it is called, for people, without its name: `HOST:PORT [TEXT]...`.
    pub usage: Option<String>,
    /// Where arguments name files to be read.
    pub reads: Vec<FileArgument>,
    /// Where arguments name files to be written; they may be read as well.
    pub writes: Vec<FileArgument>,
    /// Other options that take a value, which is no argument of its own: `-H`, `--header`.
    pub values: Vec<String>,
    /// Why it asks name servers itself; none if it does not.
    #[serde(rename = "name-servers")]
    pub name_servers: Option<String>,
}

/// Where arguments name a file, as a text:
///
/// | text | the file in |
/// |---|---|
/// | `-o` | `-o FILE`, `-oFILE`, `-vo FILE` |
/// | `--output` | `--output FILE`, `--output=FILE` |
/// | `-d@`, `--data@` | `-d @FILE`, `--data=@FILE`; a value without the `@` is no file |
/// | `2` | the second argument that is no option and no option's value |
/// | `put 1` | the first one after `put`, if that is the first of all |
/// | `2..` | the second, and every one after it |
/// | `1..@`, `@` | every one, if it begins with `@` |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileArgument {
    /// An option's value.
    Option {
        /// The option, with its dashes.
        name: String,
        /// Only a value that begins with `@`, which is not part of the name.
        mark: bool,
    },
    /// An argument that is no option.
    Position {
        /// What the first one must be; it does not count then.
        word: Option<String>,
        /// Which one, counted from 1.
        first: NonZeroUsize,
        /// And all after it.
        onwards: bool,
        /// Only if it begins with `@`, which is not part of the name.
        mark: bool,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCommand {
    usage: Option<String>,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
    #[serde(default)]
    values: Vec<String>,
    name_servers: Option<String>,
}

impl RawCommand {
    pub(super) fn check(self) -> Result<CommandManifest, Wrong> {
        let Self {
            usage,
            reads,
            writes,
            values,
            name_servers,
        } = self;
        let places = |key: &str, texts: Vec<String>| -> Result<Vec<FileArgument>, Wrong> {
            let place = |text: &String| text.parse();
            let places: Result<_, _> = texts.iter().map(place).collect();
            places.map_err(|reason| (key.to_owned(), reason))
        };
        for value in &values {
            if !is_option(value) {
                let reason = format!("`{value}` is no option such as `-H` or `--header`");
                return Err(("command.values".to_owned(), reason));
            }
        }
        if let Some(usage) = &usage {
            super::check_text("command.usage", usage)?;
        }
        if let Some(reason) = &name_servers {
            super::check_reason("command.name-servers", reason)?;
        }
        Ok(CommandManifest {
            usage,
            reads: places("command.reads", reads)?,
            writes: places("command.writes", writes)?,
            values,
            name_servers,
        })
    }
}

impl CommandManifest {
    /// Returns whether an option, given with its dashes, takes a value.
    pub fn takes_value(&self, option: &str) -> bool {
        let files = self.reads.iter().chain(&self.writes);
        let mut names = files.filter_map(|place| match place {
            FileArgument::Option { name, .. } => Some(name),
            FileArgument::Position { .. } => None,
        });
        names.any(|name| name == option) || self.values.iter().any(|name| name == option)
    }
}

impl FromStr for FileArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "`{text}` does not say where a file is named; examples: `-o`, `--output`, `-d@`, `2`, `put 1`, `2..`, `@`"
            )
        };
        let (place, mark) = match text.strip_suffix('@') {
            Some("") => ("1..", true),
            Some(place) => (place, true),
            None => (text, false),
        };
        if place.starts_with('-') {
            return match is_option(place) {
                true => Ok(Self::Option {
                    name: place.to_owned(),
                    mark,
                }),
                false => Err(invalid()),
            };
        }
        let (word, position) = match place.split_once(' ') {
            Some((word, position)) if is_word(word) => (Some(word.to_owned()), position),
            Some(_) => return Err(invalid()),
            None => (None, place),
        };
        let (first, onwards) = match position.strip_suffix("..") {
            Some(first) => (first, true),
            None => (position, false),
        };
        Ok(Self::Position {
            word,
            first: first.parse().map_err(|_| invalid())?,
            onwards,
            mark,
        })
    }
}

impl fmt::Display for FileArgument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self {
            Self::Option { name, mark } => {
                formatter.write_str(name)?;
                mark
            }
            Self::Position {
                word,
                first,
                onwards,
                mark,
            } => {
                if let Some(word) = word {
                    write!(formatter, "{word} ")?;
                }
                write!(formatter, "{first}{}", if *onwards { ".." } else { "" })?;
                mark
            }
        };
        formatter.write_str(if *mark { "@" } else { "" })
    }
}

impl Serialize for FileArgument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether this is `-x`, or `--long-name`.
fn is_option(text: &str) -> bool {
    match text.strip_prefix("--") {
        Some(name) => !name.is_empty() && is_word(name) && !name.starts_with('-'),
        None => text.strip_prefix('-').is_some_and(|letter| {
            let mut letters = letter.chars();
            letters.next().is_some_and(|it| it.is_ascii_alphanumeric()) && letters.next().is_none()
        }),
    }
}

fn is_word(text: &str) -> bool {
    let fits = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_');
    !text.is_empty() && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for (text, shown) in [
            ("-o", "-o"),
            ("--output", "--output"),
            ("-d@", "-d@"),
            ("--data-file@", "--data-file@"),
            ("2", "2"),
            ("put 1", "put 1"),
            ("2..", "2.."),
            ("send 1..@", "send 1..@"),
            ("@", "1..@"),
        ] {
            let place: FileArgument = text.parse().unwrap();
            assert_eq!(place.to_string(), shown);
            assert_eq!(shown.parse(), Ok(place));
        }
        for text in [
            "", "0", "-", "--", "-output", "--=", "---x", "put", "put  1", "put x", " 1", "1 2 3",
            "2...", "-o=", "1-2", "@@",
        ] {
            let error = text.parse::<FileArgument>().unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
