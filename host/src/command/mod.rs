//! A plugin's command (`nethost exec`): what surrounds it besides connections, and what its command line grants it.
//!
//! * [`mentions`]: the hosts that arguments mention.
//! * [`named`]: the files that arguments name.
//! * [`console`]: standard input, output and error, and how the command ended.
//! * [`terminal`]: what is known of the terminal.
//! * [`progress`]: what is drawn on it, and `canvas`, where.
//! * `run`: a command from its start to its end.

mod canvas;

mod console;

pub(crate) mod mentions;

pub(crate) mod named;

pub(crate) mod progress;

mod run;

pub(crate) mod terminal;

pub(crate) use console::{Console, End, Output, Remarks, Surroundings};
pub(crate) use run::{Command, Ended, Signal, run};
