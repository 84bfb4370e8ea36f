//! The dialogues in `tests/transcripts`, each whole, split at every byte that clients send, and byte by byte.

use nethost_irc::Irc;
use nethost_sdk::testing::play_directory;

#[test]
fn dialogues_go_as_written() {
    play_directory::<Irc>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"),
        CONFIG,
    );
}

/// As the host passes it: every key with the default of `plugin.toml`.
const CONFIG: &str = r#"{
    "network": "ExampleNet", "server": "irc.example.net", "motd": [], "admin": [], "password": "", "oper-name": "", "oper-password": "",
    "nick-length": 30, "channels-per-user": 50, "channel-modes": "", "registration-timeout": "30s", "ping-interval": "120s",
    "ping-timeout": "60s", "flood": false, "flood-burst": 20, "flood-rate": 2
}"#;
