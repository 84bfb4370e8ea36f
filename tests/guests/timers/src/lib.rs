//! Starts timers without end: 5,000 of an hour for every `!` that it receives, 5,000 of two seconds for every `2`. `?` is answered with how many
//! were refused, and a line end; `.` is echoed.

use std::{cell::Cell, rc::Rc, time::Duration};

use nethost_sdk::{Config, Context, ErrorCode, Factory, Origin, Protocol, after, export_plugin};

struct Timers;

struct Refused(Rc<Cell<u32>>);

impl Factory for Refused {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self(Rc::default()))
    }
}

impl Protocol for Timers {
    type Factory = Refused;

    fn connection_made(_cx: &mut Context<'_, Refused>, _origin: Origin) -> Option<Self> {
        Some(Self)
    }

    fn data_received(&mut self, cx: &mut Context<'_, Refused>, data: &[u8]) {
        for byte in data {
            match byte {
                b'!' => (0..5_000).for_each(|_| start(cx, Duration::from_secs(3600))),
                b'2' => (0..5_000).for_each(|_| start(cx, Duration::from_secs(2))),
                b'.' => {
                    cx.connection.write(b".");
                }
                b'?' => {
                    let answer = format!("{}\n", cx.factory.0.get());
                    cx.connection.write(answer.as_bytes());
                }
                _ => {}
            }
        }
    }
}

fn start(cx: &Context<'_, Refused>, delay: Duration) {
    let refused = cx.factory.0.clone();
    let timer = after(delay).or_else(move |error| async move {
        if error.code == ErrorCode::Limit {
            refused.set(refused.get() + 1);
        }
        Err(error)
    });
    timer.detach();
}

export_plugin!(Timers);
