//! The host's side of the contract, called by a guest that does what the input says, over a real socket.
//!
//! One host runs in this process for all inputs: a service with an instance for each connection, which the input's script drives, and a neighbour that echoes. After every input the
//! neighbour must answer, and now and then nothing may be left: no connection, no descriptor. A panic on a worker ends the process, as it does in the program.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nethost::{
    config::Secrets,
    engine::Engine,
    files::FileMode,
    grants::Grants,
    limits::Limits,
    manifest::Isolation,
    plugin::Plugin,
    reactor::Program,
    service::{Host, Protocol, Service, ServiceSpec},
    storage::{DirectoryGrant, Quota},
};
use nethost_tests::places;
use tokio::runtime;

/// The first byte says what the client does beside sending the script, which is the rest.
pub(crate) fn check(data: &[u8]) {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let Some((manner, script)) = data.split_first() else {
        return;
    };
    let world = WORLD.get_or_init(|| Mutex::new(World::start()));
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    world.suspects.push(data.to_vec());
    converse(world.subject, *manner, script);
    world.check_neighbour();
    world.inputs += 1;
    // The first one too, so that a test of one input looks.
    if world.inputs % LOOKED_EVERY == 1 {
        world.check_nothing_is_left();
        world.suspects.clear();
    }
}

/// The host and its two services.
struct World {
    subject: SocketAddr,
    neighbour: TcpStream,
    /// Asks how many connections the service under test has.
    count: Sender<Sender<usize>>,
    inputs: u64,
    /// The inputs since it was last seen that nothing is left: at most [`LOOKED_EVERY`].
    suspects: Vec<Vec<u8>>,
    /// Open descriptors after the first input.
    descriptors: Option<usize>,
}

