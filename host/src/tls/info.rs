//! What a handshake led to.

use rustls::{ClientConnection, CommonState, HandshakeKind, ProtocolVersion, ServerConnection};

/// What a handshake led to. Ask once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsInfo {
    /// The version, `TLSv1.2` or `TLSv1.3`; empty during the handshake.
    pub(crate) version: &'static str,
    /// The cipher suite by its name at IANA, such as `TLS_AES_128_GCM_SHA256`; empty during the handshake.
    pub(crate) cipher_suite: String,
    /// The application protocol (RFC 7301), if one was agreed upon.
    pub(crate) alpn: Option<Vec<u8>>,
    /// The name that the client asked for (SNI), in lower case.
    pub(crate) server_name: Option<String>,
    /// The peer's certificates in DER, its own first. Those of a session that was resumed are from its first handshake.
    pub(crate) peer_certificates: Vec<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub(crate) resumed: bool,
}

impl TlsInfo {
    /// Returns what a server knows.
    pub(crate) fn of_server(connection: &ServerConnection) -> Self {
        Self::new(connection, connection.server_name())
    }

    /// Returns what a client knows that asked for a name.
    pub(crate) fn of_client(connection: &ClientConnection, server_name: Option<&str>) -> Self {
        Self::new(connection, server_name)
    }

    fn new(connection: &CommonState, server_name: Option<&str>) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "",
            },
            // rustls writes TLS13_ where IANA, in whose registry these suites are for TLS 1.3 alone, writes TLS_.
            cipher_suite: suite.map_or_else(String::new, |name| name.replacen("TLS13_", "TLS_", 1)),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: server_name.map(str::to_ascii_lowercase),
            peer_certificates: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}
