//! Sends a line to a server, and prints what it answers.

use nethost_sdk::{
    Stream,
    command::{self, Command, ExitCode, Failure, Io, StandardStream},
    export_plugin,
};

/// `nethost exec ask.wasm HOST:PORT LINE`.
pub struct Ask;

impl Command for Ask {
    type Factory = ();

    async fn run(arguments: Vec<String>, mut io: Io) -> Result<ExitCode, Failure> {
        let [server, line] = arguments.as_slice() else {
            io.error.print("usage: ask HOST:PORT LINE\n");
            return Ok(ExitCode::USAGE);
        };
        let mut stream = Stream::connect(&format!("tcp://{server}")).await?;
        if command::is_terminal(StandardStream::Error) {
            io.error.print("connected\n");
        }
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let count = stream.read(&mut buffer).await?;
            match buffer.get(..count) {
                None | Some([]) => return Ok(ExitCode::SUCCESS),
                Some(answer) => io.output.write_all(answer).await?,
            }
        }
    }
}

export_plugin!(command: Ask);
