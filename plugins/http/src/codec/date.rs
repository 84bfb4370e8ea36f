//! Dates ([RFC 9110 section 5.6.7](https://www.rfc-editor.org/rfc/rfc9110.html#section-5.6.7)).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date in a header, made anew when another second has begun; with what stands before it in most answers, so that all of it is copied at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Date {
    second: u64,
    text: [u8; STATUS + LINE],
}

impl Date {
    /// Moves to this time since 1970-01-01.
    pub fn set(&mut self, now: Duration) {
        if self.second != now.as_secs() {
            self.second = now.as_secs();
            self.write();
        }
    }

    /// `HTTP/1.1 200 OK` and the header, a line each.
    pub(crate) fn after_ok(&self) -> &[u8] {
        &self.text
    }

    /// The header's line.
    pub(crate) fn line(&self) -> &[u8] {
        self.text.get(STATUS..).unwrap_or_default()
    }

    fn write(&mut self) {
        let text = show(Duration::from_secs(self.second));
        let text = format!("HTTP/1.1 200 OK\r\nDate: {text}\r\n");
        if let Ok(text) = text.as_bytes().try_into() {
            self.text = text;
        }
    }
}

impl Default for Date {
    fn default() -> Self {
        let mut date = Self {
            second: 0,
            text: [0; STATUS + LINE],
        };
        date.write();
        date
    }
}

/// A time since 1970-01-01 as `IMF-fixdate`; one after the year 9999 is its end.
pub fn show(time: Duration) -> String {
    let time = time.min(Duration::from_secs(END_OF_9999));
    httpdate::fmt_http_date(UNIX_EPOCH + time)
}

/// Reads a date in any of the three formats, as seconds since 1970-01-01; one before is 0.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let time: SystemTime = httpdate::parse_http_date(text).ok()?;
    Some(
        time.duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
    )
}

/// `HTTP/1.1 200 OK` and CR LF.
const STATUS: usize = 17;
/// `Date: Sun, 06 Nov 1994 08:49:37 GMT` and CR LF.
const LINE: usize = 37;
const END_OF_9999: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_three_formats_and_written_in_one() {
        let expected = 784_111_777;
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(parse(b"yesterday"), None);
        let mut date = Date::default();
        date.set(Duration::from_millis(expected * 1000 + 999));
        assert_eq!(date.line(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(
            Date::default().line(),
            b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        );
        assert_eq!(show(Duration::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
