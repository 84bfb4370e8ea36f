//! What goes into a network, and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Names a client; the contract's connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId(pub u64);

/// Names a channel, and its group; never used again after the channel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelId(pub u64);

/// The two times that a session needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Since a fixed moment; never goes back. What timeouts are measured with.
    pub monotonic: Duration,
    /// Since 1970. What users are told.
    pub wall: Duration,
}

impl Now {
    /// Seconds since 1970.
    pub(super) fn seconds(self) -> u64 {
        self.wall.as_secs()
    }
}

/// Why a connection was lost, in the words that others read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client closed it without QUIT.
    Closed,
    /// The network lost it.
    Reset,
    /// The host saw no byte for the service's idle timeout.
    Idle,
    /// The client did not read what was sent to it, or another limit of the service was reached.
    Limit,
    /// TLS failed.
    Tls,
    /// The service is going away.
    Draining,
    /// Anything else.
    Other,
}

impl Loss {
    /// What others read.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Closed => "Remote host closed the connection",
            Self::Reset => "Connection reset by peer",
            Self::Idle => "Connection timed out",
            Self::Limit => "SendQ exceeded",
            Self::Tls => "TLS error",
            Self::Draining => "Server shutting down",
            Self::Other => "Connection lost",
        }
    }
}

/// One thing to do. The order in which they are polled is the order in which they must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// Write bytes to one client: one or more whole lines.
    Send {
        /// Whom.
        to: ClientId,
        /// What.
        bytes: &'a [u8],
    },
    /// Write bytes to every member of a channel's group.
    Broadcast {
        /// Which channel.
        to: ChannelId,
        /// The member that must not get them.
        skip: Option<ClientId>,
        /// What.
        bytes: &'a [u8],
    },
    /// Add a client to a channel's group; the group is made if it is not there.
    Join {
        /// Which channel.
        channel: ChannelId,
        /// Who.
        client: ClientId,
    },
    /// Remove a client from a channel's group.
    Leave {
        /// Which channel.
        channel: ChannelId,
        /// Who.
        client: ClientId,
    },
    /// Drop a channel's group: the channel is gone.
    Dissolve {
        /// Which channel.
        channel: ChannelId,
    },
    /// Close a client's connection once everything is sent. Nothing else will be said to it.
    Close {
        /// Which client.
        client: ClientId,
    },
}
