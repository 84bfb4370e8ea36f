//! The dialogues in `tests/transcripts`, each whole, split at every byte that clients send, and byte by byte.

use nethost_irc::Irc;
use nethost_sdk::testing::play_directory;

#[test]
fn dialogues_go_as_written() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    // Every key has the default of `plugin.toml`, where the dialogue does not say otherwise.
    play_directory::<Irc>(directory, "{}");
}
