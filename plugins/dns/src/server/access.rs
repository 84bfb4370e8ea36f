//! Who may.

use std::{net::IpAddr, str::FromStr};

/// Addresses that share so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    length: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network such as 192.0.2.0/24")]
pub struct NetworkError(String);

/// Those who may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    All,
    /// The addresses of these networks.
    Only(Vec<Network>),
}

impl Access {
    /// Whether this address may.
    pub fn permits(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Only(networks) => {
                let bits = bits(address);
                networks.iter().any(|network| network.contains(bits))
            }
        }
    }
}

impl Network {
    fn contains(self, bits: u128) -> bool {
        let shift = 128 - u32::from(self.length);
        (self.bits ^ bits).checked_shr(shift).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => width,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= width)
                .ok_or_else(error)?,
        };
        Ok(Self {
            bits: bits(address),
            length: 128 - width + length,
        })
    }
}

/// An address as IPv6; one of IPv4 mapped into it.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_share_its_bits() {
        for (network, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "192.0.2.1", true),
            ("::1", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            let access = Access::Only(vec![network]);
            let address = address.parse().unwrap();
            assert_eq!(access.permits(address), expected, "{network:?} {address}");
        }
        for text in ["", "a", "192.0.2.0/33", "::/129", "192.0.2.0/", "1.2.3"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
