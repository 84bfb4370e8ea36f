//! Reads a file's tables and values, and notes what is wrong with each, so that everything is told at once.

use std::{
    cell::RefCell,
    fmt::Display,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use toml_edit::{Item, Key, TableLike, Value};

use super::{
    keys::home_of,
    problem::{Problem, Severity},
    text::{Position, list, nearest, parse_size, show_size},
};
use crate::manifest::{parse_duration, show_duration};

/// A file's text, and what was found in it so far.
pub(super) struct Reader<'a> {
    file: String,
    text: &'a str,
    /// Where paths in the file begin.
    folder: PathBuf,
    problems: RefCell<Vec<Problem>>,
}

/// A place in the file.
pub(super) type Span = Range<usize>;

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            text,
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            problems: RefCell::default(),
        }
    }

    /// Notes a mistake.
    pub(super) fn wrong(&self, at: &Span, message: impl Display, mend: Option<String>) {
        let problem = self.problem(at, Severity::Error, &message, mend);
        self.problems.borrow_mut().push(problem);
    }

    /// Notes what may not be meant.
    pub(super) fn warn(&self, at: &Span, message: impl Display, mend: Option<String>) {
        let problem = self.problem(at, Severity::Warning, &message, mend);
        self.problems.borrow_mut().push(problem);
    }

    fn problem(
        &self,
        at: &Span,
        severity: Severity,
        message: &dyn Display,
        mend: Option<String>,
    ) -> Problem {
        let Position { line, column } = Position::of(self.text, Some(at));
        Problem {
            file: self.file.clone(),
            line,
            column,
            severity,
            message: message.to_string(),
            mend,
        }
    }

    /// Returns a path of the file as the process knows it.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Returns what was found, in the order of the file.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    /// Begins with a table; a key of it that is not known is noted.
    pub(super) fn section<'t>(
        &'t self,
        title: &str,
        table: &'t dyn TableLike,
        at: Span,
        known: &[&str],
    ) -> Section<'t> {
        let section = Section {
            reader: self,
            title: title.to_owned(),
            at,
            table,
        };
        for field in section.fields() {
            if known.contains(&field.name()) {
                continue;
            }
            let name = field.name().escape_debug();
            let near = nearest(field.name(), known.iter().copied());
            let mend = match (near, home_of(field.name())) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(home)) => format!("it is a key of {home}: write it under that"),
                (None, None) => format!("its keys are {}", list(known.iter().copied())),
            };
            self.wrong(
                &field.at,
                format!("{title} has no key `{name}`"),
                Some(mend),
            );
        }
        section
    }
}

/// A table of the file.
pub(super) struct Section<'t> {
    reader: &'t Reader<'t>,
    title: String,
    /// Where it begins.
    pub(super) at: Span,
    table: &'t dyn TableLike,
}

impl<'t> Section<'t> {
    /// Returns a key's value, if it is there.
    pub(super) fn field(&self, name: &str) -> Option<Field<'t>> {
        let (key, item) = self.table.get_key_value(name)?;
        (!item.is_none()).then(|| self.made(key, item))
    }

    /// Returns a key's value, or notes that it is missing.
    pub(super) fn required(&self, name: &str, example: &str) -> Option<Field<'t>> {
        let field = self.field(name);
        if field.is_none() {
            let message = format!("{} has no `{name}`", self.title);
            let mend = Some(format!("add {name} = {example}"));
            self.reader.wrong(&self.at, message, mend);
        }
        field
    }

    /// Returns everything in it, in the file's order.
    pub(super) fn fields(&self) -> Vec<Field<'t>> {
        let entries = self.table.iter();
        entries.filter_map(|(name, _)| self.field(name)).collect()
    }

    fn made(&self, key: &'t Key, item: &'t Item) -> Field<'t> {
        Field {
            reader: self.reader,
            key,
            at: key
                .span()
                .or_else(|| item.span())
                .unwrap_or_else(|| self.at.clone()),
            item,
        }
    }
}

/// A key and its value.
pub(super) struct Field<'t> {
    pub(super) reader: &'t Reader<'t>,
    key: &'t Key,
    /// Where the key is.
    pub(super) at: Span,
    pub(super) item: &'t Item,
}

