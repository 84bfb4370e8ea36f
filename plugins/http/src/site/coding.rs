//! Content codings, and which of them a client takes ([RFC 9110 section 12.5.3](https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.3)).

use http::{HeaderMap, header::ACCEPT_ENCODING};

/// What a file may have been compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `br`
    Brotli,
    /// `zstd`
    Zstandard,
    /// `gzip`
    Gzip,
}

impl Coding {
    /// All, the one that makes files smallest first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstandard, Self::Gzip];

    /// Its name in headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What is appended to a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstandard => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// What a client takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Codings, the one that it likes most first.
    pub codings: Vec<Coding>,
    /// Whether it takes the file as it is.
    pub identity: bool,
}

/// Reads Accept-Encoding.
pub fn accepted(headers: &HeaderMap) -> Accepted {
    let mut values = headers.get_all(ACCEPT_ENCODING).iter().peekable();
    let mut all = Accepted {
        codings: Vec::new(),
        identity: true,
    };
    if values.peek().is_none() {
        // Every coding would do, and nobody who says nothing expects one.
        return all;
    }
    let mut weights = [None; 3];
    let (mut identity, mut other) = (None, None);
    for element in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = Some(parts.find_map(weight).unwrap_or(1000));
        if name == "*" {
            other = weight;
        } else if name.eq_ignore_ascii_case("identity") {
            identity = weight;
        }
        for (slot, coding) in weights.iter_mut().zip(Coding::ALL) {
            let is_it = name.eq_ignore_ascii_case(coding.name());
            // https://www.rfc-editor.org/rfc/rfc9110.html#section-8.4.1.3-2
            if is_it || coding == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip") {
                *slot = weight;
            }
        }
    }
    let weighed = weights.into_iter().zip(Coding::ALL);
    let mut weighed: Vec<_> = weighed
        .map(|(it, coding)| (it.or(other).unwrap_or(0), coding))
        .collect();
    weighed.retain(|(weight, _)| *weight > 0 && *weight >= identity.unwrap_or(0));
    // The sort is stable: where the client has no preference, ours holds.
    weighed.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    all.codings = weighed.into_iter().map(|(_, coding)| coding).collect();
    all.identity = identity.or(other) != Some(0);
    all
}

/// `weight = OWS ";" OWS "q=" qvalue`, in thousandths; what is none is 1.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if is_number => format!("{fraction:0<3}").parse().ok(),
        _ => Some(1000),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_client_prefers_and_refuses() {
        use Coding::{Brotli, Gzip, Zstandard};
        for (value, codings, identity) in [
            ("gzip", &[Gzip][..], true),
            ("gzip, deflate, br, zstd", &[Brotli, Zstandard, Gzip], true),
            ("GZIP;q=0.5, br;q=0.2", &[Gzip, Brotli], true),
            ("x-gzip", &[Gzip], true),
            ("br;q=0, *", &[Zstandard, Gzip], true),
            ("*;q=0", &[], false),
            ("*;q=0, identity", &[], true),
            ("gzip, identity;q=0", &[Gzip], false),
            ("identity;q=1, gzip;q=0.5", &[], true),
            ("gzip;q=0.000", &[], true),
            ("gzip;q=nonsense", &[Gzip], true),
            ("", &[], true),
        ] {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            let expected = Accepted {
                codings: codings.to_vec(),
                identity,
            };
            assert_eq!(accepted(&headers), expected, "{value}");
        }
        assert_eq!(
            accepted(&HeaderMap::new()),
            Accepted {
                codings: Vec::new(),
                identity: true
            }
        );
    }
}
