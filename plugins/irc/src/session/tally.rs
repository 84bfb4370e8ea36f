//! How often which command came, for who watches the server.

use crate::types::command::{Command, Query, Verb};

/// Commands since they were last asked for.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What there is something of: as many as there are verbs, at most.
    counts: Vec<(Option<Verb>, u64)>,
}

impl Tally {
    /// Counts a line: by its verb, if it has one that this server knows.
    pub(super) fn count(&mut self, verb: Option<Verb>) {
        match self.counts.iter_mut().find(|(known, _)| *known == verb) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((verb, 1)),
        }
    }

    /// The next verb, and how often it came; it is forgotten then.
    pub(super) fn poll(&mut self) -> Option<(Option<Verb>, u64)> {
        self.counts.pop()
    }
}

impl Command<'_> {
    /// The first word of it.
    pub(super) fn verb(&self) -> Verb {
        match self {
            Self::Pass(_) => Verb::Pass,
            Self::Nick(_) => Verb::Nick,
            Self::User(..) => Verb::User,
            Self::Cap(_) => Verb::Cap,
            Self::Oper(..) => Verb::Oper,
            Self::Quit(_) => Verb::Quit,
            Self::Error(_) => Verb::Error,
            Self::Ping(_) => Verb::Ping,
            Self::Pong(..) => Verb::Pong,
            Self::Join(..) | Self::LeaveAll => Verb::Join,
            Self::Part(..) => Verb::Part,
            Self::ChannelMode(..) | Self::UserMode(..) => Verb::Mode,
            Self::Topic(..) => Verb::Topic,
            Self::Names(_) => Verb::Names,
            Self::List(_) => Verb::List,
            Self::Invite(..) => Verb::Invite,
            Self::Kick(..) => Verb::Kick,
            Self::Privmsg(..) => Verb::Privmsg,
            Self::Notice(..) => Verb::Notice,
            Self::Away(_) => Verb::Away,
            Self::Wallops(_) => Verb::Wallops,
            Self::Kill(..) => Verb::Kill,
            Self::Who(..) => Verb::Who,
            Self::Whois(..) => Verb::Whois,
            Self::Whowas(..) => Verb::Whowas,
            Self::Ison(_) => Verb::Ison,
            Self::Userhost(_) => Verb::Userhost,
            Self::Server(query, _) => match query {
                Query::Motd => Verb::Motd,
                Query::Lusers => Verb::Lusers,
                Query::Version => Verb::Version,
                Query::Time => Verb::Time,
                Query::Admin => Verb::Admin,
                Query::Info => Verb::Info,
            },
            Self::Links(_) => Verb::Links,
            Self::Disabled(verb) => *verb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode::decode;

    #[test]
    fn every_verb_is_counted_as_itself() {
        for verb in Verb::ALL {
            let line = format!("{} a b c d", verb.name());
            let decoded = decode(line.as_bytes());
            let counted = match &decoded {
                Ok(message) => Some(message.command.verb()),
                Err(error) => error.verb(),
            };
            assert_eq!(counted, Some(*verb), "{line}: {decoded:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_forgotten() {
        let mut tally = Tally::default();
        for verb in [Some(Verb::Ping), None, Some(Verb::Ping)] {
            tally.count(verb);
        }
        assert_eq!(tally.poll(), Some((None, 1)));
        assert_eq!(tally.poll(), Some((Some(Verb::Ping), 2)));
        assert_eq!(tally.poll(), None);
    }
}
