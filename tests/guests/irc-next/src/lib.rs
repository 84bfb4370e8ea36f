//! IRC as `plugins/irc` has it, in a version whose state has another format: what it shares knows how often it moved, and a session's parts have
//! another order.

use nethost_irc::{Irc, Reading, Server, session::state::State};
use nethost_sdk::{
    CloseReason, ConnectionId, Context, Migrate, Origin, Protocol, Refusal, Snapshot,
    export_plugin, framing::Lines, log, with_session,
};
use serde::{Deserialize, Serialize};

struct Next(Irc);

#[derive(Serialize, Deserialize)]
struct Shared {
    /// A field that the other version does not have, before those that it has.
    remark: String,
    network: State,
}

#[derive(Serialize, Deserialize)]
struct Session {
    held: Vec<u8>,
    lines: Lines,
}

impl Protocol for Next {
    type Factory = Server;

    fn connection_made(cx: &mut Context<'_, Server>, origin: Origin) -> Option<Self> {
        let irc = Irc::connection_made(cx, origin)?;
        Some(Self(irc.resumed_by(resume)))
    }

    fn data_received(&mut self, cx: &mut Context<'_, Server>, data: &[u8]) {
        self.0.data_received(cx, data);
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Server>) {
        self.0.read_closed(cx);
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Server>, reason: CloseReason) {
        self.0.connection_lost(cx, reason);
    }
}

fn resume(id: ConnectionId) {
    with_session(id, |next: &mut Next, cx| next.0.resume(cx));
}

impl Snapshot for Next {
    const FORMAT: &'static str = "irc/2";

    type Before = (First,);

    type Shared = Shared;

    type Session = Session;

    fn save(server: &Server) -> Result<Shared, Refusal> {
        First::migrate(<Irc as Snapshot>::save(server)?).map_err(Refusal::Failed)
    }

    fn restore(server: &mut Server, shared: Shared) -> Result<(), String> {
        log::debug!("{}", shared.remark);
        <Irc as Snapshot>::restore(server, shared.network)
    }

    fn save_session(&self) -> Result<Session, Refusal> {
        let reading = <Irc as Snapshot>::save_session(&self.0)?;
        First::migrate_session(reading).map_err(Refusal::Failed)
    }

    fn restore_session(cx: &mut Context<'_, Server>, session: Session) -> Result<Self, String> {
        let reading = First::revert_session(session)?;
        Ok(Self(Irc::restored(cx, reading, resume)))
    }
}

/// The format of `plugins/irc`.
struct First;

impl Migrate<Next> for First {
    const FORMAT: &'static str = "irc/1";

    type Shared = State;

    type Session = Reading;

    fn migrate(network: State) -> Result<Shared, String> {
        Ok(Shared {
            remark: "it came from irc/1".to_owned(),
            network,
        })
    }

    fn migrate_session(Reading { lines, held }: Reading) -> Result<Session, String> {
        Ok(Session { held, lines })
    }

    fn revert(shared: Shared) -> Result<State, String> {
        Ok(shared.network)
    }

    fn revert_session(Session { held, lines }: Session) -> Result<Reading, String> {
        Ok(Reading { lines, held })
    }
}

export_plugin!(Next, swap);
