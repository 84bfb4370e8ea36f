//! What the network wants done, in order.

use std::collections::VecDeque;

use super::event::{ChannelId, ClientId, Transmit};
use crate::{
    codec::{
        encode::encode,
        reply::{encode_cap_reply, encode_reply},
    },
    types::{
        command::{Command, Message},
        name::Nick,
        reply::{CapReply, Reply},
        text::Word,
    },
};

/// Whom a reply goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    pub(super) id: ClientId,
    /// None before there is one, shown as `*`.
    pub(super) nick: Option<Nick>,
}

/// The queue of things to do. The bytes of all of them share one buffer, which is reused once everything has been polled.
#[derive(Debug)]
pub(super) struct Outbox {
    server: String,
    bytes: Vec<u8>,
    read: usize,
    queue: VecDeque<(Action, usize)>,
    work: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Send(ClientId),
    Broadcast(ChannelId, Option<ClientId>),
    Join(ChannelId, ClientId),
    Leave(ChannelId, ClientId),
    Dissolve(ChannelId),
    Close(ClientId),
}

impl Outbox {
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            bytes: Vec::new(),
            read: 0,
            queue: VecDeque::new(),
            work: 0,
        }
    }

    pub(super) fn poll(&mut self) -> Option<Transmit<'_>> {
        let Some((action, end)) = self.queue.pop_front() else {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.read = 0;
            self.work = 0;
            return None;
        };
        let bytes = self.bytes.get(self.read..end).unwrap_or_default();
        self.read = end;
        Some(match action {
            Action::Send(to) => Transmit::Send { to, bytes },
            Action::Broadcast(to, skip) => Transmit::Broadcast { to, skip, bytes },
            Action::Join(channel, client) => Transmit::Join { channel, client },
            Action::Leave(channel, client) => Transmit::Leave { channel, client },
            Action::Dissolve(channel) => Transmit::Dissolve { channel },
            Action::Close(client) => Transmit::Close { client },
        })
    }

    /// Whether nothing waits to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// How much work was done since everything was last transmitted.
    pub(super) fn work(&self) -> usize {
        self.work
    }

    /// Notes work: a line is one unit, and so is what takes about as long.
    pub(super) fn spend(&mut self, units: usize) {
        self.work += units;
    }

    /// How long the name of the server is.
    pub(super) fn server_length(&self) -> usize {
        self.server.len()
    }

    /// Sends a numeric reply.
    pub(super) fn reply(&mut self, to: To, reply: Reply<'_>) {
        encode_reply(
            &mut self.bytes,
            Word::quote(self.server.as_bytes()),
            word(&to.nick),
            &reply,
        );
        self.push(Action::Send(to.id));
    }

    /// Answers CAP.
    pub(super) fn cap(&mut self, to: To, reply: CapReply<'_>) {
        encode_cap_reply(
            &mut self.bytes,
            Word::quote(self.server.as_bytes()),
            word(&to.nick),
            &reply,
        );
        self.push(Action::Send(to.id));
    }

    /// Sends a command to one client.
    pub(super) fn send(&mut self, to: ClientId, prefix: Option<Word<'_>>, command: Command<'_>) {
        encode(&mut self.bytes, &Message { prefix, command });
        self.push(Action::Send(to));
    }

    /// Sends a command to one client in the server's name.
    pub(super) fn send_as_server(&mut self, to: ClientId, command: Command<'_>) {
        encode(
            &mut self.bytes,
            &Message {
                prefix: Some(Word::quote(self.server.as_bytes())),
                command,
            },
        );
        self.push(Action::Send(to));
    }

    /// Sends a command to every member of a channel but one.
    pub(super) fn broadcast(
        &mut self,
        to: ChannelId,
        skip: Option<ClientId>,
        prefix: Word<'_>,
        command: Command<'_>,
    ) {
        encode(
            &mut self.bytes,
            &Message {
                prefix: Some(prefix),
                command,
            },
        );
        self.push(Action::Broadcast(to, skip));
    }

    /// Sends a command to every member of a channel in the server's name.
    pub(super) fn broadcast_as_server(&mut self, to: ChannelId, command: Command<'_>) {
        encode(
            &mut self.bytes,
            &Message {
                prefix: Some(Word::quote(self.server.as_bytes())),
                command,
            },
        );
        self.push(Action::Broadcast(to, None));
    }

    /// Sends a line that is encoded already.
    pub(super) fn send_line(&mut self, to: ClientId, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.push(Action::Send(to));
    }

    /// Sends a line that is encoded already to every member of a channel but one.
    pub(super) fn broadcast_line(&mut self, to: ChannelId, skip: Option<ClientId>, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.push(Action::Broadcast(to, skip));
    }

    pub(super) fn join(&mut self, channel: ChannelId, client: ClientId) {
        self.push(Action::Join(channel, client));
    }

    pub(super) fn leave(&mut self, channel: ChannelId, client: ClientId) {
        self.push(Action::Leave(channel, client));
    }

    pub(super) fn dissolve(&mut self, channel: ChannelId) {
        self.push(Action::Dissolve(channel));
    }

    pub(super) fn close(&mut self, client: ClientId) {
        self.push(Action::Close(client));
    }

    /// Queues an action for the bytes since the last one. Writes in a row to the same receivers become one.
    fn push(&mut self, action: Action) {
        let end = self.bytes.len();
        let is_write = matches!(action, Action::Send(_) | Action::Broadcast(..));
        match self.queue.back_mut() {
            Some((last, last_end)) if is_write && *last == action => *last_end = end,
            _ => self.queue.push_back((action, end)),
        }
    }
}

fn word(nick: &Option<Nick>) -> Word<'_> {
    nick.as_ref().map_or(Word::STAR, Nick::as_word)
}

/// How much of the buffer is kept between commands.
const KEPT: usize = 64 * 1024;
