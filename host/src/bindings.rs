//! The contract's bindings, and nothing else.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::use_self,
    clippy::indexing_slicing,
    elided_lifetimes_in_paths,
    reason = "generated; the WIT has the documentation"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "everything",
    imports: { default: trappable },
    with: {
        "nethost:plugin/storage.file": crate::files::HostFile,
        "nethost:plugin/storage.directory": crate::storage::Directory,
        "nethost:plugin/progress.bar": crate::command::progress::Bar,
        "nethost:plugin/datagram.socket": crate::reactor::Socket,
        "nethost:plugin/transport.connection": crate::reactor::Connection,
        "nethost:plugin/transport.group": crate::reactor::Group,
    },
});
