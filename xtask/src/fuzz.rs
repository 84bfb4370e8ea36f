//! `cargo xtask fuzz`: the targets of the crate `nethost-fuzz`, one after the other, with libFuzzer.
//!
//! It takes no nightly compiler: the flags for coverage are stable ones. They reach the crates of this workspace alone, through the wrapper that cargo offers for that, which is
//! this program again; so all other crates are those of a usual build.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::{
    build,
    command::{Cmd, say},
    places::Places,
    setup,
};

/// Run fuzz targets, one after the other; each ends at its first finding
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                                all targets, a minute each
  cargo xtask fuzz --seconds 600 contract proxy   two of them, ten minutes each
  cargo xtask fuzz proxy --input FILE             one input again
  cargo xtask fuzz proxy --minimize FILE          a smaller input that breaks it too

fuzz/README.md tells how to add a target, and what to do with a finding. Inputs that were found grow in
~/.cache/nethost/fuzz/corpus, and findings are left in ~/.cache/nethost/fuzz/findings.")]
pub(crate) struct Fuzz {
    /// The targets [default: all]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only list the targets
    #[arg(long)]
    list: bool,
    /// Tell the results as JSON
    #[arg(long)]
    json: bool,
    /// Run one target with this file and nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["minimize", "list"])]
    input: Option<PathBuf>,
    /// Look for a smaller file with which the target breaks as well, for as long as --seconds says
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    minimize: Option<PathBuf>,
}

/// What `nethost-fuzz` says of a target.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    name: String,
    longest: usize,
    seeds: Vec<PathBuf>,
}

/// How a target went.
#[derive(Debug, Default)]
struct Outcome {
    name: String,
    runs: u64,
    per_second: u64,
    /// Edges of the code that were reached.
    coverage: u64,
    corpus: u64,
    finding: Option<PathBuf>,
    /// The last lines, if it ended with a failure.
    said: Vec<String>,
    failed: bool,
}

pub(crate) fn run(places: &Places, fuzz: &Fuzz) -> anyhow::Result<()> {
    setup::cpp()?;
    let program = build(places)?;
    let all = targets(&program)?;
    if fuzz.list {
        for target in &all {
            println!("{}", target.name);
        }
        return Ok(());
    }
    let chosen = chosen(&all, &fuzz.targets)?;
    if chosen.iter().any(|target| target.name == CONTRACT) {
        guest(places)?;
    }
    if fuzz.input.is_some() || fuzz.minimize.is_some() {
        let [target] = *chosen else {
            bail!("--input and --minimize take one target");
        };
        return once(places, &program, target, fuzz);
    }
    let mut outcomes = Vec::new();
    for target in chosen {
        outcomes.push(fuzz_one(places, &program, target, fuzz.seconds)?);
    }
    if fuzz.json {
        let told: Vec<_> = outcomes.iter().map(Outcome::json).collect();
        println!("{}", serde_json::Value::Array(told));
    } else {
        print!("{}", table(&outcomes));
    }
    let failed: Vec<_> = outcomes.iter().filter(|it| it.failed).collect();
    for outcome in &failed {
        outcome.tell();
    }
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} targets found something", outcomes.len()),
    }
}

fn chosen<'a>(all: &'a [Target], names: &[String]) -> anyhow::Result<Vec<&'a Target>> {
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |name: &String| {
        let known = || all.iter().map(|it| it.name.as_str()).collect::<Vec<_>>();
        let found = all.iter().find(|target| target.name == *name);
        found.with_context(|| format!("no target `{name}`; there are {}", known().join(", ")))
    };
    names.iter().map(find).collect()
}

// Building.

/// Builds the program with all targets.
fn build(places: &Places) -> anyhow::Result<PathBuf> {
    say("building the fuzz targets");
    places
        .cargo()
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "nethost-fuzz",
        ])
        .args(["--bin", "fuzz", "--features", "libfuzzer"])
        .env("RUSTC_WORKSPACE_WRAPPER", env::current_exe()?)
        .env(WRAPPER, "1")
        .run()?;
    Ok(places.target.join("release/fuzz"))
}

/// Builds what the target `contract` runs: a guest that does what the input says, and its neighbour.
fn guest(places: &Places) -> anyhow::Result<()> {
    setup::wasm_std()?;
    let host = build::host(places, build::Profile::Release)?;
    build::plugins(places, &host, &[places.root.join("plugins/echo")])?;
    Cmd::new(host)
        .arg("build")
        .arg(places.root.join("tests/guests/interprets"))
        .arg("--out")
        .arg(places.target.join("guests"))
        .env("CARGO_TARGET_DIR", &places.target)
        .run()
}

/// If cargo calls this program as a compiler, calls the compiler with what counts the edges that are taken.
pub(crate) fn as_compiler() -> Option<ExitCode> {
    env::var_os(WRAPPER)?;
    let mut words = env::args_os().skip(1);
    let rustc = words.next()?;
    let arguments: Vec<OsString> = words.collect();
    let mut command = Command::new(rustc);
    command.args(&arguments);
    if is_instrumented(&arguments) {
        command.args(COVERAGE);
    }
    // The compiler's own children are compilers.
    let status = command.env_remove(WRAPPER).status();
    let code = status.ok().and_then(|status| status.code());
    Some(
        code.and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
    )
}

