//! What a service manager and an operator expect of a process that serves: it says when it is ready, gives up root, can be found by its pid, and
//! takes as many descriptors as it is allowed; and the kernel keeps it from all that it does not need.

pub(crate) mod confinement;

pub(crate) mod identity;

pub(crate) mod notify;

pub(crate) mod lock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: every connection is a descriptor, and the soft limit is often 1024.
pub(crate) fn raise_file_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    if before == raised {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        let current = before.current.unwrap_or(u64::MAX);
        tracing::warn!(%error, "the limit of open files stays at {current}");
    }
}
