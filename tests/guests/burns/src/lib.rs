//! Takes 40 ms of time, and no word of the host, for every line that it receives; then it sends the line back. It is set up as slowly as it is told.

use std::time::Duration;

use nethost_sdk::{Config, Context, Factory, Origin, Protocol, clock, export_plugin};
use serde::Deserialize;

struct Burns;

#[derive(Deserialize)]
struct Settings {
    /// Nanoseconds that `configure` takes.
    setup: u64,
}

impl Factory for Settings {
    fn configure(config: &Config) -> Result<Self, String> {
        let settings: Self = config.parse()?;
        burn(Duration::from_nanos(settings.setup));
        Ok(settings)
    }
}

impl Protocol for Burns {
    type Factory = Settings;

    fn connection_made(_cx: &mut Context<'_, Settings>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, Settings>, data: &[u8]) {
        burn(TIME);
        cx.connection.write(data);
    }
}

fn burn(time: Duration) {
    let until = clock::monotonic() + time;
    while clock::monotonic() < until {}
}

/// Less than a callback may take.
const TIME: Duration = Duration::from_millis(40);

export_plugin!(Burns);