/// Cargo also asks the compiler for its version; and build scripts have no fuzzer to count for.
fn is_instrumented(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip_while(|word| *word != "--crate-name");
    let name = words.nth(1);
    name.is_some_and(|name| name != "build_script_build" && name != "___")
}

/// What cargo-fuzz passes without a sanitizer, and what a test would notice.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Says that this program is called by cargo in place of the compiler.
const WRAPPER: &str = "NETHOST_FUZZ_COMPILES";

// Running.

/// Asks the program for its targets.
fn targets(program: &Path) -> anyhow::Result<Vec<Target>> {
    let list = Cmd::new(program).env("NETHOST_FUZZ_TARGET", "--list");
    let list = list
        .answer()
        .context("the fuzz program does not list its targets")?;
    parse_list(&list).context("the fuzz program lists its targets in another form")
}

/// `NAME LONGEST SEEDS,SEEDS`, a line each.
fn parse_list(text: &str) -> Option<Vec<Target>> {
    let target = |line: &str| {
        let mut words = line.split(' ');
        Some(Target {
            name: words.next()?.to_owned(),
            longest: words.next()?.parse().ok()?,
            seeds: words.next()?.split(',').map(PathBuf::from).collect(),
        })
    };
    text.lines().map(target).collect()
}

fn fuzz_one(
    places: &Places,
    program: &Path,
    target: &Target,
    seconds: u32,
) -> anyhow::Result<Outcome> {
    let folders = Folders::of(places, target)?;
    say(format_args!("fuzzing {} for {seconds} s", target.name));
    let mut command = call(places, program, target);
    command
        .arg(&folders.corpus)
        .arg(&folders.seeds)
        .arg(format!("-artifact_prefix={}/", folders.findings.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2560"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    let mut outcome = Outcome {
        name: target.name.clone(),
        ..Outcome::default()
    };
    let mut log = fs::File::create(&folders.log)?;
    if let Some(output) = child.stderr.take() {
        let is_watched = std::io::stderr().is_terminal();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            log.write_all(&line)?;
            log.write_all(b"\n")?;
            let line = String::from_utf8_lossy(&line);
            outcome.take(&line);
            if is_watched && line.starts_with('#') {
                let Outcome { runs, coverage, .. } = outcome;
                eprint!("\r    {runs} runs, {coverage} edges \u{1b}[K");
            }
        }
        if is_watched {
            eprintln!();
        }
    }
    outcome.failed = !child.wait()?.success();
    Ok(outcome)
}

/// Runs one input, or makes it smaller.
fn once(places: &Places, program: &Path, target: &Target, fuzz: &Fuzz) -> anyhow::Result<()> {
    let folders = Folders::of(places, target)?;
    let here = env::current_dir()?;
    let mut command = call(places, program, target);
    if let Some(file) = &fuzz.input {
        command.arg(here.join(file));
    }
    if let Some(file) = &fuzz.minimize {
        let prefix = format!("-artifact_prefix={}/", folders.findings.display());
        command
            .args(["-minimize_crash=1", &prefix])
            .arg(format!("-max_total_time={}", fuzz.seconds))
            .arg(here.join(file));
    }
    let status = command.status()?;
    if !status.success() {
        bail!("{} does not hold ({status})", target.name);
    }
    Ok(())
}

fn call(places: &Places, program: &Path, target: &Target) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(&places.root)
        .env("NETHOST_FUZZ_TARGET", &target.name)
        .env("NETHOST_GUESTS", places.target.join("guests"));
    command
}

/// Where a target's files are, all outside of the checkout.
struct Folders {
    /// What the fuzzer found worth keeping, of all times.
    corpus: PathBuf,
    /// Copies of the seeds in the checkout.
    seeds: PathBuf,
    findings: PathBuf,
    log: PathBuf,
}

impl Folders {
    fn of(places: &Places, target: &Target) -> anyhow::Result<Self> {
        let base = places.cache.join("fuzz");
        let folder = |kind: &str| -> anyhow::Result<PathBuf> {
            let folder = base.join(kind).join(&target.name);
            let context = || format!("making {}", folder.display());
            fs::create_dir_all(&folder).with_context(context)?;
            Ok(folder)
        };
        let this = Self {
            corpus: folder("corpus")?,
            seeds: folder("seeds")?,
            findings: folder("findings")?,
            log: folder("log")?.join("last.txt"),
        };
        copy_seeds(places, target, &this.seeds)?;
        Ok(this)
    }
}

