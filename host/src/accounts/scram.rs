//! SCRAM-SHA-256, the server's side ([RFC 5802](https://www.rfc-editor.org/rfc/rfc5802.html),
//! [RFC 7677](https://www.rfc-editor.org/rfc/rfc7677.html)), without channel binding.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What a server keeps of a password for SCRAM ([RFC 5802, section 3](https://www.rfc-editor.org/rfc/rfc5802.html#section-3)).
#[derive(Clone)]
pub(crate) struct ScramKeys {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl ScramKeys {
    /// Derives the keys of a password.
    pub(crate) fn of(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = hi(password.as_bytes(), salt, iterations);
        let client_key = hmac(&salted, &[b"Client Key"]);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// What a user that is not there seems to have: always the same salt, and keys that fit no password that anybody can find.
    pub(crate) fn seeming(secret: &[u8; 32], user: &str, iterations: u32) -> Self {
        let derive = |what: &[u8]| hmac(secret, &[what, user.as_bytes()]);
        Self {
            iterations,
            salt: derive(b"salt ").iter().copied().take(SALT).collect(),
            stored_key: derive(b"stored key "),
            server_key: derive(b"server key "),
        }
    }

    /// How often the password is hashed.
    pub(crate) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, as PostgreSQL writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shape = || "it is not SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY".to_owned();
        let rest = text.strip_prefix("SCRAM-SHA-256$").ok_or_else(shape)?;
        let (front, keys) = rest.split_once('$').ok_or_else(shape)?;
        let (iterations, salt) = front.split_once(':').ok_or_else(shape)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or_else(shape)?;
        let iterations = iterations.parse().map_err(|_| shape())?;
        if !(FEWEST..=MOST).contains(&iterations) {
            return Err(format!(
                "{iterations} iterations are not {FEWEST} to {MOST}"
            ));
        }
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| shape());
        let key = |text: &str| <[u8; 32]>::try_from(decode(text)?).map_err(|_| shape());
        let salt = decode(salt)?;
        if salt.is_empty() || salt.len() > 64 {
            return Err("the salt is not 1 to 64 bytes".to_owned());
        }
        Ok(Self {
            iterations,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// As the users file has it.
    pub(crate) fn to_text(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys")
    }
}

/// What a client begins with, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst<'a> {
    /// Who it wants to act as, if it says so.
    pub(crate) authorization: Option<String>,
    /// Who it is.
    pub(crate) user: String,
    header: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// `client-first-message = gs2-header client-first-message-bare`
    ///
    /// A client that could bind the channel but believes that the server cannot (`y`) is right.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(binding), Some(authorization), Some(bare)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed("the header is not whole"));
        };
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => {
                return Err(Malformed("channel binding was not offered"));
            }
            _ => return Err(Malformed("the header begins with neither `n` nor `y`")),
        }
        let authorization = match authorization.strip_prefix("a=") {
            Some(name) => Some(unescape(name)?),
            None if authorization.is_empty() => None,
            None => {
                return Err(Malformed(
                    "the authorization identity does not begin with `a=`",
                ));
            }
        };
        let header = message
            .get(..message.len() - bare.len())
            .unwrap_or_default();
        let mut attributes = bare.split(',');
        // A mandatory extension (`m=`) stands where the name is expected.
        let user = attributes.next().and_then(|it| it.strip_prefix("n="));
        let user = unescape(user.ok_or(Malformed("the user's name does not begin with `n=`"))?)?;
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce));
        Ok(Self {
            authorization,
            user,
            header,
            bare,
            nonce: nonce.ok_or(Malformed(
                "the nonce is missing, or has characters that none has",
            ))?,
        })
    }
}

/// What a server has said, and waits for the answer to.
#[derive(Debug)]
pub(crate) struct Exchange {
    keys: ScramKeys,
    /// In base64: the client says it again.
    header: String,
    nonce: String,
    /// What both sides sign, without the client's last part.
    signed: String,
}

