//! Where certificates are: files, directories, and whether they changed.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::TlsError;
use crate::{
    endpoint::{Certificate, TlsOptions},
    watch::Snapshot,
};

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

/// Looks at the files that options name, without reading them.
pub(super) fn look(options: &TlsOptions) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for Certificate { path, key } in &options.certificates {
        let mut sources = Vec::new();
        if path.is_dir() {
            // A directory that cannot be listed shows nothing, and loading it says why.
            let _ = list(path, &mut sources);
        } else {
            snapshot.add(path);
        }
        for source in &sources {
            snapshot.add(&source.chain);
            if let Some(key) = &source.key {
                snapshot.add(key);
            }
        }
        if let Some(key) = key {
            snapshot.add(key);
        }
    }
    if let Some(ca) = &options.ca {
        snapshot.add(ca);
    }
    snapshot
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tls::testing::{Folder, showing};

    fn names(folder: &Folder, sources: &[Source]) -> Vec<String> {
        let shown = |path: &Path| {
            let relative = path.strip_prefix(folder.path("")).unwrap();
            relative.display().to_string()
        };
        let sources = sources.iter().map(|source| match &source.key {
            Some(key) => format!("{} {}", shown(&source.chain), shown(key)),
            None => shown(&source.chain),
        });
        sources.collect()
    }

    fn list_of(folder: &Folder) -> Vec<String> {
        let mut found = Vec::new();
        list(&folder.path(""), &mut found).unwrap();
        names(folder, &found)
    }

    #[test]
    fn a_directory_has_pairs_and_certbots_directories() {
        let folder = Folder::new();
        for file in [
            "b.example.crt",
            "b.example.key",
            "a.pem",
            "c.cer",
            "c.key",
            "lonely.key",
            "README",
            "notes.txt",
            ".hidden.pem",
            "live.example/fullchain.pem",
            "live.example/privkey.pem",
            "live.example/cert.pem",
            "live.example/chain.pem",
            "other/deep.pem",
            "other/deep.key",
            "half/fullchain.pem",
        ] {
            folder.write(file, "");
        }
        symlink("nowhere", folder.path("dangling.pem")).unwrap();
        assert_eq!(
            list_of(&folder),
            [
                "a.pem",
                "b.example.crt b.example.key",
                "c.cer c.key",
                "live.example/fullchain.pem live.example/privkey.pem",
            ]
        );
    }

    #[test]
    fn one_of_certbots_directories_can_be_named() {
        let folder = Folder::new();
        for name in ["cert", "chain", "fullchain", "privkey"] {
            folder.write(&format!("archive/{name}1.pem"), "");
            let link = folder.path(&format!("{name}.pem"));
            symlink(folder.path(&format!("archive/{name}1.pem")), link).unwrap();
        }
        assert_eq!(list_of(&folder), ["fullchain.pem privkey.pem"]);
    }

    #[test]
    fn a_mounted_secret_of_kubernetes_is_read_once() {
        let folder = Folder::new();
        for file in ["tls.crt", "tls.key"] {
            folder.write(&format!("..2026_11_22/{file}"), "");
            symlink(format!("..data/{file}"), folder.path(file)).unwrap();
        }
        symlink("..2026_11_22", folder.path("..data")).unwrap();
        assert_eq!(list_of(&folder), ["tls.crt tls.key"]);
    }

    #[test]
    fn what_is_named_comes_in_its_order() {
        let folder = Folder::new();
        for file in ["z.pem", "dir/b.pem", "dir/a.pem"] {
            folder.write(file, "");
        }
        let named = [("z.pem", Some("k.pem")), ("dir", None)];
        let named = named.map(|(path, key)| Certificate {
            path: folder.path(path),
            key: key.map(|key| folder.path(key)),
        });
        let found = find(&named).unwrap();
        assert_eq!(
            names(&folder, &found),
            ["z.pem k.pem", "dir/a.pem", "dir/b.pem"]
        );
    }

    #[test]
    fn there_is_an_end_to_certificates_and_to_files() {
        let folder = Folder::new();
        let one = folder.write("0.pem", "");
        for number in 1..=MAX_CERTIFICATES {
            fs::hard_link(&one, folder.path(&format!("{number}.pem"))).unwrap();
        }
        let error = find(&showing(&folder.path("")).certificates).unwrap_err();
        assert!(
            error.to_string().ends_with("more than 10000 certificates"),
            "{error}"
        );
        let large = folder.write("large", "");
        File::options()
            .write(true)
            .open(&large)
            .unwrap()
            .set_len(MAX_FILE_SIZE + 1)
            .unwrap();
        let error = read(&large).unwrap_err();
        assert!(
            error.to_string().contains("more than 4194304 bytes"),
            "{error}"
        );
        assert!(error.to_string().contains("large"), "{error}");
    }

    #[test]
    fn a_snapshot_tells_every_kind_of_change() {
        let folder = Folder::new();
        folder.write("a.pem", "one");
        folder.write("a.key", "key");
        let ca = folder.write("ca.txt", "ca");
        folder.write("new.tmp", "two");
        let options = TlsOptions {
            ca: Some(ca.clone()),
            ..showing(&folder.path(""))
        };
        let mut before = look(&options);
        assert_eq!(before, look(&options));
        let steps: [(&str, &dyn Fn()); 6] = [
            ("rename over", &|| {
                fs::rename(folder.path("new.tmp"), folder.path("a.pem")).unwrap();
            }),
            ("longer", &|| {
                folder.write("a.key", "longer");
            }),
            ("another certificate", &|| {
                folder.write("b.pem", "");
            }),
            ("its key", &|| {
                folder.write("b.key", "");
            }),
            ("one gone", &|| {
                fs::remove_file(folder.path("a.pem")).unwrap();
            }),
            ("the authority gone", &|| {
                fs::remove_file(&ca).unwrap();
            }),
        ];
        for (what, change) in steps {
            change();
            let after = look(&options);
            assert_ne!(before, after, "{what}");
            before = after;
        }
        // What is not for TLS does not matter.
        folder.write("notes.txt", "");
        assert_eq!(before, look(&options));
    }

    #[test]
    fn a_link_to_another_file_is_a_change() {
        let folder = Folder::new();
        for version in ["1", "2"] {
            folder.write(&format!("v{version}/tls.crt"), "");
        }
        symlink("v1", folder.path("current")).unwrap();
        let options = showing(&folder.path("current/tls.crt"));
        let before = look(&options);
        symlink("v2", folder.path("next")).unwrap();
        fs::rename(folder.path("next"), folder.path("current")).unwrap();
        assert_ne!(before, look(&options));
    }
}