/// The fuzzer takes folders, and seeds are files too. Those of before may be gone.
fn copy_seeds(places: &Places, target: &Target, folder: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir(folder)?;
    let mut files = Vec::new();
    for place in &target.seeds {
        let place = places.root.join(place);
        if place.is_dir() {
            for entry in fs::read_dir(place)? {
                files.push(entry?.path());
            }
        } else {
            files.push(place);
        }
    }
    for (index, file) in files.iter().enumerate() {
        let copied = fs::copy(file, folder.join(index.to_string()));
        copied.with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

// Telling.

impl Outcome {
    /// Takes what libFuzzer says: `#4096 pulse  cov: 210 ft: 511 corp: 74/2Kb ...`, `stat::number_of_executed_units: 4096`, and where it left a finding.
    fn take(&mut self, line: &str) {
        self.said.push(line.to_owned());
        if self.said.len() > TOLD {
            self.said.remove(0);
        }
        if let Some(rest) = line.strip_prefix('#') {
            let mut words = rest.split_ascii_whitespace();
            if let Some(runs) = words.next().and_then(|word| word.parse().ok()) {
                self.runs = runs;
            }
            let after = |name: &str| {
                let mut words = rest
                    .split_ascii_whitespace()
                    .skip_while(|word| *word != name);
                words.nth(1)?.split('/').next()?.parse().ok()
            };
            self.coverage = after("cov:").unwrap_or(self.coverage);
            self.corpus = after("corp:").unwrap_or(self.corpus);
        }
        let number = |name: &str| line.strip_prefix(name)?.trim().parse().ok();
        if let Some(runs) = number("stat::number_of_executed_units:") {
            self.runs = runs;
        }
        if let Some(rate) = number("stat::average_exec_per_sec:") {
            self.per_second = rate;
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.finding = Some(path.trim().into());
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "target": self.name,
            "runs": self.runs,
            "per-second": self.per_second,
            "coverage": self.coverage,
            "corpus": self.corpus,
            "failed": self.failed,
            "finding": self.finding,
        })
    }

    /// Says what was found, and how to see it again.
    fn tell(&self) {
        eprintln!("\n{}:", self.name);
        for line in &self.said {
            eprintln!("    {line}");
        }
        if let Some(file) = &self.finding {
            let (name, file) = (&self.name, file.display());
            eprintln!("  again: cargo xtask fuzz {name} --input {file}");
        }
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!(
        "{:<16} {:>12} {:>9} {:>9} {:>7}  {}\n",
        "target", "runs", "per s", "coverage", "corpus", "findings"
    );
    for outcome in outcomes {
        let findings = u8::from(outcome.failed);
        table += &format!(
            "{:<16} {:>12} {:>9} {:>9} {:>7}  {findings}\n",
            outcome.name, outcome.runs, outcome.per_second, outcome.coverage, outcome.corpus
        );
    }
    table
}

/// The target that runs a guest.
const CONTRACT: &str = "contract";

/// Lines that are shown of one that failed.
const TOLD: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let mut outcome = Outcome::default();
        for line in [
            "INFO: Running with entropic power schedule (0xFF, 100).",
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#4096\tpulse  cov: 210 ft: 511 corp: 74/2Kb lim: 8 exec/s: 2048 rss: 41Mb",
            "thread '<unnamed>' panicked at fuzz/src/text.rs:3:5:",
            "artifact_prefix='/c/proxy/'; Test unit written to /c/proxy/crash-ab",
            "stat::number_of_executed_units: 5000",
            "stat::average_exec_per_sec:     2500",
        ] {
            outcome.take(line);
        }
        let Outcome {
            runs,
            per_second,
            coverage,
            corpus,
            ..
        } = outcome;
        assert_eq!((runs, per_second, coverage, corpus), (5000, 2500, 210, 74));
        assert_eq!(
            outcome.finding.as_deref(),
            Some(Path::new("/c/proxy/crash-ab"))
        );
        assert!(outcome.said.iter().any(|line| line.contains("panicked")));
    }

    #[test]
    fn only_what_is_compiled_for_the_fuzzer_is_counted() {
        for (words, expected) in [
            ("-vV", false),
            ("- --crate-name ___ --print=file-names", false),
            ("--crate-name build_script_build build.rs", false),
            ("--crate-name nethost --edition=2024 src/lib.rs", true),
        ] {
            let arguments: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(is_instrumented(&arguments), expected, "{words}");
        }
    }

    #[test]
    fn the_list_of_targets_is_understood() {
        let list = parse_list("proxy 700 fuzz/corpus/proxy\nconfig 4096 a.toml,b").unwrap();
        let [proxy, config] = &*list else {
            panic!("{list:?}")
        };
        assert_eq!((&*proxy.name, proxy.longest), ("proxy", 700));
        assert_eq!(config.seeds, [PathBuf::from("a.toml"), PathBuf::from("b")]);
        assert_eq!(parse_list("proxy seven x"), None);
        let names = ["proxy".to_owned(), "smtp".to_owned()];
        let error = chosen(&list, &names).unwrap_err().to_string();
        assert_eq!(error, "no target `smtp`; there are proxy, config");
    }
}
