//! Cookies that every server with the same secret makes and knows ([RFC 9018](https://www.rfc-editor.org/rfc/rfc9018)).

use std::net::IpAddr;

/// Makes and knows cookies.
#[derive(Clone, Debug)]
pub struct Cookies {
    secret: [u8; 16],
}

impl Cookies {
    /// With this secret.
    pub fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    pub(super) fn secret(&self) -> [u8; 16] {
        self.secret
    }

    /// The option's value for an answer: the client's cookie, and a server's that is fresh or still good. None if the client has none.
    pub fn answer(
        &self,
        cookie: &[u8],
        client: IpAddr,
        wall: impl Fn() -> u32,
    ) -> Option<[u8; 24]> {
        let (own, server) = cookie.split_first_chunk::<8>()?;
        let now = wall();
        let time = match self.time_of(own, server, client) {
            Some(time) if is_between(time, now.wrapping_sub(RENEWED), now.wrapping_add(AHEAD)) => {
                time
            }
            _ => now,
        };
        let mut out = [0; 24];
        let (start, end) = out.split_first_chunk_mut::<8>()?;
        *start = *own;
        end.copy_from_slice(&self.make(own, time, client));
        Some(out)
    }

    /// Whether a client's and server's cookie are right, and not too old: then the client is where it says it is.
    pub fn is_valid(&self, cookie: &[u8], client: IpAddr, now: u32) -> bool {
        let Some((own, server)) = cookie.split_first_chunk::<8>() else {
            return false;
        };
        self.time_of(own, server, client)
            .is_some_and(|time| is_between(time, now.wrapping_sub(OLDEST), now.wrapping_add(AHEAD)))
    }

    /// When this server's cookie was made; none if it is somebody else's.
    fn time_of(&self, own: &[u8; 8], server: &[u8], client: IpAddr) -> Option<u32> {
        let [1, 0, 0, 0, t1, t2, t3, t4, ..] = *server else {
            return None;
        };
        let time = u32::from_be_bytes([t1, t2, t3, t4]);
        (self.make(own, time, client) == *server).then_some(time)
    }

    /// Version, three reserved bytes, time, and the hash of all of it with the client's cookie and address.
    fn make(&self, own: &[u8; 8], time: u32, client: IpAddr) -> [u8; 16] {
        let [t1, t2, t3, t4] = time.to_be_bytes();
        let head = [1, 0, 0, 0, t1, t2, t3, t4];
        let mut message = own.to_vec();
        message.extend(head);
        match client {
            IpAddr::V4(address) => message.extend(address.octets()),
            IpAddr::V6(address) => message.extend(address.octets()),
        }
        let hash = siphash(&self.secret, &message).to_le_bytes();
        let mut out = [0; 16];
        for (place, byte) in out.iter_mut().zip(head.into_iter().chain(hash)) {
            *place = byte;
        }
        out
    }
}

/// By serial numbers, which wrap.
fn is_between(time: u32, from: u32, to: u32) -> bool {
    time.wrapping_sub(from) <= to.wrapping_sub(from)
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012).
fn siphash(key: &[u8; 16], message: &[u8]) -> u64 {
    let half = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let (low, high) = key.split_at(8);
    let (k0, k1) = (half(low), half(high));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = message.chunks_exact(8);
    let mut absorb = |word: u64| {
        let [_, _, _, v3] = &mut v;
        *v3 ^= word;
        round(&mut v);
        round(&mut v);
        let [v0, ..] = &mut v;
        *v0 ^= word;
    };
    for chunk in &mut chunks {
        absorb(half(chunk));
    }
    let mut last = (message.len() as u64) << 56;
    for (index, byte) in chunks.remainder().iter().enumerate() {
        last |= u64::from(*byte) << (8 * index);
    }
    absorb(last);
    let [_, _, v2, _] = &mut v;
    *v2 ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    let [v0, v1, v2, v3] = v;
    v0 ^ v1 ^ v2 ^ v3
}

fn round([v0, v1, v2, v3]: &mut [u64; 4]) {
    *v0 = v0.wrapping_add(*v1);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v0 = v0.rotate_left(32);
    *v2 = v2.wrapping_add(*v3);
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.wrapping_add(*v3);
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v2 = v2.rotate_left(32);
}

/// Seconds after which a cookie is good no more: an hour (RFC 9018 section 4.3).
const OLDEST: u32 = 3600;
/// Seconds after which a client gets a new one: half an hour.
const RENEWED: u32 = 1800;
/// Seconds that another server's clock may be ahead: five minutes.
const AHEAD: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |index| u8::from_str_radix(text.get(index..index + 2).unwrap(), 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// [RFC 9018 appendix A](https://www.rfc-editor.org/rfc/rfc9018#appendix-A).
    #[test]
    fn cookies_are_those_of_the_rfc() {
        let secret = hex("e5e973e5a6b2a43f48e7dc849e37bfcf").try_into().unwrap();
        let cookies = Cookies::new(secret);
        let client = "198.51.100.100".parse().unwrap();
        let cookie = cookies.answer(&hex("2464c4abcf10c957"), client, || 1_559_731_985);
        let expected = hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(cookie.unwrap().to_vec(), expected);

        let given = cookie.unwrap();
        let made = 1_559_731_985;
        assert!(cookies.is_valid(&given, client, made + 3600));
        assert!(!cookies.is_valid(&given, client, made + 3601));
        assert!(cookies.is_valid(&given, client, made - 300));
        assert!(!cookies.is_valid(&given, client, made - 301));
        let other = "203.0.113.203".parse().unwrap();
        assert!(!cookies.is_valid(&given, other, made));
        let answer = |now| cookies.answer(&given, client, || now).unwrap();
        assert_eq!(answer(made + 1800), given);
        assert_ne!(answer(made + 1801), given);
    }
}