impl Exchange {
    /// Returns what the server says first, and what to check the answer with.
    pub(crate) fn begin(first: &ClientFirst<'_>, keys: ScramKeys, nonce: &str) -> (Self, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = BASE64_STANDARD.encode(&keys.salt);
        let message = format!("r={nonce},s={salt},i={}", keys.iterations);
        let this = Self {
            signed: format!("{},{message}", first.bare),
            header: BASE64_STANDARD.encode(first.header),
            keys,
            nonce,
        };
        (this, message.into_bytes())
    }

    /// Checks what the client says last. Returns what the server says last; none if the client does not know the password.
    pub(crate) fn finish(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let message = text(message)?;
        let (unproven, proof) = message
            .rsplit_once(",p=")
            .ok_or(Malformed("the proof is missing"))?;
        let mut attributes = unproven.split(',');
        let header = attributes.next().and_then(|it| it.strip_prefix("c="));
        if header != Some(&self.header) {
            return Err(Malformed("the header is not that of the first message"));
        }
        let nonce = attributes.next().and_then(|it| it.strip_prefix("r="));
        if nonce != Some(&self.nonce) {
            return Err(Malformed("the nonce is not the server's"));
        }
        let proof = BASE64_STANDARD.decode(proof).ok();
        let proof = proof.and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let mut client_key = proof.ok_or(Malformed("the proof is not 32 bytes in base64"))?;
        let signed: [&[u8]; 3] = [self.signed.as_bytes(), b",", unproven.as_bytes()];
        let signature = hmac(&self.keys.stored_key, &signed);
        for (byte, with) in client_key.iter_mut().zip(signature) {
            *byte ^= with;
        }
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.keys.stored_key)) {
            return Ok(None);
        }
        let signature = BASE64_STANDARD.encode(hmac(&self.keys.server_key, &signed));
        Ok(Some(format!("v={signature}").into_bytes()))
    }
}

/// A message that is not SCRAM's: how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

fn text(message: &[u8]) -> Result<&str, Malformed> {
    if message.len() > LONGEST {
        return Err(Malformed("it is longer than 4 KiB"));
    }
    std::str::from_utf8(message).map_err(|_| Malformed("it is not UTF-8"))
}

