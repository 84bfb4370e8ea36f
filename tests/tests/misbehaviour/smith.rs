//! Components by chance: none may make the host panic, whatever it says of it.
//!
//! `NETHOST_SMITH_SECONDS` says for how long (3 without), and `NETHOST_SMITH_SEED` which; the seed is printed, and the component at hand is in a file, for a panic on a
//! worker ends the whole process.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arbitrary::{Arbitrary as _, Unstructured};
use nethost::{
    engine::Engine,
    inspect,
    limits::Limits,
    manifest::Isolation,
    plugin::Plugin,
    service::{Host, Protocol, ServiceSpec},
};
use nethost_tests::{
    places::{guest, plugin, scratch},
    random::Random,
    service::program,
};
use tokio::runtime::Builder;

#[test]
fn a_component_by_chance_is_no_reason_to_panic() {
    let seconds = env::var("NETHOST_SMITH_SECONDS").ok();
    let seconds = seconds.map_or(3, |seconds| seconds.parse().unwrap());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = env::var("NETHOST_SMITH_SEED").ok();
    let seed = seed.map_or_else(|| since.unwrap().as_secs(), |seed| seed.parse().unwrap());
    let path = scratch("smith").join("component.wasm");
    // Past what the test's harness keeps to itself, so that it is there if the process ends.
    let told = format!(
        "NETHOST_SMITH_SEED={seed}, the component is {}\n",
        path.display()
    );
    std::io::stderr().write_all(told.as_bytes()).unwrap();

    let echo = super::modules::write(path.parent().unwrap(), "echo", &[]);
    let known: Vec<_> = [echo, guest("scripted"), plugin("echo")]
        .map(|it| fs::read(it).unwrap())
        .into();
    let mut random = Random::new(seed);
    let mut counts = Counts::default();
    let tried = Tried::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let kind = below(&mut random, 8);
        let component = match kind {
            0 | 1 => generated(&mut random),
            2 => mutated(&mut random, &known[1]),
            3 => mutated(&mut random, &known[2]),
            // The smallest: most of what changes in it matters.
            _ => mutated(&mut random, &known[0]),
        };
        fs::write(&path, &component).unwrap();
        let survived = catch_unwind(AssertUnwindSafe(|| tried.try_one(&path, &component)));
        let outcome = survived.unwrap_or_else(|_| panic!("seed {seed}, after {counts:?}"));
        counts.note(outcome);
    }
    println!("{counts:?}");
    assert!(counts.refused > 0 && counts.ran > 0, "{counts:?}");
}

/// How far components came.
#[derive(Debug, Default)]
struct Counts {
    refused: usize,
    not_started: usize,
    ran: usize,
}

#[derive(Clone, Copy)]
enum Outcome {
    Refused,
    NotStarted,
    Ran,
}

impl Counts {
    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Refused => self.refused += 1,
            Outcome::NotStarted => self.not_started += 1,
            Outcome::Ran => self.ran += 1,
        }
    }
}

/// Returns a number from 0, and less than `end`.
fn below(random: &mut Random, end: usize) -> usize {
    random.up_to(end) - 1
}

/// A valid component of anything.
fn generated(random: &mut Random) -> Vec<u8> {
    let bytes: Vec<u8> = (0..2048)
        .map(|_| u8::try_from(below(random, 256)).unwrap())
        .collect();
    let component = wasm_smith::Component::arbitrary(&mut Unstructured::new(&bytes));
    component
        .map(|component| component.to_bytes())
        .unwrap_or_default()
}

/// One that was good, with some bytes changed, a piece doubled, or the end missing.
fn mutated(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=below(random, 4) {
        let at = below(random, bytes.len());
        match below(random, 16) {
            0 => bytes.truncate(at.max(8)),
            1 => {
                let end = (at + below(random, 64)).min(bytes.len());
                let piece = bytes.get(at..end).unwrap().to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let byte = bytes.get_mut(at).unwrap();
                *byte ^= 1 << below(random, 8);
            }
        }
    }
    bytes
}

/// Where they are tried.
struct Tried {
    engine: Engine,
    host: Host,
    runtime: tokio::runtime::Runtime,
}

impl Tried {
    fn new() -> Self {
        Self {
            engine: Engine::new().unwrap(),
            host: Host::start(NonZeroUsize::MIN).unwrap(),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    fn try_one(&self, path: &Path, component: &[u8]) -> Outcome {
        let described = inspect::describe(component);
        let Ok(plugin) = Plugin::load(&self.engine, path) else {
            return Outcome::Refused;
        };
        assert!(described.is_ok(), "what cannot be inspected was loaded");
        let limits = Limits {
            memory: 64 << 20,
            setup_time: Duration::from_millis(50),
            callback_time: Duration::from_millis(20),
            ..Limits::default()
        };
        let spec = ServiceSpec {
            program: program(limits),
            protocol: Protocol::Plugin {
                plugin: Arc::new(plugin),
                config: "{}".into(),
            },
            listen: vec!["tcp://127.0.0.1:0".parse().unwrap()],
            isolation: Isolation::Service,
        };
        let Ok(service) = self.runtime.block_on(self.host.serve(spec)) else {
            return Outcome::NotStarted;
        };
        let address = service.listening().first().unwrap().replace("tcp://", "");
        for _ in 0..2 {
            let mut client = TcpStream::connect(&address).unwrap();
            client
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            // What comes of it is up to the component.
            let _sent = client.write_all(b"something\n");
            let _read = client.read(&mut [0; 64]);
        }
        self.runtime.block_on(service.drain(Duration::ZERO));
        Outcome::Ran
    }
}
