//! Refuses its configuration.

use nethost_sdk::{Config, Context, Factory, Origin, Protocol, export_plugin};
use serde::Deserialize;

struct Refuses;

#[derive(Deserialize)]
struct Settings {
    reason: String,
}

impl Factory for Settings {
    fn configure(config: &Config) -> Result<Self, String> {
        let settings: Self = config.parse()?;
        Err(settings.reason)
    }
}

impl Protocol for Refuses {
    type Factory = Settings;

    fn connection_made(_cx: &mut Context<'_, Settings>, _origin: Origin) -> Option<Self> {
        None
    }

    fn data_received(&mut self, _cx: &mut Context<'_, Settings>, _data: &[u8]) {}
}

export_plugin!(Refuses);
