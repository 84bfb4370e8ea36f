//! The plugin's configuration: JSON as the host passes it, checked once into values that cannot be wrong.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::types::{
    mode::{ChannelFlag, Flags, Sign},
    name::Nick,
    text::{Text, Word},
};

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network's name (ISUPPORT `NETWORK`).
    pub network: String,
    /// The server's name; at most 63 bytes ([RFC 2812 section 1.1](https://www.rfc-editor.org/rfc/rfc2812#section-1.1)).
    pub server: String,
    /// The message of the day, line by line.
    pub motd: Vec<String>,
    /// What ADMIN tells: two lines of location and an address.
    pub admin: Option<[String; 3]>,
    /// What PASS must give.
    pub password: Option<String>,
    /// Who may become an operator of the server.
    pub oper: Option<Oper>,
    /// The longest nickname, in bytes (ISUPPORT `NICKLEN`).
    pub nick_length: usize,
    /// How many channels a user may be in (ISUPPORT `CHANLIMIT`).
    pub channels_per_user: usize,
    /// What a new channel is set to.
    pub channel_modes: Flags,
    /// How long a client may take to register.
    pub registration_timeout: Duration,
    /// After how much silence a client is sent a PING.
    pub ping_interval: Duration,
    /// How long a client may take to answer a PING.
    pub ping_timeout: Duration,
    /// How fast a client may send; none is as fast as it can.
    pub flood: Option<Flood>,
}

/// An operator's name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oper {
    /// First parameter of OPER.
    pub name: String,
    /// Second parameter of OPER.
    pub password: String,
}

/// A token bucket: a command takes a token, and one that finds none waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many tokens the bucket holds.
    pub burst: u32,
    /// How many tokens come back per second.
    pub rate: u32,
}

/// Which key is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ConfigError {
    key: &'static str,
    reason: String,
}

impl Config {
    /// Reads the JSON object that the host passes to `configure`. A key that is absent has its default.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let object = match serde_json::from_str(json) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(error("config", "not a JSON object")),
            Err(cause) => return Err(error("config", cause)),
        };
        let mut keys = Keys(object);
        let default = Self::default();
        let oper_name = keys.string("oper-name")?.filter(|name| !name.is_empty());
        let oper_password = keys
            .string("oper-password")?
            .filter(|password| !password.is_empty());
        let flood = Flood {
            burst: keys.number("flood-burst", 1..=1000)?.unwrap_or(20),
            rate: keys.number("flood-rate", 1..=1000)?.unwrap_or(2),
        };
        let config = Self {
            network: keys.word("network")?.unwrap_or(default.network),
            server: keys.word("server")?.unwrap_or(default.server),
            motd: keys.lines("motd")?.unwrap_or_default(),
            admin: keys.lines("admin")?.map(admin).transpose()?.flatten(),
            password: keys
                .string("password")?
                .filter(|password| !password.is_empty()),
            oper: match (oper_name, oper_password) {
                (None, _) => None,
                (Some(_), None) => {
                    return Err(error(
                        "oper-password",
                        "must not be empty when oper-name is set",
                    ));
                }
                (Some(name), Some(password)) => Some(Oper { name, password }),
            },
            nick_length: keys
                .size("nick-length", 1..=Nick::MAX as u32)?
                .unwrap_or(default.nick_length),
            channels_per_user: keys
                .size("channels-per-user", 1..=1000)?
                .unwrap_or(default.channels_per_user),
            channel_modes: channel_modes(&keys.string("channel-modes")?.unwrap_or_default())?,
            registration_timeout: keys
                .duration("registration-timeout")?
                .unwrap_or(default.registration_timeout),
            ping_interval: keys
                .duration("ping-interval")?
                .unwrap_or(default.ping_interval),
            ping_timeout: keys
                .duration("ping-timeout")?
                .unwrap_or(default.ping_timeout),
            flood: keys.boolean("flood")?.unwrap_or(false).then_some(flood),
        };
        match keys.0.keys().next() {
            Some(unknown) => Err(error("config", format!("unknown key `{unknown}`"))),
            None => Ok(config),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: "ExampleNet".into(),
            server: "irc.example.net".into(),
            motd: Vec::new(),
            admin: None,
            password: None,
            oper: None,
            nick_length: 30,
            channels_per_user: 50,
            channel_modes: Flags::default(),
            registration_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(120),
            ping_timeout: Duration::from_secs(60),
            flood: None,
        }
    }
}

fn admin(lines: Vec<String>) -> Result<Option<[String; 3]>, ConfigError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let count = lines.len();
    let lines = <[String; 3]>::try_from(lines);
    lines
        .map(Some)
        .map_err(|_| error("admin", format!("{count} lines, and ADMIN has 3")))
}

fn channel_modes(letters: &str) -> Result<Flags, ConfigError> {
    let mut flags = Flags::default();
    for letter in letters.trim_start_matches('+').bytes() {
        let flag = ChannelFlag::from_letter(letter);
        let flag = flag.ok_or_else(|| {
            error(
                "channel-modes",
                format!("`{}` is not one of i m n s t", letter.escape_ascii()),
            )
        })?;
        flags.apply(Sign::Set, flag);
    }
    Ok(flags)
}

fn error(key: &'static str, reason: impl ToString) -> ConfigError {
    ConfigError {
        key,
        reason: reason.to_string(),
    }
}

/// Longest name of a server, and of a network for want of another number.
const MAX_NAME: usize = 63;

/// The keys not yet taken.
struct Keys(Map<String, Value>);

