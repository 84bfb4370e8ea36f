//! `nethost logs`.

use super::{At, answered, block_on, say, table::plain};
use crate::admin::{
    api::LogLine,
    client::{ClientError, encoded},
};

/// Show what a host has logged last, of one service or of all
///
/// The host keeps its last 1,000 lines. What was said before it served is among them, if that is so long ago.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost logs irc
  nethost logs -f irc --lines 10")]
pub(crate) struct Logs {
    /// The service, as `nethost ps` lists it [default: all, and what is about none]
    service: Option<String>,

    /// Go on with the lines that come, until the host ends
    #[arg(short, long)]
    follow: bool,

    /// How many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,

    #[command(flatten)]
    at: At,

    /// Print a JSON object for each line
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let mut path = format!("/v1/logs?lines={}&follow={}", self.lines, self.follow);
        if let Some(service) = &self.service {
            path += &format!("&service={}", encoded(service));
        }
        block_on(&self.at, async |client| {
            let mut lines = answered(client.lines(&path)).await?;
            loop {
                match lines.next::<LogLine>().await {
                    // The host has ended.
                    Err(ClientError::Cut { .. }) if self.follow => return Ok(()),
                    Ok(None) => return Ok(()),
                    line => {
                        if let Some(line) = answered(async { line }).await? {
                            say(&self.written(&line)?)?;
                        }
                    }
                }
            }
        })
    }

    fn written(&self, line: &LogLine) -> anyhow::Result<String> {
        if self.json {
            return Ok(serde_json::to_string(line)?);
        }
        let LogLine {
            time,
            level,
            service,
            message,
            missed,
            ..
        } = line;
        let missed = match missed {
            0 => String::new(),
            missed => format!("({missed} lines are missing)\n"),
        };
        let service = service
            .as_ref()
            .map_or_else(String::new, |it| format!("{it}: "));
        let message = plain(message);
        Ok(format!("{missed}{time} {level:>5} {service}{message}"))
    }
}
