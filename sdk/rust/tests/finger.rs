//! The crate documentation's example keeps what the guide promises.

use nethost_sdk::testing::play_directory;

#[expect(unreachable_pub, reason = "the example is a crate of its own")]
#[path = "../examples/finger.rs"]
mod finger;

#[test]
fn finger_answers_as_rfc_1288_says() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/finger");
    play_directory::<finger::Finger>(directory, r#"{"users": ["ann: writes servers", "bob"]}"#);
}

#[test]
fn the_guide_keeps_to_fifty_lines() {
    assert!(include_str!("../examples/finger.rs").lines().count() <= 50);
}
