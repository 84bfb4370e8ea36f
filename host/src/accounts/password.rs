//! Passwords: argon2id hashes as PHC strings.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc},
};

/// The hash of a password. What it shows is nothing of it.
#[derive(Clone)]
pub(crate) struct PasswordHash(phc::PasswordHash);

impl PasswordHash {
    /// Hashes a password, with a salt of its own; takes [`MEMORY`] and some 20 ms.
    pub(crate) fn of(password: &str) -> Result<Self, String> {
        let params = Params::new(MEMORY, PASSES, 1, None).map_err(|error| error.to_string())?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = hasher.hash_password(password.as_bytes());
        hash.map(Self).map_err(|error| error.to_string())
    }

    /// Reads a PHC string: `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with("$argon2id$") {
            return Err("it does not begin with `$argon2id$`".to_owned());
        }
        let hash = phc::PasswordHash::new(text).map_err(|error| error.to_string())?;
        if hash.version != Some(19) {
            return Err("its version is not `v=19`".to_owned());
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("the salt or the hash is missing".to_owned());
        }
        let params = Params::try_from(&hash).map_err(|error| error.to_string())?;
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES || params.p_cost() > 16 {
            return Err(format!(
                "verifying it would take too much: at most m={MOST_MEMORY} (KiB), t={MOST_PASSES}, p=16"
            ));
        }
        Ok(Self(hash))
    }

    /// Returns whether this is the password. It takes as long as hashing it with this hash's parameters, whatever comes of it.
    pub(crate) fn verify(&self, password: &str) -> bool {
        let verified = Argon2::default().verify_password(password.as_bytes(), &self.0);
        verified.is_ok()
    }

    /// As the users file has it.
    pub(crate) fn to_phc(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// Memory that one hash takes, in KiB: 19 MiB, with two passes, as
/// [OWASP](https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id) recommends.
const MEMORY: u32 = 19 * 1024;

const PASSES: u32 = 2;

/// Memory that a hash in a file may ask for, in KiB: 256 MiB.
const MOST_MEMORY: u32 = 256 * 1024;

const MOST_PASSES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let hash = PasswordHash::of("secret").unwrap();
        assert!(hash.verify("secret"));
        assert!(!hash.verify("Secret"));
        let text = hash.to_phc();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        assert!(PasswordHash::parse(&text).unwrap().verify("secret"));
        assert_ne!(PasswordHash::of("secret").unwrap().to_phc(), text);
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    #[test]
    fn hashes_of_other_programs_are_read() {
        // From the reference implementation's `src/test.c`.
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(hash).unwrap();
        assert!(hash.verify("password"));
        assert!(!hash.verify("passwort"));
    }

    #[test]
    fn other_hashes_are_refused() {
        let salt = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for (text, part) in [
            ("secret".to_owned(), "begin"),
            ("$2b$12$abcdefghijklmnopqrstuv".to_owned(), "begin"),
            (format!("$argon2i$v=19$m=65536,t=2,p=1${salt}"), "begin"),
            (format!("$argon2id$v=16$m=65536,t=2,p=1${salt}"), "v=19"),
            (
                format!("$argon2id$v=19$m=4194304,t=2,p=1${salt}"),
                "too much",
            ),
            (
                format!("$argon2id$v=19$m=65536,t=1000,p=1${salt}"),
                "too much",
            ),
            (
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ".to_owned(),
                "missing",
            ),
        ] {
            let error = PasswordHash::parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
