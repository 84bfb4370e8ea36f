//! `nethost inspect`.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use serde_json::json;

use super::size;
use crate::{
    imports::log::escape,
    inspect::{self, Description},
    manifest::{CommandManifest, DirectoryRequest, FileArgument, Manifest},
};

/// Show what a plugin is, what it needs, and what can be set
///
/// Name, version, contract version, imports, exports, default listeners, kinds of isolation, the grants it asks for, and its config keys. Nothing of
/// the plugin runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost inspect plugins/irc.wasm
  nethost inspect plugins/irc.wasm --json | jq .config")]
pub(crate) struct Inspect {
    /// The plugin: a component such as plugins/irc.wasm
    plugin: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let context = || self.plugin.display().to_string();
        let bytes = inspect::read(&self.plugin).with_context(context)?;
        let description = inspect::describe(&bytes).with_context(context)?;
        let stem = self
            .plugin
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let manifest = description
            .manifest
            .clone()
            .unwrap_or_else(|| Manifest::assumed(&stem));
        let text = if self.json {
            let mut text = serde_json::to_string_pretty(&to_json(&description, &manifest))?;
            text.push('\n');
            text
        } else {
            let plain = !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
            let style = if plain { Style::Plain } else { Style::Coloured };
            Report {
                description: &description,
                manifest: &manifest,
                style,
            }
            .to_string()
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }
}

fn to_json(description: &Description, manifest: &Manifest) -> serde_json::Value {
    let Description {
        contract_version,
        imports,
        exports,
        manifest: carried,
        size,
    } = description;
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "contract": contract_version,
        "size": size,
        "manifest": carried.is_some(),
        "imports": imports,
        "exports": exports,
        "listen": manifest.listen,
        "isolation": manifest.isolation,
        "grants": manifest.grants,
        "directories": manifest.directories,
        "command": manifest.command,
        "config": manifest.config,
    })
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Plain,
    Coloured,
}

/// The description as text: a heading, then its rows.
struct Report<'a> {
    description: &'a Description,
    manifest: &'a Manifest,
    style: Style,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            description,
            manifest,
            style,
        } = *self;
        let name = style.bold(&escape(&manifest.name));
        write!(formatter, "{name}")?;
        if let Some(version) = &manifest.version {
            write!(formatter, " {version}")?;
        }
        if let Some(text) = &manifest.description {
            write!(formatter, ": {}", escape(text))?;
        }
        writeln!(formatter)?;
        if description.manifest.is_none() {
            writeln!(
                formatter,
                "it carries no manifest: name and isolation are assumed"
            )?;
        }
        writeln!(formatter)?;

        let isolation = manifest.isolation.iter().map(ToString::to_string).collect();
        let first = (isolation, "(the first is the default)");
        let size = size(description.size);
        style.list(formatter, "contract", &[&description.contract_version])?;
        style.list(formatter, "size", &[&size])?;
        style.list(formatter, "imports", &description.imports)?;
        style.list(formatter, "exports", &description.exports)?;
        style.list(formatter, "listeners", &manifest.listen)?;
        let (kinds, remark): (Vec<String>, _) = first;
        let remark = if kinds.len() > 1 {
            format!(" {remark}")
        } else {
            String::new()
        };
        style.list(
            formatter,
            "isolation",
            &[format!("{}{remark}", kinds.join(", "))],
        )?;
        style.table(
            formatter,
            "grants",
            manifest
                .grants
                .iter()
                .map(|(name, why)| [name.clone(), why.clone()])
                .chain(manifest.directories.iter().map(|(name, request)| {
                    let DirectoryRequest { mode, reason } = request;
                    [format!("directory {name}:{mode}"), reason.clone()]
                }))
                .collect(),
        )?;
        if let Some(command) = &manifest.command {
            style.table(formatter, "command", command_rows(command))?;
        }
        let keys = manifest.config.iter().map(|(name, key)| {
            let default = key.default.as_ref();
            let default =
                default.map_or_else(|| "(required)".to_owned(), |value| key.kind.show(value));
            [
                name.clone(),
                key.kind.to_string(),
                default,
                key.description.clone(),
            ]
        });
        style.table(formatter, "config", keys.collect())
    }
}

/// How the command is called, and what its arguments may grant.
fn command_rows(command: &CommandManifest) -> Vec<[String; 2]> {
    let places = |places: &[FileArgument]| {
        let places: Vec<_> = places.iter().map(ToString::to_string).collect();
        (!places.is_empty()).then(|| places.join(", "))
    };
    let rows = [
        ("arguments", command.usage.clone()),
        ("reads files", places(&command.reads)),
        ("writes files", places(&command.writes)),
        ("asks name servers", command.name_servers.clone()),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?]))
        .collect()
}

