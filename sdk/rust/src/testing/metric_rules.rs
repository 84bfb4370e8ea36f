//! Which metrics the host takes. `metric-declarations.txt` has cases for both: a line has what becomes of a declaration, its name, unit, labels, and the buckets of
//! a histogram.

use super::metrics::Kind;
use crate::bindings::nethost::plugin::metrics::Description;

/// Says what is wrong with a declaration, as the host does.
pub(super) fn check(description: &Description, kind: &Kind) -> Result<(), String> {
    let Description {
        name,
        help,
        unit,
        labels,
    } = description;
    check_name("metric", name)?;
    if let Some(unit) = unit {
        check_name("unit", unit)?;
    }
    for last in [Some(name), unit.as_ref()].into_iter().flatten() {
        let end = last.rsplit('_').next().unwrap_or_default();
        if RESERVED_ENDINGS.contains(&end) {
            return Err(format!(
                "`{last}` ends with `{end}`, which the host appends where it belongs"
            ));
        }
    }
    if help.trim().is_empty() || help.len() > MOST_HELP {
        return Err(format!("the help of `{name}` has 1 to {MOST_HELP} bytes"));
    }
    if labels.len() > MOST_LABELS {
        return Err(format!("`{name}` has more than {MOST_LABELS} labels"));
    }
    for (index, label) in labels.iter().enumerate() {
        check_name("label", label)?;
        if RESERVED_LABELS.contains(&label.as_str()) {
            return Err(format!("the label `{label}` is not a plugin's to give"));
        }
        if labels.iter().take(index).any(|it| it == label) {
            return Err(format!("`{name}` has the label `{label}` twice"));
        }
    }
    match kind {
        Kind::Histogram(bounds) => check_buckets(name, bounds),
        Kind::Counter | Kind::Gauge => Ok(()),
    }
}

fn check_buckets(name: &str, bounds: &[f64]) -> Result<(), String> {
    if bounds.is_empty() || bounds.len() > MOST_BUCKETS {
        return Err(format!("`{name}` has 1 to {MOST_BUCKETS} buckets"));
    }
    let ascend = bounds
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one < next));
    if !ascend || bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(format!("the buckets of `{name}` are not ascending numbers"));
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.starts_with(|first: char| first.is_ascii_lowercase())
        || !name.bytes().all(fits)
        || name.len() > MOST_NAME
    {
        return Err(format!(
            "the {what} `{}`: a name has 1 to {MOST_NAME} of a-z, 0-9 and _, the first of them a letter",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// Returns how a metric is called in the output, but for the plugin's name: no two may be called alike.
pub(super) fn told_as(description: &Description, kind: &Kind) -> String {
    let mut told = description.name.clone();
    if let Some(unit) = &description.unit
        && told != *unit
        && !told.ends_with(&format!("_{unit}"))
    {
        told = format!("{told}_{unit}");
    }
    match kind {
        Kind::Counter => told + "_total",
        Kind::Gauge | Kind::Histogram(_) => told,
    }
}

/// Returns a label's value as it is told: cut, and without control characters.
pub(super) fn clean(value: &str) -> String {
    let is_gone = |character: &char| character.is_control() && *character != '\n';
    let clean = value.chars().map(|character| match character {
        gone if is_gone(&gone) => char::REPLACEMENT_CHARACTER,
        other => other,
    });
    let mut bytes = 0;
    let fits = |character: &char| {
        bytes += character.len_utf8();
        bytes <= MOST_VALUE
    };
    clean.take_while(fits).collect()
}

/// Metrics of an instance.
pub(super) const MOST_METRICS: usize = 100;

/// Series with labels; those beyond are recorded as one, whose labels say [`OVERFLOW`].
pub(super) const MOST_SERIES: usize = 1_000;

/// The values of the labels of the series that others share.
pub(super) const OVERFLOW: &str = "(overflow)";

const MOST_NAME: usize = 64;

const MOST_HELP: usize = 512;

const MOST_LABELS: usize = 8;

const MOST_BUCKETS: usize = 32;

/// Bytes of a label's value.
const MOST_VALUE: usize = 128;

const RESERVED_ENDINGS: [&str; 6] = ["total", "bucket", "sum", "count", "created", "info"];

const RESERVED_LABELS: [&str; 5] = ["service", "le", "quantile", "job", "instance"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_taken_where_the_host_takes_it() {
        let cases = include_str!("metric-declarations.txt");
        for case in cases.lines() {
            let fields: Vec<_> = case.split(' ').collect();
            let [verdict, name, unit, labels, bounds] = fields[..] else {
                panic!("five fields: {case}");
            };
            let list = |text: &str| match text {
                "-" => Vec::new(),
                some => some.split(',').map(str::to_owned).collect(),
            };
            let name = match name.strip_suffix("-letters") {
                Some(count) => "x".repeat(count.parse().unwrap()),
                None => name.to_owned(),
            };
            let description = Description {
                name,
                help: "Help".to_owned(),
                unit: list(unit).pop(),
                labels: list(labels),
            };
            let bounds = list(bounds);
            let bounds: Vec<f64> = bounds.iter().map(|it| it.parse().unwrap()).collect();
            let kind = if bounds.is_empty() {
                Kind::Gauge
            } else {
                Kind::Histogram(bounds)
            };
            let taken = check(&description, &kind);
            assert_eq!(taken.is_ok(), verdict == "accepted", "{case}: {taken:?}");
        }
    }
}
