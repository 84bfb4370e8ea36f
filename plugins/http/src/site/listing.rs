//! A directory as a page.

use std::{fmt::Write as _, time::Duration};

use nethost_sdk::{Directory, DirectoryEntry, Error, FileKind};

use super::path;

/// Lists a directory: folders first, then by name, without what is hidden.
pub(super) async fn listing(directory: &Directory, full: &str, url: &str) -> Result<String, Error> {
    let (mut entries, mut start, mut is_cut) = (Vec::new(), 0, false);
    loop {
        let page = directory.list_page(full, start).await?;
        let shown = |entry: &DirectoryEntry| {
            !entry.name.starts_with('.') && entry.metadata.kind != FileKind::Other
        };
        entries.extend(page.entries.into_iter().filter(shown));
        match page.next {
            Some(_) if entries.len() >= MAX_ENTRIES => {
                is_cut = true;
                break;
            }
            Some(next) => start = next,
            None => break,
        }
    }
    // What a link leads to is what the client gets.
    for entry in entries
        .iter_mut()
        .filter(|it| it.metadata.kind == FileKind::Link)
        .take(MAX_LINKS)
    {
        let path = if full == "." {
            entry.name.clone()
        } else {
            format!("{full}/{}", entry.name)
        };
        if let Ok(metadata) = directory.stat(&path).await {
            entry.metadata = metadata;
        }
    }
    entries.retain(|it| matches!(it.metadata.kind, FileKind::File | FileKind::Directory));
    entries.sort_by_cached_key(|it| {
        (
            it.metadata.kind != FileKind::Directory,
            it.name.to_lowercase(),
            it.name.clone(),
        )
    });
    Ok(page(url, &entries, is_cut))
}

fn page(url: &str, entries: &[DirectoryEntry], is_cut: bool) -> String {
    let mut html = String::from(HEAD);
    let title = escape(&decoded(url));
    // Writing to a string does not fail.
    let _ = write!(
        html,
        "<title>{title}</title>{STYLE}<body><h1>{title}</h1><ul>"
    );
    if url != "/" {
        html.push_str("<li><a href=\"../\"><span class=n>../</span></a>");
    }
    for entry in entries {
        let mut href = String::from("./");
        path::encode(&entry.name, &mut href);
        let name = escape(&entry.name);
        let _ = if entry.metadata.kind == FileKind::Directory {
            write!(
                html,
                "<li><a href=\"{}/\"><span class=n>{name}/</span></a>",
                escape(&href)
            )
        } else {
            let (size, day) = (size(entry.metadata.size), day(entry.metadata.modified));
            write!(
                html,
                "<li><a href=\"{}\"><span class=n>{name}</span><span class=m>{day}</span><span class=s>{size}</span></a>",
                escape(&href)
            )
        };
    }
    html.push_str("</ul>");
    if is_cut {
        let _ = write!(html, "<p>Only {} entries are shown.</p>", entries.len());
    }
    if entries.is_empty() {
        html.push_str("<p>Nothing here.</p>");
    }
    html.push_str("</body></html>\n");
    html
}

/// A text in HTML, between tags or in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char if char.is_control() => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

/// The URL of a directory as people read it.
fn decoded(url: &str) -> String {
    path::SitePath::decode(url).map_or_else(
        |_| url.to_owned(),
        |path| match path.as_str() {
            "" => "/".to_owned(),
            names => format!("/{names}/"),
        },
    )
}

/// Bytes in a unit that leaves at most four digits.
fn size(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    let mut unit = 0;
    while value >= 1024 && unit < UNITS.len() - 1 {
        rest = value % 1024;
        value /= 1024;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit > 0 && value < 10 {
        format!("{value}.{} {unit_name}", rest * 10 / 1024)
    } else {
        format!("{value} {unit_name}")
    }
}

/// `1994-11-06`, by the algorithm of Howard Hinnant's `civil_from_days`.
fn day(time: Duration) -> String {
    let days = time.as_secs() / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * shifted + 2) / 5 + 1,
        if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        },
    );
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Entries of one page; more are not looked at.
const MAX_ENTRIES: usize = 10_000;

/// Links of one page that are looked at; what is behind others is not shown.
const MAX_LINKS: usize = 256;

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width,initial-scale=1\"><meta name=color-scheme content=\"light dark\">";

const STYLE: &str = "<style>\
body{font:16px/1.4 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h1{font-size:1.2rem;overflow-wrap:anywhere}\
ul{list-style:none;padding:0;margin:0}\
li{border-bottom:1px solid #8883}\
a{display:flex;gap:1rem;align-items:baseline;padding:.7rem .2rem;text-decoration:none}\
a:hover .n,a:focus .n{text-decoration:underline}\
.n{flex:1;overflow-wrap:anywhere}\
.m,.s{color:GrayText;white-space:nowrap;font-variant-numeric:tabular-nums;font-size:.9rem}\
.s{min-width:5rem;text-align:right}\
@media(max-width:30rem){.m{display:none}}\
</style></head>";

#[cfg(test)]
mod tests {
    use nethost_sdk::FileMetadata;

    use super::*;

    #[test]
    fn names_are_text_wherever_they_stand() {
        let metadata = FileMetadata {
            kind: FileKind::File,
            size: 1536,
            modified: Duration::from_secs(784_111_777),
            number: 1,
        };
        let name = "<script>\"'&\u{7}:%".to_owned();
        let html = page("/a%3Cb/", &[DirectoryEntry { name, metadata }], false);
        assert!(html.contains("<title>/a&lt;b/</title>"), "{html}");
        assert!(
            html.contains("href=\"./%3Cscript%3E%22&#39;&amp;%07%3A%25\""),
            "{html}"
        );
        assert!(html.contains("<span class=n>&lt;script&gt;&quot;&#39;&amp;\u{fffd}:%</span><span class=m>1994-11-06</span><span class=s>1.5 KiB</span>"), "{html}");
        assert!(!html.contains("<script"));
    }

    #[test]
    fn sizes_and_days_are_for_people() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 << 20, "10 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
        ] {
            assert_eq!(day(Duration::from_secs(seconds)), expected);
        }
    }
}
