//! Takes memory without end once it has received a `!`; everything else is echoed.

use nethost_sdk::{Context, Origin, Protocol, export_plugin};

struct Grows;

impl Protocol for Grows {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        cx.connection.write(data);
        while data.contains(&b'!') {
            // It is not written to, so it costs no time, and no memory of the machine.
            std::mem::forget(std::hint::black_box(Vec::<u8>::with_capacity(16 << 20)));
        }
    }
}

export_plugin!(Grows);
