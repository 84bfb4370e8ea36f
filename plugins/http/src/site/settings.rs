//! The operator's keys, checked once.

use std::{collections::HashMap, rc::Rc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use nethost_sdk::{Config, Directory, command, duration};
use serde::Deserialize;

use super::{
    guard::Guard,
    log::{AccessLog, Format},
    path::SitePath,
    store::{Keep, Store},
};
use crate::types::Limits;

/// The keys of `plugin.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Keys {
    index: Vec<String>,
    listing: bool,
    precompressed: bool,
    cache: i64,
    #[serde(deserialize_with = "duration")]
    cache_time: Duration,
    hosts: Vec<String>,
    headers: Vec<String>,
    redirects: Vec<String>,
    error_pages: Vec<String>,
    protect: Vec<String>,
    realm: String,
    access_log: String,
    request_line: i64,
    header_bytes: i64,
    header_count: i64,
    #[serde(deserialize_with = "duration")]
    head_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    idle_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    send_timeout: Duration,
}

/// Settings that cannot be wrong.
pub(super) struct Settings {
    pub(super) index: Vec<String>,
    pub(super) listing: bool,
    /// By names in lower case.
    pub(super) hosts: HashMap<String, Rc<Store>>,
    /// For all other names.
    pub(super) root: Option<Rc<Store>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) redirects: Vec<Redirect>,
    pub(super) error_pages: HashMap<StatusCode, String>,
    pub(super) protected: Vec<Protected>,
    pub(super) guard: Rc<Guard>,
    pub(super) log: Option<Rc<AccessLog>>,
    pub(super) limits: Limits,
}

/// A path that has moved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    from: String,
    /// What is below it has moved as well.
    is_prefix: bool,
    to: String,
    pub(super) status: StatusCode,
}

/// A path that needs a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Protected {
    /// Without slashes at the ends.
    path: String,
    pub(super) group: Option<String>,
}

impl Settings {
    pub(super) fn read(config: &Config) -> Result<Self, String> {
        let keys: Keys = config.parse()?;
        let keep = Keep {
            bytes: u64::try_from(keys.cache).map_err(|_| "cache: it is negative".to_owned())?,
            time: keys.cache_time,
            precompressed: keys.precompressed,
        };
        let root = match Directory::named("root") {
            Ok(directory) => Some(Rc::new(Store::new(Rc::new(directory), "", keep))),
            Err(error) if keys.hosts.is_empty() && !command::is_running() => {
                return Err(format!(
                    "{error}; say which folder to serve with --dir root=PATH"
                ));
            }
            Err(_) => None,
        };
        let limits = Limits {
            request_line: number("request-line", keys.request_line, 64..=65_536)?,
            header_bytes: number("header-bytes", keys.header_bytes, 256..=1 << 20)?,
            headers: number("header-count", keys.header_count, 1..=1000)?,
            head_time: keys.head_timeout,
            body_time: keys.send_timeout,
            idle_time: keys.idle_timeout,
            ..Limits::default()
        };
        for name in &keys.index {
            if name.is_empty() || name.contains('/') {
                return Err(format!("index: `{name}` is no file's name"));
            }
        }
        Ok(Self {
            index: keys.index,
            listing: keys.listing,
            hosts: hosts(&keys.hosts, keep)?,
            root,
            headers: keys
                .headers
                .iter()
                .map(|it| header_of(it))
                .collect::<Result<_, _>>()?,
            redirects: keys
                .redirects
                .iter()
                .map(|it| Redirect::parse(it))
                .collect::<Result<_, _>>()?,
            error_pages: keys
                .error_pages
                .iter()
                .map(|it| error_page(it))
                .collect::<Result<_, _>>()?,
            protected: keys
                .protect
                .iter()
                .map(|it| Protected::parse(it))
                .collect::<Result<_, _>>()?,
            guard: Rc::new(Guard::new(&keys.realm)?),
            log: match keys.access_log.as_str() {
                "" => None,
                "combined" => Some(AccessLog::new(Format::Combined)?),
                "json" => Some(AccessLog::new(Format::Json)?),
                other => {
                    return Err(format!(
                        "access-log: `{other}` is neither `combined` nor `json`"
                    ));
                }
            },
            limits,
        })
    }
}

impl Redirect {
    /// `FROM TO [STATUS]`; with `*` at the end of FROM what is below it has moved, and with `*` at the end of TO the rest of the path follows there.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("redirects: `{text}`: {why}");
        let mut words = text.split_whitespace();
        let (Some(from), Some(to)) = (words.next(), words.next()) else {
            return Err(wrong("there are not two paths"));
        };
        let status = match words.next() {
            None => StatusCode::PERMANENT_REDIRECT,
            Some(word) => match word.parse::<StatusCode>() {
                Ok(status) if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => status,
                _ => return Err(wrong("the status is none of 301, 302, 303, 307, 308")),
            },
        };
        if words.next().is_some() {
            return Err(wrong("there are more than three words"));
        }
        if !from.starts_with('/') {
            return Err(wrong("the path does not begin with `/`"));
        }
        HeaderValue::from_str(to).map_err(|_| wrong("the target cannot be in a header"))?;
        Ok(Self {
            is_prefix: from.ends_with('*'),
            from: from.trim_end_matches('*').to_owned(),
            to: to.to_owned(),
            status,
        })
    }

    /// Where a request goes, if it is about this path.
    pub(super) fn target(&self, path: &str, query: Option<&str>) -> Option<String> {
        let rest = path
            .strip_prefix(&self.from)
            .filter(|rest| self.is_prefix || rest.is_empty())?;
        let mut target = match self.to.strip_suffix('*') {
            Some(to) => format!("{to}{}", rest.trim_start_matches('/')),
            None => self.to.clone(),
        };
        if let Some(query) = query.filter(|_| !target.contains('?')) {
            target.push('?');
            target.push_str(query);
        }
        Some(target)
    }
}

