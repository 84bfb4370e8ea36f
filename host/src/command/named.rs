//! The files that a command's arguments name: what it may open.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::{
    fs::{OFlags, SeekFrom, seek},
    io::Errno,
};

use crate::{
    daemon::confinement::{Access, Reach},
    files::{FileMode, HostFile},
    manifest::{CommandManifest, FileArgument},
    storage::{Opening, Slot},
};

/// The files that arguments name, as the user wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedFiles {
    reads: BTreeSet<String>,
    writes: BTreeSet<String>,
}

/// What a file may be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The arguments do not name it.
    Unnamed,
    /// It may be read.
    Read,
    /// It may be read and written.
    Write,
}

impl NamedFiles {
    /// Finds the files in the arguments, where the manifest says that files are.
    pub(crate) fn find(manifest: &CommandManifest, arguments: &[String]) -> Self {
        let line = Line::read(manifest, arguments);
        let files = |places: &[FileArgument]| {
            let named = places.iter().flat_map(|place| line.values(place));
            // `-` is standard input or output.
            let files = named.filter(|name| !name.is_empty() && *name != "-");
            files.map(str::to_owned).collect()
        };
        Self {
            reads: files(&manifest.reads),
            writes: files(&manifest.writes),
        }
    }

    /// Adds them to what the process is confined to. One that is to be made takes its folder along.
    pub(crate) fn allow(&self, reach: &mut Reach) {
        for name in &self.reads {
            reach.allow(Path::new(name), Access::Read);
        }
        for path in self.writes.iter().map(Path::new) {
            let access = match path.exists() {
                true => Access::Write,
                false => Access::Make,
            };
            reach.allow(path, access);
        }
    }

    /// Returns why a file must not be opened so, if it must not.
    pub(crate) fn check(&self, name: &str, opening: Opening) -> Result<(), String> {
        let shown: String = name.chars().take(LONGEST_SHOWN).collect();
        let shown = shown.escape_debug();
        match self.naming(name) {
            Naming::Write => Ok(()),
            Naming::Read if opening == Opening::Read => Ok(()),
            Naming::Read => Err(format!("the arguments name `{shown}` to be read only")),
            Naming::Unnamed => Err(format!(
                "the arguments name no file `{shown}`; `nethost inspect` tells where they do"
            )),
        }
    }

    /// Returns what a file of this name may be opened for.
    pub(crate) fn naming(&self, name: &str) -> Naming {
        if self.writes.contains(name) {
            Naming::Write
        } else if self.reads.contains(name) {
            Naming::Read
        } else {
            Naming::Unnamed
        }
    }
}

/// Opens a file that the arguments name, without waiting for anybody at the other end of what is none.
pub(crate) fn open(name: &str, opening: Opening, slot: Slot) -> io::Result<HostFile> {
    let unhurried = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(opening != Opening::Read)
        .create(matches!(opening, Opening::Create | Opening::Replace))
        .create_new(opening == Opening::CreateNew)
        .custom_flags(unhurried.bits().cast_signed())
        .open(name)?;
    let is_regular = check(&file)?;
    let mode = match opening {
        Opening::Read => FileMode::ReadOnly,
        _ => FileMode::ReadWrite,
    };
    let file = HostFile::new(file, mode, Some(slot));
    if opening == Opening::Replace && is_regular {
        // Not by O_TRUNC: what is no file is not touched.
        file.set_size(0)?;
    }
    Ok(file)
}

/// Refuses what cannot be read at any position, and returns whether it is a regular file: a device may do as well.
fn check(file: &File) -> io::Result<bool> {
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    let is_device = || kind.is_char_device() && seek(file, SeekFrom::Current(0)).is_ok();
    if kind.is_file() || is_device() {
        return Ok(kind.is_file());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it is a pipe, a terminal or another device, which cannot be read at any position; `-` is standard input and output",
    ))
}

