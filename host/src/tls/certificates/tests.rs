use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;
use crate::tls::testing::{Algorithm, Authority, Folder, Issued, key, showing};

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
const BOTH: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ECDSA_NISTP256_SHA256,
];

/// Writes certificates, each with its key inside, as files whose names keep the order.
fn certificates(folder: &Folder, issued: &[&Issued]) -> Certificates {
    for (index, one) in issued.iter().enumerate() {
        let content = format!("{}{}", one.key, one.certificate);
        folder.write(&format!("certs/{index}.pem"), content);
    }
    Certificates::load(&showing(&folder.path("certs")).certificates).unwrap()
}

#[track_caller]
fn assert_chosen(
    certificates: &Certificates,
    name: Option<&str>,
    schemes: &[SignatureScheme],
    expected: &Issued,
) {
    let chosen = certificates.choose(name, schemes).unwrap();
    assert_eq!(chosen.cert[0].as_ref(), expected.der, "{name:?}");
}

#[test]
fn the_name_that_a_client_asks_for_chooses() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let first = authority.issue(&["first.example"]);
    let wild = authority.issue(&["*.example.net", "example.net"]);
    let exact = authority.issue(&["www.example.net", "Upper.Example.net", "10.0.0.1"]);
    let certificates = certificates(&folder, &[&first, &wild, &exact]);
    for (name, expected) in [
        (Some("first.example"), &first),
        // The exact name goes before the wildcard that came earlier.
        (Some("www.example.net"), &exact),
        (Some("WWW.Example.NET"), &exact),
        (Some("www.example.net."), &exact),
        (Some("upper.example.net"), &exact),
        (Some("mail.example.net"), &wild),
        (Some("example.net"), &wild),
        // A wildcard stands for one label, and for no part of one.
        (Some("a.b.example.net"), &first),
        (Some("xexample.net"), &first),
        (Some("*.example.net"), &wild),
        (Some("net"), &first),
        (Some("unknown.example"), &first),
        (Some(""), &first),
        (Some("."), &first),
        (None, &first),
    ] {
        assert_chosen(&certificates, name, BOTH, expected);
    }
}

#[test]
fn of_two_key_types_the_one_that_the_client_can_verify_is_chosen() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let rsa = authority.issue_with(&["example.net"], &key(Algorithm::Rsa), |_| {});
    let ecdsa = authority.issue(&["example.net"]);
    let other = authority.issue(&["other.example", "*.net"]);
    let certificates = certificates(&folder, &[&rsa, &ecdsa, &other]);
    for name in [Some("example.net"), None, Some("unknown.example")] {
        assert_chosen(&certificates, name, ECDSA, &ecdsa);
    }
    assert_chosen(&certificates, Some("example.net"), RSA, &rsa);
    // RSA costs more; without a name it is the first that counts.
    assert_chosen(&certificates, Some("example.net"), BOTH, &ecdsa);
    assert_chosen(&certificates, None, BOTH, &rsa);
    // What the client cannot verify for its name, the default may be able to.
    assert_chosen(&certificates, Some("other.example"), RSA, &rsa);
    // Nothing fits: the handshake fails with what was asked for.
    let ed25519 = &[SignatureScheme::ED25519];
    assert_chosen(&certificates, Some("other.example"), ed25519, &other);
}

#[test]
fn keys_lie_inside_beside_or_elsewhere() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let issued = authority.issue(&["example.net"]);
    let chain = format!("{}{}", issued.certificate, authority.pem());
    let alone = folder.write("alone.pem", &chain);
    let inside = folder.write("inside.pem", format!("{chain}{}", issued.key));
    let key = folder.write("elsewhere", &issued.key);
    for (path, key) in [(&inside, None), (&alone, Some(&key)), (&inside, Some(&key))] {
        let named = endpoint::Certificate {
            path: path.clone(),
            key: key.cloned(),
        };
        let loaded = Certificates::load(&[named]).unwrap();
        assert_eq!(loaded.all[0].key.cert.len(), 2);
        assert_eq!(loaded.all[0].names, ["example.net"]);
    }
    // In a directory, `NAME.key` beside the chain goes before what is inside; a chain without a key is left out.
    folder.write("dir/a.crt", &chain);
    folder.write("dir/a.key", &issued.key);
    folder.write("dir/ca.crt", authority.pem());
    let loaded = Certificates::load(&showing(&folder.path("dir")).certificates).unwrap();
    assert_eq!(loaded.all.len(), 1);
    // A key in the older forms that OpenSSL writes.
    folder.write("dir/a.key", SEC1_KEY);
    let error = Certificates::load(&showing(&folder.path("dir")).certificates).unwrap_err();
    assert!(matches!(error, TlsError::WrongKey { .. }), "{error}");
}

