//! What the kernel keeps this process from, should a bug of the host or of wasmtime let a plugin out of its sandbox.
//!
//! Three things of Linux, each as far as the kernel has it:
//!
//! * **No new privileges** (prctl(2)): no program that is set to another user gains anything.
//! * **Landlock** (landlock(7)): files and folders other than those of [`Reach`] cannot be opened, made, moved or removed; TCP connections go to ports that a grant
//!   names, to none if there is no grant; no signal leaves the process. It holds for the thread that asks for it and those that it starts, so it comes
//!   before the first thread: [`enter`].
//! * **A filter of system calls** (seccomp(2)): what `calls` does not name is not there. It comes once the process has its sockets and is who it is to
//!   be, and holds for all threads: [`limit_calls`].
//!
//! Files that are open already, and sockets, are not concerned. Which ports are listened on is not limited: SIGHUP and plugins may add some.
//!
//! What is to be reached later has to be known at the start. One who adds a part that opens files adds a line to where its settings are turned into a [`Reach`]:
//!
//! ```ignore
//! reach.allow(&coredump, Access::Write);  // a folder, and everything in it
//! reach.allow(&socket, Access::Socket);   // a UNIX socket, which is made and removed
//! ```

mod calls;

mod reach;

use std::{io, path::Path, sync::OnceLock};

use clap::ValueEnum;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
pub(crate) use reach::{Access, Reach, listener_files, tls_files};

/// Whether the process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Confinement {
    /// As far as the kernel can.
    #[default]
    On,
    /// Not at all.
    Off,
}

/// What this process was confined to. The kernel takes nothing of it back.
static CONFINED: OnceLock<Confined> = OnceLock::new();

#[derive(Debug)]
struct Confined {
    reach: Reach,
    /// Folders of /proc: the kernel makes others when nobody has these open, to which the rules would not apply.
    _held: Vec<PathFd>,
}

/// What became of it, for the log.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    applied: Vec<String>,
    missing: Vec<String>,
}

/// Confines the calling thread, and all that it starts from now on, to what is to be reached. It has to be the only one.
pub(crate) fn enter(reach: Reach) -> Outcome {
    let mut outcome = Outcome::default();
    match rustix::thread::set_no_new_privs(true) {
        Ok(()) => outcome.applied.push("no new privileges".to_owned()),
        Err(error) => outcome.missing.push(format!("no new privileges ({error})")),
    }
    match restrict(&reach) {
        Ok((applied, held)) => {
            outcome.applied.push(applied);
            // It is entered once.
            let _entered = CONFINED.set(Confined { reach, _held: held });
        }
        Err(why) => outcome
            .missing
            .push(format!("files and connections ({why})")),
    }
    outcome
}

/// Leaves all threads of the process, and those to come, the system calls that it needs.
pub(crate) fn limit_calls(outcome: &mut Outcome) {
    match calls::limit() {
        Ok(()) => outcome.applied.push("system calls".to_owned()),
        Err(error) => {
            let error = crate::chain(&error);
            outcome.missing.push(format!("system calls ({error})"));
        }
    }
}

impl Outcome {
    /// Says what was applied, and what was not.
    pub(crate) fn tell(&self) {
        if !self.applied.is_empty() {
            tracing::info!("confined: {}", self.applied.join(", "));
        }
        if !self.missing.is_empty() {
            tracing::warn!(
                "not confined as far as it could be, because the kernel refuses: {}",
                self.missing.join(", ")
            );
        }
    }
}

/// Says that nothing is confined, because the operator wants it so.
pub(crate) fn tell_off() {
    tracing::warn!("not confined: confinement is off");
}

/// Returns whether something lies outside of what the process was confined to.
pub(crate) fn excludes(path: &Path, access: Access) -> bool {
    CONFINED
        .get()
        .is_some_and(|confined| !confined.reach.covers(path, access))
}

/// Returns whether more is to be connected to than the process was confined to.
pub(crate) fn excludes_connections(of: &Reach) -> bool {
    CONFINED
        .get()
        .is_some_and(|confined| !confined.reach.covers_connections(of))
}

/// Says of an error whether the confinement is the likely cause, and what to do; nothing if it is another.
pub(crate) fn hint(path: &Path, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied && excludes(path, Access::Read) {
        OUTSIDE
    } else {
        ""
    }
}

/// What there is to do about a path that was not known at the start.
pub(crate) const OUTSIDE: &str = ": it is outside of what nethost was confined to when it started; start it anew, or start it with confinement off";

/// Applies Landlock. Returns what of it the kernel has.
fn restrict(reach: &Reach) -> Result<(String, Vec<PathFd>), String> {
    let failed = |error: RulesetError| crate::chain(&error);
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .map_err(failed)?;
    let ports = reach.ports();
    if ports.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(failed)?;
    }
    ruleset = ruleset.scope(Scope::Signal).map_err(failed)?;
    if !reach.uses_abstract_sockets() {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket).map_err(failed)?;
    }
    let mut ruleset = ruleset.create().map_err(failed)?;
    let mut held = Vec::new();
    for (path, rights) in reach.rules() {
        // What is gone meanwhile is missed by who needs it.
        let Ok(fd) = PathFd::new(path) else { continue };
        let rule = PathBeneath::new(&fd, rights);
        ruleset = ruleset.add_rule(rule).map_err(failed)?;
        if path.starts_with("/proc") {
            held.push(fd);
        }
    }
    for port in ports.into_iter().flatten() {
        let rule = NetPort::new(*port, AccessNet::ConnectTcp);
        ruleset = ruleset.add_rule(rule).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(failed)?;
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        return Err("it has no Landlock".to_owned());
    };
    if status.ruleset == landlock::RulesetStatus::NotEnforced {
        return Err(format!(
            "its Landlock, version {}, is too old",
            effective_abi as i32
        ));
    }
    let mut applied = vec!["files"];
    if effective_abi >= ABI::V4 {
        applied.extend(ports.map(|ports| match ports.is_empty() {
            true => "no TCP connections",
            false => "ports of TCP connections",
        }));
    }
    if effective_abi >= ABI::V6 {
        applied.push("signals");
    }
    Ok((applied.join(", "), held))
}

/// The newest version of Landlock that this was written for. Of an older kernel's it takes what there is.
const LANDLOCK: ABI = ABI::V7;

#[cfg(test)]
mod tests;
