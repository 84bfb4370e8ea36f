//! How users are loaded again.

use super::Accounts;
use crate::watch::{Look, NotLoaded, Reload, Snapshot};

impl Reload for Accounts {
    const WHAT: &'static str = "users";

    fn look(&self) -> Snapshot {
        Snapshot::of(&self.path)
    }

    fn differs(&self, snapshot: &Snapshot) -> bool {
        self.has_loaded_other(snapshot)
    }

    fn load(&self, _: Look, service: &str) -> Result<(), NotLoaded> {
        match self.load_again() {
            Ok(count) => {
                tracing::info!(service, "the users file was loaded: {count} users");
                Ok(())
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(service, "the users stay as they were: {error}");
                Err(NotLoaded)
            }
        }
    }
}
