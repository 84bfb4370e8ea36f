//! `nethost user`: the users whose passwords plugins have verified.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::{
    accounts::{
        self, LONGEST_PASSWORD, Users, check_home, check_name,
        edit::{EditError, Editing, Scram, Secrets},
    },
    cli::{Mistake, OrMistake as _},
};

/// Users of services
///
/// They are in a file that `nethost run --users FILE` reads, and reads again when it changed. It has mode 600 and no passwords, but hashes: argon2id, and
/// the keys of SCRAM-SHA-256. It can be edited by hand as well; these commands leave comments and the order of things alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nethost user add ann --group staff --alias ann@example.net --home people/ann
  nethost user passwd ann --file /etc/nethost/users.toml < password
  nethost user list")]
pub(crate) struct User {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    Passwd(Passwd),
    Remove(Remove),
    List(List),
}

/// Add a user; its password is asked for twice, or is the first line of standard input if that is no terminal
#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    user: Named,

    /// A group that the user is in; repeat it for more
    #[arg(long = "group", value_name = "GROUP", value_parser = name)]
    groups: Vec<String>,

    /// Another name that the user may log in with; repeat it for more
    #[arg(long = "alias", value_name = "NAME", value_parser = name)]
    aliases: Vec<String>,

    /// Where the user's files are: a path within a directory that the plugin is granted, such as people/ann
    #[arg(long, value_name = "DIR", value_parser = home)]
    home: Option<String>,

    #[command(flatten)]
    hashes: Hashes,
}

/// Change a user's password; the new one is asked for twice, or is the first line of standard input if that is no terminal
#[derive(Debug, clap::Args)]
struct Passwd {
    #[command(flatten)]
    user: Named,

    #[command(flatten)]
    hashes: Hashes,
}

/// Remove a user
#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    user: Named,
}

/// List the users; a bad file is told with the line of the mistake
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The user's name: 1 to 255 bytes without white space
    #[arg(value_parser = name)]
    name: String,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The users file
    #[arg(long, value_name = "FILE", default_value = "users.toml")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Hashes {
    /// Keep no keys for SCRAM: whoever gets the file finds it harder to guess the password, and clients have to send it
    #[arg(long)]
    no_scram: bool,
}

impl User {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Add(add) => add.execute(),
            Command::Passwd(passwd) => passwd.execute(),
            Command::Remove(remove) => remove.execute(),
            Command::List(list) => list.execute(),
        }
    }
}

impl Add {
    fn execute(self) -> anyhow::Result<()> {
        let Named { name, place } = &self.user;
        let add = |editing: &mut Editing, secrets: &Secrets| {
            editing.add(
                name,
                secrets,
                &self.aliases,
                &self.groups,
                self.home.as_deref(),
            )
        };
        judged(open(&place.file)?.check_free(name, &self.aliases))?;
        change(place, &self.hashes, add)?;
        say(&format!("added {name} to {}", place.file.display()))
    }
}

impl Passwd {
    fn execute(self) -> anyhow::Result<()> {
        let Named { name, place } = &self.user;
        let set = |editing: &mut Editing, secrets: &Secrets| editing.set_password(name, secrets);
        place.check()?;
        judged(open(&place.file)?.check_user(name))?;
        change(place, &self.hashes, set)?;
        say(&format!(
            "changed the password of {name} in {}",
            place.file.display()
        ))
    }
}

impl Remove {
    fn execute(self) -> anyhow::Result<()> {
        let Named { name, place } = &self.user;
        place.check()?;
        let mut editing = open(&place.file)?;
        judged(editing.remove(name))?;
        judged(editing.save())?;
        say(&format!("removed {name} from {}", place.file.display()))
    }
}

