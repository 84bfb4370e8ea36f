//! Which bytes may be where.

/// Whether this is a `token`, which is not empty.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| has(*byte, TOKEN))
}

/// Whether only bytes are in it that a header's value may have: `VCHAR`, `SP`, `HTAB` and `obs-text`.
pub fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| has(*byte, VALUE))
}

/// Whether only bytes are in it that a request target may have: visible ASCII but `"`, `#`, `<` and `>`, which browsers encode as well.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| has(*byte, TARGET))
}

/// Whether only bytes are in it that the name of a host may have, an IPv6 address not among them.
pub(crate) fn is_host_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| has(*byte, HOST))
}

/// Without `OWS` at either end.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a list, without whitespace around them ([RFC 9110 section 5.6.1](https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.1)).
pub(crate) fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

fn has(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0) & class != 0
}

/// `tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA`
const TOKEN: u8 = 1;
/// `field-vchar / SP / HTAB`
const VALUE: u8 = 2;
const TARGET: u8 = 4;
/// `reg-name = *( unreserved / pct-encoded / sub-delims )`
const HOST: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class |= VALUE;
        }
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>') {
            class |= TARGET;
        }
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            )
        {
            class |= HOST;
        }
        #[expect(clippy::indexing_slicing, reason = "a byte is less than 256")]
        {
            classes[byte as usize] = class;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_where_the_grammar_has_it() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&[byte]), token, "{byte}");
            let value = byte == 9 || (32..127).contains(&byte) || byte >= 128;
            assert_eq!(is_field_value(&[byte]), value, "{byte}");
            let target = (33..127).contains(&byte) && !b"\"#<>".contains(&byte);
            assert_eq!(is_target(&[byte]), target, "{byte}");
        }
        assert!(!is_token(b"") && !is_target(b"") && is_field_value(b""));
    }

    #[test]
    fn lists_have_elements_without_whitespace() {
        let all: Vec<_> = elements(b" a ,b,\t, c d ").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"", b"c d"]);
    }
}
