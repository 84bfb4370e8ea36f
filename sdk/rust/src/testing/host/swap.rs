//! A swap of the plugin for another version.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    super::reactor::{self, Connection},
    Host, Peer,
};
use crate::{
    connection::ConnectionId,
    instance::{self, Session, Suspended},
    protocol::{Refusal, Swap},
};

impl<P: Swap> Host<P> {
    /// Moves the state to another version of the plugin, which takes over the connections. If that fails, everything is back with the old one.
    pub fn swap<N: Swap>(mut self, config: &str) -> Result<Host<N>, (Self, SwapError)> {
        let Some(format) = N::FORMATS.iter().find(|format| P::FORMATS.contains(format)) else {
            return Err((self, SwapError::NoCommonFormat));
        };
        let mut saved = BTreeMap::new();
        let factory = match instance::save::<P>(format) {
            Ok(state) => state,
            Err(refusal) => return Err((self, SwapError::Refused(refusal))),
        };
        for (id, peer) in &self.peers {
            match peer
                .session
                .as_ref()
                .map(|session| session.save(format))
                .transpose()
            {
                Ok(state) => saved.insert(*id, state),
                Err(refusal) => return Err((self, SwapError::Refused(refusal))),
            };
        }
        let snapshots: Vec<_> = self
            .peers
            .values()
            .map(|peer| (Rc::clone(&peer.wire), peer.wire.snapshot()))
            .collect();
        let metrics = reactor::with(|reactor| {
            let before = reactor.metrics.clone();
            reactor.metrics.renew();
            before
        });
        let old = Suspended::take();
        match Self::restore_all::<N>(&self.peers, saved, format, config, &factory) {
            Ok(mut sessions) => {
                // The host drops the old instance without running its destructors.
                std::mem::forget(old);
                let mut peers = BTreeMap::new();
                while let Some((id, mut peer)) = self.peers.pop_first() {
                    std::mem::forget(peer.session.take());
                    peers.insert(id, peer.with_session(sessions.remove(&id)));
                }
                reactor::forget_orphans();
                reactor::with(|reactor| reactor.metrics.commit());
                // The new version's sockets are bound anew.
                std::mem::forget(self.sockets);
                let mut host = Host {
                    peers,
                    sockets: BTreeMap::new(),
                };
                host.settle();
                Ok(host)
            }
            Err(why) => {
                // What the new instance did is undone; its handles must not close the old one's connections.
                std::mem::forget(Suspended::take());
                old.resume();
                reactor::forget_orphans();
                reactor::with(|reactor| reactor.metrics = metrics);
                for (wire, put_back) in snapshots {
                    put_back(&wire);
                }
                Err((self, SwapError::NotRestored(why)))
            }
        }
    }

    fn restore_all<N: Swap>(
        peers: &BTreeMap<ConnectionId, Peer<P>>,
        saved: BTreeMap<ConnectionId, Option<Vec<u8>>>,
        format: &str,
        config: &str,
        factory: &[u8],
    ) -> Result<BTreeMap<ConnectionId, Session<N>>, String> {
        instance::configure::<N>(config.to_owned())?;
        instance::restore::<N>(format, factory)?;
        let mut sessions = BTreeMap::new();
        for (id, state) in saved {
            let (Some(state), Some(peer)) = (state, peers.get(&id)) else {
                continue;
            };
            match Session::<N>::restore(Connection::new(Rc::clone(&peer.wire)), format, &state) {
                Ok(session) => sessions.insert(id, session),
                Err(why) => {
                    std::mem::forget(sessions);
                    return Err(why);
                }
            };
        }
        Ok(sessions)
    }
}

/// Why a swap did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapError {
    /// The two versions have no state format in common.
    NoCommonFormat,
    /// The old version did not save.
    Refused(Refusal),
    /// The new version did not take over; this is what it said.
    NotRestored(String),
}