impl Protected {
    /// `PATH [GROUP]`
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let path = words.next().unwrap_or_default();
        let decoded = SitePath::decode(path);
        let decoded =
            decoded.map_err(|_| format!("protect: `{path}` is no path that could be asked for"))?;
        if !path.starts_with('/') {
            return Err(format!("protect: `{path}` does not begin with `/`"));
        }
        let group = words.next().map(ToOwned::to_owned);
        match words.next() {
            Some(_) => Err(format!(
                "protect: `{text}` has more than a path and a group"
            )),
            None => Ok(Self {
                path: decoded.as_str().to_owned(),
                group,
            }),
        }
    }

    /// How exact it is: of two that cover a path the longer one holds.
    pub(super) fn length(&self) -> usize {
        self.path.len()
    }

    /// Whether a path is this one, or below it.
    pub(super) fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

/// `NAME[,NAME...] DIRECTORY[/FOLDER]`
fn hosts(lines: &[String], keep: Keep) -> Result<HashMap<String, Rc<Store>>, String> {
    let mut hosts = HashMap::new();
    let mut directories: HashMap<String, Rc<Directory>> = HashMap::new();
    for line in lines {
        let wrong = |why: &dyn std::fmt::Display| format!("hosts: `{line}`: {why}");
        let mut words = line.split_whitespace();
        let (Some(names), Some(place), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong(&"not names and a place"));
        };
        let (grant, folder) = place.split_once('/').unwrap_or((place, ""));
        let directory = match directories.get(grant) {
            Some(directory) => Rc::clone(directory),
            None => {
                let directory = Directory::named(grant);
                let directory = Rc::new(directory.map_err(|error| wrong(&error))?);
                directories.insert(grant.to_owned(), Rc::clone(&directory));
                directory
            }
        };
        let store = Rc::new(Store::new(directory, folder, keep));
        for name in names.split(',') {
            if !crate::codec::target::is_host(name.as_bytes()) {
                return Err(wrong(&format_args!("`{name}` is no host")));
            }
            if hosts
                .insert(name.to_ascii_lowercase(), Rc::clone(&store))
                .is_some()
            {
                return Err(wrong(&format_args!("`{name}` is named twice")));
            }
        }
    }
    Ok(hosts)
}

/// `Name: value`
fn header_of(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("headers: `{line}` is not `Name: value`");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    if [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
    ]
    .contains(&name)
    {
        return Err(format!("headers: `{name}` is the server's to say"));
    }
    Ok((
        name,
        HeaderValue::from_str(value.trim()).map_err(|_| wrong())?,
    ))
}

/// `STATUS PATH`
fn error_page(line: &str) -> Result<(StatusCode, String), String> {
    let wrong = || format!("error-pages: `{line}` is not a status of 400 to 599 and a path");
    let (status, path) = line.split_once(' ').ok_or_else(wrong)?;
    let status: StatusCode = status.parse().map_err(|_| wrong())?;
    let path = SitePath::decode(path.trim()).map_err(|_| wrong())?;
    if !status.is_client_error() && !status.is_server_error() {
        return Err(wrong());
    }
    Ok((status, path.as_str().to_owned()))
}

fn number(key: &str, value: i64, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let number = usize::try_from(value)
        .ok()
        .filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!(
            "{key}: {value} is not between {} and {}",
            range.start(),
            range.end()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_take_the_rest_along() {
        for (rule, path, query, expected) in [
            ("/a /b", "/a", None, Some("/b")),
            ("/a /b", "/a", Some("q"), Some("/b?q")),
            ("/a /b", "/ab", None, None),
            ("/a* /b*", "/a/c", None, Some("/bc")),
            (
                "/a/* https://x.example/* 301",
                "/a/c/d",
                Some("q"),
                Some("https://x.example/c/d?q"),
            ),
            ("/a/* /b*", "/a//evil.example", None, Some("/bevil.example")),
            (
                "/a/* /*",
                "/a///evil.example/",
                None,
                Some("/evil.example/"),
            ),
            ("/a /b?x", "/a", Some("q"), Some("/b?x")),
        ] {
            let redirect = Redirect::parse(rule).unwrap();
            assert_eq!(
                redirect.target(path, query).as_deref(),
                expected,
                "{rule} {path}"
            );
        }
        for rule in ["", "/a", "a /b", "/a /b 200", "/a /b 301 x"] {
            assert!(Redirect::parse(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn what_is_protected_is_a_path_and_all_below() {
        let protected = Protected::parse("/a/b staff").unwrap();
        assert_eq!(protected.group.as_deref(), Some("staff"));
        for (path, covered) in [
            ("a/b", true),
            ("a/b/c", true),
            ("a/bc", false),
            ("a", false),
        ] {
            assert_eq!(protected.covers(path), covered, "{path}");
        }
        assert!(Protected::parse("/").unwrap().covers("anything"));
        assert!(Protected::parse("a").is_err() && Protected::parse("/a b c").is_err());
    }

    #[test]
    fn headers_and_error_pages_are_checked() {
        assert!(header_of("Cache-Control: max-age=60").is_ok());
        for line in ["a", "a b: c", "Content-Length: 1", "a: \u{1}"] {
            assert!(header_of(line).is_err(), "{line}");
        }
        assert_eq!(error_page("404 /404.html").unwrap().1, "404.html");
        for line in ["404", "200 /a", "x /a"] {
            assert!(error_page(line).is_err(), "{line}");
        }
    }
}
