//! What is about accounts.

use crate::{State, bindings::nethost::plugin::accounts, number};

impl State {
    /// Does what is about accounts, and says whether it was that.
    pub(crate) fn step_of_accounts(
        &mut self,
        sender: u64,
        target: u64,
        word: &str,
        rest: &str,
    ) -> bool {
        let connection = self.peers[&target].handle.as_ref();
        let id = match (word, connection) {
            ("verify", Some(connection)) => {
                let (user, password) = rest.split_once(' ').expect("verify USER PASSWORD");
                accounts::verify(connection, user, password)
            }
            ("verify-long", Some(connection)) => {
                accounts::verify(connection, "ann", &"x".repeat(number(rest) as usize))
            }
            ("external", Some(connection)) => {
                accounts::external(connection, (rest != "-").then_some(rest))
            }
            ("scram-first", Some(connection)) => accounts::scram_first(connection, rest.as_bytes()),
            ("scram-final", Some(connection)) => accounts::scram_final(connection, rest.as_bytes()),
            ("take-account", _) => {
                let account = accounts::take_account(number(rest));
                let words = account.map_or_else(
                    || "none".to_owned(),
                    |account| {
                        let home = account.home.as_deref().unwrap_or("-");
                        format!("{} {} {home}", account.name, account.groups.join(","))
                    },
                );
                self.answer(sender, &words);
                return true;
            }
            ("anonymous", _) => {
                self.answer(sender, &accounts::anonymous_granted().to_string());
                return true;
            }
            _ => return false,
        };
        self.started(sender, id, "");
        true
    }
}