impl<'t> Field<'t> {
    /// Returns the key.
    pub(super) fn name(&self) -> &'t str {
        self.key.get()
    }

    /// Returns where the value is.
    pub(super) fn value_at(&self) -> Span {
        self.item.span().unwrap_or_else(|| self.at.clone())
    }

    /// Notes what is wrong with the value.
    pub(super) fn wrong(&self, message: impl Display, mend: Option<String>) {
        let message = format!("`{}`: {message}", self.name());
        self.reader.wrong(&self.value_at(), message, mend);
    }

    fn mistyped<T>(&self, expected: &str, example: &str) -> Option<T> {
        let message = format!("{} is not {expected}", called(self.item));
        let mend = format!("write {} = {example}", self.key.display_repr());
        self.wrong(message, Some(mend));
        None
    }

    /// Returns the value if it is a text.
    pub(super) fn string(&self, example: &str) -> Option<&'t str> {
        match self.item.as_str() {
            Some(text) => Some(text),
            None => self.mistyped("a text in quotes", example),
        }
    }

    /// Returns the elements, with their places, if the value is a list of texts.
    pub(super) fn strings(&self, example: &str) -> Vec<(&'t str, Span)> {
        let Some(array) = self.item.as_array() else {
            let example = format!("[{example}]");
            self.mistyped::<()>("a list of texts", &example);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for value in array {
            let at = value.span().unwrap_or_else(|| self.value_at());
            match value.as_str() {
                Some(text) => texts.push((text, at)),
                None => {
                    let called = called_value(value);
                    let message = format!("`{}`: {called} is not a text in quotes", self.name());
                    let mend = format!("write {} = [{example}]", self.name());
                    self.reader.wrong(&at, message, Some(mend));
                }
            }
        }
        texts
    }

    /// Returns the elements that could be read, each with its place.
    pub(super) fn list<T, E: Display>(
        &self,
        example: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<(T, Span)> {
        let mut list = Vec::new();
        for (text, at) in self.strings(example) {
            match read(text) {
                Ok(value) => list.push((value, at)),
                Err(error) => {
                    let message = format!("`{}`: {error}", self.name());
                    self.reader.wrong(&at, message, None);
                }
            }
        }
        list
    }

    /// Returns the value if it is a text that can be read.
    pub(super) fn read<T, E: Display>(
        &self,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match read(self.string(example)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(error, None);
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.item.as_bool() {
            Some(truth) => Some(truth),
            None => self.mistyped("`true` or `false`", "true"),
        }
    }

    /// Returns the value if it is a number of this range.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(number) = self.item.as_integer() else {
            let example = range.start().to_string();
            return self.mistyped("a whole number", &example);
        };
        let fitting = u64::try_from(number).ok();
        let fitting = fitting.filter(|number| range.contains(number));
        if fitting.is_none() {
            let (from, to) = range.into_inner();
            self.wrong(
                format!("{number} is out of range"),
                Some(format!("it can be {from} to {to}")),
            );
        }
        fitting
    }

    /// Returns the value if it is a number of bytes of this range.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = match (self.item.as_integer(), self.item.as_str()) {
            (Some(number), _) => u64::try_from(number).ok(),
            (_, Some(text)) => parse_size(text),
            _ => return self.mistyped("a number of bytes", "\"64MiB\""),
        };
        let (from, to) = (show_size(*range.start()), show_size(*range.end()));
        let shown = self.item.to_string();
        let shown = shown.trim();
        match size {
            None => self.wrong(
                format!("{shown} is not a number of bytes"),
                Some("write it as 65536, \"64KiB\", \"256MiB\" or \"1GiB\"".to_owned()),
            ),
            Some(size) if !range.contains(&size) => self.wrong(
                format!("{shown} is out of range"),
                Some(format!("it can be {from} to {to}")),
            ),
            Some(size) => return Some(size),
        }
        None
    }

    /// Returns the value if it is a length of time of this range.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.string("\"30s\"")?;
        let show = |time: &Duration| show_duration(u64::try_from(time.as_nanos()).unwrap_or(0));
        match parse_duration(text).map(Duration::from_nanos) {
            Err(_) => self.wrong(
                format!("`{}` is not a length of time", text.escape_debug()),
                Some("write it as \"500ms\", \"30s\", \"5m\", \"2h\" or \"7d\"".to_owned()),
            ),
            Ok(time) if !range.contains(&time) => self.wrong(
                format!("`{text}` is out of range"),
                Some(format!(
                    "it can be {} to {}",
                    show(range.start()),
                    show(range.end())
                )),
            ),
            Ok(time) => return Some(time),
        }
        None
    }

    /// Returns the value if it is the path of something.
    pub(super) fn path(&self, example: &str) -> Option<PathBuf> {
        let text = self.string(example)?;
        if text.is_empty() || text.contains('\0') {
            self.wrong("it is not a path", None);
            return None;
        }
        Some(self.reader.path(Path::new(text)))
    }

    /// Returns the value if it is a table, of which the keys are the operator's.
    pub(super) fn any_table(&self, title: &str) -> Option<Section<'t>> {
        let Some(table) = self.item.as_table_like() else {
            let message = format!("{} is not a table", called(self.item));
            self.wrong(message, Some(format!("write {title}")));
            return None;
        };
        Some(Section {
            reader: self.reader,
            title: title.to_owned(),
            at: self.at.clone(),
            table,
        })
    }

    /// Returns the value if it is a table; a key of it that is not known is noted.
    pub(super) fn table(&self, title: &str, known: &[&str]) -> Option<Section<'t>> {
        let Section { table, at, .. } = self.any_table(title)?;
        Some(self.reader.section(title, table, at, known))
    }
}

/// Says what a value is.
pub(super) fn called(item: &Item) -> &'static str {
    match item {
        Item::Value(value) => called_value(value),
        Item::ArrayOfTables(_) => "a list of tables",
        Item::Table(_) | Item::None => "a table",
    }
}

pub(super) fn called_value(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "a truth value",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}
