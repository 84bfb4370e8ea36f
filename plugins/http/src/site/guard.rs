//! Who may see what ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617.html)).

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use nethost_sdk::{
    ErrorCode,
    accounts::{self, Account},
    log,
};
use sha2::{Digest as _, Sha256};

use crate::{
    body::Body,
    service::{Peer, plain},
};

/// Asks for passwords.
#[derive(Debug)]
pub(super) struct Guard {
    challenge: HeaderValue,
    /// Those that were right a moment ago, by their hash: to verify one takes the host a tenth of a second, and a browser sends it with every request.
    verified: RefCell<HashMap<[u8; 32], Verified>>,
}

/// Whose password was right, and until when that holds.
#[derive(Debug)]
struct Verified {
    account: Rc<Account>,
    until: Duration,
}

/// A name and a password.
pub(super) struct Credentials {
    user: String,
    password: String,
}

impl Guard {
    pub(super) fn new(realm: &str) -> Result<Self, String> {
        let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge =
            HeaderValue::from_str(&format!("Basic realm=\"{quoted}\", charset=\"UTF-8\""));
        Ok(Self {
            challenge: challenge.map_err(|_| {
                format!("realm: `{realm}` has a character that cannot be in a header")
            })?,
            verified: RefCell::default(),
        })
    }

    /// The user of a request that was verified a moment ago.
    pub(super) fn known(&self, credentials: &Credentials, now: Duration) -> Option<Rc<Account>> {
        let verified = self.verified.borrow();
        let found = verified.get(&credentials.hash())?;
        (found.until > now).then(|| Rc::clone(&found.account))
    }

    /// Finds out who it is, or has the answer for who is not let in.
    pub(super) async fn verify(
        &self,
        peer: &Peer,
        credentials: Credentials,
        now: Duration,
    ) -> Result<Rc<Account>, Response<Body>> {
        let Credentials { user, password } = &credentials;
        match accounts::verify(peer.connection(), user, password).await {
            Ok(account) => {
                let account = Rc::new(account);
                let mut verified = self.verified.borrow_mut();
                if verified.len() >= MAX_VERIFIED {
                    verified.retain(|_, it| it.until > now);
                }
                if verified.len() < MAX_VERIFIED {
                    let until = now + VERIFIED_TIME;
                    let account = Rc::clone(&account);
                    verified.insert(credentials.hash(), Verified { account, until });
                }
                Ok(account)
            }
            Err(error) if accounts::is_wrong(&error) || error.code == ErrorCode::Invalid => {
                Err(self.challenge())
            }
            Err(error) => Err(plain(match error.code {
                ErrorCode::Limit => StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
                _ => {
                    log::error!("a password could not be verified: {error}");
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            })),
        }
    }

    /// The answer that asks for a password.
    pub(super) fn challenge(&self) -> Response<Body> {
        let mut response = plain(StatusCode::UNAUTHORIZED);
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, self.challenge.clone());
        response
    }
}

impl Credentials {
    /// Reads Authorization.
    ///
    /// ```abnf
    /// credentials = "Basic" 1*SP token68   ; base64 of user-id ":" password
    /// ```
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    fn hash(&self) -> [u8; 32] {
        // A name has no colon in it.
        let mut hash = Sha256::new();
        hash.update(self.user.as_bytes());
        hash.update(b":");
        hash.update(self.password.as_bytes());
        hash.finalize().into()
    }
}

/// How long a password stays verified: 60 s, so long one that was changed is still taken.
const VERIFIED_TIME: Duration = Duration::from_secs(60);

/// Passwords that are remembered at once.
const MAX_VERIFIED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_name_and_a_password() {
        for (value, expected) in [
            ("Basic YW5uOnNlY3JldA==", Some(("ann", "secret"))),
            ("basic YW5uOmE6Yg==", Some(("ann", "a:b"))),
            ("Basic YW5u", None),
            ("Basic !", None),
            ("Bearer YW5uOnNlY3JldA==", None),
            ("Basic", None),
        ] {
            let headers =
                HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            let found = Credentials::of(&headers);
            let found = found
                .as_ref()
                .map(|it| (it.user.as_str(), it.password.as_str()));
            assert_eq!(found, expected, "{value}");
        }
    }
}