impl List {
    fn execute(self) -> anyhow::Result<()> {
        let users = accounts::read(&self.place.file).or_mistake()?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", self.table(&users))?;
            return Ok(());
        }
        for (name, user) in users.iter() {
            write!(out, "{name}")?;
            for (what, values) in [("alias", &user.aliases), ("group", &user.groups)] {
                for value in values {
                    write!(out, "  {what} {value}")?;
                }
            }
            if let Some(home) = &user.home {
                write!(out, "  home {home}")?;
            }
            if user.certificate_count() > 0 {
                write!(out, "  certificates {}", user.certificate_count())?;
            }
            let how = match (user.password.is_some(), user.scram.is_some()) {
                (true, true) => "",
                (true, false) => "  no SCRAM",
                (false, true) => "  SCRAM only",
                (false, false) => "  no password",
            };
            writeln!(out, "{how}")?;
        }
        Ok(())
    }

    fn table(&self, users: &Users) -> serde_json::Value {
        let rows = users.iter().map(|(name, user)| {
            json!({
                "name": name,
                "aliases": user.aliases,
                "groups": user.groups,
                "home": user.home,
                "certificates": user.certificate_count(),
                "password": user.password.is_some(),
                "scram": user.scram.is_some(),
            })
        });
        json!({ "file": self.place.file, "users": rows.collect::<Vec<_>>() })
    }
}

impl Place {
    fn check(&self) -> anyhow::Result<()> {
        if !self.file.exists() {
            let message = format!("there is no users file {}", self.file.display());
            bail!(Mistake::new(message));
        }
        Ok(())
    }
}

/// Makes a change that needs a password. While it is asked for nobody else is kept from the file.
fn change(
    place: &Place,
    hashes: &Hashes,
    change: impl FnOnce(&mut Editing, &Secrets) -> Result<(), EditError>,
) -> anyhow::Result<()> {
    let password = password()?;
    let scram = if hashes.no_scram {
        Scram::LeaveOut
    } else {
        Scram::Keep
    };
    let secrets = judged(Secrets::of(&password, scram))?;
    let mut editing = open(&place.file)?;
    judged(change(&mut editing, &secrets))?;
    judged(editing.save())
}

fn open(file: &Path) -> anyhow::Result<Editing> {
    judged(Editing::open(file))
}

/// What the operator can mend is a mistake.
fn judged<T>(result: Result<T, EditError>) -> anyhow::Result<T> {
    match result {
        Err(error @ EditError::Hash(_)) => Err(error.into()),
        other => other.or_mistake(),
    }
}

/// Asks for a password: on the terminal, or takes the first line of standard input.
fn password() -> anyhow::Result<String> {
    let password = if io::stdin().is_terminal() {
        // A prompt shows before echo is off, and between the two it would be on again.
        let _quiet = Quiet::terminal();
        let ask = |prompt| rpassword::prompt_password(prompt).context("asking for the password");
        let password = ask("Password: ")?;
        if ask("Again: ")? != password {
            bail!(Mistake::new("the two passwords differ".to_owned()));
        }
        password
    } else {
        let mut line = String::new();
        let most = u64::try_from(LONGEST_PASSWORD).unwrap_or(u64::MAX) + 2;
        let mut input = io::stdin().lock().take(most);
        input
            .read_line(&mut line)
            .context("reading the password from standard input")
            .or_mistake()?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    };
    let reason = if password.is_empty() {
        "the password is empty".to_owned()
    } else if password.len() > LONGEST_PASSWORD {
        format!("the password is longer than {LONGEST_PASSWORD} bytes")
    } else if password.contains(char::is_control) {
        "the password has a control character, which SASL forbids (RFC 4013)".to_owned()
    } else {
        return Ok(password);
    };
    bail!(Mistake::new(reason))
}

/// Keeps the terminal from showing what is typed.
#[derive(Debug)]
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    /// Returns nothing if the process has no terminal.
    fn terminal() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut after = before.clone();
        after.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSANOW, &after).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        let _gone = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn home(text: &str) -> Result<String, String> {
    check_home(text).map(|()| text.to_owned())
}
