//! What `wit_bindgen` makes of the contract, and nothing else.

pub use wit_bindgen::rt;

wit_bindgen::generate!({
    path: "../../wit",
    world: "everything",
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    runtime_path: "nethost_sdk::bindings::rt",
});
