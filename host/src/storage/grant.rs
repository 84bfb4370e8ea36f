//! Leave to use a directory, as the operator writes it.

use std::{io, path::PathBuf, str::FromStr};

use thiserror::Error;

use super::{Directory, Quota};
use crate::{
    config::text::parse_size,
    files::{FileMode, parse_grant},
};

/// Leave to use one directory and everything in it: `NAME=PATH`, `NAME=PATH:ro` or `NAME=PATH:rw`.
///
/// The plugin knows the name and never sees the path. `ro` must exist; `rw` is made if it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// What the plugin calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What may be done with it; none is what the plugin's manifest asks for, or `ro`.
    pub mode: Option<FileMode>,
}

/// How many bytes a directory may hold: `NAME=BYTES`, with `KiB`, `MiB`, `GiB` or nothing after the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaGrant {
    /// What the plugin calls the directory.
    pub name: String,
    /// How many.
    pub bytes: u64,
}

/// Why a text is not a [`DirectoryGrant`] or a [`QuotaGrant`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidDirectoryGrant {
    /// It is no directory to grant.
    #[error("`{0}` is not a directory to grant; write NAME=PATH, NAME=PATH:ro or NAME=PATH:rw")]
    Directory(String),
    /// It is no quota.
    #[error("`{0}` is not a quota; write NAME=BYTES, such as logs=500MiB (KiB, MiB, GiB)")]
    Quota(String),
}

impl DirectoryGrant {
    /// Opens the directory, which is made first if it is to be written to.
    pub fn open(&self, mode: FileMode, quota: Quota) -> io::Result<Directory> {
        if mode == FileMode::ReadWrite {
            std::fs::create_dir_all(&self.path)?;
        }
        Directory::open_root(&self.path, mode, quota)
    }
}

impl FromStr for DirectoryGrant {
    type Err = InvalidDirectoryGrant;

    fn from_str(text: &str) -> Result<Self, InvalidDirectoryGrant> {
        let (name, path, mode) =
            parse_grant(text).ok_or_else(|| InvalidDirectoryGrant::Directory(text.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            mode,
        })
    }
}

impl FromStr for QuotaGrant {
    type Err = InvalidDirectoryGrant;

    fn from_str(text: &str) -> Result<Self, InvalidDirectoryGrant> {
        let invalid = || InvalidDirectoryGrant::Quota(text.to_owned());
        let (name, size) = text.split_once('=').ok_or_else(invalid)?;
        match parse_size(size) {
            Some(bytes) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                bytes,
            }),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_name_a_path_and_perhaps_a_mode() {
        for (text, expected) in [
            ("d=/srv", Some(("d", "/srv", None))),
            ("d=x:ro", Some(("d", "x", Some(FileMode::ReadOnly)))),
            ("d=a=b:rw", Some(("d", "a=b", Some(FileMode::ReadWrite)))),
            ("d=a:b", Some(("d", "a:b", None))),
            ("d", None),
            ("=x", None),
            ("d=", None),
            ("d=:rw", None),
        ] {
            let grant = text.parse::<DirectoryGrant>().ok();
            let grant = grant.as_ref().map(|grant| {
                let path = grant.path.to_str().unwrap();
                (grant.name.as_str(), path, grant.mode)
            });
            assert_eq!(grant, expected, "{text}");
        }
    }

    #[test]
    fn a_quota_is_a_name_and_bytes() {
        for (text, expected) in [
            ("d=0", Some(0)),
            ("d=12", Some(12)),
            ("d=3KiB", Some(3 << 10)),
            ("d=3MiB", Some(3 << 20)),
            ("d=3GiB", Some(3 << 30)),
            ("d=", None),
            ("d=KiB", None),
            ("d=-1", None),
            ("d=1kB", None),
            ("d=18446744073709551615GiB", None),
            ("=1", None),
            ("d", None),
        ] {
            let quota = text.parse::<QuotaGrant>().ok();
            assert_eq!(quota.map(|quota| quota.bytes), expected, "{text}");
        }
    }
}
