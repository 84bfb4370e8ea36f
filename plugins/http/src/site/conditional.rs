//! Conditional requests ([RFC 9110 section 13](https://www.rfc-editor.org/rfc/rfc9110.html#section-13)).

use http::{
    HeaderMap, Method,
    header::{
        HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
        RANGE,
    },
};

use crate::codec::date;

/// What a client may compare with what it has.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// The entity tag, quotes included; a strong one.
    pub etag: &'a str,
    /// Seconds since 1970-01-01.
    pub modified: u64,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request is answered as if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Whether a request has any condition, or asks for a part: most have none, and to find that out once is less work than to look for each.
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| CONDITIONS.contains(name))
}

static CONDITIONS: [HeaderName; 6] = [
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
];

/// Evaluates all but If-Range, in the order of [section 13.2.2](https://www.rfc-editor.org/rfc/rfc9110.html#section-13.2.2).
///
/// `now` tells the seconds since 1970-01-01: nothing can have been got in the future, so If-Modified-Since with such a date is passed over.
pub fn evaluate(
    method: &Method,
    headers: &HeaderMap,
    validators: Validators<'_>,
    now: impl FnOnce() -> u64,
) -> Verdict {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if headers.contains_key(IF_MATCH) {
        if !names(headers, IF_MATCH, |tag| tag == validators.etag) {
            return Verdict::Failed;
        }
    } else if let Some(since) = one_date(headers, &IF_UNMODIFIED_SINCE)
        && validators.modified > since
    {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        // Weak comparison: https://www.rfc-editor.org/rfc/rfc9110.html#section-13.1.2-4
        let matches = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == validators.etag;
        if names(headers, IF_NONE_MATCH, matches) {
            return if reads {
                Verdict::NotModified
            } else {
                Verdict::Failed
            };
        }
    } else if reads
        && let Some(since) = one_date(headers, &IF_MODIFIED_SINCE)
        && validators.modified <= since
        && since <= now()
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether Range holds: there is no If-Range, or it names what there is, exactly.
pub fn range_holds(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    let Some(condition) = headers.get(IF_RANGE) else {
        return true;
    };
    if condition.as_bytes().starts_with(b"\"") || condition.as_bytes().starts_with(b"W/") {
        return condition.as_bytes() == validators.etag.as_bytes();
    }
    date::parse(condition.as_bytes()) == Some(validators.modified)
}

/// Whether one of the tags of a list is the one; `*` is every one.
///
/// ```abnf
/// entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE
/// ```
fn names(headers: &HeaderMap, name: HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut rest = match value.to_str() {
            Ok(value) => value.trim(),
            Err(_) => return false,
        };
        if rest == "*" {
            return true;
        }
        loop {
            rest = rest.trim_start_matches([',', ' ', '\t']);
            let weak = if rest.starts_with("W/") { 2 } else { 0 };
            // A tag may have a comma in it.
            let tag = rest.get(weak..).filter(|tag| tag.starts_with('"'));
            let Some(end) = tag.and_then(|tag| tag.get(1..)?.find('"')) else {
                return false;
            };
            let (tag, after) = rest.split_at_checked(weak + end + 2).unwrap_or((rest, ""));
            if is_it(tag) {
                return true;
            }
            rest = after;
        }
    })
}

/// The date, if there is exactly one and it is one; otherwise the condition is passed over.
fn one_date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    date::parse(value.as_bytes()).filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:40 GMT";
    const VALIDATORS: Validators<'_> = Validators {
        etag: "\"a,b\"",
        modified: 784_111_777,
    };

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn conditions_have_an_order() {
        use Verdict::{Failed, NotModified, Proceed};
        for (lines, expected) in [
            (&[][..], Proceed),
            (&[("if-match", "\"a,b\"")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"x\", \"a,b\"")], Proceed),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (
                &[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)],
                Proceed,
            ),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", SAME)], Proceed),
            (&[("if-unmodified-since", "nonsense")], Proceed),
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\" , W/\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", SAME)],
                Proceed,
            ),
            (&[("if-none-match", "a,b")], Proceed),
            (&[("if-modified-since", SAME)], NotModified),
            (&[("if-modified-since", BEFORE)], Proceed),
            (&[("if-modified-since", LATER)], Proceed),
            (
                &[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")],
                Failed,
            ),
        ] {
            let found = evaluate(&Method::GET, &headers(lines), VALIDATORS, || 784_111_779);
            assert_eq!(found, expected, "{lines:?}");
        }
        let changes = headers(&[("if-none-match", "*")]);
        let found = evaluate(&Method::PUT, &changes, VALIDATORS, || u64::MAX);
        assert_eq!(found, Failed);
    }

    #[test]
    fn a_range_needs_the_same_file_exactly() {
        for (condition, holds) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"x\"", false),
            (SAME, true),
            (BEFORE, false),
            ("nonsense", false),
        ] {
            assert_eq!(
                range_holds(&headers(&[("if-range", condition)]), VALIDATORS),
                holds,
                "{condition}"
            );
        }
        assert!(range_holds(&HeaderMap::new(), VALIDATORS));
    }
}
