//! `nethost check`: says what is wrong with a config file.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    num::NonZeroUsize,
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::runtime;

use super::{Mistake, OrMistake as _};
use crate::{
    config::{
        Config, ConfigError, Problem, Problems, Severity, WrittenService, limits,
        prepare::{Effort, Fault, Prepared, prepare, start_fault},
    },
    endpoint::Place,
    engine::Engine,
    manifest::Isolation,
    service::{Host, Protocol},
};

/// Say what is wrong with a config file
///
/// Everything that `nethost serve` would refuse, with file, line, column and what to do about it: the keys of the file, the plugins and their own keys,
/// certificates, users, directories, secrets. Each plugin is compiled, and configured in the sandbox without being able to do anything. Addresses are not
/// bound, and nothing is made or changed. What a plugin asks for and is not granted is a warning.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 it is in order, 2 it is not.

Examples:
  nethost check
  nethost check /etc/nethost/nethost.toml && systemctl reload nethost
  nethost check --json | jq '.problems[] | .line'")]
pub(crate) struct Check {
    /// The config file; nethost.example.toml in the sources explains every key
    #[arg(value_name = "FILE", default_value = "nethost.toml")]
    file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A service as it would be served.
struct Row {
    name: String,
    plugin: String,
    version: Option<String>,
    isolation: Isolation,
    listen: Vec<String>,
    /// Those in force, by their names.
    limits: BTreeMap<&'static str, String>,
}

impl Check {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        let (rows, problems) = match Config::load(&self.file) {
            Ok(config) => look(&config)?,
            Err(ConfigError::Invalid(Problems(problems))) => (Vec::new(), problems),
            Err(error) => return Err(error).or_mistake(),
        };
        let is_wrong = |problem: &&Problem| problem.severity == Severity::Error;
        let mistakes = problems.iter().filter(is_wrong).count();
        if self.json {
            self.tell_json(&rows, &problems)?;
        } else {
            tell(&rows, &problems, mistakes)?;
        }
        let file = self.file.display();
        match mistakes {
            0 => Ok(()),
            1 => bail!(Mistake::new(format!("there is a mistake in {file}"))),
            count => bail!(Mistake::new(format!(
                "there are {count} mistakes in {file}"
            ))),
        }
    }

    fn tell_json(&self, rows: &[Row], problems: &[Problem]) -> io::Result<()> {
        let services = rows.iter().map(|row| {
            json!({
                "name": row.name,
                "plugin": row.plugin,
                "version": row.version,
                "isolation": row.isolation,
                "listen": row.listen,
                "limits": row.limits,
            })
        });
        let told = json!({
            "file": self.file.display().to_string(),
            "problems": problems,
            "services": services.collect::<Vec<_>>(),
        });
        writeln!(io::stdout().lock(), "{told:#}")
    }
}

/// Problems go to standard error, like a compiler's; services, if everything is in order, to standard output.
fn tell(rows: &[Row], problems: &[Problem], mistakes: usize) -> io::Result<()> {
    let mut error = io::stderr().lock();
    for problem in problems {
        writeln!(error, "{problem}")?;
    }
    if mistakes > 0 {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    for row in rows {
        let Row {
            name,
            plugin,
            isolation,
            ..
        } = row;
        let version = row.version.as_deref().unwrap_or("without a version");
        let listen = row.listen.join(", ");
        writeln!(
            out,
            "{name}: {plugin} {version}, isolation {isolation}, {listen}"
        )?;
    }
    Ok(())
}

/// Looks at every service as a start would.
fn look(config: &Config) -> anyhow::Result<(Vec<Row>, Vec<Problem>)> {
    let engine = Engine::new()
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .context("setting up wasmtime")?;
    let host = Host::start(NonZeroUsize::MIN)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the main thread's runtime")?;
    let mut problems = config.warnings.clone();
    let mut rows = Vec::new();
    let mut places: Vec<(Place, String)> = Vec::new();
    for service in &config.services {
        match prepare(&engine, &service.config, Effort::Check) {
            Ok(prepared) => {
                for fault in &prepared.lacking {
                    problems.push(config.problem(service, fault, Severity::Warning));
                }
                rows.extend(row(&prepared));
                let spec = &prepared.spec;
                for endpoint in &spec.listen {
                    let here = Place::of(endpoint);
                    // Those that the file names were compared with each other already; here are those of manifests too.
                    let other = places.iter().find(|(there, _)| there.meets(&here));
                    if let Some((_, other)) = other {
                        let fault = Fault::taken(endpoint, other);
                        problems.push(config.problem(service, &fault, Severity::Error));
                    }
                    places.push((here, spec.program.service.clone()));
                }
                let rehearsed = runtime.block_on(rehearse(&host, prepared));
                if let Err(error) = rehearsed {
                    let fault = start_fault(&service.config, &error);
                    problems.push(config.problem(service, &fault, Severity::Error));
                }
            }
            Err(faults) => problems.extend(wrong(config, service, &faults)),
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Ok((rows, problems))
}

async fn rehearse(host: &Host, prepared: Prepared) -> Result<(), crate::service::ServiceError> {
    if !prepared.is_complete {
        // Without what only a start makes, the plugin could refuse what it will not refuse then.
        return Ok(());
    }
    host.rehearse(prepared.spec).await
}

fn wrong<'a>(
    config: &'a Config,
    service: &'a WrittenService,
    faults: &'a [Fault],
) -> impl Iterator<Item = Problem> + 'a {
    let faults = faults.iter();
    faults.map(|fault| config.problem(service, fault, Severity::Error))
}

fn row(prepared: &Prepared) -> Option<Row> {
    let spec = &prepared.spec;
    let Protocol::Plugin { plugin, .. } = &spec.protocol else {
        return None;
    };
    Some(Row {
        name: spec.program.service.clone(),
        plugin: plugin.manifest.name.clone(),
        version: plugin.manifest.version.clone(),
        isolation: spec.isolation,
        listen: spec.listen.iter().map(ToString::to_string).collect(),
        limits: limits::in_force(&spec.program.limits),
    })
}
