//! Traps where it is told to. `!` sets it off, everything else is echoed.

use std::time::Duration;

use nethost_sdk::{CloseReason, Config, Context, Factory, Origin, Protocol, after, export_plugin};
use serde::Deserialize;

struct Traps;

#[derive(Deserialize)]
struct Settings {
    r#in: String,
    how: String,
}

impl Settings {
    fn trap_in(&self, callback: &str) {
        if self.r#in == callback {
            trap(&self.how);
        }
    }
}

impl Factory for Settings {
    fn configure(config: &Config) -> Result<Self, String> {
        let settings: Self = config.parse()?;
        settings.trap_in("configure");
        Ok(settings)
    }

    fn draining(&mut self, _deadline: Duration) {
        self.trap_in("draining");
    }
}

impl Protocol for Traps {
    type Factory = Settings;

    fn connection_made(cx: &mut Context<'_, Settings>, _origin: Origin) -> Option<Self> {
        cx.factory.trap_in("connection-made");
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, Settings>, data: &[u8]) {
        cx.connection.write(data);
        if !data.contains(&b'!') {
            return;
        }
        cx.factory.trap_in("data-received");
        match cx.factory.r#in.as_str() {
            "connection-lost" => cx.connection.abort(),
            "completed" => {
                let how = cx.factory.how.clone();
                after(Duration::ZERO).map(move |()| trap(&how)).detach();
            }
            _ => {}
        }
    }

    fn read_closed(&mut self, cx: &mut Context<'_, Settings>) {
        cx.factory.trap_in("read-closed");
        cx.connection.close();
    }

    fn connection_lost(&mut self, cx: &mut Context<'_, Settings>, _reason: CloseReason) {
        cx.factory.trap_in("connection-lost");
    }
}

/// The name that the backtrace must have.
#[inline(never)]
fn trap(how: &str) {
    match how {
        "recursion" => assert_ne!(deeper(1), 0),
        _ => panic!("told to trap"),
    }
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "it shall overflow the stack")]
fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + here.iter().sum::<u64>()
}

export_plugin!(Traps);
