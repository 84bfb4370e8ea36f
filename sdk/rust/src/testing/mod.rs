//! Tests without wasm, sockets and sleep: [`Host`] runs a [`Protocol`](crate::Protocol) natively, with a clock that the test moves;
//! [`play_directory`] plays whole dialogues.
//!
//! A [command](crate::command) runs with [`Host::run`], its standard input, output and exit code under the test's control.
//!
//! # Transcripts
//!
//! A dialogue is a text file, one step a line:
//!
//! ```text
//! # a comment
//! config: {"motd": "hello"}
//! C: NICK ann
//! S: 001 ann :{*}
//! C[bob]: NICK ann
//! S[bob]: 433 {*}
//! C! QUIT\n
//! S! ERROR :bye\r\n
//! E:
//! ```
//!
//! | line | means |
//! |---|---|
//! | `C: text` | the client sends the text and CR LF |
//! | `C! bytes` | the client sends exactly these bytes; `\r`, `\n`, `\t`, `\0`, `\\` and `\x7f` are escapes |
//! | `S: text` | the server sends this line and CR LF; `{*}` stands for anything within the line |
//! | `S! bytes` | the server sends exactly these bytes |
//! | `X:` | the client closes its writing half |
//! | `E:` | the server has closed: nothing more comes |
//! | `H:` | the TLS handshake that the server waits for ([`Connection::start_tls`](crate::Connection::start_tls)) succeeds; what clients sent before it in clear is lost |
//! | `T: 30s` | time passes (`ms`, `s`, `m`, `h`); only where the clock can be moved |
//! | `config: {…}` | first line only: JSON that is merged over the plugin's test configuration |
//!
//! Several clients are told apart as `C[bob]:`; a client connects where its name first appears. Every dialogue is played whole, split
//! in two at every byte that clients send, and one byte at a time: where a delivery ends means nothing. What the
//! server sent and no step expected is an error at the end.
//!
//! [`Transcript`] and [`Peer`] play the same files against anything else, such as a real host over TCP.

pub(crate) mod accounts;
pub(crate) mod bulk;
pub(crate) mod command;
pub(crate) mod disk;
mod host;
mod metric_rules;
pub(crate) mod metrics;
mod player;
pub(crate) mod reactor;
mod transcript;

pub use accounts::Users;
pub use bulk::Access;
pub use host::{Grants, Host, SwapError};
pub use player::{Chunking, Failure, Peer, Received, play, play_directory};
pub use transcript::{Action, ParseError, Pattern, Step, Transcript};
