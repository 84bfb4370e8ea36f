//! What must hold for any input, of what only this crate knows: the crate `nethost-fuzz` calls it, and nothing else does.

use crate::{
    endpoint::ProxyHeader,
    transport::proxy::{Decoded, Header, Malformed, decode, encode},
};

/// Reads a stream that may begin with a PROXY header, whose first byte chooses the version that is taken: no more is taken than belongs to the header; what comes of it does
/// not depend on how it is cut up; and what can be written again is read as the same.
pub fn proxy_header(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else {
        return;
    };
    let version = match first % 3 {
        0 => ProxyHeader::V1,
        1 => ProxyHeader::V2,
        _ => ProxyHeader::Auto,
    };
    let mut taken = 0_usize;
    let header = loop {
        let Some(so_far) = stream.get(..taken) else {
            break None;
        };
        match decode(version, so_far) {
            Err(wrong) => {
                assert!(!wrong.to_string().is_empty());
                break None;
            }
            Ok(Decoded::Incomplete(missing)) => {
                assert!(missing > 0, "it waits for nothing");
                taken = taken.saturating_add(missing);
                assert!(taken <= MOST, "a header has no end");
            }
            Ok(Decoded::Complete(header)) => break Some(header),
        }
    };
    if let Some(header) = header {
        written_again(version, &header);
        let whole = stream.get(..taken).unwrap_or_default();
        byte_by_byte(version, whole, &header);
    }
}

fn written_again(version: ProxyHeader, header: &Header) {
    for version in [version, ProxyHeader::V1, ProxyHeader::V2] {
        let bytes = encode(version, header);
        let read = decode(version, &bytes);
        // What a version cannot say is left out.
        let says = [header.clone(), Header::Own].map(|header| Ok(Decoded::Complete(header)));
        assert!(says.contains(&read), "{header:?} is read as {read:?}");
    }
}

/// Every beginning of a header is the beginning of one.
fn byte_by_byte(version: ProxyHeader, whole: &[u8], header: &Header) {
    for length in 0..whole.len() {
        let beginning = whole.get(..length).unwrap_or_default();
        let read: Result<Decoded, Malformed> = decode(version, beginning);
        let missing = whole.len() - length;
        assert!(
            matches!(read, Ok(Decoded::Incomplete(more)) if more <= missing),
            "{length} bytes of {header:?} are {read:?}"
        );
    }
}

/// More than any header has.
const MOST: usize = 1 << 16;