impl Keys {
    fn string(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(error(key, format!("`{other}` is not a string"))),
        }
    }

    fn word(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.string(key)? else {
            return Ok(None);
        };
        let fits =
            Word::new(value.as_bytes()).is_some() && value.len() <= MAX_NAME && value.is_ascii();
        if fits {
            Ok(Some(value))
        } else {
            Err(error(
                key,
                format!("`{value}` is not one ASCII word of at most {MAX_NAME} bytes"),
            ))
        }
    }

    fn lines(&mut self, key: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
        let lines: Vec<String> = match self.0.remove(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text.lines().map(Into::into).collect(),
            Some(Value::Array(items)) => {
                let text = |item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(error(key, format!("`{other}` is not a string"))),
                };
                items.into_iter().map(text).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(error(key, format!("`{other}` is not a list of strings"))),
        };
        match lines
            .iter()
            .find(|line| Text::new(line.as_bytes()).is_none())
        {
            Some(line) => Err(error(
                key,
                format!("`{}` is more than one line", line.escape_debug()),
            )),
            None => Ok(Some(lines)),
        }
    }

    fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(error(key, format!("`{other}` is not true or false"))),
        }
    }

    fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| range.contains(n));
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(error(
                key,
                format!(
                    "`{value}` is not a number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }

    fn size(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<usize>, ConfigError> {
        Ok(self
            .number(key, range)?
            .and_then(|n| usize::try_from(n).ok()))
    }

    /// A duration from one second to a day: a number of nanoseconds, which is what the host makes of it, or text with a unit.
    fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        let duration = match &value {
            Value::String(text) => duration(text),
            other => other.as_u64().map(Duration::from_nanos),
        };
        let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
        match (
            duration.filter(|duration| range.contains(duration)),
            duration,
        ) {
            (Some(duration), _) => Ok(Some(duration)),
            (None, Some(outside)) => {
                Err(error(key, format!("`{outside:?}` is not from 1s to 24h")))
            }
            (None, None) => Err(error(
                key,
                format!("`{value}` is not a duration such as 30s (ms, s, m, h)"),
            )),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let milliseconds = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_keys_have_their_defaults() {
        assert_eq!(Config::from_json("{}"), Ok(Config::default()));
    }

    #[test]
    fn the_manifest_has_every_key_with_its_default() {
        let manifest: toml::Table = toml::from_str(include_str!("../plugin.toml")).unwrap();
        let keys = manifest["config"].as_table().unwrap().iter();
        let defaults: toml::Table = keys
            .map(|(key, spec)| (key.clone(), spec["default"].clone()))
            .collect();
        assert_eq!(defaults.len(), 16);
        let json = serde_json::to_string(&defaults).unwrap();
        assert_eq!(Config::from_json(&json), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_read() {
        let json = r#"{"network":"N","server":"s.n","motd":["a","b"],"admin":["x","y","z"],"password":"p","oper-name":"o","oper-password":"q",
            "nick-length":9,"channels-per-user":3,"channel-modes":"+nt","registration-timeout":5000000000,"ping-interval":"2m","ping-timeout":"1500ms",
            "flood":true,"flood-burst":7,"flood-rate":3}"#;
        let config = Config::from_json(json).unwrap();
        assert_eq!(config.motd, ["a", "b"]);
        assert_eq!(config.oper.unwrap().password, "q");
        assert_eq!(config.registration_timeout, Duration::from_secs(5));
        assert_eq!(config.ping_interval, Duration::from_secs(120));
        assert_eq!(config.ping_timeout, Duration::from_millis(1500));
        assert_eq!(config.flood, Some(Flood { burst: 7, rate: 3 }));
        assert!(
            config.channel_modes.has(ChannelFlag::NoOutside)
                && config.channel_modes.has(ChannelFlag::TopicLocked)
        );
    }

    #[test]
    fn wrong_values_are_named() {
        for (json, message) in [
            ("[]", "config: not a JSON object"),
            (r#"{"netwrok":"x"}"#, "config: unknown key `netwrok`"),
            (
                r#"{"network":"a b"}"#,
                "network: `a b` is not one ASCII word of at most 63 bytes",
            ),
            (r#"{"server":1}"#, "server: `1` is not a string"),
            (
                r#"{"motd":["a\nb"]}"#,
                r"motd: `a\nb` is more than one line",
            ),
            (r#"{"motd":[1]}"#, "motd: `1` is not a string"),
            (r#"{"admin":["a"]}"#, "admin: 1 lines, and ADMIN has 3"),
            (
                r#"{"oper-name":"x","oper-password":""}"#,
                "oper-password: must not be empty when oper-name is set",
            ),
            (
                r#"{"nick-length":33}"#,
                "nick-length: `33` is not a number from 1 to 32",
            ),
            (
                r#"{"nick-length":"9"}"#,
                "nick-length: `\"9\"` is not a number from 1 to 32",
            ),
            (
                r#"{"channel-modes":"nx"}"#,
                "channel-modes: `x` is not one of i m n s t",
            ),
            (
                r#"{"ping-timeout":"60"}"#,
                "ping-timeout: `\"60\"` is not a duration such as 30s (ms, s, m, h)",
            ),
            (
                r#"{"ping-timeout":"0s"}"#,
                "ping-timeout: `0ns` is not from 1s to 24h",
            ),
            (
                r#"{"ping-timeout":999000000}"#,
                "ping-timeout: `999ms` is not from 1s to 24h",
            ),
            (
                r#"{"ping-timeout":true}"#,
                "ping-timeout: `true` is not a duration such as 30s (ms, s, m, h)",
            ),
            (r#"{"flood":"on"}"#, "flood: `\"on\"` is not true or false"),
        ] {
            assert_eq!(Config::from_json(json).unwrap_err().to_string(), message);
        }
    }
}
