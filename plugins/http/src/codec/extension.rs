//! The extensions of a chunk: none is known here, and what is no extension is refused all the same, because another server might see the chunk's end in it.

use super::bytes::{is_field_value, is_token};

/// Where in a chunk's extensions the connection is.
///
/// ```abnf
/// chunk-ext      = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
/// chunk-ext-name = token
/// chunk-ext-val  = token / quoted-string
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Before a semicolon.
    Gap,
    /// After a semicolon.
    NameStart,
    Name,
    /// After a name and whitespace.
    NameEnd,
    /// After an equals sign.
    ValueStart,
    Value,
    Quoted,
    /// After a backslash in quotation marks.
    Escaped,
    /// After the quotation mark at the end.
    Unquoted,
}

impl Extension {
    /// Takes a byte, which is no CR that ends the line; none if it cannot be there.
    pub(super) fn step(self, byte: u8) -> Option<Self> {
        let is_token = is_token(&[byte]);
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::Unquoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, byte) if is_field_value(&[byte]) => Self::Quoted,
            (Self::Quoted | Self::Escaped, _) => return None,
            (Self::NameStart | Self::Name, _) if is_token => Self::Name,
            (Self::ValueStart | Self::Value, _) if is_token => Self::Value,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::Gap | Self::Name | Self::NameEnd | Self::Value | Self::Unquoted, b';') => {
                Self::NameStart
            }
            (Self::NameStart | Self::ValueStart, b' ' | b'\t') => self,
            (Self::Name | Self::NameEnd, b' ' | b'\t') => Self::NameEnd,
            (Self::Gap | Self::Value | Self::Unquoted, b' ' | b'\t') => Self::Gap,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::Unquoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_extension(text: &str) -> bool {
        let end = text.bytes().try_fold(Extension::Gap, Extension::step);
        end.is_some_and(Extension::may_end)
    }

    #[test]
    fn extensions_are_names_with_or_without_values() {
        for good in [
            ";a",
            ";a;b",
            ";a=b",
            ";a=b;c",
            ";a=\"\"",
            ";a=\"b;\\\"c\";d",
            " ; a = b\t;c",
            ";a = \"b\"",
        ] {
            assert!(is_extension(good), "{good}");
        }
        for bad in [
            "",
            " ",
            ";",
            ";;a",
            ";=b",
            ";a=",
            ";a=;b",
            ";a=b=c",
            ";a b",
            ";a ",
            ";a=b ",
            ";a=b c",
            ";a=\"b",
            ";a=\"b\\\"",
            ";a=\"b\"c",
            ";a[",
            ";a=[",
            ";a=\"\u{1}\"",
            "a",
        ] {
            assert!(!is_extension(bad), "{bad}");
        }
    }
}
