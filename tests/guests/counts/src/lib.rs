//! Counts what it is told to, within the rules and outside them. A command is a line, and each is answered with one: `ok`, or an error.

use nethost_sdk::{
    Config, Context, Factory, Origin, Protocol, Refusal, Swap, export_plugin,
    framing::Lines,
    metrics::{Counter, Family, Gauge, Histogram, Metric},
};

struct Counts {
    things: Counter,
    kinds: Family<Counter, 1>,
    level: Gauge,
    sizes: Histogram,
}

impl Factory for Counts {
    fn configure(_config: &Config) -> Result<Self, String> {
        let kinds = Metric::new("kinds", "Things, by \"kind\"\nand \\ more").labels(["kind"]);
        let sizes = Metric::new("sizes", "Sizes of things").unit("bytes");
        Ok(Self {
            things: Metric::new("things", "Things that were counted").counter()?,
            kinds: kinds.counter()?,
            level: Metric::new("level", "How high it is").gauge()?,
            sizes: sizes.histogram(&[1.0, 10.0, 100.0])?,
        })
    }
}

impl Counts {
    fn command(&self, line: &str) -> Result<(), String> {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        let number = || argument.parse::<usize>().map_err(|error| error.to_string());
        let value = || argument.parse::<f64>().map_err(|error| error.to_string());
        match command {
            "add" => self.things.add(number()? as u64),
            "kind" => self.kinds.with([argument]).increment(),
            "level" => self.level.set(value()?),
            "raise" => self.level.add(value()?),
            "size" => self.sizes.observe(value()?),
            "trap" => panic!("told to trap"),
            // Outside the rules.
            "flood" => {
                for number in 0..number()? {
                    self.kinds.with([&number.to_string()]).increment();
                }
            }
            "declare" => {
                for number in 0..number()? {
                    Metric::new(&format!("m{number}"), "Many").gauge()?;
                }
            }
            "again" => drop(Metric::new("things", "Other words").counter()?),
            "name" => drop(Metric::new(argument, "A name").gauge()?),
            "long-name" => drop(Metric::new(&"n".repeat(number()?), "Long").gauge()?),
            "long-help" => drop(Metric::new("long_help", &"h".repeat(number()?)).gauge()?),
            "long-value" => self.kinds.with([&"v".repeat(number()?)]).increment(),
            "label" => drop(
                Metric::new("labelled", "Labelled")
                    .labels([argument])
                    .gauge()?,
            ),
            "bounds" => drop(Metric::new("bounds", "B").histogram(&[value()?, value()?])?),
            other => return Err(format!("no command {other}")),
        }
        Ok(())
    }
}

struct Session {
    lines: Lines,
}

impl Session {
    fn new() -> Self {
        Self {
            lines: Lines::new(4096),
        }
    }
}

impl Protocol for Session {
    type Factory = Counts;

    fn connection_made(_cx: &mut Context<'_, Counts>, _origin: Origin) -> Option<Self> {
        Some(Self::new())
    }

    fn data_received(&mut self, cx: &mut Context<'_, Counts>, mut data: &[u8]) {
        while let Some(line) = self.lines.next(&mut data) {
            let line = line.map(String::from_utf8_lossy);
            let done = line
                .map_err(|error| error.to_string())
                .and_then(|line| cx.factory.command(&line));
            let answer = done.map_or_else(|error| error, |()| "ok".to_owned());
            cx.connection.write(format!("{answer}\n").as_bytes());
        }
    }
}

/// Nothing moves but the connections: what was counted is the host's.
impl Swap for Session {
    const FORMATS: &'static [&'static str] = &["counts/1"];

    fn save(_factory: &Counts, _format: &str) -> Result<Vec<u8>, Refusal> {
        Ok(Vec::new())
    }

    fn restore(_factory: &mut Counts, _format: &str, _state: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn save_session(&self, _format: &str) -> Result<Vec<u8>, Refusal> {
        Ok(Vec::new())
    }

    fn restore_session(
        _cx: &mut Context<'_, Counts>,
        _format: &str,
        _state: &[u8],
    ) -> Result<Self, String> {
        Ok(Self::new())
    }
}

export_plugin!(Session, swap);
