//! Lengths of time as people write them: `500ms`, `30s`, `5m`, `2h`, `7d`.

/// Reads a length of time, in nanoseconds. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<u64, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits).ok_or_else(invalid)?;
    let number: u64 = number.parse().map_err(|_| invalid())?;
    if number == 0 && suffix.is_empty() {
        return Ok(0);
    }
    let (_, unit) = UNITS
        .iter()
        .find(|(name, _)| *name == suffix)
        .ok_or_else(invalid)?;
    number.checked_mul(*unit).ok_or_else(invalid)
}

/// Writes nanoseconds in the largest unit that divides them: `90s`, `2m`.
pub fn show_duration(nanoseconds: u64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, unit)| nanoseconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{nanoseconds}ns"),
            |(name, unit)| format!("{}{name}", nanoseconds / unit),
        )
}

/// The text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{0}`: a number and one of ms, s, m, h, d is expected, such as `30s`")]
pub struct InvalidDuration(String);

/// From the largest to the smallest.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1ms", Some(1_000_000)),
            ("30s", Some(30_000_000_000)),
            ("5m", Some(300_000_000_000)),
            ("2h", Some(7_200_000_000_000)),
            ("7d", Some(604_800_000_000_000)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30 s", None),
            ("30S", None),
            ("1ns", None),
            ("é1s", None),
            ("99999999999d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_the_largest_unit_that_divides_it() {
        for text in ["1ms", "90s", "2m", "36h", "7d", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(7), "7ns");
    }
}