#[test]
fn every_mistake_names_the_file_and_the_way_out() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let issued = authority.issue(&["example.net"]);
    let other = authority.issue(&["example.net"]);
    let pair = format!("{}{}", issued.certificate, issued.key);
    folder.write("good.pem", &pair);
    folder.write("no-key.pem", &issued.certificate);
    folder.write("no-key-dir/a.pem", &issued.certificate);
    folder.write("other.key", &other.key);
    folder.write("text", "hello");
    folder.write("der.crt", &issued.der);
    folder.write("cut.pem", &pair[..300]);
    folder.write(
        "encrypted.pem",
        format!("{}{ENCRYPTED}", issued.certificate),
    );
    folder.write("old.pem", format!("{}{OLD_ENCRYPTED}", issued.certificate));
    folder.write(
        "garbage.pem",
        format!("{}{}", pem("CERTIFICATE"), issued.key),
    );
    folder.write(
        "bad-key.pem",
        format!("{}{}", issued.certificate, pem("PRIVATE KEY")),
    );
    folder.write("mixed/good.pem", &pair);
    folder.write("mixed/bad.pem", "hello");
    fs::create_dir(folder.path("empty")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let cases: &[(&str, Option<&str>, &[&str])] = &[
        ("missing.pem", None, &["cannot read `{}`", "No such file"]),
        (
            "fifo",
            None,
            &["cannot read `{}`, which must be a file or a directory"],
        ),
        (
            "good.pem",
            Some("missing.key"),
            &["missing.key`", "No such file"],
        ),
        ("text", None, &["`{}` has no certificate in PEM"]),
        (
            "der.crt",
            None,
            &["`{}` has no certificate in PEM", "openssl x509 -inform der"],
        ),
        ("cut.pem", None, &["`{}` is not PEM"]),
        ("no-key.pem", None, &["`{}` has no private key", "key=FILE"]),
        ("no-key.pem", Some("text"), &["text` has no private key"]),
        (
            "no-key.pem",
            Some("other.key"),
            &["other.key` is not that of", "`{}`", "comes first"],
        ),
        (
            "encrypted.pem",
            None,
            &["`{}` is encrypted", "openssl pkey"],
        ),
        ("old.pem", None, &["`{}` is encrypted", "openssl pkey"]),
        ("garbage.pem", None, &["certificate in `{}` cannot be used"]),
        ("bad-key.pem", None, &["private key in `{}` cannot be used"]),
        (
            "empty",
            None,
            &[
                "directory `{}` has no certificate",
                "NAME.pem",
                "fullchain.pem",
            ],
        ),
        (
            "no-key-dir",
            None,
            &["directory `{}` has no certificate with its key"],
        ),
        (
            "empty",
            Some("other.key"),
            &["`{}` is a directory", "remove `key="],
        ),
        ("mixed", None, &["mixed/bad.pem` has no certificate in PEM"]),
    ];
    for (path, key, parts) in cases {
        let path = folder.path(path);
        let named = endpoint::Certificate {
            path: path.clone(),
            key: key.map(|key| folder.path(key)),
        };
        let error = Certificates::load(&[named]).unwrap_err();
        let told = crate::chain(&error);
        for part in *parts {
            let part = part.replace("{}", &path.display().to_string());
            assert!(told.contains(&part), "no {part} in {told}");
        }
    }
    let error = Certificates::load(&[]).unwrap_err();
    assert!(error.to_string().contains("?cert=FILE"), "{error}");
}

#[test]
fn an_unreadable_file_says_who_must_read_it() {
    let folder = Folder::new();
    let path: PathBuf = folder.write("secret.pem", "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same.
    match fs::read(&path) {
        Ok(_) => {
            let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            let told = TlsError::Read { path, error }.to_string();
            assert!(told.contains("the user that nethost runs as"), "{told}");
        }
        Err(_) => {
            let told = Pem::read(&path).map(|_| ()).unwrap_err().to_string();
            assert!(told.contains("the user that nethost runs as"), "{told}");
        }
    }
}

#[test]
fn an_expired_certificate_is_shown_all_the_same() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let expired = authority.issue_with(&["example.net"], &key(Algorithm::Ecdsa), |params| {
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2004, 5, 6);
    });
    let endless = authority.issue_with(&["*.example.net"], &key(Algorithm::Ecdsa), |params| {
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    });
    let nameless = authority.issue(&["10.0.0.1"]);
    let certificates = certificates(&folder, &[&expired, &endless, &nameless]);
    assert_chosen(&certificates, Some("example.net"), BOTH, &expired);
    assert_eq!(
        certificates.to_string(),
        "example.net (until 2004-05-06); *.example.net (until 9999-12-31); no DNS name (until 4096-01-01)"
    );
}

#[test]
fn what_the_log_says_has_an_end() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let names: Vec<_> = (0..40).map(|number| format!("{number}.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let issued = authority.issue(&names);
    let certificates = certificates(&folder, &[&issued; 12]);
    let told = certificates.to_string();
    assert!(
        told.starts_with("0.example and 39 more names (until"),
        "{told}"
    );
    assert!(told.ends_with("; and 2 more"), "{told}");
}

#[test]
fn authorities_are_read_whole_or_not_at_all() {
    let folder = Folder::new();
    let (one, two) = (Authority::new("one").pem(), Authority::new("two").pem());
    let path = folder.write("ca.pem", format!("{one}{two}"));
    assert_eq!(trusted(&path).unwrap().len(), 2);
    for (content, part) in [
        ("hello".to_owned(), "no certificate"),
        (format!("{one}{}", pem("CERTIFICATE")), "cannot be used"),
        (format!("{one}{}", &two[..100]), "is not PEM"),
    ] {
        let path = folder.write("ca.pem", content);
        let told = trusted(&path).unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
        assert!(told.contains("ca.pem"), "{told}");
    }
}

#[test]
fn days_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "1970-01-01"),
        (86_399, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (LAST_SECOND, "9999-12-31"),
        (u64::MAX, "9999-12-31"),
    ] {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(day(time), expected);
    }
}

/// A section of PEM whose content is nothing.
fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
}

const ENCRYPTED: &str =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";

const OLD_ENCRYPTED: &str = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";

/// What `openssl ecparam -genkey` writes (RFC 5915); nobody uses it.
const SEC1_KEY: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIMuPRPG06m3isQsHhWtET3WCqpVOZUpiUkuPF5mETBRwoAoGCCqGSM49\nAwEHoUQDQgAEAuUSBmJ112FBFkNuqQcmcVrPR1Bwm8J5Jw7bzY19DppS4svdDNlf\n2VQ8lqr+jzcWBJbKKjRmpDX4QqOGtCCLhg==\n-----END EC PRIVATE KEY-----\n";