impl Style {
    fn bold(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[1m{text}\x1b[0m"),
        }
    }

    /// A heading in its column; padded before it is coloured, because escapes have no width.
    fn heading(self, text: &str) -> String {
        let padded = format!("{text:<HEADING$}");
        match self {
            Self::Plain => padded,
            Self::Coloured => format!("\x1b[36m{padded}\x1b[0m"),
        }
    }

    fn list(
        self,
        formatter: &mut fmt::Formatter<'_>,
        heading: &str,
        rows: &[impl AsRef<str>],
    ) -> fmt::Result {
        let rows = rows.iter().map(|row| [row.as_ref().to_owned()]);
        self.table(formatter, heading, rows.collect())
    }

    /// Rows under one heading, their columns aligned. The last column is not padded. What would do something to the terminal is escaped.
    fn table<const N: usize>(
        self,
        formatter: &mut fmt::Formatter<'_>,
        heading: &str,
        rows: Vec<[String; N]>,
    ) -> fmt::Result {
        if rows.is_empty() {
            return writeln!(formatter, "{}none", self.heading(heading));
        }
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| row.map(|cell| escape(&cell)))
            .collect();
        let mut widths = [0; N];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let heading = if index == 0 { heading } else { "" };
            let cells = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(formatter, "{}{}", self.heading(heading), line.trim_end())?;
        }
        Ok(())
    }
}

/// The width of the column of headings.
const HEADING: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    fn description(manifest: Option<&str>) -> Description {
        Description {
            contract_version: "0.1.0".to_owned(),
            imports: vec![
                "nethost:plugin/types@0.1.0".to_owned(),
                "nethost:plugin/transport@0.1.0".to_owned(),
            ],
            exports: vec!["nethost:plugin/handler@0.1.0".to_owned()],
            manifest: manifest.map(|text| Manifest::parse(text, "f").unwrap()),
            size: 123_456,
        }
    }

    fn shown(description: &Description, style: Style) -> String {
        let manifest = description.manifest.clone();
        let manifest = manifest.unwrap_or_else(|| Manifest::assumed("thing"));
        Report {
            description,
            manifest: &manifest,
            style,
        }
        .to_string()
    }

    const MANIFEST: &str = r#"
[plugin]
name = "relay"
version = "0.1.0"
description = "Passes bytes on"
listen = ["tcp://127.0.0.1:7000"]
isolation = ["worker", "connection"]
[grants]
connect = "to dial the upstream"
[grants.directories.cache]
mode = "rw"
reason = "to keep answers"
[command]
usage = "get URL"
reads = ["-d@", "put 1"]
writes = ["-o"]
name-servers = "to look up MX"
[config.upstream]
type = "string"
description = "Where to dial"
[config.wait]
type = "duration"
default = "30s"
description = "How long to try"
"#;

    #[test]
    fn a_report_is_aligned_and_holds_everything() {
        assert_eq!(
            shown(&description(Some(MANIFEST)), Style::Plain),
            "\
relay 0.1.0: Passes bytes on

contract   0.1.0
size       123 kB
imports    nethost:plugin/types@0.1.0
           nethost:plugin/transport@0.1.0
exports    nethost:plugin/handler@0.1.0
listeners  tcp://127.0.0.1:7000
isolation  worker, connection (the first is the default)
grants     connect             to dial the upstream
           directory cache:rw  to keep answers
command    arguments          get URL
           reads files        -d@, put 1
           writes files       -o
           asks name servers  to look up MX
config     upstream  string    (required)  Where to dial
           wait      duration  30s         How long to try
"
        );
    }

    #[test]
    fn a_report_does_nothing_to_the_terminal() {
        let mut description = description(Some(MANIFEST));
        description.imports.push("x\x1b[2Jy\nz".to_owned());
        let manifest = description.manifest.as_mut().unwrap();
        manifest.description = Some("\u{9b}2J".to_owned());
        manifest.config.get_mut("wait").unwrap().description = "\x07\r".to_owned();
        let text = shown(&description, Style::Plain);
        assert!(
            !text.replace('\n', "").contains(char::is_control),
            "{text:?}"
        );
        for part in [r"x\u{1b}[2Jy\nz", r": \u{9b}2J", r"\u{7}\r"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn a_component_without_a_manifest_says_so() {
        let text = shown(&description(None), Style::Plain);
        assert!(text.starts_with("thing\nit carries no manifest"), "{text}");
        assert!(
            text.contains(
                "\nlisteners  none\nisolation  worker\ngrants     none\nconfig     none\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let description = description(Some(MANIFEST));
        let mut text = shown(&description, Style::Coloured);
        for code in ["\x1b[1m", "\x1b[36m", "\x1b[0m"] {
            assert!(text.contains(code));
            text = text.replace(code, "");
        }
        assert_eq!(text, shown(&description, Style::Plain));
    }

    #[test]
    fn json_holds_everything() {
        let description = description(Some(MANIFEST));
        let value = to_json(&description, description.manifest.as_ref().unwrap());
        assert_eq!(
            value["config"]["wait"],
            json!({"type": "duration", "default": 30_000_000_000u64, "description": "How long to try"})
        );
        assert_eq!(value["config"]["upstream"]["default"], json!(null));
        assert_eq!(value["command"]["reads"], json!(["-d@", "put 1"]));
        assert_eq!(value["isolation"], json!(["worker", "connection"]));
        assert_eq!(value["imports"].as_array().unwrap().len(), 2);
    }
}
