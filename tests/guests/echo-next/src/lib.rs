//! Echo in capitals: what the next version of `plugins/echo` might be. It takes over the state of that one.

use nethost_sdk::{
    Config, Context, DatagramContext, DatagramProtocol, Datagrams, Factory, Origin, Protocol,
    Refusal, Swap, export_plugin,
};
use serde::Deserialize;

struct Echo {
    echoed: u64,
    fails_in: String,
    /// Its peer said `hold`, and not `free` since.
    busy: bool,
}

struct Echoes {
    settings: Settings,
    total: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    greeting: String,
    fails_in: String,
}

impl Settings {
    fn fail_in(&self, call: &str) -> Result<(), String> {
        fail(&self.fails_in, call)
    }
}

fn fail(fails_in: &str, call: &str) -> Result<(), String> {
    assert_ne!(fails_in.strip_prefix("trap-in-"), Some(call));
    if fails_in.strip_prefix("loop-in-") == Some(call) {
        loop {
            std::hint::black_box(call);
        }
    }
    if fails_in.strip_prefix("grow-in-") == Some(call) {
        let mut all = Vec::new();
        loop {
            all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
    }
    if fails_in == call {
        Err(format!("told to fail in {call}"))
    } else {
        Ok(())
    }
}

impl Factory for Echoes {
    fn configure(config: &Config) -> Result<Self, String> {
        let settings: Settings = config.parse()?;
        settings.fail_in("configure")?;
        Ok(Self { settings, total: 0 })
    }
}

impl Protocol for Echo {
    type Factory = Echoes;

    fn connection_made(cx: &mut Context<'_, Echoes>, _origin: Origin) -> Option<Self> {
        cx.connection.write(cx.factory.settings.greeting.as_bytes());
        let fails_in = cx.factory.settings.fails_in.clone();
        Some(Self {
            echoed: 0,
            fails_in,
            busy: false,
        })
    }

    /// `?` is answered with the counters, `boom` with a trap; from `hold` to `free` the session is busy.
    fn data_received(&mut self, cx: &mut Context<'_, Echoes>, data: &[u8]) {
        assert_ne!(data, b"boom");
        match data {
            b"hold" => self.busy = true,
            b"free" => self.busy = false,
            _ => {}
        }
        if data == b"?" {
            let counters = format!("{} of {}\n", self.echoed, cx.factory.total);
            cx.connection.write(counters.as_bytes());
            return;
        }
        cx.connection.write(&data.to_ascii_uppercase());
        self.echoed += data.len() as u64;
        cx.factory.total += data.len() as u64;
    }
}

impl Swap for Echo {
    const FORMATS: &'static [&'static str] = &["echo/3", "echo/1"];

    fn save(factory: &Echoes, _format: &str) -> Result<Vec<u8>, Refusal> {
        factory.settings.fail_in("save").map_err(Refusal::Failed)?;
        Ok(factory.total.to_be_bytes().to_vec())
    }

    fn restore(factory: &mut Echoes, _format: &str, state: &[u8]) -> Result<(), String> {
        factory.total = counter(state)?;
        factory.settings.fail_in("restore")
    }

    fn save_session(&self, _format: &str) -> Result<Vec<u8>, Refusal> {
        fail(&self.fails_in, "save-session").map_err(Refusal::Failed)?;
        match self.fails_in.as_str() {
            "busy" => Err(Refusal::Busy),
            _ if self.busy => Err(Refusal::Busy),
            "big" => Ok(vec![0; 8 << 20]),
            _ => Ok(self.echoed.to_be_bytes().to_vec()),
        }
    }

    /// What is written here is held until the swap is certain.
    fn restore_session(
        cx: &mut Context<'_, Echoes>,
        format: &str,
        state: &[u8],
    ) -> Result<Self, String> {
        let echoed = counter(state)?;
        let greeting = format!("restored {echoed} from {format}\n");
        cx.connection.write(greeting.as_bytes());
        cx.factory.settings.fail_in("restore-session")?;
        let fails_in = cx.factory.settings.fails_in.clone();
        if fails_in == "write" {
            for _ in 0..100 {
                cx.connection.write(&[0; 1 << 20]);
            }
        }
        Ok(Self {
            echoed,
            fails_in,
            busy: false,
        })
    }
}

fn counter(state: &[u8]) -> Result<u64, String> {
    match state.try_into() {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(format!("a counter has 8 bytes, not {}", state.len())),
    }
}

struct EchoDatagrams;

impl DatagramProtocol for EchoDatagrams {
    type Factory = Echoes;

    fn endpoint_made(_cx: &mut DatagramContext<'_, Echoes>, _origin: Origin) -> Self {
        Self
    }

    fn datagrams_received(&mut self, cx: &mut DatagramContext<'_, Echoes>, datagrams: &Datagrams) {
        let mut answers = Datagrams::new();
        for datagram in datagrams {
            answers.reply(&datagram, &datagram.payload().to_ascii_uppercase());
        }
        cx.socket.send(&answers);
    }
}

export_plugin!(Echo, swap, datagrams: EchoDatagrams);
