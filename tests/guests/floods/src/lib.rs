//! Writes without end once it has received a `!`, whatever the peer takes; everything else is echoed.

use std::time::Duration;

use nethost_sdk::{Connection, Context, Origin, Protocol, after, export_plugin, spawn};

struct Floods;

impl Protocol for Floods {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        if data.contains(&b'!') {
            spawn(flood(cx.connection.clone())).detach();
        } else {
            cx.connection.write(data);
        }
    }
}

async fn flood(connection: Connection) {
    while after(Duration::ZERO).await.is_ok() {
        connection.write(&[b'.'; 64 << 10]);
    }
}

export_plugin!(Floods);
