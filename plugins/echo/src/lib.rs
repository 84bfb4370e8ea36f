//! echo
use nethost_sdk::{Context, Origin, Protocol, export_plugin};

/// Echo.
pub struct Echo;

impl Protocol for Echo {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        cx.connection.write(data);
    }
}

export_plugin!(Echo);
