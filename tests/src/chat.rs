//! Many IRC clients that talk in channels all the time, and notice every message that is lost, doubled or out of order. One thread serves them all.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Builder,
    task::JoinSet,
    time::{interval, timeout},
};

/// The talk, until it is [ended](Self::end).
#[derive(Debug)]
pub struct Chat {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Vec<Facts>, String>>,
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    received: AtomicU64,
    /// Wakes who waits for messages.
    told: Condvar,
    lock: Mutex<()>,
    /// Nanoseconds of the longest time between a message and the next, whoever received them, since this was last asked.
    longest: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// What a channel's first member knows of it at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The channel.
    pub channel: String,
    /// The answer to TOPIC.
    pub topic: String,
    /// The answer to MODE.
    pub modes: String,
    /// The answer to NAMES, in order.
    pub names: Vec<String>,
}

impl Chat {
    /// Connects so many clients, puts them into so many channels, and has each say something once in every `period`. Returns once all have joined.
    pub fn begin(address: SocketAddr, clients: usize, channels: usize, period: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let (told, joined) = std::sync::mpsc::channel();
        let chat = shared.clone();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(talk(address, clients, channels, period, chat, told))
        });
        // It ends without a word if a client fails, which `end` tells.
        let _failed = joined.recv();
        Self { shared, thread }
    }

    /// Waits until so many messages more have arrived.
    pub fn hear(&self, count: u64) {
        let wanted = self.shared.received.load(Ordering::Relaxed) + count;
        let mut guard = self
            .shared
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        while self.shared.received.load(Ordering::Relaxed) < wanted && !self.thread.is_finished() {
            assert!(start.elapsed() < DEADLINE, "nobody hears anything any more");
            let waited = self
                .shared
                .told
                .wait_timeout(guard, Duration::from_millis(100));
            (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the longest time in which nobody received a message, since this was last asked.
    pub fn longest_silence(&self) -> Duration {
        Duration::from_nanos(self.shared.longest.swap(0, Ordering::Relaxed))
    }

    /// Has everybody say a last word and hear those of the others, and returns what is known of the channels. An error says which message was missing.
    pub fn end(self) -> Result<Vec<Facts>, String> {
        self.shared.ends.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(facts) => facts,
            Err(_) => Err("a client panicked".to_owned()),
        }
    }
}

/// One client.
struct Talker {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    nick: String,
    channel: String,
}

async fn talk(
    address: SocketAddr,
    clients: usize,
    channels: usize,
    period: Duration,
    shared: Arc<Shared>,
    joined: std::sync::mpsc::Sender<()>,
) -> Result<Vec<Facts>, String> {
    let mut talkers = Vec::new();
    for index in 0..clients {
        talkers.push(enter(address, index, index % channels, channels).await?);
    }
    drop(joined);
    let mut tasks = JoinSet::new();
    for (index, talker) in talkers.into_iter().enumerate() {
        let others = (clients - 1 - index % channels) / channels;
        let start = period.mul_f64(index as f64 / clients as f64);
        let is_first = index < channels;
        tasks.spawn(speak(
            talker,
            others,
            start,
            period,
            is_first,
            shared.clone(),
        ));
    }
    // Nobody leaves before all were asked.
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        all.push(ended.map_err(|error| error.to_string())??);
    }
    let mut facts = Vec::new();
    for (talker, _) in all.iter_mut().filter(|(_, is_first)| *is_first) {
        facts.push(ask(talker).await?);
    }
    facts.sort_by(|one, other| one.channel.cmp(&other.channel));
    Ok(facts)
}

async fn enter(
    address: SocketAddr,
    index: usize,
    channel: usize,
    channels: usize,
) -> Result<Talker, String> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| format!("connecting client {index}: {error}"))?;
    let (reader, writer) = stream.into_split();
    let mut talker = Talker {
        reader: BufReader::new(reader),
        writer,
        nick: format!("c{index}"),
        channel: format!("#room{channel}"),
    };
    let (nick, room) = (talker.nick.clone(), talker.channel.clone());
    talker
        .say(&format!(
            "NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\nJOIN {room}"
        ))
        .await?;
    talker.line_with(&format!(" 366 {nick} ")).await?;
    if index < channels {
        talker
            .say(&format!(
                "TOPIC {room} :what {nick} likes\r\nMODE {room} +ntl {}",
                500 + channel
            ))
            .await?;
        talker.line_with(&format!("MODE {room} ")).await?;
    } else if index < 2 * channels {
        talker
            .say(&format!("AWAY :{nick} is here all the same"))
            .await?;
        talker.line_with(" 306 ").await?;
    }
    Ok(talker)
}

