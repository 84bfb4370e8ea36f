//! The service's configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// The service's configuration: a JSON object with every key of the plugin's manifest, defaults filled in.
#[derive(Clone, Debug)]
pub struct Config(String);

impl Config {
    /// Takes the JSON text, as the host and tests have it.
    pub fn new(json: impl Into<String>) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The configuration as the plugin's own type. The error names the key, for the operator.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.0).map_err(|error| error.to_string())
    }
}

/// Reads a config key of type `duration`, which comes as a number of nanoseconds.
///
/// ```
/// use std::time::Duration;
/// use nethost_sdk::Config;
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// struct Settings {
///     #[serde(deserialize_with = "nethost_sdk::duration")]
///     ping_interval: Duration,
/// }
///
/// let settings: Settings = Config::new(r#"{"ping-interval": 90000000000}"#).parse().expect("every key is there");
/// assert_eq!(settings.ping_interval, Duration::from_secs(90));
/// ```
pub fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_nanos)
}
