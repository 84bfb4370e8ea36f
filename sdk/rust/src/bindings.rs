//! What `wit_bindgen` makes of the contract, and nothing else.

pub use wit_bindgen::rt;

wit_bindgen::generate!({
    path: "../../wit",
    world: "everything",
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    // What is generated for it shows its fields, not its message.
    with: { "nethost:plugin/types@0.1.0/error": crate::types::Error },
    runtime_path: "nethost_sdk::bindings::rt",
});