/// Speaks and listens until the end, and checks what the others say.
async fn speak(
    mut talker: Talker,
    others: usize,
    start: Duration,
    period: Duration,
    is_first: bool,
    shared: Arc<Shared>,
) -> Result<(Talker, bool), String> {
    tokio::time::sleep(start).await;
    let mut ticks = interval(period);
    let mut said = 0_u64;
    let mut heard: HashMap<String, u64> = HashMap::new();
    let mut ended = 0;
    let mut is_over = false;
    let mut line = Vec::new();
    while ended < others || !is_over {
        tokio::select! {
            read = timeout(DEADLINE, talker.reader.read_until(b'\n', &mut line)) => {
                let read = read.map_err(|_| format!("{}: nothing comes any more; {ended} of {others} have ended", talker.nick))?;
                let count = read.map_err(|error| format!("{}: {error}", talker.nick))?;
                if count == 0 {
                    return Err(format!("{} lost its connection", talker.nick));
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                ended += usize::from(check(&talker, &text, &mut heard, &shared)?);
            }
            _ = ticks.tick(), if !is_over => {
                is_over = shared.ends.load(Ordering::Relaxed);
                let word = if is_over { "end" } else { "say" };
                let text = format!("PRIVMSG {} :{word} {said}", talker.channel);
                said += 1;
                talker.say(&text).await?;
            }
        }
    }
    Ok((talker, is_first))
}

/// Looks at what came, and returns whether it is somebody's last word.
fn check(
    talker: &Talker,
    line: &str,
    heard: &mut HashMap<String, u64>,
    shared: &Shared,
) -> Result<bool, String> {
    let Some((from, said)) = line.split_once(&format!(" PRIVMSG {} :", talker.channel)) else {
        return Ok(false);
    };
    let nick = from
        .trim_start_matches(':')
        .split('!')
        .next()
        .unwrap_or_default();
    let (word, number) = said.split_once(' ').unwrap_or_default();
    let expected = heard.entry(nick.to_owned()).or_insert(0);
    if number != expected.to_string() {
        return Err(format!(
            "{} expected number {expected} of {nick}, and got `{said}`",
            talker.nick
        ));
    }
    *expected += 1;
    shared.note();
    Ok(word == "end")
}

impl Shared {
    fn note(&self) {
        let now = Instant::now();
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(now);
        if let Some(last) = last {
            let silence = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
            self.longest.fetch_max(silence, Ordering::Relaxed);
        }
        if self
            .received
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(64)
        {
            self.told.notify_all();
        }
    }
}

async fn ask(talker: &mut Talker) -> Result<Facts, String> {
    let room = talker.channel.clone();
    talker
        .say(&format!("TOPIC {room}\r\nMODE {room}\r\nNAMES {room}"))
        .await?;
    let topic = talker.line_with(" 332 ").await?;
    let modes = talker.line_with(" 324 ").await?;
    let mut names: Vec<String> = Vec::new();
    loop {
        let line = talker.line_with(&room).await?;
        match line.rsplit_once(" :") {
            Some((head, list)) if head.contains(" 353 ") => {
                names.extend(list.split(' ').map(str::to_owned));
            }
            _ if line.contains(" 366 ") => break,
            _ => {}
        }
    }
    names.sort();
    Ok(Facts {
        channel: room,
        topic,
        modes,
        names,
    })
}

impl Talker {
    async fn say(&mut self, text: &str) -> Result<(), String> {
        let written = self
            .writer
            .write_all(format!("{text}\r\n").as_bytes())
            .await;
        written.map_err(|error| format!("{}: {error}", self.nick))
    }

    async fn line_with(&mut self, part: &str) -> Result<String, String> {
        loop {
            let mut line = String::new();
            let read = timeout(DEADLINE, self.reader.read_line(&mut line)).await;
            let read = read.map_err(|_| format!("{}: no line with `{part}`", self.nick))?;
            match read {
                Ok(0) => return Err(format!("{} lost its connection", self.nick)),
                Ok(_) if line.contains(part) => return Ok(line.trim_end().to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("{}: {error}", self.nick)),
            }
        }
    }
}

/// How long anything may take: 60 s, for a machine that does other things as well.
const DEADLINE: Duration = Duration::from_secs(60);
