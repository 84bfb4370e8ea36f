//! What is known of the terminal that a command runs on.

use std::{
    env,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
};

use terminal_size::terminal_size_of;

use super::Output;

/// When to write colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`; everywhere if CLICOLOR_FORCE is set
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// What is known of the terminal, as it was at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) is_input: bool,
    pub(crate) is_output: bool,
    pub(crate) is_error: bool,
    is_dumb: bool,
    colour: Colour,
}

impl Terminal {
    /// Looks at standard input, output and error, and at the environment.
    pub(crate) fn of_process(colour: Colour) -> Self {
        // Set to nothing is not set: no-color.org.
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced =
            || env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0" && !value.is_empty());
        let colour = match colour {
            Colour::Auto if is_set("NO_COLOR") => Colour::Never,
            Colour::Auto if forced() => Colour::Always,
            colour => colour,
        };
        Self {
            is_input: io::stdin().is_terminal(),
            is_output: io::stdout().is_terminal(),
            is_error: io::stderr().is_terminal(),
            is_dumb: env::var_os("TERM").is_some_and(|term| term == "dumb"),
            colour,
        }
    }

    /// Returns whether an output is a terminal.
    pub(crate) fn is(self, output: Output) -> bool {
        match output {
            Output::Standard => self.is_output,
            Output::Error => self.is_error,
        }
    }

    /// Returns whether to write colours to an output.
    pub(crate) fn wants_colour(self, output: Output) -> bool {
        match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => self.is(output) && !self.is_dumb,
        }
    }

    /// Returns whether something can be drawn on standard error, which means that the cursor goes back. Of a terminal without a name it is not known.
    pub(crate) fn can_draw(self) -> bool {
        self.is_error && !self.is_dumb && env::var_os("TERM").is_some()
    }

    /// Returns columns and rows, as they are now.
    pub(crate) fn size(self) -> Option<(u16, u16)> {
        let size = if self.is_output {
            terminal_size_of(io::stdout().as_fd())
        } else {
            terminal_size_of(io::stderr().as_fd())
        };
        size.map(|(width, height)| (width.0, height.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_some() {
        for (colour, is_output, is_dumb, expected) in [
            (Colour::Auto, true, false, true),
            (Colour::Auto, false, false, false),
            (Colour::Auto, true, true, false),
            (Colour::Always, false, true, true),
            (Colour::Never, true, false, false),
        ] {
            let terminal = Terminal {
                is_input: false,
                is_output,
                is_error: false,
                is_dumb,
                colour,
            };
            assert_eq!(terminal.wants_colour(Output::Standard), expected);
        }
    }
}
