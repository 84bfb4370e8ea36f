//! Logs and prints 5,000 lines each once it has received a `!`; everything is echoed.

use nethost_sdk::{Context, Origin, Protocol, export_plugin, log};

struct Logs;

impl Protocol for Logs {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        if data.contains(&b'!') {
            for number in 0..5_000 {
                log::info!("logged {number}");
                println!("printed {number}");
            }
        }
        cx.connection.write(data);
    }
}

export_plugin!(Logs);
