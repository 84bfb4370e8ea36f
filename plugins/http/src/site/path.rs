//! From a request's path to a path in a directory.

/// A path that cannot lead out of anything: names with one `/` between them, decoded, none hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePath {
    /// Without slashes at the ends; empty is the root.
    names: String,
    /// Whether the request's path ended with a slash, and so is about a directory.
    is_directory: bool,
}

/// Why a path stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It is no path: a `%` without two digits, or it leads above the root. 400.
    Invalid,
    /// No file can have this name, or it is hidden. 404.
    NotFound,
}

impl SitePath {
    /// Decodes a path, once. What is encoded is a part of a name: `%2f` does not separate names, and is in none.
    ///
    /// `.` and `..` are resolved, also encoded ([RFC 3986 section 6.2.2](https://www.rfc-editor.org/rfc/rfc3986.html#section-6.2.2)).
    pub fn decode(path: &str) -> Result<Self, PathError> {
        if let Some(names) = plain(path) {
            return Ok(Self {
                is_directory: names.is_empty() || names.ends_with('/'),
                names: names.trim_end_matches('/').to_owned(),
            });
        }
        let mut names: Vec<String> = Vec::new();
        let mut is_directory = true;
        for part in path.split('/') {
            let name = decode(part)?;
            is_directory = true;
            match name.as_str() {
                "" | "." => {}
                ".." => drop(names.pop().ok_or(PathError::Invalid)?),
                _ => {
                    is_directory = false;
                    names.push(name);
                }
            }
        }
        let hidden = |(at, name): (usize, &String)| {
            // Well-known URIs are meant to be found: https://www.rfc-editor.org/rfc/rfc8615.html
            name.starts_with('.') && !(at == 0 && name == ".well-known")
        };
        if names.iter().enumerate().any(hidden) {
            return Err(PathError::NotFound);
        }
        Ok(Self {
            names: names.join("/"),
            is_directory,
        })
    }

    /// The names, with `/` between them.
    pub fn as_str(&self) -> &str {
        &self.names
    }

    /// Whether it ended with a slash.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The path in a URL, of the directory that this is.
    pub fn directory_url(&self) -> String {
        let mut url = String::from("/");
        for name in self.names.split('/').filter(|name| !name.is_empty()) {
            encode(name, &mut url);
            url.push('/');
        }
        url
    }
}

/// Appends a name, percent-encoded.
pub(crate) fn encode(name: &str, url: &mut String) {
    use std::fmt::Write as _;
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

/// The names of a path in which nothing has to be decoded, resolved or refused: most are so.
fn plain(path: &str) -> Option<&str> {
    let names = path.strip_prefix('/')?;
    let (mut before, mut length) = (b'/', 0);
    for byte in names.bytes() {
        let begins = before == b'/';
        if matches!(byte, b'%' | b'\\') || begins && matches!(byte, b'.' | b'/') {
            return None;
        }
        length = if byte == b'/' { 0 } else { length + 1 };
        if !byte.is_ascii_graphic() || length > MAX_NAME {
            return None;
        }
        before = byte;
    }
    Some(names)
}

fn decode(part: &str) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(PathError::Invalid);
        };
        rest = after;
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|it| u8::try_from(it).ok())
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(PathError::Invalid);
        };
        bytes.push(high << 4 | low);
    }
    // Overlong forms are not UTF-8.
    let name = String::from_utf8(bytes).map_err(|_| PathError::NotFound)?;
    let is_impossible = |it: char| it == '/' || it == '\\' || it.is_control();
    if name.contains(is_impossible) || name.len() > MAX_NAME {
        return Err(PathError::NotFound);
    }
    Ok(name)
}

/// Bytes of a name, as file systems have it.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_what_decoding_makes_of_it() {
        let name = "a".repeat(MAX_NAME);
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/a b",
            "/a/../b",
            "//a",
            "/a//",
            "/%61",
            &format!("/{name}"),
            &format!("/{name}b"),
        ] {
            let decoded = SitePath::decode(path);
            // An encoded name is never plain.
            let again = SitePath::decode(&path.replace('a', "%61"));
            assert_eq!(decoded, again, "{path}");
        }
    }

    #[test]
    fn a_path_is_decoded_once_and_leads_nowhere_else() {
        for (path, expected) in [
            ("/", Ok(("", true))),
            ("/a", Ok(("a", false))),
            ("/a/", Ok(("a", true))),
            ("//a///b", Ok(("a/b", false))),
            ("/a/./b/../c", Ok(("a/c", false))),
            ("/a/..", Ok(("", true))),
            ("/a/%2e%2E/b", Ok(("b", false))),
            ("/%61%20b", Ok(("a b", false))),
            ("/%C3%A9", Ok(("\u{e9}", false))),
            ("/%252e%252e/a", Ok(("%2e%2e/a", false))),
            ("/.well-known/acme", Ok((".well-known/acme", false))),
            ("/a/...", Err(PathError::NotFound)),
            ("/..", Err(PathError::Invalid)),
            ("/a/../../b", Err(PathError::Invalid)),
            ("/%2e%2e/%2e%2e/etc/passwd", Err(PathError::Invalid)),
            ("/..%2fetc", Err(PathError::NotFound)),
            ("/a%2fb", Err(PathError::NotFound)),
            ("/..%5cetc", Err(PathError::NotFound)),
            ("/..\\etc", Err(PathError::NotFound)),
            ("/a%00.html", Err(PathError::NotFound)),
            ("/a%0d%0ab", Err(PathError::NotFound)),
            ("/%c0%ae%c0%ae/etc", Err(PathError::NotFound)),
            ("/%e0%80%ae/", Err(PathError::NotFound)),
            ("/%ff", Err(PathError::NotFound)),
            ("/.git/config", Err(PathError::NotFound)),
            ("/a/.htpasswd", Err(PathError::NotFound)),
            ("/a/%2ehtpasswd", Err(PathError::NotFound)),
            ("/a/.well-known", Err(PathError::NotFound)),
            ("/%", Err(PathError::Invalid)),
            ("/%4", Err(PathError::Invalid)),
            ("/%zz", Err(PathError::Invalid)),
            ("/%+1", Err(PathError::Invalid)),
        ] {
            let found = SitePath::decode(path);
            let found = found.as_ref().map(|it| (it.as_str(), it.is_directory()));
            assert_eq!(found.map_err(|error| *error), expected, "{path}");
        }
        let long = format!("/{}", "a".repeat(256));
        assert_eq!(SitePath::decode(&long), Err(PathError::NotFound));
    }

    #[test]
    fn a_directory_in_a_url_stays_on_this_server() {
        for (path, expected) in [
            ("//evil.example/%2541/", "/evil.example/%2541/"),
            ("/a b", "/a%20b/"),
            ("/", "/"),
        ] {
            assert_eq!(SitePath::decode(path).unwrap().directory_url(), expected);
        }
    }
}
