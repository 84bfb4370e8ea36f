//! Handshakes between the two halves, in memory.

use std::{fs, path::PathBuf, sync::Arc};

use rustls::{
    AlertDescription, HandshakeKind, SupportedProtocolVersion, pki_types::CertificateDer,
};

use super::{
    ClientTlsSettings,
    client::ClientTls,
    info::TlsInfo,
    server::{Reloaded, ServerTls},
    testing::{Algorithm, Authority, Folder, Issued, Pair, handshake, key, showing},
};
use crate::endpoint::{Certificate, ClientAuth, TlsOptions, TlsVersion};

/// A server for `example.net` and whom its certificate descends from.
struct Place {
    folder: Folder,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: Folder::new(),
            authority: Authority::new("servers"),
        };
        place.folder.write("ca.pem", place.authority.pem());
        place.renew(&["example.net"]);
        place
    }

    /// Puts another certificate in the server's place.
    fn renew(&self, names: &[&str]) -> Issued {
        let issued = self.authority.issue(names);
        self.put(&issued);
        issued
    }

    fn put(&self, issued: &Issued) {
        let content = format!("{}{}", issued.certificate, issued.key);
        self.folder.write("new", content);
        fs::rename(self.folder.path("new"), self.folder.path("server.pem")).unwrap();
    }

    fn options(&self) -> TlsOptions {
        showing(&self.folder.path("server.pem"))
    }

    fn server(&self) -> Arc<ServerTls> {
        ServerTls::load(&self.options()).unwrap()
    }

    fn client(&self) -> Arc<ClientTls> {
        self.client_with(None)
    }

    fn client_with(&self, certificate: Option<PathBuf>) -> Arc<ClientTls> {
        ClientTls::load(&ClientTlsSettings {
            ca: Some(self.folder.path("ca.pem")),
            certificate: certificate.map(|path| Certificate { path, key: None }),
        })
        .unwrap()
    }

    fn meet(&self, client: &ClientTls, server: &ServerTls) -> Result<Pair, rustls::Error> {
        let config = client.config(&TlsOptions::default()).unwrap();
        handshake(&config, &server.config(), "example.net")
    }
}

/// Makes a client that speaks one version only, as the options cannot say it.
fn only(place: &Place, version: &'static SupportedProtocolVersion) -> Arc<rustls::ClientConfig> {
    let roots = super::certificates::trusted(&place.folder.path("ca.pem")).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn shown(pair: &Pair) -> &CertificateDer<'static> {
    &pair.client.peer_certificates().unwrap()[0]
}

#[test]
fn both_versions_are_spoken_and_told() {
    let place = Place::new();
    let server = place.server();
    for (version, expected) in [
        (&rustls::version::TLS12, "TLSv1.2"),
        (&rustls::version::TLS13, "TLSv1.3"),
    ] {
        let client = only(&place, version);
        let pair = handshake(&client, &server.config(), "example.net").unwrap();
        let (at_server, at_client) = (
            TlsInfo::of_server(&pair.server),
            TlsInfo::of_client(&pair.client, Some("Example.net")),
        );
        for info in [&at_server, &at_client] {
            assert_eq!(info.version, expected);
            assert_eq!(info.server_name.as_deref(), Some("example.net"));
            assert_eq!(info.alpn, None);
            assert!(!info.resumed);
            assert!(
                info.cipher_suite.starts_with("TLS_"),
                "{}",
                info.cipher_suite
            );
        }
        assert_eq!(at_server.cipher_suite, at_client.cipher_suite);
        assert!(at_server.peer_certificates.is_empty());
        assert_eq!(at_client.peer_certificates, [shown(&pair).to_vec()]);
    }
    let info = TlsInfo::of_server(&rustls::ServerConnection::new(server.config()).unwrap());
    assert_eq!((info.version, info.cipher_suite.as_str()), ("", ""));
}

