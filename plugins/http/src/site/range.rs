//! Ranges of bytes ([RFC 9110 section 14](https://www.rfc-editor.org/rfc/rfc9110.html#section-14)).

use std::ops::Range;

use http::{HeaderMap, header::RANGE};

/// What a request asks for of so many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it: there is no Range, or one that is passed over.
    All,
    /// These parts, at least one, none empty.
    Some(Vec<Range<u64>>),
    /// Nothing that there is: 416.
    Unsatisfiable,
}

/// Reads Range.
///
/// One that is no list of ranges is passed over, and so is one that asks for more bytes than there are, or for more than [`MAX_RANGES`]: overlapping ranges are a
/// way to have a server send much for little ([section 17.15](https://www.rfc-editor.org/rfc/rfc9110.html#section-17.15)).
pub fn ranges(headers: &HeaderMap, size: u64) -> Ranges {
    let mut values = headers.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ranges::All;
    };
    let Some(set) = value.to_str().ok().and_then(set) else {
        return Ranges::All;
    };
    let mut ranges = Vec::new();
    let mut count = 0;
    for spec in set
        .split(',')
        .map(|spec| spec.trim_matches([' ', '\t']))
        .filter(|spec| !spec.is_empty())
    {
        count += 1;
        let Some(range) = range(spec, size) else {
            return Ranges::All;
        };
        ranges.extend(Some(range).filter(|range| !range.is_empty()));
    }
    let asked: u64 = ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(range.end - range.start));
    match ranges.len() {
        _ if count == 0 || count > MAX_RANGES || asked > size => Ranges::All,
        0 => Ranges::Unsatisfiable,
        _ => Ranges::Some(ranges),
    }
}

/// The set after `bytes=`; units are compared without regard to case.
fn set(value: &str) -> Option<&str> {
    let (unit, set) = value.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(set)
}

/// `first-pos "-" [ last-pos ]`, or `"-" suffix-length`. Empty if it is beyond the end; none if it is no range.
fn range(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let length = number(last)?;
        return Some(size.saturating_sub(length)..size);
    }
    let first = number(first)?;
    let end = match last {
        "" => size,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(size)
        }
    };
    Some(first.min(end)..end)
}

/// A number that is too large to be one is beyond every end.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// How many ranges one request gets: 32.
pub const MAX_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ranges_are_within_what_there_is() {
        let some = |ranges: &[(u64, u64)]| {
            Ranges::Some(ranges.iter().map(|(from, to)| *from..*to).collect())
        };
        for (value, expected) in [
            ("bytes=0-4", some(&[(0, 5)])),
            ("Bytes=0-4", some(&[(0, 5)])),
            ("bytes=5-", some(&[(5, 10)])),
            ("bytes=-3", some(&[(7, 10)])),
            ("bytes=-30", some(&[(0, 10)])),
            ("bytes=9-99", some(&[(9, 10)])),
            ("bytes=0-0, 2-3 ,-1", some(&[(0, 1), (2, 4), (9, 10)])),
            ("bytes=0-0,20-", some(&[(0, 1)])),
            ("bytes=10-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=99999999999999999999-", Ranges::Unsatisfiable),
            ("bytes=5-4", Ranges::All),
            ("bytes=", Ranges::All),
            ("bytes=a-b", Ranges::All),
            ("bytes=+1-2", Ranges::All),
            ("lines=0-1", Ranges::All),
            ("bytes=0-,0-", Ranges::All),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(value))]);
            assert_eq!(ranges(&headers, 10), expected, "{value}");
        }
        assert_eq!(ranges(&HeaderMap::new(), 10), Ranges::All);
        let many =
            HeaderValue::from_str(&format!("bytes={}", "0-0,".repeat(MAX_RANGES + 1))).unwrap();
        assert_eq!(
            ranges(&HeaderMap::from_iter([(RANGE, many)]), 1000),
            Ranges::All
        );
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-"))]);
        assert_eq!(ranges(&headers, 0), Ranges::Unsatisfiable);
    }
}
