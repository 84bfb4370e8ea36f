//! A command, from its start to its end.

use std::{rc::Rc, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::mpsc;

use super::{Console, End, Output, Surroundings};
use crate::{
    instance::{Instance, StartError},
    plugin::Plugin,
    reactor::{CloseReason, Holdings, Program, Worker},
};

/// A command to be run.
pub(crate) struct Command {
    pub(crate) plugin: Arc<Plugin>,
    /// The JSON object that `configure` gets.
    pub(crate) config: String,
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
    pub(crate) surroundings: Surroundings,
}

/// What happened outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Resized,
}

/// Why a command has no exit code of its own.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Standard input and output cannot be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It started, and something was wrong.
    #[error("{0}")]
    Failed(String),
}

impl Signal {
    /// Returns the exit code of a program that the signal ends.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate | Self::Resized => 143,
        }
    }
}

/// Runs a command on this worker, and returns its exit code.
pub(crate) async fn run(
    worker: Rc<Worker>,
    command: Command,
    mut signals: mpsc::UnboundedReceiver<Signal>,
) -> Result<u8, Ended> {
    let Command {
        plugin,
        config,
        program,
        arguments,
        surroundings,
    } = command;
    let holdings = Holdings::new(Arc::new(program), worker, Arc::default());
    let console = Console::start(surroundings)?;
    holdings.set_console(console.clone());
    let instance = Instance::new(plugin, holdings.clone(), &config)?;
    holdings.set_handler(instance.clone());
    instance.start_command(&arguments);
    console.look();
    let ended = console.ended(|| holdings.is_idle());
    tokio::pin!(ended);
    let end = loop {
        tokio::select! {
            biased;
            end = &mut ended => break end,
            // The sender lives as long as the process.
            Some(signal) = signals.recv() => {
                if instance.signalled(signal) {
                    console.finish(End::Signalled(signal.exit_code()));
                }
                console.look();
            }
        }
    };
    holdings.silence();
    if end != End::OutputClosed {
        say_goodbye(&holdings).await;
    }
    let end = write_out(&console, end, &mut signals).await;
    match console.outcome(end) {
        End::Exited(code) | End::Signalled(code) => Ok(code),
        End::OutputClosed => Ok(CLOSED_PIPE),
        End::Failed(reason) => Err(Ended::Failed(reason)),
    }
}

/// Waits until everything is written, and returns how the command ended then. A signal does not wait for who does not read.
async fn write_out(
    console: &Console,
    end: End,
    signals: &mut mpsc::UnboundedReceiver<Signal>,
) -> End {
    // One that is closed has nothing unwritten.
    let written = async {
        for output in [Output::Standard, Output::Error] {
            console.written(output, 0).await;
        }
    };
    if matches!(end, End::Signalled(_)) {
        let _elapsed = tokio::time::timeout(LAST_WORDS, written).await;
        return end;
    }
    let interrupted = async {
        while let Some(signal) = signals.recv().await {
            if signal != Signal::Resized {
                return End::Signalled(signal.exit_code());
            }
        }
        // The sender lives as long as the process.
        std::future::pending().await
    };
    tokio::select! {
        biased;
        () = written => end,
        interrupted = interrupted => interrupted,
    }
}

/// Lets connections that the plugin has closed send what was queued, for a moment; ends the others.
async fn say_goodbye(holdings: &Rc<Holdings>) {
    for connection in holdings.connections() {
        if !connection.is_closing() {
            connection.end(CloseReason::Draining);
        }
    }
    for socket in holdings.sockets() {
        socket.end(CloseReason::Draining);
    }
    let gone = async {
        holdings.closed().await;
        holdings.settled().await;
    };
    let _elapsed = tokio::time::timeout(LAST_WORDS, gone).await;
}

/// As a shell has it for what SIGPIPE ended: 128 and 13.
const CLOSED_PIPE: u8 = 141;

/// How long what was written to connections has to leave after the command has ended, and what was written to the outputs after a signal has ended it: 1 s.
const LAST_WORDS: Duration = Duration::from_secs(1);