#[test]
fn an_oldest_version_is_kept_by_both_sides() {
    let place = Place::new();
    let strict = TlsOptions {
        min_version: TlsVersion::V1_3,
        ..place.options()
    };
    let server = ServerTls::load(&strict).unwrap();
    let old = only(&place, &rustls::version::TLS12);
    let error = handshake(&old, &server.config(), "example.net").unwrap_err();
    assert!(
        matches!(error, rustls::Error::PeerIncompatible(_)),
        "{error}"
    );
    let new = only(&place, &rustls::version::TLS13);
    handshake(&new, &server.config(), "example.net").unwrap();
    let client = place.client();
    let lenient = client.config(&TlsOptions::default()).unwrap();
    let strict = client.config(&strict).unwrap();
    let mut old = rustls::ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(place.server().config().cert_resolver.clone());
    old.alpn_protocols = Vec::new();
    let old = Arc::new(old);
    handshake(&lenient, &old, "example.net").unwrap();
    handshake(&strict, &old, "example.net").unwrap_err();
}

#[test]
fn application_protocols_are_agreed_upon_or_refused() {
    let place = Place::new();
    let names = |names: &[&str]| TlsOptions {
        alpn: names.iter().map(|&name| name.to_owned()).collect(),
        ..place.options()
    };
    let server = ServerTls::load(&names(&["h2", "http/1.1"])).unwrap();
    let client = place.client();
    // The server's order counts (RFC 7301, section 3.2).
    for (offered, expected) in [
        (&["http/1.1", "h2"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let config = client.config(&names(offered)).unwrap();
        let pair = handshake(&config, &server.config(), "example.net").unwrap();
        let info = TlsInfo::of_server(&pair.server);
        assert_eq!(info.alpn.as_deref(), expected.map(str::as_bytes));
    }
    let config = client.config(&names(&["irc"])).unwrap();
    handshake(&config, &server.config(), "example.net").unwrap_err();
    // Who names none takes whoever offers some.
    let pair = handshake(&config, &place.server().config(), "example.net").unwrap();
    assert_eq!(TlsInfo::of_client(&pair.client, None).alpn, None);
}

#[test]
fn a_server_is_believed_only_with_its_name_and_authority() {
    let place = Place::new();
    let server = place.server();
    let client = place.client().config(&TlsOptions::default()).unwrap();
    let error = handshake(&client, &server.config(), "other.example").unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)));
    place
        .folder
        .write("ca.pem", Authority::new("stranger").pem());
    let error = place.meet(&place.client(), &server).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)));
}

