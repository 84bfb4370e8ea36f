//! Media types by a file's name.

use http::HeaderValue;

/// The type of a file with this name, with a character set where it is a text.
pub(super) fn of(path: &str) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let guess = mime_guess::from_path(name)
        .first_raw()
        .unwrap_or("application/octet-stream");
    let is_text = guess.starts_with("text/") || TEXTS.contains(&guess);
    let shown = if is_text {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_owned()
    };
    HeaderValue::from_str(&shown)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// Texts that are not called so. JSON is none: it is always UTF-8 ([RFC 8259 section 11](https://www.rfc-editor.org/rfc/rfc8259.html#section-11)).
const TEXTS: [&str; 5] = [
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/manifest+json",
    "image/svg+xml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_a_character_set() {
        for (name, expected) in [
            ("a/index.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.PNG", "image/png"),
            ("a.wasm", "application/wasm"),
            ("a.tar.gz", "application/gzip"),
            ("html", "application/octet-stream"),
            ("a.html/b", "application/octet-stream"),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
    }
}
