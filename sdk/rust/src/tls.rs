//! Connections that become secured on the way: STARTTLS.

use crate::{
    bindings::nethost::plugin::transport,
    connection::{Connection, ConnectionId},
    deferred::{self, Deferred},
};

impl Connection {
    /// Secures the connection (STARTTLS), once what was written before has left. What is written later waits, and goes through TLS.
    ///
    /// Completes when the handshake is done. Errors: `unsupported` (as the server: the listener has no certificate), `invalid` (it has TLS
    /// already), `busy` (what it receives is being moved elsewhere) and `closed`: the connection goes on as it was, in clear. When the handshake
    /// fails, `other("tls")` or `timeout`, and the connection ends with the reason `tls`. Dropping the deferred does not stop the handshake.
    ///
    /// # What a protocol must do
    ///
    /// What came in clear before this call was not secured, whoever sent it. A peer may have been made to say `MAIL FROM:...` after its `STARTTLS`, in
    /// the same segment, by somebody on the way; a server that looks at it after the handshake takes it for the authenticated peer's
    /// ([RFC 3207, section 6](https://www.rfc-editor.org/rfc/rfc3207.html#section-6), CVE-2011-0411). The host throws away what *it* holds. What
    /// the plugin has received it must throw away itself, on both sides of the connection:
    ///
    /// 1. the rest of the `data` that `data_received` was called with: return from it, do not go on with the loop;
    /// 2. what its framing holds: `clear()`, as each of [`framing`](crate::framing) has it;
    /// 3. what it knows from the time before: the name in `EHLO`, the capabilities that a server had listed, a message half sent. A session that
    ///    is made anew forgets all of it.
    ///
    /// [`Stream::start_tls`](crate::Stream::start_tls) does the first two by itself.
    ///
    /// ```
    /// use nethost_sdk::{Context, Origin, Protocol, TlsRole, framing::Lines, testing::Host};
    ///
    /// struct Mail {
    ///     lines: Lines,
    /// }
    ///
    /// impl Protocol for Mail {
    ///     type Factory = ();
    ///
    ///     fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
    ///         Some(Self { lines: Lines::new(510) })
    ///     }
    ///
    ///     fn data_received(&mut self, cx: &mut Context<'_, ()>, mut data: &[u8]) {
    ///         while let Some(line) = self.lines.next(&mut data) {
    ///             match line {
    ///                 Ok(b"STARTTLS") if cx.connection.can_start_tls() => {
    ///                     cx.connection.write(b"220 go ahead\r\n");
    ///                     cx.connection.start_tls(TlsRole::Server).detach();
    ///                     self.lines.clear();
    ///                     // Not `continue`: what is left of `data` came in clear.
    ///                     return;
    ///                 }
    ///                 Ok(_) => { cx.connection.write(b"250 done\r\n"); }
    ///                 Err(_) => cx.connection.close(),
    ///             }
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), String> {
    /// let mut host = Host::<Mail>::start("{}")?;
    /// let peer = host.connect();
    /// host.send(peer, b"STARTTLS\r\nEVIL\r\n");
    /// host.secure(peer, Default::default());
    /// assert_eq!(host.received(peer), b"220 go ahead\r\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_tls(&self, role: TlsRole) -> Deferred<()> {
        deferred::nothing(self.raw().start_tls(&role.into_contract()))
    }

    /// Whether [`start_tls`](Self::start_tls) as the server would be tried: the listener has a certificate, and there is no TLS yet. A protocol offers
    /// STARTTLS only then. In tests there always is a certificate.
    pub fn can_start_tls(&self) -> bool {
        self.raw().can_start_tls()
    }

    /// What the TLS handshake led to; none while the connection is not secured, and after it is lost.
    pub fn tls(&self) -> Option<TlsInfo> {
        self.raw().tls().map(TlsInfo::from_contract)
    }
}

/// Which side of TLS a connection becomes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsRole {
    /// It shows the certificate of the listener that accepted it.
    Server,
    /// It checks that the peer's certificate is trusted by this service and has this name, a host's name or an IP address.
    Client(String),
}

impl TlsRole {
    /// The side that checks that the peer has this name.
    pub fn client(name: impl Into<String>) -> Self {
        Self::Client(name.into())
    }

    fn into_contract(self) -> transport::TlsRole {
        match self {
            Self::Server => transport::TlsRole::Server,
            Self::Client(name) => transport::TlsRole::Client(name),
        }
    }

    /// What only a host needs.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn from_contract(role: &transport::TlsRole) -> Self {
        match role {
            transport::TlsRole::Server => Self::Server,
            transport::TlsRole::Client(name) => Self::Client(name.clone()),
        }
    }
}

/// What a TLS handshake led to. The default, for tests, is TLS 1.3 with a peer that asked for no name and showed no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The version: `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its name at IANA: `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The application protocol that both sides chose ([RFC 7301](https://www.rfc-editor.org/rfc/rfc7301.html)).
    pub alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI, [RFC 6066](https://www.rfc-editor.org/rfc/rfc6066.html#section-3)), in lower case.
    pub server_name: Option<String>,
    /// The peer's certificates in DER (X.509), its own first; empty if it showed none. They are verified: one that is not trusted ends the handshake.
    pub peer_certificates: Vec<Vec<u8>>,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// As the server: the connection whose session this one resumed, if that was one of this instance's, which may be lost by now. Today's host knows it
    /// for TLS 1.3 only.
    pub resumed_from: Option<ConnectionId>,
}

impl TlsInfo {
    fn from_contract(info: transport::TlsInfo) -> Self {
        Self {
            version: info.version,
            cipher_suite: info.cipher_suite,
            alpn: info.alpn,
            server_name: info.server_name,
            peer_certificates: info.peer_certificates,
            resumed: info.resumed,
            resumed_from: info.resumed_from.map(ConnectionId::from),
        }
    }

    /// What only a host needs.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn into_contract(self) -> transport::TlsInfo {
        transport::TlsInfo {
            version: self.version,
            cipher_suite: self.cipher_suite,
            alpn: self.alpn,
            server_name: self.server_name,
            peer_certificates: self.peer_certificates,
            resumed: self.resumed,
            resumed_from: self.resumed_from.map(ConnectionId::as_u64),
        }
    }
}

impl Default for TlsInfo {
    fn default() -> Self {
        Self {
            version: "TLSv1.3".to_owned(),
            cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
            alpn: None,
            server_name: None,
            peer_certificates: Vec::new(),
            resumed: false,
            resumed_from: None,
        }
    }
}
