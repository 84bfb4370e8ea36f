//! Makes groups without end: 20,000 for every `!` that it receives; everything is echoed.

use nethost_sdk::{Context, Group, Origin, Protocol, export_plugin};

struct Hoards(Vec<Group>);

impl Protocol for Hoards {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        cx.connection.write(data);
        if data.contains(&b'!') {
            self.0.extend((0..20_000).map(|_| Group::new()));
        }
    }
}

export_plugin!(Hoards);
