//! Has everything that a connection can keep through a swap: a timer, an open file, files on their way, connections and sockets that it dialed, unsent bytes.
//!
//! Whoever connects sends commands, a line each. Every answer begins with the version, as the config has it. On what it dialed it echoes.

use std::time::Duration;

use nethost_sdk::{
    Config, ConnectionId, Context, DatagramContext, DatagramProtocol, Datagrams, Deferred, Error,
    Extent, Factory, File, OperationId, Origin, Protocol, Refusal, Snapshot, after, bulk, connect,
    connect_datagrams, export_plugin, with_session,
};
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Keeps {
    is_dialed: bool,
    timer: Option<OperationId>,
    moving: Option<OperationId>,
    file: Option<File>,
}

/// What moves.
#[derive(Serialize, Deserialize)]
struct State {
    is_dialed: bool,
    timer: Option<u64>,
    moving: Option<u64>,
    file: Option<u64>,
}

#[derive(Deserialize)]
struct Settings {
    version: String,
}

impl Factory for Settings {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

type Cx<'a> = Context<'a, Settings>;

impl Protocol for Keeps {
    type Factory = Settings;

    fn connection_made(cx: &mut Cx<'_>, origin: Origin) -> Option<Self> {
        let is_dialed = matches!(origin, Origin::Dialed(_));
        if is_dialed {
            say(cx, "hello");
        }
        Some(Self {
            is_dialed,
            ..Self::default()
        })
    }

    fn data_received(&mut self, cx: &mut Cx<'_>, data: &[u8]) {
        let text = String::from_utf8_lossy(data).into_owned();
        for line in text.lines() {
            if self.is_dialed {
                say(cx, line);
                continue;
            }
            let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
            let number = argument.parse().unwrap_or(0);
            let done = self.run(cx, command, number);
            if let Err(error) = done {
                say(cx, &format!("{command}: {error}"));
            }
        }
    }
}

impl Keeps {
    fn run(&mut self, cx: &mut Cx<'_>, command: &str, number: u64) -> Result<(), Error> {
        let id = cx.id();
        match command {
            "timer" => {
                let timer = after(Duration::from_millis(number));
                self.timer = timer.id();
                await_timer(id, timer);
            }
            "dial" => connect(&format!("tcp://127.0.0.1:{number}")).detach(),
            "dial-udp" => connect_datagrams(&format!("udp://127.0.0.1:{number}")).detach(),
            "open" => self.file = Some(File::named("in")?),
            "read" => {
                if let Some(file) = &self.file {
                    let read = file.read_at(number, 10);
                    tell(id, read, |data| String::from_utf8_lossy(&data).into_owned());
                }
            }
            "send" => {
                let send = cx.connection.send_file(&File::named("in")?, Extent::all());
                self.moving = send.id();
                await_moved(id, send);
            }
            "receive" => {
                let extent = Extent::all().length(number);
                let receive = cx.connection.receive_file(&File::named("out")?, extent);
                self.moving = receive.id();
                say(cx, "go on");
                await_moved(id, receive);
            }
            "fill" => {
                let letters = (b'a'..=b'z').cycle();
                let count = usize::try_from(number).unwrap_or(0);
                let data: Vec<u8> = letters.take(count).collect();
                cx.connection.write(&data);
            }
            _ => say(cx, command),
        }
        Ok(())
    }
}

fn say(cx: &Cx<'_>, text: &str) {
    let line = format!("{} {text}\n", cx.factory.version);
    cx.connection.write(line.as_bytes());
}

fn tell<T: 'static>(
    to: ConnectionId,
    result: Deferred<T>,
    words: impl FnOnce(T) -> String + 'static,
) {
    let told = result.then(move |value| async move {
        with_session(to, |_: &mut Keeps, cx| say(cx, &words(value)));
        Ok(())
    });
    told.detach();
}

fn await_timer(id: ConnectionId, timer: Deferred<()>) {
    tell(id, timer, |()| "timer".to_owned());
}

fn await_moved(id: ConnectionId, moving: Deferred<u64>) {
    tell(id, moving, |count| format!("moved {count}"));
}

impl Snapshot for Keeps {
    const FORMAT: &'static str = "keeps/1";
    type Before = ();
    type Shared = ();
    type Session = State;

    fn save(_factory: &Settings) -> Result<(), Refusal> {
        Ok(())
    }

    fn restore(_factory: &mut Settings, _shared: ()) -> Result<(), String> {
        Ok(())
    }

    fn save_session(&self) -> Result<State, Refusal> {
        Ok(State {
            is_dialed: self.is_dialed,
            timer: self.timer.map(OperationId::as_u64),
            moving: self.moving.map(OperationId::as_u64),
            file: self.file.as_ref().map(File::id),
        })
    }

    fn restore_session(cx: &mut Cx<'_>, state: State) -> Result<Self, String> {
        let timer = state.timer.map(OperationId::from);
        if let Some(timer) = timer {
            await_timer(cx.id(), Deferred::adopt(timer));
        }
        let moving = state.moving.map(OperationId::from);
        if let Some(moving) = moving {
            await_moved(cx.id(), bulk::adopt(moving));
        }
        let file = match state.file {
            Some(id) => Some(File::adopt(id).ok_or("its file was not there")?),
            None => None,
        };
        Ok(Self {
            is_dialed: state.is_dialed,
            timer,
            moving,
            file,
        })
    }
}

/// Says hello when it is made, and so again when another version makes it.
struct KeepsDatagrams;

impl DatagramProtocol for KeepsDatagrams {
    type Factory = Settings;

    fn endpoint_made(cx: &mut DatagramContext<'_, Settings>, _origin: Origin) -> Self {
        let mut hello = Datagrams::new();
        // The host sends everything to the one peer.
        let text = format!("{} hello", cx.factory.version);
        hello.push(([0, 0, 0, 0], 0).into(), text.as_bytes());
        cx.socket.send(&hello);
        Self
    }

    fn datagrams_received(&mut self, cx: &mut DatagramContext<'_, Settings>, came: &Datagrams) {
        let mut answers = Datagrams::new();
        for datagram in came {
            let text = String::from_utf8_lossy(datagram.payload());
            let answer = format!("{} {text}", cx.factory.version);
            answers.reply(&datagram, answer.as_bytes());
        }
        cx.socket.send(&answers);
    }
}

export_plugin!(Keeps, swap, datagrams: KeepsDatagrams);
