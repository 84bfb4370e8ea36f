//! `--limit NAME=VALUE`, which `run` and `exec` share.

use std::ffi::OsStr;

use clap::{
    Arg, Command,
    builder::{PossibleValue, TypedValueParser},
    error::ErrorKind,
};

use super::Mistake;
use crate::{
    config::limits::{self, LimitSetting},
    limits::Limits,
};

/// Reads the option. Shells complete the names.
#[derive(Clone, Debug)]
pub(super) struct Setting;

impl TypedValueParser for Setting {
    type Value = LimitSetting;

    fn parse_ref(
        &self,
        command: &Command,
        _argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<LimitSetting, clap::Error> {
        LimitSetting::parse(&value.to_string_lossy()).map_err(|message| {
            let message = format!("--limit: {message}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = limits::keys().into_iter();
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// Returns the limits with these set.
pub(super) fn limits(settings: &[LimitSetting]) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for (index, setting) in settings.iter().enumerate() {
        let before = settings.iter().take(index);
        if before.into_iter().any(|other| other.key == setting.key) {
            let message = format!("--limit sets `{}` twice", setting.key);
            anyhow::bail!(Mistake::new(message));
        }
        setting.apply(&mut limits);
    }
    Ok(limits)
}

/// Returns what `--help` says, with every limit.
pub(super) fn long_help() -> String {
    format!(
        "Set a limit of the service; repeat it for others. A size is written as 65536, 64KiB, 256MiB or 1GiB, a length of time as 500ms, 30s, 5m, 2h or 7d. The names, \
         which are those of [service.limits] in a config file, with the defaults and what they can be:\n\n{}",
        limits::table()
    )
}
