//! The reactor's types as the contract's.

use crate::{
    bindings::nethost::plugin::{
        deferred::Value as WitValue,
        transport::TlsInfo as WitTlsInfo,
        types::{
            Address as WitAddress, CloseReason as WitCloseReason, Error, ErrorCode,
            Origin as WitOrigin, SocketAddress,
        },
    },
    endpoint::map,
    reactor::{CloseReason, ErrorKind, Id, OperationError, Origin, Outcome, Value},
    tls::info::TlsInfo,
    transport::Address,
};

pub(crate) fn address(address: &Address) -> WitAddress {
    match address {
        Address::Socket(address) => {
            let ip = u128::from(map(address.ip()));
            let scope = match address {
                std::net::SocketAddr::V4(_) => 0,
                std::net::SocketAddr::V6(address) => address.scope_id(),
            };
            // The halves of 128 bits are 64 bits.
            let high = u64::try_from(ip >> 64).unwrap_or(0);
            let low = u64::try_from(ip & u128::from(u64::MAX)).unwrap_or(0);
            WitAddress::Socket(SocketAddress {
                ip: (high, low),
                port: address.port(),
                scope,
            })
        }
        Address::Path(path) => WitAddress::Path(
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
        ),
        Address::Other(what) => WitAddress::Other((*what).to_owned()),
    }
}

pub(crate) fn origin(origin: &Origin) -> WitOrigin {
    match origin {
        Origin::Configured(url) => WitOrigin::Configured(url.to_string()),
        Origin::Dialed(id) => WitOrigin::Dialed(id.0),
    }
}

pub(crate) fn close_reason(reason: &CloseReason) -> WitCloseReason {
    match reason {
        CloseReason::Done => WitCloseReason::Done,
        CloseReason::ClosedHere => WitCloseReason::ClosedHere,
        CloseReason::AbortedHere => WitCloseReason::AbortedHere,
        CloseReason::Reset => WitCloseReason::Reset,
        CloseReason::Idle => WitCloseReason::Idle,
        CloseReason::Limit(limit) => WitCloseReason::Limit((*limit).to_owned()),
        CloseReason::Tls(message) => WitCloseReason::Tls(message.to_string()),
        CloseReason::Draining => WitCloseReason::Draining,
        CloseReason::Trapped => WitCloseReason::Trapped,
    }
}

pub(crate) fn outcome(outcome: Outcome) -> Result<WitValue, Error> {
    match outcome {
        Ok(Value::Nothing) => Ok(WitValue::Nothing),
        Ok(Value::Number(number)) => Ok(WitValue::Number(number)),
        Ok(Value::Ready) => Ok(WitValue::Ready),
        Err(failure) => Err(error(failure)),
    }
}

pub(crate) fn error(error: OperationError) -> Error {
    Error {
        code: error_code(error.kind),
        message: error.message,
    }
}

pub(crate) fn tls_info((info, resumed_from): (TlsInfo, Option<Id>)) -> WitTlsInfo {
    WitTlsInfo {
        version: info.version.to_owned(),
        cipher_suite: info.cipher_suite,
        alpn: info.alpn,
        server_name: info.server_name,
        peer_certificates: info.peer_certificates,
        resumed: info.resumed,
        resumed_from: resumed_from.map(|id| id.0),
    }
}

fn error_code(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::Denied => ErrorCode::Denied,
        ErrorKind::Refused => ErrorCode::Refused,
        ErrorKind::Timeout => ErrorCode::Timeout,
        ErrorKind::Unreachable => ErrorCode::Unreachable,
        ErrorKind::Reset => ErrorCode::Reset,
        ErrorKind::Closed => ErrorCode::Closed,
        ErrorKind::NameNotFound => ErrorCode::NameNotFound,
        ErrorKind::Limit => ErrorCode::Limit,
        ErrorKind::Invalid => ErrorCode::Invalid,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        ErrorKind::Busy => ErrorCode::Busy,
        ErrorKind::Full => ErrorCode::Full,
        ErrorKind::Tls => ErrorCode::Other("tls".to_owned()),
        ErrorKind::Io => ErrorCode::Io,
    }
}
