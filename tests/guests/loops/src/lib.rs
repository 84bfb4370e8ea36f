//! Never returns once it has received a `!`; everything else is echoed.

use nethost_sdk::{Context, Origin, Protocol, export_plugin};

struct Loops;

impl Protocol for Loops {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, data: &[u8]) {
        cx.connection.write(data);
        if data.contains(&b'!') {
            spin();
        }
    }
}

/// The name that the backtrace must have.
#[inline(never)]
fn spin() {
    let mut turns = 0_u64;
    while std::hint::black_box(turns) < u64::MAX {
        turns += 1;
    }
}

export_plugin!(Loops);