/// Says what the input's client says, and leaves when there is nothing more to come.
fn converse(subject: SocketAddr, manner: u8, script: &[u8]) {
    // Where there is no room a while is waited, not forever.
    let mut stream = within(DEADLINE, "the service under test accepts nobody", || {
        TcpStream::connect_timeout(&subject, DEADLINE).ok()
    });
    let pause = Some(Duration::from_millis(2));
    let set_up = stream
        .set_read_timeout(pause)
        .and_then(|()| stream.set_nodelay(true));
    set_up.unwrap_or_else(|error| panic!("{error}"));
    let script = script.get(..usize::from(u16::MAX)).unwrap_or(script);
    let length = u16::try_from(script.len())
        .unwrap_or(u16::MAX)
        .to_le_bytes();
    // Whatever fails here: the guest may have ended the connection.
    let mut _fails = stream.write_all(&length);
    if manner & 1 != 0 {
        let (first, second) = script.split_at(script.len() / 2);
        _fails = stream
            .write_all(first)
            .and_then(|()| stream.write_all(second));
    } else {
        _fails = stream.write_all(script);
    }
    if manner & 2 != 0 {
        _fails = stream.write_all(&[0x55; 20_000]);
    }
    if manner & 4 != 0 {
        _fails = stream.shutdown(Shutdown::Write);
    }
    let begin = Instant::now();
    let mut buffer = [0; 1 << 14];
    // One who reads nothing leaves at once, and what is unread makes it a reset.
    while manner & 8 == 0 && begin.elapsed() < PATIENCE {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_nothing_yet(&error) => {
                // The script may wait for one more callback.
                if stream.write_all(b"!").is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
}

impl World {
    fn start() -> Self {
        let (told, addresses) = channel();
        let (count, asked) = channel::<Sender<usize>>();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("a runtime: {error}"));
            let host = Host::start(NonZeroUsize::MIN).unwrap_or_else(|error| panic!("{error}"));
            let subject = serve(&runtime, &host, subject());
            let neighbour = serve(&runtime, &host, neighbour());
            let _alive = told.send([address(&subject), address(&neighbour)]);
            while let Ok(answer) = asked.recv() {
                let _alive = answer.send(runtime.block_on(subject.connection_count()));
            }
        });
        let [subject, neighbour] = addresses
            .recv()
            .unwrap_or_else(|_| panic!("the services did not start"));
        let neighbour = TcpStream::connect(neighbour).unwrap_or_else(|error| panic!("{error}"));
        let set_up = neighbour.set_read_timeout(Some(DEADLINE));
        set_up.unwrap_or_else(|error| panic!("{error}"));
        Self {
            subject,
            neighbour,
            count,
            inputs: 0,
            suspects: Vec::new(),
            descriptors: None,
        }
    }

    /// The same connection from the first input to the last: nothing that another service does ends it.
    fn check_neighbour(&mut self) {
        let sent = self.inputs.to_le_bytes();
        let mut got = [0; 8];
        let written = self.neighbour.write_all(&sent);
        let answered = written.and_then(|()| self.neighbour.read_exact(&mut got));
        answered.unwrap_or_else(|error| panic!("the neighbour does not answer: {error}"));
        assert_eq!(got, sent, "the neighbour answers what it was not asked");
    }

    fn check_nothing_is_left(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.connections() > 0 {
            if Instant::now() > deadline {
                self.tell_suspects();
                panic!("connections are left");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let now = descriptors();
        let before = *self.descriptors.get_or_insert(now);
        // What is opened once and kept (name servers, threads) may come with any input.
        assert!(now <= before + SPARE, "{now} descriptors, {before} before");
    }

    /// Leaves the inputs that it may have been, to be run one by one.
    fn tell_suspects(&self) {
        let folder = places::scratch("fuzz-suspects");
        for (index, input) in self.suspects.iter().enumerate() {
            let file = folder.join(index.to_string());
            fs::write(&file, input).unwrap_or_else(|error| panic!("{error}"));
        }
        eprintln!("it was one of the inputs in {}", folder.display());
    }

    fn connections(&self) -> usize {
        let (answer, answers) = channel();
        let _alive = self.count.send(answer);
        let count = answers.recv_timeout(DEADLINE);
        count.unwrap_or_else(|_| panic!("the worker does not answer"))
    }
}

fn serve(runtime: &runtime::Runtime, host: &Host, spec: ServiceSpec) -> Service {
    let service = runtime.block_on(host.serve(spec));
    service.unwrap_or_else(|error| panic!("{error}"))
}

fn address(service: &Service) -> SocketAddr {
    let url = service.listening().first();
    let address = url.and_then(|url| url.split_once("://")?.1.parse().ok());
    address.unwrap_or_else(|| panic!("it does not listen"))
}

fn subject() -> ServiceSpec {
    let limits = Limits {
        // Instances come and go by the thousand, and what is left behind shall be seen.
        memory: 8 << 20,
        callback_time: Duration::from_millis(20),
        connections: 64,
        first_byte_time: Duration::from_millis(500),
        idle_time: Duration::from_millis(500),
        operations: 100,
        close_time: Duration::from_millis(100),
        connect_time: Duration::from_millis(100),
        handshake_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let folder = places::scratch("fuzz-contract");
    let grant = DirectoryGrant {
        name: "d".to_owned(),
        path: folder,
        mode: Some(FileMode::ReadWrite),
    };
    let quota = Quota {
        bytes: Some(1 << 20),
        ..Quota::default()
    };
    let directory = grant.open(FileMode::ReadWrite, quota);
    let directory = directory.unwrap_or_else(|error| panic!("a directory: {error}"));
    let connect = "127.0.0.0/8:*".parse();
    let grants = Grants {
        connect: connect.into_iter().collect(),
        directories: [("d".to_owned(), directory)].into(),
        anonymous: true,
        ..Grants::default()
    };
    let spec = |program| {
        spec(
            program,
            &places::guest("interprets"),
            "{}",
            Isolation::Connection,
        )
    };
    spec(program("subject", limits, grants))
}

fn neighbour() -> ServiceSpec {
    let limits = Limits {
        idle_time: Duration::from_secs(1 << 30),
        ..Limits::default()
    };
    let program = program("neighbour", limits, Grants::default());
    let config = r#"{"greeting": ""}"#;
    spec(program, &places::plugin("echo"), config, Isolation::Worker)
}

fn program(service: &str, limits: Limits, grants: Grants) -> Program {
    Program {
        service: service.to_owned(),
        limits,
        grants,
        tls: Arc::default(),
        // Nobody is asked for a name: this one does not answer.
        name_servers: vec![SocketAddr::from(([127, 0, 0, 1], 1))],
        secrets: Secrets::default(),
    }
}

fn spec(
    program: Program,
    component: &std::path::Path,
    config: &str,
    isolation: Isolation,
) -> ServiceSpec {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Engine::new().unwrap_or_else(|error| panic!("{error:#}")));
    let plugin = Plugin::load(engine, component).unwrap_or_else(|error| panic!("{error}"));
    let listen = "tcp://127.0.0.1:0".parse();
    ServiceSpec {
        program,
        protocol: Protocol::Plugin {
            plugin: Arc::new(plugin),
            config: config.into(),
        },
        listen: listen.into_iter().collect(),
        isolation,
    }
}

/// Waits for something, and panics if it does not come.
fn within<T>(time: Duration, otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn descriptors() -> usize {
    let entries = fs::read_dir("/proc/self/fd");
    entries.map_or(0, |entries| entries.count())
}

/// For what takes milliseconds on a machine that does nothing else.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a script is listened to.
const PATIENCE: Duration = Duration::from_millis(50);

/// To see that nothing is left, what goes on has to end first.
const LOOKED_EVERY: u64 = 200;

const SPARE: usize = 32;