#[test]
fn clients_show_certificates_as_the_listener_wants_them() {
    let place = Place::new();
    let (known, stranger) = (Authority::new("known"), Authority::new("stranger"));
    let ca = place.folder.write("clients.pem", known.pem());
    let write = |name: &str, issued: &Issued| {
        let content = format!("{}{}", issued.certificate, issued.key);
        place.folder.write(name, content)
    };
    let good = known.issue(&["ann.example"]);
    let good_file = write("good.pem", &good);
    let bad_file = write("bad.pem", &stranger.issue(&["ann.example"]));
    let old = known.issue_with(&["ann.example"], &key(Algorithm::Ecdsa), |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let old_file = write("old.pem", &old);
    for (auth, certificate, is_taken) in [
        (ClientAuth::None, None, true),
        (ClientAuth::None, Some(&bad_file), true),
        (ClientAuth::Request, None, true),
        (ClientAuth::Request, Some(&good_file), true),
        (ClientAuth::Request, Some(&bad_file), false),
        (ClientAuth::Request, Some(&old_file), false),
        (ClientAuth::Require, None, false),
        (ClientAuth::Require, Some(&good_file), true),
        (ClientAuth::Require, Some(&bad_file), false),
        (ClientAuth::Require, Some(&old_file), false),
    ] {
        let server = ServerTls::load(&TlsOptions {
            client_auth: auth,
            ca: (auth != ClientAuth::None).then(|| ca.clone()),
            ..place.options()
        })
        .unwrap();
        let client = place.client_with(certificate.cloned());
        let result = place.meet(&client, &server);
        assert_eq!(result.is_ok(), is_taken, "{auth:?} {certificate:?}");
        if let Ok(pair) = result {
            let info = TlsInfo::of_server(&pair.server);
            if auth != ClientAuth::None && certificate == Some(&good_file) {
                assert_eq!(info.peer_certificates, std::slice::from_ref(&good.der));
            } else {
                assert!(info.peer_certificates.is_empty());
            }
        }
    }
}

#[test]
fn sessions_are_resumed_in_both_versions_and_across_new_certificates() {
    let place = Place::new();
    let server = place.server();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = only(&place, version);
        let first = handshake(&client, &server.config(), "example.net").unwrap();
        assert_ne!(first.client.handshake_kind(), Some(HandshakeKind::Resumed));
        for _ in 0..2 {
            let next = handshake(&client, &server.config(), "example.net").unwrap();
            assert_eq!(next.client.handshake_kind(), Some(HandshakeKind::Resumed));
            assert!(TlsInfo::of_server(&next.server).resumed);
            place.renew(&["example.net"]);
            assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
        }
        // Another listener's tickets are worth nothing.
        let other = place.server();
        let next = handshake(&client, &other.config(), "example.net").unwrap();
        assert_ne!(next.client.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn dials_with_the_same_options_share_their_sessions() {
    let place = Place::new();
    let (server, client) = (place.server(), place.client());
    place.meet(&client, &server).unwrap();
    let next = place.meet(&client, &server).unwrap();
    assert!(TlsInfo::of_client(&next.client, None).resumed);
    let plain = client.config(&TlsOptions::default()).unwrap();
    let named = |name: String| {
        let options = TlsOptions {
            alpn: vec![name],
            ..TlsOptions::default()
        };
        client.config(&options).unwrap()
    };
    assert!(!Arc::ptr_eq(&plain, &named("h2".to_owned())));
    // There is an end to them: the one that was not used for longest goes.
    for number in 0..100 {
        named(number.to_string());
        let again = client.config(&TlsOptions::default()).unwrap();
        assert!(Arc::ptr_eq(&plain, &again));
    }
    let last = named("99".to_owned());
    assert!(Arc::ptr_eq(&last, &named("99".to_owned())));
    let weak = Arc::downgrade(&last);
    drop(last);
    (0..100).for_each(|number| drop(named(number.to_string() + "x")));
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_new_certificate_is_for_new_handshakes() {
    let place = Place::new();
    let first = place.renew(&["example.net"]);
    let server = place.server();
    let config = server.config();
    assert!(!server.has_changed());
    assert!(matches!(server.reload(), Ok(Reloaded::Unchanged)));
    let before = place.meet(&place.client(), &server).unwrap();
    assert_eq!(shown(&before).as_ref(), first.der);
    let second = place.renew(&["example.net", "www.example.net"]);
    assert!(server.has_changed());
    let Ok(Reloaded::Changed { certificates }) = server.reload() else {
        panic!("nothing changed");
    };
    assert_eq!(
        certificates,
        "example.net, www.example.net (until 4096-01-01)"
    );
    assert!(!server.has_changed());
    assert!(Arc::ptr_eq(&config, &server.config()));
    let after = place.meet(&place.client(), &server).unwrap();
    assert_eq!(shown(&after).as_ref(), second.der);
    // The same content in a new file is no change, and is not looked at again.
    place.put(&second);
    assert!(server.has_changed());
    assert!(matches!(server.reload(), Ok(Reloaded::Unchanged)));
    assert!(!server.has_changed());
}

#[test]
fn a_bad_file_keeps_what_was_there() {
    let place = Place::new();
    let good = place.renew(&["example.net"]);
    let server = place.server();
    for content in ["", "hello", &good.certificate] {
        place.folder.write("server.pem", content);
        server.reload().unwrap_err();
        assert!(server.has_changed());
        let pair = place.meet(&place.client(), &server).unwrap();
        assert_eq!(shown(&pair).as_ref(), good.der);
    }
    fs::remove_file(place.folder.path("server.pem")).unwrap();
    server.reload().unwrap_err();
    place.put(&good);
    assert!(matches!(server.reload(), Ok(Reloaded::Unchanged)));
}

#[test]
fn authorities_can_be_replaced_and_take_their_sessions_along() {
    let place = Place::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ca = place.folder.write("clients.pem", old.pem());
    let server = ServerTls::load(&TlsOptions {
        client_auth: ClientAuth::Require,
        ca: Some(ca),
        ..place.options()
    })
    .unwrap();
    let client = |name: &str, authority: &Authority| {
        let issued = authority.issue(&["ann.example"]);
        let content = format!("{}{}", issued.certificate, issued.key);
        place.client_with(Some(place.folder.write(name, content)))
    };
    let (olds, news) = (client("old.pem", &old), client("new.pem", &new));
    place.meet(&olds, &server).unwrap();
    let resumed = place.meet(&olds, &server).unwrap();
    assert!(TlsInfo::of_server(&resumed.server).resumed);
    assert_eq!(
        TlsInfo::of_server(&resumed.server).peer_certificates.len(),
        1
    );
    place.meet(&news, &server).unwrap_err();

    // One that cannot be read changes nothing, whatever became of the certificate.
    place.renew(&["example.net"]);
    place.folder.write("clients.pem", "hello");
    server.reload().unwrap_err();
    assert!(TlsInfo::of_server(&place.meet(&olds, &server).unwrap().server).resumed);

    place.folder.write("clients.pem", new.pem());
    assert!(server.has_changed());
    let before = server.config();
    assert!(matches!(server.reload(), Ok(Reloaded::Changed { .. })));
    assert!(!Arc::ptr_eq(&before, &server.config()));
    place.meet(&news, &server).unwrap();
    let error = place.meet(&olds, &server).unwrap_err();
    assert!(
        matches!(error, rustls::Error::InvalidCertificate(_)),
        "{error}"
    );
}

#[test]
fn a_client_is_told_what_it_cannot_use() {
    let place = Place::new();
    let rsa = place
        .authority
        .issue_with(&["example.net"], &key(Algorithm::Rsa), |_| {});
    place.put(&rsa);
    let pair = place.meet(&place.client(), &place.server()).unwrap();
    assert_eq!(shown(&pair).as_ref(), rsa.der);
    let load = |ca: &str, certificate: Option<&str>| {
        let settings = ClientTlsSettings {
            ca: Some(place.folder.path(ca)),
            certificate: certificate.map(|path| Certificate {
                path: place.folder.path(path),
                key: None,
            }),
        };
        crate::chain(&ClientTls::load(&settings).unwrap_err())
    };
    for (told, part) in [
        (load("none.pem", None), "none.pem`"),
        (load("ca.pem", Some("ca.pem")), "no private key"),
        (load("ca.pem", Some("")), "which must be a file"),
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_client_that_nobody_trusts_for_is_alerted() {
    // The alert is what the peer sees: it must not be an abrupt end.
    let place = Place::new();
    let server = ServerTls::load(&TlsOptions {
        client_auth: ClientAuth::Require,
        ca: Some(place.folder.path("ca.pem")),
        ..place.options()
    })
    .unwrap();
    let config = only(&place, &rustls::version::TLS12);
    let name = "example.net".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut at_server = rustls::ServerConnection::new(server.config()).unwrap();
    let mut alert = None;
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let _ = at_server.read_tls(&mut bytes.as_slice());
        let _ = at_server.process_new_packets();
        let mut bytes = Vec::new();
        while at_server.wants_write() {
            at_server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && alert.is_none() {
            client.read_tls(&mut rest).unwrap();
            if let Err(rustls::Error::AlertReceived(received)) = client.process_new_packets() {
                alert = Some(received);
            }
        }
    }
    assert_eq!(alert, Some(AlertDescription::CertificateRequired));
}
