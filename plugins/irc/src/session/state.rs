//! What moves to another version of the server at a swap: everything but the configuration, and what can be made of the rest.

use serde::{Deserialize, Serialize};

use super::{
    Network, Phase,
    event::{ChannelId, ClientId, Now},
    user::{Link, User},
    whowas::Whowas,
    world::World,
};

/// A network's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    is_draining: bool,
    started: Now,
    relays: u64,
    world: World,
    whowas: Whowas,
}

impl Network {
    /// Its state; none while there is something to transmit.
    pub fn state(&self) -> Option<State> {
        self.out.is_empty().then(|| State {
            is_draining: self.phase == Phase::Draining,
            started: self.started,
            relays: self.relays,
            world: self.world.clone(),
            whowas: self.whowas.clone(),
        })
    }

    /// Goes on from a state, in the place of what was there.
    pub fn restore(&mut self, state: State) {
        let State {
            is_draining,
            started,
            relays,
            mut world,
            mut whowas,
        } = state;
        world.index();
        whowas.index();
        let users = world.users.values().map(|user| &user.link);
        let others = world.unregistered.values().map(|client| &client.link);
        let deadline = |link: &Link| (link.wake, link.id);
        self.deadlines = users.chain(others).map(deadline).collect();
        self.phase = if is_draining {
            Phase::Draining
        } else {
            Phase::Serving
        };
        self.started = started;
        self.relays = relays;
        self.world = world;
        self.whowas = whowas;
    }

    /// Whether this client is one of the network's, and has not been told to go.
    pub fn knows(&self, client: ClientId) -> bool {
        self.world.users.contains_key(&client) || self.world.unregistered.contains_key(&client)
    }

    /// The channels that a client is in.
    pub fn channels_of(&self, client: ClientId) -> impl Iterator<Item = ChannelId> {
        let user: Option<&User> = self.world.user(client);
        user.into_iter()
            .flat_map(|user| user.channels.iter().copied())
    }
}
