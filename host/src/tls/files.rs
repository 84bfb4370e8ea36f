//! Where certificates are: files, directories, and whether they changed.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::TlsError;
use crate::endpoint::{Certificate, TlsOptions};

/// A certificate chain's file, and the key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The chain in PEM.
    pub(super) chain: PathBuf,
    /// The key. None: it is in the chain's file.
    pub(super) key: Option<PathBuf>,
    /// How it was found.
    pub(super) origin: Origin,
}

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was named: it must be right.
    Named,
    /// It lies in a directory that was named: a certificate without a key may be there for another purpose, such as cert-manager's `ca.crt`.
    Listed,
}

/// Finds the certificates that options name, in their order; those of a directory by file name.
///
/// A directory has
///
/// * `NAME.pem`, `NAME.crt` or `NAME.cer`, each with `NAME.key` beside it or its key inside;
/// * certbot's directories, `NAME/fullchain.pem` with `NAME/privkey.pem`. It can be such a directory itself; certbot's other files (`cert.pem`, `chain.pem`)
///   say nothing more.
///
/// Symbolic links are followed. What begins with a dot is left out: Kubernetes keeps the versions of a mounted secret in `..data`.
pub(super) fn find(certificates: &[Certificate]) -> Result<Vec<Source>, TlsError> {
    if certificates.is_empty() {
        return Err(TlsError::NoneNamed);
    }
    let mut found = Vec::new();
    for Certificate { path, key } in certificates {
        if metadata(path)?.is_dir() {
            if let Some(key) = key {
                return Err(TlsError::KeyOfDirectory {
                    path: path.clone(),
                    key: key.clone(),
                });
            }
            let before = found.len();
            list(path, &mut found)?;
            if found.len() == before {
                return Err(TlsError::EmptyDirectory { path: path.clone() });
            }
        } else {
            found.push(Source {
                chain: path.clone(),
                key: key.clone(),
                origin: Origin::Named,
            });
        }
        if found.len() > MAX_CERTIFICATES {
            return Err(TlsError::TooMany { path: path.clone() });
        }
    }
    Ok(found)
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read {
        path: path.to_owned(),
        error,
    };
    // A FIFO would block its reader for ever.
    if !metadata(path)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither",
        )));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_FILE_SIZE) {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// What the files of a listener looked like at one moment, without their content.
///
/// Metadata is looked at again and again, rather than waiting for the kernel's word (inotify): that word does not come for a file behind a symbolic link
/// that now points elsewhere (certbot, Kubernetes), nor from a network file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Option<Stamp>>);

/// What changes when a file is written, replaced or linked elsewhere. Nothing is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Snapshot {
    /// Looks at the files that options name. What cannot be looked at counts as absent.
    pub(super) fn take(options: &TlsOptions) -> Self {
        let mut snapshot = Self::default();
        for Certificate { path, key } in &options.certificates {
            let mut sources = Vec::new();
            if path.is_dir() {
                // A directory that cannot be listed shows nothing, and loading it says why.
                let _ = list(path, &mut sources);
            } else {
                snapshot.look(path);
            }
            for source in &sources {
                snapshot.look(&source.chain);
                if let Some(key) = &source.key {
                    snapshot.look(key);
                }
            }
            if let Some(key) = key {
                snapshot.look(key);
            }
        }
        if let Some(ca) = &options.ca {
            snapshot.look(ca);
        }
        snapshot
    }

    fn look(&mut self, path: &Path) {
        let stamp = fs::metadata(path).ok().map(|metadata| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        self.0.insert(path.to_owned(), stamp);
    }
}

/// Adds the certificates of a directory.
fn list(directory: &Path, found: &mut Vec<Source>) -> Result<(), TlsError> {
    if let Some(source) = certbot(directory) {
        found.push(source);
        return Ok(());
    }
    let failed = |error| TlsError::Read {
        path: directory.to_owned(),
        error,
    };
    let mut listed = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // What vanished since it was listed, or links nowhere, is not there.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            listed.extend(certbot(&path));
        } else if is_chain(&path) {
            let key = path.with_extension("key");
            listed.push(Source {
                key: key.exists().then_some(key),
                chain: path,
                origin: Origin::Listed,
            });
        }
        if listed.len() > MAX_CERTIFICATES {
            return Err(TlsError::TooMany {
                path: directory.to_owned(),
            });
        }
    }
    listed.sort_by(|one, other| one.chain.cmp(&other.chain));
    found.append(&mut listed);
    Ok(())
}

/// Returns the certificate of a directory such as certbot makes (`/etc/letsencrypt/live/NAME`), if it is one.
fn certbot(directory: &Path) -> Option<Source> {
    let (chain, key) = (
        directory.join("fullchain.pem"),
        directory.join("privkey.pem"),
    );
    (chain.exists() && key.exists()).then_some(Source {
        chain,
        key: Some(key),
        origin: Origin::Listed,
    })
}

fn is_chain(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "pem" || extension == "crt" || extension == "cer")
}

fn metadata(path: &Path) -> Result<Metadata, TlsError> {
    fs::metadata(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        error,
    })
}

/// The certificates of one listener: 10,000, each of which is looked at once a second and kept in memory, with some 5 KB.
pub(super) const MAX_CERTIFICATES: usize = 10_000;

/// The bytes of one file: 4 MiB. The bundle of everything that Mozilla trusts has 0.2 MiB.
pub(super) const MAX_FILE_SIZE: u64 = 4 << 20;
