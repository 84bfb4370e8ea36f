//! Moves bytes to and from files of the directory `d`, at a pace: the load of `bench disk`. A connection says what in one line, and what it began ends with it.
//!
//! | command | what |
//! |---|---|
//! | `append RATE SIZE` | appends SIZE bytes at a time to a file, which is emptied when it has 256 MiB |
//! | `write RATE SIZE` | the same with `write-at`, over and over the same 256 MiB |
//! | `read RATE SIZE` | reads the file `cold`, again and again |
//! | `receive` | answers `go`, and takes everything after that for a file |
//! | `open COUNT PATH` | opens a file so many times, one after another, and closes it; answers with the nanoseconds of one |
//!
//! RATE is in bytes a second. The first three answer 20 times a second with the bytes so far, a line each; what goes wrong is answered with `error`.

use std::time::Duration;

use nethost_sdk::{
    Connection, Context, Directory, Error, ErrorCode, Extent, FileOpening, Origin, Protocol, after,
    clock, export_plugin, framing::Lines, spawn,
};

struct Session {
    lines: Lines,
}

impl Protocol for Session {
    type Factory = ();

    fn connection_made(_cx: &mut Context<'_, ()>, _origin: Origin) -> Option<Self> {
        Some(Self {
            lines: Lines::new(1000),
        })
    }

    fn data_received(&mut self, cx: &mut Context<'_, ()>, mut data: &[u8]) {
        while let Some(line) = self.lines.next(&mut data) {
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            let connection = cx.connection.clone();
            spawn(async move {
                if let Err(error) = run(&connection, &line).await {
                    let answer = format!("error {}: {error}\n", error.code);
                    connection.write(answer.as_bytes());
                }
            })
            .detach();
        }
    }
}

async fn run(connection: &Connection, line: &str) -> Result<(), Error> {
    let directory = Directory::named("d")?;
    let words: Vec<_> = line.split(' ').collect();
    match *words.as_slice() {
        ["append", rate, size] => {
            let file = directory.open("load", FileOpening::Replace).await?;
            let data = vec![b'x'; number(size)?];
            let mut length = 0;
            let mut pace = Pace::new(connection, number(rate)?);
            loop {
                if length >= MOST {
                    file.set_size(0).await?;
                    length = 0;
                }
                file.append(&data).await?;
                length += data.len();
                pace.moved(data.len()).await?;
            }
        }
        ["write", rate, size] => {
            let file = directory.open("load", FileOpening::Replace).await?;
            let data = vec![b'x'; number(size)?];
            let mut offset = 0;
            let mut pace = Pace::new(connection, number(rate)?);
            loop {
                file.write_at(offset as u64, &data).await?;
                offset = (offset + data.len()) % MOST;
                pace.moved(data.len()).await?;
            }
        }
        ["read", rate, size] => {
            let file = directory.open("cold", FileOpening::Read).await?;
            let size: usize = number(size)?;
            let length = u32::try_from(size).map_err(|_| invalid(line))?;
            let mut offset = 0;
            let mut pace = Pace::new(connection, number(rate)?);
            loop {
                let data = file.read_at(offset, length).await?;
                offset = if data.len() < size {
                    0
                } else {
                    offset + data.len() as u64
                };
                pace.moved(data.len()).await?;
            }
        }
        ["receive"] => {
            let file = directory.open("received", FileOpening::Replace).await?;
            let received = connection.receive_file(&file, Extent::all());
            connection.write(b"go\n");
            received.await?;
            connection.close();
            Ok(())
        }
        ["open", count, path] => {
            let count: u32 = number(count)?;
            let start = clock::monotonic();
            for _ in 0..count {
                directory.open(path, FileOpening::Read).await?;
            }
            let one = (clock::monotonic() - start) / count.max(1);
            connection.write(format!("{}\n", one.as_nanos()).as_bytes());
            Ok(())
        }
        _ => Err(invalid(line)),
    }
}

/// Keeps a rate, and tells 20 times a second what has moved.
struct Pace {
    connection: Connection,
    rate: u64,
    start: Duration,
    told: Duration,
    bytes: u64,
}

impl Pace {
    fn new(connection: &Connection, rate: u64) -> Self {
        let start = clock::monotonic();
        Self {
            connection: connection.clone(),
            rate: rate.max(1),
            start,
            told: start,
            bytes: 0,
        }
    }

    /// Notes what has moved, and waits until more may.
    async fn moved(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes as u64;
        let now = clock::monotonic();
        if now - self.told >= TELL {
            self.told = now;
            self.connection
                .write(format!("{}\n", self.bytes).as_bytes());
        }
        let due = Duration::from_secs_f64(self.bytes as f64 / self.rate as f64);
        let wait = (self.start + due).saturating_sub(now);
        if wait >= Duration::from_millis(1) {
            after(wait).await?;
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Error> {
    text.parse().map_err(|_| invalid(text))
}

fn invalid(what: &str) -> Error {
    Error {
        code: ErrorCode::Invalid,
        message: format!("`{what}` is none of the commands"),
    }
}

/// Bytes of the file that is written: 256 MiB, more than a round of the benchmark writes. To empty 64 MiB takes the kernel some milliseconds of the core that the
/// server is pinned to, which was seen as a p99 of 550 µs when it happened twice in a round.
const MOST: usize = 256 << 20;

const TELL: Duration = Duration::from_millis(50);

export_plugin!(Session);
