//! A command that does what its config says, step by step: so that its arguments, which grant, can be anything.

use std::{future::pending, time::Duration};

use nethost_sdk::{
    Config, DatagramContext, DatagramPeer, DatagramProtocol, Datagrams, Error, Extent, Factory,
    File, FileOpening, Origin, Stream, after,
    command::{
        self, Command, ExitCode, Failure, Io, Progress, Signal, Signals, StandardStream, Unit,
    },
    export_plugin, resolve, with_factory,
};
use serde::Deserialize;

/// The command.
#[derive(Debug)]
pub struct Script;

/// The steps.
#[derive(Debug, Deserialize)]
pub struct Steps {
    script: Vec<String>,
}

impl Factory for Steps {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

/// Sockets are the command's own.
#[derive(Debug)]
pub struct NoDatagrams;

impl DatagramProtocol for NoDatagrams {
    type Factory = Steps;

    fn endpoint_made(_cx: &mut DatagramContext<'_, Steps>, _origin: Origin) -> Self {
        Self
    }

    fn datagrams_received(&mut self, _cx: &mut DatagramContext<'_, Steps>, _: &Datagrams) {}
}

impl Command for Script {
    type Factory = Steps;

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let steps = with_factory(|steps: &mut Steps| steps.script.clone());
        for step in steps {
            let (verb, rest) = step.split_once(' ').unwrap_or((&step, ""));
            let said = match verb {
                "exit" => return Ok(ExitCode(rest.parse()?)),
                "fail" => return Err(rest.into()),
                "say" => rest.to_owned(),
                "arguments" => format!("{arguments:?}"),
                "environment" => format!("{}", std::env::vars().count()),
                "trap" => panic!("{rest}"),
                "loop" => endless(),
                "hang" => pending().await,
                "forever" => loop {
                    after(Duration::from_secs(3600)).await?;
                },
                "flood" => loop {
                    io.output.print(&"x".repeat(1000));
                    after(Duration::ZERO).await?;
                },
                "stream" => {
                    let piece = vec![b'x'; 10_000];
                    for _ in 0..rest.parse::<usize>()? / piece.len() {
                        io.output.write_all(&piece).await?;
                    }
                    continue;
                }
                "input" => {
                    let mut count = 0;
                    loop {
                        let data = io.input.read().await?;
                        if data.is_empty() {
                            break format!("{count} bytes");
                        }
                        count += data.len();
                    }
                }
                "terminal" => terminal(&io),
                "signals" => {
                    let mut signals = Signals::new();
                    io.output.print("ready\n");
                    for _ in 0..rest.parse::<usize>()? {
                        let name = match signals.next().await {
                            Signal::Interrupt => "interrupt\n".to_owned(),
                            Signal::Terminate => "terminate\n".to_owned(),
                            Signal::Resized => format!("resized {:?}\n", command::terminal_size()),
                        };
                        io.output.print(&name);
                    }
                    continue;
                }
                "print" => {
                    io.output.write_all(rest.as_bytes()).await?;
                    io.output.flush().await?;
                    continue;
                }
                "bar" => {
                    let bar = Progress::new(Unit::Items, None);
                    bar.set_message("here");
                    // It is on the screen until the end.
                    std::mem::forget(bar);
                    continue;
                }
                "progress" => {
                    progress(rest).await?;
                    continue;
                }
                "error" => {
                    io.error.print(&format!("{rest}\n"));
                    continue;
                }
                "servers" => format!("{:?}", command::name_servers()),
                _ => outcome(operation(verb, rest).await),
            };
            io.output.write_all(format!("{said}\n").as_bytes()).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn operation(verb: &str, rest: &str) -> Result<String, Error> {
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "connect" => Stream::connect(rest).await.map(|_| "connected".to_owned()),
        "udp" => {
            let mut peer = DatagramPeer::connect(rest).await?;
            peer.send(b"hello");
            let answer = peer.receive_within(Duration::from_secs(10)).await;
            Ok(format!("{answer:?}"))
        }
        "receive" | "send" => {
            let opening = match verb {
                "receive" => FileOpening::Replace,
                _ => FileOpening::Read,
            };
            let file = command::open(second, opening).await?;
            let stream = Stream::connect(first).await?;
            let connection = stream.connection();
            let moved = match verb {
                "receive" => connection.receive_file(&file, Extent::all()).await?,
                _ => connection.send_file(&file, Extent::all()).await?,
            };
            Ok(format!("{moved} bytes"))
        }
        "resolve" => resolve(rest).await.map(|found| format!("{found:?}")),
        "read" => {
            let file = command::open(rest, FileOpening::Read).await?;
            contents(&file).await
        }
        "write" | "append" | "make" => {
            let opening = match verb {
                "write" => FileOpening::Replace,
                "append" => FileOpening::Create,
                _ => FileOpening::CreateNew,
            };
            let file = command::open(first, opening).await?;
            file.append(second.as_bytes()).await?;
            contents(&file).await
        }
        _ => panic!("no step `{verb}`"),
    }
}

async fn contents(file: &File) -> Result<String, Error> {
    let data = file.read_at(0, 100).await?;
    Ok(format!("`{}`", String::from_utf8_lossy(&data)))
}

fn outcome(outcome: Result<String, Error>) -> String {
    outcome.unwrap_or_else(|error| format!("{}: {error}", error.code))
}

fn terminal(io: &Io) -> String {
    let of = [
        StandardStream::Input,
        StandardStream::Output,
        StandardStream::Error,
    ];
    format!(
        "terminal {:?} size {:?} colour {} {}",
        of.map(command::is_terminal),
        command::terminal_size(),
        io.output.wants_colour(),
        io.error.wants_colour(),
    )
}

/// Shows some progress for a moment, and then `finish`es it or drops it.
async fn progress(end: &str) -> Result<(), Error> {
    let bar = Progress::new(Unit::Bytes, Some(1 << 20));
    bar.set_message("half\nway");
    bar.set(1 << 19);
    after(Duration::from_millis(500)).await?;
    if end == "finish" {
        bar.finish();
    }
    Ok(())
}

fn endless() -> String {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

export_plugin!(datagrams: NoDatagrams, command: Script);
