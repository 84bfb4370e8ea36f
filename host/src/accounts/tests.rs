use std::fs;

use super::*;
use crate::watch::{Look, Watcher};

const ANN: &str =
    "[users.ann]\ngroups = [\"staff\"]\nhome = \"people/ann\"\naliases = [\"a@example.net\"]\n";

fn users(text: &str) -> Users {
    Users::parse(text).unwrap()
}

#[test]
fn a_user_is_found_by_name_and_alias() {
    let users = users(ANN);
    for name in ["ann", "a@example.net"] {
        let (name, user) = users.find(name).unwrap();
        let account = Account::of(name, user);
        assert_eq!(account.name, "ann");
        assert_eq!(account.groups, ["staff"]);
        assert_eq!(account.home.as_deref(), Some("people/ann"));
    }
    assert!(users.find("Ann").is_none());
    assert!(is_same(&users, "ann", None));
    assert!(is_same(&users, "ann", Some("a@example.net")));
    assert!(!is_same(&users, "ann", Some("bob")));
}

#[test]
fn a_certificate_is_found_by_its_sha_256() {
    // The SHA-256 of `test`.
    let digits = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let pairs: Vec<_> = digits
        .as_bytes()
        .chunks(2)
        .map(|it| str::from_utf8(it).unwrap())
        .collect();
    for text in [digits.to_owned(), pairs.join(":").to_uppercase()] {
        let users = users(&format!("[users.ann]\ncertificates = [\"{text}\"]\n"));
        assert_eq!(users.find_certificate(b"test").unwrap().0, "ann");
        assert!(users.find_certificate(b"tests").is_none());
    }
}

#[test]
fn who_is_not_there_stands_behind_always_the_same_user() {
    let hashes: Vec<_> = ["one", "two"]
        .iter()
        .map(|it| PasswordHash::of(it).unwrap())
        .collect();
    let text: String = hashes
        .iter()
        .enumerate()
        .map(|(at, hash)| format!("[users.u{at}]\npassword = \"{}\"\n", hash.to_phc()))
        .collect();
    let users = users(&text);
    let of = |name: &str| users.stand_in(name).unwrap().to_phc();
    assert_eq!(of("nobody"), of("nobody"));
    let all: std::collections::BTreeSet<_> = (0..50).map(|at| of(&format!("n{at}"))).collect();
    assert_eq!(all.len(), 2);
    assert!(Users::parse(ANN).unwrap().stand_in("nobody").is_none());
    assert!(!default_hash().unwrap().verify("password"));
}

#[test]
fn a_changed_file_is_loaded_once_it_has_settled_and_a_bad_one_is_not() {
    let folder = std::env::temp_dir().join(format!("nethost-users-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("users.toml");
    fs::write(&path, ANN).unwrap();
    let accounts = Accounts::load(&path, "test").unwrap();
    // The one that runs already may be faster; what is asked is the state.
    let mut watcher = Watcher::new("test", [&accounts]);
    let count = || accounts.users().len();
    fs::write(&path, format!("{ANN}[users.bob]\n")).unwrap();
    watcher.look(Look::AtOnce);
    assert_eq!(count(), 2);
    fs::write(&path, "[users.bob]\nhomes = \"x\"\n").unwrap();
    watcher.look(Look::WhenSettled);
    watcher.look(Look::WhenSettled);
    assert_eq!(count(), 2);
    fs::remove_file(&path).unwrap();
    watcher.look(Look::AtOnce);
    assert_eq!(count(), 2);
    fs::write(&path, "").unwrap();
    watcher.look(Look::WhenSettled);
    watcher.look(Look::WhenSettled);
    assert_eq!(count(), 0);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_iterations_of_a_user_that_is_not_there_are_the_usual_ones() {
    let keys = |iterations| ScramKeys::of("x", b"salt", iterations).to_text();
    let text: String = [4096, 5000, 4096]
        .iter()
        .enumerate()
        .map(|(at, it)| format!("[users.u{at}]\nscram-sha-256 = \"{}\"\n", keys(*it)))
        .collect();
    assert_eq!(users(&text).usual_iterations, 4096);
    assert_eq!(users("").usual_iterations, scram::ITERATIONS);
}

#[test]
fn who_hangs_up_before_the_answer_has_guessed_as_well() {
    let folder = std::env::temp_dir().join(format!("nethost-hang-up-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("users.toml");
    fs::write(&path, ANN).unwrap();
    let accounts = Accounts::load(&path, "test").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let peer = Address::Path(None);
    for _ in 0..10 {
        runtime.block_on(async {
            let verify = accounts.verify(&peer, "ann", "guess".to_owned());
            tokio::select! {
                biased;
                it = verify => panic!("{it:?}"),
                // It hashes by now.
                () = std::future::ready(()) => {}
            }
        });
        // Until it has.
        let deadline = Instant::now() + Duration::from_secs(20);
        while accounts.failures.under_way(Peer::Local) > 0 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
    let refused = runtime.block_on(accounts.verify(&peer, "ann", "guess".to_owned()));
    assert!(matches!(refused, Err(Refusal::Limited(_))), "{refused:?}");
    fs::remove_dir_all(&folder).unwrap();
}
