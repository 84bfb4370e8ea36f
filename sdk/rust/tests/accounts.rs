//! Accounts: who is let in, natively.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nethost_sdk::{
    Connection, Context, Deferred, Origin, Protocol, TlsInfo, TlsRole, accounts,
    accounts::Account,
    testing::{Host, Users},
};

/// Does what a line says, and answers with what came of it.
struct Door;

impl Protocol for Door {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        let text = String::from_utf8_lossy(data).into_owned();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let connection = cx.connection.clone();
        let found = |deferred: Deferred<Account>| tell(connection.clone(), deferred, in_words);
        match word {
            "verify" => {
                let (user, password) = rest.split_once(' ').unwrap();
                found(accounts::verify(&connection, user, password));
            }
            "external" => found(accounts::external(&connection, Some(rest))),
            "tls" => connection.start_tls(TlsRole::Server).detach(),
            "anonymous" => {
                connection.write(accounts::anonymous_granted().to_string().as_bytes());
            }
            "first" => tell(
                connection.clone(),
                accounts::scram_first(&connection, rest.as_bytes()),
                |message| String::from_utf8(message).unwrap(),
            ),
            _ => tell(
                connection.clone(),
                accounts::scram_final(&connection, rest.as_bytes()),
                |(account, message)| {
                    format!("{} {}", account.name, String::from_utf8(message).unwrap())
                },
            ),
        }
    }
}

fn tell<T: 'static>(connection: Connection, deferred: Deferred<T>, words: fn(T) -> String) {
    let told = Deferred::new(async move {
        let words = match deferred.await {
            Ok(value) => words(value),
            Err(error) if accounts::is_wrong(&error) => "wrong".to_owned(),
            Err(error) => error.code.to_string(),
        };
        connection.write(words.as_bytes());
        Ok(())
    });
    told.detach();
}

fn in_words(account: Account) -> String {
    let home = account.home.as_deref().unwrap_or("-");
    format!("{} {} {home}", account.name, account.groups.join(","))
}

fn users() -> Users {
    Users::new()
        .user("user", "pencil")
        .alias("u@example.net")
        .group("staff")
        .group("admin")
        .home("people/user")
        .user("ann", "secret")
        .certificate(b"der")
}

#[track_caller]
fn says(host: &mut Host<Door>, line: &str, expected: &str) {
    let peer = host.connect();
    said(host, peer, line, expected);
}

#[track_caller]
fn said(host: &mut Host<Door>, peer: nethost_sdk::ConnectionId, line: &str, expected: &str) {
    host.send(peer, line.as_bytes());
    let received = String::from_utf8(host.received(peer)).unwrap();
    assert_eq!(received, expected, "{line}");
}

#[test]
fn a_password_is_verified() {
    let mut host = Host::<Door>::start_with_users("{}", users()).unwrap();
    let long = format!("verify user {}", "x".repeat(1025));
    for (line, expected) in [
        ("verify user pencil", "user staff,admin people/user"),
        (
            "verify u@example.net pencil",
            "user staff,admin people/user",
        ),
        ("verify ann secret", "ann  -"),
        ("verify ann pencil", "wrong"),
        ("verify nobody pencil", "wrong"),
        (&long, "invalid"),
        ("external ", "unsupported"),
        ("anonymous", "false"),
    ] {
        says(&mut host, line, expected);
    }
}

#[test]
fn scram_is_that_of_rfc_7677() {
    let mut host = Host::<Door>::start_with_users("{}", users()).unwrap();
    let peer = host.connect();
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let first = "first n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let answer = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last = format!("last c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    said(&mut host, peer, &last, "invalid");
    said(&mut host, peer, first, &answer);
    let verifier = "user v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    said(&mut host, peer, &last, verifier);
    // It is over.
    said(&mut host, peer, &last, "invalid");
    for name in ["ann", "nobody"] {
        said(
            &mut host,
            peer,
            &first.replace("n=user", &format!("n={name}")),
            &answer,
        );
        said(&mut host, peer, &last, "wrong");
    }
    said(&mut host, peer, "first hello", "invalid");
}

#[test]
fn a_certificate_stands_for_its_user() {
    let mut host = Host::<Door>::start_with_users("{}", users()).unwrap();
    for (certificate, authorization, expected) in [
        (b"der", "", "ann  -"),
        (b"der", "ann", "ann  -"),
        (b"der", "user", "wrong"),
        (b"red", "", "wrong"),
    ] {
        let peer = host.connect();
        host.send(peer, b"tls");
        let info = TlsInfo {
            peer_certificates: vec![certificate.to_vec()],
            ..TlsInfo::default()
        };
        host.secure(peer, info);
        said(
            &mut host,
            peer,
            &format!("external {authorization}"),
            expected,
        );
    }
}

#[test]
fn nothing_is_granted_by_default() {
    let mut host = Host::<Door>::start("{}").unwrap();
    for (line, expected) in [
        ("verify ann secret", "denied"),
        ("external ", "denied"),
        ("first n,,n=user,r=x", "denied"),
        ("last x", "denied"),
        ("anonymous", "false"),
    ] {
        says(&mut host, line, expected);
    }
    let mut host = Host::<Door>::start_with_users("{}", Users::new().anonymous()).unwrap();
    says(&mut host, "anonymous", "true");
    says(&mut host, "verify ann secret", "wrong");
}
