//! `nethost top`: what `ps` tells, again and again, with what happens in a second.

mod screen;

mod view;

use std::{
    io::{self, IsTerminal as _, Write as _},
    pin::pin,
    time::Duration,
};

use ratatui::Terminal;
use screen::{Ansi, Key, Keys, Raw};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};
use view::{Column, View};

use super::{At, answered, block_on};
use crate::{
    admin::{api::Services, client::Client},
    cli::{Mistake, run::duration},
};

/// Watch the services of a host that runs
///
/// What `nethost ps` lists, with rates: bytes and calls in a second. P50 and P99 are times of the calls since the last look. Keys: `q` quits; `s`, or `<` and `>`, choose the
/// column to sort by, `r` turns the order round; space looks at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost top
  nethost top --once --sort conn | head -3    # for scripts: two looks a second apart, and the end
  nethost top --json | jq -c '.services[] | [.service.name, .calls_per_second]'")]
pub(crate) struct Top {
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = period)]
    every: Duration,

    /// Sort by this column
    #[arg(long, value_name = "COLUMN", default_value = "calls")]
    sort: Column,

    /// Look twice, print the table and end
    #[arg(long)]
    once: bool,

    /// Print a line of JSON for each look, from the second on, and take no screen
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    at: At,
}

impl Top {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        if self.once || self.json {
            return self.print();
        }
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Mistake::new(
                "top needs a terminal; for scripts there are `nethost top --once` and `nethost ps --json`"
                    .to_owned(),
            )
            .into());
        }
        block_on(&self.at, async |client| {
            // Before the screen is taken: if there is no host, that is all there is to say.
            let first = look(client).await?;
            let mut view = View::new(self.sort);
            view.take(first, Instant::now());
            self.watch(client, view).await
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        block_on(&self.at, async |client| {
            let mut view = View::new(self.sort);
            view.take(look(client).await?, Instant::now());
            loop {
                tokio::time::sleep(self.every).await;
                view.take(look(client).await?, Instant::now());
                let text = match self.json {
                    true => view.json()? + "\n",
                    false => view.text(),
                };
                io::stdout().lock().write_all(text.as_bytes())?;
                if self.once {
                    return Ok(());
                }
            }
        })
    }

    /// Shows what there is until `q`, or a signal that ends it.
    async fn watch(&self, client: &Client, mut view: View) -> anyhow::Result<()> {
        let mut resized = signal(SignalKind::window_change())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        // From here to its drop the terminal is the screen's, whatever happens.
        let raw = Raw::enter()?;
        let mut keys = Keys::start()?;
        let mut terminal = Terminal::new(Ansi::default())?;
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looking = pin!(None);
        let result = loop {
            let drawn = terminal.draw(|frame| view.draw(frame));
            if let Err(error) = drawn {
                break Err(error.into());
            }
            tokio::select! {
                _ = ticks.tick(), if looking.is_none() => looking.set(Some(look(client))),
                services = async {
                    match looking.as_mut().as_pin_mut() {
                        Some(look) => look.await,
                        None => std::future::pending().await,
                    }
                } => {
                    looking.set(None);
                    match services {
                        Ok(services) => view.take(services, Instant::now()),
                        // The host may come back.
                        Err(error) => view.lose(format!("{error:#}")),
                    }
                }
                key = keys.next() => match key {
                    None | Some(Key::Quit) => break Ok(()),
                    Some(Key::Next) => view.sort_by_next(),
                    Some(Key::Previous) => view.sort_by_previous(),
                    Some(Key::Reverse) => view.reverse(),
                    Some(Key::Look) => ticks.reset_immediately(),
                },
                _ = resized.recv() => terminal.autoresize()?,
                _ = interrupted.recv() => break Ok(()),
                _ = terminated.recv() => break Ok(()),
                _ = hung_up.recv() => break Ok(()),
            }
        };
        drop(raw);
        result
    }
}

async fn look(client: &Client) -> anyhow::Result<Services> {
    answered(client.get("/v1/services")).await
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    if period < SHORTEST {
        return Err(format!("at least {SHORTEST:?}"));
    }
    Ok(period)
}

/// Every look asks all workers: 100 ms between them at least.
const SHORTEST: Duration = Duration::from_millis(100);
