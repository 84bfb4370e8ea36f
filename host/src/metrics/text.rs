//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

/// Text in the making. Every family is written once, with all of its samples.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family. `name` is that of its samples, but for what a histogram appends.
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Samples<'a> {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, Quoted::Help);
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "\n# TYPE {name} {kind}");
        Samples {
            text: &mut self.0,
            name,
        }
    }

    /// Returns what was written.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Samples<'_> {
    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Number) {
        self.line("", labels, None, value);
    }

    /// Writes a histogram: how many were up to each bound and not in an earlier bucket, one more for those above, and their sum.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let mut count = 0_u64;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, more) in bounds.zip(counts) {
            count = count.saturating_add(*more);
            let mut text = String::new();
            bound.write(&mut text);
            self.line("_bucket", labels, Some(&text), count);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Number,
    ) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value, Quoted::Label);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        self.text.push(' ');
        value.write(self.text);
        self.text.push('\n');
    }
}

/// A sample's value.
pub(super) trait Number {
    fn write(self, text: &mut String);
}

impl Number for u64 {
    fn write(self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

impl Number for usize {
    fn write(self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

impl Number for f64 {
    fn write(self, text: &mut String) {
        if self == Self::INFINITY {
            text.push_str("+Inf");
        } else if self == Self::NEG_INFINITY {
            text.push_str("-Inf");
        } else {
            // NaN is written as the format wants it.
            let _ = write!(text, "{self}");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Help,
    Label,
}

fn escape(text: &mut String, raw: &str, quoted: Quoted) {
    for character in raw.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quoted == Quoted::Label => text.push_str("\\\""),
            // Some parsers take a NUL for the end of everything.
            other if other.is_control() => text.push(char::REPLACEMENT_CHARACTER),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_the_format_says() {
        let mut text = Text::default();
        let mut samples = text.family("a_total", "counter", "Says \"a\\b\"\nand more");
        samples.sample(&[], 7_u64);
        samples.sample(&[("who", "\"x\\y\nz\""), ("what", "gr\0ün")], 1_u64);
        let mut samples = text.family("g", "gauge", "G");
        for value in [0.5, -1.0, 1e21, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            samples.sample(&[], value);
        }
        let mut samples = text.family("h_seconds", "histogram", "H");
        samples.histogram(&[("s", "x")], &[0.25, 1.0], &[1, 0, 2], 6.5);
        let expected = r#"# HELP a_total Says "a\\b"\nand more
# TYPE a_total counter
a_total 7
a_total{who="\"x\\y\nz\"",what="gr�ün"} 1
# HELP g G
# TYPE g gauge
g 0.5
g -1
g 1000000000000000000000
g NaN
g +Inf
g -Inf
# HELP h_seconds H
# TYPE h_seconds histogram
h_seconds_bucket{s="x",le="0.25"} 1
h_seconds_bucket{s="x",le="1"} 1
h_seconds_bucket{s="x",le="+Inf"} 3
h_seconds_sum{s="x"} 6.5
h_seconds_count{s="x"} 3
"#;
        assert_eq!(text.finish(), expected);
    }
}
