//! What is wrong with a config file, and how it is told.

use std::fmt;

use serde::Serialize;

/// Something that is wrong in a file, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// Where, counted from 1.
    pub line: usize,
    /// Which character of the line, counted from 1.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it, if the message does not say it.
    pub mend: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing starts with it.
    Error,
    /// It works, and may not be what was meant.
    Warning,
}

impl Problem {
    /// Returns the message and the mend in one line, for the log.
    pub fn line(&self) -> String {
        let Self {
            file, line, column, ..
        } = self;
        match &self.mend {
            Some(mend) => format!("{file}:{line}:{column}: {}; {mend}", self.message),
            None => format!("{file}:{line}:{column}: {}", self.message),
        }
    }
}

impl fmt::Display for Problem {
    /// For a terminal: the mend has a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            severity,
            message,
            mend,
        } = self;
        let severity = match severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{file}:{line}:{column}: {severity}{message}")?;
        match mend {
            Some(mend) => write!(f, "\n    {mend}"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.first().map_or("", |problem| &problem.file);
        match self.0.len() {
            1 => write!(f, "there is a mistake in {file}")?,
            count => write!(f, "there are {count} mistakes in {file}")?,
        }
        for problem in &self.0 {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}
