//! Unpredictable numbers from the system's generator, fit for keys. Natively, under [`testing`](crate::testing), they are always the same.

use crate::host;

/// 64 random bits.
pub fn u64() -> u64 {
    host::random_u64()
}

/// Random bytes.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let part = (length - bytes.len()).min(MAX_PART);
        let part = host::random_bytes(u32::try_from(part).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&part);
    }
    bytes
}

/// The host returns at most 64 KiB a call.
const MAX_PART: usize = 64 * 1024;