/// `saslname = 1*(value-safe-char / "=2C" / "=3D")`
fn unescape(name: &str) -> Result<String, Malformed> {
    let malformed = Malformed("a name is empty, or has a `=` that is not `=2C` or `=3D`");
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else {
            ('=', part.strip_prefix("3D").ok_or(malformed)?)
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    if plain.is_empty() {
        Err(malformed)
    } else {
        Ok(plain)
    }
}

/// `printable = %x21-2B / %x2D-7E`
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty()
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// `Hi(str, salt, i)`: PBKDF2 with HMAC-SHA-256 and one block of output.
fn hi(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut result = block;
    for _ in 1..iterations {
        block = hmac(password, &[&block]);
        for (byte, with) in result.iter_mut().zip(block) {
            *byte ^= with;
        }
    }
    result
}

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length; there is no other error.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Bytes of a salt.
pub(crate) const SALT: usize = 16;

/// How often `nethost user` has a password hashed: 100,000 times, which takes a client a fraction of a second at every login.
/// [RFC 7677, section 4](https://www.rfc-editor.org/rfc/rfc7677.html#section-4) asks for 4,096 at least.
pub(crate) const ITERATIONS: u32 = 100_000;

const FEWEST: u32 = 4096;

/// The client does the work, and gives up if it is too much.
const MOST: u32 = 10_000_000;

const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677, section 3.
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn keys() -> ScramKeys {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        ScramKeys::of("pencil", &salt, 4096)
    }

    fn exchange(keys: ScramKeys) -> (Exchange, Vec<u8>) {
        let first = ClientFirst::parse(FIRST).unwrap();
        Exchange::begin(&first, keys, SERVER_NONCE)
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let first = ClientFirst::parse(FIRST).unwrap();
        assert_eq!(first.user, "user");
        let (exchange, message) = exchange(keys());
        assert_eq!(String::from_utf8(message).unwrap(), SERVER_FIRST);
        let last = exchange.finish(FINAL.as_bytes()).unwrap().unwrap();
        assert_eq!(String::from_utf8(last).unwrap(), SERVER_FINAL);
    }

    #[test]
    fn keys_are_written_as_postgresql_writes_them() {
        let text = keys().to_text();
        assert!(
            text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"),
            "{text}"
        );
        let (exchange, _) = exchange(ScramKeys::parse(&text).unwrap());
        assert!(exchange.finish(FINAL.as_bytes()).unwrap().is_some());
        let key = BASE64_STANDARD.encode([7; 32]);
        for (text, part) in [
            (String::new(), "it is not"),
            (
                format!("SCRAM-SHA-1$4096:c2FsdA==${key}:{key}"),
                "it is not",
            ),
            (
                format!("SCRAM-SHA-256$4095:c2FsdA==${key}:{key}"),
                "4095 iterations",
            ),
            (format!("SCRAM-SHA-256$x:c2FsdA==${key}:{key}"), "it is not"),
            (format!("SCRAM-SHA-256$4096:${key}:{key}"), "salt"),
            (
                format!("SCRAM-SHA-256$4096:c2FsdA==${key}:c2FsdA=="),
                "it is not",
            ),
        ] {
            let error = ScramKeys::parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn another_password_proves_nothing() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        for keys in [
            ScramKeys::of("pencils", &salt, 4096),
            ScramKeys {
                salt,
                ..ScramKeys::seeming(&[1; 32], "user", 4096)
            },
        ] {
            let (exchange, message) = exchange(keys);
            assert_eq!(message, SERVER_FIRST.as_bytes());
            assert_eq!(exchange.finish(FINAL.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn who_is_not_there_has_a_salt_that_stays() {
        let seeming = |secret, user| ScramKeys::seeming(&[secret; 32], user, 4096).salt;
        assert_eq!(seeming(1, "ann"), seeming(1, "ann"));
        assert_ne!(seeming(1, "ann"), seeming(1, "bob"));
        assert_ne!(seeming(1, "ann"), seeming(2, "ann"));
        assert_eq!(seeming(1, "ann").len(), SALT);
    }

    #[test]
    fn names_are_unescaped() {
        for (message, expected) in [
            ("n,,n=ann,r=x", Some(("ann", None))),
            ("y,,n=ann,r=x,ext=1", Some(("ann", None))),
            ("n,a=bob,n=ann,r=x", Some(("ann", Some("bob")))),
            ("n,,n=a=2Cb=3Dc,r=x", Some(("a,b=c", None))),
            ("n,,n=a=2cb,r=x", None),
            ("n,,n=,r=x", None),
            ("n,,n=ann,r=", None),
            ("n,,n=ann,r=a b", None),
            ("n,,n=ann", None),
            ("n,,m=1,n=ann,r=x", None),
            ("n,b,n=ann,r=x", None),
            ("p=tls-unique,,n=ann,r=x", None),
            ("x,,n=ann,r=x", None),
            ("n", None),
            ("", None),
        ] {
            let first = ClientFirst::parse(message.as_bytes()).ok();
            let first = first
                .as_ref()
                .map(|first| (first.user.as_str(), first.authorization.as_deref()));
            assert_eq!(first, expected, "{message}");
        }
        assert!(ClientFirst::parse(b"n,,n=\xff,r=x").is_err());
        let long = format!("n,,n={},r=x", "a".repeat(5000));
        assert!(ClientFirst::parse(long.as_bytes()).is_err());
    }

    #[test]
    fn what_was_said_before_is_said_again() {
        for changed in [
            FINAL.replace("biws", "eSws"),
            FINAL.replace("r=rOpr", "r=ROpr"),
            FINAL.replace("k0,p", "k,p"),
            FINAL.replace(",p=", ",q="),
            FINAL.replace("dHzb", "dH"),
            FINAL.replace("c=biws,", ""),
            String::new(),
        ] {
            let (exchange, _) = exchange(keys());
            assert!(exchange.finish(changed.as_bytes()).is_err(), "{changed}");
        }
        // An extension is signed, and so changes the proof.
        let (exchange, _) = exchange(keys());
        assert_eq!(
            exchange.finish(FINAL.replace(",p=", ",x=1,p=").as_bytes()),
            Ok(None)
        );
    }
}
