//! What can be wrong with certificates and keys. Every text names the file, and what to do where it is not obvious.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::files::{MAX_CERTIFICATES, MAX_FILE_SIZE};

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`{}", .path.display(), hint(.error))]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("`{}` has more than {MAX_FILE_SIZE} bytes, which is no certificate or key", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file has the marks of PEM, and they do not fit together.
    #[error("`{}` is not PEM (RFC 7468): {reason}", .path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The listener has no `cert` option.
    #[error(
        "no certificate: add `?cert=FILE` or `?cert=DIR` to the listener; `nethost cert self-signed DIR NAME` makes one"
    )]
    NoneNamed,
    /// A file has no certificate.
    #[error("`{}` has no certificate in PEM (`-----BEGIN CERTIFICATE-----`); `openssl x509 -inform der` converts one in DER", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A directory has no certificate.
    #[error("directory `{}` has no certificate with its key: put NAME.pem and NAME.key there, or NAME/fullchain.pem and NAME/privkey.pem", .path.display())]
    EmptyDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// There are more certificates than one listener takes.
    #[error("`{}` leads to more than {MAX_CERTIFICATES} certificates", .path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// A key was named for a directory.
    #[error("`{}` is a directory, and its keys are in it: remove `key={}`", .path.display(), .key.display())]
    KeyOfDirectory {
        /// The directory.
        path: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A certificate is not one that TLS can use.
    #[error("the certificate in `{}` cannot be used: {reason}", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file should have a private key.
    #[error("`{}` has no private key in PEM: put it there, or name its file with `key=FILE` after the `cert`", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key needs a passphrase, which there is nobody to ask for.
    #[error("the private key in `{}` is encrypted: decrypt it with `openssl pkey -in FILE -out FILE`", .path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key is not one that TLS can use.
    #[error("the private key in `{}` cannot be used: {reason}", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A private key is another certificate's.
    #[error("the private key in `{}` is not that of the first certificate in `{}`; the server's own certificate comes first, then those that signed it", .key.display(), .certificate.display())]
    WrongKey {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The system has no trust anchors.
    #[error(
        "this system has no certificates to trust ({reason}): install its package `ca-certificates`, or name a file with --tls-ca"
    )]
    NoSystemRoots {
        /// What was tried.
        reason: String,
    },
    /// The thread that was to set it up has ended.
    #[error("setting up TLS was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// The library cannot be set up.
    #[error("setting up TLS")]
    Setup(#[source] rustls::Error),
}

/// Says what to do about the usual mistakes.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ", which the user that nethost runs as must be allowed to"
        }
        io::ErrorKind::InvalidInput => ", which must be a file or a directory",
        _ => "",
    }
}