/// Arguments, told apart as `getopt_long(3)` does.
#[derive(Debug, Default)]
struct Line<'a> {
    /// An option, with its dashes, and its value.
    options: Vec<(String, &'a str)>,
    positions: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn read(manifest: &CommandManifest, arguments: &'a [String]) -> Self {
        let mut line = Self::default();
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                line.positions.extend(arguments.by_ref());
            } else if argument.starts_with("--") {
                let (name, inline) = match argument.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (argument, None),
                };
                if manifest.takes_value(name) {
                    let value = inline.or_else(|| arguments.next());
                    line.options
                        .extend(value.map(|value| (name.to_owned(), value)));
                }
            } else if let Some(letters) = argument.strip_prefix('-').filter(|it| !it.is_empty()) {
                // Flags may stand together, and the last one may take a value: `-so FILE`, `-soFILE`.
                for (at, letter) in letters.char_indices() {
                    let name = format!("-{letter}");
                    if manifest.takes_value(&name) {
                        let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                        let value = Some(rest).filter(|rest| !rest.is_empty());
                        let value = value.or_else(|| arguments.next());
                        line.options.extend(value.map(|value| (name, value)));
                        break;
                    }
                }
            } else {
                line.positions.push(argument);
            }
        }
        line
    }

    /// The files at one place.
    fn values(&self, place: &FileArgument) -> Vec<&'a str> {
        let (values, mark): (Vec<&str>, _) = match place {
            FileArgument::Option { name, mark } => {
                let of_name = self.options.iter().filter(|(given, _)| given == name);
                (of_name.map(|(_, value)| *value).collect(), mark)
            }
            FileArgument::Position {
                word,
                first,
                onwards,
                mark,
            } => {
                let behind = match (word, self.positions.as_slice()) {
                    (None, positions) => positions,
                    (Some(word), [given, positions @ ..]) if given == word => positions,
                    (Some(_), _) => &[],
                };
                let from = behind.get(first.get() - 1..).unwrap_or_default();
                let most = if *onwards { from.len() } else { 1 };
                (from.iter().take(most).copied().collect(), mark)
            }
        };
        let values = values.into_iter();
        if *mark {
            values.filter_map(|it| it.strip_prefix('@')).collect()
        } else {
            values.collect()
        }
    }
}

/// Characters of a file's name that an error shows.
const LONGEST_SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reads: &str, writes: &str, line: &str) -> (String, String) {
        let places = |text: &str| -> Vec<FileArgument> {
            let places = text.split(',').filter(|place| !place.is_empty());
            places.map(|place| place.parse().unwrap()).collect()
        };
        let manifest = CommandManifest {
            reads: places(reads),
            writes: places(writes),
            values: vec!["-H".to_owned(), "--header".to_owned()],
            ..CommandManifest::default()
        };
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let NamedFiles { reads, writes } = NamedFiles::find(&manifest, &arguments);
        let join = |files: BTreeSet<String>| files.into_iter().collect::<Vec<_>>().join(" ");
        (join(reads), join(writes))
    }

    #[test]
    fn files_are_where_the_manifest_says() {
        let http = ("-d@,--data@", "-o,--output");
        let ftp = ("put 1", "get 2");
        for ((reads, writes), line, expected) in [
            (http, "get u -o f", ("", "f")),
            (http, "get u -of", ("", "f")),
            (http, "get u --output f", ("", "f")),
            (http, "get u --output=f", ("", "f")),
            (http, "get u --output=a=b", ("", "a=b")),
            (http, "get u -so f", ("", "f")),
            (http, "get u -sof", ("", "f")),
            (http, "get u -d @f -o g", ("f", "g")),
            (http, "get u -d@f --data @../g --data=@h", ("../g f h", "")),
            (http, "get u -d f", ("", "")),
            (http, "get u -o -", ("", "")),
            (http, "get u -o", ("", "")),
            // The value of another option is no option, and what follows `--` is none.
            (http, "get u -H -o f", ("", "")),
            (http, "get u -- -o f", ("", "")),
            (http, "get u --outputs f -O g", ("", "")),
            (ftp, "get u f", ("", "f")),
            (ftp, "put f u", ("f", "")),
            (ftp, "-H x put f u", ("f", "")),
            (ftp, "-v get -H x u -v f", ("", "f")),
            (ftp, "list u f", ("", "")),
            (ftp, "get u", ("", "")),
            (("2..", ""), "a b - c", ("b c", "")),
            (("@", ""), "a @b @ c", ("b", "")),
            (("send 1..@", ""), "send @a b @c", ("a c", "")),
        ] {
            let (reads, writes) = named(reads, writes, line);
            assert_eq!((reads.as_str(), writes.as_str()), expected, "{line}");
        }
    }

    #[test]
    fn a_name_is_compared_as_it_was_written() {
        let manifest = CommandManifest {
            reads: vec!["1".parse().unwrap()],
            writes: vec!["-o".parse().unwrap()],
            ..CommandManifest::default()
        };
        let line = ["in/file", "-o", "out"].map(str::to_owned);
        let files = NamedFiles::find(&manifest, &line);
        for (name, expected) in [
            ("in/file", Naming::Read),
            ("out", Naming::Write),
            ("./in/file", Naming::Unnamed),
            ("in/../in/file", Naming::Unnamed),
            ("../out", Naming::Unnamed),
            ("file", Naming::Unnamed),
            ("/etc/passwd", Naming::Unnamed),
            ("", Naming::Unnamed),
        ] {
            assert_eq!(files.naming(name), expected, "{name}");
        }
    }
}
