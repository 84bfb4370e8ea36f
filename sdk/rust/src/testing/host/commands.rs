//! The host's commands: their arguments, input, output and end.

use super::Host;
use crate::{
    bindings::nethost::plugin::command::Output,
    command::{self, Command, OutputKind, Signal},
    protocol::Protocol,
    testing::{command as console, reactor},
};

impl<P: Protocol> Host<P> {
    /// Runs a command. What it may open are the files that the test [granted](super::Grants::file), by the names that the arguments have for them.
    pub fn run<C: Command<Factory = P::Factory>>(&mut self, arguments: &[&str]) {
        command::start::<C>(arguments.iter().map(|it| (*it).to_owned()).collect());
        self.settle();
    }

    /// Adds to standard input.
    pub fn input(&mut self, data: &[u8]) {
        reactor::with(|reactor| reactor.console.input.extend(data));
        self.settle();
    }

    /// Standard input ends after what was added.
    pub fn end_input(&mut self) {
        reactor::with(|reactor| reactor.console.input_ended = true);
        self.settle();
    }

    /// Whether the command waits for standard input.
    pub fn is_reading_input(&self) -> bool {
        reactor::with(|reactor| reactor.console.is_reading())
    }

    /// Takes what was written to standard output.
    pub fn output(&mut self) -> Vec<u8> {
        self.take_output(Output::Standard)
    }

    /// Takes what was written to standard error.
    pub fn error_output(&mut self) -> Vec<u8> {
        self.take_output(Output::Error)
    }

    /// Whoever reads standard output or error stops reading.
    pub fn stall_output(&mut self, output: OutputKind) {
        reactor::with(|reactor| reactor.console.output(output).stalls = true);
    }

    /// Whoever reads standard output or error goes on.
    pub fn resume_output(&mut self, output: OutputKind) {
        reactor::with(|reactor| reactor.console.output(output).stalls = false);
        self.settle();
    }

    /// How many bytes were written to an output that stalls.
    pub fn unwritten(&self, output: OutputKind) -> usize {
        reactor::with(|reactor| reactor.console.output(output).unwritten.len())
    }

    /// Sends a signal, and returns whether the command handles it; if not, it would end.
    pub fn signal(&mut self, signal: Signal) -> bool {
        let handled = command::signalled(signal);
        self.settle();
        handled
    }

    /// The exit code; none while the command runs.
    pub fn exit_code(&self) -> Option<u8> {
        reactor::with(|reactor| reactor.console.exit)
    }

    /// The progress that is shown, oldest first: how much is done, of how much, and what is said beside it.
    pub fn progress(&self) -> Vec<(u64, Option<u64>, String)> {
        reactor::with(|reactor| reactor.console.bars.values().cloned().collect())
    }

    /// Gives the command a terminal of so many columns and rows, or takes it.
    pub fn set_terminal(&mut self, size: Option<(u16, u16)>) {
        reactor::with(|reactor| reactor.console.terminal = size);
    }

    /// Gives the command name servers to ask itself.
    pub fn set_name_servers(&mut self, servers: &[std::net::SocketAddr]) {
        reactor::with(|reactor| reactor.console.name_servers = servers.to_vec());
    }

    fn take_output(&mut self, output: Output) -> Vec<u8> {
        console::drain();
        reactor::with(|reactor| std::mem::take(&mut reactor.console.output(output).written))
    }
}
